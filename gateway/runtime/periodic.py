"""A worker that does one thing at a steady monotonic beat: heartbeats, checkpoints, counters.

It keeps its beat whatever the wall clock does; what belongs to a time of day is a calendar job instead. Knows nothing
of what it calls.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from gateway.clock import Clock
from gateway.runtime.worker import Wait, wait

_STEP_S = 1.0  # the longest a step waits


class Periodic:
    """Calls `action` every `every_s` seconds of monotonic time, first after one period.

    A beat that comes late (a slow action, a suspended machine) is done once; missed beats are not made up for, and the
    rhythm stays that of the first beat.

    Args:
        action: what to do; a second at most. What it raises is the worker's error, see `Worker`.
        every_s: the period, seconds, > 0.
        clock: monotonic time.
        wait: how to wait.
    """

    def __init__(self, action: Callable[[], None], every_s: float, clock: Clock, wait: Wait = wait) -> None:
        if every_s <= 0:
            raise ValueError(f"every_s: must be above 0 ({every_s} s)")
        self._action = action
        self._every_s = every_s
        self._clock = clock
        self._wait = wait
        self._next_s = 0.0

    def open(self) -> None:
        """Start counting."""
        self._next_s = self._clock.now().mono_s + self._every_s

    def step(self, stop: threading.Event) -> None:
        """Wait for the next beat, a second at most, and act when it has come."""
        left_s = self._next_s - self._clock.now().mono_s
        if left_s > 0:
            self._wait(stop, min(left_s, _STEP_S))
            return
        beats = 1 + int(-left_s / self._every_s)
        self._next_s += beats * self._every_s
        self._action()

    def close(self) -> None:
        """Nothing to release."""
