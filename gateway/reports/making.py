"""Makes one report in a process of its own: what that loads and takes is gone with it, and the page never waits for it.

`python -m gateway.reports.making` reads an `Order` from standard input and writes lines of JSON to standard output: how
much is done, then what was made, after which its bytes follow. Ended from outside, it leaves nothing behind.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from gateway.errors import StorefrontError
from gateway.journal.reader import JournalReader
from gateway.projections.kpi import Sources
from gateway.projections.store_time import StoreTime
from gateway.reports.render import MEDIA_TYPES, Format, file_name, render
from gateway.reports.report import report
from gateway.reports.words import Language

_CPU_S = 120
_NICE = 10
_READ = 0.6  # of the work is reading the figures; the rest is drawing


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted, and all that it takes."""

    journal: str
    day: str
    week: bool
    format: Format
    language: Language
    store: str
    time_zone: str
    now_ms: int
    sources: Sources


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the answer: `done` (0–1), or the file that follows, or why there is none."""

    done: float = 0.0
    name: str = ""
    media_type: str = ""
    size_bytes: int = -1
    empty: bool = False
    error: str = ""


def make(order: Order, out: BinaryIO) -> None:
    """Make it, and write the answer.

    Raises:
        StorefrontError: the journal cannot be read.
    """

    def say(line: Line) -> None:
        out.write(msgspec.json.encode(line) + b"\n")
        out.flush()

    with JournalReader(Path(order.journal)) as reader:
        made = report(
            order.day, reader.query, order.sources, StoreTime(order.time_zone), order.now_ms, store=order.store,
            week=order.week, progress=lambda share: say(Line(done=_READ * share)),
        )  # fmt: skip
    content = render(made, order.format, order.language, lambda share: say(Line(done=_READ + (1 - _READ) * share)))
    say(
        Line(
            done=1.0, name=file_name(made, order.format), media_type=MEDIA_TYPES[order.format],
            size_bytes=len(content), empty=made.empty,
        )
    )  # fmt: skip
    out.write(content)
    out.flush()


def main() -> int:
    """The process."""
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    try:
        make(msgspec.json.decode(sys.stdin.buffer.read(65_536), type=Order), sys.stdout.buffer)
    except BrokenPipeError:
        return 1
    except StorefrontError as error:
        sys.stdout.buffer.write(msgspec.json.encode(Line(error=error.reason)) + b"\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
