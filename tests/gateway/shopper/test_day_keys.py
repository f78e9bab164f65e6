"""Day keys: one day's pseudonyms and no other's, whatever the disk and the clock do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.shopper.day_keys import DayKeys

DAY_S = 86_400.0


class FullDisk(DayKeys):
    """Keys on a disk that takes none."""

    reason = errno.ENOSPC

    def _load_or_make(self, path: Path) -> bytes:
        raise OSError(self.reason, "no space left on device", str(path))


def test_a_disk_that_is_full_at_midnight_stops_no_sale(tmp_path: Path) -> None:
    """The day's key lives in memory then, and is forgotten there like any other."""
    keys, clock = FullDisk(tmp_path, "UTC"), FakeClock()
    first = keys.day_key("member", "A-1", clock.now())
    assert first == keys.day_key("member", "a-1", clock.now())
    assert first != keys.day_key("member", "A-1", clock.advance(DAY_S))
    then = clock.now()
    keys.destroy_old(clock.advance(4 * DAY_S))
    assert keys.day_key("member", "A-1", then) != first and len(keys._keys) == 1


def test_a_disk_that_refuses_keys_for_another_reason_is_told(tmp_path: Path) -> None:
    """Somebody has to set its rights."""
    keys = FullDisk(tmp_path, "UTC")
    keys.reason = errno.EACCES
    with pytest.raises(OSError, match="no space"):
        keys.day_key("member", "A-1", FakeClock().now())


def test_a_key_of_days_to_come_does_not_outlive_the_clock_that_made_it(tmp_path: Path) -> None:
    """A clock that was a year ahead leaves keys that would lie there for a year; one that nobody set proves nothing."""
    keys, clock = DayKeys(tmp_path, "UTC"), FakeClock()
    today_s = clock.wall_s
    keys.day_key("member", "A-1", clock.now())
    clock.wall_s = today_s + 365 * DAY_S
    ahead = keys.day_key("member", "A-1", clock.now())
    wrong = clock.now()
    clock.wall_s, clock.quality = today_s, "unsynced"
    assert keys.destroy_old(clock.now()) == 0
    clock.quality = "ntp"
    assert keys.destroy_old(clock.now()) == 1
    assert len(list(tmp_path.glob("*.daykey"))) == 1 and keys.day_key("member", "A-1", wrong) != ahead
