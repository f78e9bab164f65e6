"""The worker that turns waiting items into durable events: one commit a window, then every waiting receipt.

It is the only thread that uses the `JournalWriter`. Others that must write (cursors, projections, retention) hand it a
transaction with `submit`, or with events of its own with `record`. When the disk or the quota is full it keeps what it
took, refuses the less important streams at the inlet, and tries again: nothing taken is ever dropped here. Knows no
device and no network.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import msgspec

from gateway.errors import JournalError, JournalFull, StorefrontError, Unavailable
from gateway.event import STREAMS, Draft, Stream
from gateway.intake.inlet import Inlet, Item
from gateway.journal.news import News
from gateway.journal.salvage import SalvageReport, open_or_salvage
from gateway.journal.writer import JournalWriter

log = logging.getLogger(__name__)
T = TypeVar("T")

_IDLE_S = 1.0  # an event, a transaction or the end cuts it short
_LOOK_EVERY_S = 1.0
_FULL_RETRY_S = 1.0
_LOG_PATIENCE_S = 0.02  # a commit window: events wait no longer for a reader
_HELD_BATCHES = 4  # beyond this nothing more is taken while there is no room


class CommitCounters(msgspec.Struct):
    """What the loop did since the start."""

    commits: int = 0
    events: int = 0
    duplicates: int = 0
    poison: int = 0
    full: int = 0  # commits that found no room
    worst_commit_s: float = 0.0


class CommitLoop:
    """Worker: `open` opens the journal, each `step` commits one window, `close` commits what is left and closes."""

    def __init__(self, writer: JournalWriter, inlet: Inlet, *, window_s: float = 0.02, batch: int = 256) -> None:
        """`window_s`: how long events are collected for one commit; `batch`: a full batch is committed at once."""
        self.counters = CommitCounters()
        self.admitted: tuple[Stream, ...] = STREAMS
        self.news = News()
        self._writer = writer
        self._inlet = inlet
        self._window_s = window_s
        self._batch = batch
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self.salvaged: SalvageReport | None = None  # set when the journal was found damaged at the start
        self._held: list[Item] = []
        self._full = False
        self._looked_s = 0.0
        self._door = threading.Lock()  # between `submit` and `close`: no job is left without an answer
        self._closed = False
        self._opened = False

    @property
    def is_open(self) -> bool:
        """True once the journal is there to be read and written (salvaged, if it had to be), until `close`."""
        return self._opened and self._writer.is_open

    def open(self) -> None:
        """Open the journal, salvaging it when it is damaged, unless the composition root has done it already."""
        if not self._writer.is_open:
            self.salvaged = open_or_salvage(self._writer)
        with self._door:
            self._opened, self._closed = True, False

    def step(self, stop: threading.Event) -> None:
        """Run the transactions handed in, then collect one window of items and commit it."""
        self._run_jobs()
        self._look()
        if self._held:
            self._step_full(stop)
        elif items := self._inlet.take(self._batch, self._window_s, _IDLE_S, self.admitted):
            self._commit(items)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._inlet.wake()

    def close(self) -> None:
        """Commit everything that still waits, then close the journal. What finds no room stays unacknowledged."""
        with self._door:
            self._closed = True
        try:
            if self._writer.is_open:
                held, self._held = self._held, []
                if not held or self._commit(held):
                    while items := self._inlet.take(self._batch, 0.0, 0.0, self.admitted):
                        if not self._commit(items):
                            break
                self._run_jobs()
        finally:
            while self._jobs:
                _, future = self._jobs.popleft()
                if future.set_running_or_notify_cancel():
                    future.set_exception(self._refusal())
            self._writer.close()

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `work` in one transaction on the writing thread, between two commits. From any other thread.

        The future gives what `work` returned or raised. `work` must be short: events wait meanwhile.
        """
        return self._hand_in(partial(self._writer.transact, work), hurry=False)

    def record(self, work: Callable[[sqlite3.Connection], tuple[T, Sequence[Draft]]]) -> Future[T]:
        """Like `submit`, with events that `work` returns beside its result written in the same transaction.

        Somebody waits for it, a shopper at a till: the commit window that is being filled is closed at once. The future
        gives its result when all of it is durable.
        """
        return self._hand_in(partial(self._record, work), hurry=True)

    def empty_log(self) -> Future[bool]:
        """Have the write-ahead log moved into the database and cut to nothing; False when a reader is in the way.

        For what must not stay in the log: nothing of it is left in the file afterwards. From any other thread.
        """
        return self._hand_in(partial(self._writer.checkpoint, _LOG_PATIENCE_S), hurry=False)

    def _hand_in(self, job: Callable[[], T], *, hurry: bool) -> Future[T]:
        future: Future[T] = Future()
        with self._door:
            if not self._closed:
                self._jobs.append((job, future))
                self._inlet.wake(hurry=hurry)
                return future
        future.set_exception(self._refusal())
        return future

    def _record(self, work: Callable[[sqlite3.Connection], tuple[T, Sequence[Draft]]]) -> T:
        started_s = time.monotonic()
        result, appended = self._writer.record(work)
        if appended.written:
            self.counters.commits += 1
            self.counters.events += appended.written
            self.counters.worst_commit_s = max(self.counters.worst_commit_s, time.monotonic() - started_s)
            self.news.tell(appended.written)
        return result

    def _step_full(self, stop: threading.Event) -> None:
        """No room a moment ago: try what is held again, sales first, and let only sales in meanwhile."""
        held, self._held = self._held, []
        held.sort(key=lambda item: STREAMS.index(item.stream))  # stable: the order within a stream stays
        sales = sum(item.stream == STREAMS[0] for item in held)
        for part in (held[:sales], held[sales:]):
            if part:
                self._commit(part)
        if not self._held:
            self._full = False
            log.warning("journal=writing again_after_full=1")
        elif sum(item.weight for item in self._held) > _HELD_BATCHES * self._batch:
            stop.wait(_FULL_RETRY_S)
        elif items := self._inlet.take(self._batch, self._window_s, _FULL_RETRY_S, STREAMS[:1]):
            self._commit(items)

    def _commit(self, items: list[Item]) -> bool:
        drafts = [draft for item in items for draft in item.drafts]
        poison = [bad for item in items for bad in item.poison]
        started_s = time.monotonic()
        try:
            appended = self._writer.append(drafts, poison)
        except JournalFull as error:
            if not self._full:
                log.error("journal=full waiting_events=%d hint=%r", len(drafts), error.hint)
            self._full = True
            self._held.extend(items)
            self.counters.full += 1
            self._looked_s = 0.0
            return False
        counters = self.counters
        counters.commits += 1
        counters.events += appended.written
        counters.duplicates += appended.duplicates
        counters.poison += appended.quarantined
        counters.worst_commit_s = max(counters.worst_commit_s, time.monotonic() - started_s)
        for item in items:
            if item.receipt is not None:
                item.receipt()
        self.news.tell(appended.written)
        return True

    def _run_jobs(self) -> None:
        while self._jobs:
            job, future = self._jobs.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(job())
            except JournalFull as error:
                future.set_exception(error)
            except JournalError as error:
                future.set_exception(error)
                raise
            except Exception as error:  # noqa: BLE001 - handed to whoever submitted the work
                future.set_exception(error)

    def _look(self) -> None:
        """Once a second while events come: which streams still have room, and is the ballast in its place."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
        admitted = self._writer.admitted() or STREAMS[:1]
        if admitted != self.admitted:
            refused = [stream for stream in STREAMS if stream not in admitted]
            log.warning("journal=%s refused_streams=%s", "filling" if refused else "has_room", ",".join(refused))
            self.admitted = admitted
        if not self._held:
            self._writer.refill_ballast()

    def _refusal(self) -> StorefrontError:
        """Why nothing is taken: the end has come, or the journal could not be opened yet and will be tried again."""
        if self._opened:
            return JournalError("write journal", str(self._writer.path), "the gateway is stopping")
        return Unavailable("write journal", str(self._writer.path), "it could not be opened yet", "see the log")
