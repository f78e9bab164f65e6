"""A start that a damaged journal cannot stop: the file is set aside, what is whole is recovered, the rest is declared.

Rows come first by SQL and then, where that fails, from the raw pages of the file and its log; only rows whose checksum
fits count. Epochs, boots and dictionaries come from the identity file, so a recovered event keeps its id and bytes. A
new epoch begins. The damaged files are renamed, never deleted. A note beside the journal makes every step repeatable
after a crash. Knows no event type.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import sqlite3
import struct
import time
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.durable_file import replace_file, sync_directory
from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal import disk, erasure, remains, tombstones
from gateway.journal.cursor import PROJECTION, UPLINK, Cursor, cursor_crc
from gateway.journal.integrity import Progress, verify
from gateway.journal.loss import LossDeclared, declare, losses
from gateway.journal.packing import row_crc
from gateway.journal.pages import (
    PAGE_SIZES,
    PageSource,
    RawFile,
    RawRow,
    Wanted,
    commit_follows_commit,
    frames,
    header_complaint,
    page_bytes_of,
    round_salt,
)
from gateway.journal.reader import JournalReader
from gateway.journal.remains import Remains
from gateway.journal.rows import RowDamaged
from gateway.journal.schema import PAGE_BYTES, StreamEpoch, connect_reader, connect_writer, head_of
from gateway.journal.tombstones import Tombstone
from gateway.journal.writer import JournalWriter

log = logging.getLogger(__name__)

Redact = Callable[[Stream, RawRow], RawRow | None]
"""Told every recovered row before it is kept: gives it back, as it is or erased, or None to leave it out as a loss."""

_REASON = "salvage"
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_UNREADABLE = {266, 522}  # SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ: a dead sector
_BATCH = 2_000
_LEEWAY_BYTES = 64 << 20


class StreamSalvage(msgspec.Struct, frozen=True):
    """What became of one stream. `lost` counts undelivered events that are gone, as far as anything tells."""

    stream: Stream
    by_sql: int
    by_scan: int
    lost: int
    ranges: tuple[tuple[int, int], ...]  # positions that are gone, delivered or not
    head: int


class SalvageReport(msgspec.Struct, frozen=True):
    """What a salvage did. `declared` is for the journal itself: one loss event each."""

    set_aside: str
    reason: str
    streams: tuple[StreamSalvage, ...]
    declared: tuple[LossDeclared, ...]
    cursors_recovered: bool  # else the uplink starts again from the last known lower bound
    quarantine_recovered: int
    tables_copied: tuple[str, ...]  # of other rooms
    tables_lost: tuple[str, ...]
    unreadable_bytes: int
    elapsed_s: float


class _Note(msgspec.Struct, frozen=True):
    """What the salvage under way is: lies beside the journal from its beginning to its end."""

    damaged: str  # file name
    had_database: bool
    reason: str


def open_or_salvage(
    writer: JournalWriter, *, progress: Progress | None = None, redact: Redact | None = None
) -> SalvageReport | None:
    """Open the journal, salvaging it first when it is damaged; the way a gateway starts.

    Returns the report when there was a salvage; its `declared` losses want to be journaled.

    Raises:
        JournalError: what no salvage can mend: another process, a read-only or full disk, a newer schema.
        Unavailable: the file of tombstones cannot be read or written.
    """
    reason = _pending(writer.path) or assess(writer.path)
    if reason is None:
        try:
            writer.open()
            _look(writer.path)
            _know_erasures(writer)
        except Unavailable:
            writer.close()
            raise
        except (JournalError, sqlite3.Error, TypeError, ValueError, IndexError) as error:
            # A damaged database may give a value of any type: whatever is not a refusal is damage.
            writer.close()
            if not _is_damage(error):
                raise
            reason = str(error)
        else:
            return None
    log.error("journal=damaged reason=%r action=salvage", reason)
    report = salvage(
        writer.path, progress, gateway=writer.gateway, max_bytes=writer.max_bytes, reason=reason, redact=redact,
        now_ms=int(writer.clock.now().wall_s * 1000),
    )  # fmt: skip
    log.warning("journal=salvaged set_aside=%s lost=%d", report.set_aside, sum(one.lost for one in report.streams))
    writer.open()
    _know_erasures(writer)
    return report


def _know_erasures(writer: JournalWriter) -> None:
    """Bring the file of tombstones and the database's own list together.

    What only the file knows was erased after this database was copied or damaged, and has to be erased once more.
    """
    stones = tombstones.load(writer.path)

    def settle(connection: sqlite3.Connection) -> list[Tombstone]:
        if stones and (again := erasure.register(connection, stones, again=True)):
            log.warning(
                "erasure=again count=%d reason='the journal was restored, salvaged or stopped halfway'", len(again)
            )
        return erasure.registered(connection)

    in_file = {stone.id for stone in stones}
    tombstones.append(writer.path, [stone for stone in writer.transact(settle) if stone.id not in in_file])


def assess(path: Path) -> str | None:
    """What makes the journal unfit to be opened, found in some milliseconds; None when nothing does.

    SQLite itself opens an emptied file, and quietly drops what follows a destroyed frame of its log; both would lose
    acknowledged events without a word. A note left by a reader that met damage leads to a full `verify`.

    Raises:
        JournalError: something that is not a file has its name, or another process moves it about.
    """
    if path.exists() and not path.is_file():
        raise JournalError(
            "open journal", str(path), "it is not a file", "move it away, or say another storage.directory"
        )
    with RawFile(path) as database, RawFile(path.with_name(path.name + "-wal")) as wal:
        if database.size == 0:
            if wal.size > 32 or (path.exists() and any(remains.identity_of(path).heads.values())):
                return "the database file is empty"
            return None
        if complaint := header_complaint(database, wal):
            return complaint
        if (noted := disk.suspicion(path)) is not None:
            report = verify(path)
            if not report.ok:
                return report.findings[0] if report.findings else noted
            disk.acquit(path)
        if wal.size > 32 and (complaint := _lost_tail(path, database, wal)):
            return complaint
    return None


def salvage(
    path: Path,
    progress: Progress | None = None,
    *,
    gateway: str = "",
    max_bytes: int = 4 << 30,
    reason: str = "asked for",
    redact: Redact | None = None,
    now_ms: int | None = None,
) -> SalvageReport:
    """Set the database aside and put what can be recovered in its place. The gateway must not be running.

    Args:
        path: the database file.
        progress: told bytes scanned and bytes there are, when raw pages must be read.
        gateway: the gateway's name for the new epoch; as before when empty.
        max_bytes: quota of the new file.
        reason: why, for the report and the file's new name.
        redact: see `Redact`.
        now_ms: wall time, milliseconds since 1970.

    Raises:
        JournalError: another process holds the journal, or the disk takes nothing.
        JournalFull: there is no room for the new file; the start may be tried again.
    """
    started_s = time.monotonic()
    now_ms = int(time.time() * 1000) if now_ms is None else now_ms
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = disk.take_lock(path)
    except OSError as error:
        raise _unable(path, error) from error
    try:
        note = _set_aside(path, reason, now_ms)
        damaged = path.with_name(note.damaged)
        fresh = path.with_name(path.name + ".salvaging")
        for leftover in (fresh, *(fresh.with_name(fresh.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)
        with (
            # A little above the quota: a journal that was full must fit, with what is said about its losses.
            contextlib.closing(connect_writer(fresh, max_bytes + _LEEWAY_BYTES)) as target,
            RawFile(damaged) as database,
            RawFile(damaged.with_name(damaged.name + "-wal")) as wal,
        ):
            target.execute("PRAGMA synchronous = OFF")  # all of it is synced at the end, or made again
            work = _Work(target, path, damaged, database, wal, redact, progress)
            work.recover_rows()
            report = work.settle(note, gateway, now_ms, time.monotonic() - started_s)
            target.execute("PRAGMA synchronous = FULL")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        _sync(fresh)
        damaged.with_name(damaged.name + "-shm").unlink(missing_ok=True)
        if wal.size == 0:  # not part of what was set aside: reading it has made an empty one
            damaged.with_name(damaged.name + "-wal").unlink(missing_ok=True)
        fresh.replace(path)
        sync_directory(path.parent)
        _note_path(path).unlink()
        sync_directory(path.parent)  # or the note may come back and have all of this done again, over newer events
        disk.acquit(path)
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_FULL:
            disk.give_up_ballast(path)
            raise JournalFull(
                "salvage journal", str(path), "there is no room for the recovered events", "free space on the disk"
            ) from error
        raise _unable(path, error) from error
    except OSError as error:
        raise _unable(path, error) from error
    finally:
        os.close(lock)
    return report


class _Work:
    """One salvage: from a damaged file into a fresh one."""

    def __init__(
        self, target: sqlite3.Connection, path: Path, damaged: Path, database: RawFile, wal: RawFile,
        redact: Redact | None, progress: Progress | None,
    ) -> None:  # fmt: skip
        self._target = target
        self._damaged = damaged
        self._database = database
        self._wal = wal
        self._redact = redact
        self._progress = progress
        self._remains: Remains = remains.read(damaged, path)
        self._batch: dict[Stream, list[tuple[object, ...]]] = {stream: [] for stream in STREAMS}
        self._by_sql: dict[Stream, int] = {}

    def recover_rows(self) -> None:
        """Fill the streams of the fresh database."""
        whole = remains.read_rows(self._damaged, self._keep)
        self._flush()
        self._by_sql = {stream: self._rows(stream) for stream in STREAMS}
        whole = whole and all(self._contiguous(stream) for stream in STREAMS)
        known = page_bytes_of(self._database, self._wal) or self._remains.identity.page_bytes
        source = PageSource(self._database, self._wal, known if known in PAGE_SIZES else PAGE_BYTES)
        wanted = self._wanted()
        if not whole:
            source.database_rows(self._offer, wanted, self._tell)
        source.wal_rows(self._offer, wanted)
        self._flush()

    def _wanted(self) -> Wanted:
        """What SQL has not given: positions in a stream's gaps, below its oldest row and above its newest."""
        gaps: list[tuple[int, int]] = []
        for stream in STREAMS:
            low, high = self._target.execute(f"SELECT min(position), max(position) FROM {stream}").fetchone()  # noqa: S608
            if low is None:
                return lambda position: True
            gaps += [(0, low - 1), *self._missing(stream, low, high, low - 1), (high + 1, 1 << 62)]
        apart: list[tuple[int, int]] = []
        for first, last in sorted(gaps):
            if apart and first <= apart[-1][1] + 1:
                apart[-1] = (apart[-1][0], max(last, apart[-1][1]))
            else:
                apart.append((first, last))
        starts = [first for first, _ in apart]

        def wanted(position: int) -> bool:
            at = bisect_right(starts, position) - 1
            return at >= 0 and position <= apart[at][1]

        return wanted

    def settle(self, note: _Note, gateway: str, now_ms: int, elapsed_s: float) -> SalvageReport:
        """Write everything that is not a row: facts, cursors, counts, losses, epochs."""
        target, found = self._target, self._remains
        target.execute("BEGIN IMMEDIATE")
        target.executemany("INSERT INTO boot (id, boot) VALUES (?, ?)", sorted(found.boots.items()))
        remains.put_dictionaries(target, found.dictionaries, now_ms)
        remains.put_losses(target, [row for row in found.losses if row[1] not in STREAMS])
        remains.put_quarantine(target, found.quarantine)
        streams = [self._settle_stream(stream, gateway, now_ms) for stream in STREAMS]
        copied, lost = remains.copy_other_tables(self._damaged, target)
        target.execute("COMMIT")
        return SalvageReport(
            self._damaged.name, note.reason, tuple(one for one, _ in streams),
            tuple(loss for _, declared in streams for loss in declared),
            all((UPLINK, stream) in found.cursors for stream in STREAMS), len(found.quarantine), tuple(copied),
            tuple(lost), self._database.unreadable_bytes + self._wal.unreadable_bytes, elapsed_s,
        )  # fmt: skip

    def _settle_stream(self, stream: Stream, gateway: str, now_ms: int) -> tuple[StreamSalvage, list[LossDeclared]]:
        target, found = self._target, self._remains
        low, high = target.execute(f"SELECT min(position), max(position) FROM {stream}").fetchone()  # noqa: S608
        newest = int(high or 0)
        cursor = found.cursors.get((UPLINK, stream))
        uplink = found.identity.uplink.get(stream, 0) if cursor is None else cursor.position
        epochs = [epoch for epoch in found.epochs if epoch.stream == stream]
        head = max(
            newest, uplink, found.identity.heads.get(stream, 0), *(epoch.base for epoch in epochs),
            *(other.position for (_, where), other in found.cursors.items() if where == stream),
        )  # fmt: skip
        missing = self._missing(stream, low, head, uplink)
        self._keep_losses(stream, head, uplink)
        known = losses(target, stream, 0, head)
        lost = 0
        declared: list[LossDeclared] = []
        for first, last in _without(missing, known):
            count = max(0, last - max(first, uplink + 1) + 1)
            loss = LossDeclared(stream, first, last, count, _REASON)
            declare(target, loss, now_ms)
            lost += count
            if count:
                declared.append(loss)
        above = sum(last - max(first, uplink + 1) + 1 for first, last in missing if last > uplink)
        acked, quarantined, expired = found.tallies.get(stream, (uplink, 0, 0))
        below = uplink - acked - quarantined - expired
        if below < 0 or (cursor is None and below) or min(acked, quarantined, expired) < 0:
            acked, quarantined, expired, below = uplink, 0, 0, 0
        target.execute(
            "UPDATE tally SET acked = ?, quarantined = ?, expired = ?, declared_lost = ? WHERE stream = ?",
            (acked, quarantined, expired, below + above, stream),
        )
        for (name, where), other in found.cursors.items():
            if where == stream and name != UPLINK and not name.startswith(PROJECTION):
                _put_cursor(target, other)
        _put_cursor(target, Cursor(UPLINK, stream, uplink, True, now_ms))
        name = gateway or (epochs[-1].gateway if epochs else "gateway")
        if not epochs:
            epochs = [StreamEpoch(stream, secrets.token_hex(16), 0, name, "salvaged", now_ms)]
        epochs.append(StreamEpoch(stream, secrets.token_hex(16), head, name, "salvaged", now_ms))
        target.executemany(
            "INSERT INTO epoch (stream, epoch, base, gateway, reason, opened_ms) VALUES (?, ?, ?, ?, ?, ?)",
            [msgspec.structs.astuple(epoch) for epoch in epochs],
        )
        sql = self._by_sql[stream]
        return StreamSalvage(stream, sql, self._rows(stream) - sql, lost, tuple(missing), head), declared

    def _keep_losses(self, stream: Stream, head: int, uplink: int) -> None:
        """Carry over the stream's earlier declarations, but none that speaks of events that are there to be sent."""
        for loss in self._remains.losses:
            first, last = loss[2], loss[3]
            if loss[1] != stream or last > head:
                continue
            sql = f"SELECT 1 FROM {stream} WHERE position BETWEEN ? AND ? LIMIT 1"  # noqa: S608 - fixed names
            if last <= uplink or not self._target.execute(sql, (max(first, uplink + 1), last)).fetchone():
                remains.put_losses(self._target, [loss])

    def _missing(self, stream: Stream, low: int | None, head: int, uplink: int) -> list[tuple[int, int]]:
        """Ranges that ought to be there: from the oldest row, or from what was not delivered, up to the head."""
        first = min(low - 1 if low else head, uplink)
        gaps: list[tuple[int, int]] = []
        ordered = f"SELECT position, lag(position, 1, ?1) OVER (ORDER BY position) AS before FROM {stream}"  # noqa: S608
        rows = self._target.execute(
            f"SELECT before, position FROM ({ordered} WHERE position > ?1) WHERE position > before + 1",  # noqa: S608
            (first,),
        )
        gaps.extend((int(before) + 1, int(position) - 1) for before, position in rows)
        newest = self._target.execute(f"SELECT max(position) FROM {stream}").fetchone()[0]  # noqa: S608
        last = max(first, int(newest or 0))
        if last < head:
            gaps.append((last + 1, head))
        return gaps

    def _offer(self, row: RawRow) -> bool:
        for stream in reversed(STREAMS):  # the one with the most rows first
            if row_crc(stream, row.position, row.boot, row.recorded_ms, row.dedupe, row.packed) == row.crc:
                self._keep(stream, row)
                return True
        return False

    def _keep(self, stream: Stream, row: RawRow) -> None:
        packed = row.packed
        if packed[:1] == b"\x02" and (len(packed) < 2 or packed[1] not in self._remains.dictionaries):
            return  # whole, but nobody can read it any more
        kept = self._redact(stream, row) if self._redact else row
        if kept is None:
            return
        crc = row_crc(stream, kept.position, kept.boot, kept.recorded_ms, kept.dedupe, kept.packed)
        batch = self._batch[stream]
        batch.append((kept.position, kept.boot, kept.recorded_ms, kept.dedupe, kept.packed, crc))
        if len(batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._target.execute("BEGIN IMMEDIATE")
        for stream, batch in self._batch.items():
            self._target.executemany(
                f"INSERT OR IGNORE INTO {stream} (position, boot, recorded_ms, dedupe, body, crc) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?)",
                batch,
            )
            batch.clear()
        self._target.execute("COMMIT")

    def _rows(self, stream: Stream) -> int:
        return int(self._target.execute(f"SELECT count(*) FROM {stream}").fetchone()[0])  # noqa: S608

    def _contiguous(self, stream: Stream) -> bool:
        low, high, count = self._target.execute(
            f"SELECT min(position), max(position), count(*) FROM {stream}"  # noqa: S608 - fixed names
        ).fetchone()
        known = self._remains.identity.heads.get(stream, 0)
        return known <= (high or 0) and (low is None or high - low + 1 == count)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._database.size)


def _lost_tail(path: Path, database: RawFile, wal: RawFile) -> str | None:
    """Says so when the log holds rows of finished commits that SQLite would not give: what is before them is gone."""
    page_bytes = page_bytes_of(database, wal)
    if page_bytes is None:
        return None
    try:
        with contextlib.closing(connect_reader(path)) as connection:
            heads = {stream: head_of(connection, stream) for stream in STREAMS}
            seen = _frames_seen(path)
    except sqlite3.Error as error:
        return None if not _is_damage(error) else str(error)
    salt = round_salt(wal)
    unseen = [frame for frame in list(frames(wal, page_bytes))[seen:] if salt in (None, frame.salt)]
    commits = {frame.salt: frame.offset for frame in unseen if frame.commit}
    source = PageSource(database, wal, page_bytes)
    beyond: list[int] = []

    def newer(row: RawRow) -> bool:
        for stream in STREAMS:
            if row.position > heads[stream] and (
                row_crc(stream, row.position, row.boot, row.recorded_ms, row.dedupe, row.packed) == row.crc
            ):
                beyond.append(row.position)
                return True
        return False

    lowest = min(heads.values())
    for frame in unseen:
        if commits.get(frame.salt, -1) >= frame.offset:
            source.rows_in(wal.read(frame.offset, page_bytes), newer, lambda position: position > lowest)
            if beyond:
                # The last commit alone may be what a power cut left of it: sectors reach the disk in any order, and
                # nobody was told of it. Where another continues it, it had been synced: acknowledged events are lost.
                round_ = [one for one in unseen if one.salt == frame.salt]
                if commit_follows_commit(wal, round_, page_bytes):
                    return "the write-ahead log is damaged before its end"
                return None
    return None


def _frames_seen(path: Path) -> int:
    """How many frames of the log SQLite believes, from the wal-index of a connection that has just read; 0 if unknown.

    *Source*: SQLite WAL-mode file format, "The WAL-Index File Format": mxFrame, 32 bits in host order at offset 16.
    """
    try:
        with path.with_name(path.name + "-shm").open("rb") as index:
            head = index.read(48)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", head, 16)[0]) if len(head) == 48 and any(head) else 0


def _look(path: Path) -> None:
    """Read what a gateway needs before it does anything; raises whatever the damage makes of it."""
    with JournalReader(path) as reader:
        for stream in STREAMS:
            state = reader.state(stream)
            reader.read(stream, max(0, state.accepted - 20), 20)
            reader.read(stream, 0, 20)
        for name, where, position, required, crc in reader.query(
            "SELECT name, stream, position, required, crc FROM cursor"
        ):
            if cursor_crc(name, where, position, required) != crc:
                raise RowDamaged("open journal", f"cursor {name} {where}", "its checksum is wrong")


def _is_damage(error: BaseException) -> bool:
    if isinstance(error, RowDamaged):
        return True
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        return code in _UNREADABLE or code & 0xFF in _DAMAGE
    return not isinstance(error, JournalError)


def _note_path(path: Path) -> Path:
    return path.with_name(path.name + ".salvage")


def _pending(path: Path) -> str | None:
    """The reason of a salvage that was cut short, if there is one to finish."""
    try:
        return msgspec.json.decode(_note_path(path).read_bytes(), type=_Note).reason
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError):
        with contextlib.suppress(OSError):
            _note_path(path).unlink()  # written whole before anything is moved: a torn one has moved nothing
        return None


def _set_aside(path: Path, reason: str, now_ms: int) -> _Note:
    """Write the note, then move the damaged files to their new names; carries on where an earlier try stopped."""
    note_path = _note_path(path)
    log_path = path.with_name(path.name + "-wal")
    note: _Note | None = None
    with contextlib.suppress(OSError, msgspec.DecodeError):
        note = msgspec.json.decode(note_path.read_bytes(), type=_Note)
    if note is None:
        stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        why = re.sub(r"[^a-z0-9]+", "-", reason.lower())[:40].strip("-") or "damaged"
        name = f"{path.name}.damaged-{stamp}-{why}"
        while path.with_name(name).exists() or path.with_name(name + "-wal").exists():
            name += "-again"
        note = _Note(name, path.exists(), reason)
        replace_file(note_path, msgspec.json.encode(note))
    damaged = path.with_name(note.damaged)
    if note.had_database and not damaged.exists():
        if log_path.exists():
            log_path.rename(damaged.with_name(damaged.name + "-wal"))
        path.rename(damaged)
    elif not note.had_database and log_path.exists() and not path.exists():
        log_path.rename(damaged.with_name(damaged.name + "-wal"))
    path.with_name(path.name + "-shm").unlink(missing_ok=True)
    sync_directory(path.parent)
    return note


def _put_cursor(target: sqlite3.Connection, cursor: Cursor) -> None:
    required = int(cursor.required)
    target.execute(
        "INSERT OR REPLACE INTO cursor (name, stream, position, required, moved_ms, crc) VALUES (?, ?, ?, ?, ?, ?)",
        (
            cursor.name, cursor.stream, cursor.position, required, cursor.moved_ms,
            cursor_crc(cursor.name, cursor.stream, cursor.position, required),
        ),
    )  # fmt: skip


def _without(ranges: list[tuple[int, int]], known: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges less what is in `known`; both in order and apart."""
    out: list[tuple[int, int]] = []
    for first, last in ranges:
        start = first
        for a, b in known:
            if b < start or a > last:
                continue
            if a > start:
                out.append((start, a - 1))
            start = b + 1
        if start <= last:
            out.append((start, last))
    return out


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _unable(path: Path, error: OSError | sqlite3.Error) -> JournalError:
    kind = JournalFull if isinstance(error, OSError) and error.errno in disk.NO_ROOM else JournalError
    return kind(
        "salvage journal", str(path), getattr(error, "strerror", None) or str(error),
        "check that the directory is on a writable disk with free space and belongs to the gateway's user",
    )  # fmt: skip
