"""When to send: back-off, what a Retry-After means, flush phase and pace. Pure; told the time and the dice.

Fifty thousand stores come back from one outage together. On the way up a wait is U(0, step), which puts each of them at
a place of its own; once there, at the cap, they keep their places and go round almost evenly, so that a platform that
returns meets the same number in every second. Waits of U(0, cap) for ever would leave twice as many in the first second
as on average. Knows no network and no thread; the fleet simulation runs these very objects.

*Source*: docs/sync.md, "Manners".
"""

from __future__ import annotations

import hashlib
from random import Random

BASE_S = 1.0
CAP_S = 300.0
CREDENTIALS_CAP_S = 900.0
RETRY_AFTER_MAX_S = 3600.0  # a longer wish is a mistake of somebody's, and the store must come back by itself
BOOT_DELAY_S = 60.0


class Backoff:
    """Waits of U(0, step), the step doubling from `base_s` to `cap_s`; then of U(0.8, 1) × `cap_s`."""

    EVEN = 0.8  # of the cap: the shortest wait of who is past the first there; the rest lets a crowd dissolve again

    def __init__(self, base_s: float = BASE_S, cap_s: float = CAP_S) -> None:
        """`base_s` > 0: the first step; `cap_s`: the longest step."""
        self.base_s = base_s
        self.cap_s = cap_s
        self.tries = 0

    def next(self, rng: Random) -> float:
        """Seconds to wait now; the following step is twice as long."""
        step_s, before_s = self._step_s(self.tries), self._step_s(self.tries - 1)
        self.tries += 1
        return rng.uniform(self.EVEN * step_s if before_s >= self.cap_s else 0.0, step_s)

    def reset(self) -> None:
        """It worked: begin at `base_s` again."""
        self.tries = 0

    def _step_s(self, tries: int) -> float:
        return min(self.cap_s, self.base_s * 2.0 ** min(tries, 60))


def asked_wait_s(retry_after_s: float, rng: Random) -> float:
    """How long to wait when the platform asked for `retry_after_s`: once to twice as long, at most an hour or two.

    Never less than asked, and spread, because everybody who was refused in this second was told the same number.
    """
    return min(max(retry_after_s, 0.0), RETRY_AFTER_MAX_S) * rng.uniform(1.0, 2.0)


def phase_s(gateway: str, interval_s: float) -> float:
    """This gateway's own place in the flush interval, in [0, interval_s): always the same for the same name."""
    digest = int.from_bytes(hashlib.sha256(gateway.encode()).digest()[:8], "big")
    return digest / 2.0**64 * interval_s


def next_tick_s(now_s: float, interval_s: float, phase: float) -> float:
    """The first moment after `now_s` at which this gateway flushes."""
    return ((now_s - phase) // interval_s + 1) * interval_s + phase


class Pace:
    """When one stream may send next. Times are monotonic seconds.

    A live stream flushes at its ticks; a stream with a backlog sends as fast as the platform's `min_interval` lets it;
    a failure waits it out.
    """

    def __init__(self, gateway: str, rng: Random, *, interval_s: float, backoff: Backoff | None = None) -> None:
        """`interval_s`: how often a stream without backlog is flushed, > 0."""
        self.interval_s = interval_s
        self.min_interval_s = 0.0
        self.due_s = 0.0
        self._phase_s = phase_s(gateway, interval_s)
        self._rng = rng
        self._backoff = backoff or Backoff()
        self._sent_s = -1e9

    def boot(self, now_s: float, delay_s: float) -> None:
        """Wait U(0, `delay_s`) before the first word: a power cut ends for a whole street at once."""
        self.due_s = now_s + self._rng.uniform(0.0, delay_s)

    def sent(self, now_s: float) -> None:
        """A batch has just left."""
        self._sent_s = now_s

    def worked(self, now_s: float, *, backlog: bool, rest_s: float = 0.0) -> None:
        """The batch was taken. `backlog`: there is more than fitted into it; `rest_s`: its share of a capped rate."""
        self._backoff.reset()
        earliest_s = self._sent_s + max(self.min_interval_s, rest_s)
        self.due_s = earliest_s if backlog else max(earliest_s, next_tick_s(now_s, self.interval_s, self._phase_s))

    def idle(self, now_s: float) -> None:
        """There was nothing to send."""
        self.due_s = next_tick_s(now_s, self.interval_s, self._phase_s)

    def again(self) -> None:
        """The answer asks for another request: as soon as the platform's pace allows."""
        self.due_s = self._sent_s + self.min_interval_s

    def failed(self, now_s: float, retry_after_s: float | None = None, cap_s: float = CAP_S) -> float:
        """It did not work: returns how long this stream now waits, seconds."""
        if retry_after_s is not None:
            wait_s = asked_wait_s(retry_after_s, self._rng)
            if retry_after_s <= 0:
                wait_s = self._backoff.next(self._rng)  # "at once" from a server in trouble is no invitation
        else:
            self._backoff.cap_s = cap_s
            wait_s = self._backoff.next(self._rng)
        self.due_s = max(now_s + wait_s, self._sent_s + self.min_interval_s)
        return wait_s

    @property
    def failures(self) -> int:
        """Failures in a row without the platform naming a time."""
        return self._backoff.tries


class Precedence:
    """Who goes first when several streams have a backlog: the more important, but nobody waits for ever.

    One object is shared by the streams' threads; each method is one atomic step on small values.
    """

    ACTIVE_S = 3.0  # a stream that has not sent for so long does not hold up the others
    TURN_S = 2.0  # a stream that is held up gets one batch so often: live events stay younger than 5 s

    def __init__(self, streams: tuple[str, ...]) -> None:
        """`streams`: most important first."""
        self._rank = {stream: rank for rank, stream in enumerate(streams)}
        self._busy_until_s = [-1e9] * len(streams)
        self._turn_s = [-1e9] * len(streams)

    def draining(self, stream: str, now_s: float, backlog: bool) -> None:
        """`stream` has just delivered a batch, and has more to send or not."""
        rank = self._rank[stream]
        self._turn_s[rank] = now_s
        self._busy_until_s[rank] = now_s + self.ACTIVE_S if backlog else -1e9

    def wait_s(self, stream: str, now_s: float) -> float:
        """How long `stream` should let others go first; 0 when it is its turn."""
        rank = self._rank[stream]
        busy_s = max(self._busy_until_s[:rank], default=-1e9)
        turn_s = self._turn_s[rank] + self.TURN_S
        return max(0.0, min(busy_s, turn_s) - now_s)
