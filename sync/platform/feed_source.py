"""The platform's events as a feed: one log in order of arrival, for every gateway together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from gateway.errors import Rejected
from sync.feed import Bounds, FeedToken, Offset, Page, Position
from sync.platform.store import PlatformStore


class PlatformFeed:
    """`FeedSource` and `Offsets` over the platform's database."""

    def __init__(self, store: PlatformStore) -> None:
        """`store`: open."""
        self._store = store
        self._generation = b""

    def bounds(self) -> Bounds:
        """What is there."""
        low, high = self._store.bounds()
        return Bounds((max(0, low - 1),), (high,))

    def page(self, after: Position, high: Position, streams: Sequence[str], limit: int) -> Page:
        """The next events; where there are no more, the page reaches to the end whatever streams were asked for."""
        rows = [row for row in self._store.events(after[0], limit, streams) if row[0] <= high[0]]
        reach = rows[-1][0] if len(rows) == limit else high[0]
        return Page([body for _, body in rows], (max(after[0], reach),))

    def tag(self, position: Position) -> bytes:
        """The database's own generation."""
        if not self._generation:
            self._generation = hashlib.sha256(self._store.fact("generation").encode()).digest()[:8]
        return self._generation

    def lag(self, position: Position, high: Position, streams: Sequence[str]) -> int:
        """Events of all streams between."""
        return max(0, high[0] - position[0])

    def find(self, consumer: str) -> Offset | None:
        """A consumer's offset."""
        found = self._store.offset(consumer)
        return None if found is None else Offset((found[0],), str(found[1]))

    def commit(self, token: FeedToken, position: Position, expected: str | None) -> Offset | None:
        """Commit a consumer's offset; this platform keeps everything, so nothing needs to be required."""
        if expected is not None and expected != "" and not expected.isdigit():
            return None
        version = None if expected is None else int(expected or 0)
        try:
            return Offset(position, str(self._store.commit(token.consumer, position[0], version)))
        except Rejected:
            return None

    def drop(self, consumer: str) -> bool:
        """Forget a consumer."""
        return self._store.drop(consumer)
