"""A small file that is there whole or not at all, and still there after a power cut.

The content goes into a draft beside it and reaches the disk; the draft takes the name in one step, and the directory
reaches the disk, too. Knows nothing of what is written.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

_PRIVATE = 0o600


def replace_file(path: Path, content: bytes, mode: int = _PRIVATE) -> None:
    """Put the content in the file's place; one that is there is replaced.

    Nobody else may replace the same file meanwhile: the draft has one name, so that what a power cut leaves of it is
    written over the next time.

    Args:
        path: of the file, in a directory that is there.
        content: all of it.
        mode: of the file, whatever the process's mask.

    Raises:
        OSError: the disk does not take it; what was there is as it was.
    """
    draft = _written(path.with_name(f".{path.name}.new"), content, mode)
    try:
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_file(path: Path, content: bytes, mode: int = _PRIVATE) -> bool:
    """Like `replace_file`, but never over a file that is there; False when one is, also one that was just made.

    Raises:
        OSError: the disk does not take it.
    """
    draft = write_draft(path, content, mode)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    sync_directory(path.parent)
    return True


def write_draft(path: Path, content: bytes, mode: int = _PRIVATE) -> Path:
    """The content durably in a file of its own beside `path`, to be renamed or removed by the caller.

    Raises:
        OSError: the disk does not take it; then there is no draft.
    """
    return _written(path.with_name(f".{path.name}.{secrets.token_hex(4)}.new"), content, mode)


def _written(draft: Path, content: bytes, mode: int) -> Path:
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, _PRIVATE)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123 - wraps the descriptor opened with the narrow mode
            os.fchmod(fd, mode)
            file.write(content)
            file.flush()
            os.fsync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    return draft


def sync_file(path: Path) -> None:
    """Have what was written to the file reach the disk, whoever wrote it.

    Raises:
        OSError: the disk does not take it.
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make a rename or a new name in the directory durable.

    Raises:
        OSError: the disk does not take it.
    """
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
