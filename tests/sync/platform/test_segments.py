"""Segments and campaigns: stated thresholds, no small groups, a model tested on days it has not seen."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from gateway.errors import Unavailable
from gateway.event_types import CouponRedeemed, CouponReserved
from sync.platform.campaigns import funnels, repeat
from sync.platform.history import import_lines
from sync.platform.segments import Purchase, churn, clusters, purchases, rfm
from tests.sync.platform.platform_parts import DAY_S, T0, World, shopper
from tests.sync.platform.test_history import as_written

DAY_MS = 86_400_000
NOW_MS = 200 * DAY_MS


def people(count: int, seed: int = 1) -> dict[str, list[Purchase]]:
    """Persons with a rhythm of their own, of whom every third stops at some day."""
    dice = Random(seed)
    found = {}
    for n in range(count):
        gap, day, mine = dice.uniform(3, 25), dice.uniform(0, 30), list[Purchase]()
        end = dice.uniform(60, 200) if n % 3 == 0 else 200
        while day < end:
            mine.append(Purchase(int(day * DAY_MS), dice.uniform(5, 50), dice.random() < 0.3))
            day += dice.expovariate(1 / gap) + 0.1
        if mine:
            found[f"p{n}"] = mine
    return found


def test_fifths_have_stated_thresholds_and_the_best_is_five() -> None:
    bought = {f"p{n}": [Purchase(NOW_MS - n * DAY_MS, 1.0, False)] * (20 - n) for n in range(20)}
    report = rfm(bought, NOW_MS)
    assert len(report.recency_days) == len(report.frequency) == len(report.money) == 4
    best, worst = report.persons[0], report.persons[-1]
    assert (best.key, best.scores, best.segment) == ("p0", (5, 5, 5), "champions")
    assert (worst.scores, worst.segment) == ((1, 1, 1), "lost")


def test_a_segment_of_fewer_than_five_is_not_told_apart() -> None:
    report = rfm({f"p{n}": [Purchase(NOW_MS - n * 50 * DAY_MS, 1.0, False)] for n in range(4)}, NOW_MS)
    assert set(report.sizes) <= {"other"}
    assert rfm({}, NOW_MS).persons == ()


def test_the_churn_model_beats_the_base_rate_on_days_it_has_not_seen() -> None:
    pytest.importorskip("sklearn")
    for model in ("logistic", "boosting"):
        report = churn(people(400), NOW_MS, model=model)
        assert report.auc > 0.75 and report.brier < report.brier_base
        assert len(report.calibration) == 5 and sum(it.persons for it in report.calibration) == report.tested_on
        assert all(0 <= risk <= 1 for _, risk in report.risks) and len(report.risks) == 400


def test_noise_is_not_learned() -> None:
    pytest.importorskip("sklearn")
    dice = Random(3)
    bought = {
        f"p{n}": [Purchase(d * DAY_MS, 9.0, False) for d in range(200) if dice.random() < 0.03] for n in range(500)
    }
    assert churn({key: mine for key, mine in bought.items() if mine}, NOW_MS).auc < 0.65


def test_too_few_persons_are_said_and_not_guessed() -> None:
    pytest.importorskip("sklearn")
    with pytest.raises(Unavailable, match="100 persons"):
        churn(people(20), NOW_MS)
    assert clusters(people(10), NOW_MS) == ()


def test_clusters_hold_everybody_who_is_not_in_a_small_one() -> None:
    pytest.importorskip("sklearn")
    found = clusters(people(300), NOW_MS)
    assert 2 <= len(found) <= 4 and sum(it.persons for it in found) > 280


def test_coupons_are_followed_from_issue_to_redemption(tmp_path: Path) -> None:
    world = World(tmp_path)
    text = "coupon,issued_at,campaign,channel,member\n" + "".join(
        f"K{n},2026-11-20T09:00:00+08:00,spring,{'sms' if n % 2 else 'app'},A{n}\n" for n in range(4)
    )
    import_lines(world.book, text.splitlines(True), as_written, "f.csv")
    for n in (0, 1):
        world.log.add(CouponReserved(coupon=f"K{n}", campaign="spring"), T0)
    world.log.add(CouponRedeemed(coupon="K0", campaign="spring"), T0 + 1)
    world.log.add(CouponRedeemed(coupon="foreign", campaign="other", channel="print"), T0 + 1)
    world.fold.catch_up()
    assert [(it.campaign, it.channel, it.issued, it.presented, it.redeemed) for it in funnels(world.book)] == [
        ("spring", "app", 2, 1, 1),
        ("spring", "sms", 2, 1, 0),
        ("other", "print", 0, 1, 1),
    ]
    world.close()


def test_purchases_are_those_of_people_who_agreed(tmp_path: Path) -> None:
    world = World(tmp_path)
    ann, ben = shopper("member", "A1"), shopper("member", "B2")
    world.agrees(ann)
    for n in range(3):
        world.sells(f"s{n}", T0 + n * DAY_S, who=ann, net="5.00")
    world.sells("s9", T0, who=ben)
    world.fold.catch_up()
    bought = purchases(world.book, round(world.now_s * 1000))
    assert [[it.amount for it in mine] for mine in bought.values()] == [[5.0, 5.0, 5.0]]
    assert (repeat(bought).persons, repeat(bought).share) == (1, None)
    world.close()
