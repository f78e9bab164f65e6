"""From slices to honest interval counts: bucketed by capture time, each with its coverage, corrected when late.

An interval without a single covered second yields nothing, never a zero. A crossing that becomes certain after its
interval was reported gives a new report that supersedes the first. Intervals lie on a grid that may be moved while it
runs (the wall clock was set): the interval under way then ends early and the next begins there. Pure: time comes in
with the slices and with the call that closes intervals. Must not know processes, pixels, wall time or events; the core
maps stream time to both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vision.model import (
    Crossing,
    DwellStatistics,
    FootfallInterval,
    HeatMapInterval,
    Measurement,
    Quality,
    QueueInterval,
    Scene,
    Slice,
    ZoneInterval,
)
from vision.zone import occupancy, percentile

LATE_S = 6.0
"""Crossings become certain at most about this long after they happened, at normal load."""
GIVE_UP_S = 60.0
"""An interval is reported this long after its end even if the camera has said nothing since."""
KEPT_CLOSED = 8
KEPT_GRIDS = 8
MOST_VISITORS = 100_000
LEAST_COVERED_S = 0.5


class _Bucket:
    """One interval of one camera while it is filled."""

    def __init__(self, start_s: float, end_s: float, lines: Sequence[str], zones: Sequence[str], cells: int) -> None:
        self.start_s, self.end_s = start_s, end_s
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
    """Adds up one camera's slices. `add` per slice, `close` every second or so; single-threaded, `totals` excepted."""

    def __init__(self, camera: str, scene: Scene, detector: str, interval_s: float, origin_s: float = 0.0) -> None:
        """Intervals start at `origin_s` + n · `interval_s` of stream time."""
        self._camera = camera
        self._scene = scene
        self._detector = detector
        self._interval_s = interval_s
        self._grids: list[tuple[float, float]] = [(-math.inf, origin_s)]  # (from when on, origin)
        self._entrances = {line.name: line.entrance for line in scene.lines}
        self._zones = {zone.name: zone.kind for zone in scene.zones if zone.kind != "staff"}
        self._buckets: dict[float, _Bucket] = {}  # by start
        self._closed_before_s = -math.inf
        self._totals = {name: [0, 0] for name in self._entrances}
        self.lost_late = 0
        """Crossings and visits older than any interval that is still kept."""

    def align(self, origin_s: float, from_s: float) -> None:
        """From `from_s` on, intervals start at `origin_s` + n · interval; the one under way ends there."""
        self._grids = [*self._grids, (from_s, origin_s)][-KEPT_GRIDS:]
        for bucket in self._buckets.values():
            if bucket.start_s < from_s < bucket.end_s:
                bucket.end_s = from_s

    def totals(self) -> dict[str, tuple[int, int]]:
        """(in, out) of each line since the beginning, also of the interval under way. Any thread."""
        return {name: (counts[0], counts[1]) for name, counts in self._totals.items()}

    def add(self, part: Slice, generation: int = 0) -> None:
        """Take in a slice; `generation` tells the camera processes apart, whose track ids start anew."""
        bucket = self._bucket(part.start_s)
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
            self._count(crossing, 1)
        for visit in part.visits:
            found = self._bucket(visit.left_s)
            if found is None or visit.zone not in found.dwells_s:
                self.lost_late += 1
                continue
            found.dwells_s[visit.zone].append(visit.dwell_s)

    def retract(self, crossing: Crossing) -> None:
        """A crossing that was counted was a member of staff; a report that holds it already is superseded."""
        self._count(crossing, -1)

    def close(self, progress_s: float, now_s: float, everything: bool = False) -> list[Measurement]:
        """Report what is complete.

        Args:
            progress_s: stream time up to which slices have come in.
            now_s: the same clock now; an interval long past is reported even if the camera is silent.
            everything: nothing more will come: report the interval under way, too, with the coverage it has.

        Returns:
            new intervals and corrections of reported ones, oldest first; often empty.
        """
        due_s = math.inf if everything else max(progress_s - LATE_S, now_s - GIVE_UP_S)
        reports: list[Measurement] = []
        for start_s in sorted(self._buckets):
            bucket = self._buckets[start_s]
            if bucket.end_s > due_s:
                break
            if bucket.reported < 0:
                reports += self._whole(bucket)
                bucket.reported = 0
                self._closed_before_s = max(self._closed_before_s, bucket.end_s)
            elif bucket.dirty:
                bucket.reported += 1
                reports += [self._line(bucket, name) for name in sorted(bucket.dirty)]
            bucket.dirty.clear()
        closed = [start_s for start_s, bucket in sorted(self._buckets.items()) if bucket.reported >= 0]
        for start_s in closed[:-KEPT_CLOSED]:
            del self._buckets[start_s]
        return reports

    def _count(self, crossing: Crossing, times: int) -> None:
        found = self._bucket(crossing.time_s)
        if found is None or crossing.line not in found.counts:
            self.lost_late += 1
            return
        way = 0 if crossing.direction == "in" else 1
        found.counts[crossing.line][way] += times
        self._totals[crossing.line][way] += times
        found.dirty.add(crossing.line)

    def _span(self, time_s: float) -> tuple[float, float]:
        """Start and end of the interval that holds `time_s`."""
        number = max((n for n, (from_s, _) in enumerate(self._grids) if from_s <= time_s), default=0)
        from_s, origin_s = self._grids[number]
        start_s = origin_s + math.floor((time_s - origin_s) / self._interval_s) * self._interval_s
        end_s = start_s + self._interval_s
        if number + 1 < len(self._grids):
            end_s = min(end_s, self._grids[number + 1][0])
        return max(start_s, from_s), end_s

    def _bucket(self, time_s: float) -> _Bucket | None:
        start_s, end_s = self._span(time_s)
        if start_s not in self._buckets:
            if end_s <= self._closed_before_s:
                return None  # its report has gone out and been forgotten
            cells = self._scene.heat_rows * self._scene.heat_columns
            self._buckets[start_s] = _Bucket(start_s, end_s, list(self._entrances), list(self._zones), cells)
        return self._buckets[start_s]

    def _quality(self, bucket: _Bucket) -> Quality:
        fps = bucket.frames / bucket.covered_s if bucket.covered_s else 0.0
        coverage = min(1.0, bucket.covered_s / (bucket.end_s - bucket.start_s))
        return Quality(bucket.frames, round(fps, 2), round(coverage, 4), self._detector)

    def _line(self, bucket: _Bucket, name: str) -> FootfallInterval:
        arrived, left = bucket.counts[name]
        return FootfallInterval(
            name,
            self._entrances[name],
            bucket.start_s,
            bucket.end_s - bucket.start_s,
            arrived,
            left,
            self._quality(bucket),
            max(0, bucket.reported),
        )

    def _whole(self, bucket: _Bucket) -> list[Measurement]:
        start_s, interval_s = bucket.start_s, bucket.end_s - bucket.start_s
        if bucket.covered_s < min(LEAST_COVERED_S, interval_s / 2):
            return []  # no coverage, no number
        quality = self._quality(bucket)
        reports: list[Measurement] = [self._line(bucket, name) for name in self._entrances]
        for name, kind in self._zones.items():
            inside = occupancy(bucket.seconds[name])
            dwells = bucket.dwells_s[name]
            p50, p90 = percentile(dwells, 0.5), percentile(dwells, 0.9)
            if kind == "queue":
                reports.append(
                    QueueInterval(
                        name, start_s, interval_s, inside.mean_persons, inside.peak_persons, p50, p90, quality
                    )
                )
            dwell = DwellStatistics(len(dwells), sum(dwells) / len(dwells) if dwells else None, p50, p90)
            visitors = len(bucket.visitors[name])
            reports.append(
                ZoneInterval(
                    name, start_s, interval_s, inside.mean_persons, inside.peak_persons, visitors, dwell, quality
                )
            )
        if bucket.heat_s:
            rows, columns = self._scene.heat_rows, self._scene.heat_columns
            heat = tuple(round(value, 2) for value in bucket.heat_s)
            reports.append(HeatMapInterval(self._camera, start_s, interval_s, rows, columns, heat, quality))
        return reports
