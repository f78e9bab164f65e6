"""A secret of this machine in a file of its own: 32 random bytes, mode 0600, whole or not there at all.

In no backup, never on the wire. Knows what none of them is for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from gateway.errors import Unavailable

_BYTES = 32


def load_or_make(path: Path) -> bytes:
    """The secret, made when it is not there yet.

    A file of another length is set aside as `….damaged` and made anew: what hung on it is lost, as after a wipe.

    Raises:
        Unavailable: it can neither be read nor made.
    """
    try:
        if path.exists():
            key = path.read_bytes()
            if len(key) == _BYTES:
                return key
            path.replace(path.with_name(path.name + ".damaged"))
        return _make(path)
    except OSError as error:
        raise Unavailable(
            "use key", path.name, error.strerror or type(error).__name__,
            "the data directory must be writable and have room",
        ) from error  # fmt: skip


def replace_file(path: Path, content: bytes) -> None:
    """Write a small file whole, mode 0600, durably.

    Raises:
        OSError: the disk does not take it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft(path, content)
    draft.replace(path)
    _sync(path.parent)


def _make(path: Path) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = _draft(path, secrets.token_bytes(_BYTES))
    with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
        os.link(draft, path)
    draft.unlink()
    _sync(path.parent)
    return path.read_bytes()


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - wraps the descriptor opened with the narrow mode
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
