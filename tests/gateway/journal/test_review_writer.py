"""What a device had a hand in can be stored, whatever it is."""

from __future__ import annotations

from pathlib import Path

from gateway.clock import FakeClock
from gateway.intake.inlet import Poison
from gateway.journal.quarantine import entries
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter


def test_a_reason_of_any_length_and_alphabet_is_kept_short_and_legible(tmp_path: Path) -> None:
    """A lone surrogate in a reason must not end the process: the broker would bring it to the next one, too."""
    writer = JournalWriter(tmp_path / "journal.db", "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    writer.append((), [Poison("d", "x", "unknown field \ud800" + "y" * 100_000, b"{}", "a/\udfff")])
    with JournalReader(writer.path) as reader:
        (entry,) = entries(reader)
    assert entry.reason.startswith("unknown field ?yyy") and len(entry.reason) == 500
    writer.close()
