"""A chain of three shops and a web shop, drawn by dice: who its shoppers are, what they do, and what of it is told.

Families on one phone or one card, changed numbers (told and untold, some given to somebody else), neighbours' numbers
and typing errors, consents never given, withdrawn, expired and given again, withdrawals that overtake events, visits
corrected or without a sale, lanes that arrive out of order. Baskets have the shape of the real ones beside the project,
or a log-normal one where those are absent. Knows nothing of the matching that is measured with it.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from gateway.clock import Instant, rfc3339_s
from gateway.event import Origin, draft, envelope
from gateway.event_types import (
    ConsentGranted,
    ConsentWithdrawn,
    EventData,
    Line,
    MemberLinked,
    Sale,
    Shopper,
    Totals,
    VisitClosed,
    type_of,
)
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.identifiers import Identifier, Rules, normalise
from gateway.shopper.sealing import Sealer

STORES = ("0042", "0043", "0044")
START_S = 1_787_500_800.0
DAY_S = 86_400.0
RULES = Rules(region="CN")
_DATA = Path(os.environ.get("STOREFRONT_DATA", "../shared/data"))
_BASKETS = "retail/completejourney_store367_transactions_2017.csv.gz"


class Somebody(msgspec.Struct):
    """One shopper, as only the bench knows them."""

    number: int
    member: str
    phones: list[tuple[float, str]]  # from when
    mail: str
    token: str
    home: str
    joined_s: float
    granted_s: float | None = None
    withdrawn_s: float | None = None
    again_s: float | None = None
    expires_s: float | None = None

    def phone(self, at_s: float) -> str:
        """The number they have at a moment."""
        return [number for since_s, number in self.phones if since_s <= at_s][-1]

    def agrees(self, at_s: float) -> bool:
        """Whether the shop may name them at a moment."""
        if self.granted_s is None or at_s < self.granted_s:
            return False
        if self.again_s is not None and at_s >= self.again_s:
            return True
        return not (self.withdrawn_s is not None and at_s >= self.withdrawn_s) and not (
            self.expires_s is not None and at_s >= self.expires_s
        )

    def counts(self, at_s: float, now_s: float) -> bool:
        """Whether something done at a moment may be theirs now: one grant holds from then until now."""
        since_s = self.again_s if self.again_s is not None else self.granted_s
        ended = self.withdrawn_s is not None and self.again_s is None
        expired = self.expires_s is not None and now_s >= self.expires_s
        return since_s is not None and at_s >= since_s and not ended and not expired


class Done(msgspec.Struct, frozen=True):
    """One thing somebody did, and how it can be told: `key` the kind of identifier shown, or `visit` or `none`."""

    ref: str
    who: int
    at_s: float
    key: str


class Chain:
    """The generated chain: events in order of arrival, CSV files, and the truth."""

    def __init__(self, shoppers: int, days: int, seed: int, sealer: Sealer, keys: Mapping[str, DayKeys]) -> None:
        self.dice = Random(seed)
        self.days = days
        self.now_s = START_S + days * DAY_S + 3 * DAY_S
        self.sealer = sealer
        self.keys = keys
        self.real = _real_baskets()
        self.people = self._population(shoppers)
        self.done: list[Done] = []
        self.pairs: set[tuple[str, str]] = set()  # visit, sale
        self.acts: list[tuple[Identifier, Identifier]] = []
        self.late_named = 0
        self._arriving: list[tuple[float, str, str, EventData, float]] = []
        self.tables: dict[str, list[Sequence[object]]] = {
            "registrations": [("at", "act", "member", "phone", "scheme", "value", "verified", "replaced")],
            "orders": [("order_id", "ordered_at", "amount", "currency", "member", "phone", "email", "items")],
            "consents": [("record_id", "at", "step", "purposes", "member", "expires_at")],
        }
        for it in self.people:
            self._life(it)

    def _population(self, count: int) -> list[Somebody]:
        dice, people = self.dice, list[Somebody]()
        numbers = iter(dice.sample(range(10_000_000), count * 2))
        used: list[str] = []

        def number() -> str:
            if used and dice.random() < 0.02:  # a neighbour's number, one digit off
                near = used[-1]
                other = near[:-1] + str((int(near[-1]) + dice.randrange(1, 10)) % 10)
                if other not in taken:
                    taken.add(other)
                    return other
            while (made := f"138{next(numbers):07d}{dice.randrange(10)}") in taken:
                pass
            taken.add(made)
            used.append(made)
            return made

        taken: set[str] = set()
        while len(people) < count:
            family = dice.choices((1, 2, 3, 4), (0.86, 0.08, 0.04, 0.02))[0]
            phone, token, home = number(), f"tok-{len(people):06d}", dice.choice(STORES)
            one_phone, one_card = dice.random() < 0.5, dice.random() < 0.6
            for nth in range(min(family, count - len(people))):
                n = len(people)
                own = phone if nth == 0 or one_phone else number()
                joined_s = START_S + (0 if dice.random() < 0.7 else dice.uniform(0, self.days * 0.8)) * DAY_S
                it = Somebody(
                    n, f"M{n:07d}" if dice.random() < 0.9 else "", [(0.0, own)], f"s{n}@example.com",
                    token if nth == 0 or one_card else f"tok-{n:06d}x", home, joined_s,
                )  # fmt: skip
                if it.member and dice.random() < 0.85:
                    it.granted_s = joined_s
                    fate = dice.random()
                    if fate < 0.08:
                        it.withdrawn_s = dice.uniform(joined_s, START_S + self.days * DAY_S)
                        if fate < 0.02:
                            it.again_s = it.withdrawn_s + dice.uniform(1, 10) * DAY_S
                    elif fate < 0.10:
                        it.expires_s = dice.uniform(joined_s, START_S + self.days * DAY_S)
                people.append(it)
        self._changes(people)
        return people

    def _changes(self, people: Sequence[Somebody]) -> None:
        """6 % change their number and say so, 0.5 % say nothing; a third of the old ones go to somebody new."""
        dice = self.dice
        late = [it for it in people if it.member and it.joined_s > START_S + self.days * DAY_S * 0.5]
        for it in people:
            if not it.member or dice.random() > 0.065:
                continue
            at_s = it.joined_s + dice.uniform(0.05, 0.4) * self.days * DAY_S
            old = it.phone(at_s)
            it.phones.append((at_s, f"139{it.number:08d}"))
            if late and dice.random() < 0.33:
                heir = late.pop()
                if heir.joined_s > at_s and len(heir.phones) == 1:
                    heir.phones.append((heir.joined_s, old))

    # -- what they do

    def _life(self, it: Somebody) -> None:
        dice, mine = self.dice, it.number
        if it.member:
            self._agree(it)
            self._act(it, it.joined_s, "registration", "phone", it.phone(it.joined_s))
            if dice.random() < 0.7:
                self._act(it, it.joined_s + 60, "registration", "email", it.mail)
            for at_s, phone in it.phones[1:]:
                if at_s > it.joined_s and dice.random() < 0.92:
                    self._act(it, at_s, "phone_change", "phone", phone, it.phone(at_s - 1))
        for _ in range(self._often(4.0)):
            at_s = START_S + dice.uniform(0, self.days) * DAY_S
            if not it.member or at_s >= it.joined_s:
                self._trip(it, at_s)
        if it.withdrawn_s is not None and dice.random() < 0.3:
            self._trip(it, it.withdrawn_s + dice.uniform(1, 1800), unheard=True)
        for _ in range(self._often(1.5)):
            at_s = START_S + dice.uniform(0, self.days) * DAY_S
            self._order(it, at_s, f"o-{mine}-{len(self.done)}")

    def _often(self, mean: float) -> int:
        return min(40, int(self.dice.expovariate(1 / mean) + 0.5))

    def _agree(self, it: Somebody) -> None:
        if it.granted_s is None:
            return
        until = rfc3339_s(it.expires_s) if it.expires_s is not None else ""
        if self.dice.random() < 0.5:  # by the web shop, else in the shop
            self.tables["consents"].append(
                (f"c-{it.number}", rfc3339_s(it.granted_s), "granted", "visits|matching|analytics", it.member, until)
            )
        else:
            self._consent(it, it.granted_s, until or None)
        if it.withdrawn_s is not None:
            self._consent(it, it.withdrawn_s, None, withdrawn=True)
        if it.again_s is not None:
            self._consent(it, it.again_s, None)

    def _consent(self, it: Somebody, at_s: float, until: str | None, *, withdrawn: bool = False) -> None:
        who = self._named(it.home, "member", it.member, at_s)
        told: dict[str, Any] = {
            "record_id": f"c-{it.number}-{int(at_s)}", "purposes": ("visits", "matching", "analytics"),
            "notice_version": "1",
            "notice_digest": "0", "language": "zh", "method": "till", "shopper": who,
        }  # fmt: skip
        self._event(
            it.home, at_s, ConsentWithdrawn(**told) if withdrawn else ConsentGranted(**told, expires_at=until),
            lag_s=self.dice.uniform(0, 3600),
        )  # fmt: skip

    def _act(self, it: Somebody, at_s: float, act: Any, scheme: Any, value: str, replaced: str = "") -> None:
        one, other = identifier_of("member", it.member), identifier_of(scheme, value)
        self.acts.append((one, other))
        if it.agrees(at_s) and self.dice.random() < 0.3:
            self._event(
                it.home, at_s,
                MemberLinked(
                    act=act, shopper=self._named(it.home, "member", it.member, at_s),
                    linked=self._named(it.home, scheme, value, at_s),
                    replaced=self._named(it.home, scheme, replaced, at_s) if replaced else None,
                ),
            )  # fmt: skip
        else:
            self.tables["registrations"].append(
                (rfc3339_s(at_s), act, it.member, "", scheme, self._spelt(scheme, value), "yes", replaced)
            )

    def _trip(self, it: Somebody, at_s: float, *, unheard: bool = False) -> None:
        """A purchase. `unheard`: the shop has not heard of the withdrawal yet and names the person all the same."""
        dice = self.dice
        store = it.home if dice.random() < 0.85 else dice.choice(STORES)
        number = f"{store}-1-{int(at_s)}-{len(self.done)}"
        scan, pays, phone, door = (dice.random() < share for share in (0.72, 0.35, 0.05, 0.3))
        named = bool(it.member) and (unheard or it.agrees(at_s))
        self.late_named += named and not it.agrees(at_s)
        loyalty = payer = None
        if named and scan:
            loyalty = self._named(store, "member", it.member, at_s)
        elif named and phone:
            loyalty = self._named(store, "phone", it.phone(at_s), at_s)
        if named and pays:
            payer = self._named(store, "payment", it.token, at_s)
            if scan:
                self.acts.append((identifier_of("member", it.member), identifier_of("payment", it.token)))
        key = "member" if scan else "phone" if phone else "payment" if pays else "none"
        visit = named and (scan or door)
        self.done.append(Done(number, it.number, at_s, key if key != "none" or not visit else "visit"))
        self._event(store, at_s, self._sale(number, loyalty, payer))
        if visit:
            self._visit(it, store, at_s, number)

    def _visit(self, it: Somebody, store: str, at_s: float, sale: str) -> None:
        dice, ref = self.dice, f"v-{sale}"
        who = self._named(store, "member", it.member, at_s)
        told: dict[str, Any] = {
            "visit_id": ref, "opened_by": "loyalty_scan", "entered_at": rfc3339_s(at_s - dice.uniform(120, 1800)),
            "left_at": rfc3339_s(at_s + dice.uniform(30, 600)), "evidence": ("member_scan",), "algorithm": "1",
            "confidence": round(dice.uniform(0.85, 1.0), 2), "shopper": who,
            "transaction_ids": () if dice.random() < 0.05 else (sale,),
        }  # fmt: skip
        self._event(store, at_s + 900, VisitClosed(**told), lag_s=dice.uniform(0, 7200))
        if dice.random() < 0.02:
            told |= {"visit_id": ref + "-2", "supersedes": ref, "transaction_ids": (sale,)}
            self._event(store, at_s + 1800, VisitClosed(**told), lag_s=dice.uniform(0, 7200))
            ref += "-2"
        self.done.append(Done(ref, it.number, at_s, "member"))
        self.pairs.add((ref, sale))

    def _order(self, it: Somebody, at_s: float, ref: str) -> None:
        dice = self.dice
        how = dice.choices(("member", "email", "phone"), (0.8, 0.13, 0.07))[0]
        member = it.member if how == "member" and at_s >= it.joined_s else ""
        how = how if member or how != "member" else "email"
        phone = it.phone(at_s) if how == "phone" else ""
        if phone and dice.random() < 0.05:
            phone = phone[:-1] + str((int(phone[-1]) + dice.randrange(1, 10)) % 10)
            how = "typo"
        _, amount, items = self._basket()
        self.done.append(Done(ref, it.number, at_s, how))
        self.tables["orders"].append(
            (ref, rfc3339_s(at_s), amount, "CNY", member, self._spelt("phone", phone) if phone else "",
             it.mail if how == "email" else "", items)
        )  # fmt: skip

    def _sale(self, number: str, loyalty: Shopper | None, payer: Shopper | None) -> Sale:
        lines, amount, items = self._basket()
        each = (amount / lines).quantize(Decimal("0.01"))
        return Sale(
            transaction_id=number, kind="sale", workstation_id="1", business_date="2026-08-21", currency="CNY",
            lines=tuple(Line(seq=n, amount=each) for n in range(1, min(lines, 3) + 1)),
            totals=Totals(net=amount, item_count=Decimal(items)), tap="json", confidence=1.0, loyalty=loyalty,
            payer=payer,
        )  # fmt: skip

    def _basket(self) -> tuple[int, Decimal, int]:
        if self.real:
            return self.dice.choice(self.real)
        lines = max(1, int(self.dice.lognormvariate(1.6, 0.9)))
        return lines, Decimal(f"{lines * self.dice.lognormvariate(0.9, 0.5):.2f}"), lines

    def _spelt(self, scheme: str, value: str) -> str:
        """As people write it."""
        if scheme != "phone":
            return value.upper() if self.dice.random() < 0.2 else value
        return self.dice.choice((value, f"+86 {value}", f"{value[:3]}-{value[3:7]}-{value[7:]}", f"０{value}"[1:]))

    def _named(self, store: str, scheme: Any, value: str, at_s: float) -> Shopper:
        identifier = identifier_of(scheme, value)
        day_key = self.keys[store].day_key(scheme, identifier.value, Instant(at_s, 0))
        return Shopper(day_key=day_key, sealed=self.sealer.seal(identifier), scheme=scheme)

    def _event(self, store: str, at_s: float, data: EventData, lag_s: float = 0.0) -> None:
        self._arriving.append((at_s + lag_s, store, type_of(data).stream, data, at_s))

    def events(self) -> list[tuple[int, bytes]]:
        """All of them in order of arrival, as the platform's log has them."""
        rows: list[tuple[int, bytes]] = []
        count: Counter[tuple[str, str]] = Counter()
        for _, store, stream, data, at_s in sorted(self._arriving, key=lambda it: it[0]):
            count[store, stream] += 1
            entry = type_of(data)
            made = draft(
                entry.stream, entry.name, data, source=Origin("t1", store, f"gw-{store}").source("pos/1"),
                at=Instant(at_s, 1),
            )  # fmt: skip
            body = envelope(
                made.body, gateway=f"gw-{store}", stream=stream, epoch="0" * 32, seq=count[store, stream],
                recorded_s=at_s, boot="0" * 32,
            )  # fmt: skip
            rows.append((len(rows) + 1, body))
        self._arriving = []
        return rows

    def files(self) -> dict[str, str]:
        """The web shop's CSV files."""
        texts = {}
        for name, rows in self.tables.items():
            file = io.StringIO()
            csv.writer(file).writerows(rows)
            texts[name] = file.getvalue()
        return texts


def identifier_of(scheme: Any, value: str) -> Identifier:
    """As the shop's and the platform's own rules spell it."""
    return normalise(scheme, value, RULES)


def _real_baskets() -> list[tuple[int, Decimal, int]]:
    path = _DATA / _BASKETS
    if not path.exists():
        return []
    lines: Counter[str] = Counter()
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    items: Counter[str] = Counter()
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            basket = row["basket_id"]
            lines[basket] += 1
            money[basket] += Decimal(row["sales_value"])
            items[basket] += min(int(float(row["quantity"])), 99)
    return [(lines[it], money[it].quantize(Decimal("0.01")), items[it]) for it in lines if money[it] > 0]
