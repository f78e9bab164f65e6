"""Leaving staff out of counts when a staff badge says when they passed.

Zones of origin are handled where tracks are (`pipeline`); this is the other way: a badge (beacon or tag) read at the
door opens a short window in which one crossing of that line is staff. Crossings are counted at once and taken back
when a badge claims one, so a badge that is read late corrects a count that has been told. Pure. Must not know badges'
identities.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from vision.model import Crossing

WINDOW_S = 4.0
CERTAIN_S = 6.0
"""So long after a moment the crossings around it are known."""
KEPT_S = 180.0
"""A badge may be read so late."""
MOST_KEPT = 5_000


class StaffSighting(msgspec.Struct, frozen=True):
    """A staff badge was read near `line` at stream time `time_s`. Carries no identity."""

    line: str
    time_s: float
    window_s: float = WINDOW_S


def without_staff(
    crossings: Iterable[Crossing], sightings: Iterable[StaffSighting]
) -> tuple[list[Crossing], list[Crossing]]:
    """Split crossings into visitors' and staff's: each sighting claims the nearest free crossing of its line.

    Returns:
        (visitors, staff), each in order of time.
    """
    remaining = sorted(crossings, key=lambda crossing: crossing.time_s)
    staff: list[Crossing] = []
    for sighting in sorted(sightings, key=lambda sighting: sighting.time_s):
        near = [
            crossing
            for crossing in remaining
            if crossing.line == sighting.line and abs(crossing.time_s - sighting.time_s) <= sighting.window_s
        ]
        if near:
            claimed = min(near, key=lambda crossing: abs(crossing.time_s - sighting.time_s))
            remaining.remove(claimed)
            staff.append(claimed)
    return remaining, staff


class StaffWatch:
    """Crossings and sightings of the last minutes, joined as soon as both are certain. One thread, bounded."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._crossings: deque[Crossing] = deque(maxlen=MOST_KEPT)
        self._sightings: deque[StaffSighting] = deque(maxlen=MOST_KEPT)

    def crossed(self, crossings: Iterable[Crossing]) -> None:
        """These have been counted."""
        self._crossings.extend(crossings)

    def sighted(self, sighting: StaffSighting) -> None:
        """A badge was read."""
        self._sightings.append(sighting)

    def claimed(self, progress_s: float) -> list[Crossing]:
        """The crossings that are staff's, each told once.

        Args:
            progress_s: stream time up to which crossings have come in.
        """
        ripe = [sight for sight in self._sightings if sight.time_s + sight.window_s + CERTAIN_S <= progress_s]
        staff: list[Crossing] = []
        if ripe:
            visitors, staff = without_staff(self._crossings, ripe)
            self._crossings = deque(visitors, MOST_KEPT)
            self._sightings = deque((sight for sight in self._sightings if sight not in ripe), MOST_KEPT)
        while self._crossings and self._crossings[0].time_s < progress_s - KEPT_S:
            self._crossings.popleft()
        return staff
