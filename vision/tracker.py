"""Joining detections into tracks: a pure, bounded multi-object tracker.

Every track carries a constant-velocity Kalman filter whose noise is measured in the person's own size, so one set of
numbers serves every camera height. The covariance of x and y is then the same, and all tracks are filtered at once in
arrays. Assignment is solved exactly (Jonker–Volgenant, from `lap`), sure detections first, weak ones then only to
continue tracks that exist; a lost track coasts with a fading velocity and a widening gate until it is found again or
given up. Must not know pixels, lines, wall time or which detector is used.

*Source*: R. E. Kalman, 1960; Bewley et al., "Simple Online and Realtime Tracking", 2016, for the filter-and-assign
frame; Zhang et al., "ByteTrack", 2022, for the second round with weak detections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import lap
import msgspec
import numpy as np
from numpy.typing import NDArray

from vision.model import Box, Detection, Track

Array = NDArray[np.float64]

# Columns of the state table.
CX, CY, VX, VY, W, H, P00, P01, P11, HITS, FIRST, LAST, X0, Y0, REACH, SCORE, SURE = range(17)

LEAST_GATE_SIZES, MOST_GROWN = 0.35, 1.6
"""A gate is never narrower than this; an area that has changed by more than e to this is somebody else's."""


class TrackerOptions(msgspec.Struct, frozen=True):
    """Numbers of the tracker; "sizes" are √(width × height) of the person's box.

    Attributes:
        sure_score: detections from here on may start and continue tracks.
        weak_score: detections from here on may continue tracks.
        confirm_hits: supporting detections before a track is a person.
        moved_sizes: way covered before a track is a person …
        sure_still_score: … unless its mean score over at least `sure_still_s` is this high.
        lost_s: how long a track is kept without support.
        young_lost_s: the same for a track with fewer than `confirm_hits`.
        acceleration: spectral density of the motion noise, sizes²/s³.
        noise_sizes: standard deviation of a detected centre.
        first_speed_sizes_s: standard deviation of the speed of a new track.
        gate_sigmas, gate_sizes: a pair further apart than either is never joined.
        weak_keeps: weak support keeps a track for ever, not only for `lost_s`.
        most_tracks: live tracks kept; the longest lost go first.
    """

    sure_score: float = 0.5
    weak_score: float = 0.2
    confirm_hits: int = 3
    moved_sizes: float = 0.5
    sure_still_score: float = 0.7
    sure_still_s: float = 1.0
    lost_s: float = 2.5
    young_lost_s: float = 0.5
    acceleration: float = 2.0
    noise_sizes: float = 0.07
    first_speed_sizes_s: float = 1.5
    gate_sigmas: float = 3.5
    gate_sizes: float = 1.5
    weak_keeps: bool = True
    most_tracks: int = 256


class Tracker:
    """Turns the detections of successive frames into tracks. Not thread-safe; time is handed in."""

    def __init__(self, options: TrackerOptions | None = None, first_id: int = 1) -> None:
        self.options = options or TrackerOptions()
        self._table: Array = np.zeros((0, 17))
        self._ids: list[int] = []
        self._credible: list[bool] = []
        self.next_id = first_id
        self._time_s: float | None = None
        self.ended: list[int] = []
        """Ids dropped by the latest `step`."""

    def __len__(self) -> int:
        """Live tracks, seen and coasting."""
        return len(self._ids)

    def predict(self, time_s: float) -> list[Box]:
        """Where the credible tracks should be at `time_s`; changes nothing."""
        step = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        boxes = []
        for credible, row in zip(self._credible, self._table[:, :6].tolist(), strict=True):
            if not credible:
                continue
            cx, cy, vx, vy, width, height = row
            cx, cy = cx + vx * step, cy + vy * step
            boxes.append(Box(cx - width / 2, cy - height / 2, width, height))
        return boxes

    def step(self, detections: Sequence[Detection], time_s: float) -> list[Track]:
        """Advance to `time_s` (never backwards) with all detections of that frame.

        Returns:
            every live track, observed or coasting. Ids of tracks that ended are in `ended`.
        """
        options = self.options
        step_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        self._predict(step_s)
        measured = np.array(
            [
                (b.left_px + b.width_px / 2, b.top_px + b.height_px / 2, b.width_px, b.height_px, d.score)
                for d in detections
                if d.score >= options.weak_score and (b := d.box).width_px > 0 and b.height_px > 0
            ],
            dtype=np.float64,
        ).reshape(-1, 5)
        sure = measured[:, 4] >= options.sure_score
        free = np.flatnonzero(sure)
        unsure = np.flatnonzero(~sure)
        observed = np.zeros(len(self._ids), dtype=bool)
        # Tracks that are seen or old enough choose first; newborn and long lost ones take what is left.
        age = time_s - self._table[:, LAST]
        recent = age <= max(1.5 * step_s, 0.35)
        known = self._table[:, HITS] >= options.confirm_hits
        first = known & recent
        for candidates, weak in ((first, False), (first, True), (known, False), (~known, False)):
            columns = unsure if weak else free
            if not len(columns):
                continue
            pairs = self._assign(np.flatnonzero(candidates & ~observed), measured, columns)
            for track, column in pairs:
                self._correct(track, measured[column], time_s)
                observed[track] = True
            if not weak and pairs:
                taken = {column for _, column in pairs}
                free = np.array([column for column in free if column not in taken], dtype=np.intp)
        births = [measured[column] for column in free if not self._duplicate(measured[column], observed)]
        self._drop(observed, time_s, len(births))
        observed_ids = [bool(value) for value in self._observed]
        for birth in births:
            self._begin(birth, time_s)
            observed_ids.append(True)
        return self._report(observed_ids)

    # -- filter -------------------------------------------------------------------------------------------------

    def _predict(self, step_s: float) -> None:
        table = self._table
        if step_s <= 0 or not len(table):
            return
        lost = (self._time_s or 0.0) - step_s - table[:, LAST] > 0.4
        if lost.any():
            table[lost, VX : VY + 1] *= math.exp(-step_s / 1.5)
        table[:, CX : CY + 1] += table[:, VX : VY + 1] * step_s
        noise = self.options.acceleration
        drift = step_s * table[:, P11]
        table[:, P00] += step_s * (2 * table[:, P01] + drift) + noise * step_s**3 / 3
        table[:, P01] += drift + noise * step_s**2 / 2
        table[:, P11] += noise * step_s

    def _correct(self, row: int, found: Array, time_s: float) -> None:
        cx, cy, vx, vy, width, height, p00, p01, p11 = self._table[row, :9].tolist()
        fx, fy, fw, fh, score = found.tolist()
        weight = p00 + self.options.noise_sizes**2 * (1.0 if score >= self.options.sure_score else 4.0)
        gain, speed_gain = p00 / weight, p01 / weight
        dx, dy = fx - cx, fy - cy
        state = self._table[row]
        hits = state[HITS] + 1
        cx, cy = cx + gain * dx, cy + gain * dy
        share = max(0.25, 1.0 / hits)
        state[:9] = (
            cx,
            cy,
            vx + speed_gain * dx,
            vy + speed_gain * dy,
            width + share * (fw - width),
            height + share * (fh - height),
            (1 - gain) * p00,
            (1 - gain) * p01,
            p11 - speed_gain * p01,
        )
        state[HITS] = hits
        state[LAST] = time_s
        if score >= self.options.sure_score or self.options.weak_keeps:
            state[SURE] = time_s
        state[SCORE] += (score - state[SCORE]) / min(hits, 30.0)
        reach = math.hypot(cx - state[X0], cy - state[Y0]) / math.sqrt(max(1.0, state[W] * state[H]))
        state[REACH] = max(state[REACH], reach)

    # -- assignment ---------------------------------------------------------------------------------------------

    def _assign(self, rows: NDArray[np.intp], measured: Array, columns: NDArray[np.intp]) -> list[tuple[int, int]]:
        """Pairs (track row, measurement column) of least total cost; pairs outside the gate are never made."""
        if not len(rows) or not len(columns):
            return []
        if len(rows) == len(columns) == 1:  # most frames of a quiet door
            row, column = int(rows[0]), int(columns[0])
            return [(row, column)] if self._near(self._table[row], measured[column]) else []
        table, found = self._table[rows], measured[columns]
        size = np.sqrt(table[:, W] * table[:, H])[:, None]
        apart = np.hypot(table[:, CX, None] - found[None, :, 0], table[:, CY, None] - found[None, :, 1]) / size
        sigma = np.sqrt(table[:, P00, None] + self.options.noise_sizes**2)
        grown = np.abs(np.log((found[:, 2] * found[:, 3])[None, :] / (size * size)))
        gate = np.minimum(self.options.gate_sigmas * sigma, self.options.gate_sizes)
        cost = apart + 0.15 * grown
        allowed = (apart <= np.maximum(gate, LEAST_GATE_SIZES)) & (grown < MOST_GROWN)
        limit = 4.0 + self.options.gate_sizes
        cost = np.where(allowed, cost, 10 * limit)
        _, chosen, _ = lap.lapjv(cost, extend_cost=True, cost_limit=limit)
        return [
            (int(rows[index]), int(columns[column]))
            for index, column in enumerate(chosen.tolist())
            if column >= 0 and allowed[index, column]
        ]

    def _near(self, track: Array, found: Array) -> bool:
        """What `_assign` allows, of one track and one detection."""
        cx, cy, _, _, width, height, p00 = track[: P00 + 1].tolist()
        x, y, w, h = found[:4].tolist()
        options = self.options
        gate = min(options.gate_sigmas * math.sqrt(p00 + options.noise_sizes**2), options.gate_sizes)
        apart = math.hypot(cx - x, cy - y) / math.sqrt(width * height)
        return apart <= max(gate, LEAST_GATE_SIZES) and abs(math.log(w * h / (width * height))) < MOST_GROWN

    def _duplicate(self, found: Array, observed: NDArray[np.bool_]) -> bool:
        """Is the detection a second box on a person who has been found in this frame?"""
        table = self._table[observed]
        if not len(table):
            return False
        x, y, width, height = found[:4].tolist()
        across = np.minimum(x + width / 2, table[:, CX] + table[:, W] / 2) - np.maximum(
            x - width / 2, table[:, CX] - table[:, W] / 2
        )
        down = np.minimum(y + height / 2, table[:, CY] + table[:, H] / 2) - np.maximum(
            y - height / 2, table[:, CY] - table[:, H] / 2
        )
        shared = np.clip(across, 0, None) * np.clip(down, 0, None)
        union = width * height + table[:, W] * table[:, H] - shared
        return bool(np.any(shared / union > 0.6))

    # -- life ---------------------------------------------------------------------------------------------------

    def _begin(self, found: Array, time_s: float) -> None:
        x, y, width, height, score = found.tolist()
        noise, speed = self.options.noise_sizes**2, self.options.first_speed_sizes_s**2
        row = [x, y, 0.0, 0.0, width, height, noise, 0.0, speed, 1.0, time_s, time_s, x, y, 0.0, score, time_s]
        self._table = np.vstack([self._table, np.array([row])])
        self._ids.append(self.next_id)
        self._credible.append(False)
        self.next_id += 1

    def _drop(self, observed: NDArray[np.bool_], time_s: float, births: int) -> None:
        table, options = self._table, self.options
        age = time_s - table[:, SURE]
        keep = age <= np.where(table[:, HITS] >= options.confirm_hits, options.lost_s, options.young_lost_s)
        crowd = int(np.count_nonzero(keep)) + births - options.most_tracks
        if crowd > 0:
            for row in np.argsort(-np.where(keep, age, -1.0))[:crowd]:
                keep[row] = False
        self.ended = (
            [] if keep.all() else [identity for identity, kept in zip(self._ids, keep, strict=True) if not kept]
        )
        if self.ended:
            self._table = table[keep]
            self._ids = [identity for identity, kept in zip(self._ids, keep, strict=True) if kept]
            self._credible = [value for value, kept in zip(self._credible, keep, strict=True) if kept]
        self._observed = observed[keep]

    def _report(self, observed: list[bool]) -> list[Track]:
        options = self.options
        tracks = []
        for index, row in enumerate(self._table.tolist()):
            if not self._credible[index] and row[HITS] >= options.confirm_hits:
                still = row[SCORE] >= options.sure_still_score and row[LAST] - row[FIRST] >= options.sure_still_s
                self._credible[index] = row[REACH] >= options.moved_sizes or still
            width, height = row[W], row[H]
            tracks.append(
                Track(
                    self._ids[index],
                    Box(row[CX] - width / 2, row[CY] - height / 2, width, height),
                    observed[index],
                    self._credible[index],
                    row[FIRST],
                    row[LAST],
                    (row[VX], row[VY]),
                )
            )
        return tracks
