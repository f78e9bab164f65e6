"""Cursors: named, durable positions that only go forward, and the uplink's, whose progress means "delivered".

All functions work on the writing connection inside one transaction (`JournalWriter.transact`, `CommitLoop.submit`), so
a position moves together with what it stands for. Names: `uplink`; `feed:<consumer>`; `projection:<name>` for read
models, which are rebuilt from what is kept and are not carried over by a salvage. Knows no network.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import get_args

import msgspec

from gateway.errors import Rejected
from gateway.event import STREAMS, Stream
from gateway.journal.loss import lost_between
from gateway.journal.quarantine import Held, hold
from gateway.journal.rows import damaged, events_after
from gateway.journal.schema import head_of

UPLINK = "uplink"
PROJECTION = "projection:"
_REJECTED_PER_CALL = 10_000


class Cursor(msgspec.Struct, frozen=True):
    """One cursor's place in one stream: everything up to `position` is behind it."""

    name: str
    stream: Stream
    position: int
    required: bool  # retention keeps what it has not passed
    moved_ms: int


class Acknowledged(msgspec.Struct, frozen=True):
    """What an acknowledgement newly settled: events delivered and events moved to quarantine."""

    position: int
    acked: int
    quarantined: int


def cursor_crc(name: str, stream: str, position: int, required: int) -> int:
    """Guards a cursor: one that a damaged page moved forward would silently drop events."""
    return zlib.crc32(f"{name}\0{stream}\0{position}\0{required}".encode())


def ensure(
    connection: sqlite3.Connection, name: str, required: bool, *, streams: Sequence[Stream] = STREAMS, now_ms: int = 0
) -> None:
    """Make the cursor where it is missing, at the beginning; one that exists keeps its place and takes `required`."""
    for stream in streams:
        stored = _stored(connection, name, stream)
        if stored is None or stored[1] != required:
            _put(connection, name, stream, stored[0] if stored else 0, required, now_ms)


def position_of(connection: sqlite3.Connection, name: str, stream: Stream) -> int:
    """Where the cursor stands; 0 for one that does not exist.

    Raises:
        RowDamaged: the cursor is not what was written.
    """
    stored = _stored(connection, name, stream)
    return 0 if stored is None else stored[0]


def positions(connection: sqlite3.Connection, name: str | None = None) -> list[Cursor]:
    """Every cursor, or every stream of one."""
    rows = connection.execute(
        "SELECT name, stream, position, required, moved_ms FROM cursor WHERE ?1 IS NULL OR name = ?1 "
        "ORDER BY name, stream",
        (name,),
    )
    return [Cursor(row[0], row[1], int(row[2]), bool(row[3]), int(row[4])) for row in rows]


def advance(connection: sqlite3.Connection, name: str, stream: Stream, position: int, now_ms: int) -> int:
    """Move the cursor forward; a position behind it changes nothing. Returns where it stands now.

    The uplink's cursor moves by `acknowledge` only, whatever way it is asked.

    Raises:
        Rejected: the position is beyond the newest event, or there is no such cursor.
    """
    if name == UPLINK:
        return acknowledge(connection, stream, position, {}, now_ms=now_ms).position
    stored = _stored(connection, name, stream)
    if stored is None:
        raise Rejected("move cursor", f"{name} {stream}", "there is no such cursor", "make it with `ensure` first")
    current, required = stored
    if position <= current:
        return current
    _within_head(connection, name, stream, position)
    _put(connection, name, stream, position, required, now_ms)
    return position


def acknowledge(
    connection: sqlite3.Connection, stream: Stream, through: int, rejected: Mapping[int, str], *, now_ms: int,
    seal: Callable[[bytes], bytes] = bytes,
) -> Acknowledged:  # fmt: skip
    """Settle what the platform answered: everything up to `through` is delivered, but the rejected go to quarantine.

    Saying it again changes nothing. Positions that were settled before, or declared lost, are not counted again.

    Args:
        connection: the writing connection, inside a transaction.
        stream: the stream of the answer.
        through: the last position that the platform has consumed.
        rejected: reason by position, for those it refused for ever.
        now_ms: wall time, milliseconds since 1970.
        seal: encrypts a quarantined event's bytes.

    Raises:
        Rejected: `through` or a rejected position is beyond what was sent.
    """
    _within_head(connection, UPLINK, stream, through)
    if any(position > through for position in rejected):
        raise Rejected("acknowledge", stream, "a rejected event lies beyond the acknowledged ones")
    if len(rejected) > _REJECTED_PER_CALL:
        raise Rejected("acknowledge", stream, f"more than {_REJECTED_PER_CALL} rejected events in one answer")
    current = position_of(connection, UPLINK, stream)
    if through <= current:
        return Acknowledged(current, 0, 0)
    quarantined = sum(
        _hold(connection, stream, position, reason, now_ms, seal)
        for position, reason in sorted(rejected.items())
        if position > current
    )
    acked = through - current - lost_between(connection, stream, current, through) - quarantined
    _put(connection, UPLINK, stream, through, True, now_ms)
    connection.execute(
        "UPDATE tally SET acked = acked + ?, quarantined = quarantined + ? WHERE stream = ?",
        (acked, quarantined, stream),
    )
    return Acknowledged(through, acked, quarantined)


def expire_through(connection: sqlite3.Connection, stream: Stream, through: int, now_ms: int) -> int:
    """Give up everything up to `through` that was not delivered; returns how many events that is.

    For retention alone, which says what it did in a loss row.
    """
    current = position_of(connection, UPLINK, stream)
    if through <= current:
        return 0
    expired = through - current - lost_between(connection, stream, current, through)
    _put(connection, UPLINK, stream, through, True, now_ms)
    connection.execute("UPDATE tally SET expired = expired + ? WHERE stream = ?", (expired, stream))
    return expired


def forget(connection: sqlite3.Connection, name: str, *, besides: Sequence[str] = ()) -> bool:
    """Remove a cursor from every stream, but for `besides`; False when there was none.

    Raises:
        Rejected: it is the uplink's, which stands for what was delivered.
    """
    if name == UPLINK:
        raise Rejected("forget cursor", name, "it stands for what was delivered and cannot be removed")
    kept = ", ".join("?" for _ in besides)
    sql = f"DELETE FROM cursor WHERE name = ? AND stream NOT IN ({kept})"  # noqa: S608 - marks only
    return connection.execute(sql, (name, *besides)).rowcount > 0


def renumber(
    connection: sqlite3.Connection, stream: Stream, base: int, epoch: str, gateway: str, reason: str, now_ms: int
) -> None:  # fmt: skip
    """Put an epoch over everything above `base`, in place of younger ones that nothing was delivered of.

    Raises:
        Rejected: positions above `base` are delivered under their numbers.
    """
    settled = position_of(connection, UPLINK, stream)
    if base < settled:
        raise Rejected("begin epoch", stream, f"positions up to {settled} are delivered under their numbers")
    connection.execute("DELETE FROM epoch WHERE stream = ? AND base >= ?", (stream, base))
    connection.execute(
        "INSERT INTO epoch (stream, epoch, base, gateway, reason, opened_ms) VALUES (?, ?, ?, ?, ?, ?)",
        (stream, epoch, base, gateway, reason, now_ms),
    )


def required_floor(connection: sqlite3.Connection, stream: Stream) -> int:
    """The position that every required cursor has passed; the uplink's counts also before its first move."""
    row = connection.execute("SELECT min(position) FROM cursor WHERE stream = ? AND required = 1", (stream,)).fetchone()
    return min(int(row[0] or 0), position_of(connection, UPLINK, stream))


def _within_head(connection: sqlite3.Connection, name: str, stream: Stream, position: int) -> None:
    if stream not in get_args(Stream):
        raise Rejected("move cursor", f"{name} {stream}", "there is no such stream")
    if position > (head := head_of(connection, stream)):
        raise Rejected("move cursor", f"{name} {stream}", f"position {position} is beyond the newest event, {head}")


def _stored(connection: sqlite3.Connection, name: str, stream: Stream) -> tuple[int, bool] | None:
    """Position and whether it is required, checked; None when there is no such cursor."""
    row = connection.execute(
        "SELECT position, required, crc FROM cursor WHERE name = ? AND stream = ?", (name, stream)
    ).fetchone()
    if row is None:
        return None
    if row[2] != cursor_crc(name, stream, row[0], row[1]):
        raise damaged(f"cursor {name}", stream, "its checksum is wrong")
    return int(row[0]), bool(row[1])


def _put(connection: sqlite3.Connection, name: str, stream: str, position: int, required: bool, now_ms: int) -> None:
    connection.execute(
        "INSERT INTO cursor (name, stream, position, required, moved_ms, crc) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (name, stream) DO UPDATE SET position = excluded.position, required = excluded.required, "
        "moved_ms = excluded.moved_ms, crc = excluded.crc",
        (name, stream, position, int(required), now_ms, cursor_crc(name, stream, position, int(required))),
    )


def _hold(
    connection: sqlite3.Connection, stream: Stream, position: int, reason: str, now_ms: int,
    seal: Callable[[bytes], bytes],
) -> bool:  # fmt: skip
    """Copy a rejected event into quarantine; False when it is not there any more."""
    event = next(events_after(connection, stream, position - 1, 1), None)
    if event is None or event.position != position:
        return False
    hold(connection, now_ms, Held(UPLINK, "", f"{stream}/{event.epoch}/{event.seq}", reason, seal(event.json)))
    return True
