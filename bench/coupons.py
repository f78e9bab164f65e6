"""Coupons at a whole gateway with its platform out of reach: how fast, and whether ever twice.

- `pace`: the daemon on one core under 200 events a second from MQTT; a till asks over HTTP, another over MQTT. The time
  is the till's: from the question to an answer that is durable, the signature's proof included.
- `races`: tills in two processes over HTTP and two over MQTT go through the same single-use coupons at once; every
  attempt counts. A coupon that two of them redeem, or that the journal tells twice, is a double.
- `kills`: eight tills fight at a desk that is killed with SIGKILL again and again (`tests.faults.coupon_kills`).

    python -m bench.coupons [--only pace|races|kills] [--seconds 20] [--coupons 1000] [--kills 30] [--full]
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Figure, print_figures
from devices.transports.mqtt import MqttLink, MqttSettings
from devices.transports.publisher import Publisher
from gateway.clock import SystemClock
from gateway.journal.reader import JournalReader
from gateway.shopper.coupon_token import issue
from tests.faults.coupon_kills import fight
from tests.faults.daemon import Daemon
from tests.gateway.shopper.counter import HOME, KEY, PUBLIC

EVENTS_PER_S = 200
LIMIT_MS = 50.0
HTTP_TILLS, PROCESSES, MQTT_TILLS = 4, 2, 2
DEVICES = """
[[devices]]
name = "bench"
driver = "generic_json"
topics = ["bench/#"]
[[devices.options.mappings]]
topic = "bench/{{sensor}}"
reading = "sensor"
fields = {{ value = "n" }}
fixed = {{ quantity = "count", unit = "1", sensor = "{{sensor}}" }}
[platform]
url = "http://127.0.0.1:9"
auth = "none"
boot_delay_s = 0.0
[coupons]
enabled = true
port = {port}
at_risk = "900000000"
keys = [{{ id = "k1", public = "{public}" }}]
"""
Ask = Callable[[dict[str, str]], dict[str, Any]]


def free_port() -> int:
    """A port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def gateway(folder: Path) -> Iterator[tuple[Daemon, int, int]]:
    """A running daemon, its HTTP port and its broker's."""
    port, broker = free_port(), free_port()
    daemon = Daemon(folder, DEVICES.format(port=port, public=PUBLIC), broker=f'mode = "embedded"\nport = {broker}')
    daemon.start()
    try:
        until_s = time.monotonic() + 30
        while time.monotonic() < until_s:
            try:
                if till_http(port, "warm")({"operation": "check", "token": "x"}).get("reason") == "malformed":
                    break
            except OSError:
                time.sleep(0.05)
        yield daemon, port, broker
    finally:
        daemon.stop()


def till_http(port: int, lane: str) -> Ask:
    """A till that keeps its HTTP connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.connect()
    assert connection.sock is not None
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    number = 0

    def ask(fields: dict[str, str]) -> dict[str, Any]:
        nonlocal number
        number += 1
        body = msgspec.json.encode({"request": f"{lane}-{number}", "lane": lane, **fields})
        path = f"/v1/coupons/{fields['operation']}"
        connection.request("POST", path, body, {"content-type": "application/json"})
        said: dict[str, Any] = json.loads(connection.getresponse().read())
        return said

    return ask


@contextmanager
def till_mqtt(broker: int, lane: str) -> Iterator[Ask]:
    """A till on the shop's broker."""
    topic = f"store/0042/coupon/{lane}"
    link = MqttLink(MqttSettings(client_id=lane, topics=(f"{topic}/response",), port=broker, protocol="3.1.1"))
    link.open()
    while not link.subscribed:
        link.receive(0.05)
    number = 0

    def ask(fields: dict[str, str]) -> dict[str, Any]:
        nonlocal number
        number += 1
        question = msgspec.json.encode({"request": f"{lane}-{number}", **fields})
        for _ in range(30):  # no answer: ask again, as a till does; the gateway may not listen yet
            link.publish(f"{topic}/request", question)
            for delivery in link.receive(1.0):
                link.ack([delivery])
                said: dict[str, Any] = json.loads(delivery.payload)
                if said["request"] == f"{lane}-{number}":
                    return said
        raise TimeoutError(f"{lane} had no answer")

    try:
        yield ask
    finally:
        link.close()


def tokens(count: int, prefix: str) -> list[str]:
    """Single-use coupons of this shop that are valid now."""
    now_s = int(SystemClock().now().wall_s)
    like = msgspec.structs.replace(HOME, not_before_s=now_s - 86_400, expires_s=now_s + 86_400)
    return [issue(msgspec.structs.replace(like, id=f"{prefix}-{number}"), KEY) for number in range(count)]


def on_one_core(process_id: int) -> None:
    """Every thread of the process on one core; those that come later follow."""
    core = {max(os.sched_getaffinity(0))}
    for task in os.listdir(f"/proc/{process_id}/task"):  # noqa: PTH208 - names only
        os.sched_setaffinity(int(task), core)


def timed(ask: Ask, coupons: list[str], per_s: float) -> list[float]:
    """Milliseconds that each reservation took."""
    took_ms = []
    due_s = time.monotonic()
    for token in coupons:
        due_s += 1 / per_s
        time.sleep(max(0.0, due_s - time.monotonic()))
        began_s = time.perf_counter()
        said = ask({"operation": "reserve", "token": token})
        took_ms.append((time.perf_counter() - began_s) * 1000)
        assert said["reason"] == "reserved", said
    return took_ms


def pace(folder: Path, seconds: float) -> list[Figure]:
    """Verify and reserve, durable, under load."""
    with gateway(folder) as (daemon, port, broker), till_mqtt(broker, "m1") as by_mqtt:
        assert daemon.process is not None
        on_one_core(daemon.process.pid)
        stop = threading.Event()
        load = Publisher("load", "127.0.0.1", broker)
        load.open()

        def publish() -> None:
            number, due_s = 0, time.monotonic()
            while not stop.is_set():
                load.publish(f"bench/s{number % 20}", b'{"n": %d}' % number)
                number, due_s = number + 1, due_s + 1 / EVENTS_PER_S
                stop.wait(max(0.0, due_s - time.monotonic()))

        publishing = threading.Thread(target=publish)
        publishing.start()
        time.sleep(1)
        count = int(seconds * 20)
        with JournalReader(daemon.journal) as reader, ThreadPoolExecutor(2) as tills:
            before, began_s = reader.head("observations"), time.monotonic()
            each = [
                tills.submit(timed, till_http(port, "h1"), tokens(count, "H"), 20.0),
                tills.submit(timed, by_mqtt, tokens(count, "M"), 20.0),
            ]
            took = [sorted(one.result()) for one in each]
            rate = (reader.head("observations") - before) / (time.monotonic() - began_s)
        stop.set()
        publishing.join()
        load.close()
    figures = []
    for name, times_ms in zip(("HTTP", "MQTT"), took, strict=True):
        p50, p99 = times_ms[len(times_ms) // 2], times_ms[len(times_ms) * 99 // 100]
        ours = f"{p99:.1f} ms (p50 {p50:.1f}, worst {times_ms[-1]:.1f}; {len(times_ms)} at {rate:.0f} events/s)"
        figures.append(
            Figure(f"verify + reserve over {name}, p99, one core, no network", f"≤ {LIMIT_MS:.0f} ms", "", ours,
                   p99 <= LIMIT_MS and rate >= 0.95 * EVENTS_PER_S)
        )  # fmt: skip
    return figures


def contend(ask: Ask, coupons: list[str]) -> Counter[int]:
    """Try to get every coupon; how often each was redeemed."""
    won: Counter[int] = Counter()
    for number, token in enumerate(coupons):
        said = ask({"operation": "reserve", "token": token})
        if said["ok"]:
            won[number] += ask({"operation": "confirm", "reservation": said["reservation"]})["ok"]
    return won


def contend_over_http(port: int, process: int, coupons: list[str]) -> Counter[int]:
    """The tills of one process."""
    with ThreadPoolExecutor(HTTP_TILLS) as tills:
        each = [tills.submit(contend, till_http(port, f"p{process}-{number}"), coupons) for number in range(HTTP_TILLS)]
        return sum((one.result() for one in each), Counter())


def races(folder: Path, count: int) -> list[Figure]:
    """Many tills, one coupon after the other."""
    coupons = tokens(count, "R")
    with gateway(folder) as (daemon, port, broker):
        began_s = time.monotonic()

        def over_mqtt(lane: str) -> Counter[int]:
            with till_mqtt(broker, lane) as ask:
                return contend(ask, coupons)

        with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as processes, ThreadPoolExecutor(MQTT_TILLS) as tills:
            each = [processes.submit(contend_over_http, port, number, coupons) for number in range(PROCESSES)]
            each += [tills.submit(over_mqtt, f"m{number}") for number in range(MQTT_TILLS)]
            won: Counter[int] = sum((one.result() for one in each), Counter())
        took_s = time.monotonic() - began_s
        told: Counter[str] = Counter()
        with JournalReader(daemon.journal) as reader:
            after = 0
            while events := reader.read("transactions", after, 1000):
                after = events[-1].position
                told.update(
                    event.decode()["data"]["coupon"] for event in events if b'"store.coupon.redeemed.v1"' in event.json
                )
    attempts = count * (HTTP_TILLS * PROCESSES + MQTT_TILLS)
    double = sum(times > 1 for times in won.values()) + sum(times > 1 for times in told.values())
    lost = count - len(told)
    ours = f"{double} in {attempts} attempts on {count} coupons ({attempts / took_s:.0f}/s; {lost} never redeemed)"
    return [Figure("double redemptions, tills racing over MQTT and HTTP", "0", "", ours, not double and not lost)]


def kills(folder: Path, count: int) -> list[Figure]:
    """The desk is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    books = fight(folder, count)
    broken = books.doubled + books.forgotten + books.untold + books.contradicted
    ours = (
        f"{broken} in {books.kills} kills ({books.redeemed} redeemed, {books.answers} answers: "
        f"{books.doubled} doubled, {books.forgotten} forgotten, {books.untold} untold, "
        f"{books.contradicted} contradicted)"
    )
    return [Figure("coupon promises broken by kill -9", "0", "", ours, not broken)]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("pace", "races", "kills"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--coupons", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--full", action="store_true", help="200 kills")
    given = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, run in (
            ("pace", lambda folder: pace(folder, given.seconds)),
            ("races", lambda folder: races(folder, given.coupons)),
            ("kills", lambda folder: kills(folder, 200 if given.full else given.kills)),
        ):
            if given.only in (None, name):
                figures += run(Path(scratch) / name)
    print_figures(figures)
    print(json.dumps({"figures": [figure.as_json() for figure in figures]}))


if __name__ == "__main__":
    main()
