"""The M100 driver: every collected frame, and what it writes to a module that answers, ends or is gone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers.uhf_m100 import Frame, M100Options, Tag, UhfM100
from gateway.clock import FakeClock
from gateway.errors import ProtocolError
from gateway.intake.reading import DeviceState, TagRead

DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).parents[3] / "shared" / "data") / "devices"
STOPPED, NO_TAG = bytes.fromhex("BB01280001002A7E"), bytes.fromhex("BB01FF000115167E")
TAG = bytes.fromhex("BB02220011C9340030751FEB705C5904E3D50D703A76EF7E")


def data(name: str) -> Any:
    file = DATA / name
    if not file.is_file():
        pytest.skip("the protocol vectors beside the project are absent (STOREFRONT_DATA)")
    return json.loads(file.read_text("utf-8"))


def test_every_collected_frame_is_decoded_or_refused() -> None:
    """Fields as published, and the frames with a wrong checksum refused."""
    frames = data("uhf_serial_vectors.json")["m100_yrm100_r200"]
    assert len(frames) == 10
    for vector in frames:
        raw = bytes.fromhex(vector["hex"])
        if not vector["checksum_ok"]:
            with pytest.raises(ProtocolError, match="checksum"):
                Frame.from_bytes(raw)
            continue
        frame = Frame.from_bytes(raw)
        assert (frame.kind, frame.command, len(frame.params)) == (
            vector["type"],
            vector["command"],
            vector["param_len"],
        )
        assert frame.to_bytes() == raw
        if "epc" in vector:
            tag = Tag.from_params(frame.params)
            assert (tag.rssi_dbm, tag.pc.hex(), tag.epc.hex()) == (
                vector["rssi_dbm"], vector["pc"].lower(), vector["epc"].lower()
            )  # fmt: skip


def test_every_protocol_vector_is_decoded_or_refused() -> None:
    """Commands are also what the driver would write, byte for byte; the stream vector resynchronises."""
    vectors = [vector for vector in data("protocol_vectors.json")["vectors"] if vector["protocol"].startswith("m100")]
    assert len(vectors) == 18
    for vector in vectors:
        raw, wanted = bytes.fromhex(vector["hex"]), vector["decoded"]
        if "reject" in wanted:
            with pytest.raises(ProtocolError):
                Frame.from_bytes(raw)
        elif "frames" in wanted:
            driver = UhfM100(M100Options(), "vector")
            readings = driver.feed(raw, FakeClock().now())
            assert [type(reading) for reading in readings] == [TagRead, DeviceState]
            assert driver.counters.frames == len(wanted["frames"])
        else:
            frame = Frame.from_bytes(raw)
            kind = {"command": 0, "response": 1, "notification": 2}[wanted["type"]]
            assert (frame.kind, frame.command) == (kind, int(wanted["cmd"], 16))
            assert frame.params.hex().upper() == wanted["params"]
            assert Frame(kind, frame.command, bytes.fromhex(wanted["params"]), raw[0]).to_bytes() == raw


@given(st.sampled_from([0xBB, 0xAA]), st.integers(0, 2), st.integers(0, 255), st.binary(max_size=190))
def test_frames_survive_the_line(header: int, kind: int, command: int, params: bytes) -> None:
    """What is written is what is read."""
    frame = Frame(kind, command, params, header)
    assert Frame.from_bytes(frame.to_bytes()) == frame


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    """Anything that is no frame is a ProtocolError and nothing else."""
    for decode in (Frame.from_bytes, Tag.from_params):
        try:
            decode(raw)
        except ProtocolError as error:
            assert error.reason


@given(st.integers(8, len(TAG) * 8 - 1))
def test_one_wrong_bit_is_never_a_tag(bit: int) -> None:
    """Any single bit of a tag's frame, header aside, makes it no frame at all."""
    raw = bytearray(TAG)
    raw[bit // 8] ^= 1 << bit % 8
    driver = UhfM100(M100Options(), "bit")
    clock = FakeClock()
    assert driver.feed(bytes(raw), clock.now()) == []
    assert driver.tick(clock.advance(1)) == []


def written(driver: UhfM100, clock: FakeClock, seconds: float, answers: bytes = b"", every_s: float = 0.1) -> list[str]:
    """What the driver writes in so many seconds of 0.1 s ticks, with `answers` coming in all the time."""
    out: list[str] = []
    for _ in range(round(seconds / every_s)):
        at = clock.advance(every_s)
        if answers:
            driver.feed(answers, at)
        driver.tick(at)
        if data := driver.outgoing(at):
            out.append(data.hex().upper())
    return out


def test_it_stops_sets_up_and_polls() -> None:
    """Stop first (a module may still be polling), then region and power, then the multi poll; each after its answer."""
    driver = UhfM100(M100Options(region="eu", power_dbm=26.0), "x")
    clock = FakeClock()
    assert driver.outgoing(clock.now()).hex().upper() == "BB00280000287E"
    driver.feed(TAG + NO_TAG, clock.now())  # still polling: no answer to stop
    assert driver.outgoing(clock.now()) == b""
    driver.feed(STOPPED, clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "BB00070001030B7E"
    driver.feed(Frame(1, 0x07, b"\0").to_bytes(), clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "BB00B600020A28EA7E"
    driver.feed(Frame(1, 0xB6, b"\0").to_bytes(), clock.now())
    assert driver.outgoing(clock.now()).hex().upper() == "BB00270003222710837E"
    assert written(driver, clock, 60, NO_TAG) == []  # it is polling and says so


def test_an_unanswered_command_holds_nothing_up() -> None:
    """A module that does not answer stop still gets its poll, a third of a second later."""
    driver = UhfM100(M100Options(), "x")
    clock = FakeClock()
    assert [driver.outgoing(clock.now()).hex().upper(), *written(driver, clock, 0.5)] == [
        "BB00280000287E", "BB00270003222710837E",
    ]  # fmt: skip


def test_an_ended_poll_is_started_again() -> None:
    """Rounds end silently: after the restart time all begins anew, also the set-up, for it may have been reset."""
    driver = UhfM100(M100Options(rounds=65535, power_dbm=20.0), "x")
    clock = FakeClock()
    driver.outgoing(clock.now())
    written(driver, clock, 3, NO_TAG)
    assert written(driver, clock, 1.8) == []
    assert written(driver, clock, 1.2) == ["BB00280000287E", "BB00B6000207D08F7E", "BB0027000322FFFF4A7E"]


@pytest.mark.parametrize("mode", ["multi", "single"])
def test_an_unheard_module_is_tried_in_both_dialects(mode: Any) -> None:
    """BB … 7E, then AA … DD, in turn, until something answers; then in the dialect of the answer."""
    driver = UhfM100(M100Options(mode=mode), "x")
    clock = FakeClock()
    driver.outgoing(clock.now())
    headers = [line[:2] for line in written(driver, clock, 12)]
    assert {"BB", "AA"} == set(headers)
    driver.feed(Frame(1, 0xFF, b"\x15", 0xAA).to_bytes(), clock.now())
    lines = written(driver, clock, 12)
    assert lines
    assert {line[:2] + line[-2:] for line in lines} == {"AADD"}


def test_single_polls_keep_their_interval() -> None:
    """Mode single asks once an interval, tags or not."""
    driver = UhfM100(M100Options(mode="single", poll_interval_s=0.5), "x")
    clock = FakeClock()
    driver.outgoing(clock.now())
    driver.feed(STOPPED, clock.now())
    lines = written(driver, clock, 10, NO_TAG)
    assert set(lines) == {"BB00220000227E"}
    assert 18 <= len(lines) <= 21


def test_listening_writes_nothing() -> None:
    """A driver that only listens is silent for ever."""
    assert written(UhfM100(M100Options(mode="listen"), "x"), FakeClock(), 30) == []


def test_heartbeats_are_few() -> None:
    """Ten empty rounds a second are one heartbeat in ten seconds."""
    driver = UhfM100(M100Options(), "x")
    clock = FakeClock()
    said = [reading for _ in range(300) for reading in driver.feed(NO_TAG, clock.advance(0.1))]
    assert said == [DeviceState(state="heartbeat")] * 3


def test_a_clone_without_tag_crc_can_be_read() -> None:
    """`check_tag_crc = false` takes the frame on its sum alone."""
    raw = Frame(2, 0x22, bytes.fromhex("C93400" + "30751FEB705C5904E3D50D70" + "0000")).to_bytes()
    assert UhfM100(M100Options(), "x").feed(raw, FakeClock().now()) == []
    (read,) = UhfM100(M100Options(check_tag_crc=False), "x").feed(raw, FakeClock().now())
    assert isinstance(read, TagRead)


def test_bytes_after_the_tag_crc_are_let_be() -> None:
    """Modules with several ports append to the notification; the CRC still vouches for the tag."""
    params = bytes.fromhex("C9340030751FEB705C5904E3D50D703A76")
    (read,) = UhfM100(M100Options(), "x").feed(Frame(2, 0x22, params + b"\x01").to_bytes(), FakeClock().now())
    assert isinstance(read, TagRead)
    assert read.epc == "30751FEB705C5904E3D50D70"


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"rounds": 65536}, {"power_dbm": 40.0}, {"poll_interval_s": 0.0},
                                   {"restart_after_s": 0.0}, {"rssi_offset_db": float("nan")},
                                   {"max_frame_bytes": 8}])  # fmt: skip
def test_a_senseless_option_is_refused(wrong: dict[str, Any]) -> None:
    """The error begins with the field's name."""
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
        M100Options(**wrong)
