"""A copy of the journal's small facts (epochs, boots) in a file of its own.

With it a salvage can tell which number belonged to which epoch after the database's own tables are lost, so an event
already delivered keeps its id. Rewritten whole and atomically, only when an epoch or a boot begins.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import msgspec

from gateway.journal.schema import StreamEpoch


class Identity(msgspec.Struct, frozen=True):
    """Every epoch of every stream, oldest first, and the boot ids by their number."""

    epochs: tuple[StreamEpoch, ...] = ()
    boots: dict[int, str] = {}


def path_of(journal: Path) -> Path:
    """Where the copy of a journal's identity lies."""
    return journal.with_name(journal.name + ".identity.json")


def save(journal: Path, connection: sqlite3.Connection) -> None:
    """Write the copy, if it differs from what lies there.

    Raises:
        OSError: the disk does not take it.
    """
    epochs = connection.execute("SELECT stream, epoch, base, gateway, reason, opened_ms FROM epoch ORDER BY rowid")
    boots = connection.execute("SELECT id, boot FROM boot ORDER BY id")
    facts = Identity(tuple(StreamEpoch(*row) for row in epochs), dict(boots.fetchall()))
    if facts == load(journal):
        return
    target = path_of(journal)
    draft = target.with_name(target.name + ".new")
    with draft.open("wb") as file:
        file.write(msgspec.json.encode(facts))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(target)


def load(journal: Path) -> Identity:
    """The copy; an empty identity when there is none or it is damaged."""
    try:
        return msgspec.json.decode(path_of(journal).read_bytes(), type=Identity)
    except (OSError, msgspec.DecodeError):
        return Identity()
