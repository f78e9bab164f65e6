"""Real brokers for the MQTT tests: the embedded one and Mosquitto, each on a loopback port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.transports.broker import Broker, find_broker
from devices.transports.mqtt import Delivery, MqttLink, MqttSettings
from gateway.errors import Unavailable


class EmbeddedBroker:
    """The embedded broker, with a way to kill it."""

    name = "embedded"

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder / "broker")
        self.port = 0

    def start(self) -> None:
        self.broker.open()
        self.port = self.broker.port

    def kill(self) -> None:
        assert self.broker.pid is not None
        os.kill(self.broker.pid, signal.SIGKILL)
        until_s = time.monotonic() + 5
        while self.broker.alive and time.monotonic() < until_s:
            time.sleep(0.01)

    def start_again(self) -> None:
        assert self.broker.revive()

    def stop(self) -> None:
        self.broker.close()


class MosquittoBroker:
    """Mosquitto as the architecture sets it up; `extra` adds lines to its configuration."""

    name = "mosquitto"

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if self.program is None:
            pytest.skip("mosquitto is not installed")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        user = "user root\n" if os.geteuid() == 0 else ""  # else it becomes a user who may not write here
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            f"autosave_on_changes true\nautosave_interval 1\nmax_queued_messages 100000\nset_tcp_nodelay true\n{user}"
            + extra
        )

    def start(self) -> None:
        command = [str(self.program), "-c", str(self.folder / "mosquitto.conf")]
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        pytest.fail(f"mosquitto did not start: {(self.folder / 'mosquitto.log').read_text()}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(5)

    def start_again(self) -> None:
        self.start()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(5)


AnyBroker = EmbeddedBroker | MosquittoBroker


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
        broker = MosquittoBroker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def mosquitto_with(tmp_path: Path) -> Iterator[Callable[[str], MosquittoBroker]]:
    """Starts a Mosquitto with further lines of configuration."""
    started: list[MosquittoBroker] = []

    def start(extra: str) -> MosquittoBroker:
        broker = MosquittoBroker(tmp_path, extra)
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

    def until(self, condition: Callable[[], bool], *links: MqttLink, within_s: float = 15.0) -> None:
        """Serve `links` without taking messages until `condition` holds; fails after the deadline."""
        until_s = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < until_s, [link.trouble for link in links]
            for link in links:
                link.receive(0.01, limit=0)

    def take(self, link: MqttLink, count: int, *others: MqttLink, within_s: float = 15.0) -> list[Delivery]:
        """`count` messages from `link`; fewer when the deadline passes."""
        taken: list[Delivery] = []
        until_s = time.monotonic() + within_s
        while len(taken) < count and time.monotonic() < until_s:
            taken += link.receive(0.02)
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
