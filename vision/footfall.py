"""From slices to honest interval counts: bucketed by capture time, each with its coverage, corrected when late.

An interval without a single covered second yields nothing, never a zero. A crossing that becomes certain after its
interval was reported gives a new report that supersedes the first. Pure: time comes in with the slices and with the
call that closes intervals. Must not know processes, pixels, wall time or events; the core maps stream time to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vision.model import (
    DwellStatistics,
    FootfallInterval,
    HeatMapInterval,
    Measurement,
    Quality,
    QueueInterval,
    Slice,
    ZoneInterval,
)
from vision.pipeline import Scene
from vision.zone import occupancy, percentile

LATE_S = 6.0
"""Crossings become certain at most about this long after they happened, at normal load."""
GIVE_UP_S = 60.0
"""An interval is reported this long after its end even if the camera has said nothing since."""
KEPT_CLOSED = 8
MOST_VISITORS = 100_000
LEAST_COVERED_S = 0.5


class _Bucket:
    """One interval of one camera while it is filled."""

    def __init__(self, lines: Sequence[str], zones: Sequence[str], cells: int) -> None:
        self.covered_s = 0.0
        self.frames = 0
        self.counts = {name: [0, 0] for name in lines}
        self.seconds: dict[str, dict[int, float]] = {name: {} for name in zones}
        self.visitors: dict[str, set[tuple[int, int]]] = {name: set() for name in zones}
        self.dwells_s: dict[str, list[float]] = {name: [] for name in zones}
        self.heat_s = [0.0] * cells
        self.reported = -1  # how many reports superseded, −1 = none yet
        self.dirty: set[str] = set()


class Footfall:
    """Adds up one camera's slices. `add` per slice, `close` every second or so; single-threaded."""

    def __init__(self, camera: str, scene: Scene, detector: str, interval_s: float, origin_s: float = 0.0) -> None:
        """Intervals start at `origin_s` + n · `interval_s` of stream time."""
        self._camera = camera
        self._scene = scene
        self._detector = detector
        self._interval_s = interval_s
        self._origin_s = origin_s
        self._entrances = {line.name: line.entrance for line in scene.lines}
        self._zones = {zone.name: zone.kind for zone in scene.zones if zone.kind != "staff"}
        self._buckets: dict[int, _Bucket] = {}
        self._closed_before = -math.inf
        self.lost_late = 0
        """Crossings and visits older than any interval that is still kept."""

    def add(self, part: Slice, generation: int = 0) -> None:
        """Take in a slice; `generation` tells the camera processes apart, whose track ids start anew."""
        bucket = self._bucket(self._index(part.start_s))
        if bucket is not None:
            bucket.covered_s += part.covered_s
            bucket.frames += part.frames
            for zone in part.zones:
                if zone.zone not in self._zones:
                    continue
                seconds = bucket.seconds[zone.zone]
                for persons, held_s in zone.seconds:
                    seconds[persons] = seconds.get(persons, 0.0) + held_s
                if len(bucket.visitors[zone.zone]) < MOST_VISITORS:
                    bucket.visitors[zone.zone].update((generation, track) for track in zone.visitors)
            for cell, person_s in enumerate(part.heat_s[: len(bucket.heat_s)]):
                bucket.heat_s[cell] += person_s
        for crossing in part.crossings:
            found = self._bucket(self._index(crossing.time_s))
            if found is None or crossing.line not in found.counts:
                self.lost_late += 1
                continue
            found.counts[crossing.line][0 if crossing.direction == "in" else 1] += 1
            found.dirty.add(crossing.line)
        for visit in part.visits:
            found = self._bucket(self._index(visit.left_s))
            if found is None or visit.zone not in found.dwells_s:
                self.lost_late += 1
                continue
            found.dwells_s[visit.zone].append(visit.dwell_s)

    def close(self, progress_s: float, now_s: float) -> list[Measurement]:
        """Report what is complete.

        Args:
            progress_s: stream time up to which slices have come in.
            now_s: the same clock now; an interval long past is reported even if the camera is silent.

        Returns:
            new intervals and corrections of reported ones, oldest first; often empty.
        """
        due_s = max(progress_s - LATE_S, now_s - GIVE_UP_S)
        reports: list[Measurement] = []
        for index in sorted(self._buckets):
            end_s = self._origin_s + (index + 1) * self._interval_s
            bucket = self._buckets[index]
            if end_s > due_s:
                break
            if bucket.reported < 0:
                reports += self._whole(index, bucket)
                bucket.reported = 0
                self._closed_before = max(self._closed_before, index + 1)
            elif bucket.dirty:
                bucket.reported += 1
                reports += [self._line(index, bucket, name) for name in sorted(bucket.dirty)]
            bucket.dirty.clear()
        closed = [index for index, bucket in sorted(self._buckets.items()) if bucket.reported >= 0]
        for index in closed[:-KEPT_CLOSED]:
            del self._buckets[index]
        return reports

    def _index(self, time_s: float) -> int:
        return math.floor((time_s - self._origin_s) / self._interval_s)

    def _bucket(self, index: int) -> _Bucket | None:
        if index not in self._buckets:
            if index < self._closed_before:
                return None  # its report has gone out and been forgotten
            cells = self._scene.heat_rows * self._scene.heat_columns
            self._buckets[index] = _Bucket(list(self._entrances), list(self._zones), cells)
        return self._buckets[index]

    def _quality(self, bucket: _Bucket) -> Quality:
        fps = bucket.frames / bucket.covered_s if bucket.covered_s else 0.0
        coverage = min(1.0, bucket.covered_s / self._interval_s)
        return Quality(bucket.frames, round(fps, 2), round(coverage, 4), self._detector)

    def _line(self, index: int, bucket: _Bucket, name: str) -> FootfallInterval:
        arrived, left = bucket.counts[name]
        start_s = self._origin_s + index * self._interval_s
        quality = self._quality(bucket)
        superseded = max(0, bucket.reported)
        return FootfallInterval(
            name, self._entrances[name], start_s, self._interval_s, arrived, left, quality, superseded
        )

    def _whole(self, index: int, bucket: _Bucket) -> list[Measurement]:
        if bucket.covered_s < min(LEAST_COVERED_S, self._interval_s / 2):
            return []  # no coverage, no number
        start_s, quality = self._origin_s + index * self._interval_s, self._quality(bucket)
        reports: list[Measurement] = [self._line(index, bucket, name) for name in self._entrances]
        for name, kind in self._zones.items():
            inside = occupancy(bucket.seconds[name])
            dwells = bucket.dwells_s[name]
            p50, p90 = percentile(dwells, 0.5), percentile(dwells, 0.9)
            if kind == "queue":
                reports.append(
                    QueueInterval(
                        name, start_s, self._interval_s, inside.mean_persons, inside.peak_persons, p50, p90, quality
                    )
                )
            mean = sum(dwells) / len(dwells) if dwells else None
            dwell = DwellStatistics(len(dwells), mean, p50, p90)
            visitors = len(bucket.visitors[name])
            reports.append(
                ZoneInterval(
                    name, start_s, self._interval_s, inside.mean_persons, inside.peak_persons, visitors, dwell, quality
                )
            )
        if bucket.heat_s:
            rows, columns = self._scene.heat_rows, self._scene.heat_columns
            heat = tuple(round(value, 2) for value in bucket.heat_s)
            reports.append(HeatMapInterval(self._camera, start_s, self._interval_s, rows, columns, heat, quality))
        return reports
