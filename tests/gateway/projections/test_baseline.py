"""A forecast is the weekday's median times last week's level, says how wrong it was, and refuses without history."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from gateway.projections.baseline import WEEKS_LEAST, error_of, forecast, usual

TODAY = date(2026, 11, 20)


def history(weeks: int, factor: float = 1.0, last_week: float = 1.0) -> dict[str, dict[int, float]]:
    """Every day ten people at ten o'clock times the weekday's number; the last week another level."""
    counts = {}
    for back in range(1, 7 * weeks + 1):
        day = TODAY - timedelta(days=back)
        level = factor * (last_week if back <= 7 else 1.0)
        counts[day.isoformat()] = {10: 10.0 * (day.weekday() + 1) * level, 11: 20.0 * level}
    return counts


def test_the_usual_is_the_median_of_the_same_weekday() -> None:
    counts = history(5)
    counts[(TODAY - timedelta(days=7)).isoformat()] = {10: 9999.0}
    at_ten, at_eleven = usual(counts, TODAY.isoformat())
    assert (at_ten.people, at_ten.weeks) == (50.0, 5)
    assert (at_eleven.people, at_eleven.weeks) == (20.0, 4)


def test_the_forecast_follows_the_level_of_the_last_week() -> None:
    told = forecast(history(8, last_week=1.5), TODAY.isoformat())
    assert told.enough and told.level == pytest.approx(1.5)
    assert [round(hour.people) for hour in told.hours] == [75, 30]


def test_below_three_weeks_there_is_none_and_it_says_how_many_there_are() -> None:
    told = forecast(history(WEEKS_LEAST - 1), TODAY.isoformat())
    assert not told.enough and told.hours == () and told.weeks == WEEKS_LEAST - 1 and told.error is None
    assert forecast({}, TODAY.isoformat()).weeks == 0


def test_its_error_is_that_of_days_that_were_forecast_from_what_came_before_them() -> None:
    counts = history(12)
    yesterday = (TODAY - timedelta(days=1)).isoformat()
    assert error_of(counts, [yesterday]).mae == 0  # type: ignore[union-attr]
    counts[yesterday] = {10: 50.0, 11: 5.0}
    found = error_of(counts, [yesterday])
    assert found is not None and found.hours == 2 and found.days == 1
    assert found.mae == pytest.approx((10 + 15) / 2)
    assert found.mape == pytest.approx(10 / 50)  # five people make no percentage
    assert error_of(counts, ["2020-01-01"]) is None


def test_one_wild_week_cannot_more_than_double_or_halve_the_forecast() -> None:
    levels = [forecast(history(8, last_week=level), TODAY.isoformat()).level for level in (50.0, 0.01)]
    assert levels == [2.0, 0.5]
