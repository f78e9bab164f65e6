"""A thousand identifiers through every input of a whole gateway, and a search for them wherever a byte can come to lie.

The gateway is the real one, with its journal, its delivery and a reference platform behind a relay that keeps bytes;
its sources are the real ones, too, and only the wires into them are a test's. Half of the persons agreed, half did not:
with a consent more is done with an identifier. Used by the test and by the bench.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import logging
import random
import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import uvicorn

from config.loader import parse
from devices.plan import plan
from devices.source import MqttSource, SerialSource
from devices.transports.mqtt import Delivery
from gateway.app import Gateway
from gateway.event import STREAMS
from gateway.journal.integrity import backup
from gateway.journal.reader import JournalReader
from gateway.shopper.sealing import key_to_text, new_key
from sync.platform.app import platform_app
from tests.patience import until

UUID = "FDA50693-A4E2-4FB1-AFCF-C6EB07647825"
CONFIG = """
[storage]
directory = "{directory}"
ballast_mib = 0
[broker]
mode = "none"
[page]
enabled = false
[privacy]
seal_keys = {{ p1 = "{public}" }}
notice_version = "2026-10"
[presence]
min_reads = 1
[platform]
url = "http://127.0.0.1:{port}"
auth = "none"
coding = "identity"
interval_s = 0.1
boot_delay_s = 0
commands = false
"""
DEVICES = """
[[devices]]
name = "till-1"
driver = "pos_json"
[[devices]]
name = "till-2"
driver = "pos_escpos"
address = "/dev/null"
[[devices]]
name = "scanner"
driver = "scanner_gs1"
address = "/dev/null"
[devices.options]
loyalty = ['^M:(?P<member>.+)$']
[[devices]]
name = "pad"
driver = "rdm6300"
address = "/dev/null"
personal = true
[devices.options]
removed_after_s = 0.1
[[devices]]
name = "locker"
driver = "rdm6300"
address = "/dev/null"
[[devices]]
name = "ble"
driver = "beacon_gateway"
topics = ["ble/#"]
personal = true
[devices.options]
ibeacon_uuids = ["{uuid}"]
[[devices]]
name = "kiosk"
driver = "generic_json"
topics = ["kiosk/+/scan"]
[[devices.options.mappings]]
topic = "kiosk/{{who}}/scan"
reading = "scan"
missing = "reject"
fields = {{ text = "code" }}
fixed = {{ kind = "loyalty" }}
"""


class Canary(msgspec.Struct, frozen=True):
    """One identifier and how the gateway spells it."""

    scheme: str
    raw: str
    normal: str


class Found(msgspec.Struct, frozen=True):
    """What went in, what came of it, and where an identifier was found: (place, canary, form)."""

    canaries: int
    events: int
    subjects: int
    quarantined: int
    consents: int
    searched_bytes: int
    hits: tuple[tuple[str, str, str], ...]


def canaries(count: int, seed: int = 7) -> list[Canary]:
    """Identifiers of every kind in turn."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        tail = f"{dice.getrandbits(48):012x}"
        digits = f"{dice.randrange(10**7, 10**8)}"
        raw, normal, scheme = (
            (f"zq-{tail}", f"ZQ-{tail.upper()}", "member"),
            (f"138 {digits[:4]} {digits[4:]}", f"+86138{digits}", "phone"),
            (f"Zq{tail}@Shop.Example", f"zq{tail}@shop.example", "email"),
            (f"zqApp_{tail}", f"zqApp_{tail}", "app"),
            (f"PAR-{tail}{digits}", f"PAR-{tail}{digits}", "payment"),
            (str(card := dice.randrange(10**9, 2**32)), str(card), "card"),
            (beacon := f"{UUID}/{dice.randrange(10_000, 65_000)}/{dice.randrange(10_000, 65_000)}", beacon, "beacon"),
        )[number % 7]
        made.append(Canary(scheme, raw, normal))
    return made


def typed(count: int, seed: int = 8) -> list[Canary]:
    """What belongs in no field at all: numbers of bank cards and of citizens, with right check digits."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        if number % 2:
            body = f"6222{dice.randrange(10**11, 10**12)}"
            last = next(it for it in "0123456789" if _luhn(body + it))
        else:
            body = f"310115{dice.randrange(1950, 2010)}{dice.randrange(1, 13):02d}{dice.randrange(1, 29):02d}"
            body += f"{dice.randrange(1000):03d}"
            weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
            last = "10X98765432"[sum(int(it) * weight for it, weight in zip(body, weights, strict=True)) % 11]
        made.append(Canary("card number" if number % 2 else "citizen", body + last, body + last))
    return made


def _luhn(digits: str) -> bool:
    total = sum(int(it) for it in digits[-1::-2])
    return (total + sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(it)] for it in digits[-2::-2])) % 10 == 0


def forms(canary: Canary) -> Iterator[tuple[str, bytes]]:
    """Every form in which an identifier would still be one."""
    for text in {canary.raw, canary.normal, canary.raw.replace(" ", ""), canary.normal.lower(), canary.raw.upper()}:
        raw = text.encode()
        yield "raw", raw
        yield "hex", raw.hex().encode()
        yield "hex", raw.hex().upper().encode()
        for shift in range(3):  # base64 of something that holds it
            inner = base64.b64encode(b"\0" * shift + raw)[(0, 2, 3)[shift] :]
            whole = inner[: len(inner) // 4 * 4 - 4] or inner
            yield "base64", whole
            yield "base64", whole.translate(bytes.maketrans(b"+/", b"-_"))
        for name in ("md5", "sha256"):
            digest = hashlib.new(name, raw, usedforsecurity=False).digest()
            yield name, digest
            yield name, digest.hex().encode()
            yield name, digest.hex().upper().encode()
            yield name, base64.b64encode(digest).rstrip(b"=")


class Search:
    """Looks for all forms of all canaries at once: by their first eight bytes."""

    def __init__(self, birds: Iterable[Canary]) -> None:
        self._needles: dict[bytes, list[tuple[bytes, str, str]]] = {}
        for bird in birds:
            for form, needle in forms(bird):
                if len(needle) >= 8:
                    self._needles.setdefault(needle[:8], []).append((needle, bird.scheme, form))
        self.searched_bytes = 0

    def hits(self, place: str, data: bytes) -> set[tuple[str, str, str]]:
        """(place, scheme, form) of what is there."""
        self.searched_bytes += len(data)
        needles, found = self._needles, set()
        for at in range(len(data) - 7):
            if (some := needles.get(data[at : at + 8])) is not None:
                found |= {(place, scheme, form) for needle, scheme, form in some if data.startswith(needle, at)}
        return found


class Wire:
    """A serial line on which a test speaks."""

    def __init__(self) -> None:
        self.said: list[bytes] = []

    def open(self) -> None: ...
    def close(self) -> None: ...
    def write(self, data: bytes) -> None: ...

    def read(self, timeout_s: float) -> bytes:
        return self.said.pop(0) if self.said else b""


class Session:
    """A broker session that delivers what a test gives it."""

    def __init__(self) -> None:
        self.arrived: list[Delivery] = []
        self.acked = 0
        self._mid = 0

    def open(self) -> None: ...
    def close(self) -> None: ...

    def say(self, topic: str, payload: object) -> None:
        raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self._mid = self._mid % 65_535 + 1
        self.arrived.append(Delivery(1, self._mid, topic, raw))

    def receive(self, timeout_s: float, limit: int = 512) -> list[Delivery]:
        got, self.arrived = self.arrived[:limit], self.arrived[limit:]
        return got

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.acked += len(deliveries)


class Relay:
    """Passes bytes between a gateway and its platform, and keeps them."""

    def __init__(self, port: int) -> None:
        self.kept = bytearray()
        self._to = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._server.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError), one:
            while data := one.recv(65_536):
                self.kept += data
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _platform(path: Path) -> Iterator[int]:
    config = uvicorn.Config(platform_app(path), host="127.0.0.1", port=0, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(60)


def run(folder: Path, count: int) -> Found:
    """Send `count` identifiers through every input that their kind has, and look for them."""
    birds, strays = canaries(count), typed(count // 5)
    _private, public = new_key()
    log_file = folder / "gateway.log"
    handler = logging.FileHandler(log_file)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with _platform(folder / "platform.db") as port:
            relay = Relay(port)
            settings = parse(
                CONFIG.format(directory=folder / "state", public=key_to_text(public), port=relay.port), "test"
            )
            gateway, stop = Gateway(settings), threading.Event()
            thread = threading.Thread(target=gateway.run, args=(stop,))
            thread.start()
            try:
                until(lambda: gateway.commits.is_open)
                sent = _speak(gateway, birds, strays, stop)
                journal = gateway.journal_path
                until(lambda: gateway.inlet.size == 0)
                with JournalReader(journal) as reader:
                    until(lambda: all(state.pending == 0 for state in reader.states()))
                    events = [e.json for stream in STREAMS for e in reader.read(stream, 0, 1_000_000, 1 << 30)]
                    held = reader.query("SELECT * FROM quarantine")
                    consents = gateway.consents.count()
                backup(journal, folder / "backup.db")
                live = {path.name: path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file()}
            finally:
                stop.set()
                thread.join(60)
            relay.close()
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()
    assert sent and not thread.is_alive()
    look = Search([*birds, *strays])
    places = {
        **live, "http": bytes(relay.kept), "log": log_file.read_bytes(), "events": b"\n".join(events),
        "backup": (folder / "backup.db").read_bytes(),
        "quarantine in clear": json.dumps([[str(cell) for cell in row if not isinstance(cell, bytes)] for row in held])
        .encode(),
        **{f"platform {path.name}": path.read_bytes() for path in folder.glob("platform.db*")},
        **{f"stopped: {path.name}": path.read_bytes() for path in (folder / "state").rglob("*") if path.is_file()},
    }  # fmt: skip
    hits = set().union(*(look.hits(place, data) for place, data in places.items()))
    subjects = sum(b'"sealed":' in event or b'"day_key":' in event for event in events)
    return Found(count, len(events), subjects, len(held), consents, look.searched_bytes, tuple(sorted(hits)))


def _speak(gateway: Gateway, birds: list[Canary], strays: list[Canary], stop: threading.Event) -> int:
    plans = {it.name: it for it in plan(parse(DEVICES.format(uuid=UUID), "test"), "test")}
    session = Session()
    mqtt = MqttSource("mqtt-test", [it for it in plans.values() if it.driver.wire == "mqtt"], session, gateway.intake)
    wires = {name: Wire() for name, it in plans.items() if it.driver.wire == "serial"}
    lines = {name: SerialSource(plans[name], wire, gateway.intake) for name, wire in wires.items()}  # type: ignore[arg-type]
    till = "store/0042/pos/till/lane2/event"
    agreed = [bird for number, bird in enumerate(birds) if number % 2]
    for bird in agreed:
        session.say(till, {"consent": "granted", "member": bird.raw, "member_scheme": bird.scheme,
                           "purposes": ["visits", "matching"], "method": "till"})  # fmt: skip
    for number, bird in enumerate(birds):
        sale = {"transaction_id": f"t{number}", "business_date": "2026-11-22", "totals": {"net": "1.00"},
                "lines": [{"amount": "1.00"}], "loyalty": {"scheme": bird.scheme, "id": bird.raw}}  # fmt: skip
        session.say(till, sale)
        session.say(till, {"programme": "club", "points": "1", "member": bird.raw, "member_scheme": bird.scheme})
        session.say(till, {**sale, "totals": {"net": f"x{bird.raw}"}})  # what cannot be read goes to quarantine
        session.say(till, b'{"member": "' + bird.raw.encode())
        session.say(till, {**sale, "type": bird.raw})
        session.say(f"kiosk/{bird.raw.replace(' ', '')}/scan", {"code": bird.raw})
        session.say(f"kiosk/{bird.raw.replace(' ', '')}/scan", {"other": bird.raw})
        session.say(till, {"consent": "granted", "member": bird.raw, "member_scheme": bird.raw, "purposes": ["visits"]})
        session.say(till, {"consent": "granted", "member": bird.raw, "member_scheme": bird.scheme,
                           "purposes": [bird.raw], "record_id": bird.raw})  # fmt: skip
        if bird.scheme == "payment":
            session.say(till, {**sale, "transaction_id": f"p{number}", "loyalty": None,
                               "tenders": [{"type": "card", "amount": "1.00", "token": bird.raw}]})  # fmt: skip
        if bird.scheme == "beacon":
            uuid, major, minor = bird.raw.split("/")
            session.say("ble/door/BTtoMQTT/7ABBCCDDEEFF", {
                "id": "7A:BB:CC:DD:EE:FF", "mac_type": 1, "rssi": -50, "uuid": uuid.replace("-", "").lower(),
                "major": int(major), "minor": int(minor), "txpower": -59})  # fmt: skip
        if bird.scheme == "card":
            digits = f"00{int(bird.raw):08X}"
            check = 0
            for octet in bytes.fromhex(digits):
                check ^= octet
            frame = b"\x02" + f"{digits}{check:02X}".encode() + b"\x03"
            wires["pad"].said += [frame, b""]
            wires["locker"].said.append(frame)
        wires["scanner"].said.append(f"M:{bird.raw}\r{bird.raw}\r".encode())
        if number % 5 == 0:
            receipt = f"SHOP\nReceipt No: {number}\nMember No: {bird.raw}\nCashier: {bird.raw}\nMilk 2.00\nTOTAL 2.00\n"
            wires["till-2"].said += [receipt.encode() + b"CASH 2.00\n\x1dV\x00", b"", b""]
    for bird in [*strays, *(it for it in birds if it.scheme in ("phone", "email"))]:  # typed where none belongs
        raw = bird.raw
        session.say(till, {
            "transaction_id": f"n-{raw}", "workstation_id": raw, "totals": {"net": "1.00"}, "coupons": [raw],
            "lines": [{"amount": "2.00", "description": f"送货 {raw}，谢谢", "sku": raw, "gtin": raw, "unit": raw,
                       "original_transaction": raw,
                       "discounts": [{"amount": "1.00", "reason": f"for {raw}", "promotion_id": raw, "coupon": raw}]}],
        })  # fmt: skip
        session.say(till, {"basket_id": raw, "step": "opened", "lane": raw, "boot": raw, "seq": raw})
        session.say(till, {"programme": raw, "points": "1", "transaction_id": raw})
        session.say(till, {"question": raw, "score": 3})
        wires["till-2"].said += [
            f"SHOP\nReceipt No: {raw}\nFor {raw} 2.00\nTOTAL 2.00\n".encode() + b"CASH 2.00\n\x1dV\x00", b"", b"",
        ]  # fmt: skip
    for bird in agreed[::4]:
        session.say(till, {"consent": "withdrawn", "member": bird.raw, "member_scheme": bird.scheme})
        session.say(till, {"transaction_id": f"w{bird.normal[-4:]}", "totals": {"net": "1.00"},
                           "loyalty": {"scheme": bird.scheme, "id": bird.raw}})  # fmt: skip
    sent = len(session.arrived) + sum(len(wire.said) for wire in wires.values())
    sources: list[MqttSource | SerialSource] = [mqtt, *lines.values()]
    busy: list[Session | Wire] = [session, *wires.values()]
    threads = [threading.Thread(target=_drain, args=(one, two, stop)) for one, two in zip(sources, busy, strict=True)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
        assert not each.is_alive(), "a source did not come to its end"
    mqtt.step(stop)
    return sent


def _drain(source: MqttSource | SerialSource, wire: Session | Wire, stop: threading.Event) -> None:
    source.open()
    while (wire.arrived if isinstance(wire, Session) else wire.said) and not stop.is_set():
        source.step(stop)
    for _ in range(3):
        source.step(stop)
    source.close()
