"""The lines and bars of the page as numbers of a drawing: sparklines and the hourly chart.

SVG paths of a few dozen bytes, drawn by attributes alone: the page's policy runs no inline style or script. Where
nobody counted there is a gap, not a zero. Pure; knows no markup and no language.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway.status.today import Hour, Today

SPARK_WIDTH, SPARK_HEIGHT = 100, 24
WIDTH, WALL_WIDTH, BAR_HEIGHT = 440, 900, 110
_HOURS_LEAST, _HOURS_MOST = 12, 24
_HOUR_MS = 3_600_000
_MARGIN = 2.0
_SCALE = (2, 4, 6, 8, 10, 12, 16)


class Spark(msgspec.Struct, frozen=True):
    """A small line: its path, the ground under it, and where its last point is; `last` None when the end is dark."""

    line: str
    area: str
    last: tuple[float, float] | None


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of the chart; heights in its units, None where nothing is known."""

    hour_ms: int
    people: int | None
    high: int
    sales: int | None
    sold_high: int
    usual: float | None
    usual_high: int | None
    expected: float | None  # only for hours that are not over
    expected_high: int | None
    dark: bool  # the hour has begun and nobody counted
    now: bool


class Chart(msgspec.Struct, frozen=True):
    """The hours, and what the highest line of the scale stands for. The drawing is as wide for 12 hours as for 24."""

    bars: tuple[Bar, ...]
    most: int

    @property
    def told(self) -> frozenset[str]:
        """Which of `usual` and `expected` some hour has."""
        return frozenset(
            name for name in ("usual", "expected") if any(getattr(bar, name) is not None for bar in self.bars)
        )


def spark(values: Sequence[float | None]) -> Spark | None:
    """The line of a series in time; None when fewer than two points are known."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    low, high = min(0.0, *known), max(known)
    span = (high - low) or 1.0
    step = SPARK_WIDTH / (len(values) - 1)
    points = [
        None if value is None
        else (index * step, SPARK_HEIGHT - _MARGIN - (value - low) / span * (SPARK_HEIGHT - 2 * _MARGIN))
        for index, value in enumerate(values)
    ]  # fmt: skip
    line, area = "", ""
    run: list[tuple[float, float]] = []
    for point in [*points, None]:
        if point is not None:
            run.append(point)
        elif run:
            path = " ".join(f"{x:.4g} {y:.4g}" for x, y in run)
            line += f"M{path}" if len(run) > 1 else f"M{path}h.1"
            area += f"M{run[0][0]:.4g} {SPARK_HEIGHT}L{path}V{SPARK_HEIGHT}z" if len(run) > 1 else ""
            run = []
    end = points[-1]
    return Spark(line, area, None if end is None else (round(end[0], 1), round(end[1], 1)))


def chart(today: Today, now_ms: int) -> Chart | None:
    """The day by the hour; None before anything is known of it.

    At least twelve hours, so that the picture is steady; the newest 24 on a day of 25.
    """
    hours = {hour.hour_ms: hour for hour in today.hours}
    if not hours:
        return None
    first = min(hours)
    last = max(max(hours), first + (_HOURS_LEAST - 1) * _HOUR_MS)
    shown = [hours.get(at, Hour(at, None, None)) for at in range(first, last + 1, _HOUR_MS)][-_HOURS_MOST:]
    most = _rounded_up(
        max(max(it.people_in or 0, it.sales or 0, it.usual or 0.0, it.expected or 0.0) for it in shown)
    )  # fmt: skip
    return Chart(tuple(_bar(hour, most, now_ms) for hour in shown), most)


def _bar(hour: Hour, most: int, now_ms: int) -> Bar:
    begun, over = hour.hour_ms <= now_ms, hour.hour_ms + _HOUR_MS <= now_ms
    expected = None if over else hour.expected
    return Bar(
        hour_ms=hour.hour_ms, people=hour.people_in, high=_height(hour.people_in, most) or 0, sales=hour.sales,
        sold_high=_height(hour.sales, most) or 0, usual=hour.usual, usual_high=_height(hour.usual, most),
        expected=expected, expected_high=_height(expected, most), dark=begun and hour.people_in is None,
        now=begun and not over,
    )  # fmt: skip


def _height(value: float | None, most: int) -> int | None:
    return None if value is None else 0 if value <= 0 else max(2, round(value * BAR_HEIGHT / most))


def _rounded_up(value: float) -> int:
    """A number for the scale, even for its half: 2, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40 …"""
    if value <= _SCALE[0]:
        return _SCALE[0]
    ceiling = 1
    while True:
        for factor in _SCALE:
            if value <= factor * ceiling:
                return factor * ceiling
        ceiling *= 10
