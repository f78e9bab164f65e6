"""Tells every hour how many tagged items of a GTIN are in a zone, as `store.stock.counted`, where that has changed.

What was told last is in the read model (`projections.stock`), so a restart tells nothing twice and a change is told
once. A reader that is dark says nothing, and so nothing is told of it. Counts no tag itself.
"""

from __future__ import annotations

import threading
from hashlib import blake2b

from gateway.event import STREAMS, Draft, draft
from gateway.event_types import StockCounted, type_of
from gateway.intake.inlet import Item
from gateway.journal.reader import JournalReader
from gateway.projections.stock import OWN_PATH, untold_of
from gateway.workers.witness import Gateway

_LANE = ".stock"
_OFFER_S = 0.25
_AT_ONCE = 1000
_EVERY_S = 3600.0
_PAUSE_S = 5.0  # between a thousand lines and the next, and between two looks at the clock
_BEHIND_MOST = 500


class StockHours:
    """Worker. The first telling is an hour after the start: then the tags on the shelves have arrived."""

    def __init__(self, gateway: Gateway, every_s: float = _EVERY_S) -> None:
        """Store."""
        self._gateway, self._every_s = gateway, every_s
        self._reader = JournalReader(gateway.journal_path)
        self._due_s = gateway.clock.now().mono_s + every_s
        self._waiting: Item | None = None

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Tell what has changed, a thousand lines at once, when the hour is over.

        Raises:
            JournalError: the journal cannot be read.
        """
        if self._waiting is None and self._gateway.clock.now().mono_s >= self._due_s and self._gateway.commits.is_open:
            self._waiting = self._look()
        if self._waiting is not None and self._gateway.inlet.offer(_LANE, self._waiting, _OFFER_S):
            self._waiting = None
        stop.wait(_PAUSE_S)

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _look(self) -> Item | None:
        """The next lines, when the read model has folded about all there is."""
        if not self._reader.is_open:
            self._reader.open()
        if self._behind():
            return None
        lines = untold_of(self._reader.query, _AT_ONCE)
        if len(lines) < _AT_ONCE:
            self._due_s = self._gateway.clock.now().mono_s + self._every_s
        return Item([self._draft(line.gtin, line.zone, line.tags) for line in lines]) if lines else None

    def _draft(self, gtin: str, zone: str, tags: int) -> Draft:
        data = StockCounted(gtin=gtin, zone=zone, epc_count=tags)
        entry, now = type_of(data), self._gateway.clock.now()
        # A line that was told and is not folded yet is the same fact within its hour.
        fact = blake2b(
            f"stock\x1f{gtin}\x1f{zone}\x1f{tags}\x1f{now.wall_s // self._every_s:.0f}".encode(), digest_size=8
        )
        return draft(
            entry.stream, entry.name, data, source=self._gateway.origin.source(OWN_PATH), subject=gtin,
            at=now, zone=zone or None, dedupe=fact.digest(),
        )  # fmt: skip

    def _behind(self) -> bool:
        """Whether the stock's read model has many events to fold; a few newest ones do not matter."""
        rows = self._reader.query("SELECT stream, position FROM cursor WHERE name = 'projection:stock'")
        return not rows or any(
            self._reader.head(stream) - int(row["position"]) > _BEHIND_MOST
            for row in rows
            for stream in STREAMS
            if row["stream"] == stream
        )
