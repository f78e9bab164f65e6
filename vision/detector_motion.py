"""Finding persons by what differs from the empty scene: cheap, and right for cameras that look straight down.

Frames come shrunk to `working_width_px`. The first `warm_up_s` seconds of a stream teach the background and the size
of a person; both go on adapting. Must not know tracks beyond the hint where persons are expected, nor lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vision.background import Background, BackgroundOptions
from vision.blobs import persons_in
from vision.components import components, majority
from vision.frame import Frame, Image
from vision.model import Box, Detection
from vision.person_size import Calibration, PersonSize, guessed
from vision.size_learning import BlobSample, learned, shaped

WORKING_WIDTH_PX = 384
WARM_UP_S = 30.0
RELEARN_S = 60.0
MOST_SAMPLES = 600
MOVING_SHARE = 0.12
"""Of a blob's pixels must change between two frames for its size to be learned from."""


class MotionDetector:
    """Background subtraction, shadow removal, and splitting of groups by expected size."""

    name = "motion"

    def __init__(
        self,
        size: PersonSize | Calibration | None = None,
        background: BackgroundOptions | None = None,
        working_width_px: int = WORKING_WIDTH_PX,
        warm_up_s: float = WARM_UP_S,
    ) -> None:
        """`size`: of the working picture, as known from before, or two clicks; None = learned."""
        self.working_width_px: int | None = working_width_px
        self.warm_up_s = warm_up_s
        self._options = background
        self._calibrated = size
        self.reset()

    def reset(self) -> None:
        """Forget the scene; the next frame is its first."""
        self._background = Background(self._options)
        self.size: PersonSize | None = self._calibrated if isinstance(self._calibrated, PersonSize) else None
        self._samples: list[BlobSample] = []
        self._learn_at_s = 0.0
        self._relearn_at_s = self.warm_up_s + RELEARN_S
        self._previous: Image | None = None
        self.mask: Image | None = None

    @property
    def empty_scene(self) -> Image | None:
        """The learned background, (H, W, 3) uint8 BGR, with nobody in it; None before the first frame."""
        return self._background.picture if self._background.ready else None

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Learn background and person size from the first frames, which need not be empty."""
        if not frames:
            return
        images = [_smoothed(frame.image) for frame in frames]
        self._place(images[0].shape[0])
        self._background.learn(images)
        # Once through for whoever stood there so long that the median holds them, then once more for sizes.
        for index in range(0, len(images), max(1, len(images) // 120)):
            self._background.foreground(images[index], frames[index].time_s, None, settling=True)
        if isinstance(self._calibrated, PersonSize):
            return
        step = max(1, len(images) // 150)
        for index in range(step, len(images), step):
            mask = self._background.foreground(images[index], frames[index].time_s, None, settling=True)
            self._sample(_cleaned(mask), _changed(images[index], images[index - min(step, 3)]))
        self._learn(images[0].shape[0])

    def detect(self, frame: Frame, expected: Sequence[Box]) -> list[Detection]:
        """Persons in `frame.image`, (H, W, 3) uint8 BGR of the working width."""
        image = _smoothed(frame.image)
        height, width = image.shape[:2]
        self._place(height)
        persons: Image | None = None
        if expected:
            persons = np.zeros((height, width), dtype=np.uint8)
            for box in expected:
                left, top = max(0, int(box.left_px)), max(0, int(box.top_px))
                persons[top : int(box.top_px + box.height_px) + 1, left : int(box.left_px + box.width_px) + 1] = 255
        mask = _cleaned(self._background.foreground(image, frame.time_s, persons))
        self.mask = mask
        if self.size is not None:
            self._background.person_height_px = self.size.height_px(height)
        if not isinstance(self._calibrated, PersonSize) and frame.time_s >= self._learn_at_s:
            self._learn_at_s = frame.time_s + (0.2 if self.size is None else 1.0)
            relearn = self.size is None or frame.time_s >= self._relearn_at_s
            if self._previous is not None and self._previous.shape == image.shape:
                self._sample(mask, _changed(image, self._previous))
            if relearn:
                self._relearn_at_s = frame.time_s + RELEARN_S
                self._learn(height)
        self._previous = image
        return persons_in(mask, self.size or guessed(width, height), expected)

    def _place(self, height_px: int) -> None:
        """Two clicks become a size once the picture's height is known."""
        if self.size is None and isinstance(self._calibrated, Calibration):
            self.size = self._calibrated.size(height_px)

    def _learn(self, height_px: int) -> None:
        if isinstance(self._calibrated, Calibration):
            self.size = shaped(self._samples, self._calibrated.size(height_px))
        else:
            self.size = learned(self._samples, height_px) or self.size

    def _sample(self, mask: Image, changed: Image) -> None:
        """Keep the sizes of blobs that could be one person: moving, not tiny, not half the picture."""
        height, width = mask.shape[:2]
        reach = max(3, round(0.012 * width)) | 1
        whole = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((reach, reach), np.uint8))
        for part in components(np.asarray(whole, dtype=np.uint8)):
            w, h, area = part.right - part.left, part.bottom - part.top, part.area
            if not 0.0008 * mask.size < area < 0.5 * mask.size or area < 0.3 * w * h:
                continue
            moving = cv2.countNonZero(
                cv2.bitwise_and(changed[part.top : part.bottom, part.left : part.right], part.filled())
            )
            if moving < MOVING_SHARE * area:
                continue
            cut = part.left <= 1 or part.top <= 1 or part.right >= width - 1 or part.bottom >= height - 1
            self._samples.append(BlobSample(part.bottom, w, h, area, cut))
        if len(self._samples) > MOST_SAMPLES:
            del self._samples[: len(self._samples) - MOST_SAMPLES]


def _changed(image: Image, before: Image) -> Image:
    """Where two frames differ, (H, W) uint8."""
    apart = cv2.cvtColor(cv2.absdiff(image, before), cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.threshold(apart, 10, 255, cv2.THRESH_BINARY)[1])


def _smoothed(image: Image) -> Image:
    return np.asarray(cv2.blur(image, (3, 3)))


def _cleaned(mask: Image) -> Image:
    """Specks gone, holes closed."""
    return np.asarray(
        cv2.morphologyEx(majority(mask), cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    )
