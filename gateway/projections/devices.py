"""The last event of every source, which outlives a restart: the board in memory knows only this run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import STREAMS
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label


class SourceLast(msgspec.Struct, frozen=True):
    """A source's last event and how many there were. `last_ms`: when it was recorded, milliseconds since 1970."""

    source: str
    events: int
    last_ms: int
    last_type: str


class DeviceEvents:
    """The read model. Sources are devices of the configuration, so the table stays small."""

    name = "devices"
    version = "1"
    streams = STREAMS
    tables: tuple[Table, ...] = (
        Table(
            "device_event",
            "source TEXT NOT NULL, stream TEXT NOT NULL, events INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
            "last_position INTEGER NOT NULL, last_type TEXT NOT NULL, PRIMARY KEY (source, stream)",
        ),
    )

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """The newest of the run by source."""
        counts: dict[tuple[str, str], int] = {}
        newest: dict[tuple[str, str], Fact] = {}
        for fact in facts:
            key = fact.source, fact.stream
            counts[key] = counts.get(key, 0) + 1
            newest[key] = fact
        if counts:
            yield Change(
                _ADD,
                [
                    (*key, count, newest[key].recorded_ms, newest[key].position, label(newest[key].type))
                    for key, count in counts.items()
                ],
            )


_ADD = """
INSERT INTO device_event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  events = events + excluded.events, last_ms = excluded.last_ms, last_position = excluded.last_position,
  last_type = excluded.last_type
"""


def last_events(query: Query) -> list[SourceLast]:
    """Every source's last event, by source."""
    if not have_table(query, "device_event"):
        return []
    rows = query(
        "SELECT source, sum(events) AS events, max(last_ms) AS last_ms, last_type FROM device_event "
        "GROUP BY source ORDER BY source",
        (),
    )  # SQLite takes `last_type` from the row that holds the maximum
    return [SourceLast(row["source"], row["events"], row["last_ms"], row["last_type"]) for row in rows]
