"""One salvage's work: from a damaged file into a fresh one, rows first, then everything that is said of them.

Rows come by SQL and then, where that fails, from the raw pages of the file and its log; only rows whose checksum fits
count. What is missing between what is known to have been is declared. Moves no file. Knows no event type.
"""

from __future__ import annotations

import secrets
import sqlite3
from bisect import bisect_right
from pathlib import Path

import msgspec

from gateway.event import STREAMS, Stream
from gateway.journal import remains
from gateway.journal.cursor import PROJECTION, UPLINK, Cursor, cursor_crc
from gateway.journal.integrity import Progress
from gateway.journal.loss import LossDeclared, declare, losses
from gateway.journal.packing import row_crc, seed_of
from gateway.journal.pages import PAGE_SIZES, PageSource, RawFile, RawRow, Wanted, page_bytes_of
from gateway.journal.remains import Remains
from gateway.journal.schema import PAGE_BYTES, StreamEpoch

_REASON = "salvage"
_BATCH = 2_000


class StreamSalvage(msgspec.Struct, frozen=True):
    """What became of one stream. `lost` counts undelivered events that are gone, as far as anything tells."""

    stream: Stream
    by_sql: int
    by_scan: int
    lost: int
    ranges: tuple[tuple[int, int], ...]  # positions that are gone, delivered or not
    head: int


class Recovered(msgspec.Struct, frozen=True):
    """What came of it. `declared` is for the journal itself: one loss event each."""

    streams: tuple[StreamSalvage, ...]
    declared: tuple[LossDeclared, ...]
    cursors: bool  # else the uplink starts again from the last known lower bound
    quarantine: int
    tables_copied: tuple[str, ...]  # of other rooms
    tables_lost: tuple[str, ...]


class Recovery:
    """One salvage: from a damaged file into a fresh one."""

    def __init__(
        self, target: sqlite3.Connection, path: Path, damaged: Path, database: RawFile, wal: RawFile,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self._target = target
        self._damaged = damaged
        self._database = database
        self._wal = wal
        self._progress = progress
        self._remains: Remains = remains.read(damaged, path)
        self._batch: dict[Stream, list[tuple[object, ...]]] = {stream: [] for stream in STREAMS}
        self._by_sql: dict[Stream, int] = {}

    def recover_rows(self) -> None:
        """Fill the streams of the fresh database."""
        whole = remains.read_rows(self._damaged, self._take)
        self._flush()
        self._by_sql = {stream: self._rows(stream) for stream in STREAMS}
        whole = whole and all(self._contiguous(stream) for stream in STREAMS)
        known = page_bytes_of(self._database, self._wal) or self._remains.identity.page_bytes
        source = PageSource(self._database, self._wal, known if known in PAGE_SIZES else PAGE_BYTES)
        wanted = self._wanted()
        if not whole:
            source.database_rows(self._offer, wanted, self._tell)
        source.wal_rows(self._offer, wanted)
        self._flush()

    def _wanted(self) -> Wanted:
        """What SQL has not given: positions in a stream's gaps, below its oldest row and above its newest."""
        gaps: list[tuple[int, int]] = []
        for stream in STREAMS:
            low, high = self._target.execute(f"SELECT min(position), max(position) FROM {stream}").fetchone()  # noqa: S608
            if low is None:
                return lambda position: True
            gaps += [(0, low - 1), *self._missing(stream, low, high, low - 1), (high + 1, 1 << 62)]
        apart: list[tuple[int, int]] = []
        for first, last in sorted(gaps):
            if apart and first <= apart[-1][1] + 1:
                apart[-1] = (apart[-1][0], max(last, apart[-1][1]))
            else:
                apart.append((first, last))
        starts = [first for first, _ in apart]

        def wanted(position: int) -> bool:
            at = bisect_right(starts, position) - 1
            return at >= 0 and position <= apart[at][1]

        return wanted

    def settle(self, gateway: str, now_ms: int) -> Recovered:
        """Write everything that is not a row: facts, cursors, counts, losses, epochs."""
        target, found = self._target, self._remains
        target.execute("BEGIN IMMEDIATE")
        target.executemany("INSERT INTO boot (id, boot) VALUES (?, ?)", sorted(found.boots.items()))
        remains.put_dictionaries(target, found.dictionaries, now_ms)
        remains.put_losses(target, [row for row in found.losses if row[1] not in STREAMS])
        remains.put_quarantine(target, found.quarantine)
        streams = [self._settle_stream(stream, gateway, now_ms) for stream in STREAMS]
        copied, lost = remains.copy_other_tables(self._damaged, target)
        target.execute("COMMIT")
        return Recovered(
            tuple(one for one, _ in streams), tuple(loss for _, declared in streams for loss in declared),
            all((UPLINK, stream) in found.cursors for stream in STREAMS), len(found.quarantine), tuple(copied),
            tuple(lost),
        )  # fmt: skip

    def _settle_stream(self, stream: Stream, gateway: str, now_ms: int) -> tuple[StreamSalvage, list[LossDeclared]]:
        target, found = self._target, self._remains
        low, high = target.execute(f"SELECT min(position), max(position) FROM {stream}").fetchone()  # noqa: S608
        newest = int(high or 0)
        cursor = found.cursors.get((UPLINK, stream))
        uplink = found.identity.uplink.get(stream, 0) if cursor is None else cursor.position
        epochs = [epoch for epoch in found.epochs if epoch.stream == stream]
        head = max(
            newest, uplink, found.identity.heads.get(stream, 0), *(epoch.base for epoch in epochs),
            *(other.position for (_, where), other in found.cursors.items() if where == stream),
        )  # fmt: skip
        missing = self._missing(stream, low, head, uplink)
        self._keep_losses(stream, head, uplink)
        known = losses(target, stream, 0, head)
        lost = 0
        declared: list[LossDeclared] = []
        for first, last in _without(missing, known):
            count = max(0, last - max(first, uplink + 1) + 1)
            loss = LossDeclared(stream, first, last, count, _REASON)
            declare(target, loss, now_ms)
            lost += count
            if count:
                declared.append(loss)
        above = sum(last - max(first, uplink + 1) + 1 for first, last in missing if last > uplink)
        acked, quarantined, expired = found.tallies.get(stream, (uplink, 0, 0))
        below = uplink - acked - quarantined - expired
        if below < 0 or (cursor is None and below) or min(acked, quarantined, expired) < 0:
            acked, quarantined, expired, below = uplink, 0, 0, 0
        target.execute(
            "UPDATE tally SET acked = ?, quarantined = ?, expired = ?, declared_lost = ? WHERE stream = ?",
            (acked, quarantined, expired, below + above, stream),
        )
        for (name, where), other in found.cursors.items():
            if where == stream and name != UPLINK and not name.startswith(PROJECTION):
                _put_cursor(target, other)
        _put_cursor(target, Cursor(UPLINK, stream, uplink, True, now_ms))
        name = gateway or (epochs[-1].gateway if epochs else "gateway")
        if not epochs:
            epochs = [StreamEpoch(stream, secrets.token_hex(16), 0, name, "salvaged", now_ms)]
        epochs.append(StreamEpoch(stream, secrets.token_hex(16), head, name, "salvaged", now_ms))
        target.executemany(
            "INSERT INTO epoch (stream, epoch, base, gateway, reason, opened_ms) VALUES (?, ?, ?, ?, ?, ?)",
            [msgspec.structs.astuple(epoch) for epoch in epochs],
        )
        sql = self._by_sql[stream]
        return StreamSalvage(stream, sql, self._rows(stream) - sql, lost, tuple(missing), head), declared

    def _keep_losses(self, stream: Stream, head: int, uplink: int) -> None:
        """Carry over the stream's earlier declarations, but none that speaks of events that are there to be sent."""
        for loss in self._remains.losses:
            first, last = loss[2], loss[3]
            if loss[1] != stream or last > head:
                continue
            sql = f"SELECT 1 FROM {stream} WHERE position BETWEEN ? AND ? LIMIT 1"  # noqa: S608 - fixed names
            if last <= uplink or not self._target.execute(sql, (max(first, uplink + 1), last)).fetchone():
                remains.put_losses(self._target, [loss])

    def _missing(self, stream: Stream, low: int | None, head: int, uplink: int) -> list[tuple[int, int]]:
        """Ranges that ought to be there: from the oldest row, or from what was not delivered, up to the head."""
        first = min(low - 1 if low else head, uplink)
        gaps: list[tuple[int, int]] = []
        ordered = f"SELECT position, lag(position, 1, ?1) OVER (ORDER BY position) AS before FROM {stream}"  # noqa: S608
        rows = self._target.execute(
            f"SELECT before, position FROM ({ordered} WHERE position > ?1) WHERE position > before + 1",  # noqa: S608
            (first,),
        )
        gaps.extend((int(before) + 1, int(position) - 1) for before, position in rows)
        newest = self._target.execute(f"SELECT max(position) FROM {stream}").fetchone()[0]  # noqa: S608
        last = max(first, int(newest or 0))
        if last < head:
            gaps.append((last + 1, head))
        return gaps

    def _offer(self, row: RawRow) -> bool:
        return any(self._take(stream, row) for stream in reversed(STREAMS))  # the one with the most rows first

    def _take(self, stream: Stream, row: RawRow) -> bool:
        """Keep the row if it is whole; says whether it is."""
        kept = self._remains.whole(stream, row)
        if kept is None:
            return False
        seed = seed_of(kept.packed, self._remains.dictionaries) or 0
        crc = row_crc(stream, kept.position, kept.boot, kept.recorded_ms, kept.dedupe, kept.packed, seed)
        batch = self._batch[stream]
        batch.append((kept.position, kept.boot, kept.recorded_ms, kept.dedupe, kept.packed, crc))
        if len(batch) >= _BATCH:
            self._flush()
        return True

    def _flush(self) -> None:
        self._target.execute("BEGIN IMMEDIATE")
        for stream, batch in self._batch.items():
            self._target.executemany(
                f"INSERT OR IGNORE INTO {stream} (position, boot, recorded_ms, dedupe, body, crc) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?)",
                batch,
            )
            batch.clear()
        self._target.execute("COMMIT")

    def _rows(self, stream: Stream) -> int:
        return int(self._target.execute(f"SELECT count(*) FROM {stream}").fetchone()[0])  # noqa: S608

    def _contiguous(self, stream: Stream) -> bool:
        low, high, count = self._target.execute(
            f"SELECT min(position), max(position), count(*) FROM {stream}"  # noqa: S608 - fixed names
        ).fetchone()
        known = self._remains.identity.heads.get(stream, 0)
        return known <= (high or 0) and (low is None or high - low + 1 == count)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(done, self._database.size)


def _put_cursor(target: sqlite3.Connection, cursor: Cursor) -> None:
    required = int(cursor.required)
    target.execute(
        "INSERT OR REPLACE INTO cursor (name, stream, position, required, moved_ms, crc) VALUES (?, ?, ?, ?, ?, ?)",
        (
            cursor.name, cursor.stream, cursor.position, required, cursor.moved_ms,
            cursor_crc(cursor.name, cursor.stream, cursor.position, required),
        ),
    )  # fmt: skip


def _without(ranges: list[tuple[int, int]], known: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The ranges less what is in `known`; both in order and apart."""
    out: list[tuple[int, int]] = []
    for first, last in ranges:
        start = first
        for a, b in known:
            if b < start or a > last:
                continue
            if a > start:
                out.append((start, a - 1))
            start = b + 1
        if start <= last:
            out.append((start, last))
    return out
