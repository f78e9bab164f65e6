"""The supervisor with real threads; waits end by events and deadlines, never by sleeping."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from gateway.clock import FakeClock, SystemClock
from gateway.errors import JournalError, Unavailable
from gateway.runtime.backoff import Backoff
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.worker import Worker
from tests.patience import PATIENCE_S, until

Action = Callable[[], object]


class Hand:
    """A worker whose calls are written to a shared diary; `on` holds what to do besides."""

    def __init__(self, name: str, diary: list[str], **on: Action) -> None:
        self.name, self.diary, self.on = name, diary, on
        self.threads: set[int] = set()

    def _do(self, scene: str) -> None:
        self.threads.add(threading.get_ident())
        self.diary.append(f"{scene} {self.name}")
        self.on.get(scene, lambda: None)()

    def open(self) -> None:
        self._do("open")

    def step(self, stop: threading.Event) -> None:
        if "step" in self.on:
            self._do("step")
        stop.wait(0.02)

    def close(self) -> None:
        self._do("close")


def raise_(error: BaseException) -> Action:
    def action() -> None:
        raise error

    return action


class Running:
    """A supervisor under `run` on a thread of its own."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.beats = 0
        self.thread = threading.Thread(target=self._run)

    def _beat(self) -> None:
        self.beats += 1

    def _run(self) -> None:
        try:
            self.supervisor.run(self.stop, self._beat, lambda event, timeout_s: event.wait(min(timeout_s, 0.01)))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.error = error

    def start(self) -> Running:
        self.thread.start()
        until(lambda: self.beats > 0 or self.error is not None)
        return self

    def end(self, timeout_s: float = PATIENCE_S) -> list[str]:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.supervisor.stop(timeout_s)


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """What hanging workers wait for; set when the test is over, so that no thread stays behind."""
    event = threading.Event()
    yield event
    event.set()
    until(lambda: not any(thread.name.startswith("hang") for thread in threading.enumerate()))


def test_stages_close_in_order_sources_first() -> None:
    """Every worker of a stage has closed before one of the next begins to."""
    diary: list[str] = []
    supervisor = Supervisor(SystemClock())
    for name, stage in (("page", 3), ("journal", 1), ("door", 0), ("sync", 2), ("till", 0)):
        supervisor.add(name, lambda name=name: Hand(name, diary), patience_s=5, stage=stage)  # type: ignore[misc]
    running = Running(supervisor).start()
    until(lambda: len(diary) == 5)
    assert running.end() == []
    closed = [entry.split()[1] for entry in diary if entry.startswith("close")]
    assert sorted(closed[:2]) == ["door", "till"]
    assert closed[2:] == ["journal", "sync", "page"]
    assert {state.state for state in supervisor.states()} == {"stopped"}


def test_a_hanging_source_does_not_take_the_journals_time_and_is_named(released: threading.Event) -> None:
    """Stop comes back in time, says who hangs, and the stage behind it has closed."""
    diary: list[str] = []
    supervisor = Supervisor(SystemClock())
    supervisor.add("hang", lambda: Hand("hang", diary, step=lambda: released.wait(30)), patience_s=5, stage=0)
    supervisor.add("journal", lambda: Hand("journal", diary), patience_s=5, stage=1)
    running = Running(supervisor).start()
    until(lambda: {"step hang", "open journal"} <= set(diary))
    began_s = time.monotonic()
    assert running.end(3.0) == ["hang"]
    assert time.monotonic() - began_s < 20.0
    assert "close journal" in diary
    assert "close hang" not in diary


def test_each_worker_lives_on_one_thread_of_its_own() -> None:
    """open, step and close of a worker share a thread; two workers do not."""
    diary: list[str] = []
    hands = [Hand("a", diary, step=lambda: None), Hand("b", diary, step=lambda: None)]
    supervisor = Supervisor(SystemClock())
    for hand in hands:
        supervisor.add(hand.name, lambda hand=hand: hand, patience_s=5)  # type: ignore[misc]
    running = Running(supervisor).start()
    until(lambda: {"step a", "step b"} <= set(diary))
    running.end()
    assert [len(hand.threads) for hand in hands] == [1, 1]
    assert hands[0].threads != hands[1].threads


def test_a_dead_worker_is_replaced_while_the_others_work_on() -> None:
    """One crash: a fresh object, the neighbour is not touched."""
    diary: list[str] = []
    made: list[Hand] = []

    def factory() -> Worker:
        crash = raise_(ZeroDivisionError()) if not made else (lambda: None)
        made.append(Hand("gate", diary, step=crash))
        return made[-1]

    supervisor = Supervisor(SystemClock(), random.Random(1))
    supervisor.add("gate", factory, patience_s=5, backoff=Backoff(0.01, 0.02))
    supervisor.add("till", lambda: Hand("till", diary), patience_s=5)
    running = Running(supervisor).start()
    until(lambda: diary.count("step gate") >= 3)
    assert len(made) == 2
    assert [state.crashes for state in supervisor.states()] == [1, 0]
    running.end()
    assert diary.count("open till") == diary.count("close till") == 1


def test_a_journal_error_ends_run_with_that_error_and_stop_still_closes_the_rest() -> None:
    """The process ends because of the journal; sources are closed all the same, and stop does not raise it again."""
    diary: list[str] = []
    error = JournalError("commit", "journal.db", "disk I/O error")
    supervisor = Supervisor(SystemClock())
    supervisor.add("door", lambda: Hand("door", diary), patience_s=5)
    running = Running(supervisor).start()
    until(lambda: "open door" in diary)
    supervisor.add("journal", lambda: Hand("journal", diary, step=raise_(error)), patience_s=5, stage=1)
    until(lambda: running.error is not None)
    assert running.error is error
    assert running.end() == []
    assert {"close door", "close journal"} <= set(diary)


def test_an_essential_worker_ends_run_with_its_crash_and_another_does_not() -> None:
    """Essential: run raises it. Not essential: run goes on."""
    for essential in (True, False):
        error = ZeroDivisionError()
        supervisor = Supervisor(SystemClock())
        supervisor.add("x", lambda e=error: Hand("x", [], step=raise_(e)), patience_s=5, essential=essential)  # type: ignore[misc]
        running = Running(supervisor).start()
        if essential:
            until(lambda r=running: r.error is not None)  # type: ignore[misc]
            assert running.error is error
        else:
            until(lambda s=supervisor, r=running: s.states()[0].crashes == 1 and r.beats > 3)  # type: ignore[misc]
            assert running.error is None
        running.end()


def test_a_last_commit_that_fails_is_raised_by_stop() -> None:
    """A worker that cannot bring its last work into the journal while closing must not look like a clean end."""
    error = JournalError("commit", "journal.db", "disk I/O error")
    diary: list[str] = []
    supervisor = Supervisor(SystemClock())
    supervisor.add("journal", lambda: Hand("journal", diary, close=raise_(error)), patience_s=5)
    supervisor.add("page", lambda: Hand("page", diary), patience_s=5, stage=1)
    running = Running(supervisor).start()
    until(lambda: len(diary) == 2)
    with pytest.raises(JournalError) as caught:
        running.end()
    assert caught.value is error
    assert "close page" in diary


def test_workers_come_and_go_while_running() -> None:
    """Configuration reload: add starts at once, remove closes, replace closes the old and opens the new."""
    diary: list[str] = []
    supervisor = Supervisor(SystemClock())
    running = Running(supervisor).start()
    supervisor.add("a", lambda: Hand("a1", diary), patience_s=5)
    until(lambda: "open a1" in diary)
    supervisor.replace("a", lambda: Hand("a2", diary))
    until(lambda: "open a2" in diary)
    assert supervisor.remove("a")
    assert diary == ["open a1", "close a1", "open a2", "close a2"]
    assert supervisor.states() == []
    supervisor.add("a", lambda: Hand("a3", diary), patience_s=5)
    until(lambda: "open a3" in diary)
    running.end()


def test_names_are_unique_and_known() -> None:
    """A second worker of a name is refused; so is touching one that is not there."""
    supervisor = Supervisor(FakeClock())
    supervisor.add("a", lambda: Hand("a", []), patience_s=5)
    with pytest.raises(ValueError, match="a already"):
        supervisor.add("a", lambda: Hand("a", []), patience_s=5)
    with pytest.raises(KeyError):
        supervisor.remove("b")
    with pytest.raises(KeyError):
        supervisor.replace("b", lambda: Hand("b", []))
    assert supervisor.remove("a")  # never started: nothing to wait for


def test_a_stuck_worker_starves_the_watchdog_even_after_it_was_removed(released: threading.Event) -> None:
    """Only a new process cures a hanging thread, so taking it off the list must not hide it."""
    clock, diary = FakeClock(), list[str]()
    supervisor = Supervisor(clock)
    supervisor.add("hang", lambda: Hand("hang", diary, step=lambda: released.wait(30)), patience_s=5)
    running = Running(supervisor).start()
    until(lambda: "step hang" in diary)
    assert supervisor.healthy()
    clock.advance(5.1)
    assert supervisor.stuck() == ["hang"]
    assert supervisor.states()[0].stuck
    assert not supervisor.remove("hang", 0.01)
    assert not supervisor.healthy()
    released.set()
    until(supervisor.healthy)
    running.end()


def test_ready_means_that_every_essential_worker_is_open(released: threading.Event) -> None:
    """A device that is missing does not delay READY; a journal that is still opening does."""
    opened: list[str] = []
    supervisor = Supervisor(SystemClock())
    gone = Unavailable("open", "/dev/x", "not there")
    supervisor.add("hang", lambda: Hand("j", opened, open=lambda: released.wait(30)), patience_s=5, essential=True)
    supervisor.add("door", lambda: Hand("door", [], open=raise_(gone)), patience_s=5)
    assert not supervisor.ready()
    running = Running(supervisor).start()
    until(lambda: "open j" in opened and supervisor.states()[1].state == "waiting")
    assert not supervisor.ready()
    released.set()
    until(supervisor.ready)
    running.end()


def test_ten_waiting_workers_stop_at_once() -> None:
    """Back-off is a wait on the stop event: nobody sits it out."""
    supervisor = Supervisor(SystemClock())
    gone = Unavailable("open", "/dev/x", "not there")
    for number in range(10):
        supervisor.add(f"w{number}", lambda: Hand("w", [], open=raise_(gone)), patience_s=5, backoff=Backoff(60, 60))
    running = Running(supervisor).start()
    until(lambda: all(state.state == "waiting" for state in supervisor.states()))
    began_s = time.monotonic()
    assert running.end(60.0) == []
    assert time.monotonic() - began_s < 20.0


def test_what_only_looks_on_begins_after_what_takes_events_in() -> None:
    """A worker for later begins once the essential ones are open, unless it has been removed by then."""
    diary: list[str] = []
    slow = threading.Event()
    supervisor = Supervisor(SystemClock())
    supervisor.add("page", lambda: Hand("page", diary), patience_s=60, stage=3, later=True)
    supervisor.add("gone", lambda: Hand("gone", diary), patience_s=60, later=True)
    supervisor.add("journal", lambda: Hand("journal", diary, open=lambda: slow.wait(0.3)), patience_s=9, essential=True)
    supervisor.add("door", lambda: Hand("door", diary), patience_s=60)
    supervisor.remove("gone")
    running = Running(supervisor).start()
    until(lambda: "open page" in diary)
    assert diary.index("open page") > max(diary.index("open journal"), diary.index("open door"))
    assert running.end() == [] and "open gone" not in diary


def test_nothing_waits_for_ever_for_an_essential_worker_that_takes_its_time(released: threading.Event) -> None:
    """While a salvage holds the journal, the page comes and says so."""
    diary: list[str] = []
    supervisor = Supervisor(SystemClock())
    supervisor.add("page", lambda: Hand("page", diary), patience_s=60, later=True)
    supervisor.add("hang", lambda: Hand("hang", diary, open=lambda: released.wait(30)), patience_s=60, essential=True)
    running = Running(supervisor).start()
    until(lambda: "open page" in diary)
    assert not supervisor.ready()
    released.set()
    assert running.end() == []
