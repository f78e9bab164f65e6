"""A shop's devices as one MQTT publisher that knows what it said: every message numbered, every PUBACK written down.

Runs as a process of its own (`python -m tests.faults.traffic PORT LEDGER`) so that nothing the harness does can touch
its memory. It goes on until its standard input ends, waits for the last PUBACKs, and writes the ledger. A broker that
goes away is connected to again, and what it had not acknowledged is sent again with DUP, as MQTT asks of a client; the
ledger names those numbers, because no broker can know such a repeat from a new message.

What it says, in turn:

    sale      a till's transaction with a number of its own; the gateway knows a repeat by it
    basket    the same till, without any number: only the transport's DUP flag tells a repeat
    keyed     a sensor with its own counter
    keyless   a sensor without one, each value unlike any other
    pair      one message that means two events
    button    a button pressed again and again: every message has the same bytes, and each is a press of its own
    same      a sensor that always says the same
    poison    not JSON
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec

KINDS = ("sale", "keyless", "button", "keyed", "pair", "basket", "same", "keyless")
ANONYMOUS = ("button", "same")  # each message looks like any other: they can only be counted
NUMBERED = ("sale", "basket", "keyed", "keyless", "pair")
KNOWN_BY_NUMBER = ("sale", "keyed")  # the gateway knows a repeat of these whoever repeats it
POISON_EVERY = 97
WINDOW = 100
_DATE = "2026-11-22"

DEVICES = """
[[devices]]
name = "till"
driver = "pos_json"
topics = ["store/0042/pos/json/till/event"]
[devices.options]
currency = "EUR"
[[devices]]
name = "sensors"
driver = "generic_json"
topics = ["keyed/#", "keyless/#", "button/#", "same/#", "pair/#", "poison/#", "probe/#"]
[[devices.options.mappings]]
topic = "keyed/{s}"
reading = "sensor"
fields = { value = "n" }
fixed = { quantity = "count", unit = "1", sensor = "keyed-{s}" }
seq = "n"
boot = "b"
[[devices.options.mappings]]
topic = "keyless/{s}"
reading = "sensor"
fields = { value = "n" }
fixed = { quantity = "count", unit = "1", sensor = "keyless-{s}" }
[[devices.options.mappings]]
topic = "same/{s}"
reading = "sensor"
fields = { value = "v" }
fixed = { quantity = "temperature", unit = "Cel", sensor = "same-{s}" }
[[devices.options.mappings]]
topic = "button/{b}"
reading = "button"
fields = { value = "action" }
fixed = { button = "button-{b}" }
[[devices.options.mappings]]
topic = "pair/{p}"
reading = "sensor"
fields = { value = "n" }
fixed = { quantity = "count", unit = "1", sensor = "pair-{p}" }
[[devices.options.mappings]]
topic = "pair/{p}"
reading = "button"
fields = { value = "t" }
fixed = { button = "pair-{p}" }
[[devices.options.mappings]]
topic = "poison/{p}"
reading = "sensor"
fields = { value = "n" }
fixed = { quantity = "count", unit = "1", sensor = "poison" }
[[devices.options.mappings]]
topic = "probe/{p}"
reading = "sensor"
fields = { value = "n" }
fixed = { quantity = "count", unit = "1", sensor = "probe" }
"""
"""The devices as the gateway's configuration has them."""


class Ledger(msgspec.Struct):
    """What was said, and what the broker took."""

    sent: int = 0  # numbers 0 … sent - 1 were given
    acked: dict[str, list[int]] = {}  # kind → numbers that the broker acknowledged, in the order sent
    unsure: dict[str, list[int]] = {}  # sent, and not acknowledged to the end
    repeated: list[int] = []  # sent again by the publisher after it lost the connection
    reconnects: int = 0
    elapsed_s: float = 0.0

    def count(self) -> int:
        """How many messages the broker acknowledged."""
        return sum(len(numbers) for numbers in self.acked.values())


def kind_of(number: int) -> str:
    """What the message of that number is."""
    return "poison" if number % POISON_EVERY == 50 else KINDS[number % len(KINDS)]


def device_of(number: int) -> int:
    """Which of the three devices of its kind says it."""
    return number // len(KINDS) % 3


def message(number: int) -> tuple[str, bytes]:
    """Topic and payload of the message of that number."""
    kind, device = kind_of(number), device_of(number)
    topic = f"{kind}/{device}"
    match kind:
        case "sale":
            topic = "store/0042/pos/json/till/event"
            payload = (
                f'{{"v":1,"boot":"b","seq":{number},"type":"sale","workstation_id":"03","sequence":{number},'
                f'"business_date":"{_DATE}","currency":"EUR","lines":[{{"seq":1,"type":"sale","sku":"A-1",'
                f'"quantity":"1","extended_amount":"2.50"}}],"tenders":[{{"type":"cash","amount":"2.50"}}],'
                f'"totals":{{"net":"2.50"}}}}'
            )
        case "basket":
            topic = "store/0042/pos/json/till/event"
            payload = f'{{"basket_id":"k{number}","step":"opened","lane":"3"}}'
        case "keyed":
            payload = f'{{"n":{number},"b":"run1"}}'
        case "keyless":
            payload = f'{{"n":{number}}}'
        case "pair":
            payload = f'{{"n":{number},"t":"p{number}"}}'
        case "button":
            payload = '{"action":"single"}'
        case "same":
            payload = '{"v":21.5}'
        case _:
            payload = f"poison {number} {{"
    return topic, payload.encode()


def packet(topic: str, payload: bytes, mid: int, *, dup: bool = False) -> bytes:
    """A PUBLISH with QoS 1."""
    body = struct.pack("!H", len(topic)) + topic.encode() + struct.pack("!H", mid) + payload
    length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
    return (b"\x3a" if dup else b"\x32") + length + body


def connect(port: int, name: str) -> socket.socket:
    """A clean MQTT 3.1.1 session.

    Raises:
        OSError: the broker is not there, or refuses.
    """
    line = socket.create_connection(("127.0.0.1", port), timeout=30)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + struct.pack("!H", len(name)) + name.encode()
    line.sendall(b"\x10" + bytes([len(body)]) + body)
    answer = line.recv(4)
    if answer[:1] != b"\x20" or answer[3:] != b"\x00":
        line.close()
        raise ConnectionError("not accepted")
    return line


class Publisher:
    """Says numbered messages at an even pace, at most `WINDOW` of them unanswered."""

    def __init__(self, port: int, per_s: float) -> None:
        """`per_s`: messages a second."""
        self.ledger = Ledger()
        self._port, self._per_s = port, per_s
        self._line: socket.socket | None = None
        self._open: dict[int, int] = {}  # packet id → number
        self._rest = b""
        self._repeated: set[int] = set()
        self._acked: list[int] = []

    def run(self, ended: int, deadline_s: float = 600.0) -> Ledger:
        """Speak until the descriptor `ended` is readable, then wait for what is unanswered."""
        started_s = time.monotonic()
        late_s = 0.0  # time without a connection is not made up for
        ending_s: float | None = None
        while (now_s := time.monotonic()) - started_s < deadline_s:
            if ending_s is None and select.select([ended], [], [], 0)[0]:
                ending_s = now_s
            if ending_s is not None and (not self._open or now_s - ending_s > 15):
                break
            try:
                line = self._connected()
                due = self.ledger.sent if ending_s else int((now_s - started_s - late_s) * self._per_s)
                while self.ledger.sent < due and len(self._open) < WINDOW:
                    self._say(line)
                if len(self._open) >= WINDOW:
                    late_s = now_s - started_s - self.ledger.sent / self._per_s
                if select.select([line], [], [], 0.005)[0]:
                    self._hear(line)
            except OSError:
                self._lost()
                time.sleep(0.05)
                late_s = max(late_s, time.monotonic() - started_s - self.ledger.sent / self._per_s)
        return self._close(started_s)

    def _connected(self) -> socket.socket:
        if self._line is None:
            self._line = connect(self._port, "shop")
            self._rest = b""
            for mid, number in self._open.items():
                self._repeated.add(number)
                self._line.sendall(packet(*message(number), mid, dup=True))
        return self._line

    def _say(self, line: socket.socket) -> None:
        number = self.ledger.sent
        mid = number % 65535 + 1
        self.ledger.sent += 1
        self._open[mid] = number
        line.sendall(packet(*message(number), mid))

    def _hear(self, line: socket.socket) -> None:
        data = line.recv(65536)
        if not data:
            raise ConnectionError("the broker hung up")
        self._rest += data
        while len(self._rest) >= 4:
            head, self._rest = self._rest[:4], self._rest[4:]
            if head[0] == 0x40:
                number = self._open.pop(int.from_bytes(head[2:], "big"), None)
                if number is not None:
                    self._acked.append(number)

    def _lost(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None
            self.ledger.reconnects += 1

    def _close(self, started_s: float) -> Ledger:
        if self._line is not None:
            self._line.sendall(b"\xe0\x00")
            self._line.close()
        ledger = self.ledger
        for numbers, into in ((self._acked, ledger.acked), (self._open.values(), ledger.unsure)):
            for number in sorted(numbers):
                into.setdefault(kind_of(number), []).append(number)
        ledger.repeated = sorted(self._repeated)
        ledger.elapsed_s = time.monotonic() - started_s
        return ledger


def probe(port: int, number: int) -> None:
    """One message for each of the gateway's two sessions, to see whether they are subscribed."""
    with connect(port, "probe") as line:
        line.sendall(packet("probe/0", f'{{"n":{number}}}'.encode(), 1))
        basket = f'{{"basket_id":"probe{number}","step":"opened","lane":"3"}}'
        line.sendall(packet("store/0042/pos/json/till/event", basket.encode(), 2))
        answers = b""
        while len(answers) < 8 and (data := line.recv(64)):
            answers += data
        line.sendall(b"\xe0\x00")


def tally(numbers: list[int]) -> Counter[str]:
    """How many messages of each device of an anonymous kind."""
    return Counter(f"{kind_of(number)}-{device_of(number)}" for number in numbers)


def main() -> None:
    """`traffic PORT LEDGER [PER_S]`."""
    port, ledger = int(sys.argv[1]), Path(sys.argv[2])
    per_s = float(sys.argv[3]) if len(sys.argv) > 3 else 400.0
    ledger.write_bytes(msgspec.json.encode(Publisher(port, per_s).run(sys.stdin.fileno())))


if __name__ == "__main__":
    main()
