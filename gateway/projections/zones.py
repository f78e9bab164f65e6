"""Zones by hour: how many stood there, how many came, and how long they stayed.

From `store.zone.occupied`. Presence is kept as person-seconds over the seconds that were seen, so means of hours add
up; stays are kept as counts of a spread. An interval that nobody saw yields no event and therefore no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.interval import begin_ms, span
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.spread import LONGEST_S, slot, stays
from gateway.projections.store_time import StoreTime

_TYPE = "store.zone.occupied.v1"
_PERSONS_MOST = 100_000.0
_SPREAD_DAYS = 62  # how long the spread of stays is kept; sums stay as long as everything


class _Quality(msgspec.Struct, frozen=True):
    coverage: float = 1.0


class _Dwell(msgspec.Struct, frozen=True):
    p50: float
    p90: float
    mean: float
    n: int


class _Occupied(msgspec.Struct):
    zone: str
    interval_s: float
    mean: float
    peak: int
    visitors: int
    interval_start: str = ""
    dwell_s: _Dwell | None = None
    quality: _Quality = _Quality()


class ZoneHour(msgspec.Struct, frozen=True, kw_only=True):
    """One zone's hour. `person_s` over `covered_s` is the mean; `arrivals` adds up visitors of intervals.

    Somebody who stays over the end of an interval is a visitor of both, so `arrivals` is no number of persons; `stays`
    is: every stay ends once.
    """

    hour_ms: int
    zone: str
    person_s: float
    peak: int
    arrivals: int
    stays: int
    stayed_s: float
    interval_s: float
    covered_s: float


class Zones:
    """The read model."""

    name = "zones"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "zone_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, zone TEXT NOT NULL, person_ms INTEGER NOT NULL, "
            "peak INTEGER NOT NULL, arrivals INTEGER NOT NULL, stays INTEGER NOT NULL, stayed_ms INTEGER NOT NULL, "
            "interval_ms INTEGER NOT NULL, covered_ms INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, zone)",
            day=True,
        ),
        Table(
            "zone_stay",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, zone TEXT NOT NULL, slot INTEGER NOT NULL, "
            "stays INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, zone, slot)",
            day=True,
            keep_days=_SPREAD_DAYS,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Occupied).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Sum the run by hour and zone."""
        sums: dict[tuple[str, int, str], list[int]] = {}
        spread: dict[tuple[str, int, str, int], int] = {}
        for fact, told in told_by(facts, _TYPE, self._decode):
            if not (
                0 <= told.mean <= _PERSONS_MOST and 0 <= told.peak <= COUNT_LIMIT and 0 <= told.visitors <= COUNT_LIMIT
            ):
                continue
            interval_ms, covered_ms = span(told.interval_s, told.quality.coverage)
            key = (*self._time.bucket(begin_ms(told.interval_start, fact.happened_ms)), label(told.zone))
            row = sums.setdefault(key, [0, 0, 0, 0, 0, 0, 0])
            row[0] += int(told.mean * covered_ms)
            row[1] = max(row[1], told.peak)
            row[2] += told.visitors
            row[5] += interval_ms
            row[6] += covered_ms
            dwell = told.dwell_s
            if dwell is None or not 0 < dwell.n <= COUNT_LIMIT or not _sane(dwell):
                continue
            row[3] += dwell.n
            row[4] += int(dwell.mean * 1000) * dwell.n
            for seconds, count in stays(dwell.p50, dwell.p90, dwell.mean, dwell.n):
                place = (*key, slot(seconds))
                spread[place] = spread.get(place, 0) + count
        if sums:
            yield Change(_ADD, [(*key, *row) for key, row in sums.items()])
        if spread:
            yield Change(_SPREAD, [(*key, count) for key, count in spread.items()])


_ADD = """
INSERT INTO zone_hour VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  person_ms = person_ms + excluded.person_ms, peak = max(peak, excluded.peak), arrivals = arrivals + excluded.arrivals,
  stays = stays + excluded.stays, stayed_ms = stayed_ms + excluded.stayed_ms,
  interval_ms = interval_ms + excluded.interval_ms, covered_ms = covered_ms + excluded.covered_ms
"""
_SPREAD = "INSERT INTO zone_stay VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET stays = stays + excluded.stays"


def hours_of(query: Query, first: str, last: str) -> list[ZoneHour]:
    """The zones' hours from one day to another, both included; [] when nothing was seen."""
    if not have_table(query, "zone_hour"):
        return []
    rows = query("SELECT * FROM zone_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, zone", (first, last))
    return [
        ZoneHour(
            hour_ms=row["hour_ms"], zone=row["zone"], person_s=row["person_ms"] / 1000, peak=row["peak"],
            arrivals=row["arrivals"], stays=row["stays"], stayed_s=row["stayed_ms"] / 1000,
            interval_s=row["interval_ms"] / 1000, covered_s=row["covered_ms"] / 1000,
        )
        for row in rows
    ]  # fmt: skip


def spread_of(query: Query, first: str, last: str) -> Mapping[tuple[int, str], Mapping[int, int]]:
    """How long they stayed, by hour and zone, from one day to another."""
    found: dict[tuple[int, str], dict[int, int]] = {}
    if have_table(query, "zone_stay"):
        for row in query("SELECT * FROM zone_stay WHERE day BETWEEN ? AND ?", (first, last)):
            found.setdefault((row["hour_ms"], row["zone"]), {})[row["slot"]] = row["stays"]
    return found


def _sane(dwell: _Dwell) -> bool:
    return all(0 <= seconds <= LONGEST_S for seconds in (dwell.p50, dwell.p90, dwell.mean))
