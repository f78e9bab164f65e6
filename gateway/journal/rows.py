"""From a stored row to the event it is: checks its checksum, unpacks it and puts the envelope round it.

Whoever reads events from any connection (the reader, the uplink's rejections, verify) uses this, so the same row gives
the same bytes everywhere and for ever. Knows SQL and the row's layout; opens nothing.
"""

from __future__ import annotations

import sqlite3
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.errors import JournalError
from gateway.event import Stream, envelope
from gateway.journal.packing import Dictionaries, row_crc, seed_of, unpack
from gateway.journal.schema import StreamEpoch

NO_BOOT = "0" * 32  # said where the boot's own row was lost
Row = tuple[Any, ...]
"""A stored row: position, boot, recorded_ms, dedupe, packed body, checksum."""


class StoredEvent(msgspec.Struct, frozen=True):
    """One event of a stream: its place, and its bytes (a CloudEvents JSON object)."""

    stream: Stream
    position: int
    epoch: str
    seq: int
    json: bytes

    def decode(self) -> dict[str, Any]:
        """The event as a dict, for printing."""
        event: dict[str, Any] = msgspec.json.decode(self.json)
        return event


def epochs_of(connection: sqlite3.Connection, stream: str) -> list[StreamEpoch]:
    """The stream's epochs, oldest first."""
    rows = connection.execute(
        "SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch WHERE stream = ? ORDER BY rowid", (stream,)
    )
    return [StreamEpoch(*row) for row in rows]


def dictionaries_of(connection: sqlite3.Connection) -> Dictionaries:
    """The dictionaries that this journal has learned, by number.

    Raises:
        RowDamaged: one of them is not what it was.
    """
    learned: dict[int, bytes] = {}
    for number, phrases, crc in connection.execute("SELECT id, bytes, crc FROM dictionary"):
        if not isinstance(phrases, bytes) or zlib.crc32(phrases) != crc:
            raise damaged("dictionary", number, "its checksum is wrong")
        learned[number] = phrases
    return learned


def events_after(connection: sqlite3.Connection, stream: Stream, after: int, limit: int) -> Iterator[StoredEvent]:
    """Up to `limit` events above position `after`, in order. The caller holds the transaction.

    Raises:
        RowDamaged: a row's checksum is wrong, or its storage format is unknown.
    """
    epochs, boots = epochs_of(connection, stream), dict(connection.execute("SELECT id, boot FROM boot"))
    dictionaries = dictionaries_of(connection)
    bases = [epoch.base for epoch in epochs]
    rows = connection.execute(
        f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} "  # noqa: S608 - fixed names
        "WHERE position > ? ORDER BY position LIMIT ?",
        (after, limit),
    )
    for row in rows:
        body = body_of(stream, row, dictionaries)
        position, boot, recorded_ms = row[:3]
        epoch = epochs[max(0, bisect_left(bases, position) - 1)]
        seq = position - epoch.base
        json = envelope(
            body, gateway=epoch.gateway, stream=stream, epoch=epoch.epoch, seq=seq,
            recorded_s=recorded_ms / 1000, boot=boots.get(boot, NO_BOOT),
        )  # fmt: skip
        yield StoredEvent(stream, position, epoch.epoch, seq, json)


def body_of(stream: str, row: Row, dictionaries: Dictionaries) -> bytes:
    """The body in a row.

    Raises:
        RowDamaged: its checksum is wrong, or its storage format or dictionary is unknown.
    """
    position, packed = row[0], row[4]
    if not row_checks(stream, row, dictionaries):
        missing = isinstance(packed, bytes) and seed_of(packed, dictionaries) is None
        raise damaged(stream, position, "its dictionary is missing" if missing else "the row's checksum is wrong")
    try:
        return unpack(packed, dictionaries)
    except ValueError as error:
        raise damaged(stream, position, str(error)) from error


def row_checks(stream: str, row: Row, dictionaries: Dictionaries) -> bool:
    """Whether a row is whole and its dictionary the one it was packed with; a damaged page may give any type."""
    position, boot, recorded_ms, dedupe, packed, crc = row
    return (
        isinstance(boot, int)
        and isinstance(recorded_ms, int)
        and isinstance(dedupe, bytes)
        and isinstance(packed, bytes)
        and (seed := seed_of(packed, dictionaries)) is not None
        and row_crc(stream, position, boot, recorded_ms, dedupe, packed, seed) == crc
    )


class RowDamaged(JournalError):
    """A row that is in the database cannot be trusted."""


def damaged(table: str, row: object, reason: str) -> RowDamaged:
    """The error for a row that cannot be trusted."""
    return RowDamaged(
        "read journal", f"{table} {row}", reason,
        "restart the gateway: a damaged journal is set aside and salvaged at the start",
    )  # fmt: skip
