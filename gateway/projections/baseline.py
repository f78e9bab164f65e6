"""What an hour usually is, and what the coming hours may bring: medians of the same weekday's hour, and a level.

The baseline of an hour is the median of that hour on the same weekday of previous weeks. The forecast is that median
times the level of the last week: how much more or less came than the medians of those days said. Holidays, weather and
promotions are not in it. Its error is measured on the days behind us, each forecast from what was known before it.
Hours of which less than nine tenths were seen teach nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from statistics import median

import msgspec

WEEKS = 8  # how far back a baseline looks
WEEKS_LEAST = 3  # same weekdays that a forecast wants
LEVEL_DAYS = 7
_LEVEL_LEAST, _LEVEL_MOST = 0.5, 2.0
BACKTEST_DAYS = 28
_FEW_PEOPLE = 10.0  # hours with fewer make no percentage

Counts = Mapping[str, Mapping[int, float]]
"""People by day (`2026-11-22`) and hour of the store's clock; hours that were not seen are absent."""


class Usual(msgspec.Struct, frozen=True):
    """The median of the same hour of the same weekday; `weeks`: of how many."""

    hour: int
    people: float
    weeks: int


class Expected(msgspec.Struct, frozen=True):
    """A forecast of one hour of the store's clock."""

    hour: int
    people: float


class ForecastError(msgspec.Struct, frozen=True, kw_only=True):
    """How wrong forecasts of a day ahead were: `mae` in people an hour, `mape` of hours with ten people and more.

    `usual_mae`: the error of the plain median; `hours` were compared. `mape` is None where no hour had enough people.
    """

    mae: float
    mape: float | None
    usual_mae: float
    hours: int
    days: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A day's forecast. Without hours it says how many weeks there are of the `WEEKS_LEAST` that it wants."""

    day: str
    hours: tuple[Expected, ...] = ()
    level: float | None = None
    weeks: int = 0
    error: ForecastError | None = None

    @property
    def enough(self) -> bool:
        """Whether there is enough history."""
        return bool(self.hours)


def usual(counts: Counts, day: str, weeks: int = WEEKS) -> tuple[Usual, ...]:
    """The baseline of a day's hours from the days before it; () without any."""
    past = [counts[one] for one in _same_weekdays(day, weeks) if one in counts]
    hours = sorted({hour for it in past for hour in it})
    found = []
    for hour in hours:
        values = [it[hour] for it in past if hour in it]
        found.append(Usual(hour, median(values), len(values)))
    return tuple(found)


def forecast(counts: Counts, day: str, backtest_days: int = BACKTEST_DAYS) -> Forecast:
    """The forecast of a day from the days before it, with its error on the `backtest_days` before that day."""
    hours, level, weeks = _expected(counts, day)
    error = error_of(counts, _days_before(day, backtest_days)) if hours and backtest_days else None
    return Forecast(day=day, hours=hours, level=level, weeks=weeks, error=error)


def error_of(counts: Counts, days: Iterable[str]) -> ForecastError | None:
    """How wrong a day-ahead forecast of each of these days would have been; None when none could be made."""
    misses: list[float] = []
    plain: list[float] = []
    shares: list[float] = []
    compared = 0
    for day in days:
        if day not in counts:
            continue
        hours, _, _ = _expected(counts, day)
        medians = {it.hour: it.people for it in usual(counts, day)}
        told = [(it, counts[day][it.hour]) for it in hours if it.hour in counts[day]]
        compared += bool(told)
        for it, people in told:
            misses.append(abs(it.people - people))
            plain.append(abs(medians[it.hour] - people))
            if people >= _FEW_PEOPLE:
                shares.append(abs(it.people - people) / people)
    if not misses:
        return None
    return ForecastError(
        mae=sum(misses) / len(misses), mape=sum(shares) / len(shares) if shares else None,
        usual_mae=sum(plain) / len(plain), hours=len(misses), days=compared,
    )  # fmt: skip


def _expected(counts: Counts, day: str) -> tuple[tuple[Expected, ...], float | None, int]:
    base = usual(counts, day)
    weeks = max((it.weeks for it in base), default=0)
    if weeks < WEEKS_LEAST:
        return (), None, weeks
    level = _level(counts, _days_before(day, LEVEL_DAYS))
    return tuple(Expected(it.hour, it.people * level) for it in base if it.weeks >= WEEKS_LEAST), level, weeks


def _level(counts: Counts, days: Sequence[str]) -> float:
    """How much more or less came on those days than their medians said; 1 where that cannot be said."""
    came = said = 0.0
    for day in days:
        if day not in counts:
            continue
        medians = {it.hour: it.people for it in usual(counts, day) if it.weeks >= WEEKS_LEAST - 1}
        both = medians.keys() & counts[day].keys()
        came += sum(counts[day][hour] for hour in both)
        said += sum(medians[hour] for hour in both)
    return min(max(came / said, _LEVEL_LEAST), _LEVEL_MOST) if said > 0 else 1.0


def _same_weekdays(day: str, weeks: int) -> list[str]:
    at = date.fromisoformat(day)
    return [(at - timedelta(weeks=back)).isoformat() for back in range(1, weeks + 1) if at.toordinal() > 7 * back]


def _days_before(day: str, days: int) -> list[str]:
    at = date.fromisoformat(day)
    return [(at - timedelta(days=back)).isoformat() for back in range(days, 0, -1) if at.toordinal() > back]
