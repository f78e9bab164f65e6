"""A day as the page and the report show it: its figures, beside the same weekday, hour by hour, with what is expected.

Everything is a value. `read_day` takes a few milliseconds and may be asked every few seconds; `read_outlook` looks
months back and changes once a day: whoever shows it keeps it. Knows no page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import msgspec

from gateway.projections import footfall, heat, queue, stock
from gateway.projections.baseline import BACKTEST_DAYS, LEVEL_DAYS, WEEKS, Counts, Forecast, Usual, forecast, usual
from gateway.projections.footfall import LineHour
from gateway.projections.heat import HeatMap
from gateway.projections.kpi import (
    ENOUGH,
    HOUR_MS,
    Figure,
    Kpis,
    Name,
    Peaks,
    Sources,
    day_kpis,
    hour_kpis,
    hours_of,
    inside_on,
    until_kpis,
)
from gateway.projections.kpi_rows import KNOWN_DAYS, read_rows
from gateway.projections.occupancy import Inside
from gateway.projections.opening import day_span, local_ms
from gateway.projections.projection import Query
from gateway.projections.queue import QueueNow
from gateway.projections.stock import Stock
from gateway.projections.store_time import StoreTime

_NEW_MS = 600_000  # a queue that was measured longer ago is not "now"


class HourPoint(msgspec.Struct, frozen=True):
    """The figures of one hour, by the instant it begins and its number on the store's clock."""

    hour_ms: int
    hour: int
    figures: Mapping[Name, Figure]


class DayView(msgspec.Struct, frozen=True, kw_only=True):
    """One day. `so_far` and `compared` go up to the same full hour, today's and that of the same weekday a week ago."""

    day: str
    kpis: Kpis
    so_far: Kpis
    compared_day: str
    compared: Kpis
    hours: tuple[HourPoint, ...]
    maps: tuple[HeatMap, ...]
    inside: Inside | None  # None: nobody counts, or too little was seen to say
    queues_now: tuple[QueueNow, ...]
    stock: tuple[Stock, ...]

    def series(self, name: Name) -> tuple[Decimal | None, ...]:
        """A figure hour by hour, for a sparkline; None where it was dark."""
        return tuple(point.figures[name].value for point in self.hours)


class Outlook(msgspec.Struct, frozen=True, kw_only=True):
    """What is usual on a day's weekday and what is expected of it, people in by hour of the store's clock."""

    day: str
    usual: tuple[Usual, ...]
    forecast: Forecast


def read_day(
    query: Query, day: str, sources: Sources, store_time: StoreTime, now_ms: int, stock_lines: int = 20,
    compared: Kpis | None = None,
) -> DayView:  # fmt: skip
    """A day from the read models, until `now_ms`.

    Args:
        query: of a journal reader.
        day: of the store, `2026-11-22`.
        sources: what there is by the configuration.
        store_time: the store's calendar, this thread's own.
        now_ms: milliseconds since 1970.
        stock_lines: GTINs and zones listed, most first; stock is that of now, whatever the day.
        compared: of `read_compared` in the same hour, where it is at hand.
    """
    end_ms = day_span(day, store_time)[1]
    full_ms = min(store_time.bucket(now_ms)[1], end_ms)
    compared = compared or read_compared(query, day, sources, store_time, now_ms)
    rows = read_rows(query, day, day, store_time)
    peaks = Peaks(rows, sources, store_time)
    whole = day_kpis(rows, sources, store_time, now_ms, peaks)
    counted = whole["occupancy_peak"].value is not None
    return DayView(
        day=day,
        kpis=whole,
        so_far=until_kpis(rows, sources, store_time, full_ms, peaks),
        compared_day=compared.first,
        compared=compared,
        hours=tuple(
            HourPoint(at, _clock_hour(at, store_time), hour_kpis(rows, sources, store_time, at, now_ms, peaks).figures)
            for at in hours_of(rows)
            if at < min(end_ms, now_ms)
        ),
        maps=tuple(heat.maps_of(query, day, day)),
        inside=inside_on(rows, sources, store_time, day, min(now_ms, end_ms)) if counted else None,
        queues_now=tuple(queue.now_of(query, now_ms - _NEW_MS)),
        stock=tuple(stock.now_of(query, stock_lines)),
    )


def read_compared(query: Query, day: str, sources: Sources, store_time: StoreTime, now_ms: int) -> Kpis:
    """The figures of the same weekday a week ago, up to the full hour of now; of a day that is over, all of it."""
    begin_ms, end_ms = day_span(day, store_time)
    full_ms = min(store_time.bucket(now_ms)[1], end_ms)
    compared_day = store_time.days_before(begin_ms + 43_200_000, 7)
    compared_ms = day_span(compared_day, store_time)[1]
    if full_ms < end_ms:
        local = datetime.fromtimestamp(full_ms / 1000, UTC).astimezone(store_time.zone)
        compared_ms = local_ms(compared_day, local.hour * 60, store_time)
    rows = read_rows(query, compared_day, compared_day, store_time)
    return until_kpis(rows, sources, store_time, compared_ms)


def read_outlook(query: Query, day: str, store_time: StoreTime, backtest_days: int = BACKTEST_DAYS) -> Outlook:
    """What is usual and expected of a day, from the days before it."""
    middle_ms = day_span(day, store_time)[0] + 43_200_000
    first = store_time.days_before(middle_ms, 7 * WEEKS + backtest_days + LEVEL_DAYS + KNOWN_DAYS)
    counts = counts_of(footfall.line_hours_of(query, first, store_time.days_before(middle_ms, 1)), store_time)
    return Outlook(day=day, usual=usual(counts, day), forecast=forecast(counts, day, backtest_days))


def counts_of(lines: Sequence[LineHour], store_time: StoreTime) -> Counts:
    """People in by day and hour, of hours of which enough was seen at every line that was there in those days.

    Of the two hours of a night when the clocks go back, the mean.
    """
    by_day: dict[str, list[LineHour]] = {}
    for line in lines:
        by_day.setdefault(line.day, []).append(line)
    counts: dict[str, dict[int, float]] = {}
    recent: list[set[tuple[str, str]]] = []
    for day in sorted(by_day):
        recent = [*recent[-KNOWN_DAYS:], {(it.line, it.entrance) for it in by_day[day] if it.interval_s > 0}]
        expected = set().union(*recent)
        hours: dict[int, list[LineHour]] = {}
        for it in by_day[day]:
            hours.setdefault(it.hour_ms, []).append(it)
        told: dict[int, list[int]] = {}
        for hour_ms, members in hours.items():
            if expected <= {(it.line, it.entrance) for it in members if _seen(it)}:
                told.setdefault(_clock_hour(hour_ms, store_time), []).append(sum(it.people_in for it in members))
        if told:
            counts[day] = {hour: sum(values) / len(values) for hour, values in told.items()}
    return counts


def _seen(line: LineHour) -> bool:
    return line.covered_s * 1000 >= ENOUGH * HOUR_MS


def _clock_hour(at_ms: int, store_time: StoreTime) -> int:
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(store_time.zone).hour
