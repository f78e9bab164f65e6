"""Intervals lie on the store's wall clock, however and whenever the gateway began."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from gateway.clock import FakeClock
from gateway.counting.wall_grid import WallGrid


@pytest.mark.parametrize(
    ("zone", "at", "interval_s", "begins"),
    [
        ("Asia/Shanghai", "2026-11-22T10:07:13.250", 900.0, "2026-11-22T10:00:00"),
        ("Asia/Kathmandu", "2026-11-22T10:07:13.250", 3600.0, "2026-11-22T10:00:00"),  # +05:45
        ("Europe/Berlin", "2026-10-25T03:20:00", 3600.0, "2026-10-25T03:00:00"),  # the day summer time ends
        ("UTC", "2026-11-22T10:07:13.250", 60.0, "2026-11-22T10:07:00"),
    ],
)
def test_an_interval_begins_at_a_whole_time_of_the_store(zone: str, at: str, interval_s: float, begins: str) -> None:
    """The newest grid point, as monotonic time, is the store's whole hour, quarter or minute."""
    moment, start = (datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() for text in (at, begins))
    clock = FakeClock(moment)
    clock.mono_us = 5_000_000_000
    grid = WallGrid(zone, interval_s)
    assert grid.origin_s(clock.now()) == pytest.approx(5000.0 - (moment - start), abs=1e-3)
    assert grid.snapped(start - 0.2) == grid.snapped(start + 0.2) == pytest.approx(start, abs=1e-3)
    assert grid.snapped(start + 7.0) == start + 7.0


def test_a_wall_clock_that_was_set_is_noticed_and_one_that_runs_is_not() -> None:
    """A step of whole intervals leaves the grid where it is; any other is off by its remainder."""
    clock, grid = FakeClock(), WallGrid("UTC", 900.0)
    origin_s = grid.origin_s(clock.now())
    clock.advance(12_345.6)
    assert grid.off_s(clock.now(), origin_s) == pytest.approx(0.0, abs=1e-3)
    clock.step(3600.0)
    assert grid.off_s(clock.now(), origin_s) == pytest.approx(0.0, abs=1e-3)
    clock.step(-130.0)
    assert grid.off_s(clock.now(), origin_s) == pytest.approx(130.0, abs=1e-3)
