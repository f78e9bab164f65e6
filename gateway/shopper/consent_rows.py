"""How a person's word on a purpose lies in the journal's database: a row of its own, checked, and how it is taken back.

A damaged row is no row, and what is not there allows nothing. On whatever connection it is handed; knows no cache, no
lock and no identifier.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import get_args

import msgspec

from config.settings import Purpose

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
TABLE = """CREATE TABLE IF NOT EXISTS consent (
    person BLOB NOT NULL, purpose TEXT NOT NULL, granted_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL,
    withdrawn_ms INTEGER NOT NULL, record TEXT NOT NULL, notice_version TEXT NOT NULL, notice_digest TEXT NOT NULL,
    language TEXT NOT NULL, method TEXT NOT NULL, touched_ms INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (person, purpose)) WITHOUT ROWID"""
INDEX = "CREATE INDEX IF NOT EXISTS consent_record ON consent (record)"
SELECT = (
    "SELECT purpose, granted_ms, expires_ms, withdrawn_ms, record, notice_version, notice_digest, language, method, "
    "touched_ms, crc FROM consent WHERE person = ?"
)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What was agreed to: the record and the notice it was given on."""

    record: str
    notice_version: str = ""
    notice_digest: str = ""
    language: str = ""
    method: str = ""


class Consent(msgspec.Struct, frozen=True, kw_only=True):
    """One person's word on one purpose. Times in ms since 1970; 0: never."""

    purpose: Purpose
    granted_ms: int = 0
    expires_ms: int = 0
    withdrawn_ms: int = 0
    terms: Terms = Terms(record="")
    touched_ms: int = 0


def write(
    connection: sqlite3.Connection, person: bytes, rows: Sequence[Consent], trim: int, withdrawn_last: bool
) -> int:
    """Write a person's rows, then remove `trim` of all; returns how many were removed."""
    for row in rows:
        facts = _facts(row)
        connection.execute(
            "INSERT OR REPLACE INTO consent VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (person, *facts, _crc(person, facts)),
        )
    if trim <= 0:
        return 0
    # Ended ones first: without a row nobody is named, so losing one that has ended changes nothing but a late message.
    return connection.execute(
        "DELETE FROM consent WHERE (person, purpose) IN (SELECT person, purpose FROM consent "
        "ORDER BY (withdrawn_ms < granted_ms) <> ?, touched_ms LIMIT ?)",
        (withdrawn_last, trim),
    ).rowcount


def keep(connection: sqlite3.Connection, taken: Mapping[bytes, Mapping[Purpose, int]]) -> None:
    """Write withdrawals into what the table says of these persons now."""
    connection.execute(TABLE)
    for person, purposes in taken.items():
        there = read(person, connection.execute(SELECT, (person,)))
        rows = [
            withdrawn(there.get(purpose, Consent(purpose=purpose)), at_ms, at_ms) for purpose, at_ms in purposes.items()
        ]
        write(connection, person, rows, 0, withdrawn_last=False)


def is_withdrawn(row: Consent) -> bool:
    """Whether the purpose was taken back, and not granted anew since."""
    return bool(row.withdrawn_ms) and row.withdrawn_ms >= row.granted_ms


def withdrawn(row: Consent, at_ms: int, now_ms: int) -> Consent:
    """The row with a withdrawal at `at_ms` in it."""
    return msgspec.structs.replace(row, withdrawn_ms=max(row.withdrawn_ms, at_ms, 1), touched_ms=now_ms)


def read(person: bytes, stored: Iterable[Sequence[object]]) -> dict[Purpose, Consent]:
    """A person's rows, as `SELECT` gives them, by purpose."""
    rows: dict[Purpose, Consent] = {}
    for *facts, crc in stored:
        if crc == _crc(person, facts):  # a damaged row allows nothing
            row = _consent(facts)
            rows[row.purpose] = row
    return rows


def _facts(row: Consent) -> list[object]:
    terms = row.terms
    return [
        row.purpose, row.granted_ms, row.expires_ms, row.withdrawn_ms, terms.record, terms.notice_version,
        terms.notice_digest, terms.language, terms.method, row.touched_ms,
    ]  # fmt: skip


def _consent(facts: Sequence[object]) -> Consent:
    purpose, granted_ms, expires_ms, withdrawn_ms, record, version, digest, language, method, touched_ms = facts
    return msgspec.convert(
        {
            "purpose": purpose, "granted_ms": granted_ms, "expires_ms": expires_ms, "withdrawn_ms": withdrawn_ms,
            "touched_ms": touched_ms,
            "terms": {"record": record, "notice_version": version, "notice_digest": digest, "language": language,
                      "method": method},
        },
        Consent,
    )  # fmt: skip


def _crc(person: bytes, facts: Sequence[object]) -> int:
    return zlib.crc32(person + "\x1f".join(map(str, facts)).encode("utf-8", "replace"))
