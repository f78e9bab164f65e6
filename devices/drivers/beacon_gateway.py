"""Bluetooth gateways over MQTT: Theengs, OpenMQTTGateway and Minew; own beacons, buttons and sensors only.

Devices: any receiver running Theengs Gateway or OpenMQTTGateway (one JSON object an advert); Minew G1, G2, MG
(a JSON array; on the gateway choose JSON-LONG, not a binary format).
Documents: Theengs decoder and OpenMQTTGateway documentation; captures of Minew JSON in public code; for the bytes of an
advert see devices/ble.py.

    home/<gateway>/BTtoMQTT/<MAC>   {"id": "AA:BB:…", "mac_type": 0, "rssi": -63, and either decoded keys
                                     (uuid major minor txpower | packet batt button open tempc hum lux …)
                                     or "manufacturerdata" / "servicedata" + "servicedatauuid", hex}
    home/<gateway>/LWT              online / offline, retained
    any topic (Minew)               [{"type": "Gateway", "mac": …}, {"type": "iBeacon" | "S1" | "Unknown", "mac",
                                     "rssi", ibeaconUuid ibeaconMajor ibeaconMinor ibeaconTxPower | temperature
                                     humidity battery | rawData}, …]

**Privacy.** Nothing passes that is not named in the options below; with none of them set, *nothing passes at all*. A
foreign advert is dropped here and only counted: no MAC, no foreign beacon and no phone leaves this driver, not even
in a reading or a quarantined message: an advert message that cannot be read is counted as bad and dropped, where other
drivers would set it aside for a person to look at. Random addresses (`mac_type` 1: every phone) are dropped even with
an allow-listed beacon in them, unless their MAC is in `devices`. Many small beacons have a *random static* address that
never changes: `random_static_addresses = true` lets those through, never the changing ones. Distances that gateways
compute are not used.

What becomes of an advert:

    iBeacon, AltBeacon, Eddystone-UID on its list          a beacon sighting: RSSI, power at 1 m, receiver
    Eddystone-EID of a listed device                       the same, under the device's name
    BTHome v2, Theengs keys, Minew S1, Eddystone-TLM
    of a listed device                                     button (single, double, long …), contact, sensor value
    encrypted BTHome                                       dropped: there is no place for its key here

BTHome sensors say everything several times and several gateways hear it: the same packet id of a device within
`repeat_window_s` is one statement; where there is no packet id, the same content within 2 s. The receiver is the
gateway's name in the topic, or its entry in `receivers`; a gateway known only by a MAC is called like this device.
One entry can serve many gateways; its state is then that of the gateway that spoke last (named in the detail), so give
each gateway an entry of its own where its going offline matters.

    [[devices]]
    name = "ble"
    driver = "beacon_gateway"
    topics = ["home/+/BTtoMQTT/#", "home/+/LWT", "minew/+/status"]
    [devices.options]
    ibeacon_uuids = ["fda50693-a4e2-4fb1-afcf-c6eb07647825"]
    altbeacon_prefixes = ["2f234454cf6d4a0fadf2f4911ba9ffa6"]  # 8 to 40 hex digits
    eddystone_namespaces = ["8b0ca750095477cb3e77"]
    random_static_addresses = false
    repeat_window_s = 10.0
    max_bytes = 65536
    [devices.options.devices]           # MAC = name: own buttons and sensors
    "AC:23:3F:A0:32:08" = "fridge-3"
    [devices.options.receivers]         # gateway's MAC or name in the topic = name
    "AC:23:3F:C0:01:EA" = "door-gateway"
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from devices import ble
from devices.driver import Driver, Message, Options, driver
from devices.payload import MAX_BYTES, json_value, number, text_value
from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.intake.reading import BeaconSighting, Button, Contact, DeviceState, Reading, SensorValue

_HEX = re.compile(r"[0-9a-f]+")
_ANONYMOUS_WINDOW_S = 2.0  # adverts of one event last about a second, and gateways pass them on within another
_MAX_HEARD = 1024
_PRESSES = {
    1: "single", 2: "double", 3: "triple", 4: "long", 5: "long_double", 6: "long_triple", 0x80: "hold", 0xFE: "hold",
}  # fmt: skip  # BTHome v2 button event; 80 and FE: Shelly BLU documents
_THEENGS_PRESSES = {1: "single", 2: "double", 3: "triple", 4: "long", 9: "long"}  # Theengs decoder, SBBT-002C
_OPENINGS = frozenset({"window", "door", "garage_door", "opening"})
_THEENGS_VALUES = {
    "batt": ("battery", "%"), "tempc": ("temperature", "Cel"), "hum": ("humidity", "%"), "lux": ("illuminance", "lx"),
    "volt": ("voltage", "V"), "pres": ("pressure", "hPa"), "moi": ("moisture", "%"), "rot": ("rotation", "deg"),
    "co2": ("co2", "[ppm]"),
}  # fmt: skip  # Theengs decoder, properties
_S1_VALUES = {"temperature": ("temperature", "Cel"), "humidity": ("humidity", "%"), "battery": ("battery", "%")}


class BeaconGatewayOptions(Options, frozen=True, kw_only=True):
    """The allow-list (hex in any case, with or without dashes and colons) and the names of gateways; see the manual."""

    ibeacon_uuids: tuple[str, ...] = ()
    altbeacon_prefixes: tuple[str, ...] = ()
    eddystone_namespaces: tuple[str, ...] = ()
    devices: dict[str, str] = msgspec.field(default_factory=dict)
    receivers: dict[str, str] = msgspec.field(default_factory=dict)
    random_static_addresses: bool = False
    repeat_window_s: float = 10.0
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        _check_hex("ibeacon_uuids", self.ibeacon_uuids, 32, 32)
        _check_hex("altbeacon_prefixes", self.altbeacon_prefixes, 8, 40)
        _check_hex("eddystone_namespaces", self.eddystone_namespaces, 20, 20)
        for mac in self.devices:
            _check_hex(f"devices.{mac}", (mac,), 12, 12, index=False)
        if len({_plain(mac) for mac in self.devices}) < len(self.devices):
            raise ValueError("devices: the same MAC is there twice")
        if len(set(self.devices.values())) < len(self.devices):
            raise ValueError("devices: two MACs have the same name")
        for field, names in (("devices", self.devices), ("receivers", self.receivers)):
            for key, name in names.items():
                if not name.strip():
                    raise ValueError(f"{field}.{key}: needs a name")
        if not 0 < self.repeat_window_s <= 3600:
            raise ValueError("repeat_window_s: must be more than 0 and at most 3600")
        if not 256 <= self.max_bytes <= 16 * 1024 * 1024:
            raise ValueError("max_bytes: must be 256 to 16777216")


class _Advert(msgspec.Struct, frozen=True):
    """One advert as a gateway passed it on. `name`: of the listed device that sent it, else None."""

    receiver: str
    name: str | None
    rssi_dbm: float | None
    frames: tuple[ble.Frame, ...] = ()
    values: tuple[tuple[str, float, str], ...] = ()  # decoded by the gateway: quantity, value, unit
    open: bool | None = None
    press: str | None = None
    packet_id: int | None = None
    battery: int | None = None


class _Unreadable(Exception):
    """An advert of the wrong shape. Carries nothing: what it held may be somebody's."""


@driver("beacon_gateway", wire="mqtt", options=BeaconGatewayOptions, topics=("home/+/BTtoMQTT/#", "home/+/LWT"))
class BeaconGateway(Driver):
    """Reads adverts of any number of gateways; remembers packet ids for `repeat_window_s`, at most 1,024 of them."""

    options: BeaconGatewayOptions

    def __init__(self, options: BeaconGatewayOptions, device: str) -> None:
        super().__init__(options, device)
        self._uuids = frozenset(_plain(uuid) for uuid in options.ibeacon_uuids)
        self._prefixes = tuple(_plain(prefix) for prefix in options.altbeacon_prefixes)
        self._namespaces = frozenset(_plain(namespace) for namespace in options.eddystone_namespaces)
        self._names = {_plain(mac): name for mac, name in options.devices.items()}
        self._receivers = {_plain(gateway): name for gateway, name in options.receivers.items()}
        self._heard: dict[tuple[str, object], float] = {}  # (device, packet) → forget after, monotonic seconds

    def feed(self, data: Message, at: Instant) -> Iterable[Reading]:
        """Take one message. Adverts that cannot be read are counted in `bad_frames`, never raised: see *Privacy*.

        Raises:
            Rejected: a message on `…/LWT` is neither `online` nor `offline`.
        """
        levels = data.topic.split("/")
        if data.topic.startswith("$"):
            self.counters.ignored += 1
            return ()
        if levels[-1] == "LWT":
            return self._state(data, levels)
        if data.retained:
            self.counters.ignored += 1
            return ()
        try:
            value = json_value(data, self.options.max_bytes)
        except Rejected:
            self.counters.bad_frames += 1
            return ()
        if isinstance(value, list):
            return self._minew(value, at)
        if isinstance(value, dict):
            return self._theengs(value, levels, at)
        self.counters.bad_frames += 1
        return ()

    def _state(self, message: Message, levels: list[str]) -> list[Reading]:
        word = text_value(message, self.options.max_bytes).lower()
        gateway = levels[-2] if len(levels) > 1 else ""
        if word == "online":
            self.counters.frames += 1
            return [DeviceState(state="online", detail=self._receiver(gateway))]
        if word == "offline":
            self.counters.frames += 1
            return [DeviceState(state="offline", detail=self._receiver(gateway))]
        self.counters.bad_frames += 1
        raise Rejected(
            "read gateway state", message.topic, "neither `online` nor `offline`", "is this a gateway's LWT?"
        )

    def _theengs(self, value: dict[str, object], levels: list[str], at: Instant) -> list[Reading]:
        place = levels.index("BTtoMQTT") if "BTtoMQTT" in levels else 0
        receiver = self._receiver(levels[place - 1] if place else "")
        try:
            mac = _mac(value.get("mac")) or _mac(value.get("id"))
            if not self._address_allowed(mac, value.get("mac_type")):
                self.counters.ignored += 1
                return []
            advert = self._theengs_advert(value, mac, receiver)
        except _Unreadable:
            self.counters.bad_frames += 1
            return []
        self.counters.frames += 1
        return self._readings(advert, at)

    def _theengs_advert(self, value: dict[str, object], mac: str | None, receiver: str) -> _Advert:
        frames: list[ble.Frame | None] = []
        if "uuid" in value and "major" in value:
            frames.append(_ibeacon(value["uuid"], value["major"], value.get("minor"), value.get("txpower")))
        if "manufacturerdata" in value:
            frames.append(ble.manufacturer_frame(_bytes(value["manufacturerdata"])))
        if "servicedata" in value and "servicedatauuid" in value:
            frames.append(ble.service_frame(_service(value["servicedatauuid"]), _bytes(value["servicedata"])))
        known = tuple(frame for frame in frames if frame is not None)
        name = self._names.get(mac or "")
        rssi_dbm = _rssi(value.get("rssi"))
        if name is None or any(isinstance(frame, ble.BtHome) for frame in known):  # the bytes say the same, and more
            return _Advert(receiver, name, rssi_dbm, known)
        opened = value.get("open")
        if opened is not None and not isinstance(opened, bool):
            raise _Unreadable
        press = None if "button" not in value else _integer(value["button"], 0, 255)
        return _Advert(
            receiver,
            name,
            rssi_dbm,
            known,
            values=_values(value, _THEENGS_VALUES),
            open=opened,
            press=None if not press else _THEENGS_PRESSES.get(press, str(press)),
            packet_id=None if "packet" not in value else _integer(value["packet"], 0, 255),
        )

    def _minew(self, entries: list[object], at: Instant) -> list[Reading]:
        if not entries:
            self.counters.ignored += 1
            return []
        readings: list[Reading] = []
        receiver, good = self.device, False
        for entry in entries:
            try:
                if not isinstance(entry, dict):
                    raise _Unreadable
                if entry.get("type") == "Gateway":
                    receiver = self._receiver(_mac(entry.get("mac")) or "")
                    good = True
                    continue
                advert = self._minew_advert(entry, receiver)
            except _Unreadable:
                self.counters.bad_frames += 1
                continue
            good = True
            readings.extend(self._readings(advert, at))
        self.counters.frames += good
        return readings

    def _minew_advert(self, entry: dict[str, object], receiver: str) -> _Advert:
        name = self._names.get(_mac(entry.get("mac")) or "")
        rssi_dbm = _rssi(entry.get("rssi"))
        kind, raw = entry.get("type"), entry.get("rawData")
        if kind == "iBeacon":
            frame = _ibeacon(
                entry.get("ibeaconUuid"),
                entry.get("ibeaconMajor"),
                entry.get("ibeaconMinor"),
                entry.get("ibeaconTxPower"),
            )
            battery = number(entry.get("battery"))
            percent = int(battery) if battery is not None and 1 <= battery <= 100 else None  # 0: it does not tell
            return _Advert(receiver, name, rssi_dbm, (frame,), battery=percent)
        values = _values(entry, _S1_VALUES) if kind == "S1" and name is not None else ()
        return _Advert(receiver, name, rssi_dbm, ble.frames(_bytes(raw)) if raw else (), values)

    def _readings(self, advert: _Advert, at: Instant) -> list[Reading]:
        """What an advert says that may pass; counts it as ignored if that is nothing."""
        readings: list[Reading] = []
        for frame in advert.frames:
            sighting = self._sighting(frame, advert)
            if sighting is not None:
                readings.append(sighting)
            elif advert.name is not None and isinstance(frame, ble.EddystoneTlm):
                measured = (("voltage", frame.battery_v, "V"), ("temperature", frame.temperature_c, "Cel"))
                readings.extend(
                    SensorValue(quantity=quantity, value=value, unit=unit, sensor=advert.name)
                    for quantity, value, unit in measured
                    if value is not None
                )
            elif advert.name is not None and isinstance(frame, ble.BtHome) and not frame.encrypted:
                fact: object = frame.packet_id if frame.packet_id is not None else frame.measurements
                if not self._repeated(advert.name, fact, frame.packet_id is None, at):
                    readings.extend(_bthome(frame, advert.name))
        if advert.name is not None and (advert.values or advert.press or advert.open is not None):
            fact = advert.packet_id if advert.packet_id is not None else (advert.values, advert.press, advert.open)
            if not self._repeated(advert.name, fact, advert.packet_id is None, at):
                readings.extend(_decoded(advert, advert.name))
        if not readings:
            self.counters.ignored += 1
        return readings

    def _sighting(self, frame: ble.Frame, advert: _Advert) -> BeaconSighting | None:
        """The frame as a sighting, if it is on the list and its strength is known."""
        rssi_dbm = advert.rssi_dbm
        if rssi_dbm is None:
            return None
        if isinstance(frame, ble.IBeacon) and _plain(frame.uuid) in self._uuids:
            return BeaconSighting(
                scheme="ibeacon", beacon=f"{frame.uuid}/{frame.major}/{frame.minor}", rssi_dbm=rssi_dbm,
                receiver=advert.receiver, power_1m_dbm=frame.power_1m_dbm, battery=advert.battery,
            )  # fmt: skip
        if isinstance(frame, ble.AltBeacon) and frame.beacon_id.startswith(self._prefixes or ("-",)):
            return BeaconSighting(
                scheme="altbeacon", beacon=frame.beacon_id, rssi_dbm=rssi_dbm, receiver=advert.receiver,
                power_1m_dbm=frame.power_1m_dbm,
            )  # fmt: skip
        if isinstance(frame, ble.EddystoneUid) and frame.namespace in self._namespaces:
            return BeaconSighting(
                scheme="eddystone_uid", beacon=f"{frame.namespace}/{frame.instance}", rssi_dbm=rssi_dbm,
                receiver=advert.receiver, power_1m_dbm=frame.power_1m_dbm,
            )  # fmt: skip
        if isinstance(frame, ble.EddystoneEid) and advert.name is not None:
            return BeaconSighting(
                scheme="eddystone_eid", beacon=advert.name, rssi_dbm=rssi_dbm, receiver=advert.receiver,
                power_1m_dbm=frame.power_1m_dbm,
            )  # fmt: skip
        return None

    def _repeated(self, name: str, fact: object, anonymous: bool, at: Instant) -> bool:
        """True if this fact of this device was heard within its window; each hearing lengthens the window."""
        key, now_s = (name, fact), at.mono_s
        until_s = self._heard.pop(key, None)
        if len(self._heard) >= _MAX_HEARD:
            self._heard = {known: end for known, end in self._heard.items() if end > now_s}
        while len(self._heard) >= _MAX_HEARD:
            del self._heard[next(iter(self._heard))]
        self._heard[key] = now_s + (_ANONYMOUS_WINDOW_S if anonymous else self.options.repeat_window_s)
        return until_s is not None and now_s < until_s

    def _receiver(self, gateway: str) -> str:
        """A name for a gateway that is never its MAC."""
        known = self._receivers.get(_plain(gateway))
        if known is not None:
            return known
        return self.device if not gateway or re.search(r"[0-9a-f]{12}", _plain(gateway)) else gateway

    def _address_allowed(self, mac: str | None, mac_type: object) -> bool:
        """False for random addresses (NimBLE types 1 and 3), but for static ones if the options let them in."""
        if mac_type in (None, 0, 2) or mac in self._names:
            return True
        if mac is None or not self.options.random_static_addresses:
            return False
        return int(mac[:2], 16) >> 6 == 0b11  # Bluetooth Core, vol. 6 part B, 1.3.2.1: static


def _bthome(frame: ble.BtHome, name: str) -> Iterable[Reading]:
    """Everything a BTHome packet says. With several buttons on a device each has its number behind the name."""
    several = sum(each.quantity == "button" for each in frame.measurements) > 1
    button = 0
    for each in frame.measurements:
        if each.quantity == "button":
            button += 1
            if each.value:
                press = int(each.value)
                yield Button(value=_PRESSES.get(press, str(press)), button=f"{name}/{button}" if several else name)
        elif each.quantity in _OPENINGS:
            yield Contact(open=bool(each.value), sensor=name)
        else:
            yield SensorValue(quantity=each.quantity, value=each.value, unit=each.unit, sensor=name)


def _decoded(advert: _Advert, name: str) -> Iterable[Reading]:
    """What the gateway itself decoded of a listed device."""
    if advert.press is not None:
        yield Button(value=advert.press, button=name)
    if advert.open is not None:
        yield Contact(open=advert.open, sensor=name)
    for quantity, value, unit in advert.values:
        yield SensorValue(quantity=quantity, value=value, unit=unit, sensor=name)


def _ibeacon(uuid: object, major: object, minor: object, power: object) -> ble.IBeacon:
    plain = _plain(uuid) if isinstance(uuid, str) else ""
    if len(plain) != 32 or not _HEX.fullmatch(plain):
        raise _Unreadable
    power_1m = number(power)
    sane = power_1m is not None and -128 <= power_1m < 0
    return ble.IBeacon(
        ble.dashed(plain),
        _integer(major, 0, 65_535),
        _integer(minor, 0, 65_535),
        int(power_1m) if sane and power_1m else None,
    )


def _values(value: dict[str, object], wanted: dict[str, tuple[str, str]]) -> tuple[tuple[str, float, str], ...]:
    found: list[tuple[str, float, str]] = []
    for key, (quantity, unit) in wanted.items():
        if value.get(key) is not None:
            measured = number(value[key])
            if measured is None:
                raise _Unreadable
            found.append((quantity, float(measured), unit))
    return tuple(found)


def _rssi(value: object) -> float | None:
    """dBm; None where it is absent or 127, "not available" (Bluetooth Core, HCI LE advertising report)."""
    if value is None or value == 127:
        return None
    rssi_dbm = number(value)
    if rssi_dbm is None or not -127 <= rssi_dbm <= 20:
        raise _Unreadable
    return float(rssi_dbm)


def _integer(value: object, lowest: int, highest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise _Unreadable
    return value


def _bytes(value: object) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError as error:
        raise _Unreadable from error


def _service(value: object) -> int:
    """A service UUID as gateways write it: `fcd2`, `0xfcd2` or all 128 bits of it; -1 for one that is not 16-bit."""
    plain = _plain(value).removeprefix("0x") if isinstance(value, str) else ""
    if len(plain) == 32 and plain.endswith("00001000800000805f9b34fb"):
        plain = plain[:8].removeprefix("0000")
    if not _HEX.fullmatch(plain):
        raise _Unreadable
    return int(plain, 16) if len(plain) == 4 else -1


def _mac(value: object) -> str | None:
    """12 lower-case hex digits; None for anything else (gateways can put a beacon's UUID in its place)."""
    plain = _plain(value) if isinstance(value, str) else ""
    return plain if len(plain) == 12 and _HEX.fullmatch(plain) else None


def _plain(text: str) -> str:
    return text.replace("-", "").replace(":", "").strip().lower()


def _check_hex(field: str, values: tuple[str, ...], shortest: int, longest: int, *, index: bool = True) -> None:
    for place, value in enumerate(values):
        plain = _plain(value)
        if not shortest <= len(plain) <= longest or not _HEX.fullmatch(plain):
            digits = f"{shortest}" if shortest == longest else f"{shortest} to {longest}"
            where = f"{field}[{place}]" if index else field
            raise ValueError(f"{where}: expected {digits} hex digits, got {len(plain)} characters")
