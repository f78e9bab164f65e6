"""The daemon as its users have it: `storefront run` with a configuration file, signals, its log and its exit code.

Also the things around it that a test takes away and brings back: a serial device on a pty, a Mosquitto that can be
killed, one message said by a client of no interest.
"""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.errors import JournalError
from gateway.event import STREAMS, Stream
from gateway.journal.reader import JournalReader
from tests.faults.traffic import connect, packet
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def until(what: Callable[[], bool], timeout_s: float = PATIENCE_S, every_s: float = 0.05) -> float | None:
    """Wait until it is so; returns after how many seconds, or None when it never was."""
    started_s = time.monotonic()
    while (waited_s := time.monotonic() - started_s) < timeout_s:
        if what():
            return waited_s
        time.sleep(every_s)
    return None


class Daemon:
    """One gateway: configuration, data directory and, between `start` and the end, a process."""

    def __init__(self, folder: Path, devices: str, broker: str = 'mode = "none"', storage: str = "") -> None:
        """`devices`, `broker`, `storage`: TOML for these tables."""
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "gateway.toml"
        self.log_file = folder / "gateway.log"
        self.journal = folder / "state" / "journal.db"
        self._head = (
            f'[gateway]\nstore = "0042"\nname = "gw01"\n[storage]\ndirectory = "{folder / "state"}"\nballast_mib = 0\n'
            f"{storage}\n[broker]\n{broker}\n[page]\nenabled = false\n"
        )
        self.process: subprocess.Popen[bytes] | None = None
        self.started_s = 0.0
        self.configure(devices)

    def configure(self, devices: str) -> None:
        """Write the file with other devices."""
        self.config.write_text(self._head + devices, "utf-8")

    def start(self) -> Daemon:
        """Start the process; does not wait."""
        self.started_s = time.monotonic()
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "run", "--config", str(self.config)], stderr=log, stdout=log, cwd=ROOT
            )
        return self

    def __enter__(self) -> Daemon:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self, timeout_s: float = PATIENCE_S) -> tuple[int, float]:
        """SIGTERM; returns the exit code and how long it took."""
        assert self.process is not None
        started_s = time.monotonic()
        self.process.terminate()
        code = self.process.wait(timeout_s)
        return code, time.monotonic() - started_s

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def log(self) -> str:
        """All that it and its predecessors have said."""
        return self.log_file.read_text("utf-8", "replace")

    def says(self, text: str, timeout_s: float = PATIENCE_S) -> bool:
        """Whether the log comes to hold this text."""
        return until(lambda: text in self.log(), timeout_s) is not None

    def events(self, streams: Sequence[Stream] = STREAMS) -> list[dict[str, Any]]:
        """Every event in the journal, stream by stream; [] before there is a journal."""
        found: list[dict[str, Any]] = []
        with contextlib.suppress(JournalError), JournalReader(self.journal) as reader:
            for stream in streams:
                after = 0
                while batch := reader.read(stream, after, 1000):
                    found += [{**event.decode(), "stream": stream} for event in batch]
                    after = batch[-1].position
        return found

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a table; [] before there is a journal."""
        with contextlib.suppress(JournalError), JournalReader(self.journal) as reader:
            return [dict(row) for row in reader.query(sql)]
        return []

    def has(self, timeout_s: float, event_type: str, /, **data: object) -> dict[str, Any] | None:
        """Wait for an event whose type contains the word and whose data has these values."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found[:] = [
                event
                for event in self.events()
                if event_type in event["type"] and all(event["data"].get(key) == value for key, value in data.items())
            ]
            return bool(found)

        return found[-1] if until(look, timeout_s) is not None else None


def say(port: int, *messages: tuple[str, bytes], retain: bool = False, name: str = "passer-by") -> None:
    """Publish with QoS 1 and wait for the broker's acknowledgements."""
    with connect(port, name) as line:
        line.settimeout(30)
        for first in range(0, len(messages), 50):
            raws = [packet(topic, payload, 1 + at) for at, (topic, payload) in enumerate(messages[first : first + 50])]
            line.sendall(b"".join(bytes([raw[0] | retain]) + raw[1:] for raw in raws))
            answers = b""
            while len(answers) < 4 * len(raws):
                data = line.recv(4096)
                assert data, "the broker hung up"
                answers += data
        line.sendall(b"\xe0\x00")


class Plug:
    """A serial device on a pty, under a name that stays, as udev's by-id names do."""

    def __init__(self, name: Path) -> None:
        """`name`: the path in the configuration."""
        self.name = name
        self._master = -1

    def plug(self) -> None:
        """The device comes, as another tty than before."""
        self._master, other = pty.openpty()
        tty.setraw(other)
        target = os.ttyname(other)
        os.close(other)
        self.name.unlink(missing_ok=True)
        self.name.symlink_to(target)

    def unplug(self) -> None:
        """The device goes: its name, and the line itself hangs up."""
        self.name.unlink(missing_ok=True)
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def say(self, data: bytes) -> None:
        """The device speaks."""
        os.write(self._master, data)


@contextlib.contextmanager
def plugged(name: Path) -> Iterator[Plug]:
    """A device that is there, and gone at the end."""
    plug = Plug(name)
    plug.plug()
    try:
        yield plug
    finally:
        plug.unplug()
