"""Leaving staff out of counts when a staff beacon or tag says when they passed.

Zones of origin are handled where tracks are (`pipeline`); this is the other way: a badge seen at the door opens a
short window in which one crossing of that line is staff. Pure. Must not know badges' identities.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from vision.model import Crossing


class StaffSighting(msgspec.Struct, frozen=True):
    """A staff badge was read near `line` at stream time `time_s`. Carries no identity."""

    line: str
    time_s: float


def without_staff(
    crossings: Iterable[Crossing], sightings: Iterable[StaffSighting], window_s: float = 4.0
) -> tuple[list[Crossing], list[Crossing]]:
    """Split crossings into visitors' and staff's: each sighting claims the nearest free crossing of its line.

    Returns:
        (visitors, staff), each in order of time.
    """
    remaining = sorted(crossings, key=lambda crossing: crossing.time_s)
    staff: list[Crossing] = []
    for sighting in sorted(sightings, key=lambda sighting: sighting.time_s):
        near = [c for c in remaining if c.line == sighting.line and abs(c.time_s - sighting.time_s) <= window_s]
        if near:
            claimed = min(near, key=lambda crossing: abs(crossing.time_s - sighting.time_s))
            remaining.remove(claimed)
            staff.append(claimed)
    return remaining, staff
