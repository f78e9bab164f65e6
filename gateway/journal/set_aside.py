"""The files of a salvage: the damaged ones get other names, and a note makes every step repeatable after a crash.

Nothing is ever deleted here but what SQLite makes anew. Knows no row.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.durable_file import replace_file, sync_directory
from gateway.journal import disk


class Note(msgspec.Struct, frozen=True):
    """What the salvage under way is: lies beside the journal from its beginning to its end."""

    damaged: str  # file name
    had_database: bool
    reason: str


def note_path(path: Path) -> Path:
    """Where the note of a salvage under way lies."""
    return path.with_name(path.name + ".salvage")


def pending(path: Path) -> str | None:
    """The reason of a salvage that was cut short, if there is one to finish.

    Raises:
        JournalError: there is one, and its note cannot be read now.
    """
    try:
        return msgspec.json.decode(note_path(path).read_bytes(), type=Note).reason
    except FileNotFoundError:
        return None
    except OSError as error:  # to go on without it would begin a new journal beside the one that was moved away
        raise disk.unusable(path, error) from error
    except msgspec.DecodeError:
        with contextlib.suppress(OSError):
            note_path(path).unlink()  # written whole before anything is moved: a torn one has moved nothing
        return None


def set_aside(path: Path, reason: str, now_ms: int) -> Note:
    """Write the note, then move the damaged files to their new names; carries on where an earlier try stopped."""
    note_file = note_path(path)
    log_path = path.with_name(path.name + "-wal")
    note: Note | None = None
    with contextlib.suppress(OSError, msgspec.DecodeError):
        note = msgspec.json.decode(note_file.read_bytes(), type=Note)
    if note is None:
        stamp = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
        why = re.sub(r"[^a-z0-9]+", "-", reason.lower())[:40].strip("-") or "damaged"
        name = f"{path.name}.damaged-{stamp}-{why}"
        while path.with_name(name).exists() or path.with_name(name + "-wal").exists():
            name += "-again"
        note = Note(name, path.exists(), reason)
        replace_file(note_file, msgspec.json.encode(note))
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
