"""The journal's one writing connection: gives every event its position and makes it durable before anyone is told.

Positions run on for ever in each stream; an epoch starts the visible sequence anew (`seq = position - base`) after a
salvage, a restore or a clone. All writing — events, cursors, projections, retention — goes through `append` and
`transact` of the one object that holds the lock on the file. Knows no device, no network and no thread: the commit loop
calls it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.clock import Clock, boot_id
from gateway.errors import JournalError, JournalFull
from gateway.event import STREAMS, Draft, Stream
from gateway.intake.inlet import Poison
from gateway.journal import identity
from gateway.journal.disk import Ballast
from gateway.journal.packing import pack, row_crc
from gateway.journal.schema import StreamEpoch, connect_writer

T = TypeVar("T")

DEDUPE_WINDOW = 65_536  # facts remembered; a broker redelivers at most its in-flight window, a thousand or so
_DEDUPE_RELOAD = 16_384  # rows a stream looked through at the start to remember them again
_QUARANTINE_KEPT = 10_000

# Share of the quota above which a stream's events are refused: the least important first, sales only when all is full.
REFUSE_ABOVE: dict[Stream, float] = {"observations": 0.85, "measurements": 0.93, "transactions": 1.0}

_INSERT = {
    stream: f"INSERT INTO {stream} (position, boot, recorded_ms, dedupe, body, crc) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - fixed names
    for stream in STREAMS
}
_FATAL = {
    sqlite3.SQLITE_CORRUPT: "the database file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is not a database",
    sqlite3.SQLITE_IOERR: "the disk does not answer",
    sqlite3.SQLITE_READONLY: "the disk or the file is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened",
    sqlite3.SQLITE_PERM: "access is denied",
}


class Appended(msgspec.Struct, frozen=True):
    """What one commit did: events written, and drafts that were already there."""

    written: int
    duplicates: int


class JournalWriter:
    """Owner of the journal file for writing. `open` first, `close` last; between them one thread uses it."""

    def __init__(
        self, path: Path, gateway: str, clock: Clock, *, max_bytes: int = 4 << 30, ballast_bytes: int = 16 << 20,
        seal: Callable[[bytes], bytes] = bytes,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            path: the database file; made when absent.
            gateway: this gateway's name, part of every event id.
            clock: gives recorded times.
            max_bytes: quota of the database file.
            ballast_bytes: a file of this size is kept beside it and given up when the disk is full.
            seal: encrypts a quarantined payload, which may hold anything, before it is stored.
        """
        self.path = path
        self.duplicates = 0
        self._gateway = gateway
        self._clock = clock
        self._max_bytes = max_bytes
        self._seal = seal
        self._ballast = Ballast(path.with_name(path.name + ".ballast"), ballast_bytes)
        self._connection: sqlite3.Connection | None = None
        self._lock_fd: int | None = None
        self._heads: dict[Stream, int] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._boot = 0

    def open(self, reason: str = "fresh") -> None:
        """Take the lock, open and migrate the file, find where each stream ends.

        Args:
            reason: why a new epoch begins, if one does (`fresh`, `restored`, `salvaged`).

        Raises:
            JournalError: another process has it, the disk does not let us, or the file is damaged (see `salvage`).
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(self.path.with_name(self.path.name + ".lock"))
            self._ballast.fill()
        except OSError as error:
            raise JournalError(
                "open journal", str(self.path), error.strerror or str(error),
                "check that the directory exists, is on a writable disk and belongs to the gateway's user",
            ) from error  # fmt: skip
        with self._mapped("open journal"):
            self._connection = connect_writer(self.path, self._max_bytes)
            self._begin_epochs(reason)
            self._begin_boot()
            identity.save(self.path, self._connection)
            for stream in STREAMS:
                self._heads[stream] = self._scalar(f"SELECT coalesce(max(position), 0) FROM {stream}")  # noqa: S608
            self._remember_tail()

    def close(self) -> None:
        """Checkpoint and release; safe to call twice."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._connection.close()
            self._connection = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def append(self, drafts: Sequence[Draft], poison: Sequence[Poison] = ()) -> Appended:
        """Write events durably, in order, in one commit; when it returns they survive a power cut.

        A draft whose `dedupe` was seen within the window is not written again.

        Raises:
            JournalFull: there is no room; nothing was written, and the call may be repeated.
            JournalError: nothing more may be acknowledged.
        """
        now = self._clock.now()
        recorded_ms, boot = int(now.wall_s * 1000), self._boot
        rows: dict[Stream, list[tuple[int, int, int, bytes, bytes, int]]] = {}
        heads = self._heads.copy()
        fresh: dict[bytes, None] = {}
        duplicates = 0
        seen = self._seen
        for draft in drafts:
            dedupe = draft.dedupe
            if dedupe:
                if not draft.fresh and (dedupe in seen or dedupe in fresh):
                    duplicates += 1
                    continue
                fresh[dedupe] = None
            stream = draft.stream
            position = heads[stream] = heads[stream] + 1
            packed = pack(draft.body)
            crc = row_crc(stream, position, boot, recorded_ms, dedupe, packed)
            rows.setdefault(stream, []).append((position, boot, recorded_ms, dedupe, packed, crc))
        if rows or poison:
            self._commit(rows, poison, recorded_ms)
            self._heads = heads
            seen.update(fresh)
            while len(seen) > DEDUPE_WINDOW:
                seen.popitem(last=False)
        self.duplicates += duplicates
        return Appended(len(drafts) - duplicates, duplicates)

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one durable transaction on the writing connection and return what it returns.

        Whatever `work` raises rolls everything back and is raised here.

        Raises:
            JournalFull: there is no room for what it wrote.
            JournalError: the journal cannot be written any more.
        """
        with self._mapped("write journal"), self._transaction() as connection:
            return work(connection)

    def head(self, stream: Stream) -> int:
        """Position of the stream's newest event; 0 when there never was one."""
        return self._heads[stream]

    def fill_share(self) -> float:
        """How much of the quota is used by live pages, 0–1."""
        with self._mapped("look at journal"):
            used = self._scalar("PRAGMA page_count") - self._scalar("PRAGMA freelist_count")
            return used / self._scalar("PRAGMA max_page_count")

    def admitted(self) -> tuple[Stream, ...]:
        """The streams whose events are taken now."""
        share = self.fill_share()
        return tuple(stream for stream in STREAMS if share <= REFUSE_ABOVE[stream])

    def refill_ballast(self) -> bool:
        """Try to lay the ballast down again after it was given up; True when it lies there."""
        with contextlib.suppress(OSError):
            self._ballast.fill()
        return self._ballast.filled

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database and cut it to nothing (as far as readers allow)."""
        with self._mapped("checkpoint journal"):
            self._connected().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # -- inside

    def _commit(
        self,
        rows: dict[Stream, list[tuple[int, int, int, bytes, bytes, int]]],
        poison: Sequence[Poison],
        recorded_ms: int,
    ) -> None:
        with self._mapped("append to journal"), self._transaction() as connection:
            for stream, batch in rows.items():
                connection.executemany(_INSERT[stream], batch)
            for bad in poison:
                connection.execute(
                    "INSERT INTO quarantine (at_ms, source, driver, topic, reason, payload) VALUES (?, ?, ?, ?, ?, ?)",
                    (recorded_ms, bad.source, bad.driver, bad.topic, bad.reason, self._seal(bad.payload)),
                )
            if poison:
                connection.execute(
                    "DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (_QUARANTINE_KEPT,)
                )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _mapped(self, operation: str) -> Iterator[None]:
        """Translate SQLite's errors into what the caller may do about them."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                freed = self._ballast.release()
                raise JournalFull(
                    operation, str(self.path), "no room left on the disk or in the quota",
                    "the ballast was given up to go on; free space on the disk" if freed
                    else "raise storage.max_bytes, free space on the disk, or let the backlog reach the platform",
                ) from error  # fmt: skip
            reason = _FATAL.get(code)
            if reason is None and not isinstance(error, sqlite3.OperationalError | sqlite3.DatabaseError):
                raise
            raise JournalError(
                operation, str(self.path), f"{reason or 'SQLite refused'} ({error})",
                "run `storefront doctor`; a damaged file is set aside and salvaged at the next start",
            ) from error  # fmt: skip

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("use journal", str(self.path), "it is closed")
        return self._connection

    def _scalar(self, sql: str) -> int:
        return int(self._connected().execute(sql).fetchone()[0])

    def _begin_epochs(self, reason: str) -> None:
        """Open an epoch where a stream has none, where the gateway's name changed, or after a salvage or restore."""
        connection = self._connected()
        with self._transaction():
            for stream in STREAMS:
                current = current_epoch(connection, stream)
                if current is not None and current.gateway == self._gateway and reason == "fresh":
                    continue
                why = "renamed" if current is not None and reason == "fresh" else reason
                base = self._scalar(f"SELECT coalesce(max(position), 0) FROM {stream}")  # noqa: S608
                connection.execute(
                    "INSERT INTO epoch (stream, epoch, base, gateway, reason, opened_ms) VALUES (?, ?, ?, ?, ?, ?)",
                    (stream, secrets.token_hex(16), base, self._gateway, why, int(self._clock.now().wall_s * 1000)),
                )

    def _begin_boot(self) -> None:
        connection, boot = self._connected(), boot_id()
        with self._transaction():
            row = connection.execute("SELECT id FROM boot WHERE boot = ?", (boot,)).fetchone()
            if row is None:
                row = connection.execute("INSERT INTO boot (boot) VALUES (?) RETURNING id", (boot,)).fetchone()
            self._boot = int(row[0])

    def _remember_tail(self) -> None:
        for stream in STREAMS:
            tail = self._connected().execute(
                f"SELECT dedupe FROM {stream} WHERE position > ? ORDER BY position",  # noqa: S608 - fixed names
                (self._heads[stream] - _DEDUPE_RELOAD,),
            )
            self._seen.update((row[0], None) for row in tail if row[0])


def current_epoch(connection: sqlite3.Connection, stream: str) -> StreamEpoch | None:
    """The stream's newest epoch, or None before its first."""
    row = connection.execute(
        "SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch WHERE stream = ? "
        "ORDER BY rowid DESC LIMIT 1",
        (stream,),
    ).fetchone()
    return None if row is None else StreamEpoch(*row)


def _lock(path: Path) -> int:
    """Hold the journal's lock file; the kernel lets go of it when the process ends, however it ends."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise JournalError(
            "open journal", str(path), "another gateway process is using this journal",
            "stop it first (systemctl stop storefront), or give this one another storage.directory",
        ) from error  # fmt: skip
    return fd
