"""Where persons' keys lie beside the journal's events: one table, a line a room, so that an erasure finds them all.

Composition only. A room that stores a day key, a sealed identifier or a reference to a consent in a table of its own
names the table here; one that also holds such keys in memory adds a
function to `gateway.forgets` (see `gateway.workers.erasing.Forget`).
"""

from __future__ import annotations

from gateway.journal.erasure import SubjectTable
from gateway.shopper import visit_book

TABLES: tuple[SubjectTable, ...] = (
    SubjectTable(name="consent", key=("person", "purpose"), columns=("record",)),
    *visit_book.SUBJECTS,
)
