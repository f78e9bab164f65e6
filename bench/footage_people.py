"""People put into the PETS clip: somebody who stands on a counting line, and a follower a step behind every walker.

Both are cut from the clip itself by the difference from its empty scene, inside the given boxes, and whoever is nearer
to the camera covers whoever is further away. So groups and a loiterer can be tried on real pixels with the truth known.
Knows pictures and boxes, neither lines nor counting.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.frame import Image

FOLLOWS_FRAMES = 6
BEHIND_PX = 10
"""A follower walks so many frames behind and so much further from the camera."""
DIFFERENCE = 22
"""A pixel that differs from the empty scene by more grey levels than this is a person's."""

PixelBox = tuple[float, float, float, float]
Mask = NDArray[np.bool_]


class CutOut:
    """Persons of one clip as pieces of picture. Pictures must be handed in from the first on, in order."""

    def __init__(self, video: Path, boxes: Path) -> None:
        """Read the empty scene of `video` and the MOT15 file `boxes` (frame n = frame n)."""
        self._boxes: dict[int, list[PixelBox]] = defaultdict(list)
        for text in boxes.read_text().splitlines():
            frame, _, left, top, width, height = (float(part) for part in text.split(",")[:6])
            self._boxes[int(frame)].append((left, top, width, height))
        capture = cv2.VideoCapture(str(video))
        sample: list[Image] = []
        best = 0.0
        frame = 0
        while True:
            good, image = capture.read()
            if not good:
                break
            if frame % 12 == 0:
                sample.append(np.asarray(image, dtype=np.uint8))
            frame += 1
        capture.release()
        self._empty = np.median(np.stack(sample), axis=0).astype(np.int16)
        for index, image in enumerate(sample):
            for box in self._alone(index * 12 + 1):
                rows, columns = _around(box)
                outline = self._persons(image, [box])[rows, columns]
                if outline.mean() > best:
                    best = float(outline.mean())
                    self._stander, self._outline = image[rows, columns].copy(), outline
        self._earlier: deque[Image] = deque(maxlen=FOLLOWS_FRAMES)

    def follow(self, image: Image, index: int) -> Image:
        """`image` with everybody of `FOLLOWS_FRAMES` pictures ago once more, a little further away."""
        if index == 0:
            self._earlier.clear()
        out = image
        if len(self._earlier) == FOLLOWS_FRAMES:
            past = self._earlier[0]
            put = np.zeros(image.shape[:2], dtype=bool)
            put[:-BEHIND_PX] = self._persons(past, self._boxes[index + 1 - FOLLOWS_FRAMES])[BEHIND_PX:]
            put &= ~self._persons(image, self._boxes[index + 1])
            out = np.where(put[..., None], np.roll(past, -BEHIND_PX, axis=0), image)
        self._earlier.append(image)
        return out

    def stand(self, image: Image, index: int, foot: tuple[float, float], sway_px: float) -> Image:
        """`image` with somebody who stands at `foot` from the first to the last picture and shifts from leg to leg."""
        height, width = self._outline.shape
        x = int(foot[0] + sway_px * (math.sin(index / 23) + 0.4 * math.sin(index / 7))) - width // 2
        y = int(foot[1] + 2 * math.sin(index / 31)) - height
        nearer = [box for box in self._boxes[index + 1] if box[1] + box[3] > foot[1]]
        out = image.copy()
        place = out[y : y + height, x : x + width]
        put = self._outline & ~self._persons(image, nearer)[y : y + height, x : x + width]
        place[put] = self._stander[put]
        return out

    def _persons(self, image: Image, boxes: Iterable[PixelBox]) -> Mask:
        different = (np.abs(image - self._empty).max(axis=2) > DIFFERENCE).astype(np.uint8)
        closed = cv2.morphologyEx(different, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
        inside = np.zeros(image.shape[:2], dtype=bool)
        for box in boxes:
            inside[_around(box)] = True
        return np.asarray(inside & (closed > 0))

    def _alone(self, frame: int) -> Sequence[PixelBox]:
        """Boxes of persons of middling size whom nobody is near."""
        all_ = self._boxes[frame]
        return [
            box
            for box in all_
            if 80 < box[3] < 105
            and min(box[0], box[1]) > 20
            and all(o is box or abs(o[0] - box[0]) > 60 or abs(o[1] - box[1]) > 120 for o in all_)
        ]


def _around(box: PixelBox) -> tuple[slice, slice]:
    left, top, width, height = box
    return slice(max(0, int(top - 4)), int(top + height + 5)), slice(max(0, int(left - 5)), int(left + width + 6))
