"""Sync beside its limits: events a second, bytes on the wire, age of live events behind a backlog, the feed, kills.

Gateway and platform are processes of their own on loopback; the platform commits with synchronous=FULL before it
answers. Events are a store's usual mixture (`bench.journal.shop`).

- `push`: a backlog to the platform in batches of 500: events a second, bytes an event, the gateway's CPU an event.
- `live`: the same while a sale is rung up twice a second: how old each is when the platform has it.
- `lost`: lost answers, one after the other, and how many events are visible twice afterwards.
- `feed`: one consumer's events a second at growing sizes, and what fifty waiting consumers cost.
- `kills`: the checker of tests/sync, with more kills than `make check` has.

    python -m bench.sync [--only push|live|lost|feed|kills] [--events 200000] [--kills 500]
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import requests
import uvicorn
from starlette.applications import Starlette

from bench.journal import shop
from gateway.clock import SystemClock
from gateway.event import STREAMS, Draft, Origin, draft
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.writer import JournalWriter
from sync.feed import Feed, FeedToken, token_digest
from sync.feed_journal import JournalFeed, JournalOffsets
from sync.feed_routes import FeedLimits, FeedRoutes
from sync.http_client import ClientOptions, HttpClient
from sync.http_uplink import HttpUplink
from sync.ledger import JournalLedger
from sync.pacing import Precedence
from sync.platform.app import platform_app
from sync.platform.store import PlatformStore
from sync.syncer import Syncer, SyncOptions
from sync.uplink import Batch, BatchResult, EpochReason, Lane

PLACE = Path(__file__).resolve().parent.parent / ".bench" / "sync"
LIMITS = {"events_s": 8000, "gzip": 60.0, "zstd": 45.0, "drain_s_per_million": 600.0, "live_s": 5.0, "feed_s": 50_000,
          "polls_mib": 30.0, "polls_core": 0.02}  # fmt: skip


def row(name: str, measured: float, limit: float, unit: str, *, at_most: bool) -> None:
    """One figure beside its limit."""
    holds = measured <= limit if at_most else measured >= limit
    sign = "<=" if at_most else ">="
    print(f"  {name:44} {measured:12,.2f} {unit:10} {sign} {limit:10,.2f}   {'ok' if holds else 'MISSED'}")


def listener() -> socket.socket:
    """A loopback socket with its protocol named, so that asyncio sets TCP_NODELAY on what it accepts."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.bind(("127.0.0.1", 0))
    made.listen(256)
    return made


def _serve(app: Any, door: socket.socket) -> None:
    uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False, lifespan="on")).run(sockets=[door])


def _platform(path: Path, door: socket.socket) -> None:
    _serve(platform_app(path), door)


@contextmanager
def process(target: Callable[..., None], *arguments: Any, how: str = "fork") -> Iterator[psutil.Process]:
    """`target` in a process of its own while inside; with `how="spawn"` its memory holds nothing of this one's."""
    child: Any = multiprocessing.get_context(how).Process(target=target, args=arguments, daemon=True)  # type: ignore[attr-defined]
    child.start()
    try:
        yield psutil.Process(child.pid)
    finally:
        child.terminate()
        child.join(10)


@contextmanager
def served_platform(path: Path) -> Iterator[str]:
    """The address of a reference platform in a process of its own, that commits to the disk."""
    door = listener()
    with process(_platform, path, door, how="spawn"):
        yield f"http://127.0.0.1:{door.getsockname()[1]}"


class Quiet:
    """Alarms that nobody hears."""

    def raised(self, what: str, hint: str, *, critical: bool = False) -> None: ...

    def cleared(self, what: str) -> None: ...


class Gateway:
    """A gateway's journal, commit loop and syncers, in threads of this process."""

    def __init__(self, home: Path, url: str, coding: str = "gzip") -> None:
        self.clock = SystemClock()
        self.path = home / "journal.db"
        self.writer = JournalWriter(self.path, "gw01", self.clock)
        self.writer.open()
        self.inlet = Inlet()
        self.loop = CommitLoop(self.writer, self.inlet)
        self.stop = threading.Event()
        self.url = url
        self.coding: Any = coding
        self.clients: list[HttpClient] = []
        self.syncers: list[Syncer] = []
        self.threads: list[threading.Thread] = []

    def fill(self, drafts: list[Draft]) -> None:
        for start in range(0, len(drafts), 2000):
            self.writer.append(drafts[start : start + 2000])

    def start(self) -> None:
        precedence = Precedence(STREAMS)
        workers: list[Any] = [self.loop]
        for stream in STREAMS:
            ledger = JournalLedger(self.path, self.loop, "gw01", self.clock)
            client = HttpClient(ClientOptions(url=self.url))
            self.clients.append(client)
            self.syncers.append(
                Syncer(
                    stream, ledger, HttpUplink(client, self.clock, self.coding), self.clock, random.Random(1),
                    gateway="gw01", alarms=Quiet(), precedence=precedence,
                    options=SyncOptions(boot_delay_s=0.0, max_events=500),
                    open_ledger=ledger.open, close_ledger=ledger.close,
                )
            )  # fmt: skip
        workers += self.syncers
        self.threads = [threading.Thread(target=self._run, args=(worker,), daemon=True) for worker in workers]
        for thread in self.threads:
            thread.start()

    def _run(self, worker: Any) -> None:
        worker.open()
        while not self.stop.is_set():
            worker.step(self.stop)
        worker.close()

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads[1:]:
            thread.join(10)
        for thread in self.threads[:1]:
            thread.join(10)


def drafts_of(count: int) -> list[Draft]:
    """A store's mixture without dedupe keys, so that the same ones may be written again and again."""
    base = [Draft(item.stream, item.type, item.body) for item in shop(min(count, 50_000))]
    return (base * (count // len(base) + 1))[:count]


def push(home: Path, count: int, *, live: bool = False, coding: str = "gzip") -> None:
    """A backlog of `count` events, with or without sales meanwhile."""
    door = listener()
    drafts = drafts_of(count)
    with process(_platform, home / "platform.db", door):
        gateway = Gateway(home, f"http://127.0.0.1:{door.getsockname()[1]}", coding)
        gateway.fill(drafts)
        before = resource.getrusage(resource.RUSAGE_SELF)
        started_s = time.monotonic()
        gateway.start()
        ages: dict[int, float] = {}
        rung: dict[int, float] = {}
        number = 0
        platform = sqlite3.connect(f"file:{home / 'platform.db'}?mode=ro", uri=True)
        seen = held = 0
        of_sales = sum(item.stream == "transactions" for item in drafts)
        origin = Origin("t1", "0042", "gw01")
        while sum(syncer.counters.events for syncer in gateway.syncers) < count + number:
            time.sleep(0.05 if live else 0.01)
            now_s = time.monotonic()
            if live and now_s - started_s >= number * 0.5 and len(rung) == number:
                number += 1
                sale = draft("transactions", "store.bench.rung.v1", {"n": number}, source=origin.source("pos/1"),
                             at=gateway.clock.now())  # fmt: skip
                accepted = number

                def receipt(accepted: int = accepted) -> None:
                    rung[accepted] = time.monotonic()

                gateway.inlet.offer("pos", Item([sale], receipt), timeout_s=5.0)
            if live:
                seen = _look(platform, seen, ages, rung)
                if gateway.syncers[0].counters.events < of_sales:
                    held = number
        took_s = time.monotonic() - started_s
        after = resource.getrusage(resource.RUSAGE_SELF)
        platform.close()
        sent = sum(client.sent_bytes for client in gateway.clients)
        gateway.close()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{'live' if live else 'push'}: {count:,} events in batches of 500, {coding}")
    if live:
        row("a million events would drain in", took_s / count * 1e6, LIMITS["drain_s_per_million"], "s", at_most=True)
        others = sorted(age for sale, age in ages.items() if sale > held) or [99.0]
        row(f"oldest of {len(ages)} sales when it arrived", max(ages.values(), default=99.0), LIMITS["live_s"], "s",
            at_most=True)  # fmt: skip
        print(f"  {held} of them waited for the {of_sales:,} older sales of the backlog, whose order they keep")
        row("oldest of the others", others[-1], LIMITS["live_s"], "s", at_most=True)
        row("their median", others[len(others) // 2], LIMITS["live_s"], "s", at_most=True)
        print(f"  {'gateway CPU an event (all threads)':44} {cpu_s / count * 1e6:12,.2f} µs")
    else:
        row("events a second", count / took_s, LIMITS["events_s"], "1/s", at_most=False)
        row("bytes of request bodies an event", sent / count, LIMITS[coding], "bytes", at_most=True)
        print(f"  {'gateway CPU an event (all threads)':44} {cpu_s / count * 1e6:12,.2f} µs")


def _look(platform: sqlite3.Connection, seen: int, ages: dict[int, float], rung: dict[int, float]) -> int:
    """Ages of the sales that have arrived since `seen`, a number of the stream; by an index, so that it is cheap."""
    lane = "(SELECT id FROM lane WHERE stream = 'transactions')"
    rows = platform.execute(f"SELECT seq, body FROM event WHERE lane = {lane} AND seq > ?", (seen,))
    now_s = time.monotonic()
    for seq, body in rows:
        seen = seq
        if b"store.bench.rung" in body:
            number = json.loads(body)["data"]["n"]
            ages[number] = now_s - rung.get(number, now_s)  # not told yet that it is durable: it is just so
    return seen


class Forgetful:
    """An uplink into a store whose every first answer is lost after the commit."""

    def __init__(self, store: PlatformStore) -> None:
        self.store = store
        self.lost = 0
        self._told = False

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        self.store.open_epoch(lane, reason, previous)
        return BatchResult(outcome="taken", acked_through=self.store.find(lane)[0])

    def send(self, batch: Batch) -> BatchResult:
        consumed = self.store.consume(batch.lane, batch.first, batch.last, batch.body)
        self._told = not self._told
        if self._told:
            self.lost += 1
            return BatchResult(outcome="retry", reason="the answer is lost")
        return BatchResult(outcome="taken", acked_through=consumed.acked_through)

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        raise AssertionError("nothing was lost")

    def close(self) -> None: ...


def lost(home: Path, answers: int) -> None:
    """So many lost answers."""
    logging.disable(logging.WARNING)
    from gateway.clock import FakeClock

    clock = FakeClock()
    writer = JournalWriter(home / "journal.db", "gw01", clock)
    writer.open()

    class Direct:
        def submit(self, work: Callable[[Any], Any]) -> Any:
            from concurrent.futures import Future

            done: Future[Any] = Future()
            done.set_result(writer.transact(work))
            return done

    store = PlatformStore(home / "platform.db", durable=False)
    store.open()
    ledger = JournalLedger(home / "journal.db", Direct(), "gw01", clock)
    uplink = Forgetful(store)

    def pause(stop: threading.Event, seconds: float) -> bool:
        clock.advance(max(seconds, 0.001))
        return False

    count = answers * 3
    drafts = drafts_of(count)
    for start in range(0, count, 2000):
        writer.append([Draft("observations", item.type, item.body) for item in drafts[start : start + 2000]])
    syncer = Syncer(
        "observations", ledger, uplink, clock, random.Random(1), gateway="gw01", alarms=Quiet(),
        precedence=Precedence(STREAMS), options=SyncOptions(boot_delay_s=0.0, max_events=3), open_ledger=ledger.open,
        close_ledger=ledger.close, pause=pause,
    )  # fmt: skip
    syncer.open()
    stop = threading.Event()
    while syncer.counters.events < count:
        syncer.step(stop)
    syncer.close()
    with store.transaction() as connection:
        rows, distinct = connection.execute("SELECT count(*), count(DISTINCT seq) FROM event").fetchone()
    print(f"lost: {uplink.lost:,} answers lost after the commit")
    row("events visible twice", rows - distinct, 0, "events", at_most=True)
    row("events missing", count - distinct, 0, "events", at_most=True)
    store.close()
    writer.close()


TOKENS = tuple(FeedToken(f"c{n}", token_digest(f"c{n}"), STREAMS) for n in range(50))


def _feed(home: Path, door: socket.socket) -> None:
    class Refusing:
        def submit(self, work: Callable[[Any], Any]) -> Any:
            raise AssertionError("nobody commits here")

    source = JournalFeed(home / "journal.db")
    source.open()
    clock = SystemClock()
    feed = Feed(source, JournalOffsets(Refusing(), clock), b"s" * 32, 3)
    routes = FeedRoutes(feed, TOKENS, FeedLimits(requests_s=10_000.0, burst=10_000.0)).routes()
    feed.offsets = _None()
    _serve(Starlette(routes=routes), door)


class _None:
    def find(self, consumer: str) -> None:
        return None

    def commit(self, *_: object) -> None:
        return None

    def drop(self, consumer: str) -> bool:
        return False


def feed(home: Path, sizes: tuple[int, ...]) -> None:
    """One consumer at growing sizes, then fifty that wait."""
    writer = JournalWriter(home / "journal.db", "gw01", SystemClock(), max_bytes=16 << 30)
    writer.open()
    drafts = [Draft("observations", item.type, item.body) for item in drafts_of(50_000)]
    have = 0
    print("feed: one consumer, pages of 2000, the journal's own bytes over loopback HTTP")
    for size in sizes:
        while have < size:
            part = drafts[: min(2000, size - have)]
            writer.append(part)
            have += len(part)
        writer.checkpoint()
        door = listener()
        with process(_feed, home, door) as server:
            url = f"http://127.0.0.1:{door.getsockname()[1]}/v1/feed"
            session = requests.Session()
            session.headers["authorization"] = "Bearer c0"
            session.get(url, params={"limit": 2000}, timeout=30)  # what is loaded once is not an event's cost
            cpu_s, started_s, got, after = sum(server.cpu_times()[:2]), time.monotonic(), 0, None
            while got < 200_000:
                page = session.get(url, params={"limit": 2000, "streams": "observations", "after": after}, timeout=30)
                events = len(msgspec.json.decode(page.content, type=list[msgspec.Raw]))
                got += events
                after = page.headers["feed-next"] if events else None  # at the end: from the beginning again
            took_s, cpu_s = time.monotonic() - started_s, sum(server.cpu_times()[:2]) - cpu_s
            row(f"events a CPU second of {size:,} rows", got / cpu_s, LIMITS["feed_s"], "1/s", at_most=False)
            print(f"  {'':44} {cpu_s / got * 1e6:12,.2f} µs of the serving process an event;"
                  f" {got / took_s:,.0f} events/s by the clock, with the consumer beside it")  # fmt: skip
    door = listener()
    with process(_feed, home, door, how="spawn") as server:
        url = f"http://127.0.0.1:{door.getsockname()[1]}/v1/feed"
        newest = requests.get(url, params={"limit": 1}, headers={"authorization": "Bearer c0"}, timeout=30).headers[
            "feed-high"
        ]
        time.sleep(0.5)
        idle = server.memory_info().rss

        waited: list[int] = []

        def poll(number: int) -> None:
            page = requests.get(
                url, params={"after": newest, "wait": 20}, headers={"authorization": f"Bearer c{number}"}, timeout=60
            )
            if page.content == b"[]":
                waited.append(number)

        threads = [threading.Thread(target=poll, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        time.sleep(2.0)
        cpu_s, started_s = sum(server.cpu_times()[:2]), time.monotonic()
        time.sleep(8.0)
        used = (sum(server.cpu_times()[:2]) - cpu_s) / (time.monotonic() - started_s)
        grown = (server.memory_info().rss - idle) / 2**20
        for thread in threads:
            thread.join()
    print(f"feed: {len(waited)} of fifty consumers waited to the end")
    row("memory for all of them", grown, LIMITS["polls_mib"], "MiB", at_most=True)
    row("share of a core", used, LIMITS["polls_core"], "core", at_most=True)
    writer.close()


def kills(count: int) -> None:
    """The checker, two at a time."""
    print(f"kills: {count:,} SIGKILLs of either side over a lossy line")
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.sync.checker", "--kills", str(count // 2), "--seed", str(seed), *how],
            stdout=subprocess.PIPE, text=True,
        )
        for seed, how in ((101, []), (102, ["--restore"]))
    ]  # fmt: skip
    reports = [json.loads(run.communicate()[0]) for run in runs]
    for report in reports:
        print("  " + ", ".join(f"{report[name]:,} {name}" for name in ("acknowledged", "poison", "looks", "seconds")))
    for what in ("missing", "twice", "out-of-order", "altered", "verdict", "settled-early", "conservation"):
        row(what, sum(report["wrong"].get(what, 0) for report in reports), 0, "events", at_most=True)


def main() -> None:
    """Command line."""
    arguments = argparse.ArgumentParser(description="Sync beside its limits.")
    arguments.add_argument("--only", choices=("push", "live", "lost", "feed", "kills"))
    arguments.add_argument("--events", type=int, default=200_000)
    arguments.add_argument("--kills", type=int, default=500)
    arguments.add_argument("--answers", type=int, default=10_000)
    arguments.add_argument("--rows", type=int, default=500_000, help="largest feed; the limit speaks of 5,000,000")
    chosen = arguments.parse_args()

    def fresh() -> Path:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        return PLACE

    wanted = (chosen.only,) if chosen.only else ("push", "live", "lost", "feed", "kills")
    if "push" in wanted:
        push(fresh(), chosen.events)
        push(fresh(), chosen.events, coding="zstd")
    if "live" in wanted:
        push(fresh(), chosen.events, live=True)
    if "lost" in wanted:
        lost(fresh(), chosen.answers)
    if "feed" in wanted:
        feed(fresh(), (10_000, 100_000, chosen.rows))
    if "kills" in wanted:
        kills(chosen.kills)
    shutil.rmtree(PLACE, ignore_errors=True)


if __name__ == "__main__":
    main()
