"""Every virtual device against the gateway's driver for the real one: what goes in comes out."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from config.loader import DEMO, load
from devices.driver import Driver, Message
from devices.plan import plan
from devices.simulator import sensors, till
from devices.simulator.beacons import TROLLEYS, Receiver
from devices.simulator.goods import GARMENTS
from devices.simulator.members import Club
from devices.simulator.scanner import scan_bytes
from devices.simulator.shop import Paid, Scanned, Shop
from devices.simulator.store import SHOP_TIME
from devices.simulator.uhf_reader import Field, M100Reader, Reader288, Sent
from gateway.clock import FakeClock
from gateway.intake.reading import BeaconSighting, Contact, DoorCount, Feedback, Sale, Scan, SensorValue, TagRead

NOW = datetime(2026, 11, 22, 14, 5, 6, tzinfo=SHOP_TIME)
EPC = GARMENTS[2].epc(77)


def demo_driver(name: str) -> Driver:
    """The driver as config/demo.toml sets it up."""
    return next(each for each in plan(load(DEMO), "demo.toml") if each.name == name).make()


def paid_baskets(seed: int, count: int) -> Iterable[Paid]:
    baskets = (act for act in Shop(seed).acts() if isinstance(act, Paid))
    return itertools.islice(baskets, count)


def test_the_demo_configuration_is_in_order_as_it_stands() -> None:
    """config/demo.toml loads, plans, and names every device of the store."""
    names = [each.name for each in plan(load(DEMO), "demo.toml")]
    assert names == [
        "gate", "fitting-rooms", "scanner", "till-2", "till-1", "beacons", "door-counter", "sensors", "door-qr"
    ]  # fmt: skip
    assert tomllib.loads(DEMO.read_text("utf-8"))["broker"]["mode"] == "external"


def test_the_gate_is_silent_until_polled_and_then_reads() -> None:
    """An M100 conversation: stop, region, power, multi poll; then every frame is understood, none is bad."""
    clock, field = FakeClock(), Field(1)
    reader, driver = M100Reader(field), demo_driver("gate")
    field.put(EPC, 1, clock.now().mono_s + 3)
    assert reader.tick(clock.now().mono_s) == []
    readings: list[Any] = []
    for _ in range(100):
        now = clock.advance(0.05)
        for sent in [*reader.feed(driver.outgoing(now), now.mono_s), *reader.tick(now.mono_s)]:
            readings += driver.feed(sent.frame, now)
    reads = [each for each in readings if isinstance(each, TagRead)]
    assert len(reads) > 20
    assert {(each.epc, each.pc) for each in reads} == {(EPC, "3000")}
    assert all(-75 < (each.rssi_dbm or 0) < -40 for each in reads)
    assert driver.counters.bad_frames == driver.counters.skipped_bytes == 0


def test_the_gate_answers_as_the_makers_document_says() -> None:
    """Bytes of PROTOCOLS §3.1: the answer to stop, the notification's sum and CRC, an unknown command refused."""
    reader = M100Reader(Field(1))
    assert reader.feed(bytes.fromhex("BB00280000287E"), 0.0) == [Sent(bytes.fromhex("BB01280001002A7E"))]
    assert reader.feed(bytes.fromhex("BB00990000997E"), 0.0) == [Sent(bytes.fromhex("BB01FF000117187E"))]
    assert reader.feed(bytes.fromhex("BB002200"), 0.0) == []  # half a command
    assert reader.feed(bytes.fromhex("00227E"), 0.0) == [Sent(bytes.fromhex("BB01FF000115167E"))]


def test_a_multi_poll_ends_after_its_rounds_and_a_restart_forgets_it() -> None:
    """The module stops by itself, and a plug that was out costs it its orders."""
    reader = M100Reader(Field(1), reads_per_s=10)
    reader.feed(bytes.fromhex("BB00270003220005517E"), 0.0)  # five rounds
    assert reader.polling
    reader.tick(1.0)
    assert not reader.polling
    reader.feed(bytes.fromhex("BB00270003222710837E"), 2.0)
    reader.restart()
    assert not reader.polling
    assert reader.tick(5.0) == []


def test_a_damaged_command_is_not_obeyed() -> None:
    """A wrong sum is no order, and the command behind it is found."""
    reader = M100Reader(Field(1))
    assert reader.feed(bytes.fromhex("BB0027000322271084 7E BB00280000287E"), 0.0) == [
        Sent(bytes.fromhex("BB01280001002A7E"))
    ]
    assert not reader.polling


def test_the_fitting_rooms_push_tags_with_their_antenna_and_a_heartbeat_in_silence() -> None:
    """Real-time frames of the 288 family are all understood."""
    clock, field = FakeClock(), Field(1)
    reader, driver = Reader288(field), demo_driver("fitting-rooms")
    field.put(EPC, 2, clock.now().mono_s + 1)
    readings: list[Any] = []
    for _ in range(100):
        now = clock.advance(0.05)
        for sent in reader.tick(now.mono_s):
            readings += driver.feed(sent.frame, now)
    reads = [each for each in readings if isinstance(each, TagRead)]
    assert {(each.epc, each.antenna) for each in reads} == {(EPC, 2)}
    assert all(40 < (each.rssi_raw or 0) < 90 for each in reads)
    assert len(readings) > len(reads)  # heartbeats
    assert driver.counters.bad_frames == driver.counters.skipped_bytes == 0


def test_a_field_forgets_what_has_gone() -> None:
    """Tags answer in turn until their time is over or they are carried away."""
    field = Field(1)
    for serial in (1, 2, 3):
        field.put(GARMENTS[0].epc(serial), 1, 10.0)
    assert len({answer[0] for _ in range(3) if (answer := field.next())}) == 3
    field.take(GARMENTS[0].epc(1))
    assert len(field) == 2
    field.expire(10.0)
    assert field.next() is None


def test_every_receipt_of_a_day_is_read_whole() -> None:
    """500 baskets as GBK receipts: number, money and lines agree and the arithmetic holds."""
    driver, clock = demo_driver("till-2"), FakeClock()
    for number, paid in enumerate(paid_baskets(11, 500), 1):
        (sale,) = list(driver.feed(till.receipt_bytes(paid, f"140506{number:04d}", NOW), clock.advance(1)))
        assert isinstance(sale, Sale)
        assert (sale.sequence, sale.totals.net, sale.confidence) == (f"140506{number:04d}", paid.net, 1.0)
        assert len(sale.lines) == len(paid.entries)
        assert sale.closed_at == NOW
        assert [tender.kind for tender in sale.tenders] == [paid.tender]


def test_every_sale_in_json_is_read_whole() -> None:
    """500 baskets as messages: number, money, coupon and tags agree and the arithmetic holds."""
    driver, clock = demo_driver("till-1"), FakeClock()
    for number, paid in enumerate(paid_baskets(12, 500), 1):
        payload = till.sale_json(paid, "till-1", str(number), NOW, "b1")
        (sale,) = list(driver.feed(Message("store/0001/pos/till/till-1/event", payload), clock.now()))
        assert isinstance(sale, Sale)
        assert (sale.sequence, sale.totals.net, sale.confidence) == (str(number), paid.net, 1.0)
        assert sale.coupons == ((paid.coupon,) if paid.coupon else ())
        assert [line.epcs for line in sale.lines] == [entry.epcs for entry in paid.entries]


def test_every_scan_of_a_day_is_understood() -> None:
    """No code of the shop is opaque or faulty; member codes are known as such."""
    driver, clock, shop = demo_driver("scanner"), FakeClock(), Shop(13, members=Club(13, 0.0).members)
    scans = itertools.islice((act for act in shop.acts() if isinstance(act, Scanned)), 300)
    kinds = set()
    for act in scans:
        (scan,) = list(driver.feed(scan_bytes(act.aim, act.text), clock.now()))
        assert scan.error is None  # type: ignore[attr-defined]
        kinds.add(scan.kind)  # type: ignore[attr-defined]
    assert kinds == {"gtin", "gs1", "digital_link", "coupon", "loyalty", "url"}


def test_trolleys_are_heard_and_phones_are_dropped() -> None:
    """Own beacons pass with receiver and strength; of a phone nothing passes."""
    driver, clock, receiver = demo_driver("beacons"), FakeClock(), Receiver("door", 1)
    (sighting,) = list(driver.feed(Message(*receiver.trolley(7)), clock.now()))
    assert isinstance(sighting, BeaconSighting)
    assert (sighting.beacon, sighting.receiver) == (f"{TROLLEYS}/1/7", "door")
    for _ in range(50):
        assert list(driver.feed(Message(*receiver.phone()), clock.now())) == []
    assert driver.counters.ignored == 50
    assert driver.counters.bad_frames == 0


@pytest.mark.parametrize(
    ("device", "message", "expected"),
    [
        ("sensors", sensors.contact("back-door", is_open=True), [Contact(open=True, sensor="back-door")]),
        (
            "sensors", sensors.climate("fridge", 4.2, 61.0),
            [
                SensorValue(quantity="temperature", value=4.2, unit="Cel", sensor="fridge"),
                SensorValue(quantity="humidity", value=61.0, unit="%", sensor="fridge"),
            ],
        ),
        ("sensors", sensors.feedback("feedback-stand", 4), [Feedback(question="how-was-it", score=4, scale="smiley")]),
        (
            "door-qr", sensors.app_code("main", "b1", 3, "app-1"),
            [Scan(text="app-1", kind="loyalty", scheme="app", device_seq="3", device_boot="b1")],
        ),
        (
            "door-counter", sensors.door_count("main", "b1", 9, 3, 2, 2.0),
            [DoorCount(line="main", entered=3, left=2, interval_s=2.0, device_seq="9", device_boot="b1")],
        ),
    ],
)  # fmt: skip
def test_small_things_say_what_they_mean(device: str, message: tuple[str, bytes], expected: list[object]) -> None:
    """Contact, climate, feedback and door counter through the mappings of config/demo.toml."""
    assert list(demo_driver(device).feed(Message(*message), FakeClock().now())) == expected
