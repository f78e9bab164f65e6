"""`report`: a day's or a week's figures from the journal's read models, in any format."""

from __future__ import annotations

import sys
import time
from datetime import date
from pathlib import Path

from config.loader import journal_path
from devices.plan import plan
from gateway.commands.common import settings_of
from gateway.errors import ConfigError
from gateway.journal.reader import JournalReader
from gateway.projections.kpi_sources import sources_of
from gateway.projections.store_time import StoreTime
from gateway.reports.render import Format, render
from gateway.reports.report import report as make
from gateway.reports.words import Language

_BINARY: tuple[Format, ...] = ("pdf", "xlsx")


def report(
    config: Path | None, day: str, *, week: bool, format: Format, language: Language | None, output: Path | None
) -> int:
    """Write the report to `output`, or to standard output.

    Raises:
        ConfigError: the day is none, or the file cannot be written.
        JournalError: there is no journal to read.
    """
    settings = settings_of(config)
    store_time = StoreTime(settings.gateway.time_zone)
    now_ms = int(time.time() * 1000)
    asked = day or store_time.day(now_ms)
    try:
        asked = date.fromisoformat(asked).isoformat()
        if not 1970 < int(asked[:4]) < 9000:
            raise ValueError
    except ValueError:
        raise ConfigError("report", day, "this is no day", "write it as in 2026-11-22") from None
    if output is None and format in _BINARY and sys.stdout.isatty():
        raise ConfigError("report", format, "this is no text for a terminal", "say where with --output FILE")
    sources = sources_of(settings, plan(settings, str(config or "configuration")))
    with JournalReader(journal_path(settings)) as reader:
        made = make(asked, reader.query, sources, store_time, now_ms, store=settings.gateway.store, week=week)
    content = render(made, format, language or settings.gateway.language)
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return 0
    try:
        output.write_bytes(content)
    except OSError as error:
        raise ConfigError(
            "write report", str(output), error.strerror or str(error), "choose another place with --output"
        ) from error
    print(output)
    return 0
