"""The gateway's feed: the journal's three streams as one, in order of when they were written, from its own bytes.

Every page ends within a cut through the streams that was taken in one look at the database; below such a cut nothing
can appear later, so a page read again is the same page. Offsets are the journal's own cursors, which is what retention
looks at. Knows no HTTP.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal.cursor import advance, ensure, forget, positions
from gateway.journal.reader import JournalReader, StoredEvent
from sync.feed import Bounds, FeedToken, Offset, Page, Position

T = TypeVar("T")

_MARK = b'"recordedtime":"'
_TIME_BYTES = 24
_STREAM_BOUNDS = (
    "(SELECT coalesce(min(position) - 1, -1) FROM {0}), (SELECT coalesce(max(position), 0) FROM {0}), "
    "(SELECT coalesce(max(base), 0) FROM epoch WHERE stream = '{0}')"
)
_BOUNDS = "SELECT " + ", ".join(map(_STREAM_BOUNDS.format, STREAMS))
_ANSWER_S = 10.0


class Submits(Protocol):
    """The commit loop, see `sync.ledger.Submits`."""

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        """The future gives what `work` returned or raised."""
        ...


class JournalFeed:
    """`FeedSource` over the journal. `open` first, `close` last."""

    def __init__(self, path: Path, chunk: int = 512) -> None:
        """`chunk`: events read from a stream at once."""
        self._reader = JournalReader(path)
        self._chunk = chunk

    def open(self) -> None:
        """Connect.

        Raises:
            JournalError: the journal cannot be read.
        """
        self._reader.open()

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()

    def bounds(self) -> Bounds:
        """What is kept, of all streams in one look."""
        row = tuple(self._reader.query(_BOUNDS)[0])
        low: list[int] = []
        high: list[int] = []
        for index in range(0, len(row), 3):
            before, last, base = row[index : index + 3]
            low.append(before if before >= 0 else base)  # an empty stream begins where its epoch does
            high.append(max(last, low[-1]))
        return Bounds(tuple(low), tuple(high))

    def page(self, after: Position, high: Position, streams: Sequence[str], limit: int) -> Page:
        """The next events of the streams, oldest writing first."""
        names = [stream for stream in STREAMS if stream in streams]
        lanes = [self._lane(stream, after[STREAMS.index(stream)], high[STREAMS.index(stream)], limit, len(names))
                 for stream in names]  # fmt: skip
        taken = list(islice(lanes[0] if len(lanes) == 1 else merge(*lanes, key=_written), limit))
        place = list(after)
        for event in taken:
            place[STREAMS.index(event.stream)] = event.position
        return Page([event.json for event in taken], tuple(place))

    def tag(self, position: Position) -> bytes:
        """Which epochs the positions lie in."""
        parts = []
        for stream, at in zip(STREAMS, position, strict=True):
            epochs = self._reader.epochs(stream)
            parts.append(epochs[max(0, bisect_left([e.base for e in epochs], at) - 1)].epoch if at else "")
        return hashlib.sha256("/".join(parts).encode()).digest()[:8]

    def lag(self, position: Position, high: Position, streams: Sequence[str]) -> int:
        """Positions between, which are events but for holes."""
        return sum(max(0, high[index] - position[index]) for index, stream in enumerate(STREAMS) if stream in streams)

    def _lane(self, stream: Stream, after: int, high: int, limit: int, lanes: int) -> Iterator[StoredEvent]:
        chunk = min(self._chunk, limit if lanes == 1 else limit // lanes + 32)
        while after < high:
            events = self._reader.read(stream, after, chunk)
            if not events:
                return
            for event in events:
                if event.position > high:
                    return
                yield event
            after = events[-1].position


class JournalOffsets:
    """`Offsets` in the journal's cursor table, as `feed:<consumer>`."""

    def __init__(self, writer: Submits, clock: Clock) -> None:
        """`writer`: the commit loop."""
        self._writer = writer
        self._clock = clock

    def find(self, consumer: str) -> Offset | None:
        """The committed offset."""
        return self._run(lambda connection: _find(connection, consumer))

    def commit(self, token: FeedToken, position: Position, expected: str | None) -> Offset | None:
        """Move the cursors forward, in one transaction; a stream behind its cursor stays where it is.

        Only the token's own streams have a cursor: retention would wait for ever for one that is never read.
        """
        now_ms = int(self._clock.now().wall_s * 1000)

        def work(connection: Any) -> Offset | None:
            before = _find(connection, token.consumer)
            if expected is not None and expected != (before.version if before else ""):
                return None
            name = f"feed:{token.consumer}"
            forget(connection, name, besides=token.streams)
            mine = [stream for stream in STREAMS if stream in token.streams]
            ensure(connection, name, token.required, streams=mine, now_ms=now_ms)
            for stream in mine:
                advance(connection, name, stream, position[STREAMS.index(stream)], now_ms)
            return _find(connection, token.consumer)

        return self._run(work)

    def drop(self, consumer: str) -> bool:
        """Forget the cursors."""
        return bool(self._run(lambda connection: forget(connection, f"feed:{consumer}")))

    def _run(self, work: Callable[[Any], T]) -> T:
        try:
            result: T = self._writer.submit(work).result(_ANSWER_S)
        except TimeoutError as error:
            raise Unavailable("commit offset", "journal", f"no answer within {_ANSWER_S:g} s") from error
        return result


def _find(connection: Any, consumer: str) -> Offset | None:
    found = {cursor.stream: cursor.position for cursor in positions(connection, f"feed:{consumer}")}
    if not found:
        return None
    position = tuple(found.get(stream, 0) for stream in STREAMS)
    return Offset(position, hashlib.sha256(repr(position).encode()).hexdigest()[:16])


def _written(event: StoredEvent) -> bytes:
    start = event.json.find(_MARK) + len(_MARK)
    return event.json[start : start + _TIME_BYTES]
