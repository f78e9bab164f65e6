"""What has been told of each counting interval, so that whatever is told again of it supersedes and never doubles.

A gateway that is restarted in the middle of an interval, or whose wall clock is set back, counts two spans of time that
belong to the same interval. The second report then holds both, with a revision above the first's. Bounded; one thread.
Knows the events of the journal, no camera and no clock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from gateway.event_types import CountQuality, FootfallCounted, type_of

KEPT: Final = 512  # intervals of one camera that are remembered

_TYPE: Final = type_of(FootfallCounted).name


class _Told(msgspec.Struct):
    """One line's interval: what earlier spans counted, the present span's start, and the newest report."""

    span_s: float | None  # monotonic start of the span that is being counted; None: an earlier run's
    before: FootfallCounted | None
    newest: FootfallCounted


class _Event(msgspec.Struct):
    type: str
    source: str
    data: msgspec.Raw


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_data = msgspec.json.Decoder(FootfallCounted).decode


class IntervalBook:
    """One camera's book."""

    def __init__(self, source: str) -> None:
        """`source`: of the camera's events."""
        self._source = source
        self._told: dict[tuple[str, str], _Told] = {}

    def restore(self, events: Iterable[bytes]) -> None:
        """Take in what an earlier run told, in the order of the journal; events of others are passed over."""
        for event in events:
            if _TYPE.encode() not in event:
                continue
            try:
                head = _decode_event(event)
                counted = _decode_data(head.data) if (head.type, head.source) == (_TYPE, self._source) else None
            except msgspec.DecodeError:
                continue
            if counted is not None:
                self._keep((counted.line, counted.interval_start), _Told(None, None, counted))

    def report(self, counted: FootfallCounted, span_s: float) -> FootfallCounted:
        """The report to tell: `counted` with what earlier spans of the same interval counted, and its revision.

        Args:
            counted: one span's numbers; its `revision` counts this span's own corrections.
            span_s: when the span began, on a clock that is never set.
        """
        key = counted.line, counted.interval_start
        told = self._told.get(key)
        before = None if told is None else told.before if told.span_s == span_s else told.newest
        whole = counted if before is None else _added(before, counted)
        self._keep(key, _Told(span_s, before, whole))
        return whole

    def _keep(self, key: tuple[str, str], told: _Told) -> None:
        self._told.pop(key, None)
        self._told[key] = told
        while len(self._told) > KEPT:
            del self._told[next(iter(self._told))]


def _added(before: FootfallCounted, counted: FootfallCounted) -> FootfallCounted:
    first, second = before.quality, counted.quality
    covered_s = first.coverage * before.interval_s + second.coverage * counted.interval_s
    interval_s = max(before.interval_s, counted.interval_s)
    frames = first.frames + second.frames
    return msgspec.structs.replace(
        counted,
        interval_s=interval_s,
        in_=before.in_ + counted.in_,
        out=before.out + counted.out,
        revision=before.revision + 1 + counted.revision,
        quality=CountQuality(
            frames=frames,
            fps=round(frames / covered_s, 2) if covered_s else 0.0,
            coverage=round(min(1.0, covered_s / interval_s), 4),
            detector=second.detector,
        ),
    )
