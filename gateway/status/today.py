"""Today's figures: people, sales, conversion, basket — each with what it rests on.

A figure whose source was dark is None and says why; one whose source was dark for a while says that it is a lower
bound. Pure; knows no table and no language.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec

from gateway.projections.baseline import WEEKS_LEAST
from gateway.projections.coupons import CouponDay
from gateway.projections.feedback import FeedbackDay
from gateway.projections.footfall import FootfallHour, FootfallLine
from gateway.projections.kpi import Name
from gateway.projections.kpi_view import DayView, Outlook
from gateway.projections.sales import SalesHour

Reason = Literal[
    "",
    "not_set_up",
    "silent_today",
    "counter_dark",
    "till_dark",
    "no_people",
    "no_sales",
    "no_answers",
    "no_coupons",
    "counter_partial",
]
Verdict = Literal["", "far_above", "above", "usual", "below", "far_below"]

_LATENESS_S = 180.0  # an interval is told after it has ended, so the newest minutes are not dark
_DARK_SHARE = 0.05  # of the time since the first count
_NEAR, _FAR = Decimal("0.15"), Decimal("0.5")  # of the usual: what people call more, and much more
_HOUR_MS = 3_600_000
_HOURS_MOST = 25  # the longest day
_FEW = 5  # so few more or less than usual are chance


class Queue(msgspec.Struct, frozen=True, kw_only=True):
    """The newest look at a queue; `wait_s`: nine of ten waited less, null where nobody has waited."""

    zone: str
    length: int
    wait_s: float | None = None


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
    view: DayView | None = None  # the same day in depth, seconds old
    view_balance: int = 0  # in minus out of `lines` when it was made
    outlook: Outlook | None = None
    hour_now: tuple[int, int] | None = None  # when the present hour began, and its number on the store's clock
    counter_set_up: bool = False  # something counts people here, or did
    tills: int = 0
    tills_live: int = 0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number; null with a reason when it is not known. `at_least`: its source was dark for `dark_s` of the day.

    `usual`: what to compare it with, null without that day: of people, the median of at least three same weekdays up
    to now (`weeks`), else the same weekday a week ago up to the last full hour, as `by_then` is (`weeks` 1). `trend`:
    by hour, null where dark.
    """

    value: Decimal | None
    reason: Reason = ""
    at_least: bool = False
    dark_s: float | None = None
    usual: Decimal | None = None
    by_then: Decimal | None = None
    weeks: int = 0
    trend: tuple[float | None, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """How it is beside the usual; "" where that cannot be said."""
        value = self.value if self.by_then is None else self.by_then
        if self.value is None or value is None or self.usual is None or self.usual <= 0 or self.at_least:
            return ""
        gap = value - self.usual
        if abs(gap) <= _NEAR * self.usual or (self.usual >= 1 and abs(gap) < _FEW and value == int(value)):
            return "usual"
        far = abs(gap) > _FAR * self.usual
        return ("far_above" if far else "above") if gap > 0 else ("far_below" if far else "below")


class Hour(msgspec.Struct, frozen=True):
    """One hour of the day, by the instant it begins; null where nobody counted.

    `usual`: people in the same hour of the same weekday; `expected`: what is forecast for an hour that is not over.
    """

    hour_ms: int
    people_in: int | None
    sales: int | None
    usual: float | None = None
    expected: float | None = None


class Today(msgspec.Struct, frozen=True, kw_only=True):
    """The store's day so far. Money is in the store's currency; sales in others are listed apart."""

    day: str
    currency: str
    people_in: Figure
    people_out: Figure
    people_now: Figure
    sales: Figure
    returns: int
    net: Figure
    conversion: Figure  # sales ÷ people in, 0–1
    basket: Figure  # money of a sale
    items: Figure  # pieces of a sale
    queue: Figure  # people who wait now
    longest_queue: Queue | None
    redeemed: Figure
    refused: int
    nps: Figure  # -100 to 100
    smiles: Figure  # share of the two best of four
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
    trends = _trends(facts)
    turnover = msgspec.structs.replace(sales, value=None if sales.value is None else net)
    conversion, basket = _conversion(people_in, sales), _each(sales, sold, own_count, 2)
    queue, longest = _queue(facts)
    return Today(
        day=facts.day,
        currency=facts.currency,
        people_in=_people_beside(facts, people_in, trends["people"]),
        people_out=people_out,
        people_now=_people_now(facts, people_in, people_out, trends["inside"]),
        sales=_beside(facts, sales, "transactions", trends["sales"]),
        returns=sum(hour.returns for hour in facts.sales_hours),
        net=_beside(facts, turnover, "net_sales", trends["net"]),
        conversion=_beside(facts, conversion, "conversion", trends["conversion"]),
        basket=_beside(facts, basket, "basket_value", trends["basket"]),
        items=_each(sales, pieces, count, 1),
        queue=queue,
        longest_queue=longest,
        redeemed=_redeemed(facts.coupons),
        refused=0 if facts.coupons is None else facts.coupons.refused,
        nps=_asked(facts, "nps"),
        smiles=_asked(facts, "smile_share"),
        feedback=facts.feedback,
        other_currencies=others,
        hours=_hours(facts),
    )


def _beside(facts: DayFacts, figure: Figure, name: Name, trend: tuple[float | None, ...]) -> Figure:
    """With the same weekday a week ago, both up to the last full hour."""
    view = facts.view
    if view is None or figure.value is None:
        return msgspec.structs.replace(figure, trend=trend)
    now, then = view.so_far[name], view.compared[name]
    known = now.value is not None and then.value is not None and not now.at_least and not then.at_least
    return msgspec.structs.replace(
        figure, trend=trend, usual=then.value if known else None, by_then=now.value if known else None, weeks=int(known)
    )


def _people_beside(facts: DayFacts, figure: Figure, trend: tuple[float | None, ...]) -> Figure:
    """With the usual same weekday up to now where enough weeks are known, else with a week ago.

    From the day's first count on: what came before a counter was there is not in the figure either.
    """
    outlook = facts.outlook
    weeks = min((it.weeks for it in outlook.usual), default=0) if outlook is not None else 0
    if outlook is None or weeks < WEEKS_LEAST or figure.value is None:
        return _beside(facts, figure, "footfall", trend)
    hours = _by_hour(facts, {it.hour: it.people for it in outlook.usual})
    since_ms = min((line.first_ms for line in facts.lines), default=0)
    usual = sum(
        people * max(0, min(facts.now_ms, at + _HOUR_MS) - max(since_ms, at)) / _HOUR_MS for at, people in hours.items()
    )
    return msgspec.structs.replace(figure, trend=trend, usual=Decimal(round(usual)), weeks=weeks)


def _by_hour(facts: DayFacts, people: Mapping[int, float]) -> dict[int, float]:
    """Hours of the store's clock as instants of this day."""
    if facts.hour_now is None:
        return {}
    begun_ms, hour = facts.hour_now
    return {begun_ms + (it - hour) * _HOUR_MS: value for it, value in people.items()}


def _people_now(
    facts: DayFacts, people_in: Figure, people_out: Figure, trend: tuple[float | None, ...]
) -> Figure:  # fmt: skip
    """In minus out since opening, never below nobody. A counter that was dark leaves it unknown."""
    if people_in.value is None or people_out.value is None:
        return Figure(value=None, reason=people_in.reason)
    if people_in.at_least:
        return Figure(value=None, reason="counter_dark", dark_s=people_in.dark_s)
    if facts.view is not None and facts.view.inside is None:
        return Figure(value=None, reason="counter_partial")
    balance = people_in.value - people_out.value
    if facts.view is not None and facts.view.inside is not None:  # who came and went since it was made
        balance += facts.view.inside.people - facts.view_balance
    return Figure(value=max(Decimal(0), balance), trend=trend)


def _queue(facts: DayFacts) -> tuple[Figure, Queue | None]:
    view = facts.view
    if view is None or not (view.queues_now or view.kpis.queues):
        return Figure(value=None, reason="not_set_up"), None
    if not view.queues_now:
        return Figure(value=None, reason="counter_dark"), None
    longest = max(view.queues_now, key=lambda it: it.length_mean)
    queue = Queue(zone=longest.zone, length=round(longest.length_mean), wait_s=longest.wait_p90_s)
    return Figure(value=Decimal(queue.length)), queue


def _redeemed(coupons: CouponDay | None) -> Figure:
    if coupons is None:
        return Figure(value=None, reason="no_coupons")
    return Figure(value=Decimal(coupons.redeemed))


def _asked(facts: DayFacts, name: Literal["nps", "smile_share"]) -> Figure:
    known = None if facts.view is None else facts.view.kpis[name].value
    return Figure(value=known, reason="" if known is not None else "no_answers")


def _trends(facts: DayFacts) -> dict[str, tuple[float | None, ...]]:
    """Every figure by hour, from the day's first known hour to this one; null where nobody counted."""
    people = {hour.hour_ms: hour for hour in facts.people_hours}
    sold: dict[int, list[SalesHour]] = {}
    for hour in facts.sales_hours:
        sold.setdefault(hour.hour_ms, []).append(hour)
    known = [*people, *sold]
    if not known:
        return dict.fromkeys(("people", "inside", "sales", "net", "conversion", "basket"), ())
    rows: dict[str, list[float | None]] = {}
    inside = 0
    for at in range(min(known), max(*known, facts.now_ms - _HOUR_MS) + 1, _HOUR_MS)[-_HOURS_MOST:]:
        passed, tills = people.get(at), sold.get(at, [])
        inside = max(0, inside + (passed.people_in - passed.people_out if passed else 0))
        count = sum(it.sales for it in tills)
        own = [it for it in tills if it.currency in (facts.currency, "")]
        values: dict[str, float | None] = {
            "people": None if passed is None else passed.people_in,
            "inside": None if passed is None else inside,
            "sales": count if tills or facts.tills_live else None,
            "net": float(sum(it.net for it in own)) if tills or facts.tills_live else None,
            "conversion": count / passed.people_in if passed is not None and passed.people_in else None,
            "basket": float(sum(it.sold for it in own) / count) if count else None,
        }
        for name, value in values.items():
            rows.setdefault(name, []).append(value)
    return {name: tuple(values) for name, values in rows.items()}


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


def _hours(facts: DayFacts) -> tuple[Hour, ...]:
    entered = {hour.hour_ms: hour.people_in for hour in facts.people_hours}
    sold: dict[int, int] = {}
    for hour in facts.sales_hours:
        sold[hour.hour_ms] = sold.get(hour.hour_ms, 0) + hour.sales
    usual: dict[int, float] = {}
    expected: dict[int, float] = {}
    if facts.outlook is not None:
        enough = {it.hour: it.people for it in facts.outlook.usual if it.weeks >= WEEKS_LEAST}
        usual = _by_hour(facts, enough)
        expected = _by_hour(facts, {it.hour: it.people for it in facts.outlook.forecast.hours})
    known = entered.keys() | sold.keys() | usual.keys() | expected.keys()
    return tuple(Hour(at, entered.get(at), sold.get(at), usual.get(at), expected.get(at)) for at in sorted(known))
