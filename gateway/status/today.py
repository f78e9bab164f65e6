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

Reason = Literal[
    "", "not_set_up", "silent_today", "counter_dark", "till_dark", "no_people", "no_sales", "no_answers", "no_coupons"
]
Verdict = Literal["", "far_above", "above", "usual", "below", "far_below"]

_LATENESS_S = 180.0  # an interval is told after it has ended, so the newest minutes are not dark
_DARK_SHARE = 0.05  # of the time since the first count
_NEAR, _FAR = Decimal("0.15"), Decimal("0.5")  # of the usual: what people call more, and much more
_HOUR_MS = 3_600_000
_HOURS_MOST = 25  # the longest day
_SMILEYS = 4  # a question whose best answer is four is asked with smileys
_FEW = 5  # so few more or less than usual are chance, and so few answers say nothing


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What this weekday usually had by this time of day; null where too few weeks are known.

    `people_hours` and `expected_hours`: people in by hour, of the usual day and of the forecast for this one.
    """

    people: Decimal | None = None
    sales: Decimal | None = None
    net: Decimal | None = None
    conversion: Decimal | None = None
    basket: Decimal | None = None
    redeemed: Decimal | None = None
    people_hours: dict[int, float] = {}
    expected_hours: dict[int, float] = {}


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
    usual: Usual = Usual()
    queues: tuple[Queue, ...] | None = ()  # None: a queue is watched, and its watcher is dark
    counter_set_up: bool = False  # something counts people here, or did
    tills: int = 0
    tills_live: int = 0


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number; null with a reason when it is not known. `at_least`: its source was dark for `dark_s` of the day.

    `usual`: what the same weekday had by this time, null without enough weeks. `trend`: by hour, null where dark.
    """

    value: Decimal | None
    reason: Reason = ""
    at_least: bool = False
    dark_s: float | None = None
    usual: Decimal | None = None
    trend: tuple[float | None, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """How it is beside the usual; "" where that cannot be said."""
        if self.value is None or self.usual is None or self.usual <= 0 or self.at_least:
            return ""
        gap = self.value - self.usual
        if abs(gap) <= _NEAR * self.usual or (self.usual >= 1 and abs(gap) < _FEW and self.value == int(self.value)):
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
    usual, trends = facts.usual, _trends(facts)
    turnover = msgspec.structs.replace(sales, value=None if sales.value is None else net)
    conversion, basket = _conversion(people_in, sales), _each(sales, sold, own_count, 2)
    return Today(
        day=facts.day,
        currency=facts.currency,
        people_in=_beside(people_in, usual.people, trends["people"]),
        people_out=people_out,
        people_now=_people_now(people_in, people_out, trends["inside"]),
        sales=_beside(sales, usual.sales, trends["sales"]),
        returns=sum(hour.returns for hour in facts.sales_hours),
        net=_beside(turnover, usual.net, trends["net"]),
        conversion=_beside(conversion, usual.conversion, trends["conversion"]),
        basket=_beside(basket, usual.basket, trends["basket"]),
        items=_each(sales, pieces, count, 1),
        queue=_queue(facts.queues),
        longest_queue=max(facts.queues or (), key=lambda it: it.length, default=None),
        redeemed=_redeemed(facts.coupons, usual.redeemed),
        refused=0 if facts.coupons is None else facts.coupons.refused,
        nps=_nps(facts.feedback),
        feedback=facts.feedback,
        other_currencies=others,
        hours=_hours(facts.people_hours, facts.sales_hours, usual),
    )


def _beside(figure: Figure, usual: Decimal | None, trend: tuple[float | None, ...]) -> Figure:
    return msgspec.structs.replace(figure, usual=usual, trend=trend)


def _people_now(people_in: Figure, people_out: Figure, trend: tuple[float | None, ...]) -> Figure:
    """In minus out since opening, never below nobody. A counter that was dark leaves it unknown."""
    if people_in.value is None or people_out.value is None:
        return Figure(value=None, reason=people_in.reason)
    if people_in.at_least:
        return Figure(value=None, reason="counter_dark", dark_s=people_in.dark_s)
    return Figure(value=max(Decimal(0), people_in.value - people_out.value), trend=trend)


def _queue(queues: Sequence[Queue] | None) -> Figure:
    if queues is None:
        return Figure(value=None, reason="counter_dark")
    if not queues:
        return Figure(value=None, reason="not_set_up")
    return Figure(value=Decimal(max(it.length for it in queues)))


def _redeemed(coupons: CouponDay | None, usual: Decimal | None) -> Figure:
    if coupons is None:
        return Figure(value=None, reason="no_coupons")
    return Figure(value=Decimal(coupons.redeemed), usual=usual)


def _nps(feedback: Sequence[FeedbackDay]) -> Figure:
    """Promoters (9, 10) minus detractors (0 to 6) in percent, of questions answered on that scale."""
    scores: dict[int, int] = {}
    for day in feedback:
        if max(day.scores, default=0) > _SMILEYS:
            for score, answers in day.scores.items():
                scores[score] = scores.get(score, 0) + answers
    answers = sum(scores.values())
    if answers < _FEW:
        return Figure(value=None, reason="no_answers")
    promoters = sum(count for score, count in scores.items() if score >= 9)
    detractors = sum(count for score, count in scores.items() if score <= 6)
    return Figure(value=(Decimal(promoters - detractors) * 100 / answers).quantize(Decimal(1), ROUND_HALF_EVEN))


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


def _hours(people: Sequence[FootfallHour], sales: Sequence[SalesHour], usual: Usual) -> tuple[Hour, ...]:
    entered = {hour.hour_ms: hour.people_in for hour in people}
    sold: dict[int, int] = {}
    for hour in sales:
        sold[hour.hour_ms] = sold.get(hour.hour_ms, 0) + hour.sales
    known = entered.keys() | sold.keys() | usual.people_hours.keys() | usual.expected_hours.keys()
    return tuple(
        Hour(at, entered.get(at), sold.get(at), usual.people_hours.get(at), usual.expected_hours.get(at))
        for at in sorted(known)
    )
