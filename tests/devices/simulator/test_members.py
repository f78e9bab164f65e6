"""The shop's members, what the till says for them, and the web shop's files about them."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config.loader import DEMO, load
from devices.driver import Message
from devices.plan import plan
from devices.simulator import web_shop
from devices.simulator.checkout import ANSWERS, QUESTIONS, SALES, Checkout
from devices.simulator.goods import GROCERIES
from devices.simulator.ledger import Ledger
from devices.simulator.members import Club, Coupon, Habit, Member
from devices.simulator.shop import Entry, Paid
from gateway.clock import FakeClock
from gateway.intake.reading import ConsentAct, Feedback, Points, Sale
from sync.platform.history import import_lines, spelling
from sync.platform.profile_book import ProfileBook
from sync.platform.vault import Vault

NOW = datetime(2026, 11, 22, 4, tzinfo=UTC)


def member(club: Club, habit: Habit) -> Member:
    return next(it for it in club.members if it.habit == habit)


class Lane:
    """A checkout with its topics: what was said, and a gateway that answers coupons as it is told to."""

    def __init__(self) -> None:
        self.said: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.order: list[str] = []
        self.answer: bytes | None = None
        self.full = False
        self.club, self.ledger = Club(3, 0.0), Ledger()
        numbers = iter(range(1, 99))
        self.till = Checkout(
            self._tell, lambda topic: self.answer if topic == ANSWERS else None, self.club, self.ledger,
            lambda: str(next(numbers)), "b1", 5, lambda: NOW,
        )  # fmt: skip

    def _tell(self, topic: str, payload: bytes) -> bool:
        if self.full:
            return False
        self.said[topic].append(json.loads(payload))
        self.order.append(
            next(iter({"consent", "lines", "programme", "question", "operation"} & json.loads(payload).keys()))
        )
        return True

    def pays(self, who: Member | None, price: str = "100.00") -> None:
        article = msgspec.structs.replace(GROCERIES[0], price=Decimal(price))
        entries = (Entry(article, 1, Decimal(0)),)
        self.till.pay(
            Paid(at_s=0.0, till=1, entries=entries, coupon=None, coupon_off=Decimal(0), tender="card", member=who)
        )

    def told(self, **words: Any) -> None:
        number = self.said[QUESTIONS][-1]["request"]
        self.answer = json.dumps({"request": number, "retry": False, **words}).encode()

    def sales(self) -> list[dict[str, Any]]:
        return [it for it in self.said[SALES] if "lines" in it]


def test_numbers_are_of_one_run_and_name_nobody_of_another() -> None:
    """Two runs share no number; the same run and seed are the same members."""
    first, again, later = (Club(1, run_s).members for run_s in (1000.0, 1000.0, 2000.0))
    assert first == again
    assert not {it.number for it in first} & {it.number for it in later}
    assert all(len(it.number) == 13 and it.number.startswith("2") for it in first)


def test_a_member_agrees_before_the_first_sale_and_only_who_changes_their_mind_withdraws() -> None:
    """The consent goes before the sale, with the card and the app; who refuses is asked once and never named."""
    lane = Lane()
    regrets, refuses = member(lane.club, "changes_mind"), member(lane.club, "refuses")
    for _ in range(4):
        lane.pays(regrets)
        lane.pays(refuses)
    lane.till.step(1.0)
    consents = [(it["consent"], it["member_scheme"]) for it in lane.said[SALES] if "consent" in it]
    assert consents == [(step, scheme) for step in ("granted", "withdrawn") for scheme in ("member", "app")]
    assert lane.order[:3] == ["consent", "consent", "lines"]
    named = [due.named for due in lane.club.sales.values() if due.member == regrets.number]
    assert named == [True, True, False, False]
    assert not any(due.named for due in lane.club.sales.values() if due.member == refuses.number)
    assert lane.club.points == 8 and len(lane.ledger.sales) == 8


def test_what_the_till_says_is_what_its_driver_reads() -> None:
    """Every message becomes the reading that it stands for."""
    lane = Lane()
    for _ in range(30):
        lane.pays(member(lane.club, "agrees"))
    lane.till.step(1.0)
    driver = next(each for each in plan(load(DEMO), "demo.toml") if each.name == "till-1").make()
    readings = [
        reading
        for words in lane.said[SALES]
        for reading in driver.feed(Message(SALES, json.dumps(words).encode(), retained=False), FakeClock().now())
    ]
    assert {type(it) for it in readings} == {Sale, ConsentAct, Points, Feedback}
    assert all(it.scale == "nps" for it in readings if isinstance(it, Feedback))


def test_a_coupon_is_held_taken_off_and_confirmed_and_the_line_waits_meanwhile() -> None:
    """The sale comes after the answer, cheaper by the face value, and names the coupon."""
    lane = Lane()
    who = member(lane.club, "agrees")
    lane.club.give(who.number, Coupon("SFC1X", Decimal("10.00")))
    lane.pays(who)
    lane.pays(None)
    lane.till.step(1.0)
    lane.till.step(1.5)
    assert lane.sales() == [] and lane.said[QUESTIONS][0]["operation"] == "reserve"
    lane.told(ok=True, reason="reserved", coupon="C1", face="10.00", reservation="r1")
    lane.till.step(1.6)
    first, second = lane.sales()
    assert (first["totals"]["net"], first["coupons"]) == ("90.00", ["C1"]) and second["coupons"] == []
    assert lane.said[QUESTIONS][-1] | {"request": ""} == {
        "v": 1, "request": "", "operation": "confirm", "reservation": "r1", "transaction": first["transaction_id"][-1]
    }  # fmt: skip
    assert lane.club.redeemed == {"C1": ("till-1", "1")}


def test_a_refused_coupon_is_not_taken_off_and_an_unanswered_question_is_asked_again_and_given_up() -> None:
    """The same number each time; then the sale goes on, and for a while nobody is asked."""
    lane = Lane()
    who = member(lane.club, "agrees")
    for _ in range(3):
        lane.club.give(who.number, Coupon("SFC1X", Decimal("10.00")))
    lane.pays(who)
    lane.till.step(1.0)
    lane.told(ok=False, reason="used_up")
    lane.till.step(1.1)
    assert lane.sales()[0]["coupons"] == [] and lane.club.redeemed == {}
    lane.pays(who)
    for at_s in (2.0, 3.1, 4.2, 5.3):
        lane.till.step(at_s)
    asked = [it["request"] for it in lane.said[QUESTIONS][1:]]
    assert asked == [asked[0]] * 3 and len(lane.sales()) == 2
    lane.pays(who)
    lane.till.step(5.4)
    assert len(lane.sales()) == 3 and len(lane.said[QUESTIONS]) == 4


def test_a_full_outbox_sells_nothing_on_paper_that_was_not_told() -> None:
    """Neither sale nor consent is in the books then."""
    lane = Lane()
    lane.full = True
    lane.pays(member(lane.club, "agrees"))
    lane.till.finish(1.0)
    assert (lane.ledger.sales, lane.club.sales, lane.club.consents, lane.club.points) == ({}, {}, 0, 0)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_web_shops_files_are_imported_without_a_refused_row_and_twice_changes_nothing(
    tmp_path: Path, seed: int
) -> None:
    """Who refuses in the shop has agreed to nothing online."""
    club = Club(seed, 5_000.0)
    files = web_shop.files(club.members, seed, NOW)
    vault = Vault(tmp_path / "vault.key")
    vault.open()
    book = ProfileBook(tmp_path / "book.db", vault, durable=False)
    book.open()
    for known in (False, True):
        for name, text in files.items():
            done = import_lines(book, text.splitlines(keepends=True), spelling("CN"), name)
            assert done.problems == () and done.refused == 0 and done.rows > 40, name
            assert (done.known if known else done.taken) == done.rows
    book.close()
    refusing = [it.number for it in club.members if it.habit == "refuses"]
    assert refusing and not any(number in files["consents.csv"] for number in refusing)
