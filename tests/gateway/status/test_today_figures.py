"""Today's figures say what they know, and why they do not know the rest."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.projections.baseline import WEEKS_LEAST, Forecast, Usual
from gateway.projections.footfall import FootfallHour, FootfallLine
from gateway.projections.kpi_view import Outlook
from gateway.projections.sales import SalesHour
from gateway.status.today import DayFacts, today

NOW_MS = 1_795_312_800_000
HOUR_MS = 3_600_000


def line(people_in: int = 40, *, hours: float = 4.0, covered: float = 1.0, **more: Any) -> FootfallLine:
    span_s = hours * 3600
    return FootfallLine(
        line="door", entrance="front", people_in=people_in, people_out=3, interval_s=span_s, covered_s=span_s * covered,
        first_ms=NOW_MS - int(span_s * 1000), last_ms=NOW_MS, **more,
    )  # fmt: skip


def hour(sales: int = 10, net: str = "250.00", currency: str = "CNY", **more: Any) -> SalesHour:
    values = {"returns": 0, "voids": 0, "items": Decimal(sales * 2), "last_ms": NOW_MS, "hour_ms": NOW_MS, **more}
    return SalesHour(currency=currency, sales=sales, net=Decimal(net), sold=Decimal(net), **values)


def day(**facts: Any) -> DayFacts:
    return DayFacts(**{"day": "2026-11-22", "now_ms": NOW_MS, "currency": "CNY", "tills": 1, "tills_live": 1, **facts})


def test_conversion_and_basket_come_from_people_and_sales() -> None:
    told = today(day(lines=(line(40),), sales_hours=(hour(),)))
    assert (told.people_in.value, told.sales.value, told.net.value) == (40, 10, Decimal(250))
    assert (told.conversion.value, told.basket.value, told.items.value) == (Decimal("0.25"), 25, 2)


@pytest.mark.parametrize(("set_up", "reason"), [(False, "not_set_up"), (True, "silent_today")])
def test_people_that_nobody_counted_are_not_zero(set_up: bool, reason: str) -> None:
    told = today(day(counter_set_up=set_up, sales_hours=(hour(),)))
    assert (told.people_in.value, told.people_in.reason) == (None, reason)
    assert (told.conversion.value, told.conversion.reason) == (None, reason)


def test_a_counter_that_was_dark_gives_a_lower_bound_and_no_conversion() -> None:
    told = today(day(lines=(line(40, covered=0.5),), sales_hours=(hour(),)))
    assert told.people_in.value == 40 and told.people_in.at_least
    assert told.people_in.dark_s == pytest.approx(7200 - 180)
    assert (told.conversion.value, told.conversion.reason) == (None, "counter_dark")


def test_the_newest_minutes_are_late_and_not_dark() -> None:
    told = today(day(lines=(line(40, hours=0.1, covered=0.6),)))
    assert not told.people_in.at_least


def test_a_counter_without_intervals_is_taken_at_its_word() -> None:
    lines = (FootfallLine(
        line="d", entrance="e", people_in=4, people_out=0, interval_s=0, covered_s=0, first_ms=NOW_MS - 9 * HOUR_MS,
        last_ms=NOW_MS,
    ),)  # fmt: skip
    assert not today(day(lines=lines)).people_in.at_least


@pytest.mark.parametrize(
    ("facts", "value", "reason"),
    [
        ({"tills": 0, "tills_live": 0}, None, "not_set_up"),
        ({"tills_live": 0}, None, "till_dark"),
        ({}, Decimal(0), ""),
        ({"tills_live": 0, "sales_hours": (hour(),)}, Decimal(10), "till_dark"),
    ],
)
def test_no_sales_is_zero_only_where_a_till_would_have_told(
    facts: dict[str, Any], value: Decimal | None, reason: str
) -> None:
    told = today(day(**facts))
    assert (told.sales.value, told.sales.reason) == (value, reason)


def test_an_average_over_nothing_is_not_zero() -> None:
    told = today(day(lines=(line(0),)))
    assert (told.basket.value, told.basket.reason) == (None, "no_sales")
    assert (told.conversion.value, told.conversion.reason) == (None, "no_people")


def test_another_currency_is_never_added_to_the_shops() -> None:
    told = today(day(sales_hours=(hour(), hour(1, "99", "EUR"))))
    assert told.net.value == Decimal(250) and told.other_currencies == {"EUR": Decimal(99)}
    assert told.sales.value == 11 and told.basket.value == 25


def test_an_hour_without_a_count_is_unknown_in_the_chart() -> None:
    told = today(
        day(
            lines=(line(),), people_hours=(FootfallHour(NOW_MS - HOUR_MS, 5, 1),),
            sales_hours=(hour(hour_ms=NOW_MS),),
        )
    )  # fmt: skip
    assert [(it.people_in, it.sales) for it in told.hours] == [(5, None), (None, 10)]


def test_people_are_compared_with_the_usual_from_the_days_first_count_on() -> None:
    """A counter that began an hour ago is not held against the whole usual morning."""
    usual = tuple(Usual(number, 60.0, WEEKS_LEAST) for number in range(24))
    outlook = Outlook(day="2026-11-22", usual=usual, forecast=Forecast(day="2026-11-22"))
    hour_now = (NOW_MS - NOW_MS % HOUR_MS, 12)
    for hours, expected in ((1.0, 60), (0.25, 15), (4.0, 240)):
        told = today(day(lines=(line(58, hours=hours),), outlook=outlook, hour_now=hour_now))
        assert told.people_in.usual == expected, hours
