"""From a report to the bytes of a file, in any format and language. The one door of this room besides `report`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import msgspec

from gateway.reports.as_html import as_html
from gateway.reports.as_pdf import as_pdf
from gateway.reports.as_sheets import as_csv, as_xlsx
from gateway.reports.as_text import as_text
from gateway.reports.document import Document, document
from gateway.reports.report import Progress, Report
from gateway.reports.words import Language

Format = Literal["text", "json", "html", "pdf", "csv", "xlsx"]
FORMATS: tuple[Format, ...] = get_args(Format)
MEDIA_TYPES: dict[Format, str] = {
    "text": "text/plain; charset=utf-8",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
    "csv": "text/csv; charset=utf-8",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}
_RENDERERS: dict[Format, Callable[[Report, Document], bytes]] = {
    "text": lambda _, written: as_text(written).encode(),
    "json": lambda report, _: msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n",
    "html": lambda _, written: as_html(written).encode(),
    "pdf": lambda _, written: as_pdf(written),
    "csv": as_csv,
    "xlsx": as_xlsx,
}


def render(report: Report, format: Format, language: Language, progress: Progress | None = None) -> bytes:
    """The file of a report.

    Args:
        report: what `report` made.
        format: see `FORMATS`; text and HTML are UTF-8.
        language: `zh_CN` or `en`. JSON has no language: names of figures and reasons are keys.
        progress: told 0 and 1, from this thread.
    """
    if progress is not None:
        progress(0.0)
    made = _RENDERERS[format](report, document(report, language))
    if progress is not None:
        progress(1.0)
    return made


def file_name(report: Report, format: Format) -> str:
    """What to call the file, as in `storefront-0042-2026-11-22.pdf`."""
    ending = "txt" if format == "text" else format
    store = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in report.store)
    span = report.first if not report.week else f"{report.first}_{report.last}"
    return f"storefront-{f'{store}-' if store else ''}{span}.{ending}"
