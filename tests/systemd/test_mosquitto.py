"""The Mosquitto drop-in on a real broker, included by a main file like Debian's."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from tests.mosquitto import mosquitto_program
from tests.patience import until
from tests.ports import free_port

SYSTEMD = Path(__file__).parents[2] / "systemd"
EVENT = "store/0042/entrance/scanner/{}/event"

pytestmark = pytest.mark.broker


class Broker:
    """Mosquitto with the drop-in; paths and port are replaced by the test's own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.port = free_port()
        (folder / "conf.d").mkdir()
        (folder / "data").mkdir()
        passwd = shutil.which("mosquitto_passwd") or pytest.skip("mosquitto_passwd is not installed")
        (folder / "passwd").touch()
        for user in ("storefront", "scanner-1", "scanner-2"):
            subprocess.run([passwd, "-b", folder / "passwd", user, f"of {user}"], check=True, capture_output=True)
        shutil.copy(SYSTEMD / "mosquitto.acl", folder / "acl")
        for name in ("passwd", "acl"):
            (folder / name).chmod(0o600)
        text = (SYSTEMD / "mosquitto.conf").read_text("utf-8")
        for old, new in (
            ("/etc/mosquitto/storefront.passwd", str(folder / "passwd")),
            ("/etc/mosquitto/storefront.acl", str(folder / "acl")),
            ("\nlistener 1883 127.0.0.1\n", f"\nlistener {self.port} 127.0.0.1\n"),
        ):
            assert text.count(old) == 1
            text = text.replace(old, new)
        (folder / "conf.d/storefront.conf").write_text(text, "utf-8")
        main = f"pid_file {folder}/pid\npersistence true\npersistence_location {folder}/data/\nlog_dest stderr\n"
        if os.geteuid() == 0:
            main += "user root\n"  # else it becomes `mosquitto`, who may not look into the test's folder
        (folder / "mosquitto.conf").write_text(f"{main}include_dir {folder}/conf.d\n", "utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen([self.program, "-c", self.folder / "mosquitto.conf"], stdout=log, stderr=log)
        log.close()
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text("utf-8")
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None


class Client:
    """A paho client on its network thread; `got` holds what came."""

    def __init__(
        self, broker: Broker, user: str | None, client_id: str, *, clean: bool = True, ack: bool = True
    ) -> None:
        self.got: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.answer: ReasonCode | None = None
        self.granted: list[ReasonCode] = []
        self.lost = False
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv311, clean_session=clean, manual_ack=not ack
        )
        self.paho.max_inflight_messages_set(1000)
        if user is not None:
            self.paho.username_pw_set(user, f"of {user}")
        self.paho.on_connect = self._connected
        self.paho.on_subscribe = self._subscribed
        self.paho.on_disconnect = self._disconnected
        self.paho.on_message = lambda paho, data, message: self.got.put((message.topic, bytes(message.payload)))
        self.paho.connect("127.0.0.1", broker.port)
        self.paho.loop_start()
        until(lambda: self.answer is not None)

    def _connected(
        self, paho: mqtt.Client, data: object, flags: mqtt.ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        self.answer = code

    def _subscribed(
        self, paho: mqtt.Client, data: object, mid: int, codes: list[ReasonCode], properties: Properties | None
    ) -> None:
        self.granted = codes

    def _disconnected(
        self, paho: mqtt.Client, data: object, flags: mqtt.DisconnectFlags, code: ReasonCode,
        properties: Properties | None,
    ) -> None:  # fmt: skip
        self.lost = True

    def subscribe(self, topic: str) -> None:
        self.granted = []
        self.paho.subscribe(topic, 1)
        until(lambda: bool(self.granted))

    def publish(self, topic: str, *payloads: bytes) -> None:
        """Publish with QoS 1 and wait until the broker has acknowledged all."""
        sent = [self.paho.publish(topic, payload, 1) for payload in payloads]
        for info in sent:
            info.wait_for_publish(10)
            assert info.is_published()

    def take(self, number: int, seconds: float = 10.0) -> list[tuple[str, bytes]]:
        return [self.got.get(timeout=seconds) for _ in range(number)]

    def close(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A running broker of the test's own."""
    program = mosquitto_program()
    if program is None:
        pytest.skip("mosquitto is not installed")
    broker = Broker(program, tmp_path)
    broker.start()
    yield broker
    broker.kill()


def test_the_gateway_hears_a_device_and_a_device_only_writes_its_own_topics(broker: Broker) -> None:
    """What scanner-1 says as itself arrives; what it says as scanner-2, or as anything else, does not."""
    gateway = Client(broker, "storefront", "gateway")
    gateway.subscribe("store/#")
    device = Client(broker, "scanner-1", "s1")
    device.publish(EVENT.format("scanner-2"), b"forged")
    device.publish("store/0042/entrance/scanner/scanner-1/cmd", b"forged")
    device.publish("zigbee2mqtt/door", b"forged")
    device.publish(EVENT.format("scanner-1"), b"own")
    assert gateway.take(1) == [(EVENT.format("scanner-1"), b"own")]
    assert gateway.got.empty()
    device.close()
    gateway.close()


def test_a_device_hears_its_commands_and_nothing_of_others(broker: Broker) -> None:
    """A device that subscribes to everything gets its own commands only, and only the gateway can give them."""
    device, other = Client(broker, "scanner-1", "s1"), Client(broker, "scanner-2", "s2")
    device.subscribe("#")
    gateway = Client(broker, "storefront", "gateway")
    other.publish(EVENT.format("scanner-2"), b"private")
    gateway.publish("store/0042/entrance/scanner/scanner-2/cmd", b"not yours")
    gateway.publish("store/0042/entrance/scanner/scanner-1/cmd", b"yours")
    assert device.take(1) == [("store/0042/entrance/scanner/scanner-1/cmd", b"yours")]
    for client in (device, other, gateway):
        client.close()


@pytest.mark.parametrize("user", [None, "stranger"])
def test_nobody_comes_in_without_credentials(broker: Broker, user: str | None) -> None:
    """No anonymous client, not even on loopback, and no unknown user."""
    client = Client(broker, user, "x")
    assert client.answer is not None
    assert client.answer.is_failure
    client.paho.loop_stop()


def test_it_listens_on_loopback_only(broker: Broker) -> None:
    """One listener, on 127.0.0.1; none that the broker adds by itself because of a setting in the wrong place."""
    log = (broker.folder / "log").read_text("utf-8")
    assert [line.split()[-1] for line in log.splitlines() if "listen socket" in line] == [f"{broker.port}."]
    if broker.process is None or not psutil.LINUX:
        return
    addresses = {
        connection.laddr[0]
        for connection in psutil.Process(broker.process.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_what_the_broker_acknowledged_survives_kill_9(broker: Broker) -> None:
    """100 messages for an absent gateway, acknowledged one by one; the broker is killed; all 100 come.

    The broker saves just after it acknowledges: the last one gets 0.2 s, the 99 before it none.
    """
    gateway = Client(broker, "storefront", "gateway", clean=False)
    gateway.subscribe("store/#")
    gateway.close()
    device = Client(broker, "scanner-1", "s1")
    expected = [b"%d" % number for number in range(100)]
    for payload in expected:
        device.publish(EVENT.format("scanner-1"), payload)
    time.sleep(0.2)
    broker.kill()
    device.close()
    broker.start()
    gateway = Client(broker, "storefront", "gateway", clean=False)
    assert [payload for _, payload in gateway.take(100)] == expected
    gateway.close()


def test_hundreds_are_in_flight_before_the_first_acknowledgement(broker: Broker) -> None:
    """A gateway that acknowledges after a group commit gets 500 messages ahead, not 20."""
    gateway = Client(broker, "storefront", "gateway", ack=False)
    gateway.subscribe("store/#")
    device = Client(broker, "scanner-1", "s1")
    device.publish(EVENT.format("scanner-1"), *[b"%d" % number for number in range(500)])
    assert len(gateway.take(500)) == 500
    device.close()
    gateway.close()


def test_more_than_the_default_thousand_wait_for_an_absent_gateway(broker: Broker) -> None:
    """1,500 messages are queued for a gateway that is away (the default drops all above 1,000)."""
    gateway = Client(broker, "storefront", "gateway", clean=False)
    gateway.subscribe("store/#")
    gateway.close()
    device = Client(broker, "scanner-1", "s1")
    device.publish(EVENT.format("scanner-1"), *[b"%d" % number for number in range(1500)])
    device.close()
    gateway = Client(broker, "storefront", "gateway", clean=False)
    assert len(gateway.take(1500)) == 1500
    gateway.close()


def test_a_packet_beyond_the_limit_is_refused(broker: Broker) -> None:
    """A quarter of a megabyte and a bit costs the sender its connection; just below arrives."""
    gateway = Client(broker, "storefront", "gateway")
    gateway.subscribe("store/#")
    device = Client(broker, "scanner-1", "s1")
    device.publish(EVENT.format("scanner-1"), b"x" * 262_000)
    assert len(gateway.take(1)[0][1]) == 262_000
    device.paho.publish(EVENT.format("scanner-1"), b"x" * 263_000, 1)
    until(lambda: device.lost)
    device.paho.loop_stop()
    assert gateway.got.empty()
    gateway.close()
