"""Where intervals begin: at whole quarters, minutes or hours of the store's wall clock, however the gateway started.

Pure. Knows no camera and no event.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from gateway.clock import Instant

SLACK_S: Final = 0.5
"""Monotonic and wall time may drift apart so far before the grid is laid anew; a start this near is on the grid."""


class WallGrid:
    """Multiples of `interval_s` since midnight of the store's time zone (for intervals that divide the day)."""

    def __init__(self, time_zone: str, interval_s: float) -> None:
        """`time_zone`: IANA name; `interval_s`: > 0."""
        self._zone = ZoneInfo(time_zone)
        self._interval_s = interval_s

    def origin_s(self, at: Instant) -> float:
        """Monotonic time of the newest grid point at that moment."""
        return at.mono_s - self._into_s(at.wall_s)

    def off_s(self, at: Instant, origin_s: float) -> float:
        """How far the grid of monotonic `origin_s` lies beside the wall clock's; at most half an interval."""
        apart_s = (self.origin_s(at) - origin_s) % self._interval_s
        return min(apart_s, self._interval_s - apart_s)

    def snapped(self, wall_s: float) -> float:
        """The grid point at `wall_s`, if it is within `SLACK_S`; else `wall_s` itself."""
        slack_s, into_s = min(SLACK_S, self._interval_s / 4), self._into_s(wall_s)
        if into_s <= slack_s:
            return wall_s - into_s
        return wall_s + self._interval_s - into_s if self._interval_s - into_s <= slack_s else wall_s

    def _into_s(self, wall_s: float) -> float:
        offset = datetime.fromtimestamp(wall_s, UTC).astimezone(self._zone).utcoffset()
        return (wall_s + (offset.total_seconds() if offset else 0.0)) % self._interval_s
