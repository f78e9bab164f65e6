"""Footfall by hour and line: people in and out, and how much of the hour anybody was looking.

From `store.footfall.counted`. An interval that nobody saw yields no event and therefore no row: no data is not zero.
A later revision of an interval takes the place of what was told of it before, so each interval's own counts are kept
for some days, too; they also say how many were inside when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.interval import begin_ms, span
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.footfall.counted.v1"
INTERVAL_DAYS = 8  # how long single intervals are kept
_REVISIONS_MOST = 1_000_000


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
    revision: int = 0


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


class LineHour(msgspec.Struct, frozen=True, kw_only=True):
    """One line's hour; `covered_s` of the `interval_s` counted were seen (both 0: its counter knows no intervals)."""

    day: str
    hour_ms: int
    line: str
    entrance: str
    people_in: int
    people_out: int
    interval_s: float
    covered_s: float
    first_ms: int
    last_ms: int


class Passed(msgspec.Struct, frozen=True):
    """People through all lines in the intervals that begin at one instant."""

    begin_ms: int
    people_in: int
    people_out: int


_Key = tuple[str, int, str, str]


class _Told(msgspec.Struct):
    """What is known of one interval of one line; `take` gives the same whatever order runs are cut in."""

    revision: int
    people_in: int
    people_out: int
    interval_ms: int
    covered_ms: int
    end_ms: int

    def take(self, later: _Told) -> _Told:
        """With what was told later: another report of the first revision adds up, a higher revision replaces."""
        if later.revision > self.revision:
            return later
        if later.revision == self.revision == 0:
            return _Told(
                0, self.people_in + later.people_in, self.people_out + later.people_out,
                self.interval_ms + later.interval_ms, self.covered_ms + later.covered_ms,
                max(self.end_ms, later.end_ms),
            )  # fmt: skip
        return self


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
        Table(
            "footfall_interval",
            "day TEXT NOT NULL, begin_ms INTEGER NOT NULL, line TEXT NOT NULL, entrance TEXT NOT NULL, "
            "revision INTEGER NOT NULL, people_in INTEGER NOT NULL, people_out INTEGER NOT NULL, "
            "interval_ms INTEGER NOT NULL, covered_ms INTEGER NOT NULL, PRIMARY KEY (day, begin_ms, line, entrance)",
            day=True,
            keep_days=INTERVAL_DAYS,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"2 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Counted).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """What the run says of each interval, once: first into the hours, then into the intervals."""
        told: dict[_Key, _Told] = {}
        for fact, counted in told_by(facts, _TYPE, self._decode):
            if not (0 <= counted.in_ <= COUNT_LIMIT and 0 <= counted.out <= COUNT_LIMIT):
                continue
            interval_ms, covered_ms = span(counted.interval_s, counted.quality.coverage)
            at_ms = begin_ms(counted.interval_start, fact.happened_ms)
            revision = min(max(counted.revision, 0), _REVISIONS_MOST)
            new = _Told(revision, counted.in_, counted.out, interval_ms, covered_ms, at_ms + interval_ms)
            key = self._time.day(at_ms), at_ms, label(counted.line), label(counted.entrance)
            told[key] = told[key].take(new) if key in told else new
        if told:
            rows = [
                (*key, it.revision, it.people_in, it.people_out, it.interval_ms, it.covered_ms,
                 self._time.bucket(key[1])[1], it.end_ms)
                for key, it in told.items()
            ]  # fmt: skip
            yield Change(_INTO_HOUR, rows)
            yield Change(_INTO_INTERVAL, [row[:9] for row in rows])


# What the interval adds to its hour: all of it, less what an earlier revision has added already.
_INTO_HOUR = """
INSERT INTO footfall_hour
SELECT ?1, ?10, ?3, ?4, ?6 - coalesce(old.people_in, 0), ?7 - coalesce(old.people_out, 0),
       ?8 - coalesce(old.interval_ms, 0), ?9 - coalesce(old.covered_ms, 0), ?2, ?11
FROM (SELECT 1) LEFT JOIN footfall_interval AS old
  ON old.day = ?1 AND old.begin_ms = ?2 AND old.line = ?3 AND old.entrance = ?4 AND old.revision < ?5
WHERE NOT EXISTS (
  SELECT 1 FROM footfall_interval AS newer WHERE newer.day = ?1 AND newer.begin_ms = ?2 AND newer.line = ?3
  AND newer.entrance = ?4 AND newer.revision >= max(?5, 1))
ON CONFLICT DO UPDATE SET
  people_in = people_in + excluded.people_in, people_out = people_out + excluded.people_out,
  interval_ms = interval_ms + excluded.interval_ms, covered_ms = covered_ms + excluded.covered_ms,
  first_ms = min(first_ms, excluded.first_ms), last_ms = max(last_ms, excluded.last_ms)
"""
_INTO_INTERVAL = """
INSERT INTO footfall_interval VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  people_in = excluded.people_in + iif(excluded.revision = 0, people_in, 0),
  people_out = excluded.people_out + iif(excluded.revision = 0, people_out, 0),
  interval_ms = excluded.interval_ms + iif(excluded.revision = 0, interval_ms, 0),
  covered_ms = excluded.covered_ms + iif(excluded.revision = 0, covered_ms, 0), revision = excluded.revision
WHERE excluded.revision > revision OR (excluded.revision = 0 AND revision = 0)
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


def line_hours_of(query: Query, first: str, last: str) -> list[LineHour]:
    """Every line's hours from one day to another, both included; [] when nobody counted."""
    if not have_table(query, "footfall_hour"):
        return []
    rows = query("SELECT * FROM footfall_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, line", (first, last))
    return [
        LineHour(
            day=row["day"], hour_ms=row["hour_ms"], line=row["line"], entrance=row["entrance"],
            people_in=row["people_in"], people_out=row["people_out"], interval_s=row["interval_ms"] / 1000,
            covered_s=row["covered_ms"] / 1000, first_ms=row["first_ms"], last_ms=row["last_ms"],
        )
        for row in rows
    ]  # fmt: skip


def passed_of(query: Query, first: str, last: str) -> list[Passed]:
    """The intervals of those days in order, all lines together; [] for days whose intervals are not kept any more."""
    if not have_table(query, "footfall_interval"):
        return []
    rows = query(
        "SELECT begin_ms, sum(people_in) AS people_in, sum(people_out) AS people_out FROM footfall_interval "
        "WHERE day BETWEEN ? AND ? GROUP BY day, begin_ms ORDER BY day, begin_ms",  # as they lie: nothing is sorted
        (first, last),
    )
    return [Passed(*row) for row in rows]


def counted_ever(query: Query) -> bool:
    """Whether anything has counted people here in the days that are kept."""
    return have_table(query, "footfall_hour") and bool(query("SELECT 1 FROM footfall_hour LIMIT 1", ()))
