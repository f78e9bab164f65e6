"""An MQTT link that loses nothing: QoS 1, acknowledged only when the caller says so, driven by the caller's thread.

The hard rule here: an acknowledgement of an earlier connection, or of a delivery that the broker has since repeated, is
never sent, because it would discard another message that reuses the packet id. `mqtt_session` keeps the connection.
Must not know what a topic or a payload means.

*Source*: PROTOCOLS §9.1 (experiments 3–6), §9.2.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Mapping, Sequence
from operator import attrgetter

import paho.mqtt.client as paho

from devices.transports.mqtt_client import WireClient
from devices.transports.mqtt_session import LinkCounters, Session
from devices.transports.mqtt_settings import MqttSettings, Tls, broker_address
from devices.transports.mqtt_wire import Delivery
from gateway.errors import Rejected, Unavailable

__all__ = ["Delivery", "LinkCounters", "MqttLink", "MqttSettings", "Tls", "broker_address"]

_OUTGOING = 1000  # publishes that may wait for the connection
_order = attrgetter("order")


class MqttLink:
    """One session at one broker.

    One thread calls `open`, then `receive` again and again (at least every half keep-alive, also when it can take no
    message), and `close`. `ack`, `publish` and the properties may be used from any thread. A broker that is away is no
    error: the link connects by itself, for ever, and says how it is (`connected`, `trouble`).
    """

    def __init__(self, settings: MqttSettings, client_type: type[paho.Client] = WireClient) -> None:
        """Store the settings. `client_type`: `paho.Client` itself makes the link do without its wire (slower)."""
        self.settings = settings
        self._client_type = client_type
        self._session: Session | None = None
        self._acks: deque[Sequence[Delivery]] = deque()  # bounded by what the broker leaves unacknowledged
        self._outgoing: deque[tuple[str, bytes, int, bool]] = deque()
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._woken = False
        self._roused = False

    # ── how it is ──

    @property
    def connected(self) -> bool:
        """True from the broker's acceptance until the connection is known to be lost."""
        return self._session is not None and self._session.connected

    @property
    def subscribed(self) -> bool:
        """True when connected and the broker has answered for every topic (see `refused`)."""
        return self._session is not None and self._session.connected and self._session.subscribed

    @property
    def generation(self) -> int:
        """The number of the present (or last) connection, unlike any other in this process; 0 before the first."""
        return self._session.generation if self._session is not None else 0

    @property
    def counters(self) -> LinkCounters:
        """What happened since `open`."""
        return self._session.counters if self._session is not None else LinkCounters()

    @property
    def last_packet_mono_s(self) -> float:
        """Monotonic time of the last byte from the broker; 0.0 before the first."""
        return self._session.last_packet_mono_s if self._session is not None else 0.0

    @property
    def refused(self) -> Mapping[str, str]:
        """Topic filters that the broker does not serve as asked, each with its reason; empty when all is well."""
        return self._session.refused if self._session is not None else {}

    @property
    def trouble(self) -> str:
        """Why there is no connection, for a person; "" while there is one."""
        return self._session.trouble if self._session is not None else "not open"

    @property
    def protocol(self) -> str:
        """The MQTT version spoken, "5" or "3.1.1"; "" before `open`."""
        return "" if self._session is None else "5" if self._session.v5 else "3.1.1"

    # ── use ──

    def open(self) -> None:
        """Get ready and begin to connect; does not wait for the broker.

        Raises:
            ConfigError: the settings cannot work.
        """
        if self._ears is not None:
            return
        self.settings.check()
        session = Session(self.settings, self.settings.ssl_context(), self._wake, self._client_type)
        ears = socket.socketpair()
        for ear in ears:
            ear.setblocking(False)
        self._session, self._ears, self._woken = session, ears, False
        session.step(time.monotonic(), 0)

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
        session, ears = self._session, self._ears
        if session is None or ears is None:
            raise Unavailable("receive", self.settings.address, "the link is not open")
        until_s = time.monotonic() + timeout_s
        while True:
            now_s = time.monotonic()
            if self._woken:
                self._hush(ears[0])
            self._settle(session)
            session.step(now_s, limit)
            if limit > 0 and (taken := session.take(limit)):
                return taken
            left_s = until_s - now_s
            if left_s <= 0 or self._roused:
                self._roused = False
                return []
            self._wait(session, ears[0], min(left_s, session.pause_s(now_s)), limit)

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
            raise Unavailable("publish", self.settings.address, f"{_OUTGOING} messages wait already", self.trouble)
        self._outgoing.append((topic, bytes(payload), qos, retain))
        self._wake()

    def wake(self) -> None:
        """Let `receive` return now, or at once when it is called next. From any thread."""
        self._roused = True
        self._wake()

    def close(self) -> None:
        """Send the last acknowledgements, say offline, disconnect; at most about 2 s. May be called again."""
        session, ears = self._session, self._ears
        self._ears = None
        if session is None or ears is None:
            return
        self._settle(session)
        if session.connected:
            status = self.settings.status_topic
            said = session.publish(status, b"offline", 1, True) if status else None
            until_s = time.monotonic() + 1.0
            while session.connected and (now_s := time.monotonic()) < until_s:
                session.step(now_s, 0)
                if not session.unsent and (said is None or said.is_published()):
                    break
                self._wait(session, ears[0], 0.05, 0)
        session.end()
        for ear in ears:
            ear.close()

    # ── inside ──

    def _settle(self, session: Session) -> None:
        """Hand on what other threads have left: acknowledgements and publishes."""
        if self._acks:
            self._send_acks(session)
        while self._outgoing and session.connected:
            if session.publish(*self._outgoing[0]) is None:
                return
            self._outgoing.popleft()

    def _send_acks(self, session: Session) -> None:
        batch: list[Delivery] = []
        asked = 0
        while self._acks:
            wanting = [item for item in self._acks.popleft() if item.qos]
            asked += len(wanting)
            batch += [item for item in wanting if item.generation == session.generation]
        batch.sort(key=_order)
        sent = session.acknowledge(batch) if session.connected else 0  # not connected: the message comes again
        session.counters.acked += sent
        session.counters.stale_acks += asked - sent

    def _wait(self, session: Session, ear: socket.socket, timeout_s: float, limit: int) -> None:
        """Until the socket has something, another thread calls, or the time is over."""
        poll = select.poll()  # select() cannot take descriptors above 1023
        poll.register(ear.fileno(), select.POLLIN)
        interest = session.interest(limit)
        if interest is not None:
            poll.register(*interest)
        if any(fd == ear.fileno() for fd, _ in poll.poll(timeout_s * 1000)):
            self._woken = True  # the byte may come after the flag was taken down

    def _wake(self) -> None:
        ears = self._ears
        if ears is None or self._woken:
            return
        self._woken = True
        with contextlib.suppress(OSError):  # full: a call is waiting already; closed: nobody is there to wake
            ears[1].send(b"\0")

    def _hush(self, ear: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):  # the flag may be seen before the byte; poll finds it later
            ear.recv(4096)
        self._woken = False  # before the queues are looked at, so that what comes later wakes again
