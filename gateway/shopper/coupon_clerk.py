"""The clerk of the coupon book: what must happen to it though no till asks.

Makes the tables and, where the journal has a past that they do not know (after a salvage, a restore), makes them good
from its events. Then, in turns: sales that name coupons redeem what is held, holds that have lasted too long end, and
what the platform has heard of is no risk any more. Its place in the journal moves in the same transaction as what the
sales change, so a crash repeats nothing. Knows no till.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, TimeoutError
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.errors import JournalFull, Rejected, Unavailable
from gateway.event import Draft
from gateway.journal.cursor import UPLINK, position_of
from gateway.journal.reader import JournalReader
from gateway.journal.rows import StoredEvent
from gateway.journal.schema import head_of
from gateway.shopper import coupon_tables as tables
from gateway.shopper.coupon_book import SoldCoupons
from gateway.shopper.coupon_rules import RuleName
from gateway.shopper.coupon_tables import State, Use
from gateway.shopper.coupon_token import CouponToken, is_token, verify
from gateway.shopper.coupons import CouponDesk

log = logging.getLogger(__name__)
T = TypeVar("T")

_CHUNK = 500
_REST_S = 0.25
_LOOK_EVERY_S = 2.0  # also how long it sleeps without news from the journal
_PRUNE_EVERY_S = 3600.0
_PRUNE_BEHIND_S = 90 * 86_400.0
_PRUNE_MOST_S = 86_400.0
_FULL_RETRY_S = 1.0
_ANSWER_S = 30.0
_COUPONS = 100  # different ones in one sale; more is no basket
_STATE: dict[str, State] = {
    "store.coupon.reserved.v1": "held", "store.coupon.redeemed.v1": "redeemed", "store.coupon.released.v1": "released",
}  # fmt: skip


class _Past:
    """What the journal's events tell of coupons, as far as it has been read; `unread`: the book does not know it."""

    def __init__(self, epoch: str, place: str, unread: bool) -> None:
        self.epoch, self.place, self.unread = epoch, place, unread
        self.uses: dict[str, Use] = {}  # as each was last
        self.first = 0  # position of the first event of a coupon
        self.after = 0

    def take(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            if b'"store.coupon.' in event.json and (use := _use_of(event)) is not None:
                self.first = self.first or event.position
                self.uses[use.reservation] = use
        self.after = events[-1].position


class CouponClerk:
    """Worker. A fresh one goes on where the last one was."""

    def __init__(self, desk: CouponDesk, path: Path, *, restore_on_return: bool = False) -> None:
        """`path`: the journal's file; `restore_on_return`: a return gives the coupon back, not only a void."""
        self._desk = desk
        self._restore_on_return = restore_on_return
        self._reader = JournalReader(path)
        self._position: int | None = None
        self._past: _Past | None = None  # until the book is in order
        self._kept = 0
        self._looked_s: float | None = None
        self._pruned_s: float | None = None
        self._seen = 0  # of the journal's news

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Read one chunk of the journal, look after the book, rest.

        Raises:
            Unavailable: the journal did not answer in time.
            JournalError: it cannot be read or written any more.
        """
        if not self._desk.commits.is_open:
            stop.wait(0.05)
            return
        try:
            if self._position is None:
                self._prepare(stop)
                return
            more = self._read_sales(stop)
            now_s = self._desk.clock.now().mono_s
            if self._looked_s is None or now_s - self._looked_s >= _LOOK_EVERY_S:
                self._looked_s = now_s
                self._look_after(now_s, stop)
        except JournalFull:
            stop.wait(_FULL_RETRY_S)
            return
        if not more and not stop.wait(_REST_S):
            self._seen = self._desk.commits.news.after(self._seen, _LOOK_EVERY_S, stop)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._desk.commits.news.wake()

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    # -- the beginning

    def _prepare(self, stop: threading.Event) -> None:
        """One piece of it a call: a journal's past may be long, and a step is short."""
        if self._past is None:
            self._past = self._begin(stop)
        elif events := self._reader.read("transactions", self._past.after, _CHUNK) if self._past.unread else []:
            self._past.take(events)
        else:
            self._position = self._kept = self._make_good(self._past, stop)
            self._desk.ready = True

    def _begin(self, stop: threading.Event) -> _Past:
        if not self._reader.is_open:
            self._reader.open()
        epoch = self._reader.epochs("transactions")[-1].epoch

        def begin(connection: sqlite3.Connection) -> tuple[_Past, Sequence[Draft]]:
            tables.make(connection)
            self._desk.trust(connection)
            known = tables.fact(connection, "epoch") == epoch
            return _Past(epoch, tables.fact(connection, "sales_position"), not known), ()

        return self._submit(begin, stop)

    def _make_good(self, past: _Past, stop: threading.Event) -> int:
        """Write what the journal's events tell; where in it to go on reading sales."""
        if past.uses:
            log.warning("coupons=made_good uses=%d", len(past.uses))

        def make_good(connection: sqlite3.Connection) -> tuple[int, Sequence[Draft]]:
            for use in past.uses.values():
                _make_good(connection, use)
            start = int(past.place or (past.first - 1 if past.first else head_of(connection, "transactions")))
            tables.put_fact(connection, "epoch", past.epoch)
            tables.put_fact(connection, "sales_position", str(start))
            return start, ()

        return self._submit(make_good, stop)

    # -- the day

    def _read_sales(self, stop: threading.Event) -> bool:
        """True when there may be more to read at once."""
        assert self._position is not None
        events = self._reader.read("transactions", self._position, _CHUNK)
        if not events:
            return False
        sold = [it for event in events if b'"store.pos.sale.v1"' in event.json and (it := self._sold(event))]
        refused = [reason for it in sold for reason in it[1]]
        end = events[-1].position
        if sold or end - self._kept >= _CHUNK:
            self._submit(lambda connection: self._settle(connection, [it[0] for it in sold], refused, end), stop)
            self._kept = end
        self._position = end
        return len(events) == _CHUNK

    def _settle(
        self, connection: sqlite3.Connection, sales: Sequence[SoldCoupons], refused: Sequence[tuple[str, str, str]],
        end: int,
    ) -> tuple[None, Sequence[Draft]]:  # fmt: skip
        if int(tables.fact(connection, "sales_position", "0")) >= end:
            return None, ()  # an answer that came too late the first time
        book = self._desk.book(connection)
        for sold in sales:
            book.settle(sold, restore_on_return=self._restore_on_return)
        for reason, lane, sale in refused:
            book.refuse(reason, None, lane, sale)
        tables.put_fact(connection, "sales_position", str(end))
        return None, book.drafts

    def _sold(self, event: StoredEvent) -> tuple[SoldCoupons, list[tuple[str, str, str]]] | None:
        """The coupons of a sale; None when it has none. Whole tokens are verified, what fails is told."""
        try:
            sale = _decode_sale(event.json).data
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        names = Counter(sale.coupons)
        for line in sale.lines:
            for discount in line.discounts:
                if discount.coupon and discount.coupon not in names:
                    names[discount.coupon] = 1
        if not names:
            return None
        coupons: dict[str, int] = {}
        whole: dict[str, CouponToken] = {}
        refused: list[tuple[str, str, str]] = []
        for name, count in names.most_common(_COUPONS):
            coupon = name
            if is_token(name):
                try:
                    token = verify(name, self._desk.keys)
                except Rejected as error:
                    refused.append((error.reason, sale.workstation_id, sale.transaction_id))
                    continue
                coupon, whole[token.id] = token.id, token
            coupons[coupon] = max(count, coupons.get(coupon, 0))
        voids = tuple({line.original_transaction for line in sale.lines if line.original_transaction})
        return SoldCoupons(sale.transaction_id, sale.kind, sale.workstation_id, coupons, whole, voids), refused

    def _look_after(self, now_s: float, stop: threading.Event) -> None:
        """End old holds and settled risks, where there are any; read the figures."""
        if self._reader.query("SELECT 1 FROM coupon_use WHERE state = 'held' OR exposed = 1 LIMIT 1"):
            self._submit(self._tidy, stop)
        if self._pruned_s is None or now_s - self._pruned_s >= _PRUNE_EVERY_S:
            self._pruned_s = now_s
            self._submit(self._prune, stop)
        self._desk.look(self._reader.query)

    def _tidy(self, connection: sqlite3.Connection) -> tuple[None, Sequence[Draft]]:
        book = self._desk.book(connection)
        book.lapse(self._desk.hold_s)
        tables.delivered(connection, position_of(connection, UPLINK, "transactions"))
        return None, book.drafts

    def _prune(self, connection: sqlite3.Connection) -> tuple[None, Sequence[Draft]]:
        # A clock that was a year ahead must not forget what was redeemed: the limit moves on by a day an hour at most.
        limit_s = self._desk.book(connection).now.certain_s - _PRUNE_BEHIND_S
        before_s = float(tables.fact(connection, "pruned_s", str(limit_s)))
        limit_s = min(limit_s, before_s + _PRUNE_MOST_S)
        tables.put_fact(connection, "pruned_s", repr(limit_s))
        tables.prune(connection, limit_s)
        return None, ()

    def _submit(self, work: Callable[[sqlite3.Connection], tuple[T, Sequence[Draft]]], stop: threading.Event) -> T:
        future: Future[T] = self._desk.commits.record(work)
        for _ in range(int(_ANSWER_S / _REST_S)):
            try:
                return future.result(_REST_S)
            except TimeoutError:
                if stop.is_set() and future.cancel():
                    break
        future.cancel()
        raise Unavailable("keep coupon book", "journal", "the writer does not answer", "is the disk overloaded?")


class _Discount(msgspec.Struct):
    coupon: str = ""


class _Line(msgspec.Struct):
    discounts: tuple[_Discount, ...] = ()
    original_transaction: str = ""


class _Sale(msgspec.Struct):
    transaction_id: str
    kind: str
    workstation_id: str = ""
    coupons: tuple[str, ...] = ()
    lines: tuple[_Line, ...] = ()


class _SaleEvent(msgspec.Struct):
    data: _Sale


class _Coupon(msgspec.Struct):
    coupon: str
    reservation: str
    use: int
    uses: int
    face_value: Decimal
    currency: str
    rule: RuleName
    lane: str
    expires_at: str
    campaign: str = ""
    channel: str = ""
    lease: str = ""
    transaction_id: str = ""
    reason: str = ""


class _CouponEvent(msgspec.Struct):
    type: str
    data: _Coupon


_decode_sale = msgspec.json.Decoder(_SaleEvent).decode
_decode_coupon = msgspec.json.Decoder(_CouponEvent).decode


def _use_of(event: StoredEvent) -> Use | None:
    """The use that a coupon event tells of; None for a refusal, or one that was mapped from another system."""
    try:
        told = _decode_coupon(event.json)
        state = _STATE[told.type]
        expires_s = int(datetime.fromisoformat(told.data.expires_at).timestamp())
    except (msgspec.DecodeError, LookupError, ValueError):
        return None
    data = told.data
    exposed = state != "released" and (data.rule == "optimistic" or data.reason == "clock_unsynced")
    return Use(
        reservation=data.reservation, coupon=data.coupon, use=data.use, uses=data.uses, state=state,
        campaign=data.campaign, face=data.face_value, currency=data.currency, expires_s=expires_s,
        channel=data.channel, rule=data.rule, lease=data.lease, exposed=int(exposed), note=data.reason, lane=data.lane,
        transaction_id=data.transaction_id, sale_id="", boot="", mono_ms=0,
        position=event.position if state == "redeemed" else 0,
    )  # fmt: skip


def _make_good(connection: sqlite3.Connection, told: Use) -> None:
    """Bring one use up to what the events say; a live row that has its place already stays."""
    there = tables.use_of(connection, told.reservation)
    if there is not None and (there.state == told.state or _LATER.index(there.state) > _LATER.index(told.state)):
        return
    others: Iterable[Use] = tables.uses_of(connection, told.coupon)
    live = {use.use for use in others if use.state in ("held", "redeemed") and use.reservation != told.reservation}
    if told.state in ("held", "redeemed") and told.use in live:
        return
    tables.put_use(connection, msgspec.structs.replace(told, sale_id=there.sale_id if there else ""))


_LATER: tuple[State, ...] = ("held", "lapsed", "redeemed", "released", "refused")
