"""The shell around one worker, turned by hand."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from random import Random

import pytest

from gateway.clock import FakeClock
from gateway.errors import ConfigError, JournalError, JournalFull, Rejected, Unavailable
from gateway.runtime.backoff import Backoff
from gateway.runtime.shell import SLOW, STEADY_S, Shell
from gateway.runtime.worker import Worker

PHONE = "13800138000"
GONE = Unavailable("open", "/dev/serial/by-id/gate", "no such file", "is the cable plugged in?")


class Troupe:
    """A factory of numbered workers that do what the script says and write every call to one diary."""

    def __init__(self, **script: Callable[[int], None]) -> None:
        self.script = script
        self.diary: list[str] = []
        self.made = 0

    def play(self, scene: str, number: int) -> None:
        self.diary.append(f"{scene} {number}")
        if (action := self.script.get(scene)) is not None:
            action(number)

    def __call__(self) -> Worker:
        self.made += 1
        self.play("make", self.made)
        return Player(self, self.made)


class Player:
    def __init__(self, troupe: Troupe, number: int) -> None:
        self.troupe, self.number = troupe, number

    def open(self) -> None:
        self.troupe.play("open", self.number)

    def step(self, stop: threading.Event) -> None:
        self.troupe.play("step", self.number)

    def close(self) -> None:
        self.troupe.play("close", self.number)


def raising(error: BaseException, first: int = 10**9) -> Callable[[int], None]:
    """Raise it, in the first so many workers."""

    def action(number: int) -> None:
        if number <= first:
            raise error

    return action


def new_shell(clock: FakeClock, troupe: Troupe, *, essential: bool = False, patience_s: float = 5.0) -> Shell:
    return Shell(
        "gate", troupe, clock, Random(7),
        patience_s=patience_s, backoff=Backoff(1.0, 4.0), essential=essential, stage=0,
    )  # fmt: skip


def turn(shell: Shell, clock: FakeClock, times: int = 1) -> list[float]:
    """Turn so many times; waits pass on the fake clock. Returns the waits."""
    waits_s = []
    for _ in range(times):
        if shell.ended:
            break
        pause_s = shell.turn()
        if pause_s:
            waits_s.append(pause_s)
            clock.advance(pause_s)
    return waits_s


def test_a_life_is_make_open_steps_close() -> None:
    """One object: made, opened, stepped, closed once, then nothing more."""
    clock, troupe = FakeClock(), Troupe()
    shell = new_shell(clock, troupe)
    turn(shell, clock, 3)
    shell.end()
    turn(shell, clock, 5)
    assert troupe.diary == ["make 1", "open 1", "step 1", "step 1", "close 1"]
    assert shell.ended
    assert shell.state().state == "stopped"


@pytest.mark.parametrize("scene", ["make", "open", "step"])
def test_an_outage_closes_the_object_and_a_fresh_one_follows_after_a_wait(scene: str) -> None:
    """Unavailable anywhere: what was made is closed, a wait, then a new object that works."""
    clock, troupe = FakeClock(), Troupe(**{scene: raising(GONE, first=1)})
    shell = new_shell(clock, troupe)
    turns = 2 if scene == "step" else 1
    assert len(turn(shell, clock, turns)) == 1
    assert ("close 1" in troupe.diary) == (scene != "make")
    assert shell.state().outages == 1
    assert shell.state().crashes == 0
    turn(shell, clock, 2)
    assert troupe.diary[-3:] == ["make 2", "open 2", "step 2"]
    assert shell.state().state == "running"


def test_waiting_tells_a_person_why_what_to_do_and_when_the_next_try_is() -> None:
    """State, reason, hint and time of an outage are in the snapshot, and gone when it is over."""
    clock, troupe = FakeClock(), Troupe(open=raising(GONE, first=1))
    shell = new_shell(clock, troupe)
    pause_s = shell.turn()
    state = shell.state()
    assert (state.state, state.hint) == ("waiting", "is the cable plugged in?")
    assert "no such file" in state.reason
    assert state.next_try_s == pytest.approx(pause_s)
    clock.advance(pause_s)
    turn(shell, clock, 2)
    assert (shell.state().reason, shell.state().next_try_s) == ("", None)


def test_a_wait_that_ends_early_does_not_try_early() -> None:
    """A turn before the next try waits for the rest of the time."""
    clock, troupe = FakeClock(), Troupe(open=raising(GONE))
    shell = new_shell(clock, troupe)
    pause_s = shell.turn()
    clock.advance(pause_s / 4)
    assert shell.turn() == pytest.approx(pause_s * 3 / 4)
    assert troupe.made == 1


def test_an_outage_all_night_is_tried_for_ever_within_the_cap() -> None:
    """A thousand outages are no crash, never `failed`, and never further apart than the cap."""
    clock, troupe = FakeClock(), Troupe(open=raising(GONE))
    shell = new_shell(clock, troupe)
    waits_s = turn(shell, clock, 1000)
    assert troupe.made == 1000
    assert max(waits_s) <= 4.0
    assert min(waits_s[3:]) >= 2.0
    assert shell.state().state == "waiting"


def test_a_steady_run_makes_the_next_outage_short_again() -> None:
    """After ten seconds of work the back-off starts from its base; a short run leaves it long."""
    for run_s, expected_tries in ((STEADY_S + 1, 1), (STEADY_S / 2, 5)):
        clock, troupe = FakeClock(), Troupe(open=raising(GONE, first=4))
        shell = new_shell(clock, troupe)
        turn(shell, clock, 5)
        clock.advance(run_s)
        turn(shell, clock)
        troupe.script["step"] = raising(GONE, first=5)
        turn(shell, clock)
        assert shell._backoff.tries == expected_tries


def test_crashes_use_up_the_budget_then_are_tried_slowly_and_shown_as_failed() -> None:
    """Five quick restarts, then `failed` with waits of 12 to 25 s; a steady run ends the alarm."""
    clock, troupe = FakeClock(), Troupe(step=raising(ZeroDivisionError(), first=8))
    shell = new_shell(clock, troupe)
    waits_s = turn(shell, clock, 16)
    assert max(waits_s[:5]) <= 4.0
    assert min(waits_s[5:]) >= SLOW.cap_s / 2 * 0.99
    assert max(waits_s) <= SLOW.cap_s < 30.0
    assert shell.state().state == "failed"
    assert shell.state().crashes == 8
    turn(shell, clock, 2)
    clock.advance(STEADY_S)
    turn(shell, clock, 1)
    troupe.script["step"] = raising(ZeroDivisionError(), first=9)
    clock.advance(60.0)
    assert turn(shell, clock, 1)[0] <= 4.0
    assert shell.state().state == "waiting"


def test_a_wrong_configuration_is_failed_at_once_and_tried_slowly() -> None:
    """ConfigError needs a person: `failed` with the hint, no crash counted, no quick tries."""
    clock = FakeClock()
    shell = new_shell(clock, Troupe(open=raising(ConfigError("open", "/tmp", "a directory", "give a device"))))
    (wait_s,) = turn(shell, clock)
    assert wait_s >= 12.0
    assert (shell.state().state, shell.state().hint, shell.state().crashes) == ("failed", "give a device", 0)


@pytest.mark.parametrize("scene", ["make", "open", "step", "close"])
def test_a_journal_error_anywhere_is_fatal(scene: str) -> None:
    """JournalError ends the shell with that error, even out of `close`, even of a worker that is not essential."""
    clock, error = FakeClock(), JournalError("commit", "journal.db", "disk I/O error")
    shell = new_shell(clock, Troupe(**{scene: raising(error)}))
    turn(shell, clock, 2)
    shell.end()
    turn(shell, clock)
    assert shell.ended
    assert shell.fatal is error


def test_a_journal_error_of_close_outranks_the_crash_before_it() -> None:
    """When step crashes and close cannot commit, the process ends because of the journal."""
    clock, error = FakeClock(), JournalError("commit", "journal.db", "disk I/O error")
    shell = new_shell(clock, Troupe(step=raising(KeyError("x")), close=raising(error)))
    turn(shell, clock, 2)
    assert shell.fatal is error


def test_a_full_journal_is_an_outage() -> None:
    """JournalFull that leaks from a worker must not restart the process: that makes no room."""
    clock = FakeClock()
    shell = new_shell(clock, Troupe(step=raising(JournalFull("append", "journal.db", "quota"))), essential=True)
    turn(shell, clock, 4)
    assert not shell.ended
    assert shell.state().outages == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), Rejected("a", "b", "c"), ConfigError("a", "b", "c"), SystemExit(3)]
)
def test_an_essential_worker_may_only_be_unavailable(error: BaseException) -> None:
    """Whatever else an essential worker raises is fatal."""
    clock = FakeClock()
    shell = new_shell(clock, Troupe(step=raising(error)), essential=True)
    turn(shell, clock, 2)
    assert shell.fatal is error
    outage = new_shell(clock, Troupe(step=raising(GONE)), essential=True)
    turn(outage, clock, 6)
    assert outage.fatal is None


def test_a_worker_that_calls_exit_is_a_crash_not_a_lost_thread() -> None:
    """SystemExit from a library ends one object, not the thread that should replace it."""
    clock, troupe = FakeClock(), Troupe(step=raising(SystemExit(1), first=1))
    shell = new_shell(clock, troupe)
    turn(shell, clock, 4)
    assert (troupe.made, shell.state().crashes) == (2, 1)


def test_a_crash_in_close_is_told_and_does_not_stop_the_replacement(caplog: pytest.LogCaptureFixture) -> None:
    """A worker that cannot close is gone all the same."""
    clock, troupe = FakeClock(), Troupe(step=raising(GONE, first=1), close=raising(OSError("x"), first=1))
    shell = new_shell(clock, troupe)
    turn(shell, clock, 4)
    assert troupe.diary[-1] == "step 2"
    assert "close_failed" in caplog.text


def test_a_new_factory_takes_over_at_once_on_the_same_thread() -> None:
    """The old object is closed first, then the new factory's is opened, without a wait."""
    clock, old, new = FakeClock(), Troupe(), Troupe()
    shell = new_shell(clock, old)
    turn(shell, clock, 2)
    shell.renew(new)
    assert turn(shell, clock, 3) == []
    assert old.diary == ["make 1", "open 1", "step 1", "close 1"]
    assert new.diary == ["make 1", "open 1", "step 1"]


def test_a_new_factory_ends_a_long_wait() -> None:
    """A corrected configuration need not sit out the back-off of the wrong one."""
    clock, new = FakeClock(), Troupe()
    shell = new_shell(clock, Troupe(open=raising(ConfigError("a", "b", "c"))))
    shell.turn()
    shell.renew(new)
    assert shell.halt.is_set()
    assert [shell.turn(), shell.turn(), shell.turn()] == [0.0, 0.0, 0.0]
    assert new.diary[-1] == "step 1"


def test_end_during_a_wait_ends_without_another_try() -> None:
    """A device that is not there is not opened once more on the way out."""
    clock, troupe = FakeClock(), Troupe(open=raising(GONE))
    shell = new_shell(clock, troupe)
    shell.turn()
    shell.end()
    shell.turn()
    assert shell.ended
    assert troupe.diary == ["make 1", "open 1", "close 1"]


def test_no_progress_for_longer_than_its_patience_is_stuck_and_progress_ends_it() -> None:
    """Stuck while a step takes too long, well again when it has come back."""
    clock, seen = FakeClock(), []
    shell = new_shell(clock, Troupe(), patience_s=5.0)

    def hang(number: int) -> None:
        clock.advance(4.9)
        seen.append(shell.stuck())
        clock.advance(0.2)
        seen.append(shell.stuck())

    shell.turn()
    shell._factory.script["step"] = hang  # type: ignore[attr-defined]
    shell.turn()
    assert seen == [False, True]
    assert not shell.stuck()


@pytest.mark.parametrize("scene", ["make", "open", "close"])
def test_hanging_in_open_or_close_is_stuck_too(scene: str) -> None:
    """Patience covers every call, not only steps."""
    clock, seen = FakeClock(), []
    shell = new_shell(clock, Troupe(), patience_s=5.0)

    def hang(number: int) -> None:
        clock.advance(5.1)
        seen.append(shell.stuck())

    shell._factory.script[scene] = hang  # type: ignore[attr-defined]
    shell.turn()
    shell.end()
    shell.turn()
    assert seen == [True]


def test_waiting_for_a_device_is_not_stuck() -> None:
    """However long the back-off against the patience; but a thread that sleeps over its next try is."""
    clock = FakeClock()
    shell = new_shell(clock, Troupe(open=raising(ConfigError("a", "b", "c"))), patience_s=0.5)
    pause_s = shell.turn()
    clock.advance(pause_s)
    assert not shell.stuck()
    clock.advance(0.6)
    assert shell.stuck()


def test_a_step_of_the_wall_clock_changes_no_wait() -> None:
    """Back-off is monotonic: an hour back or forth neither delays nor hastens the next try."""
    clock, troupe = FakeClock(), Troupe(open=raising(GONE, first=1))
    shell = new_shell(clock, troupe)
    pause_s = shell.turn()
    clock.step(-3600)
    clock.advance(pause_s)
    shell.turn()
    assert troupe.made == 2


def test_the_same_outage_is_logged_once_and_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    """A cable that is out all night is two lines: gone, back."""
    caplog.set_level(logging.INFO)
    clock, troupe = FakeClock(), Troupe(open=raising(GONE, first=50))
    turn(new_shell(clock, troupe), clock, 60)
    assert [record.args[1] for record in caplog.records if isinstance(record.args, tuple)] == ["waiting", "running"]


def test_what_a_foreign_error_says_stays_out_of_log_and_page(caplog: pytest.LogCaptureFixture) -> None:
    """An error's text may quote a till: type and place are told, the text is not."""

    def crash(number: int) -> None:
        raise ValueError(f"bad member {PHONE}")

    clock = FakeClock()
    shell = new_shell(clock, Troupe(step=crash))
    turn(shell, clock, 2)
    assert PHONE not in caplog.text
    assert PHONE not in repr(shell.state())
    assert "ValueError at test_shell.py" in shell.state().reason
    assert "crash" in caplog.text


def test_renewing_races_with_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Hundreds of renewals from another thread while the shell turns: each object is opened and closed exactly once."""
    sys.setswitchinterval(1e-5)
    try:
        clock, troupe = FakeClock(), Troupe()
        shell = new_shell(clock, troupe)

        def live() -> None:
            while not shell.ended:
                shell.turn()

        thread = threading.Thread(target=live)
        thread.start()
        for _ in range(300):
            shell.renew(troupe)
        shell.end()
        thread.join(60)
    finally:
        sys.setswitchinterval(0.005)
    assert not thread.is_alive()
    opened = [entry for entry in troupe.diary if entry.startswith("open")]
    closed = [entry for entry in troupe.diary if entry.startswith("close")]
    assert [entry.split()[1] for entry in opened] == [entry.split()[1] for entry in closed]
    assert len(opened) == len(set(opened)) == troupe.made


class Dozer(Player):
    """Waits for something else than `stop`."""

    def wake(self) -> None:
        self.troupe.play("wake", self.number)


def test_a_worker_that_waits_for_something_else_is_woken_by_its_end_and_by_its_successor() -> None:
    """It hears of both at once, and only after `stop` has been set; without an object there is nobody to wake."""
    clock, troupe = FakeClock(), Troupe()
    shell = new_shell(clock, troupe)
    troupe.script["wake"] = lambda _: troupe.diary.append(f"stop {shell.halt.is_set()}")
    shell.renew(lambda: Dozer(troupe, 1))
    turn(shell, clock, 3)
    shell.renew(lambda: Dozer(troupe, 2))
    turn(shell, clock, 3)
    shell.end()
    turn(shell, clock)
    assert troupe.diary == [
        "open 1", "step 1", "wake 1", "stop True", "close 1", "open 2", "step 2", "wake 2", "stop True", "close 2",
    ]  # fmt: skip
    shell.end()
