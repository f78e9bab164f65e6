"""Verify, backup and stats, while the gateway writes."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalError
from gateway.event import STREAMS, Draft
from gateway.journal import cursor
from gateway.journal.integrity import backup, stats, verify
from gateway.journal.reader import JournalReader
from gateway.journal.salvage import open_or_salvage
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
Everything = Callable[[Path], dict[tuple[str, int], bytes]]


@pytest.fixture
def filled(writer: JournalWriter, draft: MakeDraft) -> JournalWriter:
    """Three hundred events, some of them delivered."""
    for start in range(0, 300, 10):
        writer.append([draft(n, STREAMS[n % 3]) for n in range(start, start + 10)])
    writer.transact(lambda c: cursor.acknowledge(c, "observations", 30, {}, now_ms=1))
    return writer


def delete(connection: sqlite3.Connection, through: int) -> None:
    connection.execute("DELETE FROM observations WHERE position <= ?", (through,))


def alter(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(sql)
    connection.close()


def test_a_whole_journal_verifies(filled: JournalWriter, path: Path) -> None:
    """Every row is read, nothing is found, progress reaches the total."""
    told: list[tuple[int, int]] = []
    report = verify(path, lambda done, total: told.append((done, total)))
    assert (report.ok, report.structure, report.findings) == (True, "ok", ())
    assert [one.rows for one in report.streams] == [100, 100, 100]
    assert told[-1] == (300, 300)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "UPDATE observations SET recorded_ms = recorded_ms + 1 WHERE position = 50",
            "observations 50: the row's checksum is wrong",
        ),
        ("UPDATE measurements SET body = x'00' WHERE position = 5", "measurements 5: the row's checksum is wrong"),
        ("DELETE FROM transactions WHERE position = 40", "transactions: 1 positions missing between 39 and 41"),
        ("DELETE FROM transactions WHERE position <= 3", "events 1 to 3 were deleted before they were delivered"),
        ("UPDATE tally SET acked = 29 WHERE stream = 'observations'", "accepted 400 is not acked 29"),
        ("UPDATE cursor SET position = 31 WHERE stream = 'observations'", "cursor uplink observations: wrong checksum"),
        ("UPDATE dictionary SET bytes = x'00'", "dictionary 1"),
        ("DELETE FROM tally", "reading stopped"),
    ],
)
def test_what_is_wrong_is_found(filled: JournalWriter, draft: MakeDraft, path: Path, sql: str, said: str) -> None:
    """Each kind of damage that SQLite itself does not notice has its own sentence."""
    filled.append([draft(n, size=8) for n in range(1000, 1100)])
    filled.append([draft(n, size=8) for n in range(1100, 1300)])
    filled.close()
    alter(path, sql)
    report = verify(path)
    assert not report.ok
    assert any(said in finding for finding in report.findings), report.findings


def test_a_destroyed_page_is_found(filled: JournalWriter, path: Path) -> None:
    """SQLite's own check, or the reading, says so; nothing is raised."""
    filled.close()
    content = bytearray(path.read_bytes())
    content[30 * 1024 : 31 * 1024] = bytes(1024)
    path.write_bytes(content)
    report = verify(path)
    assert not report.ok
    assert report.structure == "damaged"


def test_no_journal_is_said_so(tmp_path: Path) -> None:
    """A path without a journal is an error with a hint, not an empty report."""
    for ask in (verify, stats):
        with pytest.raises(JournalError, match="no journal here"):
            ask(tmp_path / "nothing.db")


def test_verify_while_writing_and_deleting(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """Events appended, delivered and deleted meanwhile are no findings."""
    stop = threading.Event()
    writer.append([draft(n) for n in range(2500)])
    reports = []

    def look() -> None:
        while not stop.is_set():
            reports.append(verify(path))

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(40):
        writer.append([draft(10_000 + n * 10 + i) for i in range(10)])
        writer.transact(partial(cursor.acknowledge, stream="observations", through=(n + 1) * 50, rejected={}, now_ms=1))
        writer.transact(partial(delete, through=n * 50))
    stop.set()
    thread.join(60)
    assert reports
    assert all(report.ok for report in reports), [report.findings for report in reports if not report.ok]


def test_a_backup_is_whole_and_restores_as_a_new_epoch(
    filled: JournalWriter, draft: MakeDraft, path: Path, tmp_path: Path, everything: Everything
) -> None:
    """A copy of a running journal has the same events; opened for writing it counts anew, once, as restored."""
    target = tmp_path / "copy" / "backup.db"
    target.parent.mkdir()
    told: list[tuple[int, int]] = []
    report = backup(path, target, lambda done, total: told.append((done, total)))
    assert report.ok
    assert told[-1][0] == told[-1][1] > 0
    assert everything(target) == everything(path)
    assert (target.stat().st_mode & 0o777) == 0o600
    filled.append([draft(5000)])
    restored = JournalWriter(target, "gw01", FakeClock(), ballast_bytes=0)
    assert open_or_salvage(restored) is None
    restored.append([draft(6000)])
    with JournalReader(target) as reader:
        assert [epoch.reason for epoch in reader.epochs("observations")] == ["fresh", "restored"]
        assert reader.read("observations", 100)[0].seq == 1
    restored.close()
    restored.open()
    with JournalReader(target) as reader:
        assert len(reader.epochs("observations")) == 2, "only the first opening begins an epoch"
    restored.close()


def test_a_backup_never_overwrites(filled: JournalWriter, path: Path, tmp_path: Path) -> None:
    """An existing file is left as it is."""
    target = tmp_path / "there.db"
    target.write_text("mine")
    with pytest.raises(JournalError, match="exists already"):
        backup(path, target)
    assert target.read_text() == "mine"


def test_a_backup_of_a_damaged_journal_is_refused(filled: JournalWriter, path: Path, tmp_path: Path) -> None:
    """A copy that does not verify is not left lying about to be trusted later."""
    filled.close()
    alter(path, "UPDATE observations SET recorded_ms = 0 WHERE position = 50")
    with pytest.raises(JournalError, match="checksum is wrong"):
        backup(path, tmp_path / "b.db")
    assert [name.name for name in tmp_path.glob("b.db*")] == []


def test_a_backup_that_finds_no_directory_says_so(filled: JournalWriter, path: Path, tmp_path: Path) -> None:
    """The target's directory is missing: an error with a hint."""
    with pytest.raises(JournalError, match="check the directory"):
        backup(path, tmp_path / "nowhere" / "b.db")


def test_stats_add_up(filled: JournalWriter, path: Path) -> None:
    """Sizes and states are there with the gateway running or not."""
    running = stats(path)
    filled.close()
    stopped = stats(path)
    assert running.states == stopped.states
    assert [state.accepted for state in stopped.states] == [100, 100, 100]
    assert stopped.wal_bytes == 0 < running.wal_bytes
    assert stopped.database_bytes == path.stat().st_size
    assert {(c.stream, c.position) for c in stopped.cursors if c.name == "uplink"} == {
        ("observations", 30), ("measurements", 0), ("transactions", 0)
    }  # fmt: skip
