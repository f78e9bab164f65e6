"""A struct as fields of a form, and a form's texts as changes of a file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from config.fields import changes, field_at, fields_of, text_of, texts, value_of
from devices import catalogue
from gateway.errors import Rejected


class Options(msgspec.Struct, kw_only=True):
    """Of every kind."""

    name: str
    power_dbm: Annotated[float, Meta(ge=0, le=33)] | None = None  # how loud
    rounds: int = 10
    mode: Literal["one", "two"] = "one"
    port: Literal[1, 4] = 4
    checked: bool = True
    words: tuple[str, ...] = ()
    places: dict[str, str] = {}
    deep: tuple[dict[str, int], ...] = ()


FIELDS = {field.name: field for field in fields_of(Options)}


def test_kinds_units_bounds_defaults_and_help_come_from_the_struct() -> None:
    kinds = [field.kind for field in FIELDS.values()]
    assert kinds == ["text", "number", "whole", "choice", "choice", "switch", "lines", "pairs", "json"]
    power = FIELDS["power_dbm"]
    assert (power.unit, power.least, power.most, power.help, power.default) == ("dbm", 0, 33, "how loud", "")
    assert FIELDS["rounds"].default == "10" and FIELDS["checked"].default == "on" and FIELDS["name"].required
    assert fields_of(Options, manual="power_dbm = 3  # as the manual says")[1].help == "as the manual says"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("power_dbm", " 20.5 ", 20.5), ("power_dbm", "", None), ("rounds", "7", 7), ("mode", "two", "two"),
        ("port", "1", 1), ("checked", "on", True), ("checked", "", False), ("words", "a\r\n\r\n b ", ["a", "b"]),
        ("places", "1 = door\n2=shelf", {"1": "door", "2": "shelf"}), ("deep", '[{"a": 1}]', [{"a": 1}]),
    ],
)  # fmt: skip
def test_texts_are_read_as_what_they_say(name: str, text: str, value: Any) -> None:
    assert value_of(FIELDS[name], text) == value


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("name", " ", "required"), ("power_dbm", "loud", "number"), ("power_dbm", "nan", "number"),
        ("power_dbm", "1e999", "number"), ("power_dbm", "34", "most"), ("power_dbm", "-1", "least"),
        ("rounds", "1.5", "whole"), ("mode", "three", "choice"), ("port", "2", "choice"), ("places", "door", "pairs"),
        ("places", "1=a\n1=b", "pairs"), ("deep", "{", "json"), ("deep", "7", "json"), ("deep", "[" * 3999, "json"),
        ("name", "x" * 5000, "long"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_its_reason(name: str, text: str, reason: str) -> None:
    with pytest.raises(Rejected) as error:
        value_of(FIELDS[name], text)
    assert (error.value.subject, error.value.reason) == (name, reason)


@given(st.text(max_size=200), st.sampled_from(sorted(FIELDS)))
def test_any_text_is_a_value_or_a_refusal(text: str, name: str) -> None:
    try:
        value_of(FIELDS[name], text)
    except Rejected as error:
        assert error.reason


def test_a_form_that_nobody_touched_changes_nothing_and_defaults_stay_unwritten() -> None:
    table = {"name": "a", "power_dbm": 20, "rounds": 10, "deep": [{"a": 1}]}
    fields = tuple(FIELDS.values())
    assert changes(fields, texts(fields, table), table) == {}


def test_only_what_differs_is_changed_and_what_is_emptied_is_taken_out() -> None:
    table = {"name": "a", "power_dbm": 20, "words": ["x"]}
    fields = tuple(FIELDS.values())
    given = texts(fields, table) | {"power_dbm": "", "checked": "", "words": "x\ny"}
    assert changes(fields, given, table) == {"power_dbm": None, "checked": False, "words": ["x", "y"]}


def test_an_errors_place_finds_its_field() -> None:
    fields = fields_of(Options, "options.")
    assert field_at("options.power_dbm", fields) == "options.power_dbm"
    assert field_at("options.deep[0].a", fields) == "options.deep"
    assert field_at("options.power", fields) == field_at("", fields) == ""


@pytest.mark.parametrize("driver", catalogue.names())
def test_the_defaults_of_every_driver_can_be_shown_and_read_back(driver: str) -> None:
    entry = catalogue.load(driver)
    for field in fields_of(entry.cls.options_type, "options.", manual=entry.manual):
        if field.default:
            assert text_of(field.kind, value_of(field, field.default)) == field.default
