"""What the journal tells that matters to a visit: from an event's bytes to a small value, most often to nothing.

Only day keys are read here, which an event carries with a consent for visits alone. Also the timeline that all lengths
and deadlines run on: monotonic time of receipt, joined over reboots, so that a step of the wall clock neither closes a
visit nor stretches one. Knows no visit and no storage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

import msgspec

from gateway.event_types import Shopper

_BOOTS = 4
_APART_MOST_MS = 24 * 3_600_000  # nobody knows how long the box was off, if its clock says more
_WAIT_WINDOW_MS = 120_000
_LATE_MOST_MS = 14 * 86_400_000
_EPCS_MOST = 200
_GTINS_MOST = 200
_NAME = 64


class When(msgspec.Struct, frozen=True):
    """When it happened, on the timeline and by the wall clock, and when it was received (ms)."""

    t_ms: int
    wall_ms: int
    now_ms: int


class Person(msgspec.Struct, frozen=True):
    """Who: the subject of the event, its day key, and the consent it rests on."""

    shopper: Shopper
    key: str
    consent: str


class Act(msgspec.Struct, frozen=True):
    """A person identified themselves at a device. `how`: a proof of `visit_evidence.PROVES`."""

    when: When
    event: str
    person: Person
    how: str
    zone: str
    device: str


class Sighting(msgspec.Struct, frozen=True):
    """The person's own beacon or card was somewhere; `left`: it is there no more, after `dwell_ms`."""

    when: When
    event: str
    person: Person
    zone: str
    left: bool
    dwell_ms: int = 0


class Sold(msgspec.Struct, frozen=True):
    """A till transaction; `person` None: nobody is named on it."""

    when: When
    event: str
    person: Person | None
    kind: str
    transaction_id: str
    zone: str
    lane: str
    took_ms: int  # from the first article to the receipt; 0: not told
    wanted: Mapping[str, int]
    named: tuple[str, ...]
    originals: tuple[str, ...]  # the transactions that it takes back


class Tagged(msgspec.Struct, frozen=True):
    """A tag came or went."""

    when: When
    epc: str
    gtin: str
    zone: str
    left: bool


class Opened(msgspec.Struct, frozen=True):
    """A till opened a basket."""

    when: When
    lane: str


class Linked(msgspec.Struct, frozen=True):
    """The person proved, in one authenticated act, that what goes by another key of the day is theirs, too."""

    when: When
    event: str
    person: Person
    key: str


class Withdrawn(msgspec.Struct, frozen=True):
    """A consent was taken back, known by its record."""

    when: When
    record: str
    purposes: tuple[str, ...]


Fact = Act | Sighting | Sold | Tagged | Opened | Linked | Withdrawn


class Timeline:
    """Milliseconds that only go forward while the box runs; across a reboot the wall clock says how far."""

    def __init__(self, offsets: Mapping[str, int] | None = None, last: tuple[int, int] | None = None) -> None:
        """Go on where another has stopped: `offsets` by boot, `last`: timeline and wall time."""
        self.offsets: dict[str, int] = dict(offsets or {})
        self.last: tuple[int, int] | None = last
        self._waits: deque[tuple[int, int]] = deque()  # mono, recorded − mono: ascending, of the last two minutes
        self._boot = ""

    def at(self, boot: str, mono_us: int, wall_ms: int) -> int:
        """The moment on the timeline of something received at these readings of the clocks."""
        mono_ms = mono_us // 1000
        offset = self.offsets.get(boot)
        if offset is None:
            gone_ms = 0 if self.last is None else min(max(0, wall_ms - self.last[1]), _APART_MOST_MS)
            start_ms = wall_ms if self.last is None else self.last[0] + gone_ms
            offset = self.offsets[boot] = start_ms - mono_ms
            while len(self.offsets) > _BOOTS:
                del self.offsets[next(iter(self.offsets))]
        t_ms = mono_ms + offset
        if self.last is None or t_ms > self.last[0]:
            self.last = (t_ms, wall_ms)
        return t_ms

    def late(self, boot: str, mono_us: int, recorded_ms: int, happened_ms: int) -> int:
        """How long it took from a device's own time to our receipt.

        An event bears the wall clock of its writing, which is later where it had to wait for room. The least wait of
        the last two minutes is taken for none: a clock set back shows at once, one set forward after that time.
        """
        mono_ms = mono_us // 1000
        if boot != self._boot:
            self._boot = boot
            self._waits.clear()
        wait = recorded_ms - mono_ms
        while self._waits and (self._waits[-1][1] >= wait):
            self._waits.pop()
        self._waits.append((mono_ms, wait))
        while self._waits[0][0] < mono_ms - _WAIT_WINDOW_MS:
            self._waits.popleft()
        return min(max(0, mono_ms + self._waits[0][1] - happened_ms), _LATE_MOST_MS)


class _Head(msgspec.Struct):
    id: str
    type: str
    time: datetime
    recordedtime: datetime
    data: msgspec.Raw
    bootid: str = ""
    monous: int = 0
    zone: str = ""
    consentref: str = ""


class _Scan(msgspec.Struct):
    scanner: str = ""
    shopper: Shopper | None = None


class _Seen(msgspec.Struct):
    zone: str | None = None
    receiver: str = ""
    reader: str = ""
    dwell_s: float | None = None
    shopper: Shopper | None = None


class _Points(msgspec.Struct):
    shopper: Shopper | None = None


class _Link(msgspec.Struct):
    act: str
    shopper: Shopper
    linked: Shopper


class _Line(msgspec.Struct):
    kind: str = "sale"
    gtin: str | None = None
    epcs: tuple[str, ...] = ()
    quantity: Decimal = Decimal(1)
    unit: str = "C62"
    voided: bool = False
    original_transaction: str | None = None


class _Sale(msgspec.Struct):
    transaction_id: str
    kind: str
    workstation_id: str = ""
    opened_at: str | None = None
    closed_at: str | None = None
    lines: tuple[_Line, ...] = ()
    loyalty: Shopper | None = None
    payer: Shopper | None = None


class _Tag(msgspec.Struct):
    epc: str
    gtin: str | None = None
    reader: str = ""
    zone_from: str | None = None
    zone_to: str | None = None


class _Basket(msgspec.Struct):
    lane: str = ""
    step: str = ""


class _Consent(msgspec.Struct):
    record_id: str
    purposes: tuple[str, ...] = ()


Rule = Callable[[_Head, msgspec.Raw, When], Fact | None]
_decode_head = msgspec.json.Decoder(_Head).decode


def fact_of(event: bytes, timeline: Timeline) -> Fact | None:
    """What an event tells of visits; None for nothing, and for what cannot be read."""
    rule = _rule_of(event)
    if rule is None:
        return None
    try:
        head = _decode_head(event)
        recorded_ms = _ms(head.recordedtime)
        wall_ms = _ms(head.time)
        now_ms = timeline.at(head.bootid, head.monous, recorded_ms)
        late_ms = timeline.late(head.bootid, head.monous, recorded_ms, wall_ms)
        return rule(head, head.data, When(now_ms - late_ms, wall_ms, now_ms))
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, ValueError):
        return None


def _rule_of(event: bytes) -> Rule | None:
    """By the type's place in the bytes: nearly all events are of no interest, and a decoder costs more."""
    at = event.find(b'"type":"store.')
    if at < 0:
        return None
    start = at + 14
    return _RULES.get(event[start : event.find(b'"', start)])


def _person(head: _Head, shopper: Shopper | None) -> Person | None:
    if shopper is None or not shopper.day_key:
        return None
    return Person(shopper, shopper.day_key, head.consentref)


def _scanned(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Scan)
    person = _person(head, told.shopper)
    if person is None:
        return None
    how = "app_qr" if person.shopper.scheme == "app" else "loyalty_scan"
    return Act(when, head.id, person, how, _cut(head.zone), _cut(told.scanner))


def _points(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    person = _person(head, msgspec.json.decode(data, type=_Points).shopper)
    return None if person is None else Act(when, head.id, person, "points", _cut(head.zone), "")


def _seen(left: bool) -> Rule:
    def rule(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
        told = msgspec.json.decode(data, type=_Seen)
        person = _person(head, told.shopper)
        if person is None:
            return None
        zone = told.zone or head.zone or told.receiver or told.reader
        dwell_ms = int(min(max(0.0, told.dwell_s or 0.0), 86_400.0) * 1000)
        return Sighting(when, head.id, person, _cut(zone), left, dwell_ms)

    return rule


def _sold(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Sale)
    wanted: dict[str, int] = {}
    named: list[str] = []
    for line in told.lines:
        if line.voided or line.kind != "sale":
            continue
        named += line.epcs
        whole = line.quantity == line.quantity.to_integral_value() and 0 < line.quantity <= 1000
        if line.gtin and line.unit == "C62" and whole and len(wanted) < _GTINS_MOST:
            gtin = line.gtin.zfill(14)
            wanted[gtin] = wanted.get(gtin, 0) + int(line.quantity)
    return Sold(
        when, head.id, _person(head, told.loyalty) or _person(head, told.payer), told.kind, told.transaction_id[:200],
        _cut(head.zone), _cut(told.workstation_id), _length_ms(told.opened_at, told.closed_at), wanted,
        tuple(named[:_EPCS_MOST]),
        tuple(dict.fromkeys(line.original_transaction for line in told.lines if line.original_transaction)),
    )  # fmt: skip


def _tag(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Tag)
    left = told.zone_to is None
    zone = (told.zone_from if left else told.zone_to) or head.zone or told.reader
    return Tagged(when, told.epc[:256], (told.gtin or "").zfill(14) if told.gtin else "", _cut(zone), left)


def _basket(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Basket)
    return Opened(when, _cut(told.lane)) if told.step == "opened" else None


def _linked(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Link)
    person, other = _person(head, told.shopper), told.linked.day_key
    if person is None or not other or other == person.key:
        return None
    if told.shopper.scheme == told.linked.scheme == "member" and told.act != "card_change":
        return None  # two members are two persons, until one says that a number took the other's place
    return Linked(when, head.id, person, other)


def _withdrawn(head: _Head, data: msgspec.Raw, when: When) -> Fact | None:
    told = msgspec.json.decode(data, type=_Consent)
    return Withdrawn(when, told.record_id, told.purposes)


_RULES: dict[bytes, Rule] = {
    b"interaction.scanned.v1": _scanned,
    b"points.earned.v1": _points,
    b"points.spent.v1": _points,
    b"pos.sale.v1": _sold,
    b"pos.basket.v1": _basket,
    b"consent.withdrawn.v1": _withdrawn,
    b"member.linked.v1": _linked,
    b"beacon.arrived.v1": _seen(False),
    b"beacon.departed.v1": _seen(True),
    b"lf.card.seen.v1": _seen(False),
    b"lf.card.removed.v1": _seen(True),
    b"rfid.arrived.v1": _tag,
    b"rfid.moved.v1": _tag,
    b"rfid.departed.v1": _tag,
}


def _length_ms(opened_at: str | None, closed_at: str | None) -> int:
    try:
        if opened_at is None or closed_at is None:
            return 0
        length = datetime.fromisoformat(closed_at) - datetime.fromisoformat(opened_at)
    except (ValueError, TypeError):
        return 0
    return min(max(0, int(length.total_seconds() * 1000)), 3_600_000)


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _cut(name: str) -> str:
    return name[:_NAME]
