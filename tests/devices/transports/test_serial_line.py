"""Serial lines on real pseudo-terminals: a pty's master end is the device."""

from __future__ import annotations

import errno
import os
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from devices.transports.line import line_for
from devices.transports.serial_line import SerialLine, _refused, ports
from gateway.errors import Unavailable


class PtyDevice:
    """A device on a pty, found under a name of its own as udev would give it."""

    def __init__(self, name: Path) -> None:
        self.name = name
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        os.close(slave)
        name.unlink(missing_ok=True)
        name.symlink_to(self.path)

    def unplug(self) -> None:
        os.close(self.master)
        self.master = -1
        self.name.unlink()


@pytest.fixture
def device(tmp_path: Path) -> Iterator[PtyDevice]:
    pty = PtyDevice(tmp_path / "usb-1a86_USB_Serial-if00-port0")
    yield pty
    if pty.master >= 0:
        pty.unplug()


def test_bytes_go_both_ways_whole(device: PtyDevice) -> None:
    """What the device sends arrives in one read, what we write arrives there, FF and 00 included."""
    line = line_for(str(device.name))
    line.open()
    try:
        sent = bytes(range(256)) * 8
        os.write(device.master, sent)
        assert line.read(1.0) == sent
        line.write(sent)
        assert os.read(device.master, 4096) == sent
    finally:
        line.close()


def test_silence_is_empty_after_the_timeout(device: PtyDevice) -> None:
    """Silence gives b"" after the time-out, neither at once nor much later."""
    line = line_for(str(device.name))
    line.open()
    try:
        began_s = time.monotonic()
        assert line.read(0.05) == b""
        assert 0.04 <= time.monotonic() - began_s < 20.0
        assert line.read(0) == b""
    finally:
        line.close()


def test_seven_even_one_and_an_odd_speed_open(device: PtyDevice) -> None:
    """Scales speak 7E1 and readers odd speeds: the settings reach the constructor and the line works."""
    line = line_for(str(device.name), baud=250000, bytesize=7, parity="E")
    line.open()
    try:
        os.write(device.master, b"S   1.250kg\r\n")
        assert line.read(1.0) == b"S   1.250kg\r\n"
    finally:
        line.close()


def test_modem_lines_that_a_port_lacks_do_not_stop_it(device: PtyDevice) -> None:
    """A pty has no DTR; asking for it low still opens."""
    line = SerialLine(str(device.name), dtr=False)
    line.open()
    line.close()


def test_unplug_is_unavailable_and_replug_under_the_same_name_works(device: PtyDevice) -> None:
    """After an unplug the read fails, opening fails with a hint, and the re-plugged device answers under its name."""
    line = line_for(str(device.name))
    line.open()
    first_path = device.path
    device.unplug()
    with pytest.raises(Unavailable, match="gone"):
        line.read(1.0)
    with pytest.raises(Unavailable):
        line.write(b"\xbb\x00\x22\x00\x00\x22\x7e")
    line.close()
    with pytest.raises(Unavailable) as caught:
        line.open()
    assert "plug" in caught.value.hint

    blocker, slave = os.openpty()  # takes the old number, so the device comes back under another
    again = PtyDevice(device.name)
    try:
        line.open()
        os.write(again.master, b"\x02")
        assert line.read(1.0) == b"\x02"
        assert again.path != first_path
    finally:
        line.close()
        again.unplug()
        os.close(blocker)
        os.close(slave)


def test_unplug_during_a_waiting_read_is_noticed_at_once(device: PtyDevice) -> None:
    """A read that is already waiting ends when the device goes, long before its time-out."""
    import threading

    line = line_for(str(device.name))
    line.open()
    puller = threading.Timer(0.1, device.unplug)
    puller.start()
    try:
        began_s = time.monotonic()
        with pytest.raises(Unavailable):
            line.read(20.0)
        assert time.monotonic() - began_s < 10.0
    finally:
        puller.join()
        line.close()


def test_a_port_is_held_by_one_gateway_only(device: PtyDevice) -> None:
    """A second opener is refused with the way to find the first, and may have the port after it is closed."""
    first, second = line_for(str(device.name)), line_for(str(device.name))
    first.open()
    try:
        with pytest.raises(Unavailable, match="in use") as caught:
            second.open()
        assert "fuser" in caught.value.hint
    finally:
        first.close()
    second.open()
    second.close()


def test_opening_twice_keeps_the_line(device: PtyDevice) -> None:
    """`open` on an open line does nothing, so it does not lock itself out."""
    line = line_for(str(device.name))
    line.open()
    line.open()
    os.write(device.master, b"x")
    assert line.read(1.0) == b"x"
    line.close()


def test_a_device_that_takes_nothing_is_unavailable(device: PtyDevice) -> None:
    """A write that the device never takes ends, and says so."""
    line = line_for(str(device.name))
    line.open()
    try:
        with pytest.raises(Unavailable, match="takes no bytes"):
            line.write(bytes(1_000_000))
    finally:
        line.close()


@pytest.mark.parametrize(("kind", "words"), [("missing", "no such port"), ("folder", "directory"), ("file", "a file")])
def test_what_is_no_port_says_what_it_is(tmp_path: Path, kind: str, words: str) -> None:
    """A missing path, a directory and a file each get their own reason, and a hint."""
    target = tmp_path / kind
    if kind == "folder":
        target.mkdir()
    elif kind == "file":
        target.write_bytes(b"")
    with pytest.raises(Unavailable, match=words) as caught:
        line_for(str(target)).open()
    assert caught.value.hint


def test_no_permission_names_the_group() -> None:
    """The refusal that every first installation meets says which group is missing."""
    error = _refused("/dev/ttyUSB0", OSError(errno.EACCES, "Permission denied"))
    assert "dialout" in error.hint


def test_ports_are_listed_with_their_stable_names(device: PtyDevice, tmp_path: Path) -> None:
    """A port appears with its by-id and by-path names, and the by-id name is the one to configure."""
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-path").mkdir()
    by_id, by_path = (
        tmp_path / "by-id" / "usb-FTDI_A50285BI-if00-port0",
        tmp_path / "by-path" / "pci-0000:00:14.0-usb-0:1",
    )
    by_id.symlink_to(device.path)
    by_path.symlink_to(device.path)
    port = next(port for port in ports(tmp_path) if port.path == device.path)
    assert (port.by_id, port.by_path, port.stable) == (str(by_id), str(by_path), str(by_id))


def test_no_udev_names_is_no_error(tmp_path: Path) -> None:
    """Without udev's folder the list is what the kernel shows, possibly nothing."""
    assert all(port.by_id is None for port in ports(tmp_path / "absent"))
