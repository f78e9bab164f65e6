"""What a power cut leaves of the last commit is no damage; what is broken before it is."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.event import Draft
from gateway.journal.pages import RawFile, frames
from gateway.journal.reader import JournalReader
from gateway.journal.salvage import SalvageReport, open_or_salvage
from gateway.journal.schema import PAGE_BYTES
from gateway.journal.writer import JournalWriter

_COMMITS = 5


def _draft(number: int) -> Draft:
    body = b'{"source":"s","type":"t","data":{"n":%d,"x":"%b"}}' % (number, os.urandom(2000).hex().encode())
    return Draft("observations", "t", body)


def _writer(path: Path) -> JournalWriter:
    return JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """A journal of five commits as a kill leaves it: all of it still in the log."""
    running = tmp_path / "running" / "journal.db"
    writer = _writer(running)
    writer.open()
    for number in range(_COMMITS):
        writer.append([_draft(number)])
    left = tmp_path / "left"
    left.mkdir()
    for name in ("journal.db", "journal.db-wal", "journal.db.identity.json"):
        shutil.copy(running.with_name(name), left / name)
    writer.close()
    return left / "journal.db"


def _break(path: Path, commit: int) -> None:
    """Overwrite the first frame of a commit with what the disk held before: nothing. Its last frame stays."""
    log = path.with_name(path.name + "-wal")
    with RawFile(log) as raw:
        all_frames = list(frames(raw, PAGE_BYTES))
    ends = [index for index, frame in enumerate(all_frames) if frame.commit]
    first = all_frames[ends[commit - 1] + 1]
    assert not first.commit
    with log.open("r+b") as file:
        file.seek(first.offset)
        file.write(bytes(512))


def _start(path: Path) -> tuple[SalvageReport | None, int]:
    writer = _writer(path)
    report = open_or_salvage(writer)
    with JournalReader(path) as reader:
        head = len(reader.read("observations", 0))
    writer.close()
    return report, head


def test_a_torn_last_commit_is_left_out_without_ado(left: Path) -> None:
    """Sectors may reach the disk in any order: a commit whose last frame is there and whose first is not was never
    acknowledged, so it is no reason for a salvage, a new epoch or a declared loss.
    """
    _break(left, -1)
    report, events = _start(left)
    assert report is None
    assert events == _COMMITS - 1


def test_a_broken_commit_with_another_behind_it_is_damage(left: Path) -> None:
    """The one behind it was acknowledged, so SQLite's silence would lose it: it is recovered."""
    _break(left, -2)
    report, events = _start(left)
    assert report is not None
    assert events >= _COMMITS - 1


def test_a_whole_log_is_no_reason_for_anything(left: Path) -> None:
    """What a kill alone leaves is opened as it is."""
    report, events = _start(left)
    assert report is None
    assert events == _COMMITS
