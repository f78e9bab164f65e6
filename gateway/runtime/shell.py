"""The shell around one worker: carries it through its life, one turn at a time, whatever it raises.

A shell is a state machine with an injected clock. The supervisor's thread calls `turn` in a loop; a test calls it by
hand. It is one of the two places that catch `Exception` (the other is the HTTP handler). It knows no other worker.
"""

from __future__ import annotations

import logging
import threading
import traceback
from pathlib import Path
from random import Random

from gateway.clock import Clock
from gateway.errors import ConfigError, JournalError, JournalFull, StorefrontError, Unavailable
from gateway.runtime.backoff import Backoff, RestartBudget
from gateway.runtime.worker import Factory, Sleeper, State, Worker, WorkerState

_log = logging.getLogger(__name__)

STEADY_S = 10.0  # a worker that ran this long has recovered: its back-off starts anew
_EARLY_S = 0.001  # a wait may end this much early: clocks are read in whole microseconds
SLOW = Backoff(25.0, 25.0)  # seconds between tries of a failed worker; below the 30 s promised for recovery


class Shell:
    """One worker's life.

    `turn` is called by one thread only; `renew`, `end`, `state` and `stuck` by any.

    Args:
        name: the worker's name in the configuration and on the page.
        factory: makes a fresh worker; called on the thread that turns.
        clock: monotonic time for back-off and progress.
        rng: the dice of the back-off.
        patience_s: how long one `open`, `step` or `close` may take before the worker counts as stuck.
        backoff: how to wait after an outage or a crash; copied.
        essential: a crash of it ends the process.
        stage: its place in the order of stopping.
    """

    def __init__(
        self, name: str, factory: Factory, clock: Clock, rng: Random, *, patience_s: float, backoff: Backoff,
        essential: bool, stage: int,
    ) -> None:  # fmt: skip
        self.name = name
        self.stage = stage
        self.essential = essential
        self.patience_s = patience_s
        self.halt = threading.Event()  # set: the present object must close soon
        self.ended = False
        self.fatal: BaseException | None = None
        self._factory = factory
        self._clock = clock
        self._rng = rng
        self._backoff = backoff.copy()
        self._slow = SLOW.copy()
        self._budget = RestartBudget()
        self._lock = threading.Lock()
        self._ending = False
        self._worker: Worker | None = None
        self._opened_s = 0.0
        self._steady = False  # it ran long enough to call it recovered
        self._slowed = False  # it crashed too often and has not recovered yet
        now_s = clock.now().mono_s
        self._state: State = "starting"
        self._since_s = now_s
        self._due_s = now_s + patience_s  # by then there must have been progress
        self._next_try_s: float | None = None
        self._progress_s: float | None = None
        self._reason = ""
        self._hint = ""
        self._crashes = 0
        self._outages = 0
        self._logged: tuple[State, str] | None = None

    def turn(self) -> float:
        """Do one bounded thing: close, open or step.

        Returns:
            Seconds to wait, on `halt`, before the next turn; 0 for none. Meaningless once `ended`.
        """
        with self._lock:
            halted, ending = self.halt.is_set(), self._ending
            if halted and not ending:
                self.halt.clear()
        if halted:
            return self._leave(ending)
        now_s = self._clock.now().mono_s
        if self._next_try_s is not None and now_s < self._next_try_s - _EARLY_S:
            return self._next_try_s - now_s
        try:
            if self._worker is None:
                self._open()
            else:
                self._worker.step(self.halt)
                self._stepped()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the worker shell: whatever comes is judged here
            return self._fail(error)
        return 0.0

    def renew(self, factory: Factory) -> None:
        """Let a fresh worker of another factory take over at once; the present one is closed first."""
        with self._lock:
            self._factory = factory
            self.halt.set()
        self._rouse()

    def end(self) -> None:
        """Ask for the end: the present worker is closed in the next turn and `ended` becomes True."""
        with self._lock:
            self._ending = True
            self.halt.set()
        self._rouse()

    def stuck(self) -> bool:
        """True when the worker's thread should have shown progress by now and has not."""
        return not self.ended and self._clock.now().mono_s > self._due_s

    def opened(self) -> bool:
        """True while there is an open worker."""
        return self._state == "running"

    def state(self) -> WorkerState:
        """A snapshot for the page."""
        now_s = self._clock.now().mono_s
        with self._lock:
            state, reason, hint, since_s = self._state, self._reason, self._hint, self._since_s
        next_try_s, progress_s = self._next_try_s, self._progress_s
        return WorkerState(
            name=self.name,
            state=state,
            stage=self.stage,
            essential=self.essential,
            reason=reason,
            hint=hint,
            next_try_s=None if next_try_s is None else max(0.0, next_try_s - now_s),
            since_s=now_s - since_s,
            progress_s=None if progress_s is None else now_s - progress_s,
            stuck=self.stuck(),
            crashes=self._crashes,
            outages=self._outages,
        )

    def _open(self) -> None:
        self._next_try_s = None
        self._enter("starting", self._reason, self._hint)
        self._extend()
        self._worker = self._factory()
        self._worker.open()
        self._opened_s = self._clock.now().mono_s
        self._steady = False
        self._extend()
        self._enter("running")

    def _stepped(self) -> None:
        self._progress_s = self._extend()
        if not self._steady and self._progress_s - self._opened_s >= STEADY_S:
            self._steady = True
            self._slowed = False
            self._backoff.reset()
            self._slow.reset()

    def _leave(self, ending: bool) -> float:
        """Close for good, or to make room for the worker of a new factory."""
        error = self._close()
        if error is not None and _is_fatal(error):
            self.fatal = error
        self._next_try_s = None
        self._backoff.reset()
        if ending or self.fatal is not None:
            self._enter("stopped")
            self.ended = True
        else:
            self._enter("starting")
        return 0.0

    def _fail(self, error: BaseException) -> float:
        closing = self._close()
        if closing is not None and _is_fatal(closing):
            error = closing
        reason, hint = _told(error)
        if _is_fatal(error) or (self.essential and not _is_outage(error)):
            self._crashes += 1
            self.fatal = error
            self._enter("failed", reason, hint)
            self.ended = True
            return 0.0
        now_s = self._clock.now().mono_s
        slowly = isinstance(error, ConfigError)
        if _is_outage(error):
            self._outages += 1
        elif not slowly:
            self._crashes += 1
            if not self._budget.spend(now_s):
                self._slowed = True
            slowly = self._slowed
        pause_s = (self._slow if slowly else self._backoff).next(self._rng)
        self._next_try_s = now_s + pause_s
        self._due_s = self._next_try_s + self.patience_s
        self._enter("failed" if slowly else "waiting", reason, hint)
        return pause_s

    def _close(self) -> Exception | None:
        """Close the worker, if there is one; returns what it raised."""
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        self._extend()
        try:
            worker.close()
        except Exception as error:  # noqa: BLE001 - the worker shell: a worker that cannot close is gone all the same
            if not _is_fatal(error):
                _log.warning("worker=%s close_failed=%s", self.name, _told(error)[0])
            return error
        return None

    def _rouse(self) -> None:
        worker = self._worker
        if isinstance(worker, Sleeper):
            worker.wake()

    def _extend(self) -> float:
        now_s = self._clock.now().mono_s
        self._due_s = now_s + self.patience_s
        return now_s

    def _enter(self, state: State, reason: str = "", hint: str = "") -> None:
        """Change state; a change is logged once, not at every try of the same outage."""
        now_s = self._clock.now().mono_s
        with self._lock:
            if state != self._state:
                self._since_s = now_s
            self._state, self._reason, self._hint = state, reason, hint
        if state == "starting" or self._logged == (state, reason):
            return
        self._logged = (state, reason)
        level = {"waiting": logging.WARNING, "failed": logging.ERROR}.get(state, logging.INFO)
        _log.log(level, "worker=%s state=%s reason=%r hint=%r", self.name, state, reason, hint)


def _is_fatal(error: BaseException) -> bool:
    return isinstance(error, JournalError) and not isinstance(error, JournalFull)


def _is_outage(error: BaseException) -> bool:
    return isinstance(error, Unavailable | JournalFull)


def _told(error: BaseException) -> tuple[str, str]:
    """Reason and hint for a person.

    A foreign error is named by its type and place only: its message may hold what a device or a till said of a person.
    """
    if isinstance(error, StorefrontError):
        return f"{error.operation}: {error.subject}: {error.reason}", error.hint
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames[-4:]))
    return f"{type(error).__name__} at {where or 'unknown place'}", "this is a defect of the software: report it"
