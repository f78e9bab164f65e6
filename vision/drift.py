"""Whether a counter that was accepted once still counts as it did then, told from its daily counts alone.

Two signs, each summed up over days so that chance does not add up and a lasting change does. The *share*: as many
people leave in a day as enter, so the share of *in* stays what it was when the counter was accepted. The *level*: a
counter that loses both directions alike is seen only beside something else: a second counter of the same shop (another
door, the tills), or, where there is none, the same hours of the same weekday in earlier weeks, which a real change of
trade moves as well. Pure. Must not know cameras, tables or alarms.

*Source*: Page, "Continuous inspection schemes", 1954, for the cumulative sum.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from vision.acceptance import AcceptanceReport

SLACK, LIMIT, CLEAR, CAP = 0.5, 5.0, 1.0, 7.0
"""In standard deviations: drift below the first is ignored, a sum above the second alarms (by chance about once in 900
days), one that has fallen below the third is well again; no sum grows beyond the last, so that it can fall."""
LEAST_PEOPLE = 20
LEAST_COVERAGE = 0.8
LEVEL_DEVIATION = 0.2
"""A day's trade beside its like, as a natural logarithm: a fifth more or less is usual."""
FEWEST_DAYS, FEWEST_WEEKS, MOST_WEEKS = 5, 3, 8

Sign = Literal["", "share", "level"]


class DayCount(msgspec.Struct, frozen=True):
    """One line's day.

    Attributes:
        day: ISO date. weekday: 0–6.
        hours: people in both directions by hour of the day (0–23), of hours that were covered.
        beside: what a second counter counted on that day; None where there is none.
    """

    day: str
    weekday: int
    in_count: int
    out_count: int
    coverage: float
    hours: Mapping[int, int] = {}
    beside: int | None = None

    @property
    def total(self) -> int:
        """People in both directions."""
        return self.in_count + self.out_count

    @property
    def says_something(self) -> bool:
        """Seen for most of the day, and not by a handful."""
        return self.coverage >= LEAST_COVERAGE and self.total >= LEAST_PEOPLE


class Drift(msgspec.Struct, frozen=True):
    """Where the watch stands; `alarm` names the sign that raised it and stays until all sums have fallen again."""

    accepted_in_share: float
    upper: float = 0.0
    lower: float = 0.0
    more: float = 0.0
    less: float = 0.0
    alarm: Sign = ""


def accepted(result: AcceptanceReport) -> Drift:
    """Start watching from an accepted test: the share of *in* that the camera itself counts, corrected by its error."""
    in_rate = (result.entering.counted + 1) / (result.entering.tapped + 1)
    out_rate = (result.leaving.counted + 1) / (result.leaving.tapped + 1)
    return Drift(in_rate / (in_rate + out_rate))


def watched(drift: Drift, today: DayCount, earlier: Sequence[DayCount] = (), overdispersion: float = 2.0) -> Drift:
    """Take in one whole day; one with less than 80 % coverage or 20 persons says nothing.

    Args:
        drift: where the watch stood.
        today: the day.
        earlier: the days before it, of any coverage; with which the level is compared.
        overdispersion: how much more than by chance alone the share varies.
    """
    if not today.says_something:
        return drift
    share = drift.accepted_in_share
    deviation = math.sqrt(overdispersion * share * (1 - share) / today.total)
    aside = (today.in_count / today.total - share) / deviation
    level = level_of(today, earlier)
    beside = 0.0 if level is None else level / LEVEL_DEVIATION
    sums = {
        "upper": _summed(drift.upper, aside), "lower": _summed(drift.lower, -aside),
        "more": _summed(drift.more, beside), "less": _summed(drift.less, -beside),
    }  # fmt: skip
    return Drift(share, alarm=_alarm(drift.alarm, sums), **sums)


def level_of(today: DayCount, earlier: Sequence[DayCount]) -> float | None:
    """Today's people ÷ what was to be expected, as a natural logarithm; None where there is too little to compare."""
    like = [day for day in earlier if day.says_something]
    if today.beside is not None and today.beside >= LEAST_PEOPLE:
        ratios = [math.log(day.total / day.beside) for day in like if day.beside and day.beside >= LEAST_PEOPLE]
        if len(ratios) >= FEWEST_DAYS:
            return math.log(today.total / today.beside) - statistics.median(ratios[-7 * MOST_WEEKS :])
    weeks = [day for day in like if day.weekday == today.weekday][-MOST_WEEKS:]
    observed = expected = 0.0
    for hour, people in today.hours.items():
        seen = [day.hours[hour] for day in weeks if hour in day.hours]
        if len(seen) >= FEWEST_WEEKS:
            observed, expected = observed + people, expected + statistics.median(seen)
    return math.log((observed + 1) / (expected + 1)) if expected >= LEAST_PEOPLE else None


def _summed(before: float, deviations: float) -> float:
    return min(CAP, max(0.0, before + deviations - SLACK))


def _alarm(before: Sign, sums: Mapping[str, float]) -> Sign:
    if max(sums["upper"], sums["lower"]) > LIMIT:
        return "share"
    if max(sums["more"], sums["less"]) > LIMIT:
        return "level"
    return before if max(sums.values()) > CLEAR else ""
