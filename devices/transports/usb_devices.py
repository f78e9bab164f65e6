"""What is plugged into this machine's USB sockets, read from sysfs. Opens no device and knows no driver.

*Source*: Linux, Documentation/ABI/testing/sysfs-bus-usb; class codes: USB-IF, Defined Class Codes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

SYSFS = Path("/sys/bus/usb/devices")
KEYBOARDS, PRINTERS, HUBS = 0x03, 0x07, 0x09  # interface classes: human interface, printer, hub
_TEXT = 80
_MOST = 64  # devices looked at; a shop's box has a dozen


class UsbDevice(msgspec.Struct, frozen=True):
    """One device. `socket`: the kernel's name of where it is plugged in, `1-1.3`; `product`: what it calls itself."""

    socket: str
    usb_id: str  # "1a86:7523"
    product: str = ""
    classes: frozenset[int] = frozenset()
    tty: str = ""  # "/dev/ttyUSB0" where it is a serial port


def usb_devices(root: Path = SYSFS) -> list[UsbDevice]:
    """What is plugged in, hubs left out, by socket; [] where there is no USB.

    Args:
        root: the kernel's folder of USB devices and interfaces.
    """
    found: list[UsbDevice] = []
    with contextlib.suppress(OSError):  # a device that goes while it is read is not there
        for folder in sorted(root.iterdir())[: _MOST * 4]:
            if ":" in folder.name or folder.name.startswith("usb"):
                continue
            vendor, model = _read(folder / "idVendor"), _read(folder / "idProduct")
            if len(vendor) != 4 or len(model) != 4:
                continue
            interfaces = sorted(root.glob(f"{folder.name}:*"))
            classes = frozenset(_class(_read(it / "bInterfaceClass")) for it in interfaces)
            if HUBS in classes:
                continue
            product = " ".join(filter(None, (_read(folder / "manufacturer"), _read(folder / "product"))))
            usb_id = f"{vendor}:{model}".lower()
            found.append(UsbDevice(folder.name, usb_id, product[:_TEXT], classes, _tty(interfaces)))
    return found[:_MOST]


def _tty(interfaces: list[Path]) -> str:
    for interface in interfaces:
        for name in (*interface.glob("ttyUSB*"), *interface.glob("tty/tty*")):
            return f"/dev/{name.name}"
    return ""


def _class(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return -1


def _read(path: Path) -> str:
    try:
        return "".join(it for it in path.read_text("utf-8", "replace").strip() if it.isprintable())
    except OSError:
        return ""
