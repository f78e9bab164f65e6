"""When a camera in real time had the processor it needs: what it counts can be held against the truth then."""

from __future__ import annotations

from collections.abc import Iterable

from vision.model import Slice

_AROUND_S = 2.5
_LEAST_FPS = 6.0  # the drawn cameras send 10 and 15


def watched(seen: Iterable[Slice], time_s: float) -> bool:
    """Whether enough frames were processed around that moment; a machine that is busy otherwise passes them over."""
    low_s, high_s = time_s - _AROUND_S, time_s + _AROUND_S
    frames = 0.0
    for part in seen:
        shared_s = min(part.end_s, high_s) - max(part.start_s, low_s)
        if shared_s > 0:
            frames += part.frames * min(1.0, shared_s / max(part.end_s - part.start_s, 1e-9))
    return frames >= _LEAST_FPS * (high_s - low_s)
