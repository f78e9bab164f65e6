"""How long to wait before the next try: jittered exponential back-off, and a budget of quick restarts.

Both are values that are told the time and the dice; they read no clock, sleep never, and know nothing of workers.
"""

from __future__ import annotations

from collections import deque
from random import Random


class Backoff:
    """Waits that double from `base_s` up to `cap_s`, each shortened by a random part of at most half.

    The random half keeps the devices of a store, and the stores of a fleet, from trying in step after a common outage;
    the certain half keeps a failing worker from trying in a tight loop.

    Args:
        base_s: the first wait, seconds, > 0.
        cap_s: the longest wait, seconds, >= `base_s`.
    """

    def __init__(self, base_s: float, cap_s: float) -> None:
        if not 0 < base_s <= cap_s:
            raise ValueError(f"base_s: must be above 0 and at most cap_s ({base_s} s, {cap_s} s)")
        self.base_s = base_s
        self.cap_s = cap_s
        self.tries = 0

    def next(self, rng: Random) -> float:
        """Seconds to wait now: from half to the whole of the present step; the following step is twice as long."""
        step_s = min(self.cap_s, self.base_s * 2.0 ** min(self.tries, 60))  # a year of tries must not overflow
        self.tries += 1
        return step_s * rng.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The thing worked again: the next wait starts from `base_s`."""
        self.tries = 0

    def copy(self) -> Backoff:
        """The same waits, from the start."""
        return Backoff(self.base_s, self.cap_s)


class RestartBudget:
    """How many crashes may be answered quickly: `limit` in any `window_s` seconds of monotonic time."""

    def __init__(self, limit: int = 5, window_s: float = 60.0) -> None:
        self.limit = limit
        self.window_s = window_s
        self._spent_mono_s: deque[float] = deque(maxlen=limit)

    def spend(self, mono_s: float) -> bool:
        """Count one crash at `mono_s`; True while quick restarts are still affordable."""
        full = len(self._spent_mono_s) == self.limit and mono_s - self._spent_mono_s[0] < self.window_s
        self._spent_mono_s.append(mono_s)
        return not full
