"""Today's figures: people, sales, conversion, basket — each with what it rests on.

A figure whose source was dark is None and says why; one whose source was dark for a while says that it is a lower
bound. Pure; knows no table and no language.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from gateway.projections.coupons import CouponDay
from gateway.projections.feedback import FeedbackDay
from gateway.projections.footfall import FootfallHour, FootfallLine
from gateway.projections.sales import SalesHour

Reason = Literal["", "not_set_up", "silent_today", "counter_dark", "till_dark", "no_people", "no_sales"]

_LATENESS_S = 180.0  # an interval is told after it has ended, so the newest minutes are not dark
_DARK_SHARE = 0.05  # of the time since the first count


class DayFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the read models say of the store's day, and which sources there are."""

    day: str
    now_ms: int
    currency: str
    lines: tuple[FootfallLine, ...] = ()
    people_hours: tuple[FootfallHour, ...] = ()
    sales_hours: tuple[SalesHour, ...] = ()
    coupons: CouponDay | None = None
    feedback: tuple[FeedbackDay, ...] = ()
    counter_set_up: bool = False  # something counts people here, or did
    tills: int = 0
    tills_live: int = 0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number; null with a reason when it is not known. `at_least`: its source was dark for `dark_s` of the day."""

    value: Decimal | None
    reason: Reason = ""
    at_least: bool = False
    dark_s: float | None = None


class Hour(msgspec.Struct, frozen=True):
    """One hour of the day, by the instant it begins; null where nobody counted."""

    hour_ms: int
    people_in: int | None
    sales: int | None


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """The store's day so far. Money is in the store's currency; sales in others are listed apart."""

    day: str
    currency: str
    people_in: Figure
    people_out: Figure
    sales: Figure
    returns: int
    net: Figure
    conversion: Figure  # sales ÷ people in, 0–1
    basket: Figure  # money of a sale
    items: Figure  # pieces of a sale
    redeemed: int | None
    refused: int | None
    feedback: tuple[FeedbackDay, ...]
    other_currencies: dict[str, Decimal]
    hours: tuple[Hour, ...]


def today(facts: DayFacts) -> Today:
    """The figures from what the read models say."""
    people_in, people_out = _people(facts)
    own = [hour for hour in facts.sales_hours if hour.currency in (facts.currency, "")]
    count = sum(hour.sales for hour in facts.sales_hours)
    sales = _sales(facts, count)
    net = sum((hour.net for hour in own), Decimal(0))
    sold = sum((hour.sold for hour in own), Decimal(0))
    own_count = sum(hour.sales for hour in own)
    pieces = sum((hour.items for hour in facts.sales_hours), Decimal(0))
    others: dict[str, Decimal] = {}
    for hour in facts.sales_hours:
        if hour not in own:
            others[hour.currency] = others.get(hour.currency, Decimal(0)) + hour.net
    return Today(
        day=facts.day,
        currency=facts.currency,
        people_in=people_in,
        people_out=people_out,
        sales=sales,
        returns=sum(hour.returns for hour in facts.sales_hours),
        net=msgspec.structs.replace(sales, value=None if sales.value is None else net),
        conversion=_conversion(people_in, sales),
        basket=_each(sales, sold, own_count, 2),
        items=_each(sales, pieces, count, 1),
        redeemed=None if facts.coupons is None else facts.coupons.redeemed,
        refused=None if facts.coupons is None else facts.coupons.refused,
        feedback=facts.feedback,
        other_currencies=others,
        hours=_hours(facts.people_hours, facts.sales_hours),
    )


def _people(facts: DayFacts) -> tuple[Figure, Figure]:
    if not facts.lines:
        nothing = Figure(value=None, reason="silent_today" if facts.counter_set_up else "not_set_up")
        return nothing, nothing
    dark_s = max(_dark_s(line, facts.now_ms) for line in facts.lines)
    begun_ms = min(line.first_ms for line in facts.lines)
    partial = dark_s > max(_LATENESS_S, _DARK_SHARE * (facts.now_ms - begun_ms) / 1000)
    told = dark_s if partial else None
    return (
        Figure(value=Decimal(sum(it.people_in for it in facts.lines)), at_least=partial, dark_s=told),
        Figure(value=Decimal(sum(it.people_out for it in facts.lines)), at_least=partial, dark_s=told),
    )


def _dark_s(line: FootfallLine, now_ms: int) -> float:
    """How long since its first interval of today the line was not seen; 0 for a counter without intervals."""
    if line.interval_s <= 0:
        return 0.0
    return max(0.0, (now_ms - line.first_ms) / 1000 - _LATENESS_S - line.covered_s)


def _sales(facts: DayFacts, count: int) -> Figure:
    if facts.tills == 0 and not facts.sales_hours:
        return Figure(value=None, reason="not_set_up")
    if facts.tills and facts.tills_live == 0:
        if not facts.sales_hours:
            return Figure(value=None, reason="till_dark")
        return Figure(value=Decimal(count), reason="till_dark", at_least=True)
    return Figure(value=Decimal(count))


def _conversion(people: Figure, sales: Figure) -> Figure:
    if people.value is None:
        return Figure(value=None, reason=people.reason)
    if sales.value is None:
        return Figure(value=None, reason=sales.reason)
    if people.at_least:
        return Figure(value=None, reason="counter_dark", dark_s=people.dark_s)
    if people.value == 0:
        return Figure(value=None, reason="no_people")
    return Figure(value=(sales.value / people.value).quantize(Decimal("0.0001"), ROUND_HALF_EVEN))


def _each(sales: Figure, total: Decimal, count: int, places: int) -> Figure:
    if sales.value is None:
        return Figure(value=None, reason=sales.reason)
    if count == 0:
        return Figure(value=None, reason="no_sales")
    return Figure(value=(total / count).quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN))


def _hours(people: Sequence[FootfallHour], sales: Sequence[SalesHour]) -> tuple[Hour, ...]:
    entered = {hour.hour_ms: hour.people_in for hour in people}
    sold: dict[int, int] = {}
    for hour in sales:
        sold[hour.hour_ms] = sold.get(hour.hour_ms, 0) + hour.sales
    return tuple(Hour(at, entered.get(at), sold.get(at)) for at in sorted(entered.keys() | sold.keys()))
