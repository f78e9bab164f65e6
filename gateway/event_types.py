"""The vocabulary of events, version 1: one typed struct a type, its stream, and the rule that a shipped type never
changes its meaning (add `.v2`). JSON Schemas and `docs/events.md` are generated from here.

Field names are the wire's. Times are RFC 3339 UTC strings with milliseconds, money is a Decimal (a decimal string on
the wire), EPCs are upper-case hex or URIs. Knows no device, no storage.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, TypeVar

import msgspec

from gateway.event import Stream


class EventData(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every event's `data`."""


class EventType(msgspec.Struct, frozen=True):
    """A type in the vocabulary: its name on the wire, the stream it belongs to and the struct of its data."""

    name: str
    stream: Stream
    data: type[EventData]


EVENT_TYPES: dict[str, EventType] = {}
_by_class: dict[type[EventData], EventType] = {}
T = TypeVar("T", bound=EventData)


def event(stream: Stream, name: str) -> Callable[[type[T]], type[T]]:
    """Class decorator that puts a struct into the vocabulary as `store.<name>.v1`."""

    def register(cls: type[T]) -> type[T]:
        entry = EventType(f"store.{name}.v1", stream, cls)
        EVENT_TYPES[entry.name] = entry
        _by_class[cls] = entry
        return cls

    return register


def type_of(data: EventData | type[EventData]) -> EventType:
    """The vocabulary entry of an event's data."""
    return _by_class[data if isinstance(data, type) else type(data)]


class Shopper(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A person, as an event may name one: a per-store per-day key and an identifier only the platform can open."""

    day_key: str | None = None
    sealed: str | None = None
    scheme: str = "member"


# -- transactions


class Discount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reduction; `amount` is the money taken off."""

    amount: Decimal
    reason: str | None = None
    promotion_id: str | None = None
    coupon: str | None = None


class Tax(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tax on a line, `rate` in percent."""

    amount: Decimal
    rate: Decimal | None = None
    included: bool = True


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of a basket; negative for returns."""

    seq: int
    kind: Literal["sale", "return", "void", "deposit", "fee"] = "sale"
    gtin: str | None = None
    sku: str | None = None
    epcs: tuple[str, ...] = ()
    description: str | None = None
    quantity: Decimal = Decimal(1)
    unit: str = "C62"
    unit_price: Decimal | None = None
    regular_price: Decimal | None = None
    discounts: tuple[Discount, ...] = ()
    tax: tuple[Tax, ...] = ()
    amount: Decimal
    voided: bool = False
    original_transaction: str | None = None


class Tender(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A payment."""

    kind: Literal["cash", "card", "voucher", "mobile", "other"]
    amount: Decimal
    change: Decimal | None = None


class Totals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bottom of the receipt."""

    gross: Decimal | None = None
    discount: Decimal | None = None
    tax: Decimal | None = None
    net: Decimal
    tendered: Decimal | None = None
    change: Decimal | None = None
    item_count: Decimal | None = None


@event("transactions", "pos.sale")
class Sale(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A till transaction is finished."""

    transaction_id: str
    kind: Literal["sale", "return", "void", "exchange"]
    workstation_id: str
    operator: str | None = None
    business_date: str
    opened_at: str | None = None
    closed_at: str | None = None
    currency: str | None = None
    lines: tuple[Line, ...] = ()
    tenders: tuple[Tender, ...] = ()
    coupons: tuple[str, ...] = ()
    loyalty: Shopper | None = None
    payer: Shopper | None = None  # token of the means of payment, where the till knows one and a consent covers it
    totals: Totals
    tap: Literal["json", "mqtt", "poslog", "escpos", "display"]
    confidence: float
    receipt_end: str | None = None


@event("transactions", "pos.basket")
class Basket(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A basket under way moved a step."""

    basket_id: str
    lane: str
    step: Literal["opened", "item_added", "item_removed", "payment_started", "paid", "abandoned"]
    gtin: str | None = None


class _Coupon(EventData, frozen=True, kw_only=True, omit_defaults=True):
    coupon: str
    campaign: str | None = None
    face_value: Decimal | None = None
    channel: str | None = None
    transaction_id: str | None = None
    rule: Literal["home", "lease", "optimistic"] | None = None
    reason: str | None = None
    currency: str | None = None
    use: int | None = None  # which of its uses, from 1
    uses: int | None = None  # how many it has
    expires_at: str | None = None
    reservation: str | None = None
    lease: str | None = None
    lane: str | None = None


@event("transactions", "coupon.reserved")
class CouponReserved(_Coupon, frozen=True, kw_only=True, omit_defaults=True):
    """A coupon is held for a basket."""


@event("transactions", "coupon.redeemed")
class CouponRedeemed(_Coupon, frozen=True, kw_only=True, omit_defaults=True):
    """A coupon was redeemed (核销)."""


@event("transactions", "coupon.released")
class CouponReleased(_Coupon, frozen=True, kw_only=True, omit_defaults=True):
    """A held coupon was given back."""


@event("transactions", "coupon.refused")
class CouponRefused(_Coupon, frozen=True, kw_only=True, omit_defaults=True):
    """A coupon was not accepted."""


class _Points(EventData, frozen=True, kw_only=True, omit_defaults=True):
    programme: str
    points: Decimal
    transaction_id: str | None = None
    shopper: Shopper | None = None


@event("transactions", "points.earned")
class PointsEarned(_Points, frozen=True, kw_only=True, omit_defaults=True):
    """Loyalty points were credited."""


@event("transactions", "points.spent")
class PointsSpent(_Points, frozen=True, kw_only=True, omit_defaults=True):
    """Loyalty points were used."""


class _Consent(EventData, frozen=True, kw_only=True, omit_defaults=True):
    record_id: str
    purposes: tuple[str, ...]  # visits, matching, offers, analytics
    notice_version: str
    notice_digest: str
    language: str
    method: str
    expires_at: str | None = None
    shopper: Shopper | None = None


@event("transactions", "consent.granted")
class ConsentGranted(_Consent, frozen=True, kw_only=True, omit_defaults=True):
    """A person agreed (ISO/IEC TS 27560 fields)."""


@event("transactions", "consent.withdrawn")
class ConsentWithdrawn(_Consent, frozen=True, kw_only=True, omit_defaults=True):
    """A person took an agreement back."""


@event("transactions", "member.linked")
class MemberLinked(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A person proved in one authenticated act that two identifiers are theirs; `replaced` is no longer."""

    act: Literal["registration", "login", "phone_change", "card_change"]
    shopper: Shopper  # who acted: the member, or what was signed in with
    linked: Shopper
    replaced: Shopper | None = None


@event("transactions", "feedback.given")
class FeedbackGiven(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """An answer to a question: NPS 0–10 or smiley 1–4."""

    question_id: str
    score: int
    device: str
    scale: Literal["nps", "smiley"] | None = None  # where the device says which; 1–4 may be either


@event("transactions", "interaction.scanned")
class InteractionScanned(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A shopper scanned something in the shop, or a member code was scanned."""

    campaign: str | None = None
    content_id: str | None = None
    scanner: str
    shopper: Shopper | None = None


class _Alarm(EventData, frozen=True, kw_only=True, omit_defaults=True):
    what: str
    severity: Literal["info", "warning", "critical"] = "warning"
    device: str | None = None
    hint: str | None = None


@event("transactions", "alarm.raised")
class AlarmRaised(_Alarm, frozen=True, kw_only=True, omit_defaults=True):
    """Something needs a hand."""


@event("transactions", "alarm.cleared")
class AlarmCleared(_Alarm, frozen=True, kw_only=True, omit_defaults=True):
    """It is in order again."""


@event("transactions", "command.completed")
class CommandCompleted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A command of the platform was carried out, or not: `unknown` when this gateway has no such kind."""

    command: str  # its id
    kind: str
    outcome: Literal["done", "refused", "failed", "unknown"]
    detail: str = ""
    result: dict[str, Any] = {}


@event("transactions", "audit.recorded")
class AuditRecorded(EventData, frozen=True, kw_only=True):
    """Somebody who may did something to the gateway. `hash` covers every other field; `previous` is that before."""

    chain: str  # begins anew only when this gateway has lost its place
    number: int
    previous: str
    at: str
    act: str
    account: str = ""  # as the shop called it; empty: the gateway itself, or somebody unknown
    role: str = ""
    outcome: Literal["done", "refused", "failed"] = "done"
    subject: str = ""
    hash: str


class ErasedRange(msgspec.Struct, frozen=True, kw_only=True):
    """Events that were redacted, by their numbers."""

    stream: Stream
    epoch: str
    first: int
    last: int


@event("transactions", "subject.erased")
class SubjectErased(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A person was erased: which events lost their subject, and how much went elsewhere. It names nobody.

    `again`: what had been erased before came back out of a backup or a salvage, and is gone once more.
    """

    erasures: int = 1
    command: str | None = None  # the platform's id of it, where it was one command
    events: int
    ranges: tuple[ErasedRange, ...] = ()
    rows: int = 0  # of consents, visits and the like
    quarantined: int = 0
    files: int = 0  # damaged databases that had been set aside, removed
    part: int = 1  # many ranges are told in several events
    parts: int = 1
    again: bool = False


# -- measurements


class CountQuality(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How good a camera's count is: `coverage` is the share of the interval that was seen, 0–1."""

    frames: int = 0
    fps: float = 0.0
    coverage: float
    detector: str


@event("measurements", "footfall.counted")
class FootfallCounted(EventData, frozen=True, kw_only=True):
    """People who crossed a line in an interval; an interval that nobody saw yields no event."""

    line: str
    entrance: str
    interval_start: str
    interval_s: float
    in_: int = msgspec.field(name="in")
    out: int
    quality: CountQuality
    revision: int = 0  # a later report of the same line and interval supersedes the earlier ones


@event("measurements", "footfall.crossed")
class FootfallCrossed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """One crossing (off by default)."""

    line: str
    direction: Literal["in", "out"]
    at: str


class CountError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One direction of an acceptance test; `error` is (counted − tapped) ÷ tapped with its 95 % interval."""

    tapped: int
    counted: int
    matched: int
    error: float | None = None
    error_low: float | None = None
    error_high: float | None = None


@event("transactions", "footfall.accepted")
class FootfallAccepted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A person at the door counted along, and the shop accepts the counter's error as the level to hold."""

    test: str
    camera: str
    line: str
    begun_at: str
    duration_s: float
    coverage: float
    entering: CountError
    leaving: CountError


class Dwell(msgspec.Struct, frozen=True, kw_only=True):
    """Dwell times in seconds over `n` stays."""

    p50: float
    p90: float
    mean: float
    n: int


@event("measurements", "zone.occupied")
class ZoneOccupied(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Time-weighted occupancy of a zone."""

    zone: str
    interval_start: str
    interval_s: float
    mean: float
    peak: int
    visitors: int
    dwell_s: Dwell | None = None
    quality: CountQuality


@event("measurements", "queue.measured")
class QueueMeasured(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A queue's length and wait."""

    zone: str
    interval_start: str
    interval_s: float
    length_mean: float
    length_peak: int
    wait_s_p50: float | None = None
    wait_s_p90: float | None = None
    quality: CountQuality


@event("measurements", "heatmap.sampled")
class HeatmapSampled(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Person-seconds a cell, row by row from the top left."""

    camera: str
    interval_start: str
    interval_s: float
    rows: int
    cols: int
    person_seconds: tuple[float, ...]


@event("measurements", "stock.counted")
class StockCounted(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Tagged items of a GTIN in a zone, or an inventory's count of them."""

    gtin: str
    zone: str
    epc_count: int
    arrived: int | None = None
    departed: int | None = None


@event("measurements", "shelf.changed")
class ShelfChanged(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A weighed facing changed."""

    shelf: str
    facing: str
    grams_before: Decimal
    grams_after: Decimal
    items: int
    confidence: float


class ZoneStay(msgspec.Struct, frozen=True, kw_only=True):
    """Time spent in a zone."""

    zone: str
    dwell_s: float


@event("measurements", "visit.closed")
class VisitClosed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A consented visit ended."""

    visit_id: str
    opened_by: Literal["loyalty_scan", "app_qr", "paid_basket"]
    entered_at: str
    left_at: str
    zones: tuple[ZoneStay, ...] = ()
    epcs: tuple[str, ...] = ()
    transaction_ids: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    confidence: float
    algorithm: str
    supersedes: str | None = None
    shopper: Shopper | None = None
    returning: bool | None = None  # an earlier day's visit is known; None: not known


@event("measurements", "visit.compared")
class VisitCompared(EventData, frozen=True, kw_only=True):
    """The platform has compared a visit with what it knows of the person; `returning`: here on an earlier day, too."""

    visit_id: str
    returning: bool


class Covered(msgspec.Struct, frozen=True, kw_only=True):
    """A number with the share of its inputs that were there, 0–1; None: not known, `reason` says why."""

    value: float | None
    coverage: float | None
    reason: str = ""


@event("measurements", "kpi.hour")
class KpiHour(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The key figures of an hour, named by its beginning, each with its coverage."""

    hour: str
    day: str = ""  # of the store
    figures: dict[str, Covered]
    revision: int = 0  # a later report of the same hour supersedes the earlier ones


@event("measurements", "gateway.heartbeat")
class Heartbeat(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """The gateway's own state."""

    version: str
    uptime_s: float
    streams: dict[str, dict[str, int]]
    disk_free_bytes: int
    journal_bytes: int
    wal_bytes: int
    rss_bytes: int
    clock: str
    devices: dict[str, str]
    counters: dict[str, int] = {}


@event("measurements", "device.state")
class DeviceStateChanged(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A device came, went quiet or failed."""

    device: str
    state: Literal["never_seen", "live", "stale", "faulted", "disabled"]
    since: str
    reason: str | None = None


@event("measurements", "loss.declared")
class LossDeclared(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """Something was lost, and this says so: a range of a stream, or a number from a source before acceptance."""

    subject: str
    count: int
    reason: Literal["retention", "quota", "salvage", "radio", "inlet"]
    first: int | None = None
    last: int | None = None


# -- observations


class _Rfid(EventData, frozen=True, kw_only=True, omit_defaults=True):
    epc: str  # URI, or urn:epc:raw where the bits are no EPC
    epc_hex: str
    gtin: str | None = None
    serial: str | None = None
    reader: str
    antenna: int | None = None
    zone_from: str | None = None
    zone_to: str | None = None
    rssi_dbm: float | None = None
    rssi_raw: float | None = None
    reads: int
    first_seen: str
    last_seen: str


@event("observations", "rfid.arrived")
class RfidArrived(_Rfid, frozen=True, kw_only=True, omit_defaults=True):
    """A tag came into a zone."""


@event("observations", "rfid.moved")
class RfidMoved(_Rfid, frozen=True, kw_only=True, omit_defaults=True):
    """A tag changed zones."""


@event("observations", "rfid.departed")
class RfidDeparted(_Rfid, frozen=True, kw_only=True, omit_defaults=True):
    """A tag has not been seen for the zone's silence."""


class _Beacon(EventData, frozen=True, kw_only=True, omit_defaults=True):
    scheme: str
    beacon: str
    receiver: str
    zone: str | None = None
    rssi_dbm: float | None = None
    dwell_s: float | None = None
    shopper: Shopper | None = None  # a beacon that a person carries: `beacon` is then its day key


@event("observations", "beacon.arrived")
class BeaconArrived(_Beacon, frozen=True, kw_only=True, omit_defaults=True):
    """An own beacon came into a receiver's range."""


@event("observations", "beacon.departed")
class BeaconDeparted(_Beacon, frozen=True, kw_only=True, omit_defaults=True):
    """An own beacon went out of range."""


@event("observations", "barcode.scanned")
class BarcodeScanned(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A code was scanned."""

    symbology: str | None = None
    kind: str = "opaque"
    gtin: str | None = None
    gs1: dict[str, str] = {}
    lot: str | None = None
    serial: str | None = None
    expiry: str | None = None
    weight_kg: Decimal | None = None
    price: Decimal | None = None
    digital_link: str | None = None
    addon: str | None = None
    coupon: dict[str, str] = {}
    text: str | None = None
    scanner: str
    error: str | None = None
    shopper: Shopper | None = None


@event("observations", "scale.weighed")
class ScaleWeighed(EventData, frozen=True, kw_only=True, omit_defaults=True):
    """A stable weight."""

    grams: Decimal
    tare: Decimal | None = None
    stable: bool
    scale: str


@event("observations", "contact.changed")
class ContactChanged(EventData, frozen=True, kw_only=True):
    """A door or window opened or closed."""

    contact: str
    open: bool


@event("observations", "button.pressed")
class ButtonPressed(EventData, frozen=True, kw_only=True):
    """A button was pressed."""

    button: str
    value: str


@event("observations", "sensor.read")
class SensorRead(EventData, frozen=True, kw_only=True):
    """A quantity was measured; `unit` as UCUM."""

    sensor: str
    quantity: str
    value: float
    unit: str


class _Card(EventData, frozen=True, kw_only=True, omit_defaults=True):
    reader: str
    day_key: str | None = None  # of a card of the shop's own; never beside `shopper`
    shopper: Shopper | None = None  # of a reader for shoppers' cards, with a consent


@event("observations", "lf.card.seen")
class CardSeen(_Card, frozen=True, kw_only=True):
    """A 125 kHz card came into the field."""


@event("observations", "lf.card.removed")
class CardGone(_Card, frozen=True, kw_only=True):
    """The card left the field."""


def schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of an event type's `data`.

    Raises:
        KeyError: there is no such type.
    """
    return msgspec.json.schema(EVENT_TYPES[name].data)
