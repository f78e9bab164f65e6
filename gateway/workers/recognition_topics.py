"""Tells the till of a lane who has been recognised there: on `store/{store}/recognition/{lane}`, never retained.

`{"v":1,"visit":…,"state":"here","since":…,"tier":…,"text":…,"language":…,"coupons":[…]}` when a guest comes, and
`{"v":1,"visit":…,"state":"gone"}` when the visit ends, the guest goes to another lane or takes the consent back. A till
that was away misses it: a greeting that comes late is worse than none, so nothing is said twice. Nobody is named.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway.clock import rfc3339_s
from gateway.errors import Rejected, Unavailable
from gateway.shopper.hints import Notice, Recognition

_STEP_S = 1.0
_BAD = re.compile(r"[^A-Za-z0-9_.-]+")


class Session(Protocol):
    """What it needs of a broker session (`MqttLink`)."""

    def open(self) -> None:
        """Begin to connect."""
        ...

    def receive(self, timeout_s: float, limit: int = ...) -> object:
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


class RecognitionTopics:
    """Worker."""

    def __init__(
        self, recognition: Recognition, session: Session, store: str, lanes: Mapping[str, str] | None = None
    ) -> None:
        """`session` is not open yet; `lanes`: zone or device → what the tills call the lane."""
        self._recognition = recognition
        self._session = session
        self._store = store
        self._lanes = dict(lanes or {})
        self.untold = 0

    def open(self) -> None:
        """Begin to connect."""
        self._session.open()

    def step(self, stop: threading.Event) -> None:
        """Tell what is new."""
        for notice in self._recognition.notices():
            try:
                self._session.publish(self.topic(notice.guest.lane), payload(notice), 1, False)
            except (Rejected, Unavailable):
                self.untold += 1
        self._session.receive(_STEP_S, 0)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._session.wake()

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def topic(self, lane: str) -> str:
        """Where a lane's till listens: what a topic cannot hold, as a blank or a slash, becomes `-`."""
        name = _BAD.sub("-", self._lanes.get(lane, lane)).strip("-") or "-"
        return f"store/{self._store}/recognition/{name[:64]}"


def payload(notice: Notice) -> bytes:
    """The message of a notice."""
    guest = notice.guest
    if not notice.here:
        return msgspec.json.encode({"v": 1, "visit": guest.visit, "state": "gone"})
    return msgspec.json.encode(
        {"v": 1, "visit": guest.visit, "state": "here", "since": rfc3339_s(guest.since_ms / 1000), "tier": guest.tier,
         "text": guest.text, "language": guest.language, "coupons": guest.coupons}
    )  # fmt: skip
