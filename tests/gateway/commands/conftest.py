"""Commands run in this process, as the console runs them, and a store's data directory for them to work on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.__main__ import main
from gateway.clock import FakeClock
from gateway.event import Draft, Stream
from gateway.intake.inlet import Poison
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.writer import JournalWriter

NOBODY = 'mode = "external"\nurl = "mqtt://127.0.0.1:9"'  # a broker in the file, and none in the world


class Said(msgspec.Struct):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Storefront = Callable[..., Said]


@pytest.fixture
def storefront(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Storefront:
    """Runs `storefront ARGUMENTS`."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.setattr("sys.argv", ["storefront", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        printed = capsys.readouterr()
        return Said(code, printed.out, printed.err)

    return run


class Shop:
    """A data directory with a journal in it, and a configuration that points there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.directory = folder / "state"
        self.journal = self.directory / "journal.db"
        self.clock = FakeClock()
        self.config = folder / "gateway.toml"
        self.configure()

    def configure(self, more: str = "", broker: str = NOBODY, page: str = "enabled = false") -> None:
        """Write the configuration file."""
        self.config.write_text(
            f'[storage]\ndirectory = "{self.directory}"\nballast_mib = 0\nmax_mib = 64\n'
            f"[broker]\n{broker}\n[page]\n{page}\n{more}"
        )

    def writer(self) -> JournalWriter:
        """A writer of this journal, not open."""
        seal = PayloadSeal(self.directory / "keys" / "quarantine.key")
        return JournalWriter(
            self.journal, "gw01", self.clock, max_bytes=64 << 20, ballast_bytes=0, seal=seal.seal
        )  # fmt: skip

    def keep(self, *drafts: Draft, poison: tuple[Poison, ...] = ()) -> None:
        """Write events and quarantined messages, as the daemon would, and end."""
        writer = self.writer()
        writer.open()
        try:
            writer.append(drafts, poison)
        finally:
            writer.close()

    def some(self, count: int, stream: Stream = "observations") -> None:
        """Write `count` plain events."""
        self.keep(*(plain(number, stream) for number in range(count)))


def plain(number: int, stream: Stream = "observations", kind: str = "store.test.v1") -> Draft:
    """An event whose bytes follow from its number."""
    body = msgspec.json.encode(
        {"source": "//t1/x", "type": kind, "time": "2026-11-22T00:00:00.000Z", "data": {"n": number}}
    )
    return Draft(stream, kind, body)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)
