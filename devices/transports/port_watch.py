"""Watches what is plugged into the machine and not yet set up, so that a new device is seen within seconds.

A look costs two directory listings; only when they differ is anything read. Opens no port, ever: a port that is not
configured may be anybody's. Knows neither drivers nor the page.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path

import msgspec

from devices.transports.serial_line import SerialPort, ports
from devices.transports.usb_devices import SYSFS, UsbDevice, usb_devices
from gateway.clock import Clock

LOOK_EVERY_S = 1.0
_AGAIN = 10  # looks after a change in which everything is read: udev names a port a moment after the kernel does
_SERIAL_NAMES = ("ttyUSB", "ttyACM")


class Plugged(msgspec.Struct, frozen=True):
    """A device that is plugged in and not configured. `address`: to write into the configuration; "" for no port."""

    device: UsbDevice
    address: str
    since_wall_s: float


class PortBoard:
    """What is plugged in now, for whoever asks; outlives the worker that fills it."""

    def __init__(self) -> None:
        self.plugged: tuple[Plugged, ...] = ()  # replaced whole: readers need no lock


class PortWatch:
    """Worker."""

    def __init__(
        self, board: PortBoard, configured: Callable[[], Iterable[str]], clock: Clock, *,
        names: Callable[[], Hashable] | None = None,
        devices: Callable[[], list[UsbDevice]] = usb_devices,
        lister: Callable[[], list[SerialPort]] = ports,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            board: where to put what is found.
            configured: the addresses of the devices that are set up, asked each time.
            clock: when something appeared.
            names: what differs when something is plugged in or pulled; directory listings unless a test brings its own.
            devices: what is plugged in.
            lister: the serial ports, with the names that udev gave them.
        """
        self._board, self._configured, self._clock = board, configured, clock
        self._names, self._devices, self._lister = names or _listings, devices, lister
        self._seen: Hashable = None
        self._again = 0
        self._usb: list[UsbDevice] = []
        self._addresses: dict[str, str] = {}

    def open(self) -> None:
        """Nothing to acquire."""

    def step(self, stop: threading.Event) -> None:
        """Look, and wait a second."""
        self.look()
        stop.wait(LOOK_EVERY_S)

    def close(self) -> None:
        """Nothing to release."""

    def look(self) -> None:
        """See what there is now."""
        names = self._names()
        if names != self._seen:
            self._seen, self._again = names, _AGAIN
        if self._again:
            self._again -= 1
            self._usb = self._devices()
            self._addresses = {port.path: port.stable for port in self._lister()}
        if not self._usb:
            self._board.plugged = ()
            return
        taken = {os.path.realpath(address) for address in self._configured() if address.startswith("/")}
        since = {it.device: it.since_wall_s for it in self._board.plugged}
        now_s = self._clock.now().wall_s
        self._board.plugged = tuple(
            Plugged(device, self._addresses.get(device.tty, device.tty), since.get(device, now_s))
            for device in self._usb
            if not device.tty or os.path.realpath(device.tty) not in taken
        )


def _listings() -> Hashable:
    """The names of USB devices and of serial ports."""
    serial = (name for name in _entries(Path("/dev")) if name.startswith(_SERIAL_NAMES))
    return frozenset(_entries(SYSFS)), frozenset(serial)


def _entries(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - every second, and only the names are wanted
    except OSError:
        return []
