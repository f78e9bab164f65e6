"""What is kept of one person's visit while it is under way, and of all of them by the keys that they go by.

    (seen) ──an authenticated act──▶ open ──it ends──▶ told

Rows of `visit_book`'s table are these structs. Decides nothing about a visit; knows no event and no storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from gateway.event_types import Shopper
from gateway.shopper.basket_tags import Match

State = Literal["seen", "open", "told"]
_MINUTE_MS = 60_000
BACKFILL_MS = 45 * _MINUTE_MS  # before the act that opens: how far what was seen is filled in
KEYS_MOST, ACTS_MOST, SALES_MOST, _STAYS = 8, 40, 50, 64


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What `[visits]` says. Zones by name; lengths in ms."""

    idle_ms: int = 45 * _MINUTE_MS
    after_sale_ms: int = 15 * _MINUTE_MS
    exits: frozenset[str] = frozenset()
    fitting_rooms: frozenset[str] = frozenset()


class Stay(msgspec.Struct):
    """Time in a zone; `inside`: it has not ended yet."""

    zone: str
    from_ms: int
    to_ms: int
    inside: bool = False


class Bought(msgspec.Struct):
    """A sale of the visit, and what proves that it is."""

    transaction_id: str
    t_ms: int
    proof: str
    void: bool = False
    match: Match = Match()  # as it was known last: the tags' own book forgets sooner


class Done(msgspec.Struct):
    """An authenticated act. `sale`: the one that it was for."""

    t_ms: int
    how: str
    zone: str
    sale: str = ""


class Case(msgspec.Struct):
    """One person's visit, or what may become one. The newest sealed identifier stays, for the platform."""

    id: str
    keys: list[str]
    shopper: Shopper
    consents: list[str]
    state: State
    first_ms: int
    last_ms: int
    close_ms: int  # when it ends if nothing more happens
    skew_ms: int  # wall clock − timeline, at the last fact
    acts: list[Done] = []
    stays: list[Stay] = []
    bought: list[Bought] = []
    basket: bool = False
    points: bool = False
    exit_ms: int = 0
    told_ms: int = 0
    ends_ms: int = 0  # of a told one: what happened later is another visit, however late this is known
    revision: int = 0
    told: str = ""  # the visit's id as it was told last
    digest: str = ""
    changed: bool = False
    lane: str = ""

    def stayed(self, zone: str, t_ms: int, *, left: bool, dwell_ms: int) -> None:
        """The person's own beacon or card came to a zone, or left it after `dwell_ms`."""
        inside = next((it for it in reversed(self.stays) if it.inside and it.zone == zone), None)
        if left:
            from_ms = t_ms - dwell_ms
            if inside is not None:
                inside.from_ms = min(inside.from_ms, from_ms)
                inside.to_ms, inside.inside = max(t_ms, inside.from_ms), False
            elif len(self.stays) < _STAYS:
                self.stays.append(Stay(zone, from_ms, t_ms))
            self.first_ms = min(self.first_ms, from_ms)
        elif inside is None and len(self.stays) < _STAYS:
            self.stays.append(Stay(zone, t_ms, t_ms, True))

    def opened(self, t_ms: int) -> None:
        """An act has made a visit of it: what was seen before stays as far as the window goes."""
        self.state = "open"
        oldest_ms = t_ms - BACKFILL_MS
        self.stays = [stay for stay in self.stays if stay.inside or stay.to_ms >= oldest_ms]
        for stay in self.stays:
            stay.from_ms = max(stay.from_ms, oldest_ms)
        self.first_ms = min([t_ms, *(stay.from_ms for stay in self.stays)])

    def absorb(self, other: Case) -> None:
        """What was kept of the same person under another key is of this visit, too; keys are `Cases`' to move."""
        later = max(self, other, key=lambda it: it.last_ms)
        stays = other.stays
        if self.state == "open" and other.state == "seen":  # no more is filled in than this visit's own act allows
            oldest_ms = self.acts[0].t_ms - BACKFILL_MS
            stays = [it for it in stays if it.inside or it.to_ms >= oldest_ms]
            for stay in stays:
                stay.from_ms = max(stay.from_ms, oldest_ms)
            other.first_ms = min([self.first_ms, *(stay.from_ms for stay in stays)])
        self.first_ms = min(self.first_ms, other.first_ms)
        self.last_ms, self.skew_ms, self.lane = later.last_ms, later.skew_ms, later.lane or self.lane
        self.close_ms = max(self.close_ms, other.close_ms)
        self.exit_ms = later.exit_ms
        self.acts = sorted([*self.acts, *other.acts], key=lambda it: it.t_ms)[:ACTS_MOST]
        self.stays = [*self.stays, *stays][:_STAYS]
        known = {it.transaction_id for it in self.bought}
        more = [it for it in other.bought if it.transaction_id not in known]
        self.bought = sorted([*self.bought, *more], key=lambda it: it.t_ms)[:SALES_MOST]
        self.basket, self.points = self.basket or other.basket, self.points or other.points
        self.consents = list(dict.fromkeys([*self.consents, *other.consents]))[:KEYS_MOST]
        self.named(other.shopper)

    def named(self, shopper: Shopper) -> None:
        """One identifier stands for the visit, key and seal together: what the platform can open, members first."""
        if shopper.day_key == self.shopper.day_key:
            self.shopper = msgspec.structs.replace(shopper, sealed=shopper.sealed or self.shopper.sealed)
        elif _rank(shopper) > _rank(self.shopper):
            self.shopper = shopper


def _rank(shopper: Shopper) -> tuple[bool, bool]:
    return shopper.sealed is not None, shopper.scheme == "member"


class Cases:
    """All cases, by name and by key. `dirty` and `gone` say what to write down since they were emptied."""

    def __init__(self) -> None:
        """None yet."""
        self.dirty: set[str] = set()
        self.gone: set[str] = set()
        self._cases: dict[str, Case] = {}
        self._by_key: dict[str, list[str]] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[Case]:
        """Those of now: they may be dropped meanwhile."""
        return iter(list(self._cases.values()))

    def get(self, name: str) -> Case | None:
        """One of them."""
        return self._cases.get(name)

    def of(self, key: str) -> list[Case]:
        """Those of a key, the newest first."""
        return [self._cases[name] for name in reversed(self._by_key.get(key, ()))]

    def of_any(self, keys: Iterable[str]) -> list[Case]:
        """Those of any of these keys."""
        return [self._cases[name] for name in {name for key in keys for name in self._by_key.get(key, ())}]

    def add(self, case: Case) -> None:
        """One more, found by all of its keys."""
        self._cases[case.id] = case
        for key in case.keys:
            self._by_key.setdefault(key, []).append(case.id)

    def alias(self, case: Case, key: str) -> None:
        """A further key of the same person."""
        if key not in case.keys and len(case.keys) < KEYS_MOST:
            case.keys.append(key)
            self._by_key.setdefault(key, []).append(case.id)

    def part(self, case: Case, key: str) -> None:
        """A key turned out not to be this person's alone."""
        case.keys.remove(key)
        self._forget(case, key)
        if case.shopper.day_key == key:
            case.shopper = msgspec.structs.replace(case.shopper, day_key=case.keys[0], sealed=None)
        self.dirty.add(case.id)

    def drop(self, case: Case) -> None:
        """Forget it."""
        del self._cases[case.id]
        for key in case.keys:
            self._forget(case, key)
        self.dirty.discard(case.id)
        self.gone.add(case.id)

    def _forget(self, case: Case, key: str) -> None:
        names = self._by_key[key]
        names.remove(case.id)
        if not names:
            del self._by_key[key]
