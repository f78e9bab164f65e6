"""Which hours' key figures have been told, and as what: folded back from `store.kpi.hour` itself.

So the journal is the place that the teller goes on from, after a restart as after a rebuild. Knows no figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

import msgspec

from gateway.event import Stream
from gateway.event_types import Covered
from gateway.projections.interval import begin_ms
from gateway.projections.projection import Change, Fact, Query, Table, have_table, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.kpi.hour.v1"
_KEEP_DAYS = 62
_REVISIONS_MOST = 1_000_000


class _Hour(msgspec.Struct):
    hour: str
    figures: dict[str, Covered]
    revision: int = 0


class Told(msgspec.Struct, frozen=True):
    """What was told of an hour last."""

    revision: int
    digest: str


class KpiTold:
    """The read model."""

    name = "kpi_told"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "kpi_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, revision INTEGER NOT NULL, digest TEXT NOT NULL, "
            "PRIMARY KEY (day, hour_ms)",
            day=True,
            keep_days=_KEEP_DAYS,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Hour).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """The newest report of every hour of the run."""
        told: dict[tuple[str, int], Told] = {}
        for fact, hour in told_by(facts, _TYPE, self._decode):
            at_ms = begin_ms(hour.hour, fact.happened_ms)
            key = self._time.day(at_ms), at_ms
            new = Told(min(max(hour.revision, 0), _REVISIONS_MOST), digest_of(hour.figures))
            if key not in told or told[key].revision <= new.revision:
                told[key] = new
        if told:
            yield Change(
                "INSERT INTO kpi_hour VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET revision = excluded.revision, "
                "digest = excluded.digest WHERE excluded.revision >= revision",
                [(*key, it.revision, it.digest) for key, it in told.items()],
            )


def digest_of(figures: Mapping[str, Covered]) -> str:
    """Sixteen characters that differ when any figure does."""
    return blake2b(msgspec.json.encode(sorted(figures.items())), digest_size=8).hexdigest()


def told_of(query: Query, first: str, last: str) -> dict[int, Told]:
    """What was told of the hours from one day to another, both included."""
    if not have_table(query, "kpi_hour"):
        return {}
    rows = query("SELECT * FROM kpi_hour WHERE day BETWEEN ? AND ?", (first, last))
    return {row["hour_ms"]: Told(row["revision"], row["digest"]) for row in rows}
