"""Trace files: the formats, what is wrong with a bad one, and time that passes only where the trace says so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from devices.driver import Driver, Message, Options
from devices.transports.replay import Silence, outcome_json, read_options, read_steps, replay
from gateway.clock import FakeClock, Instant
from gateway.errors import ConfigError, Rejected
from gateway.intake.reading import Button, Reading


class EchoOptions(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    gap_s: float = 0.5


class Echo(Driver):
    """Says what it is fed, and after half a second of silence says so once."""

    name, wire, options_type = "echo", "serial", EchoOptions

    def __init__(self, wire: str = "serial") -> None:
        super().__init__(EchoOptions(), "echo")
        self.wire = wire  # type: ignore[assignment, misc]
        self.last_s: float | None = None
        self.calls: list[str] = []

    def feed(self, data: bytes | Message, at: Instant) -> Iterable[Reading]:
        self.calls.append("feed")
        self.last_s = at.mono_s
        if isinstance(data, Message):
            if data.payload == b"poison":
                raise Rejected("read", data.topic, "is poison")
            yield Button(value=f"{data.topic} {data.payload.decode()} {data.retained}")
        else:
            yield Button(value=data.hex())

    def tick(self, at: Instant) -> Iterable[Reading]:
        self.calls.append("tick")
        if self.last_s is not None and at.mono_s - self.last_s >= 0.5:
            self.last_s = None
            yield Button(value="idle")

    def outgoing(self, at: Instant) -> bytes:
        self.calls.append("outgoing")
        return b"?"


def values(driver: Driver, steps: Iterable[object], **options: float) -> list[str]:
    return [
        reading.value if isinstance(reading, Button) else f"! {reading.reason}"  # type: ignore[union-attr]
        for reading in replay(driver, steps, **options)  # type: ignore[arg-type]
    ]


def trace(folder: Path, name: str, content: str | bytes) -> Path:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_hex_in_any_grouping(tmp_path: Path) -> None:
    """Spaces, commas, colons, 0x, comments, blank lines, a byte-order mark and Windows line ends are all the same."""
    file = trace(tmp_path, "a.HEX", "\ufeff# note\r\nBB00 22\r\n0xBB, 0x02 # more\r\n\r\nde:ad\r\n@ 0.250\r\n  7e\r\n")
    assert read_steps(file, "serial") == [b"\xbb\0\x22", b"\xbb\x02", b"\xde\xad", Silence(0.25), b"\x7e"]


def test_raw_bytes_are_taken_as_they_are(tmp_path: Path) -> None:
    """A recording of any length comes in pieces, unchanged; an empty one is no step."""
    content = bytes(range(256)) * 50
    steps = read_steps(trace(tmp_path, "a.bin", content), "serial")
    assert b"".join(step for step in steps if isinstance(step, bytes)) == content
    assert len(steps) > 1
    assert read_steps(trace(tmp_path, "b.bin", b""), "serial") == []


def test_messages(tmp_path: Path) -> None:
    """JSON payloads byte for byte, text, hex, retained, delays; line separators inside JSON are no line ends."""
    lines = [
        '{"topic": "a/b", "payload": {"x": 1.50, "n": null}}',
        '{"topic": "t", "text": "on\u2028line", "retained": true}',
        "",
        '{"topic": "h", "hex": "00 ff", "after_s": 1.5}',
        '{"topic": "n", "payload": null}',
        '{"topic": "e", "text": ""}',
    ]
    assert read_steps(trace(tmp_path, "a.jsonl", "\n".join(lines)), "mqtt") == [
        Message("a/b", b'{"x": 1.50, "n": null}'),
        Message("t", "on\u2028line".encode(), True),
        Silence(1.5),
        Message("h", b"\0\xff"),
        Message("n", b"null"),
        Message("e", b""),
    ]


@pytest.mark.parametrize(
    ("name", "wire", "content", "where", "reason", "hint"),
    [
        ("a.hex", "serial", "00\nxx\n", ":2", "is not hex", "two hex digits"),
        ("a.hex", "serial", "00\n\n123\n", ":3", "odd number", "two hex digits"),
        ("a.hex", "serial", "@ soon", ":1", "no duration", "@ 0.250"),
        ("a.hex", "serial", "@ -1", ":1", "no duration", "@ 0.250"),
        ("a.hex", "serial", "@ nan", ":1", "no duration", "@ 0.250"),
        ("a.hex", "serial", b"00\n\xff\xfe", ":2", "not UTF-8", ".bin"),
        ("a.jsonl", "mqtt", '{"topic": "t", "text": "x"}\n{"topic": 1}', ":2", "topic", '{"topic"'),
        ("a.jsonl", "mqtt", "nonsense", ":1", "JSON", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t", "payload": ' + "[" * 100_000, ":1", "recursion", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t"}', ":1", "exactly one", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t", "text": "x", "hex": "00"}', ":1", "exactly one", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t", "hex": "0"}', ":1", "hex", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t", "txt": "0"}', ":1", "txt", '{"topic"'),
        ("a.jsonl", "mqtt", '{"topic": "t", "text": "0", "after_s": -1}', ":1", "no duration", "0.250"),
        ("a.jsonl", "serial", "", "a.jsonl", "serial driver does not read '.jsonl'", ".hex"),
        ("a.hex", "mqtt", "", "a.hex", "mqtt driver does not read '.hex'", ".jsonl"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, name: str, wire: str, content: str | bytes, where: str, reason: str, hint: str
) -> None:
    """The error says file and line, what is wrong, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        read_steps(trace(tmp_path, name, content), wire)  # type: ignore[arg-type]
    assert caught.value.subject.endswith(where)
    assert reason in caught.value.reason
    assert hint in caught.value.hint


def test_a_file_of_another_ending_is_taken_for_what_it_holds(tmp_path: Path) -> None:
    """Hex text is hex text whatever its name; anything else is raw bytes; messages are messages."""
    assert read_steps(trace(tmp_path, "capture.txt", "BB 00 # stop\n@ 0.5\n7E"), "serial") == [
        b"\xbb\x00", Silence(0.5), b"\x7e",
    ]  # fmt: skip
    assert read_steps(trace(tmp_path, "capture", b"\x02ABC\x03"), "serial") == [b"\x02ABC\x03"]
    assert read_steps(trace(tmp_path, "log.json", '{"topic": "t", "text": "x"}'), "mqtt") == [Message("t", b"x")]


def test_an_absent_file_and_a_wrong_directory(tmp_path: Path) -> None:
    """Neither is a traceback."""
    with pytest.raises(ConfigError, match="No such file"):
        read_steps(tmp_path / "gone.hex", "serial")
    with pytest.raises(ConfigError, match="directory without a trace"):
        read_steps(tmp_path, "serial")
    trace(tmp_path, "input.hex", "00")
    assert read_steps(tmp_path, "serial") == [b"\0"]


def test_options_come_from_toml(tmp_path: Path) -> None:
    """The keys of the driver; a wrong one is named and the right ones are listed."""
    assert read_options(trace(tmp_path, "o.toml", "gap_s = 2.0\n"), EchoOptions) == EchoOptions(gap_s=2.0)
    for wrong, why in (("gap = 1", "gap"), ("gap_s = 'x'", "gap_s"), ("gap_s = ", "value"), ("\xff", "o.toml")):
        with pytest.raises(ConfigError, match=why) as caught:
            read_options(trace(tmp_path, "o.toml", wrong), EchoOptions)
        assert "gap_s" in caught.value.hint
    with pytest.raises(ConfigError, match="No such file"):
        read_options(tmp_path / "none.toml", EchoOptions)


def test_silence_ends_what_silence_ends() -> None:
    """In the trace, and after its end, without any real time passing."""
    start = time.monotonic()
    assert values(Echo(), [b"\1", Silence(0.4), b"\2", Silence(3600), b"\3"]) == ["01", "02", "idle", "03", "idle"]
    assert values(Echo(), [b"\1"], end_idle_s=0.4) == ["01"]
    assert time.monotonic() - start < 5


def test_a_source_s_calls_are_made() -> None:
    """`outgoing` first and after every feed and tick; ticks as often as the contract promises."""
    driver = Echo()
    values(driver, [b"\1", Silence(0.25)], end_idle_s=0.0)
    assert driver.calls == ["outgoing", "feed", "outgoing", *["tick", "outgoing"] * 3]
    slow = Echo("mqtt")
    values(slow, [Silence(5)], end_idle_s=0.0)
    assert slow.calls.count("tick") == 5


def test_the_clock_is_the_caller_s() -> None:
    """A given clock is used, and runs only in silences."""
    clock = FakeClock()
    start = clock.now()
    values(Echo(), [b"\1", Silence(2.5), b"\2"], clock=clock, end_idle_s=1.0)  # type: ignore[arg-type]
    assert clock.now().mono_us - start.mono_us == pytest.approx(3_500_000, abs=20)


def test_a_rejected_message_is_an_outcome() -> None:
    """It stands in its place among the readings, and the replay goes on."""
    steps = [Message("a", b"x"), Message("a", b"poison"), Message("a", b"y", True)]
    assert values(Echo("mqtt"), steps) == ["a x False", "! is poison", "a y True", "idle"]


def test_outcomes_are_json() -> None:
    """As the command prints them and the traces keep them."""
    assert outcome_json(Button(value="4")) == {"type": "button", "value": "4"}
    assert outcome_json(Rejected("read", "t", "is poison")) == {"type": "rejected", "reason": "is poison"}
    assert json.dumps(outcome_json(Button(value="4")))
