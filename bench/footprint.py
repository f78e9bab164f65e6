"""What the daemon costs when nothing happens, and how soon it works: start, memory with twenty devices, idle CPU.

`storefront run` as its users have it, with the status page, sixteen MQTT devices on a Mosquitto and four serial ones on
ptys, without cameras. `start`: from the start of the process to the commit of a message that waited at the broker.
`memory`: resident, after every MQTT device has spoken a hundred times; beside it what is this process's alone, for some
of the rest are libraries that other processes use too. `idle`: user and system time of the process.

    python -m bench.footprint [--idle-s 60] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import statistics
import tempfile
import time
import tty
from pathlib import Path

import msgspec
import psutil

from bench.figures import Figure, print_figures
from bench.gateway import daemon
from bench.mqtt_link import mosquitto, publisher
from devices.transports.mqtt import MqttLink, MqttSettings
from gateway.errors import JournalError
from gateway.event import STREAMS
from gateway.journal.reader import JournalReader

MQTT_DEVICES = 16
SERIAL_DEVICES = (("rdm6300", "pad"), ("rdm6300", "pad2"), ("scanner_gs1", "scanner"), ("uhf_m100", "gate"))
START_LIMIT_S, MEMORY_LIMIT_MB, IDLE_LIMIT_SHARE = 1.0, 90.0, 0.005
_SIZE_BYTES = 250
_WITHIN_S = 30.0

_HEAD = """\
[storage]
directory = "{directory}"
[broker]
mode = "external"
client_id = "footprint"
url = "mqtt://127.0.0.1:{port}"
[page]
port = 0
"""
_MQTT = """\
[[devices]]
name = "sensor{number}"
driver = "generic_json"
topics = ["bench/{number}/#"]
[[devices.options.mappings]]
topic = "bench/{number}/{{sensor}}"
reading = "sensor"
fields = {{ value = "n" }}
fixed = {{ quantity = "count", unit = "1", sensor = "{{sensor}}" }}
"""
_SERIAL = """\
[[devices]]
name = "{name}"
driver = "{driver}"
address = "{address}"
"""


class Footprint(msgspec.Struct, frozen=True):
    """What was measured."""

    start_s: float
    start_cpu_s: float  # what of it is work; the rest is waiting, for a core too where the machine is shared
    rss_mb: float
    own_mb: float  # of it, what no other process shares
    idle_share: float
    threads: int


class Shop:
    """The configuration, the ptys, and the session at the broker."""

    def __init__(self, folder: Path, port: int) -> None:
        """`port`: of the broker."""
        self.journal = folder / "state" / "journal.db"
        self.config = folder / "gateway.toml"
        self._folder, self._port = folder, port
        self._masters: list[int] = []

    def __enter__(self) -> Shop:
        text = _HEAD.format(directory=self.journal.parent, port=self._port)
        text += "".join(_MQTT.format(number=number) for number in range(MQTT_DEVICES))
        for driver, name in SERIAL_DEVICES:
            master, other = pty.openpty()
            tty.setraw(other)
            text += _SERIAL.format(name=name, driver=driver, address=os.ttyname(other))
            self._masters += [master, other]
        self.config.write_text(text, "utf-8")
        topics = tuple(f"bench/{number}/#" for number in range(MQTT_DEVICES))
        session = MqttLink(MqttSettings(client_id="footprint-devices", topics=topics, port=self._port))
        session.open()
        until_s = time.monotonic() + 10
        while not session.subscribed and time.monotonic() < until_s:
            session.receive(0.05, limit=0)
        session.close()
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._masters:
            os.close(descriptor)

    def greet(self, each: int) -> None:
        """Every MQTT device speaks."""
        for number in range(MQTT_DEVICES):
            publisher(self._port, f"greet{number}", f"bench/{number}/a", each, _SIZE_BYTES)

    def count(self) -> int:
        """How many observations are durable; 0 before there is a journal."""
        with contextlib.suppress(JournalError), JournalReader(self.journal) as reader:
            return reader.head(STREAMS[2])
        return 0

    def wait(self, count: int) -> float:
        """Until so many are; returns the monotonic time of it.

        Raises:
            TimeoutError: they do not come.
        """
        until_s = time.monotonic() + _WITHIN_S
        while time.monotonic() < until_s:
            if self.count() >= count:
                return time.monotonic()
            time.sleep(0.005)
        raise TimeoutError(f"{self.count()} of {count} events")


def measure(folder: Path, port: int, idle_s: float, rounds: int) -> Footprint:
    """Start it some times, then let it idle.

    Args:
        folder: scratch.
        port: of a Mosquitto.
        idle_s: how long the CPU time of doing nothing is counted.
        rounds: starts; the median counts.
    """
    starts: list[tuple[float, float]] = []
    with Shop(folder, port) as shop:
        kept = 0
        for number in range(rounds):
            shop.greet(1)
            kept += MQTT_DEVICES
            begin_s = time.monotonic()
            with daemon(shop.config) as process:
                first_s = shop.wait(kept - MQTT_DEVICES + 1)
                worked = psutil.Process(process.pid).cpu_times()
                starts.append((first_s - begin_s, worked.user + worked.system))
                shop.wait(kept)
                if number < rounds - 1:
                    continue
                shop.greet(100)
                shop.wait(kept + 100 * MQTT_DEVICES)
                time.sleep(8)  # what a start still has to do is no idling
                watched = psutil.Process(process.pid)
                before, begin_s = watched.cpu_times(), time.monotonic()
                time.sleep(idle_s)
                after, passed_s = watched.cpu_times(), time.monotonic() - begin_s
                spent_s = after.user + after.system - before.user - before.system
                memory, threads = watched.memory_full_info(), watched.num_threads()
    start_s, start_cpu_s = (statistics.median(each) for each in zip(*starts, strict=True))
    return Footprint(start_s, start_cpu_s, memory.rss / 1e6, memory.uss / 1e6, spent_s / passed_s, threads)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--idle-s", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    scratch = Path(__file__).parent.parent / ".bench"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name, mosquitto(Path(name)) as port:
        found = measure(Path(name), port, args.idle_s, args.rounds)
    own = f"{found.rss_mb:.0f} MB ({found.own_mb:.0f} MB its own)"
    figures = [
        Figure("start to first durable event, 20 devices", f"≤ {START_LIMIT_S:.1f} s", "",
               f"{found.start_s:.2f} s ({found.start_cpu_s:.2f} s of CPU)", found.start_s <= START_LIMIT_S),
        Figure("resident memory, 20 devices, page on", f"≤ {MEMORY_LIMIT_MB:.0f} MB", "", own,
               found.rss_mb <= MEMORY_LIMIT_MB),
        Figure("idle CPU of a core", f"≤ {IDLE_LIMIT_SHARE:.1%}", "", f"{found.idle_share:.2%}",
               found.idle_share <= IDLE_LIMIT_SHARE),
    ]  # fmt: skip
    print_figures(figures)
    print(json.dumps({"figures": [one.as_json() for one in figures], "threads": found.threads}))


if __name__ == "__main__":
    main()
