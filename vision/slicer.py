"""Running a pipeline on a live stream and cutting what it finds into slices of about a second.

Holds the first frames back until the detector has warmed up, then counts them after all, so nothing at the start of a
stream is lost. Slices end at interval edges, so whoever adds them up never has to split one. Must not know processes,
pipes or cameras.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from vision.frame import Frame
from vision.model import Crossing, Slice, Visit
from vision.pipeline import Outcome, Pipeline
from vision.zone import LONGEST_STEP_S

SLICE_S = 1.0
MOST_EARLY_FRAMES = 600


class Slicer:
    """Feeds frames to `pipeline`; call `add` per processed frame, `flush` when the stream ends or pauses."""

    def __init__(self, pipeline: Pipeline, interval_s: float, origin_s: float, warm_up_s: float | None = None) -> None:
        """Intervals start at `origin_s` + n · `interval_s` of stream time; `warm_up_s` None = the detector's own."""
        self.pipeline = pipeline
        self._interval_s = interval_s
        self._origin_s = origin_s
        self._warm_up_s = pipeline.detector.warm_up_s if warm_up_s is None else warm_up_s
        self._early: list[Frame] | None = [] if self._warm_up_s > 0 else None
        self._last_s: float | None = None
        self._start_s: float | None = None
        self._end_s = 0.0
        self._covered_s = 0.0
        self._frames = 0
        self._crossings: list[Crossing] = []
        self._visits: list[Visit] = []

    def add(self, frame: Frame) -> Iterator[Slice]:
        """Count one frame; yields the slices that are complete."""
        if self._early is not None:
            self._early.append(frame)
            if frame.time_s - self._early[0].time_s < self._warm_up_s and len(self._early) < MOST_EARLY_FRAMES:
                return
            yield from self._end_warm_up()
        else:
            yield from self._count(frame)

    def align(self, origin_s: float) -> None:
        """From the next frame on, intervals start at `origin_s` + n · interval."""
        self._origin_s = origin_s

    def flush(self, finish: bool = False) -> Iterator[Slice]:
        """What is left; `finish` also ends all tracks, as when the stream has ended."""
        if self._early:
            yield from self._end_warm_up()
        if finish:
            self._collect(self.pipeline.finish())
        if self._frames or self._crossings or self._visits:
            yield self._cut()

    def _end_warm_up(self) -> Iterator[Slice]:
        early, self._early = self._early or [], None
        self.pipeline.detector.warm_up([frame for frame in early if frame.image.shape == early[0].image.shape])
        early.reverse()
        while early:
            yield from self._count(early.pop())

    def _count(self, frame: Frame) -> Iterator[Slice]:
        time_s = frame.time_s
        if self._start_s is not None and (
            time_s - self._start_s >= SLICE_S or self._interval(time_s) != self._interval(self._start_s)
        ):
            yield self._cut()
        if self._start_s is None:
            self._start_s = time_s
        self._collect(self.pipeline.process(frame))
        if self._last_s is not None and 0 < time_s - self._last_s <= LONGEST_STEP_S:
            self._covered_s += time_s - max(self._last_s, self._floor_s(time_s))
        self._last_s = self._end_s = time_s
        self._frames += 1

    def _interval(self, time_s: float) -> int:
        return math.floor((time_s - self._origin_s) / self._interval_s)

    def _floor_s(self, time_s: float) -> float:
        return self._origin_s + self._interval(time_s) * self._interval_s

    def _collect(self, outcome: Outcome) -> None:
        self._crossings += outcome.crossings
        self._visits += outcome.visits

    def _cut(self) -> Slice:
        start_s = self._start_s if self._start_s is not None else (self._last_s or 0.0)
        done = Slice(
            start_s,
            max(start_s, self._end_s),
            self._covered_s,
            self._frames,
            tuple(self._crossings),
            tuple(self._visits),
            tuple(zone.take() for zone in self.pipeline.zones),
            self.pipeline.heat.take() if self.pipeline.heat is not None else (),
        )
        self._start_s, self._covered_s, self._frames = None, 0.0, 0
        self._crossings, self._visits = [], []
        return done
