"""Quarantine: inputs that could not become events and events that the platform refused, kept with their reason.

A payload may hold anything, a card number too, and so may the topic it came under. Both lie there encrypted under a
key of this machine and are opened only for a person who asks; in clear stands the configured filter that the topic
matched, without the hardware address that it may name. The newest ten thousand entries are kept, and no more bytes of
them than a share of the quota. Knows neither drivers nor the platform: replaying is for whoever has them.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.durable_file import create_file
from gateway.errors import JournalError, JournalFull, Rejected
from gateway.journal.disk import NO_ROOM

if TYPE_CHECKING:
    from gateway.journal.reader import JournalReader

ENTRIES_MOST = 10_000
_BYTES_MOST, _QUOTA_SHARE = 64 << 20, 16  # payloads as they lie there; a sixteenth of a small quota
_ADDRESS = re.compile(r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{2}(?:[:-]?[0-9A-Fa-f]{2}){5}(?![0-9A-Fa-f])")
_REASON_MOST = 500  # characters; a reason may quote names that a device has chosen
_KEY_BYTES, _NONCE_BYTES, _FORM = 32, 12, b"\x01"
_TOPIC_MARK, _TOPIC_MOST = b"\x00topic\x00", 65_535  # of MQTT


class Quarantined(msgspec.Struct, frozen=True):
    """One entry. `source` is the device's name, or `uplink` for an event the platform refused (`topic` says which).

    `topic`: in a list the filter that the topic matched; of an opened entry the topic itself.
    """

    id: int
    at_ms: int
    source: str
    driver: str
    topic: str
    reason: str
    state: str  # "held" or "replayed"


class Held(msgspec.Struct, frozen=True):
    """An entry to be put in; `sealed` is its payload as it may lie there, `dedupe` names the message that it was."""

    source: str
    driver: str
    filter: str
    reason: str
    sealed: bytes
    dedupe: bytes = b""


class PayloadSeal:
    """Seals payloads with AES-256-GCM. The key is read, or made, when the first payload comes."""

    def __init__(self, key_path: Path) -> None:
        """`key_path`: 32 bytes, readable by the gateway's user alone; made at the first `seal` when absent."""
        self._key_path = key_path
        self._key: bytes | None = None

    def seal(self, payload: bytes) -> bytes:
        """The payload encrypted, 29 bytes longer.

        Raises:
            JournalError: the key can neither be read nor made.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _FORM + nonce + AESGCM(self._loaded(make=True)).encrypt(nonce, payload, None)

    def open(self, sealed: bytes) -> bytes:
        """The payload that was sealed.

        Raises:
            Rejected: it was sealed with another key, or is damaged.
            JournalError: there is no key, or it cannot be read.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if not sealed.startswith(_FORM) or len(text) < 16:
            raise Rejected("open quarantined payload", "payload", "it is not sealed in a known way")
        try:
            return AESGCM(self._loaded(make=False)).decrypt(nonce, text, None)
        except InvalidTag as error:
            raise Rejected(
                "open quarantined payload", str(self._key_path), "the key does not fit the payload",
                "use the key that lay beside this journal when the payload came",
            ) from error  # fmt: skip

    def _loaded(self, make: bool) -> bytes:
        if self._key is None:
            try:
                if make and not self._key_path.exists():
                    self._make()
                key = self._key_path.read_bytes()
            except OSError as error:
                if error.errno in NO_ROOM:
                    raise JournalFull(
                        "make quarantine key", str(self._key_path), error.strerror or str(error),
                        "free space on the disk",
                    ) from error  # fmt: skip
                raise self._unusable(error.strerror or str(error)) from error
            if len(key) != _KEY_BYTES:
                if not make:
                    raise self._unusable(f"{len(key)} bytes instead of {_KEY_BYTES}")
                # Poison must not stop the gateway: what this key sealed is closed anyway, so go on with a new one.
                self._key_path.replace(self._key_path.with_name(self._key_path.name + ".damaged"))
                self._make()
                key = self._key_path.read_bytes()
            self._key = key
        return self._key

    def _make(self) -> None:
        """Lay a whole key down under its name, or none: a key cut short by a power cut would open nothing."""
        self._key_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_file(self._key_path, secrets.token_bytes(_KEY_BYTES))  # if another process was first, its key is the key

    def _unusable(self, reason: str) -> JournalError:
        return JournalError(
            "use quarantine key", str(self._key_path), reason,
            "restore the file, or remove it to begin with a new key (old payloads then stay closed)",
        )  # fmt: skip


def hold(connection: sqlite3.Connection, at_ms: int, entry: Held) -> None:
    """Put an entry in, in the caller's transaction, and drop the oldest beyond the bounds; the newest always stays."""
    row = connection.execute("SELECT id, through_bytes FROM quarantine ORDER BY id DESC LIMIT 1").fetchone()
    through_bytes = (0 if row is None else row[1]) + len(entry.sealed)
    newest = connection.execute(
        "INSERT INTO quarantine (at_ms, source, driver, topic, reason, payload, dedupe, through_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            at_ms, entry.source, entry.driver, without_addresses(_storable(entry.filter)),
            _storable(entry.reason[:_REASON_MOST]), entry.sealed, entry.dedupe, through_bytes,
        ),
    ).lastrowid  # fmt: skip
    most = _bytes_most(connection)
    connection.execute("DELETE FROM quarantine WHERE id <= ?", ((newest or 0) - ENTRIES_MOST,))
    # `through_bytes` runs on over all that ever came, so that the oldest row alone tells how much there is.
    oldest = "SELECT id, through_bytes - length(payload) FROM quarantine ORDER BY id LIMIT 1"
    while (found := connection.execute(oldest).fetchone())[0] != newest and through_bytes - found[1] > most:
        connection.execute("DELETE FROM quarantine WHERE id = ?", found[:1])


def without_addresses(filter_: str) -> str:
    """A topic filter with `…` in the place of each hardware address (twelve hex digits), which would name a device."""
    return _ADDRESS.sub("…", filter_)


def _bytes_most(connection: sqlite3.Connection) -> int:
    pages, page_bytes = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("max_page_count", "page_size")
    )
    return min(_BYTES_MOST, pages * page_bytes // _QUOTA_SHARE)


def _storable(text: str) -> str:
    """Text that a device may have had a hand in, without the lone surrogates that no database takes."""
    return text.encode("utf-8", "replace").decode()


def entries(reader: JournalReader, *, before: int | None = None, limit: int = 100) -> list[Quarantined]:
    """The newest entries first, without payloads; `before` is the lowest id seen, to page on."""
    rows = reader.query(
        "SELECT id, at_ms, source, driver, topic, reason, state FROM quarantine WHERE ?1 IS NULL OR id < ?1 "
        "ORDER BY id DESC LIMIT ?2",
        (before, limit),
    )
    return [Quarantined(*row) for row in rows]


def get(reader: JournalReader, entry: int, seal: PayloadSeal) -> tuple[Quarantined, bytes]:
    """One entry and its payload, opened.

    Raises:
        Rejected: there is no such entry, or the key does not open it.
    """
    select = "SELECT id, at_ms, source, driver, topic, reason, state, payload FROM quarantine WHERE id = ?"
    rows = reader.query(select, (entry,)) if 0 < entry < 1 << 63 else []
    if not rows:
        raise Rejected(
            "show quarantined", str(entry), "there is no such entry", "see `storefront quarantine list`"
        )  # fmt: skip
    *facts, sealed = rows[0]
    found = Quarantined(*facts)
    topic, payload = _parted(seal.open(bytes(sealed)))
    return found if topic is None else msgspec.structs.replace(found, topic=topic), payload


def with_topic(topic: str, payload: bytes) -> bytes:
    """What is sealed for a device's message: its topic, then its payload."""
    name = topic.encode("utf-8", "replace")[:_TOPIC_MOST]
    return _TOPIC_MARK + len(name).to_bytes(2, "big") + name + payload


def _parted(opened: bytes) -> tuple[str | None, bytes]:
    """The topic, None where none was sealed (an event that the platform refused), and the payload."""
    if not opened.startswith(_TOPIC_MARK):
        return None, opened
    start = len(_TOPIC_MARK) + 2
    end = start + int.from_bytes(opened[start - 2 : start], "big")
    return opened[start:end].decode("utf-8", "replace"), opened[end:]


def mark_replayed(connection: sqlite3.Connection, entry: int) -> bool:
    """Note that the entry was given to its driver again; False when there is none or it was noted before."""
    changed = connection.execute("UPDATE quarantine SET state = 'replayed' WHERE id = ? AND state = 'held'", (entry,))
    return changed.rowcount > 0
