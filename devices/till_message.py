"""What a till may say in JSON: one strict type a message of our transaction model, and what no payload may do.

Decoding refuses wrong types, NaN, numbers and times that are not of this world, and names the path. A field with two
names may be given by either; given twice it must agree. Pure: knows no topic, no device and no reading.

*Source*: PROTOCOLS §6.5 (names after NRF/OMG ARTS POSLog 6), EVENTS.md (the shorter names).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_MONEY_LIMIT = Decimal(10) ** 10
_FRACTION_DIGITS = 6
_DEPTH_LIMIT = 16
_STRUCTURE = re.compile(rb'[\[\]{}"\\]')

Id = Annotated[str, Meta(min_length=1, max_length=128)]
Text = Annotated[str, Meta(max_length=512)]
Moment = Annotated[int, Meta(ge=0)] | Annotated[datetime, Meta(tz=True)]
LineKind = Literal["sale", "return", "void", "deposit", "fee"]
TenderKind = Literal["cash", "card", "voucher", "mobile", "other"]
Tap = Literal["json", "mqtt", "poslog", "escpos", "display", "webhook"]


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what stands in a payload: all its decimals are numbers of this world, all its times are of this age."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Decimal):
                if not value.is_finite() or abs(value) >= _MONEY_LIMIT:
                    raise ValueError(f"{name} is not a usable number")
                exponent = value.as_tuple().exponent
                if not isinstance(exponent, int) or exponent < -_FRACTION_DIGITS:
                    raise ValueError(f"{name} has more than {_FRACTION_DIGITS} digits after the point")
            elif isinstance(value, datetime) and not EPOCH <= value < LATEST:
                raise ValueError(f"{name} is before 1970 or after 2199")

    def either(self, name: str, other: str) -> Any:
        """The value of a field that has two names; None if neither was given."""
        first, second = getattr(self, name), getattr(self, other)
        if first is not None and second is not None and first != second:
            raise ValueError(f"{name} and {other} do not agree")
        return second if first is None else first


class DiscountMessage(Wire, frozen=True, kw_only=True):
    amount: Decimal
    reason: Text | None = None
    promotion_id: Id | None = None
    coupon: Id | None = None


class TaxMessage(Wire, frozen=True, kw_only=True):
    amount: Decimal
    rate: Decimal | None = None
    included: bool = True


class LineMessage(Wire, frozen=True, kw_only=True):
    seq: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    type: LineKind | None = None
    kind: LineKind | None = None
    extended_amount: Decimal | None = None
    amount: Decimal | None = None
    gtin: Id | None = None
    sku: Id | None = None
    epc: tuple[Id, ...] | None = None
    epcs: tuple[Id, ...] | None = None
    description: Text | None = None
    quantity: Decimal = Decimal(1)
    unit: Annotated[str, Meta(pattern="^[A-Z0-9]{2,3}$")] = "C62"
    unit_price: Decimal | None = None
    regular_price: Decimal | None = None
    discounts: tuple[DiscountMessage, ...] = ()
    tax: tuple[TaxMessage, ...] = ()
    voided: bool = False
    original_transaction: Id | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.either("type", "kind")
        self.either("epc", "epcs")
        if self.either("extended_amount", "amount") is None:
            raise ValueError("extended_amount is missing")


class TenderMessage(Wire, frozen=True, kw_only=True):
    amount: Decimal
    type: TenderKind | None = None
    kind: TenderKind | None = None
    change: Decimal | None = None
    token: Id | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.either("type", "kind") is None:
            raise ValueError("type is missing")


class LoyaltyMessage(Wire, frozen=True, kw_only=True):
    scheme: Id | None = None
    id: Id | None = None
    id_hash: Id | None = None

    def __post_init__(self) -> None:
        self.either("id", "id_hash")


class TotalsMessage(Wire, frozen=True, kw_only=True):
    net: Decimal
    gross: Decimal | None = None
    discount: Decimal | None = None
    tax: Decimal | None = None
    tendered: Decimal | None = None
    change: Decimal | None = None
    item_count: Decimal | None = None


class SourceMessage(Wire, frozen=True, kw_only=True):
    tap: Tap | None = None
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None


class Stamped(Wire, frozen=True, kw_only=True):
    v: Literal[1] = 1
    ts: Moment | None = None
    seq: int | Id | None = None
    boot: int | Id | None = None


class TransactionMessage(Stamped, frozen=True, kw_only=True):
    transaction_id: Id | None = None
    type: Literal["sale", "return", "void", "exchange", "mixed", "no_sale"] | None = None
    kind: Literal["sale", "return", "void", "exchange", "mixed", "no_sale"] | None = None
    workstation_id: Id | None = None
    operator_id: Id | None = None
    operator: Id | None = None
    sequence: Annotated[int, Meta(ge=0)] | Id | None = None
    business_date: date | None = None
    begin_time: Moment | None = None
    opened_at: Moment | None = None
    end_time: Moment | None = None
    closed_at: Moment | None = None
    currency: Annotated[str, Meta(pattern="^[A-Z]{3}$")] | None = None
    training: bool = False
    cancelled: bool = False
    lines: tuple[LineMessage, ...] = ()
    tenders: tuple[TenderMessage, ...] = ()
    coupons: tuple[Id, ...] = ()
    loyalty: LoyaltyMessage | Annotated[tuple[LoyaltyMessage, ...], Meta(max_length=8)] | None = None
    member: Id | None = None
    member_scheme: Id | None = None
    totals: TotalsMessage | None = None
    source: SourceMessage | None = None
    tap: Tap | None = None
    confidence: Annotated[float, Meta(ge=0, le=1)] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for pair in (
            ("type", "kind"),
            ("operator_id", "operator"),
            ("begin_time", "opened_at"),
            ("end_time", "closed_at"),
        ):
            self.either(*pair)
        if not self.dropped and self.totals is None:
            raise ValueError("totals is missing")
        if not self.dropped and self.sequence is None and self.transaction_id is None:
            raise ValueError("sequence is missing")

    @property
    def dropped(self) -> bool:
        """True for what is no business of anybody: training, cancelled, the drawer opened."""
        return self.training or self.cancelled or self.either("type", "kind") == "no_sale"


class BasketMessage(Stamped, frozen=True, kw_only=True):
    basket_id: Id
    step: Literal["opened", "item_added", "item_removed", "payment_started", "paid", "abandoned"]
    lane: int | Id | None = None
    gtin: Id | None = None


class AnswerMessage(Stamped, frozen=True, kw_only=True):
    question: Id
    score: Annotated[int, Meta(ge=0, le=10)]
    scale: Literal["nps", "smiley"] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == "smiley" and not 1 <= self.score <= 4:
            raise ValueError("score of a smiley is 1 to 4")


class PointsMessage(Stamped, frozen=True, kw_only=True):
    programme: Id
    points: Decimal
    act: Literal["earned", "spent"] = "earned"
    member: Id | None = None
    member_scheme: Id | None = None
    transaction_id: Id | None = None


class ConsentMessage(Stamped, frozen=True, kw_only=True):
    consent: Literal["granted", "withdrawn"]
    member: Id
    member_scheme: Id = "member"
    purposes: Annotated[tuple[Id, ...], Meta(max_length=16)] = ()
    record_id: Id | None = None
    notice_version: Id | None = None
    notice_digest: Id | None = None
    language: Id | None = None
    method: Id | None = None
    expires_at: Id | None = None


class LinkMessage(Stamped, frozen=True, kw_only=True):
    link: Literal["registration", "login", "phone_change", "card_change"]
    member: Id
    member_scheme: Id = "member"
    linked: Id
    linked_scheme: Id
    replaced: Id | None = None
    replaced_scheme: Id | None = None


class StatusMessage(Wire, frozen=True, kw_only=True):
    state: Literal["online", "offline"] | None = None
    status: Literal["online", "offline"] | None = None
    ts: Moment | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.either("state", "status") is None:
            raise ValueError("state is missing")


class Peek(msgspec.Struct):
    """Which message a payload is: by the fields that only one of them has."""

    transaction_id: Raw = Raw()
    sequence: Raw = Raw()
    lines: Raw = Raw()
    totals: Raw = Raw()
    basket_id: Raw = Raw()
    step: Raw = Raw()
    question: Raw = Raw()
    score: Raw = Raw()
    consent: Raw = Raw()
    programme: Raw = Raw()
    link: Raw = Raw()


def check_depth(payload: bytes) -> None:
    """Refuse what is nested deeper than anything of ours, before a parser has to walk down there.

    Raises:
        ValueError: more than 16 arrays and objects stand in one another.
    """
    depth, inside, escaped_at = 0, False, -1
    for token in _STRUCTURE.finditer(payload):
        char = token[0]
        if token.start() == escaped_at:
            continue
        if char == b"\\":
            escaped_at = token.start() + 1
        elif char == b'"':
            inside = not inside
        elif not inside:
            depth += 1 if char in b"[{" else -1
            if depth > _DEPTH_LIMIT:
                raise ValueError(f"nested deeper than {_DEPTH_LIMIT} levels")
