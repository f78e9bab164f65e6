"""Consent: the newest word of a person counts, whatever the order in which words arrive, and survives a start."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.shopper.consent import Terms
from gateway.shopper.identifiers import Identifier
from tests.gateway.shopper.conftest import Shop

ADA = Identifier("member", "A-1")
DAY_S = 86_400.0
NUMBERS = itertools.count()


def give(shop: Shop, who: Identifier, at_s: float, *purposes: Any, days: float = 30, record: str = "r-1") -> None:
    now_ms = int(shop.clock.wall_s * 1000)
    ends_ms = int((at_s + days * DAY_S) * 1000)
    shop.consents.grant(who, purposes or ("visits",), int(at_s * 1000), ends_ms, Terms(record=record), now_ms)


def take_back(shop: Shop, who: Identifier, at_s: float | None, *purposes: Any) -> str | None:
    at_ms = None if at_s is None else int(at_s * 1000)
    return shop.consents.withdraw(who, purposes or ("visits",), at_ms, int(shop.clock.wall_s * 1000))


def allowed(shop: Shop, who: Identifier = ADA, happened_s: float | None = None) -> dict[str, str]:
    now_s = shop.clock.wall_s
    return shop.consents.standing(who, now_s, now_s if happened_s is None else happened_s).granted


def test_nobody_allows_anything_until_they_have_said_so(shop: Shop) -> None:
    """And then only what they said, until it ends."""
    assert allowed(shop) == {}
    give(shop, ADA, shop.clock.wall_s, "visits", "matching", days=10)
    assert allowed(shop) == {"visits": "r-1", "matching": "r-1"}
    shop.clock.advance(10 * DAY_S)
    assert allowed(shop) == {} and shop.consents.counters.expired == 1


def test_a_consent_outlives_a_start(shop: Shop) -> None:
    """So does its withdrawal: both were durable when they were taken."""
    give(shop, ADA, shop.clock.wall_s, "visits", "matching")
    take_back(shop, ADA, None, "matching")
    shop.consents.close()
    shop.begin()
    assert allowed(shop) == {"visits": "r-1"}
    (visits, matching) = shop.consents.rows(ADA)
    assert matching.withdrawn_ms and not visits.withdrawn_ms


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    acts=st.lists(st.tuples(st.booleans(), st.integers(-50, 0)), min_size=1, max_size=5),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_order_of_arrival_makes_no_difference(shop: Shop, acts: list[tuple[bool, int]], shuffle: Any) -> None:
    """What counts is the newest act by its own time; of two at the same moment the withdrawal."""
    person = Identifier("member", f"P{next(NUMBERS)}")
    arrived = list(acts)
    shuffle.shuffle(arrived)
    now_s = shop.clock.wall_s
    for is_grant, ago in arrived:
        if is_grant:
            give(shop, person, now_s + ago)
        else:
            take_back(shop, person, now_s + ago)
    newest = max(ago for _, ago in acts)
    expected = all(is_grant for is_grant, ago in acts if ago == newest)
    assert bool(allowed(shop, person)) == expected


def test_a_withdrawal_that_overtakes_a_sale_wins(shop: Shop) -> None:
    """The sale happened while the consent stood, but it is looked at when it is known to be gone."""
    give(shop, ADA, shop.clock.wall_s)
    sold_s = shop.clock.advance(60).wall_s
    shop.clock.advance(60)
    take_back(shop, ADA, shop.clock.wall_s)
    assert allowed(shop, happened_s=sold_s) == {}


def test_a_consent_does_not_reach_back(shop: Shop) -> None:
    """Who signs up at the till agrees to that visit, not to last week's."""
    give(shop, ADA, shop.clock.wall_s)
    assert allowed(shop, happened_s=shop.clock.wall_s - 1800)
    assert not allowed(shop, happened_s=shop.clock.wall_s - 7 * DAY_S)


def test_a_withdrawal_without_a_time_wins_whatever_the_clock_says(shop: Shop) -> None:
    """A box without a battery starts in 1970; somebody who stands there and withdraws means now."""
    give(shop, ADA, shop.clock.wall_s)
    shop.clock.wall_s = 100.0
    assert take_back(shop, ADA, None) == "r-1"
    shop.clock.wall_s = 1_795_312_900.0
    assert allowed(shop) == {}


def test_a_full_journal_keeps_no_grant_and_honours_a_withdrawal(shop: Shop) -> None:
    """What is not durable allows nothing; what was taken back is not used while it waits to be kept."""
    shop.writing.failure = JournalFull("append", "journal", "no room")
    with pytest.raises(Unavailable):
        give(shop, ADA, shop.clock.wall_s)
    assert allowed(shop) == {}
    shop.writing.failure = None
    assert allowed(shop) == {}
    give(shop, ADA, shop.clock.wall_s)
    shop.writing.failure = JournalError("append", "journal", "the disk is gone")
    with pytest.raises(Unavailable):
        take_back(shop, ADA, None)
    assert allowed(shop) == {}


def test_the_table_is_bounded_and_what_ended_goes_first(make_shop: Callable[..., Shop]) -> None:
    """100 rows at most here: a flood of sign-ups pushes out withdrawn ones, then the oldest."""
    shop = make_shop(consent_rows=100)
    give(shop, ADA, shop.clock.wall_s)
    for number in range(50):
        shop.clock.advance(1)
        give(shop, Identifier("member", f"gone-{number}"), shop.clock.wall_s)
        take_back(shop, Identifier("member", f"gone-{number}"), shop.clock.wall_s)
    for number in range(60):
        shop.clock.advance(1)
        give(shop, Identifier("member", f"here-{number}"), shop.clock.wall_s)
    assert shop.consents.count() <= 100 and shop.consents.counters.trimmed > 0
    assert allowed(shop) and allowed(shop, Identifier("member", "here-0"))
    stored = shop.writer.transact(lambda c: c.execute("SELECT count(*) FROM consent").fetchone()[0])
    assert stored == shop.consents.count()


def test_what_ended_long_ago_is_swept(shop: Shop) -> None:
    """A standing consent stays, an ended one stays a year, because a late message may contradict it."""
    give(shop, ADA, shop.clock.wall_s, days=3000)
    give(shop, Identifier("member", "B"), shop.clock.wall_s, days=1)
    shop.clock.advance(300 * DAY_S)
    assert shop.consents.sweep(shop.clock.wall_s) == 0
    shop.clock.advance(100 * DAY_S)
    assert shop.consents.sweep(shop.clock.wall_s) == 1 == shop.consents.counters.swept
    assert allowed(shop) and not shop.consents.rows(Identifier("member", "B"))


def test_where_a_consent_is_assumed_no_withdrawal_is_forgotten(make_shop: Callable[..., Shop]) -> None:
    """Neither by age nor by a flood of sign-ups: it is what keeps the person unnamed."""
    shop = make_shop(consent_rows=100, assumed_purposes={"member": ("visits",)})
    take_back(shop, ADA, shop.clock.wall_s)
    shop.clock.advance(3000 * DAY_S)
    shop.consents.sweep(shop.clock.wall_s)
    for number in range(150):
        shop.clock.advance(1)
        give(shop, Identifier("member", f"here-{number}"), shop.clock.wall_s)
    shop.consents.close()
    shop.begin()
    assert shop.consents.count() <= 100
    assert "visits" in shop.consents.standing(ADA, shop.clock.wall_s, shop.clock.wall_s).withdrawn


def test_a_damaged_row_allows_nothing(shop: Shop) -> None:
    """A flipped bit must not become a consent."""
    give(shop, ADA, shop.clock.wall_s, days=1)
    shop.writer.transact(lambda c: c.execute("UPDATE consent SET expires_ms = expires_ms * 2"))
    shop.consents.close()
    shop.begin()
    assert allowed(shop) == {}


def test_a_person_is_nobody_in_another_store(make_shop: Callable[..., Shop]) -> None:
    """The key of the look-up is the store's own, so two stolen tables cannot be joined."""
    one, other = make_shop(), make_shop()
    assert one.consents.person(ADA) != other.consents.person(ADA)
    assert b"A-1" not in (one.folder / "journal.db").read_bytes()


def test_forgetting_a_person_removes_every_row(shop: Shop) -> None:
    """Nothing recorded, nothing allowed, and nothing left to look up."""
    give(shop, ADA, shop.clock.wall_s, "visits", "matching")
    assert shop.consents.forget(ADA) == 2 and allowed(shop) == {} and shop.consents.count() == 0


def test_a_withdrawal_that_found_no_room_is_kept_as_soon_as_there_is_some(shop: Shop) -> None:
    """It counts at once, whatever is forgotten of the table meanwhile, and then outlives a start."""
    give(shop, ADA, shop.clock.wall_s, "visits", "matching")
    shop.writing.failure = JournalFull("append", "journal", "no room")
    with pytest.raises(Unavailable):
        take_back(shop, ADA, shop.clock.wall_s, "visits")
    shop.writing.failure = None
    shop.consents.erased(lambda key: False)  # somebody else is erased: the table is read again
    assert allowed(shop) == {"matching": "r-1"} and shop.consents.counters.unkept == 1
    shop.consents._tried_s = -100.0
    allowed(shop)
    assert allowed(shop) == {"matching": "r-1"} and shop.consents.counters.unkept == 0
    give(shop, ADA, shop.clock.wall_s, "offers", record="r-2")
    shop.consents.close()
    shop.begin()
    assert allowed(shop) == {"matching": "r-1", "offers": "r-2"}


def test_a_withdrawal_counts_before_there_is_a_table(make_shop: Callable[..., Shop]) -> None:
    """A shop that assumes consents, with a disk that is full from the first day: who withdraws is named no more."""
    shop = make_shop(assumed_purposes={"member": ["visits"]})
    shop.writing.failure = JournalFull("append", "journal", "no room")
    with pytest.raises(Unavailable):
        take_back(shop, ADA, None, "visits")
    now_s = shop.clock.wall_s
    assert "visits" in shop.consents.standing(ADA, now_s, now_s).withdrawn


def test_a_grant_from_a_clock_that_was_wrong_yields_to_a_withdrawal(shop: Shop) -> None:
    """A grant of next year cannot have been given: whoever withdraws today is not named for another year."""
    now_s = shop.clock.wall_s
    shop.clock.wall_s = now_s + 365 * DAY_S
    give(shop, ADA, shop.clock.wall_s, days=400)
    shop.clock.wall_s = now_s
    take_back(shop, ADA, now_s)
    shop.clock.wall_s = now_s + 366 * DAY_S
    assert allowed(shop) == {}
