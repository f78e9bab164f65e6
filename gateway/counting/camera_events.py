"""A camera's measurements as events: monotonic times become wall times, numbers become the vocabulary's fields.

Pure. Knows no process and no journal.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway import event_types as types
from gateway.clock import Instant, rfc3339_s
from vision.model import FootfallInterval, HeatMapInterval, Measurement, Quality, QueueInterval, ZoneInterval

_ROUNDING_S = 1e-4  # RFC 3339 text is cut to milliseconds: 59.9999999 s is meant to be the whole minute


def event_data(
    measured: Measurement, at: Instant, snapped: Callable[[float], float] = lambda start_s: start_s
) -> types.EventData:
    """The event of a measurement; its monotonic times become wall time by the offset at `at`.

    Args:
        measured: what the camera measured.
        at: now.
        snapped: takes a start that is beside a whole minute by the clocks' jitter to that minute.
    """
    start_s = snapped(wall_s(at, measured.interval_start_s))
    return _EVENTS[type(measured)](measured, rfc3339_s(start_s + _ROUNDING_S))


def wall_s(at: Instant, mono_s: float) -> float:
    """Wall time of a moment of monotonic time, seconds since 1970, by the present offset of the clocks."""
    return at.wall_s - (at.mono_s - mono_s)


def _footfall(it: FootfallInterval, start: str) -> types.EventData:
    return types.FootfallCounted(
        line=it.line, entrance=it.entrance or it.line, interval_start=start, interval_s=it.interval_s,
        in_=it.in_count, out=it.out_count, quality=_quality(it.quality), revision=it.supersedes,
    )  # fmt: skip


def _zone(it: ZoneInterval, start: str) -> types.EventData:
    dwell = None
    if it.dwell.n and it.dwell.p50_s is not None and it.dwell.p90_s is not None and it.dwell.mean_s is not None:
        dwell = types.Dwell(p50=it.dwell.p50_s, p90=it.dwell.p90_s, mean=it.dwell.mean_s, n=it.dwell.n)
    return types.ZoneOccupied(
        zone=it.zone, interval_start=start, interval_s=it.interval_s, mean=round(it.mean_persons, 3),
        peak=it.peak_persons, visitors=it.visitors, dwell_s=dwell, quality=_quality(it.quality),
    )  # fmt: skip


def _queue(it: QueueInterval, start: str) -> types.EventData:
    return types.QueueMeasured(
        zone=it.zone, interval_start=start, interval_s=it.interval_s, length_mean=round(it.mean_persons, 3),
        length_peak=it.peak_persons, wait_s_p50=it.wait_p50_s, wait_s_p90=it.wait_p90_s, quality=_quality(it.quality),
    )  # fmt: skip


def _heat(it: HeatMapInterval, start: str) -> types.EventData:
    return types.HeatmapSampled(
        camera=it.camera, interval_start=start, interval_s=it.interval_s, rows=it.rows, cols=it.columns,
        person_seconds=tuple(round(value, 2) for value in it.person_s),
    )  # fmt: skip


_EVENTS: dict[type, Callable[..., types.EventData]] = {
    FootfallInterval: _footfall,
    ZoneInterval: _zone,
    QueueInterval: _queue,
    HeatMapInterval: _heat,
}


def _quality(it: Quality) -> types.CountQuality:
    return types.CountQuality(
        frames=it.frames, fps=round(it.fps, 2), coverage=round(it.coverage, 4), detector=it.detector
    )
