"""Matching on a generated chain with known truth: precision and recall, visits and sales, joins without an act.

20,000 shoppers and 90 days of `bench.chain_truth`. Events are the vocabulary's structs, sealed by the shop's sealer,
opened, folded and read by the platform's own code; the web shop comes in by CSV.

What is scored (`bench.chain_score`) is drawn here alone and never handed to the platform. That the scorer can fail is
shown each time on a smaller chain with a fault built in: numbers matched without their last digit, households ignored,
withdrawals ignored.

    python -m bench.chain [--shoppers 20000] [--days 90] [--seed 1]
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.chain_score import Score, score, told_returns
from bench.chain_truth import RULES, STORES, Chain
from bench.figures import Figure
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.identifiers import Identifier, normalise
from gateway.shopper.sealing import Opener, Sealer, new_key
from sync.platform.history import import_lines
from sync.platform.identity_graph import Claim, Link, Person, resolve
from sync.platform.profile_book import ProfileBook
from sync.platform.profile_claims import Resolver
from sync.platform.profile_fold import ProfileFold
from sync.platform.vault import Named, Opens, Vault

_FAULTY_SHOPPERS = 800

# -- faults that the scorer must catch


class Fuzzy:
    """Takes a phone number for the first one that differs in its last digit only: a typing error, somebody thought."""

    def __init__(self, opener: Opens) -> None:
        self._opener = opener
        self._first: dict[str, str] = {}

    def open(self, sealed: str) -> Named:
        return self.fuzzed(self._opener.open(sealed))

    def fuzzed(self, named: Named) -> Named:
        if named.scheme != "phone":
            return named
        return Identifier("phone", self._first.setdefault(named.value[:-1], named.value))


def household_blind(schemes: Mapping[int, str], links: Sequence[Link], hubs: frozenset[int]) -> list[Person]:
    """Whatever hangs together is one person."""
    group = {node: node for node in schemes}

    def root(node: int) -> int:
        while group[node] != node:
            node = group[node]
        return node

    for link in links:
        if link.one in group and link.other in group:
            group[root(link.other)] = root(link.one)
    persons: defaultdict[int, list[Claim]] = defaultdict(list)
    for node in sorted(schemes, key=lambda node: (schemes[node] != "member", node)):
        persons[root(node)].append(Claim(node, None, None, 0, True, 0))
    return [Person(tuple(claims), ()) for claims in persons.values()]


class Rows:
    """A log in memory; `deaf` to withdrawals when told so."""

    def __init__(self, rows: Sequence[tuple[int, bytes]], *, deaf: bool = False) -> None:
        self._rows = [(at, body) for at, body in rows if not (deaf and b'"store.consent.withdrawn.v1"' in body)]
        self._at = 0

    def events(self, after: int, limit: int) -> list[tuple[int, bytes]]:
        if self._at and self._rows[self._at - 1][0] != after:
            self._at = next((n for n, row in enumerate(self._rows) if row[0] > after), len(self._rows))
        taken = self._rows[self._at : self._at + limit]
        self._at += len(taken)
        return taken


# -- the run

Fault = str


def run(directory: Path, shoppers: int, days: int, seed: int, fault: Fault = "") -> tuple[Chain, Score]:
    """Generate, fold and score one chain.

    Args:
        directory: for its files.
        shoppers, days, seed: of the chain.
        fault: `fuzzy`, `households`, `withdrawals`, or none.
    """
    private, public = new_key()
    keys = {store: DayKeys(directory / "keys" / store) for store in STORES}
    chain = Chain(shoppers, days, seed, Sealer("p1", public), keys)
    rows, into = chain.events(), Score()
    vault = Vault(directory / "vault.key")
    vault.open()
    resolver: Resolver = household_blind if fault == "households" else resolve
    book = ProfileBook(directory / "profiles.db", vault, durable=False, resolver=resolver)
    book.open()
    opener: Opens = Opener({"p1": private})
    fuzzy = Fuzzy(opener)
    try:

        def spell(scheme: str, raw: str) -> Named:
            named: Named = normalise(scheme, raw, RULES)  # type: ignore[arg-type]
            return fuzzy.fuzzed(named) if fault == "fuzzy" else named

        for name, text in chain.files().items():
            said = import_lines(book, io.StringIO(text), spell, name)
            assert not said.refused or name == "orders", said.problems[:3]  # a typing error may make no number
        fold = ProfileFold(book, Rows(rows, deaf=fault == "withdrawals"), fuzzy if fault == "fuzzy" else opener)
        started_s = before_s = time.perf_counter()
        while fold.step():
            now_s = time.perf_counter()
            into.slowest_step_ms = max(into.slowest_step_ms, (now_s - before_s) * 1000)
            before_s = now_s
        into.fold_s, into.events = time.perf_counter() - started_s, len(rows)
        told_returns(chain, book, rows, into)
        return chain, score(chain, book, into)
    finally:
        book.close()


def figures_of(got: Score) -> list[Figure]:
    """The figures with their limits."""
    return [
        Figure("Matching precision", "≥ 0.995", "", f"{got.precision:.4f}", got.precision >= 0.995),
        Figure("Matching recall of what consent allows", "≥ 0.97", "", f"{got.recall:.4f}", got.recall >= 0.97),
        Figure("Visit joined with its sale", "≥ 0.98", "", f"{got.join:.4f} ({got.pairs_wrong} wrong)",
               got.join >= 0.98 and got.pairs_wrong <= 0.005 * got.pairs_right),
        Figure("Visits told rightly to be the first or a return", "≥ 0.98", "",
               f"{got.returns_right / max(1, got.returns_told):.4f} of {got.returns_told:,}",
               got.returns_right >= 0.98 * got.returns_told),
        Figure("Persons joined without an authenticated act", "0", "", str(got.unproved), got.unproved == 0),
        Figure("Events with a subject after a withdrawal", "0", "", str(got.after_withdrawal),
               got.after_withdrawal == 0),
    ]  # fmt: skip


CAUGHT_BY = {
    "fuzzy": "Persons joined without an authenticated act",
    "households": "Matching precision",
    "withdrawals": "Events with a subject after a withdrawal",
}


def main(arguments: list[str] | None = None) -> int:
    """Run, print, 1 when a limit is missed or a fault is not caught."""
    parser = argparse.ArgumentParser(description="Matching on a generated chain with known truth.")
    parser.add_argument("--shoppers", type=int, default=20_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(arguments)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        chain, got = run(Path(name), asked.shoppers, asked.days, asked.seed)
    print(f"{asked.shoppers:,} shoppers, {asked.days} days, seed {asked.seed}; baskets: "
          f"{'real' if chain.real else 'log-normal, the real ones are not there'}")  # fmt: skip
    print(f"{len(chain.done):,} things done; {got.events:,} events and {len(chain.tables['orders']) - 1:,} orders "
          f"became {got.persons:,} persons; {chain.late_named} events named somebody after the withdrawal")  # fmt: skip
    print(f"due {got.due:,}, found {got.right:,}, wrong {got.wrong}; not found by the key that was shown: "
          + (", ".join(f"{key} {count}" for key, count in got.missed.most_common()) or "none"))  # fmt: skip
    print(f"{got.untied} events after a withdrawal are under a card that the person never proved theirs")
    print(f"folding: {got.events / max(got.fold_s, 1e-9):,.0f} events/s, longest step {got.slowest_step_ms:.0f} ms")
    print(f"return visits: {got.returns_told / max(got.returns_s, 1e-9):,.0f} visits/s of CPU time")
    found = figures_of(got)
    for fault, figure in CAUGHT_BY.items():
        with tempfile.TemporaryDirectory() as name:
            _, faulty = run(Path(name), min(asked.shoppers, _FAULTY_SHOPPERS), asked.days, asked.seed, fault)
        caught = any(it.met is False and it.figure == figure for it in figures_of(faulty))
        print(f"fault {fault}: precision {faulty.precision:.4f}, without act {faulty.unproved}, "
              f"after withdrawal {faulty.after_withdrawal}: {'caught' if caught else 'NOT CAUGHT'}")  # fmt: skip
        found.append(Figure(f"Scorer sees the fault: {fault}", "caught", "", "caught" if caught else "missed", caught))
    print(f"{time.perf_counter() - started_s:.0f} s")
    print(json.dumps({"figures": [it.as_json() for it in found]}))
    return int(any(it.met is False for it in found))


if __name__ == "__main__":
    sys.exit(main())
