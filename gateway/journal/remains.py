"""What SQL still gives of a damaged database: rows of the streams, small facts, tables of other rooms.

Every question stands alone and may fail alone; a value counts only when its type, range and checksum are right. The
identity file fills in what the database lost. Knows nothing of raw pages.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any, cast

import msgspec

from gateway.event import STREAMS, Stream
from gateway.journal.cursor import Cursor, cursor_crc
from gateway.journal.identity import Identity, load
from gateway.journal.packing import Dictionaries, pack, row_crc, unpack
from gateway.journal.pages import RawRow
from gateway.journal.quarantine import without_addresses
from gateway.journal.rows import row_checks
from gateway.journal.schema import StreamEpoch, connect_reader

_EPOCH = re.compile("[0-9a-f]{32}")
_SANE = 1 << 53  # no counter or time of a journal gets this far
_OWN = {
    *STREAMS, "tally", "epoch", "boot", "cursor", "dictionary", "quarantine", "loss", "_sqlite_migrations",
    "erasure", "tombstone",  # made again from the file of tombstones
}  # fmt: skip
_PROJECTION_TABLE = "projection_"


class Remains(msgspec.Struct):
    """The small facts that could be recovered."""

    identity: Identity
    epochs: list[StreamEpoch]
    boots: dict[int, str]
    dictionaries: Dictionaries
    others: Dictionaries  # of the same numbers, where database and identity file do not agree
    cursors: dict[tuple[str, Stream], Cursor]
    tallies: dict[Stream, tuple[int, int, int]]  # acked, quarantined, expired
    losses: list[tuple[Any, ...]]
    quarantine: list[tuple[Any, ...]]

    def whole(self, stream: Stream, row: RawRow) -> RawRow | None:
        """The row as it is to be kept, or None when it is not whole or nobody can read it any more."""
        fields = msgspec.structs.astuple(row)
        if row_checks(stream, fields, self.dictionaries):
            return row
        if not self.others or not row_checks(stream, fields, self.others):
            return None
        packed = pack(unpack(row.packed, self.others))  # the number is taken by the other dictionary
        crc = row_crc(stream, row.position, row.boot, row.recorded_ms, row.dedupe, packed)
        return msgspec.structs.replace(row, packed=packed, crc=crc)


def identity_of(path: Path) -> Identity:
    """The identity file's facts, as far as they make sense."""
    facts = load(path)
    sane = all(0 <= value < _SANE for value in (*facts.heads.values(), *facts.uplink.values()))
    epochs = tuple(epoch for epoch in facts.epochs if _is_epoch(*msgspec.structs.astuple(epoch)))
    return Identity(
        epochs, facts.boots, facts.dictionaries, facts.heads if sane else {}, facts.uplink if sane else {},
        facts.page_bytes, facts.running,
    )  # fmt: skip


def read(damaged: Path, original: Path) -> Remains:
    """Everything but the rows. `original`: the path the identity file is named for."""
    identity = identity_of(original)
    # The identity file has every epoch that ever got an event; what a damaged page says counts only without it.
    epochs = list(identity.epochs) or [
        StreamEpoch(*row)
        for row in _rows(damaged, "SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch ORDER BY rowid")
        if _is_epoch(*row)
    ]
    epochs.sort(key=lambda epoch: epoch.base)
    boots = {
        number: boot
        for number, boot in _rows(damaged, "SELECT id, boot FROM boot")
        if isinstance(number, int) and isinstance(boot, str) and _EPOCH.fullmatch(boot)
    }
    dictionaries, others = dictionaries_of(damaged, identity)
    cursors: dict[tuple[str, Stream], Cursor] = {}
    for name, stream, position, required, moved_ms, crc in _rows(
        damaged, "SELECT name, stream, position, required, moved_ms, crc FROM cursor"
    ):
        if stream in STREAMS and _sane(position) and crc == cursor_crc(name, stream, position, required):
            cursors[name, stream] = Cursor(name, stream, position, bool(required), moved_ms if _sane(moved_ms) else 0)
    tallies = {
        cast(Stream, row[0]): (row[1], row[2], row[3])
        for row in _rows(damaged, "SELECT stream, acked, quarantined, expired FROM tally")
        if row[0] in STREAMS and all(_sane(value) for value in row[1:])
    }
    losses = [
        row
        for row in _rows(damaged, "SELECT at_ms, subject, first, last, count, reason FROM loss ORDER BY id")
        if isinstance(row[1], str) and all(_sane(row[i]) for i in (0, 2, 3, 4)) and row[2] <= row[3]
    ]
    columns, of = "id, at_ms, source, driver, topic, reason, payload, state", "FROM quarantine ORDER BY id"
    quarantine = list(_rows(damaged, f"SELECT {columns}, dedupe {of}")) or [
        (*row, b"")
        for row in _rows(damaged, f"SELECT {columns} {of}")  # before schema 3
    ]
    return Remains(
        identity, epochs, {**identity.boots, **boots}, dictionaries, others, cursors, tallies, losses, quarantine,
    )  # fmt: skip


def dictionaries_of(damaged: Path, identity: Identity) -> tuple[Dictionaries, Dictionaries]:
    """What the database still has, completed from the identity file; and of the same numbers what that says otherwise.

    The file has no checksum, so the rows decide which of two they were packed with.
    """
    found = {
        number: phrases
        for number, phrases, crc in _rows(damaged, "SELECT id, bytes, crc FROM dictionary")
        if isinstance(number, int) and isinstance(phrases, bytes) and zlib.crc32(phrases) == crc
    }
    others = {n: phrases for n, phrases in identity.dictionaries.items() if found.get(n, phrases) != phrases}
    return {**identity.dictionaries, **found}, others


def read_rows(damaged: Path, offer: Callable[[Stream, RawRow], bool]) -> bool:
    """Offer every row that SQL can reach, which says whether it is whole; False when not all could be had."""
    whole = True
    for stream in STREAMS:
        last = 0
        for direction in ("ASC", "DESC"):
            sql = (
                f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} "  # noqa: S608 - fixed names
                f"WHERE position > {last} ORDER BY position {direction}"
            )
            ended = _Ended()
            for position, boot, recorded_ms, dedupe, packed, crc in _rows(damaged, sql, ended):
                if offer(stream, RawRow(position, boot, recorded_ms, dedupe, packed, crc)):
                    last = max(last, position) if direction == "ASC" else last
                else:
                    whole = False
            if ended.well:
                break
            whole = False
    return whole


def put_dictionaries(target: sqlite3.Connection, dictionaries: Dictionaries, now_ms: int) -> None:
    """Write the dictionaries into the fresh database under their old numbers."""
    target.executemany(
        "INSERT INTO dictionary (id, made_ms, bytes, crc) VALUES (?, ?, ?, ?)",
        [(number, now_ms, phrases, zlib.crc32(phrases)) for number, phrases in sorted(dictionaries.items())],
    )


def put_losses(target: sqlite3.Connection, losses: list[tuple[Any, ...]]) -> None:
    """Write the old declarations into the fresh database."""
    target.executemany(
        "INSERT INTO loss (at_ms, subject, first, last, count, reason) VALUES (?, ?, ?, ?, ?, ?)", losses
    )


def put_quarantine(target: sqlite3.Connection, entries: list[tuple[Any, ...]]) -> None:
    """Write the quarantine into the fresh database under its old ids."""
    sizes = accumulate(len(row[6]) if isinstance(row[6], bytes) else 0 for row in entries)
    target.executemany(
        "INSERT OR IGNORE INTO quarantine "
        "(id, at_ms, source, driver, topic, reason, payload, state, dedupe, through_bytes) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (*row[:4], without_addresses(str(row[4] or "")), *row[5:], through_bytes)  # older versions kept them
            for row, through_bytes in zip(entries, sizes, strict=True)
        ],
    )


def copy_other_tables(damaged: Path, target: sqlite3.Connection) -> tuple[list[str], list[str]]:
    """Copy the tables of other rooms as far as SQL gives them; read models are left out, they are built anew.

    Returns the names of those copied whole and of those that lost something.
    """
    copied: list[str] = []
    lost: list[str] = []
    objects = list(_rows(damaged, "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    for kind, name, _, sql in objects:
        if (
            kind != "table"
            or not isinstance(name, str)
            or name in _OWN
            or name.startswith((_PROJECTION_TABLE, "sqlite_"))
        ):
            continue
        quoted = '"' + name.replace('"', '""') + '"'
        ended = _Ended()
        with contextlib.suppress(sqlite3.Error):
            target.execute(sql)
            for row in _rows(damaged, f"SELECT * FROM {quoted}", ended):  # noqa: S608 - quoted
                target.execute(
                    f"INSERT OR IGNORE INTO {quoted} VALUES ({', '.join('?' * len(row))})",  # noqa: S608 - quoted
                    row,
                )
            for other, _, table, statement in objects:
                if table == name and other in ("index", "trigger"):
                    target.execute(statement)
        (copied if ended.well else lost).append(name)
    return copied, lost


class _Ended:
    """Whether a query went through to its end."""

    well = False


def _rows(damaged: Path, sql: str, ended: _Ended | None = None) -> Iterator[tuple[Any, ...]]:
    """Rows of a query, as many as there are before the first error."""
    try:
        # An empty file is not opened: SQLite would take its log, which may hold everything, for rubbish.
        if not damaged.exists() or damaged.stat().st_size < 512:
            return
        with contextlib.closing(connect_reader(damaged)) as connection:
            connection.text_factory = _text
            yield from connection.execute(sql)
        if ended is not None:
            ended.well = True
    except (sqlite3.Error, OverflowError):
        return


def _text(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _sane(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < _SANE


def _is_epoch(stream: object, epoch: object, base: object, gateway: object, reason: object, opened_ms: object) -> bool:
    return (
        stream in STREAMS
        and isinstance(epoch, str)
        and _EPOCH.fullmatch(epoch) is not None
        and isinstance(gateway, str)
        and isinstance(reason, str)
        and _sane(base)
        and isinstance(opened_ms, int)
    )
