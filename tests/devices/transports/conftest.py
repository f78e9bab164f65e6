"""Real brokers for the MQTT tests: the embedded one and Mosquitto, each on a loopback port of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.transports.broker import Broker, find_broker
from devices.transports.mqtt import Delivery, MqttLink, MqttSettings
from gateway.errors import Unavailable
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE_S, until
from tests.ports import free_port


class EmbeddedBroker:
    """The embedded broker, with a way to kill it."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder / "broker", free_port())
        self.port = 0

    def start(self) -> None:
        self.broker.open()
        self.port = self.broker.port

    def kill(self) -> None:
        assert self.broker.pid is not None
        os.kill(self.broker.pid, signal.SIGKILL)
        until(lambda: not self.broker.alive)

    def start_again(self) -> None:
        assert self.broker.revive()

    def saved(self, *_texts: bytes, without: bytes | None = None) -> None:
        """It has saved what it has acknowledged."""

    def stop(self) -> None:
        self.broker.close()


AnyBroker = EmbeddedBroker | Mosquitto


@pytest.fixture(params=["embedded", "mosquitto"])
def any_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyBroker]:
    """Each broker in turn, running."""
    if request.param == "embedded":
        try:
            find_broker()
        except Unavailable as error:
            pytest.skip(str(error))
        broker: AnyBroker = EmbeddedBroker(tmp_path)
    else:
        broker = Mosquitto(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def mosquitto_with(tmp_path: Path) -> Iterator[Callable[[str], Mosquitto]]:
    """Starts a Mosquitto with further lines of configuration."""
    started: list[Mosquitto] = []

    def start(extra: str) -> Mosquitto:
        broker = Mosquitto(tmp_path, extra)
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.stop()


class Links:
    """Makes links that are closed at the end, and drives them with a deadline."""

    def __init__(self) -> None:
        self.made: list[MqttLink] = []

    def open(self, port: int, client_id: str, *topics: str, **settings: object) -> MqttLink:
        """An open link, not yet connected."""
        link = MqttLink(MqttSettings(client_id=client_id, topics=topics, port=port, **settings))  # type: ignore[arg-type]
        self.made.append(link)
        link.open()
        return link

    def ready(self, port: int, client_id: str, *topics: str, **settings: object) -> MqttLink:
        """A connected and subscribed link."""
        link = self.open(port, client_id, *topics, **settings)
        self.until(lambda: link.subscribed, link)
        return link

    def until(self, condition: Callable[[], bool], *links: MqttLink, within_s: float = PATIENCE_S) -> None:
        """Serve `links` without taking messages until `condition` holds; fails after the deadline."""
        until_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until_s, [link.trouble for link in links]
            for link in links:
                link.receive(0.01, limit=0)

    def take(self, link: MqttLink, count: int, *others: MqttLink, within_s: float = PATIENCE_S) -> list[Delivery]:
        """`count` messages from `link`, not more; fewer when the deadline passes."""
        taken: list[Delivery] = []
        until_s = time.monotonic() + within_s
        while len(taken) < count and time.monotonic() < until_s:
            taken += link.receive(0.02, count - len(taken))
            for other in others:
                other.receive(0, limit=0)
        return taken

    def vanish(self, link: MqttLink) -> None:
        """What a killed process leaves: a socket that is gone without a word."""
        assert link._session is not None
        wire = link._session._wire
        assert wire is not None
        wire.fail("killed")
        wire.close()


@pytest.fixture
def links() -> Iterator[Links]:
    """See `Links`."""
    made = Links()
    yield made
    for link in made.made:
        link.close()
