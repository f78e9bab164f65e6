"""A shop's real journal, whose commit loop a test steps by hand or lets run for a moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.clock import FakeClock
from gateway.event import Draft, Origin, Stream
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.news import News
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter

NEVER = threading.Event()


class _Restless(threading.Event):
    """A stop that never comes and for which nobody waits."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


AT_ONCE = _Restless()


class Unwaited(News):
    """News for which nobody waits."""

    def after(self, seen: int, timeout_s: float, stop: threading.Event) -> int:
        return seen


class SteppedShop:
    """Journal, inlet and commit loop of one shop."""

    def __init__(self, directory: Path, clock: FakeClock, max_bytes: int = 64 << 20) -> None:
        self.clock = clock
        self.origin = Origin("t1", "0042", "gw01")
        self.path = directory / "journal.db"
        self.inlet = Inlet()
        writer = JournalWriter(self.path, "gw01", clock, max_bytes=max_bytes, ballast_bytes=0)
        self.commits = CommitLoop(writer, self.inlet, window_s=0.0)
        self.commits.news = Unwaited()

    def open(self) -> None:
        self.commits.open()

    def close(self) -> None:
        self.commits.close()

    def put(self, drafts: Sequence[Draft]) -> None:
        """What a source hands in is committed."""
        for start in range(0, len(drafts), 500):
            assert self.inlet.offer("bench", Item(drafts[start : start + 500]))
            self.commits.step(AT_ONCE)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Whatever is asked of the commit loop meanwhile is done, as by the daemon's thread."""
        done = threading.Event()

        def commit() -> None:
            while not done.is_set():
                self.commits._run_jobs()
                done.wait(0.0005)

        thread = threading.Thread(target=commit)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def events(self, stream: Stream) -> list[dict[str, Any]]:
        """Everything a stream holds."""
        with JournalReader(self.path) as reader:
            return [event.decode() for event in reader.read(stream, 0, 100_000, 1 << 30)]
