"""Storefront Gateway beside ThingsBoard IoT Gateway: the same broker, the same messages, in turns in one run.

- `throughput`: both are up and have seen every device; they are stopped (SIGSTOP) while the broker fills their sessions
  and go on together with the clock. Each twice over: until all are in its storage (the peer's server does not answer
  meanwhile, ours has no platform: nothing else to do), and until all have arrived at its server or platform.
  CPU is that of the gateway's whole process tree, without the server's. `start` comes from the same runs: from the
  process to the first durable event.
- `footprint`: resident memory with 20 devices and CPU while nothing happens, both at once.
- `store`: the peer's storage class alone against our journal, with the same bytes: append until committed (ours with
  synchronous=FULL, the peer as it is: NORMAL), and read-and-confirm, in turns, with a small and a large backlog.
- `kills`: SIGKILL under an even load; what a broker was told is safe, and is found nowhere afterwards.

    python -m bench.thingsboard [--only throughput|footprint|store|kills] [--messages 20000] [--rounds 3] [--kills 20]
        [--rows 1000000] [--quick]

The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench.contenders import SCRATCH, Contender, OurGateway, Pacer, cpu_s, open_session, owed, rss_bytes, wait
from bench.figures import Figure, print_figures
from bench.journal import shop
from bench.mqtt_link import PUBLISHERS, mosquitto, publisher, publishers
from bench.sync import served_platform
from bench.thingsboard_peer import STORE_DRIVER, NotInstallable, StandIn, ThingsBoard, install, venv_python
from gateway.clock import SystemClock
from gateway.event import Draft
from gateway.journal.cursor import UPLINK, acknowledge, position_of
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter

SIZE_BYTES = 250
DEVICES = 20
PACK = 1000  # rows the peer reads and confirms at a time, by its defaults
BATCH = 256  # events our writer takes into one commit, by its defaults
SLICE = 20_000  # rows appended and drained at each look
KILL_PER_S = 500.0
WITHIN_S = 120.0

Spent = tuple[float, float]  # seconds by the clock, seconds of CPU


def throughput(root: Path, count: int, rounds: int) -> dict[str, float]:
    """Medians: messages a second, CPU microseconds a message and seconds to the first durable event."""
    seen: dict[str, list[float]] = {}
    with mosquitto(root) as port, StandIn(root / "server") as server, ExitStack() as stack:
        for number in range(rounds):
            for answers in (False, True):
                peer = ThingsBoard(root / f"peer-{number}-{answers}", port, server.port)
                stack.callback(peer.kill)  # whatever happens
                silence = (lambda: None) if answers else server.fall_silent
                rate, cpu, start, begin = _storing(peer, port, count, silence)
                kind = "peer with server" if answers else "peer"
                _note(seen, kind, per_s=rate, cpu_us=cpu, start_s=start)
                server.go_on()
                go_on_s = time.monotonic()
                end_s = wait(peer, lambda peer=peer: not peer.waiting(), WITHIN_S)  # type: ignore[misc]
                if answers:
                    spent_s = cpu_s(peer.process) - begin[1]
                    _note(seen, "peer to server", per_s=count / (end_s - begin[0]), cpu_us=spent_s / count * 1e6)
                else:
                    _note(seen, "peer drain", per_s=count / (end_s - go_on_s))
                peer.stop()
                url = stack.enter_context(served_platform(root / f"platform-{number}.db")) if answers else ""
                ours = OurGateway(root / f"ours-{number}-{answers}", port, PUBLISHERS, url)
                rate, cpu, start, begin = _storing(ours, port, count, lambda: None)
                if not answers:
                    _note(seen, "ours", per_s=rate, cpu_us=cpu, start_s=start)
                else:
                    end_s = wait(ours, lambda ours=ours: not ours.waiting(), WITHIN_S)  # type: ignore[misc]
                    spent_s = cpu_s(ours.process) - begin[1]
                    _note(seen, "ours to platform", per_s=count / (end_s - begin[0]), cpu_us=spent_s / count * 1e6)
                ours.stop()
    return {name: statistics.median(values) for name, values in seen.items()}


def _note(seen: dict[str, list[float]], kind: str, **values: float) -> None:
    for name, value in values.items():
        seen.setdefault(f"{kind} {name}", []).append(value)


def _storing(
    contender: Contender, port: int, count: int, silence: Callable[[], None]
) -> tuple[float, float, float, tuple[float, float]]:
    """Messages a second, CPU µs a message, start to first durable in s; (clock, CPU) when the messages were let go."""
    open_session(port, contender)
    _greet(port, PUBLISHERS)
    started_s = time.monotonic()
    contender.start()
    try:
        start_s = wait(contender, lambda: contender.stored() > 0, 30) - started_s
        wait(contender, lambda: contender.stored() >= PUBLISHERS, 30)
        time.sleep(1.5)  # start-up work must not be in the figures
        base = contender.stored()
        contender.signal(signal.SIGSTOP)
        with publishers(port, count, SIZE_BYTES):
            pass
        silence()
        begin = (time.monotonic(), cpu_s(contender.process))
        contender.signal(signal.SIGCONT)
        end_s = wait(contender, lambda: contender.stored() >= base + count, WITHIN_S)
        spent_s = cpu_s(contender.process) - begin[1]
    except BaseException:
        contender.kill()
        raise
    return count / (end_s - begin[0]), spent_s / count * 1e6, start_s, begin


def _greet(port: int, devices: int, each: int = 1) -> None:
    for number in range(devices):
        publisher(port, f"greet{number}", f"bench/{number}", each, SIZE_BYTES)


def footprint(root: Path, idle_s: float) -> dict[str, float]:
    """Resident megabytes with 20 devices, and the share of a core while nothing happens, both gateways at once."""
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        port = stack.enter_context(mosquitto(root))
        server = stack.enter_context(StandIn(root / "server"))
        pair: dict[str, Contender] = {
            "peer": ThingsBoard(root / "peer", port, server.port), "ours": OurGateway(root / "ours", port, DEVICES)
        }  # fmt: skip
        for contender in pair.values():
            open_session(port, contender)
            stack.callback(contender.stop)
            contender.start()
        _greet(port, DEVICES, 50)
        for contender in pair.values():
            wait(contender, lambda contender=contender: contender.stored() >= DEVICES * 50, 60)  # type: ignore[misc]
        time.sleep(5)
        before = {name: cpu_s(contender.process) for name, contender in pair.items()}
        begin_s = time.monotonic()
        time.sleep(idle_s)
        passed_s = time.monotonic() - begin_s
        for name, contender in pair.items():
            figures[f"{name} idle_share"] = (cpu_s(contender.process) - before[name]) / passed_s
            figures[f"{name} rss_mb"] = rss_bytes(contender.process) / 1e6
    return figures


@contextmanager
def _peer_store(folder: Path, messages: Path) -> Iterator[Callable[[str], Spent]]:
    """The peer's storage class in its own process: a command in, what it took out."""
    folder.mkdir(parents=True)
    command = [str(venv_python()), str(STORE_DRIVER), str(folder), str(messages)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", "the peer's storage did not open"

        def ask(line: str) -> Spent:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(line + "\n")
            process.stdin.flush()
            wall_s, spent_s = process.stdout.readline().split()
            return float(wall_s), float(spent_s)

        try:
            yield ask
        finally:
            process.stdin.close()
            process.wait(30)


class _OurStore:
    """Our journal, asked the same."""

    def __init__(self, path: Path, events: list[Draft]) -> None:
        self._path, self._events = path, itertools.cycle(events)
        self._writer = JournalWriter(path, "gw01", SystemClock(), max_bytes=16 << 30, ballast_bytes=0)

    def open(self) -> None:
        self._writer.open()

    def close(self) -> None:
        self._writer.close()

    def append(self, count: int, batch: int = BATCH) -> Spent:
        """`count` events, `batch` to a commit."""
        events = list(itertools.islice(self._events, count))
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        for at in range(0, count, batch):
            self._writer.append(events[at : at + batch])
        return time.perf_counter() - started_s, time.process_time() - started_cpu_s

    def drain(self, count: int) -> Spent:
        """Read `count` events in packs and confirm each pack."""
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        with JournalReader(self._path) as reader:
            after = self._writer.transact(lambda connection: position_of(connection, UPLINK, "observations"))
            goal = after + count
            while after < goal:
                after = reader.read("observations", after, min(PACK, goal - after))[-1].position
                self._writer.transact(lambda connection, through=after: self._confirm(connection, through))  # type: ignore[misc]
        return time.perf_counter() - started_s, time.process_time() - started_cpu_s

    @staticmethod
    def _confirm(connection: sqlite3.Connection, through: int) -> None:
        acknowledge(connection, "observations", through, {}, now_ms=0)


def store(root: Path, sizes: list[int], rounds: int) -> dict[str, float]:
    """Rows a second, appended and drained, at each size of the backlog; and the peer's appends were they durable."""
    events = [Draft("observations", event.type, event.body) for event in shop(SLICE)]
    messages = root / "messages"
    messages.write_bytes(b"\n".join(event.body for event in events) + b"\n")
    seen: dict[str, list[float]] = {}
    with ExitStack() as stack:
        pairs: dict[int, tuple[Callable[[str], Spent], _OurStore]] = {}
        for size in sizes:
            ask = stack.enter_context(_peer_store(root / f"peer-{size}", messages))
            ours = _OurStore(root / f"ours-{size}" / "journal.db", events)
            stack.callback(ours.close)
            ours.open()
            ask(f"fill {size}")
            ours.append(size, 4096)
            pairs[size] = ask, ours
        for _ in range(rounds):
            for size, (ask, ours) in pairs.items():
                _note_spent(seen, f"peer append {size}", ask(f"append {SLICE}"))
                _note_spent(seen, f"ours append {size}", ours.append(SLICE))
                _note_spent(seen, f"peer drain {size}", ask(f"drain {SLICE}"))
                _note_spent(seen, f"ours drain {size}", ours.drain(SLICE))
                ask("synchronous FULL")
                _note_spent(seen, f"peer durable {size}", ask(f"append {SLICE}"))
                ask(f"drain {SLICE}")
                ask("synchronous NORMAL")
    return {name: statistics.median(values) for name, values in seen.items()}


def _note_spent(seen: dict[str, list[float]], kind: str, spent: Spent) -> None:
    seen.setdefault(kind, []).append(SLICE / spent[0])
    seen.setdefault(f"cpu_us {kind}", []).append(spent[1] / SLICE * 1e6)


def kills(root: Path, count: int) -> dict[str, float]:
    """Kill each so many times under load; sums of what was acknowledged by it, and of what of that is nowhere."""
    chance = random.Random(20_261_122)
    sums = {f"{name} {what}": 0 for name in ("peer", "ours") for what in ("acknowledged", "lost", "kills_with_loss")}
    with mosquitto(root) as port, StandIn(root / "server") as server:
        for number in range(count):
            peer = ThingsBoard(root / f"peer-{number}", port, server.port, apart=True)
            for name, contender in (("peer", peer), ("ours", OurGateway(root / f"ours-{number}", port, PUBLISHERS))):
                server.forget()
                acknowledged, lost = _one_kill(contender, port, chance.uniform(0.5, 1.5), server)
                sums[f"{name} acknowledged"] += acknowledged
                sums[f"{name} lost"] += lost
                sums[f"{name} kills_with_loss"] += bool(lost)
    return {name: float(value) for name, value in sums.items()}


def _one_kill(contender: Contender, port: int, after_s: float, server: StandIn) -> tuple[int, int]:
    """(messages the gateway acknowledged to the broker, those of them that are in no storage and not at the server)."""
    open_session(port, contender)
    contender.start()
    try:
        with Pacer(port, KILL_PER_S, PUBLISHERS) as pacer:
            wait(contender, lambda: contender.stored() > 0, 30)
            time.sleep(after_s)
            contender.kill()
        taken_over = pacer.acknowledged() - owed(port, contender)
        return len(taken_over), len(taken_over - contender.kept() - server.received())
    finally:
        contender.kill()


def main() -> int:
    """Run what was asked for and print it; 1 when a figure was missed, 0 when the peer cannot be had."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("throughput", "footprint", "store", "kills"))
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1_000_000, help="largest backlog")
    parser.add_argument("--idle-s", type=float, default=20.0)
    parser.add_argument("--quick", action="store_true", help="one round, few messages and kills, small backlogs")
    asked = parser.parse_args()
    if asked.quick:
        asked.messages, asked.rounds, asked.kills, asked.rows, asked.idle_s = 8_000, 1, 2, 100_000, 8.0
    count = asked.messages // PUBLISHERS * PUBLISHERS
    try:
        version = install()
    except NotInstallable as reason:
        print(f"skipped: thingsboard-gateway cannot be installed here: {reason}")
        print(json.dumps({"skipped": str(reason), "figures": []}))
        return 0
    parts: dict[str, Callable[[Path], dict[str, float]]] = {
        "throughput": lambda root: throughput(root, count, asked.rounds),
        "footprint": lambda root: footprint(root, asked.idle_s),
        "store": lambda root: store(root, [10_000, asked.rows], asked.rounds + 2),
        "kills": lambda root: kills(root, asked.kills),
    }
    print(
        f"thingsboard-gateway {version}, {count} messages of {SIZE_BYTES} bytes, medians of {asked.rounds}", flush=True
    )
    results: dict[str, dict[str, float]] = {}
    figures: list[Figure] = []
    cut = False
    for part, work in parts.items():
        if asked.only in (None, part) and not cut:
            root = Path(tempfile.mkdtemp(dir=SCRATCH))
            try:
                results[part] = work(root)
            except KeyboardInterrupt:  # what was measured until now still counts
                cut = True
                continue
            finally:
                shutil.rmtree(root, ignore_errors=True)
            figures += (fresh := FIGURES[part](results[part]))
            print_figures(fresh)
            print(flush=True)
    print(json.dumps({"peer": f"thingsboard-gateway {version}", **results, "figures": [f.as_json() for f in figures]}))
    return 130 if cut else int(any(figure.met is False for figure in figures))


def _throughput_figures(of: dict[str, float]) -> list[Figure]:
    rate, cpu = of["ours per_s"] / of["peer per_s"], of["peer cpu_us"] / of["ours cpu_us"]
    whole_rate = of["ours per_s"] / of["peer to server per_s"]
    whole_cpu = of["peer to server cpu_us"] / of["ours cpu_us"]
    synced_cpu = of["peer to server cpu_us"] / of["ours to platform cpu_us"]
    ours_s, ours_cpu = f"{of['ours per_s']:,.0f}/s", f"{of['ours cpu_us']:.0f} µs"
    return [
        Figure("MQTT to storage, messages a second", "≥ 10× peer", f"{of['peer per_s']:,.0f}/s",
               f"{ours_s} = {rate:.1f}×", rate >= 10),
        Figure("  CPU a message", "≤ 1/10 of peer", f"{of['peer cpu_us']:.0f} µs", f"{ours_cpu} = 1/{cpu:.1f}",
               cpu >= 10),
        Figure("  the peer with its server, until all has arrived there", "≥ 10× peer",
               f"{of['peer to server per_s']:,.0f}/s", f"{ours_s} = {whole_rate:.1f}×", whole_rate >= 10),
        Figure("    CPU a message", "≤ 1/10 of peer", f"{of['peer to server cpu_us']:.0f} µs",
               f"{ours_cpu} = 1/{whole_cpu:.1f}", whole_cpu >= 10),
        Figure("  both until all has arrived at server or platform", "",
               f"{of['peer to server per_s']:,.0f}/s", f"{of['ours to platform per_s']:,.0f}/s", None),
        Figure("    CPU a message, received, stored and synced", "", f"{of['peer to server cpu_us']:.0f} µs",
               f"{of['ours to platform cpu_us']:.0f} µs = 1/{synced_cpu:.1f}", None),
        Figure("  the peer's backlog drained to its server", "", f"{of['peer drain per_s']:,.0f}/s", "—", None),
        Figure("Start to first durable event", "≤ 1.0 s", f"{of['peer start_s']:.2f} s", f"{of['ours start_s']:.2f} s",
               of["ours start_s"] <= 1.0),
    ]  # fmt: skip


def _footprint_figures(of: dict[str, float]) -> list[Figure]:
    return [
        Figure(f"Memory with {DEVICES} devices", "≤ 90 MB", f"{of['peer rss_mb']:.0f} MB",
               f"{of['ours rss_mb']:.0f} MB", of["ours rss_mb"] <= 90),
        Figure("Idle, share of a core", "≤ 0.5 %", f"{of['peer idle_share']:.2%}", f"{of['ours idle_share']:.2%}",
               of["ours idle_share"] <= 0.005),
    ]  # fmt: skip


def _store_figures(of: dict[str, float]) -> list[Figure]:
    sizes = sorted({int(name.split()[-1]) for name in of})
    figures = []

    def said(what: str, size: int) -> str:
        return f"{of[f'{what} {size}']:,.0f}/s ({of[f'cpu_us {what} {size}']:.0f} µs CPU)"

    for size in sizes:
        ours = of[f"ours append {size}"]
        share, durable = ours / of[f"peer append {size}"], ours / of[f"peer durable {size}"]
        figures += [
            Figure(f"Append with {size:,} rows of backlog", "≥ 3× peer's store", said("peer append", size),
                   f"{said('ours append', size)} = {share:.1f}×", share >= 3),
            Figure("  were the peer set to synchronous=FULL", "", said("peer durable", size), f"{durable:.1f}×", None),
        ]  # fmt: skip
    base = sizes[0]
    for size in sizes:
        changes = [of[f"{who} drain {size}"] / of[f"{who} drain {base}"] - 1 for who in ("peer", "ours")]
        figures.append(
            Figure(f"Drain with {size:,} rows of backlog", "within 15 %" if size > base else "",
                   f"{said('peer drain', size)} {changes[0]:+.0%}", f"{said('ours drain', size)} {changes[1]:+.0%}",
                   changes[1] >= -0.15 if size > base else None)
        )  # fmt: skip
    return figures


def _kill_figures(of: dict[str, float]) -> list[Figure]:
    said = {
        who: f"{of[f'{who} lost']:.0f} of {of[f'{who} acknowledged']:.0f} ({of[f'{who} kills_with_loss']:.0f} kills)"
        for who in ("peer", "ours")
    }
    return [Figure("Acknowledged and lost by kill -9", "0", said["peer"], said["ours"], of["ours lost"] == 0)]


FIGURES: dict[str, Callable[[dict[str, float]], list[Figure]]] = {
    "throughput": _throughput_figures,
    "footprint": _footprint_figures,
    "store": _store_figures,
    "kills": _kill_figures,
}


if __name__ == "__main__":
    raise SystemExit(main())
