"""A settings struct as the fields of a form, and a form's texts back as the values of a file.

What a field takes, its bounds and its default come from the struct, its help from the comment behind it, so a driver's
options need no form of their own. Knows types; no table of the file, no HTTP and no language.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import inspect as types

from gateway.errors import Rejected

Kind = Literal["text", "whole", "number", "choice", "switch", "lines", "pairs", "json"]
_UNITS = ("ms", "s", "dbm", "db", "bytes", "days", "mib", "px", "m")
_LONGEST = 4000  # characters of one field


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One field. `lines`: a list, one a line; `pairs`: `key = value` lines; `json`: a table deeper than that.

    Attributes:
        name: its path below the entry, as in `options.power_dbm`.
        default: what holds when it is left empty, as text; "": nothing.
        choices: of a `choice`; the empty one, where it may be left out, is not among them.
        whole: the members of `lines` are whole numbers.
        help: from the source, in English; "": none.
    """

    name: str
    kind: Kind
    default: str = ""
    required: bool = False
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    whole: bool = False
    help: str = ""

    @property
    def key(self) -> str:
        """The last part of its path."""
        return self.name.rpartition(".")[2]

    @property
    def unit(self) -> str:
        """What its number is counted in, by its name; "" where that says nothing."""
        last = self.key.rpartition("_")[2] if "_" in self.key else ""
        return last if self.kind in ("number", "whole") and last in _UNITS else ""


def fields_of(
    struct: type[msgspec.Struct], prefix: str = "", leave_out: Sequence[str] = (), manual: str = ""
) -> tuple[Field, ...]:
    """The fields of a struct, in its order.

    Args:
        struct: the options.
        prefix: of their names, as in `options.`.
        leave_out: options that have no place in a form.
        manual: text in which lines such as `power_dbm = 20.0  # 0 to 33` explain options; goes before the source.
    """
    try:
        source = inspect.getsource(struct)
    except (OSError, TypeError):  # no source beside the program
        source = ""
    found = []
    for field in msgspec.structs.fields(struct):
        if field.encode_name in leave_out:
            continue
        default = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
        told = _comment(rf"^\s*{field.encode_name}\s*=[^#\n]*#\s*(.+)$", manual) or _comment(
            rf"^\s+{field.name}:[^#\n]*#\s*(.+)$", source
        )
        shape = _shape(types.type_info(field.type))
        plain = "" if default is msgspec.NODEFAULT or default is None else text_of(shape["kind"], default)
        found.append(Field(name=prefix + field.encode_name, default=plain, required=field.required, help=told, **shape))
    return tuple(found)


def text_of(kind: Kind, value: Any) -> str:
    """A value as it stands in a form; "" for None."""
    if value is None:
        return ""
    if kind == "switch":
        return "on" if value else ""
    plain = msgspec.to_builtins(value)
    if kind == "lines" and isinstance(plain, list | tuple):
        return "\n".join(str(one) for one in plain)
    if kind == "pairs" and isinstance(plain, dict):
        return "\n".join(f"{key} = {one}" for key, one in plain.items())
    if kind == "json":
        return json.dumps(plain, ensure_ascii=False, indent=1) if plain else ""
    if isinstance(plain, float) and plain.is_integer() and abs(plain) < 1e15:
        return str(int(plain))
    return str(plain)


def value_of(field: Field, text: str) -> Any:
    """What a form's text says; None where it is left empty.

    Raises:
        Rejected: it says nothing that the field takes; `reason` is a key: required, long, number, whole, least, most,
            choice, pairs, json.
    """
    if len(text) > _LONGEST:
        raise _wrong(field, "long")
    text = text.strip()
    if field.kind == "switch":
        return text == "on"
    if not text:
        if field.required:
            raise _wrong(field, "required")
        return None
    return _READ[field.kind](field, text)


def changes(fields: Sequence[Field], given: Mapping[str, str], table: Mapping[str, Any]) -> dict[str, Any]:
    """What a form changes in a table of the file: new values by field name, None where one is taken out.

    A default that the file does not spell out stays unwritten.

    Raises:
        Rejected: see `value_of`; `subject` is the field's name.
    """
    found: dict[str, Any] = {}
    for field in fields:
        value, old = value_of(field, given.get(field.name, "")), at(table, field.name)
        if value is None:
            if old is not None:
                found[field.name] = None
        elif old is None:
            if text_of(field.kind, value) != field.default:
                found[field.name] = value
        elif value != old:
            found[field.name] = value
    return found


def texts(fields: Sequence[Field], table: Mapping[str, Any]) -> dict[str, str]:
    """A table of the file as a form shows it; where it says nothing, what holds all the same."""
    shown = {}
    for field in fields:
        value = at(table, field.name)
        shown[field.name] = field.default if value is None else text_of(field.kind, value)
    return shown


def at(table: Mapping[str, Any], path: str) -> Any:
    """What stands at a path; None where nothing does."""
    place: Any = table
    for part in path.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def field_at(place: str, fields: Sequence[Field]) -> str:
    """The field that an error's place, below the entry, speaks of; "" where none does."""
    named = [
        field.name for field in fields if place == field.name or place.startswith((f"{field.name}.", f"{field.name}["))
    ]
    return max(named, key=len, default="")


def _comment(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""


def _shape(kind: types.Type) -> dict[str, Any]:
    """What a type takes."""
    if isinstance(kind, types.UnionType):
        inner = [one for one in kind.types if not isinstance(one, types.NoneType)]
        return _shape(inner[0]) if len(inner) == 1 else {"kind": "json"}
    if isinstance(kind, types.Metadata):
        return _shape(kind.type)
    if isinstance(kind, types.BoolType):
        return {"kind": "switch"}
    if isinstance(kind, types.IntType | types.FloatType):
        least = kind.ge if kind.ge is not None else kind.gt
        most = kind.le if kind.le is not None else kind.lt
        return {"kind": "whole" if isinstance(kind, types.IntType) else "number", "least": least, "most": most}
    if isinstance(kind, types.LiteralType):
        choices = tuple(str(value) for value in kind.values if value != "")
        return {"kind": "choice", "choices": choices, "whole": all(isinstance(value, int) for value in kind.values)}
    if isinstance(kind, types.StrType):
        return {"kind": "text"}
    if isinstance(kind, types.VarTupleType | types.ListType):
        member = kind.item_type.type if isinstance(kind.item_type, types.Metadata) else kind.item_type
        if isinstance(member, types.StrType | types.IntType):
            return {"kind": "lines", "whole": isinstance(member, types.IntType)}
    if isinstance(kind, types.DictType) and isinstance(kind.value_type, types.StrType):
        return {"kind": "pairs"}
    return {"kind": "json"}


def _whole(field: Field, text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise _wrong(field, "whole") from error
    return int(_bounded(field, value))


def _number(field: Field, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise _wrong(field, "number") from error
    if not math.isfinite(value):
        raise _wrong(field, "number")
    return _bounded(field, value)


def _bounded(field: Field, value: float) -> float:
    if field.least is not None and value < field.least:
        raise _wrong(field, "least")
    if field.most is not None and value > field.most:
        raise _wrong(field, "most")
    return value


def _choice(field: Field, text: str) -> str | int:
    if text not in field.choices:
        raise _wrong(field, "choice")
    return int(text) if field.whole else text


def _lines(field: Field, text: str) -> list[str] | list[int]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not field.whole:
        return lines
    try:
        return [int(line) for line in lines]
    except ValueError as error:
        raise _wrong(field, "whole") from error


def _pairs(field: Field, text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, sign, value = (part.strip() for part in line.partition("="))
        if not line.strip():
            continue
        if not sign or not key or not value or key in found:
            raise _wrong(field, "pairs")
        found[key] = value
    return found


def _json(field: Field, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(field, "json") from error
    if not isinstance(value, dict | list):
        raise _wrong(field, "json")
    return value


_READ = {
    "text": lambda field, text: text,
    "whole": _whole,
    "number": _number,
    "choice": _choice,
    "lines": _lines,
    "pairs": _pairs,
    "json": _json,
}


def _wrong(field: Field, key: str) -> Rejected:
    return Rejected("read form", field.name, key)
