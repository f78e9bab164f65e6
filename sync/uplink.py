"""What the syncer asks of a platform, and what it may be told: `Uplink`, `Batch`, `BatchResult`.

A `Lane` is one numbered sequence (gateway, stream, epoch). A batch is a run of one lane without holes; its events are
the journal's own bytes. Every answer of every transport becomes one `BatchResult`, whose `outcome` says what the syncer
has to do; only `taken` may move a cursor. Knows neither HTTP nor the journal.

*Source*: docs/sync.md.
"""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from gateway.event import Stream

Outcome = Literal[
    "taken",  # valid: advance, quarantine the rejected
    "retry",  # not now: nothing is known about the batch; wait and send again
    "bisect",  # the platform refuses the batch as a whole: find the event that it cannot take
    "unauthorised",  # credentials
    "closed",  # the platform does not want this gateway or epoch any more
    "gap",  # the platform expects an earlier event
    "conflict",  # the platform has other bytes under this number
    "unknown_epoch",  # open it first
    "too_large",  # send less at once
    "unsupported",  # another content coding, please
]

CODE_BISECTED = "client.bisected"  # refused alone three times, without a verdict from the platform
CODE_TOO_LARGE = "client.too-large"  # one event larger than the platform takes

EpochReason = Literal["fresh", "restored", "salvaged", "conflict", "renamed"]


class Lane(msgspec.Struct, frozen=True):
    """One gap-free sequence: the numbers 1, 2, 3 … belong to this triple."""

    gateway: str
    stream: Stream
    epoch: str

    def __str__(self) -> str:
        return f"{self.gateway}/{self.stream}/{self.epoch[:8]}"


class Batch(msgspec.Struct, frozen=True):
    """Events `first` … `first + len(events) - 1` of a lane, each as its JSON bytes; never empty."""

    lane: Lane
    first: int
    events: tuple[bytes, ...]

    @property
    def last(self) -> int:
        """Sequence number of the last event."""
        return self.first + len(self.events) - 1

    @property
    def body(self) -> bytes:
        """The CloudEvents batch: a JSON array of the very bytes of the journal."""
        return b"[" + b",".join(self.events) + b"]"


class Rejection(msgspec.Struct, frozen=True):
    """The platform's verdict on one event that it consumed without taking it in."""

    seq: int
    code: str
    detail: str = ""
    verdict_id: str = ""


class Stopped(msgspec.Struct, frozen=True):
    """Why the platform took only a part of the batch."""

    seq: int
    code: str
    retry_after_s: float | None = None


class Limits(msgspec.Struct, frozen=True):
    """What the platform wants a batch to be at most; None: it did not say."""

    max_events: int | None = None
    max_bytes: int | None = None
    min_interval_s: float | None = None


class BatchResult(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, checked. Fields beside `outcome` are set only where the outcome needs them.

    `acked_through` is in [first - 1, last] of the batch and counts rejected events too; for `greet` it is how far the
    platform has the lane, or -1 where it cannot say and the gateway's own cursor counts. `retry_after_s` is what the
    platform asked for, unjittered.
    """

    outcome: Outcome
    reason: str = ""  # for a person
    acked_through: int = 0
    rejected: tuple[Rejection, ...] = ()
    duplicates: int = 0
    stopped: Stopped | None = None
    limits: Limits = Limits()
    commands_pending: int = 0
    retry_after_s: float | None = None
    expected_seq: int | None = None  # gap
    conflict_seq: int | None = None  # conflict


class Uplink(Protocol):
    """A way to the platform. Used by one thread; every call returns within its time-out and never raises for what the
    network or the platform did: that is a `BatchResult`. Nothing is called after `close`.
    """

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        """How far does the platform have this lane? Opens it there when it is unknown.

        Called before the first batch of a lane, at every start. `taken` with `acked_through` is the answer.
        """
        ...

    def send(self, batch: Batch) -> BatchResult:
        """Deliver a batch; see `Outcome`. Calling it again with the same batch is always safe."""
        ...

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        """Tell the platform that `first` … `last` will never come. `taken`: it has noted it."""
        ...

    def close(self) -> None:
        """Release connections; safe to call twice."""
        ...
