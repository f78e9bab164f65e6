"""From received events to the book of persons: one rule a type, a bounded number of events a step, its own cursor.

Reads the platform's events by a connection of its own and never holds up ingest; a crash repeats a step, and every row
is idempotent by the event's position. What a rule cannot read is counted and passed over: the platform has judged it
already. Knows no HTTP and no CSV.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from gateway.errors import Rejected
from gateway.event_types import (
    BarcodeScanned,
    CommandCompleted,
    ConsentGranted,
    ConsentWithdrawn,
    CouponRedeemed,
    CouponRefused,
    CouponReleased,
    CouponReserved,
    InteractionScanned,
    MemberLinked,
    PointsEarned,
    PointsSpent,
    Sale,
    Shopper,
    VisitClosed,
    VisitCompared,
    type_of,
)
from sync.platform.consent_state import ConsentAct
from sync.platform.profile_book import EVENT, PARTS, ProfileBook, Touch, Writing
from sync.platform.vault import Opens

_CURSOR: Final = "cursor"
STEP: Final = 200  # events
_IDLE_S, _REST_S = 0.5, 0.01
_MOST = Decimal(10) ** 12  # an amount beyond it is a mistake; it is kept without one


class EventSource(Protocol):
    """The platform's log in order of arrival."""

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        """Events above a position, each with its own."""
        ...


class _Head(msgspec.Struct):
    type: str = ""
    source: str = ""
    time: str = ""
    consentref: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class Seen(msgspec.Struct, frozen=True):
    """An event's envelope, as far as the rules need it."""

    position: int
    store: str
    at_ms: int
    record: str | None


class ProfileFold:
    """`step` from one thread: opens identifiers outside the transaction, then writes what it read."""

    def __init__(self, book: ProfileBook, source: EventSource, opener: Opens | None) -> None:
        """`opener` None: there is no private key, so only day keys join."""
        self._book = book
        self._source = source
        self._opener = opener
        self._head = msgspec.json.Decoder(_Head)
        self._unswept = True

    def step(self, limit: int = STEP) -> int:
        """Fold at most `limit` events; returns how many there were, 0 when it has caught up and swept."""
        with self._book.reading() as connection:
            row = connection.execute("SELECT value FROM fact WHERE name = ?", (_CURSOR,)).fetchone()
        rows = self._source.events(int(row[0]) if row else 0, limit)
        if not rows:
            self._sweep()
            return 0
        self._unswept = True
        read = [(position, self._read(position, body)) for position, body in rows]
        with self._book.transaction() as writing:
            for _, (seen, data, opened) in read:
                if data is not None and seen is not None:
                    _RULES[type(data)](_Rule(writing, seen, opened), data)
            writing.count("unreadable", sum(seen is None for _, (seen, _, _) in read))
            writing.count("unopened", sum(value is None for _, (_, _, opened) in read for value in opened.values()))
            writing.set_fact(_CURSOR, str(rows[-1][0]))
        return len(rows)

    def _sweep(self) -> None:
        """Every act that has arrived is known now."""
        if self._unswept:
            with self._book.transaction() as writing:
                writing.count("withdrawn", writing.sweep())
            self._unswept = False

    def catch_up(self) -> int:
        """Fold everything there is; returns how many events."""
        total = 0
        while folded := self.step():
            total += folded
        return total

    def rebuild(self) -> None:
        """Forget what came from events and begin again; consents, imports, parted acts and erasures stay.

        Consents stay because a withdrawal read before the grant that followed it would take out what that allows.
        """
        with self._book.transaction() as writing:
            writing.everybody()
            writing.sql("DELETE FROM touch WHERE origin = ?", (EVENT,))
            writing.sql("DELETE FROM edge WHERE origin = ? AND void = 0", (EVENT,))
            for table in ("visit_sale", "day_key", "coupon_step"):
                writing.sql(f"DELETE FROM {table}")  # noqa: S608 - fixed names
            writing.sql("DELETE FROM fact WHERE name IN ('unreadable', 'unopened', 'withdrawn')")
            writing.set_fact(_CURSOR, "0")

    def run(
        self, stop: threading.Event, failed: Callable[[BaseException], None], idle: Callable[[], object] = lambda: None
    ) -> None:
        """Fold until told to stop, `idle` when there is nothing to; what ends it early is handed to `failed`."""
        try:
            while not stop.is_set():
                if self.step():
                    stop.wait(_REST_S)
                else:
                    idle()
                    stop.wait(_IDLE_S)
        except Exception as error:  # noqa: BLE001 - the worker's shell: serving goes on without profiles, and says so
            failed(error)

    def _read(self, position: int, body: bytes) -> tuple[Seen | None, Any, dict[str, tuple[str, str] | None]]:
        try:
            head = self._head.decode(body)
            decoder = _DECODERS.get(head.type)
            if decoder is None or bytes(head.data) == b"null":
                return Seen(position, "", 0, None), None, {}
            data = decoder.decode(head.data)
            store = head.source.removeprefix("//").split("/")[2]
            seen = Seen(position, store, ms(head.time), head.consentref)
        except (msgspec.DecodeError, ValueError, IndexError, OverflowError):
            return None, None, {}
        opened: dict[str, tuple[str, str] | None] = {}
        for name in _SHOPPERS:
            shopper = getattr(data, name, None)
            if isinstance(shopper, Shopper) and shopper.sealed is not None:
                opened[shopper.sealed] = self._open(shopper.sealed)
        return seen, data, opened

    def _open(self, sealed: str) -> tuple[str, str] | None:
        if self._opener is None:
            return None
        try:
            inside = self._opener.open(sealed)
        except Rejected:
            return None
        return inside.scheme, inside.value


_CARRIED = ("member", "app", "card")  # shown at the till; a phone number is only said, and anybody can say one
_SHOPPERS = ("shopper", "loyalty", "payer", "linked", "replaced")


def ms(text: str) -> int:
    """An RFC 3339 time in milliseconds since 1970.

    Raises:
        ValueError: it is none, or says no offset.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("no offset")
    return round(at.timestamp() * 1000)


def parts(amount: Decimal | None) -> int | None:
    """Money in ten-thousandths; None for none and for what is none."""
    if amount is None or not amount.is_finite() or abs(amount) > _MOST:
        return None
    return int((amount * PARTS).to_integral_value())


def timed(text: str | None, fallback_ms: int) -> int:
    """A time inside the data, which nobody has judged."""
    try:
        return ms(text) if text else fallback_ms
    except (ValueError, OverflowError):
        return fallback_ms


class _Rule:
    """What every rule needs at hand."""

    def __init__(self, writing: Writing, seen: Seen, opened: Mapping[str, tuple[str, str] | None]) -> None:
        self.writing = writing
        self.seen = seen
        self._opened = opened

    def who(self, shopper: Shopper | None) -> int | None:
        """The identifier inside, None when there is none or it cannot be opened."""
        inside = self._opened.get(shopper.sealed) if shopper is not None and shopper.sealed is not None else None
        if inside is None:
            return None
        try:
            identifier = self.writing.identify(*inside, self.seen.at_ms)
        except Rejected:
            return None
        if identifier is None:  # erased since
            self.writing.sql("INSERT OR IGNORE INTO late VALUES (?)", (self.seen.position,))
        else:
            place = (identifier, self.seen.position, self.seen.at_ms)
            self.writing.sql("INSERT OR IGNORE INTO mention VALUES (?, ?, ?)", place)
        return identifier

    def day_key(self, shopper: Shopper | None) -> str | None:
        """Store and key: it says nothing in another store."""
        return None if shopper is None or shopper.day_key is None else f"{self.seen.store}|{shopper.day_key}"

    def touch(self, kind: str, shopper: Shopper | None, **fields: Any) -> None:
        """Keep a touch of this event."""
        at_ms = fields.pop("at_ms", self.seen.at_ms)
        self.writing.touch(
            Touch(kind=kind, at_ms=at_ms, store=self.seen.store, identifier=self.who(shopper),
                  day_key=self.day_key(shopper), record=self.seen.record, place=self.seen.position, **fields)
        )  # fmt: skip


def _sale(rule: _Rule, sale: Sale) -> None:
    shown = sale.loyalty if sale.loyalty is not None else sale.payer
    if sale.loyalty is not None and sale.payer is not None and sale.loyalty.scheme in _CARRIED:
        member, payer = rule.who(sale.loyalty), rule.who(sale.payer)
        if member is not None and payer is not None:
            rule.writing.link("basket", member, payer, rule.seen.at_ms, origin=EVENT, place=rule.seen.position)
    items = sale.totals.item_count
    counted = sum((line.quantity for line in sale.lines if line.kind == "sale" and not line.voided), Decimal(0))
    rule.touch(
        sale.kind, shown, ref=sale.transaction_id, amount_parts=parts(sale.totals.net) if sale.kind != "void" else 0,
        currency=sale.currency or "", items=float(items if items is not None else counted), confidence=sale.confidence,
        detail=_detail(lines=len(sale.lines), workstation=sale.workstation_id),
    )  # fmt: skip


def _visit(rule: _Rule, visit: VisitClosed) -> None:
    at_ms = timed(visit.entered_at, rule.seen.at_ms)
    rule.touch(
        "visit", visit.shopper, at_ms=at_ms, end_ms=max(at_ms, timed(visit.left_at, rule.seen.at_ms)),
        ref=visit.visit_id, confidence=max(0.0, min(1.0, visit.confidence)), supersedes=visit.supersedes,
        sales=visit.transaction_ids[:50],
        detail=_detail(
            opened_by=visit.opened_by, zones=[[stay.zone, round(stay.dwell_s)] for stay in visit.zones[:30]],
            evidence=list(visit.evidence[:20]), tags=len(visit.epcs),
        ),
    )  # fmt: skip


def _compared(rule: _Rule, told: VisitCompared) -> None:
    """It names nobody, but is of somebody's visit: whoever is erased takes it along."""
    row = rule.writing.sql(
        "SELECT identifier, at_ms FROM touch WHERE store = ? AND kind = 'visit' AND ref = ? AND identifier IS NOT NULL",
        (rule.seen.store, told.visit_id),
    ).fetchone()
    if row is not None:
        rule.writing.sql("INSERT OR IGNORE INTO mention VALUES (?, ?, ?)", (row[0], rule.seen.position, row[1]))


def _points(rule: _Rule, points: PointsEarned | PointsSpent) -> None:
    spent = isinstance(points, PointsSpent)
    rule.touch(
        "points_spent" if spent else "points_earned", points.shopper, ref=points.transaction_id or "",
        detail=_detail(points=str(points.points), programme=points.programme),
    )  # fmt: skip


def _scan(rule: _Rule, scan: InteractionScanned | BarcodeScanned) -> None:
    if scan.shopper is not None:
        said = {"campaign": scan.campaign, "content": scan.content_id} if isinstance(scan, InteractionScanned) else {}
        rule.touch("scan", scan.shopper, detail=_detail(**{name: text for name, text in said.items() if text}))


def _consent(rule: _Rule, consent: ConsentGranted | ConsentWithdrawn) -> None:
    granted = isinstance(consent, ConsentGranted)
    until_ms = (timed(consent.expires_at, 0) or None) if granted else None
    rule.writing.consent(
        ConsentAct("granted" if granted else "withdrawn", consent.purposes, rule.seen.at_ms, until_ms),
        consent.record_id, rule.who(consent.shopper), notice=consent.notice_version, language=consent.language,
        method=consent.method, origin=EVENT, place=rule.seen.position,
    )  # fmt: skip


def _linked(rule: _Rule, linked: MemberLinked) -> None:
    one, other, replaced = (rule.who(it) for it in (linked.shopper, linked.linked, linked.replaced))
    if one is not None and other is not None:
        rule.writing.link(
            linked.act, one, other, rule.seen.at_ms, replaced=replaced or 0, origin=EVENT, place=rule.seen.position
        )


def _coupon(step: str) -> Callable[[_Rule, CouponReserved], None]:
    def rule_of(rule: _Rule, coupon: CouponReserved) -> None:
        rule.writing.sql(
            "INSERT OR IGNORE INTO coupon_step VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (rule.seen.position, coupon.coupon, coupon.campaign or "", coupon.channel or "", step, rule.seen.store,
             rule.seen.at_ms, coupon.transaction_id or "", coupon.reason or ""),
        )  # fmt: skip

    return rule_of


def _completed(rule: _Rule, done: CommandCompleted) -> None:
    rule.writing.sql(
        "UPDATE told SET outcome = ?, detail = ? WHERE command = ?", (done.outcome, done.detail[:200], done.command)
    )


def _detail(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()


_RULES: dict[type, Callable[[_Rule, Any], None]] = {
    Sale: _sale,
    VisitClosed: _visit,
    VisitCompared: _compared,
    PointsEarned: _points,
    PointsSpent: _points,
    InteractionScanned: _scan,
    BarcodeScanned: _scan,
    ConsentGranted: _consent,
    ConsentWithdrawn: _consent,
    MemberLinked: _linked,
    CouponReserved: _coupon("reserved"),
    CouponRedeemed: _coupon("redeemed"),
    CouponReleased: _coupon("released"),
    CouponRefused: _coupon("refused"),
    CommandCompleted: _completed,
}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {type_of(kind).name: msgspec.json.Decoder(kind) for kind in _RULES}
