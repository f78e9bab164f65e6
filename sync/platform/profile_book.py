"""The book of persons: identifiers under marks, acts that link them, consents, and what each person did, in tables.

A file of its own beside the platform's, so that matching never holds up ingest. What a person did is kept under the
*identifier* that was shown, never under the person: who that was follows from the claims, which are derived from the
acts again whenever one arrives, is taken back, or turns out to be shared. Everything is idempotent by its place (the
event's position or the import's line). Knows no HTTP, no event format, no CSV.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from gateway.errors import JournalError
from sync.platform.consent_state import ConsentAct
from sync.platform.identity_graph import Act, resolve
from sync.platform.profile_claims import STILL, Claims, Resolver
from sync.platform.vault import Vault, checked

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS identifier (
    id INTEGER PRIMARY KEY, scheme TEXT NOT NULL, mark BLOB NOT NULL UNIQUE, box BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS edge (
    id INTEGER PRIMARY KEY, act TEXT NOT NULL, one INTEGER NOT NULL, other INTEGER NOT NULL, replaced INTEGER NOT NULL,
    first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL, times INTEGER NOT NULL DEFAULT 1, origin INTEGER NOT NULL,
    place INTEGER NOT NULL, void INTEGER NOT NULL DEFAULT 0, UNIQUE (one, other, act, replaced, origin));
CREATE INDEX IF NOT EXISTS edge_other ON edge (other);
CREATE INDEX IF NOT EXISTS edge_replaced ON edge (replaced) WHERE replaced > 0;
CREATE TABLE IF NOT EXISTS person (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, lead INTEGER UNIQUE, merged INTEGER);
CREATE TABLE IF NOT EXISTS claim (
    identifier INTEGER NOT NULL, person INTEGER NOT NULL, since_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,
    proved_ms INTEGER NOT NULL, sole INTEGER NOT NULL, edge INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS claim_identifier ON claim (identifier);
CREATE INDEX IF NOT EXISTS claim_person ON claim (person);
CREATE TABLE IF NOT EXISTS consent (
    id INTEGER PRIMARY KEY, record TEXT NOT NULL, step TEXT NOT NULL, identifier INTEGER, purposes TEXT NOT NULL,
    at_ms INTEGER NOT NULL, until_ms INTEGER, notice TEXT NOT NULL, language TEXT NOT NULL, method TEXT NOT NULL,
    origin INTEGER NOT NULL, place INTEGER NOT NULL, UNIQUE (record, step, at_ms));
CREATE INDEX IF NOT EXISTS consent_identifier ON consent (identifier);
CREATE TABLE IF NOT EXISTS consented (
    person INTEGER NOT NULL, purpose TEXT NOT NULL, since_ms INTEGER, until_ms INTEGER, withdrawn_ms INTEGER,
    PRIMARY KEY (person, purpose)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS touch (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, identifier INTEGER, how TEXT NOT NULL, day_key TEXT,
    store TEXT NOT NULL, channel TEXT NOT NULL, at_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, ref TEXT NOT NULL,
    amount_parts INTEGER, currency TEXT NOT NULL, items REAL, confidence REAL NOT NULL, detail TEXT NOT NULL,
    supersedes TEXT, superseded INTEGER NOT NULL DEFAULT 0, record TEXT, origin INTEGER NOT NULL,
    place INTEGER NOT NULL, UNIQUE (origin, place));
CREATE INDEX IF NOT EXISTS touch_identifier ON touch (identifier, at_ms) WHERE identifier IS NOT NULL;
CREATE INDEX IF NOT EXISTS touch_ref ON touch (store, kind, ref);
CREATE INDEX IF NOT EXISTS touch_day_key ON touch (day_key) WHERE day_key IS NOT NULL AND identifier IS NULL;
CREATE INDEX IF NOT EXISTS touch_supersedes ON touch (store, supersedes) WHERE supersedes IS NOT NULL;
CREATE TABLE IF NOT EXISTS visit_sale (
    store TEXT NOT NULL, visit TEXT NOT NULL, sale TEXT NOT NULL, PRIMARY KEY (store, visit, sale)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS visit_sale_sale ON visit_sale (store, sale);
CREATE TABLE IF NOT EXISTS day_key (
    key TEXT PRIMARY KEY, identifier INTEGER NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS coupon (
    coupon TEXT PRIMARY KEY, campaign TEXT NOT NULL, channel TEXT NOT NULL, face TEXT NOT NULL, identifier INTEGER,
    issued_ms INTEGER, command TEXT, origin INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS coupon_step (
    place INTEGER PRIMARY KEY, coupon TEXT NOT NULL, campaign TEXT NOT NULL, channel TEXT NOT NULL, step TEXT NOT NULL,
    store TEXT NOT NULL, at_ms INTEGER NOT NULL, sale TEXT NOT NULL, reason TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS coupon_step_coupon ON coupon_step (coupon);
CREATE TABLE IF NOT EXISTS imported (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, key BLOB NOT NULL, UNIQUE (kind, key));
CREATE TABLE IF NOT EXISTS told (
    command TEXT PRIMARY KEY, person INTEGER, gateway TEXT NOT NULL, kind TEXT NOT NULL, at_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS mention (
    identifier INTEGER NOT NULL, place INTEGER NOT NULL, at_ms INTEGER NOT NULL, PRIMARY KEY (identifier, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS look (
    id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL, person TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS look_person ON look (person);
CREATE TABLE IF NOT EXISTS late (place INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS forgotten (mark BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID;
"""

EVENT, IMPORT = 0, 1  # origins
PARTS: Final = 10_000  # of one unit of a currency
_DAY_MS: Final = 86_400_000


class Touch(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person did, under the identifier that was shown.

    `how`: `key` it was shown; `day_key` the same key of the day was shown elsewhere that day; empty: nobody was named.
    `ref`: the transaction, visit or order. `detail`: JSON of what the page shows besides.
    """

    kind: str
    at_ms: int
    end_ms: int = 0
    store: str = ""
    channel: str = "store"
    ref: str = ""
    identifier: int | None = None
    day_key: str | None = None
    amount_parts: int | None = None
    currency: str = ""
    items: float | None = None
    confidence: float = 1.0
    detail: str = "{}"
    supersedes: str | None = None
    record: str | None = None
    sales: tuple[str, ...] = ()
    origin: int = EVENT
    place: int


class ProfileBook:
    """The tables. `open` first; `transaction` gives a `Writing`; any thread, one at a time."""

    def __init__(self, path: Path, vault: Vault, *, durable: bool = True, resolver: Resolver = resolve) -> None:
        """`path`: the SQLite file; `vault`: open; `resolver`: persons from acts."""
        self.path = path
        self.vault = vault
        self._durable = durable
        self._resolver = resolver
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or make the file, for this user's eyes only."""
        self.path.touch(mode=0o600)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10.0, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'OFF'}")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA cache_size = -32768")
        connection.executescript(_SCHEMA)
        self._connection = connection

    def close(self) -> None:
        """Close; safe to call twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Writing]:
        """All or nothing; persons are derived again at its end."""
        with self._lock:
            connection = self.connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                writing = Writing(connection, self.vault, self._resolver)
                yield writing
                writing.settle()
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, to read only."""
        with self._lock:
            yield self.connection

    def scrub(self) -> None:
        """Leave nothing of what was deleted in the write-ahead log."""
        with self._lock:
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def connection(self) -> sqlite3.Connection:
        """Raises JournalError when closed."""
        if self._connection is None:
            raise JournalError("use profile book", str(self.path), "it is closed")
        return self._connection


class Writing:
    """One transaction's work."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault, resolver: Resolver) -> None:
        self.sql = connection.execute
        self._vault = vault
        self._claims = Claims(connection, resolver)

    def settle(self) -> None:
        """Derive again the persons around every identifier that changed."""
        self._claims.settle()

    def sweep(self) -> int:
        """See `Claims.sweep`."""
        return self._claims.sweep()

    # -- facts

    def fact(self, name: str, default: str = "") -> str:
        """A value by name."""
        row = self.sql("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return default if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Keep a value by name."""
        self.sql(
            "INSERT INTO fact VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        if by:
            self.set_fact(name, str(int(self.fact(name, "0")) + by))

    # -- identifiers and acts

    def find(self, scheme: str, value: str) -> int | None:
        """The identifier, when it is known."""
        row = self.sql("SELECT id FROM identifier WHERE mark = ?", (self._vault.mark(scheme, value),)).fetchone()
        return None if row is None else int(row[0])

    def mark_of(self, text: str) -> bytes:
        """A keyed mark of any text, to know it again without keeping it."""
        return self._vault.mark("", text)

    def identify(self, scheme: str, value: str, at_ms: int) -> int | None:
        """The identifier, made when it is new; None for one that was erased after `at_ms`.

        Raises:
            Rejected: it cannot be one.
        """
        checked(scheme, value)
        mark = self._vault.mark(scheme, value)
        row = self.sql("SELECT at_ms FROM forgotten WHERE mark = ?", (mark,)).fetchone()
        if row is not None and at_ms <= row[0]:
            return None
        row = self.sql("SELECT id FROM identifier WHERE mark = ?", (mark,)).fetchone()
        if row is not None:
            return int(row[0])
        made = self.sql(
            "INSERT INTO identifier (scheme, mark, box) VALUES (?, ?, ?)", (scheme, mark, self._vault.boxed(value))
        ).lastrowid
        assert made is not None
        self._claims.dirty.add(made)
        return made

    def link(self, act: Act, one: int, other: int, at_ms: int, *, replaced: int = 0, origin: int, place: int) -> None:
        """Note an authenticated act; the same act again only says that it still held."""
        if one == other:
            return
        row = self.sql(
            "SELECT id, first_ms, last_ms FROM edge WHERE one = ? AND other = ? AND act = ? AND replaced = ? "
            "AND origin = ?",
            (one, other, act, replaced, origin),
        ).fetchone()
        if row is None:
            self.sql(
                "INSERT INTO edge (act, one, other, replaced, first_ms, last_ms, origin, place) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (act, one, other, replaced, at_ms, at_ms, origin, place),
            )
            self._claims.dirty |= {one, other}
            return
        number, first_ms, last_ms = row
        self.sql(
            "UPDATE edge SET first_ms = min(first_ms, ?), last_ms = max(last_ms, ?), times = times + 1 WHERE id = ?",
            (at_ms, at_ms, number),
        )
        if at_ms < first_ms or (at_ms > last_ms and self._given_up(one, other)):
            self._claims.dirty |= {one, other}

    def part(self, edge: int, *, void: bool = True) -> bool:
        """Take an act back, or let it count again (`void=False`); False when there is no such act."""
        row = self.sql("UPDATE edge SET void = ? WHERE id = ? RETURNING one, other", (int(void), edge)).fetchone()
        if row is not None:
            self._claims.dirty |= {int(row[0]), int(row[1])}
        return row is not None

    def everybody(self) -> None:
        """Derive all persons again at the end."""
        self._claims.dirty |= {int(row[0]) for row in self.sql("SELECT id FROM identifier")}

    def derive(self, identifiers: Iterable[int]) -> None:
        """Derive again, at the end, whose these are."""
        self._claims.dirty |= set(identifiers)

    def _given_up(self, *identifiers: int) -> bool:
        marks = ", ".join("?" * len(identifiers))
        return (
            self.sql(
                f"SELECT 1 FROM claim WHERE identifier IN ({marks}) AND until_ms < ? LIMIT 1",  # noqa: S608 - marks
                (*identifiers, STILL),
            ).fetchone()
            is not None
        )

    # -- consents

    def consent(self, act: ConsentAct, record: str, identifier: int | None, *, notice: str, language: str,
                method: str, origin: int, place: int) -> bool:  # fmt: skip
        """Note a grant or a withdrawal; False when it is known. Without identifier it goes by its record."""
        if identifier is None:
            row = self.sql(
                "SELECT identifier FROM consent WHERE record = ? AND identifier IS NOT NULL LIMIT 1", (record,)
            ).fetchone()
            identifier = None if row is None else int(row[0])
        else:
            self._name_record(record, identifier)
        made = self.sql(
            "INSERT OR IGNORE INTO consent (record, step, identifier, purposes, at_ms, until_ms, notice, language, "
            "method, origin, place) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (record, act.step, identifier, " ".join(act.purposes), act.at_ms, act.until_ms, notice, language, method,
             origin, place),
        ).rowcount  # fmt: skip
        if identifier is not None:
            self._claims.dirty.add(identifier)
        return bool(made)

    def _name_record(self, record: str, identifier: int) -> None:
        """A record that came without its person gets one from whatever refers to it."""
        changed = self.sql(
            "UPDATE consent SET identifier = ? WHERE record = ? AND identifier IS NULL", (identifier, record)
        ).rowcount
        if changed:
            self._claims.dirty.add(identifier)

    # -- touches

    def touch(self, it: Touch) -> None:
        """Keep what somebody did, once."""
        self.settle()  # whoever agreed or withdrew before this has done so
        identifier, how = it.identifier, "key" if it.identifier is not None else ""
        if it.day_key is not None:
            if identifier is not None:
                self._day_key(it.day_key, identifier, it.at_ms)
            else:
                row = self.sql(
                    "SELECT identifier FROM day_key WHERE key = ? AND abs(at_ms - ?) < ?",
                    (it.day_key, it.at_ms, _DAY_MS),
                ).fetchone()
                identifier, how = (None, "") if row is None else (int(row[0]), "day_key")
        if identifier is not None and it.record:
            self._name_record(it.record, identifier)
        superseded = it.kind == "visit" and (
            self.sql("SELECT 1 FROM touch WHERE store = ? AND supersedes = ?", (it.store, it.ref)).fetchone()
            is not None
        )
        self.sql(
            "INSERT OR IGNORE INTO touch (kind, identifier, how, day_key, store, channel, at_ms, end_ms, ref, "
            "amount_parts, currency, items, confidence, detail, supersedes, superseded, record, origin, place) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (it.kind, identifier, how, it.day_key, it.store, it.channel, it.at_ms, it.end_ms or it.at_ms, it.ref,
             it.amount_parts, it.currency, it.items, it.confidence, it.detail, it.supersedes, int(superseded),
             it.record, it.origin, it.place),
        )  # fmt: skip
        if it.supersedes is not None:
            self.sql(
                "UPDATE touch SET superseded = 1 WHERE store = ? AND kind = 'visit' AND ref = ?",
                (it.store, it.supersedes),
            )
        for sale in it.sales:
            self.sql("INSERT OR IGNORE INTO visit_sale VALUES (?, ?, ?)", (it.store, it.ref, sale))

    def _day_key(self, key: str, identifier: int, at_ms: int) -> None:
        """The key of a person on a day in a store is known: what else was done under it is theirs.

        The shop makes another key each day; a key that is older than a day is not trusted all the same.
        """
        made = self.sql("INSERT OR IGNORE INTO day_key VALUES (?, ?, ?)", (key, identifier, at_ms)).rowcount
        if made:
            changed = self.sql(
                "UPDATE touch SET identifier = ?, how = 'day_key' WHERE day_key = ? AND identifier IS NULL "
                "AND abs(at_ms - ?) < ?",
                (identifier, key, at_ms, _DAY_MS),
            ).rowcount
            if changed:
                self._claims.dirty.add(identifier)  # a withdrawal may apply to them
