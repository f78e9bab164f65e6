"""One figure of a bench: what is measured, its limit, the peer's value, ours, and whether the limit holds.

A bench that ends with a line of JSON with a list `figures` (see `Figure.as_json`) appears with them in the table of
`python -m bench`. Knows no bench.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

import msgspec


class Figure(msgspec.Struct, frozen=True):
    """One line of the table. `met`: None where there is no limit to hold."""

    figure: str
    limit: str
    peer: str
    ours: str
    met: bool | None

    def as_json(self) -> dict[str, object]:
        """For the last line of a bench."""
        return msgspec.structs.asdict(self)


_HEAD = ("figure", "limit", "peer", "ours", "met?")


def print_figures(figures: Iterable[Figure]) -> None:
    """A table with aligned columns; nothing but the head when there are none."""
    said = {None: "—", True: "yes", False: "MISSED"}
    rows: list[Sequence[str]] = [_HEAD]
    rows += [(one.figure, one.limit or "—", one.peer or "—", one.ours, said[one.met]) for one in figures]
    widths = [max(_width(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        print("  ".join(text + " " * (width - _width(text)) for text, width in zip(row, widths, strict=True)).rstrip())


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)
