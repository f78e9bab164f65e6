"""The supervisor: one thread for each worker, a fresh object for a dead one, an order for stopping.

It starts threads, watches them, and says how they are; what a single worker's errors mean is the shell's matter. It
knows no journal, no device and no page.

    supervisor = Supervisor(clock)
    supervisor.add("journal", open_writer, patience_s=30.0, essential=True, stage=1)
    try:
        supervisor.run(stop, beat)      # until `stop` is set; raises what makes the gateway unable to go on
    finally:
        hung = supervisor.stop(5.0)     # stage 0 first
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable

from gateway.clock import Clock
from gateway.runtime.backoff import Backoff
from gateway.runtime.shell import Shell
from gateway.runtime.worker import Factory, Wait, WorkerState, wait

_log = logging.getLogger(__name__)

BACKOFF = Backoff(0.5, 4.0)  # a device that was plugged in again is tried within 4 s
_BEAT_S = 1.0  # also how late a fatal error is raised: nothing is acknowledged any more by then
_BEGINNING_BEAT_S = 0.25  # until the gateway takes events and all workers have begun
_LATER_S = 1.0  # a salvage may take minutes; the page is there to say so
_ALONE_S = 2.0  # how long `remove` waits for one worker


class Supervisor:
    """Owns the workers. Every method may be called from any thread but a worker's own.

    Args:
        clock: monotonic time for back-off and progress.
        rng: the dice of the back-off.
        wait: how a worker's thread waits between tries.
    """

    def __init__(self, clock: Clock, rng: random.Random | None = None, wait: Wait = wait) -> None:
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not a secret
        self._wait = wait
        self._lock = threading.Lock()
        self._shells: dict[str, Shell] = {}
        self._threads: dict[Shell, threading.Thread] = {}
        self._leaving: list[Shell] = []  # removed, but its thread has not come back yet
        self._later: set[str] = set()
        self._started = False
        self._raised: BaseException | None = None

    def add(
        self,
        name: str,
        factory: Factory,
        *,
        patience_s: float,
        essential: bool = False,
        stage: int = 0,
        backoff: Backoff = BACKOFF,
        later: bool = False,
    ) -> None:
        """Take a worker in; it starts with `run`, or at once if that is under way.

        Args:
            name: its name, unique.
            factory: makes a fresh object, on the worker's thread.
            patience_s: the longest that one `open`, `step` or `close` may take before the worker counts as stuck.
            essential: the gateway cannot be without it: its crash ends `run`.
            stage: its place in the order of stopping, lowest first.
            backoff: waits after outages and crashes.
            later: it begins when the essential workers are open, or a second after them: what takes events in shares
                neither processor nor interpreter with what only looks at them.

        Raises:
            ValueError: the name is taken.
        """
        with self._lock:
            if name in self._shells:
                raise ValueError(f"name: there is a worker {name} already")
            shell = Shell(
                name, factory, self._clock, self._rng,
                patience_s=patience_s, backoff=backoff, essential=essential, stage=stage,
            )  # fmt: skip
            self._shells[name] = shell
            if self._started:
                self._start(shell)
            elif later:
                self._later.add(name)

    def replace(self, name: str, factory: Factory) -> None:
        """Close the worker's object and go on at once with one from a new factory, on the same thread.

        Raises:
            KeyError: there is no such worker.
        """
        with self._lock:
            self._shells[name].renew(factory)

    def remove(self, name: str, timeout_s: float = _ALONE_S) -> bool:
        """End a worker and forget it.

        Returns:
            True when it has closed; False when it hangs: then it still counts as stuck, once its patience is over.

        Raises:
            KeyError: there is no such worker.
        """
        with self._lock:
            shell = self._shells.pop(name)
            thread = self._threads.pop(shell, None)
            self._leaving = [old for old in self._leaving if not old.ended or old.fatal]
            if thread is not None:
                self._leaving.append(shell)
        shell.end()
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def states(self) -> list[WorkerState]:
        """How every worker is now, in the order they were added."""
        with self._lock:
            shells = list(self._shells.values())
        return [shell.state() for shell in shells]

    def healthy(self) -> bool:
        """True while no worker is stuck, whatever its state: this feeds systemd's watchdog.

        A worker that waits for a device is healthy. A thread that hangs can only be cured by a new process.
        """
        return not self.stuck()

    def stuck(self) -> list[str]:
        """Names of the workers that have shown no progress for longer than their patience."""
        with self._lock:
            shells = [*self._shells.values(), *self._leaving]
        return [shell.name for shell in shells if shell.stuck()]

    def ready(self) -> bool:
        """True when every essential worker is open: the gateway takes events."""
        with self._lock:
            shells = list(self._shells.values())
        return self._started and all(shell.opened() for shell in shells if shell.essential)

    def run(self, stop: threading.Event, beat: Callable[[], None] = lambda: None, wait: Wait | None = None) -> None:
        """Start the workers and watch them until `stop` is set. Does not stop them: call `stop` afterwards.

        Args:
            stop: ends the watch.
            beat: called on this thread once a second, more often at first, and whenever `wait` returns early: watchdog,
                READY, reload. It must return soon.
            wait: how this thread waits; the main thread waits on its signals (`Signals.wait`).

        Raises:
            JournalError: a worker cannot trust the journal any more.
            BaseException: what an essential worker crashed with.
        """
        with self._lock:
            self._started = True
            later = [shell for name, shell in self._shells.items() if name in self._later]
            self._start_all(shell for shell in self._shells.values() if shell not in later)
        pause = wait or self._wait
        begun_s = time.monotonic()
        while True:
            self._raise_fatal()
            beat()
            ready = self.ready()
            if later and (ready or time.monotonic() - begun_s >= _LATER_S):
                with self._lock:
                    self._start_all(shell for shell in later if self._shells.get(shell.name) is shell)
                later = []
            if pause(stop, _BEAT_S if ready and not later else _BEGINNING_BEAT_S):
                return

    def stop(self, timeout_s: float = 5.0) -> list[str]:
        """Close all workers, lowest stage first; a stage begins when the one before has closed or used its share.

        Args:
            timeout_s: for all together; returns by then.

        Returns:
            Names of workers whose threads have not come back. They die with the process.

        Raises:
            JournalError: a worker could not bring its last work into the journal, and `run` has not raised it yet.
        """
        deadline_s = time.monotonic() + timeout_s  # real threads end in real time, whatever clock was injected
        with self._lock:
            self._started = False
            shells = list(self._shells.values())
            threads = dict(self._threads)
        stages = sorted({shell.stage for shell in shells})
        for number, stage in enumerate(stages):
            # A hanging source may use up its own share only: the commit behind it must still get its time.
            ends_s = time.monotonic() + (deadline_s - time.monotonic()) / (len(stages) - number)
            members = [shell for shell in shells if shell.stage == stage]
            for shell in members:
                shell.end()
            for shell in members:
                if (thread := threads.get(shell)) is not None:
                    thread.join(max(0.0, ends_s - time.monotonic()))
        hung = [shell.name for shell in shells if shell in threads and threads[shell].is_alive()]
        if hung:
            _log.error("workers=%s state=hung action=left_to_die", ",".join(hung))
        self._raise_fatal()
        return hung

    def _raise_fatal(self) -> None:
        with self._lock:
            shells = [*self._shells.values(), *self._leaving]
        for shell in shells:
            if shell.fatal is not None and self._raised is None:
                self._raised = shell.fatal
                raise shell.fatal

    def _start_all(self, shells: Iterable[Shell]) -> None:
        for shell in sorted(shells, key=lambda shell: -shell.stage):  # the writer before its sources
            self._start(shell)

    def _start(self, shell: Shell) -> None:
        # daemon: `stop` ends a thread in order; one that hangs in a system call must not keep the process from ending.
        thread = threading.Thread(target=self._live, args=(shell,), name=shell.name, daemon=True)
        self._threads[shell] = thread
        thread.start()

    def _live(self, shell: Shell) -> None:
        while not shell.ended:
            pause_s = shell.turn()
            if pause_s > 0 and not shell.ended:
                self._wait(shell.halt, pause_s)
