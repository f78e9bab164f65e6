"""Two UHF readers that answer and push real frames: an M100 module, and a reader of the 288 family in real-time mode.

Both look at a `Field`: the tags that are near now. They are written from the makers' documents, not with the drivers'
own codecs, so that the demo would find a fault in either. Sans-I/O like a driver, seen from the other end of the line:
`feed` takes the gateway's bytes, `tick` gives the frames that the reader sends now. Knows no shop and no port.

*Source*: PROTOCOLS §3.1 (M100), §3.2 (UHFReader18 / 288), §3 (CRC-16/MCRF4XX); EPC Gen2 v2 §6.3.2.1 (PC, CRC-16).
"""

from __future__ import annotations

import random
from binascii import crc_hqx
from collections import deque
from typing import Final

import msgspec

PC_96: Final = bytes.fromhex("3000")  # six words of EPC
_NO_TAG: Final = bytes.fromhex("BB01FF000115167E")
_HEARTBEAT_S: Final = 1.0
_BACKLOG: Final = 64  # frames a reader keeps for the line


class Sent(msgspec.Struct, frozen=True):
    """A frame to send. `epc`: of the tag that it tells of; "" for any other frame."""

    frame: bytes
    epc: str = ""


class _Tag(msgspec.Struct):
    antenna: int
    until_s: float
    strength_db: float


class Field:
    """The tags near one reader. Times are monotonic seconds of the caller."""

    def __init__(self, seed: int) -> None:
        """An empty field."""
        self._tags: dict[str, _Tag] = {}
        self._turn: deque[str] = deque()
        self._dice = random.Random(seed)  # noqa: S311 - radio, not a secret

    def __len__(self) -> int:
        return len(self._tags)

    def put(self, epc: str, antenna: int, until_s: float) -> None:
        """A tag comes near until `until_s`; one that is there already stays as long."""
        if epc not in self._tags:
            self._turn.append(epc)
        self._tags[epc] = _Tag(antenna, until_s, self._dice.uniform(-62, -48))

    def take(self, epc: str) -> None:
        """A tag is carried away now."""
        self._tags.pop(epc, None)

    def expire(self, now_s: float) -> None:
        """Forget the tags whose time is over."""
        for epc in [epc for epc, tag in self._tags.items() if tag.until_s <= now_s]:
            del self._tags[epc]

    def next(self) -> tuple[str, int, int] | None:
        """The next tag that answers: EPC, antenna (from 1) and strength in whole dBm; None in an empty field."""
        while self._turn:
            epc = self._turn.popleft()
            tag = self._tags.get(epc)
            if tag is not None:
                self._turn.append(epc)
                return epc, tag.antenna, round(tag.strength_db + self._dice.gauss(0, 1.5))
        return None


class M100Reader:
    """An M100 module on a gate: silent until it is told to poll, then a notification for every answer of a tag."""

    def __init__(self, field: Field, reads_per_s: float = 50.0) -> None:
        """`reads_per_s`: of all tags together, > 0."""
        self._field = field
        self._period_s = 1 / reads_per_s
        self._buffer = bytearray()
        self._rounds = 0
        self._next_s = 0.0
        self._spoke_s = 0.0

    @property
    def polling(self) -> bool:
        """True between a poll command and stop or the last round."""
        return self._rounds > 0

    def restart(self) -> None:
        """The module lost its power: it forgets that it was polling."""
        self._buffer.clear()
        self._rounds = 0

    def feed(self, data: bytes, now_s: float) -> list[Sent]:
        """Answers to the commands that `data` completes."""
        self._buffer += data
        answers: list[Sent] = []
        while (start := self._buffer.find(0xBB)) >= 0:
            del self._buffer[:start]
            size = 7 + int.from_bytes(self._buffer[3:5]) if len(self._buffer) >= 5 else 7
            if len(self._buffer) < size:
                break
            frame = bytes(self._buffer[:size])
            if frame[-1] != 0x7E or frame[-2] != sum(frame[1:-2]) & 0xFF:
                del self._buffer[:1]
                continue
            del self._buffer[:size]
            answers += self._obey(frame[2], frame[5:-2], now_s)
        return answers

    def tick(self, now_s: float) -> list[Sent]:
        """What has been read since the last tick."""
        self._field.expire(now_s)
        told: list[Sent] = []
        while self._rounds > 0 and self._next_s <= now_s:
            self._next_s += self._period_s
            self._rounds -= 1
            if (seen := self._field.next()) is not None and len(told) < _BACKLOG:
                told.append(self._notification(*seen))
        if told:
            self._spoke_s = now_s
        elif self._rounds > 0 and now_s - self._spoke_s >= _HEARTBEAT_S:
            self._spoke_s = now_s
            told.append(Sent(_NO_TAG))
        return told

    def _obey(self, command: int, params: bytes, now_s: float) -> list[Sent]:
        if command == 0x27 and len(params) == 3:  # multi poll, §3.1: 22, then the number of rounds; no answer
            self._rounds, self._next_s, self._spoke_s = int.from_bytes(params[1:3]), now_s, now_s
            return []
        if command == 0x22:
            seen = self._field.next()
            return [Sent(_NO_TAG) if seen is None else self._notification(*seen)]
        if command == 0x28:
            self._rounds = 0
        if command in (0x28, 0x07, 0xB6):  # stop, region, power: 00 is "done"
            return [Sent(_m100(0x01, command, b"\x00"))]
        return [Sent(_m100(0x01, 0xFF, b"\x17"))]  # the module does not know the command

    def _notification(self, epc: str, _antenna: int, dbm: int) -> Sent:
        words = PC_96 + bytes.fromhex(epc)
        crc = crc_hqx(words, 0xFFFF) ^ 0xFFFF
        return Sent(_m100(0x02, 0x22, bytes((dbm & 0xFF,)) + words + crc.to_bytes(2)), epc)


class Reader288:
    """A reader of the 288 family in real-time mode: pushes every answer of a tag, and a heartbeat in silence."""

    def __init__(self, field: Field, reads_per_s: float = 30.0) -> None:
        """`reads_per_s`: of all tags together, > 0."""
        self._field = field
        self._period_s = 1 / reads_per_s
        self._next_s = 0.0
        self._spoke_s = 0.0

    def restart(self) -> None:
        """Power comes back: real-time mode is kept in the reader, so nothing is forgotten."""

    def feed(self, data: bytes, now_s: float) -> list[Sent]:
        """A reader that pushes ignores commands."""
        return []

    def tick(self, now_s: float) -> list[Sent]:
        """What has been read since the last tick."""
        self._field.expire(now_s)
        told: list[Sent] = []
        self._next_s = max(self._next_s, now_s - 1.0)  # what a late tick missed is not made up for ever
        while self._next_s <= now_s:
            self._next_s += self._period_s
            if (seen := self._field.next()) is not None:
                epc, antenna, dbm = seen
                body = bytes((1 << antenna - 1, len(epc) // 2)) + bytes.fromhex(epc) + bytes((dbm + 130,))
                told.append(Sent(_reader288(0x00, body), epc))
        if told:
            self._spoke_s = now_s
        elif now_s - self._spoke_s >= _HEARTBEAT_S:
            self._spoke_s = now_s
            told.append(Sent(_reader288(0x28, b"")))
        return told


def _m100(kind: int, command: int, params: bytes) -> bytes:
    body = bytes((kind, command)) + len(params).to_bytes(2) + params
    return b"\xbb" + body + bytes((sum(body) & 0xFF, 0x7E))


def _reader288(status: int, data: bytes) -> bytes:
    body = bytes((5 + len(data), 0x00, 0xEE, status)) + data
    crc = 0xFFFF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return body + crc.to_bytes(2, "little")
