"""The journal's tables, how they came to be, and how a connection to them is opened.

One table a stream, keyed by the position in that stream and by nothing else: an append touches the last page only.
Tables are made and changed by sqlite-utils migrations; it is imported only when there is something to migrate, since
it costs 0.2 s and 25 MB that a running gateway does not need. Knows no event.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from gateway.errors import JournalError
from gateway.event import STREAMS
from gateway.journal.quarantine import without_addresses

if TYPE_CHECKING:
    from sqlite_utils import Database
    from sqlite_utils.migrations import Migrations

PAGE_BYTES = 1024  # small pages: a commit of four events writes 3 KB, not 12 (measured; see the decision record)
WAL_LIMIT_BYTES = 8 * 1024 * 1024
_CHECKPOINT_BYTES = 4 * 1024 * 1024
BACKUP_MARK = 0x53464231  # application_id of a backup: whoever opens it for writing begins a new epoch
SCHEMA_VERSION = 3  # how many migrations there are


def migrations() -> Migrations:
    """Every change of the schema, oldest first. A shipped one is never edited: add the next."""
    from sqlite_utils.migrations import Migrations

    journal = Migrations("journal")

    @journal()
    def m001_streams(db: Database) -> None:
        for stream in STREAMS:
            db.table(stream).create(
                {"position": int, "boot": int, "recorded_ms": int, "dedupe": bytes, "body": bytes, "crc": int},
                pk="position",
                not_null=("boot", "recorded_ms", "dedupe", "body", "crc"),
            )
            db.table("tally").insert(
                {"stream": stream, "acked": 0, "quarantined": 0, "expired": 0, "declared_lost": 0}, pk="stream"
            )
        db.table("epoch").create(
            {"stream": str, "epoch": str, "base": int, "gateway": str, "reason": str, "opened_ms": int},
            pk=("stream", "epoch"),
        )
        db.table("boot").create({"id": int, "boot": str}, pk="id")
        db.table("cursor").create(
            {"name": str, "stream": str, "position": int, "required": int, "moved_ms": int, "crc": int},
            pk=("name", "stream"),
        )
        db.table("dictionary").create({"id": int, "made_ms": int, "bytes": bytes, "crc": int}, pk="id")
        db.table("quarantine").create(
            {
                "id": int, "at_ms": int, "source": str, "driver": str, "topic": str, "reason": str,
                "payload": bytes, "state": str,
            },
            pk="id",
            defaults={"state": "held"},
        )  # fmt: skip
        db.table("loss").create(
            {"id": int, "at_ms": int, "subject": str, "first": int, "last": int, "count": int, "reason": str}, pk="id"
        )

    @journal()
    def m002_erasures(db: Database) -> None:
        db.table("erasure").create(
            {"id": str, "at_ms": int, "record": bytes, "done": int, "again": int},
            pk="id",
            not_null=("at_ms", "record", "done", "again"),
        )
        db.table("tombstone").create({"stream": str, "position": int, "erasure": str}, pk=("stream", "position"))

    @journal()
    def m003_quarantine_in_bytes(db: Database) -> None:
        # With it rows may need their dictionary to be checked (see `packing`), which older versions do not know.
        table = db.table("quarantine")
        table.add_column("dedupe", bytes, not_null_default=b"")
        table.add_column("through_bytes", int, not_null_default=0)
        through_bytes = 0
        rows = db.conn.execute("SELECT id, length(payload), topic FROM quarantine ORDER BY id").fetchall()
        for entry, size, topic in rows:
            through_bytes += size or 0
            db.conn.execute(
                "UPDATE quarantine SET through_bytes = ?, topic = ? WHERE id = ?",
                (through_bytes, without_addresses(topic or ""), entry),
            )

    return journal


@contextlib.contextmanager
def _without(module: str) -> Iterator[None]:
    """Keep a library from loading another that it takes where it is installed: a gateway has no memory to spare."""
    absent = module not in sys.modules
    if absent:
        sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if absent:
            del sys.modules[module]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema up to date; a database from a newer version is refused, never altered.

    Raises:
        JournalError: the database was written by a newer version.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == SCHEMA_VERSION:
        return
    if version > SCHEMA_VERSION:
        raise JournalError(
            "open journal", f"schema {version}", f"this version knows schemas up to {SCHEMA_VERSION}",
            "install the version of the gateway that wrote it, or a newer one",
        )  # fmt: skip
    with _without("numpy"):
        from sqlite_utils import Database

        migrations().apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def connect_writer(path: Path, max_bytes: int) -> sqlite3.Connection:
    """The one writing and checkpointing connection, with every pragma the promises need; the schema is up to date."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False, cached_statements=64)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # takes effect on a new file only
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "secure_delete = ON",
        "auto_vacuum = NONE",
        "temp_store = MEMORY",
        "cache_size = -4096",
        f"journal_size_limit = {WAL_LIMIT_BYTES}",
    ):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    page_bytes = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // page_bytes}")
    connection.execute(f"PRAGMA max_page_count = {max(64, max_bytes // page_bytes)}")
    migrate(connection)
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """A reading connection: it cannot write, and never checkpoints. Keep its transactions short."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=5.0, check_same_thread=False
    )
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA cache_size = -2048")
    return connection


def head_of(connection: sqlite3.Connection, stream: str) -> int:
    """Position of the stream's newest event, 0 when there never was one; never below where its epoch began.

    The epoch counts because after a salvage the newest rows may be gone, and their positions must not be given again.
    """
    newest = connection.execute(f"SELECT coalesce(max(position), 0) FROM {stream}").fetchone()[0]  # noqa: S608
    base = connection.execute("SELECT coalesce(max(base), 0) FROM epoch WHERE stream = ?", (stream,)).fetchone()[0]
    return max(int(newest), int(base))


def fill_share(connection: sqlite3.Connection) -> float:
    """How much of the quota is used by live pages, 0–1."""
    pages, free, most = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "max_page_count")
    )
    return (pages - free) / most


class StreamEpoch(msgspec.Struct, frozen=True):
    """A run of numbers: positions above `base` belong to `epoch`, `seq = position - base`."""

    stream: str
    epoch: str
    base: int
    gateway: str
    reason: str
    opened_ms: int
