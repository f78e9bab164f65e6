"""The sending side of MQTT and Mosquitto as the demo's broker, on real brokers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.simulator.mosquitto import Mosquitto, find_mosquitto
from devices.transports.broker import Broker, find_broker
from devices.transports.mqtt import MqttLink, MqttSettings
from devices.transports.publisher import Publisher
from gateway.errors import Unavailable
from tests.patience import until
from tests.ports import free_port

pytestmark = pytest.mark.broker


@pytest.fixture(params=["embedded", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker | Mosquitto]:
    """A running broker of either kind."""
    if request.param == "embedded":
        try:
            find_broker()
        except Unavailable:
            pytest.skip("no embedded broker for this platform")
        chosen: Broker | Mosquitto = Broker(tmp_path / "broker", free_port())
    else:
        if find_mosquitto() is None:
            pytest.skip("Mosquitto is not installed")
        chosen = Mosquitto(tmp_path / "broker", free_port())
    chosen.open()
    yield chosen
    chosen.close()


def test_messages_published_while_the_broker_is_away_arrive_each_once_and_in_order(
    broker: Broker | Mosquitto,
) -> None:
    """Before, during and after an outage: the outbox empties, and a subscriber with a session has every message."""
    link = MqttLink(MqttSettings(client_id="listener", topics=("shop/#",), port=broker.port, protocol="3.1.1"))
    link.open()
    heard: list[bytes] = []

    def listen() -> None:
        deliveries = link.receive(0.02)
        link.ack(deliveries)
        heard.extend(each.payload for each in deliveries if each.payload not in heard)

    def listened(count: int) -> bool:
        listen()
        return len(heard) >= count

    until(lambda: listened(0) and link.subscribed)
    publisher = Publisher("sender", "127.0.0.1", broker.port)
    publisher.open()
    for number in range(100):
        publisher.publish("shop/a", b"%d" % number)
    until(lambda: listened(100))
    broker.close()
    until(lambda: not publisher.connected)
    for number in range(100, 200):
        publisher.publish("shop/a", b"%d" % number)
    assert publisher.waiting == 100
    broker.open()
    until(lambda: listened(200))
    until(lambda: publisher.waiting == 0)
    assert heard == [b"%d" % number for number in range(200)]
    assert publisher.flush(1.0)
    publisher.close()
    link.close()


def test_a_device_says_online_leaves_offline_and_hears_what_it_watches(broker: Broker | Mosquitto) -> None:
    """Status is retained; another device that watches it hears online."""
    till = Publisher("till", "127.0.0.1", broker.port, status_topic="till/status")
    till.open()
    until(lambda: till.connected and till.waiting == 0)
    other = Publisher("other", "127.0.0.1", broker.port, watch=("+/status",))
    assert other.heard("till/status") is None
    other.open()
    until(lambda: other.heard("till/status") == b"online")
    till.close()
    other.close()


def test_an_outbox_is_bounded() -> None:
    """Without a broker it takes as many messages as it may, then says so and takes nothing."""
    publisher = Publisher("sender", "127.0.0.1", free_port(), capacity=10)
    publisher.open()
    for number in range(10):
        publisher.publish("a", b"%d" % number)
    with pytest.raises(Unavailable, match="10 messages wait"):
        publisher.publish("a", b"one too many")
    assert publisher.waiting == 10
    assert not publisher.flush(0.1)
    publisher.close()


def test_mosquitto_that_is_missing_room_says_so(tmp_path: Path) -> None:
    """A file where its folder should be is an error with a hint."""
    if find_mosquitto() is None:
        pytest.skip("Mosquitto is not installed")
    (tmp_path / "broker").write_text("")
    with pytest.raises(Unavailable, match="start broker"):
        Mosquitto(tmp_path / "broker", free_port()).open()
