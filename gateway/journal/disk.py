"""Files beside the journal: the lock, which one process holds; the ballast, which holds disk space back to be given up
when the disk is full; and the suspicion, a note that the database was seen to be damaged, so that the next start looks
before it trusts it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from gateway.errors import JournalError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def ballast_path(journal: Path) -> Path:
    """Where the ballast of a journal lies."""
    return journal.with_name(journal.name + ".ballast")


def give_up_ballast(journal: Path) -> bool:
    """Remove the ballast of a journal that is not open; False when there was none."""
    path = ballast_path(journal)
    if not path.exists():
        return False
    path.unlink()
    return True


class Ballast:
    """A file of a given size beside the journal. `fill` and `release` are called by the writing thread."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """`size_bytes`: 0 keeps no ballast."""
        self._path = path
        self.size_bytes = size_bytes
        self.filled = False

    def fill(self) -> None:
        """Reserve the space for real (no hole); nothing to do where it is reserved already.

        Raises:
            OSError: the disk has no room for it, or is not writable.
        """
        if self.size_bytes <= 0:
            self.filled = True
        if self.filled:
            return
        if self._path.exists() and self._path.stat().st_size == self.size_bytes:
            self.filled = True
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self.size_bytes)
            self.filled = True
        finally:
            os.close(fd)
            if not self.filled:
                self._path.unlink(missing_ok=True)

    def release(self) -> bool:
        """Give the space back to the disk; False when there was nothing left to give."""
        self.filled = self.size_bytes <= 0
        if not self._path.exists():
            return False
        self._path.unlink()
        return True


def unusable(journal: Path, error: OSError) -> JournalError:
    """The error for a journal that the system does not let us have."""
    return JournalError(
        "open journal", str(journal), error.strerror or str(error),
        "check that the directory exists, is on a writable disk and belongs to the gateway's user",
    )  # fmt: skip


def is_there(journal: Path) -> bool:
    """Whether there is such a file.

    Raises:
        JournalError: the system does not let us look.
    """
    try:
        return journal.exists()
    except OSError as error:
        raise unusable(journal, error) from error


def no_more_files(directory: Path) -> bool:
    """Whether the file system has no inode left, however much space there is; False where it does not count them."""
    try:
        room = os.statvfs(directory)
    except OSError:
        return False
    return room.f_files > 0 and room.f_favail == 0


def out_of_room(journal: Path, error: sqlite3.Error) -> bool:
    """Whether SQLite found no room: for bytes, or for one more file beside the database."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_CANTOPEN and no_more_files(journal.parent))


def take_lock(journal: Path) -> int:
    """Hold the journal's lock file; the kernel lets go of it when the process ends, however it ends.

    Returns the descriptor to close.

    Raises:
        JournalError: another process holds it.
        OSError: the lock file cannot be made.
    """
    path = journal.with_name(journal.name + ".lock")
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


def _suspicion_path(journal: Path) -> Path:
    return journal.with_name(journal.name + ".suspect")


def suspect(journal: Path, reason: str) -> None:
    """Leave a note that the journal was seen to be damaged; from any process, and nothing happens where it cannot."""
    with contextlib.suppress(OSError):
        path = _suspicion_path(journal)
        if not path.exists():
            path.write_text(reason, "utf-8")


def suspicion(journal: Path) -> str | None:
    """What was seen, or None when nobody has complained."""
    try:
        return _suspicion_path(journal).read_text("utf-8", "replace")
    except OSError:
        return None


def acquit(journal: Path) -> None:
    """The journal was looked at, or replaced: take the note away."""
    with contextlib.suppress(OSError):
        _suspicion_path(journal).unlink()
