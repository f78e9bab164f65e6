"""Where people are, in person-seconds per cell of a coarse grid.

Integrated over time, so the frame rate does not matter. Must not know pixels' values, lines or wall time.
"""

from __future__ import annotations

from collections.abc import Iterable

from vision.model import Track
from vision.zone import LONGEST_STEP_S


class HeatMap:
    """Adds up where the feet of credible persons are. `update` once a processed frame."""

    def __init__(self, rows: int, columns: int, width_px: int, height_px: int) -> None:
        self.rows = rows
        self.columns = columns
        self._width_px = width_px
        self._height_px = height_px
        self._person_s = [0.0] * (rows * columns)
        self._time_s: float | None = None

    def update(self, tracks: Iterable[Track], time_s: float) -> None:
        """Give each credible, observed person the seconds since the previous frame; longer gaps count nothing."""
        step = 0.0 if self._time_s is None else time_s - self._time_s
        self._time_s = time_s
        if not 0 < step <= LONGEST_STEP_S:
            return
        for track in tracks:
            if track.credible and track.observed:
                x, y = track.box.foot
                row = min(self.rows - 1, max(0, int(y / self._height_px * self.rows)))
                column = min(self.columns - 1, max(0, int(x / self._width_px * self.columns)))
                self._person_s[row * self.columns + column] += step

    def take(self) -> tuple[float, ...]:
        """Person-seconds per cell, row-major, since the last `take`; starts a new interval."""
        taken = tuple(self._person_s)
        self._person_s = [0.0] * len(taken)
        return taken
