"""Parts that the sync tests share: a gateway's journal without threads, a real platform on loopback, raw servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import uvicorn
from starlette.types import ASGIApp

from gateway.clock import FakeClock
from gateway.event import Origin, Stream, draft
from gateway.journal.writer import JournalWriter
from sync.http_client import ClientOptions, Credentials, HttpClient
from sync.http_uplink import Coding, HttpUplink
from sync.ledger import JournalLedger
from sync.pacing import Precedence
from sync.syncer import Syncer, SyncOptions
from sync.uplink import Batch, BatchResult, EpochReason, Lane, Uplink

STREAMS = ("transactions", "measurements", "observations")
GATEWAY = "gw01"
ORIGIN = Origin("t1", "0042", GATEWAY)


class Loose(msgspec.Struct):
    """Data of a type that nobody knows."""

    n: int
    pad: str = ""


class Store:
    """A gateway's journal whose writer runs where it is called."""

    def __init__(self, path: Path, clock: FakeClock, gateway: str = GATEWAY) -> None:
        self.path = path
        self.clock = clock
        self.gateway = gateway
        self.writer = JournalWriter(path, gateway, clock, ballast_bytes=0)

    def open(self, reason: str = "fresh") -> Store:
        self.writer.open(reason)
        return self

    def close(self) -> None:
        self.writer.close()

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.writer.transact(work))
        except Exception as error:  # noqa: BLE001
            future.set_exception(error)
        return future

    def add(
        self, count: int, stream: Stream = "observations", start: int = 0, pad: int = 0, bad: set[int] | None = None
    ) -> None:
        """Append events; those whose number is in `bad` have data that their type does not allow."""
        at = self.clock.now()
        self.writer.append(
            [
                draft(stream, "store.button.pressed.v1", Loose(n), source=ORIGIN.source("b"), at=at)
                if n in (bad or ())
                else draft(stream, "store.test.made.v1", Loose(n, "x" * pad), source=ORIGIN.source("t"), at=at)
                for n in range(start, start + count)
            ]
        )

    def ledger(self) -> JournalLedger:
        return JournalLedger(self.path, self, self.gateway, self.clock)


class HeardAlarms:
    """Alarms kept in a list."""

    def __init__(self) -> None:
        self.up: list[str] = []
        self.down: list[str] = []

    def raised(self, what: str, hint: str, *, critical: bool = False) -> None:
        assert hint
        self.up.append(what)

    def cleared(self, what: str) -> None:
        self.down.append(what)


class Bench:
    """One syncer on a journal and an uplink, driven by hand in fake time."""

    def __init__(
        self,
        store: Store,
        uplink: Uplink,
        stream: Stream = "observations",
        *,
        seed: int = 1,
        options: SyncOptions | None = None,
        rate: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.store = store
        self.clock = store.clock
        self.alarms = HeardAlarms()
        self.stop = threading.Event()
        self.stream: Stream = stream
        self.ledger = store.ledger()
        self.syncer = Syncer(
            stream,
            self.ledger,
            uplink,
            self.clock,
            Random(seed),
            gateway=store.gateway,
            alarms=self.alarms,
            precedence=Precedence(STREAMS),
            options=options or SyncOptions(boot_delay_s=0.0),
            open_ledger=self.ledger.open,
            close_ledger=self.ledger.close,
            pause=self._pause,
            rate=rate,
        )
        self.waited_s = 0.0
        self.syncer.open()

    def _pause(self, stop: threading.Event, seconds: float) -> bool:
        self.clock.advance(max(seconds, 0.001))
        self.waited_s += seconds
        return False

    def step(self) -> None:
        """Let time pass until it is due, then one unit of work."""
        while True:
            before_s = self.waited_s
            self.syncer.step(self.stop)
            if self.waited_s == before_s:
                return

    def drain(self, steps: int = 400) -> None:
        """Step until everything is settled."""
        for _ in range(steps):
            if self.cursor == self.head:
                return
            self.step()
        raise AssertionError(f"not drained: {self.cursor} of {self.head}, {self.syncer.state()}")

    @property
    def cursor(self) -> int:
        return self.ledger.view(self.stream).cursor

    @property
    def head(self) -> int:
        return self.ledger.view(self.stream).head

    @property
    def epoch(self) -> str:
        return self.ledger.view(self.stream).epochs[-1].epoch

    def quarantined(self) -> list[tuple[str, str]]:
        rows = self.ledger._reader.query("SELECT topic, reason FROM quarantine ORDER BY id")
        return [(row[0], row[1]) for row in rows]

    def close(self) -> None:
        self.syncer.close()


class Served:
    """An ASGI application on a loopback port, in a thread."""

    def __init__(self, app: ASGIApp, config: Callable[..., uvicorn.Config] = uvicorn.Config) -> None:
        # With the protocol named: asyncio sets TCP_NODELAY only then, and every answer would wait 40 ms without it.
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(128)
        self.port = int(self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = uvicorn.Server(
            config(app, log_level="critical", access_log=False, lifespan="on", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})

    def __enter__(self) -> Served:
        self.thread.start()
        deadline_s = time.monotonic() + 60
        while not self.server.started and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert self.server.started
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join(60)
        self.listener.close()


class RawServer:
    """Answers each request with the next of the given scripts: functions that write to the connection."""

    def __init__(self, *scripts: Callable[[socket.socket, bytes], None]) -> None:
        self.scripts = list(scripts)
        self.requests: list[bytes] = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> RawServer:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60)

    def _serve(self) -> None:
        while self.scripts:
            try:
                line, _ = self.listener.accept()
            except OSError:
                return
            with line, contextlib.suppress(OSError):
                line.settimeout(10)
                self.requests.append(read_request(line))
                self.scripts.pop(0)(line, self.requests[-1])


def read_request(line: socket.socket) -> bytes:
    """Header and the whole body."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += line.recv(65536) or b"\r\n\r\n"
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(field.partition(b":")[2]) for field in head.split(b"\r\n") if field.lower().startswith(b"content-length")),
        0,
    )
    while len(body) < length:
        body += line.recv(65536)
    return head + b"\r\n\r\n" + body


def says(data: bytes) -> Callable[[socket.socket, bytes], None]:
    """A script that sends these bytes and closes, and says so: else the next request may meet the closing line."""
    if data.startswith(b"HTTP/1.1 "):
        data = data.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
    return lambda line, _request: line.sendall(data)


def http_uplink(url: str, clock: FakeClock, *, coding: Coding = "gzip", credentials: Credentials | None = None,
                **limits: Any) -> HttpUplink:  # fmt: skip
    """An uplink with time-outs that suit a test."""
    options = ClientOptions(url=url, connect_s=2.0, read_s=limits.pop("read_s", 5.0), **limits)
    return HttpUplink(HttpClient(options, credentials), clock, coding)


class FakeUplink:
    """A platform in memory that does what `script` says first, then what is right; remembers what it took in."""

    def __init__(self, *script: BatchResult) -> None:
        self.script = list(script)
        self.taken: dict[Lane, list[bytes]] = {}
        self.gaps: list[tuple[Lane, int, int, str]] = []
        self.sent: list[Batch] = []
        self.greeted: list[Lane] = []

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        self.greeted.append(lane)
        return BatchResult(outcome="taken", acked_through=len(self.taken.setdefault(lane, [])))

    def send(self, batch: Batch) -> BatchResult:
        self.sent.append(batch)
        if self.script:
            return self.script.pop(0)
        log = self.taken.setdefault(batch.lane, [])
        if batch.first > len(log) + 1:
            return BatchResult(outcome="gap", expected_seq=len(log) + 1)
        log.extend(batch.events[len(log) + 1 - batch.first :])
        return BatchResult(outcome="taken", acked_through=batch.last)

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        self.gaps.append((lane, first, last, reason))
        log = self.taken.setdefault(lane, [])
        log.extend([b""] * max(0, last - len(log)))
        return BatchResult(outcome="taken")

    def close(self) -> None:
        pass


@contextlib.contextmanager
def opened(store: Store) -> Iterator[Store]:
    """A store that is open inside."""
    store.open()
    try:
        yield store
    finally:
        store.close()


def ids_of(events: list[bytes]) -> list[int]:
    """The numbers inside the data, in order."""
    return [msgspec.json.decode(event)["data"]["n"] for event in events]
