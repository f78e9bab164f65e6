"""A camera's lines, zones, masks and two clicked people as fields of a form, and back.

The script over the picture only writes into these fields, so what is saved is the same with and without it. Coordinates
are shares of the picture, 0 to 1. Pure: knows no camera and no file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

MOST = 32  # of each kind
PERSONS = 2
_PAIR = re.compile(r"^\s*([0-9.]{1,20})[\s,]+([0-9.]{1,20})\s*$")
_LEAST_CORNERS, _MOST_CORNERS = 3, 64


class LineRow(msgspec.Struct, frozen=True):
    """A counting line as texts."""

    name: str = ""
    x1: str = ""
    y1: str = ""
    x2: str = ""
    y2: str = ""
    entrance: str = ""
    anchor: str = ""


class ZoneRow(msgspec.Struct, frozen=True):
    """A zone as texts; `corners`: `x y; x y; …`."""

    name: str = ""
    corners: str = ""
    kind: str = "zone"
    anchor: str = ""


class MaskRow(msgspec.Struct, frozen=True):
    """Where nobody is ever detected."""

    corners: str = ""


class PersonRow(msgspec.Struct, frozen=True):
    """A clicked person: y of the feet, and the height."""

    foot: str = ""
    height: str = ""


Row = LineRow | ZoneRow | MaskRow | PersonRow
KINDS: dict[str, type[Row]] = {"line": LineRow, "zone": ZoneRow, "mask": MaskRow, "person": PersonRow}
Rows = dict[str, list[Row]]


def rows_of(options: Mapping[str, Any]) -> Rows:
    """The rows of a camera's options, as they stand in the file."""
    lines: list[Row] = [
        LineRow(
            str(it.get("name", "")), *_texts(it.get("start")), *_texts(it.get("end")), str(it.get("entrance", "")),
            str(it.get("anchor", "")),
        )
        for it in options.get("lines", ())
    ]  # fmt: skip
    zones: list[Row] = [
        ZoneRow(
            str(it.get("name", "")), _corners(it.get("corners", ())), str(it.get("kind", "zone")),
            str(it.get("anchor", "")),
        )
        for it in options.get("zones", ())
    ]  # fmt: skip
    masks: list[Row] = [MaskRow(_corners(corners)) for corners in options.get("masks", ())]
    persons: list[Row] = [PersonRow(*_texts(pair)) for pair in options.get("person_size", ())]
    return {"line": lines, "zone": zones, "mask": masks, "person": persons}


def rows_given(form: Mapping[str, str]) -> Rows:
    """The rows of a form, `line-0-name` and so on; those left empty or marked `line-0-remove` are left out."""
    found: Rows = {}
    for kind, row in KINDS.items():
        found[kind] = []
        names = row.__struct_fields__
        for index in range(PERSONS if kind == "person" else MOST):
            texts = {name: form.get(f"{kind}-{index}-{name}", "").strip()[:4000] for name in names}
            placed = [text for name, text in texts.items() if name not in ("name", "kind", "anchor", "entrance")]
            if f"{kind}-{index}-remove" not in form and (any(placed) or texts.get("name")):
                found[kind].append(row(**texts))
    return found


def options_of(rows: Rows) -> tuple[dict[str, Any], dict[str, str]]:
    """The options that rows stand for, and what is wrong with them: a problem's key by field, as in `line-0-x1`."""
    wrong: dict[str, str] = {}

    def share(field: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            wrong[field] = "share"
        return value

    def named(field: str, text: str) -> str:
        if not text or len(text) > 64 or not text.isprintable():
            wrong[field] = "required"
        return text

    def corners(field: str, text: str) -> list[list[float]]:
        pairs = [_PAIR.match(part) for part in text.replace("\n", ";").split(";") if part.strip()]
        if not _LEAST_CORNERS <= len(pairs) <= _MOST_CORNERS or None in pairs:
            wrong[field] = "corners"
            return []
        return [[share(field, pair[1]), share(field, pair[2])] for pair in pairs if pair is not None]

    options: dict[str, Any] = {"lines": [], "zones": [], "masks": [], "person_size": []}
    for index, line in enumerate(rows["line"]):
        assert isinstance(line, LineRow)
        field = f"line-{index}"
        made: dict[str, Any] = {
            "name": named(f"{field}-name", line.name),
            "start": [share(f"{field}-x1", line.x1), share(f"{field}-y1", line.y1)],
            "end": [share(f"{field}-x2", line.x2), share(f"{field}-y2", line.y2)],
        }
        if (line.x1, line.y1) == (line.x2, line.y2):
            wrong[f"{field}-x2"] = "length"
        options["lines"].append(made | _said(entrance=line.entrance, anchor=line.anchor))
    for index, zone in enumerate(rows["zone"]):
        assert isinstance(zone, ZoneRow)
        field = f"zone-{index}"
        made = {"name": named(f"{field}-name", zone.name), "corners": corners(f"{field}-corners", zone.corners)}
        kind = "" if zone.kind == "zone" else zone.kind
        options["zones"].append(made | _said(kind=kind, anchor=zone.anchor))
    for index, mask in enumerate(rows["mask"]):
        assert isinstance(mask, MaskRow)
        options["masks"].append(corners(f"mask-{index}-corners", mask.corners))
    for index, person in enumerate(rows["person"]):
        assert isinstance(person, PersonRow)
        field = f"person-{index}"
        options["person_size"].append([share(f"{field}-foot", person.foot), share(f"{field}-height", person.height)])
    return options, wrong


def _said(**texts: str) -> dict[str, str]:
    return {name: text for name, text in texts.items() if text}


def _texts(pair: Any) -> tuple[str, str]:
    return (_short(pair[0]), _short(pair[1])) if isinstance(pair, list | tuple) and len(pair) == 2 else ("", "")


def _corners(pairs: Any) -> str:
    return "; ".join(" ".join(_texts(pair)) for pair in pairs)


def _short(value: Any) -> str:
    return repr(value) if isinstance(value, int | float) else ""


def in_words(rows: Rows | None) -> list[str]:
    """Rows in words of the file, for a person to compare."""
    if rows is None:
        return []
    return [
        f"{kind}: " + ", ".join(str(getattr(row, key)) for key in row.__struct_fields__ if getattr(row, key))
        for kind, group in rows.items()
        for row in group
    ]
