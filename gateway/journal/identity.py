"""A copy of the journal's small facts (epochs, boots, dictionaries, where cursors stood) in a file of its own.

With it a salvage can tell which number belonged to which epoch after the database's own tables are lost, so an event
already delivered keeps its id, and can unpack every row. Rewritten whole and atomically at every start and stop and
when a dictionary is made; `heads` and `uplink` are as old as that, and serve as lower bounds. `running` tells a start
that the last process did not close the journal, so that its write-ahead log must be there.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from gateway.durable_file import replace_file
from gateway.errors import JournalError, JournalFull
from gateway.event import STREAMS, Stream
from gateway.journal.cursor import UPLINK, position_of
from gateway.journal.disk import NO_ROOM
from gateway.journal.schema import StreamEpoch, head_of


class Identity(msgspec.Struct, frozen=True):
    """Every epoch of every stream, oldest first, boot ids and learned dictionaries by their number, and by stream the
    newest position and the uplink's at the time of writing.
    """

    epochs: tuple[StreamEpoch, ...] = ()
    boots: dict[int, str] = {}
    dictionaries: dict[int, bytes] = {}
    heads: dict[Stream, int] = {}
    uplink: dict[Stream, int] = {}
    page_bytes: int = 0
    running: bool = False


def path_of(journal: Path) -> Path:
    """Where the copy of a journal's identity lies."""
    return journal.with_name(journal.name + ".identity.json")


def save(journal: Path, connection: sqlite3.Connection, *, running: bool = True) -> None:
    """Write the copy, if it differs from what lies there.

    `running`: the write-ahead log has a durable name and is in use; False once all of it is in the database.

    Raises:
        JournalFull: the disk has no room for it.
        JournalError: the disk does not take it.
    """
    facts = _facts(connection, running)
    if facts == load(journal):
        return
    target = path_of(journal)
    try:
        replace_file(target, msgspec.json.encode(facts))
    except OSError as error:
        kind = JournalFull if error.errno in NO_ROOM else JournalError
        raise kind(
            "write journal's identity", str(target), error.strerror or str(error), "free space on the disk"
        ) from error


def _facts(connection: sqlite3.Connection, running: bool) -> Identity:
    epochs = connection.execute("SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch ORDER BY rowid")
    boots = connection.execute("SELECT id, boot FROM boot ORDER BY id")
    dictionaries = connection.execute("SELECT id, bytes FROM dictionary ORDER BY id")
    return Identity(
        tuple(StreamEpoch(*row) for row in epochs),
        dict(boots.fetchall()),
        dict(dictionaries.fetchall()),
        {stream: head_of(connection, stream) for stream in STREAMS},
        {stream: position_of(connection, UPLINK, stream) for stream in STREAMS},
        int(connection.execute("PRAGMA page_size").fetchone()[0]),
        running,
    )


def load(journal: Path) -> Identity:
    """The copy; an empty identity when there is none or it is damaged."""
    try:
        return msgspec.json.decode(path_of(journal).read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError):
        return Identity()
