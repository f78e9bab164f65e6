"""The steady monotonic beat."""

from __future__ import annotations

import threading

import pytest

from gateway.clock import FakeClock
from gateway.runtime.periodic import Periodic


class Beats:
    """Runs a Periodic on a fake clock, without sleeping."""

    def __init__(self, every_s: float, slow_s: float = 0.0) -> None:
        self.clock = FakeClock()
        self.began_s = self.clock.now().mono_s
        self.at_s: list[float] = []
        self.slow_s = slow_s
        self.longest_s = 0.0
        self.periodic = Periodic(self._act, every_s, self.clock, self._wait)
        self.periodic.open()

    def _act(self) -> None:
        self.at_s.append(round(self.clock.now().mono_s - self.began_s, 3))
        self.clock.advance(self.slow_s)

    def _wait(self, event: threading.Event, timeout_s: float) -> bool:
        self.longest_s = max(self.longest_s, timeout_s)
        self.clock.advance(timeout_s)
        return False

    def steps(self, number: int) -> None:
        for _ in range(number):
            self.periodic.step(threading.Event())


def test_it_beats_once_a_period_and_never_waits_longer_than_a_second() -> None:
    """Every 2.5 s: at 2.5, 5, 7.5; each wait a second at most."""
    beats = Beats(2.5)
    beats.steps(12)
    assert beats.at_s == [2.5, 5.0, 7.5]
    assert beats.longest_s <= 1.0


def test_missed_beats_are_done_once_and_the_rhythm_stays() -> None:
    """A first action of 2.5 s misses the beats of 2 and 3: one late beat at 3.5, then 4, 5, 6 again."""
    beats = Beats(1.0, slow_s=2.5)
    beats.steps(2)
    beats.slow_s = 0.0
    beats.steps(7)
    assert beats.at_s == [1.0, 3.5, 4.0, 5.0, 6.0]


def test_the_wall_clock_does_not_matter() -> None:
    """An hour back or a day forth: the next beat comes when it would have come."""
    beats = Beats(1.0)
    beats.steps(2)
    beats.clock.step(-3600)
    beats.steps(2)
    beats.clock.step(86400)
    beats.steps(2)
    assert beats.at_s == [1.0, 2.0, 3.0]


def test_a_period_of_nothing_is_refused() -> None:
    """Zero would be a tight loop."""
    with pytest.raises(ValueError, match="every_s"):
        Periodic(lambda: None, 0.0, FakeClock())
