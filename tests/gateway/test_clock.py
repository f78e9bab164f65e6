"""Time: steps of the wall clock are seen, marked and counted; text forms are right to the millisecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway import clock as module
from gateway.clock import SystemClock, boot_id, rfc3339, rfc3339_s


def test_a_step_of_the_wall_clock_is_marked_and_slewing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour back marks what follows as stepped; half a second does not."""
    clock = SystemClock()
    real = module.time.time
    before = clock.now()
    assert before.quality in ("ntp", "unsynced") and clock.steps == 0
    monkeypatch.setattr(module.time, "time", lambda: real() - 0.5)
    assert clock.now().quality != "stepped"
    monkeypatch.setattr(module.time, "time", lambda: real() - 3600.0)
    after = clock.now()
    assert after.quality == "stepped" and clock.steps == 1
    assert after.mono_us >= before.mono_us and after.wall_s < before.wall_s
    assert clock.now().quality == "stepped" and clock.steps == 1


@pytest.mark.parametrize(
    ("wall_s", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1.5, "1970-01-01T00:00:01.500Z"), (1_795_312_799.999, None)],
)
def test_seconds_become_rfc_3339(wall_s: float, text: str | None) -> None:
    """The cached form says the same as the standard library."""
    at = datetime.fromtimestamp(wall_s, UTC)
    assert rfc3339_s(wall_s) == (text or at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z")
    assert rfc3339(at.astimezone(timezone(timedelta(hours=8)))) == rfc3339(at)


def test_the_boot_id_is_hex() -> None:
    """32 characters, the same at every call."""
    assert len(boot_id()) == 32 and int(boot_id(), 16) >= 0 and boot_id() == boot_id()
