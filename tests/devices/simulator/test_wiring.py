"""Plugs and noise."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from devices.simulator.wiring import Noise, Plug
from devices.transports.serial_line import SerialLine
from gateway.errors import Unavailable


def test_bytes_go_both_ways_and_a_pulled_plug_hangs_up(tmp_path: Path) -> None:
    """The gateway's own serial line reads and writes; when the plug goes it says so; then the name works again."""
    plug, line = Plug(tmp_path / "dev" / "gate"), SerialLine(str(tmp_path / "dev" / "gate"))
    with pytest.raises(Unavailable, match="no such port"):
        line.open()
    plug.plug()
    line.open()
    assert plug.write(b"\xbb\x00\r\n\x7e")
    assert line.read(1.0) == b"\xbb\x00\r\n\x7e"
    line.write(b"\x00\x0d\x0a\xff")
    until_s = time.monotonic() + 60
    heard = b""
    while len(heard) < 4 and time.monotonic() < until_s:
        heard += plug.read()
    assert heard == b"\x00\x0d\x0a\xff"
    plug.pull()
    assert not plug.link.exists()
    with pytest.raises(Unavailable, match="gone"):
        line.read(1.0)
    line.close()
    assert not plug.write(b"x")
    plug.plug()
    line.open()
    assert plug.write(b"again")
    assert line.read(1.0) == b"again"
    line.close()
    plug.pull()
    plug.pull()


def test_a_line_that_nobody_reads_fills_up_and_says_so(tmp_path: Path) -> None:
    """What does not fit is lost and counted, and nothing blocks."""
    plug = Plug(tmp_path / "scanner")
    plug.plug()
    sent = sum(plug.write(bytes(1000)) for _ in range(200))
    assert 0 < sent < 200
    assert plug.lost_frames == 200 - sent
    plug.pull()


def test_a_name_left_by_a_killed_demo_is_taken_over(tmp_path: Path) -> None:
    """A dangling link is replaced, and another demo's link is not removed by the first one's pull."""
    link = tmp_path / "gate"
    link.symlink_to("/dev/pts/no-such")
    first, second = Plug(link), Plug(link)
    first.plug()
    assert link.exists()
    second.plug()
    first.pull()
    assert link.exists()
    second.pull()
    assert not link.is_symlink()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file in the way is an error with a hint, and nothing stays open."""
    (tmp_path / "dev").write_text("")
    plug = Plug(tmp_path / "dev" / "gate")
    with pytest.raises(Unavailable, match="plug in"):
        plug.plug()
    assert not plug.plugged


def test_noise_damages_its_share_and_always_really() -> None:
    """A damaged frame differs from the frame, a good cable changes nothing, and the damage is counted."""
    frame = bytes(range(24))
    quiet, loud = Noise(0.0, 1), Noise(0.2, 1)
    assert all(quiet.passed(frame) == frame for _ in range(100))
    damaged = sum(loud.passed(frame) != frame for _ in range(5000))
    assert damaged == loud.damaged
    assert 900 < damaged < 1100
    always = Noise(1.0, 2)
    assert all(always.passed(b"\x01") != b"\x01" for _ in range(500))
