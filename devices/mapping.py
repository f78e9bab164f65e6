"""A mapping: what configuration says that a message becomes, checked and compiled before the first message comes.

Every error of the configuration begins with its place in the options (`mappings[0].fields.open.path: …`). Also how one
value of a message is turned into what its field wants. Pure: knows no device, no clock and no state.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from devices.key_path import KeyPath, TopicPattern
from devices.payload import MAX_NUMBER, number, zoned_time
from gateway.clock import rfc3339
from gateway.intake.reading import KINDS

Kind = Literal[
    "sensor",
    "contact",
    "button",
    "weight",
    "door_count",
    "feedback",
    "tag_read",
    "scan",
    "device_state",
    "points",
    "consent",
    "custom",
]
Scalar = str | int | float | bool
Sort = Literal["text", "hex", "whole", "number", "decimal", "truth", "any"]
Clock = Literal["rfc3339", "epoch_s", "epoch_ms"]

OWN = frozenset({"device_at", "device_seq", "device_boot"})  # a reading's own: time, seq and boot say these
SUBJECT = "$subject"

_NUMERIC: tuple[Sort, ...] = ("whole", "number", "decimal")
_SORTS: dict[object, Sort] = {str: "text", int: "whole", float: "number", Decimal: "decimal", bool: "truth"}
_HEX_FIELDS = frozenset({"epc", "pc", "tid"})  # of a tag_read, which promises upper-case hex
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII)
_HEX = re.compile(r"(?:[0-9A-F]{2}){1,64}")
_EVENT_TYPE = re.compile(r"store(\.[a-z0-9_]+){2,}\.v[1-9][0-9]*")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_TRUTHS = {"true": True, "on": True, "1": True, "yes": True, "false": False, "off": False, "0": False, "no": False}
_MAX_TEXT = 4096
_LATEST_S = 253_402_300_799  # the end of year 9999


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where one field of a reading comes from and how its value is turned; see the manual of `generic_json`."""

    path: str
    scale: float | None = None
    offset: float | None = None
    invert: bool = False
    map: dict[str, Scalar] = msgspec.field(default_factory=dict)
    cumulative: bool = False
    time: Clock | None = None


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the device's own time is and how it is written."""

    path: str
    format: Clock


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to make of the messages of one topic; see the manual of `generic_json`."""

    topic: str
    reading: Kind
    payload: Literal["json", "text"] = "json"
    each: str = ""
    when: dict[str, Scalar | list[Scalar]] = msgspec.field(default_factory=dict)
    fields: dict[str, str | Field] = msgspec.field(default_factory=dict)
    fixed: dict[str, Scalar] = msgspec.field(default_factory=dict)
    time: Time | None = None
    seq: str = ""
    boot: str = ""
    event_type: str = ""
    subject: str = ""
    missing: Literal["skip", "reject"] = "skip"


class Source(msgspec.Struct, frozen=True):
    """A compiled field: its name, what it must become (one of `choices`, if there are any) and where it is."""

    name: str
    sort: Sort
    needed: bool
    choices: tuple[str, ...]
    path: KeyPath
    how: Field


class Rule(msgspec.Struct, frozen=True):
    """A compiled mapping; `index` is its number in the options."""

    index: int
    mapping: Mapping
    topic: TopicPattern
    each: KeyPath | None
    when: tuple[tuple[KeyPath, tuple[Scalar, ...]], ...]
    sources: tuple[Source, ...]
    fixed: tuple[tuple[str, Any], ...]
    time: KeyPath | None
    seq: Source | None
    boot: Source | None

    @property
    def cumulative(self) -> bool:
        """True if a field counts from message to message."""
        return any(source.how.cumulative for source in self.sources)


class Wrong(Exception):
    """A value in a message that its mapping cannot use; the text ends with the value's place."""


def compiled(mapping: Mapping, index: int) -> Rule:
    """A mapping ready for use.

    Raises:
        ValueError: something in it cannot be; begins with its place: `mappings[0].fields.open.path: …`.
    """
    place = f"mappings[{index}]"
    try:
        topic = TopicPattern.parse(mapping.topic)
    except ValueError as error:
        raise ValueError(f"{place}.topic: {error}") from error
    custom = mapping.reading == "custom"
    if custom != bool(mapping.event_type) or (custom and not _EVENT_TYPE.fullmatch(mapping.event_type)):
        raise ValueError(f"{place}.event_type: a custom reading, and no other, needs one like store.shelf.changed.v1")
    if mapping.subject and not custom:
        raise ValueError(f"{place}.subject: only a custom reading has one")
    _check_captures(f"{place}.subject", mapping.subject, topic)
    if mapping.boot and not mapping.seq:
        raise ValueError(f"{place}.boot: says nothing without seq")
    sources = _sources(place, mapping)
    return Rule(
        index=index,
        mapping=mapping,
        topic=topic,
        each=_path(f"{place}.each", mapping.each, mapping, many=True) if mapping.each else None,
        when=tuple(
            (_path(f"{place}.when.{text}", text, mapping), tuple(wanted) if isinstance(wanted, list) else (wanted,))
            for text, wanted in mapping.when.items()
        ),
        sources=sources,
        fixed=_fixed(place, mapping, topic, sources),
        time=_path(f"{place}.time.path", mapping.time.path, mapping) if mapping.time else None,
        seq=_own("device_seq", f"{place}.seq", mapping.seq, mapping),
        boot=_own("device_boot", f"{place}.boot", mapping.boot, mapping),
    )


def turned(found: object, source: Source, where: str) -> Any:
    """A value from a message as its field wants it.

    Raises:
        Wrong: it cannot be that.
    """
    how, sort = source.how, source.sort
    if how.map:
        found = how.map.get(_word(found), found)
    if isinstance(found, dict | list):
        container = "an object" if isinstance(found, dict) else "an array"
        raise Wrong(f"expected a single value, got {container} - at `{where}`")
    if how.time is not None:
        at = point_in_time(found, how.time, where)
        if at is None:
            raise Wrong(f"expected a time with its zone - at `{where}`")
        return rfc3339(at)
    if sort in _NUMERIC or how.scale is not None or how.offset is not None:
        return _scaled(found, source, where)
    if sort == "truth" or how.invert:
        truth = _TRUTHS.get(_word(found).lower())
        if truth is None:
            raise Wrong(f"expected true or false, got {_shown(found)} - at `{where}`")
        return truth != how.invert
    if sort == "any":
        if not isinstance(found, str | bool) and number(found) is None:
            raise Wrong(f"a number of no sane size - at `{where}`")
        return found
    text = _word(found)
    if not isinstance(found, str) and not text:
        raise Wrong(f"a number of no sane size - at `{where}`")
    if not 1 <= len(text) <= _MAX_TEXT:
        raise Wrong(f"expected 1 to {_MAX_TEXT} characters, got {len(text)} - at `{where}`")
    if sort == "hex":
        text = text.upper()
        if not _HEX.fullmatch(text):
            raise Wrong(f"expected 1 to 64 whole bytes in hex - at `{where}`")
    if source.choices and text not in source.choices:
        raise Wrong(f"expected one of {', '.join(source.choices)} - at `{where}`")
    return text


def plain_number(value: Decimal, sort: Sort) -> int | float | Decimal:
    """A number as the type that its field has."""
    whole = value == value.to_integral_value()
    if sort == "decimal":
        return value.quantize(Decimal(1)) if whole else value.normalize()  # 1234.5, not 1234.50000 nor 1E+2
    return int(value) if sort == "whole" or (sort == "any" and whole) else float(value)


def point_in_time(found: object, form: Clock, where: str) -> datetime | None:
    """The device's time, UTC; None for a time without a zone, which cannot be placed.

    Raises:
        Wrong: it is not of that form, or lies outside the calendar.
    """
    if form == "rfc3339":
        try:
            return zoned_time(found if isinstance(found, str) else "")
        except ValueError as error:
            raise Wrong(f"expected an RFC 3339 time - at `{where}`") from error
    exact = _exact(found)
    seconds = exact if exact is None or form == "epoch_s" else exact / 1000
    if seconds is None or not 0 <= seconds <= _LATEST_S:
        raise Wrong(f"expected a time as {form} - at `{where}`")
    return datetime.fromtimestamp(float(seconds), UTC)


def _scaled(found: object, source: Source, where: str) -> int | float | Decimal:
    how, whole = source.how, source.sort == "whole"
    exact = _exact(found)
    if exact is None:
        raise Wrong(f"expected a number, got {_shown(found)} - at `{where}`")
    exact = exact * Decimal(str(1 if how.scale is None else how.scale)) + Decimal(str(how.offset or 0))
    if abs(exact) > MAX_NUMBER or (whole and exact != int(exact)):
        raise Wrong(f"expected a {'whole ' if whole else ''}number of sane size - at `{where}`")
    if how.cumulative and exact < 0:
        raise Wrong(f"a counter cannot be negative - at `{where}`")
    return plain_number(exact, source.sort)


def _word(value: object) -> str:
    """A scalar as text, as JSON writes it; empty for a number of no sane size."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return "" if number(value) is None else str(value)


def _exact(value: object) -> Decimal | None:
    """A number, or a number in a string, exactly; None for anything else."""
    if isinstance(value, str):
        found = Decimal(value.strip()) if _NUMBER.fullmatch(value.strip()) else None
        return found if found is not None and abs(found) <= MAX_NUMBER else None
    sane = number(value)
    return None if sane is None else Decimal(str(sane))


def _shown(value: object) -> str:
    """A value's kind for a reason: never the value itself, which may be somebody's."""
    if isinstance(value, bool):
        return "true or false"
    return "text" if isinstance(value, str) else "a number of no sane size"


def _sources(place: str, mapping: Mapping) -> tuple[Source, ...]:
    sources = []
    for name, given in mapping.fields.items():
        where = f"{place}.fields.{name}"
        how = given if isinstance(given, Field) else Field(path=given)
        sort, needed, choices = _known(where, name, mapping.reading)
        scaled = how.scale is not None or how.offset is not None
        if scaled and sort not in _NUMERIC and sort != "any":
            raise ValueError(f"{where}: scale and offset are for numbers, this is {sort}")
        if how.scale is not None and not 0 < abs(how.scale) <= MAX_NUMBER:
            raise ValueError(f"{where}.scale: must be finite and not 0")
        if how.offset is not None and not abs(how.offset) <= MAX_NUMBER:
            raise ValueError(f"{where}.offset: must be finite")
        if how.cumulative and sort not in _NUMERIC:
            raise ValueError(f"{where}.cumulative: is for numbers, this is {sort}")
        if how.invert and sort not in ("truth", "any"):
            raise ValueError(f"{where}.invert: is for true and false, this is {sort}")
        if how.time is not None and sort not in ("text", "any"):
            raise ValueError(f"{where}.time: makes text, this is {sort}")
        if sum((scaled, how.invert, how.time is not None)) > 1:
            raise ValueError(f"{where}: scale or offset, invert, time: only one of them")
        path = _path(where if isinstance(given, str) else f"{where}.path", how.path, mapping)
        sources.append(Source(name, sort, needed, choices, path, how))
    return tuple(sources)


def _fixed(
    place: str, mapping: Mapping, topic: TopicPattern, sources: tuple[Source, ...]
) -> tuple[tuple[str, Any], ...]:
    fixed = []
    for name, value in mapping.fixed.items():
        where = f"{place}.fixed.{name}"
        sort, needed, choices = _known(where, name, mapping.reading)
        if name in mapping.fields:
            raise ValueError(f"{where}: is in fields too")
        captured = isinstance(value, str) and ("{" in value or "}" in value)
        if captured:
            _check_captures(where, str(value), topic)
            if sort not in ("text", "any") or choices:
                raise ValueError(f"{where}: a capture is free text, which this is not")
            fixed.append((name, value))
            continue
        try:
            source = Source(name, sort, needed, choices, KeyPath("$", (), True), Field(path="$"))
            fixed.append((name, turned(value, source, where)))
        except Wrong as error:
            raise ValueError(f"{where}: {str(error).partition(' - at ')[0]}") from error
    counted = mapping.reading == "door_count" and any(source.how.cumulative for source in sources)
    for name, (_, needed, _choices) in shape(mapping.reading).items():
        given = name in mapping.fields or name in mapping.fixed or (counted and name == "interval_s")
        if needed and not given:
            raise ValueError(f"{place}.fields.{name}: a {mapping.reading} needs it, here or in fixed")
    if not mapping.fields and not mapping.when:
        raise ValueError(
            f"{place}.fields: a mapping that looks at nothing fits every message; give a field or a `when`"
        )
    return tuple(fixed)


def _known(where: str, name: str, reading: Kind) -> tuple[Sort, bool, tuple[str, ...]]:
    if reading == "custom":
        if name in OWN or not _NAME.fullmatch(name):
            raise ValueError(f"{where}: cannot be a data field of an event")
        return "any", False, ()
    known = shape(reading)
    if name not in known:
        raise ValueError(f"{where}: a {reading} has no such field; it has {', '.join(known)}")
    return known[name]


def _own(name: str, where: str, text: str, mapping: Mapping) -> Source | None:
    return Source(name, "text", False, (), _path(where, text, mapping), Field(path=text)) if text else None


def _path(where: str, text: str, mapping: Mapping, *, many: bool = False) -> KeyPath:
    try:
        path = KeyPath.parse(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if path.many and not many:
        raise ValueError(f"{where}: [*] belongs in `each`")
    if many and not path.many:
        raise ValueError(f"{where}: needs a [*]")
    if mapping.payload == "text" and (path.steps or not path.from_root):
        raise ValueError(f"{where}: a text payload has only `$`")
    return path


def _check_captures(where: str, text: str, topic: TopicPattern) -> None:
    rest = re.sub(r"\{(\w+)\}", lambda found: "" if found[1] in topic.captures else found[0], text)
    if "{" in rest or "}" in rest:
        there = ", ".join(topic.captures) or "none"
        raise ValueError(f"{where}: names a capture that the topic does not have (it has: {there})")


@cache
def shape(reading: Kind) -> dict[str, tuple[Sort, bool, tuple[str, ...]]]:
    """The fields of a kind of reading that can be mapped: what each must be, if it must be there, its choices."""
    fields: dict[str, tuple[Sort, bool, tuple[str, ...]]] = {}
    if reading == "custom":
        return fields
    for field in msgspec.structs.fields(KINDS[reading]):
        kind: Any = field.type
        if get_origin(kind) in (Union, UnionType):
            kind = next(each for each in get_args(kind) if each is not type(None))
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        sort: Sort | None = "text" if choices else _SORTS.get(kind)
        if field.name in OWN or sort is None:
            continue
        if reading == "tag_read" and field.name in _HEX_FIELDS:
            sort = "hex"
        fields[field.name] = (sort, field.required, choices)
    return fields
