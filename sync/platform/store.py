"""What the reference platform keeps: events once, verdicts for ever, how far every lane is, and where its readers are.

One transaction takes a batch: events, verdicts and the lane's high-water mark together, and it is committed before
anybody is told. A number that was seen before is compared by digest: the same bytes are a duplicate with their first
verdict, other bytes a conflict. Knows no HTTP.

*Source*: docs/sync.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.errors import JournalError, Rejected
from gateway.event import event_id
from gateway.redaction import is_redacted, redacted
from sync.uplink import Lane

_SCHEMA = """
CREATE TABLE IF NOT EXISTS gateway (name TEXT PRIMARY KEY, closed INTEGER NOT NULL DEFAULT 0, heartbeat BLOB, heard TEXT);
CREATE TABLE IF NOT EXISTS lane (
    id INTEGER PRIMARY KEY, gateway TEXT NOT NULL, stream TEXT NOT NULL, epoch TEXT NOT NULL,
    reason TEXT NOT NULL, previous TEXT, acked INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gateway, stream, epoch));
CREATE TABLE IF NOT EXISTS event (
    position INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, seq INTEGER NOT NULL,
    digest BLOB NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS event_place ON event (lane, seq);
CREATE TABLE IF NOT EXISTS verdict (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, seq INTEGER NOT NULL, digest BLOB NOT NULL,
    code TEXT NOT NULL, detail TEXT NOT NULL, body BLOB NOT NULL, UNIQUE (lane, seq));
CREATE TABLE IF NOT EXISTS gap (lane INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS command (
    position INTEGER PRIMARY KEY AUTOINCREMENT, gateway TEXT NOT NULL, id TEXT NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS consumer (name TEXT PRIMARY KEY, position INTEGER NOT NULL, version INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS claim (
    digest BLOB PRIMARY KEY, gateway TEXT NOT NULL, until REAL NOT NULL, key BLOB, certificate TEXT);
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT PRIMARY KEY, gateway TEXT NOT NULL, key BLOB NOT NULL, until REAL NOT NULL);
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""  # noqa: E501

DIGEST_BYTES = 16
CODE_DECLARED_LOST = "sequence.declared-lost"


class Judgement(msgspec.Struct, frozen=True):
    """Why an event is refused for ever."""

    code: str
    detail: str


Judge = Callable[[bytes], Judgement | None]
"""Looks at one event's bytes; None: it is taken in."""


class GatewayClosed(Exception):
    """The gateway or its epoch is closed."""


class UnknownEpoch(Exception):
    """The lane was never opened."""


class SequenceGap(Exception):
    """Events before the batch are missing."""

    def __init__(self, expected: int) -> None:
        super().__init__(expected)
        self.expected = expected


class SequenceConflict(Exception):
    """Another event has this number already."""

    def __init__(self, seq: int) -> None:
        super().__init__(seq)
        self.seq = seq


class WrongBatch(Exception):
    """The batch is not what its range says."""


class Verdict(msgspec.Struct, omit_defaults=True):
    """One line of an answer's `results`."""

    seq: int
    status: str
    original: str = ""
    code: str = ""
    detail: str = ""
    verdict_id: str = ""


class Consumed(msgspec.Struct, frozen=True):
    """What a batch came to."""

    acked_through: int
    results: tuple[Verdict, ...]
    fresh: int  # events newly taken in


class _Head(msgspec.Struct):
    id: str
    specversion: str = ""


class PlatformStore:
    """The database. `open` first; every method is one transaction and may be called from any thread."""

    def __init__(self, path: Path, judge: Judge = lambda event: None, *, durable: bool = True) -> None:
        """`durable=False` trades the last second before a power cut for speed; for simulations."""
        self.path = path
        self._judge = judge
        self._durable = durable
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._array = msgspec.json.Decoder(list[msgspec.Raw])
        self._head = msgspec.json.Decoder(_Head)
        self.changed = 0  # grows with everything a reader may wait for

    def open(self) -> None:
        """Open or make the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=10.0, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self._durable else 'NORMAL'}")
        connection.execute("PRAGMA cache_size = -16384")
        connection.execute("PRAGMA secure_delete = ON")
        connection.executescript(_SCHEMA)
        connection.execute("INSERT OR IGNORE INTO fact VALUES ('generation', lower(hex(randomblob(8))))")
        connection.execute("INSERT OR IGNORE INTO fact VALUES ('secret', lower(hex(randomblob(32))))")
        self._connection = connection

    def close(self) -> None:
        """Close; safe to call twice."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # -- lanes

    def find(self, lane: Lane) -> tuple[int, int]:
        """How far the lane is and how many of its events were rejected.

        Raises:
            UnknownEpoch, GatewayClosed
        """
        with self.transaction() as connection:
            number, acked = self._lane(connection, lane)
            rejected = connection.execute("SELECT count(*) FROM verdict WHERE lane = ?", (number,)).fetchone()[0]
        return acked, int(rejected)

    def open_epoch(self, lane: Lane, reason: str, previous: str | None) -> bool:
        """Open the lane; True when it is new.

        Raises:
            GatewayClosed
        """
        with self.transaction() as connection:
            self.refuse_closed(connection, lane.gateway)
            connection.execute("INSERT OR IGNORE INTO gateway (name) VALUES (?)", (lane.gateway,))
            made = connection.execute(
                "INSERT OR IGNORE INTO lane (gateway, stream, epoch, reason, previous) VALUES (?, ?, ?, ?, ?)",
                (lane.gateway, lane.stream, lane.epoch, reason, previous),
            ).rowcount
            self._lane(connection, lane)
        return bool(made)

    def close_gateway(self, gateway: str, closed: bool = True) -> None:
        """Refuse everything from a gateway, or let it come back."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO gateway (name, closed) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET closed = excluded.closed",
                (gateway, int(closed)),
            )

    # -- push

    def consume(self, lane: Lane, first: int, last: int, body: bytes, limit: int | None = None) -> Consumed:
        """Take a batch in, once.

        Args:
            lane: where it belongs.
            first, last: the range it claims.
            body: a JSON array of events.
            limit: take so many new events at most.

        Raises:
            WrongBatch: not an array of events with just these numbers.
            UnknownEpoch, GatewayClosed, SequenceGap, SequenceConflict
        """
        try:
            events = [bytes(raw) for raw in self._array.decode(body)]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise WrongBatch(f"not a JSON array ({error})") from error
        if not events or last - first + 1 != len(events):
            raise WrongBatch(f"{len(events)} events, but the range is {first}-{last}")
        self._check_ids(lane, first, events)
        digests = [hashlib.sha256(event).digest()[:DIGEST_BYTES] for event in events]
        with self.transaction() as connection:
            number, acked = self._lane(connection, lane)
            if first > acked + 1:
                raise SequenceGap(acked + 1)
            known = min(last, acked) - first + 1
            results = self._repeat(connection, number, first, events[:known], digests[:known]) if known > 0 else []
            fresh = events[max(known, 0) :]
            if limit is not None:
                fresh = fresh[:limit]
            start = first + max(known, 0)
            rows: list[tuple[int, int, bytes, bytes]] = []
            for index, event in enumerate(fresh):
                seq, digest = start + index, digests[start - first + index]
                judgement = self._judge(event)
                if judgement is None:
                    rows.append((number, seq, digest, event))
                else:
                    results.append(self._reject(connection, number, seq, digest, event, judgement))
            connection.executemany("INSERT INTO event (lane, seq, digest, body) VALUES (?, ?, ?, ?)", rows)
            through = start - 1 + len(fresh)
            if fresh:
                connection.execute("UPDATE lane SET acked = ? WHERE id = ?", (through, number))
        self.changed += 1
        return Consumed(through, tuple(results), len(rows))

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> None:
        """Note that a range will never come; only the part that joins on to what there is moves the lane on.

        Raises:
            SequenceGap: events before it are missing too.
            UnknownEpoch, GatewayClosed, WrongBatch
        """
        if not 1 <= first <= last:
            raise WrongBatch(f"{first}-{last} is not a range")
        with self.transaction() as connection:
            number, acked = self._lane(connection, lane)
            if first > acked + 1:
                raise SequenceGap(acked + 1)
            if last > acked:
                connection.execute("INSERT INTO gap VALUES (?, ?, ?, ?)", (number, acked + 1, last, reason[:200]))
                connection.execute("UPDATE lane SET acked = ? WHERE id = ?", (last, number))

    def verdicts(self, gateway: str, after: int, limit: int = 500) -> list[dict[str, Any]]:
        """Verdicts on a gateway's events, oldest first."""
        with self.transaction() as connection:
            rows = connection.execute(
                "SELECT v.id, l.stream, l.epoch, v.seq, v.code, v.detail FROM verdict v JOIN lane l ON l.id = v.lane "
                "WHERE l.gateway = ? AND v.id > ? ORDER BY v.id LIMIT ?",
                (gateway, after, limit),
            ).fetchall()
        return [
            {"verdict_id": f"v-{number}", "stream": stream, "epoch": epoch, "seq": seq, "code": code, "detail": detail}
            for number, stream, epoch, seq, code, detail in rows
        ]

    def beat(self, gateway: str, body: bytes, at: str) -> None:
        """Keep the gateway's last heartbeat.

        Raises:
            GatewayClosed
        """
        with self.transaction() as connection:
            self.refuse_closed(connection, gateway)
            connection.execute(
                "INSERT INTO gateway (name, heartbeat, heard) VALUES (?, ?, ?) "
                "ON CONFLICT (name) DO UPDATE SET heartbeat = excluded.heartbeat, heard = excluded.heard",
                (gateway, body, at),
            )

    # -- commands

    def command(self, gateway: str, command_id: str, body: bytes) -> bool:
        """Put a command into the gateway's feed; False when its id is there already."""
        with self.transaction() as connection:
            made = connection.execute(
                "INSERT OR IGNORE INTO command (gateway, id, body) VALUES (?, ?, ?)", (gateway, command_id, body)
            ).rowcount
        self.changed += 1
        return bool(made)

    def commands(self, gateway: str, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Commands above a position, each with its own."""
        with self.transaction() as connection:
            return connection.execute(
                "SELECT position, body FROM command WHERE gateway = ? AND position > ? ORDER BY position LIMIT ?",
                (gateway, after, limit),
            ).fetchall()

    def command_head(self, gateway: str) -> int:
        """Position of the newest command, 0 when there is none."""
        with self.transaction() as connection:
            row = connection.execute("SELECT coalesce(max(position), 0) FROM command WHERE gateway = ?", (gateway,))
            return int(row.fetchone()[0])

    def blank_command(self, command_id: str) -> None:
        """Leave a command's place in the feed and nothing of what it said."""
        with self.transaction() as connection:
            row = connection.execute("SELECT body FROM command WHERE id = ?", (command_id,)).fetchone()
            if row is not None:
                body = msgspec.json.encode(msgspec.json.decode(row[0]) | {"data": {}})
                connection.execute("UPDATE command SET body = ? WHERE id = ?", (body, command_id))

    def gateways(self) -> list[tuple[str, bytes | None]]:
        """Every gateway by name, with its last heartbeat."""
        with self.transaction() as connection:
            return connection.execute("SELECT name, heartbeat FROM gateway ORDER BY name").fetchall()

    # -- erasure

    def bodies(self, positions: Sequence[int]) -> list[tuple[int, bytes]]:
        """The events at these positions, where there are any."""
        marks = ", ".join("?" for _ in positions)
        with self.transaction() as connection:
            return connection.execute(
                f"SELECT position, body FROM event WHERE position IN ({marks})",  # noqa: S608 - marks only
                tuple(positions),
            ).fetchall()

    def redact(self, positions: Sequence[int]) -> int:
        """Put the redacted form in the place of events; returns of how many.

        Their digests stay, so that a repetition is known.
        """
        count = 0
        for position, body in self.bodies(positions):
            shorter = redacted(body)
            if shorter is not None:
                with self.transaction() as connection:
                    connection.execute("UPDATE event SET body = ? WHERE position = ?", (shorter, position))
                count += 1
        return count

    def scrub(self) -> None:
        """Leave nothing of what was redacted in the write-ahead log."""
        with self._lock:
            if self._connection is not None:
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # -- feed

    def events(self, after: int, limit: int, streams: Sequence[str]) -> list[tuple[int, bytes]]:
        """Events above a position in the order of arrival, each with its position."""
        marks = ", ".join("?" for _ in streams)
        with self.transaction() as connection:
            return connection.execute(
                f"SELECT e.position, e.body FROM event e JOIN lane l ON l.id = e.lane "  # noqa: S608 - marks only
                f"WHERE e.position > ? AND l.stream IN ({marks}) ORDER BY e.position LIMIT ?",
                (after, *streams, limit),
            ).fetchall()

    def bounds(self) -> tuple[int, int]:
        """Lowest and highest position kept; (0, 0) when there is none."""
        with self.transaction() as connection:
            low, high = connection.execute(
                "SELECT coalesce((SELECT min(position) FROM event), 0), coalesce((SELECT max(position) FROM event), 0)"
            ).fetchone()
        return int(low), int(high)

    def offset(self, name: str) -> tuple[int, int] | None:
        """A consumer's committed position and its version; None when it is unknown."""
        with self.transaction() as connection:
            row = connection.execute("SELECT position, version FROM consumer WHERE name = ?", (name,)).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def commit(self, name: str, position: int, expected: int | None) -> int:
        """Commit a consumer's position; returns its new version.

        Args:
            name: the consumer.
            position: everything up to here is done.
            expected: the version it must have now (0: it must not exist); None: whatever it is.

        Raises:
            Rejected: somebody else committed in between.
        """
        with self.transaction() as connection:
            row = connection.execute("SELECT version FROM consumer WHERE name = ?", (name,)).fetchone()
            version = int(row[0]) if row else 0
            if expected is not None and expected != version:
                raise Rejected("commit offset", name, "it was committed by somebody else meanwhile")
            connection.execute(
                "INSERT INTO consumer VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET position = excluded.position, "
                "version = excluded.version",
                (name, position, version + 1),
            )
        return version + 1

    def drop(self, name: str) -> bool:
        """Forget a consumer; False when there was none."""
        with self.transaction() as connection:
            return connection.execute("DELETE FROM consumer WHERE name = ?", (name,)).rowcount > 0

    def fact(self, name: str) -> str:
        """`generation` or `secret`, minted with the database."""
        with self.transaction() as connection:
            return str(connection.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()[0])

    # -- inside

    def _repeat(
        self, connection: sqlite3.Connection, number: int, first: int, events: Sequence[bytes],
        digests: Sequence[bytes],
    ) -> list[Verdict]:  # fmt: skip
        """What was said about these numbers the first time.

        An event that comes again and says that it is redacted has been erased at the gateway: the erasure is taken
        over, and it is no conflict.
        """
        last = first + len(events) - 1
        taken = dict(
            connection.execute(
                "SELECT seq, digest FROM event WHERE lane = ? AND seq BETWEEN ? AND ?", (number, first, last)
            ).fetchall()
        )
        refused = {
            row[0]: row[1:]
            for row in connection.execute(
                "SELECT seq, digest, code, detail, id FROM verdict WHERE lane = ? AND seq BETWEEN ? AND ?",
                (number, first, last),
            )
        }
        results: list[Verdict] = []
        for seq, (event, digest) in enumerate(zip(events, digests, strict=True), first):
            before = taken.get(seq) or (refused[seq][0] if seq in refused else None)
            if before is None:  # it was declared lost: that stands, and nobody shall believe that it is here
                results.append(Verdict(seq, "duplicate", "rejected", CODE_DECLARED_LOST))
            elif before != digest and (is_redacted(event) or _without_data(event)):
                table = "event" if seq in taken else "verdict"
                connection.execute(
                    f"UPDATE {table} SET body = ?, digest = ? WHERE lane = ? AND seq = ?",  # noqa: S608 - fixed names
                    (event, digest, number, seq),
                )
            elif before != digest:
                raise SequenceConflict(seq)
            if seq in refused:
                code, detail, verdict = refused[seq][1:]
                results.append(Verdict(seq, "duplicate", "rejected", code, detail, f"v-{verdict}"))
            elif before is not None:
                results.append(Verdict(seq, "duplicate", original="accepted"))
        return results

    def _reject(
        self, connection: sqlite3.Connection, number: int, seq: int, digest: bytes, event: bytes, judgement: Judgement
    ) -> Verdict:
        code, detail = judgement.code, judgement.detail[:500]
        verdict = connection.execute(
            "INSERT INTO verdict (lane, seq, digest, code, detail, body) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
            (number, seq, digest, code, detail, event),
        ).fetchone()[0]
        return Verdict(seq, "rejected", code=code, detail=detail, verdict_id=f"v-{verdict}")

    def _check_ids(self, lane: Lane, first: int, events: Sequence[bytes]) -> None:
        for seq, event in enumerate(events, first):
            try:
                head = self._head.decode(event)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise WrongBatch(f"event {seq}: {error}") from error
            if head.id != event_id(lane.gateway, lane.stream, lane.epoch, seq) or head.specversion != "1.0":
                raise WrongBatch(f"event {seq}: its id or specversion is not what its place says")

    def _lane(self, connection: sqlite3.Connection, lane: Lane) -> tuple[int, int]:
        self.refuse_closed(connection, lane.gateway)
        row = connection.execute(
            "SELECT id, acked, closed FROM lane WHERE gateway = ? AND stream = ? AND epoch = ?",
            (lane.gateway, lane.stream, lane.epoch),
        ).fetchone()
        if row is None:
            raise UnknownEpoch
        if row[2]:
            raise GatewayClosed
        return int(row[0]), int(row[1])

    def refuse_closed(self, connection: sqlite3.Connection, gateway: str) -> None:
        """Inside a transaction.

        Raises:
            GatewayClosed
        """
        row = connection.execute("SELECT closed FROM gateway WHERE name = ?", (gateway,)).fetchone()
        if row is not None and row[0]:
            raise GatewayClosed

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One transaction, all or nothing; nobody else is in the database meanwhile."""
        with self._lock:
            connection = self._connection
            if connection is None:
                raise JournalError("use platform store", str(self.path), "it is closed")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                raise


def _without_data(event: bytes) -> bool:
    """The plain form of an erased event, which any gateway may send."""
    return b'"data":null' in event and msgspec.json.decode(event).get("data", 0) is None
