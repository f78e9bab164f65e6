"""The day key: a pseudonym that joins one visit and nothing else.

HMAC-SHA256 under a random key of this store and this day, cut to 128 bits. The key lies in a file of its own (0600),
is not part of any backup, and is destroyed after 48 hours; after that nobody, the shop included, can link the
pseudonym to a person or to another day. Knows no event and no consent.

*Source*: PIPL Art. 51 (de-identification); design of the project, PRIVACY_SECURITY.md, "Persons" 2 and 3.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import threading
import unicodedata
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from gateway.clock import Instant
from gateway.durable_file import create_file, replace_file
from gateway.journal.disk import NO_ROOM

log = logging.getLogger(__name__)

_KEY_BYTES = 32
_KEEP = timedelta(hours=48)
_SURE = ("ntp", "rtc")


class DayKeys:
    """Makes pseudonyms; any thread may ask."""

    def __init__(self, directory: Path, time_zone: str = "UTC") -> None:
        """Store.

        Args:
            directory: where the keys lie, made when first needed.
            time_zone: the shop's; a day ends at its midnight, which no visit spans.
        """
        self._directory = directory
        self._zone = ZoneInfo(time_zone)
        self._keys: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        """The pseudonym of an identifier on the shop's day of `at`: 32 hex characters.

        Args:
            scheme: what kind of identifier it is (`member`, `lf_card`, …); the same number in two schemes differs.
            identifier: as read; normalised here (NFKC, trimmed, upper case).

        Raises:
            OSError: the key cannot be stored.
        """
        normal = unicodedata.normalize("NFKC", identifier).strip().upper()
        return self.keyed(f"{scheme}\x1f{normal}".encode(), at)

    def keyed(self, plaintext: bytes, at: Instant) -> str:
        """The pseudonym of what is normalised already (`Identifier.plaintext`).

        Raises:
            OSError: the key cannot be stored.
        """
        return hmac.new(self._key_of(at.wall_at), plaintext, hashlib.sha256).hexdigest()[:32]

    def destroy_old(self, now: Instant) -> int:
        """Overwrite and remove keys older than 48 hours; returns how many.

        By a clock that can be trusted also those of days to come: a clock that was wrong has made them.
        """
        destroyed = 0
        with self._lock:
            for name in [name for name in self._keys if self._is_over(name, now)]:
                del self._keys[name]
            for path in sorted(self._directory.glob("*.daykey")):
                if self._is_over(path.stem, now):
                    with path.open("r+b") as file:
                        file.write(b"\0" * _KEY_BYTES)
                        file.flush()
                        os.fsync(file.fileno())
                    path.unlink()
                    destroyed += 1
        return destroyed

    def _is_over(self, name: str, now: Instant) -> bool:
        age = now.wall_at - datetime.strptime(name, "%Y-%m-%d").replace(tzinfo=self._zone)
        return age >= _KEEP + timedelta(days=1) or (now.quality in _SURE and age <= -_KEEP)

    def _key_of(self, at: datetime) -> bytes:
        day = at.astimezone(self._zone).strftime("%Y-%m-%d")
        with self._lock:
            key = self._keys.get(day)
            if key is None:
                key = self._keys[day] = self._stored_or_not(day)
            return key

    def _stored_or_not(self, day: str) -> bytes:
        try:
            return self._load_or_make(self._directory / f"{day}.daykey")
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            # A disk that is full at midnight must not stop the day's sales: a restart then splits the day's visits.
            log.error("day_key=in_memory_only day=%s reason=%r", day, error.strerror)
            return secrets.token_bytes(_KEY_BYTES)

    def _load_or_make(self, path: Path) -> bytes:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            create_file(path, secrets.token_bytes(_KEY_BYTES))  # if another process was first, its key is the day's
        key = path.read_bytes()
        if len(key) != _KEY_BYTES:
            replace_file(path, key := secrets.token_bytes(_KEY_BYTES))
        return key
