"""Reading the journal: events after a position, exactly as they will be for ever.

A reader has a connection of its own that cannot write and never checkpoints; each call is one short snapshot. Paging is
by position, never by offset or count, so it costs the same at ten thousand rows and at five million.
"""

from __future__ import annotations

import contextlib
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import JournalError
from gateway.event import STREAMS, Stream, envelope
from gateway.journal.packing import row_crc, unpack
from gateway.journal.schema import StreamEpoch, connect_reader


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


class StreamState(msgspec.Struct, frozen=True):
    """Where a stream stands. Always `accepted = acked + pending + quarantined + expired + declared_lost`."""

    stream: Stream
    accepted: int
    acked: int
    pending: int
    quarantined: int
    expired: int
    declared_lost: int
    oldest: int  # lowest position still kept; 0 when nothing is kept
    epoch: str
    oldest_pending_ms: int | None  # recorded time of the oldest event not yet acked


UPLINK = "uplink"  # the cursor whose progress counts as delivered


class JournalReader:
    """A read-only view. One thread at a time uses it."""

    def __init__(self, path: Path) -> None:
        """`path`: the database file."""
        self.path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Connect.

        Raises:
            JournalError: there is no journal there, or it cannot be read.
        """
        if not self.path.exists():
            raise JournalError(
                "read journal", str(self.path), "there is no journal here yet",
                "start the gateway once (`storefront run` or `storefront demo`), or say where it is with --config",
            )  # fmt: skip
        with self._mapped():
            self._connection = connect_reader(self.path)

    def close(self) -> None:
        """Disconnect; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> JournalReader:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, stream: Stream, after: int, limit: int = 500, max_bytes: int = 1 << 20) -> list[StoredEvent]:
        """Up to `limit` events above position `after`, in order; at least one if there is one, else []."""
        events: list[StoredEvent] = []
        size = 0
        with self._mapped(), self._snapshot() as connection:
            epochs, boots = self.epochs(stream), dict(connection.execute("SELECT id, boot FROM boot"))
            bases = [epoch.base for epoch in epochs]
            rows = connection.execute(
                f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} "  # noqa: S608 - fixed names
                "WHERE position > ? ORDER BY position LIMIT ?",
                (after, limit),
            )
            for position, boot, recorded_ms, dedupe, packed, crc in rows:
                if row_crc(stream, position, boot, recorded_ms, dedupe, packed) != crc:
                    raise JournalError(
                        "read journal", f"{stream} {position}", "the row's checksum is wrong",
                        "run `storefront journal salvage` while the gateway is stopped",
                    )  # fmt: skip
                epoch = epochs[bisect_left(bases, position) - 1]
                body = unpack(packed)
                size += len(body)
                if events and size > max_bytes:
                    break
                events.append(
                    StoredEvent(
                        stream,
                        position,
                        epoch.epoch,
                        position - epoch.base,
                        envelope(
                            body,
                            gateway=epoch.gateway,
                            stream=stream,
                            epoch=epoch.epoch,
                            seq=position - epoch.base,
                            recorded_s=recorded_ms / 1000,
                            boot=boots.get(boot, "0" * 32),
                        ),
                    )
                )
        return events

    def head(self, stream: Stream) -> int:
        """Position of the newest event, 0 when there is none."""
        return self._scalar(f"SELECT coalesce(max(position), 0) FROM {stream}")  # noqa: S608 - fixed names

    def epochs(self, stream: Stream) -> list[StreamEpoch]:
        """The stream's epochs, oldest first."""
        rows = self._connected().execute(
            "SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch WHERE stream = ? ORDER BY rowid",
            (stream,),
        )
        return [StreamEpoch(*row) for row in rows]

    def state(self, stream: Stream) -> StreamState:
        """The stream's conservation line, from one snapshot."""
        with self._mapped(), self._snapshot() as connection:
            head = self._scalar(f"SELECT coalesce(max(position), 0) FROM {stream}")  # noqa: S608
            oldest = self._scalar(f"SELECT coalesce(min(position), 0) FROM {stream}")  # noqa: S608
            row = connection.execute(
                "SELECT position FROM cursor WHERE name = ? AND stream = ?", (UPLINK, stream)
            ).fetchone()
            cursor = int(row[0]) if row else 0
            quarantined, expired, lost = connection.execute(
                "SELECT quarantined, expired, declared_lost FROM tally WHERE stream = ?", (stream,)
            ).fetchone()
            waiting = connection.execute(
                f"SELECT recorded_ms FROM {stream} WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608
                (cursor,),
            ).fetchone()
            epoch = self.epochs(stream)[-1].epoch
        return StreamState(
            stream, head, cursor - quarantined - expired - lost, head - cursor, quarantined, expired, lost, oldest,
            epoch, int(waiting[0]) if waiting else None,
        )  # fmt: skip

    def states(self) -> list[StreamState]:
        """The conservation line of every stream."""
        return [self.state(stream) for stream in STREAMS]

    def query(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Rows of a read-model table, for the snapshot and the commands."""
        with self._mapped():
            cursor = self._connected().cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(sql, parameters).fetchall()

    @contextlib.contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise JournalError("read journal", str(self.path), str(error), "run `storefront journal verify`") from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("read journal", str(self.path), "the reader is not open")
        return self._connection

    def _scalar(self, sql: str) -> int:
        with self._mapped():
            return int(self._connected().execute(sql).fetchone()[0])
