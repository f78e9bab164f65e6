"""What a till sends to its receipt printer, read back: ESC/POS bytes to documents of text, barcodes and QR codes.

The one hard thing is to skip every command's arguments exactly, so the commands are a table of argument lengths. Bytes
may come cut anywhere. A document ends with a cut, with four line feeds and silence, or with silence alone; one without
text is nothing. Text stays bytes until the document is over, because only then is it known whether it is UTF-8. Pure:
knows no receipt, no money and no port.

*Source*: Epson ESC/POS command reference, TM series; code pages from the printer database of python-escpos 3.1. Other
brands number code pages differently, which is why `decoded` takes the table.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Literal

import msgspec

End = Literal["cut", "feed", "idle"]

TEXT_CAP_BYTES = 64 * 1024
_LINE_CAP = 4096  # lines of a document
_CODES_CAP = 16  # barcodes and QR codes of a document
_SKIP_CAP = 1024 * 1024  # no picture on a receipt is larger; a length beyond it is a broken length
_FONT_CAP = 16 * 1024  # a set of user-defined characters
_FEED_DOTS = 30  # dots of a usual line, to count ESC J as line feeds

ESC, GS, FS, DLE = 0x1B, 0x1D, 0x1C, 0x10
_LF, _FF = 0x0A, 0x0C
_HIGH = re.compile(rb"[\x80-\xff]")
_TEXT = re.compile(rb"[\x20-\x7e\x80-\xff\t]+")


def _table(spaced: str) -> dict[int, int]:
    """`"@0 !1"` → {0x40: 0, 0x21: 1}: opcode and the number of argument bytes after it."""
    return {ord(item[0]): int(item[1:]) for item in spaced.split()}


# Argument bytes after the opcode, for commands of fixed length; the others are in `_length`.
_ESC_ARGS = _table(
    "@0 !1 -1 20 31 =1 E1 G1 J1 K1 L0 M1 R1 S0 T1 V1 a1 c2 d1 e1 i0 m0 p3 r1 t1 {1 $2 \\2 W8 %1 ?1 U1 u1 v0 91 B2"
) | {0x20: 1}
_GS_ARGS = _table("!1 B1 H1 I1 L2 P2 W2 a1 b1 f1 h1 r1 w1 \\2 $2 /1 :0 ^3 c0 T1 E1 j1 g4 z3")
_FS_ARGS = _table("&0 .0 !1 -1 C1 S2 W1 p2 ?2 274")
_CUT_PLAIN, _CUT_AFTER_FEED = frozenset({0, 1, 48, 49}), frozenset({65, 66, 97, 98, 103, 104})
_DLE_DC4_ARGS = {1: 2, 2: 2, 3: 5, 7: 1, 8: 7}  # after fn

CODE_PAGES: dict[int, str] = {
    0: "cp437", 2: "cp850", 3: "cp860", 4: "cp863", 5: "cp865", 13: "cp857", 14: "cp737", 15: "iso8859-7", 16: "cp1252",
    17: "cp866", 18: "cp852", 19: "cp858", 33: "cp775", 34: "cp855", 36: "cp862", 40: "iso8859-15", 45: "cp1250",
    46: "cp1251", 47: "cp1253", 48: "cp1254", 49: "cp1255", 50: "cp1256", 51: "cp1257", 52: "cp1258",
}  # fmt: skip


class Run(msgspec.Struct):
    """Text printed in one state: `page` is the number of `ESC t`, None if none was chosen; `kanji` after `FS &`."""

    data: bytearray
    page: int | None
    kanji: bool


class Document(msgspec.Struct, frozen=True):
    """What was printed between two ends. No empty line leads `lines`; `overflow`: text beyond the cap is lost."""

    lines: tuple[tuple[Run, ...], ...]
    barcodes: tuple[str, ...]
    qr_codes: tuple[str, ...]
    end: End
    overflow: bool = False


class PrinterStream:
    """The printer's side of the line. `feed` and `silence` are called in turn with growing time; nothing raises.

    `skipped_bytes` counts bytes that are no text and belong to no known command; `pulses` the drawer pulses.
    """

    def __init__(self, *, feed_lines: int = 4, feed_silence_s: float = 1.5, idle_s: float = 5.0) -> None:
        self._feed_lines = feed_lines
        self._feed_silence_us = round(feed_silence_s * 1e6)
        self._idle_us = round(idle_s * 1e6)
        self._buffer = bytearray()  # the beginning of a command that is not complete
        self._skip = 0  # bytes of a picture still to come
        self._last_us = 0
        self._page: int | None = None
        self._kanji = False
        self._qr_stored = ""
        self.skipped_bytes = 0
        self.pulses = 0
        self._lines: list[tuple[Run, ...]] = []
        self._line: list[Run] = []
        self._barcodes: list[str] = []
        self._qr_codes: list[str] = []
        self._feeds = 0  # line feeds since the last text
        self._text_bytes = 0
        self._has_text = False
        self._overflow = False

    def feed(self, data: bytes, mono_us: int) -> list[Document]:
        """Take bytes that arrived at `mono_us`; the documents that ended in them."""
        ended = self.silence(mono_us)
        self._last_us = mono_us
        if self._skip:
            taken = min(self._skip, len(data))
            self._skip -= taken
            data = data[taken:]
        buffer = self._buffer + data
        self._buffer = bytearray()
        at = 0
        while at < len(buffer):
            byte = buffer[at]
            if byte in (ESC, GS, FS, DLE):
                length = _length(buffer, at)
                if length is None:  # not all of it is here
                    self._buffer = buffer[at:]
                    break
                if length == 0:
                    self.skipped_bytes += 1
                    length = 1
                elif (document := self._command(buffer[at : at + length])) is not None:
                    ended.append(document)
                at += length
                continue
            text = _TEXT.match(buffer, at)
            if text:
                self._append(text[0])
                at = text.end()
                continue
            if byte in (_LF, _FF):
                self._line_feeds(1)
            elif byte != 0x0D:
                self.skipped_bytes += 1
            at += 1
        self._skip += max(0, at - len(buffer))
        return ended

    def silence(self, mono_us: int) -> list[Document]:
        """The document that the silence up to `mono_us` has ended, if it has ended one."""
        silent_us = mono_us - self._last_us
        document = None
        if self._has_text and self._feeds >= self._feed_lines and silent_us >= self._feed_silence_us:
            document = self._end("feed")
        elif silent_us >= self._idle_us:
            document = self._end("idle")
        if silent_us >= self._idle_us and (self._buffer or self._skip):  # a command that never came to its end
            self.skipped_bytes += len(self._buffer)
            self._buffer.clear()
            self._skip = 0
        return [document] if document else []

    def _command(self, command: bytearray) -> Document | None:
        """Do what a complete command does to the text; the document that it ends."""
        lead, opcode = command[0], command[1]
        if lead == ESC:
            if opcode == ord("@"):
                self._page, self._kanji = None, False
            elif opcode == ord("t"):
                self._page = command[2]
            elif opcode == ord("d"):
                self._line_feeds(command[2])
            elif opcode == ord("J"):
                self._line_feeds(max(1 if self._line else 0, command[2] // _FEED_DOTS))
            elif opcode == ord("p"):
                self.pulses += 1
            elif opcode in (ord("i"), ord("m")):
                return self._end("cut")
        elif lead == GS:
            if opcode == ord("V"):
                return self._end("cut") if command[2] in _CUT_PLAIN | _CUT_AFTER_FEED else None
            if opcode == ord("k"):
                data = command[3:-1] if command[2] <= 6 else command[4:]
                self._code(self._barcodes, _barcode_text(bytes(data)))
            elif opcode == ord("(") and command[2:3] == b"k":
                if command[5:8] == b"1P0":
                    self._qr_stored = command[8:].decode("utf-8", "replace")
                elif command[5:8] == b"1Q0":
                    self._code(self._qr_codes, self._qr_stored)
        elif lead == FS and opcode in (ord("&"), ord(".")):
            self._kanji = opcode == ord("&")
        elif lead == DLE and command[1:3] == b"\x14\x01":
            self.pulses += 1
        return None

    def _append(self, text: bytes) -> None:
        room = TEXT_CAP_BYTES - self._text_bytes
        if len(self._lines) >= _LINE_CAP:
            room = 0
        if len(text) > room:
            self._overflow = True
            self.skipped_bytes += len(text) - room
            text = text[:room]
        self._text_bytes += len(text)
        self._has_text = self._has_text or bool(text.strip())
        self._feeds = 0
        last = self._line[-1] if self._line else None
        if last is not None and last.page == self._page and last.kanji == self._kanji:
            last.data += text
        else:
            self._line.append(Run(bytearray(text), self._page, self._kanji))

    def _line_feeds(self, count: int) -> None:
        for _ in range(count):
            self._feeds += 1
            if (self._line or self._lines) and len(self._lines) < _LINE_CAP:
                self._lines.append(tuple(self._line))
            self._line = []

    def _code(self, codes: list[str], text: str) -> None:
        if text and len(codes) < _CODES_CAP:
            codes.append(text)

    def _end(self, end: End) -> Document | None:
        """Close the document; None if there was no text in it."""
        document = None
        if self._has_text:
            if self._line:
                self._lines.append(tuple(self._line))
            document = Document(
                tuple(self._lines), tuple(self._barcodes), tuple(self._qr_codes), end, overflow=self._overflow
            )
        self._clear()
        return document

    def _clear(self) -> None:
        self._lines, self._line, self._barcodes, self._qr_codes = [], [], [], []
        self._feeds = self._text_bytes = 0
        self._has_text = self._overflow = False


def decoded(
    document: Document, *, encoding: str = "", kanji: str = "gb18030", pages: Mapping[int, str] = CODE_PAGES
) -> list[str]:
    """The document's lines as text.

    UTF-8 if nearly all bytes from 80 on are UTF-8 (a till that cuts names to a width may cut a character). Else `kanji`
    after `FS &`, and elsewhere `encoding` if given, else the code page that `ESC t` chose from `pages` (cp437 if it
    chose none or an unknown one). Bad bytes become U+FFFD.

    Raises:
        LookupError: a codec of that name does not exist; see `known_codec`.
    """
    utf8 = _is_utf8(b"\n".join(run.data for line in document.lines for run in line))

    def text(run: Run) -> str:
        if utf8:
            return run.data.decode("utf-8", "replace")
        codec = kanji if run.kanji else encoding or pages.get(run.page or 0, "cp437")
        return run.data.decode(codec, "replace")

    return ["".join(text(run) for run in line).expandtabs(8).rstrip(" ") for line in document.lines]


def known_codec(name: str) -> bool:
    """True if there is a text codec of that name."""
    try:
        return codecs.lookup(name)._is_text_encoding
    except LookupError:
        return False


def _is_utf8(data: bytes) -> bool:
    """True if at least nine in ten of the bytes from 80 on stand in valid UTF-8 sequences (none is fine too)."""
    high = len(_HIGH.findall(data))
    valid = len(_HIGH.findall(data.decode("utf-8", "ignore").encode("utf-8")))
    return valid * 10 >= high * 9


def _barcode_text(data: bytes) -> str:
    """The text of a GS k barcode. Code 128 data names its code sets: `{B` is text, `{C` is a pair of digits a byte."""
    if not data.startswith(b"{"):
        return data.decode("latin-1")
    out, code_set, at = [], b"B", 0
    while at < len(data):
        if data[at : at + 1] == b"{" and data[at + 1 : at + 2] in (b"A", b"B", b"C", b"{"):
            if data[at + 1 : at + 2] == b"{":
                out.append("{")
            else:
                code_set = data[at + 1 : at + 2]
            at += 2
            continue
        out.append(f"{data[at]:02d}" if code_set == b"C" else chr(data[at]))
        at += 1
    return "".join(out)


def _length(buffer: bytearray, at: int) -> int | None:
    """Bytes of the command at `at`, lead byte included; more than there are if only a picture is still to come.

    None: more bytes are needed to say. 0: no known command.
    """
    have = len(buffer) - at
    if have < 2:
        return None
    lead, opcode = buffer[at], buffer[at + 1]
    fixed = {ESC: _ESC_ARGS, GS: _GS_ARGS, FS: _FS_ARGS, DLE: {}}[lead].get(opcode)
    if fixed is not None:
        return 2 + fixed if have >= 2 + fixed else None
    return _variable(buffer, at, have, lead, chr(opcode))


def _variable(buffer: bytearray, at: int, have: int, lead: int, opcode: str) -> int | None:
    """`_length` of the commands whose length is in their arguments."""

    def arg(index: int) -> int:
        return buffer[at + 2 + index]

    def word(index: int) -> int:
        return arg(index) + 256 * arg(index + 1)

    def whole(length: int) -> int | None:
        return length if have >= length else None

    def picture(header: int, body: int) -> int:
        return header + body if body <= _SKIP_CAP else 0

    def through_nul(start: int, cap: int) -> int | None:
        nul = buffer.find(0, at + start, at + start + cap)
        if nul >= 0:
            return nul - at + 1
        return None if have < start + cap else 0

    if opcode == "(" and lead != DLE:  # ESC ( A, GS ( L, GS ( k, FS ( C …: fn pL pH and p bytes
        if have < 5:
            return None
        keep = lead == GS and arg(0) == ord("k")  # QR and other 2-D codes carry text; the rest is pictures
        return whole(5 + word(1)) if keep else picture(5, word(1))
    if lead == ESC:
        if opcode == "D":
            return through_nul(2, 33)
        if opcode == "*":
            return None if have < 5 else picture(5, word(1) * (3 if arg(0) in (32, 33) else 1))
        if opcode == "&":
            return _user_characters(buffer, at, have)
    elif lead == GS:
        if opcode == "V":
            return None if have < 3 else whole(4 if arg(0) in _CUT_AFTER_FEED else 3)
        if opcode == "k":
            if have < 4:
                return None
            if arg(0) <= 6:
                return through_nul(3, 256)
            return whole(4 + arg(1)) if arg(0) >= 65 else 0
        if opcode == "8":
            if have < 7:
                return None
            return picture(7, word(1) + 65536 * word(3)) if arg(0) == ord("L") else 0
        if opcode in ("v", "Q"):
            if have < 8:
                return None
            return picture(8, word(2) * word(4)) if arg(0) == ord("0") else 0
        if opcode == "*":
            return None if have < 4 else picture(4, arg(0) * arg(1) * 8)
    elif lead == DLE:
        if opcode == "\x04":
            return None if have < 3 else whole(4 if arg(0) in (7, 8) else 3)
        if opcode == "\x05":
            return whole(3)
        if opcode == "\x14":
            return None if have < 3 else whole(3 + _DLE_DC4_ARGS[arg(0)]) if arg(0) in _DLE_DC4_ARGS else 0
    return 0


def _user_characters(buffer: bytearray, at: int, have: int) -> int | None:
    """`ESC & y c1 c2`, then for each character c1 … c2 its width x and x·y bytes."""
    if have < 5:
        return None
    height, first, last = buffer[at + 2 : at + 5]
    length = 5
    for _ in range(first, last + 1):
        if have <= length:
            return None
        length += 1 + buffer[at + length] * height
        if length > _FONT_CAP:
            return 0
    return length if have >= length else None
