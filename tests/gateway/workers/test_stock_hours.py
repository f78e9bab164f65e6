"""Tagged stock is told every hour where it changed, once, and an inventory's count is not taken for the tags' own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import event_types as types
from gateway.journal.reader import JournalReader
from gateway.projections.stock import now_of
from gateway.workers.stock_hours import StockHours
from tests.gateway.status.shop import FakeGateway

STOP = threading.Event()
STOP.set()


def tag(number: int, gone: bool = False, gtin: str = "09506000134352") -> types.EventData:
    made = types.RfidDeparted if gone else types.RfidArrived
    return made(
        epc=f"urn:epc:raw:96.x{number}", epc_hex=f"{number:024X}", gtin=gtin, reader="gate", zone_to="shelf", reads=2,
        first_seen="2026-11-22T09:00:00.000Z", last_seen="2026-11-22T09:00:00.000Z",
    )  # fmt: skip


class Shop(FakeGateway):
    """A gateway with a teller of stock."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.open()
        self.teller = StockHours(self)

    def tell(self) -> list[dict[str, Any]]:
        """An hour later: every report there is."""
        self.count()
        self.clock.advance(3601.0)
        for _ in range(3):
            self.teller.step(STOP)
            self.commits.step(STOP)
        self.count()
        with JournalReader(self.journal_path) as reader:
            events = [event.decode() for event in reader.read("measurements", 0, 10_000)]
        return [event["data"] for event in events if event["type"] == "store.stock.counted.v1"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.teller.close()
    shop.close()


def test_what_changed_is_told_once_also_by_a_fresh_teller(shop: Shop) -> None:
    """Three tags; the same again is nothing; one left; all gone is zero, and then nothing any more."""
    shop.keep(*(tag(number) for number in range(3)))
    (first,) = shop.tell()
    assert first == {"gtin": "09506000134352", "zone": "shelf", "epc_count": 3}
    shop.teller.close()
    shop.teller = StockHours(shop)
    assert len(shop.tell()) == 1
    shop.keep(tag(1, gone=True))
    assert [it["epc_count"] for it in shop.tell()] == [3, 2]
    shop.keep(tag(0, gone=True), tag(2, gone=True))
    assert [it["epc_count"] for it in shop.tell()] == [3, 2, 0]
    assert len(shop.tell()) == 3


def test_an_inventory_is_kept_apart_from_what_the_tags_say(shop: Shop) -> None:
    """A count by hand that differs is shown beside, and is not told back."""
    shop.keep(tag(1), types.StockCounted(gtin="09506000134352", zone="shelf", epc_count=7))
    assert [it["epc_count"] for it in shop.tell()] == [7, 1]
    with JournalReader(shop.journal_path) as reader:
        (line,) = now_of(reader.query)
    assert (line.tags, line.counted) == (1, 7)
