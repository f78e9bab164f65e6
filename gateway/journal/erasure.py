"""Erasing a person from an append-only journal: which rows name them, and putting the redacted form in their place.

A row keeps its position, its time and its length: the redacted body is padded to the bytes that the old one took, so
SQLite overwrites it where it lies and no copy is left in the free space of a page. The row's checksum is made anew and
a tombstone row says that this was done on purpose. Looking is for a reader's connection, changing for the writing one,
a few rows a transaction. Knows SQL and tombstones; what stays of an event is `gateway.redaction`'s.

*Source*: docs/decisions/0311-erasure.md; SQLite `btree.c`, a cell of the same size is overwritten in place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise

import msgspec

from gateway.event import STREAMS, Stream
from gateway.journal import tombstones
from gateway.journal.packing import pack, row_crc
from gateway.journal.pages import encoded
from gateway.journal.rows import body_of, damaged, dictionaries_of, epochs_of
from gateway.journal.tombstones import Place, Tombstone
from gateway.redaction import is_redacted, keys_in, redacted

ROWS_AT_ONCE = 64  # redacted in one transaction, a few milliseconds
_LOOKED_AT_ONCE = 1_000
_TABLE_ROWS_AT_ONCE = 500

Matches = Callable[[str], bool]
"""Whether a key (a day key, a sealed identifier, a reference to a consent) is one of those to be erased."""


class SubjectTable(msgspec.Struct, frozen=True, kw_only=True):
    """A table of another room that holds persons' keys: a row with such a key in one of `columns` is deleted.

    `key`: what names a row. With `blanks` the row stays and those columns become NULL instead.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...] = ("rowid",)
    blanks: tuple[str, ...] = ()


RowKey = tuple[object, ...]


class Wanted(msgspec.Struct, frozen=True):
    """Everything that some erasures look for, together."""

    ids: tuple[str, ...]
    digests: frozenset[tuple[str, str]]  # salt, digest
    salts: tuple[str, ...]
    places: tuple[Place, ...]

    def matches(self, key: str | bytes) -> bool:
        """Whether the key is one of theirs."""
        return any((salt, tombstones.digest(salt, key)) in self.digests for salt in self.salts)

    def names(self, body: bytes) -> bool:
        """Whether an event holds one of their keys."""
        return bool(self.digests) and any(self.matches(key) for key in keys_in(body))


class Range(msgspec.Struct, frozen=True):
    """Redacted events, told by their numbers."""

    stream: Stream
    epoch: str
    first: int
    last: int


def together(stones: Iterable[Tombstone]) -> Wanted:
    """What these erasures look for."""
    stones = list(stones)
    return Wanted(
        tuple(stone.id for stone in stones),
        frozenset((stone.salt, digest) for stone in stones for digest in stone.digests),
        tuple({stone.salt for stone in stones}),
        tuple(place for stone in stones for place in stone.places),
    )


# -- which erasures there are


def register(connection: sqlite3.Connection, stones: Iterable[Tombstone], *, again: bool) -> list[Tombstone]:
    """Note erasures that this database does not know; returns them.

    `again`: they were done before and must be done once more before anybody reads (see `held`).
    """
    known = {row[0] for row in connection.execute("SELECT id FROM erasure")}
    fresh = [stone for stone in stones if stone.id not in known]
    connection.executemany(
        "INSERT INTO erasure (id, at_ms, record, done, again) VALUES (?, ?, ?, 0, ?)",
        [(stone.id, stone.at_ms, msgspec.json.encode(stone), int(again)) for stone in fresh],
    )
    return fresh


def registered(connection: sqlite3.Connection) -> list[Tombstone]:
    """Every erasure that this database knows, oldest first."""
    return _stones(connection.execute("SELECT record FROM erasure ORDER BY at_ms, id").fetchall())


def next_undone(connection: sqlite3.Connection) -> list[Tombstone]:
    """What to do next: all that must be done once more, together; or else the oldest one not done; [] when all are."""
    again = connection.execute("SELECT record FROM erasure WHERE done = 0 AND again = 1 ORDER BY at_ms, id").fetchall()
    return _stones(
        again or connection.execute("SELECT record FROM erasure WHERE done = 0 ORDER BY at_ms, id LIMIT 1").fetchall()
    )


def _stones(rows: Iterable[tuple[bytes]]) -> list[Tombstone]:
    found: list[Tombstone] = []
    for (record,) in rows:
        try:
            found.append(msgspec.json.decode(record, type=Tombstone))
        except (msgspec.DecodeError, TypeError) as error:
            raise damaged("erasure", "record", "it is not what was written") from error
    return found


def is_done(connection: sqlite3.Connection, erasure: str) -> bool | None:
    """Whether an erasure is finished; None when this database does not know it."""
    row = connection.execute("SELECT done FROM erasure WHERE id = ?", (erasure,)).fetchone()
    return None if row is None else bool(row[0])


def held(connection: sqlite3.Connection) -> bool:
    """True while what was erased once may lie here again, out of a backup: nobody may read events until it is gone."""
    return connection.execute("SELECT 1 FROM erasure WHERE done = 0 AND again = 1 LIMIT 1").fetchone() is not None


def finish(connection: sqlite3.Connection, erasures: Sequence[str]) -> None:
    """They are done."""
    connection.executemany("UPDATE erasure SET done = 1, again = 0 WHERE id = ?", [(one,) for one in erasures])


# -- rows of the streams


def look(
    connection: sqlite3.Connection, stream: Stream, above: int, through: int, wanted: Wanted
) -> tuple[int, list[int]]:
    """Look through the newest rows of (above, through]; newest first, since those may not have been delivered yet.

    Returns:
        Down to where it has looked (nothing above that is left to look at), and the positions that are to be redacted.

    Raises:
        RowDamaged: a row cannot be trusted.
    """
    places = positions_of(connection, stream, wanted.places)
    dictionaries = dictionaries_of(connection)
    found: list[int] = []
    lowest = through
    rows = connection.execute(
        f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} "  # noqa: S608 - fixed names
        "WHERE position > ? AND position <= ? ORDER BY position DESC LIMIT ?",
        (above, through, _LOOKED_AT_ONCE),
    ).fetchall()
    for row in rows:
        position, body = row[0], body_of(stream, row, dictionaries)
        named = any(first <= position <= last for first, last in places)
        if (named and not is_redacted(body)) or wanted.names(body):
            found.append(position)
        lowest = position - 1
        if len(found) >= ROWS_AT_ONCE:
            return lowest, found
    return (lowest if len(rows) == _LOOKED_AT_ONCE else above), found


def spans(
    connection: sqlite3.Connection, stream: Stream, above: int, through: int, wanted: Wanted
) -> list[tuple[int, int]]:
    """Where in (above, through] there may be something, newest first: everywhere; or there, where events are named."""
    if wanted.digests:
        return [(above, through)]
    named = (
        (max(first - 1, above), min(last, through)) for first, last in positions_of(connection, stream, wanted.places)
    )
    return sorted((span for span in named if span[0] < span[1]), reverse=True)


def redact(connection: sqlite3.Connection, stream: Stream, positions: Sequence[int], erasure: str) -> int:
    """Put the redacted form in place of these rows, in the caller's transaction; returns how many were changed."""
    dictionaries = dictionaries_of(connection)
    changed = 0
    for position in positions:
        row = connection.execute(
            f"SELECT position, boot, recorded_ms, dedupe, body, crc FROM {stream} WHERE position = ?",  # noqa: S608
            (position,),
        ).fetchone()
        if row is None:  # retention was faster
            continue
        _, boot, recorded_ms, dedupe, packed, crc = row
        body = redacted(body_of(stream, row, dictionaries))
        if body is None:
            continue
        crc_of = partial(row_crc, stream, position, boot, recorded_ms, dedupe)
        fresh, new_crc = _fitted(pack(body), crc_of, _size(packed, crc))
        connection.execute(
            f"UPDATE {stream} SET body = ?, crc = ? WHERE position = ?",  # noqa: S608 - fixed names
            (fresh, new_crc, position),
        )
        connection.execute("INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?)", (stream, position, erasure))
        changed += 1
    return changed


def positions_of(connection: sqlite3.Connection, stream: Stream, places: Iterable[Place]) -> list[tuple[int, int]]:
    """The positions that places of this stream name; an epoch that is not known here names none."""
    epochs = epochs_of(connection, stream)
    ends = {epoch.epoch: later.base for epoch, later in pairwise(epochs)}
    bases = {epoch.epoch: epoch.base for epoch in epochs}
    return [
        (bases[place.epoch] + place.first, min(bases[place.epoch] + place.last, ends.get(place.epoch, 1 << 62)))
        for place in places
        if place.stream == stream and place.epoch in bases
    ]


def ranges_of(connection: sqlite3.Connection, erasures: Sequence[str]) -> list[Range]:
    """What these erasures have redacted, as numbers of the epochs the events belong to; neighbours are joined."""
    found: list[Range] = []
    for stream in STREAMS:
        epochs = epochs_of(connection, stream)
        rows = connection.execute(
            f"SELECT position FROM tombstone WHERE stream = ? AND erasure IN ({_marks(erasures)}) ORDER BY position",  # noqa: S608
            (stream, *erasures),
        )
        for (position,) in rows:
            epoch = next((one for one in reversed(epochs) if one.base < position), epochs[0])
            seq = position - epoch.base
            last = found[-1] if found else None
            if last is not None and (last.stream, last.epoch, last.last + 1) == (stream, epoch.epoch, seq):
                found[-1] = Range(stream, epoch.epoch, last.first, seq)
            else:
                found.append(Range(stream, epoch.epoch, seq, seq))
    return found


def forget_gone(connection: sqlite3.Connection) -> None:
    """Drop the tombstone rows of events that the journal does not keep any more."""
    for stream in STREAMS:
        connection.execute(
            f"DELETE FROM tombstone WHERE stream = ? AND position < (SELECT min(position) FROM {stream})",  # noqa: S608
            (stream,),
        )


# -- quarantine, and the tables of other rooms


def refused_by_platform(connection: sqlite3.Connection, after: int) -> list[tuple[int, str, bytes]]:
    """Quarantined events above an id, each with its place `stream/epoch/seq` and its sealed bytes."""
    return connection.execute(
        "SELECT id, topic, payload FROM quarantine WHERE id > ? AND source = 'uplink' ORDER BY id LIMIT ?",
        (after, _TABLE_ROWS_AT_ONCE),
    ).fetchall()


def replace_quarantined(connection: sqlite3.Connection, payloads: Sequence[tuple[int, bytes]]) -> int:
    """Put other payloads into quarantined entries."""
    return sum(
        connection.execute("UPDATE quarantine SET payload = ? WHERE id = ?", (payload, entry)).rowcount
        for entry, payload in payloads
    )


def named_by(places: Iterable[Place], topic: str) -> bool:
    """Whether the place of a quarantined event (`stream/epoch/seq`) lies in one of these."""
    stream, _, rest = topic.partition("/")
    epoch, _, seq = rest.partition("/")
    return seq.isdigit() and any(
        place.stream == stream and place.epoch == epoch and place.first <= int(seq) <= place.last for place in places
    )


def rows_of(
    connection: sqlite3.Connection, table: SubjectTable, after: RowKey | None, matches: Matches
) -> tuple[RowKey | None, list[RowKey]]:  # fmt: skip
    """Look through a handful of a table's rows; `after`: beyond this row, None: from the first one.

    Returns:
        Where the next handful begins (None: there are no more, or there is no such table), and the rows that name
        somebody who is to be erased.
    """
    if not connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table.name,)
    ).fetchone():
        return None, []
    key = ", ".join(table.key)
    beyond = f"WHERE ({key}) > ({_marks(table.key)})" if after else ""
    rows = connection.execute(
        f"SELECT {key}, {', '.join(table.columns)} FROM {table.name} {beyond} ORDER BY {key} LIMIT ?",  # noqa: S608 - our own tables' names
        (*(after or ()), _TABLE_ROWS_AT_ONCE),
    ).fetchall()
    width = len(table.key)
    named = [row[:width] for row in rows if any(isinstance(it, str) and it and matches(it) for it in row[width:])]
    return (rows[-1][:width] if rows else None), named


def erase_rows(connection: sqlite3.Connection, table: SubjectTable, rows: Sequence[RowKey]) -> int:
    """Delete, or blank, these rows; returns how many there were."""
    change = f"UPDATE {table.name} SET {', '.join(f'{name} = NULL' for name in table.blanks)}"  # noqa: S608 - as above
    if not table.blanks:
        change = f"DELETE FROM {table.name}"  # noqa: S608 - as above
    sql = f"{change} WHERE ({', '.join(table.key)}) = ({_marks(table.key)})"
    return sum(connection.execute(sql, row).rowcount for row in rows)


def _marks(names: Sequence[str]) -> str:
    return ", ".join("?" for _ in names)


def _fitted(packed: bytes, crc_of: Callable[[bytes], int], room: int) -> tuple[bytes, int]:
    """The packed body and its checksum, padded so that the row takes `room` bytes again; as it is where it is longer.

    What follows the end of a deflated body is not looked at when it is unpacked. A body that is stored plain cannot be
    padded, but is then no shorter than it was.
    """
    if packed[:1] != b"\x00":
        for size in range(max(len(packed), room - 10), room):
            padded = packed + bytes(size - len(packed))
            crc = crc_of(padded)
            if _size(padded, crc) == room:
                return padded, crc
    return packed, crc_of(packed)


def _size(packed: bytes, crc: int) -> int:
    """How many bytes of a row its body and its checksum decide: both, and the varint that says how long the body is.

    *Source*: SQLite file format §2.1: serial types 8, 9 and 1–6 for integers, 2 × length + 12 for a blob.
    """
    sizes = ((1, 7), (2, 15), (3, 23), (4, 31), (6, 47))  # bytes, bits they hold beside the sign
    integer = 0 if crc in (0, 1) else next(size for size, bits in sizes if crc < 1 << bits)
    return len(packed) + integer + len(encoded(2 * len(packed) + 12))
