"""A reader that comes before the journal is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import JournalError
from gateway.journal.reader import JournalReader
from gateway.journal.schema import connect_writer


def test_a_journal_without_its_first_epochs_is_said_to_be_in_the_making(tmp_path: Path) -> None:
    """Between the tables and the first epoch a look is refused with a reason, not with a traceback."""
    path = tmp_path / "journal.db"
    connection = connect_writer(path, 64 << 20)
    connection.close()
    with JournalReader(path) as reader, pytest.raises(JournalError, match="it is being made"):
        reader.states()
