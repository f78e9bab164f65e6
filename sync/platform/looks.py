"""Who looked at whom: profiles are personal data, so each look, search and act is written down before it is answered.

Kept beside the profiles, the newest hundred thousand. It names the person by the opaque key, which leads nowhere once
the person is erased; whoever looked stays. Knows no page.
"""

from __future__ import annotations

import sqlite3
from typing import Final

import msgspec

from gateway.errors import Unavailable
from sync.platform.profile_book import ProfileBook

_KEPT: Final = 100_000
_OF_ALL: Final = "SELECT at_ms, who, what, person FROM look ORDER BY id DESC LIMIT :limit"
_OF_ONE: Final = "SELECT at_ms, who, what, person FROM look WHERE person = :person ORDER BY id DESC LIMIT :limit"


class Look(msgspec.Struct, frozen=True):
    """One. `who`: the name given with the token, `token` without one, `local` where none is needed.

    `what`: look, search, or the name of an act; `person`: the opaque key, "" where nobody was found.
    """

    at_ms: int
    who: str
    what: str
    person: str


class Looks:
    """On an open book; any thread."""

    def __init__(self, book: ProfileBook) -> None:
        """`book`: open."""
        self._book = book

    def note(self, look: Look) -> None:
        """Write it down; durable when this returns.

        Raises:
            Unavailable: it cannot be written. Show nothing.
        """
        try:
            with self._book.transaction() as writing:
                number = writing.sql("INSERT INTO look (at_ms, who, what, person) VALUES (?, ?, ?, ?)",
                                     (look.at_ms, look.who, look.what, look.person)).lastrowid  # fmt: skip
                writing.sql("DELETE FROM look WHERE id <= ?", ((number or 0) - _KEPT,))
        except sqlite3.Error as error:
            raise Unavailable(
                "note look", str(self._book.path), f"who looks cannot be written down, so nothing is shown: {error}",
                "is the disk full?",
            ) from error  # fmt: skip

    def newest(self, limit: int, person: str = "") -> list[Look]:
        """The newest, of one person or of all, newest first."""
        with self._book.reading() as connection:
            rows = connection.execute(_OF_ONE if person else _OF_ALL, {"person": person, "limit": limit}).fetchall()
        return [Look(*row) for row in rows]
