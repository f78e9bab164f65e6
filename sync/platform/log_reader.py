"""The platform's events for those who follow them, by a connection of its own, so that nobody waits for ingest."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class LogReader:
    """`EventSource` over the platform's file, to read only. One thread."""

    def __init__(self, path: Path) -> None:
        """`path`: the platform's database, which somebody else has made."""
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open the file."""
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10.0, check_same_thread=False)
        connection.execute("PRAGMA query_only = ON")
        self._connection = connection

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Events above a position in order of arrival; none while it is closed."""
        if self._connection is None:
            return []
        return self._connection.execute(
            "SELECT position, body FROM event WHERE position > ? ORDER BY position LIMIT ?", (after, limit)
        ).fetchall()

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
