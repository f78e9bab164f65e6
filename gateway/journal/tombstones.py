"""What has been erased, remembered where it survives the loss of the database: a small file beside it.

One line an erasure, appended and synced before a row is touched, each with its own checksum. A line holds no key of a
person: only keyed digests, enough to know a key again in a database that comes back from a backup or a salvage. Knows
no event and no SQL.
"""

from __future__ import annotations

import hmac
import os
import secrets
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from gateway.durable_file import sync_directory
from gateway.errors import Rejected, Unavailable
from gateway.event import Stream

DIGEST_BYTES = 16
KEYS_LIMIT = 10_000  # keys and places of one erasure
_SALT_BYTES = 32
_FILE_LIMIT_BYTES = 64 << 20


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Events named by their number: `first` to `last` of one epoch of a stream."""

    stream: Stream
    epoch: str
    first: int
    last: int


class Tombstone(msgspec.Struct, frozen=True):
    """One erasure: `id` names it for ever (the same command, the same id), `digests` are hexadecimal."""

    id: str
    at_ms: int
    salt: str
    digests: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()


def path_of(journal: Path) -> Path:
    """Where the tombstones of a journal lie."""
    return journal.with_name("tombstones.log")  # no `journal.db…`: who moves those away for a restore must leave it


def digest(salt: str, key: str | bytes) -> str:
    """What a tombstone knows a key by: HMAC-SHA256 under the file's salt, cut to 128 bits, in hexadecimal."""
    return hmac.digest(salt.encode(), key.encode() if isinstance(key, str) else key, "sha256")[:DIGEST_BYTES].hex()


def load(journal: Path) -> list[Tombstone]:
    """Every erasure whose line is whole, oldest first, each once; [] when there is no file.

    Raises:
        Unavailable: the file is there and cannot be read.
    """
    try:
        lines = path_of(journal).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unable(journal, error) from error
    found: dict[str, Tombstone] = {}
    for line in lines:
        crc, _, text = line.partition(b" ")
        if crc == b"%08x" % zlib.crc32(text):
            try:
                stone = msgspec.json.decode(text, type=Tombstone)
            except msgspec.DecodeError:
                continue
            found.setdefault(stone.id, stone)
    return list(found.values())


def make(journal: Path, erasure: str, keys: Iterable[str], places: Iterable[Place], now_ms: int) -> Tombstone:
    """The tombstone of an erasure, durable when this returns; the one there is when the erasure was asked for before.

    Args:
        journal: the database file.
        erasure: names it; 1–200 characters.
        keys: day keys, sealed identifiers, references to consents.
        places: events named by their number.
        now_ms: wall time, milliseconds since 1970.

    Raises:
        Rejected: it names too much at once.
        Unavailable: the disk does not take it.
    """
    known = load(journal)
    for stone in known:
        if stone.id == erasure:
            return stone
    salt = known[0].salt if known else secrets.token_hex(_SALT_BYTES)
    stone = Tombstone(erasure, now_ms, salt, tuple(sorted({digest(salt, key) for key in keys})), tuple(places))
    if len(stone.digests) + len(stone.places) > KEYS_LIMIT:
        raise Rejected("erase", erasure[:40], f"more than {KEYS_LIMIT} keys and places in one erasure")
    append(journal, [stone])
    return stone


def append(journal: Path, stones: Iterable[Tombstone]) -> None:
    """Add lines, durably.

    Raises:
        Unavailable: the disk does not take them, or the file has grown beyond all bounds.
    """
    path = path_of(journal)
    text = b"".join(b"\n%08x %b\n" % (zlib.crc32(line), line) for line in map(msgspec.json.encode, stones))
    if not text:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(fd, "ab") as file:  # noqa: PTH123 - wraps the descriptor opened with the narrow mode
            if file.tell() + len(text) > _FILE_LIMIT_BYTES:
                raise Unavailable("erase", str(path), "the file of tombstones is full", "see docs/operations.md")
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        raise _unable(journal, error) from error


def _unable(journal: Path, error: OSError) -> Unavailable:
    return Unavailable(
        "keep tombstones", str(path_of(journal)), error.strerror or str(error),
        "the data directory must be writable and have room",
    )  # fmt: skip
