"""Writes `docs/events.md` and a JSON Schema for each event type, from the vocabulary itself.

    python -m gateway.commands.reference docs/events.md

The schemas go into `schemas/` beside it. A test holds the committed files to this; nothing here knows what they say.
"""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from gateway.event import STREAMS
from gateway.event_types import EVENT_TYPES, EventType, schema

_INTRODUCTION = """\
# Events

Generated from `gateway/event_types.py` by `make docs`; do not edit.

Every event is a [CloudEvents 1.0](https://cloudevents.io) JSON object. Its bytes are made once, when it is accepted,
and the same bytes are kept, sent and served. A type never changes its meaning; a new meaning is a new version (`.v2`).

## The envelope

| attribute | meaning |
|---|---|
| `specversion` | `"1.0"` |
| `id` | `{gateway}.{stream}.{epoch}.{sequence}`, unique for ever and time-ordered within a stream |
| `source` | `//{tenant}/stores/{store}/{gateway}/{driver}/{device}` |
| `type` | one of the types below |
| `dataschema` | `urn:storefront:{type}`; the schema is `schemas/{type}.json` |
| `time` | best estimate of when it happened, RFC 3339 UTC with milliseconds |
| `recordedtime` | when it was made durable |
| `sequence` | its number in the stream and epoch, without gaps, zero-padded |
| `subject` | what it is about, where that is not a person |
| `zone` | the zone of the shop |
| `srcseq` | the device's own counter, where it has one |
| `bootid`, `monous` | boot of the machine, microseconds since: order and intervals, whatever the clock did |
| `clockq` | how far `time` can be trusted: `ntp`, `rtc`, `unsynced`, `stepped` |
| `replayed` | `true`: read again from quarantine, after what was wrong had been corrected |
| `data` | the fields below |

Money and other exact numbers are decimal strings (`"12.50"`), times are RFC 3339 UTC strings. A field that has its
default is left out, unless the table says *always*. A person appears as a `Shopper` only: never a name, a number or a
card.
"""


def render() -> str:
    """The whole reference as Markdown."""
    parts: dict[str, type[msgspec.Struct]] = {}
    lines = [_INTRODUCTION]
    for stream in STREAMS:
        lines.append(f"## Stream `{stream}`\n")
        lines += [_type(entry, parts) for entry in EVENT_TYPES.values() if entry.stream == stream]
    lines.append("## Parts\n")
    done: set[str] = set()
    while remaining := [name for name in sorted(parts) if name not in done]:
        for name in remaining:
            done.add(name)
            lines.append(f"### {name}\n\n{_doc(parts[name])}\n\n{_table(parts[name], parts)}\n")
    return "\n".join(lines)


def schemas() -> dict[str, str]:
    """File name → JSON Schema text, one for each type."""
    return {f"{name}.json": _schema_text(name) for name in EVENT_TYPES}


def write(target: Path) -> list[Path]:
    """Write the reference and the schemas; a schema of a type that is gone is removed. Returns what was written."""
    folder = target.parent / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    target.write_text(render(), "utf-8")
    wanted = schemas()
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, "utf-8")
    return [target, *(folder / name for name in wanted)]


def _type(entry: EventType, parts: dict[str, type[msgspec.Struct]]) -> str:
    return f"### `{entry.name}`\n\n{_doc(entry.data)}\n\n{_table(entry.data, parts)}\n"


def _table(struct: type[msgspec.Struct], parts: dict[str, type[msgspec.Struct]]) -> str:
    hints = get_type_hints(struct)
    always = not struct.__struct_config__.omit_defaults
    rows = ["| field | value | default |", "|---|---|---|"]
    for field in msgspec.structs.fields(struct):
        value = _value(hints[field.name], parts)
        rows.append(f"| `{field.encode_name}` | {value} | {_default(field, always=always)} |")
    return "\n".join(rows)


def _default(field: msgspec.structs.FieldInfo, *, always: bool) -> str:
    if field.required:
        return "**required**"
    made = field.default_factory is not msgspec.NODEFAULT
    value = field.default_factory() if made else field.default
    empty = value is None or (isinstance(value, tuple | dict | str) and not value)
    text = "" if empty else f"`{msgspec.json.encode(value).decode()}`"
    return f"{text} *always*".strip() if always else text


def _value(hint: Any, parts: dict[str, type[msgspec.Struct]]) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_value(each, parts) for each in arguments if each is not type(None))
    if origin is tuple:
        return f"list of {_value(arguments[0], parts)}"
    if origin is dict:
        return f"object of {_value(arguments[1], parts)}"
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        parts[hint.__name__] = hint
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if hint is Any:
        return "anything"
    return {str: "string", int: "integer", float: "number", bool: "boolean", Decimal: "decimal"}[hint]


def _doc(struct: type) -> str:
    return inspect.cleandoc(struct.__doc__ or "").replace("\n", " ")


def _schema_text(name: str) -> str:
    facts = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"urn:storefront:{name}", "title": name}
    return msgspec.json.format(msgspec.json.encode(facts | _plain(schema(name))), indent=1).decode() + "\n"


def _plain(value: Any) -> Any:
    """Without the names of our classes, which are nobody's business but ours."""
    if isinstance(value, dict):
        return dict(_plain_items(value))
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _plain_items(table: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if key == "title" and isinstance(value, str):
            continue
        yield key, _plain(value)


if __name__ == "__main__":
    for path in write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/events.md")):
        print(path)
