"""Visits and recognition in the whole gateway: from a reading with a raw identifier to a guest, and to a withdrawal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.loader import parse
from devices.transports.mqtt import MqttLink, MqttSettings
from gateway.app import Gateway
from gateway.clock import rfc3339_s
from gateway.intake.inlet import Item
from gateway.intake.place import Place
from gateway.intake.reading import ConsentAct, Scan
from gateway.platform_commands.handlers import handlers
from gateway.shopper.identifiers import Identifier
from gateway.shopper.sealing import Sealer, key_from_text
from gateway.workers.delivery import _beat
from sync.commands import Command
from tests.patience import until

CONFIG = """
[storage]
directory = "{directory}"
[broker]
port = 0
[[devices]]
name = "sensors"
driver = "generic_json"
topics = ["sensors/#"]
[[devices.options.mappings]]
topic = "sensors/+"
reading = "sensor"
fields = {{ value = "v" }}
fixed = {{ quantity = "count", unit = "1", sensor = "s" }}
[page]
enabled = false
[privacy]
notice_version = "1"
"""


pytestmark = pytest.mark.broker


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(parse(CONFIG.format(directory=tmp_path), "gateway.toml"))
    stop = threading.Event()
    thread = threading.Thread(target=made.run, args=(stop,))
    thread.start()
    try:
        until(lambda: made.visits is not None and made.visits.machine is not None)
        yield made
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def consent(gateway: Gateway, act: str) -> None:
    at = gateway.clock.now()
    said = ConsentAct(act=act, scheme="member", identifier="M-4711", purposes="visits,offers")  # type: ignore[arg-type]
    gateway.subjects.consent(said, at, at.wall_s)


def scan(gateway: Gateway) -> None:
    place = Place(device="scanner-1", path="scanner/scanner-1", zone="till-1")
    reading = Scan(text="m-4711", kind="loyalty", scheme="member")
    drafts = gateway.normaliser.drafts(reading, place, gateway.clock.now())
    assert gateway.inlet.offer("scanner-1", Item(drafts), 1.0)


def test_a_member_is_recognised_from_the_scan_until_the_consent_is_taken_back(gateway: Gateway) -> None:
    """On the board that the page shows, and at the till of the lane, with a real broker in between."""
    until(gateway.broker.up.is_set)
    topics = ("store/0001/recognition/+",)
    till = MqttLink(MqttSettings(client_id="till", topics=topics, port=gateway.broker.embedded.port, protocol="3.1.1"))
    till.open()
    try:
        until(lambda: till.receive(0.05) == [] and till.subscribed)
        heard = recognised(gateway, till)
    finally:
        till.close()
    assert [it["state"] for it in heard] == ["here", "gone"] and heard[0]["text"] == "欢迎"


def recognised(gateway: Gateway, till: MqttLink) -> list[dict[str, Any]]:
    key_id, public = gateway.key_ring.own_public()
    sealed = Sealer(key_id, key_from_text(public)).seal(Identifier("member", "M-4711"))
    hint = {"sealed": [sealed], "text": "欢迎", "expires_at": rfc3339_s(gateway.clock.now().wall_s + 3600)}
    consent(gateway, "granted")
    told = handlers(gateway)["profile.hints"](Command("c1", "profile.hints", {"hints": [hint]}))
    assert told["kept"] == 1
    scan(gateway)
    until(lambda: bool(gateway.guests()))
    assert [(guest.lane, guest.text) for guest in gateway.guests()] == [("till-1", "欢迎")]
    assert gateway.person_counts()["visits_opened"] == 1
    consent(gateway, "withdrawn")
    assert gateway.guests() == []
    until(lambda: gateway.person_counts()["visits_withdrawn"] == 1)
    heard: list[dict[str, Any]] = []

    def hear() -> bool:
        deliveries = till.receive(0.1)
        till.ack(deliveries)
        heard.extend(json.loads(it.payload) for it in deliveries)
        assert not any(it.retained or "4711" in it.payload.decode() for it in deliveries)
        return len(heard) >= 2

    until(hear)
    return heard


def test_the_heartbeats_post_tells_the_platform_what_its_answers_need(gateway: Gateway) -> None:
    """A key to seal persons to, and the calendar by which a visit of another day is one."""
    told = json.loads(_beat(gateway))
    assert told["seal_key"]["id"] == gateway.key_ring.own_public()[0]
    assert told["time_zone"] == gateway.settings.gateway.time_zone
    answer = {"visits": {"v-00112233445566778899aabb": True}}
    assert handlers(gateway)["visits.returning"](Command("c9", "visits.returning", answer)) == {"visits": 1}
