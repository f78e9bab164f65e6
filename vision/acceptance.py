"""The shop's own proof: a person at the door taps in and out, and the report says how far the camera was off.

Taps and crossings are matched in time, and the error of each direction gets a confidence interval from its
minute-by-minute differences. Pure. Must not know cameras, pages or storage; the report is a value that others keep.

*Source*: Student's interval of a mean; Wilson, 1927, for the share found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from vision.model import Crossing, Direction

MATCH_S = 4.0
LEAST_TAPS = 20
LEAST_COVERAGE = 0.95
"""A test in which the camera was dark for longer says nothing about the camera's counting."""


class Tap(msgspec.Struct, frozen=True):
    """One press of the clicker, on the camera's clock."""

    direction: Direction
    time_s: float


class DirectionReport(msgspec.Struct, frozen=True):
    """One direction: `error_share` is (counted − tapped) ÷ tapped, with its 95 % interval; None without taps."""

    tapped: int
    counted: int
    matched: int
    error_share: float | None
    error_low: float | None
    error_high: float | None
    found_low: float | None
    found_high: float | None


class AcceptanceReport(msgspec.Struct, frozen=True):
    """The result of one test. `enough` is false below 20 taps or 95 % coverage: then there is nothing to accept."""

    line: str
    start_s: float
    duration_s: float
    coverage: float
    entering: DirectionReport
    leaving: DirectionReport
    enough: bool


def report(
    line: str, taps: Sequence[Tap], crossings: Sequence[Crossing], start_s: float, duration_s: float, coverage: float
) -> AcceptanceReport:
    """Compare the taps with the crossings of `line` in [start_s, start_s + duration_s)."""
    end_s = start_s + duration_s
    inside = [c for c in crossings if c.line == line and start_s <= c.time_s < end_s]
    pressed = [tap for tap in taps if start_s <= tap.time_s < end_s]
    parts = []
    directions: tuple[Direction, Direction] = ("in", "out")
    for direction in directions:
        tapped = sorted(tap.time_s for tap in pressed if tap.direction == direction)
        counted = sorted(c.time_s for c in inside if c.direction == direction)
        parts.append(_direction(tapped, counted, start_s, duration_s))
    enough = len(pressed) >= LEAST_TAPS and coverage >= LEAST_COVERAGE
    return AcceptanceReport(line, start_s, duration_s, coverage, parts[0], parts[1], enough)


def _direction(tapped: list[float], counted: list[float], start_s: float, duration_s: float) -> DirectionReport:
    matched = _matched(tapped, counted)
    if not tapped:
        return DirectionReport(0, len(counted), 0, None, None, None, None, None)
    minutes = max(2, round(duration_s / 60))
    width_s = duration_s / minutes
    differences = [0.0] * minutes
    for times, sign in ((counted, 1.0), (tapped, -1.0)):
        for time_s in times:
            differences[min(minutes - 1, int((time_s - start_s) / width_s))] += sign
    total = len(counted) - len(tapped)
    mean = total / minutes
    variance = sum((value - mean) ** 2 for value in differences) / (minutes - 1)
    # Without any seen difference the error can still be one in as many taps ("rule of three", 3 / n at 95 %).
    half = max(student_t(minutes - 1) * math.sqrt(variance * minutes), 3.0 if variance == 0 else 0.0)
    low, high = wilson(matched, len(tapped))
    share = total / len(tapped)
    return DirectionReport(
        len(tapped), len(counted), matched, share, share - half / len(tapped), share + half / len(tapped), low, high
    )


def _matched(tapped: list[float], counted: list[float]) -> int:
    """Greatest number of pairs within `MATCH_S`: both sorted, so earliest with earliest."""
    pairs = i = j = 0
    while i < len(tapped) and j < len(counted):
        if abs(tapped[i] - counted[j]) <= MATCH_S:
            pairs, i, j = pairs + 1, i + 1, j + 1
        elif tapped[i] < counted[j]:
            i += 1
        else:
            j += 1
    return pairs


def wilson(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) of no trials."""
    if trials == 0:
        return 0.0, 1.0
    share = hits / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def student_t(freedom: int, z: float = 1.959964) -> float:
    """Two-sided 95 % quantile of Student's t, by the Cornish–Fisher series; within 1 % from 3 degrees on."""
    n = float(max(1, freedom))
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
