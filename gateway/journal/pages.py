"""Raw pages of a damaged SQLite file and its write-ahead log: finds stream rows without asking SQLite.

A row is found by the shape of its record header, wherever it lies, so a page whose own header or cell pointers are
gone still gives what is left of it; the row's checksum then decides. Only rows of the streams' shape are known here:
`position` (the row id), `boot`, `recorded_ms`, `dedupe`, `body`, `crc`.

*Source*: SQLite database file format, §1.6 b-tree pages, §2.1 record format, §1.6 overflow pages; §4.1 WAL file format.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

_MAGIC = b"SQLite format 3\x00"
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_WAL_HEADER, _FRAME_HEADER = 32, 24
_BLOCK_BYTES = 1 << 20
_COMBINATIONS = 64
_VERSIONS = 10_000  # no schema gets this far: a larger number is damage, not a newer gateway
PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)

# Record header: its own length, NULL for the row id, two integers, two blobs, one integer (serial types).
_INT = rb"[\x01-\x06\x08\x09]"
_SHAPE = re.compile(
    rb"(?=([\x07-\x0b]\x00" + _INT + _INT
    + rb"((?:[\x80-\xff]{0,2})[\x00-\x7f])((?:[\x80-\xff]{0,3})[\x00-\x7f])" + _INT + rb"))",
    re.DOTALL,
)  # fmt: skip
_INT_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


class RawRow(msgspec.Struct, frozen=True):
    """A row as its bytes say; nothing is checked yet."""

    position: int
    boot: int
    recorded_ms: int
    dedupe: bytes
    packed: bytes
    crc: int


class Frame(msgspec.Struct, frozen=True):
    """Where one page lies in a write-ahead log."""

    page: int
    commit: bool  # the last frame of a transaction
    salt: bytes
    offset: int  # of the page's bytes in the file


Accept = Callable[[RawRow], bool]
"""Told a row that was found; True when it checks, which ends the search for other readings of the same bytes."""
Wanted = Callable[[int], bool]
"""Whether a row with this position is worth the reading."""


class RawFile:
    """Reads a file's bytes as far as the disk gives them."""

    def __init__(self, path: Path) -> None:
        """`path`: may be missing, which reads as empty."""
        self._path = path
        self._fd: int | None = None
        self.size = 0
        self.unreadable_bytes = 0

    def __enter__(self) -> RawFile:
        if self._path.exists():
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.fstat(self._fd).st_size
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def read(self, offset: int, size: int) -> bytes:
        """The bytes there; zeros where the disk has an unreadable sector, fewer at the end of the file."""
        if self._fd is None:
            return b""
        try:
            return os.pread(self._fd, size, offset)
        except OSError:
            if size <= 512:
                self.unreadable_bytes += size
                return bytes(min(size, max(0, self.size - offset)))
            half = max(512, size // 2 // 512 * 512)
            return self.read(offset, half) + self.read(offset + half, size - half)


def page_bytes_of(database: RawFile, wal: RawFile) -> int | None:
    """The page size, as the database's header or else the log's says; None when both are gone."""
    head = database.read(0, 100)
    if len(head) >= 18 and head.startswith(_MAGIC):
        size = int.from_bytes(head[16:18], "big")
        size = 65536 if size == 1 else size
        if size in PAGE_SIZES:
            return size
    head = wal.read(0, _WAL_HEADER)
    if len(head) == _WAL_HEADER and int.from_bytes(head[:4], "big") in _WAL_MAGIC:
        size = int.from_bytes(head[8:12], "big")
        if size in PAGE_SIZES:
            return size
    return None


def header_complaint(database: RawFile, wal: RawFile) -> str | None:
    """What is wrong with the first bytes of the database file; None when they look well."""
    head = database.read(0, 100)
    if len(head) < 100 or not head.startswith(_MAGIC):
        return "the file is not a database"
    size = int.from_bytes(head[16:18], "big")
    size = 65536 if size == 1 else size
    version = int.from_bytes(head[60:64], "big")
    if size not in PAGE_SIZES or head[21:24] != b"\x40\x20\x20" or version > _VERSIONS:
        return "the file's header is damaged"
    pages = int.from_bytes(head[28:32], "big")
    # With a log there, a checkpoint may have been cut short after the first page; the log then has the rest.
    if wal.size <= _WAL_HEADER and head[24:28] == head[92:96] and database.size < pages * size:
        return f"the file is cut short: {database.size} bytes of {pages * size}"
    return None


def frames(wal: RawFile, page_bytes: int) -> Iterator[Frame]:
    """Every frame of the log, also of earlier rounds and of commits cut short, in the order of the file."""
    step = _FRAME_HEADER + page_bytes
    for offset in range(_WAL_HEADER, wal.size - step + 1, step):
        head = wal.read(offset, 16)
        page, pages, salt = struct.unpack(">II8s", head)
        yield Frame(page, pages != 0, salt, offset + _FRAME_HEADER)


def commit_follows_commit(wal: RawFile, run: list[Frame], page_bytes: int) -> bool:
    """Whether among these neighbouring frames a whole commit continues the commit before it, by SQLite's checksums.

    Then the earlier one was synced. What lies behind a torn commit from an earlier torn one continues nothing.

    *Source*: SQLite file format §4.2 "Checksum Algorithm"; each frame's sum goes on from the frame before.
    """
    linked = False
    for before, frame in itertools.pairwise(run):
        linked = (linked or before.commit) and frame.salt == before.salt and _continues(wal, before, frame, page_bytes)
        if linked and frame.commit:
            return True
    return False


def round_salt(wal: RawFile) -> bytes | None:
    """What marks the frames of the log's present round; None when its header is not whole.

    All of an earlier round is in the database already: a header was synced before it, and the database before that.
    """
    head = wal.read(0, _WAL_HEADER)
    if len(head) < _WAL_HEADER or not _sums(wal, (0, 0), head[:24], head[24:]):
        return None
    return head[16:24]


def _continues(wal: RawFile, before: Frame, frame: Frame, page_bytes: int) -> bool:
    start: tuple[int, int] = struct.unpack(">II", wal.read(before.offset - 8, 8))
    summed = wal.read(frame.offset - _FRAME_HEADER, 8) + wal.read(frame.offset, page_bytes)
    return _sums(wal, start, summed, wal.read(frame.offset - 8, 8))


def _sums(wal: RawFile, start: tuple[int, int], summed: bytes, wanted: bytes) -> bool:
    """Whether `wanted` is the checksum of `summed`, going on from `start`."""
    magic = int.from_bytes(wal.read(0, 4), "big")
    for order, mark in (("<", _WAL_MAGIC[0]), (">", _WAL_MAGIC[1])):
        if magic in _WAL_MAGIC and magic != mark:
            continue  # a destroyed header does not say which: either will do
        first, second = start
        words = struct.unpack(f"{order}{len(summed) // 4}I", summed)
        for left, right in zip(words[::2], words[1::2], strict=True):
            first = (first + left + second) & 0xFFFFFFFF
            second = (second + right + first) & 0xFFFFFFFF
        if struct.pack(">II", first, second) == wanted:
            return True
    return False


class PageSource:
    """The pages of a damaged database, in the file and in its log, by number; for following overflow chains."""

    def __init__(self, database: RawFile, wal: RawFile, page_bytes: int) -> None:
        """Looks through the log once for which pages it holds."""
        self.page_bytes = page_bytes
        self._database = database
        self._wal = wal
        self._frames: dict[int, list[int]] = {}
        for frame in frames(wal, page_bytes):
            self._frames.setdefault(frame.page, []).append(frame.offset)

    def versions(self, page: int) -> Iterator[bytes]:
        """Every version of a page there is, the database file's first."""
        if page < 1:
            return
        content = self._database.read((page - 1) * self.page_bytes, self.page_bytes)
        if len(content) == self.page_bytes:
            yield content
        for offset in self._frames.get(page, ()):
            yield self._wal.read(offset, self.page_bytes)

    def database_rows(self, accept: Accept, wanted: Wanted, progress: Callable[[int], None]) -> None:
        """Offer every row found in the database file whose position is `wanted` to `accept`."""
        block = max(_BLOCK_BYTES, self.page_bytes)
        for offset in range(0, self._database.size, block):
            self.rows_in(self._database.read(offset, block), accept, wanted)
            progress(min(offset + block, self._database.size))

    def wal_rows(self, accept: Accept, wanted: Wanted) -> None:
        """Offer every row found in the log whose position is `wanted` to `accept`."""
        step = _FRAME_HEADER + self.page_bytes
        for offset in range(_WAL_HEADER + _FRAME_HEADER, self._wal.size, step):
            self.rows_in(self._wal.read(offset, self.page_bytes), accept, wanted)

    def rows_in(self, block: bytes, accept: Accept, wanted: Wanted) -> None:
        """Offer every wanted row that begins in `block`, a run of whole pages."""
        for match in _SHAPE.finditer(block):
            header, start = match[1], match.start()
            if header[0] != len(header):
                continue
            dedupe_type, body_type = varint(match[2], 0)[0], varint(match[3], 0)[0]
            if dedupe_type < 12 or body_type < 12 or dedupe_type & 1 or body_type & 1:
                continue
            sizes = (
                _INT_BYTES[header[2]], _INT_BYTES[header[3]], (dedupe_type - 12) // 2, (body_type - 12) // 2,
                _INT_BYTES[header[-1]],
            )  # fmt: skip
            self._offer_at(block, start, header, sizes, accept, wanted)

    def _offer_at(
        self, block: bytes, start: int, header: bytes, sizes: tuple[int, int, int, int, int], accept: Accept,
        wanted: Wanted,
    ) -> None:  # fmt: skip
        total = len(header) + sum(sizes)
        length = encoded(total)
        end = (start // self.page_bytes + 1) * self.page_bytes
        for position, before in _varints_ending(block, start):
            if block[max(0, before - len(length)) : before] != length or not wanted(position):
                continue
            for payload in self._payloads(block, start, end, total):
                if accept(_row(position, header, payload, sizes)):
                    return

    def _payloads(self, block: bytes, start: int, end: int, total: int) -> Iterator[bytes]:
        """The record's bytes: whole on its page, or joined from every plausible chain of overflow pages."""
        most = self.page_bytes - 35
        if total <= most:
            if start + total <= end:
                yield block[start : start + total]
            return
        least = (self.page_bytes - 12) * 32 // 255 - 23
        local = least + (total - least) % (self.page_bytes - 4)
        local = least if local > most else local
        if start + local + 4 > end:
            return
        follow = int.from_bytes(block[start + local : start + local + 4], "big")
        left = [_COMBINATIONS]
        yield from self._chains(block[start : start + local], follow, total, left)

    def _chains(self, so_far: bytes, page: int, total: int, left: list[int]) -> Iterator[bytes]:
        missing = total - len(so_far)
        for content in self.versions(page):
            joined = so_far + content[4 : 4 + missing]
            if len(joined) >= total:
                left[0] -= 1
                yield joined
            else:
                yield from self._chains(joined, int.from_bytes(content[:4], "big"), total, left)
            if left[0] <= 0:
                return


def varint(data: bytes, offset: int) -> tuple[int, int]:
    """A SQLite varint and the offset after it.

    Raises:
        IndexError: the data end inside it.
    """
    value = 0
    for index in range(8):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    return value << 8 | data[offset + 8], offset + 9


def encoded(value: int) -> bytes:
    """A number below 2^56 as a SQLite varint."""
    out = bytes((value & 0x7F,))
    while value := value >> 7:
        out = bytes((value & 0x7F | 0x80,)) + out
    return out


def _varints_ending(block: bytes, end: int) -> Iterator[tuple[int, int]]:
    """Every number whose varint ends just before `end`, with where it begins; shortest first."""
    if end < 1 or block[end - 1] >= 0x80:
        return
    value, shift = block[end - 1], 7
    yield value, end - 1
    for begin in range(end - 2, max(-1, end - 9), -1):
        if block[begin] < 0x80:
            return
        value |= (block[begin] & 0x7F) << shift
        shift += 7
        yield value, begin


def _row(position: int, header: bytes, payload: bytes, sizes: tuple[int, int, int, int, int]) -> RawRow:
    cuts = [len(header)]
    for size in sizes:
        cuts.append(cuts[-1] + size)
    boot, recorded_ms, dedupe, packed, crc = (payload[a:b] for a, b in itertools.pairwise(cuts))
    return RawRow(
        position, _integer(header[2], boot), _integer(header[3], recorded_ms), dedupe, packed, _integer(header[-1], crc)
    )


def _integer(serial_type: int, data: bytes) -> int:
    if serial_type == 9:
        return 1
    return int.from_bytes(data, "big", signed=True) if data else 0
