"""The checker: kills gateway and platform again and again over a lossy line, and compares what was promised with what
arrived.

It is a process of its own: `python -m tests.sync.checker --kills 500`. It forks a gateway (journal, commit loop, three
syncers, a source) and a platform (the reference one, behind a line that loses requests and answers), and kills them
with SIGKILL at random moments. Three pipes tell it, in order: which events the gateway has acknowledged to its source,
which positions it has settled, and what the platform has committed. From these it knows, without asking anybody:

- missing: acknowledged, but neither at the platform nor in quarantine with the platform's verdict;
- twice, out of order, altered: by a counter and a digest inside every event;
- settled early: the gateway's cursor stood where the platform had not committed;
- verdict: a poison event without its first verdict in quarantine, or a healthy one with any;
- conservation: `accepted = acked + pending + quarantined + expired + declared_lost` at each look.

`--seed-fault` breaks the gateway on purpose, to prove that the checker sees it. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import random
import select
import shutil
import signal
import socket
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from gateway.clock import Instant
from gateway.event import STREAMS, Origin, Stream, draft
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from sync.answer import Reply
from sync.http_client import ClientOptions, HttpClient
from sync.http_uplink import HttpUplink
from sync.ledger import JournalLedger
from sync.pacing import Precedence
from sync.platform.app import platform_app
from sync.platform.faults import FaultyLine
from sync.syncer import Syncer, SyncOptions
from sync.uplink import Batch, BatchResult, EpochReason, Lane

GATEWAY = "gw01"
SPEED = 40.0  # the gateway's time runs so much faster, so that waits of minutes take seconds
LOSS: dict[Any, float] = {"lose_request": 0.08, "lose_answer": 0.10, "status": 0.08, "garbage": 0.01}
POISON = 0.01
FAULTS = ("any-200", "drop-4xx", "verdict-lost", "epoch-kept", "ack-before-commit")


class FastClock:
    """Time that runs `SPEED` times as fast, also for whoever waits."""

    def now(self) -> Instant:
        return Instant(time.time(), int(time.monotonic() * 1e6 * SPEED), "ntp")

    def pause(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds / SPEED)


# -- the gateway's process


class _Told(msgspec.Struct):
    life: int
    n: int
    pad: str


class _Button(msgspec.Struct):
    button: dict[str, _Told]


class WatchedClient(HttpClient):
    """Remembers the last status."""

    status = 0

    def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None,
        *, wait_s: float = 0.0, again: bool = True,
    ) -> Reply:  # fmt: skip
        self.status = 0
        reply = super().call(method, path, body, headers, wait_s=wait_s, again=again)
        self.status = reply.status
        return reply


class BrokenUplink:
    """An uplink with one of the faults that the checker must see."""

    def __init__(
        self, fault: str, client: WatchedClient, inner: HttpUplink, ledger: JournalLedger, stream: Stream
    ) -> None:
        self.fault, self.client, self.inner, self.ledger, self.stream = fault, client, inner, ledger, stream

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        result = self.inner.greet(lane, reason, previous)
        if self.fault == "epoch-kept" and result.outcome == "taken":
            view = self.ledger.view(self.stream)
            most = view.head - view.epochs[-1].base
            return msgspec.structs.replace(result, acked_through=min(result.acked_through, most))
        return result

    def send(self, batch: Batch) -> BatchResult:
        result = self.inner.send(batch)
        taken = BatchResult(outcome="taken", acked_through=batch.last)
        status = self.client.status
        if self.fault == "any-200" and status == 200 and result.outcome == "retry":
            return taken
        if self.fault == "drop-4xx" and 400 <= status < 500:
            return taken
        if self.fault == "verdict-lost" and result.duplicates:
            return msgspec.structs.replace(result, rejected=())
        if self.fault == "epoch-kept" and result.outcome == "conflict":
            return taken
        return result

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        return self.inner.declare_gap(lane, first, last, reason)

    def close(self) -> None:
        self.inner.close()


class ToldLedger(JournalLedger):
    """Says what it has settled, after it is durable."""

    def __init__(self, say: Callable[[str], None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._say = say

    def acknowledge(self, stream: Stream, through: int, rejected: Mapping[int, str]) -> int:
        settled = super().acknowledge(stream, through, rejected)
        epochs = self.view(stream).epochs
        mine = [epoch for epoch in epochs if epoch.base < settled][-1]
        self._say(f"S {stream} {mine.epoch} {settled - mine.base}\n")
        return settled


def gateway(home: Path, port: int, pipe: int, life: int, fault: str, produce: bool) -> None:
    """A gateway's life, until it is killed."""
    clock = FastClock()

    def say(line: str) -> None:
        os.write(pipe, line.encode())

    writer = JournalWriter(home / "journal.db", GATEWAY, clock, ballast_bytes=0)
    writer.open()
    inlet = Inlet()
    loop = CommitLoop(writer, inlet, window_s=0.005)
    precedence = Precedence(STREAMS)
    stop = threading.Event()

    class Quiet:
        def raised(self, what: str, hint: str, *, critical: bool = False) -> None: ...

        def cleared(self, what: str) -> None: ...

    def run(worker: Any) -> None:
        worker.open()
        while not stop.is_set():
            worker.step(stop)

    workers: list[Any] = [loop]
    for stream in STREAMS:
        ledger = ToldLedger(say, home / "journal.db", loop, GATEWAY, clock)
        client = WatchedClient(ClientOptions(url=f"http://127.0.0.1:{port}", connect_s=0.5, read_s=2.0, total_s=4.0))
        plain = HttpUplink(client, clock)
        uplink = BrokenUplink(fault, client, plain, ledger, stream) if fault else plain
        workers.append(
            Syncer(
                stream, ledger, uplink, clock, random.Random(), gateway=GATEWAY, alarms=Quiet(), precedence=precedence,
                options=SyncOptions(boot_delay_s=0.0, max_events=40), open_ledger=ledger.open,
                close_ledger=ledger.close, pause=clock.pause,
            )
        )  # fmt: skip
    for worker in workers:
        threading.Thread(target=run, args=(worker,), daemon=True).start()
    origin = Origin("t1", "0042", GATEWAY)
    counts: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
    dice = random.Random(life)
    while True:
        if not produce:
            time.sleep(1.0)
            continue
        stream = dice.choice(STREAMS)
        drafts, lines = [], []
        for _ in range(dice.randint(1, 12)):
            n = counts[stream] = counts[stream] + 1
            told = _Told(life, n, "x" * dice.randint(0, 200))
            poison = dice.random() < POISON
            data: Any = _Button({"a": told}) if poison else told
            kind = "store.button.pressed.v1" if poison else "store.test.made.v1"
            drafts.append(draft(stream, kind, data, source=origin.source("t"), at=clock.now()))
            digest = hashlib.sha256(msgspec.json.encode(data)).hexdigest()[:16]
            lines.append(f"A {stream} {life} {n} {int(poison)} {digest}\n")
        text = "".join(lines)
        if fault == "ack-before-commit":
            say(text)
            inlet.offer("t", Item(drafts), timeout_s=1.0)
        else:
            inlet.offer("t", Item(drafts, lambda text=text: say(text)), timeout_s=1.0)  # type: ignore[misc]
        time.sleep(dice.random() * 0.02)


# -- the platform's process


class Witness:
    """Tells what the platform has committed, before anybody is answered."""

    def __init__(self, app: Any, say: Callable[[str], None]) -> None:
        self.app, self.say = app, say

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0

        async def look(message: Any) -> None:
            nonlocal status
            status = message.get("status", status)
            if message["type"] == "http.response.body" and status == 200:
                path = scope["path"]
                body = json.loads(message["body"])
                if path.endswith("/events"):
                    self.say(f"C {body['stream']} {body['epoch']} {body['acked_through']}\n")
                elif path.endswith("/gaps"):
                    parts = path.split("/")
                    self.say(f"C {parts[5]} {parts[7]} {body['last']}\n")
            await send(message)

        await self.app(scope, receive, look)


def platform(home: Path, listener: socket.socket, pipe: int, seed: int, loss: Mapping[Any, float]) -> None:
    """A platform's life, until it is killed."""
    app = Witness(platform_app(home / "platform.db"), lambda line: os.write(pipe, line.encode()))  # type: ignore[arg-type,return-value]
    line = FaultyLine(app, loss=loss, rng=random.Random(seed))
    uvicorn.Server(uvicorn.Config(line, log_level="critical", access_log=False, lifespan="on")).run(sockets=[listener])


# -- the checker


class Checker:
    """Parent of both; single-threaded, so that it may fork."""

    def __init__(self, home: Path, seed: int, fault: str) -> None:
        self.home, self.fault = home, fault
        self.dice = random.Random(seed)
        self.listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(64)
        self.port = self.listener.getsockname()[1]
        self.said: dict[str, tuple[int, int]] = {side: os.pipe() for side in ("gateway", "platform")}
        for reading, _ in self.said.values():
            os.set_blocking(reading, False)
        self.rest: dict[str, bytes] = {"gateway": b"", "platform": b""}
        self.children: dict[str, int] = {}
        self.lives = 0
        self.acknowledged: dict[tuple[str, int, int], tuple[bool, str]] = {}
        self.committed: dict[tuple[str, str], int] = defaultdict(int)
        self.wrong: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.looks = 0
        self.kills: Counter[str] = Counter()

    # processes

    def start(self, side: str, *, produce: bool = True, lossy: bool = True) -> None:
        self.lives += 1
        life, seed = self.lives, self.dice.getrandbits(32)
        child = os.fork()
        if child:
            self.children[side] = child
            return
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if side == "gateway":
                self.listener.close()
                gateway(self.home, self.port, self.said[side][1], life, self.fault, produce)
            else:
                platform(self.home, self.listener, self.said[side][1], seed, LOSS if lossy else {})
            code = 0
        finally:
            sys.stderr.flush()
            os._exit(code)

    def kill(self, side: str) -> None:
        child = self.children.pop(side)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            self.blame("died-by-itself", f"{side} ended with {status}")
        self.kills[side] += 1
        self.hear()

    # what was said

    def pass_time(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0:
            select.select([reading for reading, _ in self.said.values()], [], [], left_s)
            self.hear()
            time.sleep(min(0.01, max(0.0, left_s)))

    def hear(self) -> None:
        # The gateway first: what it has settled must then be in what the platform says.
        lines = self.lines("gateway")
        for line in self.lines("platform"):
            _, stream, epoch, seq = line.split()
            self.committed[stream, epoch] = max(self.committed[stream, epoch], int(seq))
        for line in lines:
            parts = line.split()
            if parts[0] == "A":
                self.acknowledged[parts[1], int(parts[2]), int(parts[3])] = (parts[4] == "1", parts[5])
            elif int(parts[3]) > self.committed[parts[1], parts[2]]:
                self.blame("settled-early", line)

    def lines(self, side: str) -> list[str]:
        reading = self.said[side][0]
        while True:
            try:
                data = os.read(reading, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            self.rest[side] += data
        whole, _, self.rest[side] = self.rest[side].rpartition(b"\n")
        return whole.decode().splitlines()

    def blame(self, what: str, example: str) -> None:
        self.wrong[what] += 1
        self.examples.setdefault(what, example)

    # looking

    def look(self) -> None:
        """Conservation, as anybody may see it at any moment."""
        path = self.home / "journal.db"
        if not self.acknowledged:
            return  # it may have been killed while it made its tables
        self.looks += 1
        with JournalReader(path) as reader:
            for state in reader.states():
                total = state.acked + state.pending + state.quarantined + state.expired + state.declared_lost
                parts = (state.acked, state.pending, state.quarantined, state.expired, state.declared_lost)
                if total != state.accepted or min(parts) < 0:
                    self.blame("conservation", str(state))

    def pending(self) -> int:
        with JournalReader(self.home / "journal.db") as reader:
            return sum(state.pending for state in reader.states())

    def drain(self, timeout_s: float = 60.0) -> None:
        """Both alive, the line healthy, nothing new: everything must arrive."""
        for side in tuple(self.children):
            self.kill(side)
            self.kills[side] -= 1
        self.start("platform", lossy=False)
        self.start("gateway", produce=False)
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.pass_time(0.2)
            if self.pending() == 0:
                break
        else:
            self.blame("not-drained", f"{self.pending()} events")
        self.pass_time(0.3)
        for side in tuple(self.children):
            self.kill(side)
            self.kills[side] -= 1

    def restore(self, kills: int) -> None:
        """The journal's disk is put back to an earlier state, and nobody says so."""
        copy = self.home / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("journal.db", "journal.db-wal", "journal.db.identity.json"):
            if (self.home / name).exists():
                shutil.copy(self.home / name, copy / name)
        self.torture(kills)
        self.drain()
        for name in ("journal.db", "journal.db-wal", "journal.db-shm", "journal.db.identity.json"):
            (self.home / name).unlink(missing_ok=True)
        for file in copy.iterdir():
            shutil.copy(file, self.home / file.name)

    def torture(self, kills: int) -> None:
        for side in ("platform", "gateway"):
            if side not in self.children:
                self.start(side)
        deadline_s = time.monotonic() + 20
        while not self.acknowledged and time.monotonic() < deadline_s:
            self.pass_time(0.05)  # the journal's tables are there before the first kill
        for _ in range(kills):
            self.pass_time(self.dice.uniform(0.02, 0.3))
            side = self.dice.choice(("gateway", "platform"))
            self.kill(side)
            self.look()
            self.start(side)
        for side in tuple(self.children):
            self.kill(side)
            self.kills[side] -= 1

    # the verdict

    def compare(self) -> None:
        """What was promised against what is there."""
        arrived: dict[tuple[str, int, int], str] = {}
        database = sqlite3.connect(self.home / "platform.db")
        lanes = database.execute("SELECT id, stream, epoch FROM lane ORDER BY id").fetchall()
        last: dict[str, tuple[int, int]] = {}
        verdicts: dict[str, str] = {}
        for lane, stream, epoch in lanes:
            refused = database.execute(
                "SELECT seq, body, id, code FROM verdict WHERE lane = ? ORDER BY seq", (lane,)
            ).fetchall()
            rows = [
                (seq, body, None)
                for seq, body in database.execute("SELECT seq, body FROM event WHERE lane = ?", (lane,))
            ]
            rows += [(seq, body, f"{code} v-{number}") for seq, body, number, code in refused]
            for seq, body, verdict in sorted(rows):
                data = json.loads(body)["data"]
                told = data.get("button", {}).get("a", data)
                key = (stream, told["life"], told["n"])
                if key in arrived:
                    self.blame("twice", f"{key} in {epoch} {seq}")
                arrived[key] = hashlib.sha256(msgspec.json.encode(data)).hexdigest()[:16]
                if last.get(stream, (0, 0)) >= key[1:]:
                    self.blame("out-of-order", f"{key} after {last[stream]}")
                last[stream] = key[1:]
                if verdict is not None:
                    verdicts[f"{stream}/{epoch}/{seq}"] = verdict
        with JournalReader(self.home / "journal.db") as reader:
            held = {row["topic"]: row["reason"] for row in reader.query("SELECT topic, reason FROM quarantine")}
            twice = reader.query("SELECT topic FROM quarantine GROUP BY topic HAVING count(*) > 1")
        if twice:
            self.blame("verdict", f"held twice: {twice[0]['topic']}")
        self.judge(verdicts, held)
        for key, (_, digest) in self.acknowledged.items():
            if key not in arrived:
                self.blame("missing", str(key))
            elif arrived[key] != digest:
                self.blame("altered", str(key))
        self.arrived = len(arrived)
        self.poison = len(verdicts)
        database.close()

    def judge(self, verdicts: Mapping[str, str], held: Mapping[str, str]) -> None:
        for topic, verdict in verdicts.items():
            if topic.split("/")[1] in self.before_restore:
                continue  # what was quarantined after the copy was taken went with the disk
            code, number = verdict.split()
            reason = held.get(topic, "")
            if not (reason.startswith(code) and reason.endswith(f"[{number}]")):
                self.blame("verdict", f"{topic}: {verdict} but quarantine says {reason!r}")
        for topic in held:
            if topic not in verdicts:
                self.blame("verdict", f"{topic} is in quarantine without a verdict")

    before_restore: frozenset[str] = frozenset()

    def run(self, kills: int, restore: bool) -> dict[str, Any]:
        """Everything; returns the report."""
        started_s = time.monotonic()
        if restore:
            self.torture(kills // 3)
            self.restore(kills // 3)
            with JournalReader(self.home / "journal.db") as reader:
                self.before_restore = frozenset(reader.epochs(stream)[-1].epoch for stream in STREAMS)
            self.torture(kills - 2 * (kills // 3))
        else:
            self.torture(kills)
        self.drain()
        self.look()
        self.compare()
        return {
            "seed_fault": self.fault or None,
            "kills": dict(self.kills),
            "acknowledged": len(self.acknowledged),
            "arrived": self.arrived,
            "poison": self.poison,
            "looks": self.looks,
            "seconds": round(time.monotonic() - started_s, 1),
            "wrong": dict(self.wrong),
            "examples": self.examples,
        }


def main() -> int:
    """Command line; exit code 1 when anything is wrong."""
    arguments = argparse.ArgumentParser(description="Kill, lose, compare.")
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--seed-fault", choices=FAULTS, default="")
    arguments.add_argument(
        "--restore", action="store_true", help="put the journal's disk back to an earlier state once"
    )
    arguments.add_argument("--portal", type=float, default=LOSS["garbage"], help="share of a captive portal's answers")
    chosen = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    LOSS["garbage"] = chosen.portal
    with tempfile.TemporaryDirectory() as home:
        checker = Checker(Path(home), chosen.seed, chosen.seed_fault)
        try:
            report = checker.run(chosen.kills, chosen.restore)
        finally:
            for child in checker.children.values():
                os.kill(child, signal.SIGKILL)
    print(json.dumps(report))
    return 1 if report["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
