"""The UHFReader18 / 288 driver: every collected frame, and the conversation with readers of both dialects."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers.uhf_reader18 import (
    Answer,
    Command,
    Reader18Options,
    UhfReader18,
    crc16,
    tag_pushed,
    tags_288,
    tags_reader18,
)
from gateway.clock import FakeClock
from gateway.errors import ProtocolError
from gateway.intake.reading import DeviceState, TagRead

DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).parents[3] / "shared" / "data") / "devices"
INFO_288 = bytes.fromhex("1100210000160C034E001E0A01000000E651")
TAG = bytes.fromhex("1500010304010C49440000000000000A0003346425C0")
PUSH = bytes.fromhex("1400EE00010C30143639F84191AD229016076B6F37")


def answer(command: int, status: int, data: bytes = b"", address: int = 0) -> bytes:
    body = bytes((len(data) + 5, address, command, status)) + data
    return body + crc16(body).to_bytes(2, "little")


def data(name: str) -> Any:
    file = DATA / name
    if not file.is_file():
        pytest.skip("the protocol vectors beside the project are absent (STOREFRONT_DATA)")
    return json.loads(file.read_text("utf-8"))


def test_every_captured_frame_is_read() -> None:
    """Bytes of a real reader: EPC, antenna and raw RSSI as published."""
    vectors = data("uhf_serial_vectors.json")["uhfreader_len_addr_cmd"]
    assert len(vectors) == 5
    for vector in vectors:
        (read,) = UhfReader18(Reader18Options(), "x").feed(bytes.fromhex(vector["hex"]), FakeClock().now())
        assert read == TagRead(epc=vector["epc"], antenna=vector["antenna"], rssi_raw=vector["rssi_raw"])


def test_every_protocol_vector_is_read_or_written() -> None:
    """Answers decode to the published fields; commands are what the driver writes, byte for byte."""
    vectors = [v for v in data("protocol_vectors.json")["vectors"] if v["protocol"].startswith("uhfreader")]
    assert len(vectors) == 10
    for vector in vectors:
        raw, wanted = bytes.fromhex(vector["hex"]), vector["decoded"]
        if "status" not in wanted:
            command = Command(int(wanted["cmd"], 16), bytes.fromhex(wanted["data"]), wanted.get("adr", raw[1]))
            assert command.to_bytes() == raw
            continue
        decoded = Answer.from_bytes(raw)
        assert (decoded.address, decoded.command, decoded.status) == (
            wanted["adr"], int(wanted["cmd"], 16), int(wanted["status"], 16)
        )  # fmt: skip
        assert decoded.data.hex().upper() == wanted["data"]
        reads = [r for r in UhfReader18(Reader18Options(), "x").feed(raw, FakeClock().now()) if isinstance(r, TagRead)]
        tags = wanted.get("tags", [wanted] if "epc" in wanted else [])
        assert [read.epc for read in reads] == [tag if isinstance(tag, str) else tag["epc"] for tag in tags]
        for read, tag in zip(reads, tags, strict=True):
            if not isinstance(tag, str):
                assert read.rssi_raw == tag["rssi_raw"]
                assert read.antenna == wanted["antenna_mask"].bit_length()


def test_the_crc_is_zero_over_a_whole_frame() -> None:
    """The published property, and the published command."""
    assert crc16(TAG) == 0
    assert Command(0x21).to_bytes().hex().upper() == "04FF211995"


@given(st.integers(0, len(TAG) * 8 - 1))
def test_one_wrong_bit_is_never_a_tag(bit: int) -> None:
    """Any single bit, the length included, makes it no frame at all."""
    raw = bytearray(TAG)
    raw[bit // 8] ^= 1 << bit % 8
    driver, clock = UhfReader18(Reader18Options(), "x"), FakeClock()
    assert driver.feed(bytes(raw), clock.now()) == []
    assert driver.tick(clock.advance(1)) == []


@given(st.binary(max_size=80))
def test_no_bytes_break_the_decoders(raw: bytes) -> None:
    """A ProtocolError, None or tags that use every byte; nothing else."""
    try:
        Answer.from_bytes(raw)
    except ProtocolError as error:
        assert error.reason
    for shape in (tags_reader18, tags_288, tag_pushed):
        tags = shape(raw)
        assert tags is None or sum(len(tag.epc) for tag in tags) <= len(raw)


@given(st.lists(st.binary(min_size=1, max_size=31).map(lambda half: half * 2), max_size=6))
def test_both_shapes_come_back(epcs: list[bytes]) -> None:
    """Any EPCs of whole words, in both dialects."""
    epcs = [epc[:62] for epc in epcs]
    bare = bytes((len(epcs),)) + b"".join(bytes((len(epc),)) + epc for epc in epcs)
    assert [tag.epc for tag in tags_reader18(bare) or []] == epcs
    strong = bytes((2, len(epcs))) + b"".join(bytes((len(epc),)) + epc + b"\x50" for epc in epcs)
    tags = tags_288(strong)
    assert tags is not None
    assert [(tag.epc, tag.antenna, tag.rssi_raw) for tag in tags] == [(epc, 2, 0x50) for epc in epcs]


def test_a_right_crc_around_a_wrong_shape_is_not_believed() -> None:
    """A count that does not fit the bytes gives no tag, not even the first."""
    driver = UhfReader18(Reader18Options(), "x")
    assert driver.feed(answer(1, 3, bytes.fromhex("0102" + "0C" + "30" * 12 + "6B")), FakeClock().now()) == []
    assert (driver.counters.frames, driver.counters.bad_frames) == (0, 1)


def test_a_blank_tag_hides_no_other() -> None:
    """An EPC of no bytes says nothing; the tag after it is read."""
    raw = answer(1, 1, bytes.fromhex("0102" + "00" + "55" + "02ABCD" + "56"))
    assert UhfReader18(Reader18Options(), "x").feed(raw, FakeClock().now()) == [
        TagRead(epc="ABCD", antenna=1, rssi_raw=0x56)
    ]


@pytest.mark.parametrize(
    ("ports", "sent", "antenna"),
    [(4, 1, 1), (4, 8, 4), (8, 0x80, 8), (4, 3, None), (4, 0, None), (16, 0, 1), (16, 15, 16), (12, 12, None)],
)
def test_the_antenna_byte_is_a_mask_or_an_index(ports: Any, sent: int, antenna: int | None) -> None:
    """One-hot up to eight ports, an index above; nothing is guessed from a byte that is neither."""
    driver = UhfReader18(Reader18Options(ports=ports), "x")
    (read,) = driver.feed(answer(0xEE, 0, bytes((sent,)) + bytes.fromhex("02ABCD60")), FakeClock().now())
    assert isinstance(read, TagRead)
    assert read.antenna == antenna


def test_another_address_is_another_reader() -> None:
    """With an address of its own the driver does not hear the others on the line."""
    at = FakeClock().now()
    assert UhfReader18(Reader18Options(address=3), "x").feed(TAG, at) == []
    assert UhfReader18(Reader18Options(address=0), "x").feed(TAG, at)
    assert UhfReader18(Reader18Options(), "x").feed(TAG, at)


def steps(driver: UhfReader18, clock: FakeClock, seconds: float) -> list[str]:
    """What it writes in so many seconds without an answer."""
    out = []
    for _ in range(round(seconds * 10)):
        at = clock.advance(0.1)
        driver.tick(at)
        if line := driver.outgoing(at):
            out.append(line.hex().upper())
    return out


def test_a_288_is_asked_set_up_and_polled_antenna_by_antenna() -> None:
    """Information, power, then inventories of each antenna in turn, each after the last one's end."""
    driver, clock = UhfReader18(Reader18Options(address=0, antennas=(1, 3), power_dbm=26), "x"), FakeClock()
    assert driver.outgoing(clock.now())[2] == 0x21
    driver.feed(INFO_288, clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "05002F1A5672"
    driver.feed(answer(0x2F, 0), clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "090001040000800A22DA"
    driver.feed(TAG, clock.now())  # status 03: more follow
    assert driver.outgoing(clock.advance(0.2)) == b""
    driver.feed(bytes.fromhex("0700010101001E4B"), clock.now())
    assert driver.outgoing(clock.now()) == b""  # the rest between two inventories
    assert driver.outgoing(clock.advance(0.1))[6] == 0x82


def test_a_reader18_is_polled_without_data() -> None:
    """Type 09 gets the short inventory; so does a reader that never said what it is."""
    driver, clock = UhfReader18(Reader18Options(address=0), "x"), FakeClock()
    driver.outgoing(clock.now())
    driver.feed(answer(0x21, 0, bytes.fromhex("0209093E001A0A")), clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "040001DB4B"
    silent = UhfReader18(Reader18Options(address=0), "x")
    clock = FakeClock()
    assert silent.outgoing(clock.now())[2] == 0x21
    assert steps(silent, clock, 1) == ["040001DB4B"]


def test_a_reader_that_went_away_is_asked_again() -> None:
    """After five unanswered polls the set-up is repeated: it may have been reset."""
    driver, clock = UhfReader18(Reader18Options(dialect="288", power_dbm=30), "x"), FakeClock()
    driver.outgoing(clock.now())
    commands = [line[4:6] for line in steps(driver, clock, 12)]
    assert commands[:8] == ["2F", "01", "01", "01", "01", "01", "21", "2F"]


def test_a_wrong_dialect_is_noticed() -> None:
    """A 288 whose first answer was lost refuses the short poll and is asked again what it is."""
    driver, clock = UhfReader18(Reader18Options(), "x"), FakeClock()
    driver.outgoing(clock.now())
    assert steps(driver, clock, 0.6)[0][4:6] == "01"
    (fault,) = driver.feed(answer(1, 0xFD), clock.now())
    assert fault == DeviceState(state="fault", detail="status FD: the reader says the command's length is wrong")
    assert steps(driver, clock, 0.2)[0][4:6] == "21"


def test_a_pushing_reader_is_not_polled() -> None:
    """In real-time mode polls are ignored, so none are sent until it has been silent for ten seconds."""
    driver, clock = UhfReader18(Reader18Options(), "x"), FakeClock()
    driver.outgoing(clock.now())
    assert driver.feed(PUSH, clock.advance(1))
    assert steps(driver, clock, 9.5) == []
    assert steps(driver, clock, 1.0) != []


def test_listening_writes_nothing() -> None:
    """Mode listen is silent for ever."""
    assert steps(UhfReader18(Reader18Options(mode="listen"), "x"), FakeClock(), 30) == []


@pytest.mark.parametrize("wrong", [{"address": 256}, {"antennas": (5,)}, {"antennas": ()}, {"power_dbm": 34}, {"q": 16},
                                   {"session": 4}, {"scan_time_s": 0.1}, {"poll_interval_s": -1.0},
                                   {"max_frame_bytes": 500}])  # fmt: skip
def test_a_senseless_option_is_refused(wrong: dict[str, Any]) -> None:
    """The error begins with the field's name."""
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
        Reader18Options(**wrong)
