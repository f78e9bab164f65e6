"""The generic mapping beyond its traces: errors of configuration, hostile input, and what the manual promises."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import catalogue
from devices.driver import Message
from devices.drivers.generic_json import GenericJson, GenericJsonOptions
from devices.key_path import MISSING, KeyPath, TopicPattern
from gateway import event_types
from gateway.clock import FakeClock
from gateway.errors import Rejected
from gateway.intake.reading import Contact, Custom, DeviceState, DoorCount, Reading, SensorValue

DATA = Path(os.environ.get("STOREFRONT_DATA", Path(__file__).parents[3] / "shared" / "data")) / "devices"
AT = FakeClock().now()


def manual_options() -> GenericJsonOptions:
    """The options of the stanza in the manual."""
    manual = catalogue.load("generic_json").manual
    stanza = "\n".join(line[4:] for line in manual[manual.index("    [[devices]]") :].splitlines())
    (device,) = tomllib.loads(stanza)["devices"]
    return msgspec.convert(device["options"], GenericJsonOptions)


def options(toml: str) -> GenericJsonOptions:
    """Options from TOML, as the configuration gives them."""
    return msgspec.convert(tomllib.loads(toml), GenericJsonOptions)


def feed(driver: GenericJson, topic: str, value: Any, *, retained: bool = False) -> list[Reading]:
    """Readings of one JSON message."""
    return list(driver.feed(Message(topic, json.dumps(value).encode(), retained), AT))


MANUAL = manual_options()
TOPICS = st.sampled_from(
    ["zigbee2mqtt/a", "s/online", "s/events/rpc", "tele/t/LWT", "tele/t/SENSOR", "frigate/door/person", "zebra/r/tags",
     "zebra/DATA/clients/data1event/1", "rsp/controller/events", "$SYS/x", "", "zigbee2mqtt/a/availability",
     "axis/1/event/CameraApplicationPlatform/ObjectAnalytics/Device1Scenario1"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["contact", "battery", "action", "state", "method", "params", "events", "event", "component", "ts", "AM2301",
     "Temperature", "message", "data", "scenario", "totalHuman", "timestamp", "idHex", "antenna", "peakRssi", "reads",
     "tagData", "EPCid", "event_type", "epc_code", "temperature:100", "tC", "facility_id", "location"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
    st.sampled_from(["NotifyEvent", "single_push", "Crossline", "4", "3014", "arrival", "inventory_event", "online",
                     "2026-11-22T10:15:30Z", 1763806530000, "9999-12-31T23:59:59-23:59"]),
)  # fmt: skip
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)


@given(TOPICS, st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_are_read_or_rejected(topic: str, payload: bytes, retained: bool) -> None:
    """No byte string on any topic raises anything but Rejected."""
    driver = GenericJson(MANUAL, "any")
    try:
        driver.feed(Message(topic, payload, retained), AT)
    except Rejected as error:
        assert error.reason
        assert driver.counters.bad_frames == 1
    assert driver.counters.frames + driver.counters.bad_frames + driver.counters.ignored == 1


@given(st.lists(st.tuples(TOPICS, DOCUMENTS), max_size=6))
def test_arbitrary_json_is_read_or_rejected(messages: list[tuple[str, Any]]) -> None:
    """No JSON value raises anything but Rejected, also with counters remembered, and all readings can be written."""
    driver = GenericJson(MANUAL, "any")
    for topic, document in messages:
        try:
            readings = feed(driver, topic, document)
        except Rejected:
            continue
        for reading in readings:
            assert json.loads(msgspec.json.encode(reading))


@given(TOPICS, DOCUMENTS)
def test_a_retained_message_gives_nothing_but_states(topic: str, document: Any) -> None:
    """What a broker kept may say that a device is online, and nothing else."""
    try:
        readings = feed(GenericJson(MANUAL, "any"), topic, document, retained=True)
    except Rejected:
        return
    assert all(isinstance(reading, DeviceState) for reading in readings)


@given(st.text(max_size=30))
def test_any_key_path_compiles_or_says_why(text: str) -> None:
    """A key path is compiled or refused with ValueError, and a compiled one can be used on anything."""
    try:
        path = KeyPath.parse(text)
    except ValueError:
        return
    if not path.many:
        assert path.find({"a": [1]}) is not None


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_topic_pattern_compiles_or_says_why(text: str, topic: str) -> None:
    """A topic filter is compiled or refused with ValueError, and a plain one fits exactly itself."""
    try:
        pattern = TopicPattern.parse(text)
    except ValueError:
        return
    fit = pattern.match(topic)
    if not any(sign in text for sign in "+#{"):
        assert (fit is not None) == (text == topic and not text.startswith("$"))


def test_key_paths_find_what_they_name() -> None:
    """Keys with odd characters, indices, the root and [*] are found; null and absence are missing."""
    value = {"a": {"b.c": [10, {"d e": 5}]}, "n": None, "switch:0": {"tC": 1}, "list": [{"x": 1}, {}, {"x": 3}]}
    assert KeyPath.parse('a."b.c"[1].d e').find(value) == 5
    assert KeyPath.parse("$.switch:0.tC").find(value) == 1
    assert KeyPath.parse("$").find(7) == 7
    for absent in ("n", "a[0]", 'a."b.c"[2]', "zz.y", "list.x"):
        assert KeyPath.parse(absent).find(value) is MISSING, absent
    assert KeyPath.parse("list[*].x").find_all(value) == [("$.list[0].x", 1), ("$.list[2].x", 3)]
    with pytest.raises(TypeError, match=r"at `\$\.a`"):
        KeyPath.parse("a[*]").find_all(value)


def test_topics_fit_as_in_mqtt() -> None:
    """Wildcards, captures of part of a level and of the rest behave as documented; `$SYS` fits nothing."""
    assert TopicPattern.parse("store/{store}/shelf/{shelf}/state").match("store/1/shelf/b 2/state") == {
        "store": "1",
        "shelf": "b 2",
    }
    assert TopicPattern.parse("x/Device1Scenario{n}").match("x/Device1Scenario12") == {"n": "12"}
    assert TopicPattern.parse("z/{name#}").match("z/a/b/c") == {"name": "a/b/c"}
    assert TopicPattern.parse("z/{name#}").match("z") is None
    assert TopicPattern.parse("a/#").match("a") == {}
    assert TopicPattern.parse("+/b").match("a/b/c") is None
    for pattern in ("#", "+/x", "{a}/x", "{a#}", "$SYS/x"):
        assert TopicPattern.parse(pattern).match("$SYS/x") is None


def test_the_manual_reads_the_intel_examples() -> None:
    """The controller's own published example becomes arrivals that are valid events."""
    path = DATA / "intel_rsp" / "inventory_event_notification.json"
    if not path.exists():
        pytest.skip("the Intel RSP examples are not beside the project")
    driver = GenericJson(MANUAL, "rsp")
    readings = list(driver.feed(Message("rsp/controller/events", path.read_bytes()), AT))
    assert len(readings) == 3
    for reading in readings:
        assert isinstance(reading, Custom)
        assert reading.event_type == "store.rfid.arrived.v1"
        assert msgspec.convert(reading.values, event_types.RfidArrived).zone_to == "BackStock"
    for other in sorted(path.parent.glob("*_notification.json")):
        if other != path:
            assert driver.feed(Message("rsp/controller/events", other.read_bytes()), AT) == []


def test_the_manual_never_reads_who_somebody_is() -> None:
    """Nothing of a Frigate event with a recognised face is in any reading, and the count alone is."""
    driver = GenericJson(MANUAL, "cam")
    said = list(driver.feed(Message("frigate/door/person", b"2"), AT))
    for topic in ("frigate/events", "frigate/door/person/snapshot", "frigate/reviews"):
        said += feed(driver, topic, {"type": "end", "after": {"label": "person", "sub_label": ["Canary Name", 0.9]}})
    assert said == [SensorValue(quantity="persons", value=2.0, unit="1", sensor="door")]


def test_a_refused_message_moves_no_counter() -> None:
    """A message that goes to quarantine leaves the marks of cumulative counters where they were."""
    driver = GenericJson(
        options(
            """
            [[mappings]]
            topic = "gate"
            reading = "door_count"
            fields = { entered = { path = "in", cumulative = true } }
            fixed = { line = "n", left = 0 }
            [[mappings]]
            topic = "gate"
            reading = "contact"
            fields = { open = "open" }
            """
        ),
        "gate",
    )
    assert feed(driver, "gate", {"in": 10}) == []
    with pytest.raises(Rejected):
        feed(driver, "gate", {"in": 15, "open": "perhaps"})
    said = feed(driver, "gate", {"in": 16, "open": True})
    assert said == [DoorCount(line="n", entered=6, left=0, interval_s=0.0), Contact(open=True)]


def test_a_flood_of_counters_does_not_grow_the_memory() -> None:
    """However many counters a hostile device makes up, at most 1,024 are remembered."""
    driver = GenericJson(
        options(
            """
            [[mappings]]
            topic = "gate/{line}"
            reading = "door_count"
            fields = { entered = { path = "in", cumulative = true } }
            fixed = { line = "{line}", left = 0 }
            """
        ),
        "gate",
    )
    for count in range(2000):
        feed(driver, f"gate/{count}", {"in": 1})
    assert len(driver._marks) == 1024


def test_readings_of_one_message_have_different_seqs() -> None:
    """The device's counter names one statement, so several statements of a message do not share it."""
    driver = GenericJson(
        options(
            """
            [[mappings]]
            topic = "t"
            reading = "sensor"
            fields = { value = "a" }
            fixed = { quantity = "a", unit = "1" }
            seq = "n"
            [[mappings]]
            topic = "t"
            reading = "sensor"
            each = "b[*]"
            fields = { value = "v" }
            fixed = { quantity = "b", unit = "1" }
            seq = "$.n"
            [[mappings]]
            topic = "t"
            reading = "button"
            fields = { value = "press" }
            seq = "n"
            [[mappings]]
            topic = "t"
            reading = "contact"
            each = "c[*]"
            fields = { open = "open" }
            seq = "n"
            """
        ),
        "t",
    )
    said = feed(
        driver, "t", {"n": 7, "a": 1, "b": [{"v": 1}, {"v": 2}], "press": "x", "c": [{"open": True, "n": "c1"}]}
    )
    assert [reading.device_seq for reading in said] == ["7/0", "7/1/0", "7/1/1", "7", "c1"]


def test_true_is_not_one_in_conditions() -> None:
    """A condition on a number is not met by a truth, nor the other way round."""
    driver = GenericJson(
        options(
            """
            [[mappings]]
            topic = "t"
            reading = "button"
            when = { kind = 1 }
            fields = { value = "v" }
            """
        ),
        "t",
    )
    assert feed(driver, "t", {"kind": True, "v": "x"}) == []
    assert len(feed(driver, "t", {"kind": 1, "v": "x"})) == 1


PRESS = 'topic = "t"\nreading = "button"\n'
STATE = 'topic = "t"\nreading = "device_state"\n'
GOOD = 'topic = "t"\nreading = "contact"\n'


@pytest.mark.parametrize(
    ("mapping", "place"),
    [
        ('topic = "a/#/b"\nreading = "contact"', r"topic: "),
        ('topic = "t"\nreading = "contact"', r"fields\.open: a contact needs it"),
        (GOOD + 'fields = { open = "a..b" }', r"fields\.open: not a key path"),
        (GOOD + 'fields = { open = { path = "a[" } }', r"fields\.open\.path: not a key path"),
        (GOOD + 'fields = { open = "a[*]" }', r"fields\.open: \[\*\] belongs in `each`"),
        (GOOD + 'each = "a"\nfields = { open = "b" }', r"each: needs a \[\*\]"),
        (GOOD + 'fields = { open = "a", shut = "b" }', r"fields\.shut: a contact has no such field"),
        (GOOD + 'fields = { open = { path = "a", scale = 2 } }', r"fields\.open: scale and offset are for numbers"),
        (GOOD + 'fields = { open = "a" }\nfixed = { open = true }', r"fixed\.open: is in fields too"),
        (GOOD + 'fields = { open = "a" }\nfixed = { sensor = "{x}" }', r"fixed\.sensor: names a capture"),
        (GOOD + 'fields = { sensor = "a" }\nfixed = { open = "perhaps" }', r"fixed\.open: expected true or false"),
        (GOOD + "fixed = { open = true }", r"fields: a mapping that looks at nothing"),
        (GOOD + 'fields = { open = "a" }\nwhen = { "b[" = 1 }', r"when\.b\[: not a key path"),
        (GOOD + 'fields = { open = "a" }\ntime = { path = "", format = "epoch_s" }', r"time\.path: an empty key path"),
        (GOOD + 'fields = { open = "a" }\nboot = "b"', r"boot: says nothing without seq"),
        (GOOD + 'fields = { open = "a" }\nevent_type = "store.a.b.v1"', r"event_type: "),
        (GOOD + 'fields = { open = "a" }\nsubject = "x"', r"subject: only a custom"),
        (GOOD + 'payload = "text"\nfields = { open = "a" }', r"fields\.open: a text payload has only"),
        ('topic = "t"\nreading = "custom"\nfields = { a = "b" }', r"event_type: "),
        ('topic = "t"\nreading = "custom"\nevent_type = "store.a"\nfields = { a = "b" }', r"event_type: "),
        (
            'topic = "t"\nreading = "custom"\nevent_type = "store.a.b.v1"\nfields = { device_at = "b" }',
            r"fields\.device_at: cannot be a data field",
        ),
        (PRESS + 'fields = { value = { path = "a", invert = true } }', r"fields\.value\.invert: "),
        (PRESS + 'fields = { value = { path = "a", cumulative = true } }', r"fields\.value\.cumul"),
        (
            'topic = "t"\nreading = "sensor"\nfields = { value = { path = "a", scale = 0 } }\n'
            'fixed = { quantity = "q", unit = "1" }',
            r"fields\.value\.scale: must be finite and not 0",
        ),
        (
            'topic = "t"\nreading = "sensor"\nfields = { value = { path = "a", offset = inf } }\n'
            'fixed = { quantity = "q", unit = "1" }',
            r"fields\.value\.offset: must be finite",
        ),
        (
            'topic = "t"\nreading = "door_count"\nfields = { entered = "a", left = "b" }\nfixed = { line = "n" }',
            r"fields\.interval_s: a door_count needs it",
        ),
        (STATE + 'fixed = { state = "up" }\nwhen = { a = 1 }', r"fixed\.state: expected one of"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_named_by_its_place(mapping: str, place: str) -> None:
    """Every wrong mapping is refused, and the error begins with where it is."""
    good = '[[mappings]]\ntopic = "t"\nreading = "button"\nfields = { value = "v" }\n'
    with pytest.raises(ValueError, match=rf"^mappings\[1\]\.{place}"):
        options(f"{good}[[mappings]]\n{mapping}\n")


def test_options_without_sense_are_refused() -> None:
    """No mapping at all, an unknown key and a senseless size are errors of the configuration."""
    with pytest.raises(ValueError, match=r"^mappings: "):
        GenericJsonOptions(mappings=())
    with pytest.raises(ValueError, match=r"^max_bytes: "):
        GenericJsonOptions(mappings=MANUAL.mappings, max_bytes=1)
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `topics` - at `\$\.mappings\[0\]`"):
        options('[[mappings]]\ntopics = "t"\ntopic = "t"\nreading = "button"\nfields = { value = "v" }\n')
