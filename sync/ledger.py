"""The journal as the syncer sees it: reads through a reader of its own, writes through the one writing thread.

Everything that moves the cursor is one transaction of the journal. Knows no network.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal import identity
from gateway.journal.cursor import UPLINK, acknowledge, renumber
from gateway.journal.reader import JournalReader, StoredEvent
from sync.ports import StreamView
from sync.uplink import EpochReason

_ANSWER_S = 30.0


class Submits(Protocol):
    """The commit loop: runs a piece of work in one transaction on the writing thread."""

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        """The future gives what `work` returned or raised."""
        ...


class JournalLedger:
    """`Ledger` over the journal file. `open` first, `close` last, one thread."""

    def __init__(
        self, path: Path, writer: Submits, gateway: str, clock: Clock, seal: Callable[[bytes], bytes] = bytes
    ) -> None:
        """`seal` encrypts what goes to quarantine, as in `JournalWriter`."""
        self._path = path
        self._writer = writer
        self._gateway = gateway
        self._clock = clock
        self._seal = seal
        self._reader = JournalReader(path)

    def open(self) -> None:
        """Connect the reader.

        Raises:
            JournalError: there is no journal yet, or it cannot be read.
        """
        self._reader.open()

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()

    def view(self, stream: Stream) -> StreamView:
        """Where the stream stands."""
        rows = self._reader.query("SELECT position FROM cursor WHERE name = ? AND stream = ?", (UPLINK, stream))
        kept = self._reader.query(f"SELECT coalesce(min(position), 0) FROM {_table(stream)}")  # noqa: S608 - fixed names
        epochs = tuple(self._reader.epochs(stream))
        return StreamView(int(rows[0][0]) if rows else 0, int(kept[0][0]), self._reader.head(stream), epochs)

    def read(self, stream: Stream, after: int, limit: int, max_bytes: int) -> list[StoredEvent]:
        """Events above `after`."""
        return self._reader.read(stream, after, limit, max_bytes)

    def acknowledge(self, stream: Stream, through: int, rejected: Mapping[int, str]) -> int:
        """Cursor and quarantine in one transaction."""
        now_ms = int(self._clock.now().wall_s * 1000)
        settled = self._run(
            lambda connection: acknowledge(connection, stream, through, rejected, now_ms=now_ms, seal=self._seal)
        )
        return int(settled.position)

    def begin_epoch(self, stream: Stream, base: int, reason: EpochReason) -> str:
        """A new epoch from `base` on."""
        now_ms = int(self._clock.now().wall_s * 1000)
        epoch = secrets.token_hex(16)
        self._run(lambda connection: renumber(connection, stream, base, epoch, self._gateway, reason, now_ms))
        self._run(lambda connection: identity.save(self._path, connection))
        return epoch

    def _run(self, work: Callable[[Any], Any]) -> Any:
        try:
            return self._writer.submit(work).result(_ANSWER_S)
        except TimeoutError as error:
            raise Unavailable(
                "move uplink cursor", str(self._path), f"the journal did not answer within {_ANSWER_S:g} s"
            ) from error


def _table(stream: Stream) -> str:
    if stream not in STREAMS:
        raise ValueError(f"stream: {stream!r} is none of {', '.join(STREAMS)}")
    return stream
