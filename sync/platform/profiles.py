"""The profiles of a platform put together: the book beside its database, the fold that follows it, reading and telling.

`open`, then the fold runs on a thread of its own until `close`; when it ends by itself, serving goes on and the pages
say so.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from gateway.clock import Clock
from sync.platform.log_reader import LogReader
from sync.platform.platform_keys import PlatformKeys, keys_beside
from sync.platform.profile_book import ProfileBook
from sync.platform.profile_fold import ProfileFold
from sync.platform.profile_reading import ProfileReading
from sync.platform.return_visits import ReturnVisits
from sync.platform.store import PlatformStore
from sync.platform.telling import Telling

log = logging.getLogger(__name__)

_CLOSE_S = 5.0


def book_path(database: Path) -> Path:
    """Where the book of a platform's database lies."""
    return database.with_name(database.stem + ".profiles.db")


class Profiles:
    """Everything about persons that a platform has."""

    def __init__(self, store: PlatformStore, clock: Clock, *, durable: bool = True) -> None:
        """`store`: the platform's own, open before this is."""
        self._store = store
        self._clock = clock
        self._durable = durable
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = LogReader(store.path)
        self.stopped = False
        self.keys: PlatformKeys
        self.book: ProfileBook
        self.fold: ProfileFold
        self.reading: ProfileReading
        self.telling: Telling
        self.return_visits: ReturnVisits

    def open(self, *, follow: bool = True) -> None:
        """Make or open everything; `follow`: begin to fold.

        Raises:
            Unavailable, ConfigError: the keys cannot be used.
        """
        self.keys = keys_beside(self._store.path)
        self.book = ProfileBook(book_path(self._store.path), self.keys.vault, durable=self._durable)
        self.book.open()
        self._log.open()
        self.fold = ProfileFold(self.book, self._log, self.keys.opener)
        self.reading = ProfileReading(self.book)
        self.telling = Telling(self.book, self._store, self._clock, self.keys.issuer)
        self.return_visits = ReturnVisits(self.book, self._store, self.telling, self._clock)
        if follow:
            self._thread = threading.Thread(
                target=self.fold.run, args=(self._stop, self._failed, self._when_idle), name="profiles", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """End the fold and close; safe to call twice."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_CLOSE_S)
            self._thread = None
        self._log.close()
        if hasattr(self, "book"):
            self.book.close()

    def gateways(self) -> list[str]:
        """Names of the gateways that this platform knows."""
        return [name for name, _ in self._store.gateways()]

    def part(self, key: str, edge: int, *, void: bool) -> bool:
        """Take back an act that made an identifier this person's; False when it is none of theirs."""
        found = self.reading.person(key)
        sql = "SELECT 1 FROM claim c JOIN edge e ON c.identifier IN (e.one, e.other) WHERE c.person = ? AND e.id = ?"
        with self.book.transaction() as writing:
            if found is None or writing.sql(sql, (found[0], edge)).fetchone() is None:
                return False
            return writing.part(edge, void=void)

    def _when_idle(self) -> None:
        self.telling.tidy()
        self.return_visits.step()

    def _failed(self, error: BaseException) -> None:
        self.stopped = True
        log.error("profiles=stopped reason=%s", type(error).__name__, exc_info=error)
