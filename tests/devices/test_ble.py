"""The advert parser against published vectors, hand-built packets and arbitrary bytes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import ble

DATA = Path(os.environ.get("STOREFRONT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "devices"

# Kinds in the vectors that a shop has no use for; the parser must give nothing at all for them.
NOT_READ = {
    "EddystoneEncryptedTLMFrame", "EstimoteTelemetryFrameA", "EstimoteTelemetryFrameB", "EstimoteNearable",
    "ExposureNotificationFrame", None,
}  # fmt: skip


def vectors(name: str) -> list[dict[str, Any]]:
    """Vectors of a data file; an empty list where the data is absent (the test then skips with its reason)."""
    path = DATA / name
    return json.loads(path.read_text("utf-8"))["vectors"] if path.exists() else []


def only(hex_text: str) -> ble.Frame:
    """The single frame of an advert."""
    (frame,) = ble.frames(bytes.fromhex(hex_text))
    return frame


def as_beacontools(frame: ble.Frame) -> dict[str, Any]:
    """One of our frames under the names that the published vectors use."""
    match frame:
        case ble.EddystoneUid():
            return {"_tx_power": frame.power_0m_dbm, "_namespace": frame.namespace, "_instance": frame.instance}
        case ble.EddystoneUrl():
            return {"_tx_power": frame.power_0m_dbm, "_url": frame.url}
        case ble.EddystoneTlm():
            return {
                "_voltage": None if frame.battery_v is None else round(frame.battery_v * 1000),
                "_temperature": frame.temperature_c,
                "_advertising_count": frame.adverts,
                "_seconds_since_boot": round(
                    frame.uptime_s * 10
                ),  # they take as seconds what the document gives in tenths
            }
        case ble.EddystoneEid():
            return {"_tx_power": frame.power_0m_dbm, "_eid": frame.eid}
        case ble.IBeacon():
            return {
                "_uuid": frame.uuid, "_major": frame.major, "_minor": frame.minor, "_tx_power": frame.power_1m_dbm,
            }  # fmt: skip
    raise AssertionError(f"no vector has a {type(frame).__name__}")


def test_published_adverts_decode_as_beacontools_decodes_them() -> None:
    """Every vector of beacontools gives the same values, or nothing where its kind is not read."""
    cases = vectors("ble_vectors.json")
    if not cases:
        pytest.skip("the device vectors are not beside the project")
    read = 0
    for case in cases:
        found = ble.frames(bytes.fromhex(case["hex"]))
        if case["type"] in NOT_READ:
            assert found == (), case["test"]
        else:
            (frame,) = found
            assert as_beacontools(frame) == case["properties"], case["test"]
            read += 1
    assert read == 7


def test_published_ibeacon_manufacturer_data() -> None:
    """Manufacturer data alone is read, and a clone's battery voltage is not taken for a power."""
    path = DATA / "ble_vectors.json"
    if not path.exists():
        pytest.skip("the device vectors are not beside the project")
    for case in json.loads(path.read_text("utf-8"))["ibeacon_manufacturer_data"]:
        frame = ble.manufacturer_frame(bytes.fromhex(case["hex"]))
        assert frame == ble.IBeacon(case["uuid"], case["major"], case["minor"], case.get("tx_power"))


def test_protocol_vectors() -> None:
    """Every ble-* protocol vector decodes to what independent decoders said."""
    cases = {case["id"]: case for case in vectors("protocol_vectors.json") if case["id"].startswith("ble-")}
    if not cases:
        pytest.skip("the protocol vectors are not beside the project")
    for name, case in cases.items():
        frame, decoded = only(case["hex"]), case["decoded"]
        match frame:
            case ble.IBeacon():
                mine: dict[str, Any] = {
                    "uuid": frame.uuid,
                    "major": frame.major,
                    "minor": frame.minor,
                    "tx1m": frame.power_1m_dbm,
                }
                assert mine == decoded["ibeacon"], name
            case ble.AltBeacon():
                assert (frame.company, frame.beacon_id, frame.power_1m_dbm) == (
                    decoded["altbeacon"]["mfg"], decoded["altbeacon"]["id"], decoded["altbeacon"]["rssi1m"],
                ), name  # fmt: skip
            case ble.EddystoneUid():
                assert {"tx0m": frame.power_0m_dbm, "ns": frame.namespace, "inst": frame.instance} == decoded["uid"], (
                    name
                )
                assert frame.power_1m_dbm == frame.power_0m_dbm - 41
            case ble.EddystoneUrl():
                assert {"tx0m": frame.power_0m_dbm, "url": frame.url} == decoded["url"], name
            case ble.EddystoneTlm():
                assert (frame.battery_v, frame.temperature_c, frame.adverts, frame.uptime_s) == (
                    decoded["tlm"]["mv"] / 1000, decoded["tlm"]["temp"], decoded["tlm"]["adv"], decoded["tlm"]["up_s"],
                ), name  # fmt: skip
            case ble.EddystoneEid():
                assert {"tx0m": frame.power_0m_dbm, "eid": frame.eid} == decoded["eid"], name
            case ble.BtHome():
                values = {each.quantity: each.value for each in frame.measurements}
                if "illuminance" in values:
                    values["lux"] = values.pop("illuminance")
                assert {"encrypted": 0, "pid": frame.packet_id, **values} == decoded["bthome"], name
    assert {type(only(case["hex"])).__name__ for case in cases.values()} == {
        "IBeacon", "AltBeacon", "EddystoneUid", "EddystoneUrl", "EddystoneTlm", "EddystoneEid", "BtHome",
    }  # fmt: skip


def test_an_unknown_bthome_object_stops_cleanly() -> None:
    """Objects before an unknown id are kept, nothing after it is guessed, and the packet says that it is cut."""
    frame = ble.service_frame(0xFCD2, bytes.fromhex("40 00 07 01 64 ED 45 FA 00"))
    assert frame == ble.BtHome(False, 7, (ble.Measurement(0x01, "battery", 100.0, "%"),), complete=False)


def test_signed_scaled_and_counted_bthome_objects() -> None:
    """Negative temperatures, three-byte values and length-counted text are read at their right length."""
    frame = ble.service_frame(0xFCD2, bytes.fromhex("40 02 2E FB 05 13 8A 14 53 03 41 42 43 58 EA 2D 01"))
    assert frame == ble.BtHome(
        False,
        None,
        (
            ble.Measurement(0x02, "temperature", -12.34, "Cel"),
            ble.Measurement(0x05, "illuminance", 13460.67, "lx"),
            ble.Measurement(0x58, "temperature", -7.7, "Cel"),
            ble.Measurement(0x2D, "window", 1.0, "1"),
        ),
    )


def test_an_encrypted_packet_says_nothing_but_that() -> None:
    """Nothing of an encrypted BTHome packet is taken for a value."""
    assert ble.service_frame(0xFCD2, bytes.fromhex("41 A4 72 66 C9 5F 73 00 11 22 33 78 23 72 14")) == ble.BtHome(True)


@pytest.mark.parametrize(
    "advert",
    [
        "",
        "00",
        "1AFF4C000215",  # iBeacon cut after its head
        "0201061AFF4C000215FDA50693A4E24FB1AFCFC6EB07647825271BF206",  # one byte short
        "0B16AAFE10EE0F676F6F2E67",  # URL with scheme 15
        "0816AAFE10EE03671F67",  # URL with a reserved byte
        "0416D2FC20",  # BTHome version 1
        "0216AA",  # service data shorter than its UUID
        "0716AAFE3001020304",  # EID cut
        "0A FF 4C 00 10 05 0B 1C 8D 3A 11",  # Apple continuity
    ],
)
def test_what_is_no_known_frame_gives_nothing(advert: str) -> None:
    """Cut, padded, foreign and reserved adverts give no frame."""
    assert ble.frames(bytes.fromhex(advert)) == ()


@given(st.binary(max_size=300))
def test_arbitrary_bytes_never_raise(data: bytes) -> None:
    """Whatever the radio heard, parsing ends with frames or none, as an advert and as each kind of data."""
    assert isinstance(ble.frames(data), tuple)
    ble.manufacturer_frame(data)
    for uuid in (0xFEAA, 0xFCD2, 0x180F):
        ble.service_frame(uuid, data)


@given(st.binary(max_size=40), st.sampled_from([b"\xff\x4c\x00\x02\x15", b"\x16\xaa\xfe", b"\x16\xd2\xfc\x40"]))
def test_arbitrary_bytes_behind_a_good_head_never_raise(tail: bytes, head: bytes) -> None:
    """A good head with hostile bytes behind it ends with at most one frame."""
    body = head + tail
    assert len(ble.frames(bytes((len(body),)) + body)) <= 1
