"""Is the journal whole, how big is it, and a copy of it: all while the gateway runs, without ever writing to it.

`verify` reads every row in short snapshots, so the write-ahead log is never held up; only SQLite's own structure check
needs one long look and is therefore given a time limit. `backup` holds one snapshot for as long as the copy takes.
Knows no event.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import msgspec

from gateway.durable_file import sync_directory, sync_file
from gateway.errors import JournalError
from gateway.event import STREAMS, Stream
from gateway.journal.cursor import UPLINK, Cursor, cursor_crc, position_of, positions
from gateway.journal.disk import is_there
from gateway.journal.loss import losses, lost_between
from gateway.journal.reader import StreamState, state_of
from gateway.journal.rows import RowDamaged, body_of, dictionaries_of, epochs_of
from gateway.journal.schema import BACKUP_MARK, connect_reader, head_of

Progress = Callable[[int, int], None]
"""Told (done, total) now and then: rows, or pages of a backup."""

_CHUNK = 2_000
_BACKUP_PAGES = 4_096
_FINDINGS = 200


class _Findings(list[str]):
    """What was found; the first two hundred, so that a destroyed journal does not fill the memory."""

    def append(self, finding: str) -> None:
        if len(self) < _FINDINGS:
            super().append(finding)


class StreamReport(msgspec.Struct, frozen=True):
    """What reading a stream from end to end found."""

    stream: Stream
    rows: int
    oldest: int
    head: int
    bad_rows: int  # checksum wrong, or not to be unpacked
    missing: int  # positions between oldest and head that nothing explains
    explained: int  # positions between oldest and head that a loss row explains


class VerifyReport(msgspec.Struct, frozen=True):
    """The whole check. `structure`: SQLite's own quick check."""

    path: str
    ok: bool
    structure: Literal["ok", "damaged", "not finished"]
    streams: tuple[StreamReport, ...]
    findings: tuple[str, ...]  # one sentence each, the first two hundred
    elapsed_s: float


class JournalStats(msgspec.Struct, frozen=True):
    """Sizes and counts, for the page and the commands."""

    path: str
    database_bytes: int
    wal_bytes: int
    page_bytes: int
    free_bytes: int  # inside the database, to be used again
    states: tuple[StreamState, ...]
    cursors: tuple[Cursor, ...]
    epochs: int
    quarantine_held: int
    losses: int


def verify(path: Path, progress: Progress | None = None, *, structure_s: float = 60.0) -> VerifyReport:
    """Read everything and say what is wrong; the gateway may run meanwhile.

    Args:
        path: the database file.
        progress: told how many rows are done.
        structure_s: time limit of SQLite's quick check, which holds the write-ahead log; 0 leaves it out.

    Raises:
        JournalError: there is no journal there.
    """
    started_s = time.monotonic()
    findings = _Findings()
    structure: Literal["ok", "damaged", "not finished"] = "damaged"
    streams: list[StreamReport] = []
    try:
        with _reading(path) as connection:
            structure = _structure(connection, structure_s, findings)
            total = sum(_kept(connection, stream) for stream in STREAMS)
            done = 0
            for stream in STREAMS:
                report = _verify_stream(connection, stream, findings, lambda rows: _tell(progress, done + rows, total))  # noqa: B023 - called within this turn
                streams.append(report)
                done += report.rows
            _verify_counters(connection, findings)
    except (sqlite3.Error, RowDamaged, TypeError, ValueError, IndexError) as error:
        # A damaged database may give anything for anything; whatever it gave is the finding.
        findings.append(f"reading stopped: {error}")
    except JournalError as error:
        if not _is_damage(error.__cause__):
            raise
        findings.append(f"it cannot be opened: {error.reason}")
    return VerifyReport(
        str(path), not findings and structure != "damaged", structure, tuple(streams), tuple(findings),
        time.monotonic() - started_s,
    )  # fmt: skip


def backup(path: Path, target: Path, progress: Progress | None = None) -> VerifyReport:
    """Copy the running journal into a new file, verified and on disk when this returns.

    The copy carries a mark: a gateway that opens it begins a new epoch with reason `restored`.

    Raises:
        JournalError: no journal there, no room, the target exists, or the copy is not whole (it is removed then).
    """
    if target.exists():
        raise JournalError("back up journal", str(target), "the file exists already", "give another name")
    draft = target.with_name(target.name + ".part")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with _reading(path) as connection, contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as copy:
            connection.execute("BEGIN")
            connection.execute(
                "SELECT count(*) FROM sqlite_master"
            ).fetchone()  # one snapshot: writers never restart it
            connection.backup(
                copy, pages=_BACKUP_PAGES, progress=lambda _, left, total: _tell(progress, total - left, total)
            )
            connection.execute("ROLLBACK")
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
            copy.execute(f"PRAGMA application_id = {BACKUP_MARK}")
        report = verify(draft)
        if not report.ok:
            raise JournalError(
                "back up journal", str(path), "; ".join(report.findings[:3]) or "the copy is not whole",
                "run `storefront journal verify`",
            )  # fmt: skip
        sync_file(draft)
        os.link(draft, target)  # unlike a rename, never over a file that has appeared meanwhile
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        raise JournalError(
            "back up journal", str(target), str(error), "check the directory and the free space of the target"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
    return msgspec.structs.replace(report, path=str(target))


def stats(path: Path) -> JournalStats:
    """Sizes, conservation lines and cursors; no full scan, so it costs the same at any size.

    Raises:
        JournalError: there is no journal there, or it cannot be read.
    """
    with _reading(path) as connection:
        try:
            connection.execute("BEGIN")
            pages, page_bytes, free = (
                int(connection.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_count", "page_size", "freelist_count")
            )
            wal = path.with_name(path.name + "-wal")
            return JournalStats(
                str(path), pages * page_bytes, wal.stat().st_size if wal.exists() else 0, page_bytes,
                free * page_bytes, tuple(state_of(connection, stream) for stream in STREAMS),
                tuple(positions(connection)), _count(connection, "epoch"),
                int(connection.execute("SELECT count(*) FROM quarantine WHERE state = 'held'").fetchone()[0]),
                _count(connection, "loss"),
            )  # fmt: skip
        except sqlite3.Error as error:
            raise JournalError("read journal", str(path), str(error), "run `storefront journal verify`") from error


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    if not is_there(path):
        raise JournalError(
            "read journal", str(path), "there is no journal here", "say where it is with --config, or start the gateway"
        )
    try:
        connection = connect_reader(path)
    except sqlite3.Error as error:
        raise JournalError("read journal", str(path), str(error), "check the file's permissions") from error
    try:
        yield connection
    finally:
        connection.close()


def _is_damage(error: BaseException | None) -> bool:
    """Whether SQLite could not even read the schema, as against a file that may not be read."""
    return isinstance(error, sqlite3.Error) and error.sqlite_errorcode & 0xFF in (
        sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
    )  # fmt: skip


def _structure(
    connection: sqlite3.Connection, limit_s: float, findings: _Findings
) -> Literal["ok", "damaged", "not finished"]:
    if limit_s <= 0:
        return "not finished"
    end_s = time.monotonic() + limit_s
    connection.set_progress_handler(lambda: int(time.monotonic() > end_s), 20_000)
    try:
        said = [str(row[0]) for row in connection.execute("PRAGMA quick_check(20)")]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return "not finished"
        raise
    finally:
        connection.set_progress_handler(None, 0)
    if said == ["ok"]:
        return "ok"
    findings.extend(f"structure: {line}" for line in said)
    return "damaged"


def _verify_stream(
    connection: sqlite3.Connection, stream: Stream, findings: _Findings, tell: Callable[[int], None]
) -> StreamReport:
    learned = dictionaries_of(connection)
    head = head_of(connection, stream)
    oldest = first = int(connection.execute(f"SELECT coalesce(min(position), 0) FROM {stream}").fetchone()[0])  # noqa: S608
    rows = bad = missing = explained = 0
    last = oldest - 1 if oldest else head
    while last < head:
        chunk = connection.execute(
            f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} "  # noqa: S608 - fixed names
            "WHERE position > ? AND position <= ? ORDER BY position LIMIT ?",
            (last, head, _CHUNK),
        ).fetchall()
        for row in chunk or [(head + 1, 0, 0, b"", b"", 0)]:
            position = row[0]
            if position != last + 1:
                first = int(connection.execute(f"SELECT coalesce(min(position), 0) FROM {stream}").fetchone()[0])  # noqa: S608
                gone = min(max(last, first - 1), position - 1)  # retention may have passed us
                known = lost_between(connection, stream, gone, position - 1)
                explained += known
                if unexplained := position - 1 - gone - known:
                    missing += unexplained
                    findings.append(f"{stream}: {unexplained} positions missing between {gone} and {position}")
            last = position
            if position > head:
                break
            rows += 1
            try:
                body_of(stream, row, learned)
            except RowDamaged as error:
                bad += 1
                findings.append(f"{stream} {position}: {error.reason}")
        tell(rows)
    return StreamReport(stream, rows, oldest, head, bad, missing, explained)


def _verify_counters(connection: sqlite3.Connection, findings: _Findings) -> None:
    cursors = connection.execute("SELECT name, stream, position, required, crc FROM cursor").fetchall()
    findings.extend(f"cursor {row[0]} {row[1]}: wrong checksum" for row in cursors if row[4] != cursor_crc(*row[:4]))
    for stream in STREAMS:
        connection.execute("BEGIN")
        state = state_of(connection, stream)
        cursor, head = position_of(connection, UPLINK, stream), head_of(connection, stream)
        floor = int(connection.execute(f"SELECT coalesce(min(position), 1) FROM {stream}").fetchone()[0]) - 1  # noqa: S608
        bases = [epoch.base for epoch in epochs_of(connection, stream)]
        ranges = losses(connection, stream, 0, head)
        connection.execute("ROLLBACK")
        settled = state.acked + state.quarantined + state.expired + state.declared_lost
        if settled + state.pending != state.accepted:
            findings.append(
                f"{stream}: accepted {state.accepted} is not acked {state.acked} + pending {state.pending} + "
                f"quarantined {state.quarantined} + expired {state.expired} + lost {state.declared_lost}"
            )
        if cursor > head:
            findings.append(f"{stream}: the uplink's cursor {cursor} is beyond the newest event {head}")
        explained = sum(max(0, min(last, floor) - max(first, cursor + 1) + 1) for first, last in ranges)
        if explained < floor - cursor:  # what is gone above the cursor must have been declared lost
            findings.append(f"{stream}: events {cursor + 1} to {floor} were deleted before they were delivered")
        if bases != sorted(bases):
            findings.append(f"{stream}: the epochs are out of order")


def _kept(connection: sqlite3.Connection, stream: Stream) -> int:
    low, high = connection.execute(f"SELECT min(position), max(position) FROM {stream}").fetchone()  # noqa: S608
    return 0 if low is None else int(high) - int(low) + 1


def _count(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608 - fixed names


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
