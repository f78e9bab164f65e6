"""A report written out in one language: titles, tiles, charts and tables as plain values, ready for any renderer.

All numbers, dates and money are formatted here and nowhere else. Knows no format of a file.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import msgspec
from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, format_decimal, format_percent

from gateway.projections.baseline import WEEKS_LEAST
from gateway.projections.heat import HeatMap
from gateway.projections.kpi import Figure, Name
from gateway.reports.report import Report
from gateway.reports.words import FIGURES, REASONS, Kind, Language, text

DASH = "–"


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: what it is called, what it is (a dash when dark), why or how sure, and the change against before."""

    name: Name
    label: str
    value: str
    note: str
    compared: str
    change: str

    @property
    def dark(self) -> bool:
        """Whether it is not known."""
        return self.value == DASH


class Series(msgspec.Struct, frozen=True):
    """One row of a chart; None where nothing is known."""

    label: str
    values: tuple[float | None, ...]


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A chart over labelled points. `bars`: columns; else lines."""

    title: str
    labels: tuple[str, ...]
    series: tuple[Series, ...]
    bars: bool = False


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A table: cells are texts or plain numbers (for spreadsheets), with the text to show for each."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[tuple[float | str | None, ...], ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A report in one language."""

    language: Language
    title: str
    subtitle: str
    empty: str  # what to say instead of everything else; "" when there is something
    tiles: tuple[Tile, ...] = ()
    charts: tuple[Chart, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    maps: tuple[tuple[str, HeatMap], ...] = ()
    notes: tuple[str, ...] = ()


class Writer:
    """Numbers and dates of one language, in the store's time zone."""

    def __init__(self, language: Language, time_zone: str, currency: str) -> None:
        """Store."""
        self.language = language
        self._locale = Locale.parse(language)
        self._zone = ZoneInfo(time_zone)
        self._currency = currency

    def figure(self, name: Name, value: Decimal) -> str:
        """A figure's value by its kind."""
        return self.kind(FIGURES[name][0], value)

    def kind(self, kind: Kind, value: Decimal | float) -> str:
        """A value of that kind."""
        if kind == "money":
            return str(self.money(Decimal(value), self._currency))
        if kind == "percent":
            return str(format_percent(value, format="#,##0.0%", locale=self._locale))
        if kind == "decimal":
            return str(format_decimal(value, format="#,##0.0#", locale=self._locale))
        if kind == "seconds":
            minutes, seconds = divmod(round(value), 60)
            return f"{minutes}:{seconds:02d}"
        return str(format_decimal(value, format="#,##0", locale=self._locale))

    def money(self, value: Decimal, currency: str) -> str:
        """An amount."""
        if len(currency) != 3 or not currency.isalpha():
            return f"{format_decimal(value, locale=self._locale)} {currency}".strip()
        return str(format_currency(value, currency.upper(), locale=self._locale)).replace("CN¥", "¥")

    def change(self, name: Name, now: Figure, before: Figure) -> str:
        """How much a figure changed; "" where one of the two is not known or only a lower bound."""
        if now.value is None or before.value is None or now.at_least or before.at_least:
            return ""
        kind = FIGURES[name][0]
        difference = now.value - before.value
        if difference == 0:
            return "="
        if kind in ("percent", "points"):
            points = difference * 100 if kind == "percent" else difference
            return f"{format_decimal(points, format='+#,##0.#;-#,##0.#', locale=self._locale)} pp"
        if before.value == 0:
            return ""
        return str(format_percent(difference / before.value, format="+#,##0%;-#,##0%", locale=self._locale))

    def day(self, day: str) -> str:
        """A day with its weekday."""
        return str(format_date(date.fromisoformat(day), "full", locale=self._locale))

    def short(self, day: str) -> str:
        """Month, day and weekday."""
        return str(format_date(date.fromisoformat(day), "MM-dd EEE", locale=self._locale))

    def moment(self, at_ms: int) -> str:
        """Day and time in the store."""
        at = datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)
        return str(format_datetime(at, "yyyy-MM-dd HH:mm", locale=self._locale))


def document(report: Report, language: Language) -> Document:
    """Write a report out."""
    write = Writer(language, report.time_zone, report.kpis.currency)
    span = write.day(report.first) if not report.week else f"{write.day(report.first)} {DASH} {write.day(report.last)}"
    parts = [span, text("made", language, moment=write.moment(report.made_ms))]
    if report.store:
        parts.insert(0, text("store", language, store=report.store))
    if not report.over:
        parts.append(text("unfinished", language, moment=write.moment(report.made_ms)))
    title = text("week_title" if report.week else "day_title", language)
    if report.empty:
        return Document(
            language=language, title=title, subtitle=" · ".join(parts), empty=text("nothing", language),
            notes=_forecast_note(report, language, write) if not report.week else (),
        )  # fmt: skip
    return Document(
        language=language,
        title=title,
        subtitle=" · ".join(parts),
        empty="",
        tiles=tuple(_tile(report, name, write) for name in FIGURES),
        charts=_charts(report, language, write),
        sheets=tuple(it for it in (_zones(report, write), _queues(report, write), _stock(report, write)) if it.rows),
        maps=tuple((text("heat", language, camera=it.camera), it) for it in report.maps if any(it.person_s)),
        notes=_notes(report, language, write),
    )


def hour_sheet(report: Report, language: Language) -> Sheet:
    """Every figure of every hour (or day), for spreadsheets."""
    write = Writer(language, report.time_zone, report.kpis.currency)
    head = (text("day" if report.week else "hour", language), *(FIGURES[name][1][language == "en"] for name in FIGURES))
    rows, numbers = [], []
    for point in report.points:
        place = write.short(point.day) if point.hour is None else write.moment(point.begin_ms)
        values = [point.figures[name].value for name in FIGURES]
        rows.append((place, *(_shown(point.figures[name], name, write) for name in FIGURES)))
        numbers.append((place, *(None if value is None else float(value) for value in values)))
    title = text("by_day" if report.week else "by_hour", language)
    return Sheet(title=title, head=head, rows=tuple(rows), numbers=tuple(numbers))


def _tile(report: Report, name: Name, write: Writer) -> Tile:
    figure, before = report.kpis[name], report.compared[name]
    language = write.language
    note = ""
    if figure.value is None:
        note = REASONS[figure.reason][language == "en"] if figure.reason else ""
    elif figure.coverage is not None and figure.coverage < 0.995:
        note = text("seen", language, share=write.kind("percent", figure.coverage))
    if name == "transactions" and figure.value is not None and (report.kpis.returns or report.kpis.voids):
        told = text("returns", language, returns=report.kpis.returns, voids=report.kpis.voids)
        note = f"{note} · {told}" if note else told
    return Tile(
        name=name, label=FIGURES[name][1][language == "en"], value=_shown(figure, name, write), note=note,
        compared=_shown(before, name, write), change=write.change(name, report.so_far[name], before),
    )  # fmt: skip


def _shown(figure: Figure, name: Name, write: Writer) -> str:
    if figure.value is None:
        return DASH
    return ("≥ " if figure.at_least else "") + write.figure(name, figure.value)


def _charts(report: Report, language: Language, write: Writer) -> tuple[Chart, ...]:
    if report.week:
        labels = tuple(write.short(it.day) for it in report.points)
        people = (Series(text("people", language), _values(report, "footfall")),)
        sales = (Series(text("sales", language), _values(report, "transactions")),)
        return (
            Chart(title=text("by_day", language), labels=labels, series=people, bars=True),
            Chart(title=text("sales_by_day", language), labels=labels, series=sales, bars=True),
        )
    usual = {it.hour: it.people for it in report.usual}
    expected = {it.hour: it.people for it in report.forecast.hours} if report.forecast else {}
    known = {it.hour: it for it in report.points if it.hour is not None}
    busy = [hour for hour, it in known.items() if it.figures["footfall"].value or it.figures["transactions"].value]
    around = busy + [hour for hour, people in usual.items() if people >= 0.5]
    hours = range(min(around), max(around) + 1) if around else range(0)

    def of(name: Name) -> tuple[float | None, ...]:
        found = (known[hour].figures[name].value if hour in known else None for hour in hours)
        return tuple(None if value is None else float(value) for value in found)

    lines = [Series(text("people", language), of("footfall"))]
    for key, people_by_hour in (("usual", usual), ("expected", expected)):
        if people_by_hour:
            lines.append(Series(text(key, language), tuple(people_by_hour.get(hour) for hour in hours)))
    labels = tuple(f"{hour:02d}" for hour in hours)
    sold = (Series(text("sales", language), of("transactions")),)
    return (
        Chart(title=text("by_hour", language), labels=labels, series=tuple(lines)),
        Chart(title=text("sales_by_hour", language), labels=labels, series=sold, bars=True),
    )


def _values(report: Report, name: Name) -> tuple[float | None, ...]:
    found = (it.figures[name].value for it in report.points)
    return tuple(None if value is None else float(value) for value in found)


def _zones(report: Report, write: Writer) -> Sheet:
    language = write.language
    rows = sorted(report.kpis.zones, key=lambda it: -it.share)
    return Sheet(
        title=text("zones", language),
        head=tuple(text(key, language) for key in ("zone", "mean", "peak", "share", "dwell", "dwell_p90")),
        rows=tuple(
            (it.zone, write.kind("decimal", it.mean_persons), write.kind("count", it.peak),
             write.kind("percent", it.share), _seconds(it.dwell_p50_s, write), _seconds(it.dwell_p90_s, write))
            for it in rows
        ),
        numbers=tuple((it.zone, it.mean_persons, it.peak, it.share, it.dwell_p50_s, it.dwell_p90_s) for it in rows),
    )  # fmt: skip


def _queues(report: Report, write: Writer) -> Sheet:
    language, rows = write.language, report.kpis.queues
    return Sheet(
        title=text("queues", language),
        head=tuple(text(key, language) for key in ("zone", "length", "peak", "wait")),
        rows=tuple(
            (it.zone, write.kind("decimal", it.length_mean), write.kind("count", it.length_peak),
             _seconds(it.wait_p90_s, write))
            for it in rows
        ),
        numbers=tuple((it.zone, it.length_mean, it.length_peak, it.wait_p90_s) for it in rows),
    )  # fmt: skip


def _stock(report: Report, write: Writer) -> Sheet:
    language, rows = write.language, report.stock
    return Sheet(
        title=text("stock", language),
        head=tuple(text(key, language) for key in ("gtin", "zone", "tags", "counted")),
        rows=tuple(
            (it.gtin, it.zone, write.kind("count", it.tags),
             DASH if it.counted is None else write.kind("count", it.counted))
            for it in rows
        ),
        numbers=tuple((it.gtin, it.zone, it.tags, it.counted) for it in rows),
    )  # fmt: skip


def _notes(report: Report, language: Language, write: Writer) -> tuple[str, ...]:
    notes = [text("coverage_note", language)]
    if report.kpis.other_currencies:
        money = ", ".join(write.money(amount, code) for code, amount in report.kpis.other_currencies.items())
        notes.append(text("others", language, money=money))
    return (*notes, *(_forecast_note(report, language, write) if not report.week else ()))


def _forecast_note(report: Report, language: Language, write: Writer) -> tuple[str, ...]:
    told = report.forecast
    if told is None:
        return ()
    if not told.enough:
        return (text("too_early", language, weeks=told.weeks, least=WEEKS_LEAST),)
    if told.error is None:
        return ()
    share = (
        "" if told.error.mape is None else text("error_share", language, share=write.kind("percent", told.error.mape))
    )
    return (text("error", language, days=told.error.days, mae=write.kind("decimal", told.error.mae), mape=share),)


def _seconds(value: float | None, write: Writer) -> str:
    return DASH if value is None else write.kind("seconds", value)
