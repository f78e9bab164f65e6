"""The one interface of all person detectors, and how one is chosen by name.

Must not know tracks, lines or where frames come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from vision.frame import Frame
from vision.model import Box, Detection


class Detector(Protocol):
    """Finds persons in single frames.

    Lifecycle: built once per stream in the process that owns the frames. `warm_up` is called once, before the first
    `detect`, with the frames of the first `warm_up_s` seconds, which are detected afterwards; not at all where
    `warm_up_s` is 0. `detect` is called once per processed frame, in order of time; `reset` when the picture's size
    changes. All on one thread, never concurrently.

    Attributes:
        name: "motion" or "person"; goes into the quality of every count.
        working_width_px: frames are shrunk to this width before they get here; None = as captured.
        warm_up_s: seconds of the stream that are looked at before the first detection.
    """

    name: str
    working_width_px: int | None
    warm_up_s: float

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Learn the scene: background, noise, size of persons."""
        ...

    def detect(self, frame: Frame, expected: Sequence[Box]) -> list[Detection]:
        """Persons in `frame`, boxes in frame pixels, in no order; may be empty.

        Args:
            frame: (H, W, 3) uint8 BGR.
            expected: where known persons should be now; a hint for splitting groups, may be ignored.
        """
        ...

    def reset(self) -> None:
        """Forget everything learned about the scene."""
        ...
