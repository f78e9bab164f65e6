"""How a shaking camera has moved since a reference picture, told by corners of the scene that agree with each other.

People cover some corners and move on their own; the motion that most corners share is the camera's. Must not know
persons, background models or time.

*Source*: Shi & Tomasi, "Good features to track", 1994; Lucas & Kanade, 1981, in pyramids (Bouguet, 2001); the consensus
is RANSAC (Fischler & Bolles, 1981). All three as implemented by OpenCV.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.frame import Image

MOST_CORNERS = 80
FEWEST_CORNERS = 10
AGREEING_SHARE = 0.5
LARGEST_SHIFT = 0.15
"""Of the picture's width; a larger motion is a camera that has been turned, not shaken."""

Matrix = NDArray[np.float64]


class Stabiliser:
    """Camera motion against one reference, (H, W) uint8 grey."""

    def __init__(self, reference: Image) -> None:
        self._reference = reference
        corners = cv2.goodFeaturesToTrack(reference, MOST_CORNERS, 0.005, max(6.0, reference.shape[1] / 20))
        self._corners = np.zeros((0, 1, 2), np.float32) if corners is None else np.asarray(corners, np.float32)

    def motion(self, grey: Image) -> Matrix | None:
        """The (2, 3) float64 matrix that moves reference points to where they are in `grey`; None where unknown."""
        if len(self._corners) < FEWEST_CORNERS:
            return None
        moved, found, _ = cv2.calcOpticalFlowPyrLK(
            self._reference, grey, self._corners, np.empty_like(self._corners), winSize=(15, 15), maxLevel=2
        )
        good = found.reshape(-1) == 1
        if good.sum() < FEWEST_CORNERS:
            return None
        matrix, inliers = cv2.estimateAffinePartial2D(
            self._corners[good], moved[good], method=cv2.RANSAC, ransacReprojThreshold=0.8, maxIters=200
        )
        if matrix is None or inliers.sum() < AGREEING_SHARE * len(self._corners):
            return None
        answer: Matrix = np.asarray(matrix, dtype=np.float64)
        height, width = grey.shape[:2]
        middle = answer @ np.array([width / 2, height / 2, 1.0]) - np.array([width / 2, height / 2])
        scale = float(np.hypot(answer[0, 0], answer[1, 0]))
        if np.abs(middle).max() > LARGEST_SHIFT * width or not 0.9 < scale < 1.1:
            return None
        return answer


def shift_px(matrix: Matrix | None, width_px: int, height_px: int) -> float:
    """How far the motion moves the corners of the picture, mean of the two diagonal ends, px; 0 of None."""
    if matrix is None:
        return 0.0
    ends = np.array([[0.1 * width_px, 0.1 * height_px, 1.0], [0.9 * width_px, 0.9 * height_px, 1.0]])
    return float(np.linalg.norm(ends @ matrix.T - ends[:, :2], axis=1).mean())


def undone(image: Image, matrix: Matrix, outside: Image) -> Image:
    """`image` as the reference camera would have seen it; `outside` shows where it saw more. Both (H, W, 3) uint8."""
    size = (image.shape[1], image.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(
        cv2.warpAffine(image, matrix, size, dst=outside.copy(), flags=flags, borderMode=cv2.BORDER_TRANSPARENT)
    )
