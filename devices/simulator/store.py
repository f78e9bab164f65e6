"""The virtual store: a shop's acts, played at a speed, on devices that speak real bytes.

`step` does what is due: acts become tags in a field, codes, receipts and messages; readers poll; what the gateway sends
is answered. Serial devices are on ptys (`wiring`), the others on a broker where there is one. Everything that leaves is
written into the ledger. Faults are switches on this object, see `devices.simulator.faults`. Knows no gateway and no
journal: it is the world outside.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Final, Protocol

from devices.simulator import day, sensors, till
from devices.simulator.beacons import Receiver
from devices.simulator.checkout import SALES, Checkout
from devices.simulator.goods import Article
from devices.simulator.ledger import Ledger
from devices.simulator.members import Club
from devices.simulator.scanner import scan_bytes
from devices.simulator.shop import (
    Act,
    AppShown,
    Closed,
    DoorMoved,
    Entered,
    Left,
    Measured,
    Near,
    Paid,
    Passed,
    Rated,
    Scanned,
    Shop,
)
from devices.simulator.uhf_reader import Field, M100Reader, Reader288, Sent
from devices.simulator.wiring import Noise, Plug
from gateway.errors import Unavailable

SERIAL: Final = ("gate", "fitting-rooms", "scanner", "till-2")
SHOP_TIME: Final = timezone(timedelta(hours=8))  # Asia/Shanghai
_TICK_S: Final = 0.02
_NEAR_S: Final = 2.5  # nobody carries a tag through a gate faster than this, however fast the day goes
_COUNT_EVERY_S: Final = 2.0  # real time between two messages of the door counter
_BURST: Final = 200  # acts played in one step, at most
_STRANGER: Final = Article(999, "", Decimal(0), tagged=True)  # the tags of a flood
_UNREAD_S: Final = 1.0  # what left so shortly before a line went may not have been read


class Outlet(Protocol):
    """Where devices publish; `devices.transports.publisher.Publisher` is one."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Put a message into the outbox; raises Unavailable when that is full."""
        ...

    def heard(self, topic: str) -> bytes | None:
        """The newest message on a topic that is watched; None before the first."""
        ...


MainDoor = Callable[[float, float], tuple[int, int]]
"""How many came in and went out between two moments of monotonic time."""


class VirtualStore:
    """The shop and its devices. One thread: `open`, `step` again and again, `close`."""

    def __init__(
        self, folder: Path, *, seed: int, speed: float, run: datetime, till_outlet: Outlet | None = None,
        outlet: Outlet | None = None, main_door: MainDoor = lambda from_s, to_s: (0, 0), club: Club | None = None,
        visitors: float = day.ASSUMED_VISITORS, zone: tzinfo = SHOP_TIME,
    ) -> None:  # fmt: skip
        """Build; nothing is plugged in yet.

        Args:
            folder: where the names of the serial devices go.
            seed: of the day.
            speed: shop seconds in a real second, > 0.
            run: when this run began, aware; names its sales and tags, so that no two runs tell the same.
            till_outlet: the till's broker connection; None: no broker, so neither till 1 nor sensors.
            outlet: that of all other MQTT devices.
            main_door: who comes and goes through the door that a camera watches; the rest takes the side door.
            club: the members; None: nobody is one. They need a till that knows members, which is the one on the broker.
            visitors: in a day of the shop.
            zone: in which its tills tell the time.
        """
        self.ledger = Ledger()
        self.speed = speed
        self.noise = Noise(0.0, seed)
        self.plugs = {name: Plug(folder / name) for name in SERIAL}
        self.till_outlet, self.outlet = till_outlet, outlet
        self._main_door, self._zone = main_door, zone
        self.day_s = 0.0  # shop time of what was played last
        self.day = 1
        first = int(run.astimezone(zone).strftime("%H%M%S")) * 10_000
        self._boot = f"{int(run.timestamp()):x}"
        self.club = club or Club(seed, run.timestamp(), 0)
        self._acts: Iterator[Act] = Shop(
            seed, visitors, first_serial=int(run.timestamp()) % (1 << 20) << 18,
            members=self.club.members if till_outlet is not None else (),
        ).acts()  # fmt: skip
        self._next: Act = next(self._acts)
        self._fields = {"gate": Field(seed + 1), "fitting-rooms": Field(seed + 2)}
        self._gate = M100Reader(self._fields["gate"])
        self._readers: dict[str, M100Reader | Reader288] = {
            "gate": self._gate, "fitting-rooms": Reader288(self._fields["fitting-rooms"])
        }  # fmt: skip
        self._attended = False
        self._tills = {"till-1": till.Till("till-1", first + 1), "till-2": till.Till("till-2", first + 1)}
        self._checkout = Checkout(
            self._tell_till, self._heard_at_till, self.club, self.ledger, self._tills["till-1"].number, self._boot,
            seed, lambda: datetime.now(zone),
        )  # fmt: skip
        self._door_codes = 0
        self._receivers = {name: Receiver(name, seed + 3) for name in ("door", "aisle")}
        self._began_s: float | None = None  # when the day began; None: the doors are not open yet
        self._counted = [0, 0]
        self._counted_s = 0.0
        self._counts = 0

    def open(self) -> None:
        """Plug everything in.

        Raises:
            Unavailable: no ptys, or the folder cannot be written.
        """
        for plug in self.plugs.values():
            plug.plug()

    def begin(self) -> None:
        """Open the doors: from now on the day goes by."""
        self._began_s = self._counted_s = time.monotonic()

    @property
    def attended(self) -> bool:
        """True once the gateway polls the gate; False from `unattend` until it does so again."""
        return self._attended

    def unattend(self) -> None:
        """The gateway goes or has gone: what the lines carried in the last second and carry now proves nothing."""
        self._attended = False
        self.ledger.unread(SERIAL, time.monotonic() - _UNREAD_S)
        self.club.away(time.monotonic())
        self._gate.restart()  # so that its polling again shows the new gateway

    def step(self, timeout_s: float = _TICK_S) -> None:
        """Do what is due, after waiting `timeout_s` at most for the gateway to say something."""
        self._listen(timeout_s)
        now_s = time.monotonic()
        if self._began_s is not None:
            self._play(now_s)
            self._checkout.step(now_s)
            self._count_door(now_s)
        for name, reader in self._readers.items():
            self._send(name, reader.tick(now_s), now_s)

    def pull(self, name: str) -> None:
        """Pull the plug of a serial device."""
        self.ledger.unread((name,), time.monotonic() - _UNREAD_S)
        self.plugs[name].pull()

    def plug(self, name: str) -> None:
        """Put it back; the device starts afresh."""
        if reader := self._readers.get(name):
            reader.restart()
        self.plugs[name].plug()

    def stop(self) -> None:
        """Close the doors: no act is played any more; who stands at the till is served; the last count is told."""
        if self._began_s is not None:
            self._checkout.finish(time.monotonic())
            self._tell_side_door(time.monotonic())
        self._began_s = None

    def close(self) -> None:
        """Pull every plug."""
        for plug in self.plugs.values():
            plug.pull()

    # ── faults that are a matter of what devices send ──

    def flood(self, count: int) -> None:
        """Send `count` needless sensor messages and as many foreign tags at the gate as its line takes."""
        gate, now_s = self._fields["gate"], time.monotonic()
        for number in range(min(count, 50)):
            gate.put(_STRANGER.epc(self.ledger.flood + number + 1), 1, now_s + 0.2)
        if self.outlet is not None:
            for _ in range(count):
                self._publish(*sensors.climate("flood", 20.0 + self.ledger.flood % 10, 50.0))
                self.ledger.flood += 1

    def poison(self) -> None:
        """A till sends what is no sale: cut JSON, a wrong type, an unknown word, no JSON at all."""
        for payload in (
            b'{"v":1,"sequence":17,"totals":{"net":"12.0',
            b'{"sequence":18,"totals":{"net":["12.00"]}}',
            b'{"sequence":19,"type":"gift","totals":{"net":"1.00"}}',
            b"\xff\xfe\x00 receipt",
        ):
            self.ledger.poison += self._tell_till(SALES, payload)

    # ── inside ──

    def _listen(self, timeout_s: float) -> None:
        """Hear what the gateway says to the readers and answer."""
        poll = select.poll()
        names = {}
        for name, plug in self.plugs.items():
            if plug.plugged:
                poll.register(plug.fileno(), select.POLLIN)
                names[plug.fileno()] = name
        for descriptor, _ in poll.poll(timeout_s * 1000):
            name = names[descriptor]
            data, now_s = self.plugs[name].read(), time.monotonic()
            if data and (reader := self._readers.get(name)):
                self._send(name, reader.feed(data, now_s), now_s)
                self._attended = self._attended or self._gate.polling

    def _send(self, name: str, told: list[Sent], now_s: float) -> None:
        plug = self.plugs[name]
        for item in told:
            frame = self.noise.passed(item.frame)
            if plug.write(frame) and frame == item.frame and item.epc:
                self.ledger.tag(name, item.epc, now_s, proves=self._attended)

    def _play(self, now_s: float) -> None:
        assert self._began_s is not None
        until_s = (now_s - self._began_s) * self.speed
        for _ in range(_BURST):
            if self._next.at_s > until_s:
                return
            self.day_s = self._next.at_s
            self._act(self._next, now_s)
            self._next = next(self._acts)

    def _act(self, act: Act, now_s: float) -> None:
        if isinstance(act, Entered):
            self._counted[0] += 1
            self._foreign_phone()
        elif isinstance(act, Left):
            self._counted[1] += 1
        elif isinstance(act, Near):
            for field in self._fields.values():
                field.take(act.epc)
            self._fields[act.reader].put(act.epc, act.antenna, now_s + max(_NEAR_S, act.for_s / self.speed))
        elif isinstance(act, Scanned):
            self._scan(act)
        elif isinstance(act, Paid):
            self._sell(act)
        elif isinstance(act, Passed):
            for _ in range(3):
                self._publish(*self._receivers[act.receiver].trolley(act.minor))
        elif isinstance(act, AppShown):
            self._door_codes += 1
            told = self._publish(*sensors.app_code("main", self._boot, self._door_codes, act.member.app))
            self.ledger.door_codes += told
        elif isinstance(act, Rated):
            self.ledger.ratings += self._publish(*sensors.feedback("feedback-stand", act.score))
        elif isinstance(act, DoorMoved):
            self._publish(*sensors.contact("back-door", is_open=act.open))
        elif isinstance(act, Measured):
            self._publish(*sensors.climate("fridge", act.celsius, act.humidity))
        elif isinstance(act, Closed):
            self.day = act.day + 1

    def _scan(self, act: Scanned) -> None:
        frame = scan_bytes(act.aim, act.text)
        sent = self.noise.passed(frame)
        if not self.plugs["scanner"].write(sent):
            self.ledger.lost_on_wire["scanner: line full"] += 1
        elif sent != frame:
            self.ledger.lost_on_wire["scanner: damaged by the cable"] += 1
        else:
            self.ledger.scanned(time.monotonic(), proves=self._attended)

    def _sell(self, act: Paid) -> None:
        """Without a broker every sale goes over till 2."""
        if act.till == 1 and self.till_outlet is not None:
            self._checkout.pay(act)
            return
        number = self._tills["till-2"].number()
        if self.plugs["till-2"].write(till.receipt_bytes(act, number, datetime.now(self._zone))):
            self.ledger.sold("till-2", number, act.net, time.monotonic(), proves=self._attended)
        else:  # a passive tap: paper does not wait for a listener
            self.ledger.lost_on_wire["till-2: line full"] += 1

    def _foreign_phone(self) -> None:
        self._publish(*self._receivers["door"].phone())

    def _count_door(self, now_s: float) -> None:
        if now_s - self._counted_s >= _COUNT_EVERY_S:
            self._tell_side_door(now_s)

    def _tell_side_door(self, now_s: float) -> None:
        """Tell how many took the side door: everybody but those who took the main door meanwhile.

        Now and then more come through the main door than the shop's day has so far; they are taken off later.
        """
        main = self._main_door(self._counted_s, now_s)
        here = [counted - elsewhere for counted, elsewhere in zip(self._counted, main, strict=True)]
        entered, left = (max(0, count) for count in here)
        self._counts += 1
        interval_s = now_s - self._counted_s
        if self._publish(*sensors.door_count("side", self._boot, self._counts, entered, left, interval_s)):
            self.ledger.entered += entered
            self.ledger.left += left
            self._counted, self._counted_s = [min(0, count) for count in here], now_s

    def _tell_till(self, topic: str, payload: bytes) -> bool:
        return self._put(self.till_outlet, "till-1", topic, payload)

    def _heard_at_till(self, topic: str) -> bytes | None:
        return None if self.till_outlet is None else self.till_outlet.heard(topic)

    def _publish(self, topic: str, payload: bytes) -> bool:
        return self._put(self.outlet, "sensors", topic, payload)

    def _put(self, outlet: Outlet | None, device: str, topic: str, payload: bytes) -> bool:
        """Whether the message is in the outbox now."""
        if outlet is None:
            return False
        try:
            outlet.publish(topic, payload)
        except Unavailable:
            self.ledger.lost_on_wire[f"{device}: outbox full"] += 1
            return False
        return True
