"""Queues by hour: how long the line was and how long people waited.

From `store.queue.measured`, which gives each interval's median and 90th percentile without the number of persons. So
the wait of an hour is read from its intervals: nine in ten intervals with a queue had a 90th percentile of at most so
much. Knows no zone's shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.interval import begin_ms, span
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.spread import LONGEST_S, slot
from gateway.projections.store_time import StoreTime

_TYPE = "store.queue.measured.v1"
_PERSONS_MOST = 100_000.0
_SPREAD_DAYS = 62


class _Quality(msgspec.Struct, frozen=True):
    coverage: float = 1.0


class _Measured(msgspec.Struct):
    zone: str
    interval_s: float
    length_mean: float
    length_peak: int
    interval_start: str = ""
    wait_s_p90: float | None = None
    quality: _Quality = _Quality()


class QueueHour(msgspec.Struct, frozen=True, kw_only=True):
    """One queue's hour. `person_s` over `covered_s` is the mean length."""

    hour_ms: int
    zone: str
    person_s: float
    peak: int
    interval_s: float
    covered_s: float


class QueueNow(msgspec.Struct, frozen=True, kw_only=True):
    """A queue's newest interval: mean and peak length, 90th percentile of the wait (None: nobody had waited)."""

    zone: str
    at_ms: int
    length_mean: float
    length_peak: int
    wait_p90_s: float | None


class Queues:
    """The read model."""

    name = "queue"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "queue_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, zone TEXT NOT NULL, person_ms INTEGER NOT NULL, "
            "peak INTEGER NOT NULL, interval_ms INTEGER NOT NULL, covered_ms INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, zone)",
            day=True,
        ),
        Table(
            "queue_wait",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, zone TEXT NOT NULL, slot INTEGER NOT NULL, "
            "intervals INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, zone, slot)",
            day=True,
            keep_days=_SPREAD_DAYS,
        ),
        Table(
            "queue_now",
            "zone TEXT PRIMARY KEY, day TEXT NOT NULL, at_ms INTEGER NOT NULL, mean_parts INTEGER NOT NULL, "
            "peak INTEGER NOT NULL, wait_ms INTEGER",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Measured).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Sum the run by hour and queue, and keep each queue's newest interval."""
        sums: dict[tuple[str, int, str], list[int]] = {}
        spread: dict[tuple[str, int, str, int], int] = {}
        newest: dict[str, tuple[str, int, int, int, int | None]] = {}
        for fact, told in told_by(facts, _TYPE, self._decode):
            if not (0 <= told.length_mean <= _PERSONS_MOST and 0 <= told.length_peak <= COUNT_LIMIT):
                continue
            wait_s = told.wait_s_p90 if told.wait_s_p90 is not None and 0 <= told.wait_s_p90 <= LONGEST_S else None
            interval_ms, covered_ms = span(told.interval_s, told.quality.coverage)
            at_ms = begin_ms(told.interval_start, fact.happened_ms)
            zone = label(told.zone)
            day, hour_ms = self._time.bucket(at_ms)
            row = sums.setdefault((day, hour_ms, zone), [0, 0, 0, 0])
            row[0] += int(told.length_mean * covered_ms)
            row[1] = max(row[1], told.length_peak)
            row[2] += interval_ms
            row[3] += covered_ms
            if wait_s is not None:
                place = (day, hour_ms, zone, slot(wait_s))
                spread[place] = spread.get(place, 0) + 1
            ended_ms = at_ms + interval_ms
            if zone not in newest or newest[zone][1] <= ended_ms:
                wait_ms = None if wait_s is None else int(wait_s * 1000)
                newest[zone] = day, ended_ms, int(told.length_mean * 1000), told.length_peak, wait_ms
        if sums:
            yield Change(_ADD, [(*key, *row) for key, row in sums.items()])
            yield Change(_NOW, [(zone, *row) for zone, row in newest.items()])
        if spread:
            yield Change(_SPREAD, [(*key, count) for key, count in spread.items()])


_ADD = """
INSERT INTO queue_hour VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  person_ms = person_ms + excluded.person_ms, peak = max(peak, excluded.peak),
  interval_ms = interval_ms + excluded.interval_ms, covered_ms = covered_ms + excluded.covered_ms
"""
_SPREAD = (
    "INSERT INTO queue_wait VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET intervals = intervals + excluded.intervals"
)
_NOW = """
INSERT INTO queue_now VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  day = excluded.day, at_ms = excluded.at_ms, mean_parts = excluded.mean_parts, peak = excluded.peak,
  wait_ms = excluded.wait_ms WHERE excluded.at_ms >= at_ms
"""


def hours_of(query: Query, first: str, last: str) -> list[QueueHour]:
    """The queues' hours from one day to another, both included; [] when nothing was seen."""
    if not have_table(query, "queue_hour"):
        return []
    rows = query("SELECT * FROM queue_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, zone", (first, last))
    return [
        QueueHour(
            hour_ms=row["hour_ms"], zone=row["zone"], person_s=row["person_ms"] / 1000, peak=row["peak"],
            interval_s=row["interval_ms"] / 1000, covered_s=row["covered_ms"] / 1000,
        )
        for row in rows
    ]  # fmt: skip


def spread_of(query: Query, first: str, last: str) -> Mapping[tuple[int, str], Mapping[int, int]]:
    """The intervals' 90th percentiles of the wait, by hour and queue, from one day to another."""
    found: dict[tuple[int, str], dict[int, int]] = {}
    if have_table(query, "queue_wait"):
        for row in query("SELECT * FROM queue_wait WHERE day BETWEEN ? AND ?", (first, last)):
            found.setdefault((row["hour_ms"], row["zone"]), {})[row["slot"]] = row["intervals"]
    return found


def now_of(query: Query, since_ms: int) -> list[QueueNow]:
    """The queues whose newest interval ended at `since_ms` or later."""
    if not have_table(query, "queue_now"):
        return []
    return [
        QueueNow(
            zone=row["zone"], at_ms=row["at_ms"], length_mean=row["mean_parts"] / 1000, length_peak=row["peak"],
            wait_p90_s=None if row["wait_ms"] is None else row["wait_ms"] / 1000,
        )
        for row in query("SELECT * FROM queue_now WHERE at_ms >= ? ORDER BY zone", (since_ms,))
    ]  # fmt: skip
