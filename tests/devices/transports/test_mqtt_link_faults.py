"""The link against a broker that misbehaves, played byte by byte."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from devices.transports.mqtt import MqttLink, MqttSettings
from gateway.errors import Rejected, Unavailable
from tests.patience import PATIENCE_S, until
from tests.ports import free_port

CONNACK_5 = b"\x20\x03\x00\x00\x00"
CONNACK_3 = b"\x20\x02\x00\x00"


class Stage:
    """A listening socket that plays the broker, and the link that talks to it, in one thread."""

    def __init__(self, **settings: object) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.01)
        port = self.listener.getsockname()[1]
        self.link = MqttLink(MqttSettings(client_id="gw", port=port, **settings))  # type: ignore[arg-type]
        self.peer: socket.socket | None = None

    def accept(self, within_s: float = PATIENCE_S) -> bytes:
        """The next connection; returns the CONNECT packet."""
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            self.link.receive(0.01)
            try:
                peer, _ = self.listener.accept()
            except TimeoutError:
                continue
            if self.peer is not None:
                self.peer.close()
            self.peer = peer
            peer.setblocking(False)
            return self.read()
        raise AssertionError(f"no connection: {self.link.trouble}")

    def read(self, within_s: float = PATIENCE_S) -> bytes:
        """What the link sends next."""
        assert self.peer is not None
        until_s = time.monotonic() + within_s
        while time.monotonic() < until_s:
            self.link.receive(0.01, limit=0)
            try:
                return self.peer.recv(65536)
            except BlockingIOError:
                continue
        return b""

    def write(self, data: bytes) -> None:
        assert self.peer is not None
        self.peer.sendall(data)

    def until(self, what: str, value: object, within_s: float = PATIENCE_S) -> None:
        until_s = time.monotonic() + within_s
        while getattr(self.link, what) != value:
            assert time.monotonic() < until_s, (what, getattr(self.link, what), self.link.trouble)
            self.link.receive(0.01, limit=0)

    def close(self) -> None:
        self.link.close()
        self.listener.close()
        if self.peer is not None:
            self.peer.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(topics=("t/#", "x/+"))
    made.link.open()
    yield made
    made.close()


def test_the_session_is_resumed_and_bounded(stage: Stage) -> None:
    """CONNECT says MQTT 5, no clean start, a session expiry and a receive maximum."""
    connect = stage.accept()
    assert connect[4:9] == b"MQTT\x05"
    assert connect[9] & 0x02 == 0  # clean start
    assert b"\x11" + (14 * 86400).to_bytes(4, "big") in connect
    assert b"\x21" + (500).to_bytes(2, "big") in connect


def test_an_old_broker_that_refuses_version_5_gets_3_1_1_at_once(stage: Stage) -> None:
    """Return code 1 leads to a 3.1.1 session without a pause, resumed as well."""
    stage.accept()
    stage.write(b"\x20\x02\x00\x01")
    began_s = time.monotonic()
    connect = stage.accept()
    assert connect[4:9] == b"MQTT\x04"
    assert connect[9] & 0x02 == 0  # clean session
    assert time.monotonic() - began_s < 10.0  # nor a long one
    stage.write(CONNACK_3)
    stage.until("connected", True)


def test_a_broker_that_only_hangs_up_gets_3_1_1_after_the_second_time(stage: Stage) -> None:
    """Some old brokers close the connection instead of refusing version 5."""
    versions = []
    for _ in range(3):
        versions.append(stage.accept()[8])
        assert stage.peer is not None
        stage.peer.close()
    assert versions == [5, 5, 4]


def test_a_wrong_password_is_said_and_does_not_change_the_version(stage: Stage) -> None:
    """A refusal with another reason is tried again as it was, slower and slower, and shown."""
    for _ in range(3):
        assert stage.accept()[8] == 5
        stage.write(b"\x20\x03\x00\x87\x00")
        stage.link.receive(0.1)
        assert "Not authorized" in stage.link.trouble
    assert not stage.link.connected


def test_a_refused_topic_is_loud_and_asked_for_again(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """SUBACK codes are read: refused and downgraded topics are shown, and the next connection asks anew."""
    stage.accept()
    stage.write(CONNACK_5)
    subscribe = stage.read()
    assert subscribe[0] == 0x82
    assert b"\x00\x03t/#\x11" in subscribe and b"\x00\x03x/+\x11" in subscribe  # QoS 1, retained only if new
    stage.write(b"\x90\x05" + subscribe[2:4] + b"\x00\x87\x00")
    stage.until("subscribed", True)
    refused = dict(stage.link.refused)
    assert "Not authorized" in refused["t/#"]
    assert "QoS 0" in refused["x/+"]
    assert sum("refused topic" in record.message or "topic refused" in record.message for record in caplog.records) == 2
    assert stage.peer is not None
    stage.peer.close()
    stage.accept()
    stage.write(b"\x20\x03\x01\x00\x00")  # session present
    assert stage.read()[0] == 0x82


def test_a_resumed_session_is_not_subscribed_again(stage: Stage) -> None:
    """When the broker kept the session and took all topics, a reconnect does not ask for retained messages again."""
    stage.accept()
    stage.write(CONNACK_5)
    subscribe = stage.read()
    stage.write(b"\x90\x05" + subscribe[2:4] + b"\x00\x01\x01")
    stage.until("subscribed", True)
    assert stage.peer is not None
    stage.peer.close()
    stage.accept()
    stage.write(b"\x20\x03\x01\x00\x00")
    stage.until("connected", True)
    assert stage.read(within_s=0.3) == b""
    assert stage.link.subscribed


def test_redelivery_right_behind_the_connack_is_not_lost() -> None:
    """Messages in the same TCP segment as the CONNACK belong to the new connection and can be acknowledged."""
    stage = Stage()
    stage.link.open()
    try:
        stage.accept()
        stage.write(b"\x20\x03\x01\x00\x00" + b"\x3a\x07\x00\x01t\x00\x05\x00!")
        got = stage.link.receive(PATIENCE_S)
        assert [(item.payload, item.dup, item.mid) for item in got] == [(b"!", True, 5)]
        assert got[0].generation == stage.link.generation
        stage.link.ack(got)
        assert stage.read() == b"\x40\x02\x00\x05"
    finally:
        stage.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"\x90\x01\x00",  # a SUBACK that is cut short
        b"\x20\x03\x00\xee\x00",  # an unknown reason code
        b"\xf0\x02\x00\x00",  # AUTH, never asked for
        b"\x00\x00",  # no packet type
        b"\x32\x04\x00\x09tt",  # a topic longer than its packet
        b"\x40\x03\x00\x01\xee",  # an unknown reason code in a PUBACK
    ],
)
def test_a_malformed_packet_ends_the_connection_not_the_link(stage: Stage, packet: bytes) -> None:
    """Whatever the broker sends, the thread lives and connects again."""
    stage.accept()
    stage.write(CONNACK_5)
    stage.until("connected", True)
    stage.read()
    stage.write(packet)
    stage.accept()
    stage.write(CONNACK_5)
    stage.until("connected", True)


def test_a_silent_network_is_given_up() -> None:
    """No packet for two keep-alives, not even the answer to a ping: the link connects anew."""
    stage = Stage(keepalive_s=1, protocol="5")
    stage.link.open()
    try:
        stage.accept()
        stage.write(CONNACK_5)
        stage.until("connected", True)
        began_s = time.monotonic()
        stage.accept()
        assert 1.0 <= time.monotonic() - began_s < PATIENCE_S
        assert stage.link.trouble
    finally:
        stage.close()


def test_a_broker_that_accepts_but_never_answers_is_given_up(stage: Stage) -> None:
    """A TCP connection without a CONNACK is tried again after some seconds."""
    stage.accept()
    stage.accept()
    assert "not the session" in stage.link.trouble


def test_a_flood_without_a_taker_fills_only_a_bounded_buffer() -> None:
    """With limit 0 the link stops reading, so the broker's socket fills, pings still go out, and nothing is dropped."""
    stage = Stage(keepalive_s=1, protocol="5")
    stage.link.open()
    try:
        stage.accept()
        stage.write(CONNACK_5)
        stage.until("connected", True)
        body = b"\x00\x01t\x00" + b"x" * 996
        packet = b"\x30\xe8\x07" + body  # QoS 0
        assert stage.peer is not None
        written = 0
        pinged = False
        until_s = time.monotonic() + 3.0
        while time.monotonic() < until_s:
            try:
                written += stage.peer.send(packet[written % len(packet) :])
            except BlockingIOError:
                stage.link.receive(0.02, limit=0)
            with contextlib.suppress(BlockingIOError):
                pinged = pinged or b"\xc0\x00" in stage.peer.recv(4096)
        assert stage.link.connected
        assert pinged
        assert stage.link._session is not None and stage.link._session._wire is not None
        assert stage.link._session._wire.held_bytes < 400_000
        seen = 0
        while seen < written // len(packet) and time.monotonic() < until_s + PATIENCE_S:
            seen += len(stage.link.receive(0.1))
        assert seen == written // len(packet)
    finally:
        stage.close()


def test_an_error_in_a_callback_is_counted_and_survived(stage: Stage) -> None:
    """A failure inside a callback neither ends the thread nor goes unseen."""
    stage.accept()
    stage.write(CONNACK_5)
    stage.until("connected", True)
    session = stage.link._session
    assert session is not None

    def fail(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    session._client.on_subscribe = fail
    subscribe = stage.read()
    stage.write(b"\x90\x05" + subscribe[2:4] + b"\x00\x01\x01")
    until(lambda: stage.link.receive(0.01) == [] and stage.link.counters.callback_errors)
    assert stage.link.counters.callback_errors == 1
    assert stage.link.connected


def test_publishing_is_bounded_and_checked() -> None:
    """Without a connection a thousand messages wait and the next is refused; a wildcard is no topic to publish to."""
    stage = Stage()
    stage.link.open()
    try:
        for _ in range(1000):
            stage.link.publish("t", b"x")
        with pytest.raises(Unavailable):
            stage.link.publish("t", b"x")
        with pytest.raises(Rejected):
            stage.link.publish("t/#", b"x")
        with pytest.raises(Rejected):
            stage.link.publish("t", b"x", qos=2)
    finally:
        stage.close()


def test_a_link_that_is_not_open_says_so() -> None:
    """Receiving before `open` and after `close` is an error; closing twice is none."""
    link = MqttLink(MqttSettings(client_id="gw"))
    with pytest.raises(Unavailable, match="not open"):
        link.receive(0)
    link.close()
    link.open()
    link.close()
    link.close()
    link.ack([])
    with pytest.raises(Unavailable, match="not open"):
        link.receive(0)


def test_waiting_is_bounded_while_there_is_no_broker() -> None:
    """`receive` keeps its time-out while the link cannot connect."""
    link = MqttLink(MqttSettings(client_id="gw", port=free_port()))
    link.open()
    try:
        began_s = time.monotonic()
        for _ in range(4):
            assert link.receive(0.1) == []
        assert 0.35 < time.monotonic() - began_s < 20.0
    finally:
        link.close()


def test_a_wake_ends_a_wait_that_goes_on_and_one_that_is_about_to_begin() -> None:
    """The end of a worker is heard at once, whatever time-out it has given; a link that is closed hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    link = MqttLink(MqttSettings(client_id="gw", port=port))
    link.wake()
    link.open()
    try:
        began_s = time.monotonic()
        link.receive(60)
        timer = threading.Timer(0.1, link.wake)
        timer.start()
        link.receive(60)
        timer.join()
        assert time.monotonic() - began_s < 30
    finally:
        link.close()
    link.wake()


def test_an_idle_link_costs_nothing(stage: Stage) -> None:
    """Waiting is waiting: a second in `receive` takes hardly any CPU time."""
    stage.accept()
    stage.write(CONNACK_5)
    subscribe = stage.read()
    stage.write(b"\x90\x05" + subscribe[2:4] + b"\x00\x01\x01")
    stage.until("subscribed", True)
    began_s = time.thread_time()
    stage.link.receive(1.0)
    assert time.thread_time() - began_s < 0.1


def test_a_late_wake_up_does_not_spin(stage: Stage) -> None:
    """A wake-up byte that comes after its flag was taken down is read all the same."""
    stage.accept()
    stage.write(CONNACK_5)
    stage.until("connected", True)
    stage.read()
    assert stage.link._ears is not None
    stage.link._ears[1].send(b"\0")
    began_s = time.thread_time()
    stage.link.receive(0.5)
    assert time.thread_time() - began_s < 0.1


def test_acknowledgements_go_out_in_the_order_received(stage: Stage) -> None:
    """Whatever the order of the calls, one look around sends the acknowledgements in the order of the messages."""
    stage.accept()
    stage.write(CONNACK_5)
    stage.until("connected", True)
    stage.read()
    stage.write(b"".join(b"\x32\x07\x00\x01t\x00" + bytes([mid]) + b"\x00!" for mid in (7, 3, 9)))
    got = stage.link.receive(PATIENCE_S)
    assert [item.mid for item in got] == [7, 3, 9]
    stage.link.ack(got[2:])
    stage.link.ack([got[1], got[0]])
    assert stage.read() == b"\x40\x02\x00\x07\x40\x02\x00\x03\x40\x02\x00\x09"
