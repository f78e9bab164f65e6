"""UHF RFID modules with the M100 protocol: QM100, YRM100, R200, JRD-4035, M5Stack UHF unit, EL-UHF-RMT01.

Document: MagicRF M100/QM100 firmware manual as summarised in PROTOCOLS §3.1; command bytes as published by M5Stack and
libmagicrf. Link 115200 8N1.

Frame (offsets in bytes; header and tail are not escaped, so both occur inside EPCs):

    0       1     2        3..4        5..            5+PL          6+PL
    BB      type  command  PL (BE)     PL parameters  sum8 of 1..   7E
    (AA)                                              4+PL          (DD)     some R200 firmware

    type 00 command, 01 response, 02 notification
    tag notification (02, 22):  RSSI 1 (signed dBm) | PC 2 BE | EPC (PC >> 11) × 2 | CRC 2 BE
    error (01, FF):             code 1; 15 = no tag in this round, which is the module's heartbeat

The CRC is the tag's own (Gen2, over PC and EPC): it finds line damage that an 8-bit sum misses. RSSI is measured at the
module's input; libmagicrf adds 17 dB on 26 dBm boards, 26 on 20 dBm boards, 7 on 30 dBm boards: `rssi_offset_db` is
such a figure. A multi poll ends silently after its rounds and a module may still be polling when the port opens: the
driver sends stop first, and starts over after `restart_after_s` of silence (which also finds a module that was reset).
Both dialects are always read; the one that the module spoke last is the one written.

    [[devices]]
    name = "fitting-room"
    driver = "uhf_m100"
    port = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"

    [devices.options]
    mode = "multi"            # multi, single (poll every poll_interval_s) or listen (never write)
    region = "eu"             # china900, us, eu, china800, korea; left as it is if not given
    power_dbm = 20.0          # 0 to 33; left as it is if not given
    rssi_offset_db = 0.0

What it yields: `TagRead`; `DeviceState` heartbeat (at most one in 10 s) and faults, each fault once a connection.
Phychips RED-RCP readers look alike (BB … 7E, then a CRC-16): they are reported as a fault, not read.
"""

from __future__ import annotations

import math
from binascii import crc_hqx
from collections import deque
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from devices.driver import Driver, Options, driver
from devices.framing import BAD, MORE, SKIP, Framer
from gateway.clock import Instant
from gateway.errors import ProtocolError
from gateway.intake.reading import DeviceState, Reading, TagRead

TAILS: Final = {0xBB: 0x7E, 0xAA: 0xDD}  # header → tail, §3.1
COMMAND, RESPONSE, NOTIFICATION = 0x00, 0x01, 0x02
SET_REGION, SINGLE_POLL, MULTI_POLL, STOP, SET_POWER, ERROR = 0x07, 0x22, 0x27, 0x28, 0xB6, 0xFF
NO_TAG: Final = 0x15
ERRORS: Final = {
    0x09: "reading the tag failed", 0x10: "writing the tag failed", 0x12: "kill failed", 0x13: "lock failed",
    0x16: "wrong access password", 0x17: "the module does not know the command",
    0x20: "no free channel (frequency hopping timed out)",
}  # fmt: skip
REGIONS: Final = {"china900": 1, "us": 2, "eu": 3, "china800": 4, "korea": 6}
SHORTEST_TAG: Final = 5  # RSSI, PC, CRC of a tag with an empty EPC
RED_RCP_SURE: Final = 3  # look-alike frames, with no good one, before it is said

ANSWER_S: Final = 0.3  # a command that is not answered in this time will not be
HEARTBEAT_EVERY_S: Final = 10.0


class M100Options(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of an M100 module."""

    mode: Literal["multi", "single", "listen"] = "multi"
    rounds: int = 10_000  # of one multi poll
    poll_interval_s: float = 0.2  # of single polls
    restart_after_s: float = 2.0
    power_dbm: float | None = None
    region: Literal["china900", "us", "eu", "china800", "korea"] | None = None
    rssi_offset_db: float = 0.0
    max_frame_bytes: int = 200
    check_tag_crc: bool = True  # only for clones that do not pass the tag's CRC on

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= 0xFFFF:
            raise ValueError("rounds: must be 1 to 65535")
        if not 0.02 <= self.poll_interval_s <= 3600:
            raise ValueError("poll_interval_s: must be 0.02 to 3600")
        if not 0.2 <= self.restart_after_s <= 3600:
            raise ValueError("restart_after_s: must be 0.2 to 3600")
        if self.power_dbm is not None and not 0 <= self.power_dbm <= 33:
            raise ValueError("power_dbm: must be 0 to 33")
        if not math.isfinite(self.rssi_offset_db) or abs(self.rssi_offset_db) > 60:
            raise ValueError("rssi_offset_db: must be -60 to 60")
        if not 32 <= self.max_frame_bytes <= 2048:
            raise ValueError("max_frame_bytes: must be 32 to 2048")


class Frame(msgspec.Struct, frozen=True):
    """One frame of either dialect; `header` tells which."""

    kind: int
    command: int
    params: bytes = b""
    header: int = 0xBB

    @classmethod
    def from_bytes(cls, raw: bytes) -> Frame:
        """Decode one whole frame.

        Raises:
            ProtocolError: header, length, checksum or tail is wrong.
        """
        tail = TAILS.get(raw[0]) if len(raw) >= 7 else None
        if tail is None or raw[1] > NOTIFICATION or len(raw) != int.from_bytes(raw[3:5]) + 7:
            raise ProtocolError("read M100 frame", raw[:80].hex(), "header or length is wrong")
        if raw[-2] != sum(raw[1:-2]) & 0xFF or raw[-1] != tail:
            raise ProtocolError("read M100 frame", raw[:80].hex(), "checksum or tail is wrong")
        return cls(raw[1], raw[2], raw[5:-2], raw[0])

    def to_bytes(self) -> bytes:
        """The frame as it goes over the line."""
        body = bytes((self.kind, self.command)) + len(self.params).to_bytes(2) + self.params
        return bytes((self.header,)) + body + bytes((sum(body) & 0xFF, TAILS[self.header]))


class Tag(msgspec.Struct, frozen=True):
    """The parameters of a tag notification; `rssi_dbm` as the module says it."""

    rssi_dbm: int
    pc: bytes
    epc: bytes

    @classmethod
    def from_params(cls, params: bytes, *, check_crc: bool = True) -> Tag:
        """Decode.

        Raises:
            ProtocolError: the length does not fit the PC word, or the tag's CRC is wrong.
        """
        # Multi-port modules may append a byte or two: the CRC still stands right after the EPC.
        end = 3 + (params[1] >> 3) * 2 if len(params) >= SHORTEST_TAG else 0
        if not end or not end + 2 <= len(params) <= end + 4:
            raise ProtocolError("read M100 tag", params[:80].hex(), "length does not fit the PC word")
        if check_crc and crc_hqx(params[1:end], 0xFFFF) ^ 0xFFFF != int.from_bytes(params[end : end + 2]):
            raise ProtocolError("read M100 tag", params[:80].hex(), "the tag's CRC is wrong")
        return cls(params[0] - 256 if params[0] > 127 else params[0], params[1:3], params[3:end])


@driver("uhf_m100", wire="serial", options=M100Options, baud=115200)
class UhfM100(Driver):
    """One M100 module."""

    options: M100Options

    def __init__(self, options: M100Options, device: str) -> None:
        super().__init__(options, device)
        self._framer = Framer(self._measure, self.counters, cap_bytes=options.max_frame_bytes)
        self._header = 0xBB  # what we write
        self._heard = False
        self._red_rcp = 0
        self._faults: set[str] = set()
        self._heartbeat_s = -math.inf
        self._setup = self._opening()
        self._awaited = STOP
        self._next_s = -math.inf  # when the line is written next
        self._alive_s = math.inf  # when the module last spoke, or was last set up

    def feed(self, data: bytes, at: Instant) -> list[Reading]:
        """Readings of every frame that `data` completes."""
        readings = [reading for raw in self._framer.feed(data, at) for reading in self._take(raw, at)]
        if self._red_rcp >= RED_RCP_SURE and not self._heard:
            readings += self._fault("looks like a Phychips RED-RCP reader: it speaks another protocol")
        return readings

    def tick(self, at: Instant) -> list[Reading]:
        """Gives up a frame that stopped half-way."""
        return [reading for raw in self._framer.tick(at) for reading in self._take(raw, at)]

    def outgoing(self, at: Instant) -> bytes:
        """Stop, set up, poll; and all of it again when the module falls silent."""
        if self.options.mode == "listen" or at.mono_s < self._next_s:
            return b""
        if not self._setup and at.mono_s - self._alive_s >= self.options.restart_after_s:
            self._setup = self._opening()
            if not self._heard:
                self._header = 0xAA if self._header == 0xBB else 0xBB
        if self._setup:
            frame, wait_s = self._setup.popleft(), ANSWER_S
            self._alive_s = at.mono_s + wait_s
        elif self.options.mode == "single":
            frame, wait_s = Frame(COMMAND, SINGLE_POLL), self.options.poll_interval_s
        else:
            frame = Frame(COMMAND, MULTI_POLL, b"\x22" + self.options.rounds.to_bytes(2))
            wait_s = self.options.restart_after_s
        self._awaited = frame.command
        self._next_s = at.mono_s + wait_s
        return msgspec.structs.replace(frame, header=self._header).to_bytes()

    def _opening(self) -> deque[Frame]:
        frames = deque([Frame(COMMAND, STOP)])
        if self.options.region is not None:
            frames.append(Frame(COMMAND, SET_REGION, bytes((REGIONS[self.options.region],))))
        if self.options.power_dbm is not None:
            frames.append(Frame(COMMAND, SET_POWER, round(self.options.power_dbm * 100).to_bytes(2)))
        return frames

    def _measure(self, buffer: bytearray, start: int) -> int:
        tail = TAILS.get(buffer[start])
        if tail is None:
            return SKIP
        here = len(buffer) - start
        if here < 5:
            return SKIP if here > 1 and buffer[start + 1] > NOTIFICATION else MORE
        kind, command, size = buffer[start + 1], buffer[start + 2], (buffer[start + 3] << 8) + buffer[start + 4] + 7
        if kind > NOTIFICATION or size > self.options.max_frame_bytes:
            return SKIP
        if here < size:
            return MORE
        end = start + size
        if buffer[end - 1] != tail or buffer[end - 2] != sum(buffer[start + 1 : end - 2]) & 0xFF:
            self._red_rcp += buffer[end - 2] == 0x7E and buffer[start] == 0xBB  # §3.6: end mark first, then a CRC-16
            return BAD
        if kind == NOTIFICATION and command == SINGLE_POLL:
            try:
                Tag.from_params(bytes(buffer[start + 5 : end - 2]), check_crc=self.options.check_tag_crc)
            except ProtocolError:
                return BAD
        return size

    def _take(self, raw: bytes, at: Instant) -> Iterable[Reading]:
        frame = Frame.from_bytes(raw)  # measured, so it cannot fail
        self.counters.frames += 1
        if frame.kind == COMMAND:  # an echo of ours, or another master's
            self.counters.ignored += 1
            return ()
        self._heard = True
        self._header = frame.header
        self._alive_s = at.mono_s
        if self._awaited == MULTI_POLL:
            self._next_s = at.mono_s + self.options.restart_after_s
        elif frame.kind == RESPONSE and frame.command == self._awaited:
            self._next_s = at.mono_s  # answered: go on at once
        if frame.kind == NOTIFICATION:
            return self._tag(frame) if frame.command == SINGLE_POLL else self._ignore()
        code = frame.params[0] if frame.params else 0
        if frame.command == ERROR:
            if code == NO_TAG:
                return self._heartbeat(at)
            return self._fault(f"error {code:02X}: {ERRORS.get(code, 'the tag refused or the code is unknown')}")
        if frame.command in (SET_REGION, SET_POWER) and code:
            return self._fault(f"command {frame.command:02X} refused with {code:02X}")
        return ()

    def _tag(self, frame: Frame) -> Iterable[Reading]:
        tag = Tag.from_params(frame.params, check_crc=False)
        if not tag.epc:
            return self._ignore()
        offset_db = self.options.rssi_offset_db
        read = TagRead(
            epc=tag.epc.hex().upper(),
            pc=tag.pc.hex().upper(),
            rssi_dbm=tag.rssi_dbm + offset_db,
            rssi_raw=tag.rssi_dbm if offset_db else None,
        )
        return (read,)

    def _ignore(self) -> Iterable[Reading]:
        self.counters.ignored += 1
        return ()

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
