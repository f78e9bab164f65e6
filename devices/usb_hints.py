"""What a USB device looks like from its ids alone, and which drivers might speak with it. A guess, and said as one.

An adapter's chip says nothing of what hangs on its other side: then every serial driver is possible, the likeliest
first. Pure; opens nothing.

*Source*: the ids are those of the USB ID database (hwdata, `usb.ids`).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from devices.transports.usb_devices import KEYBOARDS, PRINTERS, UsbDevice

Kind = Literal["adapter", "scanner", "keyboard_scanner", "printer", "scale", "card_reader", "board", "serial"]


class Hint(msgspec.Struct, frozen=True):
    """`drivers`: those that may serve it, the likeliest first; () when none can, as it is."""

    kind: Kind
    drivers: tuple[str, ...] = ()


_ADAPTER = Hint("adapter", ("uhf_m100", "uhf_reader18", "rdm6300", "scanner_gs1", "pos_escpos"))
_SCANNER = Hint("scanner", ("scanner_gs1",))
_BOARD = Hint("board", ("scanner_gs1", "uhf_m100"))

_MODELS: dict[str, Hint] = {
    "0483:5740": _BOARD,  # STM32 virtual COM port: QR modules and reader boards
    "0416:5011": Hint("printer"),  # Winbond: receipt printers without a maker's id
    "ffff:0035": Hint("card_reader"),  # 125 kHz readers that type like a keyboard
    "0922:8003": Hint("scale"),
}
_VENDORS: dict[str, Hint] = {
    "1a86": _ADAPTER,  # QinHeng CH340, CH341, CH9102
    "0403": _ADAPTER,  # FTDI
    "10c4": _ADAPTER,  # Silicon Labs CP210x
    "067b": _ADAPTER,  # Prolific PL2303
    "0c2e": _SCANNER,  # Metrologic, Honeywell
    "0536": _SCANNER,  # Hand Held Products, Honeywell
    "05e0": _SCANNER,  # Symbol, Zebra
    "05f9": _SCANNER,  # PSC, Datalogic
    "1eab": _SCANNER,  # Newland
    "065a": _SCANNER,  # Opticon
    "04b8": Hint("printer"),  # Epson
    "0519": Hint("printer"),  # Star
    "1504": Hint("printer"),  # Bixolon
    "0dd4": Hint("printer"),  # Custom
    "0eb8": Hint("scale"),  # Mettler Toledo
    "072f": Hint("card_reader"),  # Advanced Card Systems
    "2341": _BOARD,  # Arduino
    "303a": _BOARD,  # Espressif
}
_WORDS: tuple[tuple[str, Hint], ...] = (  # what a device of an unknown maker calls itself
    ("scan", _SCANNER),
    ("barcode", _SCANNER),
    ("qr", _SCANNER),
    ("rfid", Hint("card_reader", ("rdm6300", "uhf_m100", "uhf_reader18"))),
    ("scale", Hint("scale")),
    ("printer", Hint("printer", ("pos_escpos",))),
)


def hint_of(device: UsbDevice) -> Hint | None:
    """What it looks like; None for what is no business of a shop (a mouse, a stick, a camera)."""
    hint = _MODELS.get(device.usb_id) or _VENDORS.get(device.usb_id.partition(":")[0])
    if hint is None:
        product = device.product.lower()
        hint = next((hint for word, hint in _WORDS if word in product), None)
    if device.tty:
        return hint or Hint("serial", _ADAPTER.drivers)
    if hint is not None and hint.kind == "scanner":
        return Hint("keyboard_scanner") if KEYBOARDS in device.classes else None
    if hint is not None and hint.kind in ("card_reader", "scale", "printer"):
        return Hint(hint.kind)  # not a serial port: nothing here can read it
    return Hint("printer") if PRINTERS in device.classes else None
