"""The journal's one writing connection: gives every event its position and makes it durable before anyone is told.

Positions run on for ever in each stream; an epoch starts the visible sequence anew (`seq = position - base`) after a
salvage, a restore or a clone. All writing — events, cursors, projections, retention — goes through `append` and
`transact` of the one object that holds the lock on the file. Knows no device, no network and no thread: the commit loop
calls it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import zlib
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.clock import Clock, boot_id
from gateway.durable_file import sync_file
from gateway.errors import JournalError, JournalFull
from gateway.event import STREAMS, Draft, Stream
from gateway.intake.inlet import Poison
from gateway.journal import cursor, identity
from gateway.journal.disk import (
    NO_ROOM,
    Ballast,
    ballast_path,
    no_more_files,
    out_of_room,
    suspect,
    take_lock,
    unusable,
)
from gateway.journal.packing import LEARNED_LIMIT, Packer, learn, row_crc, unpack
from gateway.journal.quarantine import ENTRIES_MOST, Held, hold, with_topic
from gateway.journal.remains import put_dictionaries
from gateway.journal.rows import dictionaries_of
from gateway.journal.schema import BACKUP_MARK, StreamEpoch, connect_writer, fill_share, head_of

T = TypeVar("T")

# How many of the newest facts are remembered, over a restart too: far above any in-flight window. Each stream has its
# own, and so has quarantine, so that a flood of tags never makes the journal forget its sales.
DEDUPE_WINDOW: dict[str, int] = {
    "transactions": 32_768, "measurements": 16_384, "observations": 32_768, "quarantine": ENTRIES_MOST,
}  # fmt: skip
_ROOM_TO_OPEN_BYTES = 1 << 20
_SAMPLE = 512  # newest bodies that a dictionary is learned from
_COMPARED = 128  # of them, to judge a new one by
_SAMPLE_BYTES = 4096  # a longer body is no example
_LEARN_AT = (256, 4096)  # events since the start; then again every `_LEARN_EVERY`
_LEARN_EVERY = 262_144
_LEARN_GAIN = 0.93  # a new dictionary must bring the sample below this share of its present size

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
    """What one commit did: events written, drafts that were already there, inputs newly set aside."""

    written: int
    duplicates: int
    quarantined: int = 0


class _Batch(msgspec.Struct, frozen=True):
    """Drafts with their positions, ready to be written; nothing of the writer's own state has changed yet."""

    rows: dict[Stream, list[tuple[int, int, int, bytes, bytes, int]]]
    heads: dict[Stream, int]
    remembered: dict[str, dict[bytes, None]]  # by stream, and of what is set aside
    recorded_ms: int
    drafts: int
    duplicates: int
    poison: list[Poison]


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
        self._log_path = path.with_name(path.name + "-wal")
        self.gateway = gateway
        self.clock = clock
        self.max_bytes = max_bytes
        self.duplicates = 0
        self._seal = seal
        self._ballast = Ballast(ballast_path(path), ballast_bytes)
        self._connection: sqlite3.Connection | None = None
        self._lock_fd: int | None = None
        self._heads: dict[Stream, int] = {}
        self._seen: dict[str, OrderedDict[bytes, None]] = {kind: OrderedDict() for kind in DEDUPE_WINDOW}
        self._files: list[tuple[Path, int]] = []  # with their inodes
        self._boot = 0
        self._packer = Packer()
        self._sample: deque[bytes] = deque(maxlen=_SAMPLE)
        self._taken = 0
        self._learn_at = _LEARN_AT[0]

    def open(self, reason: str = "fresh") -> None:
        """Take the lock, open and migrate the file, find where each stream ends.

        Args:
            reason: why a new epoch begins, if one does (`fresh`, `restored`, `salvaged`).

        Raises:
            JournalError: another process has it, the disk does not let us, or the file is damaged (see `salvage`).
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_fd = take_lock(self.path)
        except OSError as error:
            raise unusable(self.path, error) from error
        try:
            self._ballast.fill()
        except OSError as error:
            if error.errno not in NO_ROOM:
                self._unlock()
                raise unusable(self.path, error) from error
        had_ballast = self._ballast.filled
        try:
            self._open_database(reason)
        except JournalError:
            self._disconnect()
            if not had_ballast or not self._no_room():
                self._unlock()
                raise
            # Not even the shared-memory file fits: give the ballast up and try once more.
            self._ballast.release()
            try:
                self._open_database(reason)
            except JournalError:
                self._disconnect()
                self._unlock()
                raise

    def _open_database(self, reason: str) -> None:
        with self._mapped("open journal"):
            connection = self._connection = connect_writer(self.path, self.max_bytes)
            restored = connection.execute("PRAGMA application_id").fetchone()[0] == BACKUP_MARK
            self._begin_epochs("restored" if restored else reason)
            self._begin_boot()
            self._recover_dictionaries()
            self._name_log()
            identity.save(self.path, connection)
            self._files = [(path, path.stat().st_ino) for path in (self.path, self._log_path)]
            for stream in STREAMS:
                self._heads[stream] = head_of(connection, stream)
            self._remember_tail()
            self._take_dictionary()
            with contextlib.suppress(JournalFull):  # a dictionary can wait for room
                self._learn()

    def close(self) -> None:
        """Checkpoint and release; safe to call twice."""
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error, JournalError):
                busy = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                identity.save(self.path, self._connection, running=bool(busy))
        self._disconnect()
        self._unlock()

    @property
    def is_open(self) -> bool:
        """True between `open` and `close`."""
        return self._connection is not None

    def append(self, drafts: Sequence[Draft], poison: Sequence[Poison] = ()) -> Appended:
        """Write events durably, in order, in one commit; when it returns they survive a power cut.

        A draft whose `dedupe` was seen within the window is not written again.

        Raises:
            JournalFull: there is no room; nothing was written, and the call may be repeated.
            JournalError: nothing more may be acknowledged.
        """
        batch = self._numbered(drafts, poison)
        if batch.rows or batch.poison:
            with self._mapped("append to journal"), self._transaction() as connection:
                self._insert(connection, batch)
        return self._settled(batch)

    def record(self, work: Callable[[sqlite3.Connection], tuple[T, Sequence[Draft]]]) -> tuple[T, Appended]:
        """Run `work` and write the events that it returns, all in one durable transaction.

        For whoever keeps tables of its own that must never disagree with what was told: a coupon's use and its event.
        Whatever `work` raises rolls everything back and is raised here. The events get their positions after `work`,
        following `head_of` the connection.

        Returns:
            What `work` returned beside its events, and what became of these.

        Raises:
            JournalFull: there is no room; nothing was written, and the call may be repeated.
            JournalError: nothing more may be acknowledged.
        """
        with self._mapped("write journal", theirs=True), self._transaction() as connection:
            result, drafts = work(connection)
            batch = self._numbered(drafts)
            self._insert(connection, batch)
        return result, self._settled(batch)

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in one durable transaction on the writing connection and return what it returns.

        Whatever `work` raises rolls everything back and is raised here.

        Raises:
            JournalFull: there is no room for what it wrote.
            JournalError: the journal cannot be written any more.
        """
        with self._mapped("write journal", theirs=True), self._transaction() as connection:
            return work(connection)

    def head(self, stream: Stream) -> int:
        """Position of the stream's newest event; 0 when there never was one."""
        return self._heads[stream]

    def fill_share(self) -> float:
        """How much of the quota is used by live pages, 0–1."""
        with self._mapped("look at journal"):
            return fill_share(self._connected())

    def admitted(self) -> tuple[Stream, ...]:
        """The streams whose events are taken now. With the ballast given up, what is left of the disk is for sales."""
        if not self._ballast.filled:
            return STREAMS[:1]
        share = self.fill_share()
        return tuple(stream for stream in STREAMS if share <= REFUSE_ABOVE[stream])

    def refill_ballast(self) -> bool:
        """Lay the ballast down again after it was given up, once there is twice its room; True when it lies there."""
        if not self._ballast.filled and self._free_bytes() >= 2 * self._ballast.size_bytes:
            with contextlib.suppress(OSError):
                self._ballast.fill()
        return self._ballast.filled

    def checkpoint(self, patience_s: float = 5.0) -> bool:
        """Move the write-ahead log into the database and cut it to nothing; False when a reader is in the way.

        `patience_s`: how long readers may take to let go; nothing is written meanwhile.
        """
        with self._mapped("checkpoint journal"):
            connection = self._connected()
            waited_ms = connection.execute("PRAGMA busy_timeout").fetchone()[0]
            try:
                connection.execute(f"PRAGMA busy_timeout = {int(patience_s * 1000)}")
                return int(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]) == 0
            finally:
                connection.execute(f"PRAGMA busy_timeout = {waited_ms}")

    # -- inside

    def _numbered(self, drafts: Sequence[Draft], poison: Sequence[Poison] = ()) -> _Batch:
        """Give drafts their positions; repeats get none, and no second place in quarantine."""
        recorded_ms, boot = int(self.clock.now().wall_s * 1000), self._boot
        rows: dict[Stream, list[tuple[int, int, int, bytes, bytes, int]]] = {}
        heads = self._heads.copy()
        fresh: dict[str, dict[bytes, None]] = {kind: {} for kind in DEDUPE_WINDOW}
        duplicates = 0
        seen, sample = self._seen, self._sample.append
        pack, seed = self._packer.pack, self._packer.seed
        for draft in drafts:
            dedupe, stream = draft.dedupe, draft.stream
            if dedupe:
                if not draft.fresh and (dedupe in seen[stream] or dedupe in fresh[stream]):
                    duplicates += 1
                    continue
                fresh[stream][dedupe] = None
            position = heads[stream] = heads[stream] + 1
            packed = pack(body := draft.body)
            if len(body) <= _SAMPLE_BYTES:
                sample(body)
            crc = row_crc(stream, position, boot, recorded_ms, dedupe, packed, seed if packed[0] else 0)
            rows.setdefault(stream, []).append((position, boot, recorded_ms, dedupe, packed, crc))
        held: list[Poison] = []
        for bad in poison:
            if bad.dedupe:
                if not bad.fresh and (bad.dedupe in seen["quarantine"] or bad.dedupe in fresh["quarantine"]):
                    continue
                fresh["quarantine"][bad.dedupe] = None
            held.append(bad)
        return _Batch(rows, heads, fresh, recorded_ms, len(drafts), duplicates, held)

    def _insert(self, connection: sqlite3.Connection, batch: _Batch) -> None:
        for stream, rows in batch.rows.items():
            connection.executemany(_INSERT[stream], rows)
        for bad in batch.poison:
            sealed = self._seal(with_topic(bad.topic, bad.payload))
            held = Held(bad.source, bad.driver, bad.filter, bad.reason, sealed, bad.dedupe)
            hold(connection, batch.recorded_ms, held)

    def _settled(self, batch: _Batch) -> Appended:
        """What holds once a batch is committed."""
        self._remember(batch.remembered)
        if batch.rows:
            self._heads = batch.heads
            self._taken += batch.drafts
            if self._taken >= self._learn_at:
                self._learn_at = next((at for at in _LEARN_AT if at > self._taken), self._taken + _LEARN_EVERY)
                with contextlib.suppress(JournalFull):  # a dictionary can wait for room
                    self._learn()
        self.duplicates += batch.duplicates
        return Appended(batch.drafts - batch.duplicates, batch.duplicates, len(batch.poison))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connected()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            self._in_place()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _mapped(self, operation: str, *, theirs: bool = False) -> Iterator[None]:
        """Translate SQLite's errors into what the caller may do about them; `theirs`: the SQL is another room's."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if out_of_room(self.path, error):
                freed = self._no_room() and self._ballast.release()
                if self._connection is not None:
                    with contextlib.suppress(sqlite3.Error):  # the log's own space can be used again
                        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                raise JournalFull(
                    operation, str(self.path), "no room left on the disk or in the quota",
                    "the ballast was given up to go on; free space on the disk" if freed
                    else "raise storage.max_bytes, free space on the disk, or let the backlog reach the platform",
                ) from error  # fmt: skip
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                suspect(self.path, f"{operation}: {error}")
            reason = _FATAL.get(code)
            if reason is None and theirs:
                raise  # a mistake in the statement says nothing about the journal
            raise JournalError(
                operation, str(self.path), f"{reason or 'SQLite refused'} ({error})",
                "run `storefront doctor`; a damaged file is set aside and salvaged at the next start",
            ) from error  # fmt: skip

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise JournalError("use journal", str(self.path), "it is closed")
        return self._connection

    def _begin_epochs(self, reason: str) -> None:
        """Open an epoch where a stream has none, where the gateway's name changed, or after a salvage or restore."""
        connection = self._connected()
        with self._transaction():
            for stream in STREAMS:
                current = current_epoch(connection, stream)
                if current is not None and current.gateway == self.gateway and reason == "fresh":
                    continue
                why = "renamed" if current is not None and reason == "fresh" else reason
                base = head_of(connection, stream)
                connection.execute(
                    "INSERT INTO epoch (stream, epoch, base, gateway, reason, opened_ms) VALUES (?, ?, ?, ?, ?, ?)",
                    (stream, secrets.token_hex(16), base, self.gateway, why, int(self.clock.now().wall_s * 1000)),
                )
            cursor.ensure(connection, cursor.UPLINK, required=True)
            if connection.execute("PRAGMA application_id").fetchone()[0] == BACKUP_MARK:
                connection.execute("PRAGMA application_id = 0")  # with the epoch: a restored copy is new only once

    def _begin_boot(self) -> None:
        connection, boot = self._connected(), boot_id()
        with self._transaction():
            row = connection.execute("SELECT id FROM boot WHERE boot = ?", (boot,)).fetchone()
            if row is None:
                row = connection.execute("INSERT INTO boot (boot) VALUES (?) RETURNING id", (boot,)).fetchone()
            self._boot = int(row[0])

    def _name_log(self) -> None:
        """Let the log's name reach the disk before the identity file says that a journal without it has lost events."""
        try:
            sync_file(self._log_path)
        except OSError as error:
            raise unusable(self.path, error) from error

    def _in_place(self) -> None:
        """Refuse to commit into a file that somebody has removed or replaced: it ends with this process.

        What the log holds is brought into the database when the journal is closed, also when the log has lost its name.
        """
        for path, inode in self._files:
            try:
                if path.stat().st_ino == inode:
                    continue
                reason = "somebody has put another file in its place"
            except OSError as error:
                reason = error.strerror or str(error)
            raise JournalError(
                "write journal", str(path), reason, "leave the journal's files alone while the gateway runs"
            )

    def _remember(self, facts: Mapping[str, Iterable[bytes]]) -> None:
        for kind, new in facts.items():
            seen, most = self._seen[kind], DEDUPE_WINDOW[kind]
            for fact in new:
                seen[fact] = None
                seen.move_to_end(fact)  # it may bear an older one's name
            while len(seen) > most:
                seen.popitem(last=False)

    def _remember_tail(self) -> None:
        held = self._connected().execute("SELECT dedupe FROM quarantine ORDER BY id")
        self._remember({"quarantine": [row[0] for row in held if row[0]]})
        for stream in STREAMS:
            tail = self._connected().execute(
                f"SELECT dedupe FROM {stream} WHERE position > ? ORDER BY position",  # noqa: S608 - fixed names
                (self._heads[stream] - DEDUPE_WINDOW[stream],),
            )
            self._remember({stream: [row[0] for row in tail if row[0]]})

    def _recover_dictionaries(self) -> None:
        """Take back what only the identity file still knows, so that a dictionary's number is never given again.

        A disk that lies about having written can lose the row and keep rows that need it; under another dictionary of
        the same number they would be read as nonsense.
        """
        connection = self._connected()
        known = {int(row[0]) for row in connection.execute("SELECT id FROM dictionary")}
        missing = {n: it for n, it in identity.load(self.path).dictionaries.items() if n not in known}
        if missing:
            with contextlib.suppress(JournalFull), self._transaction():
                put_dictionaries(connection, missing, int(self.clock.now().wall_s * 1000))

    def _take_dictionary(self) -> None:
        """Pack with the newest dictionary of this journal, and look at the newest bodies to judge it by."""
        connection = self._connected()
        learned = dictionaries_of(connection)
        self._packer = Packer(*max(learned.items())) if learned else Packer()
        self._sample.clear()
        for stream in STREAMS:
            rows = connection.execute(
                f"SELECT body FROM {stream} WHERE position > ? ORDER BY position",  # noqa: S608 - fixed names
                (self._heads[stream] - _SAMPLE // 4,),
            )
            with contextlib.suppress(ValueError):  # a damaged tail is for the reader to report
                self._sample.extend(unpack(row[0], learned) for row in rows)

    def _learn(self) -> None:
        """Make a new dictionary from the newest bodies when it is clearly better than the one in use.

        It is durable, here and in the identity file, before the first row needs it.
        """
        bodies = list(self._sample)
        phrases = learn(bodies)
        if not phrases or self._packer.number >= LEARNED_LIMIT:
            return
        candidate = Packer(self._packer.number + 1, phrases)
        some = bodies[:: len(bodies) // _COMPARED + 1]
        now = sum(len(self._packer.pack(body)) for body in some)
        if sum(len(candidate.pack(body)) for body in some) > now * _LEARN_GAIN:
            return
        with self._mapped("write journal"):
            with self._transaction() as connection:
                connection.execute(
                    "INSERT OR REPLACE INTO dictionary (id, made_ms, bytes, crc) VALUES (?, ?, ?, ?)",
                    (candidate.number, int(self.clock.now().wall_s * 1000), phrases, zlib.crc32(phrases)),
                )
            identity.save(self.path, self._connected())
            self._packer = candidate

    def _free_bytes(self) -> int:
        try:
            disk = os.statvfs(self.path.parent)
        except OSError:
            return 0
        return disk.f_bavail * disk.f_frsize

    def _no_room(self) -> bool:
        return self._free_bytes() < _ROOM_TO_OPEN_BYTES or no_more_files(self.path.parent)

    def _disconnect(self) -> None:
        self._files = []
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            if identity.load(self.path).running:  # no room to say otherwise; the next start would miss the log
                with contextlib.suppress(OSError):
                    self._log_path.touch(0o600)

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def current_epoch(connection: sqlite3.Connection, stream: str) -> StreamEpoch | None:
    """The stream's newest epoch, or None before its first."""
    row = connection.execute(
        "SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch WHERE stream = ? "
        "ORDER BY rowid DESC LIMIT 1",
        (stream,),
    ).fetchone()
    return None if row is None else StreamEpoch(*row)
