"""A report as a spreadsheet: CSV for any program, XLSX with a sheet a subject and real numbers.

No cell that came from a device can become a formula. xlsxwriter is loaded here and only when a report is made.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from gateway.projections.kpi import Figure, Name
from gateway.reports.document import Document, Sheet, hour_sheet
from gateway.reports.report import Report
from gateway.reports.words import FIGURES, REASONS, text

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_WIDE = 22


def as_csv(report: Report, document: Document) -> bytes:
    """One line a figure and time: key, name, value, coverage, note. UTF-8 with its mark, for spreadsheets' sake."""
    language = document.language
    file = io.StringIO(newline="")
    write = csv.writer(file, lineterminator="\r\n")
    head = ("day", "figure", "value", "coverage", "note")
    write.writerow([text(head[0], language), text("hour", language), "key", *(text(key, language) for key in head[1:])])
    for name in FIGURES:
        write.writerow([_span(report), "", *_line(name, report.kpis.figures[name], document)])
    for point in report.points:
        for name in FIGURES:
            hour = "" if point.hour is None else f"{point.hour:02d}:00"
            write.writerow([point.day, hour, *_line(name, point.figures[name], document)])
    for sheet in document.sheets:
        write.writerow([])
        write.writerow([_safe(cell) for cell in sheet.head])
        for row in sheet.numbers:
            write.writerow([_safe(cell) if isinstance(cell, str) else _number(cell) for cell in row])
    return file.getvalue().encode("utf-8-sig")


def as_xlsx(report: Report, document: Document) -> bytes:
    """A workbook: figures, hours or days with a chart, and a sheet a table."""
    import xlsxwriter

    file = io.BytesIO()
    book = xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    bold = book.add_format({"bold": True})
    language = document.language
    first = book.add_worksheet(text("figures", language))
    first.set_column(0, 0, _WIDE + 8)
    first.set_column(1, 4, _WIDE)
    first.write_string(0, 0, document.title, bold)
    first.write_string(1, 0, document.subtitle)
    if document.empty:
        first.write_string(3, 0, document.empty)
    else:
        for column, key in enumerate(("figure", "value", "compared", "coverage", "note")):
            first.write_string(3, column, text(key, language), bold)
        for row, tile in enumerate(document.tiles, 4):
            now, before = report.kpis[tile.name], report.compared[tile.name]
            first.write_string(row, 0, tile.label)
            for column, value in ((1, now.value), (2, before.value), (3, now.coverage)):
                if value is not None:
                    first.write_number(row, column, float(value))
            first.write_string(row, 4, tile.note if not now.at_least else f"{text('at_least', language)} · {tile.note}")
        hours = hour_sheet(report, language)
        _write(book, hours, bold, chart=True)
        for sheet in document.sheets:
            _write(book, sheet, bold)
    for row, note in enumerate(document.notes, 5 + len(document.tiles)):
        first.write_string(row, 0, note)
    book.close()
    return file.getvalue()


def _write(book: Any, sheet: Sheet, bold: Any, *, chart: bool = False) -> None:
    page = book.add_worksheet(sheet.title[:31])
    page.set_column(0, len(sheet.head), _WIDE - 6)
    page.freeze_panes(1, 1)
    for column, cell in enumerate(sheet.head):
        page.write_string(0, column, cell, bold)
    for row, cells in enumerate(sheet.numbers, 1):
        for column, value in enumerate(cells):
            if isinstance(value, str):
                page.write_string(row, column, value)
            elif value is not None:
                page.write_number(row, column, value)
    if chart and sheet.numbers:
        drawn = book.add_chart({"type": "column"})
        names: list[str] = list(FIGURES)
        for name in ("footfall", "transactions"):
            column = 1 + names.index(name)
            drawn.add_series(
                {"name": [page.get_name(), 0, column], "categories": [page.get_name(), 1, 0, len(sheet.numbers), 0],
                 "values": [page.get_name(), 1, column, len(sheet.numbers), column]}
            )  # fmt: skip
        page.insert_chart(len(sheet.numbers) + 2, 0, drawn)


def _line(name: Name, figure: Figure, document: Document) -> Sequence[str]:
    english = document.language == "en"
    note = REASONS[figure.reason][english] if figure.reason else ""
    if figure.at_least:
        note = text("at_least", document.language)
    value = "" if figure.value is None else format(figure.value, "f")
    return [name, FIGURES[name][1][english], value, _number(figure.coverage), note]


def _span(report: Report) -> str:
    return report.first if report.first == report.last else f"{report.first}/{report.last}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}".rstrip("0").rstrip(".")


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
