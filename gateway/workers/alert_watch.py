"""Looks at the whole gateway every few seconds, tells the alert desk what is wrong, and writes what changed as events.

What is wrong is what the page says (`status.verdict`), so both name the same causes. Alarms of other parts are read
from the journal, where they are events. Decides nothing: that is the alerts' room.
"""

from __future__ import annotations

import threading
from typing import Final, Literal, Protocol

import msgspec

from config.settings import Severity
from gateway.alerts.alert import Alarm, Alert, Seen
from gateway.alerts.desk import AlertDesk
from gateway.alerts.rules import seen_of
from gateway.clock import Instant
from gateway.errors import Unavailable
from gateway.event import draft
from gateway.event_types import AlarmCleared, AlarmRaised, EventData, type_of
from gateway.journal.reader import JournalReader, StoredEvent
from gateway.status.observer import Observer
from gateway.status.parts import Gateway as Observed
from gateway.status.snapshot import Snapshot, snapshot
from gateway.status.verdict import troubles
from sync.ports import Emit

EVERY_S: Final = 5.0
SOURCE: Final = "alerts"
_BACK: Final = 2000  # events looked through at the very first start
_PIECE: Final = 500
_PIECES: Final = 20
_ALARMS: Final = ("store.alarm.raised.v1", "store.alarm.cleared.v1")
_SEVERITY: Final[dict[str, Severity]] = {"critical": "critical", "warning": "warning", "info": "notice"}
_LEVEL: Final[dict[Severity, Literal["info", "warning", "critical"]]] = {
    "critical": "critical",
    "warning": "warning",
    "notice": "info",
}


class Gateway(Observed, Protocol):
    """What it looks at (`gateway.app.Gateway`)."""


class _Told(msgspec.Struct):
    what: str
    severity: str = "warning"
    device: str | None = None
    hint: str | None = None


class _Event(msgspec.Struct):
    source: str
    type: str
    time: str = ""
    data: msgspec.Raw = msgspec.Raw(b"{}")


class AlertWatch:
    """Worker: one look every five seconds."""

    def __init__(self, gateway: Gateway, desk: AlertDesk, emit: Emit) -> None:
        """`emit`: returns True when the event is durable."""
        self._gateway, self._desk, self._emit = gateway, desk, emit
        self._observer = Observer(gateway)
        self._reader = JournalReader(gateway.journal_path)
        self._looked_s: float | None = None
        self._forgotten = False

    def open(self) -> None:
        """Go on where the last process stopped.

        Raises:
            Unavailable: the kept state cannot be read.
        """
        self._desk.open()

    def step(self, stop: threading.Event) -> None:
        """Look when it is time, or wait for it.

        Raises:
            JournalError: the journal cannot be read.
            Unavailable: the state cannot be kept.
        """
        now = self._gateway.clock.now()
        if self._looked_s is not None and (left_s := self._looked_s + EVERY_S - now.mono_s) > 0:
            stop.wait(left_s)
            return
        self._looked_s = now.mono_s
        if self._gateway.commits.is_open:
            self._hear(now)
        self._look(now)
        if self._gateway.commits.is_open:
            self._say(now, stop)

    def close(self) -> None:
        """Release the readers."""
        self._observer.close()
        self._reader.close()

    def _look(self, now: Instant) -> None:
        seen = snapshot(self._observer.observe())
        wrong = causes(seen)
        eased = msgspec.structs.replace(seen, limits=seen.limits.eased)
        holding = {it.cause for it in troubles(eased) if it.cause}
        self._desk.look(list(wrong.values()), holding, now)

    def _hear(self, now: Instant) -> None:
        """Alarm events since the last look, in pieces; what is not reached is read the next time."""
        if not self._reader.is_open:
            self._reader.open()
        epoch, position = self._desk.position
        head = self._reader.head("transactions")
        if position is None or position > head:  # the first start, or a journal that was restored
            position = max(0, head - _BACK)
        raised: dict[tuple[str, str], Alarm] = {}
        over: set[tuple[str, str]] = set()
        if not self._forgotten:  # these parts raise theirs again after a start, and clear nothing of an earlier one
            self._forgotten = True
            source = self._gateway.origin.source("sync")
            over |= {(it.what, it.source) for it in self._desk.alarms() if it.source == source}
        for _ in range(_PIECES):
            events = self._reader.read("transactions", position, _PIECE)
            if not events:
                break
            for event in events:
                self._take(event, raised, over, now)
            position, epoch = events[-1].position, events[-1].epoch
        self._desk.heard(raised.values(), over, epoch, position)

    def _take(
        self, stored: StoredEvent, raised: dict[tuple[str, str], Alarm], over: set[tuple[str, str]], now: Instant
    ) -> None:
        if b'"store.alarm.' not in stored.json:
            return
        event = msgspec.json.decode(stored.json, type=_Event)
        if event.type not in _ALARMS or event.source == self._gateway.origin.source(SOURCE):
            return
        told = msgspec.json.decode(event.data, type=_Told)
        key = told.what, event.source
        if event.type == _ALARMS[1]:
            raised.pop(key, None)
            over.add(key)
            return
        over.discard(key)
        severity = _SEVERITY.get(told.severity, "warning")
        raised[key] = Alarm(
            what=told.what[:120], source=event.source, device=(told.device or "")[:64], hint=(told.hint or "")[:300],
            severity=severity, since_ms=int(now.wall_s * 1000),
        )  # fmt: skip

    def _say(self, now: Instant, stop: threading.Event) -> None:
        for alert in self._desk.unsaid():
            if stop.is_set():
                return
            data = event_of(alert)
            entry = type_of(data)
            event = draft(entry.stream, entry.name, data, source=self._gateway.origin.source(SOURCE), at=now)
            if not self._emit(event):
                raise Unavailable("write alert", alert.id, "the journal does not take it now", "it is tried again")
            self._desk.say(alert)


def causes(seen: Snapshot) -> dict[str, Seen]:
    """The troubles of a snapshot by their cause; of one cause the worst."""
    found: dict[str, Seen] = {}
    for trouble in troubles(seen):  # the worst first
        cause = seen_of(trouble.key, trouble.severity, trouble.parameters)
        if cause is not None:
            found.setdefault(cause.id, cause)
    return found


def event_of(alert: Alert) -> EventData:
    """The next event of an alert: that it was raised, or that it is over."""
    what = f"{alert.rule}: {alert.subject}" if alert.subject else alert.rule
    if alert.said == "raised":
        return AlarmCleared(what=what, severity=_LEVEL[alert.severity])
    return AlarmRaised(what=what, severity=_LEVEL[alert.severity], hint=alert.key)
