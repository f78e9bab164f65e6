"""What a witness works on: a worker that reads the journal and tells what it makes of it as new events."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from gateway.clock import Clock
from gateway.event import Origin
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop


class Gateway(Protocol):
    """What it works on (`gateway.app.Gateway`)."""

    origin: Origin
    clock: Clock
    inlet: Inlet
    commits: CommitLoop

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        ...
