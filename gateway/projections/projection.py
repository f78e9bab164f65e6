"""What a read model is: tables, and a pure fold from events to changes of those tables.

A fold sees a run of events of one stream and says which rows change by how much; the `Projector` writes that together
with the model's own cursor. Changes add up (counts, sums, first, last), so how the events were cut into runs makes no
difference, and a model that is dropped and folded again from the beginning is the same. Knows no thread and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.event import Stream
from gateway.journal.reader import StoredEvent

Told = TypeVar("Told")
Cell = str | int | float | None
Query = Callable[[str, tuple[object, ...]], Sequence[Any]]
"""How a read model is read: SQL and parameters to rows with named columns (`JournalReader.query`)."""

LABEL_LIMIT = 64  # characters of a name that a device gave; longer ones are cut, so a key stays small
COUNT_LIMIT = 1_000_000_000  # more of anything in one event is not a count


class Fact(msgspec.Struct, frozen=True):
    """An event as a fold sees it: its head read, its data still JSON. Times are milliseconds since 1970, UTC."""

    stream: Stream
    position: int
    type: str
    source: str
    happened_ms: int
    recorded_ms: int
    zone: str
    data: msgspec.Raw


class Change(msgspec.Struct, frozen=True):
    """One statement for many rows."""

    sql: str
    rows: Sequence[tuple[Cell, ...]]


KEEP_DAYS = 400  # a year and a month to compare with


class Table(msgspec.Struct, frozen=True):
    """A table of a read model. `day`: it has a column `day`, and rows of long ago are removed.

    `keep_rows`: of a table whose keys come from outside; above it, the oldest days go first (0: no such bound).
    """

    name: str
    columns: str  # everything between the brackets of CREATE TABLE
    day: bool = False
    keep_days: int = KEEP_DAYS
    keep_rows: int = 0


class Projection(Protocol):
    """One read model. `fold` is called on the projector's thread with ever later events, each exactly once.

    It must be total: what it cannot use, it passes over. `version` changes with the tables or the meaning of the fold;
    the model is then rebuilt.
    """

    name: str
    version: str
    streams: tuple[Stream, ...]
    tables: tuple[Table, ...]

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """The changes that these events make; [] when none."""
        ...


class _Head(msgspec.Struct):
    type: str
    source: str
    time: datetime
    recordedtime: datetime
    data: msgspec.Raw
    zone: str = ""


_decode_head = msgspec.json.Decoder(_Head).decode


def fact_of(event: StoredEvent) -> Fact | None:
    """The event as a fold sees it; None when its envelope cannot be read."""
    try:
        head = _decode_head(event.json)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return Fact(
        event.stream, event.position, head.type, label(head.source, 200), _ms(head.time), _ms(head.recordedtime),
        label(head.zone), head.data,
    )  # fmt: skip


def told_by(
    facts: Iterable[Fact], event_type: str, decode: Callable[[msgspec.Raw], Told]
) -> Iterator[tuple[Fact, Told]]:
    """The facts of one type with their data; data that cannot be read is passed over, as a fold has to be total."""
    for fact in facts:
        if fact.type == event_type:
            try:
                data = decode(fact.data)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            yield fact, data


def label(text: str, limit: int = LABEL_LIMIT) -> str:
    """A name that a device gave, cut to a bounded key."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def have_table(query: Query, name: str) -> bool:
    """Whether the read model has been made yet."""
    return bool(query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)))


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)
