"""How fast an MQTT message is received and acknowledged: plain paho and our link, same broker, same messages, one run.

The peer is paho as its documentation shows it: `loop_start()`, `manual_ack`, `ack` in `on_message`. Two figures for
each: `live`, with publishers that send as fast as the broker takes it while the client receives; and `drain`, where the
broker already holds all messages for a client that comes back, so that the client alone is measured. Medians.

    python -m bench.mqtt_link [--broker mosquitto|embedded|embedded-lazy] [--messages 20000] [--rounds 3] [--latency]
"""

from __future__ import annotations

import argparse
import json
import select
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from devices.transports.broker import Broker
from devices.transports.mqtt import MqttLink, MqttSettings

PUBLISHERS = 4
WINDOW = 200  # unacknowledged messages of one publisher
RECEIVE_MAXIMUM = 1000
DEADLINE_S = 120.0


@contextmanager
def mosquitto(folder: Path) -> Iterator[int]:
    """A Mosquitto of our own on a free loopback port, set up as the architecture says."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        raise SystemExit("mosquitto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
        "autosave_on_changes true\nautosave_interval 1000000\nmax_queued_messages 1000000\n"
        f"max_inflight_messages {RECEIVE_MAXIMUM}\nset_tcp_nodelay true\nuser root\n"
    )
    process = subprocess.Popen([program, "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + 5
        while time.monotonic() < until_s:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(5)


@contextmanager
def embedded(folder: Path) -> Iterator[int]:
    """The broker that comes with the gateway."""
    broker = Broker(folder)
    broker.open()
    try:
        yield broker.port
    finally:
        broker.close()


@contextmanager
def embedded_lazy(folder: Path) -> Iterator[int]:
    """The same without an fsync for each message, to see what that costs."""
    broker = Broker(folder, sync_always=False)
    broker.open()
    try:
        yield broker.port
    finally:
        broker.close()


def publisher(port: int, name: str, topic: str, count: int, size_bytes: int) -> None:
    """Publish `count` messages with QoS 1, `WINDOW` under way, on a plain socket (cheaper than any client library)."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = struct.pack("!H", 4) + b"MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(name)) + name.encode()
        line.sendall(b"\x10" + bytes([len(body)]) + body)
        line.recv(4)
        head = struct.pack("!H", len(topic)) + topic.encode()
        filler = b"x" * (size_bytes - 30)
        sent = answered = 0
        rest = b""
        until_s = time.monotonic() + DEADLINE_S
        while answered < count and time.monotonic() < until_s:
            batch = min(WINDOW - (sent - answered), count - sent)
            if batch > 0:
                packets = []
                for number in range(sent, sent + batch):
                    payload = b'{"n":%d,"t":%d,"p":"%b"}' % (number, time.time_ns(), filler)
                    body = head + struct.pack("!H", number % 65535 + 1) + payload
                    packets.append(b"\x32" + _length(len(body)) + body)
                line.sendall(b"".join(packets))
                sent += batch
            rest += line.recv(65536)
            answered += len(rest) // 4
            rest = rest[len(rest) // 4 * 4 :]
        line.sendall(b"\xe0\x00")


def _length(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


@contextmanager
def publishers(port: int, count: int, size_bytes: int) -> Iterator[None]:
    """`PUBLISHERS` processes that share `count` messages; waits for them at the end."""
    each = count // PUBLISHERS
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "bench.mqtt_link", "--publish", str(port), str(number), str(each), str(size_bytes)]
        )
        for number in range(PUBLISHERS)
    ]
    try:
        yield
    finally:
        for process in running:
            process.wait(DEADLINE_S)


Ready = Callable[[], None]


def by_paho(port: int, client_id: str, count: int, ready: Ready, v5: bool) -> tuple[float, float]:
    """Seconds and CPU seconds of paho's own thread for `count` messages, from the first to the last."""
    seen = 0
    first_s = last_s = first_cpu_s = last_cpu_s = 0.0
    done, subscribed = threading.Event(), threading.Event()

    def on_message(client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        nonlocal seen, first_s, last_s, first_cpu_s, last_cpu_s
        if not seen:
            first_s, first_cpu_s = time.monotonic(), time.process_time()
        seen += 1
        client.ack(message.mid, message.qos)
        if seen == count:
            last_s, last_cpu_s = time.monotonic(), time.process_time()
            done.set()

    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        clean_session=None if v5 else False,
        manual_ack=True,
    )
    client.on_message = on_message
    client.on_connect = lambda c, *_: c.subscribe("bench/#", 1)
    client.on_subscribe = lambda *_: subscribed.set()
    properties = None
    if v5:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.ReceiveMaximum = RECEIVE_MAXIMUM
        properties.SessionExpiryInterval = 3600
    if v5:
        client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    else:
        client.connect("127.0.0.1", port)
    client.loop_start()
    subscribed.wait(10)
    ready()
    if not done.wait(DEADLINE_S):
        print(f"paho saw only {seen} of {count}", file=sys.stderr)
        last_s, last_cpu_s = time.monotonic(), time.process_time()
    client.disconnect()
    client.loop_stop()
    return last_s - first_s, last_cpu_s - first_cpu_s


def by_link(port: int, client_id: str, count: int, ready: Ready, v5: bool) -> tuple[float, float]:
    """The same with our link: receive and acknowledge in one thread."""
    link = MqttLink(
        MqttSettings(
            client_id=client_id, topics=("bench/#",), port=port, protocol="5" if v5 else "3.1.1",
            receive_maximum=RECEIVE_MAXIMUM,
        )
    )  # fmt: skip
    link.open()
    seen, first_s, first_cpu_s = 0, 0.0, 0.0
    until_s = time.monotonic() + DEADLINE_S
    while not link.subscribed and time.monotonic() < until_s:
        link.receive(0.05, limit=0)
    ready()
    while seen < count and time.monotonic() < until_s:
        arrived = link.receive(1.0)
        if arrived and not seen:
            first_s, first_cpu_s = time.monotonic(), time.process_time()
        seen += len(arrived)
        link.ack(arrived)
    link.receive(0, limit=0)
    last_s, last_cpu_s = time.monotonic(), time.process_time()
    if seen < count:
        print(f"link saw only {seen} of {count}", file=sys.stderr)
    link.close()
    return last_s - first_s, last_cpu_s - first_cpu_s


Client = Callable[[int, str, int, Ready, bool], tuple[float, float]]


def live(client: Client, port: int, name: str, count: int, size_bytes: int, v5: bool) -> tuple[float, float]:
    """Publishers and client at once."""
    with ExitStack() as stack:
        return client(port, name, count, lambda: stack.enter_context(publishers(port, count, size_bytes)), v5)


def drain(client: Client, port: int, name: str, count: int, size_bytes: int, v5: bool) -> tuple[float, float]:
    """Client alone: its session is made first, the messages are published, then it comes back."""
    link = MqttLink(
        MqttSettings(client_id=name, topics=("bench/#",), port=port, protocol="5" if v5 else "3.1.1")
    )  # fmt: skip
    link.open()
    until_s = time.monotonic() + 10
    while not link.subscribed and time.monotonic() < until_s:
        link.receive(0.05, limit=0)
    link.close()
    with publishers(port, count, size_bytes):
        pass
    return client(port, name, count, lambda: None, v5)


def latency_ms(port: int, count: int, v5: bool) -> list[float]:
    """Publish to receive through the link, one message every 2 ms, in milliseconds, sorted."""
    link = MqttLink(
        MqttSettings(client_id="latency", topics=("bench/#",), port=port, protocol="5" if v5 else "3.1.1")
    )  # fmt: skip
    link.open()
    until_s = time.monotonic() + DEADLINE_S
    while not link.subscribed and time.monotonic() < until_s:
        link.receive(0.05, limit=0)
    sender = subprocess.Popen([sys.executable, "-m", "bench.mqtt_link", "--pace", str(port), str(count)])
    took: list[float] = []
    while len(took) < count and time.monotonic() < until_s:
        arrived = link.receive(1.0)
        now_ns = time.time_ns()
        link.ack(arrived)
        took += [(now_ns - int(item.payload)) / 1e6 for item in arrived]
    sender.wait(10)
    link.close()
    return sorted(took)


def pace(port: int, count: int) -> None:
    """Publish the time, QoS 1, every 2 ms."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.sendall(b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04pace")
        line.recv(4)
        for number in range(count):
            time.sleep(0.002)
            body = b"\x00\x07bench/l" + struct.pack("!H", number % 65535 + 1) + b"%d" % time.time_ns()
            line.sendall(b"\x32" + _length(len(body)) + body)
            while select.select([line], [], [], 0)[0]:
                line.recv(4096)
        line.sendall(b"\xe0\x00")


def main() -> None:
    """Run and print a table, then the same as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--broker", choices=["mosquitto", "embedded", "embedded-lazy"], default="embedded")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size-bytes", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--latency", action="store_true", help="also publish-to-receive quantiles at 500 messages/s")
    parser.add_argument("--folder", help="where the broker keeps its messages; default: the system's temporary folder")
    parser.add_argument("--publish", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--pace", nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.publish:
        port, number, each, size = args.publish
        publisher(int(port), f"pub{number}", f"bench/{number}", int(each), int(size))
        return
    if args.pace:
        pace(*args.pace)
        return
    count = args.messages // PUBLISHERS * PUBLISHERS
    v5 = args.broker == "mosquitto"
    figures: dict[str, dict[str, list[float]]] = {}
    quantiles: dict[str, float] = {}
    make = {"mosquitto": mosquitto, "embedded": embedded, "embedded-lazy": embedded_lazy}[args.broker]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder, make(Path(folder)) as port:
        for number in range(args.rounds):
            for kind, way in (("live", live), ("drain", drain)):
                for name, client in (("paho", by_paho), ("link", by_link)):
                    took_s, cpu_s = way(client, port, f"{name}-{kind}-{number}", count, args.size_bytes, v5)
                    row = figures.setdefault(f"{name} {kind}", {"per_s": [], "cpu_us": []})
                    row["per_s"].append(count / took_s)
                    row["cpu_us"].append(cpu_s / count * 1e6)
        if args.latency:
            took = latency_ms(port, 2000, v5)
            quantiles = {"p50_ms": round(took[len(took) // 2], 2), "p99_ms": round(took[len(took) * 99 // 100], 2)}
    result: dict[str, object] = {"broker": args.broker, "messages": count, **quantiles}
    for name, row in figures.items():
        rate, cpu = statistics.median(row["per_s"]), statistics.median(row["cpu_us"])
        result[name] = {"per_s": round(rate), "cpu_us": round(cpu, 1)}
        print(f"{args.broker:10} {name:11} {rate:9.0f} msg/s  {cpu:6.1f} µs CPU a message")
    for kind in ("live", "drain"):
        ratio = statistics.median(figures[f"link {kind}"]["per_s"]) / statistics.median(
            figures[f"paho {kind}"]["per_s"]
        )
        result[f"ratio {kind}"] = round(ratio, 2)
        print(f"{args.broker:10} link / paho, {kind}: {ratio:.2f}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
