"""How large a batch may be: what is configured, what the platform says, and what its refusals have taught.

A platform that says nothing gets batches of `UNTOLD_EVENTS`; one that names more gets more, up to what is configured,
so that a store with a long backlog needs few requests. A 413 halves. Was one giant event to blame, all that the halving
taught is void; else it is doubted again after many batches, since the proxy that refused may have been mended. Pure.

*Source*: docs/sync.md, "Push".
"""

from __future__ import annotations

from sync.uplink import Limits

UNTOLD_EVENTS = 500
_DOUBT_AFTER = 100  # batches taken in a row: what a refusal taught is then doubled, which costs a refusal in a hundred


class BatchSize:
    """The bounds of the next batch of one stream, before compression."""

    def __init__(self, most_events: int, most_bytes: int) -> None:
        """Both at least 1; never exceeded, whatever the platform says."""
        self._most = (most_events, most_bytes)
        self._taught = self._most
        self._before = self._most  # what was taught before the halving that is going on
        self._told = Limits()
        self._taken = 0

    @property
    def events(self) -> int:
        """How many events, at least 1."""
        return min(self._taught[0], self._told.max_events or UNTOLD_EVENTS)

    @property
    def bytes(self) -> int:
        """How many bytes, at least 1; a single event may have more."""
        return min(self._taught[1], self._told.max_bytes or self._most[1])

    def told(self, limits: Limits) -> None:
        """What the platform has said; what it leaves out stays as it was."""
        self._told = Limits(limits.max_events or self._told.max_events, limits.max_bytes or self._told.max_bytes)

    def taken(self) -> None:
        """A batch was taken."""
        self._taken += 1
        if self._taken >= _DOUBT_AFTER:
            self._taken = 0
            self._taught = self._before = (
                min(self._most[0], self._taught[0] * 2),
                min(self._most[1], self._taught[1] * 2),
            )

    def too_large(self, events: int, size_bytes: int) -> None:
        """A batch of several events was refused: the next has half of it."""
        self._taught = (min(self._taught[0], max(1, events // 2)), min(self._taught[1], max(1, size_bytes // 2)))
        self._taken = 0

    def giant_found(self) -> None:
        """A single event was refused: the batches were too large because of it."""
        self._taught = self._before
