"""Sources: from a transport's bytes to items in the inlet, and acknowledgements only after the commit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from decimal import Decimal

import pytest

from config.settings import PresenceSettings
from devices.source import Intake, MqttSource, SerialSource, delivery_key
from devices.topic import TopicTable
from devices.transports.mqtt import Delivery
from gateway.clock import FakeClock, Instant
from gateway.errors import Unavailable
from gateway.event import STREAMS, Draft, Origin
from gateway.event_types import ConsentGranted, ConsentWithdrawn, Totals
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.intake.normaliser import Normaliser
from gateway.intake.person import Identity, Subject
from gateway.intake.place import Place
from gateway.intake.reading import ConsentAct, Points, Sale
from gateway.intake.sightings import Sightings
from tests.devices.source_parts import FakeLine, FakeLink, Keys, made_intake, plans

TAG = bytes.fromhex("BB02220011C9340030751FEB705C5904E3D50D703A76EF7E")
STOP = threading.Event()


@pytest.fixture
def intake() -> Intake:
    return made_intake(capacity=8)


def serial(intake: Intake, line: FakeLine) -> SerialSource:
    (device,) = plans('[[devices]]\nname = "gate"\ndriver = "uhf_m100"\naddress = "/dev/x"\nzone = "door"')
    return SerialSource(device, line, intake)


MQTT = """
[[devices]]
name = "buttons"
driver = "generic_json"
topics = ["b/+"]
[[devices.options.mappings]]
topic = "b/{name}"
reading = "button"
fields = { value = "v" }
fixed = { button = "{name}" }
[[devices]]
name = "smiley"
driver = "generic_json"
topics = ["s/+"]
[[devices.options.mappings]]
topic = "s/{name}"
reading = "feedback"
fields = { score = "v" }
fixed = { question = "q1" }
"""


def taken(intake: Intake) -> list[Item]:
    return intake.inlet.take(100, 0.0, 0.0)


def types(items: list[Item]) -> list[str]:
    return [draft.type for item in items for draft in item.drafts]


def test_bytes_of_a_line_become_an_arrival_and_the_device_is_live(intake: Intake) -> None:
    """Two reads make one arrival; the reader was told to stop and then to poll."""
    line = FakeLine(TAG[:7], TAG[7:] + TAG)
    source = serial(intake, line)
    source.open()
    for _ in range(3):
        source.step(STOP)
    assert types(taken(intake)) == ["store.rfid.arrived.v1"]
    (report,) = intake.board.reports(intake.clock.now())
    assert report.condition == "live" and report.readings == 2
    assert line.written


def test_a_device_that_goes_is_told_with_what_to_do(intake: Intake) -> None:
    """Unplugged is a state with a reason and a hint, and the source ends so that a fresh one opens the line anew."""
    source = serial(intake, FakeLine(TAG, None))
    source.open()
    source.step(STOP)
    with pytest.raises(Unavailable):
        source.step(STOP)
    (report,) = intake.board.reports(intake.clock.now())
    assert (report.condition, report.reason, report.hint) == ("faulted", "the device has gone", "plug it in again")
    with pytest.raises(Unavailable):
        serial(intake, FakeLine(None)).open()


def test_noise_is_counted_on_the_board(intake: Intake) -> None:
    """Bytes that are no frame are shown as skipped, not as readings."""
    source = serial(intake, FakeLine(b"\x00\x01\x02" + TAG))
    source.open()
    source.step(STOP)
    (report,) = intake.board.reports(intake.clock.now())
    assert report.skipped_bytes == 3 and report.readings == 1


class NotNow:
    """Consents that cannot be looked up: the journal is being salvaged."""

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        raise Unavailable("look up consent", "journal", "the writer does not answer")

    def consent(self, act: ConsentAct, at: Instant, happened_s: float) -> ConsentGranted | ConsentWithdrawn:
        raise Unavailable("keep consent", "journal", "the writer does not answer")


def test_a_line_loses_no_sale_because_its_member_cannot_be_looked_up(intake: Intake) -> None:
    """What a line says is said once: the sale is kept without a person; an act that is nothing without is counted."""
    origin = Origin("t1", "0042", "gw01")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), Keys(), NotNow(), currency="CNY")
    intake = Intake(normaliser, Inlet(capacity=8), DeviceBoard(), FakeClock())
    place, at = Place(device="till", path="escpos/till"), intake.clock.now()
    intake.board.register("till", "escpos", "", 60.0)
    sale = Sale(
        sequence="7", member="A-1", identities=(Identity("phone", "13800138000"),), totals=Totals(net=Decimal(5))
    )
    act = ConsentAct(act="withdrawn", identifier="A-1")
    drafts: list[Draft] = []
    intake.take([act, sale, Points(programme="p", points=Decimal(1))], place, at, drafts)
    kept = drafts[0]
    assert kept.type == "store.pos.sale.v1" and b"loyalty" not in kept.body and b"13800" not in kept.body
    assert normaliser.counters.subjects_dropped == 1
    (report,) = intake.board.reports(at)
    assert report.bad == 1


def test_nothing_is_acknowledged_before_its_receipt(intake: Intake) -> None:
    """The broker hears of a message only when the journal has called the receipt."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MQTT), link, intake)
    link.say(1, "b/door", {"v": "single"})
    link.say(2, "b/door", {"v": "single"})
    source.step(STOP)
    (item,) = taken(intake)
    assert types([item]) == ["store.button.pressed.v1"] * 2 and link.acked == []
    assert item.receipt is not None
    item.receipt()
    assert link.acked == [1, 2]


def test_streams_are_acknowledged_apart(intake: Intake) -> None:
    """A stream that the journal refuses does not hold the acknowledgements of a more important one."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MQTT), link, intake)
    link.say(1, "b/door", {"v": "single"})
    link.say(2, "s/exit", {"v": 4})
    source.step(STOP)
    (important,) = intake.inlet.take(100, 0.0, 0.0, STREAMS[:1])
    assert types([important]) == ["store.feedback.given.v1"] and important.receipt is not None
    important.receipt()
    assert link.acked == [2]


def test_poison_goes_to_quarantine_with_its_reason_and_is_acknowledged_after(intake: Intake) -> None:
    """A message that nobody understands stops nothing: it is kept, its device is named, the next one is read."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MQTT), link, intake)
    link.say(1, "b/door", b"{not json")
    link.say(2, "b/door", b"x", fault="longer than 262,144 bytes")
    link.say(3, "b/door", {"v": "single"})
    source.step(STOP)
    items = taken(intake)
    poison = [bad for item in items for bad in item.poison]
    assert [(bad.source, bad.driver, bad.topic) for bad in poison] == [("buttons", "generic_json", "b/door")] * 2
    assert "262,144" in poison[1].reason and types(items) == ["store.button.pressed.v1"] and link.acked == []
    for item in items:
        assert item.receipt is not None
        item.receipt()
    assert sorted(link.acked) == [1, 2, 3]
    assert intake.board.reports(intake.clock.now())[0].quarantined == 2


def test_what_is_of_no_interest_is_acknowledged_at_once(intake: Intake) -> None:
    """Retained state and topics of no device would otherwise come again for ever."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MQTT), link, intake)
    link.say(1, "other/topic", {"v": "single"})
    link.say(2, "b/door", {"v": "single"}, retained=True)
    source.step(STOP)
    assert taken(intake) == [] and link.acked == [1, 2] and source.unrouted == 1


def test_a_full_inlet_keeps_the_session_alive_and_acknowledges_nothing(intake: Intake) -> None:
    """Back-pressure: the link is served but not read; at the stop the broker keeps what was not taken."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MQTT), link, intake)
    for mid in range(1, 17):  # twice what the lane holds
        link.say(mid, "b/door", {"v": "single"})
    stop = threading.Event()
    intake.inlet.offer("mqtt-devices/observations", Item(()))  # something waits already
    stopper = threading.Timer(0.6, stop.set)
    stopper.start()
    source.step(stop)
    stopper.join()
    assert link.idle >= 1 and link.acked == []
    assert types(taken(intake)) == []


def test_a_repeat_is_known_by_packet_topic_and_payload() -> None:
    """The same PUBLISH has the same key; another packet id, topic, payload or device has another."""
    one = Delivery(1, 7, "b/door", b"x")
    assert delivery_key(one, "ble") == delivery_key(Delivery(2, 7, "b/door", b"x", dup=True), "ble")
    assert delivery_key(one, "ble") != delivery_key(one, "other")
    others = (Delivery(1, 8, "b/door", b"x"), Delivery(1, 7, "b/exit", b"x"), Delivery(1, 7, "b/door", b"y"))
    assert delivery_key(one, "ble") not in [delivery_key(other, "ble") for other in others]


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a/+/c", "a/b/c", True), ("a/+/c", "a/b/d", False), ("a/#", "a", True), ("a/#", "a/b/c", True),
        ("a/+", "a", False), ("a/+", "a/", True), ("#", "$SYS/x", False), ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True), ("a/b", "a/b/c", False),
    ],
)  # fmt: skip
def test_topic_filters_match_as_mqtt_says(pattern: str, topic: str, matches: bool) -> None:
    """Section 4.7 of the standard, wildcards and topics that begin with a dollar included."""
    assert TopicTable([[pattern]]).match(topic) == ((0,) if matches else ())
