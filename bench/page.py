"""What looking costs: every page's time with a full journal and twenty live viewers, and what these take.

`storefront run` with its page, fed over a Mosquitto; the journal is filled beforehand with weeks of a shop. Viewers are
another process: they hold `/live` open on every page in both languages and read all that comes.

- pages: GET of every page and address, signed in as a manager, p95, while they look; first load: bytes of the first
  page with style, script and icon
- live: from the commit of a count to the number in a viewer's hands
- memory and CPU: of the daemon with viewers, less without, at two counts a second
- intake: bursts of messages in turns, with viewers and without, each compared with the mean of the two beside it. By
  messages a second that become durable (what a shop would notice, and what a busy machine blurs), and by the daemon's
  processor time for a message (which a busy machine does not)

    python -m bench.page [--events 1000000] [--rounds 3] [--viewers 20]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import psutil

from bench.figures import Figure, print_figures
from bench.gateway import daemon
from bench.mqtt_link import mosquitto, publisher, publishers
from gateway import event_types as types
from gateway.access.accounts import Accounts
from gateway.clock import SystemClock, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.status.page import PAGES

PAGE_LIMIT_MS, LIVE_LIMIT_S, LOAD_LIMIT_KB = 100.0, 1.0, 200.0
MEMORY_LIMIT_MB, CPU_LIMIT, LOSS_LIMIT = 40.0, 0.03, 0.03
_WEEKS = 6
_SIZE_BYTES = 250
_WITHIN_S = 120.0
_COUNTED_S = 900.0  # a journal that was filled beforehand is counted anew first; a busy machine takes its time
_PATHS = [
    *(plan.path for plan in PAGES.values()), "/account", "/privacy", "/settings/store", "/settings/devices",
    "/api/status", "/api/events", "/api/recognition", "/metrics", "/healthz",
]  # fmt: skip
_PIN = "482915"
_BURST = 6000
_FIRST_LOAD = ("/", "/static/style.css", "/static/live.js", "/static/icon.svg")
_NAMES = [name for name, plan in PAGES.items() if plan.parts]


class Intake(msgspec.Struct, frozen=True):
    """What viewers leave of intake: the share by messages a second, and by processor time for a message."""

    per_s: float
    kept: float
    kept_spread: str
    by_cpu: float
    by_cpu_spread: str


_CONFIG = """\
[storage]
directory = "{directory}"
[broker]
mode = "external"
client_id = "bench-page"
url = "mqtt://127.0.0.1:{broker}"
[page]
port = {page}
[[devices]]
name = "door"
driver = "generic_json"
topics = ["door/#"]
zone = "front"
[[devices.options.mappings]]
topic = "door/{{line}}"
reading = "door_count"
fields = {{ entered = "in", left = "out", interval_s = "s" }}
fixed = {{ line = "{{line}}" }}
[[devices]]
name = "sensors"
driver = "generic_json"
topics = ["bench/#"]
zone = "hall"
[[devices.options.mappings]]
topic = "bench/{{sensor}}"
reading = "sensor"
fields = {{ value = "n" }}
fixed = {{ quantity = "count", unit = "1", sensor = "{{sensor}}" }}
"""


def fill(directory: Path, count: int) -> None:
    """A journal of so many events: mostly tags, some counts of people, some sales, over the last weeks."""
    clock, dice = SystemClock(), random.Random(1)
    origin = Origin("t1", "0001", "gw01")
    now = clock.now()
    directory.mkdir(parents=True)
    writer = JournalWriter(directory / "journal.db", "gw01", clock, ballast_bytes=0)
    writer.open()
    batch: list[Draft] = []
    for number in range(count):
        at_s = now.wall_s - _WEEKS * 7 * 86_400 * (count - number) / count
        kind = number % 20
        data: types.EventData
        if kind < 3:
            people = dice.randint(0, 9)
            data = types.FootfallCounted(
                line="main", entrance="front", interval_start=rfc3339_s(at_s), interval_s=60.0, in_=people, out=people,
                quality=types.CountQuality(coverage=1.0, detector="bench"),
            )  # fmt: skip
            source = "camera/main"
        elif kind == 3:
            data = types.Sale(
                transaction_id=f"b{number}", kind="sale", workstation_id="1", business_date="2026-01-01",
                currency="CNY", totals=types.Totals(net=Decimal(dice.randint(900, 40_000)) / 100), tap="json",
                confidence=1.0,
            )  # fmt: skip
            source = "pos_json/till"
        else:
            data = types.RfidArrived(
                epc=f"urn:epc:id:sgtin:0952123.400107.{number}", epc_hex=f"{number:024x}", reader="gate", reads=3,
                first_seen="", last_seen="",
            )  # fmt: skip
            source = "uhf_m100/gate"
        entry = types.type_of(data)
        batch.append(
            draft(entry.stream, entry.name, data, source=origin.source(source), at=now, happened_s=at_s, zone="front")
        )
        if len(batch) == 256:
            writer.append(batch)
            batch = []
    writer.append(batch)
    writer.close()


def signed_in(port: int, state: Path) -> str:
    """The cookie of a manager."""
    accounts = Accounts(state, SystemClock())
    accounts.add("Ann", "manager", _PIN)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    head = {"Origin": f"http://127.0.0.1:{port}", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/sign-in", f"name=Ann&pin={_PIN}", head)
    answer = connection.getresponse()
    assert answer.status == 303, answer.status
    cookie = (answer.getheader("set-cookie") or "").partition(";")[0]
    connection.close()
    return cookie


def get(port: int, path: str, language: str = "en", cookie: str = "") -> tuple[float, int]:
    """Milliseconds and bytes of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    began_s = time.perf_counter()
    try:
        connection.request("GET", path, headers={"Accept-Language": language, "Cookie": cookie})
        answer = connection.getresponse()
        size = len(answer.read())
        assert answer.status == 200, (path, answer.status)
    finally:
        connection.close()
    return (time.perf_counter() - began_s) * 1000, size


@contextlib.contextmanager
def looking(port: int, viewers: int) -> Iterator[None]:
    """So many viewers in a process of their own."""
    process = subprocess.Popen([sys.executable, "-m", "bench.page", "--look", str(port), str(viewers)])
    try:
        time.sleep(4)
        yield
    finally:
        process.terminate()
        process.wait(10)


async def look(port: int, viewers: int) -> None:
    """Hold as many streams open as there are viewers, and read."""

    async def one(name: str, language: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"GET /live?page={name} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: {language}\r\n\r\n".encode()
        )
        while await reader.read(65_536):
            pass

    kinds = itertools.cycle(itertools.product(_NAMES, ("zh-CN", "en")))
    await asyncio.gather(*(one(*next(kinds)) for _ in range(viewers)))


class Live(threading.Thread):
    """A viewer who notes when a text came."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.seen: dict[str, float] = {}
        self.wanted = ""

    def run(self) -> None:
        """Read until the daemon ends."""
        with socket.create_connection(("127.0.0.1", self._port)) as line:
            line.sendall(b"GET /live?page=today HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Language: en\r\n\r\n")
            tail = b""
            while chunk := line.recv(65_536):
                tail = (tail + chunk)[-200_000:]
                if self.wanted and self.wanted.encode() in tail:
                    self.seen[self.wanted] = time.monotonic()
                    self.wanted, tail = "", b""


def lags(port: int, broker: int, journal: Path, count: int) -> list[float]:
    """Seconds from the commit of a count to its number at a viewer."""
    viewer = Live(port)
    viewer.start()
    time.sleep(1.0)
    found = []
    with JournalReader(journal) as reader:
        for number in range(count):
            people = _people(port)
            viewer.wanted = f"{people + 1000 + number:,}</span>"
            wanted, head = viewer.wanted, reader.head("measurements")
            _count(broker, 1000 + number, f"lag{number}")
            until_s = time.monotonic() + 10
            while reader.head("measurements") == head and time.monotonic() < until_s:
                time.sleep(0.002)
            committed_s = time.monotonic()
            while wanted not in viewer.seen and time.monotonic() < until_s:
                time.sleep(0.005)
            found.append(viewer.seen.get(wanted, float("inf")) - committed_s)
            time.sleep(random.uniform(0.1, 0.9))
    return found


def _people(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    time.sleep(0.9)  # what was sent before is counted
    connection.request("GET", "/api/status")
    value = json.loads(connection.getresponse().read())["status"]["today"]["people_in"]["value"]
    connection.close()
    return int(value or 0)


def _count(broker: int, people: int, name: str) -> None:
    """One message of the door counter, QoS 1."""
    body = json.dumps({"in": people, "out": 0, "s": 1.0}).encode()
    topic = b"door/main"
    with socket.create_connection(("127.0.0.1", broker), timeout=10) as line:
        connect = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(name).to_bytes(2, "big") + name.encode()
        line.sendall(b"\x10" + bytes([len(connect)]) + connect)
        line.recv(4)
        publish = len(topic).to_bytes(2, "big") + topic + b"\x00\x01" + body
        line.sendall(b"\x32" + bytes([len(publish)]) + publish)
        line.recv(4)


def cost(process: psutil.Process, broker: int, for_s: float) -> tuple[float, float]:
    """Share of a core and resident megabytes over some seconds in which two counts a second come."""
    before, began_s = process.cpu_times(), time.monotonic()
    number = 0
    while time.monotonic() - began_s < for_s:
        number += 1
        publisher(broker, f"cost{number}", "bench/a", 1, _SIZE_BYTES)
        time.sleep(0.5)
    after, passed_s = process.cpu_times(), time.monotonic() - began_s
    used_s = after.user + after.system - before.user - before.system
    return used_s / passed_s, process.memory_info().rss / 1e6


def turn(process: psutil.Process, broker: int, journal: Path) -> tuple[float, float]:
    """A burst: messages a second from the first to the last durable one, and processor milliseconds for a thousand."""
    with JournalReader(journal) as reader:
        before, cpu = reader.head("observations"), process.cpu_times()
        with publishers(broker, _BURST, _SIZE_BYTES):
            while (first := reader.head("observations")) == before:
                time.sleep(0.002)
            first_s = time.monotonic()
            until_s = first_s + _WITHIN_S
            while (done := reader.head("observations")) < before + _BURST and time.monotonic() < until_s:
                time.sleep(0.005)
            passed_s, after = time.monotonic() - first_s, process.cpu_times()
    used_s = after.user + after.system - cpu.user - cpu.system
    return (done - first) / passed_s, used_s * 1e6 / max(1, done - before)


def intake(process: psutil.Process, broker: int, journal: Path, look: Callable[[], Any], rounds: int) -> Intake:
    """Turns without and with viewers, one after the other, each with viewers beside the mean of its neighbours."""
    turn(process, broker, journal)  # so that the first is like the others
    bare, watched = [turn(process, broker, journal)], []
    for _ in range(rounds):
        with look():
            watched.append(turn(process, broker, journal))
        bare.append(turn(process, broker, journal))
    rates, costs = [], []
    for number, seen in enumerate(watched):
        sides = bare[number], bare[number + 1]
        rates.append(seen[0] / statistics.mean(it[0] for it in sides))
        costs.append(statistics.mean(it[1] for it in sides) / seen[1])
    return Intake(
        per_s=statistics.median(it[0] for it in bare), kept=statistics.median(rates), kept_spread=spread(rates),
        by_cpu=statistics.median(costs), by_cpu_spread=spread(costs),
    )  # fmt: skip


def spread(values: list[float]) -> str:
    """Lowest to highest."""
    return f"{min(values):.2f}-{max(values):.2f}"


def measure(events: int, viewers: int, rounds: int, folder: Path, broker: int) -> list[Figure]:
    """All of it, on one daemon."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    state = folder / "state"
    fill(state, events)
    config = folder / "gateway.toml"
    config.write_text(_CONFIG.format(directory=state, broker=broker, page=port), "utf-8")
    journal = state / "journal.db"
    with daemon(config) as child:
        _ready(port)
        cookie = signed_in(port, state)
        process = psutil.Process(child.pid)
        for path in _PATHS:
            get(port, path, "en", cookie)
        first_kb = sum(get(port, path)[1] for path in _FIRST_LOAD) / 1e3
        alone_cpu, alone_mb = cost(process, broker, 15)
        with looking(port, viewers):
            seen_cpu, seen_mb = cost(process, broker, 15)
            times = {path: [get(port, path, it, cookie)[0] for it in ("zh-CN", "en") * 20] for path in _PATHS}
            late_s = lags(port, broker, journal, 12)
        again_cpu, _ = cost(process, broker, 15)
        taken = intake(process, broker, journal, lambda: looking(port, viewers), rounds)
    for path in sorted(_PATHS, key=lambda path: -_p95(times[path])):
        print(f"  {path:<20} median {statistics.median(times[path]):5.0f} ms   p95 {_p95(times[path]):5.0f} ms")
    worst = max(_PATHS, key=lambda path: _p95(times[path]))
    alone_cpu = statistics.mean((alone_cpu, again_cpu))
    several = f"{viewers} viewers"
    return [
        Figure(f"page, p95 of the slowest of {len(_PATHS)} ({worst}), {events:,} events, {several}",
               f"≤ {PAGE_LIMIT_MS:.0f} ms", "", f"{_p95(times[worst]):.0f} ms", _p95(times[worst]) <= PAGE_LIMIT_MS),
        Figure("first load, uncompressed", f"≤ {LOAD_LIMIT_KB:.0f} KB", "", f"{first_kb:.0f} KB",
               first_kb <= LOAD_LIMIT_KB),
        Figure("commit to number at a viewer, worst of 12", f"≤ {LIVE_LIMIT_S:.0f} s", "",
               f"{max(late_s):.2f} s (median {statistics.median(late_s):.2f} s)", max(late_s) <= LIVE_LIMIT_S),
        Figure(f"memory that {several} add", f"≤ {MEMORY_LIMIT_MB:.0f} MB", "", f"{seen_mb - alone_mb:.1f} MB",
               seen_mb - alone_mb <= MEMORY_LIMIT_MB),
        Figure(f"CPU of a core that {several} add", f"≤ {CPU_LIMIT:.0%}", "",
               f"{seen_cpu - alone_cpu:.1%} ({alone_cpu:.1%} without)", seen_cpu - alone_cpu <= CPU_LIMIT),
        Figure(f"intake with {several}, share of without ({rounds} turns: {taken.kept_spread})",
               f"≥ {1 - LOSS_LIMIT:.2f}", f"{taken.per_s:,.0f}/s", f"{taken.kept:.2f}", taken.kept >= 1 - LOSS_LIMIT),
        Figure(f"the same by processor time for a message ({taken.by_cpu_spread})", f"≥ {1 - LOSS_LIMIT:.2f}", "",
               f"{taken.by_cpu:.2f}", taken.by_cpu >= 1 - LOSS_LIMIT),
    ]  # fmt: skip


def _ready(port: int) -> None:
    """Wait until the page is up and everything is counted."""
    until_s = time.monotonic() + _COUNTED_S
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError, AssertionError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/api/status")
            status = json.loads(connection.getresponse().read())["status"]
            connection.close()
            if status["read_models"] and not any(it["behind"] for it in status["read_models"]):
                return
        time.sleep(0.2)
    raise TimeoutError("the page did not come, or counting does not end")


def _p95(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.95)]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--look", nargs=2, type=int, metavar=("PORT", "VIEWERS"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.look:
        asyncio.run(look(*args.look))
        return
    scratch = Path(__file__).parent.parent / ".bench"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name, mosquitto(Path(name)) as broker:
        figures = measure(args.events, args.viewers, args.rounds, Path(name), broker)
    print_figures(figures)
    print(json.dumps({"figures": [one.as_json() for one in figures]}))


if __name__ == "__main__":
    main()
