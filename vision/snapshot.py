"""The one picture that ever leaves a camera's process: for calibration, with nobody recognisable in it.

Where a background has been learned, the picture *is* the background, with nobody in it at all. Otherwise all of it is
softened, and every box in which anything like a person was seen is reduced to a few blocks. In memory only.
"""

from __future__ import annotations

import cv2
import numpy as np

from vision.camera_settings import Snapshot
from vision.detector_motion import MotionDetector
from vision.frame import Image
from vision.model import Box
from vision.pipeline import Pipeline

BLOCKS_ACROSS = 4
MARGIN = 0.25
QUALITY = 80


def snapshot(pipeline: Pipeline) -> Snapshot | None:
    """The present scene; None before the first frame."""
    detector = pipeline.detector
    if isinstance(detector, MotionDetector) and detector.empty_scene is not None:
        picture = detector.empty_scene
    elif pipeline.image is not None:
        picture = unrecognisable(
            pipeline.image, [d.box for d in pipeline.detections] + [t.box for t in pipeline.tracks]
        )
    else:
        return None
    encoded, jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    height, width = picture.shape[:2]
    return Snapshot(jpeg.tobytes(), width, height) if encoded else None


def unrecognisable(image: Image, boxes: list[Box]) -> Image:
    """A copy of `image` ((H, W, 3) uint8 BGR), softened, with each box and a margin round it cut to a few blocks."""
    height, width = image.shape[:2]
    soft = max(3, round(width / 160)) | 1
    picture: Image = np.asarray(cv2.blur(image, (soft, soft)), dtype=np.uint8)
    for box in boxes:
        left = max(0, int(box.left_px - MARGIN * box.width_px))
        top = max(0, int(box.top_px - MARGIN * box.height_px))
        right = min(width, int(box.left_px + (1 + MARGIN) * box.width_px) + 1)
        bottom = min(height, int(box.top_px + (1 + MARGIN) * box.height_px) + 1)
        if right - left < 2 or bottom - top < 2:
            continue
        part = picture[top:bottom, left:right]
        blocks = cv2.resize(part, (BLOCKS_ACROSS, 2 * BLOCKS_ACROSS), interpolation=cv2.INTER_AREA)
        picture[top:bottom, left:right] = cv2.resize(blocks, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return picture
