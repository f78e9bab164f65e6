"""An MQTT session that loses nothing: QoS 1, acknowledged only when the caller says so, driven by the caller's thread.

paho makes the session (connect, subscribe, publish, keep-alive); `mqtt_wire` carries the message traffic. Rules that
this module keeps: an acknowledgement of an earlier connection, or of a delivery that the broker has since repeated, is
never sent (it would discard another message that reuses the packet id); a network that is silent for two keep-alives is
given up whatever the socket says; a refused topic is loud. Must not know what a topic or a payload means.

*Source*: PROTOCOLS §9; OASIS MQTT 5.0 and 3.1.1.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.transports.mqtt_settings import MqttSettings, Tls, broker_address, distinct_filters
from devices.transports.mqtt_wire import Delivery, Wire, delivery
from devices.transports.tcp import keep_alive
from gateway.errors import Rejected, Unavailable

__all__ = ["Delivery", "LinkCounters", "MqttLink", "MqttSettings", "Tls", "broker_address"]

_log = logging.getLogger(__name__)
_order = attrgetter("order")
_jitter = random.SystemRandom()

_CONNECT_S = 5.0  # for the TCP and TLS handshakes, and again for the broker's CONNACK
_BACKOFF_S = (0.5, 10.0)  # first and longest pause between attempts
_STEADY_S = 5.0  # a connection that lasted this long starts the back-off anew
_TICK_S = 1.0  # paho's keep-alive is looked after this often
_HELD_BYTES = 262_144  # what is read ahead of the caller; beyond this the socket is left alone and TCP holds the broker
_HELD_MESSAGES = 2048
_OUTGOING = 1000  # publishes that may wait for the connection
_PINGREQ = b"\xc0\x00"
# What paho lets through on packets that no broker should send.
_BAD_PACKET = (struct.error, LookupError, ValueError, MQTTException)


class LinkCounters(msgspec.Struct):
    """What happened since `open`; written by the receiving thread, read by any."""

    received: int = 0  # deliveries handed out, repeated ones included
    acked: int = 0  # acknowledgements sent
    stale_acks: int = 0  # acknowledgements dropped because they belonged to an earlier delivery
    connects: int = 0  # sessions opened
    reconnects: int = 0  # of these, after the first
    faulty: int = 0  # deliveries with a fault
    callback_errors: int = 0  # exceptions in paho's callbacks


class _WireClient(paho.Client):
    """The one place that reaches into paho: the socket it makes is our `Wire`.

    `_create_socket` is paho's seam for its own websocket wrapper. Should a later paho drop it, this method is never
    called, paho connects by itself, and the link works through `on_message` and `ack` (`MqttLink` looks which it is).
    """

    next_wire: Wire | None = None

    def _create_socket(self) -> Any:
        wire, self.next_wire = self.next_wire, None
        if wire is None:
            raise ConnectionError("no connection was prepared")
        return wire


class _Attempt:
    """One try at TCP and TLS, on a thread of its own, because name look-up and connect cannot be bounded otherwise."""

    def __init__(self) -> None:
        self.raw: socket.socket | None = None
        self.error = ""
        self.done = threading.Event()
        self.abandoned = threading.Event()


class MqttLink:
    """One session at one broker.

    One thread calls `open`, `receive` again and again (at least every half keep-alive, also when it can take no
    message), and `close`. `ack` and `publish` may be called from any thread between `open` and `close`. A broker that
    is away is no error: the link connects by itself, for ever, and says how it is (`connected`, `trouble`).
    """

    def __init__(self, settings: MqttSettings, client_type: type[paho.Client] = _WireClient) -> None:
        """Store the settings. `client_type`: `paho.Client` itself makes the link do without its `Wire` (slower)."""
        self.settings = settings
        self.counters = LinkCounters()
        self._client_type = client_type
        self._topics = distinct_filters(settings.topics)
        self._acks: deque[Sequence[Delivery]] = deque()
        self._outgoing: deque[tuple[str, bytes, int, bool]] = deque()
        self._outstanding: dict[int, int] = {}
        self._refused: dict[str, str] = {}
        self._trouble = "not yet connected"
        self._connected = False
        self._generation = 0
        self._order = 0
        self._v5 = settings.protocol != "3.1.1"
        self._mute = 0  # connections in a row that ended without a CONNACK
        self._answered = False  # the present connection has had one
        self._tls: Any = None
        self._client: paho.Client | None = None
        self._wire: Wire | None = None
        self._attempt: _Attempt | None = None
        self._held: deque[Delivery] = deque()  # deliveries that did not come through a wire, or outlived theirs
        self._tries = 0
        self._next_try_s = self._connected_at_s = self._deadline_s = self._last_tick_s = 0.0
        self._last_packet_s = 0.0
        self._subscribing: tuple[int | None, tuple[str, ...]] = (None, ())
        self._subscribed = False
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._woken = False

    # ── how it is ──

    @property
    def connected(self) -> bool:
        """True from the broker's acceptance until the connection is known to be lost."""
        return self._connected

    @property
    def subscribed(self) -> bool:
        """True when connected and the broker has answered for every topic (see `refused`)."""
        return self._connected and self._subscribed

    @property
    def generation(self) -> int:
        """The number of the present (or last) connection; 0 before the first."""
        return self._generation

    @property
    def last_packet_mono_s(self) -> float:
        """Monotonic time of the last byte from the broker; 0.0 before the first."""
        return self._wire.received_s if self._wire is not None else self._last_packet_s

    @property
    def refused(self) -> Mapping[str, str]:
        """Topic filters that the broker does not serve as asked, each with its reason; empty when all is well."""
        return dict(self._refused)

    @property
    def trouble(self) -> str:
        """Why there is no connection, for a person; "" while there is one."""
        return self._trouble

    @property
    def protocol(self) -> str:
        """The MQTT version spoken: "5" or "3.1.1"."""
        return "5" if self._v5 else "3.1.1"

    # ── lifecycle ──

    def open(self) -> None:
        """Get ready and begin to connect; does not wait for the broker.

        Raises:
            ConfigError: the settings cannot work.
        """
        if self._ears is not None:
            return
        self.settings.check()
        self._tls = self.settings.ssl_context()
        ears = socket.socketpair()
        for ear in ears:
            ear.setblocking(False)
        self._ears = ears
        self._client = self._new_client()
        self._next_try_s = 0.0
        self._reconnect(time.monotonic())

    def receive(self, timeout_s: float, limit: int = 512) -> list[Delivery]:
        """Look after the connection and return what has arrived.

        Args:
            timeout_s: longest wait, ≥ 0; returns as soon as there is a message.
            limit: most messages to return. 0 takes none: the call then serves keep-alive, acknowledgements and
                publishes only, reads ahead at most 256 KiB and leaves the rest to TCP's back-pressure.

        Returns:
            Messages in the order received; empty after `timeout_s`.

        Raises:
            Unavailable: the link is not open.
        """
        if self._ears is None:
            raise Unavailable("receive", self.settings.address, "the link is not open")
        until_s = time.monotonic() + timeout_s
        while True:
            now_s = time.monotonic()
            self._serve(now_s, limit)
            if limit > 0 and (taken := self._take(limit)):
                return taken
            left_s = until_s - now_s
            if left_s <= 0:
                return []
            self._wait(min(left_s, _TICK_S), limit)

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge messages that are safe now, in the order received; from any thread.

        Those of an earlier connection are dropped and counted: the broker sends these messages again.
        """
        if deliveries:
            self._acks.append(deliveries)
            self._wake()

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        """Send a message, when there is a connection; from any thread, never waits.

        Raises:
            Unavailable: 1,000 messages wait already.
            Rejected: the topic or the QoS (0 or 1) cannot be published to.
        """
        if not topic or {"+", "#", "\0"} & set(topic) or qos not in (0, 1):
            raise Rejected("publish", topic, f"not a topic to publish to with QoS {qos}")
        if len(self._outgoing) >= _OUTGOING:
            raise Unavailable("publish", self.settings.address, f"{_OUTGOING} messages wait already", self._trouble)
        self._outgoing.append((topic, bytes(payload), qos, retain))
        self._wake()

    def close(self) -> None:
        """Send the last acknowledgements, say offline, disconnect; at most about 2 s. May be called again."""
        ears, self._ears = self._ears, None
        if ears is None:
            return
        if self._attempt is not None:
            self._attempt.abandoned.set()
            if self._attempt.done.is_set() and self._attempt.raw is not None:
                self._attempt.raw.close()
            self._attempt = None
        client, wire = self._client, self._wire
        if client is not None:
            if self._connected:
                self._farewell(client)
            if wire is not None:
                wire.linger_s = 0.5
            client.disconnect()
            if client.want_write():
                client.loop_write()
            if wire is not None:
                wire.close()
        self._client = self._wire = None
        self._connected = False
        self._trouble = "closed"
        for ear in ears:
            ear.close()

    def _farewell(self, client: paho.Client) -> None:
        """Acknowledge, then publish offline and wait up to 1 s until the broker has it."""
        self._send_acks(client)
        self._send_outgoing(client)
        said = None
        if self.settings.status_topic:
            said = client.publish(self.settings.status_topic, b"offline", 1, True)
        until_s = time.monotonic() + 1.0
        while self._connected and time.monotonic() < until_s:
            self._exchange(client, time.monotonic(), limit=0)
            if (said is None or said.is_published()) and not (self._wire is not None and self._wire.wants_write):
                return
            self._poll(0.05, read=True)

    # ── one look around ──

    def _serve(self, now_s: float, limit: int) -> None:
        """Do everything that can be done without waiting."""
        if self._woken:
            self._hush()
        client = self._client
        if client is None:
            return
        if self._wire is None and client.socket() is None:
            self._drop_acks()
            self._reconnect(now_s)
            return
        if self._connected:
            if self._acks:
                self._send_acks(client)
            if self._outgoing:
                self._send_outgoing(client)
        self._exchange(client, now_s, limit)

    def _exchange(self, client: paho.Client, now_s: float, limit: int) -> None:
        """Read, let paho work, write."""
        wire = self._wire
        try:
            if wire is not None:
                if self._may_read(limit):
                    wire.fill()
                while wire.waiting_for_paho and client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                    if client.socket() is None:
                        break
            elif self._may_read(limit):
                self._read_by_paho(client, limit)
            if client.want_write():
                client.loop_write()
            if now_s - self._last_tick_s >= _TICK_S:
                self._tick(client, now_s)
        except _BAD_PACKET as error:
            self._trouble = f"the broker sent a packet that cannot be read: {error}"
            self._lose(client)
        if wire is not None and wire.wants_write:
            wire.flush()
        if client.socket() is None:
            self._lost(now_s)

    def _read_by_paho(self, client: paho.Client, limit: int) -> None:
        """The slow way, packet by packet, for a paho without the seam."""
        for _ in range(max(limit, 1)):
            before = len(self._held)
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or len(self._held) == before:
                return

    def _tick(self, client: paho.Client, now_s: float) -> None:
        """Keep-alive, and a dead network."""
        self._last_tick_s = now_s
        wire, keepalive_s = self._wire, self.settings.keepalive_s
        if not self._connected:
            if now_s > self._deadline_s:
                self._trouble = "the broker accepted the connection but not the session in time"
                self._lose(client)
            return
        if wire is None or wire.drained:
            client.loop_misc()  # judges the broker's silence, so only when all that it said has been read
            if client.socket() is not None and now_s - self.last_packet_mono_s > 2 * keepalive_s + _TICK_S:
                self._trouble = f"nothing came from the broker for {2 * keepalive_s} s"
                self._lose(client)
        elif now_s - wire.sent_s > keepalive_s / 2:
            wire.send(_PINGREQ)

    def _may_read(self, limit: int) -> bool:
        wire = self._wire
        if wire is None:
            return len(self._held) < max(limit, 64)
        return wire.held_bytes < _HELD_BYTES and len(wire.ready) < max(limit, _HELD_MESSAGES)

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while self._held and len(taken) < limit:
            taken.append(self._held.popleft())
        if self._wire is not None and len(taken) < limit and self._wire.ready:
            taken = taken + self._wire.take(limit - len(taken)) if taken else self._wire.take(limit)
        self.counters.received += len(taken)
        self.counters.faulty += sum(1 for item in taken if item.fault)
        return taken

    def _wait(self, timeout_s: float, limit: int) -> None:
        """Until the socket has something, another thread calls, or the time is over."""
        if self._client is not None and self._client.socket() is None and self._attempt is None:
            timeout_s = min(timeout_s, max(0.0, self._next_try_s - time.monotonic()))
        self._poll(timeout_s, read=self._may_read(limit))

    def _poll(self, timeout_s: float, *, read: bool) -> None:
        poll = select.poll()  # select() cannot take descriptors above 1023
        if self._ears is not None:
            poll.register(self._ears[0].fileno(), select.POLLIN)
        connection = self._client.socket() if self._client is not None else None
        if connection is not None and self._client is not None and connection.fileno() >= 0:
            writing = self._client.want_write() or (self._wire is not None and self._wire.wants_write)
            events = (select.POLLIN if read else 0) | (select.POLLOUT if writing else 0)
            if events:  # without an interest poll() would still report a hang-up, again and again
                poll.register(connection.fileno(), events)
        poll.poll(timeout_s * 1000)

    def _wake(self) -> None:
        ears = self._ears
        if ears is None or self._woken:
            return
        self._woken = True
        try:
            ears[1].send(b"\0")
        except OSError:  # full: a call is waiting already; closed: nobody is there to wake
            return

    def _hush(self) -> None:
        if self._ears is not None:
            with contextlib.suppress(BlockingIOError):  # the flag may be seen before the byte; poll finds it later
                self._ears[0].recv(4096)
        self._woken = False  # before the queues are looked at, so that what comes later wakes again

    # ── acknowledgements and publishes ──

    def _send_acks(self, client: paho.Client) -> None:
        batch: list[Delivery] = []
        asked = 0
        while self._acks:
            deliveries = self._acks.popleft()
            fresh = [item for item in deliveries if item.qos]
            asked += len(fresh)
            batch += [item for item in fresh if item.generation == self._generation]
        batch.sort(key=_order)
        wire = self._wire
        sent = wire.acknowledge(batch) if wire is not None else self._ack_by_paho(client, batch)
        self.counters.acked += sent
        self.counters.stale_acks += asked - sent

    def _ack_by_paho(self, client: paho.Client, batch: list[Delivery]) -> int:
        sent = 0
        for item in batch:
            if self._outstanding.get(item.mid) == item.order:
                del self._outstanding[item.mid]
                sent += client.ack(item.mid, item.qos) == MQTTErrorCode.MQTT_ERR_SUCCESS
        return sent

    def _drop_acks(self) -> None:
        """Without a connection an acknowledgement has nowhere to go; the message comes again."""
        while self._acks:
            self.counters.stale_acks += sum(1 for item in self._acks.popleft() if item.qos)

    def _send_outgoing(self, client: paho.Client) -> None:
        while self._outgoing:
            topic, payload, qos, retain = self._outgoing[0]
            if client.publish(topic, payload, qos, retain).rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:
                return
            self._outgoing.popleft()

    # ── connecting ──

    def _new_client(self) -> paho.Client:
        settings = self.settings
        client = self._client_type(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            clean_session=None if self._v5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.suppress_exceptions = True
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        client.max_queued_messages_set(_OUTGOING)
        client.connect_timeout = _CONNECT_S
        if settings.username is not None:
            client.username_pw_set(settings.username, settings.password)
        if settings.status_topic:
            client.will_set(settings.status_topic, b"offline", 1, True)
        if self._tls is not None and not isinstance(client, _WireClient):
            client.tls_set_context(self._tls)
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = settings.session_expiry_s
            properties.ReceiveMaximum = settings.receive_maximum
        client.connect_async(
            settings.host, settings.port, settings.keepalive_s, clean_start=False, properties=properties
        )
        return client

    def _reconnect(self, now_s: float) -> None:
        """Begin, or carry on with, the next attempt."""
        client, attempt = self._client, self._attempt
        if client is None:
            return
        if attempt is None:
            if now_s < self._next_try_s:
                return
            self._tries += 1
            if not (isinstance(client, _WireClient) and hasattr(paho.Client, "_create_socket")):
                self._begin_session(client, now_s, None)
                return
            attempt = self._attempt = _Attempt()
            name = f"mqtt-connect-{self._tries}"
            threading.Thread(target=self._dial, args=(attempt,), name=name, daemon=True).start()
            return
        if not attempt.done.is_set():
            return
        self._attempt = None
        if attempt.raw is None:
            self._trouble = attempt.error
            self._pause(now_s)
            return
        self._begin_session(client, now_s, attempt.raw)

    def _dial(self, attempt: _Attempt) -> None:
        """TCP and TLS, on the attempt's own thread; ends by itself within its time-outs."""
        raw: socket.socket | None = None
        try:
            raw = socket.create_connection((self.settings.host, self.settings.port), timeout=_CONNECT_S)
            keep_alive(raw)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                raw = self._tls.wrap_socket(raw, server_hostname=self.settings.host)
        except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot encode
            attempt.error = _why(error)
            if raw is not None:
                raw.close()
            raw = None
        attempt.raw = raw
        attempt.done.set()
        if attempt.abandoned.is_set() and raw is not None:
            raw.close()
        self._wake()

    def _begin_session(self, client: paho.Client, now_s: float, raw: socket.socket | None) -> None:
        """Send CONNECT; what was known of the last connection is void."""
        self._outstanding.clear()
        self._order = 0
        self._answered = False
        self._deadline_s = now_s + _CONNECT_S
        self._last_packet_s = self._last_tick_s = now_s
        if raw is not None and isinstance(client, _WireClient):
            self._wire = client.next_wire = Wire(
                raw, v5=self._v5, generation=self._generation + 1, outstanding=self._outstanding,
                max_payload_bytes=self.settings.max_payload_bytes,
            )  # fmt: skip
        try:
            client.reconnect()
        except (OSError, ValueError) as error:
            self._trouble = _why(error)
            self._lost(now_s)
            return
        if self._wire is not None:
            self._wire.flush()

    def _pause(self, now_s: float) -> None:
        """Set the time of the next attempt: doubling, with jitter, so that gateways do not come back all at once."""
        first_s, longest_s = _BACKOFF_S
        pause_s = min(longest_s, first_s * 2.0 ** min(self._tries - 1, 10))
        self._next_try_s = now_s + pause_s * _jitter.uniform(0.5, 1.0)
        if self._tries == 1:
            _log.warning("mqtt unreachable broker=%s reason=%s", self.settings.address, self._trouble)

    def _lose(self, client: paho.Client) -> None:
        """Give the connection up without a word, so that the broker keeps the session and says the Will."""
        connection = client.socket()
        if self._wire is not None:
            self._wire.fail(self._trouble)
        elif isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the peer was faster
        client.loop_read()

    def _lost(self, now_s: float) -> None:
        """The connection is over: forget what only it could acknowledge, and plan the next."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._last_packet_s = wire.received_s
            if len(self._held) < _HELD_MESSAGES:
                self._held.extend(item for item in wire.ready if not item.qos)  # QoS 1 comes again, QoS 0 does not
            wire.close()
        self._drop_acks()
        if self._connected:
            self._connected = False
            _log.warning("mqtt down broker=%s reason=%s", self.settings.address, self._trouble)
            if now_s - self._connected_at_s >= _STEADY_S:
                self._tries = 0
        elif self._settle_protocol():
            self._next_try_s = now_s
            return
        self._tries = max(self._tries, 1)
        self._pause(now_s)

    def _settle_protocol(self) -> bool:
        """After a session that the broker did not accept: True when another MQTT version is to be tried at once."""
        if self.settings.protocol != "auto" or self._answered:
            return False
        self._mute += 1
        if self._mute % 2:  # once may be a broker that is just stopping
            return False
        self._switch(v5=not self._v5)
        return True

    def _switch(self, *, v5: bool) -> None:
        self._v5 = v5
        self._client = self._new_client()

    # ── paho's callbacks, all on the receiving thread ──

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        now_s = time.monotonic()
        if reason.is_failure:
            self._trouble = f"the broker refused the session: {reason}"
            if self.settings.protocol == "auto" and self._v5 and str(reason) == "Unsupported protocol version":
                self._mute = 1  # sure, not a guess: the other version is tried at once
            else:
                self._answered = True
            return
        self._mute = 0
        self._answered = True
        self._generation += 1
        self._connected = True
        self._connected_at_s = now_s
        self._trouble = ""
        self.counters.connects += 1
        self.counters.reconnects = self.counters.connects - 1
        _log.info(
            "mqtt up broker=%s protocol=%s session_present=%s", self.settings.address, self.protocol,
            flags.session_present,
        )  # fmt: skip
        if self._topics and not (flags.session_present and self._subscribed and not self._refused):
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            filters = [(topic, options if self._v5 else 1) for topic in self._topics]
            _, mid = client.subscribe(filters)  # type: ignore[arg-type]  # paho's type knows no list of both kinds
            self._subscribing, self._subscribed = (mid, self._topics), False
        if self.settings.status_topic:
            client.publish(self.settings.status_topic, b"online", 1, True)

    def _on_disconnect(self, _client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            hint = " — another client uses the same client_id" if "taken over" in str(reason).lower() else ""
            self._trouble = f"the broker ended the session: {reason}{hint}"
        elif not self._trouble:
            self._trouble = "the connection was lost"

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        expected, topics = self._subscribing
        if mid != expected:
            return
        refused: dict[str, str] = {}
        for topic, reason in itertools.zip_longest(topics, reasons[: len(topics)]):
            if reason is None or reason.is_failure:
                refused[topic] = f"refused by the broker: {reason}"
            elif reason.value != 1:
                refused[topic] = f"granted with QoS {reason.value} only: messages can be lost"
        for topic, why in refused.items():
            if self._refused.get(topic) != why:
                _log.error("mqtt topic refused topic=%s reason=%s", topic, why)
        self._refused = refused
        self._subscribed = True

    def _on_message(self, _client: paho.Client, _data: Any, message: Any) -> None:
        """A message that came without a wire."""
        self._order += 1
        self._last_packet_s = time.monotonic()
        if message.qos:
            self._outstanding[message.mid] = self._order
        flags = message.qos << 1 | bool(message.retain) | bool(message.dup) << 3
        payload = bytes(message.payload)
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError as error:
            topic = bytes(error.object)
        self._held.append(
            delivery(
                self._generation, message.mid, topic, payload, flags, self.settings.max_payload_bytes, self._order,
                len(payload),
            )
        )  # fmt: skip

    def _on_log(self, _client: paho.Client, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR and text.startswith("Caught exception"):
            self.counters.callback_errors += 1
            _log.error("mqtt callback failed text=%s", text)


def _why(error: BaseException) -> str:
    """A connection error in words that name the remedy."""
    text = str(getattr(error, "strerror", None) or error)
    if isinstance(error, ConnectionRefusedError):
        return f"{text}: no broker listens there; is it running, and is the port right?"
    if isinstance(error, socket.gaierror):
        return f"{text}: check the broker's host name"
    if isinstance(error, TimeoutError):
        return "no answer in time: check that the broker's host is on and reachable"
    return text
