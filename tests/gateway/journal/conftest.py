"""A journal in a temporary directory and events to put in it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.event import STREAMS, Draft, Stream
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]


def make_draft(number: int, stream: Stream = "observations", size: int = 120, dedupe: bool = True) -> Draft:
    """An event whose bytes follow from its number; about `size` of them do not compress."""
    chance = random.Random(number)
    body = b'{"source":"//t/x","type":"store.test.v1","data":{"n":%d,"pad":"%s"}}' % (
        number,
        chance.randbytes(size // 2).hex().encode(),
    )
    return Draft(stream, "store.test.v1", body, chance.randbytes(8) if dedupe else b"")


@pytest.fixture
def draft() -> MakeDraft:
    return make_draft


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def writer(path: Path, clock: FakeClock) -> Iterator[JournalWriter]:
    """An open journal."""
    journal = JournalWriter(path, "gw01", clock, ballast_bytes=4096)
    journal.open()
    yield journal
    journal.close()


@pytest.fixture
def everything() -> Callable[[Path], dict[tuple[str, int], bytes]]:
    """Every event of a journal by stream and position."""

    def read(path: Path) -> dict[tuple[str, int], bytes]:
        found: dict[tuple[str, int], bytes] = {}
        with JournalReader(path) as reader:
            for stream in STREAMS:
                after = 0
                while events := reader.read(stream, after, 5_000, 1 << 30):
                    found.update({(stream, event.position): event.json for event in events})
                    after = events[-1].position
        return found

    return read
