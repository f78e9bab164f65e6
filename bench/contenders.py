"""A gateway as a bench sees it: a process tree, an MQTT session at the devices' broker, a count of what is durable.

`OurGateway` is `storefront run`. A peer is another `Contender`; it gets the same broker, the same messages and the same
kind of session (persistent, QoS 1). Knows no figure and no limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol

import psutil

from devices.transports.mqtt import MqttLink, MqttSettings
from gateway.errors import StorefrontError
from gateway.journal.reader import JournalReader

CHECKOUT = Path(__file__).resolve().parent.parent
SCRATCH = CHECKOUT / ".bench"
Message = tuple[str, int]  # device, number


class Ended(Exception):
    """A gateway that should run is gone; says what it logged last."""


class Contender(Protocol):
    """A gateway under measurement: `start`, any of the questions, then `stop` or `kill`; one start at a time."""

    name: str
    client_id: str
    topics: tuple[str, ...]

    def start(self) -> None:
        """Start the process; returns at once."""

    def stored(self) -> int:
        """How many messages were ever made durable, by what the database says; 0 before there is one."""

    def kept(self) -> set[Message]:
        """Every message in its storage now."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole process tree."""

    def stop(self) -> None:
        """End in order, or else by force; nothing when it does not run."""

    def kill(self) -> None:
        """SIGKILL, and wait; nothing when it does not run."""

    @property
    def process(self) -> psutil.Process:
        """The process, while it runs.

        Raises:
            Ended: it does not run any more.
        """


def open_session(port: int, contender: Contender) -> None:
    """Make the contender's persistent session, so that the broker keeps messages for it from now on.

    The filters must be the very ones it uses itself: filters that overlap bring every message twice.
    """
    link = MqttLink(MqttSettings(client_id=contender.client_id, topics=contender.topics, port=port))
    link.open()
    until_s = time.monotonic() + 10
    while not link.subscribed and time.monotonic() < until_s:
        link.receive(0.05, limit=0)
    link.close()


def owed(port: int, contender: Contender, quiet_s: float = 0.7) -> set[Message]:
    """What the broker still has for the contender's session: everything that was not acknowledged to the broker."""
    link = MqttLink(MqttSettings(client_id=contender.client_id, topics=contender.topics, port=port))
    link.open()
    found: set[Message] = set()
    until_s = time.monotonic() + 10
    last_s = time.monotonic() + 2  # connecting takes a moment
    while time.monotonic() < min(until_s, last_s + quiet_s):
        if arrived := link.receive(0.1):
            last_s = time.monotonic()
            found.update((item.topic.rpartition("/")[2], int(json.loads(item.payload)["n"])) for item in arrived)
            link.ack(arrived)
    link.close()
    return found


def wait(contender: Contender, done: Callable[[], bool], within_s: float, poll_s: float = 0.02) -> float:
    """Poll until `done`; returns when that was (monotonic).

    Raises:
        Ended: the process ended meanwhile.
        TimeoutError: it took longer than `within_s`.
    """
    until_s = time.monotonic() + within_s
    while not done():
        assert contender.process
        if time.monotonic() > until_s:
            raise TimeoutError(f"{contender.name}: not done within {within_s:g} s; it has stored {contender.stored()}")
        time.sleep(poll_s)
    return time.monotonic()


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of the whole process tree so far."""
    total = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system
    return total


def rss_bytes(process: psutil.Process) -> int:
    """Resident memory of the whole process tree."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += int(one.memory_info().rss)
    return total


class Child:
    """A process in a group of its own, so that a signal reaches all of it."""

    name = "child"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._log = folder / "log"
        self._child: subprocess.Popen[bytes] | None = None

    def _spawn(self, command: list[str], cwd: Path, environment: dict[str, str] | None = None) -> None:
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command, cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True
            )  # fmt: skip

    @property
    def process(self) -> psutil.Process:
        """The process, while it runs."""
        if self._child is None or self._child.poll() is not None:
            raise Ended(f"{self.name} has ended; it said last: {self._log.read_text('utf-8', 'replace')[-400:]}")
        return psutil.Process(self._child.pid)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self._child is not None and self._child.poll() is None:
            os.killpg(self._child.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(10)
        self._child = None

    def stop(self) -> None:
        """End in order, or else by force."""
        self.signal(signal.SIGTERM)
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(5)
        self.kill()


_OURS = """\
[storage]
directory = "{directory}"
[broker]
mode = "external"
url = "mqtt://127.0.0.1:{port}"
client_id = "{client_id}"
[page]
port = 0
"""
_OUR_PLATFORM = """\
[platform]
url = "{url}"
auth = "none"
boot_delay_s = 0.0
"""
_OUR_DEVICE = """\
[[devices]]
name = "sensor-{number}"
driver = "generic_json"
topics = ["bench/{number}"]
[[devices.options.mappings]]
topic = "bench/{{sensor}}"
reading = "sensor"
fields = {{ value = "n" }}
fixed = {{ quantity = "count", unit = "1", sensor = "{{sensor}}" }}
"""


class OurGateway(Child):
    """`storefront run` with its page and so many generic MQTT devices."""

    name = "storefront"

    def __init__(self, folder: Path, port: int, devices: int, platform: str = "") -> None:
        """`platform`: address of one to deliver to; "" for none."""
        super().__init__(folder)
        client_id = f"ours-{folder.name}"
        self.client_id = f"{client_id}-devices"
        self.topics = tuple(f"bench/{number}" for number in range(devices))
        self._config = folder / "gateway.toml"
        self._journal = folder / "state" / "journal.db"
        self._config.write_text(
            _OURS.format(directory=folder / "state", port=port, client_id=client_id)
            + (_OUR_PLATFORM.format(url=platform) if platform else "")
            + "".join(_OUR_DEVICE.format(number=number) for number in range(devices)),
            "utf-8",
        )

    def start(self) -> None:
        """Start the process; returns at once."""
        self._spawn([sys.executable, "-m", "gateway", "run", "--config", str(self._config)], CHECKOUT)

    def stored(self) -> int:
        """Head of the stream of readings."""
        with contextlib.suppress(StorefrontError), JournalReader(self._journal) as reader:
            return reader.head("observations")
        return 0

    def waiting(self) -> bool:
        """True while a reading has not been delivered."""
        with JournalReader(self._journal) as reader:
            return reader.state("observations").pending > 0

    def kept(self) -> set[Message]:
        """Every reading in the journal."""
        found: set[Message] = set()
        with JournalReader(self._journal) as reader:
            after = 0
            while rows := reader.read("observations", after):
                for row in rows:
                    data = json.loads(row.json)["data"]
                    found.add((str(data["sensor"]), int(float(data["value"]))))
                after = rows[-1].position
        return found


class Pacer:
    """Publishes with QoS 1 at an even pace, in turn to the devices, and remembers what the broker acknowledged."""

    def __init__(self, port: int, per_s: float, devices: int) -> None:
        self._port, self._per_s, self._devices = port, per_s, devices
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pacer")
        self._sent: list[Message] = []
        self._answered = 0

    def __enter__(self) -> Pacer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop and wait for the acknowledgements under way."""
        self._stop.set()
        self._thread.join(10)

    def acknowledged(self) -> set[Message]:
        """What the broker has acknowledged; it answers in order."""
        return set(self._sent[: self._answered])

    def _run(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=5) as line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            line.sendall(b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05pacer")
            line.recv(4)
            line.settimeout(0.02)
            begin_s, rest = time.monotonic(), b""
            until_s = float("inf")
            while time.monotonic() < until_s and not (self._stop.is_set() and self._answered == len(self._sent)):
                if not self._stop.is_set():
                    due = int((time.monotonic() - begin_s) * self._per_s)
                    line.sendall(b"".join(self._packet(number) for number in range(len(self._sent), due)))
                    until_s = time.monotonic() + 5
                with contextlib.suppress(TimeoutError):
                    rest += line.recv(65536)
                self._answered += len(rest) // 4
                rest = rest[len(rest) // 4 * 4 :]
            line.sendall(b"\xe0\x00")

    def _packet(self, number: int) -> bytes:
        device = str(number % self._devices)
        self._sent.append((device, number))
        topic = f"bench/{device}".encode()
        body = struct.pack("!H", len(topic)) + topic + struct.pack("!H", number % 65535 + 1) + b'{"n":%d}' % number
        return bytes([0x32, len(body)]) + body
