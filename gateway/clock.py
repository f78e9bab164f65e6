"""Time as a value: one reading of the wall clock, the monotonic clock and how far the wall clock can be trusted.

A store box has no battery-backed clock, so order and intervals use monotonic time and every event says how good its
wall time was. Code takes a `Clock`, never `time.time()`; tests pass a `FakeClock`. Knows nothing of events.
"""

from __future__ import annotations

import ctypes
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

import msgspec

ClockQuality = Literal["ntp", "rtc", "unsynced", "stepped"]

_STEP_S = 2.0  # a wall clock that moves this far against the monotonic one has been stepped
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_STEPPED_S = 600.0  # how long after a step events are marked
_QUALITY_EVERY_S = 10.0


class Instant(msgspec.Struct, frozen=True):
    """One moment: wall time (seconds since 1970, UTC), monotonic time (µs since boot) and the clock's quality."""

    wall_s: float
    mono_us: int
    quality: ClockQuality = "ntp"

    @property
    def mono_s(self) -> float:
        """Monotonic time in seconds, for intervals."""
        return self.mono_us / 1e6

    @property
    def wall_at(self) -> datetime:
        """Wall time as an aware UTC datetime."""
        return datetime.fromtimestamp(self.wall_s, UTC)


class Clock(Protocol):
    """Where time comes from. `now` may be called from any thread, thousands of times a second."""

    def now(self) -> Instant:
        """This moment."""
        ...


class SystemClock:
    """The machine's clocks. A step of the wall clock is seen by comparing it with the monotonic clock."""

    def __init__(self) -> None:
        self._offset_s = time.time() - time.monotonic()
        self._stepped_until_s = 0.0
        self._quality: ClockQuality = "unsynced"
        self._checked_s = -_QUALITY_EVERY_S
        self._lock = threading.Lock()
        self.steps = 0

    def now(self) -> Instant:
        """Wall and monotonic time read together; `stepped` for ten minutes after the wall clock jumped."""
        wall_s, mono_ns = time.time(), time.monotonic_ns()
        mono_s = mono_ns / 1e9
        stepped = abs(wall_s - mono_s - self._offset_s) > _STEP_S
        if stepped or mono_s - self._checked_s >= _QUALITY_EVERY_S:
            self._look(wall_s - mono_s, mono_s)
        return Instant(wall_s, mono_ns // 1000, "stepped" if mono_s < self._stepped_until_s else self._quality)

    def _look(self, offset_s: float, mono_s: float) -> None:
        """Note a step, and now and then how good the clock is; slow slewing is not a step."""
        with self._lock:
            if abs(offset_s - self._offset_s) > _STEP_S:
                self._stepped_until_s = mono_s + _STEPPED_S
                self.steps += 1
            self._offset_s = offset_s
            if mono_s - self._checked_s >= _QUALITY_EVERY_S:
                self._checked_s = mono_s
                self._quality = "ntp" if _synchronised() else "unsynced"


class FakeClock:
    """A clock that a test moves by hand."""

    def __init__(self, wall_s: float = 1_795_312_800.0, quality: ClockQuality = "ntp") -> None:
        self.wall_s = wall_s
        self.mono_us = 1_000_000
        self.quality: ClockQuality = quality

    def now(self) -> Instant:
        """The moment the test has set."""
        return Instant(self.wall_s, self.mono_us, self.quality)

    def advance(self, seconds: float) -> Instant:
        """Let both clocks run on by `seconds`; returns the new moment."""
        self.wall_s += seconds
        self.mono_us += round(seconds * 1e6)
        return self.now()

    def step(self, seconds: float) -> Instant:
        """Move the wall clock alone, as NTP or a person does."""
        self.wall_s += seconds
        return self.now()


@cache
def boot_id() -> str:
    """The kernel's id of this boot, 32 hex characters; zeros where there is none (not Linux)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip().replace("-", "")
    except OSError:
        return "0" * 32


def rfc3339(at: datetime) -> str:
    """An aware datetime as RFC 3339 UTC with milliseconds: `2026-11-22T09:31:07.120Z`."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def rfc3339_s(wall_s: float) -> str:
    """Seconds since 1970 as RFC 3339 UTC with milliseconds."""
    whole, millis = divmod(int(wall_s * 1000), 1000)
    return f"{_date_time(whole)}.{millis:03d}Z"


_last: tuple[int, str] = (-1, "")


def _date_time(whole_s: int) -> str:
    """`rfc3339_s` without the fraction; the last second is remembered because events come in bursts."""
    global _last
    second, text = _last
    if second != whole_s:
        text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole_s)).strftime("%Y-%m-%dT%H:%M:%S")
        _last = (whole_s, text)
    return text


def _synchronised() -> bool:
    """True when the kernel says that its clock is disciplined (adjtimex(2) without STA_UNSYNC)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        timex = (ctypes.c_byte * 512)()  # struct timex is ~208 bytes; modes = 0 reads only
        return int(libc.adjtimex(ctypes.byref(timex))) not in (-1, _TIME_ERROR)
    except (OSError, AttributeError):
        return False
