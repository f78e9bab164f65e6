"""Learning how large a person is from what moves in the picture, where nobody has clicked two people.

Must not know detectors, tracks or lines.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from vision.person_size import PersonSize

FEWEST_SAMPLES = 25
MOST_TALLER, MOST_CUT = 0.35, 0.3
"""Of the moving area: more of it taller than a single person, where more than this is cut by the frame's upper or
lower edge, says that the "single person" was a piece of one."""
PERSPECTIVE_SHARE, PERSPECTIVE_SPREAD, MOST_RISE = 0.7, 0.25, 1.5
"""Blobs show perspective if that much of them lies on one rising line; where most are cut, over that share of the
picture's height."""

RIDGE_WIDTH, RIDGE_SHARE = 0.06, 0.6
"""How far blobs of one size lie apart (logarithm of height), and the votes a line needs beside the strongest one."""
_STEPS = (0.15, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.5, 1.8)
GROWTHS: NDArray[np.float64] = np.array([*(-step for step in reversed(_STEPS)), 0, *_STEPS, 2.2, 2.6, 3.0])
FLAT: NDArray[np.float64] = np.zeros(1)
"""Of a person over one height of the picture, relative to the size in the blobs' middle; negative where the camera
hangs upside down."""
LEAST_GROWN, FLATTER, STEEPEST = 0.25, 0.05, 0.8
"""Nobody is smaller than this beside the middle; what a unit of growth costs in votes; the steepest slope."""


class BlobSample(msgspec.Struct, frozen=True, gc=False):
    """A moving blob as seen once, px. `cut`: it touches the frame's edge."""

    foot_y_px: float
    width_px: float
    height_px: float
    area_px: float
    cut: bool = False


def learned(samples: Sequence[BlobSample], height_px: int) -> PersonSize | None:
    """From blobs of moving things; None where too few agree.

    Single persons all lie on one line of height over the picture, groups and fragments lie anywhere; the single person
    is the lowest line that about as much lies on as on any other. Where most blobs are cut by the frame's edge, people
    are about as large as the picture and their size is constant.
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
    base, slope = _ridge(whole, height_px)
    foot = whole[:, 0]
    shape = _shape(whole, np.maximum(6.0, base + slope * foot))
    if shape is None:
        return None
    factor, aspect, fill = shape
    size = PersonSize(base * factor, slope * factor, aspect, fill)
    tall = data[:, 2] > 1.45 * np.maximum(6.0, size.base_px + size.slope * data[:, 0])
    # A side of the picture cuts a person's width; only its upper and lower edge cut the height.
    cut = (data[:, 0] >= height_px - 1) | (data[:, 0] - data[:, 2] <= 1)
    total = data[:, 3].sum()
    if data[tall, 3].sum() > MOST_TALLER * total and data[cut, 3].sum() > MOST_CUT * total:
        return _large(data, height_px) or size
    return size


def _ridge(whole: NDArray[np.float64], height_px: int) -> tuple[float, float]:
    """Height of a person as (base, slope): the lowest of the lines on which blobs crowd.

    A line is told by the height in the blobs' middle and by its growth over one height of the picture. Each blob votes
    with the root of its area: a group counts for more than a fragment, but not for as many as it has members.
    """
    foot, height, weight = whole[:, 0], whole[:, 2], np.sqrt(whole[:, 3])
    spread = float(np.percentile(foot, 90) - np.percentile(foot, 10))
    if spread > 0.15 * height_px and len(whole) >= 2 * FEWEST_SAMPLES:
        base, slope = _crowded(foot, height, weight, height_px, GROWTHS)
        expected = np.maximum(6.0, base + slope * foot)
        near = (height > 0.75 * expected) & (height < 1.3 * expected)
        rise = abs(slope) * spread / float(np.median(height[near])) if near.any() else 0.0
        if 0.15 <= rise <= MOST_RISE and weight[near].sum() >= PERSPECTIVE_SHARE * weight.sum():
            return _fitted(foot, height, base, slope)
    return _fitted(foot, height, *_crowded(foot, height, weight, height_px, FLAT))


def _fitted(foot: NDArray[np.float64], height: NDArray[np.float64], base: float, slope: float) -> tuple[float, float]:
    """A line found by votes, moved to the middle of what lies near it; a flat one stays flat."""
    for _ in range(3):
        expected = np.maximum(6.0, base + slope * foot)
        near = (height > 0.6 * expected) & (height < 1.45 * expected)
        if near.sum() < FEWEST_SAMPLES // 2:
            return base, slope
        if slope:
            slope = float(np.clip(_line(foot[near], height[near]), -STEEPEST, STEEPEST))
        base = float(np.median(height[near] - slope * foot[near]))
    return base, slope


def _crowded(
    foot: NDArray[np.float64],
    height: NDArray[np.float64],
    weight: NDArray[np.float64],
    height_px: int,
    growths: NDArray[np.float64],
) -> tuple[float, float]:
    """The lowest of the strongest lines among those of `growths`."""
    pivot = float(np.average(foot, weights=weight))
    low, high = np.percentile(height, (5, 99))
    steps = np.arange(math.log(low) - 0.1, math.log(high) + 0.1, RIDGE_WIDTH / 2)
    away = (foot - pivot) / height_px
    votes = np.zeros((len(growths), len(steps)))
    for row, growth in enumerate(growths):
        grown = 1 + growth * away
        seen = grown > LEAST_GROWN
        apart = np.log(height[seen] / grown[seen])[:, None] - steps[None, :]
        votes[row] = weight[seen] @ np.exp(-((apart / RIDGE_WIDTH) ** 2) / 2)
    votes *= (1 - FLATTER * np.abs(growths))[:, None]
    around = np.pad(votes, 1, constant_values=-1.0)
    rows, columns = votes.shape
    highest = np.max([around[i : i + rows, j : j + columns] for i in range(3) for j in range(3)], axis=0)
    peaks = np.nonzero((votes >= highest) & (votes >= RIDGE_SHARE * votes.max()))
    level = np.exp(steps[peaks[1]]) * (1 + growths[peaks[0]] * float(np.median(away)))
    chosen = int(level.argmin())
    tall = math.exp(steps[peaks[1][chosen]])
    slope = min(tall * float(growths[peaks[0][chosen]]) / height_px, STEEPEST)
    return tall - slope * pivot, slope


def _rising(data: NDArray[np.float64], whole: NDArray[np.float64], height_px: int) -> PersonSize | None:
    """From the few blobs that nothing cuts, where most of them lie on one line that rises towards the viewer."""
    if len(whole) < 2 * FEWEST_SAMPLES:
        return None
    foot, height = whole[:, 0], whole[:, 2]
    spread = np.percentile(foot, 90) - np.percentile(foot, 10)
    base, slope = _ridge(whole, height_px)
    expected = np.maximum(6.0, base + slope * foot)
    near = (height > 0.75 * expected) & (height < 1.3 * expected)
    if spread < PERSPECTIVE_SPREAD * height_px or slope * spread < 0.3 * np.median(height):
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


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Slope by least squares with the middle of three equal parts of x weighing as much as the ends."""
    parts = [part for part in np.array_split(np.argsort(x), 3) if len(part)]
    middles = np.array([(np.median(x[part]), np.median(y[part])) for part in parts])
    return float(np.polyfit(middles[:, 0], middles[:, 1], 1)[0]) if np.ptp(middles[:, 0]) >= 1 else 0.0
