"""The message traffic below paho, on a socket pair: no broker, every cut of the stream."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.transports.mqtt_wire import Delivery, Outstanding, Wire

LIMIT_BYTES = 1000


class Pair:
    """A wire and the broker's end of its socket."""

    def __init__(self, v5: bool = False) -> None:
        ours, self.broker = socket.socketpair()
        self.outstanding: Outstanding = {}
        self.wire = Wire(ours, v5=v5, generation=7, max_payload_bytes=LIMIT_BYTES, outstanding=self.outstanding)
        self.broker.setblocking(False)

    def send(self, data: bytes) -> None:
        self.broker.sendall(data)
        self.wire.fill()

    def control(self) -> bytes:
        data = b""
        while True:
            try:
                part = self.wire.recv(7)
            except BlockingIOError:
                return data
            if not part:
                return data
            data += part

    def sent(self) -> bytes:
        self.wire.flush()
        try:
            return self.broker.recv(65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        self.wire.close()
        self.broker.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def length(value: int) -> bytes:
    out = b""
    while True:
        value, digit = value >> 7, value & 127
        out += bytes([digit | (128 if value else 0)])
        if not value:
            return out


def publish(topic: bytes, payload: bytes, mid: int = 0, qos: int = 1, flags: int = 0, v5: bool = False) -> bytes:
    body = len(topic).to_bytes(2, "big") + topic
    body += mid.to_bytes(2, "big") if qos else b""
    body += b"\x0b\x01\x01\x02\x00\x00\x00\x3c\x08\x00\x01r" if v5 else b""  # payload format, expiry, response topic
    return bytes([0x30 | qos << 1 | flags]) + length(len(body + payload)) + body + payload


SUBACK = b"\x90\x04\x00\x01\x01\x80"
PINGRESP = b"\xd0\x00"

messages = st.lists(
    st.tuples(st.text(min_size=1, max_size=200), st.binary(max_size=LIMIT_BYTES + 200), st.integers(0, 2)), max_size=6
)


@given(messages, st.booleans(), st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_every_cut_of_the_stream_gives_the_same_messages(
    sent: list[tuple[str, bytes, int]], v5: bool, cuts: list[int]
) -> None:
    """However the bytes are cut, each message arrives once, in order, whole, and paho gets exactly the rest."""
    stream = PINGRESP
    for mid, (topic, payload, qos) in enumerate(sent, 1):
        stream += publish(topic.encode("utf-8", "replace"), payload, mid, qos, v5=v5) + SUBACK
    pair = Pair(v5)
    try:
        taken: list[Delivery] = []
        position = number = 0
        while position < len(stream):
            size = cuts[number % len(cuts)]
            pair.send(stream[position : position + size])
            position += size
            number += 1
            taken += pair.wire.take(3)
        taken += pair.wire.take(100)
        assert pair.control() == PINGRESP + SUBACK * len(sent)
        assert [(item.topic, item.payload, item.qos) for item in taken] == [
            (topic.encode("utf-8", "replace").decode(), payload[:LIMIT_BYTES], qos) for topic, payload, qos in sent
        ]
        assert [item.mid for item in taken] == [mid if qos else 0 for mid, (_, _, qos) in enumerate(sent, 1)]
        assert [bool(item.fault) for item in taken] == [len(payload) > LIMIT_BYTES for _, payload, _ in sent]
        assert pair.wire.held_bytes == 0
    finally:
        pair.close()


@given(st.binary(max_size=300), st.booleans())
def test_garbage_never_raises(garbage: bytes, v5: bool) -> None:
    """Bytes that are no MQTT either wait for their rest, or reach paho, or break the connection; nothing is raised."""
    pair = Pair(v5)
    try:
        pair.send(b"\x32" + garbage)
        pair.send(garbage)
        for item in pair.wire.take(100):
            assert item.qos in (0, 1, 2)
        try:
            while pair.wire.recv(100):
                pass
        except (BlockingIOError, ConnectionError):
            pass
    finally:
        pair.close()


@pytest.mark.parametrize(
    "packet",
    [
        b"\x32\xff\xff\xff\xff\x01",  # a length of five bytes
        b"\x36\x05\x00\x01t\x00\x01",  # QoS 3
        b"\x32\x05\x00\x01t\x00\x00",  # packet id 0
        b"\x32\x04\x00\x09tt",  # topic longer than the packet
        b"\x32\x03\x00\x01t",  # no room for the packet id
        b"\x90\xff\xff\x7f",  # a SUBACK of two megabytes
    ],
)
def test_a_malformed_packet_breaks_the_connection(pair: Pair, packet: bytes) -> None:
    """What no broker may send ends the connection and says why."""
    pair.send(packet)
    with pytest.raises(ConnectionError, match="malformed"):
        pair.wire.recv(1)
    assert pair.wire.take(10) == []


def test_flags_come_through(pair: Pair) -> None:
    """DUP and RETAIN are those of the packet."""
    pair.send(publish(b"t", b"", 1, flags=8) + publish(b"t", b"", 2, flags=1))
    first, second = pair.wire.take(9)
    assert (first.dup, first.retained, second.dup, second.retained) == (True, False, False, True)
    assert first.generation == second.generation == 7


def test_a_topic_that_is_not_text_is_a_fault_not_a_crash(pair: Pair) -> None:
    """A topic of broken UTF-8, or none, arrives with its fault and can be acknowledged."""
    pair.send(publish(b"t/\xff\xfe", b"x", 1) + publish(b"", b"x", 2) + publish(b"ok", b"x", 3))
    taken = pair.wire.take(9)
    assert [item.fault for item in taken] == ["topic is not UTF-8", "topic is empty", ""]
    assert taken[0].topic == "t/\\xff\\xfe"
    assert pair.wire.acknowledge(taken) == 3


def test_a_huge_payload_passes_in_bounded_memory(pair: Pair) -> None:
    """Three megabytes are cut to the limit, never held whole, and the next message is not disturbed."""
    stream = publish(b"t", b"x" * 3_000_000, 1) + publish(b"t", b"after", 2)
    most = 0
    pair.broker.setblocking(True)
    for position in range(0, len(stream), 50_000):
        pair.send(stream[position : position + 50_000])
        most = max(most, len(pair.wire._rest) + pair.wire.held_bytes)
        if position < 2_900_000:
            assert not pair.wire.ready  # not before all of it has come: it could not be acknowledged yet
    big, after = pair.wire.take(9)
    assert big.payload == b"x" * LIMIT_BYTES
    assert "3000000 bytes" in big.fault
    assert (after.payload, after.fault) == (b"after", "")
    assert most < 200_000


def test_acknowledgements_go_out_in_one_write(pair: Pair) -> None:
    """A batch is one run of PUBACK packets, in the order given."""
    pair.send(b"".join(publish(b"t", b"x", mid) for mid in range(1, 6)))
    assert pair.wire.acknowledge(pair.wire.take(9)) == 5
    assert pair.sent() == b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in range(1, 6))
    assert pair.outstanding == {}


def test_a_message_is_acknowledged_once(pair: Pair) -> None:
    """A second acknowledgement of the same delivery is not sent: its packet id may be another message by then."""
    pair.send(publish(b"t", b"first", 5))
    first = pair.wire.take(9)
    assert pair.wire.acknowledge(first) == 1
    pair.send(publish(b"t", b"second", 5))
    assert pair.wire.acknowledge(first) == 0
    assert pair.sent() == b"\x40\x02\x00\x05"
    assert pair.wire.acknowledge(pair.wire.take(9)) == 1


def test_what_is_in_hand_is_not_delivered_again(pair: Pair) -> None:
    """A repeat on the same connection is the same message: delivered once, and the slow taker's one acknowledgement
    counts."""
    pair.send(publish(b"t", b"x", 5) + publish(b"t", b"x", 5, flags=8))
    (first,) = pair.wire.take(9)
    assert pair.wire.acknowledge([first]) == 1
    pair.send(publish(b"t", b"x", 5, flags=8))  # acknowledged too late: the repeat was on its way
    (late,) = pair.wire.take(9)
    assert late.dup and pair.wire.acknowledge([late]) == 1


def test_another_message_under_a_used_packet_id_is_delivered(pair: Pair) -> None:
    """Other content, or no DUP, is another message; the acknowledgement of the one before is then dropped."""
    pair.send(publish(b"t", b"x", 5) + publish(b"t", b"y", 5, flags=8) + publish(b"t", b"y", 5))
    one, two, three = pair.wire.take(9)
    assert [item.payload for item in (one, two, three)] == [b"x", b"y", b"y"]
    assert pair.wire.acknowledge([one, two]) == 0
    assert pair.wire.acknowledge([three]) == 1


def test_qos_2_is_received_at_least_once(pair: Pair) -> None:
    """A QoS 2 message of an old session is answered with PUBREC when it is safe, and its PUBREL with PUBCOMP."""
    pair.send(publish(b"t", b"x", 9, qos=2))
    assert pair.sent() == b""
    pair.wire.acknowledge(pair.wire.take(9))
    assert pair.sent() == b"\x50\x02\x00\x09"
    pair.send(b"\x62\x02\x00\x09")
    assert pair.sent() == b"\x70\x02\x00\x09"
    assert pair.control() == b""


def test_the_end_of_the_stream_reaches_paho_after_its_packets(pair: Pair) -> None:
    """paho sees its last packet first and then the end."""
    pair.send(PINGRESP)
    pair.broker.close()
    pair.wire.fill()
    assert pair.wire.recv(9) == PINGRESP
    assert pair.wire.recv(9) == b""


def test_what_the_socket_does_not_take_waits(pair: Pair) -> None:
    """A full socket loses nothing: the rest is written later, and beyond a bound paho has to keep its packets."""
    data = bytes(range(256)) * 8192  # 2 MiB
    assert pair.wire.send(data) == len(data)
    with pytest.raises(BlockingIOError):
        pair.wire.send(b"more")
    got = b""
    while len(got) < len(data):
        got += pair.sent()
    assert got == data
    assert not pair.wire.wants_write


def test_closing_in_order_delivers_the_last_bytes(pair: Pair) -> None:
    """Unread messages do not make the kernel reset the connection before the last acknowledgement has arrived."""
    pair.send(publish(b"t", b"x", 1))
    pair.wire.acknowledge(pair.wire.take(1))
    pair.broker.sendall(publish(b"t", b"x" * 1000, 2))
    pair.wire.linger_s = 0.2
    pair.wire.close()
    assert pair.broker.recv(100) == b"\x40\x02\x00\x01"
    assert pair.broker.recv(100) == b""
