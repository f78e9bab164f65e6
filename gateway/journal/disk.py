"""The ballast: a file that holds disk space back, given up when the disk is full so that the journal can go on."""

from __future__ import annotations

import os
from pathlib import Path


class Ballast:
    """A file of a given size beside the journal. `fill` and `release` are called by the writing thread."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        """`size_bytes`: 0 keeps no ballast."""
        self._path = path
        self._size_bytes = size_bytes
        self.filled = False

    def fill(self) -> None:
        """Reserve the space for real (no hole); nothing to do where it is reserved already.

        Raises:
            OSError: the disk has no room for it, or is not writable.
        """
        if self._size_bytes <= 0 or self.filled:
            return
        if self._path.exists() and self._path.stat().st_size == self._size_bytes:
            self.filled = True
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, self._size_bytes)
            self.filled = True
        finally:
            os.close(fd)
            if not self.filled:
                self._path.unlink(missing_ok=True)

    def release(self) -> bool:
        """Give the space back to the disk; False when there was nothing left to give."""
        if not self._path.exists():
            return False
        self._path.unlink()
        self.filled = False
        return True
