"""Is the wall clock right? A store box has no clock battery; order does not need one, times and reports do."""

from __future__ import annotations

from gateway.commands.checks.finding import CLOCK, Finding, fine, problem, warning
from gateway.commands.checks.scene import Scene, ago

_SET_AFTER_S = 1_704_067_200.0  # 2024-01-01
_FUTURE_S = 300.0
_NTP = "let it reach a time server: timedatectl set-ntp true, then timedatectl (or give NTP=router in timesyncd.conf)"


def look(scene: Scene) -> list[Finding]:
    """Set at all, ahead of the journal's newest event, synchronised, stepped lately."""
    now, newest_s = scene.now, scene.record.newest_s
    if now.wall_s < _SET_AFTER_S:
        return [problem("clock", CLOCK, f"The clock was never set: it says {now.wall_at:%Y-%m-%d}.", _NTP)]
    if newest_s is not None and newest_s > now.wall_s + _FUTURE_S:
        hours = (newest_s - now.wall_s) / 3600
        return [
            problem(
                "clock",
                CLOCK,
                f"The newest event is from {hours:.1f} h in the future: the clock was ahead, or is behind now.",
                f"{_NTP}. Nothing is lost: order does not depend on it",
            )
        ]
    if scene.running and scene.record.heartbeat_clock == "stepped":
        return [
            warning(
                "clock",
                CLOCK,
                "The clock was set by hand or by a time server within the last minutes.",
                "wait ten minutes and look again",
            )
        ]
    if now.quality == "unsynced":
        return [
            warning("clock", CLOCK, f"The clock is not synchronised; it says {now.wall_at:%Y-%m-%d %H:%M} UTC.", _NTP)
        ]
    kept = f", newest event {ago(newest_s, now)}" if newest_s else ""
    return [fine("clock", f"{now.wall_at:%Y-%m-%d %H:%M} UTC, synchronised{kept}")]
