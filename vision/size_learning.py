"""Learning how large a person is from what moves in the picture, where nobody has clicked two people.

Must not know detectors, tracks or lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision.person_size import PersonSize

FEWEST_SAMPLES = 25
MOST_TALLER, MOST_CUT = 0.35, 0.3
"""Of the moving area: more of it taller than a single person, where more than this is cut by the frame's edge, says
that the "single person" was a piece of one."""
PERSPECTIVE_SHARE, PERSPECTIVE_SPREAD = 0.9, 0.25
"""Whole blobs show perspective if that much of them lies on one rising line over that share of the picture's height."""


class BlobSample(msgspec.Struct, frozen=True, gc=False):
    """A moving blob as seen once, px. `cut`: it touches the frame's edge."""

    foot_y_px: float
    width_px: float
    height_px: float
    area_px: float
    cut: bool = False


def learned(samples: Sequence[BlobSample], height_px: int) -> PersonSize | None:
    """From blobs of moving things; None where too few agree.

    Fragments are small and groups are wide, so the trend of height over the picture is fitted with each blob weighed by
    its area, and the single person is then the smallest size that is about as frequent as the commonest one. Where
    most blobs are cut by the frame's edge, people are about as large as the picture and their size is constant.
    """
    if len(samples) < FEWEST_SAMPLES:
        return None
    rows = [(s.foot_y_px, s.width_px, s.height_px, s.area_px, float(s.cut)) for s in samples]
    data: NDArray[np.float64] = np.array(rows, dtype=np.float64)
    whole = data[data[:, 4] == 0]
    if len(whole) < FEWEST_SAMPLES or whole[:, 3].sum() < 0.35 * data[:, 3].sum():
        return _rising(data, whole, height_px) or _large(data, height_px)
    if _weighted_quantile(data[:, 3], data[:, 3], 0.5) > 4 * _weighted_quantile(whole[:, 3], whole[:, 3], 0.5):
        return _rising(data, whole, height_px) or _large(data, height_px)
    foot, height, weight = whole[:, 0], whole[:, 2], whole[:, 3]
    base, slope = _weighted_quantile(height, weight, 0.45), 0.0
    for _ in range(4):
        expected = np.maximum(6.0, base + slope * foot)
        keep = (height > 0.6 * expected) & (height < 1.45 * expected)
        if keep.sum() < FEWEST_SAMPLES // 2:
            return None
        spread = np.percentile(foot[keep], 90) - np.percentile(foot[keep], 10)
        if spread > 0.15 * height_px and keep.sum() >= 2 * FEWEST_SAMPLES:
            slope = float(np.clip(_line(foot[keep], height[keep])[0], 0.0, 0.8))
            if slope * spread < 0.15 * np.median(height[keep]):
                slope = 0.0
        else:
            slope = 0.0
        base = float(np.median(height[keep] - slope * foot[keep]))
    shape = _shape(whole, np.maximum(6.0, base + slope * foot))
    if shape is None:
        return None
    factor, aspect, fill = shape
    size = PersonSize(base * factor, slope * factor, aspect, fill)
    tall = data[:, 2] > 1.45 * np.maximum(6.0, size.base_px + size.slope * data[:, 0])
    cut = data[:, 4] > 0
    total = data[:, 3].sum()
    if data[tall, 3].sum() > MOST_TALLER * total and data[cut, 3].sum() > MOST_CUT * total:
        return _large(data, height_px) or size
    return size


def _rising(data: NDArray[np.float64], whole: NDArray[np.float64], height_px: int) -> PersonSize | None:
    """From the few blobs that nothing cuts, where all of them lie on one line that rises towards the viewer."""
    if len(whole) < 2 * FEWEST_SAMPLES:
        return None
    foot, height = whole[:, 0], whole[:, 2]
    spread = np.percentile(foot, 90) - np.percentile(foot, 10)
    slope, base = _line(foot, height)
    expected = base + slope * foot
    near = (height > 0.75 * expected) & (height < 1.3 * expected)
    if spread < PERSPECTIVE_SPREAD * height_px or slope * spread < 0.3 * np.median(height):
        return None
    if whole[near, 3].sum() < PERSPECTIVE_SHARE * whole[:, 3].sum():
        return None
    # Whoever the lower edge cuts stands nearer still, and is no taller than the line says there.
    if _weighted_quantile(data[:, 2], data[:, 3], 0.9) > 1.3 * (base + slope * height_px):
        return None
    shape = _shape(whole[near], expected[near])
    if shape is None:
        return None
    factor, aspect, fill = shape
    return PersonSize(base * factor, slope * factor, aspect, fill)


def shaped(samples: Sequence[BlobSample], size: PersonSize) -> PersonSize:
    """A clicked size with the width and the filling that the scene shows; `size` itself where too few blobs agree.

    Two clicks say how high a person is; how broad depends on whether the camera looks from above or from the side.
    """
    rows = [(s.foot_y_px, s.width_px, s.height_px, s.area_px) for s in samples if not s.cut]
    if len(rows) < FEWEST_SAMPLES:
        return size
    data: NDArray[np.float64] = np.array(rows, dtype=np.float64)
    expected = np.maximum(6.0, size.base_px + size.slope * data[:, 0])
    near = (data[:, 2] > 0.7 * expected) & (data[:, 2] < 1.3 * expected)
    shape = _shape(data[near], expected[near]) if near.sum() >= FEWEST_SAMPLES // 2 else None
    return size if shape is None else msgspec.structs.replace(size, aspect=shape[1], fill=shape[2])


def _shape(blobs: NDArray[np.float64], expected: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Height ÷ expected height, aspect and fill of single persons among `blobs`; None where too few agree."""
    relative = np.log(blobs[:, 3] / expected**2)
    keep = np.abs(relative - _lowest_mode(relative)) < 0.4
    if keep.sum() < FEWEST_SAMPLES // 3:
        return None
    factor = float(np.median(blobs[keep, 2] / expected[keep]))
    tall = factor * expected[keep]
    aspect = float(np.clip(np.median(blobs[keep, 1] / tall), 0.25, 1.8))
    fill = float(np.clip(np.median(blobs[keep, 3] / (aspect * tall**2)), 0.3, 0.9))
    return factor, aspect, fill


def _large(data: NDArray[np.float64], height_px: int) -> PersonSize | None:
    """One constant size from blobs that the frame's edge cuts."""
    weight = data[:, 3] ** 2  # the least cut ones are the largest
    height = min(_weighted_quantile(data[:, 2], weight, 0.7), float(height_px))
    near = data[data[:, 2] > 0.6 * height]
    if len(near) < FEWEST_SAMPLES // 3:
        return None
    aspect = float(np.clip(np.median(near[:, 1]) / height, 0.25, 1.8))
    fill = float(np.clip(np.median(near[:, 3] / (aspect * height**2)), 0.3, 0.9))
    return PersonSize(height, 0.0, aspect, fill)


def _lowest_mode(values: NDArray[np.float64]) -> float:
    """The smallest maximum of the density that reaches half of the highest one."""
    grid = np.linspace(values.min() - 0.3, values.max() + 0.3, 80)
    density = np.exp(-(((grid[:, None] - values[None, :]) / 0.13) ** 2) / 2).sum(axis=1)
    # Blobs much smaller than the bulk of the moving area are fragments, however many they are.
    bulk = _weighted_quantile(values, np.exp(values), 0.5)
    grid, density = grid[grid > bulk - 0.9], density[grid > bulk - 0.9]
    for index in range(1, len(grid) - 1):
        if density[index - 1] <= density[index] >= density[index + 1] and density[index] >= 0.5 * density.max():
            return float(grid[index])
    return bulk


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
