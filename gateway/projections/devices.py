"""The last event of every source and the batteries of its sensors, which outlive a restart.

The board in memory knows only this run, and a sensor tells of its battery once a day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec

from gateway.event import STREAMS
from gateway.projections.projection import Change, Fact, Query, Table, have_table, label


class SourceLast(msgspec.Struct, frozen=True):
    """A source's last event and how many there were. `last_ms`: when it was recorded, milliseconds since 1970."""

    source: str
    events: int
    last_ms: int
    last_type: str


class _Read(msgspec.Struct):
    sensor: str
    quantity: str
    value: float
    unit: str = ""


class Battery(msgspec.Struct, frozen=True):
    """How full a sensor's battery was when it last told, in percent."""

    source: str
    sensor: str
    percent: int


_SENSOR = "store.sensor.read.v1"
_decode = msgspec.json.Decoder(_Read).decode


class DeviceEvents:
    """The read model. Sources are devices of the configuration, so the table stays small."""

    name = "devices"
    version = "2"
    streams = STREAMS
    tables: tuple[Table, ...] = (
        Table(
            "device_event",
            "source TEXT NOT NULL, stream TEXT NOT NULL, events INTEGER NOT NULL, last_ms INTEGER NOT NULL, "
            "last_position INTEGER NOT NULL, last_type TEXT NOT NULL, PRIMARY KEY (source, stream)",
        ),
        Table(
            "device_battery",
            "source TEXT NOT NULL, sensor TEXT NOT NULL, day TEXT NOT NULL, percent INTEGER NOT NULL, "
            "last_ms INTEGER NOT NULL, PRIMARY KEY (source, sensor)",
            day=True,
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
        batteries = {(fact.source, sensor): (percent, fact) for fact, sensor, percent in map(_battery, facts) if sensor}
        if batteries:
            yield Change(
                _CHARGE,
                [
                    (*key, _day(fact.happened_ms), percent, fact.happened_ms)
                    for key, (percent, fact) in batteries.items()
                ],
            )


_ADD = """
INSERT INTO device_event VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  events = events + excluded.events, last_ms = excluded.last_ms, last_position = excluded.last_position,
  last_type = excluded.last_type
"""


_CHARGE = """
INSERT INTO device_battery VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
  day = excluded.day, percent = excluded.percent, last_ms = excluded.last_ms WHERE excluded.last_ms >= last_ms
"""


def _battery(fact: Fact) -> tuple[Fact, str, int]:
    """The sensor and its percent; "" for what tells of no battery."""
    if fact.type == _SENSOR:
        try:
            read = _decode(fact.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return fact, "", 0
        if read.quantity == "battery" and read.unit == "%" and 0 <= read.value <= 100:
            return fact, label(read.sensor), int(read.value)
    return fact, "", 0


def _day(at_ms: int) -> str:
    """The day by which old rows are removed; a day more or less is the same here, so it is UTC's."""
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).date().isoformat()
    except (OverflowError, OSError, ValueError):
        return ""


def emptiest_batteries(query: Query, since_ms: int) -> list[Battery]:
    """Of every source the sensor with the least left, of those that told since then."""
    if not have_table(query, "device_battery"):
        return []
    rows = query(
        "SELECT source, sensor, min(percent) AS percent FROM device_battery WHERE last_ms >= ? "
        "GROUP BY source ORDER BY source",
        (since_ms,),
    )  # the sensor comes from the row that holds the minimum
    return [Battery(row["source"], row["sensor"], row["percent"]) for row in rows]


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
