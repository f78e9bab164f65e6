"""What a device said, in device terms: the vocabulary that drivers speak and the normaliser understands.

A driver yields these; it adds no time but the device's own, no place, no person and no judgement. One frozen struct a
kind of statement; `KINDS` lists them. A field that the device did not give is None.
The parts of a basket are the vocabulary's own. Knows no wire format.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

import msgspec

from gateway.event_types import Discount, Tax, Tender, Totals
from gateway.event_types import Line as SaleLine

__all__ = [
    "KINDS", "BasketStep", "BeaconSighting", "Button", "CardRead", "CardRemoved", "ConsentAct", "Contact", "Custom",
    "DeviceState", "Discount", "DoorCount", "Feedback", "Identity", "MemberLink", "Points", "Reading", "Sale",
    "SaleLine", "Scan", "SensorValue", "TagRead", "Tax", "Tender", "Totals", "Weight",
]  # fmt: skip


class Reading(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of every reading.

    `device_at`: when, by the device's own clock (aware). `device_seq`: the device's own counter or id of this
    statement, and `device_boot` the run of that counter: together they name the fact, so the same statement delivered
    twice becomes one event.
    """

    device_at: datetime | None = None
    device_seq: str | None = None
    device_boot: str | None = None


class Identity(msgspec.Struct, frozen=True):
    """An identifier of a person as it was read: raw, so it never leaves memory. `scheme`: as the device names it."""

    scheme: str
    value: str


class TagRead(Reading, frozen=True, tag="tag_read", kw_only=True, omit_defaults=True):
    """A UHF RFID tag seen once. `epc`: upper-case hex. RSSI is dBm where the reader says dBm, else the raw byte."""

    epc: str
    antenna: int | None = None  # 1-based
    rssi_dbm: float | None = None
    rssi_raw: int | None = None
    pc: str | None = None  # protocol-control word, hex; tells whether the bank holds an EPC at all
    tid: str | None = None
    reads: int = 1
    frequency_khz: int | None = None
    phase_deg: float | None = None


class CardRead(Reading, frozen=True, tag="card_read", kw_only=True, omit_defaults=True):
    """A 125 kHz card in the field. `number`: the 32-bit card number; personal, so it is keyed before it is an event."""

    number: int
    version: int
    printed: str  # as printed on cards: "037,55662"


class CardRemoved(Reading, frozen=True, tag="card_removed", kw_only=True, omit_defaults=True):
    """The card read last has left the field."""

    number: int


class Scan(Reading, frozen=True, tag="scan", kw_only=True, omit_defaults=True):
    """A barcode or QR code. `kind` says what the payload was understood as; `error` why it was not, if it was not."""

    text: str  # payload without AIM identifier; GS as \\x1d
    symbology: str | None = None  # AIM identifier, "]d2"
    kind: Literal["gtin", "gs1", "digital_link", "rcn", "coupon", "loyalty", "url", "opaque"] = "opaque"
    gtin: str | None = None  # 14 digits
    gs1: dict[str, str] = {}  # application identifier → value as encoded
    lot: str | None = None
    serial: str | None = None
    expiry: str | None = None  # ISO date
    weight_kg: Decimal | None = None
    price: Decimal | None = None
    digital_link: str | None = None
    addon: str | None = None  # EAN-13 add-on, 2 or 5 digits
    coupon: dict[str, str] = {}
    scheme: str | None = None  # loyalty: what kind of identifier `text` is; None: a member number
    campaign: str | None = None  # loyalty and QR: what the code says it was printed for …
    content_id: str | None = None  # … and which poster, shelf label or screen it stood on
    error: str | None = None


class Sale(Reading, frozen=True, tag="sale", kw_only=True, omit_defaults=True):
    """A finished till transaction. `member` is a raw loyalty identifier and never leaves the intake."""

    kind: Literal["sale", "return", "void", "exchange"] = "sale"
    sequence: str  # the till's own transaction number
    workstation_id: str | None = None
    business_date: str | None = None  # ISO date
    operator: str | None = None  # raw; keyed before it is an event
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    currency: str | None = None  # ISO 4217
    lines: tuple[SaleLine, ...] = ()
    tenders: tuple[Tender, ...] = ()
    coupons: tuple[str, ...] = ()
    member: str | None = None
    member_scheme: str | None = None
    identities: tuple[Identity, ...] = ()  # further identifiers that the till gave: a phone beside the member number
    totals: Totals
    tap: Literal["json", "mqtt", "poslog", "escpos", "display"] = "json"
    confidence: float = 1.0  # 0–1
    end: Literal["cut", "feed", "idle"] | None = None  # how a passive tap knew that the receipt was over


class Points(Reading, frozen=True, tag="points", kw_only=True, omit_defaults=True):
    """Loyalty points were credited or used. `member` is a raw identifier and never leaves the intake."""

    act: Literal["earned", "spent"] = "earned"
    programme: str
    points: Decimal
    member: str | None = None
    member_scheme: str | None = None
    transaction_id: str | None = None


class ConsentAct(Reading, frozen=True, tag="consent", kw_only=True, omit_defaults=True):
    """A person agreed, or took an agreement back. `identifier` is raw and never leaves the intake."""

    act: Literal["granted", "withdrawn"]
    identifier: str
    scheme: str = "member"
    purposes: str = ""  # separated by commas or spaces; a withdrawal without any withdraws all
    record_id: str | None = None
    notice_version: str | None = None
    notice_digest: str | None = None
    language: str | None = None
    method: str | None = None  # how it was given: `till`, `tablet`, `paper`, `app` …
    expires: str | None = None  # RFC 3339


class MemberLink(Reading, frozen=True, tag="member_link", kw_only=True, omit_defaults=True):
    """A person proved at the till that a second identifier is theirs. All are raw and never leave the intake."""

    act: Literal["registration", "login", "phone_change", "card_change"]
    member: Identity
    linked: Identity
    replaced: Identity | None = None  # no longer theirs


class BasketStep(Reading, frozen=True, tag="basket_step", kw_only=True, omit_defaults=True):
    """A till told of a basket under way."""

    basket_id: str
    step: Literal["opened", "item_added", "item_removed", "payment_started", "paid", "abandoned"]
    lane: str | None = None
    gtin: str | None = None


class BeaconSighting(Reading, frozen=True, tag="beacon", kw_only=True, omit_defaults=True):
    """One advert of an allow-listed beacon. `beacon`: `uuid/major/minor`, `namespace/instance` or the like."""

    scheme: Literal["ibeacon", "altbeacon", "eddystone_uid", "eddystone_eid", "bthome"]
    beacon: str
    rssi_dbm: float
    receiver: str
    power_1m_dbm: float | None = None
    battery: int | None = None  # percent


class SensorValue(Reading, frozen=True, tag="sensor", kw_only=True, omit_defaults=True):
    """A measured quantity: `quantity` as in `temperature`, `unit` as UCUM (`Cel`, `%`, `lx`)."""

    quantity: str
    value: float
    unit: str
    sensor: str | None = None


class Contact(Reading, frozen=True, tag="contact", kw_only=True, omit_defaults=True):
    """A door or window contact."""

    open: bool
    sensor: str | None = None


class Button(Reading, frozen=True, tag="button", kw_only=True, omit_defaults=True):
    """A press; `value` as the device names it (`single`, `4`)."""

    value: str
    button: str | None = None


class Weight(Reading, frozen=True, tag="weight", kw_only=True, omit_defaults=True):
    """A scale's weight."""

    grams: Decimal
    stable: bool
    tare_grams: Decimal | None = None


class Feedback(Reading, frozen=True, tag="feedback", kw_only=True, omit_defaults=True):
    """A shopper's answer: NPS 0–10 or smiley 1–4."""

    question: str
    score: int
    scale: Literal["nps", "smiley"] | None = None


class DoorCount(Reading, frozen=True, tag="door_count", kw_only=True, omit_defaults=True):
    """A third-party people counter's interval count."""

    line: str
    entered: int
    left: int
    interval_s: float


class DeviceState(Reading, frozen=True, tag="device_state", kw_only=True, omit_defaults=True):
    """The device, or the gateway's driver for it, says that it is there, gone or unwell. State: never counted."""

    state: Literal["online", "offline", "heartbeat", "fault"]
    detail: str | None = None


class Custom(Reading, frozen=True, tag="custom", kw_only=True, omit_defaults=True):
    """A statement mapped by configuration to any known event type: `values` are that event's data fields."""

    event_type: str
    values: dict[str, Any]
    subject: str | None = None


KINDS: dict[str, type[Reading]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        TagRead, CardRead, CardRemoved, Scan, Sale, Points, ConsentAct, MemberLink, BasketStep, BeaconSighting,
        SensorValue, Contact, Button, Weight, Feedback, DoorCount, DeviceState, Custom,
    )
}  # fmt: skip
