"""How a duration spreads, as counts that add up: slots of a logarithmic scale, and quantiles read back from them.

A slot is 5 % wide, so a quantile is right to 2.5 %. Counts of slots add up over minutes, zones and days, which
percentiles do not. Knows no event.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

_STEP = math.log(1.05)
LONGEST_S = 86_400.0  # a longer stay is counted as this long


def slot(seconds: float) -> int:
    """The slot of a duration; shorter than a second is slot 0."""
    return 0 if seconds < 1.0 else 1 + int(math.log(min(seconds, LONGEST_S)) / _STEP)


def seconds_of(number: int) -> float:
    """The middle of a slot, in seconds."""
    return 0.5 if number <= 0 else math.exp((number - 0.5) * _STEP)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that `share` (0–1) of the counted do not exceed, nearest rank; None of no counts."""
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = max(1, math.ceil(share * total))
    passed = 0
    for number in sorted(counts):
        passed += counts[number]
        if passed >= rank:
            return seconds_of(number)
    return None


def stays(p50: float, p90: float, mean: float, count: int) -> list[tuple[float, int]]:
    """Durations that an interval's statistics stand for: exact up to three, then two values.

    Args:
        p50: median, seconds.
        p90: 90th percentile, seconds.
        mean: mean, seconds.
        count: how many stays.
    """
    if count <= 0:
        return []
    if count == 1:
        return [(p50, 1)]
    if count <= 3:
        rest = max(0.0, mean * count - p90 - (p50 if count == 3 else 0.0))
        return [(rest, 1), (p90, 1)] if count == 2 else [(rest, 1), (p50, 1), (p90, 1)]
    slow = count - round(0.9 * (count - 1))  # those at the 90th percentile and above
    return [(p50, count - slow), (p90, slow)]


def merged(spreads: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Counts of several spreads together."""
    counts: dict[int, int] = {}
    for spread in spreads:
        for number, count in spread.items():
            counts[number] = counts.get(number, 0) + count
    return counts
