"""Tills that publish JSON over MQTT: finished transactions, baskets under way, shoppers' feedback, online and offline.

Document: this project's transaction model (after NRF/OMG ARTS POSLog 6) and topic plan, PROTOCOLS §6.5 and §9.3. Knows
nothing of stores, persons or clocks. Topics: `store/{store}/pos/{kind}/{device}/event`, not retained; and `…/status`,
retained, with `online` or `offline` (the last will), plain or as JSON `{"state": "online"}`::

    [[devices]]
    name = "lane2"
    driver = "pos_json"
    topics = ["store/0042/pos/+/lane2/event", "store/0042/pos/+/lane2/status"]
    [devices.options]
    currency = "EUR"

A transaction; only `totals.net` and `sequence` or `transaction_id` are required, and of a line only its amount::

    {"v": 1, "ts": "2026-11-22T09:16:03Z", "boot": "b7", "seq": 911,
     "transaction_id": "0042-03-20261122-1234", "type": "sale", "store_id": "0042", "workstation_id": "03",
     "operator_id": "77", "sequence": 1234, "business_date": "2026-11-22",
     "begin_time": "2026-11-22T10:14:50+01:00", "end_time": "2026-11-22T10:16:02.5+01:00",
     "currency": "EUR", "training": false, "cancelled": false,
     "lines": [
       {"seq": 1, "type": "sale", "gtin": "5901234123457", "description": "Milk 1L", "quantity": "2", "unit": "C62",
        "unit_price": "1.20", "regular_price": "1.30", "extended_amount": "2.40",
        "discounts": [{"amount": "0.40", "reason": "2 for 2.00", "promotion_id": "P7", "coupon": null}],
        "tax": [{"rate": "7", "amount": "0.13", "included": true}],
        "epc": ["30143639F84191AD22901607"], "voided": false},
       {"seq": 2, "type": "return", "sku": "A-17", "quantity": "-1", "extended_amount": "-0.50",
        "original_transaction": "0042-03-20261120-0991"}],
     "tenders": [{"type": "cash", "amount": "5.00", "change": "3.50"}],
     "coupons": ["9506000134352001"], "loyalty": {"scheme": "club", "id": "L-1"},
     "totals": {"gross": "1.90", "discount": "0.40", "tax": "0.13", "net": "1.50", "tendered": "5.00",
                "change": "3.50", "item_count": "2"},
     "source": {"tap": "json", "confidence": 1.0}}

Other names for the same: `kind` = `type`; `opened_at`, `closed_at` = `begin_time`, `end_time`; `operator` =
`operator_id`; `amount` = `extended_amount`; `epcs` = `epc`; `member`, `member_scheme` = `loyalty`; `tap`, `confidence`
= `source`. If both are given they must agree. `type` is sale, return, void, exchange, mixed (an exchange) or no_sale;
of lines: sale, return, void, deposit, fee; of tenders: cash, card, voucher, mobile, other. Unknown fields are skipped.

* Money and quantities are decimal strings or JSON numbers (read as written, not as binary floats). Discounts are
  positive. Returns are negative; a return that a till writes with positive amounts is turned.
* Times are RFC 3339 with an offset, or milliseconds since 1970. `business_date` is YYYY-MM-DD.
* `extended_amount` is before the line's discounts. Lines − discounts + tax that is not included must be `totals.net`
  within a cent, else `confidence` is at most 0.5. Voided lines do not count.
* A code in `gtin` without a right check digit is kept as `sku`.
* Training, cancelled and no_sale transactions are counted as `ignored`, so are retained events.
* Sent twice is one sale: the fact is named by `transaction_id`, else by `sequence` with `business_date` or `boot`.

A basket, and an answer (NPS 0–10 or smiley 1–4)::

    {"basket_id": "b-9", "step": "item_added", "lane": "3", "gtin": "5901234123457", "boot": "b7", "seq": 912}
    {"question": "nps", "score": 9, "scale": "nps", "ts": 1795338963000, "boot": "b7", "seq": 913}

`scale` is nps or smiley; without it 1 to 4 may be either, and the question's name decides.

Points, and a consent or its withdrawal; purposes are visits, matching, offers, analytics (a withdrawal without any
takes all back); without a notice of its own a consent is on the one of `[privacy]`. `member` as in a transaction::

    {"programme": "club", "points": "12.5", "act": "earned", "member": "L-1", "transaction_id": "0042-03-20261122-1234"}
    {"consent": "granted", "member": "L-1", "member_scheme": "club", "purposes": ["visits", "matching"],
     "ts": "2026-11-22T09:15:00Z", "notice_version": "2026-10", "language": "zh-CN", "method": "till",
     "record_id": "till3-000171", "expires_at": "2028-11-22T00:00:00+08:00"}

A second identifier that the member has proved theirs at the till (act: registration, login, phone_change, card_change),
with the one it replaces, if any; `replaced_scheme` is `linked_scheme` where it is left out::

    {"link": "phone_change", "member": "L-1", "linked": "138 0013 8000", "linked_scheme": "phone",
     "replaced": "138 0013 9999", "boot": "b7", "seq": 914}

`loyalty` may be a list of up to eight, and a tender may have a `token` of the payment: several identifiers of one
person. Two of the same kind that differ name nobody, see docs/privacy.md.

Steps are opened, item_added, item_removed, payment_started, paid, abandoned. What cannot be read is rejected with the
path of what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

import msgspec

from devices.driver import Driver, Message, Options, driver
from devices.till_message import (
    EPOCH,
    LATEST,
    AnswerMessage,
    BasketMessage,
    ConsentMessage,
    LineKind,
    LineMessage,
    LinkMessage,
    Peek,
    PointsMessage,
    SourceMessage,
    Stamped,
    StatusMessage,
    TenderMessage,
    TotalsMessage,
    TransactionMessage,
    check_depth,
)  # fmt: skip
from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.intake.reading import (
    BasketStep,
    ConsentAct,
    DeviceState,
    Discount,
    Feedback,
    Identity,
    MemberLink,
    Points,
    Reading,
    Sale,
    SaleLine,
    Tax,
    Tender,
    Totals,
)

SaleKind = Literal["sale", "return", "void", "exchange"]

_QUOTED = re.compile(r"(Invalid enum value) .*?( - at `|$)", re.DOTALL)  # no word of a payload belongs in a log
_CENT = Decimal("0.01")
_HINT = "`storefront drivers pos_json` prints a complete example"


class PosJsonOptions(Options, frozen=True, kw_only=True):
    """Options of a till that publishes JSON."""

    currency: str | None = None  # ISO 4217, where a transaction names none
    member_scheme: str | None = None  # where a transaction has a member without a scheme
    max_bytes: int = 262_144  # of a payload; more is rejected

    def __post_init__(self) -> None:
        if self.currency is not None and not re.fullmatch("[A-Z]{3}", self.currency):
            raise ValueError("currency: must be three capital letters (ISO 4217)")
        if not 1024 <= self.max_bytes <= 16_777_216:
            raise ValueError("max_bytes: must be from 1024 to 16777216")


@driver(
    "pos_json",
    sales=True,
    wire="mqtt",
    options=PosJsonOptions,
    topics=("store/+/pos/+/+/event", "store/+/pos/+/+/status"),
)
class PosJson(Driver):
    """Messages to sales, basket steps, feedback and device states; one message gives at most one reading."""

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        """Read one message.

        Raises:
            Rejected: the payload is too large, no JSON, of the wrong shape or of another version.
        """
        message: Message = data
        leaf = message.topic.rpartition("/")[2]
        try:
            if leaf in ("status", "state"):
                reading: Reading | None = self._status(message.payload)
            elif leaf == "cmd" or message.retained:
                reading = None
            else:
                reading = self._event(message.payload)
        except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            self.counters.bad_frames += 1
            reason = "nested too deeply" if isinstance(error, RecursionError) else _QUOTED.sub(r"\1\2", str(error))
            raise Rejected("read message of a till", message.topic, reason, _HINT) from error
        if reading is None:
            self.counters.ignored += 1
            return ()
        self.counters.frames += 1
        return (reading,)

    def _event(self, payload: bytes) -> Reading | None:
        if len(payload) > self.options.max_bytes:
            raise ValueError(f"payload is larger than {self.options.max_bytes} bytes")
        check_depth(payload)
        peek = msgspec.json.decode(payload, type=Peek)
        if peek.consent:
            return _consent(msgspec.json.decode(payload, type=ConsentMessage))
        if peek.link:
            return _link(msgspec.json.decode(payload, type=LinkMessage))
        if peek.programme:
            return _points(msgspec.json.decode(payload, type=PointsMessage))
        if any((peek.transaction_id, peek.sequence, peek.lines, peek.totals)):
            transaction = msgspec.json.decode(payload, type=TransactionMessage)
            return None if transaction.dropped else self._sale(transaction)
        if peek.basket_id or peek.step:
            basket = msgspec.json.decode(payload, type=BasketMessage)
            lane = None if basket.lane is None else str(basket.lane)
            return BasketStep(
                basket_id=basket.basket_id, step=basket.step, lane=lane, gtin=_gtin(basket.gtin), **_stamp(basket)
            )
        if peek.question or peek.score:
            answer = msgspec.json.decode(payload, type=AnswerMessage)
            return Feedback(question=answer.question, score=answer.score, scale=answer.scale, **_stamp(answer))
        raise ValueError("neither a transaction, a basket, an answer, points, a consent nor a link")

    def _status(self, payload: bytes) -> DeviceState:
        if payload in (b"online", b"offline"):
            payload = b'"' + payload + b'"'
        if len(payload) > 4096:
            raise ValueError("status is larger than 4096 bytes")
        if payload.startswith(b'"'):
            return DeviceState(state=msgspec.json.decode(payload, type=Literal["online", "offline"]))
        status = msgspec.json.decode(payload, type=StatusMessage)
        return DeviceState(state=status.either("state", "status"), device_at=_moment(status.ts))

    def _sale(self, told: TransactionMessage) -> Sale:
        assert told.totals is not None
        wording: Any = told.either("type", "kind")
        kind: SaleKind = "sale" if wording is None else "exchange" if wording == "mixed" else wording
        returned = kind == "return"
        lines = tuple(_line(position, line, returned) for position, line in enumerate(told.lines, 1))
        totals = _totals(told.totals, returned)
        source = told.source or SourceMessage()
        tap = source.tap or told.tap or "mqtt"
        confidence = min(value for value in (source.confidence, told.confidence, 1.0) if value is not None)
        if not _adds_up(lines, totals) and kind != "void":
            confidence = min(confidence, 0.5)
        (member, scheme), identities = self._persons(told)
        opened_at = _moment(told.either("begin_time", "opened_at"))
        closed_at = _moment(told.either("end_time", "closed_at"))
        device_seq, device_boot = _fact(told, kind)
        return Sale(
            device_at=closed_at or _moment(told.ts), device_seq=device_seq, device_boot=device_boot, kind=kind,
            sequence=_sequence(told), workstation_id=told.workstation_id, business_date=_iso(told.business_date),
            operator=told.either("operator_id", "operator"), opened_at=opened_at, closed_at=closed_at,
            currency=told.currency or self.options.currency, lines=lines,
            tenders=tuple(_tender(tender, returned) for tender in told.tenders), coupons=told.coupons, member=member,
            member_scheme=scheme if member else None, identities=identities, totals=totals,
            tap="json" if tap == "webhook" else tap, confidence=confidence,
        )  # fmt: skip

    def _persons(self, told: TransactionMessage) -> tuple[tuple[str | None, str | None], tuple[Identity, ...]]:
        """The member and the scheme, and whatever else the till says of who it was; who that is, intake decides."""
        loyalty = told.loyalty if isinstance(told.loyalty, tuple) else (told.loyalty,) if told.loyalty else ()
        named = [(one.either("id", "id_hash"), one.scheme or told.member_scheme) for one in loyalty]
        named.append((told.member, told.member_scheme))
        usual = self.options.member_scheme
        found = list(dict.fromkeys((member, scheme or usual) for member, scheme in named if member))
        tokens = (Identity("payment", tender.token) for tender in told.tenders if tender.token)
        others = (*(Identity(scheme or "member", member) for member, scheme in found[1:]), *tokens)
        return found[0] if found else (None, None), others


def _points(told: PointsMessage) -> Points:
    return Points(
        act=told.act, programme=told.programme, points=told.points, member=told.member,
        member_scheme=told.member_scheme, transaction_id=told.transaction_id, **_stamp(told),
    )  # fmt: skip


def _consent(told: ConsentMessage) -> ConsentAct:
    return ConsentAct(
        act=told.consent, identifier=told.member, scheme=told.member_scheme, purposes=",".join(told.purposes),
        record_id=told.record_id, notice_version=told.notice_version, notice_digest=told.notice_digest,
        language=told.language, method=told.method, expires=told.expires_at, **_stamp(told),
    )  # fmt: skip


def _link(told: LinkMessage) -> MemberLink:
    replaced_scheme = told.replaced_scheme or told.linked_scheme
    return MemberLink(
        act=told.link, member=Identity(told.member_scheme, told.member),
        linked=Identity(told.linked_scheme, told.linked),
        replaced=Identity(replaced_scheme, told.replaced) if told.replaced is not None else None, **_stamp(told),
    )  # fmt: skip


def _line(position: int, told: LineMessage, returned: bool) -> SaleLine:
    """One line; in a return, lines that do not say otherwise are returns."""
    kind: LineKind = told.either("type", "kind") or ("return" if returned else "sale")
    amount, quantity = told.either("extended_amount", "amount"), told.quantity
    if kind == "return":
        amount, quantity = -abs(amount), -abs(quantity)
    gtin = _gtin(told.gtin)
    epcs = told.either("epc", "epcs") or ()
    return SaleLine(
        seq=position if told.seq is None else told.seq, kind=kind, amount=amount, gtin=gtin,
        sku=told.sku or (told.gtin if gtin is None else None),
        epcs=tuple(epc.upper() if _is_hex(epc) else epc for epc in epcs), description=told.description,
        quantity=quantity, unit=told.unit, unit_price=told.unit_price, regular_price=told.regular_price,
        discounts=tuple(
            Discount(amount=abs(off.amount), reason=off.reason, promotion_id=off.promotion_id, coupon=off.coupon)
            for off in told.discounts
        ),
        tax=tuple(Tax(amount=tax.amount, rate=tax.rate, included=tax.included) for tax in told.tax),
        voided=told.voided, original_transaction=told.original_transaction,
    )  # fmt: skip


def _tender(told: TenderMessage, returned: bool) -> Tender:
    amount = -abs(told.amount) if returned else told.amount
    return Tender(kind=told.either("type", "kind"), amount=amount, change=told.change)


def _totals(told: TotalsMessage, returned: bool) -> Totals:
    """The totals; of a return, what is negative: all but discount, change and the count."""

    def signed(amount: Decimal | None) -> Decimal | None:
        return -abs(amount) if returned and amount is not None else amount

    return Totals(
        net=-abs(told.net) if returned else told.net, gross=signed(told.gross), tax=signed(told.tax),
        tendered=signed(told.tendered), discount=None if told.discount is None else abs(told.discount),
        change=told.change, item_count=told.item_count,
    )  # fmt: skip


def _adds_up(lines: tuple[SaleLine, ...], totals: Totals) -> bool:
    """Lines − discounts + tax that is not included = net, within a cent.

    A discount of the whole transaction is only in the totals; whether the totals repeat those of the lines differs from
    till to till, so either sum may fit. On a returned line a discount makes the refund smaller.
    """
    counted = [line for line in lines if not (line.voided or (line.kind == "void" and line.amount > 0))]
    sold = sum((line.amount for line in counted), Decimal(0))
    off = sum(((-1 if line.amount < 0 else 1) * item.amount for line in counted for item in line.discounts), Decimal(0))
    tax = sum((tax.amount for line in counted for tax in line.tax if not tax.included), Decimal(0))
    discounts = {off} | ({totals.discount * (-1 if totals.net < 0 else 1)} if totals.discount is not None else set())
    return any(abs(sold - discount + tax - totals.net) <= _CENT for discount in discounts)


def _fact(told: TransactionMessage, kind: str) -> tuple[str | None, str | None]:
    """(device_seq, device_boot) that name the transaction however often it is told; (None, None) if unsure.

    A number alone does not: tills start again at 1. A void may carry the number of what it voids, so the kind counts.
    """
    day = _iso(told.business_date)
    suffix = "" if kind == "sale" else f":{kind}"
    if told.transaction_id is not None:
        return told.transaction_id + suffix, day
    run = day or (None if told.boot is None else str(told.boot))
    if run is None:
        return None, None
    return f"{told.workstation_id or ''}/{told.sequence}{suffix}", run


def _sequence(told: TransactionMessage) -> str:
    """The till's own number; `{store}-{workstation}-{business_date}-{sequence}` ends in it."""
    if told.sequence is not None:
        return str(told.sequence)
    assert told.transaction_id is not None
    parts = told.transaction_id.split("-")
    return parts[-1] if len(parts) == 4 and parts[-1] else told.transaction_id


def _stamp(told: Stamped) -> dict[str, Any]:
    return {
        "device_at": _moment(told.ts),
        "device_seq": None if told.seq is None else str(told.seq),
        "device_boot": None if told.boot is None else str(told.boot),
    }


def _moment(value: int | datetime | None) -> datetime | None:
    """RFC 3339 or milliseconds since 1970, as UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if value is None:
        return None
    if value >= (LATEST - EPOCH) / timedelta(milliseconds=1):
        raise ValueError("a time in milliseconds is after 2199")
    return EPOCH + timedelta(milliseconds=value)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _is_hex(text: str) -> bool:
    return re.fullmatch("[0-9A-Fa-f]+", text) is not None


def _gtin(text: str | None) -> str | None:
    """14 digits if `text` is a GTIN with a right check digit (GS1 GenSpecs §7.9.1), else None."""
    if text is None or re.fullmatch("[0-9]{8}|[0-9]{12,14}", text) is None:
        return None
    weighted = sum(int(digit) * (1, 3)[index % 2] for index, digit in enumerate(reversed(text)))
    return text.zfill(14) if weighted % 10 == 0 else None
