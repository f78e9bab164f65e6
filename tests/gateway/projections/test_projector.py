"""The projector counts every event once, whatever is cut off, repeated or thrown away in between."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import event_types as types
from gateway.clock import FakeClock
from gateway.errors import JournalFull, StorefrontError, Unavailable
from gateway.event import Draft, draft
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.cursor import forget
from gateway.journal.news import News
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.projections import footfall, sales
from gateway.projections.projector import CHUNK, Fold, Moved, Projector, apply, prepare, read_models
from gateway.projections.store_time import StoreTime

T = TypeVar("T")
ZONE = "Asia/Shanghai"
TABLES = tuple(table.name for model in read_models(ZONE) for table in model.tables)


class Direct:
    """Commits at once, on the caller's thread; told to, it fails before or after the transaction."""

    def __init__(self, writer: JournalWriter) -> None:
        self.writer = writer
        self.news = News()
        self.fault = ""
        self.calls = 0

    @property
    def is_open(self) -> bool:
        return self.writer.is_open

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        self.calls += 1
        fault, self.fault = self.fault, ""
        future: Future[T] = Future()
        if fault == "before":
            future.set_exception(Unavailable("commit", "test", "lost before"))
            return future
        if fault == "full":
            future.set_exception(JournalFull("commit", "test", "no room"))
            return future
        try:
            result = self.writer.transact(work)
        except (Moved, StorefrontError) as error:
            future.set_exception(error)
            return future
        if fault == "after":
            future.set_exception(Unavailable("commit", "test", "the answer was lost"))
        else:
            future.set_result(result)
        return future


class Shop:
    """A journal, a projector on it, and what the tables hold."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.writer = JournalWriter(directory / "journal.db", "gw01", self.clock, ballast_bytes=0)
        self.writer.open()
        self.commits = Direct(self.writer)
        self.number = 0
        self.projector = self.fresh()
        self.stop = threading.Event()
        self.stop.set()  # nothing waits

    def fresh(self, zone: str = ZONE) -> Projector:
        return Projector(self.writer.path, self.commits, read_models(zone), self.clock, StoreTime(zone))

    def again(self, zone: str = ZONE) -> None:
        self.projector.close()
        self.projector = self.fresh(zone)

    def keep(self, count: int = 1) -> None:
        self.writer.append([self.event() for _ in range(count)])

    def event(self) -> Draft:
        self.number += 1
        n = self.number
        at = self.clock.advance(97.0)
        if n % 2:
            data: types.EventData = types.FootfallCounted(
                line=f"line{n % 3}", entrance="front", interval_start="", interval_s=60, in_=n % 7, out=n % 2,
                quality=types.CountQuality(coverage=0.9, detector="t"),
            )  # fmt: skip
        else:
            data = types.Sale(
                transaction_id=str(n), kind="sale" if n % 4 else "return", workstation_id="1", currency="CNY",
                business_date="2026-01-01", totals=types.Totals(net=Decimal(n) / 10), tap="json", confidence=1.0,
            )  # fmt: skip
        entry = types.type_of(data)
        return draft(entry.stream, entry.name, data, source=f"//t/stores/1/gw01/d/{n % 4}", at=at)

    def step(self) -> None:
        self.projector.step(self.stop)

    def settle(self) -> None:
        for _ in range(40):
            calls = self.commits.calls
            self.step()
            if self.commits.calls == calls:
                return
        raise AssertionError("the projector never comes to rest")

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        with JournalReader(self.writer.path) as reader:
            return {name: [tuple(row) for row in reader.query(f"SELECT * FROM {name}")] for name in TABLES}

    def counted(self) -> int:
        with JournalReader(self.writer.path) as reader:
            return int(reader.query("SELECT coalesce(sum(events), 0) AS n FROM device_event")[0]["n"])

    def rebuilt(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the tables are after everything is thrown away and folded anew."""
        self.writer.transact(lambda connection: connection.execute("DROP TABLE projection"))
        self.again()
        self.settle()
        return self.tables()

    def close(self) -> None:
        self.projector.close()
        self.writer.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    opened = Shop(tmp_path)
    yield opened
    opened.close()


def test_events_are_counted_as_they_come_and_a_restart_goes_on(shop: Shop) -> None:
    shop.keep(5)
    shop.settle()
    shop.again()
    shop.keep(4)
    shop.settle()
    assert shop.counted() == 9


def test_a_rebuild_gives_what_was_counted_step_by_step(shop: Shop) -> None:
    for count in (1, 7, CHUNK + 3, 2):
        shop.keep(count)
        shop.settle()
    step_by_step = shop.tables()
    assert shop.rebuilt() == step_by_step
    assert shop.counted() == CHUNK + 13


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    acts=st.lists(
        st.sampled_from(["keep", "step", "before", "after", "full", "again", "restart"]), min_size=3, max_size=25
    )
)
def test_no_crash_between_reading_writing_and_hearing_of_it_counts_an_event_twice_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, acts: list[str]
) -> None:
    shop = Shop(tmp_path_factory.mktemp("shop"))
    try:
        for act in acts:
            if act == "keep":
                shop.keep(3)
            elif act == "again":
                shop.again()
            elif act == "restart":
                shop.close()
                shop.writer.open()
                shop.projector = shop.fresh()
            else:
                shop.commits.fault = act if act in ("before", "after", "full") else ""
                try:
                    shop.step()
                except Unavailable:
                    shop.again()  # the supervisor makes a fresh one
                shop.commits.fault = ""
        shop.settle()
        assert shop.counted() == shop.number
        step_by_step = shop.tables()
        assert shop.rebuilt() == step_by_step
    finally:
        shop.close()


def test_what_was_folded_from_another_place_is_not_written(shop: Shop) -> None:
    models = read_models(ZONE)
    shop.keep(2)
    shop.writer.transact(lambda connection: prepare(connection, models, 0))
    fold = Fold("footfall", "measurements", 0, 1, ())
    shop.writer.transact(lambda connection: apply(connection, [fold], 0))
    with pytest.raises(Moved):
        shop.writer.transact(lambda connection: apply(connection, [fold], 0))


def test_another_time_zone_rebuilds_what_has_days_and_leaves_the_rest(shop: Shop) -> None:
    shop.keep(20)
    shop.settle()
    before = shop.tables()
    shop.again("America/New_York")
    shop.settle()
    after = shop.tables()
    assert after["device_event"] == before["device_event"]
    assert after["sales_hour"] != before["sales_hour"]
    assert shop.counted() == 20


def test_tables_that_a_salvage_kept_without_their_cursor_do_not_count_twice(shop: Shop) -> None:
    shop.keep(6)
    shop.settle()
    shop.writer.transact(lambda connection: [forget(connection, f"projection:{it.name}") for it in read_models(ZONE)])
    shop.again()
    shop.settle()
    assert shop.counted() == 6


def test_a_full_disk_stops_the_counting_and_not_the_worker(shop: Shop) -> None:
    shop.keep(3)
    shop.step()
    shop.keep(3)
    shop.commits.fault = "full"
    shop.step()
    assert shop.counted() == 3
    shop.settle()
    assert shop.counted() == 6


def test_days_beyond_a_year_go_but_not_on_the_word_of_a_clock_nobody_trusts(shop: Shop) -> None:
    shop.keep(4)
    shop.settle()
    shop.clock.quality = "unsynced"
    shop.clock.advance(500 * 86_400)
    shop.again()
    shop.settle()
    assert shop.tables()["sales_hour"]
    shop.clock.quality = "ntp"
    shop.again()
    shop.settle()
    assert not shop.tables()["sales_hour"]
    assert shop.counted() == 4


def test_a_dead_camera_makes_no_row_and_a_day_without_events_has_none(shop: Shop) -> None:
    shop.settle()
    with JournalReader(shop.writer.path) as reader:
        assert footfall.lines_of(reader.query, "2026-11-22") == []
        assert sales.hours_of(reader.query, "2026-11-22") == []


def test_it_waits_for_a_journal_that_is_not_open_yet(tmp_path: Path) -> None:
    clock = FakeClock()
    writer = JournalWriter(tmp_path / "journal.db", "gw01", clock, ballast_bytes=0)
    projector = Projector(writer.path, Direct(writer), read_models(ZONE), clock, StoreTime(ZONE))
    stop = threading.Event()
    stop.set()
    projector.step(stop)
    projector.close()
    assert not writer.path.exists()


def test_through_a_commit_loop_on_another_thread_every_event_is_counted(tmp_path: Path) -> None:
    clock = FakeClock()
    writer = JournalWriter(tmp_path / "journal.db", "gw01", clock, ballast_bytes=0)
    loop = CommitLoop(writer, Inlet(), window_s=0.0)
    shop_stop, own_stop = threading.Event(), threading.Event()
    loop.open()
    maker = Shop.__new__(Shop)
    maker.clock, maker.number = clock, 0
    writer.append([maker.event() for _ in range(300)])

    def run() -> None:
        while not shop_stop.is_set():
            loop.step(shop_stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        projector = Projector(writer.path, loop, read_models(ZONE), clock, StoreTime(ZONE))
        own_stop.set()
        for _ in range(3):
            projector.step(own_stop)
        projector.close()
    finally:
        shop_stop.set()
        thread.join(60)
        loop.close()
    with JournalReader(writer.path) as reader:
        assert reader.query("SELECT sum(events) AS n FROM device_event")[0]["n"] == 300
