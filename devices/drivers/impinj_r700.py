"""Impinj R700 RAIN reader over MQTT: its IoT device interface, one JSON event a message.

Device: Impinj R700 (firmware 7 and later, "IoT device interface" switched on; the LLRP interface does not publish).
Document: Impinj IoT Device Interface, ReaderEvent; shapes seen in captures of two public repositories and in
barnowl-impinj (MIT).

    {"timestamp": RFC 3339, up to 9 fraction digits, "hostname": …, "eventType": "tagInventory",
     "tagInventoryEvent": {
        "epc": base64, URL-safe alphabet        "epcHex": hex, if switched on; used first
        "tid" / "tidHex", "pc" / "pcHex": the same two ways
        "antennaPort": from 1                   "peakRssiCdbm": 0.01 dBm
        "frequency": kHz                        "phaseAngle": degrees
        "lastSeenTime": RFC 3339, the reader's clock (else "timestamp")}}

An array of such events, as the reader posts over HTTP, is read too. Either every event of a message is understood or
the whole message goes to quarantine, with the path of the fault in its reason.

What becomes of the event types (the property names the type; `eventType` is missing in old firmware):

    tagInventory                        a tag read
    inventoryStatus, diagnostic,
    antennaConnected, healthStatus      heartbeat, with the inventory's status ("running", "idle", "armed")
    antennaDisconnected, overflow,
    inventoryTerminated                 fault, with the antenna's number
    anything else (gpiTransition,
    tagLocationEntry, …)                counted as ignored

A message of the one word `online` or `offline` (the reader's will, set willMessage to `offline`) is its state; that
may be retained. Every other retained message is old news and is ignored.

On the reader: set eventTopic to the topic below, eventQualityOfService 1, and in the inventory preset
`eventConfig.tagInventory.tagReporting` with epc or epcHex, antennaPort, peakRssiCdbm and lastSeenTime. Antenna hubs
count their ports on, so an antenna may be 1–64.

    [[devices]]
    name = "gate"
    driver = "impinj_r700"
    topics = ["store/0042/gate/r700"]
    [devices.options]
    max_bytes = 65536   # larger messages are refused
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec

from devices.driver import Driver, Message, Options, driver
from devices.payload import MAX_BYTES, check_size, json_value, shaped, zoned_time
from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.intake.reading import DeviceState, Reading, TagRead

_MAX_EPC_BYTES = 62  # 31 words: the length field of the protocol-control word has five bits (Gen2, PC)
_WORDS = {b"online": DeviceState(state="online"), b"offline": DeviceState(state="offline")}


class ImpinjR700Options(Options, frozen=True, kw_only=True):
    """`max_bytes`: the largest message that is read, 256 bytes to 16 MiB (arrays of a busy portal can be long)."""

    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        if not 256 <= self.max_bytes <= 16 * 1024 * 1024:
            raise ValueError("max_bytes: must be 256 to 16777216")


class _TagInventory(msgspec.Struct, frozen=True, rename="camel"):
    epc: str | None = None
    epc_hex: str | None = None
    tid: str | None = None
    tid_hex: str | None = None
    pc: str | None = None
    pc_hex: str | None = None
    antenna_port: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None
    peak_rssi_cdbm: Annotated[int, msgspec.Meta(ge=-20_000, le=5_000)] | None = None
    frequency: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] | None = None
    phase_angle: Annotated[float, msgspec.Meta(ge=-360, le=360)] | None = None
    last_seen_time: str | None = None


class _InventoryStatus(msgspec.Struct, frozen=True, rename="camel"):
    inventory_status: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class _Antenna(msgspec.Struct, frozen=True, rename="camel"):
    antenna_port: Annotated[int, msgspec.Meta(ge=1, le=64)] | None = None


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    timestamp: str | None = None
    event_type: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    tag_inventory_event: _TagInventory | None = None
    inventory_status_event: _InventoryStatus | None = None
    antenna_connected_event: _Antenna | None = None
    antenna_disconnected_event: _Antenna | None = None
    inventory_terminated_event: dict[str, object] | None = None
    overflow_event: dict[str, object] | None = None
    diagnostic_event: dict[str, object] | None = None
    health_status_event: dict[str, object] | None = None


class _Unreadable(Exception):
    """A value inside an event: `path` under the event, and why."""

    def __init__(self, path: str, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(path, reason)


@driver("impinj_r700", wire="mqtt", options=ImpinjR700Options)
class ImpinjR700(Driver):
    """Reads one reader's events; keeps no state between messages."""

    options: ImpinjR700Options

    def feed(self, data: Message, at: Instant) -> Iterable[Reading]:
        """Take one message.

        Raises:
            Rejected: it is not JSON, too large, or an event in it has a wrong shape; the reason names the path.
        """
        try:
            readings = self._read(data)
        except Rejected:
            self.counters.bad_frames += 1
            raise
        if readings:
            self.counters.frames += 1
        else:
            self.counters.ignored += 1
        return readings

    def _read(self, message: Message) -> list[Reading]:
        if message.topic.startswith("$"):
            return []
        check_size(message, self.options.max_bytes)
        state = _WORDS.get(message.payload.strip().lower())
        if state is not None:
            return [state]
        if message.retained:
            return []
        value = json_value(message, self.options.max_bytes)
        many = isinstance(value, list)
        events = shaped(value, list[_Event], message) if many else [shaped(value, _Event, message)]
        readings: list[Reading] = []
        for index, event in enumerate(events):
            root = f"$[{index}]" if many else "$"
            if event.event_type is None and event == _Event(timestamp=event.timestamp):
                raise Rejected("read event", message.topic, f"no eventType and no event - at `{root}`", _HINT)
            if event.event_type == "tagInventory" and event.tag_inventory_event is None:
                raise Rejected("read event", message.topic, f"no tagInventoryEvent - at `{root}`", _HINT)
            try:
                reading = _reading(event)
            except _Unreadable as error:
                reason = f"{error.reason} - at `{root}.{error.path}`"
                raise Rejected("read event", message.topic, reason, _HINT) from error
            if reading is not None:
                readings.append(reading)
        return readings


_HINT = "is this topic the reader's eventTopic, and only that?"


def _reading(event: _Event) -> Reading | None:
    """What one event says; None where it is of no interest."""
    if event.tag_inventory_event is not None:
        return _tag(event.tag_inventory_event, event.timestamp)
    device_at = _time(event.timestamp, "timestamp")
    if event.inventory_status_event is not None:
        status = event.inventory_status_event.inventory_status
        return DeviceState(state="heartbeat", detail=f"inventory {status or 'unknown'}", device_at=device_at)
    if event.antenna_connected_event is not None:
        detail = f"antenna {event.antenna_connected_event.antenna_port or 'unknown'} connected"
        return DeviceState(state="heartbeat", detail=detail, device_at=device_at)
    if event.antenna_disconnected_event is not None:
        detail = f"antenna {event.antenna_disconnected_event.antenna_port or 'unknown'} disconnected"
        return DeviceState(state="fault", detail=detail, device_at=device_at)
    if event.overflow_event is not None:
        return DeviceState(state="fault", detail="the reader dropped reads: overflow", device_at=device_at)
    if event.inventory_terminated_event is not None:
        return DeviceState(state="fault", detail="inventory terminated", device_at=device_at)
    if event.diagnostic_event is not None or event.health_status_event is not None:
        return DeviceState(state="heartbeat", device_at=device_at)
    return None


def _tag(tag: _TagInventory, timestamp: str | None) -> TagRead | None:
    """One read; None for a tag with an empty EPC, which names nothing.

    Raises:
        _Unreadable: the EPC is missing, is not what its field promises, or its two forms disagree.
    """
    path = "tagInventoryEvent"
    epc = _bank(tag.epc_hex, tag.epc, f"{path}.epc")
    if epc is None:
        raise _Unreadable(path, "neither `epcHex` nor `epc`; switch one of them on in the reader's tagReporting")
    if not epc:
        return None
    if len(epc) > 2 * _MAX_EPC_BYTES:
        raise _Unreadable(f"{path}.epc", f"{len(epc) // 2} bytes, an EPC has at most {_MAX_EPC_BYTES}")
    if tag.last_seen_time is not None:
        device_at = _time(tag.last_seen_time, f"{path}.lastSeenTime")
    else:
        device_at = _time(timestamp, "timestamp")
    return TagRead(
        epc=epc,
        antenna=tag.antenna_port,
        rssi_dbm=None if tag.peak_rssi_cdbm is None else tag.peak_rssi_cdbm / 100,
        pc=_bank(tag.pc_hex, tag.pc, f"{path}.pc") or None,
        tid=_bank(tag.tid_hex, tag.tid, f"{path}.tid") or None,
        frequency_khz=tag.frequency,
        phase_deg=tag.phase_angle,
        device_at=device_at,
    )


def _bank(in_hex: str | None, in_base64: str | None, path: str) -> str | None:
    """A memory bank as upper-case hex, from whichever form is there; None if neither is."""
    if in_hex is not None:
        try:
            found = binascii.unhexlify(in_hex)
        except ValueError as error:  # binascii.Error is one; so is non-ASCII text
            raise _Unreadable(f"{path}Hex", "not hex") from error
        if in_base64 is not None and _base64(in_base64, path) != found:
            raise _Unreadable(f"{path}Hex", "says something else than its base64 form")
        return found.hex().upper()
    return None if in_base64 is None else _base64(in_base64, path).hex().upper()


def _base64(text: str, path: str) -> bytes:
    """Base64 in the URL-safe alphabet (captures) or the plain one (older examples), padded or not."""
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError as error:
        raise _Unreadable(path, "not base64") from error


def _time(text: str | None, path: str) -> datetime | None:
    if text is None:
        return None
    try:
        return zoned_time(text)
    except ValueError as error:
        raise _Unreadable(path, "not an RFC 3339 time") from error
