"""Disks that are full or read-only, and the bounds of the write-ahead log.

The full and the read-only disk are real ones: a tmpfs of a few megabytes, mounted by the test. Where mounting is not
allowed those tests are skipped and say so; the quota (`max_page_count`) is tested everywhere.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalError, JournalFull
from gateway.event import STREAMS, Draft
from gateway.intake.inlet import Inlet, Item
from gateway.journal import cursor
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.integrity import verify
from gateway.journal.reader import JournalReader
from gateway.journal.retention import Retention, RetentionPolicy
from gateway.journal.salvage import open_or_salvage
from gateway.journal.schema import PAGE_BYTES, WAL_LIMIT_BYTES, connect_reader
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
Everything = Callable[[Path], dict[tuple[str, int], bytes]]
NEVER = threading.Event()


def _mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, timeout=90, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of three mebibytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)):
        pytest.skip("mounting a tmpfs is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=False, timeout=30)


def hog(place: Path, leave_bytes: int) -> Path:
    """Fill the disk but for so many bytes."""
    disk = os.statvfs(place)
    path = place / "hog"
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    os.posix_fallocate(fd, 0, max(1, disk.f_bavail * disk.f_frsize - leave_bytes))
    os.close(fd)
    return path


def test_a_full_disk_holds_events_and_goes_on(small_disk: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """The disk fills under the journal: the ballast is given up, low classes are refused, nothing taken is lost, and
    when there is room everything is committed and the ballast laid down again.
    """
    path = small_disk / "journal.db"
    inlet = Inlet()
    loop = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=512 << 10), inlet, window_s=0.0, batch=8)
    loop.open()
    told: list[int] = []
    hogged = hog(small_disk, 256 << 10)
    number = 0
    stop = threading.Event()
    stop.set()  # no pauses
    while loop.counters.full < 3 and number < 4000:
        inlet.offer("rfid", Item((draft(number, "observations", 1500),), partial(told.append, number)))
        inlet.offer("pos", Item((draft(10_000 + number, "transactions", 200),), lambda: told.append(-1)))
        number += 1
        loop._looked_s = 0.0
        loop.step(stop)
    assert loop.counters.full >= 3
    assert not (small_disk / "journal.db.ballast").exists()
    assert loop.admitted == ("transactions",)
    told_full = len(told)
    hogged.unlink()
    for _ in range(2 * number):
        loop._looked_s = 0.0
        loop.step(stop)
        if len(told) == 2 * number:
            break
    assert len(told) == 2 * number > told_full
    assert (small_disk / "journal.db.ballast").exists()
    assert loop.admitted == STREAMS
    loop.close()
    with JournalReader(path) as reader:
        assert reader.head("observations") == reader.head("transactions") == number
    assert verify(path).ok


def test_the_gateway_starts_on_a_full_disk(small_disk: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """With not a byte left the journal opens by giving its ballast up, and events are there to be read and sent."""
    path = small_disk / "journal.db"
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=512 << 10)
    writer.open()
    writer.append([draft(n) for n in range(50)])
    writer.close()
    hog(small_disk, 0)
    assert open_or_salvage(writer) is None
    assert writer.admitted() == ("transactions",)
    with JournalReader(path) as reader:
        assert len(reader.read("observations", 0)) == 50
    writer.transact(lambda c: cursor.acknowledge(c, "observations", 50, {}, now_ms=1))
    writer.close()


def test_retention_works_on_a_full_disk(small_disk: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """Deleting needs some room in the log; the ballast gives it."""
    path = small_disk / "journal.db"
    writer = JournalWriter(path, "gw01", clock, max_bytes=1 << 20, ballast_bytes=512 << 10)
    writer.open()
    number = 0
    while writer.fill_share() < 0.9:
        writer.append([draft(number + i, size=700) for i in range(10)])
        number += 10
    writer.checkpoint()
    hog(small_disk, 0)
    retention = Retention(RetentionPolicy(expire_above={"observations": 0.5}))
    deleted = 0
    for _ in range(50):
        try:
            swept = writer.transact(lambda c: retention.step(c, clock.now()))
        except JournalFull:
            continue  # the ballast was given up
        deleted += swept.deleted
        if not swept.more:
            break
    assert deleted > 0
    assert writer.fill_share() <= 0.5
    writer.close()


def test_a_read_only_disk_says_so(small_disk: Path, clock: FakeClock, draft: MakeDraft, everything: Everything) -> None:
    """Nothing is salvaged or moved; the message names the disk; readers still read."""
    path = small_disk / "journal.db"
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=4096)
    writer.open()
    writer.append([draft(n) for n in range(20)])
    writer.close()
    before = everything(path)
    if not _mount("-o", "remount,ro", str(small_disk)):
        pytest.skip("remounting is not allowed here")
    with pytest.raises(JournalError, match=r"read-only|Read-only"):
        open_or_salvage(writer)
    assert not list(small_disk.glob("*damaged*"))
    assert everything(path) == before
    assert verify(path).ok


def test_a_disk_that_becomes_read_only_stops_the_acknowledging(
    small_disk: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    """As flash cards do at their end: the commit fails, no receipt is given, the error ends the loop."""
    path = small_disk / "journal.db"
    inlet = Inlet()
    loop = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), inlet, window_s=0.0)
    loop.open()
    told: list[bool] = []
    # An open file keeps a tmpfs from becoming read-only; taking the write lock away by force comes nearest to it.
    loop._writer._connected().execute("PRAGMA query_only = ON")
    inlet.offer("pos", Item((draft(1, "transactions"),), lambda: told.append(True)))
    with pytest.raises(JournalError):
        loop.step(NEVER)
    loop.close()
    assert told == []


def test_the_quota_is_never_exceeded(path: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """Appending stops at the quota with JournalFull, again and again, and the file stays within it."""
    most = 400 * PAGE_BYTES
    writer = JournalWriter(path, "gw01", clock, max_bytes=most, ballast_bytes=0)
    writer.open()
    number = refused = 0
    while refused < 5:
        try:
            writer.append([draft(number + i, size=900) for i in range(5)])
            number += 5
        except JournalFull as error:
            refused += 1
            assert "storage" in error.hint
    writer.checkpoint()
    assert path.stat().st_size <= most
    assert writer.head("observations") == number
    writer.close()


def test_the_log_stays_within_its_bound(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """Under load, with a reader that holds its snapshot for a while and lets go: at most 8 MiB, also afterwards."""
    wal = path.with_name(path.name + "-wal")
    number = most = 0
    reader = connect_reader(path)
    for turn in range(90):
        if turn == 10:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM observations").fetchone()
        if turn == 20:
            reader.execute("ROLLBACK")
        for _ in range(5):
            writer.append([draft(number + i, size=1500) for i in range(40)])
            number += 40
        most = max(most, wal.stat().st_size)
    reader.close()
    assert path.stat().st_size + wal.stat().st_size > 2 * WAL_LIMIT_BYTES, "not enough was written to tell"
    assert most <= WAL_LIMIT_BYTES


def test_the_log_shrinks_after_a_long_snapshot(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """A snapshot held much too long makes the log grow; when it ends the log comes back within its bound."""
    wal = path.with_name(path.name + "-wal")
    reader = connect_reader(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM observations").fetchone()
    number = 0
    while wal.stat().st_size <= WAL_LIMIT_BYTES:
        writer.append([draft(number + i, size=3000) for i in range(40)])
        number += 40
    reader.close()
    for _ in range(3):
        writer.append([draft(number + i, size=3000) for i in range(10)])
        number += 10
    assert wal.stat().st_size <= WAL_LIMIT_BYTES


def test_a_power_cut_anywhere_in_the_log_loses_nothing_returned(
    path: Path, tmp_path: Path, clock: FakeClock, draft: MakeDraft, everything: Everything
) -> None:
    """After each commit the files are copied with the log cut at arbitrary bytes beyond the last sync: every event
    whose append had returned is there, byte for byte, and none that was never offered or is torn.
    """
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    wal = path.with_name(path.name + "-wal")
    offered: dict[tuple[str, int], bytes] = {}
    returned: dict[tuple[str, int], bytes] = {}
    number = cuts = 0
    for commit in range(14):
        synced = wal.stat().st_size
        files = {name.name: name.read_bytes() for name in (path, path.with_name(path.name + ".identity.json"))}
        writer.append([draft(number + i, STREAMS[(number + i) % 3], 5000 if i == 5 else 150) for i in range(8)])
        number += 8
        offered = everything(path)
        after = wal.read_bytes()
        for cut in sorted({synced, synced + 1, synced + 31, (synced + len(after)) // 2, len(after) - 1, len(after)}):
            place = tmp_path / f"cut-{commit}-{cut}"
            place.mkdir()
            for name, content in files.items():
                (place / name).write_bytes(content)
            (place / wal.name).write_bytes(after[:cut])
            again = JournalWriter(place / path.name, "gw01", clock, ballast_bytes=0)
            report = open_or_salvage(again)
            found = everything(place / path.name)
            assert report is None, "an ordinary power cut needs no salvage"
            assert {event: found.get(event) for event in returned} == returned
            assert {event: json for event, json in found.items() if offered.get(event) != json} == {}
            again.append([draft(90_000 + cut)])
            assert verify(place / path.name).ok
            again.close()
            shutil.rmtree(place)
            cuts += 1
        returned = offered
    assert cuts > 60
    writer.close()


def test_killed_in_the_middle_of_a_commit(path: Path, clock: FakeClock, everything: Everything) -> None:
    """A process killed without warning after some appends: all that it reported is there."""
    code = (
        "import os; from pathlib import Path; from gateway.clock import SystemClock\n"
        "from gateway.event import Draft\n"
        "from gateway.journal.writer import JournalWriter\n"
        f"w = JournalWriter(Path({str(path)!r}), 'gw01', SystemClock(), ballast_bytes=0); w.open()\n"
        "for n in range(100000):\n"
        "    w.append([Draft('observations', 'store.test.v1', b'{\"n\":%d}' % n)])\n"
        "    os.write(1, b'%d\\n' % n)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(40)]
    process.kill()
    lines += process.stdout.readlines()
    process.wait(30)
    process.stdout.close()
    reported = int([line for line in lines if line.endswith(b"\n")][-1])
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    assert open_or_salvage(writer) is None
    assert len(everything(path)) >= reported + 1
    writer.close()


@pytest.mark.parametrize("name", ["journal.db", "journal.db-wal"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    path: Path, clock: FakeClock, draft: MakeDraft, everything: Everything, name: str, how: str
) -> None:
    """Somebody tidies up, or restores a copy, while the gateway runs: the next commit fails instead of vanishing, and
    where only the log was taken nothing of what was committed before is missing.
    """
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    writer.append([draft(n, "transactions") for n in range(20)])
    before = everything(path)
    file = path.with_name(name)
    if how == "replaced":
        copy = file.with_name("copy")
        shutil.copy(file, copy)
        copy.replace(file)
    else:
        file.unlink()
    with pytest.raises(JournalError, match="write journal"):
        writer.append([draft(100)])
    writer.close()
    if name.endswith("-wal"):
        assert open_or_salvage(writer) is None
        writer.close()
        assert everything(path) == before
    elif how == "removed":
        report = open_or_salvage(writer)
        writer.close()
        assert report is not None
        assert {one.stream: one.lost for one in report.streams}["transactions"] == 20
