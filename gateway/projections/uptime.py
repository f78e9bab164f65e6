"""Who was listening, by hour: minutes in which the gateway lived, and in which each device was in order.

From the gateway's own heartbeats, one a minute. A till or a counter says nothing about the time when nobody listened,
so this is what the coverage of sales rests on. Knows no till from another device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label, told_by
from gateway.projections.store_time import StoreTime

_TYPE = "store.gateway.heartbeat.v1"
BEAT_S = 60.0
GATEWAY = ""  # its own line: no device can have such a name
_LISTENED = ("live", "stale")  # a silent device may have nothing to say; a broken one cannot
_DEVICES_MOST = 500
_KEEP_DAYS = 62


class _Beat(msgspec.Struct):
    devices: dict[str, str] = {}


class Uptime:
    """The read model."""

    name = "uptime"
    streams: tuple[Stream, ...] = ("measurements",)
    tables: tuple[Table, ...] = (
        Table(
            "uptime_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, device TEXT NOT NULL, beats INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, device)",
            day=True,
            keep_days=_KEEP_DAYS,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time
        self._decode = msgspec.json.Decoder(_Beat).decode

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run's beats by hour and device."""
        beats: dict[tuple[str, int, str], int] = {}
        for fact, beat in told_by(facts, _TYPE, self._decode):
            at = self._time.bucket(fact.happened_ms)
            heard = [name for name, condition in beat.devices.items() if condition in _LISTENED and name]
            for name in (GATEWAY, *(label(name) for name in heard[:_DEVICES_MOST])):
                beats[*at, name] = beats.get((*at, name), 0) + 1
        if beats:
            yield Change(
                "INSERT INTO uptime_hour VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET beats = beats + excluded.beats",
                [(*key, count) for key, count in beats.items()],
            )


def hours_of(query: Query, first: str, last: str) -> Mapping[int, Mapping[str, float]]:
    """Seconds that each device (`GATEWAY`: the gateway) was listened to, by hour; {} when there was no beat."""
    found: dict[int, dict[str, float]] = {}
    if have_table(query, "uptime_hour"):
        for row in query("SELECT * FROM uptime_hour WHERE day BETWEEN ? AND ?", (first, last)):
            found.setdefault(row["hour_ms"], {})[row["device"]] = min(row["beats"] * BEAT_S, 3600.0)
    return found
