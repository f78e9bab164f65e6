"""The two MQTT packets that come by the thousand, PUBLISH in and its acknowledgement out, at socket speed.

A `Wire` stands between paho and the socket. It takes the PUBLISH packets out of the stream as `Delivery` objects, hands
every other packet on to paho untouched, and gathers what is to be written so that a batch of acknowledgements is one
write. It is driven by one thread and never blocks. Must not know topics, sessions or when to reconnect.

*Source*: OASIS MQTT 5.0 §2.1 (packet format), §3.3–§3.7 (PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP).
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import deque
from collections.abc import Iterable

import msgspec

_CHUNK_BYTES = 65536
_OUT_BYTES = 1 << 20  # above this paho keeps its packets until the socket has taken some
_HEAD_BYTES = 70_000  # room for topic (≤ 65,535), packet id and properties before an oversized payload
_CONTROL_BYTES = 1 << 18  # no packet for paho is longer
_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One message as the broker delivered it.

    `generation` counts connections and `order` the deliveries of one: together with `mid` they make sure that an
    acknowledgement never reaches another message. `retained`: state of the past, not an event. `fault` says why the
    message is not usable ("" when it is); it must be acknowledged all the same. QoS 0 needs no acknowledgement.
    """

    generation: int
    mid: int
    topic: str
    payload: bytes
    qos: int = 1
    retained: bool = False
    dup: bool = False
    fault: str = ""
    order: int = 0


def delivery(
    generation: int, mid: int, topic: bytes, payload: bytes, flags: int, max_payload_bytes: int, order: int,
    payload_bytes: int,
) -> Delivery:  # fmt: skip
    """A delivery from raw parts, with what is wrong with it. `flags`: the low half of the packet's first byte."""
    fault = ""
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        name = topic.decode("utf-8", "backslashreplace")
        fault = "topic is not UTF-8"
    if not name:
        fault = "topic is empty"
    if payload_bytes > max_payload_bytes:
        fault = f"payload of {payload_bytes} bytes is over the limit of {max_payload_bytes}"
        payload = payload[:max_payload_bytes]
    qos = flags >> 1 & 3
    return Delivery(generation, mid, name, payload, qos, bool(flags & 1), bool(flags & 8), fault, order)


Outstanding = dict[int, tuple[int, int]]
"""Packet id → order of the delivery that an acknowledgement would mean, and the hash of its topic and payload."""
_NOBODY = (0, 0)


def repeats(outstanding: Outstanding, mid: int, flags: int, topic: bytes, payload: bytes) -> bool:
    """True when the broker sends again, on the same connection, what is in hand and not acknowledged yet.

    NATS does so after its wait. Delivered twice it would be stored twice by a slow taker, and its acknowledgement would
    for ever be that of the delivery before. A packet id is free for another message only after its acknowledgement, so
    the same id with the same content and DUP is the same message.
    """
    return bool(flags & 8) and outstanding.get(mid, _NOBODY)[1] == hash((topic, payload)) and mid in outstanding


class Wire:
    """A non-blocking socket as paho wants it, with the PUBLISH traffic taken out."""

    def __init__(
        self, raw: socket.socket, *, v5: bool, generation: int, max_payload_bytes: int, outstanding: Outstanding
    ) -> None:
        """Take over a connected socket.

        Args:
            raw: the socket, TLS included; closed with this object.
            v5: whether PUBLISH has properties.
            generation: written into every delivery.
            max_payload_bytes: longer payloads are cut.
            outstanding: see `Outstanding`; kept up to date here.
        """
        raw.setblocking(False)
        self._raw = raw
        self._v5 = v5
        self._generation = generation
        self._max_payload_bytes = max_payload_bytes
        self._max_packet_bytes = max_payload_bytes + _HEAD_BYTES
        self._outstanding = outstanding
        self._rest = b""  # an incomplete packet
        self._control = bytearray()  # packets for paho
        self._out = bytearray()
        self._skip_bytes = 0  # of an oversized packet, still to come
        self._oversized: Delivery | None = None
        self._error: OSError | None = None
        self._ended = False
        self.ready: deque[Delivery] = deque()
        self.held_bytes = 0  # payload bytes in `ready`
        self.order = 0
        self.drained = True  # all that had come was read, at the last look
        self.received_s = self.sent_s = time.monotonic()
        self.linger_s = 0.0  # how long `close` may see to it that the last bytes arrive

    # ── paho's side: the methods of a socket ──

    def recv(self, size: int) -> bytes:
        """Bytes of packets that are paho's business; as a socket would, raises BlockingIOError when there are none."""
        if self._control:
            data = bytes(self._control[:size])
            del self._control[:size]
            return data
        if self._error is not None:
            raise self._error
        if self._ended:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | bytearray) -> int:
        """Take all of `data` for the next `flush`; BlockingIOError while too much is waiting."""
        if len(self._out) > _OUT_BYTES:
            raise BlockingIOError
        self._out += data
        return len(data)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._raw.fileno()

    def setblocking(self, flag: bool) -> None:
        """Nothing: a wire never blocks."""

    def close(self) -> None:
        """Close the socket, after sending what waits and reading on until the peer closes, within `linger_s`.

        Without the reading, unread bytes would make the kernel reset the connection and our last acknowledgements could
        be lost.
        """
        until_s = time.monotonic() + self.linger_s
        try:
            if self.linger_s > 0 and self._error is None and not self._ended:
                self._raw.settimeout(self.linger_s)
                self._raw.sendall(self._out)
                self._raw.shutdown(socket.SHUT_WR)
                while time.monotonic() < until_s and self._raw.recv(_CHUNK_BYTES):
                    pass
        except OSError:
            self._ended = True  # it is closed either way
        finally:
            self._raw.close()

    # ── our side ──

    @property
    def waiting_for_paho(self) -> bool:
        """True when paho has something to read: packets, the end of the stream or an error."""
        return bool(self._control) or self._ended or self._error is not None

    @property
    def wants_write(self) -> bool:
        """True while bytes wait for the socket."""
        return bool(self._out)

    def fail(self, reason: str) -> None:
        """Give the connection up: paho's next read finds it broken."""
        self._control.clear()
        self._error = self._error or ConnectionError(reason)

    def fill(self) -> None:
        """Read once what the socket has and sort it; new messages are then in `ready`."""
        if self._error is not None or self._ended:
            return
        try:
            data = self._raw.recv(_CHUNK_BYTES)
            while isinstance(self._raw, ssl.SSLSocket) and self._raw.pending() and len(data) < _CHUNK_BYTES:
                data += self._raw.recv(_CHUNK_BYTES)  # poll() does not see what TLS has already decrypted
        except _LATER:
            self.drained = True
            return
        except OSError as error:
            self._error = error
            return
        self.drained = False
        if not data:
            self._ended = True
            return
        self.received_s = time.monotonic()
        if self._skip_bytes:
            data = self._skip(data)
        self._rest = self._sort(self._rest + data if self._rest else data)

    def acknowledge(self, deliveries: Iterable[Delivery]) -> int:
        """Put an acknowledgement for each of `deliveries` that the broker still waits for; returns how many."""
        outstanding = self._outstanding
        packets = []
        for item in deliveries:
            if outstanding.get(item.mid, _NOBODY)[0] == item.order:
                del outstanding[item.mid]
                packets.append(((0x40020000 if item.qos == 1 else 0x50020000) | item.mid).to_bytes(4, "big"))
        self._out += b"".join(packets)
        return len(packets)

    def flush(self) -> None:
        """Write as much of what waits as the socket takes."""
        try:
            while self._out and self._error is None:
                del self._out[: self._raw.send(self._out)]
                self.sent_s = time.monotonic()
        except _LATER:
            return
        except OSError as error:
            self._error = error

    def _sort(self, data: bytes) -> bytes:
        """Sort the whole packets of `data`; returns the incomplete last one."""
        position, end = 0, len(data)
        while end - position >= 2:
            length = data[position + 1]
            start = position + 2
            if length & 0x80:
                length &= 0x7F
                shift = 7
                while True:
                    if start >= end:
                        return data[position:]
                    byte = data[start]
                    start += 1
                    length |= (byte & 0x7F) << shift
                    if not byte & 0x80:
                        break
                    shift += 7
                    if shift > 21:
                        return self._malformed("packet length")
            first = data[position]
            kind = first & 0xF0
            if kind != 0x30 and length > _CONTROL_BYTES:
                return self._malformed("packet length")
            over_bytes = length - self._max_packet_bytes if kind == 0x30 else 0
            stop = start + length - max(over_bytes, 0)
            if stop > end:
                return data[position:]
            if kind == 0x30:
                if not self._publish(first & 0x0F, data, start, stop, max(over_bytes, 0)):
                    return self._malformed("PUBLISH packet")
                if over_bytes > 0:
                    self._skip_bytes = over_bytes
                    stop = end - len(self._skip(data[stop:]))
            elif kind == 0x60 and length >= 2:  # PUBREL: the end of a QoS 2 message that is already acknowledged
                self._out += b"\x70\x02" + data[start : start + 2]
            else:
                self._control += data[position:stop]
            position = stop
        return data[position:]

    def _publish(self, flags: int, data: bytes, start: int, stop: int, missing_bytes: int) -> bool:
        """Make a delivery of the PUBLISH packet whose body is data[start:stop]; False when it is malformed."""
        qos = flags >> 1 & 3
        payload_at = start + 2
        if payload_at > stop or qos == 3:
            return False
        payload_at += data[start] << 8 | data[start + 1]
        topic = data[start + 2 : payload_at]
        mid = 0
        if qos:
            if payload_at + 2 > stop:
                return False
            mid = data[payload_at] << 8 | data[payload_at + 1]
            payload_at += 2
            if not mid:
                return False
        if self._v5:
            properties_bytes = shift = 0
            while True:
                if payload_at >= stop or shift > 21:
                    return False
                byte = data[payload_at]
                payload_at += 1
                properties_bytes |= (byte & 0x7F) << shift
                if not byte & 0x80:
                    break
                shift += 7
            payload_at += properties_bytes
        if payload_at > stop:
            return False
        payload = data[payload_at:stop]
        if qos and repeats(self._outstanding, mid, flags, topic, payload):
            return True
        self.order += 1
        if qos:
            self._outstanding[mid] = (self.order, hash((topic, payload)))
        item = delivery(
            self._generation, mid, topic, payload, flags, self._max_payload_bytes, self.order,
            stop - payload_at + missing_bytes,
        )  # fmt: skip
        if missing_bytes:
            self._oversized = item
        else:
            self._add(item)
        return True

    def _add(self, item: Delivery) -> None:
        self.ready.append(item)
        self.held_bytes += len(item.payload)

    def take(self, limit: int) -> list[Delivery]:
        """The oldest deliveries, at most `limit`."""
        ready = self.ready
        if len(ready) <= limit:
            taken = list(ready)
            ready.clear()
            self.held_bytes = 0
            return taken
        taken = [ready.popleft() for _ in range(limit)]
        self.held_bytes -= sum(len(item.payload) for item in taken)
        return taken

    def _skip(self, data: bytes) -> bytes:
        """Drop the rest of an oversized packet; its delivery is ready when all of it has passed."""
        dropped = min(self._skip_bytes, len(data))
        self._skip_bytes -= dropped
        if not self._skip_bytes and self._oversized is not None:
            self._add(self._oversized)
            self._oversized = None
        return data[dropped:]

    def _malformed(self, what: str) -> bytes:
        self.fail(f"the broker sent a malformed {what}")
        return b""
