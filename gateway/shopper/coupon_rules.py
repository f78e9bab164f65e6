"""Whether a coupon may be honoured here and now, with nobody to ask: one pure decision, in a fixed order.

1. *home*: the coupon names this shop as its home. It is honoured nowhere else without a network, so it cannot be used
   twice by construction.
2. *lease*: the platform has lent this shop the coupon, or so many units of its campaign.
3. *optimistic*: neither is the case, and it is honoured all the same: so many uses of one coupon, and so much money
   in the whole shop that the platform has not heard of yet. That sum is the most that can be lost.

A clock that nobody has set proves little. What it says is believed only where that is safe: a coupon that had expired
by the last time that was certain is expired; one that seems good counts against the money at risk, whatever its rule;
one that seems early or expired is refused for the clock, not for itself. Knows no database, no till and no signature.

*Source*: PRIVACY_SECURITY.md, "Coupons and points without a network".
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from gateway.clock import Instant
from gateway.shopper.coupon_token import CouponToken

RuleName = Literal["home", "lease", "optimistic"]
TRUSTED = ("ntp", "rtc")


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What this shop allows. `per_coupon`: optimistic uses of one coupon, 0 turns the rule off; `at_risk`: money."""

    store: str
    currency: str
    per_coupon: int = 1
    at_risk: Decimal = Decimal(1000)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What this shop's book says of a coupon, and of all of them together."""

    revoked: bool = False
    taken: int = 0  # uses held or redeemed here
    optimistic: int = 0  # of them, by that rule
    lease: str = ""  # a lease with a unit left for it; "": none
    at_risk: Decimal = Decimal(0)  # face of all uses that the platform may not know of and could contradict


class Moment(msgspec.Struct, frozen=True):
    """Now, as far as it is known: the wall clock, whether it can be trusted, and the last time that was certain."""

    wall_s: float
    trusted: bool
    certain_s: float = 0.0

    @classmethod
    def of(cls, at: Instant, certain_s: float) -> Moment:
        """From a reading of the clock; `certain_s`: 0 when no time was ever certain."""
        return cls(at.wall_s, at.quality in TRUSTED, certain_s)

    @property
    def best_s(self) -> float:
        """The best guess: a clock that is behind the last certain time is wrong by at least that."""
        return self.wall_s if self.trusted else max(self.wall_s, self.certain_s)


class Allowed(msgspec.Struct, frozen=True):
    """The coupon may be used, by this rule. `lease`: which. `exposed`: it counts as money at risk until delivered."""

    rule: RuleName
    lease: str = ""
    exposed: bool = False
    note: str = ""  # clock_unsynced, where the time was only guessed


def judge(token: CouponToken, limits: Limits, standing: Standing, now: Moment, currency: str = "") -> Allowed | str:
    """How a coupon may be used, or the reason why it may not (a key of `coupon_words.REASONS`).

    Args:
        token: verified.
        limits: the shop's.
        standing: the book's.
        now: see `Moment`.
        currency: of the basket, where the till says one; else the shop's.
    """
    if token.stores and limits.store not in token.stores:
        return "other_store"
    if token.currency != (currency or limits.currency):
        return "other_currency"
    if standing.revoked:
        return "revoked"
    if problem := _untimely(token, now):
        return problem
    if standing.taken >= token.uses:
        return "used_up"
    by = _by(token, limits, standing)
    if isinstance(by, str):
        return by
    if not now.trusted:
        by = msgspec.structs.replace(by, exposed=True, note="clock_unsynced")
    if by.exposed and (token.currency != limits.currency or standing.at_risk + token.face > limits.at_risk):
        return "store_limit"  # sums of two currencies are no bound
    return by


def _untimely(token: CouponToken, now: Moment) -> str:
    if now.trusted:
        return "expired" if now.wall_s >= token.expires_s else "too_early" if now.wall_s < token.not_before_s else ""
    if now.certain_s >= token.expires_s:
        return "expired"
    return "" if token.not_before_s <= now.best_s < token.expires_s else "clock_unsynced"


def _by(token: CouponToken, limits: Limits, standing: Standing) -> Allowed | str:
    if token.home == limits.store:
        return Allowed("home")
    if token.lease == limits.store:
        return Allowed("lease")
    if standing.lease:
        return Allowed("lease", standing.lease)
    if token.home:
        return "other_home"
    if token.lease:
        return "lent_elsewhere"
    if standing.optimistic >= limits.per_coupon:
        return "coupon_limit"
    return Allowed("optimistic", exposed=True)
