"""A report for a terminal: aligned columns, also where a letter is two columns wide, and bars of blocks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from gateway.reports.document import DASH, Chart, Document
from gateway.reports.words import text

_BAR = 30
_LINES_MOST = 12


def as_text(document: Document) -> str:
    """The report as plain text."""
    lines = [document.title, document.subtitle, ""]
    if document.empty:
        return "\n".join([*lines, document.empty, *document.notes, ""])
    language = document.language
    head = ("", "", text("compared", language), text("change", language), text("note", language))
    rows = [(it.label, it.value, it.compared, it.change, it.note) for it in document.tiles]
    lines += [*_columns([head, *rows], right=(1, 2, 3)), ""]
    for chart in document.charts:
        lines += [chart.title, *_bars(chart), ""]
    for sheet in document.sheets:
        right = tuple(range(1, len(sheet.head)))
        lines += [sheet.title, *_columns([sheet.head, *sheet.rows[:_LINES_MOST]], right)]
        if len(sheet.rows) > _LINES_MOST:
            lines.append(text("more", language, count=len(sheet.rows) - _LINES_MOST))
        lines.append("")
    return "\n".join([*lines, *document.notes, ""])


def _bars(chart: Chart) -> list[str]:
    first = chart.series[0]
    most = max((value for one in chart.series for value in one.values if value is not None), default=0.0)
    rows: list[Sequence[str]] = [("", "", *(one.label for one in chart.series))]
    for index, label in enumerate(chart.labels):
        value = first.values[index]
        bar = "" if value is None or most <= 0 else "█" * round(_BAR * value / most)
        told = (one.values[index] for one in chart.series)
        rows.append((label, bar, *(DASH if it is None else f"{it:,.0f}" for it in told)))
    return _columns(rows, tuple(range(2, 2 + len(chart.series))))


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    widths = [max(_width(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _width(cell))
            cells.append(space + cell if column in right else cell + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def _width(cell: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in cell)
