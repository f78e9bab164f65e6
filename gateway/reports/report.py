"""A report: the figures of a day or a week beside the one before, by hour or by day, with baseline and forecast.

`report` reads it from the read models; it is a value that any format is made from. Knows no language and no format.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import msgspec

from gateway.projections import heat, stock
from gateway.projections.baseline import Forecast, Usual
from gateway.projections.heat import HeatMap
from gateway.projections.kpi import Figure, Kpis, Name, Sources, day_kpis, until_kpis
from gateway.projections.kpi_rows import read_rows
from gateway.projections.kpi_view import read_day, read_outlook
from gateway.projections.opening import day_span
from gateway.projections.projection import Query
from gateway.projections.stock import Stock
from gateway.projections.store_time import StoreTime

Progress = Callable[[float], None]
"""Told how much is done, 0–1; called from the thread that works."""
_NOON_MS = 43_200_000
STOCK_LINES = 500


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of a day's report, or one day of a week's. `hour` is on the store's clock; None for a day."""

    begin_ms: int
    day: str
    hour: int | None
    figures: dict[Name, Figure]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a report says. `compared` is the same weekday a week ago, or the week before.

    While the day or week is not over, `so_far` and `compared` both end at the same full hour.
    """

    store: str
    time_zone: str
    made_ms: int
    first: str
    last: str
    week: bool
    over: bool
    kpis: Kpis
    so_far: Kpis
    compared_first: str
    compared: Kpis
    points: tuple[Point, ...]
    usual: tuple[Usual, ...] = ()
    forecast: Forecast | None = None
    maps: tuple[HeatMap, ...] = ()
    stock: tuple[Stock, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is known of that time."""
        return self.kpis.empty


def report(
    day: str, query: Query, sources: Sources, store_time: StoreTime, now_ms: int, *, store: str = "",
    week: bool = False, progress: Progress | None = None,
) -> Report:  # fmt: skip
    """The report of a day, or of the week from Monday to Sunday that it lies in.

    Args:
        day: of the store, `2026-11-22`.
        query: of a journal reader.
        sources: what there is by the configuration.
        store_time: the store's calendar, this thread's own.
        now_ms: milliseconds since 1970; what comes later is not looked for.
        store: the store's name for the title.
        week: the whole week.
        progress: see `Progress`.
    """
    tell = progress or (lambda _: None)
    tell(0.0)
    made = (
        _week(day, query, sources, store_time, now_ms, tell) if week else _day(day, query, sources, store_time, now_ms)
    )
    tell(1.0)
    return msgspec.structs.replace(made, store=store)


def _day(day: str, query: Query, sources: Sources, store_time: StoreTime, now_ms: int) -> Report:
    view = read_day(query, day, sources, store_time, now_ms, STOCK_LINES)
    outlook = read_outlook(query, day, store_time)
    over = now_ms >= view.kpis.end_ms
    return Report(
        store="", time_zone=store_time.name, made_ms=now_ms, first=day, last=day, week=False, over=over,
        kpis=view.kpis, so_far=view.so_far, compared_first=view.compared_day, compared=view.compared,
        points=tuple(
            Point(begin_ms=it.hour_ms, day=day, hour=it.hour, figures=dict(it.figures)) for it in view.hours
        ),
        usual=outlook.usual, forecast=outlook.forecast, maps=view.maps,
        stock=view.stock if store_time.day(now_ms) == day else (),  # of now, and of no other day
    )  # fmt: skip


def _week(day: str, query: Query, sources: Sources, store_time: StoreTime, now_ms: int, progress: Progress) -> Report:
    noon_ms = day_span(day, store_time)[0] + _NOON_MS
    monday = store_time.days_before(noon_ms, _weekday(day))
    days = [store_time.days_before(day_span(monday, store_time)[0] + _NOON_MS, -ahead) for ahead in range(7)]
    before = [store_time.days_before(day_span(one, store_time)[0] + _NOON_MS, 7) for one in (days[0], days[-1])]
    rows, past = read_rows(query, days[0], days[-1], store_time), read_rows(query, before[0], before[1], store_time)
    points = []
    for number, one in enumerate(days):
        begin_ms, _ = day_span(one, store_time)
        if begin_ms < now_ms:
            own = read_rows(query, one, one, store_time)
            figures = dict(day_kpis(own, sources, store_time, now_ms).figures)
            points.append(Point(begin_ms=begin_ms, day=one, hour=None, figures=figures))
        progress((number + 1) / 9)
    end_ms = day_span(days[-1], store_time)[1]
    past_end_ms = day_span(before[1], store_time)[1]
    full_ms = min(store_time.bucket(now_ms)[1], end_ms)
    gone = full_ms < end_ms
    return Report(
        store="", time_zone=store_time.name, made_ms=now_ms, first=days[0], last=days[-1], week=True, over=not gone,
        kpis=day_kpis(rows, sources, store_time, now_ms), so_far=until_kpis(rows, sources, store_time, full_ms),
        compared_first=before[0],
        compared=until_kpis(past, sources, store_time, past_end_ms - (end_ms - full_ms)),
        points=tuple(points), maps=tuple(heat.maps_of(query, days[0], days[-1])),
        stock=tuple(stock.now_of(query, STOCK_LINES)) if gone else (),
    )  # fmt: skip


def _weekday(day: str) -> int:
    """0 for Monday."""
    return date.fromisoformat(day).weekday()
