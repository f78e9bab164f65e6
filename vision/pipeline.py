"""One stream's counting, frame in, crossings and visits out: detector → masks → tracker → lines, zones, heat map.

Nothing here waits, reads a clock or opens anything; the caller hands in frames in order of capture time. A change of
the picture's size starts the scene anew: lines and zones are relative and stay, tracks end. Must not know cameras,
intervals or events.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np

from vision.counting_line import CountingLine
from vision.detector import Detector
from vision.frame import Frame, Image
from vision.heatmap import HeatMap
from vision.model import Box, Crossing, Detection, Point, Scene, Track, Visit
from vision.tracker import Tracker, TrackerOptions
from vision.zone import Zone


class Outcome(msgspec.Struct, frozen=True):
    """What one frame made certain."""

    crossings: tuple[Crossing, ...] = ()
    visits: tuple[Visit, ...] = ()


class Pipeline:
    """Counts one stream. Call `process` for every processed frame, `finish` once at the end of a recording."""

    def __init__(self, detector: Detector, scene: Scene, options: TrackerOptions | None = None) -> None:
        self.detector = detector
        self.scene = scene
        self._options = options or tracker_options(detector.name)
        self._size: tuple[int, int] | None = None
        self._tracker = Tracker(self._options)
        self._mask: Image | None = None
        self.lines: list[CountingLine] = []
        self.zones: list[Zone] = []
        self.heat: HeatMap | None = None
        self.tracks: list[Track] = []
        self.detections: list[Detection] = []
        self.staff: set[int] = set()
        self.frames = 0
        self.image: Image | None = None

    def prepare(self, width_px: int, height_px: int) -> None:
        """Place the scene on a picture of this size.

        Raises:
            ConfigError: a line or zone that cannot count anything.
        """
        self._size = (width_px, height_px)
        self.lines = [CountingLine(line, width_px, height_px) for line in self.scene.lines]
        self.zones = [Zone(area, width_px, height_px) for area in self.scene.zones]
        if self.scene.heat_rows:
            self.heat = HeatMap(self.scene.heat_rows, self.scene.heat_columns, width_px, height_px)
        self._mask = _mask(self.scene.masks, width_px, height_px)

    def process(self, frame: Frame) -> Outcome:
        """Count one frame; times must not go backwards."""
        height, width = frame.image.shape[:2]
        crossings: list[Crossing] = []
        visits: list[Visit] = []
        if self._size != (width, height):
            if self.frames:
                crossings, visits = self._end_all()
                self.detector.reset()
            self.prepare(width, height)
        self.frames += 1
        self.image = frame.image
        expected = self._tracker.predict(frame.time_s)
        self.detections = self._unmasked(self.detector.detect(frame, expected))
        self.tracks = self._tracker.step(self.detections, frame.time_s)
        ended = self._tracker.ended
        counted = self._without_staff(ended)
        for line in self.lines:
            crossings += line.update(counted, ended, frame.number, frame.time_s)
        for zone in self.zones:
            if zone.area.kind != "staff":
                visits += zone.update(counted, ended, frame.time_s)
        if self.heat is not None:
            self.heat.update(counted, frame.time_s)
        return Outcome(tuple(crossings), tuple(visits))

    def finish(self) -> Outcome:
        """End all tracks."""
        crossings, visits = self._end_all()
        return Outcome(tuple(crossings), tuple(visits))

    def _end_all(self) -> tuple[list[Crossing], list[Visit]]:
        crossings = [crossing for line in self.lines for crossing in line.finish()]
        visits = [visit for zone in self.zones for visit in zone.finish()]
        self._tracker = Tracker(self._options, first_id=self._tracker.next_id)
        self.staff.clear()
        self.tracks = []
        return crossings, visits

    def _unmasked(self, detections: list[Detection]) -> list[Detection]:
        if self._mask is None:
            return detections
        return [detection for detection in detections if not _masked(self._mask, detection.box)]

    def _without_staff(self, ended: Sequence[int]) -> list[Track]:
        """Tracks that count; one whose first sighting lies in a staff zone never does."""
        areas = [zone for zone in self.zones if zone.area.kind == "staff"]
        if not areas:
            return self.tracks
        self.staff.difference_update(ended)
        for track in self.tracks:
            if track.first_s == track.last_s and any(zone.holds(track) for zone in areas):
                self.staff.add(track.id)
        return [track for track in self.tracks if track.id not in self.staff]


def tracker_options(detector: str) -> TrackerOptions:
    """The tracker's numbers for a kind of detector; boxes cut from a mask are noisier and carry no confidence."""
    if detector == "motion":
        return TrackerOptions(noise_sizes=0.12, confirm_hits=4, sure_still_score=1.1, lost_s=2.0, weak_keeps=False)
    return TrackerOptions()


def _mask(polygons: Sequence[Sequence[Point]], width_px: int, height_px: int) -> Image | None:
    if not polygons:
        return None
    mask = np.zeros((height_px, width_px), dtype=np.uint8)
    for polygon in polygons:
        corners = np.array([(x * width_px, y * height_px) for x, y in polygon], dtype=np.int32)
        cv2.fillPoly(mask, [corners], 255)
    return mask


def _masked(mask: Image, box: Box) -> bool:
    height, width = mask.shape[:2]
    x, y = box.centre
    return bool(mask[min(height - 1, max(0, int(y))), min(width - 1, max(0, int(x)))])
