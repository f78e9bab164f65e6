"""UHF RFID readers of the UHFReader18 / 288 / 86 family: Chafon CF-RU, CF-MU and most Chinese desktop and gate readers.

Documents: UHFReader18 and UR-series (288) user manuals, as summarised in PROTOCOLS §3.2. Link 57600 8N1.

Frame (no start byte: a frame is known only by its CRC; the CRC over all of it, CRC included, is 0):

    0    1    2      3       4..            Len-1..Len
    Len  Adr  Cmd    Data                   CRC lo, hi       command, Len = data + 4
    Len  Adr  reCmd  Status  Data           CRC lo, hi       answer, Len = data + 5; Len does not count itself

    inventory (01), status 01 done, 02 time-out, 03 more follow, 04 buffer full: all may carry tags
      Reader18:  Num | Num × (len, EPC)
      288:       Ant | Num | Num × (len, EPC [TID 12], RSSI [phase 4, frequency 3])
                 len: bit 7 = TID at the end (FastID), bit 6 = phase and frequency, bits 5-0 = bytes of EPC and TID
    real-time push (EE): status 00 = Ant | len, EPC [TID], RSSI […];  status 28 = heartbeat

RSSI is a raw byte, not dBm; larger is stronger. `Ant` is a one-hot mask on readers with up to 8 ports and an index
from 0 on larger ones: `ports` says which. Whether a reader answers as a Reader18 or a 288 is asked (command 21) and
seen from what it sends.

    [[devices]]
    name = "goods-in"
    driver = "uhf_reader18"
    port = "/dev/serial/by-path/platform-xhci-usb-0:1.2:1.0-port0"

    [devices.options]
    mode = "poll"             # poll, or listen (the reader pushes by itself in real-time mode; best at a gate)
    dialect = "auto"          # auto, reader18, 288
    address = 255             # 255 = any; give the reader's own on a shared line
    ports = 4                 # 1, 4, 8, 12 or 16
    antennas = [1, 2]         # polled in turn (288)
    power_dbm = 26            # 0 to 33; left as it is if not given

What it yields: `TagRead` with `rssi_raw`; `DeviceState` heartbeat (at most one in 10 s) and faults, each once a
connection. A reader that pushes ignores polls, so polling rests while it does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from devices.driver import Driver, Options, driver
from devices.framing import BAD, MORE, SKIP, Framer
from gateway.clock import Instant
from gateway.errors import ProtocolError
from gateway.intake.reading import DeviceState, Reading, TagRead

INVENTORY, READER_INFO, SET_POWER, PUSH = 0x01, 0x21, 0x2F, 0xEE
DONE, MORE_FOLLOW, BUFFER_FULL, HEARTBEAT, NO_TAG = 0x01, 0x03, 0x04, 0x28, 0xFB
FAULTS: Final = {
    0xF8: "antenna fault", 0xF9: "the reader could not execute the command", 0xFA: "poor link to the tag",
    0xFC: "the tag answered with an error", 0xFD: "the reader says the command's length is wrong",
    0xFE: "the reader says the command or its CRC is wrong", 0xFF: "the reader says a parameter is wrong",
}  # fmt: skip
PASSING: Final = {0xFA, 0xFC}  # of one tag, not of the reader: counted, not reported
WRONG_FORM: Final = {0xFD, 0xFE, 0xFF}
READER18_TYPES: Final = {0x09}
ANY_ADDRESS: Final = 0xFF
TID_BYTES: Final = 12
PHASE_BYTES: Final = 7

ANSWER_S: Final = 0.5
SILENT_POLLS: Final = 5  # unanswered polls after which the reader is asked who it is again
HEARTBEAT_EVERY_S: Final = 10.0
PUSH_LASTS_S: Final = 10.0


class Reader18Options(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a UHFReader18 or 288."""

    mode: Literal["poll", "listen"] = "poll"
    dialect: Literal["auto", "reader18", "288"] = "auto"
    address: int = ANY_ADDRESS
    ports: Literal[1, 4, 8, 12, 16] = 4
    antennas: tuple[int, ...] = (1,)
    power_dbm: int | None = None
    q: int = 4
    session: int = 0
    scan_time_s: float = 1.0  # how long the reader may take for one inventory
    poll_interval_s: float = 0.1  # rest between two inventories
    fast_id: bool = False  # ask for the TID together with the EPC (288, Impinj tags)
    max_frame_bytes: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.address <= 0xFF:
            raise ValueError("address: must be 0 to 255")
        if not self.antennas or not all(1 <= antenna <= self.ports for antenna in self.antennas):
            raise ValueError(f"antennas: must be one or more of 1 to {self.ports} (see `ports`)")
        if self.power_dbm is not None and not 0 <= self.power_dbm <= 33:
            raise ValueError("power_dbm: must be 0 to 33")
        if not 0 <= self.q <= 15:
            raise ValueError("q: must be 0 to 15")
        if not 0 <= self.session <= 3:
            raise ValueError("session: must be 0 to 3")
        if not 0.3 <= self.scan_time_s <= 25.5:
            raise ValueError("scan_time_s: must be 0.3 to 25.5")
        if not 0 <= self.poll_interval_s <= 3600:
            raise ValueError("poll_interval_s: must be 0 to 3600")
        if not 32 <= self.max_frame_bytes <= 256:
            raise ValueError("max_frame_bytes: must be 32 to 256")


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x8408 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC: Final = _crc_table()


def crc16(data: bytes | bytearray) -> int:
    """CRC-16/MCRF4XX (reflected 8408, from FFFF, no final xor), §3; 0 over a frame with its CRC."""
    crc = 0xFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


class Command(msgspec.Struct, frozen=True):
    """What is sent to a reader."""

    command: int
    data: bytes = b""
    address: int = ANY_ADDRESS

    def to_bytes(self) -> bytes:
        """The frame as it goes over the line."""
        body = bytes((len(self.data) + 4, self.address, self.command)) + self.data
        return body + crc16(body).to_bytes(2, "little")


class Answer(msgspec.Struct, frozen=True):
    """What a reader sends."""

    address: int
    command: int
    status: int
    data: bytes

    @classmethod
    def from_bytes(cls, raw: bytes) -> Answer:
        """Decode one whole frame.

        Raises:
            ProtocolError: length or CRC is wrong.
        """
        if len(raw) < 6 or raw[0] != len(raw) - 1:
            raise ProtocolError("read UHFReader18 frame", raw[:80].hex(), "length is wrong")
        if crc16(raw):
            raise ProtocolError("read UHFReader18 frame", raw[:80].hex(), "CRC is wrong")
        return cls(raw[1], raw[2], raw[3], raw[4:-2])


class Tag(msgspec.Struct, frozen=True):
    """One tag of an answer; `antenna` is the byte as sent."""

    epc: bytes
    antenna: int | None = None
    rssi_raw: int | None = None
    tid: bytes | None = None
    frequency_khz: int | None = None


def tags_reader18(data: bytes) -> list[Tag] | None:
    """Tags of a Reader18 inventory answer; None if the data does not have exactly that shape."""
    tags, at = [], 1
    for _ in range(data[0] if data else 0):
        size = data[at] if at < len(data) else 1
        epc = data[at + 1 : at + 1 + size]
        if size % 2 or len(epc) != size or size > 62:
            return None
        tags.append(Tag(epc))
        at += 1 + size
    return tags if at == max(1, len(data)) else None


def tags_288(data: bytes) -> list[Tag] | None:
    """Tags of a 288 inventory answer; None if the data does not have exactly that shape."""
    if not data:
        return []
    return _blocks_288(data, 2, data[1]) if len(data) > 1 else None


def tag_pushed(data: bytes) -> list[Tag] | None:
    """The tag of a real-time push; None if the data does not have exactly that shape."""
    return _blocks_288(data, 1, 1)


def _blocks_288(data: bytes, at: int, count: int) -> list[Tag] | None:
    tags = []
    for _ in range(count):
        if at >= len(data):
            return None
        head = data[at]
        size = head & 0x3F
        end = at + 1 + size
        after = end + 1 + (PHASE_BYTES if head & 0x40 else 0)
        if size % 2 or after > len(data):
            return None
        epc, tid = data[at + 1 : end], None
        if head & 0x80:
            if size < TID_BYTES:
                return None
            epc, tid = epc[:-TID_BYTES], epc[-TID_BYTES:]
        khz = int.from_bytes(data[after - 3 : after]) if head & 0x40 else None
        tags.append(Tag(epc, data[0], data[end], tid, khz))
        at = after
    return tags if at == len(data) else None


@driver("uhf_reader18", wire="serial", options=Reader18Options, baud=57600)
class UhfReader18(Driver):
    """One reader (or all that share a line, with `address = 255` and real-time mode)."""

    options: Reader18Options

    def __init__(self, options: Reader18Options, device: str) -> None:
        super().__init__(options, device)
        self._framer = Framer(self._measure, self.counters, cap_bytes=options.max_frame_bytes)
        self._dialect = options.dialect
        self._faults: set[str] = set()
        self._heartbeat_s = -math.inf
        self._setup = self._opening()
        self._awaited = READER_INFO
        self._next_s = -math.inf  # when the line is written next
        self._pushed_s = -math.inf
        self._turn = 0
        self._unanswered = 0

    def feed(self, data: bytes, at: Instant) -> list[Reading]:
        """Readings of every frame that `data` completes."""
        return [reading for raw in self._framer.feed(data, at) for reading in self._take(raw, at)]

    def tick(self, at: Instant) -> list[Reading]:
        """Finds frames behind a byte that announced more than came."""
        return [reading for raw in self._framer.tick(at) for reading in self._take(raw, at)]

    def outgoing(self, at: Instant) -> bytes:
        """Ask who it is, set it up, then poll one antenna after the other."""
        if self.options.mode == "listen" or at.mono_s < self._next_s or at.mono_s - self._pushed_s < PUSH_LASTS_S:
            return b""
        if self._unanswered >= SILENT_POLLS:  # gone, or reset since: begin again
            self._unanswered = 0
            self._setup = self._opening()
        if self._setup:
            command, wait_s = self._setup.popleft(), ANSWER_S
        else:
            command, wait_s = self._inventory(), self.options.scan_time_s + ANSWER_S
            self._unanswered += 1
        self._awaited = command.command
        self._next_s = at.mono_s + wait_s
        return command.to_bytes()

    def _opening(self) -> deque[Command]:
        commands = deque([Command(READER_INFO, b"", self.options.address)])
        if self.options.power_dbm is not None:
            commands.append(Command(SET_POWER, bytes((self.options.power_dbm,)), self.options.address))
        return commands

    def _inventory(self) -> Command:
        options = self.options
        if self._dialect != "288":
            return Command(INVENTORY, b"", options.address)
        antenna = options.antennas[self._turn % len(options.antennas)]
        self._turn += 1
        q = options.q | (0x20 if options.fast_id else 0)
        scan = min(255, round(options.scan_time_s * 10))
        return Command(INVENTORY, bytes((q, options.session, 0, 0x80 + antenna - 1, scan)), options.address)

    def _measure(self, buffer: bytearray, start: int) -> int:
        size, here, address = buffer[start] + 1, len(buffer) - start, self.options.address
        if not 6 <= size <= self.options.max_frame_bytes:
            return SKIP
        if here > 1 and address not in (ANY_ADDRESS, buffer[start + 1]):
            return SKIP
        if here < size:
            return MORE
        return BAD if crc16(buffer[start : start + size]) else size

    def _take(self, raw: bytes, at: Instant) -> Iterable[Reading]:
        answer = Answer.from_bytes(raw)  # measured, so it cannot fail
        self.counters.frames += 1
        if answer.command == PUSH:
            self._pushed_s = at.mono_s
            return self._heartbeat(at) if answer.status == HEARTBEAT else self._tags(tag_pushed(answer.data))
        if answer.command == self._awaited:
            self._unanswered = 0
            rest_s = self.options.poll_interval_s if answer.command == INVENTORY else 0.0
            if answer.status == MORE_FOLLOW:
                rest_s = self.options.scan_time_s + ANSWER_S
            self._next_s = at.mono_s + rest_s
        if answer.command == READER_INFO and len(answer.data) >= 3:
            if self.options.dialect == "auto":
                self._dialect = "reader18" if answer.data[2] in READER18_TYPES else "288"
            return self._heartbeat(at)
        if answer.command == INVENTORY and DONE <= answer.status <= BUFFER_FULL:
            tags = self._inventoried(answer.data)
            return self._heartbeat(at) if tags == [] else self._tags(tags)
        if answer.command == INVENTORY and answer.status == NO_TAG:
            return self._heartbeat(at)
        if answer.command == INVENTORY and answer.status in WRONG_FORM and self._dialect == "auto":
            self._setup = self._opening()  # polled in the wrong dialect because its first answer was lost
        if answer.status in FAULTS and answer.status not in PASSING:
            return self._fault(f"status {answer.status:02X}: {FAULTS[answer.status]}")
        self.counters.ignored += 1
        return ()

    def _inventoried(self, data: bytes) -> list[Tag] | None:
        """Both shapes are exact, so at most one fits but for freaks; then the known dialect decides."""
        shapes = (tags_reader18, tags_288) if self._dialect == "reader18" else (tags_288, tags_reader18)
        for shape in shapes[: 1 if self.options.dialect != "auto" else 2]:
            tags = shape(data)
            if tags:
                self._dialect = "288" if shape is tags_288 else "reader18"
            if tags is not None:
                return tags
        return None

    def _tags(self, tags: list[Tag] | None) -> Iterable[Reading]:
        if tags is None:  # the CRC holds but the shape is unknown: nothing of it is believed
            self.counters.frames -= 1
            self.counters.bad_frames += 1
            return ()
        return [
            TagRead(
                epc=tag.epc.hex().upper(),
                antenna=self._antenna(tag.antenna),
                rssi_raw=tag.rssi_raw,
                tid=tag.tid.hex().upper() if tag.tid else None,
                frequency_khz=tag.frequency_khz,
            )
            for tag in tags
            if tag.epc  # a blank tag says nothing
        ]

    def _antenna(self, sent: int | None) -> int | None:
        """1-based antenna; None where the byte names none or several."""
        if sent is None:
            return None
        if self.options.ports > 8:
            return sent + 1 if sent < self.options.ports else None
        return sent.bit_length() if sent.bit_count() == 1 else None

    def _heartbeat(self, at: Instant) -> Iterable[Reading]:
        if at.mono_s - self._heartbeat_s < HEARTBEAT_EVERY_S:
            return ()
        self._heartbeat_s = at.mono_s
        return (DeviceState(state="heartbeat"),)

    def _fault(self, detail: str) -> Iterable[Reading]:
        if detail in self._faults:
            return ()
        self._faults.add(detail)
        return (DeviceState(state="fault", detail=detail),)
