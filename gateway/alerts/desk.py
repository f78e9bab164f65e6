"""Where alerts are kept while the gateway runs: the book, its file, and what the webhooks are still to be told.

Any thread; every change is on the disk before it is shown. Knows no network and no words.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from config.settings import AlertSettings, Settings, WebhookSettings
from gateway.alerts.alert import SEVERITIES, Alarm, Alert, AlertsView, HookState, Message, Seen
from gateway.alerts.book import AlertBook, State
from gateway.alerts.keeping import read_state, write_state
from gateway.alerts.rules import Limits, limits_of, rules_of, within
from gateway.clock import Clock, Instant

FILE: Final = "alerts.json"
SNOOZES_S: Final = (3600, 14_400, 43_200)
_OUTBOX: Final = 100  # messages for one webhook; the oldest give way
_STALE_MS: Final = 86_400_000  # nobody wants to hear yesterday's
_MOST_ALARMS: Final = 100


class AlertDesk:
    """Life: `open` before the first look, `obey` when the configuration changes, `close` when there are no alerts."""

    def __init__(self, directory: Path, settings: Settings, clock: Clock) -> None:
        """Store; without `open` there are no alerts."""
        self.settings = settings.alerts
        self.rules = rules_of(settings.alerts)
        self.limits: Limits = limits_of(settings.alerts)
        self._path = directory / FILE
        self._clock = clock
        self._opening = settings.gateway.opening_hours
        self._zone = ZoneInfo(settings.gateway.time_zone)
        self._lock = threading.Lock()
        self._state = State()
        self._book = AlertBook(self.rules)
        self._hooks = {hook.name: HookState(name=hook.name, waiting=0) for hook in self.settings.webhooks}
        self._is_open = False
        self.version = 0  # changes with every change

    def open(self) -> None:
        """Go on where the last process stopped. May be called again.

        Raises:
            Unavailable: the file cannot be read.
        """
        with self._lock:
            if self._is_open:
                return
            state = read_state(self._path)
            known = tuple(message for message in state.outbox if message.hook in self._hooks)
            self._state = msgspec.structs.replace(state, outbox=known)
            self._book = AlertBook(self.rules, state)
            self._is_open = True
            self.version += 1

    def obey(self, settings: AlertSettings) -> None:
        """Go by other settings from the next look on. What waits for a webhook that is gone is dropped.

        What is up stays up: a rule that was switched off, or a limit that is no longer reached, ends its alerts as
        if the cause were gone.
        """
        with self._lock:
            if settings == self.settings:
                return
            self.settings, self.rules, self.limits = settings, rules_of(settings), limits_of(settings)
            self._book.obey(self.rules)
            self._hooks = {
                hook.name: self._hooks.get(hook.name, HookState(name=hook.name, waiting=0))
                for hook in settings.webhooks
            }  # fmt: skip
            known = tuple(message for message in self._state.outbox if message.hook in self._hooks)
            self._state = msgspec.structs.replace(self._state, outbox=known)
            self.version += 1

    def close(self) -> None:
        """Nobody looks any more: nothing is up. The file stays, and `open` goes on from it."""
        with self._lock:
            self._is_open = False
            self._state, self._book = State(), AlertBook(self.rules)
            self.version += 1

    # -- what is there

    @property
    def position(self) -> tuple[str, int | None]:
        """Epoch of the transactions, and how far alarms have been read in it; None: never."""
        return self._state.epoch, self._state.position

    def alarms(self) -> tuple[Alarm, ...]:
        """Alarms of other parts that are up."""
        return self._state.alarms

    def heard(self, alarms: Iterable[Alarm], over: Iterable[tuple[str, str]], epoch: str, position: int) -> None:
        """Take in alarm events: those that are up, and `(what, source)` of those that are over."""
        with self._lock:
            kept = {(alarm.what, alarm.source): alarm for alarm in self._state.alarms}
            before = dict(kept)
            for alarm in alarms:
                kept[alarm.what, alarm.source] = alarm
            for gone in over:
                kept.pop(gone, None)
            fresh = tuple(kept.values())[-_MOST_ALARMS:]
            moved = epoch != self._state.epoch or position - (self._state.position or 0) > 5000
            self._state = msgspec.structs.replace(self._state, alarms=fresh, epoch=epoch, position=position)
            if kept != before or moved:
                self._save()

    def look(self, present: Sequence[Seen], holding: Collection[str], now: Instant) -> None:
        """Take in what is there now, and decide whom to tell.

        Raises:
            Unavailable: the state cannot be kept; the next look tries again.
        """
        with self._lock:
            before = self._book.alerts
            local = self._local(now)
            self._book.saw(present, holding, now, open_=not self._opening or within(self._opening, local))
            outbox = list(self._state.outbox)
            for alert in self._book.untold(now, quiet=within(self.settings.quiet_hours, local)):
                self._book.tell(alert, told=True)
                outbox += self._messages(alert, "raised", now)
            for alert in self._book.alerts:
                if not alert.up and alert.told:
                    self._book.tell(alert, told=False)
                    outbox += self._messages(alert, "cleared", now)
            self._keep_outbox(outbox)
            if before != self._book.alerts or len(outbox) != len(self._state.outbox):
                self._save()

    def unsaid(self) -> list[Alert]:
        """See `AlertBook.unsaid`."""
        with self._lock:
            return self._book.unsaid()

    def say(self, alert: Alert) -> None:
        """The alert's next event is durable.

        Raises:
            Unavailable: that cannot be kept.
        """
        with self._lock:
            self._book.say(alert)
            self._save()

    # -- what people do

    def acknowledge(self, number: int) -> bool:
        """Somebody has seen it. False: there is no such alert that is up.

        Raises:
            Unavailable: that cannot be kept.
        """
        with self._lock:
            alert = self._book.acknowledge(number, self._clock.now())
            if alert is not None:
                if not alert.up:  # settled by hand: its alarm is over, too
                    left = tuple(it for it in self._state.alarms if f"{it.what} {it.device}".strip() != alert.subject)
                    self._state = msgspec.structs.replace(self._state, alarms=left)
                self._save()
            return alert is not None

    def snooze(self, number: int, span_s: float) -> bool:
        """Say it again after so long. False: there is no such alert that is up.

        Raises:
            Unavailable: that cannot be kept.
        """
        with self._lock:
            until_ms = int((self._clock.now().wall_s + span_s) * 1000)
            alert = self._book.snooze(number, until_ms)
            if alert is not None:
                self._save()
            return alert is not None

    def view(self) -> AlertsView:
        """What the page shows."""
        with self._lock:
            alerts = self._book.alerts
            waiting = [message.hook for message in self._state.outbox]
            return AlertsView(
                now=tuple(
                    sorted(
                        (it for it in alerts if it.up), key=lambda it: (SEVERITIES.index(it.severity), -it.raised_ms)
                    )
                ),
                past=tuple(sorted((it for it in alerts if not it.up), key=lambda it: -it.raised_ms)),
                hooks=tuple(
                    msgspec.structs.replace(hook, waiting=waiting.count(name)) for name, hook in self._hooks.items()
                ),
                quiet=within(self.settings.quiet_hours, self._local(self._clock.now())),
            )

    # -- the webhooks

    def next_message(self, hook: str) -> Message | None:
        """The oldest that this webhook has not been told; what is a day old is dropped and counted."""
        with self._lock:
            old_ms = int(self._clock.now().wall_s * 1000) - _STALE_MS
            fresh = [it for it in self._state.outbox if it.hook != hook or it.at_ms >= old_ms]
            if dropped := len(self._state.outbox) - len(fresh):
                self._count(hook, dropped=dropped)
                self._state = msgspec.structs.replace(self._state, outbox=tuple(fresh))
            return next((it for it in fresh if it.hook == hook), None)

    def settled(self, message: Message, problem: str = "") -> None:
        """It was told, or, with a `problem`, refused for good: it is not tried again.

        Raises:
            Unavailable: that cannot be kept; it may be told twice after a restart.
        """
        with self._lock:
            left = tuple(it for it in self._state.outbox if it.id != message.id)
            self._state = msgspec.structs.replace(self._state, outbox=left)
            self._count(message.hook, sent=int(not problem), dropped=int(bool(problem)), problem=problem)
            self._save()

    def failed(self, hook: str, problem: str) -> None:
        """It could not be told now; it is tried again."""
        with self._lock:
            self._count(hook, problem=problem)

    # -- inside, under the lock

    def _messages(self, alert: Alert, kind: str, now: Instant) -> list[Message]:
        return [
            Message(
                id=f"{alert.number}.{kind}.{hook.name}.{int(now.wall_s * 1000)}", hook=hook.name,
                kind="raised" if kind == "raised" else "cleared", at_ms=int(now.wall_s * 1000), alert=alert,
            )
            for hook in self.settings.webhooks
            if _wants(hook, alert, kind)
        ]  # fmt: skip

    def _keep_outbox(self, outbox: list[Message]) -> None:
        for name in self._hooks:
            own = [message for message in outbox if message.hook == name]
            for message in own[: max(0, len(own) - _OUTBOX)]:
                outbox.remove(message)
                self._count(name, dropped=1, problem=self._hooks[name].problem)
        self._state = msgspec.structs.replace(self._state, outbox=tuple(outbox))

    def _count(self, hook: str, *, sent: int = 0, dropped: int = 0, problem: str | None = None) -> None:
        if (kept := self._hooks.get(hook)) is None:  # taken out of the configuration while it was being told
            return
        self._hooks[hook] = msgspec.structs.replace(
            kept, sent=kept.sent + sent, dropped=kept.dropped + dropped,
            problem=kept.problem if problem is None else problem,
        )  # fmt: skip

    def _save(self) -> None:
        self.version += 1
        self._state = msgspec.structs.replace(
            self._state, alerts=self._book.alerts, next_number=self._book.next_number
        )  # fmt: skip
        if self._is_open:
            write_state(self._path, self._state)

    def _local(self, now: Instant) -> datetime:
        return now.wall_at.astimezone(self._zone)


def _wants(hook: WebhookSettings, alert: Alert, kind: str) -> bool:
    severe = SEVERITIES.index(alert.severity) <= SEVERITIES.index(hook.least)
    return severe and (kind == "raised" or hook.cleared)
