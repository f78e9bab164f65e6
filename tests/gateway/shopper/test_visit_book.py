"""The book of visits on a real journal: once each, whatever dies; withdrawals, erasures and losses of its tables."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.event import Draft
from gateway.event_types import Shopper
from gateway.journal.erasure import erase_rows, rows_of
from gateway.journal.reader import JournalReader
from gateway.shopper.consent import Consents, Purpose, Terms
from gateway.shopper.hints import Hint
from gateway.shopper.identifiers import Identifier
from gateway.shopper.visit_book import SUBJECTS, VisitBook, VisitDesk
from tests.gateway.shopper.stepped_shop import AT_ONCE
from tests.gateway.shopper.visit_shop import VisitShop, key


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[VisitShop]:
    made = VisitShop(tmp_path)
    made.open()
    yield made
    made.close()


def rows(shop: VisitShop, sql: str) -> list[Any]:
    with JournalReader(shop.path) as reader:
        return [tuple(row) for row in reader.query(sql)]


def test_a_shop_without_visits_is_begun_once_and_not_at_every_step(shop: VisitShop) -> None:
    """What begins a book reads thousands of events and writes; nobody being there is no reason to do it again."""
    shop.fold()
    machine = shop.desk.machine
    assert machine is not None and machine.followed == 0
    shop.fold(3)
    assert shop.desk.machine is machine


def test_a_visit_is_told_into_the_journal_with_its_evidence_and_the_consent_it_rests_on(shop: VisitShop) -> None:
    shop.put([shop.beacon("a", "shoes")])
    shop.clock.advance(300)
    shop.put([shop.beacon("a", "shoes", left=True, dwell_s=300.0), shop.tag("urn:epc:id:sgtin:1", "till-1")])
    shop.put([shop.scan("a", sealed="p1.x"), shop.sale("T1", "a")])
    shop.fold()
    assert shop.told() == []
    (visit,) = shop.after(17)
    assert visit["transaction_ids"] == ["T1"] and visit["epcs"] == ["urn:epc:id:sgtin:1"]
    assert visit["zones"] == [{"zone": "shoes", "dwell_s": 300.0}]
    assert visit["shopper"] == {"day_key": key("a"), "sealed": "p1.x"}
    with JournalReader(shop.path) as reader:
        event = reader.read("measurements", 0)[-1].decode()
    assert event["consentref"] == "r-a" and event["time"] == visit["left_at"]
    assert shop.after(60) == [visit]


def test_a_restart_in_the_middle_forgets_nothing_and_repeats_nothing(shop: VisitShop) -> None:
    shop.put([shop.tag("urn:epc:id:sgtin:1", "till-1"), shop.scan("a")])
    shop.fold()
    shop.restart()
    shop.put([shop.sale("T1", "a")])
    shop.fold()
    shop.restart()
    (visit,) = shop.after(17)
    assert visit["transaction_ids"] == ["T1"] and visit["epcs"]
    shop.restart()
    shop.put([shop.sale("T2", "a", ago_s=16 * 60)])
    shop.fold()
    shop.restart()
    first, corrected = shop.after(2)
    assert corrected["supersedes"] == first["visit_id"] and corrected["transaction_ids"] == ["T1", "T2"]


class Dying:
    """A commit loop at which the process dies, before or after the commit, when a die says so."""

    def __init__(self, inner: Any, dice: random.Random) -> None:
        self._inner, self._dice = inner, dice
        self.news = inner.news
        self.deaths = 0

    @property
    def is_open(self) -> bool:
        return True

    def submit(self, work: Callable[[sqlite3.Connection], Any]) -> Future[Any]:
        return self._die(self._inner.submit, work)

    def record(self, work: Callable[[sqlite3.Connection], tuple[Any, Sequence[Draft]]]) -> Future[Any]:
        return self._die(self._inner.record, work)

    def _die(self, hand_in: Callable[[Any], Future[Any]], work: Any) -> Future[Any]:
        lot = self._dice.random()
        if lot < 0.15:
            self.deaths += 1
            raise Unavailable("die", "process", "before the commit")
        future = hand_in(work)
        if lot < 0.3:
            future.result(30)
            self.deaths += 1
            raise Unavailable("die", "process", "after the commit")
        return future


@pytest.mark.parametrize("seed", range(3))
def test_dying_before_or_after_any_commit_each_visit_is_told_exactly_once(tmp_path: Path, seed: int) -> None:
    def run(name: str, deadly: bool) -> list[dict[str, Any]]:
        (tmp_path / name).mkdir()
        shop = VisitShop(tmp_path / name, FakeClock())
        shop.open()
        dice, fates = random.Random(seed), random.Random(seed + 1)
        dying = Dying(shop.commits, fates)
        for number in range(40):
            who = f"m{dice.randrange(8)}"
            if deadly:  # nothing of the last process is left
                shop.book.close()
                shop.desk = VisitDesk(shop.rules, shop.desk.recognition)
                shop.book = VisitBook(shop.desk, shop.path, dying, shop.origin, shop.clock)  # type: ignore[arg-type]
            lot = dice.random()
            shop.put([shop.scan(who) if lot < 0.4 else shop.sale(f"T{number}", who)])
            try:
                shop.fold(2)
            except Unavailable:
                assert deadly
            shop.clock.advance(dice.uniform(30, 600))
        shop.restart()
        told = shop.after(300)
        shop.close()
        assert not deadly or dying.deaths > 5
        return told

    def net(told: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
        """The last word on each visit: its sales."""
        return {it["visit_id"].partition("-r")[0]: tuple(sorted(it.get("transaction_ids", ()))) for it in told}

    calm, deadly = run("calm", False), run("deadly", True)
    ids = [visit["visit_id"] for visit in deadly]
    assert len(ids) == len(set(ids))
    sold = [name for sales in net(deadly).values() for name in sales]
    assert len(sold) == len(set(sold)) and sorted(sold) == sorted(n for sales in net(calm).values() for n in sales)


def test_what_a_person_takes_back_at_the_page_or_the_till_drops_the_visit(shop: VisitShop) -> None:
    shop.put([shop.scan("a"), shop.scan("b"), shop.scan("c", zone="till-2")])
    shop.fold()
    shop.desk.withdrawn(b"person", key("a"), ["visits", "offers"])
    shop.put([shop.withdrawal("r-b")])
    (visit,) = shop.after(60)
    assert visit["shopper"]["day_key"] == key("c")
    assert shop.desk.counts()["visits_withdrawn"] == 2
    assert {word for _, word in rows(shop, "SELECT case_id, word FROM visit_subject")} == {key("c"), "r-c"}


def test_what_was_said_before_a_withdrawal_opens_nothing_after_it(shop: VisitShop) -> None:
    shop.fold()
    shop.put([shop.scan("a")])
    shop.desk.withdrawn(b"person", key("a"), ["visits"])
    shop.clock.advance(1)
    assert shop.after(60) == []
    shop.clock.advance(1)
    shop.put([shop.scan("a")])  # agreed anew
    shop.fold()
    assert len(shop.after(60)) == 1


def test_what_an_act_has_joined_is_one_visit_also_after_restarts_and_is_dropped_with_either_key(
    shop: VisitShop,
) -> None:
    shop.put([shop.scan("a"), shop.link("a", "b")])
    shop.fold()
    shop.restart()
    shop.put([shop.sale("T1", "b")])
    (visit,) = shop.after(20)
    assert visit["transaction_ids"] == ["T1"]
    assert visit["shopper"] == {"day_key": key("a"), "sealed": "p1.a"}, "one identifier, key and seal together"
    shop.restart()
    shop.clock.advance(3600)
    shop.put([shop.scan("b")])
    shop.fold()
    assert {(key("a"),), (key("b"),)} <= set(rows(shop, "SELECT word FROM visit_subject"))
    shop.desk.withdrawn(b"person", key("a"), ["visits"])
    assert shop.after(60) == [visit], "the second visit of the day went by both keys, too"


@pytest.fixture
def consents(shop: VisitShop) -> Iterator[Consents]:
    made = Consents(shop.path, shop.commits, shop.path.with_name("consent.key"))
    shop.ended = lambda record: made.ended(record, shop.clock.wall_s)
    yield made
    made.close()


def agree(shop: VisitShop, consents: Consents, who: str, purpose: Purpose, minutes: float, record: str = "") -> None:
    now_ms = int(shop.clock.wall_s * 1000)
    terms = Terms(record=record or f"r-{who}")
    expires_ms = now_ms + round(minutes * 60_000)
    with shop.committing():
        consents.grant(Identifier("member", who), [purpose], now_ms, expires_ms, terms, now_ms)


def test_a_consent_that_expires_while_the_visit_is_open_drops_what_it_allowed(
    shop: VisitShop, consents: Consents
) -> None:
    for who, visits_min, matching_min in (("a", 10, 500), ("b", 500, 10), ("c", 500, 500)):
        agree(shop, consents, who, "visits", visits_min)
        agree(shop, consents, who, "matching", matching_min)
        shop.put([shop.scan(who, zone=f"till-{who}", sealed=f"p1.{who}")])
    shop.fold()
    assert shop.desk.machine is not None and shop.desk.machine.open == 3
    assert shop.after(11) == [] and shop.desk.machine.open == 2
    assert not [row for row in rows(shop, "SELECT word FROM visit_subject") if row[0] in ("p1.b", "p1.a", key("a"))]
    told = {visit["shopper"]["day_key"]: visit["shopper"].get("sealed") for visit in shop.after(60)}
    assert told == {key("b"): None, key("c"): "p1.c"}


def test_a_consent_renewed_meanwhile_keeps_the_visit_and_one_shared_by_all_says_nothing_of_one(
    shop: VisitShop, consents: Consents
) -> None:
    agree(shop, consents, "a", "visits", 10)
    shop.put([shop.scan("a")])
    shop.clock.advance(300)
    agree(shop, consents, "a", "visits", 500, "r-a2")
    agree(shop, consents, "b", "visits", 5, "all")
    agree(shop, consents, "c", "visits", 500, "all")
    shop.put([shop.scan(who, zone=f"till-{who}", consent="all") for who in "bc"])
    assert len(shop.after(60)) == 3


@pytest.mark.parametrize("purpose", ["visits", "matching"])
def test_a_withdrawal_that_overtakes_its_scan_counts_although_everything_in_memory_was_lost(
    shop: VisitShop, consents: Consents, purpose: Purpose
) -> None:
    """The scan was accepted and not read yet, the withdrawal kept and not journalled yet, when the process died."""
    agree(shop, consents, "a", "matching", 500, "r-a")
    agree(shop, consents, "a", "visits", 500, "r-other")
    shop.put([shop.scan("a", sealed="p1.a")])
    now_ms = int(shop.clock.wall_s * 1000)
    with shop.committing():
        consents.withdraw(Identifier("member", "a"), [purpose], None, now_ms)
    shop.restart()
    shop.put([shop.sale("T1", "a")])
    told = [visit["shopper"] for visit in shop.after(60)]
    assert told == ([] if purpose == "visits" else [{"day_key": key("a")}])
    assert shop.desk.counts()["visits_withdrawn"] == 1 - len(told)


def test_what_was_sealed_before_the_consent_to_match_was_taken_back_and_is_read_after_it_stays_out(
    shop: VisitShop, consents: Consents
) -> None:
    agree(shop, consents, "a", "matching", 500)
    shop.fold()
    shop.put([shop.scan("a", sealed="p1.a")])
    with shop.committing():
        consents.withdraw(Identifier("member", "a"), ["matching"], None, int(shop.clock.wall_s * 1000))
    shop.desk.withdrawn(b"person", key("a"), ["matching"])
    (visit,) = shop.after(60)
    assert visit["shopper"] == {"day_key": key("a")}


def test_an_erasure_leaves_nothing_of_the_person_in_memory_or_in_the_tables(shop: VisitShop) -> None:
    shop.put([shop.scan("a", sealed="p1.secret"), shop.scan("b", zone="till-2")])
    shop.fold()

    def matches(word: str) -> bool:
        return word == "p1.secret"

    shop.desk.erased(matches)
    found = shop.commits._writer.transact(lambda connection: rows_of(connection, SUBJECTS[0], None, matches)[1])
    assert shop.commits._writer.transact(lambda connection: erase_rows(connection, SUBJECTS[0], found)) == 1
    shop.fold()
    (visit,) = shop.after(60)
    assert visit["shopper"]["day_key"] == key("b")
    assert b"p1.secret" not in b"".join(row[0] for row in rows(shop, "SELECT body FROM visit_case"))


def test_an_erasure_of_what_only_the_table_holds_takes_the_whole_visit(shop: VisitShop) -> None:
    shop.put([shop.scan("a")])
    shop.fold()
    shop.restart()
    found = shop.commits._writer.transact(lambda it: rows_of(it, SUBJECTS[0], None, key("a").__eq__)[1])
    shop.commits._writer.transact(lambda it: erase_rows(it, SUBJECTS[0], found))
    assert rows(shop, "SELECT id FROM visit_case") == []


def test_where_the_tables_are_lost_what_the_journal_tells_is_not_told_again(shop: VisitShop) -> None:
    shop.put([shop.scan("a"), shop.sale("T1", "a")])
    shop.fold()
    assert len(shop.after(20)) == 1
    shop.put([shop.scan("b")])
    shop.fold()
    shop.restart()
    for table in ("visit_case", "visit_subject", "visit_place"):
        shop.commits._writer.transact(lambda it, table=table: it.execute(f"DROP TABLE {table}"))
    told = shop.after(60)
    assert [visit["shopper"]["day_key"] for visit in told] == [key("a"), key("b")]
    shop.put([shop.sale("T9", "a", ago_s=70 * 60)])
    shop.fold()
    late = shop.after(2)[2:]
    assert [it["supersedes"] for it in late] in ([], [told[0]["visit_id"]])


def test_a_box_that_was_off_over_night_closes_what_was_open_at_its_own_time(tmp_path: Path) -> None:
    clock = FakeClock()
    shop = VisitShop(tmp_path, clock)
    shop.open()
    shop.put([shop.scan("a"), shop.sale("T1", "a")])
    shop.fold()
    left_at = clock.wall_s
    shop.restart()
    (visit,) = shop.after(600)
    shop.close()
    assert visit["left_at"].startswith(FakeClock(left_at).now().wall_at.strftime("%Y-%m-%dT%H:%M:%S"))


def test_staff_see_a_guest_from_the_scan_to_the_end_of_the_visit_and_again_after_a_restart(shop: VisitShop) -> None:
    shop.fold()
    recognition = shop.desk.recognition
    hint = Hint(group="g", text="大衣到货", tier="gold", expires_ms=int(shop.clock.wall_s * 1000) + 86_400_000)
    shop.commits._writer.transact(lambda it: recognition.keep(it, [(b"p" * 16, "r-a")], hint))
    recognition.named(b"p" * 16, key("a"))
    shop.put([shop.scan("a"), shop.scan("b", zone="till-2")])
    shop.fold()
    (guest,) = recognition.guests()
    assert (guest.lane, guest.text, guest.tier) == ("till-1", "大衣到货", "gold")
    shop.restart()
    shop.fold()
    assert [it.visit for it in shop.desk.recognition.guests()] == [guest.visit]
    shop.put([shop.scan("a", zone="fitting")])
    shop.fold()
    assert [it.lane for it in shop.desk.recognition.guests()] == ["fitting"]
    shop.after(60)
    assert shop.desk.recognition.guests() == []
    assert [(it.lane, it.here) for it in shop.desk.recognition.notices()] == [
        ("till-1", True), ("till-1", False), ("fitting", True), ("fitting", False),
    ]  # fmt: skip


def test_nobody_is_announced_who_was_here_an_hour_ago(shop: VisitShop) -> None:
    shop.fold()
    hint = Hint(group="g", text="t", expires_ms=int(shop.clock.wall_s * 1000) + 86_400_000)
    shop.commits._writer.transact(lambda it: shop.desk.recognition.keep(it, [(b"p" * 16, "")], hint))
    shop.desk.recognition.named(b"p" * 16, key("a"))
    shop.put([shop.sale("T1", "a", ago_s=3600)])
    shop.fold()
    assert shop.desk.recognition.guests() == []


def test_events_that_cannot_be_read_and_day_keys_without_a_consent_make_no_visit(shop: VisitShop) -> None:
    from gateway.event_types import InteractionScanned

    shop.put([shop.event(InteractionScanned(scanner="s", shopper=Shopper(sealed="p1.x")))])
    shop.put([Draft("transactions", "store.pos.sale.v1", b'{"type":"store.pos.sale.v1","data":[]}')])
    shop.fold()
    assert shop.after(60) == [] and AT_ONCE.wait(0) is False
