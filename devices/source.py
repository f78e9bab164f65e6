"""A source: one transport, the drivers that understand it, and the intake they feed. The workers of the devices room.

`SerialSource` serves one device on one line; `MqttSource` serves every device behind one broker session. Bytes become
readings (driver), readings become drafts (normaliser), drafts wait in the inlet, and what a broker may forget is
acknowledged by the receipt that the journal calls after its commit. Knows no device family and no storage.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from hashlib import blake2b
from typing import Protocol

from devices.driver import Counters, Driver, Message
from devices.plan import DevicePlan
from devices.topic import TopicTable, matching
from devices.transports.line import Line
from devices.transports.mqtt import Delivery
from gateway.clock import Clock, Instant
from gateway.errors import Rejected, Unavailable
from gateway.event import STREAMS, Draft, Stream
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item, Poison, Policy
from gateway.intake.normaliser import Normaliser
from gateway.intake.person import unnamed
from gateway.intake.place import Place
from gateway.intake.reading import DeviceState, Reading

_READ_S = 0.05  # also the longest that a driver waits for its tick …
_LULL_READ_S = 0.5  # … but on a line that has been silent for `_LULL_READS` reads: nothing is under way there
_LULL_READS = 40
_RECEIVE_S = 1.0  # how often drivers tick; a message, an acknowledgement, a publish or the end cuts it short
_OFFER_S = 0.25
_FAREWELL_S = 1.0
_BATCH = 256
_POISON = b"\xff\xff\xff"  # in the place of a reading's index
# What a driver with a mistake in it may raise over one message, which is set aside instead of stopping its source.
DEFECTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class MqttSession(Protocol):
    """What the source needs of a broker session; `devices.transports.mqtt.MqttLink` is one."""

    def open(self) -> None:
        """Begin to connect."""
        ...

    def receive(self, timeout_s: float, limit: int = ...) -> list[Delivery]:
        """Serve the network and return what arrived; `limit` 0 reads nothing new."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge, from any thread."""
        ...

    def wake(self) -> None:
        """Let `receive` return, from any thread."""
        ...

    def close(self) -> None:
        """Say goodbye and disconnect."""
        ...


class Intake:
    """What a source feeds: normaliser, inlet and the board of devices, bundled because they always go together."""

    def __init__(self, normaliser: Normaliser, inlet: Inlet, board: DeviceBoard, clock: Clock) -> None:
        """Store."""
        self.normaliser = normaliser
        self.inlet = inlet
        self.board = board
        self.clock = clock

    def place(self, plan: DevicePlan) -> Place:
        """Put a device on the board and say where it stands."""
        settings = plan.settings
        self.board.register(plan.name, plan.driver.name, settings.zone, settings.stale_after_s)
        return Place(
            device=plan.name,
            path=plan.path,
            zone=settings.zone or None,
            antenna_zones={int(antenna): zone for antenna, zone in settings.antenna_zones.items()},
            depart_after_s=settings.depart_after_s,
            keep_text=settings.keep_text,
            personal=settings.personal,
        )

    def take(
        self, readings: Iterable[Reading], place: Place, at: Instant, into: list[Draft],
        delivery: Delivery | None = None, key: bytes = b"",
    ) -> None:  # fmt: skip
        """Normalise readings; their events are added to `into`, device states go to the board.

        `into` holds what came of the readings before one that raises. `key`: names the delivery, see `delivery_key`.

        Raises:
            Rejected: the delivery holds what no event can have.
            Unavailable: it cannot be understood now.
        """
        heard = 0
        well = False
        fresh = delivery is None or not delivery.dup
        for index, reading in enumerate(readings):
            heard += 1
            if isinstance(reading, DeviceState):
                unwell = reading.state in ("offline", "fault")
                self.board.faulted(place.device, (reading.detail or reading.state) if unwell else "")
            elif not well:
                well = True
                self.board.faulted(place.device, "")  # it says something sensible again
            try:
                into += self.normaliser.drafts(reading, place, at, key and key + index.to_bytes(3, "big"), fresh)
            except (Rejected, Unavailable) as error:
                if delivery is not None:  # quarantine keeps it, or the broker does
                    raise
                if isinstance(error, Unavailable) and (rest := unnamed(reading)) is not None:
                    # A line says a thing once: better a sale of nobody than no sale.
                    into += self.normaliser.drafts(rest, place, at)
                    self.normaliser.counters.subjects_dropped += 1
                else:
                    self.board.counted(place.device, bad=1, skipped_bytes=0, ignored=0)
        if heard:
            self.board.heard(place.device, at, heard)


class SerialSource:
    """Worker for one serial (or TCP) device. A fresh object is made after every loss of the line."""

    def __init__(self, plan: DevicePlan, line: Line, intake: Intake) -> None:
        """`line` is not open yet."""
        self._plan = plan
        self._line = line
        self._intake = intake
        self._driver: Driver = plan.make()
        self._told = Counters()
        self._place = intake.place(plan)
        self._silent_reads = 0
        self._waiting: Item | None = None  # what the inlet has not taken yet; nothing more is read until it has
        policy: Policy = plan.settings.policy or "drop_oldest"
        intake.inlet.lane(plan.name, policy)

    def open(self) -> None:
        """Open the line and send what the driver says first.

        Raises:
            Unavailable: the device is not there.
        """
        try:
            self._line.open()
            self._send(self._intake.clock.now())
        except Unavailable as error:
            self._intake.board.lost(self._plan.name, error.reason, error.hint)
            raise
        self._intake.board.connected(self._plan.name)

    def step(self, stop: threading.Event) -> None:
        """Wait briefly for bytes and take in what they say; while the inlet is full, wait for room instead.

        Raises:
            Unavailable: the device has gone.
        """
        if not self._hand_on(_OFFER_S):
            return  # bounded: a worker that does not come back counts as stuck, and the process would be ended
        try:
            data = self._line.read(_READ_S if self._silent_reads < _LULL_READS else _LULL_READ_S)
            self._silent_reads = 0 if data else self._silent_reads + 1
            at = self._intake.clock.now()
            drafts: list[Draft] = []
            if data:
                self._intake.take(self._driver.feed(data, at), self._place, at, drafts)
            self._intake.take(self._driver.tick(at), self._place, at, drafts)
            if drafts:
                self._waiting = Item(drafts)
                self._hand_on(_OFFER_S)
            self._send(at)
        except Unavailable as error:
            self._intake.board.lost(self._plan.name, error.reason, error.hint)
            raise
        finally:
            self._tell()

    def close(self) -> None:
        """Release the line. What the inlet has not taken is left there: a line says a thing once."""
        if not self._hand_on(0.0) and self._waiting is not None:
            self._intake.inlet.leave(self._plan.name, self._waiting)
            self._waiting = None
        self._line.close()

    def _hand_on(self, timeout_s: float) -> bool:
        """True when nothing waits for the inlet any more."""
        if self._waiting is not None and self._intake.inlet.offer(self._plan.name, self._waiting, timeout_s):
            self._waiting = None
        return self._waiting is None

    def _send(self, at: Instant) -> None:
        if data := self._driver.outgoing(at):
            self._line.write(data)

    def _tell(self) -> None:
        now, told = self._driver.counters, self._told
        self._intake.board.counted(
            self._plan.name,
            bad=now.bad_frames - told.bad_frames,
            skipped_bytes=now.skipped_bytes - told.skipped_bytes,
            ignored=now.ignored - told.ignored,
        )
        self._told = Counters(now.frames, now.bad_frames, now.skipped_bytes, now.ignored)


class MqttSource:
    """Worker for all devices behind one broker session.

    A message is acknowledged only after everything it became is committed: its events, or its place in quarantine.
    """

    def __init__(
        self, name: str, plans: Sequence[DevicePlan], link: MqttSession, intake: Intake,
        broker: Callable[[], bytes] = bytes, driver_of: Callable[[DevicePlan], Driver] = DevicePlan.make,
        forget: Callable[[DevicePlan], object] = lambda plan: None,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            name: of the session, unique.
            plans: its devices.
            link: not open yet.
            intake: what is fed.
            broker: see `delivery_key`.
            driver_of: gives a device's driver, new or as an earlier source of this session has left it.
            forget: told whose driver has failed by itself, so that the next source gets a new one.
        """
        self._broker = broker
        self._forget = forget
        self._name = name
        self._link = link
        self._intake = intake
        self._devices = [(plan, driver_of(plan), intake.place(plan)) for plan in plans]
        self._told = {plan.name: copy(driver.counters) for plan, driver, _ in self._devices}
        self._routes = TopicTable([plan.topics for plan in plans])
        self._waiting: list[tuple[str, Item]] = []  # lanes and what they have not taken; nothing is read until then
        self._ticked_us = 0
        self._owed = 0  # deliveries handed on, counted by this thread …
        self._settled = 0  # … and those whose receipt came, counted by the journal's
        self.unrouted = 0
        for stream in STREAMS:
            intake.inlet.lane(f"{name}/{stream}", "wait")

    def open(self) -> None:
        """Begin to connect."""
        self._link.open()

    def step(self, stop: threading.Event) -> None:
        """Receive a batch, take it in, and hand it to the inlet stream by stream; while that is full, wait for room."""
        if not self._hand_on():
            return  # bounded: a worker that does not come back counts as stuck, and the process would be ended
        deliveries = self._link.receive(_RECEIVE_S, _BATCH)
        at = self._intake.clock.now()
        if deliveries:
            items, trouble = self._sort(deliveries, at)
            self._offer(items)
            if trouble is not None:
                raise trouble
        if at.mono_us - self._ticked_us >= 1_000_000:
            self._ticked_us = at.mono_us
            self._tick(at)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._link.wake()

    def close(self) -> None:
        """Wait briefly for the last commits so that they are acknowledged, then disconnect.

        What the inlet has not taken is left there: what presence has made of it would not be said again.
        """
        for lane, item in self._waiting:
            self._intake.inlet.leave(lane, item)
        self._waiting = []
        until_s = time.monotonic() + _FAREWELL_S
        with contextlib.suppress(Unavailable):
            while self._settled < self._owed and time.monotonic() < until_s:
                self._link.receive(0.02, 0)
        self._link.close()

    def _sort(self, deliveries: list[Delivery], at: Instant) -> tuple[dict[Stream, Item], Unavailable | None]:
        """One item a stream, so that a stream the journal refuses does not hold another's acknowledgements.

        Also what stopped it halfway: the broker brings that delivery, and those behind it, again.
        """
        drafts: dict[Stream | None, list[Draft]] = {}
        poison: dict[Stream | None, list[Poison]] = {}
        owing: dict[Stream | None, list[Delivery]] = {}
        trouble: Unavailable | None = None
        for delivery in deliveries:
            became: list[Draft] = []
            refused: list[Poison] = []
            try:
                self._understand(delivery, at, became, refused)
            except Unavailable as error:
                trouble, became, refused = error, _once(became), []
            if became:
                stream: Stream | None = became[0].stream
                if len(became) > 1:
                    stream = min((draft.stream for draft in became), key=STREAMS.index)
                drafts.setdefault(stream, []).extend(became)
            else:
                stream = "measurements" if refused else None
            if refused:
                poison.setdefault(stream, []).extend(refused)
            if trouble is not None:
                owing.setdefault(stream, [])
                break
            owing.setdefault(stream, []).append(delivery)
        self._link.ack(owing.pop(None, ()))  # nothing to keep: known, and of no interest
        items = {
            stream: Item(drafts.get(stream, ()), self._receipt(owed), poison.get(stream, ()))
            for stream, owed in owing.items()
            if stream is not None
        }
        return items, trouble

    def _understand(self, delivery: Delivery, at: Instant, drafts: list[Draft], poison: list[Poison]) -> None:
        """Add what the delivery means to all devices that it concerns."""
        broker = self._broker()
        routes = self._routes.match(delivery.topic)
        if not routes:
            self.unrouted += 1
        message = Message(delivery.topic, delivery.payload, delivery.retained)
        for index in routes:
            plan, driver, place = self._devices[index]
            key = delivery_key(delivery, plan.name, broker)
            before = len(drafts)
            try:
                if delivery.fault:
                    raise Rejected("receive", delivery.topic, delivery.fault)
                self._intake.take(driver.feed(message, at), place, at, drafts, delivery, key)
                continue
            except Rejected as error:
                reason = f"{error.reason} ({error.hint})" if error.hint else error.reason
            except DEFECTS as error:  # the broker would bring it again for ever, and every device behind it would stand
                reason = f"the driver failed: {type(error).__name__} (this is a defect of the software: report it)"
            drafts[before:] = _once(drafts[before:])
            matched = matching(plan.topics, delivery.topic)
            poison.append(
                Poison(
                    plan.name, plan.driver.name, reason, delivery.payload, delivery.topic, matched,
                    dedupe=key + _POISON, fresh=not delivery.dup,
                )
            )  # fmt: skip
            self._intake.board.quarantined(plan.name)

    def _receipt(self, owed: list[Delivery]) -> Callable[[], None]:
        def receipt() -> None:
            self._settled += len(owed)
            self._link.ack(owed)

        self._owed += len(owed)
        return receipt

    def _offer(self, items: dict[Stream, Item]) -> None:
        self._waiting += [(f"{self._name}/{stream}", item) for stream, item in items.items()]
        self._hand_on()

    def _hand_on(self) -> bool:
        """True when every lane has taken its own; what one refuses holds no other up, nor its acknowledgements."""
        full: list[tuple[str, Item]] = []
        for lane, item in self._waiting:
            behind = any(lane == other for other, _ in full)  # the order within a lane stays
            if behind or not self._intake.inlet.offer(lane, item, 0.0 if full else _OFFER_S):
                full.append((lane, item))
        self._waiting = full
        if full:
            self._link.receive(0.0, 0)  # keep the session alive, read nothing more
        return not full

    def _tick(self, at: Instant) -> None:
        for plan, driver, place in self._devices:
            drafts: list[Draft] = []
            try:
                self._intake.take(driver.tick(at), place, at, drafts)
            except DEFECTS:
                self._forget(plan)
                raise
            if drafts:
                self._offer({drafts[0].stream: Item(drafts)})
            now, told = driver.counters, self._told[plan.name]
            self._intake.board.counted(
                plan.name,
                bad=now.bad_frames - told.bad_frames,
                skipped_bytes=now.skipped_bytes - told.skipped_bytes,
                ignored=now.ignored - told.ignored,
            )
            self._told[plan.name] = Counters(now.frames, now.bad_frames, now.skipped_bytes, now.ignored)


def _once(drafts: list[Draft]) -> list[Draft]:
    """Those that do not come again with their message: what presence has decided, it decides once."""
    return [draft for draft in drafts if not draft.dedupe]


def delivery_key(delivery: Delivery, device: str, broker: bytes = b"") -> bytes:
    """Names what one PUBLISH means to one device: the broker repeats packet id, topic and payload with it.

    `broker`: up to 14 bytes that name the broker's process where it gives packet ids anew after a restart. Without
    them a repeat could bear the name of another message of the same content, and be taken for that one.
    """
    digest = blake2b(delivery.payload, digest_size=7, salt=delivery.mid.to_bytes(2, "big") + broker)
    digest.update(b"%b\0%b" % (delivery.topic.encode(), device.encode()))
    return digest.digest()
