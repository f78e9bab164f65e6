"""Trace files as a transport: what a line or a topic said, with its silences, given to a driver by a simulated clock.

Reads the files of `tests/traces/` and whatever a technician recorded: `.hex` (hex bytes in any grouping, `#` comments,
`@ 0.250` lets 0.25 s pass in silence), raw bytes (`.bin`), MQTT messages (`.jsonl`, one object a line: `topic` and one
of `payload` (JSON), `text` or `hex`; optional `retained` and `after_s`). Knows no device and waits for nothing.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from devices.driver import Driver, Message, Options, Wire
from gateway.clock import FakeClock
from gateway.errors import ConfigError, Rejected
from gateway.intake.reading import Reading

RAW_SUFFIXES: Final = (".bin", ".raw", ".dat", ".prn")
MAX_FILE_BYTES: Final = 256 * 2**20
CHUNK_BYTES: Final = 4096  # a raw file is fed in pieces, as a port would give it
TICK_S: Final[dict[Wire, float]] = {"serial": 0.1, "mqtt": 1.0}  # as often as the driver contract promises
MAX_TICKS: Final = 10_000  # of one silence, however long
END_IDLE_S: Final = 30.0  # longer than any frame's or receipt's idle end

_HEX_TEXT: Final = re.compile(rb"(?:[0-9a-fA-FxX\s,:]|@ *[0-9.]+|#[^\n]*)+")
_PREFIX: Final = re.compile(r"\b0[xX](?=[0-9a-fA-F])")


class Silence(msgspec.Struct, frozen=True):
    """Nothing arrives for so long."""

    seconds: float


Step = bytes | Message | Silence


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """One line of a `.jsonl` trace."""

    topic: str
    payload: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    hex: str | None = None
    retained: bool = False
    after_s: float = 0.0


def read_steps(path: Path, wire: Wire) -> list[Step]:
    """The steps of a trace file; `path` may also be a case directory with `input.hex` or `input.jsonl` in it.

    Each line of a `.hex` file is one step, so that a case can keep one frame a line. A file with another ending is
    taken for hex text if it holds nothing else, for raw bytes otherwise; for an mqtt driver every file holds messages.

    Raises:
        ConfigError: the file is absent, too large or malformed; reason and hint name the line.
    """
    operation, subject = "read trace", str(path)
    if path.is_dir():
        inside = [path / name for name in ("input.hex", "input.jsonl", "input.bin") if (path / name).is_file()]
        if not inside:
            raise ConfigError(operation, subject, "is a directory without a trace", "give a .hex, .bin or .jsonl file")
        return read_steps(inside[0], wire)
    suffix = path.suffix.lower()
    if suffix in ((".jsonl",) if wire == "serial" else (".hex", *RAW_SUFFIXES)):
        wants = ".hex (text) or .bin (raw bytes)" if wire == "serial" else ".jsonl, one message a line"
        raise ConfigError(operation, subject, f"a {wire} driver does not read '{suffix}'", f"give it {wants}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(operation, subject, f"is larger than {MAX_FILE_BYTES >> 20} MiB", "cut it into pieces")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            operation, subject, error.strerror or "cannot be read", "check the name and its rights"
        ) from error
    hexadecimal = suffix == ".hex" or (suffix not in RAW_SUFFIXES and _HEX_TEXT.fullmatch(content) is not None)
    if wire == "serial" and not hexadecimal:
        return [content[start : start + CHUNK_BYTES] for start in range(0, len(content), CHUNK_BYTES)]
    try:
        lines = content.decode("utf-8-sig").split("\n")  # not splitlines: a JSON string may hold U+2028
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(
            operation, f"{subject}:{line}", "is not UTF-8 text", "raw bytes belong in a .bin file"
        ) from error
    parse = _hex_steps if wire == "serial" else _message_steps
    return [step for number, line in enumerate(lines, 1) for step in parse(line, f"{subject}:{number}")]


def _hex_steps(line: str, subject: str) -> Iterable[Step]:
    text = line.partition("#")[0].strip()
    if text.startswith("@"):
        return (_silence(text[1:], subject),)
    digits = "".join(_PREFIX.sub("", text).replace(",", " ").replace(":", " ").split())
    if not digits:
        return ()
    try:
        return (bytes.fromhex(digits),)
    except ValueError as error:
        raise ConfigError(
            "read trace",
            subject,
            "an odd number of hex digits" if re.fullmatch("[0-9a-fA-F]+", digits) else "is not hex",
            "write bytes as two hex digits each, or a silence as `@ 0.250`; raw bytes belong in a .bin file",
        ) from error


def _silence(text: str, subject: str) -> Silence:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= 366 * 86_400:
        raise ConfigError("read trace", subject, "is no duration", "write a silence as `@ 0.250` (seconds)")
    return Silence(seconds)


def _message_steps(line: str, subject: str) -> Iterable[Step]:
    if not line.strip():
        return ()
    hint = 'write {"topic": "…"} and one of "payload" (JSON), "text" or "hex"; "retained" and "after_s" if needed'
    try:
        parsed = msgspec.json.decode(line, type=_Line)
        payload = bytes(parsed.payload)
        if (bool(payload), parsed.text is not None, parsed.hex is not None).count(True) != 1:
            raise ValueError("needs exactly one of payload, text and hex")
        if parsed.text is not None:
            payload = parsed.text.encode()
        elif parsed.hex is not None:
            payload = bytes.fromhex(parsed.hex)
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise ConfigError("read trace", subject, str(error), hint) from error
    message = Message(parsed.topic, payload, parsed.retained)
    return (_silence(str(parsed.after_s), subject), message) if parsed.after_s else (message,)


def read_options(path: Path, options_type: type[Options]) -> Options:
    """Driver options from a TOML file: the keys of `[devices.options]` at its top level.

    Raises:
        ConfigError: the file cannot be read, is not TOML or does not fit the driver; the reason names the key.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), options_type)
    except OSError as error:
        raise ConfigError(
            "read driver options", str(path), error.strerror or "cannot be read", "check the name"
        ) from error
    except ValueError as error:  # TOML, UTF-8 and msgspec errors are ValueErrors
        fields = ", ".join(options_type.__struct_fields__)
        raise ConfigError("read driver options", str(path), str(error), f"the options are: {fields}") from error


def replay(
    driver: Driver, steps: Iterable[Step], *, clock: FakeClock | None = None, end_idle_s: float = END_IDLE_S
) -> Iterator[Reading | Rejected]:
    """Drive a fresh driver over a trace as its source would, and yield all that it says, in order.

    Silences call `tick` as often as the contract promises; after the last step `end_idle_s` pass, so that what is ended
    by silence comes out. A message that the driver refuses is yielded as its `Rejected`. What the driver wants to write
    is taken and thrown away.

    Args:
        driver: fresh; it is not closed or reset.
        steps: see `read_steps`.
        clock: simulated time; a new one if None. It runs only in silences.
        end_idle_s: silence after the end, seconds ≥ 0.
    """
    clock = clock or FakeClock()
    driver.outgoing(clock.now())
    for step in itertools.chain(steps, (Silence(end_idle_s),)):
        if isinstance(step, Silence):
            yield from _idle(driver, step.seconds, clock)
            continue
        at = clock.now()
        try:
            readings: list[Reading | Rejected] = list(driver.feed(step, at))
        except Rejected as error:
            readings = [error]
        yield from readings
        driver.outgoing(at)


def _idle(driver: Driver, seconds: float, clock: FakeClock) -> Iterator[Reading]:
    count = min(MAX_TICKS, math.ceil(seconds / TICK_S[driver.wire] - 1e-9))
    for _ in range(count):
        at = clock.advance(seconds / count)
        yield from driver.tick(at)
        driver.outgoing(at)


def outcome_json(outcome: Reading | Rejected) -> dict[str, Any]:
    """A reading as `msgspec.json` writes it, a rejection as `{"type": "rejected", "reason": …}`: JSON values."""
    if isinstance(outcome, Rejected):
        return {"type": "rejected", "reason": outcome.reason}
    decoded: dict[str, Any] = json.loads(msgspec.json.encode(outcome))
    return decoded


__all__ = ["END_IDLE_S", "Message", "Silence", "Step", "outcome_json", "read_options", "read_steps", "replay"]
