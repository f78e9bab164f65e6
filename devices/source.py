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
_LULL_READ_S = 0.25  # … but on a line that has been silent for `_LULL_READS` reads: nothing is under way there
_LULL_READS = 40
_RECEIVE_S = 0.5  # a message, an acknowledgement or a publish ends the wait at once
_OFFER_S = 0.25
_FAREWELL_S = 1.0
_BATCH = 256
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

    def drafts(
        self, readings: Iterable[Reading], place: Place, at: Instant, delivery: Delivery | None, broker: bytes = b""
    ) -> list[Draft]:
        """Normalise readings; device states go to the board. `broker`: see `delivery_key`."""
        drafts: list[Draft] = []
        heard = 0
        well = False
        key, fresh = b"", True
        if delivery is not None:
            key, fresh = delivery_key(delivery, broker), not delivery.dup
        for index, reading in enumerate(readings):
            heard += 1
            if isinstance(reading, DeviceState):
                unwell = reading.state in ("offline", "fault")
                self.board.faulted(place.device, (reading.detail or reading.state) if unwell else "")
            elif not well:
                well = True
                self.board.faulted(place.device, "")  # it says something sensible again
            try:
                drafts += self.normaliser.drafts(reading, place, at, key and key + index.to_bytes(3, "big"), fresh)
            except (Rejected, Unavailable) as error:
                if delivery is not None:  # quarantine keeps it, or the broker does
                    raise
                if isinstance(error, Unavailable) and (rest := unnamed(reading)) is not None:
                    # A line says a thing once: better a sale of nobody than no sale.
                    drafts += self.normaliser.drafts(rest, place, at)
                    self.normaliser.counters.subjects_dropped += 1
                else:
                    self.board.counted(place.device, bad=1, skipped_bytes=0, ignored=0)
        if heard:
            self.board.heard(place.device, at, heard)
        return drafts


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
            drafts = self._take(self._driver.feed(data, at) if data else (), at)
            drafts += self._take(self._driver.tick(at), at)
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
        """Release the line. What the inlet does not take now is lost, and counted."""
        if not self._hand_on(0.0) and self._waiting is not None:
            self._intake.inlet.give_up(self._plan.name, self._waiting)
            self._waiting = None
        self._line.close()

    def _take(self, readings: Iterable[Reading], at: Instant) -> list[Draft]:
        return self._intake.drafts(readings, self._place, at, None)

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
        broker: Callable[[], bytes] = bytes,
    ) -> None:  # fmt: skip
        """`name`: of the session, unique; `link` is not open yet; `broker`: see `delivery_key`."""
        self._broker = broker
        self._name = name
        self._link = link
        self._intake = intake
        self._devices = [(plan, plan.make(), intake.place(plan)) for plan in plans]
        self._told = {plan.name: Counters() for plan in plans}
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
            self._offer(self._sort(deliveries, at))
        if at.mono_us - self._ticked_us >= 1_000_000:
            self._ticked_us = at.mono_us
            self._tick(at)

    def close(self) -> None:
        """Wait briefly for the last commits so that they are acknowledged, then disconnect; the rest stays put."""
        until_s = time.monotonic() + _FAREWELL_S
        with contextlib.suppress(Unavailable):
            while self._settled < self._owed and time.monotonic() < until_s:
                self._link.receive(0.02, 0)
        self._link.close()

    def _sort(self, deliveries: list[Delivery], at: Instant) -> dict[Stream | None, Item]:
        """One item a stream, so that a stream the journal refuses does not hold another's acknowledgements."""
        drafts: dict[Stream | None, list[Draft]] = {}
        poison: dict[Stream | None, list[Poison]] = {}
        owing: dict[Stream | None, list[Delivery]] = {}
        for delivery in deliveries:
            became, refused = self._understand(delivery, at)
            if became:
                stream: Stream | None = became[0].stream
                if len(became) > 1:
                    stream = min((draft.stream for draft in became), key=STREAMS.index)
                drafts.setdefault(stream, []).extend(became)
            else:
                stream = "measurements" if refused else None
            if refused:
                poison.setdefault(stream, []).extend(refused)
            owing.setdefault(stream, []).append(delivery)
        return {
            stream: Item(drafts.get(stream, ()), self._receipt(owed), poison.get(stream, ()))
            for stream, owed in owing.items()
        }

    def _understand(self, delivery: Delivery, at: Instant) -> tuple[list[Draft], list[Poison]]:
        drafts: list[Draft] = []
        poison: list[Poison] = []
        routes = self._routes.match(delivery.topic)
        if not routes:
            self.unrouted += 1
        message = Message(delivery.topic, delivery.payload, delivery.retained)
        for index in routes:
            plan, driver, place = self._devices[index]
            try:
                if delivery.fault:
                    raise Rejected("receive", delivery.topic, delivery.fault)
                drafts += self._intake.drafts(driver.feed(message, at), place, at, delivery, self._broker())
                continue
            except Rejected as error:
                reason = f"{error.reason} ({error.hint})" if error.hint else error.reason
            except DEFECTS as error:  # the broker would bring it again for ever, and every device behind it would stand
                reason = f"the driver failed: {type(error).__name__} (this is a defect of the software: report it)"
            matched = matching(plan.topics, delivery.topic)
            poison.append(Poison(plan.name, plan.driver.name, reason, delivery.payload, delivery.topic, matched))
            self._intake.board.quarantined(plan.name)
        return drafts, poison

    def _receipt(self, owed: list[Delivery]) -> Callable[[], None]:
        def receipt() -> None:
            self._settled += len(owed)
            self._link.ack(owed)

        self._owed += len(owed)
        return receipt

    def _offer(self, items: dict[Stream | None, Item]) -> None:
        for stream, item in items.items():
            if stream is not None:
                self._waiting.append((f"{self._name}/{stream}", item))
            elif item.receipt is not None:  # nothing to keep: known, and of no interest
                item.receipt()
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
            if drafts := self._intake.drafts(driver.tick(at), place, at, None):
                self._offer({drafts[0].stream: Item(drafts)})
            now, told = driver.counters, self._told[plan.name]
            self._intake.board.counted(
                plan.name,
                bad=now.bad_frames - told.bad_frames,
                skipped_bytes=now.skipped_bytes - told.skipped_bytes,
                ignored=now.ignored - told.ignored,
            )
            self._told[plan.name] = Counters(now.frames, now.bad_frames, now.skipped_bytes, now.ignored)


def delivery_key(delivery: Delivery, broker: bytes = b"") -> bytes:
    """Names one PUBLISH: the broker repeats packet id, topic and payload when it delivers the same one again.

    `broker`: up to 14 bytes that name the broker's process where it gives packet ids anew after a restart. Without
    them a repeat could bear the name of another message of the same content, and be taken for that one.
    """
    digest = blake2b(delivery.payload, digest_size=7, salt=delivery.mid.to_bytes(2, "big") + broker)
    digest.update(delivery.topic.encode())
    return digest.digest()
