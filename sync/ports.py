"""What sync needs of the gateway: the journal as the uplink sees it, alarms, and a way to hand in events.

Knows no SQLite and no thread.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from gateway.event import Draft, Stream
from gateway.journal.reader import StoredEvent
from gateway.journal.schema import StreamEpoch
from sync.uplink import EpochReason, Lane

Emit = Callable[[Draft], bool]
"""Hands an event to the inlet; False when it could not be taken now."""


class StreamView(msgspec.Struct, frozen=True):
    """Where a stream stands, in positions: `cursor` and below are settled, `oldest`–`head` are kept (0: none)."""

    cursor: int
    oldest: int
    head: int
    epochs: tuple[StreamEpoch, ...]  # oldest first, at least one, bases never fall

    def epoch_at(self, position: int) -> StreamEpoch:
        """The epoch that a position belongs to."""
        return self.epochs[max(0, bisect_left([epoch.base for epoch in self.epochs], position) - 1)]

    def end(self, position: int) -> int:
        """The last position written so far that belongs to the same epoch as `position`."""
        mine = self.epoch_at(position)
        later = [epoch.base for epoch in self.epochs if epoch.base > mine.base]
        return min(later[0] if later else self.head, self.head)

    def lane(self, stream: Stream, position: int) -> Lane:
        """The lane that a position belongs to."""
        epoch = self.epoch_at(position)
        return Lane(epoch.gateway, stream, epoch.epoch)


class Ledger(Protocol):
    """The journal, for the uplink of one stream. One thread uses it.

    Errors: `JournalFull` when there is no room to write the cursor now, `JournalError` when the journal cannot be
    trusted, `Unavailable` when the writing thread does not answer in time.
    """

    def view(self, stream: Stream) -> StreamView:
        """Where the stream stands."""
        ...

    def read(self, stream: Stream, after: int, limit: int, max_bytes: int) -> list[StoredEvent]:
        """Up to `limit` events above position `after`, in order; at least one if there is one."""
        ...

    def acknowledge(self, stream: Stream, through: int, rejected: Mapping[int, str]) -> int:
        """Move the cursor to `through` and the rejected positions to quarantine, in one durable transaction.

        Returns where the cursor stands; it never goes back.
        """
        ...

    def begin_epoch(self, stream: Stream, base: int, reason: EpochReason) -> str:
        """Number everything above position `base` anew, in an epoch of its own; returns its id."""
        ...


class Alarms(Protocol):
    """Where trouble is told to people. Both may be called again and again with the same `what`."""

    def raised(self, what: str, hint: str, *, critical: bool = False) -> None:
        """Something needs a hand."""
        ...

    def cleared(self, what: str) -> None:
        """It is in order again, or never was otherwise."""
        ...
