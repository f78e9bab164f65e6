"""Interactions by hour: posters, shelf labels and member codes that were scanned. From `store.interaction.scanned`.

Whose scan it was is not kept here. Knows no campaign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.interaction.scanned.v1"
_ROWS_MOST = 100_000


class _Scanned(msgspec.Struct):
    campaign: str | None = None
    content_id: str | None = None


class InteractionHour(msgspec.Struct, frozen=True, kw_only=True):
    """Scans of one content in one hour. Without campaign and content it was a member code."""

    hour_ms: int
    campaign: str
    content: str
    scans: int


class Interactions:
    """The read model."""

    name = "interactions"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "interaction_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, campaign TEXT NOT NULL, content TEXT NOT NULL, "
            "scans INTEGER NOT NULL, PRIMARY KEY (day, hour_ms, campaign, content)",
            day=True,
            keep_rows=_ROWS_MOST,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Scanned).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by hour and content."""
        counts: dict[tuple[str, int, str, str], int] = {}
        for fact, told in told_by(facts, _TYPE, self._decode):
            key = (*self._time.bucket(fact.happened_ms), label(told.campaign or ""), label(told.content_id or ""))
            counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO interaction_hour VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET scans = scans + excluded.scans",
                [(*key, count) for key, count in counts.items()],
            )


def hours_of(query: Query, first: str, last: str) -> list[InteractionHour]:
    """What was scanned from one day to another, both included; [] when nothing was."""
    if not have_table(query, "interaction_hour"):
        return []
    rows = query(
        "SELECT * FROM interaction_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms, campaign, content", (first, last)
    )
    return [
        InteractionHour(
            hour_ms=row["hour_ms"], campaign=row["campaign"], content=row["content"], scans=row["scans"]
        )
        for row in rows
    ]  # fmt: skip
