"""All benches in one list: what each is run with, and how its figures are read for the table at the end.

A bench is a module with a `main()` that prints. One that ends with a line of JSON with a list `figures` (see
`bench.figures`) is read from there; for the others there is a reader here, and what a reader does not find is in the
table as not measured, so that a bench that broke cannot pass for one that held.

    python -m bench [NAME ...] [--quick | --full] [--json]
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from bench.figures import Figure

Size = Literal["quick", "default", "full"]
Read = Callable[[str], list[Figure]]
CHECKOUT = Path(__file__).resolve().parent.parent


class Bench(msgspec.Struct, frozen=True):
    """One bench: its module, what it is about, and what it is run with; None: not run at that size."""

    name: str
    title: str
    module: str
    quick: tuple[str, ...] | None
    default: tuple[str, ...] | None
    full: tuple[str, ...]
    limit_s: tuple[float, float]  # longest it may take, quick and default; `full` takes what it takes
    read: Read | None = None

    def arguments(self, size: Size) -> tuple[str, ...] | None:
        """What it is run with at a size."""
        return {"quick": self.quick, "default": self.default, "full": self.full}[size]

    def present(self) -> bool:
        """Whether its module is there."""
        return importlib.util.find_spec(self.module) is not None


def run(bench: Bench, size: Size, show: Callable[[str], None]) -> list[Figure]:
    """Run one bench, show its lines as they come, return its figures.

    One that is absent, fails without a figure or takes too long gives one line that says so.
    """
    arguments = bench.arguments(size)
    if arguments is None:
        return []
    if not bench.present():
        return [not_measured(bench.title, f"bench {bench.name} is not there")]
    limit_s = {"quick": bench.limit_s[0], "default": bench.limit_s[1], "full": float("inf")}[size]
    started_s = time.monotonic()
    command = [sys.executable, "-m", bench.module, *arguments]
    lines: list[str] = []
    report = False
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        # Interrupted like by Ctrl-C, so that it ends what it has started itself.
        alarm = threading.Timer(min(limit_s, 86_400), lambda: process.send_signal(signal.SIGINT))
        alarm.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                report = report or line.startswith("{")  # JSON comes last and is for the reader
                if not report:
                    show(line.rstrip("\n"))
            process.wait(30)
        finally:
            alarm.cancel()
            if process.poll() is None:
                process.kill()
    took_s = time.monotonic() - started_s
    show(f"({took_s:.0f} s)")
    figures = figures_in("".join(lines), bench.read)
    if took_s >= limit_s:
        figures.append(not_measured(bench.title, f"cut off after {limit_s:.0f} s; run it alone, or with --full"))
    elif not figures:
        figures.append(not_measured(bench.title, f"no figure found, exit code {process.returncode}"))
    elif process.returncode and all(one.met is not False for one in figures):
        figures.append(not_measured(bench.title, f"exit code {process.returncode}"))
    return figures


def figures_in(output: str, read: Read | None) -> list[Figure]:
    """The figures of a bench's output: from its last line of JSON, or else by its reader; none when neither speaks."""
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "")
    try:
        said = json.loads(last)
        if isinstance(said, dict) and (isinstance(said.get("figures"), list)):
            if said.get("skipped"):
                return [Figure("skipped", "", "", str(said["skipped"]), None)]
            return msgspec.convert(said["figures"], list[Figure])
    except (json.JSONDecodeError, msgspec.ValidationError):
        pass
    if read is None:
        return []
    try:
        return read(output)
    except (json.JSONDecodeError, LookupError, StopIteration, TypeError, ValueError):
        return []


def not_measured(title: str, why: str) -> Figure:
    """A figure that is missing; never met."""
    return Figure(title, "", "", f"not measured: {why}", False)


# -- readers of benches that print for people


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _json(output: str) -> Any:
    """The last JSON object of the output, on one line or on many."""
    starts = [match.start() for match in re.finditer(r"^\{", output, re.MULTILINE)]
    return json.loads(output[starts[-1] :])


def read_journal(output: str) -> list[Figure]:
    """Append share, paced bytes and times, flatness."""
    figures = []
    if match := re.search(r"bare / journal: ([\d.]+) with plain rows \(limit ([\d.]+)\)", output):
        figure = Figure(
            "CPU of bare SQLite, share of ours", f"≥ {match[2]}", "1.00", match[1], float(match[1]) >= float(match[2])
        )
        figures.append(figure)
    paced = r"^ +(\d+) +(\d+) ms +([\d,]+) +([\d,]+) +([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+ +(?:ok|MISSED)"
    for match in re.finditer(paced, output, re.MULTILINE):
        rate, window, size, most, _, p99, most_ms = match.groups()
        held = _number(size) <= _number(most) and _number(p99) <= _number(most_ms)
        name = f"{rate} events/s, window {window} ms: bytes an event, accept to durable p99"
        figures.append(Figure(name, f"≤ {most} B, ≤ {most_ms} ms", "", f"{size} B, {p99} ms", held))
    cell = r"[\d.]+ \(([+-]\d+)%\) +"
    for match in re.finditer(rf"^ +([\d,]+) +{cell}{cell}{cell}$", output, re.MULTILINE):
        changes = [int(text) for text in match.groups()[1:]]
        name = f"{match[1]} rows of backlog: time to append, read, acknowledge"
        said = ", ".join(f"{change:+d} %" for change in changes)
        figures.append(Figure(name, "within 15 % of smallest", "", said, all(change <= 15 for change in changes)))
    return figures


def read_gateway(output: str) -> list[Figure]:
    """Whole daemon against paho's ceiling."""
    said = _json(output)
    return [
        Figure("MQTT to durable to PUBACK, messages a second", "≥ 0.75 of paho", f"{said['paho_per_s']:,.0f}/s",
               f"{said['gateway_per_s']:,.0f}/s = {said['share']:.2f}", said["share"] >= 0.75)
    ]  # fmt: skip


def read_mqtt_link(output: str) -> list[Figure]:
    """Our link against paho's own loop."""
    said = _json(output)
    return [
        Figure(f"Receive and acknowledge alone, {kind}, {said['broker']}", "",
               f"{said[f'paho {kind}']['per_s']:,.0f}/s",
               f"{said[f'link {kind}']['per_s']:,.0f}/s = {said[f'ratio {kind}']:.1f}×", None)
        for kind in ("live", "drain")
    ]  # fmt: skip


def read_drivers(output: str) -> list[Figure]:
    """Bogus events of damaged serial traces, and driver speed against the line."""
    said = _json(output)
    trials = sum(row["trials"] for row in said["fuzz"])
    bogus = sum(row["bogus"] for row in said["fuzz"])
    each = min(row["trials"] for row in said["fuzz"])
    slowest = min(row["bytes_s"] / row["line_bytes_s"] for row in said["drivers"].values())
    return [
        Figure(f"Serial: bogus events, {each:,} damaged copies of each trace", "0", "", f"{bogus} of {trials:,}",
               bogus == 0),
        Figure("Serial: bytes a second, slowest driver", "≥ 1× its line", "", f"{slowest:,.0f}×", slowest >= 1),
    ]  # fmt: skip


def read_rows(output: str) -> list[Figure]:
    """Lines of `name  measured unit  >= limit  ok`, under a heading of its own."""
    figures, heading = [], ""
    row = re.compile(r"^  (.+?) {2,}(-?[\d,.]+) (\S+) +([<>]=) +([\d,.]+) +(ok|MISSED)$")
    for line in output.splitlines():
        if match := row.match(line):
            name, measured, unit, sign, limit, held = match.groups()
            sign = {"<=": "≤", ">=": "≥"}[sign]
            figures.append(
                Figure(f"{heading}: {name}", f"{sign} {limit} {unit}", "", f"{measured} {unit}", held == "ok")
            )  # fmt: skip
        elif line[:1].isalpha() and ":" in line:
            heading = line.partition(":")[0]
    return figures


def read_fleet(output: str) -> list[Figure]:
    """Requests in the worst second after an outage, and the time until every store has caught up."""
    line = re.compile(
        r"^  (.+?) +peak +([\d,]+) requests/s <= ([\d,]+) +drained in +(\d+) s <= (\d+) .*(ok|MISSED)$", re.M
    )
    return [
        Figure(f"50,000 stores come back, {match[1]}", f"≤ {match[3]}/s, ≤ {match[5]} s", "",
               f"{match[2]}/s, {match[4]} s", match[6] == "ok")
        for match in line.finditer(output)
    ]  # fmt: skip


def read_vision(output: str) -> list[Figure]:
    """Lines of `what  ours … limit … peer …`; judged here only where the limit is a plain bound on a plain number."""
    figures = []
    for match in re.finditer(r"^(\S.*?) +ours (.+?) {2,}limit (.+?) +peer (.+)$", output, re.MULTILINE):
        what, ours, limit, peer = (text.strip() for text in match.groups())
        met = None
        bound = re.fullmatch(r"([≤≥]) ([\d.]+)( .*)?", limit)
        number = re.match(r"([\d.]+)", ours)
        if bound and number and "," not in limit:
            value, most = float(number[1]), float(bound[2])
            met = value <= most if bound[1] == "≤" else value >= most
        figures.append(Figure(what, limit.replace("–", ""), peer.replace("–", ""), ours, met))
    return figures


BENCHES = (
    Bench(
        "journal", "Journal: append, bytes and time of an event, flatness", "bench.journal",
        ("--only", "paced", "--seconds", "4"), ("--seconds", "8"), ("--full",), (40, 120), read_journal,
    ),
    Bench(
        "gateway", "MQTT to durable event, whole daemon beside paho", "bench.gateway",
        ("--messages", "8000", "--rounds", "1"), (), (), (30, 90), read_gateway,
    ),
    Bench(
        "mqtt_link", "MQTT link beside paho's own loop", "bench.mqtt_link",
        None, ("--broker", "mosquitto", "--rounds", "1"), ("--broker", "mosquitto", "--latency"), (30, 60),
        read_mqtt_link,
    ),
    Bench(
        "thingsboard", "Beside ThingsBoard IoT Gateway", "bench.thingsboard",
        ("--quick",),
        ("--messages", "12000", "--kills", "5", "--rows", "300000", "--idle-s", "10"), ("--rows", "5000000"),
        (115, 240),
    ),
    Bench(
        "footprint", "Start, memory, idle", "bench.footprint",
        None, ("--idle-s", "20"), ("--idle-s", "60"), (30, 90),
    ),
    Bench(
        "page", "The page: time, live numbers, and what twenty viewers cost", "bench.page",
        None, ("--events", "100000", "--rounds", "2"), ("--events", "1000000", "--rounds", "5"), (60, 300),
    ),
    Bench(
        "drivers", "Serial drivers: damaged traces, speed", "bench.drivers",
        ("--trials", "300", "--json"), ("--trials", "1000", "--json"), ("--json",), (20, 60), read_drivers,
    ),
    Bench(
        "vision", "Counting from footage", "bench.vision", None, ("accuracy",),
        ("accuracy", "suite", "cost", "tracker", "peers", "empty", "footage"), (30, 120), read_vision,
    ),
    Bench(
        "sync", "Sync to the platform, feed, kills of either side", "bench.sync",
        None, ("--events", "50000", "--kills", "20", "--answers", "1000", "--rows", "100000"), (), (30, 90), read_rows,
    ),
    Bench(
        "coupons", "Coupons: races, kills, latency at the till", "bench.coupons",
        ("--seconds", "6", "--coupons", "200", "--kills", "5"), ("--kills", "20"), ("--full",), (60, 200),
    ),
    Bench(
        "identity", "Persons: cost of naming one, canaries", "bench.identity",
        ("--persons", "2000", "--canaries", "140"), ("--persons", "5000", "--canaries", "1000"), (), (40, 120),
    ),
    Bench(
        "fleet", "A fleet after an outage", "bench.fleet", None, None, (), (30, 60), read_fleet,
    ),
    Bench(
        "projections", "Read models: folding, rebuild, forecast", "bench.projections",
        ("--events", "50000"), ("--events", "200000"), ("--events", "1000000"), (30, 90),
    ),
    Bench(
        "visits", "Visits on a generated day with known truth", "bench.visits",
        ("--members", "200", "--strangers", "600", "--events", "20000"),
        ("--members", "400", "--strangers", "1200", "--events", "50000"), (), (40, 90),
    ),
    Bench(
        "chain", "Matching on a generated chain with known truth", "bench.chain",
        ("--shoppers", "1500"), ("--shoppers", "4000"), (), (45, 120),
    ),
    Bench(
        "faults", "kill -9 and power cuts under load", "bench.faults",
        ("--kills", "12", "--cuts", "2", "--broker", "mosquitto"), ("--kills", "30", "--cuts", "5"), (), (45, 120),
    ),
)  # fmt: skip
