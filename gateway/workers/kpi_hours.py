"""Tells the key figures of every hour that has ended, once, as `store.kpi.hour`; and again when they were corrected.

Its place is the journal: an hour has been told when its event is there (`projections.kpi_told`). An hour of which
nothing is known is not told; late events of the last two days make a new revision that supersedes. Hours are instants,
so a night when the clocks change has its 23 or 25; while the clock has just been set, it waits. Decides no figure.
"""

from __future__ import annotations

import threading
from hashlib import blake2b

from gateway.clock import Instant, rfc3339_s
from gateway.event import STREAMS, Draft, draft
from gateway.event_types import Covered, KpiHour, type_of
from gateway.intake.inlet import Item
from gateway.journal.reader import JournalReader
from gateway.projections.kpi import HOUR_MS, Kpis, Peaks, Sources, hour_kpis, hours_of
from gateway.projections.kpi_rows import read_rows
from gateway.projections.kpi_told import Told, digest_of, told_of
from gateway.projections.store_time import StoreTime
from gateway.workers.witness import Gateway

_LANE = ".key-figures"
_OFFER_S = 0.25
_LOOK_EVERY_S = 30.0
_PAUSE_S = 5.0
_AGAIN_EVERY_S = 600.0  # how often hours that were told are looked at again
SETTLED_MS = 240_000  # after an hour's end: counters tell their intervals late
LOOKS_BACK_MS = 48 * HOUR_MS
_BEHIND_MOST = 500  # events that the read models may still have to fold


class KpiHours:
    """Worker."""

    def __init__(self, gateway: Gateway, sources: Sources, store_time: StoreTime) -> None:
        """`store_time`: the store's calendar, this object's own."""
        self._gateway, self._sources, self._time = gateway, sources, store_time
        self._reader = JournalReader(gateway.journal_path)
        self._looked_s: float | None = None
        self._again_s: float | None = None
        self._waiting: Item | None = None

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Tell the hours that have ended since.

        Raises:
            JournalError: the journal cannot be read.
        """
        now = self._gateway.clock.now()
        due = self._looked_s is None or now.mono_s - self._looked_s >= _LOOK_EVERY_S
        if due and self._gateway.commits.is_open and self._waiting is None:
            self._looked_s = now.mono_s
            drafts = self._look(now)
            self._waiting = Item(drafts) if drafts else None
        if self._waiting is not None and self._gateway.inlet.offer(_LANE, self._waiting, _OFFER_S):
            self._waiting = None
        stop.wait(_PAUSE_S)

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _look(self, now: Instant) -> list[Draft]:
        if now.quality == "stepped":
            return []
        if not self._reader.is_open:
            self._reader.open()
        if self._behind() > _BEHIND_MOST:
            return []
        again = self._again_s is None or now.mono_s - self._again_s >= _AGAIN_EVERY_S
        if again:
            self._again_s = now.mono_s
        now_ms = int(now.wall_s * 1000)
        first_ms, last_ms = now_ms - LOOKS_BACK_MS, now_ms - HOUR_MS - SETTLED_MS
        days = sorted({self._time.day(at) for at in range(first_ms, last_ms + HOUR_MS, HOUR_MS)})
        told = told_of(self._reader.query, days[0], days[-1])
        drafts = []
        for day in days:
            rows = read_rows(self._reader.query, day, day, self._time)
            peaks = Peaks(rows, self._sources, self._time)
            for hour_ms in hours_of(rows):
                before = told.get(hour_ms)
                if not first_ms <= hour_ms <= last_ms or (before is not None and not again):
                    continue
                kpis = hour_kpis(rows, self._sources, self._time, hour_ms, now_ms, peaks)
                if (made := self._draft(kpis, before, now)) is not None:
                    drafts.append(made)
        return drafts

    def _draft(self, kpis: Kpis, before: Told | None, now: Instant) -> Draft | None:
        """The event of an hour; None for one of which nothing is known, or nothing new."""
        figures: dict[str, Covered] = {
            name: Covered(
                value=None if figure.value is None else float(figure.value),
                coverage=None if figure.coverage is None else round(figure.coverage, 4),
                reason=figure.reason,
            )
            for name, figure in kpis.figures.items()
        }
        digest = digest_of(figures)
        if (before is None and kpis.empty) or (before is not None and before.digest == digest):
            return None
        data = KpiHour(
            hour=rfc3339_s(kpis.begin_ms / 1000), day=kpis.first, figures=figures,
            revision=0 if before is None else before.revision + 1,
        )  # fmt: skip
        entry = type_of(data)
        fact = blake2b(f"kpi\x1f{kpis.begin_ms}\x1f{data.revision}\x1f{digest}".encode(), digest_size=8).digest()
        return draft(
            entry.stream, entry.name, data, source=self._gateway.origin.source("gateway"), at=now, dedupe=fact,
        )  # fmt: skip

    def _behind(self) -> int:
        """Events that the slowest read model has yet to fold."""
        heads = {stream: self._reader.head(stream) for stream in STREAMS}
        rows = self._reader.query("SELECT stream, position FROM cursor WHERE name GLOB 'projection:*'")
        if not rows:
            return _BEHIND_MOST + 1  # nothing has been folded yet
        return max(heads[row["stream"]] - int(row["position"]) for row in rows)
