"""The shop's members: who has a card and the app, what they agree to at the till, and what must be known of them then.

The shop's own truth about persons, kept apart from everything that travels: after a consent a member's sale must name
somebody, without one and after a withdrawal it must not. Numbers are of this run alone, so that no earlier run's
consent can excuse a name. Knows no message and no gateway; nobody here is anybody.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from decimal import Decimal
from typing import Final, Literal

import msgspec

from devices.simulator.ledger import Sale

Consent = Literal["granted", "withdrawn"]
Habit = Literal["agrees", "changes_mind", "refuses"]

MEMBERS: Final = 60
_HABITS: Final[dict[Habit, int]] = {"agrees": 70, "changes_mind": 15, "refuses": 15}
_REGRETS_AT: Final = 3  # the purchase before which who changes their mind withdraws
_BEFORE_S: Final = 5.0  # of an outage: what was not acknowledged yet comes again …
_AFTER_S: Final = 60.0  # … so long after it, perhaps behind what was said later


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One member. `number`: the digits in the code on the card; `app`: the id in the code that the app shows."""

    number: str
    app: str
    mail: str
    tier: str
    habit: Habit


class Coupon(msgspec.Struct, frozen=True):
    """A coupon in a member's app: the text of its code, and what it takes off."""

    token: str
    face: Decimal


class Due(msgspec.Struct, frozen=True):
    """A member's sale, and whether the gateway may and must know whose it was."""

    member: str
    named: bool


class Club:
    """The members of one run and the book about them. The shop's thread writes; read it when the shop has stopped."""

    def __init__(self, seed: int, run_s: float, count: int = MEMBERS) -> None:
        """Make them up.

        Args:
            seed: of their habits.
            run_s: when this run began, seconds since 1970; it is part of every number.
            count: how many, 0–9999.
        """
        self._dice = dice = random.Random(seed)  # noqa: S311 - habits, not secrets
        run = int(run_s) % 10**8
        habits = dice.choices(list(_HABITS), list(_HABITS.values()), k=count)
        self.members = tuple(
            Member(
                number=f"2{run:08d}{number:04d}", app=f"app-{run:08d}-{number:04d}",
                mail=f"shopper-{run}-{number}@example.com", tier=dice.choice(("silver", "gold", "platinum")),
                habit=habit,
            )
            for number, habit in enumerate(habits, 1)
        )  # fmt: skip
        self.sales: dict[Sale, Due] = {}
        self.redeemed: dict[str, Sale] = {}  # coupon → the sale that it was taken off
        self.consents = 0  # acts told
        self.points = 0  # credits told
        self._agreed: set[str] = set()
        self._bought: defaultdict[str, int] = defaultdict(int)
        self._acts_s: defaultdict[str, list[float]] = defaultdict(list)
        self._outages_s: deque[float] = deque(maxlen=500)
        self._wallets: defaultdict[str, list[Coupon]] = defaultdict(list)

    def wish(self, member: Member) -> Consent | None:
        """What the member says about a consent before paying; None: nothing new."""
        if member.number in self._agreed:
            tired = member.habit == "changes_mind" and self._bought[member.number] >= _REGRETS_AT - 1
            return "withdrawn" if tired else None
        first = not self._acts_s[member.number]
        return "granted" if first and member.habit != "refuses" else None

    def said(self, member: Member, consent: Consent, now_s: float) -> None:
        """It was told to the gateway at `now_s` of monotonic time."""
        self.consents += 1
        self._acts_s[member.number].append(now_s)
        (self._agreed.add if consent == "granted" else self._agreed.discard)(member.number)

    def sold(self, sale: Sale, member: Member) -> None:
        """A sale that carries the member's number has left the till."""
        self._bought[member.number] += 1
        self.sales[sale] = Due(member.number, member.number in self._agreed)

    def away(self, now_s: float) -> None:
        """The gateway or the broker goes or comes: what a member said about then may arrive in another order."""
        self._outages_s.append(now_s)

    def sure(self, sale: Sale) -> bool:
        """False for a sale of somebody whose consent may have been overtaken."""
        return not any(
            away_s - _BEFORE_S <= at_s <= away_s + _AFTER_S
            for at_s in self._acts_s[self.sales[sale].member]
            for away_s in self._outages_s
        )

    def agreed(self, member: Member) -> bool:
        """Whether the member agrees now, as far as the till has heard."""
        return member.number in self._agreed

    def give(self, number: str, coupon: Coupon) -> None:
        """Put a coupon into a member's app."""
        self._wallets[number].append(coupon)

    def coupon(self, member: Member) -> Coupon | None:
        """The coupon that the member would use, if any; it stays in the app until `used`."""
        wallet = self._wallets.get(member.number)
        return wallet[0] if wallet else None

    def used(self, member: Member, coupon: str = "", sale: Sale | None = None) -> None:
        """The till has decided about the coupon: redeemed with a sale, or refused. Some keep a copy and try again."""
        taken = self._wallets[member.number].pop(0)
        if sale is not None:
            self.redeemed[coupon] = sale
            if self._dice.random() < 0.15:
                self._wallets[member.number].append(taken)
