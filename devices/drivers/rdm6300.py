"""125 kHz card readers that print the card number: RDM6300, RDM630, ID-12, ID-20, EM-18 and their clones.

Documents: RDM6300 data sheet, Innovations ID series data sheet, as summarised in PROTOCOLS §4. Link 9600 8N1.

Frame (ASCII; the check is the XOR of the five decoded bytes):

    0   1..2     3..10        11..12  13              RDM6300: 14 bytes
    02  version  card number  check   03
    02  version  card number  check   0D 0A  03       ID-12 / ID-20: 16 bytes
        version  card number  check  [0D] [0A]        EM-18: 12 bare characters, between silences of 20 ms

An XOR over five bytes finds every single damaged bit and only that: on a noisy line of a reader that repeats (an
RDM6300 does, about every 65 ms while the card is there) set `confirm_reads = 2`. EM-18 and ID-12 say a card once.

    [[devices]]
    name = "loyalty-pad"
    driver = "rdm6300"
    port = "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0"

    [devices.options]
    framing = "auto"          # auto, stx (RDM6300, ID-12) or bare (EM-18)
    confirm_reads = 1         # equal reads in a row before a card is believed
    removed_after_s = 0.5     # silence after which the card is gone

What it yields: one `CardRead` while a card stays, and `CardRemoved` after it has been silent. For a reader that says a
card once, removed means no more than that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from devices.driver import Driver, Options, driver
from devices.framing import BAD, MORE, SKIP, Framer
from gateway.clock import Instant
from gateway.errors import ProtocolError
from gateway.intake.reading import CardRead, CardRemoved, Reading

STX, ETX = 0x02, 0x03
DIGITS: Final = 12  # version 2, number 8, check 2
LONGEST: Final = 16
_BARE: Final = re.compile(rb"([0-9A-Fa-f]{12})\r?\n?")
_HEX: Final = frozenset(b"0123456789ABCDEFabcdef")


class Rdm6300Options(Options, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of a 125 kHz reader."""

    framing: Literal["auto", "stx", "bare"] = "auto"
    confirm_reads: int = 1
    removed_after_s: float = 0.5
    idle_gap_s: float = 0.02  # silence that ends a bare number

    def __post_init__(self) -> None:
        if not 1 <= self.confirm_reads <= 10:
            raise ValueError("confirm_reads: must be 1 to 10")
        if not 0.1 <= self.removed_after_s <= 3600:
            raise ValueError("removed_after_s: must be 0.1 to 3600")
        if not 0.002 <= self.idle_gap_s <= 1:
            raise ValueError("idle_gap_s: must be 0.002 to 1")


class Card(msgspec.Struct, frozen=True):
    """A card number and the version (or customer) byte before it."""

    version: int
    number: int

    @classmethod
    def from_digits(cls, digits: bytes) -> Card:
        """Decode the twelve ASCII hex digits.

        Raises:
            ProtocolError: they are not twelve hex digits, or the XOR check is wrong.
        """
        if len(digits) != DIGITS or not _HEX.issuperset(digits):
            raise ProtocolError("read card", f"{len(digits)} bytes", "not twelve hex digits")
        raw = bytes.fromhex(digits.decode("ascii"))
        if raw[0] ^ raw[1] ^ raw[2] ^ raw[3] ^ raw[4] != raw[5]:
            raise ProtocolError("read card", f"{len(digits)} bytes", "the XOR check is wrong")
        return cls(raw[0], int.from_bytes(raw[1:5]))

    def to_bytes(self) -> bytes:
        """The frame as an RDM6300 sends it."""
        raw = bytes((self.version,)) + self.number.to_bytes(4)
        check = raw[0] ^ raw[1] ^ raw[2] ^ raw[3] ^ raw[4]
        return bytes((STX,)) + (raw.hex() + f"{check:02x}").upper().encode("ascii") + bytes((ETX,))

    @property
    def printed(self) -> str:
        """As printed on cards: third byte of the number, then its last two: `037,55662`."""
        return f"{self.number >> 16 & 0xFF:03d},{self.number & 0xFFFF:05d}"


@driver("rdm6300", wire="serial", options=Rdm6300Options, baud=9600)
class Rdm6300(Driver):
    """One reader; holds one card at a time, as the reader does."""

    options: Rdm6300Options

    def __init__(self, options: Rdm6300Options, device: str) -> None:
        super().__init__(options, device)
        self._framer = Framer(self._measure, self.counters, cap_bytes=LONGEST)
        self._stx_seen = options.framing == "stx"
        self._burst = bytearray()  # everything since the last silence, as long as it may be a bare number
        self._last_us = 0
        self._card: Card | None = None
        self._card_us = 0
        self._candidate: Card | None = None
        self._agreed = 0

    def feed(self, data: bytes, at: Instant) -> list[Reading]:
        """Cards completed by `data`, or by the silence before it."""
        readings = self._silence(at)
        if not self._stx_seen and len(self._burst) <= LONGEST:
            self._burst += data[: LONGEST + 1]
        if self.options.framing != "bare":
            for frame in self._framer.feed(data, at):
                self._stx_seen = True
                readings += self._read(Card.from_digits(frame[1 : 1 + DIGITS]), at)
        self._last_us = at.mono_us
        return readings

    def tick(self, at: Instant) -> list[Reading]:
        """A bare number that silence has ended; a card that silence has removed."""
        readings = self._silence(at)
        for frame in self._framer.tick(at):
            readings += self._read(Card.from_digits(frame[1 : 1 + DIGITS]), at)
        return readings

    def _silence(self, at: Instant) -> list[Reading]:
        readings: list[Reading] = []
        if self._burst and at.mono_us - self._last_us >= self.options.idle_gap_s * 1e6:
            burst = bytes(self._burst)
            self._burst.clear()
            if not self._stx_seen:
                readings += self._bare(burst, at)
        if self._card and at.mono_us - self._card_us >= self.options.removed_after_s * 1e6:
            readings.append(CardRemoved(number=self._card.number))
            self._card = self._candidate = None
        return readings

    def _bare(self, burst: bytes, at: Instant) -> Iterable[Reading]:
        match = _BARE.fullmatch(burst)
        if match is None:  # rubbish in the gap's neighbourhood: a number inside it could be anything
            if self.options.framing == "bare":
                self.counters.skipped_bytes += len(burst)
            return ()
        if self.options.framing == "auto":
            self.counters.skipped_bytes -= len(burst)  # the framer passed over them
        try:
            card = Card.from_digits(match[1])
        except ProtocolError:
            self.counters.bad_frames += 1
            return ()
        return self._read(card, at)

    def _read(self, card: Card, at: Instant) -> Iterable[Reading]:
        self.counters.frames += 1
        if card == self._card:
            self._card_us = at.mono_us
            self._candidate = None
            return ()
        self._agreed = self._agreed + 1 if card == self._candidate else 1
        self._candidate = card
        if self._agreed < self.options.confirm_reads:
            return ()
        gone, self._card, self._card_us, self._candidate = self._card, card, at.mono_us, None
        read = CardRead(number=card.number, version=card.version, printed=card.printed)
        return (CardRemoved(number=gone.number), read) if gone else (read,)

    def _measure(self, buffer: bytearray, start: int) -> int:
        if buffer[start] != STX:
            return SKIP
        here = buffer[start + 1 : start + LONGEST]
        if not _HEX.issuperset(here[:DIGITS]):
            return SKIP
        for ending in (b"\x03", b"\r\n\x03"):
            if here[DIGITS:].startswith(ending):
                break
            if ending.startswith(here[DIGITS:]):
                return MORE
        else:
            return SKIP
        try:
            Card.from_digits(bytes(here[:DIGITS]))
        except ProtocolError:
            return BAD
        return 1 + DIGITS + len(ending)
