"""Bluetooth LE adverts as bytes: AD structures and the beacon and sensor frames a shop uses. Pure; never raises.

    advert      = { len 1 | type 1 | value len-1 }            len counts the type byte; len 0 ends the advert
    iBeacon     = FF | 4C 00 | 02 15 | UUID 16 | major 2 BE | minor 2 BE | power at 1 m (signed 1)
    AltBeacon   = FF | company 2 LE | BE AC | id 20 | power at 1 m (signed 1) | reserved 1
    Eddystone   = 16 | AA FE | 00 UID: power at 0 m, namespace 10, instance 6 | 10 URL | 20 TLM | 30 EID
    BTHome v2   = 16 | D2 FC | info 1 (bits 7-5 version 2, bit 2 trigger, bit 0 encrypted) | { id 1 | value LE }

Bytes that are no such frame (cut, padded, foreign, encrypted telemetry, phones) give nothing. What may be *used* of a
frame is for the caller to decide: this module knows no allow-list, no MAC, no receiver and no reading.

*Sources*: Bluetooth Core Supplement part A; Apple Proximity Beacon Specification; AltBeacon/spec; google/eddystone
protocol-specification; BTHome v2 format (object ids cross-checked with the public table of bthome-ble).
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

AD_SERVICE_DATA_16 = 0x16
AD_MANUFACTURER = 0xFF
EDDYSTONE_UUID = 0xFEAA
BTHOME_UUID = 0xFCD2

_LOSS_OF_FIRST_METRE_DB = 41  # Eddystone gives the power at 0 m (google/eddystone, UID, "Tx Power")
_SCHEMES = ("http://www.", "https://www.", "http://", "https://")
_EXPANSIONS = (".com", ".org", ".edu", ".net", ".info", ".biz", ".gov")


class IBeacon(msgspec.Struct, frozen=True):
    """Apple's beacon. `uuid`: lower case with dashes; `power_1m_dbm` None where the byte cannot be a power."""

    uuid: str
    major: int
    minor: int
    power_1m_dbm: int | None


class AltBeacon(msgspec.Struct, frozen=True):
    """Radius Networks' open beacon. `beacon_id`: 40 hex digits, lower case."""

    company: int
    beacon_id: str
    power_1m_dbm: int | None


class EddystoneUid(msgspec.Struct, frozen=True):
    """Google's beacon: `namespace` 20 and `instance` 12 hex digits, lower case."""

    namespace: str
    instance: str
    power_0m_dbm: int

    @property
    def power_1m_dbm(self) -> int:
        """What a receiver sees at one metre, dBm."""
        return self.power_0m_dbm - _LOSS_OF_FIRST_METRE_DB


class EddystoneUrl(msgspec.Struct, frozen=True):
    """A broadcast web address, expanded."""

    url: str
    power_0m_dbm: int


class EddystoneTlm(msgspec.Struct, frozen=True):
    """Plain telemetry; None where the beacon says that it does not measure."""

    battery_v: float | None
    temperature_c: float | None
    adverts: int
    uptime_s: float


class EddystoneEid(msgspec.Struct, frozen=True):
    """An ephemeral id, 16 hex digits: only its issuer can tell whose it is."""

    eid: str
    power_0m_dbm: int

    @property
    def power_1m_dbm(self) -> int:
        """What a receiver sees at one metre, dBm."""
        return self.power_0m_dbm - _LOSS_OF_FIRST_METRE_DB


class Measurement(msgspec.Struct, frozen=True):
    """One BTHome object: `quantity` as in `temperature`, `value` scaled, `unit` as UCUM (`1` where there is none)."""

    object_id: int
    quantity: str
    value: float
    unit: str


class BtHome(msgspec.Struct, frozen=True):
    """A BTHome v2 packet; an encrypted one tells only that. Not `complete`: an unknown or cut object ended it."""

    encrypted: bool
    packet_id: int | None = None
    measurements: tuple[Measurement, ...] = ()
    complete: bool = True


Frame = IBeacon | AltBeacon | EddystoneUid | EddystoneUrl | EddystoneTlm | EddystoneEid | BtHome


def structures(advert: bytes) -> Iterator[tuple[int, bytes]]:
    """AD structures as (type, value). Zero padding ends the advert; a structure cut short is not given."""
    start = 0
    while start < len(advert):
        length = advert[start]
        end = start + 1 + length
        if length == 0 or end > len(advert):
            return
        yield advert[start + 1], advert[start + 2 : end]
        start = end


def frames(advert: bytes) -> tuple[Frame, ...]:
    """Every frame of an advert that this module knows, in order; empty for anything else."""
    found: list[Frame] = []
    for ad_type, value in structures(advert):
        frame: Frame | None = None
        if ad_type == AD_MANUFACTURER:
            frame = manufacturer_frame(value)
        elif ad_type == AD_SERVICE_DATA_16 and len(value) >= 2:
            frame = service_frame(int.from_bytes(value[:2], "little"), value[2:])
        if frame is not None:
            found.append(frame)
    return tuple(found)


def manufacturer_frame(data: bytes) -> Frame | None:
    """The frame in manufacturer data, company id first (little endian); None if it is neither beacon."""
    if len(data) >= 25 and data[:4] == b"\x4c\x00\x02\x15":
        return IBeacon(
            uuid=dashed(data[4:20].hex()),
            major=int.from_bytes(data[20:22], "big"),
            minor=int.from_bytes(data[22:24], "big"),
            power_1m_dbm=_power(data[24]),
        )
    if len(data) >= 25 and data[2:4] == b"\xbe\xac":
        return AltBeacon(int.from_bytes(data[:2], "little"), data[4:24].hex(), _power(data[24]))
    return None


def service_frame(uuid: int, data: bytes) -> Frame | None:
    """The frame in the service data of a 16-bit `uuid`; None if it is neither Eddystone nor BTHome v2."""
    if uuid == EDDYSTONE_UUID:
        return _eddystone(data)
    if uuid == BTHOME_UUID:
        return _bthome(data)
    return None


def dashed(uuid_hex: str) -> str:
    """32 hex digits as a UUID with dashes."""
    return "-".join((uuid_hex[:8], uuid_hex[8:12], uuid_hex[12:16], uuid_hex[16:20], uuid_hex[20:]))


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _power(byte: int) -> int | None:
    """Calibrated power at 1 m. No beacon is heard there at 0 dBm or more: clones put a battery voltage in this byte."""
    power = _signed(byte)
    return power if power < 0 else None


def _eddystone(data: bytes) -> Frame | None:
    kind = data[0] if data else None
    if kind == 0x00 and len(data) >= 18:  # two reserved bytes follow in the document, and are missing on some beacons
        return EddystoneUid(data[2:12].hex(), data[12:18].hex(), _signed(data[1]))
    if kind == 0x10 and len(data) >= 3:
        url = _url(data[2:])
        return None if url is None else EddystoneUrl(url, _signed(data[1]))
    if kind == 0x20 and len(data) >= 14 and data[1] == 0x00:  # version 01 is encrypted
        battery_mv = int.from_bytes(data[2:4], "big")
        temperature = int.from_bytes(data[4:6], "big", signed=True)
        return EddystoneTlm(
            battery_v=battery_mv / 1000 if battery_mv else None,
            temperature_c=None if temperature == -0x8000 else temperature / 256,
            adverts=int.from_bytes(data[6:10], "big"),
            uptime_s=int.from_bytes(data[10:14], "big") / 10,
        )
    if kind == 0x30 and len(data) >= 10:
        return EddystoneEid(data[2:10].hex(), _signed(data[1]))
    return None


def _url(data: bytes) -> str | None:
    """An Eddystone URL written out; None if a byte is reserved (google/eddystone, eddystone-url)."""
    if data[0] >= len(_SCHEMES):
        return None
    parts = [_SCHEMES[data[0]]]
    for byte in data[1:]:
        if byte < 0x0E:
            parts.append(_EXPANSIONS[byte % 7] + ("/" if byte < 7 else ""))
        elif 0x21 <= byte <= 0x7E:
            parts.append(chr(byte))
        else:
            return None
    return "".join(parts)


def _bthome(data: bytes) -> BtHome | None:
    if not data or data[0] >> 5 != 2:
        return None
    if data[0] & 1:
        return BtHome(encrypted=True)
    packet_id: int | None = None
    found: list[Measurement] = []
    start, complete = 1, True
    while start < len(data):
        object_id = data[start]
        known = OBJECTS.get(object_id)
        if object_id in _COUNTED and start + 1 < len(data):
            start += 2 + data[start + 1]
            complete = complete and start <= len(data)
            continue
        end = start + 1 + (known[1] if known else 0)
        if known is None or end > len(data):  # ids are sorted and carry no length: nothing after this can be read
            complete = False
            break
        quantity, size, signed, scale, unit = known
        raw = int.from_bytes(data[start + 1 : start + 1 + size], "little", signed=signed)
        start = end
        if object_id == 0x00:
            packet_id = raw
        elif quantity:
            found.append(Measurement(object_id, quantity, float(raw * Decimal(scale)), unit))
    return BtHome(False, packet_id, tuple(found), complete)


_COUNTED = frozenset({0x53, 0x54})  # text and raw: one length byte, then that many; free text is not passed on

# id: (quantity, bytes, signed, scale, UCUM unit). An empty quantity is read over: nothing a shop needs.
OBJECTS: dict[int, tuple[str, int, bool, str, str]] = {
    0x00: ("packet_id", 1, False, "1", "1"),
    0x01: ("battery", 1, False, "1", "%"),
    0x02: ("temperature", 2, True, "0.01", "Cel"),
    0x03: ("humidity", 2, False, "0.01", "%"),
    0x04: ("pressure", 3, False, "0.01", "hPa"),
    0x05: ("illuminance", 3, False, "0.01", "lx"),
    0x06: ("mass", 2, False, "0.01", "kg"),
    0x07: ("mass", 2, False, "0.01", "[lb_av]"),
    0x08: ("dew_point", 2, True, "0.01", "Cel"),
    0x09: ("count", 1, False, "1", "1"),
    0x0A: ("energy", 3, False, "0.001", "kW.h"),
    0x0B: ("power", 3, False, "0.01", "W"),
    0x0C: ("voltage", 2, False, "0.001", "V"),
    0x0D: ("pm2_5", 2, False, "1", "ug/m3"),
    0x0E: ("pm10", 2, False, "1", "ug/m3"),
    0x0F: ("state", 1, False, "1", "1"),
    0x10: ("power_on", 1, False, "1", "1"),
    0x11: ("opening", 1, False, "1", "1"),
    0x12: ("co2", 2, False, "1", "[ppm]"),
    0x13: ("tvoc", 2, False, "1", "ug/m3"),
    0x14: ("moisture", 2, False, "0.01", "%"),
    0x15: ("battery_low", 1, False, "1", "1"),
    0x16: ("battery_charging", 1, False, "1", "1"),
    0x17: ("co_detected", 1, False, "1", "1"),
    0x18: ("cold", 1, False, "1", "1"),
    0x19: ("connected", 1, False, "1", "1"),
    0x1A: ("door", 1, False, "1", "1"),
    0x1B: ("garage_door", 1, False, "1", "1"),
    0x1C: ("gas_detected", 1, False, "1", "1"),
    0x1D: ("heat", 1, False, "1", "1"),
    0x1E: ("light_detected", 1, False, "1", "1"),
    0x1F: ("unlocked", 1, False, "1", "1"),
    0x20: ("wet", 1, False, "1", "1"),
    0x21: ("motion", 1, False, "1", "1"),
    0x22: ("moving", 1, False, "1", "1"),
    0x23: ("occupancy", 1, False, "1", "1"),
    0x24: ("plugged_in", 1, False, "1", "1"),
    0x25: ("presence", 1, False, "1", "1"),
    0x26: ("problem", 1, False, "1", "1"),
    0x27: ("running", 1, False, "1", "1"),
    0x28: ("safe", 1, False, "1", "1"),
    0x29: ("smoke_detected", 1, False, "1", "1"),
    0x2A: ("sound_detected", 1, False, "1", "1"),
    0x2B: ("tampered", 1, False, "1", "1"),
    0x2C: ("vibration", 1, False, "1", "1"),
    0x2D: ("window", 1, False, "1", "1"),
    0x2E: ("humidity", 1, False, "1", "%"),
    0x2F: ("moisture", 1, False, "1", "%"),
    0x3A: ("button", 1, False, "1", "1"),
    0x3C: ("dimmer", 2, False, "1", "1"),
    0x3D: ("count", 2, False, "1", "1"),
    0x3E: ("count", 4, False, "1", "1"),
    0x3F: ("rotation", 2, True, "0.1", "deg"),
    0x40: ("distance", 2, False, "1", "mm"),
    0x41: ("distance", 2, False, "0.1", "m"),
    0x42: ("duration", 3, False, "0.001", "s"),
    0x43: ("current", 2, False, "0.001", "A"),
    0x44: ("speed", 2, False, "0.01", "m/s"),
    0x45: ("temperature", 2, True, "0.1", "Cel"),
    0x46: ("uv_index", 1, False, "0.1", "1"),
    0x47: ("volume", 2, False, "0.1", "L"),
    0x48: ("volume", 2, False, "1", "mL"),
    0x49: ("volume_flow", 2, False, "0.001", "m3/h"),
    0x4A: ("voltage", 2, False, "0.1", "V"),
    0x4B: ("gas", 3, False, "0.001", "m3"),
    0x4C: ("gas", 4, False, "0.001", "m3"),
    0x4D: ("energy", 4, False, "0.001", "kW.h"),
    0x4E: ("volume", 4, False, "0.001", "L"),
    0x4F: ("water", 4, False, "0.001", "L"),
    0x50: ("", 4, False, "1", "1"),  # time stamp by a clock that nobody sets
    0x51: ("acceleration", 2, False, "0.001", "m/s2"),
    0x52: ("rotation_speed", 2, False, "0.001", "deg/s"),
    0x55: ("volume_stored", 4, False, "0.001", "L"),
    0x56: ("conductivity", 2, False, "1", "uS/cm"),
    0x57: ("temperature", 1, True, "1", "Cel"),
    0x58: ("temperature", 1, True, "0.35", "Cel"),
    0x59: ("count", 1, True, "1", "1"),
    0x5A: ("count", 2, True, "1", "1"),
    0x5B: ("count", 4, True, "1", "1"),
    0x5C: ("power", 4, True, "0.01", "W"),
    0x5D: ("current", 2, True, "0.001", "A"),
    0x5E: ("direction", 2, False, "0.01", "deg"),
    0x5F: ("precipitation", 2, False, "0.1", "mm"),
    0x60: ("", 1, False, "1", "1"),  # channel
    0x61: ("rotational_speed", 2, False, "1", "/min"),
    0x62: ("speed", 4, True, "0.000001", "m/s"),
    0x63: ("acceleration", 4, True, "0.000001", "m/s2"),
    0x64: ("light_level", 1, False, "1", "1"),
    0xF0: ("", 2, False, "1", "1"),  # device type
    0xF1: ("", 4, False, "1", "1"),  # firmware version
    0xF2: ("", 3, False, "1", "1"),  # firmware version
}
