"""The R700 driver beyond its traces: options, hostile JSON and bytes, and what its manual promises."""

from __future__ import annotations

import base64
import json
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import catalogue
from devices.driver import Message
from devices.drivers.impinj_r700 import ImpinjR700, ImpinjR700Options
from gateway.clock import FakeClock
from gateway.errors import Rejected
from gateway.intake.reading import DeviceState, Reading, TagRead

AT = FakeClock().now()
KEYS = st.sampled_from(
    ["timestamp", "eventType", "tagInventoryEvent", "inventoryStatusEvent", "inventoryStatus", "epc", "epcHex", "tid",
     "antennaPort", "peakRssiCdbm", "lastSeenTime", "overflowEvent", "antennaDisconnectedEvent", "x"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=12),
    st.sampled_from(["tagInventory", "3014", "4oARkaUDAGXybMv_", "2026-11-22T10:15:30Z", "running"]),
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=16
)


def read(payload: bytes, *, retained: bool = False, topic: str = "gate") -> list[Reading]:
    """Readings of one message by a fresh driver."""
    return list(ImpinjR700(ImpinjR700Options(), "gate").feed(Message(topic, payload, retained), AT))


def event(**fields: Any) -> bytes:
    """A tagInventory message with these fields."""
    return json.dumps({"eventType": "tagInventory", "tagInventoryEvent": fields}).encode()


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_rejected(payload: bytes) -> None:
    """No byte string raises anything but Rejected."""
    try:
        readings = read(payload)
    except Rejected:
        return
    assert all(isinstance(each, DeviceState) for each in readings)


@given(DOCUMENTS)
def test_arbitrary_json_is_read_or_rejected(document: Any) -> None:
    """No JSON value raises anything but Rejected, and whatever comes out can be written as JSON again."""
    try:
        readings = read(json.dumps(document).encode())
    except Rejected:
        return
    for each in readings:
        assert isinstance(each, TagRead | DeviceState)
        assert json.loads(msgspec.json.encode(each))["type"] in ("tag_read", "device_state")


@given(st.binary(min_size=1, max_size=62))
def test_both_alphabets_and_hex_give_the_same_epc(epc: bytes) -> None:
    """URL-safe base64, plain base64, padded or not, and hex in any case name the same tag."""
    forms: list[dict[str, str]] = [
        {"epc": base64.urlsafe_b64encode(epc).decode()},
        {"epc": base64.urlsafe_b64encode(epc).decode().rstrip("=")},
        {"epc": base64.b64encode(epc).decode()},
        {"epcHex": epc.hex()},
        {"epcHex": epc.hex().upper(), "epc": base64.b64encode(epc).decode()},
    ]
    for form in forms:
        (reading,) = read(event(**form))
        assert isinstance(reading, TagRead)
        assert reading.epc == epc.hex().upper()


@given(DOCUMENTS)
def test_a_retained_message_is_never_a_read(document: Any) -> None:
    """Whatever a broker kept, no tag comes out of it."""
    assert read(json.dumps(document).encode(), retained=True) in ([], [DeviceState(state="online")])


def test_a_refused_array_yields_nothing_and_counts_once() -> None:
    """One bad event refuses its array: nothing of it is given and one bad message is counted."""
    one = ImpinjR700(ImpinjR700Options(), "gate")
    good = json.loads(event(epcHex="3014"))
    with pytest.raises(Rejected) as caught:
        one.feed(Message("gate", json.dumps([good, {"eventType": 5}]).encode()), AT)
    assert "$[1].eventType" in caught.value.reason
    assert (one.counters.frames, one.counters.bad_frames) == (0, 1)


def test_the_manual_has_a_stanza_that_loads() -> None:
    """The TOML in the manual is accepted as it stands."""
    manual = catalogue.load("impinj_r700").manual
    stanza = tomllib.loads("\n".join(line[4:] for line in manual[manual.index("    [[devices]]") :].splitlines()))
    (device,) = stanza["devices"]
    msgspec.convert(device["options"], ImpinjR700Options)


@pytest.mark.parametrize("size", [0, 255, 16 * 1024 * 1024 + 1])
def test_a_senseless_size_is_refused_with_the_field_named(size: int) -> None:
    """A limit that is no limit, or reads nothing, is an error of the configuration."""
    with pytest.raises(ValueError, match=r"^max_bytes: "):
        ImpinjR700Options(max_bytes=size)
