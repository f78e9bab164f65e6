"""The shop as pure simulation: people come in, take things, try them on, scan, pay and leave; a seed says how.

`acts` yields what happens as timed facts in shop time (seconds since opening), in order and for ever: one day follows
the other without a night. The same seed gives the same acts. Knows no device, protocol, clock or speed.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from devices.simulator import day
from devices.simulator.goods import GARMENTS, GROCERIES, Article, with_check_digit
from devices.simulator.members import Member

Reader = Literal["gate", "fitting-rooms"]
_CENT = Decimal("0.01")
_COUPON = Decimal("10.00")
_WALK_S = 20.0  # from the till to the door
_SAMPLE_S = 300.0  # between two measurements of a sensor
SHELF, CHECKOUT = 3, 4  # antennas of the floor reader beside its two fitting rooms


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened, `at_s` seconds after the first opening."""

    at_s: float


class Entered(Act, frozen=True, kw_only=True):
    """A visitor came in through the door."""


class Left(Act, frozen=True, kw_only=True):
    """A visitor went out."""


class Near(Act, frozen=True, kw_only=True):
    """A tagged piece is in a reader's field for `for_s` seconds of shop time."""

    reader: Reader
    epc: str
    antenna: int
    for_s: float


class Scanned(Act, frozen=True, kw_only=True):
    """A code was held to the scanner; `aim` is its AIM symbology identifier."""

    aim: str
    text: str


class AppShown(Act, frozen=True, kw_only=True):
    """A member held the app's code to the reader at the door."""

    member: Member


class Entry(msgspec.Struct, frozen=True):
    """One line of a basket; `off` is the discount on it, positive."""

    article: Article
    quantity: int
    off: Decimal
    epcs: tuple[str, ...] = ()

    @property
    def amount(self) -> Decimal:
        """Before the discount."""
        return self.article.price * self.quantity


class Paid(Act, frozen=True, kw_only=True):
    """A basket was paid. `till`: 1 publishes JSON, 2 prints receipts."""

    till: int
    entries: tuple[Entry, ...]
    coupon: str | None
    coupon_off: Decimal
    tender: Literal["mobile", "card", "cash"]
    member: Member | None = None

    @property
    def net(self) -> Decimal:
        """What was paid."""
        return sum((entry.amount - entry.off for entry in self.entries), Decimal(0)) - self.coupon_off


class Passed(Act, frozen=True, kw_only=True):
    """A trolley with beacon `minor` rolls past a receiver."""

    minor: int
    receiver: str


class Rated(Act, frozen=True, kw_only=True):
    """A button of the feedback stand was pressed: 1 (bad) to 4 (good)."""

    score: int


class DoorMoved(Act, frozen=True, kw_only=True):
    """The back door opened or closed."""

    open: bool


class Measured(Act, frozen=True, kw_only=True):
    """The fridge's sensor measured."""

    celsius: float
    humidity: float


class Closed(Act, frozen=True, kw_only=True):
    """The shop closes; the next day begins at once. `day` counts from 1."""

    day: int


class Shop:
    """One seeded shop. `acts` may be begun once."""

    def __init__(
        self, seed: int = 1, visitors: float = day.ASSUMED_VISITORS, first_serial: int = 1,
        members: Sequence[Member] = (),
    ) -> None:  # fmt: skip
        """Store.

        Args:
            seed: of everything that chance decides.
            visitors: a day, > 0.
            first_serial: of the tags, so that two runs do not sell the same piece.
            members: who may be among the visitors; (): nobody is known to the shop.
        """
        self._members = tuple(members)
        self._random = random.Random(seed)  # noqa: S311 - a shop, not a secret
        self._visitors = visitors
        self._serials = itertools.count(first_serial)
        self._coming: list[tuple[float, int, Act]] = []
        self._order = itertools.count()

    def acts(self) -> Iterator[Act]:
        """Everything that happens, in order, without end."""
        next_visitor_s, next_look_s, days = self._next_visitor_s(0.0), 5.0, itertools.count(1)
        self._add(Closed(at_s=day.DAY_S, day=next(days)))
        while True:
            soonest_s = min(next_visitor_s, next_look_s)
            while self._coming and self._coming[0][0] <= soonest_s:
                act = heapq.heappop(self._coming)[2]
                if isinstance(act, Closed):
                    self._add(Closed(at_s=act.at_s + day.DAY_S, day=next(days)))
                yield act
            if next_visitor_s <= next_look_s:
                self._visit(next_visitor_s)
                next_visitor_s = self._next_visitor_s(next_visitor_s)
            else:
                self._house(next_look_s)
                next_look_s += _SAMPLE_S

    def _add(self, act: Act) -> None:
        heapq.heappush(self._coming, (act.at_s, next(self._order), act))

    def _next_visitor_s(self, now_s: float) -> float:
        """The next arrival of a Poisson process whose rate follows the day (thinning by hours)."""
        while True:
            rate = day.visitors_per_s(now_s % day.DAY_S, self._visitors)
            gap_s = self._random.expovariate(rate)
            hour_ends_s = (now_s // 3600 + 1) * 3600
            if now_s + gap_s < hour_ends_s:
                return now_s + gap_s
            now_s = hour_ends_s

    def _house(self, now_s: float) -> None:
        """What happens without shoppers: the fridge is measured, goods come in by the back door."""
        dice = self._random
        self._add(
            Measured(
                at_s=now_s, celsius=round(dice.gauss(4.2, 0.4), 1), humidity=round(min(95.0, dice.gauss(61, 3)), 1)
            )
        )
        if dice.random() < 0.25:
            self._add(DoorMoved(at_s=now_s + 10, open=True))
            self._add(DoorMoved(at_s=now_s + 10 + dice.uniform(30, 240), open=False))

    def _visit(self, now_s: float) -> None:
        dice = self._random
        buys = dice.random() < day.conversion(now_s % day.DAY_S)
        member = dice.choice(self._members) if self._members and dice.random() < day.ASSUMED_MEMBER else None
        self._add(Entered(at_s=now_s))
        if member is not None and dice.random() < day.ASSUMED_APP:
            self._add(AppShown(at_s=now_s + 3, member=member))
        trolley = dice.randint(1, 24) if dice.random() < day.ASSUMED_TROLLEY else None
        if trolley is not None:
            self._add(Passed(at_s=now_s + 5, minor=trolley, receiver="door"))
        now_s += dice.uniform(60, 600)
        if trolley is not None:
            self._add(Passed(at_s=now_s, minor=trolley, receiver="aisle"))
        garments = self._garments(buys)
        for _, epc in garments:
            self._add(Near(at_s=now_s - 30, reader="fitting-rooms", epc=epc, antenna=SHELF, for_s=40.0))
        if garments and dice.random() < day.ASSUMED_TRIES_ON:
            stays_s = dice.uniform(120, 480)
            for _, epc in garments:
                self._add(Near(at_s=now_s, reader="fitting-rooms", epc=epc, antenna=dice.randint(1, 2), for_s=stays_s))
            now_s += stays_s + dice.uniform(60, 240)
        if dice.random() < 0.2:
            self._add(self._price_check(now_s))
            now_s += 15
        if dice.random() < day.ASSUMED_POSTER:
            poster = f"https://shop.example/q/{dice.choice(('autumn', 'members-day'))}/poster-{dice.randint(1, 4)}"
            self._add(Scanned(at_s=now_s, aim="]Q1", text=poster))
            now_s += 10
        if buys:
            now_s = self._pay(now_s + dice.uniform(30, 300), garments, member)
        if dice.random() < day.ASSUMED_ANSWER:
            self._add(Rated(at_s=now_s - 5, score=dice.choices((1, 2, 3, 4), (4, 8, 30, 58))[0]))
        self._add(Left(at_s=now_s + 2))

    def _garments(self, buys: bool) -> list[tuple[Article, str]]:
        dice = self._random
        count = dice.choices((0, 1, 2, 3), (55, 28, 12, 5) if buys else (70, 20, 7, 3))[0]
        return [(article, article.epc(next(self._serials))) for article in dice.choices(GARMENTS, k=count)]

    def _price_check(self, now_s: float) -> Scanned:
        dice = self._random
        article = dice.choice(GARMENTS + GROCERIES)
        kind = dice.random()
        if kind < 0.6:
            return Scanned(at_s=now_s, aim="]E0", text=article.gtin13)
        if kind < 0.8:
            lot, expiry = f"L{dice.randint(100, 999)}", f"2{dice.randint(8, 9)}{dice.randint(1, 12):02d}00"
            return Scanned(at_s=now_s, aim="]d2", text=f"01{article.gtin14}17{expiry}10{lot}")
        return Scanned(
            at_s=now_s, aim="]Q1", text=f"https://id.shop.example/01/{article.gtin14}/21/{dice.randint(1, 99999)}"
        )

    def _pay(self, now_s: float, garments: list[tuple[Article, str]], member: Member | None) -> float:
        """Basket, codes at the till, payment, and the way out through the gate; when the shopper is at the door."""
        dice = self._random
        lines = dice.choices(range(1, len(day.BASKET_LINES) + 1), day.BASKET_LINES)[0]
        entries = [self._entry(article, 1, (epc,)) for article, epc in garments]
        others = dice.sample(GROCERIES, k=max(0 if entries else 1, min(lines - len(entries), 10)))
        entries += [self._entry(article, dice.choices((1, 2, 3), (80, 15, 5))[0]) for article in others]
        total = sum((entry.amount - entry.off for entry in entries), Decimal(0))
        coupon = None
        if dice.random() < day.COUPON_SHARE and total > 3 * _COUPON:
            coupon = with_check_digit(f"9521234{dice.randint(0, 20):05d}") + f"{dice.randint(1, 999999):06d}"
            self._add(Scanned(at_s=now_s, aim="]C1", text="255" + coupon))
        if member is not None:
            self._add(Scanned(at_s=now_s + 3, aim="]C0", text=member.number))
        for _, epc in garments:
            self._add(Near(at_s=now_s, reader="fitting-rooms", epc=epc, antenna=CHECKOUT, for_s=30.0))
        now_s += 20 + 4 * len(entries)
        self._add(
            Paid(
                at_s=now_s, till=1 if member is not None or dice.random() < 0.6 else 2, member=member,
                entries=tuple(entries), coupon=coupon,
                coupon_off=_COUPON if coupon else Decimal(0),
                tender=dice.choices(("mobile", "card", "cash"), (82, 8, 10))[0],
            )
        )  # fmt: skip
        now_s += _WALK_S
        for _, epc in garments:
            self._add(Near(at_s=now_s, reader="gate", epc=epc, antenna=1, for_s=6.0))
        return now_s + 3

    def _entry(self, article: Article, quantity: int, epcs: tuple[str, ...] = ()) -> Entry:
        """A line; every third is on promotion, so that the whole is as much reduced as real baskets are."""
        promoted = self._random.random() < 1 / 3
        off = article.price * quantity * Decimal(str(3 * day.PROMOTED_SHARE)) if promoted else Decimal(0)
        return Entry(article, quantity, off.quantize(_CENT), epcs)
