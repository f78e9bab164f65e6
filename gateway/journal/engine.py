"""Which SQLite the journal runs on: for the doctor, who may not touch the library itself."""

from __future__ import annotations

import sqlite3


def sqlite_version() -> str:
    """The version of the SQLite library in use, as in `3.46.1`."""
    return sqlite3.sqlite_version
