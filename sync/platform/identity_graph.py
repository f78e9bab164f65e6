"""Who is who, from authenticated acts alone: a pure function from links to persons and their claims.

A node is a normalised identifier, a link an act in which a person proved two of them at once. Nothing else joins:
not the same place, not the same time, not two numbers that differ in one digit. A member number is a person's own.
Every other identifier is *claimed* by a person from one act to another, and a claim tells nothing about anybody where
somebody else's overlaps it: a family's phone and a card for two belong to nobody (a household). So the order in which
acts arrive does not matter, an act can be taken back and the persons are as if it had never been (unmerge), and a
number that was given up and later given to another has two owners, one after the other. Knows no storage.

*Source*: design of the project, SYNC.md, "The reference platform".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

Act = Literal["registration", "login", "phone_change", "card_change", "basket"]

MEMBER: Final = "member"
HUB: Final = 24
"""An identifier linked with so many others is a dummy or the cashier's own card: it is nobody's, and joins nothing."""


class Link(msgspec.Struct, frozen=True):
    """One act: `one` acted (the member, or what was signed in with), `other` was proved with it, `replaced` given up.

    `id` orders acts of the same moment. `basket`: both were shown in one basket; it says less than the others and
    never joins two persons who each have more than that one identifier.
    """

    id: int
    act: Act
    one: int
    other: int
    at_ms: int
    replaced: int = 0


class Claim(msgspec.Struct, frozen=True):
    """An identifier was this person's between two moments. `sole`: and nobody else's meanwhile.

    `since_ms` None: from the beginning, since nobody had it before; `until_ms` None: still. `proved_ms`: the act.
    `link`: 0 where no act was needed: an identifier alone.
    """

    identifier: int
    since_ms: int | None
    until_ms: int | None
    proved_ms: int
    sole: bool
    link: int


class Person(msgspec.Struct, frozen=True):
    """Claims of one person, the members first. `joined`: the links that made one person of two."""

    claims: tuple[Claim, ...]
    joined: tuple[int, ...]


class _Held(msgspec.Struct):
    identifier: int
    person: int
    since_ms: int
    until_ms: int | None
    link: int


def resolve(schemes: Mapping[int, str], links: Sequence[Link], hubs: frozenset[int] = frozenset()) -> list[Person]:
    """The persons among these identifiers.

    Args:
        schemes: the scheme of each identifier; one that no act links is a person by itself.
        links: acts among them, in any order; an end outside `schemes` is passed over.
        hubs: identifiers that are nobody's.

    Returns:
        Persons, each identifier's claims in one or several of them; none for no identifier. A hub has no claim.
    """
    return _Replay(schemes, hubs).run(links)


class _Replay:
    def __init__(self, schemes: Mapping[int, str], hubs: frozenset[int]) -> None:
        self._schemes = schemes
        self._hubs = hubs
        self._parent: list[int] = []
        self._member_of: list[bool] = []  # whether a root has a member number
        self._size: list[int] = []  # claims of a root
        self._held: list[_Held] = []
        self._now: dict[int, list[_Held]] = {}  # open claims by identifier
        self._joined: list[tuple[int, int]] = []  # person, link
        for identifier in sorted(schemes):
            if schemes[identifier] == MEMBER and identifier not in hubs:
                self._claim(identifier, self._person(member=True), 0, 0)

    def run(self, links: Sequence[Link]) -> list[Person]:
        for link in sorted(links, key=lambda link: (link.at_ms, link.id)):
            ends = {link.one, link.other}
            if len(ends) == 2 and ends <= self._schemes.keys() and not ends & self._hubs:
                self._apply(link)
        claimed = {held.identifier for held in self._held}
        for identifier in sorted(self._schemes.keys() - claimed - self._hubs):
            self._claim(identifier, self._person(member=False), 0, 0)
        return self._persons()

    def _apply(self, link: Link) -> None:
        if self._schemes[link.other] == MEMBER and self._schemes[link.one] != MEMBER:
            one, other = link.other, link.one
        else:
            one, other = link.one, link.other
        two_members = self._schemes[one] == self._schemes[other] == MEMBER
        acting = self._holders(one)
        if len(acting) > 1 or (two_members and link.act != "card_change"):
            return  # a household's phone signed in, nobody knows who of them it was; or two cards, and no change
        person = acting[0] if acting else self._person(member=False)
        if not acting:
            self._claim(one, person, link.at_ms, link.id)
        if link.replaced and link.replaced != other:
            self._release(link.replaced, person, link.at_ms)
        holders = [holder for holder in self._holders(other) if holder != person]
        if two_members or (len(holders) == 1 and self._may_join(person, holders[0], link)):
            person = self._join(person, holders, link)
        if person not in self._holders(other):
            self._claim(other, person, link.at_ms, link.id)

    def _may_join(self, person: int, other: int, link: Link) -> bool:
        """Two persons become one by an act only where at most one of them has a number of their own."""
        if self._member_of[person] and self._member_of[other]:
            return False
        if link.act != "basket":
            return True
        alone = person if not self._member_of[person] else other
        return self._size[alone] == 1

    def _join(self, person: int, others: Sequence[int], link: Link) -> int:
        for other in others:
            self._parent[other] = person
            self._member_of[person] = self._member_of[person] or self._member_of[other]
            self._size[person] += self._size[other]
            self._joined.append((person, link.id))
        return person

    def _release(self, identifier: int, person: int, at_ms: int) -> None:
        keep = []
        for held in self._now.get(identifier, []):
            if self._find(held.person) == person:
                held.until_ms = at_ms
            else:
                keep.append(held)
        self._now[identifier] = keep

    def _claim(self, identifier: int, person: int, since_ms: int, link: int) -> None:
        held = _Held(identifier, person, since_ms, None, link)
        self._held.append(held)
        self._size[person] += 1
        self._now.setdefault(identifier, []).append(held)

    def _holders(self, identifier: int) -> list[int]:
        return sorted({self._find(held.person) for held in self._now.get(identifier, [])})

    def _person(self, *, member: bool) -> int:
        self._parent.append(len(self._parent))
        self._member_of.append(member)
        self._size.append(0)
        return len(self._parent) - 1

    def _find(self, person: int) -> int:
        while self._parent[person] != person:
            person = self._parent[person]
        return person

    def _persons(self) -> list[Person]:
        by_identifier: dict[int, list[_Held]] = {}
        for held in self._held:
            by_identifier.setdefault(held.identifier, []).append(held)
        claims: dict[int, list[Claim]] = {}
        for identifier, several in by_identifier.items():
            several.sort(key=lambda held: (held.since_ms, held.link))
            for index, held in enumerate(several):
                root = self._find(held.person)
                sole = not any(self._find(it.person) != root and _overlap(held, it) for it in several)
                since_ms = None if index == 0 else held.since_ms
                claim = Claim(identifier, since_ms, held.until_ms, held.since_ms, sole, held.link)
                claims.setdefault(root, []).append(claim)
        joined: dict[int, list[int]] = {}
        for person, link in self._joined:
            joined.setdefault(self._find(person), []).append(link)
        return [
            Person(
                tuple(sorted(mine, key=lambda it: (self._schemes[it.identifier] != MEMBER, it.proved_ms, it.link))),
                tuple(joined.get(root, ())),
            )
            for root, mine in sorted(claims.items())
        ]


def _overlap(one: _Held, other: _Held) -> bool:
    return (one.until_ms is None or other.since_ms < one.until_ms) and (
        other.until_ms is None or one.since_ms < other.until_ms
    )
