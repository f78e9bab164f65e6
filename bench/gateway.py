"""The whole daemon as a user runs it, from MQTT to durable event, beside paho's own loop.

Mosquitto already holds all messages for a gateway that comes back, so the gateway alone is measured, from
the first committed event to the last (QoS 1 → driver → normaliser → commit with synchronous=FULL → PUBACK). The ceiling
is paho's own receive-and-acknowledge loop on the same broker in the same run.

    python -m bench.gateway [--messages 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from bench.mqtt_link import DEADLINE_S, by_paho, drain, mosquitto, publishers
from devices.transports.mqtt import MqttLink, MqttSettings
from gateway.event import STREAMS
from gateway.journal.reader import JournalReader

SIZE_BYTES = 250
CEILING_SHARE = 0.75

CONFIG = """\
[storage]
directory = "{directory}"
[broker]
mode = "external"
url = "mqtt://127.0.0.1:{port}"
[page]
enabled = {page}
[[devices]]
name = "sensors"
driver = "generic_json"
topics = ["bench/#"]
[[devices.options.mappings]]
topic = "bench/{{sensor}}"
reading = "sensor"
fields = {{ value = "n" }}
fixed = {{ quantity = "count", unit = "1", sensor = "{{sensor}}" }}
"""


def config(folder: Path, port: int, page: str = "false", more: str = "") -> Path:
    """A configuration with one generic device on the broker at `port`."""
    path = folder / "gateway.toml"
    path.write_text(CONFIG.format(directory=folder / "state", port=port, page=page) + more)
    return path


@contextlib.contextmanager
def daemon(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`storefront run`, ended in order."""
    command = [sys.executable, "-m", "gateway", "run", "--config", str(path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def heads(journal: Path) -> dict[str, int]:
    """How many events each stream holds; zeros before the journal is there."""
    try:
        with JournalReader(journal) as reader:
            return {stream: reader.head(stream) for stream in STREAMS}
    except Exception:  # noqa: BLE001 - not there yet, or not migrated yet
        return dict.fromkeys(STREAMS, 0)


def throughput(port: int, number: int, count: int, root: Path) -> tuple[float, float]:
    """Messages a second and CPU seconds a message of the whole daemon, draining what the broker holds."""
    folder = root / f"run{number}"
    folder.mkdir()
    path = config(folder, port)
    path.write_text(path.read_text().replace('url = "mqtt', f'client_id = "run{number}"\nurl = "mqtt'))
    session = MqttLink(MqttSettings(client_id=f"run{number}-devices", topics=("bench/#",), port=port))
    session.open()
    until_s = time.monotonic() + 10
    while not session.subscribed and time.monotonic() < until_s:
        session.receive(0.05, limit=0)
    session.close()
    with publishers(port, count, SIZE_BYTES):
        pass
    journal = folder / "state" / "journal.db"
    with daemon(path) as process:
        watched = psutil.Process(process.pid)
        first_n, first_s, first_cpu_s = 0, 0.0, 0.0
        until_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < until_s:
            done = heads(journal)["observations"]
            cpu = watched.cpu_times()
            now_s, cpu_s = time.monotonic(), cpu.user + cpu.system
            if done and not first_n:
                first_n, first_s, first_cpu_s = done, now_s, cpu_s
            if done >= count:
                break
            time.sleep(0.02)
        assert done == count, f"{done} of {count} events"
        return (count - first_n) / (now_s - first_s), (cpu_s - first_cpu_s) / (count - first_n)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    scratch = Path(__file__).parent.parent / ".bench"
    scratch.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as name, mosquitto(Path(name)) as port:
        root = Path(name)
        ours, ceiling = [], []
        for number in range(args.rounds):
            ours.append(throughput(port, number, args.messages, root))
            took_s, cpu_s = drain(by_paho, port, f"paho{number}", args.messages, SIZE_BYTES, v5=True)
            ceiling.append((args.messages / took_s, cpu_s / args.messages))
    rate, cpu = (statistics.median(values) for values in zip(*ours, strict=True))
    peak, peak_cpu = (statistics.median(values) for values in zip(*ceiling, strict=True))
    print(f"paho receive+ack  {peak:8.0f} msg/s  {peak_cpu * 1e6:6.1f} µs CPU")
    print(
        f"gateway           {rate:8.0f} msg/s  {cpu * 1e6:6.1f} µs CPU   {rate / peak:.2f} of paho (≥ {CEILING_SHARE})"
    )
    print(json.dumps({"gateway_per_s": rate, "paho_per_s": peak, "share": rate / peak}))


if __name__ == "__main__":
    main()
