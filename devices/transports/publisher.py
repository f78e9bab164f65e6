"""The sending side of MQTT, as a device has it: a bounded outbox that empties whenever the broker is there.

A message stays in the outbox until the broker has acknowledged it (QoS 1), across any number of lost connections, so a
broker that is away costs time and nothing else. The network is served by paho's own thread. Must not know what is sent.

*Source*: OASIS MQTT 3.1.1 §4.3.2 (QoS 1), §3.1.2.5 (Will).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gateway.errors import Unavailable

_log = logging.getLogger(__name__)
_KEEPALIVE_S = 15
_RETRY_S = (0.2, 2.0)  # first and longest pause between two tries to connect
_UNDER_WAY = 100  # messages sent and not yet acknowledged


class Publisher:
    """One connection of one device. `open`, then `publish` from one thread, then `close`.

    With a `status_topic` the device says `online` there, retained, at every connection, and leaves `offline` as its
    Will. What arrives on the topics in `watch` is remembered, newest only, and read with `heard`.
    """

    def __init__(
        self, client_id: str, host: str, port: int, *, status_topic: str = "", watch: tuple[str, ...] = (),
        capacity: int = 20_000,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            client_id: unlike any other at this broker.
            host: of the broker.
            port: of the broker, 1–65535.
            status_topic: see the class; "": nothing is said.
            watch: topic filters, each without overlap.
            capacity: most messages in the outbox.
        """
        self._address = (host, port)
        self._status_topic = status_topic
        self._watch = watch
        self._capacity = capacity
        self._lock = threading.Lock()
        self._sent = 0
        self._acknowledged = 0
        self._heard: dict[str, bytes] = {}
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True, protocol=MQTTProtocolVersion.MQTTv311
        )
        client.suppress_exceptions = True
        client.max_queued_messages_set(capacity)
        client.max_inflight_messages_set(_UNDER_WAY)
        client.reconnect_delay_set(*_RETRY_S)  # type: ignore[arg-type]  # fractions work; paho says int
        if status_topic:
            client.will_set(status_topic, b"offline", 1, True)

    def open(self) -> None:
        """Begin to connect; a broker that is not there yet is no error."""
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.connect_async(*self._address, keepalive=_KEEPALIVE_S)
        self._client.loop_start()

    @property
    def connected(self) -> bool:
        """True while the broker has accepted the connection."""
        return self._client.is_connected()

    @property
    def waiting(self) -> int:
        """Messages that the broker has not acknowledged yet."""
        with self._lock:
            return self._sent - self._acknowledged

    def heard(self, topic: str) -> bytes | None:
        """The newest payload on a watched topic; None before the first."""
        return self._heard.get(topic)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Put a message into the outbox (QoS 1); it leaves when the broker is there.

        Raises:
            Unavailable: the outbox is full; nothing was taken.
        """
        if self.waiting >= self._capacity:
            raise Unavailable(
                "publish", f"mqtt://{self._address[0]}:{self._address[1]}", f"{self._capacity} messages wait already",
                "is the broker running?",
            )  # fmt: skip
        with self._lock:
            self._sent += 1
        self._client.publish(topic, payload, 1, retain)

    def flush(self, timeout_s: float) -> bool:
        """Wait until the outbox is empty, `timeout_s` seconds at most; returns whether it is."""
        until_s = time.monotonic() + timeout_s
        while self.waiting and time.monotonic() < until_s:
            time.sleep(0.02)
        return not self.waiting

    def close(self) -> None:
        """Disconnect in order (the Will is not said); what still waits is lost with this object."""
        client = self._client
        client.disconnect()
        client.loop_stop()
        # paho closes its wake-up sockets when it is collected: without a cycle that is as soon as we are
        client.on_connect = client.on_message = client.on_publish = None

    # ── paho's callbacks, on its thread ──

    def _on_connect(self, client: paho.Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            _log.warning("publisher refused broker=%s:%s reason=%s", *self._address, reason)
            return
        for topic in self._watch:
            client.subscribe(topic, 1)
        if self._status_topic:
            with self._lock:
                self._sent += 1
            client.publish(self._status_topic, b"online", 1, True)

    def _on_message(self, _client: paho.Client, _data: Any, message: Any) -> None:
        if len(self._heard) < self._capacity or message.topic in self._heard:
            self._heard[message.topic] = bytes(message.payload)

    def _on_publish(self, _client: paho.Client, _data: Any, _mid: int, _reason: Any, _properties: Any) -> None:
        with self._lock:
            self._acknowledged += 1
