"""Reading the journal: events after a position, exactly as they will be for ever.

A reader has a connection of its own that cannot write and never checkpoints; each call is one short snapshot. Paging is
by position, never by offset or count, so it costs the same at ten thousand rows and at five million.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.errors import JournalError
from gateway.event import STREAMS, Stream
from gateway.journal.cursor import UPLINK as UPLINK  # whose progress counts as delivered
from gateway.journal.disk import is_there, suspect
from gateway.journal.loss import lost_between
from gateway.journal.rows import RowDamaged, epochs_of, events_after
from gateway.journal.rows import StoredEvent as StoredEvent
from gateway.journal.schema import StreamEpoch, connect_reader, head_of

T = TypeVar("T")


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


def state_of(connection: sqlite3.Connection, stream: Stream) -> StreamState:
    """The stream's conservation line as a connection sees it; the caller holds the transaction.

    Raises:
        JournalError: the stream has no epoch yet: its writer is about to open the journal for the first time.
    """
    epochs = epochs_of(connection, stream)
    if not epochs:
        raise JournalError("read journal", stream, "it is being made", "try again in a moment")
    head = head_of(connection, stream)
    oldest = connection.execute(f"SELECT coalesce(min(position), 0) FROM {stream}").fetchone()[0]  # noqa: S608
    row = connection.execute("SELECT position FROM cursor WHERE name = ? AND stream = ?", (UPLINK, stream)).fetchone()
    cursor = int(row[0]) if row else 0
    acked, quarantined, expired, lost = connection.execute(
        "SELECT acked, quarantined, expired, declared_lost FROM tally WHERE stream = ?", (stream,)
    ).fetchone()
    waiting = connection.execute(
        f"SELECT recorded_ms FROM {stream} WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608
        (cursor,),
    ).fetchone()
    return StreamState(
        stream, head, acked, head - cursor - lost_between(connection, stream, cursor, head), quarantined, expired, lost,
        oldest, epochs[-1].epoch, int(waiting[0]) if waiting else None,
    )  # fmt: skip


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
        if not is_there(self.path):
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

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`."""
        return self._connection is not None

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
            for event in events_after(connection, stream, after, limit):
                size += len(event.json)
                if events and size > max_bytes:
                    break
                events.append(event)
        return events

    def head(self, stream: Stream) -> int:
        """Position of the newest event, 0 when there is none."""
        with self._mapped():
            return head_of(self._connected(), stream)

    def epochs(self, stream: Stream) -> list[StreamEpoch]:
        """The stream's epochs, oldest first."""
        with self._mapped():
            return epochs_of(self._connected(), stream)

    def state(self, stream: Stream) -> StreamState:
        """The stream's conservation line, from one snapshot."""
        with self._mapped(), self._snapshot() as connection:
            return state_of(connection, stream)

    def states(self) -> list[StreamState]:
        """The conservation line of every stream."""
        return [self.state(stream) for stream in STREAMS]

    def query(self, sql: str, parameters: tuple[object, ...] = ()) -> list[sqlite3.Row]:
        """Rows of a read-model table, for the snapshot and the commands."""
        with self._mapped():
            cursor = self._connected().cursor()
            cursor.row_factory = sqlite3.Row
            return cursor.execute(sql, parameters).fetchall()

    def look(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` makes of one snapshot; it must be short, since the log cannot be emptied meanwhile."""
        with self._mapped(), self._snapshot() as connection:
            return work(connection)

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
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                suspect(self.path, str(error))
            raise JournalError("read journal", str(self.path), str(error), "run `storefront journal verify`") from error
        except RowDamaged as error:
            suspect(self.path, str(error))
            raise

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("read journal", str(self.path), "the reader is not open")
        return self._connection
