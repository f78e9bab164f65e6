"""Every ended hour is told once, again when corrected, and not while nothing is known or the clock is in doubt."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.journal.reader import JournalReader
from gateway.projections.kpi import Sources
from gateway.projections.store_time import StoreTime
from gateway.workers.kpi_hours import KpiHours
from tests.gateway.status.shop import ZONE, FakeGateway, passed, sale

STOP = threading.Event()
STOP.set()


class Shop(FakeGateway):
    """A gateway with a teller."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.open()
        self.teller = self.fresh()

    def fresh(self) -> KpiHours:
        return KpiHours(self, Sources(True, (), "CNY"), StoreTime(ZONE))

    def tell(self) -> list[dict[str, Any]]:
        """Let it look and commit; every report there is."""
        self.count()
        self.clock.advance(700.0)
        self.teller.step(STOP)
        self.commits.step(STOP)
        with JournalReader(self.journal_path) as reader:
            events = [event.decode() for event in reader.read("measurements", 0, 10_000)]
        return [event["data"] for event in events if event["type"] == "store.kpi.hour.v1"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    yield shop
    shop.teller.close()
    shop.close()


def test_an_ended_hour_is_told_once_and_a_fresh_teller_does_not_repeat_it(shop: Shop) -> None:
    shop.keep(passed(4), sale())
    assert shop.tell() == []
    shop.clock.advance(3600.0)
    (told,) = shop.tell()
    assert told["figures"]["footfall"]["value"] == 4 and told["figures"]["transactions"]["value"] == 1
    assert told["figures"]["nps"] == {"value": None, "coverage": None, "reason": "no_answers"}
    assert "revision" not in told and told["day"] == StoreTime(ZONE).day(int(shop.started.wall_s * 1000))
    shop.teller.close()
    shop.teller = shop.fresh()
    assert len(shop.tell()) == 1


def test_late_events_supersede_what_was_told(shop: Shop) -> None:
    began_s = shop.clock.wall_s
    shop.keep(sale())
    shop.clock.advance(3900.0)
    assert len(shop.tell()) == 1
    late = shop.clock.wall_s
    shop.clock.wall_s = began_s
    shop.keep(sale(), sale())
    shop.clock.wall_s = late
    first, second = shop.tell()
    assert (first["figures"]["transactions"]["value"], second["figures"]["transactions"]["value"]) == (1, 3)
    assert second["hour"] == first["hour"] and second["revision"] == 1
    assert len(shop.tell()) == 2


def test_a_crash_before_the_telling_is_known_does_not_tell_it_twice(shop: Shop) -> None:
    shop.keep(sale())
    shop.clock.advance(3900.0)
    assert len(shop.tell()) == 1
    shop.teller.close()
    shop.teller = shop.fresh()
    shop.teller.step(STOP)  # the read model has not seen the event yet
    shop.commits.step(STOP)
    assert len(shop.tell()) == 1


def test_hours_of_which_nothing_is_known_are_not_told_and_a_clock_just_set_waits(shop: Shop) -> None:
    shop.clock.advance(20 * 3600.0)
    shop.keep(sale())
    shop.clock.advance(3900.0)
    shop.clock.quality = "stepped"
    assert shop.tell() == []
    shop.clock.quality = "ntp"
    assert len(shop.tell()) == 1
    shop.clock.step(-7200.0)
    assert len(shop.tell()) == 1
