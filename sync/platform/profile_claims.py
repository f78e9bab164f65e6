"""Whose an identifier is: persons, their claims and what they agree to, derived again from the acts that changed.

Works inside a transaction of the book of persons and on its tables. Who a person is decides `identity_graph`, what
they agree to `consent_state`; here it is written down, and what a withdrawal takes with it. Knows no event and no page.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sync.platform.consent_state import ConsentAct, state_of
from sync.platform.identity_graph import HUB, Link, Person

Resolver = Callable[[Mapping[int, str], Sequence[Link], frozenset[int]], Sequence[Person]]
FROM_THE_BEGINNING, STILL = -(1 << 62), 1 << 62
_MATCHING: Final = "matching"


class Claims:
    """One transaction's work. `dirty`: identifiers whose persons must be derived again."""

    def __init__(self, connection: sqlite3.Connection, resolver: Resolver) -> None:
        """`resolver`: persons from acts."""
        self.dirty: set[int] = set()
        self._sql = connection.execute
        self._resolver = resolver

    def settle(self) -> None:
        """Derive again the persons around every identifier that changed."""
        while self.dirty:
            self._resolve(*self._component(self.dirty.pop()))

    def _component(self, start: int) -> tuple[set[int], list[Link], frozenset[int]]:
        """Everything that acts connect with an identifier, hubs at the rim."""
        seen, edge, hubs = {start}, [start], set[int]()
        links: dict[tuple[int, int], Link] = {}
        while edge:
            node = edge.pop()
            rows = self._sql(
                "SELECT id, act, one, other, replaced, first_ms, last_ms FROM edge WHERE void = 0 AND one = ?1 "
                "UNION SELECT id, act, one, other, replaced, first_ms, last_ms FROM edge WHERE void = 0 AND other = ?1 "
                "UNION SELECT id, act, one, other, replaced, first_ms, last_ms FROM edge "
                "WHERE void = 0 AND replaced = ?1 AND replaced > 0",
                (node,),
            ).fetchall()
            if len({row[2] if row[3] == node else row[3] for row in rows}) >= HUB:
                hubs.add(node)
                continue
            for number, act, one, other, replaced, first_ms, last_ms in rows:
                for nth, at_ms in enumerate({first_ms, last_ms}):
                    links[number, nth] = Link(number, act, one, other, at_ms, replaced)
                for end in (one, other, replaced):
                    if end and end not in seen:
                        seen.add(end)
                        edge.append(end)
        return seen, list(links.values()), frozenset(hubs)

    def _resolve(self, nodes: set[int], links: Sequence[Link], hubs: frozenset[int]) -> None:
        self.dirty -= nodes - hubs
        marks = ", ".join("?" * len(nodes))
        inside = tuple(nodes - hubs) or (0,)
        within = ", ".join("?" * len(inside))
        schemes = dict(self._sql(f"SELECT id, scheme FROM identifier WHERE id IN ({marks})", tuple(nodes)).fetchall())  # noqa: S608 - marks only
        before: dict[int, list[int]] = {}
        for identifier, person in self._sql(
            f"SELECT identifier, person FROM claim WHERE identifier IN ({marks}) ORDER BY sole DESC, proved_ms",  # noqa: S608 - marks only
            tuple(nodes),
        ):
            before.setdefault(identifier, []).append(person)
        self._sql(f"DELETE FROM claim WHERE identifier IN ({within})", inside)  # noqa: S608 - marks only
        for hub in hubs:
            if self._sql("DELETE FROM claim WHERE identifier = ?", (hub,)).rowcount:  # it was somebody's until now
                near = self._sql(
                    "SELECT one FROM edge WHERE other = ?1 UNION SELECT other FROM edge WHERE one = ?1", (hub,)
                )
                self.dirty |= {int(row[0]) for row in near} - nodes
        taken: set[int] = set()
        heirs: dict[int, int] = {}  # what each identifier's person became
        for person in self._resolver(schemes, links, hubs):
            number = self._number(person, taken)
            for claim in person.claims:
                heirs.setdefault(claim.identifier, number)
                self._sql(
                    "INSERT INTO claim VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (claim.identifier, number, FROM_THE_BEGINNING if claim.since_ms is None else claim.since_ms,
                     STILL if claim.until_ms is None else claim.until_ms, claim.proved_ms, int(claim.sole), claim.link),
                )  # fmt: skip
        for identifier, persons in before.items():
            for gone in set(persons) - taken:
                if self._sql("SELECT 1 FROM claim WHERE person = ?", (gone,)).fetchone() is not None:
                    self._consent_of(gone)
                    continue
                self._sql("UPDATE person SET merged = ? WHERE id = ?", (heirs.get(identifier), gone))
                self._sql("DELETE FROM consented WHERE person = ?", (gone,))
        for number in taken:
            self._consent_of(number)

    def _number(self, person: Person, taken: set[int]) -> int:
        """The person's number: the one that an identifier of theirs leads, members first; a new one otherwise.

        A number goes with its leading identifier, so joining and parting again gives everybody the old one back.
        """
        lead: int | None = None
        for claim in person.claims:
            row = self._sql("SELECT id FROM person WHERE lead = ?", (claim.identifier,)).fetchone()
            if row is None:
                lead = claim.identifier if lead is None else lead
            elif row[0] not in taken:
                number = int(row[0])
                taken.add(number)
                self._sql("UPDATE person SET merged = NULL WHERE id = ?", (number,))
                return number
        made = self._sql("INSERT INTO person (key, lead) VALUES (?, ?)", (secrets.token_urlsafe(12), lead)).lastrowid
        assert made is not None
        taken.add(made)
        return made

    def _consent_of(self, person: int) -> None:
        """Which purposes the person agrees to, from every act under an identifier of theirs; then what follows."""
        acts: list[ConsentAct] = [
            ConsentAct(step, tuple(purposes.split()), at_ms, until_ms)
            for step, purposes, at_ms, until_ms in self._sql(
                "SELECT DISTINCT n.step, n.purposes, n.at_ms, n.until_ms FROM claim c "
                "JOIN consent n ON n.identifier = c.identifier WHERE c.person = ? AND n.at_ms >= c.since_ms "
                "AND n.at_ms < c.until_ms AND (c.sole OR n.step = 'withdrawn')",
                (person,),
            )
        ]
        self._sql("DELETE FROM consented WHERE person = ?", (person,))
        for purpose, state in state_of(acts).items():
            self._sql(
                "INSERT INTO consented VALUES (?, ?, ?, ?, ?)",
                (person, purpose, state.since_ms, state.until_ms, state.withdrawn_ms),
            )
            if purpose == _MATCHING and state.withdrawn_ms is not None:
                self._withdraw(person, state.withdrawn_ms)

    def _withdraw(self, person: int, withdrawn_ms: int) -> None:
        """Nothing from before the withdrawal is the person's any more; what was sold stays sold.

        What a household shares tells nothing about any of them and need not be kept for the others.
        """
        for identifier, since_ms, until_ms in self._sql(
            "SELECT identifier, since_ms, until_ms FROM claim WHERE person = ?", (person,)
        ).fetchall():
            self._sql(
                "UPDATE touch SET identifier = NULL, how = '', day_key = NULL, record = NULL "
                "WHERE identifier = ? AND at_ms >= ? AND at_ms < ?",
                (identifier, since_ms, min(until_ms, withdrawn_ms + 1)),
            )

    def sweep(self) -> int:
        """Take out of what was done *after* a withdrawal who did it, unless they agreed again; returns how many.

        To be called when no more acts are at hand: a grant still to be read may cover what looks uncovered.
        """
        self.settle()
        return self._sql(
            "UPDATE touch SET identifier = NULL, how = '', day_key = NULL, record = NULL WHERE id IN ("
            "SELECT t.id FROM consented s JOIN claim c ON c.person = s.person "
            "JOIN touch t ON t.identifier = c.identifier AND t.at_ms >= c.since_ms AND t.at_ms < c.until_ms "
            "WHERE s.purpose = ? AND s.withdrawn_ms IS NOT NULL AND (s.since_ms IS NULL OR t.at_ms < s.since_ms))",
            (_MATCHING,),
        ).rowcount
