"""The worker that puts what was done at the box itself (commands, a reload) into the audit trail.

Commands write a note beside the accounts, durable with the change it speaks of; a note stays until its record is in the
journal. Knows no command.
"""

from __future__ import annotations

import threading

from gateway.access.accounts import Accounts
from gateway.access.audit import Audit, Committing

_EVERY_S = 2.0


class Notes:
    """Worker."""

    def __init__(self, accounts: Accounts, audit: Audit, commits: Committing) -> None:
        """Store."""
        self._accounts, self._audit, self._commits = accounts, audit, commits
        self._looked = False

    def open(self) -> None:
        """Nothing to acquire."""

    def step(self, stop: threading.Event) -> None:
        """Put the oldest note into the trail, or wait a moment; before the first, what became of the journal.

        Raises:
            Unavailable: the accounts cannot be read, or the trail not be written; the note stays.
        """
        if self._commits.is_open and not self._looked:
            self._audit.look_at_journal()
            self._looked = True
        notes = self._accounts.book().notes if self._commits.is_open else ()
        if not notes:
            stop.wait(_EVERY_S)
            return
        note = notes[0]
        self._audit.record(note.act, role="box", subject=note.subject, at_s=note.at_ms / 1000)
        self._accounts.noted(1)  # a crash before this tells it twice, which is better than never

    def close(self) -> None:
        """Nothing to release."""
