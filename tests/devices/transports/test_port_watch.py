"""What is plugged in and not set up is seen within seconds, is never opened, and is gone when it is pulled."""

from __future__ import annotations

import os
import pty
import threading
import time
from pathlib import Path

import pytest

from devices.catalogue import names as driver_names
from devices.transports.port_watch import PortBoard, PortWatch
from devices.transports.serial_line import SerialPort
from devices.transports.usb_devices import UsbDevice, usb_devices
from devices.usb_hints import _MODELS, _VENDORS, _WORDS, hint_of
from gateway.clock import FakeClock
from tests.patience import until


def plug(root: Path, socket: str, usb_id: str, product: str = "", tty: str = "", interface: str = "ff") -> None:
    """As the kernel shows it."""
    vendor, _, model = usb_id.partition(":")
    (root / socket).mkdir()
    for name, text in (("idVendor", vendor), ("idProduct", model), ("product", product)):
        (root / socket / name).write_text(text + "\n")
    side = root / f"{socket}:1.0"
    (side / tty if tty else side).mkdir(parents=True)
    (side / "bInterfaceClass").write_text(interface + "\n")


def test_devices_are_read_as_the_kernel_shows_them_and_hubs_are_none(tmp_path: Path) -> None:
    plug(tmp_path, "1-1", "1a86:7523", "USB Serial", "ttyUSB0")
    plug(tmp_path, "1-2", "05e0:1701", "Bar Code\x07 Scanner", "tty/ttyACM0", "02")
    plug(tmp_path, "1-3", "1d6b:0002", "Hub", "", "09")
    (tmp_path / "usb1").mkdir()
    (tmp_path / "1-4").mkdir()  # going while it is read
    found = usb_devices(tmp_path)
    assert [(it.socket, it.usb_id, it.tty) for it in found] == [
        ("1-1", "1a86:7523", "/dev/ttyUSB0"), ("1-2", "05e0:1701", "/dev/ttyACM0"),
    ]  # fmt: skip
    assert found[1].product == "Bar Code Scanner"
    assert usb_devices(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("device", "kind", "first"),
    [
        (UsbDevice("1-1", "1a86:7523", "", frozenset({0xFF}), "/dev/ttyUSB0"), "adapter", "uhf_m100"),
        (UsbDevice("1-1", "05e0:1701", "", frozenset({2, 10}), "/dev/ttyACM0"), "scanner", "scanner_gs1"),
        (UsbDevice("1-1", "05e0:1200", "", frozenset({3})), "keyboard_scanner", None),
        (UsbDevice("1-1", "04b8:0202", "", frozenset({7})), "printer", None),
        (UsbDevice("1-1", "abcd:0001", "Thermal thing", frozenset({7})), "printer", None),
        (UsbDevice("1-1", "abcd:0001", "QR Reader", frozenset({2}), "/dev/ttyACM1"), "scanner", "scanner_gs1"),
        (UsbDevice("1-1", "abcd:0001", "Thing", frozenset({2}), "/dev/ttyACM1"), "serial", "uhf_m100"),
        (UsbDevice("1-1", "046d:c31c", "USB Keyboard", frozenset({3})), None, None),
        (UsbDevice("1-1", "0781:5567", "Cruzer Blade", frozenset({8})), None, None),
    ],
)
def test_a_device_is_told_by_its_ids_and_what_is_no_business_of_a_shop_is_left_alone(
    device: UsbDevice, kind: str | None, first: str | None
) -> None:
    hint = hint_of(device)
    assert (hint and hint.kind) == kind
    assert next(iter(hint.drivers), None) == first if hint else first is None


def test_every_driver_that_a_hint_names_is_there() -> None:
    hints = [*_MODELS.values(), *_VENDORS.values(), *(hint for _, hint in _WORDS)]
    assert {driver for hint in hints for driver in hint.drivers} <= set(driver_names())


class Sockets:
    """What is plugged in, and how often it was read."""

    def __init__(self) -> None:
        self.there: list[UsbDevice] = []
        self.reads = 0

    def names(self) -> frozenset[str]:
        return frozenset(it.socket for it in self.there)

    def devices(self) -> list[UsbDevice]:
        self.reads += 1
        return list(self.there)

    def ports(self) -> list[SerialPort]:
        return [SerialPort(it.tty, by_id=f"/dev/serial/by-id/{it.socket}") for it in self.there if it.tty]


def watch(sockets: Sockets, configured: list[str]) -> tuple[PortBoard, PortWatch, FakeClock]:
    board, clock = PortBoard(), FakeClock()
    return board, PortWatch(
        board, lambda: configured, clock, names=sockets.names, devices=sockets.devices, lister=sockets.ports
    ), clock  # fmt: skip


def test_a_new_port_is_named_by_udevs_name_keeps_its_moment_and_goes_when_pulled_or_set_up() -> None:
    sockets, configured = Sockets(), ["tcp://10.0.0.9:4001"]
    board, watcher, clock = watch(sockets, configured)
    watcher.look()
    assert board.plugged == ()
    sockets.there = [UsbDevice("1-1", "1a86:7523", "", frozenset(), "/dev/ttyUSB7")]
    watcher.look()
    began_s = clock.now().wall_s
    clock.advance(5)
    watcher.look()
    assert [(it.address, it.since_wall_s) for it in board.plugged] == [("/dev/serial/by-id/1-1", began_s)]
    configured.append("/dev/ttyUSB7")
    watcher.look()
    assert board.plugged == ()
    configured.pop()
    sockets.there = []
    watcher.look()
    assert board.plugged == ()


def test_a_quiet_machine_is_not_read_again() -> None:
    sockets = Sockets()
    _, watcher, _ = watch(sockets, [])
    for _ in range(100):
        watcher.look()
    assert sockets.reads <= 10


def test_a_port_is_seen_and_nobody_opens_it() -> None:
    master, other = pty.openpty()
    path = os.ttyname(other)
    os.close(other)
    sockets = Sockets()
    board, watcher, _ = watch(sockets, [])
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            watcher.step(stop)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        time.sleep(0.05)
        sockets.there = [UsbDevice("1-1", "10c4:ea60", "CP2102", frozenset({0xFF}), path)]
        until(lambda: board.plugged)
        assert not _opened(path)
    finally:
        stop.set()
        thread.join(60)
        os.close(master)


def _opened(path: str) -> bool:
    return any(os.path.realpath(it) == path for it in Path("/proc/self/fd").iterdir() if it.is_symlink())
