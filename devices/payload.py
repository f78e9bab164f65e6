"""Reading a hostile MQTT payload as JSON: size, charset, depth and numbers are checked before anyone looks inside.

Whatever arrives, the answer is a plain JSON value or a `Rejected` that says where and why. Knows no device, no topic
plan and no reading.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from devices.driver import Message
from gateway.errors import Rejected

MAX_BYTES = 65_536
MAX_DEPTH = 32
MAX_NUMBER = 1e15  # larger than anything a shop measures, and exact as a float

ShapeT = TypeVar("ShapeT")


def json_value(message: Message, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> object:
    """The payload as plain JSON: dict, list, str, int, float, bool or None.

    `NaN`, `Infinity`, lone surrogates and invalid UTF-8 are not JSON. An empty payload is not JSON either.

    Raises:
        Rejected: it is too large, not UTF-8, not JSON or nested deeper than `max_depth`.
    """
    payload = message.payload
    check_size(message, max_bytes)
    try:
        value: object = msgspec.json.decode(payload)
    except UnicodeDecodeError as error:
        raise _not_utf8("read JSON", message, error) from error
    except msgspec.DecodeError as error:
        raise Rejected("read JSON", message.topic, f"not JSON: {error}", "the device must send JSON") from error
    except RecursionError as error:
        raise _too_deep(message, max_depth) from error
    if payload.count(b"[") + payload.count(b"{") > max_depth and _depth(value) > max_depth:
        raise _too_deep(message, max_depth)
    return value


def check_size(message: Message, max_bytes: int) -> None:
    """Refuse a payload of more than `max_bytes`.

    Raises:
        Rejected: it is larger.
    """
    if len(message.payload) > max_bytes:
        reason = f"{len(message.payload)} bytes, at most {max_bytes} are read"
        raise Rejected("read message", message.topic, reason, "raise options.max_bytes if the device is right")


def shaped(value: object, shape: type[ShapeT], message: Message) -> ShapeT:
    """A plain JSON value as the typed `shape`, strictly: no number in a string, no boolean as a number.

    Raises:
        Rejected: the reason names the path, as in ``Expected `int`, got `str` - at `$[0].antennaPort```.
    """
    try:
        return msgspec.convert(value, type=shape, strict=True)
    except msgspec.ValidationError as error:
        raise Rejected("read message", message.topic, str(error), "see the driver's manual for the shape") from error


def text_value(message: Message, max_bytes: int = MAX_BYTES) -> str:
    """The payload as text without surrounding white space.

    Raises:
        Rejected: it is too large or not UTF-8.
    """
    check_size(message, max_bytes)
    try:
        return message.payload.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise _not_utf8("read text", message, error) from error


def number(value: object) -> float | int | None:
    """A JSON number of sane size; None for everything else, also for booleans."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if -MAX_NUMBER <= value <= MAX_NUMBER else None


def zoned_time(text: str) -> datetime | None:
    """RFC 3339 as an aware UTC datetime, any number of fraction digits; None where the text has no zone.

    A time without a zone cannot be placed (Tasmota sends such), so it is not used.

    Raises:
        ValueError: it is no time at all, or lies outside the calendar.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        return None
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside the calendar") from error


def _depth(value: object) -> int:
    """Nesting of a JSON value; a scalar has none. Not recursive: the value may be hostile."""
    deepest, waiting = 0, [(value, 0)]
    while waiting:
        here, level = waiting.pop()
        if isinstance(here, dict | list):
            deepest = max(deepest, level + 1)
            waiting.extend((child, level + 1) for child in (here.values() if isinstance(here, dict) else here))
    return deepest


def _not_utf8(operation: str, message: Message, error: UnicodeDecodeError) -> Rejected:
    return Rejected(operation, message.topic, f"not UTF-8 at byte {error.start}", "the device must send UTF-8")


def _too_deep(message: Message, max_depth: int) -> Rejected:
    return Rejected("read JSON", message.topic, f"nested deeper than {max_depth}", "no known device nests so deep")
