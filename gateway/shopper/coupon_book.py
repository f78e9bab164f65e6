"""The coupon book, open for one transaction: every change of a use, with the event that tells it.

    (nothing) ─reserve▶ held ─confirm, sale▶ redeemed
                         │ release, time-out        │ void (a return, where the shop says so)
                         ▼                          ▼
                  released / lapsed            released          either may be used again

The caller writes `drafts` in the very transaction that these methods run in, so book and journal cannot disagree.
Knows no till and no thread; whether a coupon may be used is `coupon_rules`'.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from gateway.clock import Instant, boot_id, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.event_types import CouponRedeemed, CouponRefused, CouponReleased, CouponReserved, EventData, type_of
from gateway.journal.schema import head_of
from gateway.shopper import coupon_tables as tables
from gateway.shopper.coupon_rules import Allowed, Limits, Moment, judge
from gateway.shopper.coupon_tables import Use
from gateway.shopper.coupon_token import CouponToken

_CERTAIN_EVERY_S = 60.0


class SoldCoupons(msgspec.Struct, frozen=True):
    """A till transaction that names coupons: which, how often, and what they are where the till gave whole tokens.

    `sale`: its id in the journal; `lane`: the till; `voids`: ids of the transactions that it takes back.
    """

    sale: str
    kind: str
    lane: str
    coupons: dict[str, int]
    tokens: dict[str, CouponToken] = {}
    voids: tuple[str, ...] = ()


class CouponBook:
    """The book in one transaction."""

    def __init__(self, connection: sqlite3.Connection, limits: Limits, origin: Origin, at: Instant) -> None:
        """Read what time is certain, and make this moment certain where the clock can be trusted."""
        self.quiet = False  # refusals are not told: their till has had too many
        self.drafts: list[Draft] = []
        self._connection = connection
        self._limits = limits
        self._origin = origin
        self._at = at
        certain_s = float(tables.fact(connection, "certain_s", "0"))
        self.now = Moment.of(at, certain_s)
        if self.now.trusted and abs(at.wall_s - certain_s) > _CERTAIN_EVERY_S:  # back, too: it was wrong before
            tables.put_fact(connection, "certain_s", repr(at.wall_s))

    def judge(self, token: CouponToken, currency: str = "") -> Allowed | str:
        """Whether the coupon could be used now; changes nothing."""
        standing = tables.standing_of(self._connection, token, self.now.best_s)
        return judge(token, self._limits, standing, self.now, currency)

    def reserve(
        self, token: CouponToken, reservation: str, lane: str, transaction: str = "", currency: str = ""
    ) -> Use | str:
        """Hold a use of a coupon; the reason where it may not be used."""
        allowed = self.judge(token, currency)
        if isinstance(allowed, str):
            self.refuse(allowed, token, lane, transaction)
            return allowed
        tables.know(self._connection, token)
        use = self._use(token, allowed, reservation, lane, transaction)
        tables.put_use(self._connection, use)
        self._tell(CouponReserved, use)
        return use

    def confirm(self, reservation: str, lane: str, transaction: str = "") -> Use | str:
        """Redeem what is held. A hold that has lapsed meanwhile is redeemed all the same, if its coupon has a use left:
        the shopper has the discount already.
        """
        use = tables.use_of(self._connection, reservation)
        if use is None:
            return "unknown_reservation"
        if use.lane != lane:
            return "other_till"
        if use.state == "released":
            return "was_released"
        if use.state == "redeemed":
            if transaction and not use.transaction_id:
                use = self._put(use, transaction_id=transaction)
            return use
        if use.state == "lapsed":
            free = self._free(use.coupon, use.uses, first=use.use)
            if free is None:
                self._doubled(use, "used_up")
                return "used_up"
            exposed = use.rule == "optimistic" or use.note == "clock_unsynced"
            use = msgspec.structs.replace(use, use=free, note="late", exposed=int(exposed))
        return self._redeem(use, transaction or use.transaction_id)

    def release(self, reservation: str, lane: str, *, void: bool = False) -> Use | str:
        """Give back what is held; `void`: also what is redeemed, because the sale was undone."""
        use = tables.use_of(self._connection, reservation)
        if use is None:
            return "unknown_reservation"
        if use.lane != lane:
            return "other_till"
        if use.state == "redeemed" and not void:
            return "already_redeemed"
        if use.state in ("held", "redeemed"):
            use = self._give_back(use, "released", "void" if use.state == "redeemed" else "till")
        return use

    def lapse(self, hold_s: float) -> int:
        """Give back what has been held for longer than `hold_s` of running time; returns how many.

        Time that the machine was off does not count: a till that waited for it may still confirm.
        """
        lapsed = 0
        now_ms, boot = self._at.mono_us // 1000, boot_id()
        for use in tables.held(self._connection):
            if use.boot != boot:
                self._put(use, boot=boot, mono_ms=now_ms)
            elif now_ms - use.mono_ms >= hold_s * 1000:
                self._give_back(use, "lapsed", "time_out")
                lapsed += 1
        return lapsed

    def settle(self, sold: SoldCoupons, *, restore_on_return: bool) -> None:
        """What a till transaction means for the coupons that it names; telling it twice changes nothing."""
        for coupon, count in sold.coupons.items():
            if sold.kind in ("sale", "exchange"):
                self._claim(coupon, count, sold)
            elif sold.kind == "void" or restore_on_return:
                self._restore(coupon, count, sold)

    def refuse(self, reason: str, token: CouponToken | None, lane: str, transaction: str = "") -> None:
        """Tell that a coupon was not accepted."""
        if self.quiet:
            return
        self._draft(
            CouponRefused(
                coupon="unreadable" if token is None else token.id, reason=reason, lane=lane,
                campaign=None if token is None else token.campaign,
                face_value=None if token is None else token.face,
                currency=None if token is None else token.currency,
                channel=(token and token.channel) or None, transaction_id=transaction or None,
            )
        )  # fmt: skip

    # -- sales

    def _claim(self, coupon: str, count: int, sold: SoldCoupons) -> None:
        uses = tables.uses_of(self._connection, coupon)
        missing = count - sum(use.sale_id == sold.sale for use in uses)
        for _ in range(missing):
            open_ = [use for use in uses if use.state == "held" or (use.state == "redeemed" and not use.sale_id)]
            if open_:
                mine = min(open_, key=lambda use: _nearness(use, sold))
                if mine.state == "held":
                    self._redeem(mine, sold.sale, sold.sale)
                else:
                    self._put(mine, sale_id=sold.sale, transaction_id=mine.transaction_id or sold.sale)
            elif not self._after_the_fact(coupon, uses, sold):
                return
            uses = tables.uses_of(self._connection, coupon)

    def _after_the_fact(self, coupon: str, uses: Sequence[Use], sold: SoldCoupons) -> bool:
        """The sale has given the discount without a hold: take a use if one is left, else tell that there was none.

        False: it is no coupon of ours, or there is nothing more to take.
        """
        token = sold.tokens.get(coupon) or tables.known(self._connection, coupon)
        if token is None:
            return False
        reservation = f"{sold.sale}/{coupon}/{sum(use.sale_id == sold.sale for use in uses) + 1}"[:200]
        standing = tables.standing_of(self._connection, token, self.now.best_s)
        allowed = judge(token, self._limits, standing, self.now)
        lapsed = any(use.state == "lapsed" for use in uses)
        if isinstance(allowed, str):
            if allowed == "used_up" or not lapsed:
                use = self._use(token, Allowed("optimistic"), reservation, sold.lane, sold.sale)
                refused = msgspec.structs.replace(use, state="refused", sale_id=sold.sale, use=0, exposed=0)
                tables.put_use(self._connection, refused)
                tables.forget_ended(self._connection, refused.coupon, refused.uses)
                self._doubled(refused, allowed)
                return False
            allowed = Allowed("optimistic", exposed=True)  # held in time, and lapsed before the sale was told
        use = self._use(token, allowed, reservation, sold.lane, sold.sale, note="after_sale")
        self._redeem(use, sold.sale, sold.sale)
        return True

    def _restore(self, coupon: str, count: int, sold: SoldCoupons) -> None:
        uses = tables.uses_of(self._connection, coupon)
        note = f"undone:{sold.sale}"[:200]
        redeemed = [use for use in uses if use.state == "redeemed"]
        named = [use for use in redeemed if use.sale_id in (sold.sale, *sold.voids)]
        chosen = named or (redeemed if len(redeemed) == 1 else [])
        missing = count - sum(use.note == note for use in uses)
        for use in chosen[: max(0, missing)]:
            self._give_back(msgspec.structs.replace(use, note=note), "released", sold.kind)

    # -- changes

    def _use(
        self, token: CouponToken, allowed: Allowed, reservation: str, lane: str, transaction: str, note: str = ""
    ) -> Use:
        free = self._free(token.id, token.uses)  # there is one wherever `judge` has allowed it
        return Use(
            reservation=reservation, coupon=token.id, use=free or 0, state="held", campaign=token.campaign,
            face=token.face, currency=token.currency, uses=token.uses, expires_s=token.expires_s, channel=token.channel,
            rule=allowed.rule, lease=allowed.lease, exposed=int(allowed.exposed), note=note or allowed.note, lane=lane,
            transaction_id=transaction, sale_id="", boot=boot_id(), mono_ms=self._at.mono_us // 1000, position=0,
        )  # fmt: skip

    def _free(self, coupon: str, uses: int, first: int = 1) -> int | None:
        taken = {use.use for use in tables.uses_of(self._connection, coupon) if use.state in ("held", "redeemed")}
        return next((use for use in (first, *range(1, uses + 1)) if use not in taken), None)

    def _redeem(self, use: Use, transaction: str, sale: str = "") -> Use:
        position = head_of(self._connection, "transactions") + len(self.drafts) + 1
        use = self._put(use, state="redeemed", transaction_id=transaction, sale_id=sale, position=position)
        self._tell(CouponRedeemed, use)
        return use

    def _give_back(self, use: Use, state: tables.State, reason: str) -> Use:
        use = self._put(use, state=state, exposed=0)
        tables.forget_ended(self._connection, use.coupon, use.uses)
        self._tell(CouponReleased, use, reason)
        return use

    def _put(self, use: Use, **changes: object) -> Use:
        use = msgspec.structs.replace(use, **changes)
        tables.put_use(self._connection, use)
        return use

    def _doubled(self, use: Use, reason: str) -> None:
        """A discount that was given without a use left for it: a loss that has happened, told and counted."""
        doubled = int(tables.fact(self._connection, "doubled", "0")) + 1
        tables.put_fact(self._connection, "doubled", str(doubled))
        self._draft(
            CouponRefused(
                coupon=use.coupon, campaign=use.campaign, face_value=use.face, currency=use.currency, reason=reason,
                channel=use.channel or None, lane=use.lane, transaction_id=use.transaction_id or None,
                reservation=use.reservation,
            )
        )  # fmt: skip

    def _tell(
        self, kind: type[CouponReserved] | type[CouponRedeemed] | type[CouponReleased], use: Use, reason: str = ""
    ) -> None:
        self._draft(
            kind(
                coupon=use.coupon, campaign=use.campaign, face_value=use.face, currency=use.currency, use=use.use,
                uses=use.uses, expires_at=rfc3339_s(use.expires_s), reservation=use.reservation, rule=use.rule,
                lease=use.lease or None, channel=use.channel or None, lane=use.lane,
                transaction_id=use.transaction_id or None, reason=reason or use.note or None,
            )
        )  # fmt: skip

    def _draft(self, data: EventData) -> None:
        entry = type_of(data)
        source = self._origin.source("coupons")
        self.drafts.append(draft(entry.stream, entry.name, data, source=source, at=self._at))


def _nearness(use: Use, sold: SoldCoupons) -> tuple[bool, bool, bool, int]:
    """Smallest for the use that the sale most likely speaks of."""
    told = bool(use.transaction_id) and (
        use.transaction_id == sold.sale or sold.sale.endswith(f"-{use.transaction_id}")
    )
    return not told, use.lane != sold.lane, use.state == "held", use.use
