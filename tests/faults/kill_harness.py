"""No acknowledged event lost, none twice: kill the gateway again and again under load, then count.

A broker that stays, a publisher that writes down every PUBACK, and a gateway that is killed with SIGKILL at random
moments: while it starts, while it works, while it stops. With `--power-cut` a kill also takes what was not synced. At
the end it is left in peace until all is delivered, and the journal is compared with the publisher's ledger.

    python -m tests.faults.kill_harness --kills 100 [--broker mosquitto|embedded] [--power-cut] [--cheat NAME]
        [--seed N] [--per-s 400]

Prints a JSON report; ends with 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from bench.mqtt_link import embedded_lazy, mosquitto
from devices.transports.broker import ACK_WAIT_S
from gateway.errors import JournalError
from gateway.event import STREAMS
from gateway.journal.reader import JournalReader
from tests.faults.cheats import CHEATS
from tests.faults.evidence import Findings, Looks, examine
from tests.faults.lives import Lives
from tests.faults.powercut import ForgetfulDisk
from tests.faults.traffic import DEVICES, Ledger, probe
from tests.patience import PATIENCE_S

BrokerKind = Literal["mosquitto", "embedded"]

_CONFIG = """\
[gateway]
store = "0042"
name = "gw01"
[storage]
directory = "{directory}"
ballast_mib = 0
[broker]
{broker}
[page]
enabled = false
"""
_LONGEST_S = 0.25  # how long a life may work before it is killed
_QUIET_S = {"mosquitto": 2.5, "embedded": ACK_WAIT_S + 3.0}  # nothing new comes; the latter waits before it repeats


class Report(msgspec.Struct):
    """What a run did and found."""

    broker: str
    cheat: str
    power_cut: bool
    seed: int
    kills: int = 0
    kills_at_start: int = 0
    kills_at_stop: int = 0
    kills_at_points: int = 0  # just before or after a commit, or at a sync
    messages: int = 0  # acknowledged to the publisher
    looks: int = 0
    sectors_lost: int = 0
    elapsed_s: float = 0.0
    kills_a_minute: float = 0.0
    slowest_first_commit_s: float = 0.0
    median_first_commit_s: float = 0.0
    findings: Findings = msgspec.field(default_factory=Findings)

    @property
    def clean(self) -> bool:
        """Nothing is wrong."""
        return self.findings.clean


class Harness:
    """One run."""

    def __init__(
        self, folder: Path, broker: BrokerKind, *, cheat: str = "", power_cut: bool = False, seed: int = 1,
        per_s: float = 400.0,
    ) -> None:  # fmt: skip
        """`folder`: scratch; `per_s`: messages a second."""
        self.report = Report(broker, cheat, power_cut, seed)
        self._folder = folder
        self._chance = random.Random(seed)
        self._per_s = per_s
        self._state = folder / "state"
        self.journal = self._state / "journal.db"
        self._disk = ForgetfulDisk(self._state, folder / "disk", self._chance) if power_cut else None
        self._looks = Looks(self.journal)
        self._first_s: list[float] = []

    def run(self, kills: int) -> Report:
        """Kill so many times, let it come to rest, compare."""
        report, started_s = self.report, time.monotonic()
        make = mosquitto if report.broker == "mosquitto" else embedded_lazy
        broker_folder = self._folder / "broker"
        broker_folder.mkdir(parents=True)
        environment = self._disk.open() if self._disk is not None else {}
        with make(broker_folder) as port:
            external = report.broker == "mosquitto"
            config = self._folder / "gateway.toml"
            how = f'mode = "external"\nurl = "mqtt://127.0.0.1:{port}"' if external else f"port = {port}"
            config.write_text(_CONFIG.format(directory=self._state, broker=how) + DEVICES)
            lives = Lives(config, 0 if external else port, self._folder / "gateway.log", environment)
            with lives:
                self._subscribe(lives, port)
                with self._publisher(port) as ledger_path:
                    killing_s = time.monotonic()
                    for _ in range(kills):
                        self._one_life(lives)
                    report.kills_a_minute = round(kills / (time.monotonic() - killing_s) * 60, 1)
                ledger = msgspec.json.decode(ledger_path.read_bytes(), type=Ledger)
                self._rest(lives)
        self._read_log()
        self._looks.look(report.findings, whole=True)
        examine(self.journal, ledger, report.findings, in_order=report.broker == "mosquitto")
        report.messages, report.looks = ledger.count(), self._looks.looks
        if self._disk is not None:
            report.sectors_lost = self._disk.sectors_lost
        firsts = sorted(self._first_s) or [0.0]
        report.slowest_first_commit_s = round(firsts[-1], 3)
        report.median_first_commit_s = round(firsts[len(firsts) // 2], 3)
        report.elapsed_s = round(time.monotonic() - started_s, 1)
        return report

    def _subscribe(self, lives: Lives, port: int) -> None:
        """An honest first life until both sessions stand, so that the broker keeps everything from here on."""
        lives.start()
        until_s = time.monotonic() + PATIENCE_S
        for number in range(4_000):
            probe(port, number)
            if self._probed():
                break
            if time.monotonic() > until_s:
                raise TimeoutError("the gateway does not take anything in")
            time.sleep(0.05)
        lives.signal(signal.SIGTERM)
        lives.reap()

    def _probed(self) -> bool:
        found: set[str] = set()
        with contextlib.suppress(JournalError), JournalReader(self.journal) as reader:
            for stream in STREAMS:
                text = b"".join(event.json for event in reader.read(stream, 0))
                found |= {word for word in ("basket_id", '"sensor":"probe"') if word.encode() in text}
        return len(found) == 2

    @contextlib.contextmanager
    def _publisher(self, port: int) -> Iterator[Path]:
        ledger = self._folder / "ledger.json"
        command = [sys.executable, "-m", "tests.faults.traffic", str(port), str(ledger), str(self._per_s)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])
        assert process.stdin is not None
        try:
            yield ledger
        finally:
            process.stdin.close()
            try:
                process.wait(90)
            finally:
                process.kill()

    def _one_life(self, lives: Lives) -> None:
        report, chance = self.report, self._chance
        way = chance.choices(("start", "point", "work", "stop"), (12, 30, 46, 12))[0]
        point = self._point() if way == "point" else ""
        started_s = time.monotonic()
        lives.start(report.cheat, point)
        may_end = way == "stop"
        if way == "start":
            time.sleep(chance.uniform(0.0, 0.15))
            report.kills_at_start += 1
        elif way == "point":
            if lives.gone(5.0):
                report.kills_at_points += 1
        else:
            if lives.committed(PATIENCE_S):
                self._first_s.append(time.monotonic() - started_s)
            else:
                report.findings.add(f"a life committed nothing within {PATIENCE_S:g} s")
            if chance.random() < 0.5:
                self._looks.look(report.findings)
            time.sleep(chance.uniform(0.0, _LONGEST_S))
            if way == "stop":
                lives.signal(signal.SIGTERM)
                time.sleep(chance.uniform(0.0, 0.1))
                report.kills_at_stop += 1
        ended = lives.kill()
        if ended != -signal.SIGKILL and not (may_end and ended == 0):
            report.findings.add(f"a life ended by itself with {ended}")
        report.kills += 1
        if self._disk is not None:
            self._disk.cut()

    def _read_log(self) -> None:
        """An honest life neither crashes nor finds its journal damaged, however the one before ended."""
        for line in (self._folder / "gateway.log").read_text("utf-8", "replace").splitlines():
            if any(word in line for word in ("defect of the software", "Traceback", "salvage", "powercut:", "ERROR")):
                self.report.findings.add(f"log: {line}")

    def _point(self) -> str:
        """Where a life is to die by itself; `cheats.crash_at` knows what it means."""
        chance = self._chance
        if self._disk is not None and chance.random() < 0.7:
            return f"sync:{chance.randint(1, chance.choice((6, 30, 30, 90)))}"
        return f"{chance.choice(('before', 'after', 'after', 'told'))}:{chance.randint(1, 6)}"

    def _rest(self, lives: Lives) -> None:
        """A last life, left alone until nothing comes any more, then stopped in order."""
        lives.start(self.report.cheat)
        lives.committed(10.0)  # it has come up and is connected; without anything owed it has nothing to commit
        heads: dict[str, int] = {}
        quiet_s = time.monotonic()
        until_s = quiet_s + 90
        while time.monotonic() < until_s and time.monotonic() - quiet_s < _QUIET_S[self.report.broker]:
            time.sleep(0.1)
            with contextlib.suppress(JournalError), JournalReader(self.journal) as reader:
                now = {str(stream): reader.head(stream) for stream in STREAMS if stream != "measurements"}
                if now != heads:
                    heads, quiet_s = now, time.monotonic()
        self._looks.look(self.report.findings)
        lives.signal(signal.SIGTERM)
        if (code := lives.reap()) != 0:
            self.report.findings.add(f"the last life ended with {code}")


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--broker", choices=["mosquitto", "embedded"], default="mosquitto")
    parser.add_argument("--cheat", choices=sorted(CHEATS), default="")
    parser.add_argument("--power-cut", action="store_true")
    parser.add_argument("--seed", type=int, default=0, help="0: a new one")
    parser.add_argument("--per-s", type=float, default=400.0, help="messages a second")
    parser.add_argument("--keep", type=Path, help="leave everything in this folder, to look at")
    args = parser.parse_args()
    seed = args.seed or random.SystemRandom().randrange(1, 1 << 31)
    with contextlib.ExitStack() as stack:
        folder = args.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        harness = Harness(
            folder, args.broker, cheat=args.cheat, power_cut=args.power_cut, seed=seed, per_s=args.per_s
        )  # fmt: skip
        report = harness.run(args.kills)
    print(json.dumps(msgspec.to_builtins(report) | {"clean": report.clean}, indent=1))
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
