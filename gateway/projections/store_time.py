"""Days and hours as the store lives them: an instant's calendar day and full hour in the store's time zone.

Hours are named by the instant they begin, so the two hours of a night when the clocks go back stay two. Knows no event.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_QUARTER_MS = 900_000  # every zone's offset is a multiple of it, so one quarter lies in one local hour
_REMEMBERED = 256
_LAST_MS = 253_402_128_000_000  # 9999-12-30: what a calendar can hold in every zone
_FIRST_MS = -62_135_424_000_000  # 0001-01-03


class StoreTime:
    """The store's calendar. One thread uses an object."""

    def __init__(self, zone: str) -> None:
        """`zone`: IANA name."""
        self.name = zone
        self.zone = ZoneInfo(zone)
        self._quarters: dict[int, tuple[str, int]] = {}

    def bucket(self, at_ms: int) -> tuple[str, int]:
        """The local day (`2026-11-22`) and the beginning of the local hour, in milliseconds since 1970."""
        quarter = at_ms // _QUARTER_MS
        found = self._quarters.get(quarter)
        if found is None:
            begins_ms = min(max(quarter * _QUARTER_MS, _FIRST_MS), _LAST_MS)
            local = datetime.fromtimestamp(begins_ms / 1000, UTC).astimezone(self.zone)
            past = timedelta(minutes=local.minute, seconds=local.second)
            found = local.date().isoformat(), begins_ms - int(past.total_seconds()) * 1000
            if len(self._quarters) >= _REMEMBERED:
                self._quarters.clear()
            self._quarters[quarter] = found
        return found

    def day(self, at_ms: int) -> str:
        """The local day."""
        return self.bucket(at_ms)[0]

    def hour(self, at_ms: int) -> tuple[int, int]:
        """The beginning of the local hour, in milliseconds since 1970, and its number on the clock, 0 to 23."""
        begins_ms = self.bucket(at_ms)[1]
        return begins_ms, datetime.fromtimestamp(begins_ms / 1000, UTC).astimezone(self.zone).hour

    def days_before(self, at_ms: int, days: int) -> str:
        """The local day so many days earlier; the first there is when the calendar ends."""
        today = date.fromisoformat(self.day(at_ms))
        return date.fromordinal(max(1, today.toordinal() - days)).isoformat()
