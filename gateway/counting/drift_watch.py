"""Watches whether lines that were accepted still count as they did, and says so by an alarm.

Works on whole days of the footfall read model, from the day after the test on, so nothing is remembered that could be
lost: the same days always give the same answer, also when late corrections have changed them. Only whether the alarm
has been raised is kept, with the test. Decides no statistics: those are `vision.drift`.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final

from gateway.clock import Instant
from gateway.counting.acceptance import AcceptanceTests, TestView
from gateway.errors import Rejected, Unavailable
from gateway.event import draft
from gateway.event_types import AlarmCleared, AlarmRaised, EventData, type_of
from gateway.intake.inlet import Item
from gateway.journal.reader import JournalReader
from gateway.projections.footfall import LineHour, line_hours_of
from gateway.projections.store_time import StoreTime
from gateway.workers.witness import Gateway
from vision.drift import MOST_WEEKS, DayCount, Drift, Sign, accepted, watched

_LANE: Final = ".drift"
_EVERY_S: Final = 900.0
_OFFER_S: Final = 1.0
_LEAST_SHARE: Final = 0.8  # of an hour's interval
_HINTS: Final[dict[Sign, str]] = {
    "share": "in and out do not balance any more: has the camera been moved or covered, or the line changed? Look at "
    "the calibration picture and test the line again",
    "level": "fewer or more people are counted than is usual, in both directions: is the picture blocked or dark, or "
    "has trade changed? Test the line again",
}


class DriftWatch:
    """Worker: looks every quarter of an hour; a verdict changes once a day at most."""

    def __init__(self, gateway: Gateway, tests: AcceptanceTests, time: StoreTime) -> None:
        """`time`: the store's calendar, this object's own."""
        self._gateway, self._tests, self._time = gateway, tests, time
        self._looked_s: float | None = None

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Look at the days that are over, and tell what has changed.

        Raises:
            JournalError: the journal cannot be read.
        """
        now = self._gateway.clock.now()
        due = self._looked_s is None or now.mono_s - self._looked_s >= _EVERY_S
        if due and self._gateway.commits.is_open and now.quality != "stepped":
            self._looked_s = now.mono_s
            self._look(now)
        stop.wait(1.0)

    def close(self) -> None:
        """Nothing to release."""

    def _look(self, now: Instant) -> None:
        newest: dict[tuple[str, str], TestView] = {}
        for test in self._tests.views():  # newest first
            if test.accepted_at is not None and (test.camera, test.line) not in newest:
                newest[test.camera, test.line] = test
            elif test.drifting:  # another test has been accepted since
                self._tell(test, "", now)
        for test in newest.values():
            sign = self.sign(test, now)
            if bool(sign) != test.drifting:
                self._tell(test, sign, now)

    def sign(self, test: TestView, now: Instant) -> Sign:
        """What speaks against the line now; "" when nothing does.

        Raises:
            JournalError: the journal cannot be read.
        """
        now_ms = int(now.wall_s * 1000)
        begun_ms = int(datetime.fromisoformat(test.begun_at).timestamp() * 1000)
        first = self._time.days_before(begun_ms, 7 * MOST_WEEKS)
        last = self._time.days_before(now_ms, 1)
        with JournalReader(self._gateway.journal_path) as reader:
            hours = line_hours_of(reader.query, first, last)
        return verdict(test, days_of(hours, test.line, self._time), self._time.day(begun_ms)).alarm

    def _tell(self, test: TestView, sign: Sign, now: Instant) -> None:
        what = f"footfall drift: {test.line}"
        data: EventData = AlarmCleared(what=what, device=test.camera)
        if sign:
            data = AlarmRaised(what=what, severity="warning", device=test.camera, hint=_HINTS[sign])
        entry = type_of(data)
        event = draft(
            entry.stream, entry.name, data, source=self._gateway.origin.source(f"camera/{test.camera}"), at=now
        )
        if self._gateway.inlet.offer(_LANE, Item([event]), _OFFER_S):
            try:
                self._tests.alarmed(test.id, bool(sign))
            except (Rejected, Unavailable):  # told again at the next look
                return


def verdict(test: TestView, days: Sequence[DayCount], accepted_on: str) -> Drift:
    """Where the watch stands after those days; the day of the test itself is not yet watched."""
    drift = accepted(test.result)
    for number, day in enumerate(days):
        if day.day > accepted_on:
            drift = watched(drift, day, days[:number])
    return drift


def days_of(hours: Sequence[LineHour], line: str, time: StoreTime) -> list[DayCount]:
    """The line's days in order; beside each what the shop's other lines counted."""
    by_day: dict[str, list[LineHour]] = defaultdict(list)
    for hour in hours:
        by_day[hour.day].append(hour)
    found = []
    for day, all_lines in sorted(by_day.items()):
        own = [hour for hour in all_lines if hour.line == line]
        others = [hour for hour in all_lines if hour.line != line]
        span_s = sum(hour.interval_s for hour in own)
        if not own or span_s <= 0:
            continue
        found.append(
            DayCount(
                day=day,
                weekday=date.fromisoformat(day).weekday(),
                in_count=sum(hour.people_in for hour in own),
                out_count=sum(hour.people_out for hour in own),
                coverage=min(1.0, sum(hour.covered_s for hour in own) / span_s),
                hours={
                    datetime.fromtimestamp(hour.hour_ms / 1000, time.zone).hour: hour.people_in + hour.people_out
                    for hour in own
                    if hour.covered_s >= _LEAST_SHARE * hour.interval_s
                },
                beside=sum(hour.people_in + hour.people_out for hour in others) if others else None,
            )
        )
    return found
