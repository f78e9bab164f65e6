"""How large a person is at each height of the picture: calibrated with two clicks, or learned from what moves.

A person's height in pixels grows about linearly with the height of the feet in an oblique view and is constant from
straight above; two numbers hold both. Must not know pixels, tracks or lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

FEWEST_SAMPLES = 25


class PersonSize(msgspec.Struct, frozen=True):
    """Height = `base_px` + `slope` · y of the box's lower edge; width = `aspect` · height; `fill` = mask share of the box.

    `learned` is false for the first guess made from the frame's size.
    """

    base_px: float
    slope: float = 0.0
    aspect: float = 0.45
    fill: float = 0.6
    learned: bool = True

    def height_px(self, foot_y_px: float) -> float:
        return max(6.0, self.base_px + self.slope * foot_y_px)

    def width_px(self, foot_y_px: float) -> float:
        return self.aspect * self.height_px(foot_y_px)

    def area_px(self, foot_y_px: float) -> float:
        """Mask pixels of one person."""
        height = self.height_px(foot_y_px)
        return self.fill * self.aspect * height * height


def guessed(width_px: int, height_px: int) -> PersonSize:
    """Before anything is known: a fifth of the picture high."""
    return PersonSize(0.22 * height_px, 0.0, 0.6, 0.6, learned=False)


def calibrated(first: tuple[float, float], second: tuple[float, float], aspect: float = 0.45) -> PersonSize:
    """From two clicked persons, each (y of the feet, height), px."""
    (y1, h1), (y2, h2) = first, second
    slope = (h2 - h1) / (y2 - y1) if abs(y2 - y1) >= 1 else 0.0
    return PersonSize(h1 - slope * y1 if slope else (h1 + h2) / 2, slope, aspect)


def learned(samples: Sequence[tuple[float, float, float, float]], height_px: int) -> PersonSize | None:
    """From blobs of moving things, each (foot y, width, height, mask area) px; None where too few agree.

    Fragments are small and groups are wide, so the fit weighs a blob by its area and drops, in a few rounds, what is
    far from the line found so far.
    """
    if len(samples) < FEWEST_SAMPLES:
        return None
    data: NDArray[np.float64] = np.array(samples, dtype=np.float64)
    foot, height, weight = data[:, 0], data[:, 2], data[:, 3].copy()
    keep = np.ones(len(data), dtype=bool)
    base, slope = _weighted_quantile(height, weight, 0.45), 0.0
    for _ in range(4):
        expected = np.maximum(6.0, base + slope * foot)
        keep = (height > 0.6 * expected) & (height < 1.45 * expected)
        if keep.sum() < FEWEST_SAMPLES // 2:
            return None
        spread = np.percentile(foot[keep], 90) - np.percentile(foot[keep], 10)
        if spread > 0.15 * height_px and keep.sum() >= 2 * FEWEST_SAMPLES:
            slope, base = _line(foot[keep], height[keep])
            slope = float(np.clip(slope, 0.0, 1.2))
            base = float(np.median(height[keep] - slope * foot[keep]))
        else:
            base, slope = float(np.median(height[keep])), 0.0
    expected = np.maximum(6.0, base + slope * foot)
    aspect = float(np.clip(np.percentile(data[keep, 1] / expected[keep], 40), 0.25, 1.6))
    single = keep & (data[:, 1] < 1.4 * aspect * expected) & (data[:, 1] > 0.6 * aspect * expected)
    if not single.any():
        return None
    fill = float(np.clip(np.median(data[single, 3] / (aspect * expected[single] ** 2)), 0.3, 0.9))
    return PersonSize(base, slope, aspect, fill)


def _weighted_quantile(values: NDArray[np.float64], weights: NDArray[np.float64], share: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][min(len(values) - 1, int(np.searchsorted(total, share * total[-1])))])


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Least squares with the middle of three equal parts of x weighing as much as the ends."""
    order = np.argsort(x)
    parts = np.array_split(order, 3)
    points = [(np.median(x[part]), np.median(y[part])) for part in parts if len(part)]
    xs, ys = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    if np.ptp(xs) < 1:
        return 0.0, float(np.median(y))
    slope, base = np.polyfit(xs, ys, 1)
    return float(slope), float(base)
