"""Alarms as events: each change of state once, in the `transactions` stream, through the inlet like any event."""

from __future__ import annotations

import threading

from gateway.clock import Clock
from gateway.event import Draft, Origin, draft
from gateway.event_types import AlarmCleared, AlarmRaised, EventData, type_of
from gateway.intake.inlet import Inlet, Item
from sync.ports import Emit

_SOURCE = "sync"
_LANE = ".sync"  # no device can have such a name


class EventAlarms:
    """`Alarms` that become events. Any thread."""

    def __init__(self, emit: Emit, origin: Origin, clock: Clock) -> None:
        """`emit`: an alarm that cannot be handed in now is raised again at the next occasion."""
        self._emit = emit
        self._origin = origin
        self._clock = clock
        self._lock = threading.Lock()
        self._up: set[str] = set()

    def raised(self, what: str, hint: str, *, critical: bool = False) -> None:
        """Say it, unless it has been said and not cleared since."""
        with self._lock:
            if what in self._up:
                return
            alarm = AlarmRaised(what=what, severity="critical" if critical else "warning", hint=hint[:500])
            if self._emit(self._draft(alarm)):
                self._up.add(what)

    def cleared(self, what: str) -> None:
        """Say that it is over, where it was said that it had begun."""
        with self._lock:
            if what in self._up and self._emit(self._draft(AlarmCleared(what=what))):
                self._up.discard(what)

    def _draft(self, data: EventData) -> Draft:
        kind = type_of(data)
        return draft(kind.stream, kind.name, data, source=self._origin.source(_SOURCE), at=self._clock.now())


def offering(inlet: Inlet, timeout_s: float = 1.0) -> Emit:
    """An `Emit` that returns when the inlet has taken the event."""
    return lambda event: inlet.offer(_LANE, Item([event]), timeout_s)


def committing(inlet: Inlet, timeout_s: float = 10.0) -> Emit:
    """An `Emit` that returns True only when the event is durable. Never call it on the thread that commits."""

    def emit(event: Draft) -> bool:
        durable = threading.Event()
        return inlet.offer(_LANE, Item([event], durable.set), timeout_s) and durable.wait(timeout_s)

    return emit
