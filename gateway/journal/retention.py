"""Retention: what leaves the journal, when, and what is said about it.

What every required cursor has passed is deleted without a word once it is old enough, or sooner under pressure. What
was not delivered goes only when it is older than its stream's limit or the quota leaves no other way, oldest
observations first, never transactions unless somebody has configured it; each time the uplink's cursor moves, the
stream's `expired` count grows and a loss is declared, in the transaction of the deletion. Ages are judged carefully: a
box without a clock of its own may have written any time. Knows SQL and the policy; the caller gives the transaction.
"""

from __future__ import annotations

import sqlite3

import msgspec

from gateway.clock import Instant
from gateway.event import STREAMS, Stream
from gateway.journal import cursor, loss
from gateway.journal.loss import LossDeclared
from gateway.journal.schema import fill_share

_CHUNK = 500
_PLAUSIBLE_MS = 1_735_689_600_000  # 2025-01-01: a row that says it is older was written before the clock was set
_DAY_S = 86_400.0


class RetentionPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may go, by stream. Shares are of the quota, 0–1; a stream that a table does not name is never touched by it.

    `keep_s`: how long delivered events stay for local readers. `max_age_s`: how long undelivered ones stay.
    `relax_above`: share from which delivered events go at once. `overrun_above`: share from which they go even when
    another required cursor (a local feed's consumer) has not passed them. `expire_above`: share from which undelivered
    ones go.
    """

    keep_s: dict[Stream, float] = msgspec.field(
        default_factory=lambda: {
            "transactions": 30 * _DAY_S, "measurements": 14 * _DAY_S, "observations": 3 * _DAY_S
        }
    )  # fmt: skip
    max_age_s: dict[Stream, float] = msgspec.field(
        default_factory=lambda: {"measurements": 400 * _DAY_S, "observations": 90 * _DAY_S}
    )
    relax_above: float = 0.5
    overrun_above: float = 0.80
    expire_above: dict[Stream, float] = msgspec.field(
        default_factory=lambda: {"observations": 0.80, "measurements": 0.90}
    )


class Swept(msgspec.Struct, frozen=True):
    """One step's outcome. `more`: call again soon, there is more to do.

    `overrun` names the required cursors, other than the uplink's, that had not passed what was deleted.
    """

    deleted: int
    declared: tuple[LossDeclared, ...] = ()
    overrun: tuple[str, ...] = ()
    more: bool = True


class Retention:
    """Decides and deletes in steps of at most 500 rows, so that no commit waits long. Used on the writing thread."""

    def __init__(self, policy: RetentionPolicy) -> None:
        """`policy`: what may go."""
        self._policy = policy
        self._recorded_ms: dict[Stream, int] = {}  # newest believable time met so far at the old end of a stream

    def step(self, connection: sqlite3.Connection, now: Instant) -> Swept:
        """Delete one chunk, from the least important stream that has something to give.

        Run it in a transaction of its own (`CommitLoop.submit(lambda c: retention.step(c, clock.now()))`), again while
        `more`, then every minute or so.
        """
        share = fill_share(connection)
        for stream in reversed(STREAMS):
            if (through := self._deletable(connection, stream, now, share)) is not None:
                return self._delete(connection, stream, through)
        for stream in reversed(STREAMS):
            if swept := self._expire(connection, stream, now, share):
                return swept
        return Swept(0, more=False)

    def _deletable(self, connection: sqlite3.Connection, stream: Stream, now: Instant, share: float) -> int | None:
        """Up to where delivered rows may go in this step; None when they all may stay or must."""
        floor = cursor.required_floor(connection, stream)
        if share >= self._policy.overrun_above:
            floor = cursor.position_of(connection, cursor.UPLINK, stream)
        chunk = self._chunk(connection, stream, floor)
        if not chunk:
            return None
        if share >= self._policy.relax_above:
            return chunk[-1][0]
        return self._older_than(stream, chunk, now, self._policy.keep_s.get(stream))

    def _expire(self, connection: sqlite3.Connection, stream: Stream, now: Instant, share: float) -> Swept | None:
        """Give up one chunk of undelivered rows, if it is too old or the quota forces it."""
        chunk = self._chunk(connection, stream, None)
        if not chunk:
            return None
        through = self._older_than(stream, chunk, now, self._policy.max_age_s.get(stream))
        reason = "retention"
        if through is None and share > self._policy.expire_above.get(stream, 2.0):
            through, reason = chunk[-1][0], "quota"
        if through is None:
            return None
        first = cursor.position_of(connection, cursor.UPLINK, stream) + 1
        now_ms = int(now.wall_s * 1000)
        count = cursor.expire_through(connection, stream, through, now_ms)
        declared: tuple[LossDeclared, ...] = ()
        if count:
            declared = (LossDeclared(stream, first, through, count, reason),)
            loss.declare(connection, declared[0], now_ms)
        return self._delete(connection, stream, through, declared)

    def _chunk(self, connection: sqlite3.Connection, stream: Stream, floor: int | None) -> list[tuple[int, int]]:
        """The oldest rows (position, recorded_ms) that are at or below `floor`, never the stream's newest row."""
        return connection.execute(
            f"SELECT position, recorded_ms FROM {stream} WHERE position < (SELECT max(position) FROM {stream}) "  # noqa: S608 - fixed names
            "AND position <= coalesce(?, 1 << 62) ORDER BY position LIMIT ?",
            (floor, _CHUNK),
        ).fetchall()

    def _older_than(
        self, stream: Stream, chunk: list[tuple[int, int]], now: Instant, age_s: float | None
    ) -> int | None:
        """The last of the chunk's leading rows that are older than `age_s`.

        Only a synchronised clock may judge. A row is as young as the youngest believable one before it, and one with
        an unbelievable time shares the fate of its successor: a step of the clock must never age anything.
        """
        if age_s is None or now.quality not in ("ntp", "rtc"):
            return None
        now_ms = int(now.wall_s * 1000)
        limit_ms = now_ms - int(age_s * 1000)
        newest_ms = self._recorded_ms.get(stream, 0)
        through: int | None = None
        for position, recorded_ms in chunk:
            if not _PLAUSIBLE_MS <= recorded_ms <= now_ms:
                continue
            newest_ms = max(newest_ms, recorded_ms)
            if newest_ms >= limit_ms:
                break
            through = position
            self._recorded_ms[stream] = newest_ms
        return through

    def _delete(
        self, connection: sqlite3.Connection, stream: Stream, through: int, declared: tuple[LossDeclared, ...] = ()
    ) -> Swept:
        behind = connection.execute(
            "SELECT name FROM cursor WHERE stream = ? AND required = 1 AND position < ? AND name <> ? ORDER BY name",
            (stream, through, cursor.UPLINK),
        ).fetchall()
        deleted = connection.execute(f"DELETE FROM {stream} WHERE position <= ?", (through,)).rowcount  # noqa: S608
        loss.trim(connection, stream, through)
        return Swept(deleted, declared, tuple(row[0] for row in behind))
