"""What a stream lost, said in a row: which positions, how many events, why.

A range that retention expired lies below the uplink's cursor; one that a salvage could not find again may lie above it,
and then those positions are neither pending nor ever sent. Knows SQL; decides nothing.
"""

from __future__ import annotations

import sqlite3

import msgspec

from gateway.event import Stream

_KEPT = 10_000


class LossDeclared(msgspec.Struct, frozen=True):
    """Events of a stream that will never be delivered: positions `first` to `last`, `count` of them not accounted for
    before. `count` may be smaller than the range, where some of it had been delivered or declared already.
    """

    stream: Stream
    first: int
    last: int
    count: int
    reason: str  # "retention", "quota" or "salvage"


def declare(connection: sqlite3.Connection, loss: LossDeclared, now_ms: int) -> None:
    """Write the loss down; it joins the row before it when it carries on from there for the same reason."""
    joined = connection.execute(
        "UPDATE loss SET last = ?, count = count + ?, at_ms = ? WHERE id = "
        "(SELECT max(id) FROM loss WHERE subject = ?) AND reason = ? AND last = ?",
        (loss.last, loss.count, now_ms, loss.stream, loss.reason, loss.first - 1),
    ).rowcount
    if not joined:
        connection.execute(
            "INSERT INTO loss (at_ms, subject, first, last, count, reason) VALUES (?, ?, ?, ?, ?, ?)",
            (now_ms, loss.stream, loss.first, loss.last, loss.count, loss.reason),
        )


def trim(connection: sqlite3.Connection, stream: Stream, oldest: int) -> None:
    """Forget the oldest declarations about positions below `oldest`, beyond the ten thousand newest."""
    connection.execute(
        "DELETE FROM loss WHERE subject = ? AND last < ? AND id <= (SELECT max(id) FROM loss) - ?",
        (stream, oldest, _KEPT),
    )


def losses(connection: sqlite3.Connection, stream: str, after: int, through: int) -> list[tuple[int, int]]:
    """Declared ranges among the positions above `after` up to `through`: cut to them, in order, never overlapping."""
    rows = connection.execute(
        "SELECT max(first, ? + 1), min(last, ?) FROM loss WHERE subject = ? AND last > ? AND first <= ? ORDER BY first",
        (after, through, stream, after, through),
    )
    apart: list[tuple[int, int]] = []
    for first, last in rows:
        start = max(first, apart[-1][1] + 1) if apart else first
        if start <= last:
            apart.append((start, last))
    return apart


def lost_between(connection: sqlite3.Connection, stream: str, after: int, through: int) -> int:
    """How many positions above `after` up to `through` are declared lost."""
    if through <= after:
        return 0
    return sum(last - first + 1 for first, last in losses(connection, stream, after, through))
