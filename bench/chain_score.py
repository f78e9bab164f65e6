"""What the platform found out about the generated chain, held against the truth.

Reads the platform's histories as its pages do; only the truth is the bench's. Knows no limit of a figure.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from bench.chain_truth import DAY_S, STORES, Chain, identifier_of
from gateway.clock import FakeClock
from gateway.shopper.identifiers import Identifier
from sync.platform.profile_book import ProfileBook
from sync.platform.profile_reading import ProfileReading
from sync.platform.return_visits import ReturnVisits


class Score(msgspec.Struct, kw_only=True):
    """What the matching came to beside the truth."""

    right: int = 0
    wrong: int = 0
    due: int = 0
    pairs_right: int = 0
    pairs_wrong: int = 0
    pairs_due: int = 0
    unproved: int = 0
    after_withdrawal: int = 0
    untied: int = 0
    returns_told: int = 0
    returns_right: int = 0
    returns_s: float = 0.0
    missed: Counter[str] = msgspec.field(default_factory=Counter)
    persons: int = 0
    fold_s: float = 0.0
    events: int = 0
    slowest_step_ms: float = 0.0

    @property
    def precision(self) -> float:
        return self.right / max(1, self.right + self.wrong)

    @property
    def recall(self) -> float:
        return self.right / max(1, self.due)

    @property
    def join(self) -> float:
        return self.pairs_right / max(1, self.pairs_due)


def score(chain: Chain, book: ProfileBook, into: Score) -> Score:
    """Read every person's history and hold it against the truth."""
    reading, now_ms = ProfileReading(book), round(chain.now_s * 1000)
    truth = {done.ref: done for done in chain.done}
    owner = _owners(chain)
    proved = _connected(chain.acts)
    seen: set[str] = set()
    with book.reading() as connection:
        persons = connection.execute("SELECT id FROM person WHERE merged IS NULL").fetchall()
        values = {
            number: (scheme, book.vault.unboxed(box))
            for number, scheme, box in connection.execute("SELECT id, scheme, box FROM identifier")
        }
        claims: defaultdict[int, set[tuple[str, str]]] = defaultdict(set)
        for person, identifier in connection.execute("SELECT person, identifier FROM claim"):
            claims[person].add(values[identifier])
        named, into.untied = _named_after_withdrawal(chain, connection, values)
        into.after_withdrawal += named
    for (person,) in persons:
        into.persons += bool(claims[person])
        into.unproved += len({proved(it) for it in claims[person]}) > 1
        entries = reading.history(person, now_ms)
        members = {owner[it] for it in claims[person] if it[0] == "member" and it in owner}
        told = Counter(truth[it.ref].who for it in entries if it.ref in truth)
        whose = members.pop() if len(members) == 1 else (told.most_common(1)[0][0] if told else None)
        for entry in entries:
            done = truth.get(entry.ref)
            if done is None:
                continue
            somebody = chain.people[done.who]
            if done.who != whose:
                into.wrong += 1
            elif somebody.counts(done.at_s, chain.now_s):
                into.right += 1
                seen.add(entry.ref)
            else:
                into.after_withdrawal += 1  # shown although no consent holds
            if entry.visit:
                good = (entry.visit, entry.ref) in chain.pairs and done.who == whose
                into.pairs_right += good
                into.pairs_wrong += not good
    for done in chain.done:
        somebody = chain.people[done.who]
        if done.key != "none" and somebody.member and somebody.counts(done.at_s, chain.now_s):
            into.due += 1
            if done.ref not in seen:
                into.missed[done.key] += 1
    for visit, _ in chain.pairs:
        done = truth[visit]
        into.pairs_due += chain.people[done.who].counts(done.at_s, chain.now_s)
    return into


class _Shops:
    """The platform's database and its commands, as far as telling of return visits needs them."""

    def __init__(self, rows: Sequence[tuple[int, bytes]]) -> None:
        self._rows = dict(rows)
        self.told: dict[str, bool] = {}

    def bodies(self, positions: Sequence[int]) -> list[tuple[int, bytes]]:
        return [(position, self._rows[position]) for position in positions]

    def gateways(self) -> list[tuple[str, bytes]]:
        return [(f"gw-{store}", b'{"time_zone": "UTC"}') for store in STORES]

    def give(self, person: None, gateway: str, kind: str, data: Mapping[str, Any]) -> None:
        self.told |= data["visits"]


def told_returns(chain: Chain, book: ProfileBook, rows: Sequence[tuple[int, bytes]], into: Score) -> None:
    """What the shops are told of their visits, beside who really had been there on an earlier day, and agreed."""
    shops = _Shops(rows)
    teller = ReturnVisits(book, shops, shops, FakeClock(chain.now_s))  # type: ignore[arg-type]
    started_s = time.process_time()
    at = -1
    while at != (at := _place(book)):
        teller.step()
    into.returns_s = time.process_time() - started_s
    been: defaultdict[tuple[int, str], list[float]] = defaultdict(list)
    for done in chain.done:
        if done.key != "none" and chain.people[done.who].counts(done.at_s, chain.now_s):
            been[done.who, done.ref.removeprefix("v-")[:4]].append(done.at_s)
    for done in chain.done:
        if done.ref in shops.told:
            before = any(at_s // DAY_S < done.at_s // DAY_S for at_s in been[done.who, done.ref[2:6]])
            into.returns_told += 1
            into.returns_right += shops.told[done.ref] == before


def _place(book: ProfileBook) -> int:
    with book.reading() as connection:
        row = connection.execute("SELECT value FROM fact WHERE name = 'return_visits'").fetchone()
    return int(row[0]) if row else 0


def _owners(chain: Chain) -> dict[tuple[str, str], int]:
    return {("member", identifier_of("member", it.member).value): it.number for it in chain.people if it.member}


def _connected(acts: Iterable[tuple[Identifier, Identifier]]) -> Callable[[tuple[str, str]], object]:
    """A function that says which group of identifiers one is in, by the acts that really took place."""
    group: dict[tuple[str, str], tuple[str, str]] = {}

    def root(node: tuple[str, str]) -> tuple[str, str]:
        while (up := group.get(node, node)) != node:
            node = up
        return node

    for one, other in acts:
        a, b = root((one.scheme, one.value)), root((other.scheme, other.value))
        group.setdefault(a, a)
        group[b] = a
    return root


def _named_after_withdrawal(chain: Chain, connection: Any, values: Mapping[int, tuple[str, str]]) -> tuple[int, int]:
    """Rows done after a withdrawal that still name the person; and those under a token that they never proved theirs.

    The second are a card that nobody knows, or the card of somebody in the family who has not withdrawn.
    """
    ties = {((one.scheme, one.value), (other.scheme, other.value)) for one, other in chain.acts}
    gone = {it.number: it for it in chain.people if it.withdrawn_s is not None}
    truth = {done.ref: done for done in chain.done if done.who in gone}
    count = untied = 0
    rows = connection.execute("SELECT ref, at_ms, identifier FROM touch WHERE identifier IS NOT NULL AND origin = 0")
    for ref, at_ms, identifier in rows:
        done = truth.get(ref)
        if done is not None:
            it = gone[done.who]
            assert it.withdrawn_s is not None
            if it.withdrawn_s < at_ms / 1000 and (it.again_s is None or at_ms / 1000 < it.again_s):
                member = ("member", identifier_of("member", it.member).value)
                tied = values[identifier] == member or (member, values[identifier]) in ties
                count, untied = count + tied, untied + (not tied)
    return count, untied
