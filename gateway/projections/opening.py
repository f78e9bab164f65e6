"""When the shop is open: the part of a day in which a counter or a till ought to have something to say.

Given in the configuration, or else taken from the day itself: from its first sign of life to its last. Knows no event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta

import msgspec

from gateway.errors import ConfigError
from gateway.projections.store_time import StoreTime

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d(?=:)|2[0-3]|24(?=:00$)):([0-5]\d)")
Span = tuple[int, int]  # milliseconds since 1970, the second not included


class Opening(msgspec.Struct, frozen=True):
    """Opening hours, minutes after midnight, the same every day; closing at or before opening is on the next day."""

    opens_min: int
    closes_min: int

    def spans(self, day: str, store_time: StoreTime) -> list[Span]:
        """When it is open on that calendar day of the store; across midnight, two parts."""
        if self.opens_min < self.closes_min:
            parts = [(self.opens_min, self.closes_min)]
        else:
            parts = [(0, self.closes_min), (self.opens_min, 1440)]
        return [
            (local_ms(day, begin, store_time), local_ms(day, end, store_time)) for begin, end in parts if begin < end
        ]


def opening(text: str) -> Opening | None:
    """`10:00-22:00` as opening hours; None of "".

    Raises:
        ConfigError: it says no such thing.
    """
    if not text:
        return None
    found = _HOURS.fullmatch(text)
    if found is None:
        raise ConfigError(
            "read configuration", "gateway.opening_hours", f"{text!r} are no opening hours", 'write "10:00-22:00"'
        )
    begin_h, begin_min, end_h, end_min = map(int, found.groups())
    return Opening(begin_h * 60 + begin_min, end_h * 60 + end_min)


def day_span(day: str, store_time: StoreTime) -> Span:
    """The whole calendar day in the store; 23 or 25 hours when the clocks change."""
    return local_ms(day, 0, store_time), local_ms(day, 1440, store_time)


def overlap_ms(spans: Iterable[Span], begin_ms: int, end_ms: int) -> int:
    """How much of [`begin_ms`, `end_ms`) lies in the spans."""
    return sum(max(0, min(end, end_ms) - max(begin, begin_ms)) for begin, end in spans)


def local_ms(day: str, minutes: int, store_time: StoreTime) -> int:
    """The instant of a local time of day; one that the clocks jump over is the moment of the jump."""
    on = date.fromisoformat(day)
    if minutes >= 1440:
        on, minutes = on + timedelta(days=1), minutes - 1440
    local = datetime.combine(on, time(minutes // 60, minutes % 60), store_time.zone)
    return int(local.astimezone(UTC).timestamp() * 1000)
