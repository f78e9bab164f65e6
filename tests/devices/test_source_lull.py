"""A line on which nothing happens costs next to nothing, and the first byte ends the ease."""

from __future__ import annotations

import threading

from config.loader import parse
from config.settings import PresenceSettings
from devices.plan import plan
from devices.source import Intake, SerialSource
from gateway.clock import FakeClock, Instant
from gateway.event import Origin
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet
from gateway.intake.normaliser import Normaliser
from gateway.intake.sightings import Sightings


class Line:
    """Notes how long it is waited on; speaks when told to."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []
        self.says = b""

    def open(self) -> None:
        pass

    def read(self, timeout_s: float) -> bytes:
        self.waits_s.append(timeout_s)
        said, self.says = self.says, b""
        return said

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass


class Keys:
    """A pseudonym for everybody."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return "k"


def test_a_silent_line_is_read_seldom_and_a_speaking_one_at_once() -> None:
    """After two seconds of silence the reads wait five times as long; a byte brings the short ones back."""
    origin, line = Origin("t1", "0042", "gw01"), Line()
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), Keys())
    (device,) = plan(parse('[[devices]]\nname = "pad"\ndriver = "rdm6300"\naddress = "/dev/x"', "test"), "test")
    source = SerialSource(device, line, Intake(normaliser, Inlet(), DeviceBoard(), FakeClock()))
    source.open()
    stop = threading.Event()
    for _ in range(45):
        source.step(stop)
    short_s, long_s = line.waits_s[0], line.waits_s[-1]
    assert short_s <= 0.05
    assert short_s < long_s <= 0.25
    assert line.waits_s.count(short_s) * short_s >= 2.0
    line.says = b"\x02"
    source.step(stop)
    source.step(stop)
    assert line.waits_s[-1] == short_s
