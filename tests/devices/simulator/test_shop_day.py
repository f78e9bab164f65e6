"""The shop as pure simulation, and its goods."""

from __future__ import annotations

import itertools
from collections import Counter
from decimal import Decimal

import pytest

from devices.simulator import day
from devices.simulator.goods import GARMENTS, GROCERIES, with_check_digit
from devices.simulator.members import Club
from devices.simulator.shop import CHECKOUT, SHELF, Act, AppShown, Closed, Entered, Left, Near, Paid, Scanned, Shop
from gateway.intake.epc import decode


def one_day(seed: int) -> list[Act]:
    members = Club(seed, 0.0).members
    return list(itertools.takewhile(lambda act: act.at_s <= day.DAY_S, Shop(seed, members=members).acts()))


def test_the_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    """Chance is the seed's alone."""
    assert one_day(5) == one_day(5)
    assert one_day(5) != one_day(6)


def test_acts_come_in_order_and_the_shop_goes_on_for_days() -> None:
    """Time never runs backwards, and a day follows the other."""
    acts = list(itertools.takewhile(lambda act: act.at_s <= 3 * day.DAY_S, Shop(2, visitors=200).acts()))
    assert all(first.at_s <= second.at_s for first, second in itertools.pairwise(acts))
    assert [act.day for act in acts if isinstance(act, Closed)] == [1, 2, 3]


def test_the_hours_of_visitors_follow_the_street() -> None:
    """Over many days every hour has its share of the visitors, within chance."""
    entered = [act for seed in range(8) for act in one_day(seed) if isinstance(act, Entered)]
    for hour, share in enumerate(day.VISITORS_BY_HOUR):
        here = sum(act.at_s // 3600 == hour for act in entered)
        assert here / len(entered) == pytest.approx(share, abs=0.012)


def test_shares_are_shares() -> None:
    """Every baked distribution adds up to one, within rounding."""
    for shares in (day.VISITORS_BY_HOUR, day.BASKETS_BY_HOUR, day.BASKET_LINES):
        assert sum(shares) == pytest.approx(1.0, abs=0.005)


def test_about_as_many_buy_and_bring_coupons_as_the_facts_say() -> None:
    """Conversion is what is assumed, and coupons are as rare as in the data (small baskets take none)."""
    acts = [act for seed in range(8) for act in one_day(seed)]
    paid = [act for act in acts if isinstance(act, Paid)]
    visitors = sum(isinstance(act, Entered) for act in acts)
    assert len(paid) / visitors == pytest.approx(day.ASSUMED_CONVERSION, abs=0.03)
    assert 0.5 * day.COUPON_SHARE < sum(act.coupon is not None for act in paid) / len(paid) <= 1.3 * day.COUPON_SHARE


def test_a_basket_is_worth_what_its_lines_say() -> None:
    """Net is lines minus discounts minus coupon, in whole cents, and never nothing."""
    for act in one_day(3):
        if isinstance(act, Paid):
            total = sum((entry.article.price * entry.quantity - entry.off for entry in act.entries), Decimal(0))
            assert act.net == total - act.coupon_off > 0
            assert act.net == act.net.quantize(Decimal("0.01"))


def test_a_tag_comes_to_each_place_once_and_only_what_was_paid_goes_through_the_gate() -> None:
    """No piece is sold twice or carried past the till; all come from the shelf, and what is paid lay there."""
    acts = one_day(4)
    near = [(act.reader, act.epc) for act in acts if isinstance(act, Near)]
    places = [(act.reader, act.antenna, act.epc) for act in acts if isinstance(act, Near)]
    assert len(places) == len(set(places))
    way = {epc: [antenna for _, antenna, it in places if it == epc] for _, _, epc in places}
    gone = {epc for reader, epc in near if reader == "gate"}
    assert gone and all(way[epc][0] == SHELF and way[epc][-2:] == [CHECKOUT, 1] for epc in gone)
    paid = {epc for act in acts if isinstance(act, Paid) for entry in act.entries for epc in entry.epcs}
    assert {epc for reader, epc in near if reader == "gate"} <= paid


def test_nobody_leaves_who_did_not_come() -> None:
    """At no time have more people left than entered."""
    inside = 0
    for act in one_day(9):
        inside += isinstance(act, Entered) - isinstance(act, Left)
        assert inside >= 0


@pytest.mark.parametrize("article", GARMENTS + GROCERIES)
def test_numbers_are_right_and_belong_to_nobody(article: object) -> None:
    """Every GTIN has its check digit and GS1's prefix for demonstrations, and a tag tells its GTIN and serial."""
    gtin = article.gtin13  # type: ignore[attr-defined]
    assert gtin.startswith("952")
    assert with_check_digit(gtin[:-1]) == gtin
    epc = decode(article.epc(274_877_906_943))  # type: ignore[attr-defined]  # the largest serial
    assert (epc.gtin, epc.serial) == ("0" + gtin, "274877906943")


def test_check_digits_are_those_of_published_examples() -> None:
    """GS1 General Specifications, figure 7.9.1-1: 629104150021 → 3; the GTIN 4006381333931."""
    assert with_check_digit("629104150021") == "6291041500213"
    assert with_check_digit("400638133393") == "4006381333931"


def test_members_show_the_card_only_where_members_are_known_and_the_app_at_the_door() -> None:
    """A sale's member is the one whose card was scanned; without members nobody is one."""
    acts = one_day(2)
    sold = [act.member.number for act in acts if isinstance(act, Paid) and act.member is not None]
    shown = [act.text for act in acts if isinstance(act, Scanned) and act.aim == "]C0"]
    assert sold and Counter(sold) <= Counter(shown)
    assert all(act.till == 1 for act in acts if isinstance(act, Paid) and act.member is not None)
    assert any(isinstance(act, AppShown) for act in acts)
    alone = list(itertools.takewhile(lambda act: act.at_s <= day.DAY_S, Shop(2).acts()))
    assert not any(isinstance(act, AppShown) or (isinstance(act, Paid) and act.member) for act in alone)


def test_scans_are_of_every_kind() -> None:
    """EAN, GS1 DataMatrix, Digital Link, coupon and member code all occur."""
    aims = {act.aim for seed in range(3) for act in one_day(seed) if isinstance(act, Scanned)}
    assert aims == {"]E0", "]d2", "]Q1", "]C1", "]C0"}
