"""The gateway's own witnesses: departures that silence proves, device states, losses and the heartbeat, as events.

They speak through the inlet like any source. Knows the parts it reports on; decides nothing about them.
"""

from __future__ import annotations

import os
import shutil
import threading
from importlib.metadata import version
from typing import Protocol

import psutil

from gateway.clock import Clock, Instant, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.event_types import DeviceStateChanged, EventData, LossDeclared, type_of
from gateway.event_types import Heartbeat as HeartbeatData
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.intake.normaliser import Normaliser
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.reader import JournalReader

_LANE = ".gateway"  # no device can have such a name
_OFFER_S = 1.0
_HEARTBEAT_EVERY_S = 60.0


class Departures:
    """Worker: twice a second, what has not been seen for too long has departed."""

    def __init__(self, normaliser: Normaliser, inlet: Inlet, clock: Clock) -> None:
        """Store."""
        self._normaliser, self._inlet, self._clock = normaliser, inlet, clock
        self._waiting: Item | None = None  # what the inlet has not taken yet

    def open(self) -> None:
        """Nothing to acquire."""

    def step(self, stop: threading.Event) -> None:
        """Expire and wait. While the inlet is full, nothing more departs: a step must come back all the same."""
        if self._waiting is None and (drafts := self._normaliser.expire(self._clock.now())):
            self._waiting = Item(drafts)
        if self._waiting is not None and self._inlet.offer(".departures", self._waiting, _OFFER_S):
            self._waiting = None
        stop.wait(0.5)

    def close(self) -> None:
        """Leave what has departed to the inlet: it is said once only."""
        if self._waiting is not None:
            self._inlet.leave(".departures", self._waiting)
            self._waiting = None


class Gateway(Protocol):
    """What the heartbeat reports on (`gateway.app.Gateway`)."""

    origin: Origin
    clock: Clock
    board: DeviceBoard
    inlet: Inlet
    commits: CommitLoop
    started: Instant

    def person_counts(self) -> dict[str, int]:
        """What became of readings that named a person, and of consents."""
        ...

    @property
    def journal_path(self) -> os.PathLike[str]:
        """The journal's file."""
        ...


class Heartbeat:
    """Worker: device states as they change, losses at the inlet as they happen, a heartbeat every minute."""

    def __init__(self, gateway: Gateway, declared: dict[str, int] | None = None) -> None:
        """`declared`: losses of each source that have been told; outlives this object, so that none is told twice."""
        self._gateway = gateway
        self._declared = {} if declared is None else declared
        self._reader = JournalReader(gateway.journal_path)  # type: ignore[arg-type]
        self._process = psutil.Process()
        self._version = version("storefront-gateway")
        self._untold: list[Draft] = []  # what the inlet has not taken yet; nothing is added to it until it has
        self._dropped: dict[str, int] = {}  # losses that it tells of, by source
        self._beat_s: float | None = None

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Report what has changed since the last second."""
        now = self._gateway.clock.now()
        if not self._untold:  # states and losses are differences: they wait where they are counted
            self._untold = [*self._losses(now), *self._states(now)]
            due = self._beat_s is None or now.mono_s - self._beat_s >= _HEARTBEAT_EVERY_S
            if due and (beat := self._heartbeat(now)) is not None:
                self._untold.append(beat)
                self._beat_s = now.mono_s
        self._hand_on(_OFFER_S)
        stop.wait(1.0)

    def close(self) -> None:
        """Say what the last moments lost, release the reader."""
        self._hand_on(0.0)
        if not self._untold:
            self._untold = self._losses(self._gateway.clock.now())
            self._hand_on(0.0)
        self._reader.close()

    def _hand_on(self, timeout_s: float) -> None:
        if self._untold and self._gateway.inlet.offer(_LANE, Item(self._untold), timeout_s):
            self._untold = []
            self._declared.update(self._dropped)

    def _states(self, now: Instant) -> list[Draft]:
        return [
            self._draft(
                DeviceStateChanged(
                    device=report.name, state=report.condition, since=rfc3339_s(report.since_wall_s),
                    reason=report.reason or None,
                ),
                now, report.name,
            )
            for report in self._gateway.board.changes(now)
        ]  # fmt: skip

    def _losses(self, now: Instant) -> list[Draft]:
        drafts = []
        for source, counters in self._gateway.inlet.counters().items():
            lost = counters.dropped - self._declared.get(source, 0)
            if lost:
                self._dropped[source] = counters.dropped
                self._gateway.board.dropped(source, counters.dropped)
                drafts.append(self._draft(LossDeclared(subject=source, count=lost, reason="inlet"), now, source))
        return drafts

    def _heartbeat(self, now: Instant) -> Draft | None:
        gateway = self._gateway
        path = self._reader.path
        if not self._reader.is_open:
            if not gateway.commits.is_open:
                return None
            self._reader.open()
        streams: dict[str, dict[str, int]] = {
            state.stream: {
                "accepted": state.accepted, "acked": state.acked, "pending": state.pending,
                "quarantined": state.quarantined, "expired": state.expired, "declared_lost": state.declared_lost,
            }
            for state in self._reader.states()
        }  # fmt: skip
        wal = path.with_name(path.name + "-wal")
        counters = gateway.commits.counters
        data = HeartbeatData(
            version=self._version,
            uptime_s=round(now.mono_s - gateway.started.mono_s, 3),
            streams=streams,
            disk_free_bytes=shutil.disk_usage(path.parent).free,
            journal_bytes=path.stat().st_size,
            wal_bytes=wal.stat().st_size if wal.exists() else 0,
            rss_bytes=self._process.memory_info().rss,
            clock=now.quality,
            devices={report.name: report.condition for report in gateway.board.reports(now)},
            counters={
                "commits": counters.commits, "duplicates": counters.duplicates, "poison": counters.poison,
                "full": counters.full, **gateway.person_counts(),
            },
        )  # fmt: skip
        return self._draft(data, now, None)

    def _draft(self, data: EventData, now: Instant, subject: str | None) -> Draft:
        entry = type_of(data)
        return draft(
            entry.stream, entry.name, data, source=self._gateway.origin.source("gateway"), at=now, subject=subject
        )
