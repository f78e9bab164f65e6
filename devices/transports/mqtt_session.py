"""One MQTT session at one broker, kept alive: connect, subscribe, keep-alive, give up, connect again.

paho speaks the protocol; `mqtt_wire` carries the message traffic past it. Driven by one thread through `step`, which
never waits. Rules kept here: MQTT 5, and 3.1.1 where the broker refuses 5; the broker's session is resumed, never
cleaned; a network that is silent for two keep-alives is given up whatever the socket says; a refused topic is loud.
Must not know who takes the messages or when they are safe.

*Source*: PROTOCOLS §9.2; OASIS MQTT 5.0 and 3.1.1.
"""

from __future__ import annotations

import itertools
import logging
import random
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import paho.mqtt.client as paho
from paho.mqtt import MQTTException
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from devices.transports.dial import Dial, why
from devices.transports.mqtt_client import WireClient, new_client
from devices.transports.mqtt_settings import MqttSettings, distinct_filters
from devices.transports.mqtt_wire import Delivery, Outstanding, Wire, delivery, repeats

_log = logging.getLogger(__name__)
_jitter = random.SystemRandom()
_generations = itertools.count(1)  # of all sessions, so that an acknowledgement cannot reach another session either

_CONNACK_S = 5.0
_BACKOFF_S = (0.5, 10.0)  # first and longest pause between attempts
_STEADY_S = 5.0  # a connection that lasted this long starts the back-off anew
_TICK_S = 1.0  # keep-alive is looked after at most this often
_CALM_S = 5.0  # and at least this often, and four times in each, while there is a connection
_HELD_BYTES = 262_144  # read ahead of the taker; beyond this the socket is left alone and TCP holds the broker back
_HELD_MESSAGES = 2048
_PINGREQ = b"\xc0\x00"
# What paho lets through on packets that no broker should send.
_BAD_PACKET = (struct.error, LookupError, ValueError, MQTTException)


class LinkCounters(msgspec.Struct):
    """What happened since `open`; written by the receiving thread, read by any."""

    received: int = 0  # deliveries handed out, repeated ones included
    acked: int = 0  # acknowledgements sent
    stale_acks: int = 0  # acknowledgements dropped because they belonged to an earlier delivery
    connects: int = 0  # sessions opened
    faulty: int = 0  # deliveries with a fault
    callback_errors: int = 0  # exceptions in paho's callbacks

    @property
    def reconnects(self) -> int:
        """Sessions opened after the first."""
        return max(self.connects - 1, 0)


class Session:
    """The connection to the broker as it is now, and the way to the next one."""

    def __init__(
        self, settings: MqttSettings, tls: ssl.SSLContext | None, wake: Callable[[], None],
        client_type: type[paho.Client],
    ) -> None:  # fmt: skip
        """Store the parameters. `wake` may be called from another thread when there is something to `step` for."""
        self.counters = LinkCounters()
        self.connected = False
        self.subscribed = not settings.topics
        self.generation = self._next_generation = 0
        self.trouble = "not yet connected"
        self.refused: dict[str, str] = {}
        self.v5 = settings.protocol != "3.1.1"
        self._settings = settings
        self._tls = tls
        self._wake = wake
        self._client_type = client_type
        self._by_wire = issubclass(client_type, WireClient) and WireClient.fits()
        self._topics = distinct_filters(settings.topics)
        self._client = self._new_client()
        self._wire: Wire | None = None
        self._dial: Dial | None = None
        self._outstanding: Outstanding = {}
        self._order = 0
        self._held: deque[Delivery] = deque()  # deliveries that did not come through a wire, or outlived theirs
        self._tick_s = min(_TICK_S, settings.keepalive_s / 4)
        self._tries = 0
        self._short = 0  # sessions in a row that did not last
        self._mute = 0  # connections in a row that ended without a word from the broker
        self._answered = False  # the present connection has had a CONNACK
        self._next_try_s = self._connected_at_s = self._connack_until_s = self._last_tick_s = 0.0
        self._last_packet_s = 0.0
        self._subscribing: int | None = None

    # ── what the taker asks ──

    @property
    def last_packet_mono_s(self) -> float:
        """Monotonic time of the last byte from the broker; 0.0 before the first."""
        return self._wire.received_s if self._wire is not None else self._last_packet_s

    @property
    def unsent(self) -> bool:
        """True while bytes wait to be written."""
        return self._client.want_write() or (self._wire is not None and self._wire.wants_write)

    def interest(self, limit: int) -> tuple[int, int] | None:
        """Descriptor and poll() events to wait for, or None when there is nothing to wait for on a socket."""
        connection = self._client.socket()
        if connection is None or connection.fileno() < 0:
            return None
        events = (select.POLLIN if self._may_read(limit) else 0) | (select.POLLOUT if self.unsent else 0)
        return (connection.fileno(), events) if events else None  # without events poll() would report each hang-up

    def pause_s(self, now_s: float) -> float:
        """How long nothing will happen unless a socket or `wake` says so, at most 5 s."""
        if self._client.socket() is None and self._dial is None:
            return min(self._tick_s, max(0.0, self._next_try_s - now_s))
        return min(_CALM_S, self._settings.keepalive_s / 4) if self.connected else self._tick_s

    def take(self, limit: int) -> list[Delivery]:
        """The oldest messages, at most `limit`."""
        taken: list[Delivery] = []
        while self._held and len(taken) < limit:
            taken.append(self._held.popleft())
        if self._wire is not None and self._wire.ready and len(taken) < limit:
            taken += self._wire.take(limit - len(taken))
        self.counters.received += len(taken)
        self.counters.faulty += sum(1 for item in taken if item.fault)
        return taken

    def acknowledge(self, batch: list[Delivery]) -> int:
        """Acknowledge those of `batch` that the broker still waits for; says how many. The next `step` writes them."""
        if self._wire is not None:
            return self._wire.acknowledge(batch)
        sent = 0
        for item in batch:
            if self._outstanding.get(item.mid, (0, 0))[0] == item.order:
                del self._outstanding[item.mid]
                sent += self._client.ack(item.mid, item.qos) == MQTTErrorCode.MQTT_ERR_SUCCESS
        return sent

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> paho.MQTTMessageInfo | None:
        """Hand a message to paho; None when it keeps too many already."""
        info = self._client.publish(topic, payload, qos, retain)
        return None if info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE else info

    # ── one look around ──

    def step(self, now_s: float, limit: int) -> None:
        """Do all that can be done without waiting: connect, read, let paho work, write.

        Args:
            now_s: monotonic time.
            limit: how many messages the taker wants; more is read ahead only within a bound.
        """
        client, wire = self._client, self._wire
        if wire is None and client.socket() is None:
            self._reconnect(now_s)
            return
        try:
            if self._may_read(limit):
                self._read(limit)
            if client.want_write():
                client.loop_write()
            if now_s - self._last_tick_s >= self._tick_s:
                self._tick(now_s)
            if wire is not None:
                wire.flush()
                if wire.waiting_for_paho and client.socket() is not None:
                    client.loop_read()  # the write found the connection broken
        except _BAD_PACKET as error:
            self.trouble = f"the broker sent a packet that cannot be read: {error}"
            self._client = client = self._new_client()  # paho 2.1 would stay at the bad packet for ever
        if client.socket() is None:
            self._lost(now_s)

    def end(self) -> None:
        """Disconnect in order, within 0.5 s; the broker keeps the session."""
        if self._dial is not None:
            self._dial.abandon()
            self._dial = None
        if self._wire is not None:
            self._wire.linger_s = 0.5
        self._client.disconnect()
        if self._client.want_write():
            self._client.loop_write()
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        self.connected = False
        self.trouble = "closed"

    def _may_read(self, limit: int) -> bool:
        wire = self._wire
        if wire is None:
            return len(self._held) < max(limit, 64)
        return wire.held_bytes < _HELD_BYTES and len(wire.ready) < max(limit, _HELD_MESSAGES)

    def _read(self, limit: int) -> None:
        client, wire = self._client, self._wire
        if wire is not None:
            wire.fill()
            while wire.waiting_for_paho and client.loop_read() == MQTTErrorCode.MQTT_ERR_SUCCESS:
                if client.socket() is None:
                    return
            return
        for _ in range(max(limit, 1)):  # paho by itself reads packet by packet
            before = len(self._held)
            if client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS or len(self._held) == before:
                return

    def _tick(self, now_s: float) -> None:
        """Keep-alive, a dead network, a broker that does not answer."""
        self._last_tick_s = now_s
        client, wire, keepalive_s = self._client, self._wire, self._settings.keepalive_s
        if not self.connected:
            if now_s > self._connack_until_s:
                self.trouble = "the broker accepted the connection but not the session in time"
                self._give_up()
        elif wire is None or wire.drained:
            client.loop_misc()  # judges the broker's silence, so only when all that it said has been read
            if client.socket() is not None and now_s - self.last_packet_mono_s > 2 * keepalive_s + _TICK_S:
                self.trouble = f"nothing came from the broker for {2 * keepalive_s} s"
                self._give_up()
        elif now_s - wire.sent_s > keepalive_s / 2:
            wire.send(_PINGREQ)

    # ── connecting ──

    def _new_client(self) -> paho.Client:
        client = new_client(self._settings, self.v5, None if self._by_wire else self._tls, self._client_type)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_log = self._on_log
        return client

    def _reconnect(self, now_s: float) -> None:
        """Begin, or carry on with, the next attempt."""
        dial = self._dial
        if dial is None:
            if now_s < self._next_try_s:
                return
            self._tries += 1
            if not self._by_wire:
                self._begin(now_s, None)
                return
            self._dial = Dial(self._settings.host, self._settings.port, self._tls, self._wake)
            self._dial.start()
        elif dial.done:
            self._dial = None
            raw = dial.take()
            if raw is None:
                self.trouble = dial.error
                self._plan(now_s)
            else:
                self._begin(now_s, raw)

    def _begin(self, now_s: float, raw: socket.socket | None) -> None:
        """Send CONNECT; what was known of the last connection is void."""
        self._outstanding.clear()
        self._order = 0
        self._answered = False
        self._next_generation = next(_generations)
        self._connack_until_s = now_s + _CONNACK_S
        self._last_packet_s = self._last_tick_s = now_s
        if raw is not None and isinstance(self._client, WireClient):
            self._wire = self._client.next_wire = Wire(
                raw, v5=self.v5, generation=self._next_generation, outstanding=self._outstanding,
                max_payload_bytes=self._settings.max_payload_bytes,
            )  # fmt: skip
        try:
            self._client.reconnect()
        except (OSError, ValueError) as error:
            self.trouble = why(error)
            self._lost(now_s)
            return
        if self._wire is not None:
            self._wire.flush()

    def _plan(self, now_s: float) -> None:
        """Set the time of the next attempt: doubling, with jitter, so that gateways do not come back all at once."""
        first_s, longest_s = _BACKOFF_S
        pause_s = min(longest_s, first_s * 2.0 ** min(self._tries - 1, 10))
        self._next_try_s = now_s + pause_s * _jitter.uniform(0.5, 1.0)
        if self._tries == 1 and not self.counters.connects:
            _log.warning("mqtt unreachable broker=%s reason=%s", self._settings.address, self.trouble)

    def _give_up(self) -> None:
        """Break the connection without a word, so that the broker keeps the session and says the Will."""
        connection = self._client.socket()
        if self._wire is not None:
            self._wire.fail(self.trouble)
        elif isinstance(connection, socket.socket):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # the peer was faster; the next read finds it
        self._client.loop_read()

    def _lost(self, now_s: float) -> None:
        """The connection is over: forget what only it could acknowledge, and plan the next."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._last_packet_s = wire.received_s
            if len(self._held) < _HELD_MESSAGES:
                self._held.extend(item for item in wire.ready if not item.qos)  # QoS 1 comes again, QoS 0 does not
            wire.close()
        if self.connected:
            self.connected = False
            steady = now_s - self._connected_at_s >= _STEADY_S
            self._short = 0 if steady else self._short + 1
            if self._short > 1:
                self.trouble += ", again and again: does another client use the same client_id?"
            _log.warning("mqtt down broker=%s reason=%s", self._settings.address, self.trouble)
            if steady:
                self._tries = 1
        elif self._other_protocol():
            self._next_try_s = now_s
            return
        self._plan(now_s)

    def _other_protocol(self) -> bool:
        """After a session that the broker did not accept: True when the other MQTT version is to be tried at once."""
        if self._settings.protocol != "auto" or self._answered:
            return False
        self._mute += 1
        if self._mute % 2:  # once may be a broker that is just stopping
            return False
        self.v5 = not self.v5
        self._client = self._new_client()
        return True

    # ── paho's callbacks, all on the stepping thread ──

    def _on_connect(self, client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.trouble = f"the broker refused the session: {reason}"
            if self._settings.protocol == "auto" and self.v5 and str(reason) == "Unsupported protocol version":
                self._mute = 1  # sure, not a guess: the other version is tried at once
            else:
                self._answered = True
            return
        self._mute = 0
        self._answered = self.connected = True
        self._connected_at_s = time.monotonic()
        self.generation = self._next_generation
        self.trouble = ""
        self.counters.connects += 1
        _log.info(
            "mqtt up broker=%s protocol=%s session_present=%s",
            self._settings.address, "5" if self.v5 else "3.1.1", flags.session_present,
        )  # fmt: skip
        if self._topics and not (flags.session_present and self.subscribed and not self.refused):
            options = SubscribeOptions(qos=1, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
            filters: Any = [(topic, options if self.v5 else 1) for topic in self._topics]
            self.subscribed = False
            _, self._subscribing = client.subscribe(filters)
        if self._settings.status_topic:
            client.publish(self._settings.status_topic, b"online", 1, True)

    def _on_disconnect(self, _client: paho.Client, _data: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if flags.is_disconnect_packet_from_server:
            self.trouble = f"the broker ended the session: {reason}"
        elif not self.trouble:
            self.trouble = "the connection was lost"

    def _on_subscribe(self, _client: paho.Client, _data: Any, mid: int, reasons: Any, _properties: Any) -> None:
        if mid != self._subscribing:
            return
        refused: dict[str, str] = {}
        for topic, reason in itertools.zip_longest(self._topics, reasons[: len(self._topics)]):
            if reason is None or reason.is_failure:
                refused[topic] = f"refused by the broker: {reason}"
            elif reason.value != 1:
                refused[topic] = f"granted with QoS {reason.value} only: messages can be lost"
        for topic, reason in refused.items():
            if self.refused.get(topic) != reason:
                _log.error("mqtt topic refused topic=%s reason=%s", topic, reason)
        self.refused = refused
        self.subscribed = True

    def _on_message(self, _client: paho.Client, _data: Any, message: Any) -> None:
        """A message that came without a wire."""
        self._last_packet_s = time.monotonic()
        flags = message.qos << 1 | bool(message.retain) | bool(message.dup) << 3
        payload = bytes(message.payload)
        try:
            topic = message.topic.encode()
        except UnicodeDecodeError as error:
            topic = bytes(error.object)
        if message.qos and repeats(self._outstanding, message.mid, flags, topic, payload):
            return
        self._order += 1
        if message.qos:
            self._outstanding[message.mid] = (self._order, hash((topic, payload)))
        self._held.append(
            delivery(
                self.generation, message.mid, topic, payload, flags, self._settings.max_payload_bytes, self._order,
                len(payload),
            )
        )  # fmt: skip

    def _on_log(self, _client: paho.Client, _data: Any, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR and text.startswith("Caught exception"):
            self.counters.callback_errors += 1
            _log.error("mqtt callback failed text=%s", text)
