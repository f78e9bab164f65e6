"""Alerts on the shop's own broker: what is up stands retained on `store/{store}/alerts`, for displays and programs.

A state, no event: each message replaces the one before, and the gateway itself never listens there. Composition: the
words are `alert_words`, the session is devices'.
"""

from __future__ import annotations

import json
import threading
from typing import Any, Final, Protocol

from config.settings import Settings
from gateway.alerts.desk import AlertDesk
from gateway.clock import Clock
from gateway.workers.alert_words import speaker_of, topic_payload

_LOOK_S: Final = 2.0
_AGAIN_S: Final = 600.0  # the topic is written anew, for a broker that has forgotten it


class Session(Protocol):
    """What the topic needs of a broker session (`MqttLink`)."""

    @property
    def generation(self) -> int:
        """The number of the connection."""
        ...

    def open(self) -> None:
        """Begin to connect."""
        ...

    def receive(self, timeout_s: float, limit: int = ...) -> Any:
        """Serve the network."""
        ...

    def publish(self, topic: str, payload: bytes, qos: int = ..., retain: bool = ...) -> None:
        """Send a message."""
        ...

    def wake(self) -> None:
        """Let `receive` return, from any thread."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


def topic_of(store: str) -> str:
    """Where a store's alerts stand."""
    return f"store/{store}/alerts"


class AlertTopic:
    """Worker: keeps what is up on the topic, retained; writes it anew when it changes and on every new connection."""

    def __init__(self, settings: Settings, desk: AlertDesk, clock: Clock, session: Session) -> None:
        """`session` is not open yet and listens to nothing."""
        self._desk, self._clock, self._session = desk, clock, session
        self._topic = topic_of(settings.gateway.store)
        self._speaker = speaker_of(settings)
        self._written: tuple[int, int] | None = None
        self._written_s = 0.0

    def open(self) -> None:
        """Begin to connect."""
        self._session.open()

    def step(self, stop: threading.Event) -> None:
        """Serve the session; write when something changed."""
        self._session.receive(_LOOK_S, 16)
        state = self._session.generation, self._desk.version
        now = self._clock.now()
        if not state[0] or (state == self._written and now.mono_s - self._written_s < _AGAIN_S):
            return
        payload = topic_payload(self._desk.view().now, int(now.wall_s * 1000), self._speaker)
        self._session.publish(self._topic, json.dumps(payload, ensure_ascii=False).encode(), retain=True)
        self._written, self._written_s = state, now.mono_s

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._session.wake()

    def close(self) -> None:
        """Disconnect; where the topic was switched off, nothing is left standing on it."""
        if not (self._desk.settings.enabled and self._desk.settings.mqtt):
            self._session.publish(self._topic, b"", retain=True)
        self._session.close()
