"""Footfall by hour and line: people in and out, and how much of the hour anybody was looking.

From `store.footfall.counted`. An interval that nobody saw yields no event and therefore no row: no data is not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from gateway.event import Stream
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table, label
from gateway.projections.store_time import StoreTime

_TYPE = "store.footfall.counted.v1"
_LONGEST_S = 86_400.0


class _Quality(msgspec.Struct, frozen=True):
    coverage: float = 1.0


class _Counted(msgspec.Struct):
    line: str
    entrance: str
    interval_s: float
    in_: int = msgspec.field(name="in")
    out: int
    interval_start: str = ""
    quality: _Quality = _Quality()


class FootfallLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line's day. `covered_s` of the `interval_s` counted were seen; times are milliseconds since 1970."""

    line: str
    entrance: str
    people_in: int
    people_out: int
    interval_s: float
    covered_s: float
    first_ms: int
    last_ms: int


class FootfallHour(msgspec.Struct, frozen=True):
    """One hour of all lines, by the instant it begins."""

    hour_ms: int
    people_in: int
    people_out: int


class Footfall:
    """The read model."""

    name = "footfall"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "footfall_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, line TEXT NOT NULL, entrance TEXT NOT NULL, "
            "people_in INTEGER NOT NULL, people_out INTEGER NOT NULL, interval_ms INTEGER NOT NULL, "
            "covered_ms INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, line, entrance)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Counted).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Sum the run by hour and line."""
        sums: dict[tuple[str, int, str, str], list[int]] = {}
        for fact in facts:
            if fact.type != _TYPE:
                continue
            try:
                counted = self._decode(fact.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if not (0 <= counted.in_ <= COUNT_LIMIT and 0 <= counted.out <= COUNT_LIMIT):
                continue
            interval_ms = int(min(max(counted.interval_s, 0.0), _LONGEST_S) * 1000)
            covered_ms = int(interval_ms * min(max(counted.quality.coverage, 0.0), 1.0))
            begin_ms = _begin_ms(counted.interval_start, fact.happened_ms)
            key = (*self._time.bucket(begin_ms), label(counted.line), label(counted.entrance))
            row = sums.get(key)
            if row is None:
                row = sums[key] = [0, 0, 0, 0, begin_ms, begin_ms + interval_ms]
            row[0] += counted.in_
            row[1] += counted.out
            row[2] += interval_ms
            row[3] += covered_ms
            row[4] = min(row[4], begin_ms)
            row[5] = max(row[5], begin_ms + interval_ms)
        if sums:
            yield Change(_ADD, [(*key, *row) for key, row in sums.items()])


_ADD = """
INSERT INTO footfall_hour VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  people_in = people_in + excluded.people_in, people_out = people_out + excluded.people_out,
  interval_ms = interval_ms + excluded.interval_ms, covered_ms = covered_ms + excluded.covered_ms,
  first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms)
"""


def lines_of(query: Query, day: str) -> list[FootfallLine]:
    """Every line that counted on that day; [] when none did."""
    if not have_table(query, "footfall_hour"):
        return []
    rows = query(
        "SELECT line, entrance, sum(people_in) AS people_in, sum(people_out) AS people_out, "
        "sum(interval_ms) AS interval_ms, sum(covered_ms) AS covered_ms, min(first_ms) AS first_ms, "
        "max(last_ms) AS last_ms FROM footfall_hour WHERE day = ? GROUP BY line, entrance ORDER BY line, entrance",
        (day,),
    )
    return [
        FootfallLine(
            line=row["line"], entrance=row["entrance"], people_in=row["people_in"], people_out=row["people_out"],
            interval_s=row["interval_ms"] / 1000, covered_s=row["covered_ms"] / 1000,
            first_ms=row["first_ms"], last_ms=row["last_ms"],
        )
        for row in rows
    ]  # fmt: skip


def hours_of(query: Query, day: str) -> list[FootfallHour]:
    """The hours of that day in which somebody counted, in order."""
    if not have_table(query, "footfall_hour"):
        return []
    rows = query(
        "SELECT hour_ms, sum(people_in) AS people_in, sum(people_out) AS people_out FROM footfall_hour "
        "WHERE day = ? GROUP BY hour_ms ORDER BY hour_ms",
        (day,),
    )
    return [FootfallHour(row["hour_ms"], row["people_in"], row["people_out"]) for row in rows]


def counted_ever(query: Query) -> bool:
    """Whether anything has counted people here in the days that are kept."""
    return have_table(query, "footfall_hour") and bool(query("SELECT 1 FROM footfall_hour LIMIT 1", ()))


def _begin_ms(begin: str, otherwise_ms: int) -> int:
    """When the interval began, if that is a time at all; mapped devices may say anything."""
    try:
        at = datetime.fromisoformat(begin)
    except ValueError:
        return otherwise_ms
    return otherwise_ms if at.tzinfo is None else int(at.timestamp() * 1000)
