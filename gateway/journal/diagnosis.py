"""Is a journal fit to be opened? What damage looks like, before SQLite hides it or trips over it.

Some milliseconds at every start. Looks only; what is done about damage is `salvage`'s. Knows no event type.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
from pathlib import Path

import msgspec

from gateway.errors import JournalError
from gateway.event import STREAMS
from gateway.journal import disk, remains
from gateway.journal.cursor import cursor_crc
from gateway.journal.integrity import verify
from gateway.journal.pages import (
    PageSource,
    RawFile,
    RawRow,
    commit_follows_commit,
    frames,
    header_complaint,
    page_bytes_of,
    round_salt,
)
from gateway.journal.reader import JournalReader
from gateway.journal.rows import RowDamaged, row_checks
from gateway.journal.schema import connect_reader, head_of

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH}
_UNREADABLE = {266, 522}  # SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ: a dead sector


def assess(path: Path) -> str | None:
    """What makes the journal unfit to be opened, found in some milliseconds; None when nothing does.

    SQLite itself opens an emptied file, and quietly drops what follows a destroyed frame of its log; both would lose
    acknowledged events without a word. A note left by a reader that met damage leads to a full `verify`.

    Raises:
        JournalError: something that is not a file has its name, it is not ours to read, or another process moves it
            about.
    """
    try:
        return _assessed(path)
    except OSError as error:
        raise disk.unusable(path, error) from error


def _assessed(path: Path) -> str | None:
    there = path.exists()
    if there and not path.is_file():
        raise JournalError(
            "open journal", str(path), "it is not a file", "move it away, or say another storage.directory"
        )
    log = path.with_name(path.name + "-wal")
    with RawFile(path) as database, RawFile(log) as wal:
        known = remains.identity_of(path)
        if database.size == 0:
            if wal.size > 32 or any(known.heads.values()):
                return "the database file is empty" if there else "the database file is gone"
            return None
        if known.running and not log.exists():
            return "the write-ahead log is gone, and the journal was not closed"
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


def look(path: Path) -> None:
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


def is_damage(error: BaseException) -> bool:
    """Whether an error says that the file is damaged, as against busy, full, or not ours to open."""
    if isinstance(error, RowDamaged):
        return True
    cause = error if isinstance(error, sqlite3.Error) else error.__cause__
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0)
        return code in _UNREADABLE or code & 0xFF in _DAMAGE
    return not isinstance(error, JournalError)


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
        return None if not is_damage(error) else str(error)
    salt = round_salt(wal)
    unseen = [frame for frame in list(frames(wal, page_bytes))[seen:] if salt in (None, frame.salt)]
    commits = {frame.salt: frame.offset for frame in unseen if frame.commit}
    source = PageSource(database, wal, page_bytes)
    dictionaries, others = remains.dictionaries_of(path, remains.identity_of(path))
    beyond: list[int] = []

    def newer(row: RawRow) -> bool:
        fields = msgspec.structs.astuple(row)
        for stream in STREAMS:
            if row.position > heads[stream] and any(
                row_checks(stream, fields, learned) for learned in (dictionaries, others)
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
