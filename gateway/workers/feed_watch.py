"""Consumers of the feed that retention waits for: who holds up how much, and who is given up, never in silence.

A required consumer keeps events in the journal until it has read them. One that fills it is told of in time; one that
has not moved for days, is not in the configuration any more, or was overrun by the quota is expired: nothing waits for
it from then on, an alarm and a declared loss say so, and its place stays, so that it is answered 410 rather than with a
hole. Its next commit makes it required again. Knows cursors and the policy; says nothing itself.

*Source*: docs/sync.md, "Pull".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from gateway.clock import Instant
from gateway.event import STREAMS, Stream
from gateway.event_types import AlarmCleared, AlarmRaised, EventData, LossDeclared
from gateway.journal.cursor import UPLINK, Cursor, ensure, position_of, positions
from gateway.journal.retention import RetentionPolicy
from gateway.journal.schema import fill_share

if TYPE_CHECKING:
    import sqlite3

BEHIND = "feed_consumer_behind"
EXPIRED = "feed_consumer_expired"
_FEED = "feed:"
_SHARE = 0.8  # of what a consumer may hold before the quota goes over it
_DAY_MS = 86_400_000


class Finding(msgspec.Struct, frozen=True):
    """What is to be said of one consumer; `expire`: and then to be done, see `expire`."""

    consumer: str
    events: tuple[EventData, ...]
    expire: bool = False


class FeedWatch:
    """Looks at the consumers now and then. One thread uses it."""

    def __init__(self, consumers: Iterable[str], dead_after_days: float, overrun_above: float | None = None) -> None:
        """Store.

        Args:
            consumers: those of the configuration.
            dead_after_days: how long a required consumer may stand still while there is something to read.
            overrun_above: share of the quota from which retention goes over consumers; the policy's if None.
        """
        self._known = frozenset(consumers)
        self._dead_after_ms = dead_after_days * _DAY_MS
        self._alarm_share = _SHARE * (RetentionPolicy().overrun_above if overrun_above is None else overrun_above)
        self._behind: set[str] = set()

    def look(self, connection: sqlite3.Connection, now: Instant) -> list[Finding]:
        """What has changed since the last look; what was not said is found again (`said`)."""
        share = fill_share(connection)
        by_name: dict[str, list[Cursor]] = {}
        for cursor in positions(connection):
            if cursor.name.startswith(_FEED) and cursor.required:
                by_name.setdefault(cursor.name.removeprefix(_FEED), []).append(cursor)
        found = [Finding(name, (_cleared(name),)) for name in sorted(self._behind - by_name.keys())]
        for name, cursors in sorted(by_name.items()):
            held = [loss for cursor in cursors if (loss := _held(connection, cursor))]
            if held and (why := self._why_dead(connection, name, cursors, now)):
                found.append(Finding(name, (_expired(name, held, why), *held), expire=True))
            elif held and share >= self._alarm_share and name not in self._behind:
                found.append(Finding(name, (_late(name, held, share),)))
            elif not held and name in self._behind:
                found.append(Finding(name, (_cleared(name),)))
        return found

    def said(self, finding: Finding) -> None:
        """It has been told: not again until it changes."""
        if any(isinstance(event, AlarmRaised) and event.what == BEHIND for event in finding.events):
            self._behind.add(finding.consumer)
        else:
            self._behind.discard(finding.consumer)

    def _why_dead(
        self, connection: sqlite3.Connection, name: str, cursors: list[Cursor], now: Instant
    ) -> str | None:  # fmt: skip
        if name not in self._known:
            return "it is not in the configuration any more"
        if any(_oldest(connection, cursor.stream) > cursor.position + 1 for cursor in cursors):
            return "the quota left no room to wait any longer"
        still_ms = int(now.wall_s * 1000) - max(cursor.moved_ms for cursor in cursors)
        if now.quality in ("ntp", "rtc") and still_ms > self._dead_after_ms:  # any other clock proves nothing
            return f"it has not moved for {still_ms // _DAY_MS} days"
        return None


def expire(connection: sqlite3.Connection, consumer: str, now_ms: int) -> None:
    """Wait for this consumer no longer; its place stays."""
    mine = [cursor.stream for cursor in positions(connection, _FEED + consumer)]
    ensure(connection, _FEED + consumer, required=False, streams=mine, now_ms=now_ms)


def _held(connection: sqlite3.Connection, cursor: Cursor) -> LossDeclared | None:
    """What is kept for this cursor alone, or was lost to it, as the loss that it would be."""
    through = position_of(connection, UPLINK, cursor.stream)
    if through <= cursor.position:
        return None
    return LossDeclared(
        subject=f"{_FEED}{cursor.name.removeprefix(_FEED)}:{cursor.stream}", count=through - cursor.position,
        reason="retention", first=cursor.position + 1, last=through,
    )  # fmt: skip


def _oldest(connection: sqlite3.Connection, stream: Stream) -> int:
    assert stream in STREAMS
    return int(connection.execute(f"SELECT coalesce(min(position), 0) FROM {stream}").fetchone()[0])  # noqa: S608


def _late(name: str, held: list[LossDeclared], share: float) -> AlarmRaised:
    hint = (
        f"the consumer {name} has {sum(one.count for one in held)} events to read and the journal is {share:.0%} full; "
        "soon they are given up: see what keeps it from reading"
    )
    return AlarmRaised(what=BEHIND, severity="warning", device=name, hint=hint)


def _expired(name: str, held: list[LossDeclared], why: str) -> AlarmRaised:
    hint = (
        f"{why}: {sum(one.count for one in held)} events are kept for the consumer {name} no longer; when it comes "
        "back it is told what is missing"
    )
    return AlarmRaised(what=EXPIRED, severity="critical", device=name, hint=hint)


def _cleared(name: str) -> AlarmCleared:
    return AlarmCleared(what=BEHIND, severity="warning", device=name)
