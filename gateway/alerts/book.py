"""The state machine of alerts: what is seen becomes an alert when it lasts, and is over when it stays away.

Fed with what is there at one moment, again and again; decides by monotonic time, so a clock that is set raises and
clears nothing. What must outlive the process is in `State`; how long a cause has been seen or missed is not, and
nothing is cleared in the first minutes after a start, while nobody knows yet. Knows no file, no thread and no words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from config.settings import Cause
from gateway.alerts.alert import SEVERITIES, Alarm, Alert, Message, Seen
from gateway.alerts.rules import Rule
from gateway.clock import Instant

GRACE_S: Final = 180.0  # after a start: devices connect, the platform is greeted
KEPT_MS: Final = 7 * 86_400_000
MOST: Final = 500  # alerts kept; the oldest of those that are over go first
MOST_UP: Final = 100
_GAP_S: Final = 30.0  # a cause that was away for less has lasted all the time
_SETTLED_BY_HAND: Final = frozenset({"alarm"})  # nothing ever tells that these are over


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All that outlives the process."""

    version: int = 1
    next_number: int = 1
    alerts: tuple[Alert, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    outbox: tuple[Message, ...] = ()
    position: int | None = None  # of the alarms read, in the stream of transactions
    epoch: str = ""  # that the position belongs to


class _Waiting(msgspec.Struct):
    """A cause that is not an alert yet, by monotonic time."""

    since_s: float
    last_s: float


class AlertBook:
    """One thread at a time uses it."""

    def __init__(self, rules: Mapping[Cause, Rule], state: State = State()) -> None:  # noqa: B008
        """Go on where `state` stands."""
        self._rules = rules
        self._alerts = {alert.number: alert for alert in state.alerts}
        self._next = max([state.next_number, *(number + 1 for number in self._alerts)])
        self._waiting: dict[str, _Waiting] = {}
        self._missed: dict[int, float] = {}
        self._began_s: float | None = None

    def obey(self, rules: Mapping[Cause, Rule]) -> None:
        """Go by other rules from now on; how long a cause has been seen still counts."""
        self._rules = rules

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """All that are kept, the oldest first."""
        return tuple(self._alerts.values())

    @property
    def next_number(self) -> int:
        """Of the next alert."""
        return self._next

    def saw(self, present: Iterable[Seen], holding: Collection[str], now: Instant, *, open_: bool = True) -> None:
        """Take in what is there now.

        Args:
            present: every cause, each id once.
            holding: ids of causes that keep an alert up though they would not begin one.
            now: this moment.
            open_: whether the shop is.
        """
        now_s = now.mono_s
        if self._began_s is None:
            self._began_s = now_s
        seen = {it.id: it for it in present if self._rules[it.rule].enabled}
        up = {alert.id: alert for alert in self._alerts.values() if alert.up}
        room = MOST_UP - len(up)
        for id_, cause in seen.items():
            if id_ in up:
                self._missed.pop(up[id_].number, None)
                self._renew(up[id_], cause)
            elif open_ or not self._rules[cause.rule].only_open:
                room -= self._waited(cause, now, room)
        for id_ in [id_ for id_, it in self._waiting.items() if now_s - it.last_s > _GAP_S]:
            del self._waiting[id_]
        for id_, alert in up.items():
            if id_ in seen:
                continue
            if id_ in holding:
                self._missed.pop(alert.number, None)
                continue
            since_s = self._missed.setdefault(alert.number, now_s)
            calm = now_s - self._began_s >= GRACE_S
            if calm and now_s - since_s >= self._rules[alert.rule].clear_after_s:
                self._put(msgspec.structs.replace(alert, cleared_ms=int(now.wall_s * 1000)))
                del self._missed[alert.number]
        self._forget(now)

    def acknowledge(self, number: int, now: Instant) -> Alert | None:
        """Somebody has seen it. None: there is none that is up. What nothing tells the end of, ends with this."""
        alert = self._alerts.get(number)
        if alert is None or not alert.up:
            return None
        over = int(now.wall_s * 1000) if alert.key in _SETTLED_BY_HAND else None
        return self._put(msgspec.structs.replace(alert, acknowledged=True, cleared_ms=over))

    def snooze(self, number: int, until_ms: int) -> Alert | None:
        """Tell it again then, if it is still up. None: there is none that is up."""
        alert = self._alerts.get(number)
        if alert is None or not alert.up:
            return None
        return self._put(
            msgspec.structs.replace(alert, snoozed_until_ms=until_ms, acknowledged=False, told=False)
        )  # fmt: skip

    def unsaid(self) -> list[Alert]:
        """Alerts of which an event is to be written, in the order in which they changed."""
        return [alert for alert in self._alerts.values() if alert.said != ("raised" if alert.up else "cleared")]

    def say(self, alert: Alert) -> None:
        """The next event of this alert has been written; one that came and went at once takes two."""
        kept = self._alerts.get(alert.number)
        if kept is not None:
            self._put(msgspec.structs.replace(kept, said="cleared" if kept.said == "raised" else "raised"))

    def untold(self, now: Instant, *, quiet: bool) -> list[Alert]:
        """Alerts that are up and to be told now: not seen by anybody, not snoozed, not held back by the night."""
        now_ms = int(now.wall_s * 1000)
        return [
            alert
            for alert in self._alerts.values()
            if alert.up and not alert.told and not alert.acknowledged and alert.snoozed_until_ms <= now_ms
            and not (quiet and self._hushed(alert))
        ]  # fmt: skip

    def tell(self, alert: Alert, *, told: bool) -> None:
        """Note whether the webhooks have it."""
        if alert.number in self._alerts:
            self._put(msgspec.structs.replace(self._alerts[alert.number], told=told))

    def _hushed(self, alert: Alert) -> bool:
        own = self._rules[alert.rule].in_quiet_hours
        return alert.severity != "critical" if own is None else not own

    def _waited(self, cause: Seen, now: Instant, room: int) -> bool:
        """Whether it has lasted long enough and is an alert now."""
        waiting = self._waiting.setdefault(cause.id, _Waiting(now.mono_s, now.mono_s))
        waiting.last_s = now.mono_s
        rule = self._rules[cause.rule]
        if now.mono_s - waiting.since_s < rule.raise_after_s or room <= 0:
            return False
        del self._waiting[cause.id]
        self._put(
            Alert(
                number=self._next, id=cause.id, rule=cause.rule, key=cause.key, parameters=cause.parameters,
                severity=rule.severity or cause.severity, raised_ms=int(now.wall_s * 1000),
            )
        )  # fmt: skip
        self._next += 1
        return True

    def _renew(self, alert: Alert, cause: Seen) -> None:
        """Words follow what is the matter; what gets worse is told again, and nobody has seen that yet."""
        severity = self._rules[cause.rule].severity or cause.severity
        worse = SEVERITIES.index(severity) < SEVERITIES.index(alert.severity)
        if worse or cause.key != alert.key:  # a number that grows is no change
            alert = msgspec.structs.replace(alert, rule=cause.rule, key=cause.key, parameters=cause.parameters)
            self._put(alert)
        if worse:
            self._put(
                msgspec.structs.replace(alert, severity=severity, told=False, acknowledged=False, snoozed_until_ms=0)
            )

    def _forget(self, now: Instant) -> None:
        if now.quality == "stepped":  # a clock that is set must not take the week with it
            return
        over = [it for it in self._alerts.values() if it.cleared_ms is not None and it.said == "cleared"]
        old_ms = int(now.wall_s * 1000) - KEPT_MS
        surplus = len(self._alerts) - MOST
        for index, alert in enumerate(over):
            if index < surplus or (alert.cleared_ms or 0) < old_ms:
                del self._alerts[alert.number]

    def _put(self, alert: Alert) -> Alert:
        self._alerts[alert.number] = alert
        return alert
