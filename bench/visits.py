"""Visits on a generated store day with known truth: sales joined rightly, tags, withdrawals, and the pace.

Members are scanned at the entrance, at the till or not at all; tills name the member, or do not; tills are offline and
send late; people pay twice, leave without buying, take their consent back, lend nobody their card; strangers pay at the
same tills in between, some right after a member who was scanned and did not buy. The real book of visits reads a real
journal, restarted now and then. Then a journal of mixed events is folded on one core.

    python -m bench.visits [--members 400] [--strangers 1200] [--events 50000] [--seed 1]
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec

from bench.figures import Figure, print_figures
from gateway.clock import FakeClock
from gateway.event import Draft
from gateway.shopper.visit_book import VisitBook
from gateway.shopper.visit_evidence import PROVES
from tests.gateway.shopper.shoppers import RULES
from tests.gateway.shopper.stepped_shop import Unwaited
from tests.gateway.shopper.visit_shop import VisitShop, key

JOIN, RATE = 0.98, 2000.0
DAY_S = 12 * 3600.0
TILLS = tuple(f"till-{number}" for number in range(1, 6))
GTINS = tuple(f"0690123456{number:03d}0" for number in range(40))
_TELL_OPENING = TILLS[:3]  # tills that say when a basket was opened
_FOLD_EVERY_S = 60.0


class Truth(msgspec.Struct):
    """What the day was."""

    sales: dict[str, str] = {}  # sale → member, of those who may be named
    visits: int = 0
    tags: dict[str, str] = {}  # tag → sale
    withdrawn: set[str] = set()


class Result(msgspec.Struct, frozen=True):
    """What the book made of it."""

    told: int
    found: int  # sales in the visit of the member who paid
    proved: int  # sales in visits where the till named the member on every one of them …
    proved_wrong: int
    guessed: int  # … and in visits with one that followed a scan
    guessed_wrong: int
    sales: int
    visits: int
    truth_visits: int
    tags: int
    tags_wrong: int
    tags_truth: int
    after_withdrawal: int
    corrected: int

    @property
    def recall(self) -> float:
        """Sales of members that are in the right visit."""
        return self.found / self.sales if self.sales else 1.0

    @property
    def precision(self) -> float:
        """Sales that the till named the member on, and that are that member's."""
        return 1 - self.proved_wrong / self.proved if self.proved else 1.0


class Day:
    """Makes the day's acts, each with the second it reaches the gateway."""

    def __init__(self, members: int, strangers: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.truth = Truth()
        self.acts: list[tuple[float, Callable[[VisitShop], Draft]]] = []
        self._number = 0
        self._free: dict[str, float] = dict.fromkeys(TILLS, 0.0)
        self._open: dict[str, float] = {}
        arrivals = [("stranger", self.dice.uniform(0, DAY_S)) for _ in range(strangers)]
        arrivals += [(f"m{n}", self.dice.uniform(600, DAY_S)) for n in range(members)]
        for who, at_s in sorted(arrivals, key=lambda it: it[1]):
            self._stranger(at_s) if who == "stranger" else self._member(who, at_s)
        self.acts.sort(key=lambda it: it[0])

    def _at(self, at_s: float, act: Callable[[VisitShop], Draft]) -> None:
        self.acts.append((at_s, act))

    def _till(self, at_s: float) -> tuple[str, float]:
        """The till that is free first, and when the sale is rung up there."""
        till = min(self._free, key=lambda name: self._free[name])
        begun_s = max(at_s, self._free[till]) + self.dice.uniform(3, 20)  # until the first article
        paid_s = begun_s + self.dice.uniform(20, 110)
        self._free[till] = paid_s
        self._open[till] = begun_s
        return till, paid_s

    def _stranger(self, at_s: float) -> None:
        till, paid_s = self._till(at_s)
        self._pay(None, till, paid_s, self._goods(paid_s, till, 0.3), 0.0)

    def _goods(self, paid_s: float, till: str, tagged: float) -> list[tuple[str, str]]:
        dice = self.dice
        goods: list[tuple[str, str]] = []
        for _ in range(dice.randint(1, 4)):
            gtin = dice.choice(GTINS)
            self._number += 1
            epc = f"urn:epc:id:sgtin:{self._number}" if dice.random() < tagged else ""
            if epc:
                if dice.random() < 0.2:
                    self._at(paid_s - dice.uniform(200, 500), lambda s, e=epc, g=gtin: s.tag(e, "fitting", g))  # type: ignore[misc]
                self._at(paid_s - dice.uniform(1, 40), lambda s, e=epc, g=gtin: s.tag(e, till, g))  # type: ignore[misc]
            goods.append((gtin, epc))
        return goods

    def _pay(self, who: str | None, till: str, paid_s: float, goods: list[tuple[str, str]], late_s: float) -> str:
        self._number += 1
        name = f"T{self._number}"
        self.truth.tags.update({epc: name for _, epc in goods if epc})
        gtins = [gtin for gtin, _ in goods]
        took_s = paid_s - self._open[till] if till in _TELL_OPENING else 0.0
        self._at(paid_s + late_s, lambda s: s.sale(name, who, zone=till, gtins=gtins, ago_s=late_s, took_s=took_s))
        return name

    def _member(self, who: str, at_s: float) -> None:
        dice, truth = self.dice, self.truth
        truth.visits += 1
        opened = dice.random()
        if opened < 0.3:
            self._at(at_s, lambda s: s.scan(who, "entrance", scheme="app"))
        stay_s = dice.uniform(180, 2200)
        if dice.random() < 0.5:
            self._at(at_s + 20, lambda s: s.beacon(who, "shoes"))
            self._at(at_s + stay_s * 0.6, lambda s: s.beacon(who, "shoes", left=True, dwell_s=stay_s * 0.6 - 20))
        if dice.random() < 0.04:
            gone_s = at_s + stay_s * 0.5
            if opened >= 0.3:
                self._at(at_s + 5, lambda s: s.scan(who, "shelf"))
            self._at(gone_s, lambda s: s.withdrawal(f"r-{who}"))
            truth.withdrawn.add(who)
            truth.visits -= 1
            return
        fate = dice.random()
        till, paid_s = self._till(at_s + stay_s)
        if fate < 0.08:  # looks up points at the till and goes without buying; the next may be a stranger
            self._at(paid_s, lambda s: s.scan(who, till))
            return
        late_s = dice.uniform(300, 2400) if dice.random() < 0.06 else dice.uniform(0, 3)
        for nth in range(2 if dice.random() < 0.06 else 1):
            if nth:
                till, paid_s = self._till(paid_s + dice.uniform(60, 600))
            scanned = opened < 0.3 or dice.random() < 0.6
            named = not scanned or opened < 0.3 or dice.random() < 0.85
            if scanned or not named:
                self._at(paid_s - dice.uniform(5, 20), lambda s, t=till: s.scan(who, t))  # type: ignore[misc]
            name = self._pay(who if named else None, till, paid_s, self._goods(paid_s, till, 0.7), late_s)
            truth.sales[name] = key(who)


def join(members: int, strangers: int, seed: int) -> Result:
    """Let a day happen and compare."""
    day = Day(members, strangers, seed)
    with tempfile.TemporaryDirectory(prefix="visits-") as folder:
        shop = VisitShop(Path(folder), FakeClock(), RULES)
        shop.open()
        start_s, folded_s = shop.clock.wall_s, 0.0
        waiting: list[Draft] = []
        for number, (at_s, act) in enumerate(day.acts):
            shop.clock.advance(max(0.0, start_s + at_s - shop.clock.wall_s))
            waiting.append(act(shop))
            if at_s - folded_s >= _FOLD_EVERY_S:
                folded_s = at_s
                shop.put(waiting)
                waiting.clear()
                if number % 1500 == 0:
                    shop.restart()
                shop.fold()
        shop.put(waiting)
        told = shop.after(120)
        shop.close()
    return _compare(told, day.truth)


def _compare(told: list[dict[str, Any]], truth: Truth) -> Result:
    last: dict[str, dict[str, Any]] = {visit["visit_id"].partition("-r")[0]: visit for visit in told}
    found = right_tags = wrong_tags = 0
    listed, wrong = [0, 0], [0, 0]
    for visit in last.values():
        whose = visit["shopper"]["day_key"]
        mine = set(visit.get("transaction_ids", ()))
        guess = "sale_after_scan" in visit["evidence"]
        for sale in mine:
            good = truth.sales.get(sale) == whose
            found, listed[guess], wrong[guess] = found + good, listed[guess] + 1, wrong[guess] + (not good)
        for epc in visit.get("epcs", ()):
            good = truth.tags.get(epc) in mine
            right_tags, wrong_tags = right_tags + good, wrong_tags + (not good)
    return Result(
        told=len(told), found=found, proved=listed[0], proved_wrong=wrong[0], guessed=listed[1],
        guessed_wrong=wrong[1], sales=len(truth.sales), visits=len(last), truth_visits=truth.visits,
        tags=right_tags, tags_wrong=wrong_tags,
        tags_truth=sum(1 for sale in truth.tags.values() if sale in truth.sales),
        after_withdrawal=sum(visit["shopper"]["day_key"] in {key(who) for who in truth.withdrawn} for visit in told),
        corrected=sum("supersedes" in visit for visit in told),
    )  # fmt: skip


class Direct:
    """Commits on the book's own thread: everything that folding costs is on one core."""

    is_open = True

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.news = Unwaited()

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        """See `CommitLoop.submit`."""
        return self._done(self._writer.transact(work))

    def record(self, work: Callable[[Any], Any]) -> Future[Any]:
        """See `CommitLoop.record`."""
        return self._done(self._writer.record(work)[0])

    def _done(self, value: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(value)
        return future


def pace(events: int, seed: int) -> float:
    """Events a second of one core, of a mix with a fifth about persons and most of the rest tags."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="visits-") as folder:
        shop = VisitShop(Path(folder), FakeClock(), RULES)
        shop.open()
        for start in range(0, events, 500):
            batch = []
            for n in range(start, min(start + 500, events)):
                shop.clock.advance(1 / 200)
                lot, who = dice.random(), f"m{dice.randrange(400)}"
                if lot < 0.7:
                    batch.append(
                        shop.tag(f"urn:epc:id:sgtin:{dice.randrange(9000)}", dice.choice(TILLS), GTINS[n % 40])
                    )
                elif lot < 0.8:
                    batch.append(shop.beacon(who, "shoes", left=lot < 0.75, dwell_s=5.0))
                elif lot < 0.9:
                    batch.append(shop.scan(who, dice.choice(TILLS)))
                else:
                    batch.append(shop.sale(f"T{n}", who if lot < 0.95 else None, zone=dice.choice(TILLS)))
            shop.put(batch)
        book = VisitBook(shop.desk, shop.path, Direct(shop.commits._writer), shop.origin, shop.clock)  # type: ignore[arg-type]
        ends = {stream: shop.commits._writer.head(stream) for stream in ("transactions", "observations")}
        began_s = time.process_time()
        while book._positions != ends:
            book.step(_NO_WAIT)
        took_s = time.process_time() - began_s
        book.close()
        shop.close()
    return events / took_s


class _NoWait:
    def wait(self, timeout: float | None = None) -> bool:
        """At once."""
        return False

    def is_set(self) -> bool:
        """Never."""
        return False


_NO_WAIT: Any = _NoWait()


def figures(result: Result, per_s: float) -> list[Figure]:
    """The lines of the table."""
    r = result
    return [
        Figure(
            "visits: sales of members in the right visit", f"≥ {JOIN}", "",
            f"{r.recall:.4f} ({r.found} of {r.sales})", r.recall >= JOIN,
        ),
        Figure(
            "visits: sales in a visit that are that member's", f"≥ {JOIN}", "",
            f"{r.precision:.4f} ({r.proved_wrong} of {r.proved} wrong)", r.precision >= JOIN,
        ),
        Figure(
            "visits: … where a sale only followed a scan", f"{PROVES['sale_after_scan']:.2f} is stated", "",
            f"{1 - r.guessed_wrong / max(1, r.guessed):.2f} ({r.guessed_wrong} of {r.guessed} wrong)", None,
        ),
        Figure("visits: told after a withdrawal", "0", "", str(r.after_withdrawal), r.after_withdrawal == 0),
        Figure("visits: told / happened", "", "", f"{r.visits} / {r.truth_visits} ({r.corrected} corrections)", None),
        Figure(
            "visits: tags with the right sale", "", "",
            f"{r.tags} of {r.tags_truth}, {r.tags_wrong} with a wrong one", None,
        ),
        Figure("visits: events folded a second, one core", f"≥ {RATE:.0f}", "", f"{per_s:.0f}", per_s >= RATE),
    ]  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--members", type=int, default=400)
    parser.add_argument("--strangers", type=int, default=1200)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    found = figures(join(given.members, given.strangers, given.seed), pace(given.events, given.seed))
    print_figures(found)
    print(json.dumps({"figures": [one.as_json() for one in found]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
