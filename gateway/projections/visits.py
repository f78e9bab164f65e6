"""Visits that consented shoppers ended, by hour: how many, how long, with how many sales, how many were not the first.

From `store.visit.closed`. A correction (`supersedes`, or the same visit told again) takes the place of what it
corrects. Nobody's key is kept here: whether a visit was not the first is what the platform says later
(`store.visit.compared`), or not known, since the day keys of two days cannot be joined in the shop. Knows no shopper.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.interval import begin_ms
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.visit.closed.v1"
_COMPARED = "store.visit.compared.v1"
_KEEP_DAYS = 62
_ROWS_MOST = 500_000
_LONGEST_MS = 86_400_000


class _Closed(msgspec.Struct):
    visit_id: str
    entered_at: str
    left_at: str
    transaction_ids: tuple[str, ...] = ()
    supersedes: str | None = None
    returning: bool | None = None


class _Compared(msgspec.Struct):
    visit_id: str
    returning: bool


class VisitHour(msgspec.Struct, frozen=True, kw_only=True):
    """Visits that ended in one hour. `known` of them said whether they were the first; `returning` were not."""

    hour_ms: int
    visits: int
    stayed_s: float
    buying: int
    known: int
    returning: int


class Visits:
    """The read model."""

    name = "visits"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "visit",
            "visit TEXT PRIMARY KEY, day TEXT NOT NULL, hour_ms INTEGER NOT NULL, stayed_ms INTEGER NOT NULL, "
            "sales INTEGER NOT NULL, came_again INTEGER",
            day=True,
            keep_days=_KEEP_DAYS,
            keep_rows=_ROWS_MOST,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Closed).decode
        self._decode_compared = msgspec.json.Decoder(_Compared).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """The visits that stand at the end of the run, and those that were taken back."""
        standing: dict[str, tuple[str, int, int, int, int | None]] = {}
        taken_back: set[str] = set()
        for fact, told in told_by(facts, _TYPE, self._decode):
            left_ms = begin_ms(told.left_at, fact.happened_ms)
            stayed_ms = min(max(0, left_ms - begin_ms(told.entered_at, left_ms)), _LONGEST_MS)
            if told.supersedes:
                old = label(told.supersedes, 128)
                standing.pop(old, None)
                taken_back.add(old)
            key = label(told.visit_id, 128)
            taken_back.discard(key)
            standing[key] = (
                *self._time.bucket(left_ms), stayed_ms, len(told.transaction_ids),
                None if told.returning is None else int(told.returning),
            )  # fmt: skip
        if taken_back:
            yield Change("DELETE FROM visit WHERE visit = ?", [(key,) for key in sorted(taken_back)])
        if standing:
            yield Change(
                "INSERT OR REPLACE INTO visit VALUES (?, ?, ?, ?, ?, ?)",
                [(key, *row) for key, row in standing.items()],
            )
        compared = [
            (told.returning, label(told.visit_id, 128)) for _, told in told_by(facts, _COMPARED, self._decode_compared)
        ]
        if compared:  # after the visits: what is compared was told before
            yield Change("UPDATE visit SET came_again = ? WHERE visit = ?", compared)


def hours_of(query: Query, first: str, last: str) -> list[VisitHour]:
    """The hours from one day to another, both included, in which visits ended; [] when none did."""
    if not have_table(query, "visit"):
        return []
    rows = query(
        "SELECT hour_ms, count(*) AS visits, sum(stayed_ms) AS stayed_ms, sum(sales > 0) AS buying, "
        "count(came_again) AS known, coalesce(sum(came_again), 0) AS again FROM visit WHERE day BETWEEN ? AND ? "
        "GROUP BY hour_ms ORDER BY hour_ms",
        (first, last),
    )
    return [
        VisitHour(
            hour_ms=row["hour_ms"], visits=row["visits"], stayed_s=row["stayed_ms"] / 1000, buying=row["buying"],
            known=row["known"], returning=row["again"],
        )
        for row in rows
    ]  # fmt: skip
