"""Who is in a polygon, for how long, and how long they wait: a pure state machine over tracks.

Occupancy is integrated over time, so a dropped frame or another frame rate changes nothing. A visit is dated by
sightings: it starts with the first one inside, also when the track became credible later, and ends with the last one.
A person hidden behind another still counts while the tracker keeps the track. Must not know pixels or wall time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from gateway.errors import ConfigError
from vision.model import Point, Track, Visit, ZoneArea, ZoneShare

LEAVE_AFTER_S = 1.0
"""Outside for this long ends a visit; a shorter step over the edge does not."""
PEAK_HELD_S = 0.4
"""A peak is a number of persons held for this long in the interval, so that one bad frame cannot make it."""
LONGEST_STEP_S = 2.0
"""A longer gap between frames is a gap in coverage and is not integrated."""


class Occupancy(msgspec.Struct, frozen=True):
    """Time-weighted mean and held peak of the persons inside, over `observed_s` seconds with frames."""

    mean_persons: float
    peak_persons: int
    observed_s: float


def occupancy(seconds: Mapping[int, float]) -> Occupancy:
    """From the seconds that each number of persons was inside."""
    observed = sum(seconds.values())
    if observed <= 0:
        return Occupancy(0.0, 0, 0.0)
    held, peak = 0.0, 0
    for persons in sorted(seconds, reverse=True):
        held += seconds[persons]
        if held >= min(PEAK_HELD_S, observed) - 1e-9:
            peak = persons
            break
    return Occupancy(sum(n * s for n, s in seconds.items()) / observed, peak, observed)


class _Stay(msgspec.Struct, gc=False):
    entered_s: float
    seen_s: float
    credible: bool


class Zone:
    """Occupancy and visits of one polygon. `update` once a processed frame."""

    def __init__(self, area: ZoneArea, width_px: int, height_px: int) -> None:
        """Place `area` on a frame of the given size.

        Raises:
            ConfigError: fewer than three corners, or no area inside the frame.
        """
        self.area = area
        self._corners = [(x * width_px, y * height_px) for x, y in area.corners]
        if len(self._corners) < 3 or abs(_signed_area(self._corners)) < 4.0:
            raise ConfigError("count", f"zone {area.name}", "the zone has no area", "give at least three corners")
        xs, ys = [x for x, _ in area.corners], [y for _, y in area.corners]
        if min(xs) >= 1 or min(ys) >= 1 or max(xs) <= 0 or max(ys) <= 0:
            size = f"the frame is {width_px}×{height_px} px"
            raise ConfigError("count", f"zone {area.name}", "the zone lies outside the frame", size)
        self._right_px, self._bottom_px = width_px - 0.5, height_px - 0.5
        self._stays: dict[int, _Stay] = {}
        self._seconds: dict[int, float] = {}
        self._inside_now = 0
        self._time_s: float | None = None
        self._visitors: set[int] = set()

    def __len__(self) -> int:
        """Stays remembered now."""
        return len(self._stays)

    @property
    def inside_now(self) -> int:
        """Credible persons inside at the latest frame."""
        return self._inside_now

    def holds(self, track: Track) -> bool:
        """Is the track's anchor inside the polygon? A point past the frame's edge is taken onto the edge."""
        x, y = track.box.anchor(self.area.anchor)
        return _inside(self._corners, (min(max(x, 0.5), self._right_px), min(max(y, 0.5), self._bottom_px)))

    def update(self, tracks: Iterable[Track], ended: Iterable[int], time_s: float) -> list[Visit]:
        """Advance to `time_s`; returns the visits that have ended. `ended` are ids the tracker dropped."""
        if self._time_s is not None:
            step = time_s - self._time_s
            if 0 < step <= LONGEST_STEP_S:
                self._seconds[self._inside_now] = self._seconds.get(self._inside_now, 0.0) + step
        self._time_s = time_s
        visits: list[Visit] = []
        for identity in ended:
            self._close(identity, visits)
        for track in tracks:
            stay = self._stays.get(track.id)
            if track.observed and self.holds(track):
                if stay is None:
                    self._stays[track.id] = _Stay(time_s, time_s, track.credible)
                else:
                    stay.seen_s = time_s
                    stay.credible = stay.credible or track.credible
            elif stay is not None and track.observed and time_s - stay.seen_s > LEAVE_AFTER_S:
                self._close(track.id, visits)
        self._inside_now = 0
        for identity, stay in self._stays.items():
            if stay.credible:
                self._inside_now += 1
                self._visitors.add(identity)
        return visits

    def finish(self) -> list[Visit]:
        """End every stay, as at the end of a recording."""
        visits: list[Visit] = []
        for identity in list(self._stays):
            self._close(identity, visits)
        self._inside_now = 0
        return visits

    def take(self) -> ZoneShare:
        """What was seen since the last `take`; starts anew."""
        share = ZoneShare(self.area.name, tuple(sorted(self._seconds.items())), tuple(sorted(self._visitors)))
        self._seconds = {}
        self._visitors = {identity for identity, stay in self._stays.items() if stay.credible}
        return share

    def _close(self, identity: int, visits: list[Visit]) -> None:
        stay = self._stays.pop(identity, None)
        if stay is not None and stay.credible:
            visits.append(Visit(self.area.name, identity, stay.entered_s, stay.seen_s))


def percentile(values_s: list[float], share: float) -> float | None:
    """The `share` quantile (0–1) by the nearest-rank rule; None of an empty list."""
    if not values_s:
        return None
    ordered = sorted(values_s)
    return ordered[min(len(ordered) - 1, max(0, round(share * (len(ordered) - 1))))]


def _signed_area(corners: list[Point]) -> float:
    turned = corners[1:] + corners[:1]
    return sum(x * y2 - x2 * y for (x, y), (x2, y2) in zip(corners, turned, strict=True)) / 2


def _inside(corners: list[Point], point: Point) -> bool:
    """Even–odd rule."""
    x, y = point
    inside = False
    x1, y1 = corners[-1]
    for x2, y2 in corners:
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
        x1, y1 = x2, y2
    return inside
