"""The beacon driver beyond its traces: what may never leave it, options, hostile JSON and bytes."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import catalogue
from devices.driver import Message
from devices.drivers.beacon_gateway import BeaconGateway, BeaconGatewayOptions
from gateway.clock import FakeClock
from gateway.errors import Rejected
from gateway.intake.reading import BeaconSighting, DeviceState, Reading, SensorValue

UUID = "fda50693-a4e2-4fb1-afcf-c6eb07647825"
OWN = "ac:23:3f:a0:32:08"
AT = FakeClock().now()
OPTIONS = BeaconGatewayOptions(
    ibeacon_uuids=(UUID,),
    altbeacon_prefixes=("2f234454",),
    eddystone_namespaces=("8b0ca750095477cb3e77",),
    devices={OWN: "fridge-3"},
)
KEYS = st.sampled_from(
    ["id", "mac", "mac_type", "rssi", "uuid", "major", "minor", "txpower", "manufacturerdata", "servicedata",
     "servicedatauuid", "packet", "button", "open", "tempc", "type", "rawData", "ibeaconUuid", "ibeaconMajor",
     "ibeaconMinor", "ibeaconTxPower", "battery", "temperature"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.sampled_from([UUID, OWN, "Gateway", "iBeacon", "S1", "Unknown", "fcd2", "feaa", "40004e0164050000002d01", 1, -60,
                     "0201061AFF4C000215FDA50693A4E24FB1AFCFC6EB07647825271BF206C5"]),
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8), max_leaves=20
)
MACS = st.integers(0, 2**48 - 1).map(
    lambda bits: ":".join(f"{bits:012x}"[place : place + 2] for place in range(0, 12, 2))
)


def read(
    driver: BeaconGateway, value: Any, topic: str = "home/gw/BTtoMQTT/x", *, retained: bool = False
) -> list[Reading]:
    """Readings of one JSON message."""
    return list(driver.feed(Message(topic, json.dumps(value).encode(), retained), AT))


@given(st.binary(max_size=200), st.sampled_from(["home/gw/BTtoMQTT/x", "x", "", "$SYS/x", "BTtoMQTT"]))
def test_arbitrary_bytes_on_advert_topics_never_raise(payload: bytes, topic: str) -> None:
    """An advert message that cannot be read is counted, not raised: a quarantine would keep somebody's address."""
    driver = BeaconGateway(OPTIONS, "ble")
    driver.feed(Message(topic, payload), AT)
    counters = driver.counters
    assert counters.frames + counters.bad_frames + counters.ignored >= 1


@given(DOCUMENTS)
def test_arbitrary_json_never_raises(document: Any) -> None:
    """No JSON value raises, and whatever comes out can be written as JSON."""
    driver = BeaconGateway(OPTIONS, "ble")
    for reading in read(driver, document):
        msgspec.json.encode(reading)


@given(DOCUMENTS)
def test_a_retained_advert_is_never_a_sighting(document: Any) -> None:
    """What a broker kept of a beacon is not there now."""
    assert read(BeaconGateway(OPTIONS, "ble"), document, retained=True) == []


@given(DOCUMENTS)
def test_an_empty_allow_list_lets_nothing_pass(document: Any) -> None:
    """With no option set there is no reading, whatever the gateway heard."""
    assert read(BeaconGateway(BeaconGatewayOptions(), "ble"), document) == []


@given(MACS, MACS, st.sampled_from([0, 1, 2, 3, None]))
def test_no_mac_leaves_the_driver(mac: str, gateway: str, mac_type: int | None) -> None:
    """Neither the address of a beacon nor that of a gateway is in any reading, in any spelling."""
    plain = {mac.replace(":", ""), gateway.replace(":", "")}
    driver = BeaconGateway(OPTIONS, "ble")
    beacon = {"id": mac, "mac_type": mac_type, "rssi": -60, "uuid": UUID, "major": 1, "minor": 2, "txpower": -59}
    readings = read(driver, beacon, f"home/OMG_{gateway.replace(':', '').upper()}/BTtoMQTT/{mac.replace(':', '')}")
    readings += read(
        driver,
        [
            {"type": "Gateway", "mac": gateway},
            {"type": "iBeacon", "mac": mac, "rssi": -60, "ibeaconUuid": UUID, "ibeaconMajor": 1, "ibeaconMinor": 2},
        ],
    )
    readings += driver.feed(Message(f"home/{gateway}/LWT", b"online"), AT)
    assert any(isinstance(reading, BeaconSighting) for reading in readings)
    for reading in readings:
        text = msgspec.json.encode(reading).decode().lower().replace(":", "").replace("-", "")
        assert not any(each in text.replace(UUID.replace("-", ""), "") for each in plain)


def test_a_bad_state_message_is_rejected() -> None:
    """A gateway's last will that is neither word is shown to a person: it holds no address."""
    with pytest.raises(Rejected, match="neither `online` nor `offline`"):
        BeaconGateway(OPTIONS, "ble").feed(Message("home/gw/LWT", b"gone"), AT)


def test_a_flood_of_packets_does_not_grow_the_memory() -> None:
    """However many different packets a sensor (or an impostor) sends, at most 1,024 are remembered."""
    driver = BeaconGateway(OPTIONS, "ble")
    for count in range(3000):
        readings = read(driver, {"id": OWN, "rssi": -60, "tempc": count / 100})
        assert [type(reading) for reading in readings] == [SensorValue]
    assert len(driver._heard) <= 1024


def test_a_packet_id_that_comes_round_again_is_a_new_statement() -> None:
    """The same packet id is a repeat within the window and news after it."""
    clock, driver = FakeClock(), BeaconGateway(OPTIONS, "ble")
    payload = json.dumps({"id": OWN, "servicedata": "4400a601643a01", "servicedatauuid": "fcd2"}).encode()
    heard = []
    for pause_s in (0.0, 9.0, 9.0, 10.1):
        clock.advance(pause_s)
        heard.append(len(list(driver.feed(Message("home/gw/BTtoMQTT/x", payload), clock.now()))))
    assert heard == [2, 0, 0, 2]


def test_gateway_state_is_read_also_when_retained() -> None:
    """Online and offline are state, so a retained one may be used."""
    driver = BeaconGateway(OPTIONS, "ble")
    assert driver.feed(Message("home/till/LWT", b" Offline\n", True), AT) == [
        DeviceState(state="offline", detail="till")
    ]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"ibeacon_uuids": ["fda5"]}, r"ibeacon_uuids\[0\]: "),
        ({"altbeacon_prefixes": ["2f234454", ""]}, r"altbeacon_prefixes\[1\]: "),
        ({"eddystone_namespaces": ["8b0ca750095477cb3e7g"]}, r"eddystone_namespaces\[0\]: "),
        ({"devices": {"not a mac": "x"}}, r"devices\.not a mac: "),
        ({"devices": {OWN: " "}}, rf"devices\.{OWN}: "),
        ({"devices": {OWN: "a", OWN.upper(): "b"}}, r"devices: the same MAC"),
        ({"devices": {OWN: "a", "000000000000": "a"}}, r"devices: two MACs"),
        ({"receivers": {"gw": ""}}, r"receivers\.gw: "),
        ({"repeat_window_s": 0}, r"repeat_window_s: "),
        ({"max_bytes": 1}, r"max_bytes: "),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], path: str) -> None:
    """Every wrong option is refused with its place first."""
    with pytest.raises(ValueError, match=f"^{path}"):
        msgspec.convert(options, BeaconGatewayOptions)


def test_the_manual_has_a_stanza_that_loads() -> None:
    """The TOML in the manual is accepted as it stands."""
    manual = catalogue.load("beacon_gateway").manual
    stanza = tomllib.loads("\n".join(line[4:] for line in manual[manual.index("    [[devices]]") :].splitlines()))
    (device,) = stanza["devices"]
    msgspec.convert(device["options"], BeaconGatewayOptions)
