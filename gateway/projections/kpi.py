"""The shop's key figures of an hour, a day or a week: each with the share of its inputs that was there, or a reason.

Sums whose inputs were partly dark are lower bounds and say so; a quotient of such sums would be wrong in either
direction and is not given. What could point at a handful of persons is not given either. Pure: knows no table, no
clock and no language.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from decimal import ROUND_HALF_EVEN, Decimal
from operator import attrgetter
from typing import Literal, Protocol, TypeVar, get_args

import msgspec

from gateway.projections import feedback, uptime
from gateway.projections.kpi_rows import Rows
from gateway.projections.occupancy import Inside, inside
from gateway.projections.opening import Opening, Span, day_span, overlap_ms
from gateway.projections.spread import merged, quantile
from gateway.projections.store_time import StoreTime

Name = Literal[
    "footfall", "occupancy_peak", "transactions", "net_sales", "conversion", "basket_value", "units_per_basket",
    "redemption_issued", "redemption_presented", "repeat_share", "member_share", "visit_dwell_s", "queue_p90_s",
    "queue_peak", "interaction_rate", "nps", "smile_share",
]  # fmt: skip
NAMES: tuple[Name, ...] = get_args(Name)

Reason = Literal[
    "", "not_set_up", "counter_dark", "till_dark", "no_people", "no_sales", "none_issued", "none_presented",
    "no_answers", "nobody", "few", "not_known", "not_kept", "not_yet", "closed",
]  # fmt: skip


class _OfHour(Protocol):
    @property
    def hour_ms(self) -> int: ...


T = TypeVar("T", bound=_OfHour)
HOUR_MS = 3_600_000
ENOUGH = 0.9  # share of the inputs that a quotient wants
WHOLE = 0.95  # share from which a sum is not called a lower bound
FEWEST = 5  # persons; a breakdown by fewer is not given
_begin_ms = attrgetter("begin_ms")
LATENESS_MS = 180_000  # an interval is told after it has ended, so the newest minutes are not dark


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A number; None with a reason when it is not known.

    `coverage`: the share of its inputs that were there, 0–1; None where nothing says. `at_least`: more may have
    happened while nobody looked.
    """

    value: Decimal | None
    coverage: float | None = None
    reason: Reason = ""
    at_least: bool = False


class ZoneKpi(msgspec.Struct, frozen=True, kw_only=True):
    """A zone: how many stood there on average and at most, its share of all person-time, and how long people stayed.

    Stays are None where fewer than `FEWEST` ended.
    """

    zone: str
    mean_persons: float
    peak: int
    share: float
    stays: int | None
    dwell_mean_s: float | None
    dwell_p50_s: float | None
    dwell_p90_s: float | None
    coverage: float | None


class QueueKpi(msgspec.Struct, frozen=True, kw_only=True):
    """A queue: its mean and greatest length, and the 90th percentile of the wait (None: nobody waited)."""

    zone: str
    length_mean: float
    length_peak: int
    wait_p90_s: float | None
    coverage: float | None


class Sources(msgspec.Struct, frozen=True):
    """What the configuration says there is: something that counts people, the tills' names, the shop's currency."""

    counter: bool = False
    tills: tuple[str, ...] = ()
    currency: str = ""
    opening: Opening | None = None


class Kpis(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of [`begin_ms`, `end_ms`): an hour, a day or more, of the store's days `first` to `last`."""

    first: str
    last: str
    begin_ms: int
    end_ms: int
    currency: str
    figures: Mapping[Name, Figure]
    zones: tuple[ZoneKpi, ...] = ()
    queues: tuple[QueueKpi, ...] = ()
    returns: int = 0
    voids: int = 0
    other_currencies: Mapping[str, Decimal] = {}

    @property
    def empty(self) -> bool:
        """Whether nothing at all is known of that time."""
        return all(figure.value is None for figure in self.figures.values()) and not self.zones

    def __getitem__(self, name: Name) -> Figure:
        return self.figures[name]


class Peaks:
    """Who was inside on the days of `rows`, added up once for all the windows that ask for their peaks."""

    def __init__(self, rows: Rows, sources: Sources, store_time: StoreTime) -> None:
        """Nothing is added up yet."""
        self._rows, self._sources, self._time = rows, sources, store_time
        self._found: dict[tuple[str, int], Mapping[int, int]] = {}

    def on(self, day: str, until_ms: int) -> Mapping[int, int]:
        """The most inside by the hour: of the hours of a day before the full hour `until_ms`, maybe later ones."""
        since_ms = _since_ms(self._sources, self._time, day, until_ms)
        if (found := self._found.get((day, since_ms))) is None:
            end_ms = day_span(day, self._time)[1]
            found = self._found[day, since_ms] = _inside(self._rows, self._time, since_ms, end_ms).peaks
        return found


def day_kpis(rows: Rows, sources: Sources, store_time: StoreTime, now_ms: int, peaks: Peaks | None = None) -> Kpis:
    """The figures of all days of `rows` together, until `now_ms`; `peaks` of the same rows, where others ask, too."""
    begin_ms, end_ms = day_span(rows.first, store_time)[0], day_span(rows.last, store_time)[1]
    return _Window(rows, sources, store_time, begin_ms, end_ms, now_ms, peaks).kpis()


def hour_kpis(
    rows: Rows, sources: Sources, store_time: StoreTime, hour_ms: int, now_ms: int, peaks: Peaks | None = None
) -> Kpis:
    """The figures of the hour that begins at `hour_ms`."""
    return _Window(rows, sources, store_time, hour_ms, hour_ms + HOUR_MS, now_ms, peaks).kpis()


def until_kpis(rows: Rows, sources: Sources, store_time: StoreTime, end_ms: int, peaks: Peaks | None = None) -> Kpis:
    """The figures of the days of `rows` up to the hour of `end_ms`: what to compare an unfinished day with."""
    begin_ms = day_span(rows.first, store_time)[0]
    return _Window(rows, sources, store_time, begin_ms, end_ms, end_ms + LATENESS_MS, peaks).kpis()


def hours_of(rows: Rows) -> list[int]:
    """The beginnings of the hours of `rows` of which anything is known, in order."""
    told = {hour for hour, _ in rows.stays} | {hour for hour, _ in rows.waits} | set(rows.uptime)
    for members in (rows.sales, rows.feedback, rows.visits):
        told.update(it.hour_ms for it in members)
    told.update(it.hour_ms for it in rows.lines if rows.first <= it.day <= rows.last)
    return sorted(told)


def inside_on(rows: Rows, sources: Sources, store_time: StoreTime, day: str, until_ms: int) -> Inside:
    """Who was inside on a day: added up since the shop opened last before `until_ms`, or since midnight."""
    until_ms = min(until_ms, day_span(day, store_time)[1])
    return _inside(rows, store_time, _since_ms(sources, store_time, day, until_ms), until_ms)


def _since_ms(sources: Sources, store_time: StoreTime, day: str, until_ms: int) -> int:
    """When the shop opened last before a moment of that day."""
    midnight_ms, end_ms = day_span(day, store_time)
    if sources.opening is None:
        return midnight_ms
    until_ms = min(until_ms, end_ms)
    days = (store_time.day(midnight_ms - HOUR_MS), day)
    opens = [span[0] for one in days for span in sources.opening.spans(one, store_time) if span[0] < until_ms]
    starts = [at for at in opens if at != midnight_ms or sources.opening.closes_min > sources.opening.opens_min]
    return max(starts, default=midnight_ms)


def _inside(rows: Rows, store_time: StoreTime, since_ms: int, until_ms: int) -> Inside:
    hours = list(range(store_time.bucket(since_ms)[1], until_ms, HOUR_MS))
    first, last = (bisect_left(rows.passed, at, key=_begin_ms) for at in (since_ms, until_ms))
    return inside(rows.passed[first:last], since_ms, hours)


class _Window:
    """One stretch of time, and what the rows say of it."""

    def __init__(
        self, rows: Rows, sources: Sources, store_time: StoreTime, begin_ms: int, end_ms: int, now_ms: int,
        peaks: Peaks | None,
    ) -> None:  # fmt: skip
        self._rows, self._sources, self._time = rows, sources, store_time
        self._peaks = peaks or Peaks(rows, sources, store_time)
        self._begin_ms, self._end_ms = begin_ms, end_ms
        self._told_ms = min(end_ms, now_ms - LATENESS_MS)  # what happened later may not have been told yet
        self._spans = self._expected_spans()
        self._hours = [
            hour for hour in range(store_time.bucket(begin_ms)[1], max(begin_ms, self._told_ms), HOUR_MS)
            if overlap_ms(self._spans, hour, min(hour + HOUR_MS, self._told_ms)) > 0
        ]  # fmt: skip

    def kpis(self) -> Kpis:
        people, till = self._people_coverage(), self._till_coverage()
        rows, own = self._rows, self._within
        lines, sales = own(rows.lines), own(rows.sales)
        currency = self._sources.currency
        ours = [hour for hour in sales if hour.currency in (currency, "")]
        others: dict[str, Decimal] = {}
        for hour in sales:
            if hour.currency not in (currency, ""):
                others[hour.currency] = others.get(hour.currency, Decimal(0)) + hour.net
        count = sum(hour.sales for hour in sales)
        footfall = self._footfall(sum(it.people_in for it in lines), bool(lines), people)
        transactions = self._transactions(count, bool(sales), till)
        pieces = sum((hour.items for hour in sales), Decimal(0))
        scans = sum(it.scans for it in own(rows.interactions))
        visits = own(rows.visits)
        ended, known = sum(it.visits for it in visits), sum(it.known for it in visits)
        figures: dict[Name, Figure] = {
            "footfall": footfall,
            "occupancy_peak": self._occupancy(people),
            "transactions": transactions,
            "net_sales": _with(transactions, sum((hour.net for hour in ours), Decimal(0))),
            "conversion": _quotient(footfall, transactions, Decimal(count), 4),
            "basket_value": _each(
                transactions, sum((it.sold for it in ours), Decimal(0)), sum(it.sales for it in ours), 2
            ),
            "units_per_basket": _each(transactions, pieces, count, 2),
            **self._redemption(),
            "repeat_share": _covered(_share(sum(it.returning for it in visits), known, "not_known"), known, ended),
            "member_share": self._members(transactions, sum(it.members for it in sales), count),
            "visit_dwell_s": _mean(sum(it.stayed_s for it in visits), ended),
            **self._queue_figures(),
            "interaction_rate": self._interaction(footfall, scans),
            **self._answers(),
        }
        return Kpis(
            first=rows.first, last=rows.last, begin_ms=self._begin_ms, end_ms=self._end_ms, currency=currency,
            figures={name: figures[name] for name in NAMES}, zones=self._zones(), queues=self._queues(),
            returns=sum(hour.returns for hour in sales), voids=sum(hour.voids for hour in sales),
            other_currencies=others,
        )  # fmt: skip

    # -- what ought to have been told

    def _within(self, rows: Iterable[T]) -> list[T]:
        return [row for row in rows if self._begin_ms <= row.hour_ms < self._end_ms]

    def _expected_spans(self) -> list[Span]:
        """Opening hours, or each day's first to last sign of life; the whole of a window without any."""
        days = sorted({self._time.day(at) for at in range(self._begin_ms, self._end_ms, HOUR_MS)})
        if self._sources.opening is not None:
            return [span for day in days for span in self._sources.opening.spans(day, self._time)]
        if self._end_ms - self._begin_ms <= HOUR_MS:
            return [(self._begin_ms, self._end_ms)]
        spans = []
        for day in days:
            begin_ms, end_ms = day_span(day, self._time)
            people = [it for it in self._rows.lines if it.day == day and it.people_in + it.people_out > 0]
            sales = [it for it in self._rows.sales if begin_ms <= it.hour_ms < end_ms]
            counted = {it.hour_ms for it in people}
            firsts = [it.first_ms for it in people] + [it.hour_ms for it in sales if it.hour_ms not in counted]
            lasts = [it.last_ms for it in people] + [it.last_ms for it in sales]
            if firsts:
                spans.append((max(begin_ms, min(firsts)), min(end_ms, max(lasts))))
        return spans

    def _expected_s(self, hour_ms: int) -> float:
        begin_ms = max(hour_ms, self._begin_ms)
        return overlap_ms(self._spans, begin_ms, min(hour_ms + HOUR_MS, self._told_ms)) / 1000

    def _coverage(self, seen: Iterable[tuple[str, int, float, float]]) -> float | None:
        """The mean share of the expected time that each source saw: (source, hour, interval_s, covered_s) each.

        A source that knows no intervals says nothing about it; None when no other source, or no time to see.
        """
        expected = {hour: self._expected_s(hour) for hour in self._hours}
        total = sum(expected.values())
        covered: dict[str, float] = {}
        for source, hour, interval_s, covered_s in seen:
            if interval_s > 0:
                covered[source] = covered.get(source, 0.0) + min(covered_s, expected.get(hour, 0.0))
        if not covered or total <= 0:
            return None
        return min(1.0, sum(covered.values()) / len(covered) / total)

    def _people_coverage(self) -> float | None:
        return self._coverage(
            (f"{it.line}\0{it.entrance}", it.hour_ms, it.interval_s, it.covered_s) for it in self._rows.lines
        )

    def _till_coverage(self) -> float | None:
        """By the gateway's heartbeats; None where none is kept of that time."""
        if not any(hour in self._rows.uptime for hour in self._hours):
            return None if not self._rows.uptime else (0.0 if self._hours else None)
        names = self._sources.tills or (uptime.GATEWAY,)
        return self._coverage(
            (name, hour, 1.0, _slack(self._rows.uptime.get(hour, {}).get(name, 0.0)))
            for name in names for hour in self._hours
        )  # fmt: skip

    def _silent(self, reason: Reason) -> Reason:
        """Why nothing was told: the source was dark, unless nothing was to be told in that time."""
        if self._told_ms <= self._begin_ms:
            return "not_yet"
        return reason if self._hours or self._sources.opening is None else "closed"

    # -- figures

    def _footfall(self, people_in: int, told: bool, coverage: float | None) -> Figure:
        if not told:
            if self._rows.lines or self._sources.counter:
                return Figure(value=None, reason=self._silent("counter_dark"), coverage=coverage)
            return Figure(value=None, reason="not_set_up")
        return _sum(Decimal(people_in), coverage)

    def _occupancy(self, coverage: float | None) -> Figure:
        if not self._rows.lines:
            return Figure(value=None, reason="counter_dark" if self._sources.counter else "not_set_up")
        if coverage is not None and coverage < ENOUGH:  # in minus out of a part of the day is no number of persons
            return Figure(value=None, coverage=coverage, reason="counter_dark")
        peaks: list[int] = []
        for day in sorted({self._time.day(at_ms) for at_ms in range(self._begin_ms, self._end_ms, HOUR_MS)}):
            found = self._peaks.on(day, self._end_ms)
            own = [peak for hour, peak in found.items() if self._is_own(hour)]
            if not own and any(it.day == day and self._is_own(it.hour_ms) for it in self._rows.lines):
                return Figure(value=None, coverage=coverage, reason="not_kept")
            peaks += own
        if not peaks:
            return Figure(value=None, coverage=coverage, reason=self._silent("counter_dark"))
        return Figure(value=Decimal(max(peaks)), coverage=coverage)

    def _transactions(self, count: int, told: bool, coverage: float | None) -> Figure:
        if not told and not self._sources.tills:
            return Figure(value=None, reason="not_set_up")
        if not told and (coverage is None or coverage < ENOUGH):  # silence of tills that nobody listened to
            return Figure(value=None, reason=self._silent("till_dark"), coverage=coverage)
        return _sum(Decimal(count), coverage)

    def _redemption(self) -> dict[Name, Figure]:
        own = self._within(self._rows.coupons)
        redeemed, presented = sum(it.redeemed for it in own), sum(it.presented for it in own)
        shown = Figure(value=None, reason="none_presented")
        if presented:
            shown = Figure(value=_rounded(Decimal(redeemed) / presented, 4))
        campaign = [it for it in self._rows.coupons if it.hour_ms < self._end_ms]
        issued = sum(it.issued for it in campaign)
        given = Figure(value=None, reason="none_issued")
        if issued:
            given = Figure(value=_rounded(Decimal(sum(it.redeemed for it in campaign)) / issued, 4))
        return {"redemption_issued": given, "redemption_presented": shown}

    def _members(self, transactions: Figure, members: int, count: int) -> Figure:
        if transactions.value is None or count == 0:
            return _each(transactions, Decimal(0), 0, 4)
        return msgspec.structs.replace(_share(members, count, "no_sales"), coverage=transactions.coverage)

    def _queue_figures(self) -> dict[Name, Figure]:
        known = self._rows.queues
        own = self._within(known)
        if not own:
            dark = Figure(value=None, reason=self._silent("counter_dark") if known else "not_set_up")
            return {"queue_p90_s": dark, "queue_peak": dark}
        coverage = self._coverage((it.zone, it.hour_ms, it.interval_s, it.covered_s) for it in known)
        wait = quantile(merged(spread for (hour, _), spread in self._rows.waits.items() if self._is_own(hour)), 0.9)
        if coverage is not None and coverage < ENOUGH:
            waited = Figure(value=None, reason="counter_dark", coverage=coverage)
        elif wait is None:
            waited = Figure(value=None, reason="nobody", coverage=coverage)
        else:
            waited = Figure(value=_rounded(Decimal(wait), 0), coverage=coverage)
        return {"queue_p90_s": waited, "queue_peak": _sum(Decimal(max(it.peak for it in own)), coverage)}

    def _interaction(self, footfall: Figure, scans: int) -> Figure:
        if not self._rows.interactions:
            return Figure(value=None, reason="not_set_up")
        return _quotient(footfall, footfall, Decimal(scans), 4)

    def _answers(self) -> dict[Name, Figure]:
        scores: dict[bool, dict[int, int]] = {True: {}, False: {}}
        for it in self._within(self._rows.feedback):
            given = self._rows.scales.get(it.question, (it.score, it.score))
            kind = scores[feedback.is_nps(it.question, given, it.scale)]
            kind[it.score] = kind.get(it.score, 0) + it.answers
        return {"nps": _answered(scores[True], _nps), "smile_share": _answered(scores[False], _smiles)}

    def _is_own(self, hour_ms: int) -> bool:
        return self._begin_ms <= hour_ms < self._end_ms

    def _zones(self) -> tuple[ZoneKpi, ...]:
        own = self._within(self._rows.zones)
        total_s = sum(it.person_s for it in own)
        found = []
        for zone in sorted({it.zone for it in own}):
            hours = [it for it in own if it.zone == zone]
            covered_s, person_s = sum(it.covered_s for it in hours), sum(it.person_s for it in hours)
            stays, stayed_s = sum(it.stays for it in hours), sum(it.stayed_s for it in hours)
            spread = merged(it for (hour, name), it in self._rows.stays.items() if name == zone and self._is_own(hour))
            enough = stays >= FEWEST
            found.append(
                ZoneKpi(
                    zone=zone, mean_persons=person_s / covered_s if covered_s else 0.0,
                    peak=max(it.peak for it in hours), share=person_s / total_s if total_s else 0.0,
                    stays=stays if enough or stays == 0 else None,
                    dwell_mean_s=stayed_s / stays if enough else None,
                    dwell_p50_s=quantile(spread, 0.5) if enough else None,
                    dwell_p90_s=quantile(spread, 0.9) if enough else None,
                    coverage=self._coverage((zone, it.hour_ms, it.interval_s, it.covered_s) for it in hours),
                )
            )  # fmt: skip
        return tuple(found)

    def _queues(self) -> tuple[QueueKpi, ...]:
        own = self._within(self._rows.queues)
        found = []
        for zone in sorted({it.zone for it in own}):
            hours = [it for it in own if it.zone == zone]
            covered_s = sum(it.covered_s for it in hours)
            waits = merged(it for (hour, name), it in self._rows.waits.items() if name == zone and self._is_own(hour))
            found.append(
                QueueKpi(
                    zone=zone, length_mean=sum(it.person_s for it in hours) / covered_s if covered_s else 0.0,
                    length_peak=max(it.peak for it in hours), wait_p90_s=quantile(waits, 0.9),
                    coverage=self._coverage((zone, it.hour_ms, it.interval_s, it.covered_s) for it in hours),
                )
            )  # fmt: skip
        return tuple(found)


def _sum(value: Decimal, coverage: float | None) -> Figure:
    return Figure(value=value, coverage=coverage, at_least=coverage is not None and coverage < WHOLE)


def _with(like: Figure, value: Decimal) -> Figure:
    return like if like.value is None else msgspec.structs.replace(like, value=value)


def _quotient(people: Figure, other: Figure, over: Decimal, places: int) -> Figure:
    """Something ÷ people; dark where either was."""
    if people.value is None:
        return Figure(value=None, reason=people.reason, coverage=people.coverage)
    if other.value is None:
        return Figure(value=None, reason=other.reason, coverage=other.coverage)
    shares = [it.coverage for it in (people, other) if it.coverage is not None]
    coverage = min(shares, default=None)
    if people.coverage is not None and people.coverage < ENOUGH:
        return Figure(value=None, reason="counter_dark", coverage=coverage)
    if other.coverage is not None and other.coverage < ENOUGH:
        return Figure(value=None, reason="till_dark", coverage=coverage)
    if people.value == 0:
        return Figure(value=None, reason="no_people", coverage=coverage)
    return Figure(value=_rounded(over / people.value, places), coverage=coverage)


def _each(of: Figure, total: Decimal, count: int, places: int) -> Figure:
    """A mean of what was told; what was not told may differ, so its coverage stays beside it."""
    if of.value is None:
        return Figure(value=None, reason=of.reason, coverage=of.coverage)
    if count == 0:
        return Figure(value=None, reason="no_sales", coverage=of.coverage)
    return Figure(value=_rounded(total / count, places), coverage=of.coverage)


def _share(part: int, whole: int, otherwise: Reason) -> Figure:
    """A share of persons; not given where it would speak of fewer than `FEWEST`, of either kind."""
    if whole == 0:
        return Figure(value=None, reason=otherwise)
    if whole < FEWEST or 0 < part < FEWEST or 0 < whole - part < FEWEST:
        return Figure(value=None, reason="few")
    return Figure(value=_rounded(Decimal(part) / whole, 4))


def _covered(figure: Figure, known: int, whole: int) -> Figure:
    """A figure of some of the persons, with their share; without one where there is nobody, or too few."""
    return msgspec.structs.replace(figure, coverage=min(1.0, known / whole) if whole >= FEWEST else None)


def _mean(total: float, persons: int) -> Figure:
    if persons == 0:
        return Figure(value=None, reason="not_known")
    if persons < FEWEST:
        return Figure(value=None, reason="few")
    return Figure(value=_rounded(Decimal(total) / persons, 0))


def _answered(scores: Mapping[int, int], of: Callable[[Mapping[int, int], int], Decimal]) -> Figure:
    answers = sum(scores.values())
    if answers == 0:
        return Figure(value=None, reason="no_answers")
    if answers < FEWEST:
        return Figure(value=None, reason="few")
    return Figure(value=of(scores, answers))


def _nps(scores: Mapping[int, int], answers: int) -> Decimal:
    """Share of 9 and 10 less that of 0 to 6, in points."""
    balance = sum(count * ((score >= 9) - (score <= 6)) for score, count in scores.items())
    return _rounded(Decimal(100 * balance) / answers, 0)


def _smiles(scores: Mapping[int, int], answers: int) -> Decimal:
    return _rounded(Decimal(sum(count for score, count in scores.items() if score >= 3)) / answers, 4)


def _rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)


def _slack(seconds: float) -> float:
    """Beats come once a minute, so the first and the last of a stretch say less than they stand for."""
    return 0.0 if seconds <= 0 else seconds + 2 * uptime.BEAT_S
