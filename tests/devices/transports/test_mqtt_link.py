"""The link against real brokers: the embedded one (MQTT 3.1.1) and Mosquitto (MQTT 5)."""

from __future__ import annotations

import datetime
import ipaddress
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from devices.transports.mqtt import Delivery, MqttLink, MqttSettings, Tls
from tests.patience import PATIENCE_S, until

pytestmark = pytest.mark.broker


def payloads(deliveries: list[Delivery]) -> list[bytes]:
    return [item.payload for item in deliveries]


def test_messages_arrive_in_order_and_are_gone_when_acknowledged(any_broker: Any, links: Any) -> None:
    """What was acknowledged is not delivered to the next session, in which nothing else has changed."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = links.ready(any_broker.port, "sender")
    sent = [b"m%d" % number for number in range(50)]
    for payload in sent:
        sender.publish("t/x", payload)
    got = links.take(link, 50, sender)
    assert payloads(got) == sent
    assert all(
        (item.topic, item.qos, item.dup, item.retained, item.fault) == ("t/x", 1, False, False, "") for item in got
    )
    link.ack(got)
    link.publish("other", b"behind the acknowledgements")
    session = link._session
    assert session is not None
    links.until(lambda: not link._outgoing and not session._client._out_messages, link)
    link.close()
    again = links.ready(any_broker.port, "gw", "t/#")
    sender.publish("t/x", b"next")
    assert payloads(links.take(again, 1, sender)) == [b"next"]
    assert link.counters.acked == 50


def test_the_version_is_what_the_broker_speaks(any_broker: Any, links: Any) -> None:
    """MQTT 5 where the broker has it, 3.1.1 where it refuses 5, without being told."""
    link = links.ready(any_broker.port, "gw", "t/#")
    assert link.protocol == {"embedded": "3.1.1", "mosquitto": "5"}[any_broker.name]


def test_what_was_not_acknowledged_comes_again_after_a_crash(any_broker: Any, links: Any) -> None:
    """A new process with the same client id gets what the killed one had not acknowledged, in order, as duplicates."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = links.ready(any_broker.port, "sender")
    for number in range(5):
        sender.publish("t/x", b"m%d" % number)
    got = links.take(link, 5, sender)
    link.ack([got[0], got[1]])
    link.receive(0.2, limit=0)
    links.vanish(link)
    again = links.ready(any_broker.port, "gw", "t/#")
    repeated = links.take(again, 3)
    assert payloads(repeated) == [b"m2", b"m3", b"m4"]
    assert all(item.dup for item in repeated)
    again.ack(repeated)


def test_an_acknowledgement_of_an_earlier_connection_is_never_sent(any_broker: Any, links: Any) -> None:
    """The message that reuses the packet id is not discarded, and the stale acknowledgement is counted."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = links.ready(any_broker.port, "sender")
    sender.publish("t/x", b"old")
    old = links.take(link, 1, sender)
    generation = link.generation
    links.vanish(link)
    links.until(lambda: link.generation != generation and link.subscribed, link)
    link.ack(old)
    again = links.take(link, 1)
    assert payloads(again) == [b"old"]
    assert link.counters.acked == 0
    assert link.counters.stale_acks == 1
    link.ack(again)
    links.until(lambda: link.counters.acked == 1, link)


def test_acknowledgements_from_another_thread_in_any_order(any_broker: Any, links: Any) -> None:
    """The writer's thread acknowledges batch by batch, out of order; nothing is left over and the receiver wakes."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = links.ready(any_broker.port, "sender")
    count = 300
    for number in range(count):
        sender.publish("t/x", b"%d" % number)
    got = links.take(link, count, sender)
    assert len(got) == count

    def acknowledge() -> None:
        for start in range(count - 50, -1, -50):
            link.ack(got[start : start + 50])

    writer = threading.Thread(target=acknowledge)
    began_s = time.monotonic()
    writer.start()
    while link.counters.acked < count and time.monotonic() - began_s < PATIENCE_S:
        link.receive(0.2, limit=0)
    writer.join()
    assert link.counters.acked == count
    assert link.counters.stale_acks == 0


def test_another_thread_wakes_a_waiting_receive(any_broker: Any, links: Any) -> None:
    """A publish from another thread goes out while `receive` waits, not after its time-out."""
    link = links.ready(any_broker.port, "gw", "t/#")
    timer = threading.Timer(0.1, lambda: link.publish("t/self", b"hello"))
    timer.start()
    began_s = time.monotonic()
    got = link.receive(PATIENCE_S)
    timer.join()
    assert payloads(got) == [b"hello"]
    assert time.monotonic() - began_s < PATIENCE_S / 2


def test_a_broker_that_is_killed_and_comes_back_is_found_again(any_broker: Any, links: Any) -> None:
    """After a kill -9 and a restart the link is back by itself, and what was unacknowledged comes again."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = links.ready(any_broker.port, "sender")
    owed = {b"owed-%d" % number for number in range(3)}
    for payload in (*sorted(owed), b"done"):
        sender.publish("t/x", payload)
    got = links.take(link, 4, sender)
    # Mosquitto does not save what is on its way to a client before something else changes, like this acknowledgement.
    link.ack(got[3:])
    links.until(lambda: link.counters.acked == 1, link)
    any_broker.saved(*owed, without=b"done")
    any_broker.kill()
    links.until(lambda: not link.connected, link)
    assert link.trouble
    any_broker.start_again()
    links.until(lambda: link.subscribed, link)
    seen: set[bytes] = set()

    def heard(payload: set[bytes]) -> bool:
        seen.update(payloads(link.receive(0.05)))
        return payload <= seen

    until(lambda: heard(owed))
    assert link.counters.reconnects == 1
    links.until(lambda: sender.connected, sender, link)
    sender.publish("t/x", b"after")
    until(lambda: sender.receive(0, limit=0) == [] and heard({b"after"}))


def test_a_broker_that_comes_late_is_waited_for(any_broker: Any, links: Any) -> None:
    """Opening without a broker is no error; the link says why it waits, keeps what is published, and connects later."""
    any_broker.stop()
    link = links.open(any_broker.port, "gw", "t/#")
    links.until(lambda: "nothing listens" in link.trouble, link)
    link.publish("t/x", b"kept")
    assert not link.connected
    any_broker.start()
    assert payloads(links.take(link, 1)) == [b"kept"]


def test_the_last_will_and_the_status(any_broker: Any, links: Any) -> None:
    """online is said after connecting, offline by the broker when we vanish and by us when we close; both retained."""
    watcher = links.ready(any_broker.port, "watcher", "gateways/#")
    link = links.ready(any_broker.port, "gw", prefix="gateways/1")
    said: list[bytes] = []

    def hear(status: bytes, *, alive: bool) -> None:
        """Until that is said; said again it is nothing new, for it is said at least once."""
        while said[-1:] != [status]:
            (one,) = links.take(watcher, 1, *[link] * alive)
            if [one.payload] != said[-1:]:
                said.append(one.payload)

    hear(b"online", alive=True)
    links.vanish(link)
    hear(b"offline", alive=False)
    links.until(lambda: link.connected, link)
    hear(b"online", alive=True)
    link.close()
    hear(b"offline", alive=False)
    assert said == [b"online", b"offline", b"online", b"offline"]
    late = links.ready(any_broker.port, "late", "gateways/1/status")
    (state,) = links.take(late, 1)
    assert (state.payload, state.retained) == (b"offline", True)


def test_a_qos_2_publisher_is_delivered_with_qos_1(any_broker: Any, links: Any) -> None:
    """We subscribe with QoS 1 only, so a QoS 2 message needs one acknowledgement like any other."""
    link = links.ready(any_broker.port, "gw", "t/#")
    sender = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="q2", protocol=paho.MQTTv311)
    sender.connect("127.0.0.1", any_broker.port)
    sender.loop_start()
    try:
        sender.publish("t/x", b"exactly once", 2).wait_for_publish(PATIENCE_S)
        (got,) = links.take(link, 1)
        assert (got.payload, got.qos) == (b"exactly once", 1)
    finally:
        sender.disconnect()
        sender.loop_stop()


def test_qos_0_needs_no_acknowledgement(any_broker: Any, links: Any) -> None:
    """A QoS 0 message arrives, and acknowledging it is neither sent nor counted."""
    link = links.ready(any_broker.port, "gw", "t/#")
    link.publish("t/x", b"light", qos=0)
    got = links.take(link, 1)
    assert [(item.payload, item.qos, item.mid) for item in got] == [(b"light", 0, 0)]
    link.ack(got)
    link.receive(0, limit=0)
    assert (link.counters.acked, link.counters.stale_acks) == (0, 0)


def test_a_taker_that_is_full_keeps_the_session_and_loses_nothing(any_broker: Any, links: Any) -> None:
    """With limit 0 nothing is taken, the connection outlives several keep-alives, and then all arrive in order."""
    link = links.ready(any_broker.port, "gw", "t/#", keepalive_s=2)
    sender = links.ready(any_broker.port, "sender")
    count = 400
    for number in range(count):
        sender.publish("t/x", b"%03d" % number + b"x" * 2000)
    until_s = time.monotonic() + 5.0
    while time.monotonic() < until_s:
        assert link.receive(0.1, limit=0) == []
        sender.receive(0, limit=0)
        assert link._session is not None and link._session._wire is not None
        assert link._session._wire.held_bytes <= 262_144 + 70_000
    assert link.counters.connects == 1
    seen: list[bytes] = []
    while len(set(seen)) < count and time.monotonic() < until_s + PATIENCE_S:
        got = link.receive(0.1)
        seen += [item.payload[:3] for item in got]
        link.ack(got)
        sender.receive(0, limit=0)
    assert sorted(set(seen)) == [b"%03d" % number for number in range(count)]
    assert link.counters.connects == 1


def test_overlapping_filters_deliver_once(any_broker: Any, links: Any) -> None:
    """A topic configured twice, once by name and once by wildcard, does not count twice."""
    link = links.ready(any_broker.port, "gw", "t/#", "t/x")
    for payload in (b"one", b"two", b"three"):
        link.publish("t/x", payload)
    assert payloads(links.take(link, 3)) == [b"one", b"two", b"three"]
    assert link.receive(0.1) == []


def test_an_oversized_payload_is_cut_and_can_be_acknowledged(any_broker: Any, links: Any) -> None:
    """A payload over the limit arrives with its fault, and does not come again after the acknowledgement."""
    link = links.ready(any_broker.port, "gw", "t/#", max_payload_bytes=1000)
    link.publish("t/x", b"x" * 500_000)
    link.publish("t/x", b"small")
    big, small = links.take(link, 2)
    assert (len(big.payload), small.payload) == (1000, b"small")
    assert "500000 bytes" in big.fault
    link.ack([big, small])
    links.until(lambda: link.counters.acked == 2, link)
    assert link.counters.faulty == 1


def test_a_second_gateway_with_the_same_name_is_named_as_the_cause(
    any_broker: Any, links: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Two clients with one id evict each other: neither spins, and the log names the likely cause."""
    first = links.ready(any_broker.port, "gw", "t/#")
    second = links.ready(any_broker.port, "gw", "t/#")
    until_s = time.monotonic() + PATIENCE_S
    while "same client_id" not in caplog.text and time.monotonic() < until_s:
        first.receive(0.02, limit=0)
        second.receive(0.02, limit=0)
    assert "same client_id" in caplog.text
    assert first.counters.connects + second.counters.connects < 12


def test_without_the_wire_paho_itself_does(any_broker: Any, links: Any) -> None:
    """Should paho lose the seam, the link still delivers, guards stale acknowledgements and empties the session."""
    link = MqttLink(MqttSettings(client_id="plain", topics=("t/#",), port=any_broker.port), client_type=paho.Client)
    link.open()
    try:
        links.until(lambda: link.subscribed, link)
        for number in range(100):
            link.publish("t/x", b"%d" % number)
        got = links.take(link, 100)
        assert payloads(got) == [b"%d" % number for number in range(100)]
        link.ack(got)
        link.ack(got)
        link.receive(0.1, limit=0)
        assert (link.counters.acked, link.counters.stale_acks) == (100, 100)
        any_broker.kill()
        links.until(lambda: not link.connected, link)
        any_broker.start_again()
        links.until(lambda: link.connected, link)
    finally:
        link.close()


def _certificate(name: str, ca: tuple[Any, Any] | None) -> tuple[Any, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = x509.KeyUsage(True, False, False, False, False, ca is None, ca is None, False, False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca[0].subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca is None, None), True)
        .add_extension(usage, True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key((ca[1] if ca else key).public_key()), False)
    )
    return builder.sign(ca[1] if ca else key, hashes.SHA256()), key


def test_tls_is_verified(links: Any, tmp_path: Path, mosquitto_with: Callable[[str], Any]) -> None:
    """With the store's CA messages flow, large ones too; without it the link refuses and says why."""
    ca = _certificate("store CA", None)
    server = _certificate("broker", ca)
    pem = serialization.Encoding.PEM
    (tmp_path / "ca.pem").write_bytes(ca[0].public_bytes(pem))
    (tmp_path / "cert.pem").write_bytes(server[0].public_bytes(pem))
    (tmp_path / "key.pem").write_bytes(
        server[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    broker = mosquitto_with(f"certfile {tmp_path}/cert.pem\nkeyfile {tmp_path}/key.pem\n")
    link = links.ready(broker.port, "gw", "t/#", tls=Tls(ca=str(tmp_path / "ca.pem")), prefix="gw")
    sent = [bytes([number]) * 20_000 for number in range(20)]
    for payload in sent:
        link.publish("t/x", payload)
    got = links.take(link, 20)
    assert payloads(got) == sent
    link.ack(got)
    links.until(lambda: link.counters.acked == 20, link)
    stranger = links.open(broker.port, "stranger", tls=Tls())
    links.until(lambda: "not trusted" in stranger.trouble, stranger)
    assert not stranger.connected
