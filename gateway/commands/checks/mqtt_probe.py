"""One visit at an MQTT broker that leaves nothing behind: does it answer, take the credentials, grant the topics?

MQTT 3.1.1 with a clean session and a name of its own, so that neither the gateway's session nor its waiting messages
are touched; every broker speaks it. Not paho: a persistent session would stay at the broker. Decides nothing.

*Source*: OASIS MQTT 3.1.1, §3.1 CONNECT, §3.2 CONNACK, §3.8 SUBSCRIBE, §3.9 SUBACK, §3.14 DISCONNECT.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import time
from collections.abc import Sequence

import msgspec

from devices.transports.dial import why
from devices.transports.mqtt_settings import MqttSettings

_PATIENCE_S = 4.0
_MOST_BYTES = 1 << 20
_REFUSALS = {
    1: "it does not speak MQTT 3.1.1",
    2: "it does not like the client's name",
    3: "it is not available",
    4: "user name or password is wrong",
    5: "this user may not connect",
}


class Visit(msgspec.Struct, frozen=True):
    """What the broker said. `refused`: topics it did not grant."""

    reached: bool
    accepted: bool
    trouble: str = ""
    credentials: bool = False  # the trouble is with the credentials
    refused: tuple[str, ...] = ()


def visit(settings: MqttSettings, tls: ssl.SSLContext | None, timeout_s: float = _PATIENCE_S) -> Visit:
    """Connect, subscribe, leave."""
    try:
        raw = socket.create_connection((settings.host, settings.port), timeout=timeout_s)
    except (OSError, ValueError) as error:
        return Visit(False, False, why(error))
    try:
        with raw if tls is None else tls.wrap_socket(raw, server_hostname=settings.host) as connection:
            return _talk(connection, settings, time.monotonic() + timeout_s)
    except (OSError, ValueError) as error:
        return Visit(False, False, why(error))
    finally:
        raw.close()


def _talk(connection: socket.socket, settings: MqttSettings, until_s: float) -> Visit:
    connection.sendall(_connect(settings))
    answers = _Answers(connection, until_s)
    said = answers.until(0x20)
    if said is None or len(said) < 2:
        return Visit(True, False, "something answers there, but it is no MQTT broker")
    if said[1]:
        return Visit(True, False, _REFUSALS.get(said[1], f"it refuses with code {said[1]}"), said[1] in (4, 5))
    refused: tuple[str, ...] = ()
    if settings.topics:
        connection.sendall(_subscribe(settings.topics))
        granted = answers.until(0x90)
        if granted is None or len(granted) < 2 + len(settings.topics):
            return Visit(True, True, "it does not answer a subscription (may this user subscribe at all?)")
        refused = tuple(topic for topic, code in zip(settings.topics, granted[2:], strict=False) if code & 0x80)
    connection.sendall(b"\xe0\x00")
    return Visit(True, True, "", False, refused)


class _Answers:
    """The packets that come, one after the other; messages among them are passed over."""

    def __init__(self, connection: socket.socket, until_s: float) -> None:
        self._connection, self._until_s = connection, until_s
        self._buffer = b""
        self._greeted = False

    def until(self, kind: int) -> bytes | None:
        """The body of the next packet of that kind; None when it does not come."""
        while True:
            packet = self._packet()
            if packet is None:
                return None
            if packet[0] & 0xF0 == kind:
                return packet[1]

    def _packet(self) -> tuple[int, bytes] | None:
        while True:
            if not self._greeted and self._buffer:
                if self._buffer[0] != 0x20:
                    return None  # not even the beginning of a CONNACK
                self._greeted = True
            size, shift, at = 0, 0, 1
            while at < len(self._buffer) and at < 5:
                byte = self._buffer[at]
                size |= (byte & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if not byte & 0x80:
                    if size > _MOST_BYTES:
                        return None
                    if len(self._buffer) >= at + size:
                        first, body = self._buffer[0], self._buffer[at : at + size]
                        self._buffer = self._buffer[at + size :]
                        return first, body
                    break
            else:
                if at == 5:
                    return None
            left_s = self._until_s - time.monotonic()
            if left_s <= 0:
                return None
            self._connection.settimeout(left_s)
            try:
                more = self._connection.recv(65536)
            except TimeoutError:
                return None
            if not more:
                return None
            self._buffer += more


def _connect(settings: MqttSettings) -> bytes:
    flags, payload = 0x02, _text(f"doctor-{secrets.token_hex(4)}")
    if settings.username is not None:
        flags |= 0x80
        payload += _text(settings.username)
        if settings.password is not None:
            flags |= 0x40
            payload += _text(settings.password)
    return _packet(0x10, _text("MQTT") + bytes((4, flags, 0, 30)) + payload)


def _subscribe(topics: Sequence[str]) -> bytes:
    return _packet(0x82, b"\x00\x01" + b"".join(_text(topic) + b"\x01" for topic in topics))


def _packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = size >> 7, size & 0x7F
        length.append(low | (0x80 if size else 0))
        if not size:
            return bytes((first,)) + bytes(length) + body


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw
