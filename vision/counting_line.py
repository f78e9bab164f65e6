"""Counting persons over a directed line: a pure state machine over tracked points.

Each track has a side; it changes only after the track has gone clearly past the line (hysteresis, in parts of the
person's own size), so jitter and a turn on the threshold count nothing. A crossing is dated at the moment the line
itself was passed. Both sides must have been *seen*: coasting tracks are ignored. State is dropped with its track.
This module must not know pixels, detectors or wall time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from gateway.errors import ConfigError
from vision.model import Crossing, Direction, Line, Track

HYSTERESIS_SIZES = 0.20
"""Half the band around the line in which nothing is decided, in sizes, √(width × height), of the person."""
FOOT_HYSTERESIS_SIZES = 0.27
"""The same up and down the picture for a line crossed by feet: legs that are hidden lift a box's lower edge."""
EDGE_SHARE = 1 / 3
"""A track that is born or ends inside the hysteresis band has a side from this share of the band on."""
END_TOLERANCE = 0.0


class _Passage(msgspec.Struct, gc=False):
    """What is remembered about one track."""

    side: int  # −1, 0 (not known yet), +1
    reach_px: float  # furthest distance from the line on the known side
    distance_px: float
    along: float
    frame: int
    time_s: float
    band_px: float
    passed_frame: int = 0
    passed_s: float = 0.0
    passed_inside: bool = False
    credible: bool = False
    pending: list[tuple[Direction, int, float]] = []


class CountingLine:
    """Counts passes over one line. `update` once a processed frame; no thread, no clock, no I/O."""

    def __init__(self, line: Line, width_px: int, height_px: int) -> None:
        """Place `line` on a frame of the given size.

        Raises:
            ConfigError: the line has no length, or lies wholly outside the frame.
        """
        self.line = line
        ax, ay = line.start[0] * width_px, line.start[1] * height_px
        bx, by = line.end[0] * width_px, line.end[1] * height_px
        length = math.hypot(bx - ax, by - ay)
        if not math.isfinite(length) or length < 2.0:
            raise ConfigError("count", f"line {line.name}", "the line has no length", "give two different points")
        if not _touches_frame(line):
            size = f"the frame is {width_px}×{height_px} px"
            raise ConfigError("count", f"line {line.name}", "the line lies outside the frame", size)
        self._ax, self._ay = ax, ay
        self._ux, self._uy = (bx - ax) / length, (by - ay) / length
        self._length_px = length
        upright = FOOT_HYSTERESIS_SIZES if line.anchor == "foot" else HYSTERESIS_SIZES
        self._hysteresis = math.hypot(HYSTERESIS_SIZES * self._uy, upright * self._ux)
        self._passages: dict[int, _Passage] = {}
        self.in_count = 0
        self.out_count = 0

    def __len__(self) -> int:
        """Tracks remembered now."""
        return len(self._passages)

    def update(self, tracks: Iterable[Track], ended: Iterable[int], frame: int, time_s: float) -> list[Crossing]:
        """Advance by one processed frame.

        Args:
            tracks: all live tracks; those not observed in this frame change nothing.
            ended: ids that the tracker has dropped.
            frame: 1-based frame number. time_s: capture time of the frame.

        Returns:
            crossings that have become certain; each may date from an earlier frame. Often empty.
        """
        found: list[Crossing] = []
        for track in tracks:
            if track.observed:
                self._advance(track, frame, time_s, found)
        for identity in ended:
            self._end(identity, found)
        return found

    def finish(self) -> list[Crossing]:
        """End every track, as at the end of a recording."""
        found: list[Crossing] = []
        for identity in list(self._passages):
            self._end(identity, found)
        return found

    def _advance(self, track: Track, frame: int, time_s: float, found: list[Crossing]) -> None:
        box = track.box
        x = box.left_px + box.width_px / 2 - self._ax
        y = box.top_px + box.height_px * (1.0 if self.line.anchor == "foot" else 0.5) - self._ay
        distance = self._ux * y - self._uy * x
        along = (self._ux * x + self._uy * y) / self._length_px
        band = self._hysteresis * math.sqrt(max(1.0, box.width_px * box.height_px))
        state = self._passages.get(track.id)
        if state is None:
            side = 0 if abs(distance) < band * EDGE_SHARE else _sign(distance)
            self._passages[track.id] = _Passage(
                side, abs(distance), distance, along, frame, time_s, band, credible=track.credible, pending=[]
            )
            return
        if (distance > 0) != (state.distance_px > 0):
            share = state.distance_px / (state.distance_px - distance)
            at = state.along + share * (along - state.along)
            state.passed_inside = -END_TOLERANCE <= at <= 1 + END_TOLERANCE
            state.passed_frame = min(frame, state.frame + max(1, math.ceil(share * (frame - state.frame))))
            state.passed_s = state.time_s + share * (time_s - state.time_s)
        state.distance_px, state.along, state.frame, state.time_s = distance, along, frame, time_s
        state.band_px = band
        state.credible = state.credible or track.credible
        if state.side == 0:
            if abs(distance) >= band * EDGE_SHARE:
                state.side, state.reach_px = _sign(distance), abs(distance)
        elif _sign(distance) == state.side:
            state.reach_px = max(state.reach_px, abs(distance))
        elif abs(distance) >= band and abs(distance) + state.reach_px >= 2 * band:
            self._flip(state)
        if state.pending and state.credible:
            self._release(track.id, state, found)

    def _flip(self, state: _Passage) -> None:
        state.side, state.reach_px = -state.side, abs(state.distance_px)
        if state.passed_inside:
            state.pending.append(("in" if state.side > 0 else "out", state.passed_frame, state.passed_s))
            del state.pending[:-4]  # a flicker that is never credible must not grow

    def _end(self, identity: int, found: list[Crossing]) -> None:
        state = self._passages.pop(identity, None)
        if state is None or not state.credible:
            return
        reach = abs(state.distance_px)
        if (
            state.side
            and _sign(state.distance_px) != state.side
            and reach >= state.band_px * EDGE_SHARE
            and reach + state.reach_px >= 2 * state.band_px
        ):
            self._flip(state)
        self._release(identity, state, found)

    def _release(self, identity: int, state: _Passage, found: list[Crossing]) -> None:
        for direction, frame, time_s in state.pending:
            if direction == "in":
                self.in_count += 1
            else:
                self.out_count += 1
            found.append(Crossing(self.line.name, direction, identity, frame, time_s))
        state.pending.clear()


def _sign(value: float) -> int:
    return 1 if value > 0 else -1


def _touches_frame(line: Line) -> bool:
    """Liang–Barsky: does any part of the segment lie in the unit square?"""
    (x, y), (x2, y2) = line.start, line.end
    dx, dy = x2 - x, y2 - y
    low, high = 0.0, 1.0
    for step, room in ((-dx, x), (dx, 1 - x), (-dy, y), (dy, 1 - y)):
        if step == 0:
            if room < 0:
                return False
        elif step < 0:
            low = max(low, room / step)
        else:
            high = min(high, room / step)
    return low <= high
