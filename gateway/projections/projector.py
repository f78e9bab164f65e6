"""The worker that keeps the read models up to date: reads events, folds them, writes the result with their cursors.

Folding happens on this worker's own thread; only the finished changes go to the writing connection, in one short
transaction together with the cursors they stand for. That transaction first looks whether the cursors are where the
fold began, so whatever was repeated or overtaken, an event counts once. Knows no single read model.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from gateway.clock import Clock
from gateway.errors import JournalFull, Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal.cursor import PROJECTION, advance, ensure, forget, position_of
from gateway.journal.news import News
from gateway.journal.reader import JournalReader
from gateway.projections.coupons import Coupons
from gateway.projections.devices import DeviceEvents
from gateway.projections.feedback import Feedback
from gateway.projections.footfall import Footfall
from gateway.projections.heat import Heat
from gateway.projections.interactions import Interactions
from gateway.projections.kpi_told import KpiTold
from gateway.projections.projection import Change, Fact, Projection, Table, fact_of
from gateway.projections.queue import Queues
from gateway.projections.sales import Sales
from gateway.projections.stock import StockByZone
from gateway.projections.store_time import StoreTime
from gateway.projections.uptime import Uptime
from gateway.projections.visits import Visits
from gateway.projections.zones import Zones

log = logging.getLogger(__name__)
T = TypeVar("T")

CHUNK = 500  # events of a stream in one transaction: its writing takes a few milliseconds
CATCH_UP = 2000  # while hardly anything comes in, nobody waits for a longer one
_PACE_S = 0.3  # between two looks, however fast events come; also how late a number on the page may be
_ASLEEP_S = 5.0  # without news
_REST = 2.0  # after a full chunk in a busy hour it rests this many times as long as it worked: intake comes first
_BUSY_PER_S = 20.0  # events that come in
_REST_MOST_S = 0.2
_READ_BYTES = 2 << 20
_COMMIT_S = 20.0
_FULL_RETRY_S = 5.0
_PRUNE_EVERY_S = 6 * 3600.0
_REGISTER = "CREATE TABLE IF NOT EXISTS projection (name TEXT PRIMARY KEY, version TEXT NOT NULL)"


class Commits(Protocol):
    """What the projector needs of the commit loop (`gateway.journal.commit_loop.CommitLoop`)."""

    @property
    def is_open(self) -> bool:
        """True while the journal takes events."""
        ...

    @property
    def news(self) -> News:
        """Word of events that have been written."""
        ...

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `work` in one transaction on the writing thread."""
        ...


class Moved(Exception):
    """A cursor is not where the fold began; what was folded must not be written."""


class Fold(msgspec.Struct, frozen=True):
    """One model's part of a transaction: from where to where in a stream, and what that changes."""

    name: str
    stream: Stream
    start: int
    end: int
    changes: tuple[Change, ...]


def read_models(time_zone: str) -> list[Projection]:
    """Every read model there is, with its days in the store's time zone (IANA name)."""
    time = StoreTime(time_zone)
    return [
        Footfall(time), Sales(time), DeviceEvents(), Coupons(time), Feedback(time), Zones(time), Queues(time),
        Heat(time), StockByZone(time), Interactions(time), Visits(time), Uptime(time),
        KpiTold(time),
    ]  # fmt: skip


class Projector:
    """Worker. A fresh one goes on where the cursors are."""

    def __init__(
        self, path: Path, commits: Commits, projections: Sequence[Projection], clock: Clock, time: StoreTime
    ) -> None:
        """Store.

        Args:
            path: the journal's file.
            commits: where transactions are handed in.
            projections: the read models.
            clock: says what day it is.
            time: the store's calendar.
        """
        self._commits = commits
        self._projections = tuple(projections)
        self._clock = clock
        self._time = time
        self._reader = JournalReader(path)
        self._positions: dict[tuple[str, Stream], int] = {}
        self._ready = False
        self._pruned_s: float | None = None
        self._full = False
        self._chunk = CHUNK
        self._more = False  # the last look was cut off by the chunk's length or size
        self._seen = 0  # of the news
        self._heads: tuple[float, int] | None = None  # monotonic seconds, and the events there were

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Wait for events, fold one chunk of every stream, then rest.

        Raises:
            Unavailable: the journal did not answer in time.
            JournalError: it cannot be read or written any more.
        """
        if not self._commits.is_open:
            stop.wait(0.05)
            return
        if self._ready and not self._more:
            self._seen = self._commits.news.after(self._seen, _ASLEEP_S, stop)
        began_s = self._clock.now().mono_s
        try:
            if not self._ready:
                self._prepare(stop)
            folds = self._fold()
            if folds:
                self._write(folds, stop)
            self._prune(stop)
        except JournalFull as error:
            if not self._full:
                log.warning("projections=waiting hint=%r", error.hint)
            self._full = True
            stop.wait(_FULL_RETRY_S)
            return
        except Moved:
            self._ready = False
            return
        if self._full:
            log.info("projections=going_on")
            self._full = False
        if self._more:
            now_s = self._clock.now().mono_s
            busy = self._busy(now_s)
            self._chunk = CHUNK if busy else CATCH_UP
            stop.wait(min(_REST_MOST_S, _REST * (now_s - began_s)) if busy else 0.0)
        else:
            self._chunk = CHUNK
            stop.wait(_PACE_S)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._commits.news.wake()

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _busy(self, now_s: float) -> bool:
        """Whether events come in, since this was asked last; the first time it is taken for granted."""
        heads = sum(self._reader.head(stream) for stream in STREAMS)
        before, self._heads = self._heads, (now_s, heads)
        return before is None or heads - before[1] > _BUSY_PER_S * (now_s - before[0])

    def _prepare(self, stop: threading.Event) -> None:
        if not self._reader.is_open:
            self._reader.open()
        now_ms = int(self._clock.now().wall_s * 1000)
        self._positions = self._submit(lambda connection: prepare(connection, self._projections, now_ms), stop)
        self._ready = True

    def _fold(self) -> list[Fold]:
        folds: list[Fold] = []
        self._more = False
        for stream in STREAMS:
            members = [projection for projection in self._projections if stream in projection.streams]
            if not members:
                continue
            events = self._reader.read(
                stream, min(self._positions[it.name, stream] for it in members), self._chunk, _READ_BYTES
            )
            if not events:
                continue
            size_bytes = sum(len(event.json) for event in events)
            self._more = self._more or len(events) >= self._chunk or size_bytes > _READ_BYTES // 2
            facts = [fact for event in events if (fact := fact_of(event)) is not None]
            end = events[-1].position
            for projection in members:
                start = self._positions[projection.name, stream]
                if start < end:
                    changes = tuple(projection.fold(_above(facts, start)))
                    folds.append(Fold(projection.name, stream, start, end, changes))
        return folds

    def _write(self, folds: list[Fold], stop: threading.Event) -> None:
        now_ms = int(self._clock.now().wall_s * 1000)
        self._submit(lambda connection: apply(connection, folds, now_ms), stop)
        for fold in folds:
            self._positions[fold.name, fold.stream] = fold.end

    def _prune(self, stop: threading.Event) -> None:
        now = self._clock.now()
        if self._pruned_s is not None and now.mono_s - self._pruned_s < _PRUNE_EVERY_S:
            return
        self._pruned_s = now.mono_s
        if now.quality not in ("ntp", "rtc"):
            return  # a clock that is years ahead must not empty the tables
        now_ms = int(now.wall_s * 1000)
        for table in (table for it in self._projections for table in it.tables if table.day):
            self._submit(
                partial(forget_days, table=table, before=self._time.days_before(now_ms, table.keep_days)), stop
            )

    def _submit(self, work: Callable[[sqlite3.Connection], T], stop: threading.Event) -> T:
        future = self._commits.submit(work)
        waited_s = 0.0
        while True:
            try:
                return future.result(0.25)
            except TimeoutError:
                waited_s += 0.25
                if waited_s < _COMMIT_S and not stop.is_set():
                    continue
                if not future.cancel():  # under way: it may still be written, which the next one will see
                    self._ready = False
                raise Unavailable(
                    "fold events", "read models", "the journal did not take them in time", "is the disk overloaded?"
                ) from None


def prepare(
    connection: sqlite3.Connection, projections: Sequence[Projection], now_ms: int
) -> dict[tuple[str, Stream], int]:
    """Make the tables of every model that is new, changed or without its cursor, and say where each one stands.

    A cursor is missing after a salvage, which may have kept the tables: they are emptied, since they would count twice.
    """
    connection.execute(_REGISTER)
    versions: dict[str, str] = dict(connection.execute("SELECT name, version FROM projection"))
    for projection in projections:
        name = cursor_name(projection)
        kept = connection.execute("SELECT count(*) FROM cursor WHERE name = ?", (name,)).fetchone()[0]
        if versions.get(projection.name) != projection.version or kept != len(projection.streams):
            rebuild(connection, projection, now_ms)
    return {
        (projection.name, stream): position_of(connection, cursor_name(projection), stream)
        for projection in projections
        for stream in projection.streams
    }


def rebuild(connection: sqlite3.Connection, projection: Projection, now_ms: int) -> None:
    """Empty a model and send it back to the beginning of what the journal keeps."""
    for table in projection.tables:
        connection.execute(f"DROP TABLE IF EXISTS {table.name}")
        connection.execute(f"CREATE TABLE {table.name} ({table.columns}) WITHOUT ROWID")
    forget(connection, cursor_name(projection))
    ensure(connection, cursor_name(projection), required=False, streams=projection.streams, now_ms=now_ms)
    connection.execute(
        "INSERT INTO projection VALUES (?, ?) ON CONFLICT DO UPDATE SET version = excluded.version",
        (projection.name, projection.version),
    )


def apply(connection: sqlite3.Connection, folds: Sequence[Fold], now_ms: int) -> None:
    """Write what was folded and move the cursors, in the caller's transaction.

    Raises:
        Moved: a cursor is not where its fold began; the caller must roll back.
    """
    for fold in folds:
        name = PROJECTION + fold.name
        if position_of(connection, name, fold.stream) != fold.start:
            raise Moved
        for change in fold.changes:
            connection.executemany(change.sql, change.rows)
        if advance(connection, name, fold.stream, fold.end, now_ms) != fold.end:
            raise Moved


def cursor_name(projection: Projection) -> str:
    """The model's cursor in the journal."""
    return PROJECTION + projection.name


def _above(facts: list[Fact], position: int) -> list[Fact]:
    return facts if not facts or facts[0].position > position else [it for it in facts if it.position > position]


def forget_days(connection: sqlite3.Connection, table: Table, before: str) -> None:
    """Remove the days before `before`, and the oldest days of a table that has grown beyond its bound."""
    connection.execute(f"DELETE FROM {table.name} WHERE day < ?", (before,))  # noqa: S608 - our own tables' names
    if table.keep_rows:
        connection.execute(
            f"DELETE FROM {table.name} WHERE day <= "  # noqa: S608
            f"(SELECT day FROM {table.name} ORDER BY day DESC LIMIT 1 OFFSET ?)",
            (table.keep_rows,),
        )
