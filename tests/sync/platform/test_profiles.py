"""From received events to a person's history: what joins, with which evidence, and what a consent allows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import rfc3339_s
from tests.sync.platform.platform_parts import DAY_S, T0, World, shopper

ANN, BEN = shopper("member", "A1"), shopper("member", "B2")
PHONE, PHONE2, CARD = (
    shopper("phone", "+8613800000001"),
    shopper("phone", "+8613800000002"),
    shopper("payment", "tok-1"),
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path)
    yield it
    it.close()


def test_a_scan_a_phone_and_a_card_of_one_member_are_one_history_with_its_evidence(world: World) -> None:
    world.agrees(ANN)
    world.links(ANN, PHONE)
    world.sells("s1", T0 + 10, who=ANN, payer=CARD)
    world.sells("s2", T0 + DAY_S, payer=CARD)
    world.sells("s3", T0 + 2 * DAY_S, who=PHONE)
    assert world.refs("member", "A1") == ["s1", "s2", "s3"]
    assert [world.entry("member", "A1", ref).evidence for ref in ("s1", "s2", "s3")] == [
        ("key_member",),
        ("key_payment",),
        ("key_phone",),
    ]
    assert world.entry("member", "A1", "s1").confidence == 1.0 > world.entry("member", "A1", "s2").confidence


def test_two_members_who_pay_with_one_card_stay_two_and_the_card_alone_tells_nothing(world: World) -> None:
    world.agrees(ANN)
    world.agrees(BEN)
    world.sells("s1", T0 + 10, who=ANN, payer=CARD)
    world.sells("s2", T0 + 20, payer=CARD)
    assert world.refs("member", "A1") == ["s1", "s2"]
    world.sells("s3", T0 + 30, who=BEN, payer=CARD)
    assert world.refs("member", "A1") == ["s1"]
    assert world.refs("member", "B2") == ["s3"]
    assert world.profile("member", "B2").household == 1


def test_a_number_one_digit_off_is_somebody_else(world: World) -> None:
    world.agrees(ANN)
    world.links(ANN, PHONE)
    world.sells("s1", T0 + 10, who=PHONE2)
    assert world.refs("member", "A1") == []
    assert world.key_of("phone", "+8613800000002") not in (None, world.key_of("member", "A1"))


def test_without_a_consent_nothing_joins_and_after_a_withdrawal_nothing_is_left(world: World) -> None:
    world.sells("s1", T0 + 10, who=ANN)
    assert world.refs("member", "A1") == []
    world.agrees(ANN, T0 + 20)
    world.sells("s2", T0 + 30, who=ANN)
    assert world.refs("member", "A1") == ["s2"]
    world.withdraws(ANN, T0 + 40)
    assert world.refs("member", "A1") == []
    world.sells("s3", T0 + 50, who=ANN)
    world.sells("s0", T0 + 35, who=ANN)  # late
    world.fold.catch_up()
    with world.book.reading() as connection:
        assert connection.execute("SELECT count(*) FROM touch WHERE identifier IS NOT NULL").fetchone() == (0,)
    assert world.facts()["withdrawn"] == "2"
    world.agrees(ANN, T0 + 60, record="again")
    world.sells("s4", T0 + 70, who=ANN)
    assert world.refs("member", "A1") == ["s4"]


def test_acts_of_consent_count_by_their_own_time(world: World) -> None:
    world.withdraws(ANN, T0 + 40)
    world.agrees(ANN, T0 + 20)
    world.sells("s1", T0 + 30, who=ANN)
    assert world.refs("member", "A1") == []


def test_a_withdrawal_by_the_phone_of_a_household_counts_for_everybody_in_it(world: World) -> None:
    for who, number in ((ANN, "s1"), (BEN, "s2")):
        world.agrees(who)
        world.links(who, PHONE)
        world.sells(number, T0 + 10, who=who)
    world.withdraws(PHONE, T0 + 20)
    assert world.refs("member", "A1") == world.refs("member", "B2") == []


def test_an_expired_consent_joins_nothing(world: World) -> None:
    world.agrees(ANN, until=rfc3339_s(T0 + 10 * DAY_S))
    world.sells("s1", T0 + 10, who=ANN)
    world.now_s = T0 + 9 * DAY_S
    assert world.refs("member", "A1") == ["s1"]
    world.now_s = T0 + 11 * DAY_S
    assert world.refs("member", "A1") == []


def test_a_consent_that_names_nobody_is_the_persons_whose_event_refers_to_it(world: World) -> None:
    world.agrees(None, record="r-77")
    world.sells("s1", T0 + 10, who=ANN, record="r-77")
    assert world.refs("member", "A1") == ["s1"]


def test_a_changed_number_takes_its_history_along_and_its_next_owner_starts_anew(world: World) -> None:
    world.agrees(ANN)
    world.agrees(BEN)
    world.links(ANN, PHONE, T0 + 1)
    world.sells("s1", T0 + 10, who=PHONE)
    world.links(ANN, PHONE2, T0 + 20, act="phone_change", replaced=PHONE)
    world.sells("s2", T0 + 30, who=PHONE2)
    world.sells("s3", T0 + 40, who=PHONE)
    world.links(BEN, PHONE, T0 + 50)
    world.sells("s4", T0 + 60, who=PHONE)
    assert world.refs("member", "A1") == ["s1", "s2"]
    assert world.refs("member", "B2") == ["s4"]


def test_a_visit_brings_its_sales_but_not_one_that_names_somebody_else(world: World) -> None:
    world.agrees(ANN)
    world.agrees(BEN)
    world.sells("s1", T0 + 100)
    world.sells("s2", T0 + 110, who=BEN)
    world.visits("v1", rfc3339_s(T0), rfc3339_s(T0 + 200), who=ANN, sales=("s1", "s2", "s9"))
    assert world.refs("member", "A1") == ["v1", "s1"]
    sale = world.entry("member", "A1", "s1")
    assert (sale.visit, sale.evidence, sale.confidence) == ("v1", ("visit_lists_sale",), 0.9)


def test_a_visit_without_sales_finds_the_persons_own_of_that_time(world: World) -> None:
    world.agrees(ANN)
    world.sells("s1", T0 + 100, who=ANN)
    world.sells("s2", T0 + 5000, who=ANN)
    world.sells("s3", T0 + 100, who=ANN, store="0043")
    world.visits("v1", rfc3339_s(T0), rfc3339_s(T0 + 200), who=ANN)
    assert [world.entry("member", "A1", ref).visit for ref in ("s1", "s2", "s3")] == ["v1", "", ""]


@pytest.mark.parametrize("late", [False, True])
def test_a_corrected_visit_replaces_the_first_one_in_whatever_order_they_come(world: World, late: bool) -> None:
    world.agrees(ANN)
    first = {"number": "v1", "entered": rfc3339_s(T0), "left": rfc3339_s(T0 + 200)}
    second = {"number": "v2", "entered": rfc3339_s(T0), "left": rfc3339_s(T0 + 300), "supersedes": "v1"}
    for told in (second, first) if late else (first, second):
        world.visits(who=ANN, **told)  # type: ignore[arg-type]
    assert world.refs("member", "A1") == ["v2"]


def test_a_day_key_joins_within_one_store_and_day_only(world: World) -> None:
    world.agrees(ANN)
    keyed = shopper("member", "A1", "d" * 32)
    alone = type(keyed)(day_key="d" * 32)
    world.sells("early", T0 + 5, who=alone)
    world.sells("named", T0 + 10, who=keyed)
    world.sells("late", T0 + 20, who=alone)
    world.sells("elsewhere", T0 + 20, who=alone, store="0043")
    world.sells("tomorrow", T0 + 2 * DAY_S, who=alone)
    assert world.refs("member", "A1") == ["early", "named", "late"]
    assert world.entry("member", "A1", "late").evidence == ("day_key_member",)


def test_what_cannot_be_opened_or_read_is_counted_and_joins_nobody(world: World) -> None:
    world.sells("s1", T0, who=type(ANN)(sealed="other.member|A1"))
    world.sells("s2", T0, who=type(ANN)(sealed="clear.hat|A1"))
    world.log.rows.append((99, b'{"type":"store.pos.sale.v1","data":{"x":1}}'))
    world.log.rows.append((100, b"\xff"))
    assert world.key_of("member", "A1") is None
    assert (world.facts()["unopened"], world.facts()["unreadable"]) == ("1", "2")


def test_folding_again_from_the_beginning_gives_the_same_persons(world: World) -> None:
    world.agrees(ANN)
    world.links(ANN, PHONE)
    world.sells("s1", T0 + 10, who=PHONE)
    world.visits("v1", rfc3339_s(T0), rfc3339_s(T0 + 200), who=ANN, sales=("s1",))
    before = world.profile("member", "A1")
    world.fold.rebuild()
    after = world.profile("member", "A1")
    assert (after.key, [e.ref for e in after.entries]) == (before.key, [e.ref for e in before.entries])
    assert [known.shown for known in after.known] == [known.shown for known in before.known]


def test_a_parted_act_no_longer_joins_and_does_not_come_back_with_a_rebuild(world: World) -> None:
    world.agrees(ANN)
    world.links(ANN, PHONE)
    world.sells("s1", T0 + 10, who=PHONE)
    assert world.refs("member", "A1") == ["s1"]
    edge = next(known.edge for known in world.profile("member", "A1").known if known.scheme == "phone")
    with world.book.transaction() as writing:
        assert writing.part(edge)
    assert world.refs("member", "A1") == []
    world.fold.rebuild()
    assert world.refs("member", "A1") == []
    with world.book.transaction() as writing:
        assert writing.part(edge, void=False)
    assert world.refs("member", "A1") == ["s1"]


def test_a_cashiers_own_card_shown_for_everybody_joins_nobody(world: World) -> None:
    world.agrees(ANN)
    for n in range(40):
        world.sells(f"s{n}", T0 + n, who=ANN, payer=shopper("payment", f"tok-{n}"))
    assert world.key_of("member", "A1") is None
    assert world.key_of("payment", "tok-3") is not None


def test_the_database_holds_no_identifier(world: World, tmp_path: Path) -> None:
    world.agrees(ANN)
    world.links(shopper("member", "CANARY-4711"), shopper("email", "canary.4711@example.com"))
    world.fold.catch_up()
    world.book.scrub()
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("p.db*"))
    assert b"CANARY-4711" not in raw and b"canary.4711" not in raw
    assert (tmp_path / "p.db").stat().st_mode & 0o077 == 0


def test_a_household_card_does_not_keep_what_came_after_a_withdrawal(world: World) -> None:
    for who, number in ((ANN, "s1"), (BEN, "s2")):
        world.agrees(who)
        world.sells(number, T0 + 10, who=who, payer=CARD)
    world.withdraws(ANN, T0 + 20)
    world.sells("s3", T0 + 30, payer=CARD)
    assert world.refs("member", "B2") == ["s2"]
    with world.book.reading() as connection:
        named = connection.execute("SELECT ref FROM touch WHERE identifier IS NOT NULL").fetchall()
    assert named == [("s2",)]
