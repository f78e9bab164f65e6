"""Real signals sent to this process, and to one that is hammered with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.runtime.signals import Signals


@pytest.fixture
def events() -> Iterator[tuple[Signals, threading.Event, threading.Event]]:
    """Signals taken over for the time of a test."""
    stop, reload = threading.Event(), threading.Event()
    signals = Signals(stop, reload)
    signals.open()
    yield signals, stop, reload
    signals.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_signals_wake_the_wait_and_set_stop(
    events: tuple[Signals, threading.Event, threading.Event], number: signal.Signals
) -> None:
    """A long wait ends at once and stop is set."""
    signals, stop, reload = events
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
    began_s = time.monotonic()
    assert signals.wait(stop, 60)
    assert time.monotonic() - began_s < 30
    assert not reload.is_set()


def test_hangup_sets_reload_only(events: tuple[Signals, threading.Event, threading.Event]) -> None:
    """SIGHUP ends the wait early, so that the reload begins at once, and does not stop."""
    signals, stop, reload = events
    os.kill(os.getpid(), signal.SIGHUP)
    assert not signals.wait(stop, 10)
    assert reload.is_set()


def test_without_a_reload_a_hangup_ends() -> None:
    """A closed terminal window ends the demo."""
    stop = threading.Event()
    signals = Signals(stop)
    signals.open()
    os.kill(os.getpid(), signal.SIGHUP)
    ended = signals.wait(stop, 10)
    signals.close()
    assert ended


def test_silence_ends_with_the_time_out(events: tuple[Signals, threading.Event, threading.Event]) -> None:
    """No signal: False, after about the time asked for."""
    signals, stop, _ = events
    began_s = time.monotonic()
    assert not signals.wait(stop, 0.05)
    assert 0.04 <= time.monotonic() - began_s < 30


def test_everything_is_put_back() -> None:
    """After close the old handlers and the old wake-up socket are in place."""
    former = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    signals = Signals(threading.Event(), threading.Event())
    signals.open()
    signals.close()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == former
    assert signal.set_wakeup_fd(-1) == -1


def test_an_end_behind_a_flood_is_not_lost(events: tuple[Signals, threading.Event, threading.Event]) -> None:
    """The wake-up socket holds a few hundred signals; SIGTERM after 2,000 unread ones still ends."""
    signals, stop, reload = events
    for _ in range(2000):
        os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.wait(stop, 10)
    assert reload.is_set()


def test_a_storm_of_hangups_does_not_deadlock_the_main_thread() -> None:
    """Thousands of SIGHUP while the main thread waits in a loop; then SIGTERM ends it. A handler that sets the event
    it interrupts would hang here sooner or later."""
    program = textwrap.dedent("""
        import threading
        from gateway.runtime.signals import Signals
        stop, reload = threading.Event(), threading.Event()
        signals = Signals(stop, reload)
        signals.open()
        print("up", flush=True)
        reloads = 0
        while not signals.wait(stop, 0.001):
            if reload.is_set():
                reload.clear()
                reloads += 1
            reload.wait(0.0001)
        print(reloads + reload.is_set(), flush=True)  # the last ones may have come together with the end
    """)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for _ in range(5000):
            process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        try:
            output, _ = process.communicate(timeout=90)
        finally:
            process.kill()
    assert process.returncode == 0
    assert int(output) >= 1


def test_a_wake_ends_the_wait_and_sets_nothing(events: tuple[Signals, threading.Event, threading.Event]) -> None:
    """What another thread wants of the main one is done at once; after the end there is nobody to wake."""
    signals, stop, reload = events
    threading.Timer(0.05, signals.wake).start()
    began_s = time.monotonic()
    assert not signals.wait(stop, 60)
    assert time.monotonic() - began_s < 30
    assert not (stop.is_set() or reload.is_set())
    signals.close()
    signals.wake()
