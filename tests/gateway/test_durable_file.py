"""Small files: whole or not at all, and for nobody else's eyes."""

from __future__ import annotations

import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.durable_file import create_file, replace_file, sync_directory


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond eight bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """The file is the owner's alone unless said otherwise, whatever the old file was; no draft stays."""
    path = tmp_path / "book"
    replace_file(path, b"old", mode=0o644)
    assert _mode(path) == 0o644
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert _mode(path) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_file_is_made_once(tmp_path: Path) -> None:
    """Who comes second does not write over the first, and leaves nothing behind."""
    path = tmp_path / "key"
    assert create_file(path, b"first")
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path, full_disk: None) -> None:
    """Neither half a file under the name nor a draft beside it."""
    path = tmp_path / "book"
    replace_file(path, b"short")
    for write in (replace_file, create_file):
        with pytest.raises(OSError, match="too large"):
            write(path, b"longer than eight bytes")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_cannot_be_taken_leaves_no_draft(tmp_path: Path) -> None:
    """A directory lies where the file should go."""
    (tmp_path / "book" / "something").mkdir(parents=True)
    with pytest.raises(OSError):
        replace_file(tmp_path / "book", b"text")
    assert [path.name for path in tmp_path.iterdir()] == ["book"]
    with pytest.raises(NotADirectoryError):
        sync_directory(Path(__file__))
