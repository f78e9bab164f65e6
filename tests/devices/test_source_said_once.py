"""What is said once only: an arrival that presence has decided, whatever becomes of its message, source or session."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from config.settings import PresenceSettings
from devices.driver import Driver, driver
from devices.plan import DevicePlan
from devices.source import Intake, MqttSource
from gateway.clock import FakeClock, Instant
from gateway.errors import Unavailable
from gateway.event import Origin
from gateway.event_types import ConsentGranted, ConsentWithdrawn, Totals
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.intake.normaliser import Normaliser
from gateway.intake.person import Identity, Subject
from gateway.intake.reading import BeaconSighting, Button, ConsentAct, Reading, Sale, TagRead
from gateway.intake.sightings import Sightings
from tests.devices.source_parts import FakeLink, Keys, plans

STOP = threading.Event()
ARRIVED = "store.rfid.arrived.v1"
PRESSED = "store.button.pressed.v1"
EPC = "3034257BF7194E4000001A85"


class Sometimes:
    """Consents that can be looked up at times."""

    away = True

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        if self.away:
            raise Unavailable("look up consent", "journal", "the writer does not answer")
        return None

    def consent(self, act: ConsentAct, at: Instant, happened_s: float) -> ConsentGranted | ConsentWithdrawn:
        raise AssertionError


@driver("words_for_a_test", wire="mqtt", topics=("x/#",))
class Words(Driver):
    """One reading for each word of a message; `bad` fits no event, `sale` names a member."""

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        for word in data.payload.decode().split():
            if word == "sale":
                yield Sale(sequence="7", member="A-1", totals=Totals(net=Decimal(5)))
            elif word == "bug":
                raise KeyError
            elif word == "press":
                yield Button(value="single")
            elif word == "bad":
                yield Button(value="\ud800")
            else:
                yield TagRead(epc=word, rssi_dbm=-50.0)


@pytest.fixture
def consents() -> Sometimes:
    return Sometimes()


@pytest.fixture
def intake(consents: Sometimes) -> Intake:
    origin = Origin("t1", "0042", "gw01")
    once = PresenceSettings(min_reads=1)
    normaliser = Normaliser(origin, Sightings(origin, once, consents), Keys(), consents, currency="CNY")
    return Intake(normaliser, Inlet(capacity=8), DeviceBoard(), FakeClock())


def device(name: str = "w", topics: str = '["x/#"]') -> DevicePlan:
    (plan,) = plans(f'[[devices]]\nname = "{name}"\ndriver = "beacon_gateway"\ntopics = {topics}')
    return msgspec.structs.replace(plan, driver=Words)


def source_of(link: FakeLink, intake: Intake, *devices: DevicePlan) -> MqttSource:
    return MqttSource("mqtt-devices", devices or [device()], link, intake)


def taken(intake: Intake) -> list[Item]:
    return intake.inlet.take(1000, 0.0, 0.0)


def types(items: Iterable[Item]) -> list[str]:
    return [draft.type for item in items for draft in item.drafts]


@pytest.mark.parametrize(
    "said", [(EPC, "press sale"), (f"press {EPC} sale",)], ids=["an earlier message", "the same message"]
)
def test_an_arrival_survives_a_person_who_cannot_be_looked_up(
    intake: Intake, consents: Sometimes, said: tuple[str, ...]
) -> None:
    """The source begins anew and the broker repeats its messages, but presence says an arrival once."""
    link = FakeLink()
    source = source_of(link, intake)
    for mid, words in enumerate(said, 1):
        link.say(mid, "x/1", words.encode())
    with pytest.raises(Unavailable):
        source.step(STOP)
    source.close()
    first = taken(intake)
    for item in first:
        if item.receipt is not None:
            item.receipt()
    assert len(said) not in link.acked, "what could not be understood stays with the broker"
    consents.away = False
    again = FakeLink()
    source = source_of(again, intake)
    for mid, words in enumerate(said, 1):
        if mid not in link.acked:
            again.say(mid, "x/1", words.encode(), dup=True)
    source.step(STOP)
    assert sorted(types(first + taken(intake))).count(ARRIVED) == 1
    assert again.acked == [] and len(again.arrived) == 0


@pytest.mark.parametrize("flaw", ["bad", "bug"])
def test_an_arrival_survives_the_rest_of_its_message(intake: Intake, flaw: str) -> None:
    """The message goes to quarantine whole; a replay of it brings the press back, but never the arrival."""
    link = FakeLink()
    source = source_of(link, intake)
    link.say(1, "x/1", f"press {EPC} {flaw}".encode())
    source.step(STOP)
    (item,) = taken(intake)
    assert types([item]) == [ARRIVED] and len(item.poison) == 1


def test_what_a_closing_source_holds_is_left_in_a_full_inlet(intake: Intake) -> None:
    """A reload ends the source while the journal is full: the arrival that it could not hand on is written later."""
    link = FakeLink()
    source = source_of(link, intake)
    intake.inlet.offer("mqtt-devices/observations", Item(()))
    intake.inlet.lane("mqtt-devices/observations", "wait", 1)
    link.say(1, "x/1", EPC.encode())
    source.step(STOP)
    source.close()
    assert types(taken(intake)) == [ARRIVED]


def test_what_is_left_is_bounded_and_counted() -> None:
    """Sources that end again and again do not fill the memory: beyond as much again it is lost, and counted."""
    inlet = Inlet(capacity=2)
    kept = [inlet.leave("s", Item(())) for _ in range(6)]
    assert kept == [True, True, True, True, False, False]
    assert inlet.size == 4


def test_a_repeat_that_nobody_has_written_yet_is_an_event_of_each_of_its_devices(intake: Intake) -> None:
    """Two devices hear one topic: the gateway was killed before the commit, and both get theirs by the repeat."""
    link = FakeLink()
    source = source_of(link, intake, device("a"), device("b"))
    link.say(1, "x/1", b"press", dup=True)
    source.step(STOP)
    drafts = [draft for item in taken(intake) for draft in item.drafts]
    assert [draft.type for draft in drafts] == [PRESSED, PRESSED]
    assert len({draft.dedupe for draft in drafts}) == 2 and not any(draft.fresh for draft in drafts)


def test_poison_is_named_like_its_message(intake: Intake) -> None:
    """A repeat bears the same name, for each of its devices, and says that it is one."""
    link = FakeLink()
    source = source_of(link, intake, device("a"), device("b"))
    link.say(1, "x/1", b"bad")
    link.say(1, "x/1", b"bad", dup=True)
    source.step(STOP)
    poison = [bad for item in taken(intake) for bad in item.poison]
    assert [bad.fresh for bad in poison] == [True, True, False, False]
    assert poison[0].dedupe == poison[2].dedupe != poison[1].dedupe == poison[3].dedupe


def test_a_shoppers_beacon_arrives_once_its_owner_can_be_looked_up(intake: Intake, consents: Sometimes) -> None:
    """An arrival that cannot be named now is not lost: the next sightings make it anew."""
    place = intake.place(device())
    place = msgspec.structs.replace(place, personal=True)
    sightings = intake.normaliser
    sighting = BeaconSighting(scheme="ibeacon", beacon="b1", rssi_dbm=-50.0, receiver="r")
    asked = 0
    for _ in range(6):
        try:
            sightings.drafts(sighting, place, intake.clock.now())
        except Unavailable:
            asked += 1
    assert asked == 3  # each second sighting is an arrival


def test_a_departure_without_a_name_takes_no_other_along(intake: Intake, consents: Sometimes) -> None:
    """Consents cannot be looked up when a shopper's beacon and a tag depart together: the tag's departure is told."""
    clock = FakeClock()
    place = intake.place(device())
    personal = msgspec.structs.replace(place, personal=True)
    sighting = BeaconSighting(scheme="ibeacon", beacon="b1", rssi_dbm=-50.0, receiver="r")
    consents.away = False
    for _ in range(2):
        intake.normaliser.drafts(sighting, personal, clock.now())
        intake.normaliser.drafts(TagRead(epc=EPC, rssi_dbm=-50.0), place, clock.now())
    consents.away = True
    assert [draft.type for draft in intake.normaliser.expire(clock.advance(3600.0))] == ["store.rfid.departed.v1"]


def test_a_driver_that_is_left_by_an_earlier_source_goes_on(intake: Intake) -> None:
    """A session that begins anew may keep its drivers; what they counted before is not counted twice."""
    plan = device()
    kept = plan.make()
    kept.counters.bad_frames = 7
    link = FakeLink()
    source = MqttSource("mqtt-devices", [plan], link, intake, driver_of=lambda _: kept)
    link.say(1, "x/1", b"press")
    source.step(STOP)
    assert intake.board.reports(intake.clock.now())[0].bad == 0


class Stuck(Words):
    """Fails at every tick once it has heard anything."""

    heard = False

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        self.heard = True
        return super().feed(data, at)

    def tick(self, at: Instant) -> Iterable[Reading]:
        if self.heard:
            raise KeyError
        return ()


def test_a_driver_that_fails_at_its_tick_is_not_left_to_the_next_source(intake: Intake) -> None:
    """What crashes is answered by a fresh one; else every source of this session would crash like the first."""
    kept: dict[str, Driver] = {}
    plan = msgspec.structs.replace(device(), driver=Stuck)

    def source() -> MqttSource:
        return MqttSource(
            "mqtt-devices", [plan], FakeLink(), intake, driver_of=lambda it: kept.setdefault(it.name, it.make()),
            forget=lambda it: kept.pop(it.name),
        )  # fmt: skip

    failing = source()
    kept["w"].heard = True  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        failing.step(STOP)
    failing.close()
    intake.clock.advance(2.0)  # type: ignore[attr-defined]
    source().step(STOP)
