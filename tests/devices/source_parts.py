"""What tests of the sources share: a broker session and an intake made by hand."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from config.loader import parse
from config.settings import PresenceSettings
from devices.plan import DevicePlan, plan
from devices.source import Intake
from devices.transports.mqtt import Delivery
from gateway.clock import FakeClock, Instant
from gateway.errors import Unavailable
from gateway.event import Origin
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet
from gateway.intake.normaliser import Normaliser
from gateway.intake.sightings import Sightings


class Keys:
    """Pseudonyms that a test can read."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return "key"


class FakeLine:
    """A line that says what a test puts on it; None pulls it out."""

    def __init__(self, *said: bytes | None) -> None:
        self.said = deque(said)
        self.written: list[bytes] = []
        self.closed = False
        self.reads = 0

    def open(self) -> None:
        if self.said and self.said[0] is None:
            raise Unavailable("open line", "/dev/x", "it is not plugged in", "plug it in")

    def read(self, timeout_s: float) -> bytes:
        self.reads += 1
        if not self.said:
            return b""
        data = self.said.popleft()
        if data is None:
            raise Unavailable("read line", "/dev/x", "the device has gone", "plug it in again")
        return data

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def close(self) -> None:
        self.closed = True


class FakeLink:
    """A broker session that delivers what a test gives it."""

    def __init__(self) -> None:
        self.arrived: list[Delivery] = []
        self.acked: list[int] = []
        self.idle = 0

    def open(self) -> None:
        pass

    def receive(self, timeout_s: float, limit: int = 512) -> list[Delivery]:
        if limit == 0:
            self.idle += 1
            return []
        got, self.arrived = self.arrived[:limit], self.arrived[limit:]
        return got

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += [delivery.mid for delivery in deliveries]

    def close(self) -> None:
        pass

    def say(self, mid: int, topic: str, payload: Any, **more: Any) -> None:
        raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self.arrived.append(Delivery(1, mid, topic, raw, **more))


def made_intake(capacity: int = 64) -> Intake:
    """`capacity`: items that each lane of its inlet holds."""
    origin = Origin("t1", "0042", "gw01")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), Keys())
    return Intake(normaliser, Inlet(capacity=capacity), DeviceBoard(), FakeClock())


def plans(text: str) -> list[DevicePlan]:
    """The devices of a configuration's text."""
    return plan(parse(text, "test"), "test")
