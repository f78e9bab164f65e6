"""A start that a damaged journal cannot stop: the file is set aside, what is whole is recovered, the rest is declared.

`diagnosis` says what is damaged, `set_aside` moves the files, `recovery` fills the fresh database; this is the order of
things, each step of which can be repeated after a crash. Epochs, boots and dictionaries come from the identity file, so
a recovered event keeps its id and bytes. A new epoch begins. Knows no event type.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from pathlib import Path

import msgspec

from gateway.durable_file import sync_directory, sync_file
from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.journal import disk, erasure, tombstones
from gateway.journal.diagnosis import assess, is_damage, look
from gateway.journal.integrity import Progress
from gateway.journal.loss import LossDeclared
from gateway.journal.pages import RawFile
from gateway.journal.recovery import Recovery, StreamSalvage
from gateway.journal.schema import connect_writer
from gateway.journal.set_aside import note_path, pending, set_aside
from gateway.journal.tombstones import Tombstone
from gateway.journal.writer import JournalWriter

log = logging.getLogger(__name__)

_LEEWAY_BYTES = 64 << 20


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


def open_or_salvage(writer: JournalWriter, *, progress: Progress | None = None) -> SalvageReport | None:
    """Open the journal, salvaging it first when it is damaged; the way a gateway starts.

    Returns the report when there was a salvage; its `declared` losses want to be journaled.

    Raises:
        JournalError: what no salvage can mend: another process, a read-only or full disk, a newer schema.
        Unavailable: the file of tombstones cannot be read or written.
    """
    reason = pending(writer.path) or assess(writer.path)
    if reason is None:
        try:
            writer.open()
            look(writer.path)
            _know_erasures(writer)
        except Unavailable:
            writer.close()
            raise
        except (JournalError, sqlite3.Error, TypeError, ValueError, IndexError) as error:
            # A damaged database may give a value of any type: whatever is not a refusal is damage.
            writer.close()
            if not is_damage(error):
                raise
            reason = str(error)
        else:
            return None
    log.error("journal=damaged reason=%r action=salvage", reason)
    report = salvage(
        writer.path, progress, gateway=writer.gateway, max_bytes=writer.max_bytes, reason=reason,
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


def salvage(
    path: Path,
    progress: Progress | None = None,
    *,
    gateway: str = "",
    max_bytes: int = 4 << 30,
    reason: str = "asked for",
    now_ms: int | None = None,
) -> SalvageReport:
    """Set the database aside and put what can be recovered in its place. The gateway must not be running.

    Args:
        path: the database file.
        progress: told bytes scanned and bytes there are, when raw pages must be read.
        gateway: the gateway's name for the new epoch; as before when empty.
        max_bytes: quota of the new file.
        reason: why, for the report and the file's new name.
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
        note = set_aside(path, reason, now_ms)
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
            work = Recovery(target, path, damaged, database, wal, progress)
            work.recover_rows()
            found = work.settle(gateway, now_ms)
            report = SalvageReport(
                note.damaged, note.reason, found.streams, found.declared, found.cursors, found.quarantine,
                found.tables_copied, found.tables_lost, database.unreadable_bytes + wal.unreadable_bytes,
                time.monotonic() - started_s,
            )  # fmt: skip
            target.execute("PRAGMA synchronous = FULL")
            target.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        sync_file(fresh)
        damaged.with_name(damaged.name + "-shm").unlink(missing_ok=True)
        if wal.size == 0:  # not part of what was set aside: reading it has made an empty one
            damaged.with_name(damaged.name + "-wal").unlink(missing_ok=True)
        fresh.replace(path)
        sync_directory(path.parent)
        note_path(path).unlink()
        sync_directory(path.parent)  # or the note may come back and have all of this done again, over newer events
        disk.acquit(path)
    except sqlite3.Error as error:
        if disk.out_of_room(path, error):
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


def _unable(path: Path, error: OSError | sqlite3.Error) -> JournalError:
    kind = JournalFull if isinstance(error, OSError) and error.errno in disk.NO_ROOM else JournalError
    return kind(
        "salvage journal", str(path), getattr(error, "strerror", None) or str(error),
        "check that the directory is on a writable disk with free space and belongs to the gateway's user",
    )  # fmt: skip
