"""A line on which nothing happens costs next to nothing, and the first byte ends the ease."""

from __future__ import annotations

import threading

from devices.source import SerialSource
from tests.devices.source_parts import made_intake, plans


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


def test_a_silent_line_is_read_seldom_and_a_speaking_one_at_once() -> None:
    """After two seconds of silence the reads wait ten times as long; a byte brings the short ones back."""
    line = Line()
    (device,) = plans('[[devices]]\nname = "pad"\ndriver = "rdm6300"\naddress = "/dev/x"')
    source = SerialSource(device, line, made_intake())
    source.open()
    stop = threading.Event()
    for _ in range(45):
        source.step(stop)
    short_s, long_s = line.waits_s[0], line.waits_s[-1]
    assert short_s <= 0.05
    assert short_s < long_s <= 0.5
    assert line.waits_s.count(short_s) * short_s >= 2.0
    line.says = b"\x02"
    source.step(stop)
    source.step(stop)
    assert line.waits_s[-1] == short_s
