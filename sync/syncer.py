"""The syncer of one stream: read after the cursor, send, check the answer, settle it in one transaction, go on.

A state machine driven by `step`. What it knows survives nothing: the durable cursor and the platform's own count, asked
at every start, are all it needs to find its place after any crash. Only a `taken` result moves the cursor; every other
outcome has one method here, and none of them drops an event. Each stream has a syncer on a thread of its own, so a
platform that chokes on observations cannot hold up a sale; `Precedence` lets the important streams drain first. Knows
no HTTP and no SQLite.

*Source*: docs/sync.md, "Push".
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from random import Random
from typing import Literal, assert_never

import msgspec

from gateway.clock import Clock
from gateway.errors import JournalFull, Unavailable
from gateway.event import Stream
from gateway.journal.reader import StoredEvent
from gateway.journal.schema import StreamEpoch
from gateway.runtime.worker import Wait, wait
from sync.batch_size import BatchSize
from sync.bisection import Bisection
from sync.pacing import BOOT_DELAY_S, CREDENTIALS_CAP_S, Pace, Precedence
from sync.ports import Alarms, Ledger, StreamView
from sync.uplink import CODE_BISECTED, CODE_TOO_LARGE, Batch, BatchResult, Lane, Rejection, Uplink

log = logging.getLogger(__name__)

_IDLE_S = 0.5  # the longest single wait inside a step
_LAST_WORD_S = 0.8  # how long the last try at an orderly stop may take
_CAPPED_BATCH_S = 5.0  # a batch of a capped stream holds no more than so long is allowed
_SUSPICIOUS = 3  # events in a row that the platform refuses without a verdict: then it is the platform

Condition = Literal["starting", "live", "draining", "waiting", "closed", "unauthorised"]


class SyncOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one stream is sent.

    `interval_s`: how often it is flushed when there is no backlog, which bounds an event's age. `max_events`,
    `max_bytes`: of one batch, before compression; the platform may ask for less.
    """

    interval_s: float = 2.0
    max_events: int = 2000
    max_bytes: int = 1 << 20
    boot_delay_s: float = BOOT_DELAY_S


class SyncCounters(msgspec.Struct):
    """What happened since the object was made."""

    batches: int = 0
    events: int = 0  # newly delivered or quarantined
    duplicates: int = 0
    rejected: int = 0
    failures: int = 0
    gaps: int = 0
    epochs: int = 0
    last_taken_mono_s: float | None = None


class SyncState(msgspec.Struct, frozen=True):
    """What a person may know of a stream's delivery now."""

    stream: Stream
    condition: Condition
    reason: str
    next_try_s: float


class Syncer:
    """Worker: sends one stream through an uplink.

    The uplink and the ledger are opened by whoever made them and closed here.
    """

    def __init__(
        self, stream: Stream, ledger: Ledger, uplink: Uplink, clock: Clock, rng: Random, *, gateway: str,
        alarms: Alarms, precedence: Precedence, options: SyncOptions | None = None,
        counters: SyncCounters | None = None, open_ledger: Callable[[], None] = lambda: None,
        close_ledger: Callable[[], None] = lambda: None, rate: Callable[[], float | None] = lambda: None,
        pause: Wait = wait,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            stream: what to send.
            ledger: the journal.
            uplink: the way out; only this object uses it.
            clock: monotonic time.
            rng: the dice of every wait.
            gateway: this gateway's name, for its phase.
            alarms: where trouble is told.
            precedence: shared by the streams' syncers.
            options: see `SyncOptions`.
            counters: kept across objects when given.
            open_ledger, close_ledger: called by `open` and `close`.
            rate: how many events a second may be sent at most; None: as many as go.
            pause: how this thread waits.
        """
        self.stream: Stream = stream
        self.counters = counters or SyncCounters()
        self._ledger = ledger
        self._uplink = uplink
        self._clock = clock
        self._alarms = alarms
        self._precedence = precedence
        self._options = options or SyncOptions()
        self._open_ledger = open_ledger
        self._close_ledger = close_ledger
        self._rate = rate
        self._pause = pause
        self._stop: threading.Event | None = None
        self._pace = Pace(gateway, rng, interval_s=self._options.interval_s)
        self._greeted: set[str] = set()
        self._after: int | None = None  # everything up to here needs no sending; None: ask the journal
        self._size = BatchSize(self._options.max_events, self._options.max_bytes)
        self.commands_pending = 0  # as the platform said last
        self._search = Bisection()
        self._refused_in_row = 0
        self._again = 0  # answers in a row that asked for another position without any progress
        self._alarmed: set[str] = set()
        self._condition: Condition = "starting"
        self._reason = ""
        self._rewind_to: int | None = None

    # -- Worker

    def open(self) -> None:
        """Open the ledger; the first word is said after U(0, boot delay)."""
        self._open_ledger()
        self._pace.boot(self._now_s(), self._options.boot_delay_s)

    def step(self, stop: threading.Event) -> None:
        """Send one batch when it is time, or wait half a second at most."""
        self._stop = stop
        now_s = self._now_s()
        due_s = max(self._pace.due_s - now_s, self._precedence.wait_s(self.stream, now_s))
        if due_s > 0:
            self._pause(stop, min(due_s, _IDLE_S))
            return
        try:
            self._advance()
        except JournalFull as error:
            self._hold("waiting", error.reason, None)

    def close(self) -> None:
        """Release the uplink and the ledger; at an orderly stop, after a last try to deliver what has just come in."""
        try:
            if self._stop is not None and self._stop.is_set():
                self._last_try()
        finally:
            self._uplink.close()
            self._close_ledger()

    def _last_try(self) -> None:
        """Send what waits while all is well: a stop is no reason to wait for an answer that may not come."""
        ends_s = self._now_s() + _LAST_WORD_S
        with contextlib.suppress(JournalFull, Unavailable):
            while self._condition in ("live", "draining") and self._rate() is None and self._now_s() < ends_s:
                before = self._after
                self._advance()
                if self._after == before:
                    return

    # -- for the page and for commands; from any thread

    def state(self) -> SyncState:
        """How delivery of this stream is now."""
        return SyncState(
            self.stream, self._condition, self._reason, max(0.0, self._pace.due_s - self._clock.now().mono_s)
        )

    def replay(self, after: int) -> None:
        """Send everything above position `after` again, as far as it is kept; the platform knows it as duplicates."""
        self._rewind_to = max(0, after)

    # -- the machine

    def _advance(self) -> None:
        view = self._ledger.view(self.stream)
        after = self._place(view)
        if after is None:
            return
        cap = self._rate()
        most = self._size.events if cap is None else max(1, min(self._size.events, int(cap * _CAPPED_BATCH_S)))
        limit = self._search.limit(most)
        events = self._ledger.read(self.stream, after, limit, self._size.bytes) if view.head > after else []
        lane = view.lane(self.stream, after + 1)
        if view.head <= after:
            self._pace.idle(self._now_s())
            self._precedence.draining(self.stream, self._now_s(), False)
            self._condition, self._reason = "live", ""
            return
        if lane.epoch not in self._greeted and not self._greet(view, lane, after):
            return
        if not events or events[0].position > after + 1:
            missing_through = min(events[0].position - 1 if events else view.head, view.end(after + 1))
            self._declare(view, lane, after, missing_through)
            return
        self._send(view, lane, after, _run(events))

    def _place(self, view: StreamView) -> int | None:
        """The position after which to send; None when it has just been decided anew and the step is over."""
        rewind, self._rewind_to = self._rewind_to, None
        if rewind is not None and rewind < (view.cursor if self._after is None else self._after):
            self._after = rewind
        if self._after is not None:
            return self._after
        if view.cursor > 0:
            lane = view.lane(self.stream, view.cursor)
            # Also when nothing is pending: a platform that was restored from a backup asks for its lost tail.
            if not self._greet(view, lane, view.cursor):
                return None
            return self._after if self._after is not None else view.cursor
        self._after = view.cursor
        return self._after

    def _greet(self, view: StreamView, lane: Lane, after: int) -> bool:
        """Ask the platform where it stands in this lane; True when it agrees with `after`."""
        number = next(i for i, epoch in enumerate(view.epochs) if epoch.epoch == lane.epoch)
        result = self._ask(view, number)
        if result.outcome != "taken":
            self._refused(result, lane)
            return False
        acked = result.acked_through
        if acked < 0:  # it cannot say: our own cursor counts
            self._after = after
            return True
        epoch = view.epochs[number]
        has, end = epoch.base + acked, view.end(epoch.base + 1) if view.head > epoch.base else epoch.base
        if has > end:
            if number == len(view.epochs) - 1:
                return self._lost_tail(view, lane, acked)
            has = end  # the younger epoch began because the tail was lost: nothing more to do here
        if has < after:
            return self._rewind(view, number, has, after)
        self._after = after
        return True

    def _ask(self, view: StreamView, number: int) -> BatchResult:
        """How far the platform has an epoch: `acked_through`, -1 where it cannot say, if the outcome is `taken`."""
        epoch = view.epochs[number]
        self._pace.sent(self._now_s())
        result = self._uplink.greet(
            Lane(epoch.gateway, self.stream, epoch.epoch), _reason(epoch),
            view.epochs[number - 1].epoch if number else None,
        )  # fmt: skip
        if result.outcome == "taken":
            self._greeted.add(epoch.epoch)
        return result

    def _rewind(self, view: StreamView, number: int, has: int, after: int) -> Literal[False]:
        """Go back to what the platform has. One that has nothing of an epoch was set back to before it began, or is
        new: then it may lack the end of the older ones, too, which are asked for as far as anything of them is kept.
        """
        asked = number
        while has == view.epochs[number].base and number > 0 and 0 < view.oldest <= has:
            result = self._ask(view, number - 1)
            if result.outcome in ("closed", "unauthorised"):  # it has just taken the younger one: this one is meant
                log.warning("stream=%s sync=older_epoch_refused reason=%r", self.stream, result.reason)
                break
            if result.outcome != "taken":
                self._refused(result, view.lane(self.stream, has))
                self._greeted.discard(view.epochs[asked].epoch)  # all over again when it answers
                return False
            if result.acked_through < 0:
                break
            number -= 1
            has = min(view.epochs[number].base + result.acked_through, has)
        log.warning("stream=%s sync=rewind platform_has=%d after=%d", self.stream, has, after)
        self._after = has
        return False

    def _lost_tail(self, view: StreamView, lane: Lane, acked: int) -> bool:
        """The platform has more than the journal: what is written from now on must not use those numbers again."""
        self._ledger.begin_epoch(self.stream, view.head, "restored")
        self.counters.epochs += 1
        log.error("stream=%s epoch=new reason=server_ahead lane=%s platform_has=%d", self.stream, lane, acked)
        self._alarm(
            "sync.tail-lost",
            f"The platform has {self.stream} up to number {acked}, the journal ends earlier: it was restored or lost "
            "its end. A new epoch has begun; check the disk.",
        )
        self._after = view.cursor
        return False

    def _send(self, view: StreamView, lane: Lane, after: int, events: list[StoredEvent]) -> None:
        batch = Batch(lane, events[0].seq, tuple(event.json for event in events))
        started_s = self._now_s()
        self._pace.sent(started_s)
        result = self._uplink.send(batch)
        self.counters.batches += 1
        if result.outcome == "taken":
            self._taken(view, batch, after, result)
        elif result.outcome == "bisect":
            self._bisect(lane, events, result)
        elif result.outcome == "too_large":
            self._too_large(lane, events, batch, result)
        elif result.outcome == "gap":
            self._gap(lane, batch, after, result)
        elif result.outcome == "conflict":
            self._conflict(view, lane, batch, after, result)
        elif result.outcome == "unknown_epoch":
            self._greeted.discard(lane.epoch)
            self._spin("the platform does not know the epoch", result)
        else:
            self._refused(result, lane)

    def _taken(self, view: StreamView, batch: Batch, after: int, result: BatchResult) -> None:
        base = after + 1 - batch.first
        through = base + result.acked_through
        fresh = through - max(view.cursor, after)
        if through > view.cursor:
            rejected = {base + verdict.seq: _verdict(verdict) for verdict in result.rejected}
            self._ledger.acknowledge(self.stream, through, rejected)
        self._after = through
        self._adopt(result)
        counters, now_s = self.counters, self._now_s()
        counters.events += max(0, fresh)
        counters.duplicates += result.duplicates
        counters.rejected += len(result.rejected)
        if through == after:
            wait_s = result.stopped.retry_after_s if result.stopped else None
            self._hold("waiting", f"the platform took nothing ({_why(result)})", wait_s)
            return
        counters.last_taken_mono_s = now_s
        self._refused_in_row = self._again = 0
        self._search.settled(through, set_aside=False)
        self._size.taken()
        self._clear()
        backlog = view.head > through
        if result.stopped is not None and result.stopped.retry_after_s is not None:
            self._pace.worked(now_s, backlog=False)
            self._hold("waiting", f"the platform stopped at {result.stopped.seq} ({result.stopped.code})",
                       result.stopped.retry_after_s)  # fmt: skip
            return
        full = len(batch.events) >= self._search.limit(self._size.events)
        more = backlog and (full or self._search.on or view.head - through > self._size.events // 2)
        cap = self._rate()
        self._pace.worked(now_s, backlog=more, rest_s=len(batch.events) / cap if cap else 0.0)
        self._precedence.draining(self.stream, now_s, more and cap is None)  # a capped stream holds nobody up
        self._set("draining" if more else "live", "")

    def _bisect(self, lane: Lane, events: list[StoredEvent], result: BatchResult) -> None:
        """The batch was refused as a whole: halve it until the event that the platform cannot take is alone."""
        if len(events) > 1:
            self._search.refused(events[0].position, events[-1].position)
            self._pace.again()
            return
        position = events[0].position
        if not self._search.refused_alone(position):
            self._hold("waiting", result.reason, result.retry_after_s)
            return
        self._set_aside(lane, position, events[0].seq, f"{CODE_BISECTED}: {result.reason}", CODE_BISECTED)

    def _too_large(self, lane: Lane, events: list[StoredEvent], batch: Batch, result: BatchResult) -> None:
        if len(events) > 1:
            self._size.too_large(len(events), len(batch.body))
            self._pace.again()
            return
        self._size.giant_found()
        self._set_aside(lane, events[0].position, events[0].seq, f"{CODE_TOO_LARGE}: {result.reason}", CODE_TOO_LARGE)

    def _set_aside(self, lane: Lane, position: int, seq: int, reason: str, code: str) -> None:
        """Quarantine one event that the platform cannot even judge, and tell it not to wait for it."""
        self._refused_in_row += 1
        if self._refused_in_row > _SUSPICIOUS:
            self._alarm(
                "sync.refuses-everything",
                f"The platform refuses one {self.stream} event after the other without a verdict: {reason}",
            )
            self._hold("waiting", "the platform refuses one event after the other", None)
        told = self._uplink.declare_gap(lane, seq, seq, code)
        if told.outcome != "taken":
            self._refused(told, lane)
            return
        self._ledger.acknowledge(self.stream, position, {position: reason})
        log.warning("stream=%s quarantined=%s seq=%d", self.stream, code, seq)
        self.counters.rejected += 1
        self._after = position
        self._search.settled(position, set_aside=True)

    def _gap(self, lane: Lane, batch: Batch, after: int, result: BatchResult) -> None:
        """The platform expects an earlier event: go back to it; what is not kept is declared on the way."""
        assert result.expected_seq is not None
        if result.expected_seq >= batch.first:
            self._greeted.discard(lane.epoch)
            self._after = None
            self._spin(f"it expects {result.expected_seq}, beyond the {batch.first} that it was sent", result)
            return
        log.warning("stream=%s sync=gap expected=%d sent=%d", self.stream, result.expected_seq, batch.first)
        self._after = after + 1 - batch.first + result.expected_seq - 1
        self._spin("the platform expects earlier events", result)

    def _declare(self, view: StreamView, lane: Lane, after: int, through: int) -> None:
        """Positions that are not kept any more: tell the platform that they will never come."""
        base = view.epoch_at(after + 1).base
        self._pace.sent(self._now_s())
        result = self._uplink.declare_gap(lane, after + 1 - base, through - base, "not kept by the gateway")
        if result.outcome != "taken":
            self._refused(result, lane)
            return
        self.counters.gaps += 1
        log.error("stream=%s sync=gap_declared first=%d last=%d", self.stream, after + 1 - base, through - base)
        if through > view.cursor:
            self._ledger.acknowledge(self.stream, through, {})
        self._after = through

    def _conflict(self, view: StreamView, lane: Lane, batch: Batch, after: int, result: BatchResult) -> None:
        """The platform has other bytes under a number of ours: from there on, the events get new numbers."""
        seq = result.conflict_seq
        if seq is None or not batch.first <= seq <= batch.last:
            if len(batch.events) > 1:
                self._search.refused(after + 1, after + len(batch.events))  # find the first one that differs
                self._spin("a conflict somewhere in the batch", result)
                return
            seq = batch.first
        base = after + seq - batch.first
        if base < view.cursor:
            # It differs in what was delivered long ago (the platform was restored to something else). Those events
            # keep their numbers; only what was never delivered can be given others.
            base = view.cursor
        self._ledger.begin_epoch(self.stream, base, "conflict")
        self.counters.epochs += 1
        self._search.stop()
        log.error("stream=%s epoch=new reason=conflict lane=%s seq=%d", self.stream, lane, seq)
        self._alarm(
            "sync.conflict",
            f"The platform has another event under {self.stream} number {seq}: this gateway was cloned, or its journal "
            "was restored or damaged. A new epoch has begun; look for a second machine with the same name.",
        )
        self._after = max(after, view.cursor) if base == view.cursor else after
        self._spin("sequence conflict", result)

    def _refused(self, result: BatchResult, lane: Lane) -> None:
        """Outcomes that only time or people can change."""
        outcome = result.outcome
        match outcome:
            case "unauthorised":
                self._alarm(
                    "sync.unauthorised",
                    f"The platform does not accept this gateway's credentials ({result.reason}).",
                )
                self._hold("unauthorised", result.reason, result.retry_after_s, CREDENTIALS_CAP_S)
            case "closed":
                self._greeted.discard(lane.epoch)  # it is asked, not pushed to, until it opens again
                self._alarm(
                    "sync.closed",
                    f"The platform has closed this gateway or its epoch ({result.reason}). Events are kept.",
                )
                self._hold("closed", result.reason, result.retry_after_s)
            case "retry" | "bisect" | "gap" | "conflict" | "unknown_epoch" | "too_large" | "unsupported":
                self._hold("waiting", result.reason, result.retry_after_s)
            case "taken":
                raise AssertionError("a taken batch is no refusal")
            case _:
                assert_never(outcome)

    # -- small things

    def _spin(self, reason: str, result: BatchResult) -> None:
        """The answer asks for another request at once; the second time without progress in between, it waits."""
        self._again += 1
        if self._again > 1:
            self._hold("waiting", f"{reason}: {result.reason}", result.retry_after_s)
        else:
            self._pace.again()

    def _hold(self, condition: Condition, reason: str, retry_after_s: float | None, cap_s: float = 300.0) -> None:
        self.counters.failures += 1
        wait_s = self._pace.failed(self._now_s(), retry_after_s, cap_s)
        self._precedence.draining(self.stream, self._now_s(), False)
        self._set(condition, reason)
        log.debug("stream=%s sync=%s wait_s=%.1f", self.stream, condition, wait_s)

    def _set(self, condition: Condition, reason: str) -> None:
        down, was_down = condition not in ("live", "draining"), self._condition not in ("live", "draining", "starting")
        if down and not was_down:
            log.warning("stream=%s sync=down state=%s reason=%r", self.stream, condition, reason)
        elif was_down and not down:
            log.warning("stream=%s sync=up", self.stream)
        self._condition, self._reason = condition, reason

    def _adopt(self, result: BatchResult) -> None:
        self._size.told(result.limits)
        self.commands_pending = result.commands_pending
        if result.limits.min_interval_s is not None:
            self._pace.min_interval_s = min(result.limits.min_interval_s, 60.0)

    def _alarm(self, what: str, hint: str) -> None:
        self._alarmed.add(what)
        self._alarms.raised(f"{what}.{self.stream}", hint)

    def _clear(self) -> None:
        for what in self._alarmed - {"sync.conflict", "sync.tail-lost"}:  # those need a look, whatever happens next
            self._alarms.cleared(f"{what}.{self.stream}")
            self._alarmed.discard(what)

    def _now_s(self) -> float:
        return self._clock.now().mono_s


def _run(events: list[StoredEvent]) -> list[StoredEvent]:
    """The events up to the first hole or change of epoch."""
    first = events[0]
    for index, event in enumerate(events):
        if event.epoch != first.epoch or event.position != first.position + index:
            return events[:index]
    return events


def _verdict(rejection: Rejection) -> str:
    text = f"{rejection.code}: {rejection.detail}" if rejection.detail else rejection.code
    return f"{text[:380]} [{rejection.verdict_id}]" if rejection.verdict_id else text


def _why(result: BatchResult) -> str:
    return result.stopped.code if result.stopped and result.stopped.code else "without saying why"


def _reason(epoch: StreamEpoch) -> Literal["fresh", "restored", "salvaged", "conflict", "renamed"]:
    known: dict[str, Literal["fresh", "restored", "salvaged", "conflict", "renamed"]] = {
        "restored": "restored", "salvaged": "salvaged", "conflict": "conflict", "renamed": "renamed",
    }  # fmt: skip
    return known.get(epoch.reason, "fresh")
