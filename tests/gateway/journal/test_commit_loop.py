"""The commit loop: receipts after commits, a full journal, handed-in transactions, stopping."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.event import STREAMS, Draft, Stream
from gateway.intake.inlet import Inlet, Item, Poison
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.reader import JournalReader
from gateway.journal.schema import PAGE_BYTES
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
NEVER = threading.Event()
AT_ONCE = threading.Event()
AT_ONCE.set()


@pytest.fixture
def inlet() -> Inlet:
    return Inlet()


@pytest.fixture
def loop(path: Path, clock: FakeClock, inlet: Inlet) -> Iterator[CommitLoop]:
    commits = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), inlet, window_s=0.0)
    commits.open()
    yield commits
    commits.close()


def small(path: Path, clock: FakeClock, pages: int = 400) -> JournalWriter:
    """A journal with a quota of so many pages."""
    return JournalWriter(path, "gw01", clock, max_bytes=pages * PAGE_BYTES, ballast_bytes=0)


def count(path: Path, stream: str) -> int:
    """Rows that another connection can see."""
    with JournalReader(path) as reader:
        return int(reader.query(f"SELECT count(*) FROM {stream}")[0][0])


def test_a_receipt_comes_after_the_commit(loop: CommitLoop, inlet: Inlet, draft: MakeDraft, path: Path) -> None:
    """When a source is told, another connection already sees the event."""
    seen: list[int] = []
    for number in range(3):
        inlet.offer("pos", Item((draft(number, "transactions"),), lambda: seen.append(count(path, "transactions"))))
    loop.step(NEVER)
    assert seen == [3, 3, 3]
    assert (loop.counters.commits, loop.counters.events) == (1, 3)


def test_poison_is_acknowledged_after_its_commit(loop: CommitLoop, inlet: Inlet, path: Path) -> None:
    """An input that cannot become an event is durable in quarantine before its source is told."""
    seen: list[int] = []
    inlet.offer(
        "pos", Item((), lambda: seen.append(count(path, "quarantine")), (Poison("pos", "pos_json", "no", b"{"),))
    )
    loop.step(NEVER)
    assert seen == [1]


def test_a_repeat_is_acknowledged_too(loop: CommitLoop, inlet: Inlet, draft: MakeDraft) -> None:
    """A redelivered message gets its receipt although nothing is written."""
    told: list[int] = []
    for number in range(2):
        inlet.offer("pos", Item((draft(1),), partial(told.append, number)))
        loop.step(NEVER)
    assert told == [0, 1]
    assert loop.counters.duplicates == 1


class Broken(JournalWriter):
    """A journal whose disk stops answering."""

    failing = False

    def append(self, drafts, poison=()):  # type: ignore[no-untyped-def]
        if self.failing:
            raise JournalError("append to journal", str(self.path), "the disk does not answer")
        return super().append(drafts, poison)


def test_a_failed_commit_tells_nobody_and_ends_the_loop(
    path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft
) -> None:
    """When the journal cannot be trusted no receipt is given and the error comes out."""
    writer = Broken(path, "gw01", clock, ballast_bytes=0)
    loop = CommitLoop(writer, inlet, window_s=0.0)
    loop.open()
    writer.failing = True
    told: list[bool] = []
    inlet.offer("pos", Item((draft(1),), lambda: told.append(True)))
    with pytest.raises(JournalError, match="does not answer"):
        loop.step(NEVER)
    loop.close()
    assert told == []
    assert not writer.is_open


def test_closing_after_a_failed_open_is_harmless(tmp_path: Path, clock: FakeClock, inlet: Inlet) -> None:
    """A loop that never opened closes without an error and refuses transactions for now, which ends nobody."""
    (tmp_path / "file").write_text("x")
    loop = CommitLoop(JournalWriter(tmp_path / "file" / "j.db", "gw01", clock), inlet)
    with pytest.raises(JournalError, match="check that the directory"):
        loop.open()
    loop.close()
    with pytest.raises(Unavailable, match="not be opened"):
        loop.submit(lambda connection: None).result(1)


def test_a_full_journal_refuses_the_least_important_first(
    path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft
) -> None:
    """As the quota fills, observations stay at the inlet first, then measurements; sales are taken till the end."""
    loop = CommitLoop(small(path, clock), inlet, window_s=0.0)
    loop.open()
    refused: list[tuple[Stream, ...]] = []
    number = 0
    while loop.admitted != ("transactions",) and number < 4000:
        inlet.offer("pos", Item(tuple(draft(number + i, "transactions", 600) for i in range(8))))
        number += 8
        loop._looked_s = 0.0
        loop.step(AT_ONCE)
        if not refused or refused[-1] != loop.admitted:
            refused.append(loop.admitted)
    assert refused == [STREAMS, ("transactions", "measurements"), ("transactions",)]
    inlet.offer("rfid", Item((draft(90_001, "observations"),)))
    inlet.offer("pos", Item((draft(90_002, "transactions"),)))
    before = count(path, "transactions")
    loop.step(AT_ONCE)
    assert count(path, "transactions") == before + 1
    assert count(path, "observations") == 0
    assert inlet.size == 1
    loop.close()


def test_what_finds_no_room_is_held_and_comes_in_when_there_is(
    path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft
) -> None:
    """Full: nothing taken is dropped or told; after a deletion everything held is committed, once, then told."""
    writer = small(path, clock, pages=200)
    loop = CommitLoop(writer, inlet, window_s=0.0)
    loop.open()
    told: list[int] = []
    number = 0
    while not loop.counters.full:
        drafts = tuple(draft(number + i, "transactions", 600) for i in range(8))
        inlet.offer("pos", Item(drafts, partial(told.append, number)))
        number += 8
        loop.step(AT_ONCE)
    waiting = number // 8 - len(told)
    assert waiting >= 1
    loop.step(AT_ONCE)
    assert len(told) + waiting == number // 8, "nothing is told while there is no room"
    room = loop.submit(lambda connection: connection.execute("DELETE FROM transactions WHERE position <= 100").rowcount)
    loop.step(AT_ONCE)
    assert room.result(0) == 100
    loop.step(AT_ONCE)
    assert len(told) == number // 8
    assert writer.head("transactions") == number
    loop.close()


def test_held_observations_do_not_keep_sales_out(path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft) -> None:
    """A batch too large for what room is left waits, while a small sale still gets in."""
    writer = small(path, clock, pages=300)
    loop = CommitLoop(writer, inlet, window_s=0.0)
    loop.open()
    told: list[str] = []
    inlet.offer("rfid", Item(tuple(draft(n, "observations", 2000) for n in range(250)), lambda: told.append("rfid")))
    loop.step(AT_ONCE)
    assert loop.counters.full == 1
    inlet.offer("pos", Item((draft(9_000, "transactions"),), lambda: told.append("pos")))
    loop.step(AT_ONCE)
    assert told == ["pos"]
    loop.close()


def test_submitted_work_runs_between_commits_in_one_transaction(loop: CommitLoop, path: Path) -> None:
    """The future gives the result; what the work raises comes back to whoever asked, and the loop goes on."""
    done = loop.submit(lambda connection: connection.execute("UPDATE tally SET acked = 0").rowcount)
    failed = loop.submit(lambda connection: connection.execute("SELECT * FROM nowhere"))
    loop.step(NEVER)
    assert done.result(0) == 3
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        failed.result(0)


def test_submitting_wakes_a_waiting_loop(loop: CommitLoop) -> None:
    """Work handed in by another thread does not wait for an event."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            loop.step(stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert loop.submit(lambda connection: 7).result(30) == 7
    finally:
        stop.set()
        thread.join(60)


def test_stopping_drains_the_inlet(path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft) -> None:
    """Everything accepted before the stop is committed and told; work handed in before it runs."""
    loop = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), inlet, window_s=0.0)
    loop.open()
    told: list[int] = []
    for number in range(700):
        inlet.offer("rfid", Item((draft(number),), partial(told.append, number)))
    work = loop.submit(lambda connection: 3)
    loop.close()
    assert told == list(range(700))
    assert work.result(0) == 3
    assert count(path, "observations") == 700
    with pytest.raises(JournalError, match="stopping"):
        loop.submit(lambda connection: None).result(0)


def test_full_while_stopping_leaves_events_unacknowledged(
    path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft
) -> None:
    """A stop does not wait for room: what cannot be written is not told, so its source sends it again."""
    loop = CommitLoop(small(path, clock, pages=120), inlet, window_s=0.0)
    loop.open()
    told: list[bool] = []
    inlet.offer("rfid", Item(tuple(draft(n, size=2000) for n in range(250)), lambda: told.append(True)))
    loop.close()
    assert told == []


def test_submitted_work_that_finds_no_room_says_so(path: Path, clock: FakeClock, inlet: Inlet) -> None:
    """JournalFull reaches whoever submitted the work; the loop lives on."""
    loop = CommitLoop(small(path, clock, pages=100), inlet, window_s=0.0)
    loop.open()
    work = loop.submit(lambda connection: connection.execute("INSERT INTO boot (boot) VALUES (zeroblob(400000))"))
    loop.step(NEVER)
    with pytest.raises(JournalFull, match="no room"):
        work.result(0)
    assert loop.submit(lambda connection: 1) is not None
    loop.step(NEVER)
    loop.close()


def test_a_damaged_journal_does_not_stop_the_start(
    path: Path, clock: FakeClock, inlet: Inlet, draft: MakeDraft
) -> None:
    """The loop salvages on opening and says what happened."""
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    writer.append([draft(number) for number in range(40)])
    writer.close()
    path.write_bytes(b"not a database at all" + path.read_bytes()[21:])
    loop = CommitLoop(writer, inlet, window_s=0.0)
    loop.open()
    assert loop.salvaged is not None
    assert count(path, "observations") == 40
    loop.close()


def test_a_loop_that_could_not_be_opened_serves_after_the_next_try(path: Path, clock: FakeClock) -> None:
    """The disk was full at the start: nobody is told that the gateway stops, and the same loop goes on later."""
    loop = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), Inlet(), window_s=0.0)
    path.mkdir()  # something that no journal can be opened in
    with pytest.raises(JournalError):
        loop.open()
    waiting = loop.submit(lambda connection: 7)
    loop.close()
    with pytest.raises(Unavailable):
        waiting.result(1)
    path.rmdir()
    loop.open()
    later = loop.submit(lambda connection: 8)
    loop.step(threading.Event())
    assert later.result(1) == 8
    loop.close()
    with pytest.raises(JournalError, match="stopping"):
        loop.submit(lambda connection: 9).result(1)
