"""Lines, zones, masks and clicked people go from the file into a form and back unharmed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.status.drawing_form import KINDS, options_of, rows_given, rows_of

DRAWN: dict[str, Any] = {
    "lines": [
        {"name": "main", "start": [0.5, 0.05], "end": [0.512345, 0.95], "entrance": "north"},
        {"name": "side", "start": [0, 1], "end": [1, 1], "anchor": "foot"},
    ],
    "zones": [{"name": "till", "corners": [[0.1, 0.1], [0.9, 0.1], [0.5, 0.9]], "kind": "queue"}],
    "masks": [[[0.0, 0.0], [0.1, 0.0], [0.1, 0.1]]],
    "person_size": [[0.9, 0.35], [0.4, 0.2]],
}


def form_of(options: dict[str, Any]) -> dict[str, str]:
    return {
        f"{kind}-{index}-{name}": getattr(row, name)
        for kind, rows in rows_of(options).items()
        for index, row in enumerate(rows)
        for name in row.__struct_fields__
    }


def test_what_nobody_touched_comes_back_as_it_was() -> None:
    options, wrong = options_of(rows_given(form_of(DRAWN)))
    assert (options, wrong) == (DRAWN, {})


def test_a_row_that_is_removed_or_empty_is_left_out() -> None:
    form = form_of(DRAWN) | {"line-0-remove": "on", "zone-1-name": "", "zone-1-kind": "zone", "zone-1-corners": ""}
    options, wrong = options_of(rows_given(form))
    assert [line["name"] for line in options["lines"]] == ["side"] and len(options["zones"]) == 1 and not wrong


@pytest.mark.parametrize(
    ("field", "text", "problem"),
    [
        ("line-0-x1", "1.2", "share"), ("line-0-x1", "nan", "share"), ("line-0-x1", "left", "share"),
        ("line-0-name", "", "required"), ("line-0-name", "a\x00b", "required"),
        ("zone-0-corners", "0 0; 1 1", "corners"), ("zone-0-corners", "0 0; 1; 2", "corners"),
        ("person-0-height", "", "share"), ("mask-0-corners", "0 0; 1 1; 5 5", "share"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_at_its_field(field: str, text: str, problem: str) -> None:
    _, wrong = options_of(rows_given(form_of(DRAWN) | {field: text}))
    assert wrong == {field: problem}


def test_a_line_without_length_is_no_line() -> None:
    _, wrong = options_of(rows_given(form_of(DRAWN) | {"line-1-x2": "0"}))
    assert wrong == {"line-1-x2": "length"}


NAMES = [f"{kind}-0-{name}" for kind, row in KINDS.items() for name in row.__struct_fields__]


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=40)))
def test_no_form_breaks_it(form: dict[str, str]) -> None:
    options, wrong = options_of(rows_given(form))
    if not wrong:
        msgspec.json.encode(options)
