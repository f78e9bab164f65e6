"""Transactions with tables and events of their own: both or neither, and nobody waits for a window to fill."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalError, JournalFull
from gateway.event import Draft, Stream
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.reader import JournalReader
from gateway.journal.schema import PAGE_BYTES, head_of
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
Everything = Callable[[Path], dict[tuple[str, int], bytes]]
Work = Callable[[sqlite3.Connection], tuple[int, Sequence[Draft]]]
NEVER = threading.Event()


@pytest.fixture
def inlet() -> Inlet:
    return Inlet()


@pytest.fixture
def loop(path: Path, clock: FakeClock, inlet: Inlet) -> Iterator[CommitLoop]:
    commits = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), inlet, window_s=60.0)
    commits.open()
    yield commits
    commits.close()


def using(number: int, *drafts: Draft) -> Work:
    """Work that takes a number, once, and says so."""

    def work(connection: sqlite3.Connection) -> tuple[int, Sequence[Draft]]:
        connection.execute("CREATE TABLE IF NOT EXISTS used (number INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO used VALUES (?)", (number,))
        return number, drafts

    return work


def used(path: Path) -> list[int]:
    with JournalReader(path) as reader:
        if not reader.query("SELECT 1 FROM sqlite_master WHERE name = 'used'"):
            return []
        return [row[0] for row in reader.query("SELECT number FROM used")]


def test_table_and_event_are_there_together(
    loop: CommitLoop, path: Path, draft: MakeDraft, everything: Everything
) -> None:
    """When the future has its answer, another connection sees the row and the event."""
    future = loop.record(using(7, draft(1, "transactions"), draft(2, "measurements")))
    loop.step(NEVER)
    assert future.result(0) == 7
    assert used(path) == [7] and set(everything(path)) == {("transactions", 1), ("measurements", 1)}
    assert (loop.counters.commits, loop.counters.events) == (1, 2)


def test_what_raises_leaves_neither(loop: CommitLoop, path: Path, draft: MakeDraft, everything: Everything) -> None:
    """A second use of the same number has no row and no event, and the next event takes the next number."""
    futures = [loop.record(using(7, draft(n, "transactions"))) for n in (1, 2)] + [
        loop.record(using(8, draft(3, "transactions")))
    ]
    loop.step(NEVER)
    assert futures[0].result(0) == 7 and isinstance(futures[1].exception(0), sqlite3.IntegrityError)
    assert used(path) == [7, 8] and sorted(everything(path)) == [("transactions", 1), ("transactions", 2)]


def test_the_events_follow_the_head_that_the_work_sees(
    loop: CommitLoop, inlet: Inlet, path: Path, draft: MakeDraft
) -> None:
    """Work may compute its events' positions from the connection's head."""
    heads: list[int] = []

    def work(connection: sqlite3.Connection) -> tuple[None, Sequence[Draft]]:
        heads.append(head_of(connection, "transactions"))
        return None, (draft(len(heads), "transactions"),)

    for _ in range(3):
        loop.record(work)
    loop.step(NEVER)
    with JournalReader(path) as reader:
        assert (heads, reader.head("transactions")) == ([0, 1, 2], 3)


def test_a_full_journal_takes_neither(path: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """No room: the caller is told so, no row is left behind, and reading goes on."""
    writer = JournalWriter(path, "gw01", clock, max_bytes=200 * PAGE_BYTES, ballast_bytes=0)
    writer.open()
    number = 0
    with pytest.raises(JournalFull):
        for number in range(1, 500):
            writer.record(using(number, draft(number, "transactions", 1000)))
    head = writer.head("transactions")
    assert used(path) == list(range(1, number)) and head == number - 1
    writer.close()


def test_a_repeat_is_not_written_again(
    loop: CommitLoop, inlet: Inlet, draft: MakeDraft, path: Path, everything: Everything
) -> None:
    """The dedupe window is the same for events that come this way."""
    stream: Stream = "transactions"
    loop.record(using(1, draft(1, stream)))
    loop.step(NEVER)
    inlet.offer("pos", Item((draft(1, stream),)))
    loop.record(using(2, draft(1, stream)))
    loop.step(NEVER)
    assert len(everything(path)) == 1 and used(path) == [1, 2] and loop.counters.duplicates == 1


def test_a_window_that_is_filling_is_closed_at_once(loop: CommitLoop, inlet: Inlet, draft: MakeDraft) -> None:
    """Somebody waits at a till: with a window of a minute and an event in it, nobody waits for the window."""
    began_s = time.monotonic()
    inlet.offer("rfid", Item((draft(1),)))
    collecting = threading.Thread(target=loop.step, args=(NEVER,))
    collecting.start()
    future = loop.record(using(1))
    collecting.join()
    loop.step(NEVER)
    assert future.result(0) == 1 and time.monotonic() - began_s < 30


def test_after_the_end_there_is_an_answer(loop: CommitLoop) -> None:
    """A closed loop refuses at once instead of leaving a till waiting."""
    loop.close()
    with pytest.raises(JournalError):
        loop.record(using(1)).result(0)
