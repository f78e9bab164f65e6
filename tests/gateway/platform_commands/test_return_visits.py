"""The repeat share from end to end: visits of a shop, what the platform says of them, and the shop's key figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clock import FakeClock
from gateway.errors import Rejected, Unavailable
from gateway.event import STREAMS
from gateway.event_types import ConsentGranted, Shopper
from gateway.journal.reader import JournalReader
from gateway.platform_commands.return_visits import ReturnVisits
from gateway.projections.kpi import Figure, Sources, day_kpis
from gateway.projections.kpi_rows import read_rows
from gateway.projections.projection import fact_of
from gateway.projections.projector import read_models
from gateway.projections.store_time import StoreTime
from sync.commands import Command
from sync.platform.return_visits import ReturnVisits as Platform
from sync.uplink import Lane
from tests.gateway.projections.tables import Tables
from tests.gateway.shopper.stepped_shop import AT_ONCE
from tests.gateway.shopper.visit_shop import VisitShop
from tests.sync.platform.platform_parts import DAY_S, T0
from tests.sync.platform.town import Town

ZONE = "Asia/Shanghai"
VISIT = "v-" + "0" * 24


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[VisitShop]:
    (tmp_path / "shop").mkdir()
    made = VisitShop(tmp_path / "shop", FakeClock(T0))
    made.open()
    yield made
    made.close()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


def deliver(shop: VisitShop, town: Town) -> None:
    """What the journal holds and the platform does not, transactions first."""
    with JournalReader(shop.path) as reader:
        for stream in STREAMS:
            lane = Lane("gw01", stream, reader.epochs(stream)[-1].epoch)
            town.store.open_epoch(lane, "fresh", None)
            for event in reader.read(stream, town.store.find(lane)[0], 10_000, 1 << 30):
                town.take(lane, event.position, event.json)
    town.fold.catch_up()


def obey(shop: VisitShop, town: Town) -> None:
    """The platform looks at the visits, the shop does what it is told."""
    Platform(town.book, town.store, town.telling, town.clock).step()
    handler = ReturnVisits(shop)
    for number, data in enumerate(town.commands("visits.returning")):
        assert handler(Command(f"c{number}", "visits.returning", data))["visits"] == len(data["visits"])  # type: ignore[arg-type]
        shop.commits.step(AT_ONCE)


def repeat_share(shop: VisitShop) -> Figure:
    """The key figure of the shop's day, from the journal's bytes alone."""
    tables = Tables(read_models(ZONE))
    with JournalReader(shop.path) as reader:
        for stream in STREAMS:
            facts = [fact_of(event) for event in reader.read(stream, 0, 10_000, 1 << 30)]
            tables.take([fact for fact in facts if fact is not None])
    time, now_ms = StoreTime(ZONE), int(shop.clock.wall_s * 1000)
    day = time.day(now_ms)
    return day_kpis(read_rows(tables.query, day, day, time), Sources(), time, now_ms)["repeat_share"]


def test_the_share_of_members_who_came_again_is_known_in_the_shop_and_says_how_many_it_knows(
    shop: VisitShop, town: Town
) -> None:
    """Twenty members agree, ten of them came yesterday, and five more people of today agreed to visits alone."""

    def comes(who: str, **sealed: str) -> None:
        shop.put([shop.scan(who, zone=f"till-{who}", **sealed)])

    members = [f"m{number:02d}" for number in range(20)]
    for who in members:
        granted = ConsentGranted(
            record_id=f"r-{who}", purposes=("visits", "matching", "analytics"), notice_version="1", notice_digest="",
            language="zh", method="till", shopper=Shopper(sealed=f"clear.member|{who}"),
        )  # fmt: skip
        shop.put([shop.event(granted, zone=None, consent=f"r-{who}")])
    for who in members[:10]:
        comes(who, sealed=f"clear.member|{who}")
    shop.after(60)
    shop.clock.advance(DAY_S - 3600)
    for who in members:
        comes(f"{who}today", sealed=f"clear.member|{who}")  # another day, another key
    for number in range(5):
        comes(f"visits-only-{number}")
    shop.after(60)
    assert repeat_share(shop) == Figure(value=None, coverage=0.0, reason="not_known")
    deliver(shop, town)
    obey(shop, town)
    figure = repeat_share(shop)
    assert (figure.value, figure.coverage) == (pytest.approx(0.5), 0.8)
    deliver(shop, town)
    obey(shop, town)  # the same commands again
    compared = [it for it in shop.events("measurements") if it["type"] == "store.visit.compared.v1"]
    assert len(compared) == 30 and repeat_share(shop) == figure
    assert {frozenset(it["data"]) for it in compared} == {frozenset({"visit_id", "returning"})}


@pytest.mark.parametrize(
    "data",
    [
        {}, {"visits": {}}, {"visits": {VISIT: "yes"}}, {"visits": {VISIT: None}}, {"visits": [VISIT]},
        {"visits": {"T-13800138000": True}}, {"visits": {VISIT: True}, "note": "x"}, {"visits": {VISIT + "-r": True}},
        {"visits": {f"v-{number:024x}": True for number in range(501)}},
    ],
)  # fmt: skip
def test_what_is_no_such_statement_is_refused_whole(shop: VisitShop, data: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        ReturnVisits(shop)(Command("c1", "visits.returning", data))
    assert shop.inlet.size == 0


def test_where_the_journal_takes_nothing_the_command_comes_again(shop: VisitShop) -> None:
    full = SimpleNamespace(offer=lambda *_: False)
    gateway = SimpleNamespace(origin=shop.origin, clock=shop.clock, inlet=full)
    with pytest.raises(Unavailable):
        ReturnVisits(gateway)(Command("c1", "visits.returning", {"visits": {VISIT: True}}))  # type: ignore[arg-type]
