"""The machine of visits: what opens, joins, closes, corrects and drops one."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.shopper.visit_case import Rules
from gateway.shopper.visit_evidence import HIGHEST, PROVES, SUPPORTS, confidence
from gateway.shopper.visits import CASES_MOST, Visits
from tests.gateway.shopper.shoppers import (
    GTIN,
    MINUTE_MS,
    RULES,
    day,
    linked,
    person,
    sale,
    scan,
    seen,
    tag,
    when,
    withdrawn,
)


def minutes(one: str, other: str) -> float:
    return (datetime.fromisoformat(other) - datetime.fromisoformat(one)).total_seconds() / 60


def test_a_scan_and_the_sale_that_names_the_member_are_one_visit_that_ends_with_the_sale() -> None:
    (visit,) = day(scan(10), sale(20, name="T1"))
    assert (visit.opened_by, visit.transaction_ids) == ("loyalty_scan", ("T1",))
    assert minutes(visit.entered_at, visit.left_at) == 10
    assert {"loyalty_scan", "sale_named"} <= set(visit.evidence) and visit.confidence == 0.95
    assert visit.shopper is not None and visit.supersedes is None


@pytest.mark.parametrize(
    ("facts", "closes_at", "rules"),
    [
        ((scan(10),), 55, RULES),
        ((scan(10), sale(20)), 35, RULES),
        ((scan(10), sale(20), scan(25)), 70, RULES),
        ((scan(10), sale(20), seen(22, "exit", left=True)), 23, RULES),
        ((scan(10), seen(30, "shirts", left=True)), 75, RULES),
        ((scan(10),), 20, Rules(idle_ms=10 * MINUTE_MS)),
    ],
)
def test_it_closes_by_whatever_comes_first(facts: tuple[object, ...], closes_at: float, rules: Rules) -> None:
    assert day(*facts, until=closes_at, rules=rules) == []
    assert len(day(*facts, until=closes_at + 1, rules=rules)) == 1


def test_whoever_is_scanned_at_the_entrance_does_not_leave_through_it_at_once() -> None:
    (visit,) = day(scan(10, zone="exit", how="app_qr"), seen(10.5, "exit", left=True), sale(30, name="T1"))
    assert visit.transaction_ids == ("T1",) and visit.opened_by == "app_qr"


def test_what_was_seen_before_the_act_is_filled_in_up_to_the_window() -> None:
    (visit,) = day(
        seen(60, "shoes"), seen(65, "shoes", left=True, dwell_s=300), seen(66, "fitting"),
        seen(76, "fitting", left=True, dwell_s=600), sale(80),
    )  # fmt: skip
    assert {stay.zone: stay.dwell_s for stay in visit.zones} == {"shoes": 300.0, "fitting": 600.0}
    assert minutes(visit.entered_at, visit.left_at) == 20
    assert {"beacon", "fitting_room"} <= set(visit.evidence)
    (long,) = day(seen(200, "shoes", left=True, dwell_s=7200), sale(201))
    assert [stay.dwell_s for stay in long.zones] == [44 * 60.0]


def test_a_person_who_was_only_seen_has_no_visit_and_is_forgotten() -> None:
    machine = Visits(RULES)
    machine.take(seen(10, "shoes"))
    assert machine.tick(54 * MINUTE_MS) == [] and machine.followed == 1
    assert machine.tick(56 * MINUTE_MS) == [] and machine.followed == 0
    assert machine.counters.forgotten == 1


def test_two_members_are_two_visits_and_the_next_visit_of_one_is_another() -> None:
    told = day(scan(10, "a"), scan(11, "b"), sale(20, "a", "T1"), sale(21, "b", "T2"), sale(100, "a", "T3"))
    assert [visit.transaction_ids for visit in told] == [("T1",), ("T2",), ("T3",)]
    assert len({visit.visit_id for visit in told}) == 3


def test_a_sale_without_a_member_goes_to_whoever_was_scanned_while_its_basket_was_open_once() -> None:
    told = day(scan(10), sale(11, None, "T1"), sale(11.1, None, "T2"), sale(11, None, "T3", zone="till-2"))
    assert [visit.transaction_ids for visit in told] == [("T1",)]
    assert told[0].confidence == PROVES["sale_after_scan"]
    (named,) = day(scan(10), sale(11, "a", "T1"), sale(11.1, None, "T2"))
    assert named.transaction_ids == ("T1",)
    (after,) = day(scan(10), sale(11, None, "T1", took_s=40))
    assert after.transaction_ids == ()
    guessed, told_later = day(scan(10), sale(10.5, None, "T1"), sale(10.4, "a", "T2", late=30))
    assert guessed.transaction_ids == ("T1",) and told_later.transaction_ids == ("T2",)


def test_a_sale_that_comes_late_makes_a_corrected_visit_that_supersedes() -> None:
    first, corrected = day(scan(10), sale(12, name="T1"), sale(20, name="T2", late=60))
    assert first.transaction_ids == ("T1",) and corrected.transaction_ids == ("T1", "T2")
    assert corrected.supersedes == first.visit_id != corrected.visit_id


def test_whoever_comes_back_after_the_end_has_another_visit_also_when_a_correction_came_in_between() -> None:
    told = day(scan(10), sale(12, name="T1"), sale(26, name="T2", late=5), sale(40, name="T3"), scan(60), until=200)
    last = {visit.visit_id.partition("-r")[0]: visit for visit in told}
    assert sorted(visit.transaction_ids for visit in last.values()) == [(), ("T1", "T2"), ("T3",)]


def test_late_evidence_that_changes_nothing_and_the_same_sale_again_are_not_told() -> None:
    assert len(day(scan(10), sale(12, name="T1"), sale(12, name="T1", late=60))) == 1


def test_a_till_that_sends_its_whole_day_late_tells_one_visit_for_each_person() -> None:
    told = day(scan(10, late=300), sale(20, name="T1", late=290), sale(21, name="T2", late=289.5))
    assert [visit.transaction_ids for visit in told] == [("T1", "T2")]


def test_a_void_takes_the_sale_out_of_the_visit_also_when_it_was_told() -> None:
    (visit,) = day(scan(10), sale(12, name="T1"), sale(13, None, "V", kind="void", originals=("T1",)))
    assert visit.transaction_ids == ()
    first, corrected = day(scan(10), sale(12, name="T1"), sale(40, None, "V", kind="void", originals=("T1",)))
    assert first.transaction_ids == ("T1",) and corrected.transaction_ids == ()


def test_a_return_alone_opens_no_visit() -> None:
    assert day(sale(12, kind="return")) == []


def test_a_consent_taken_back_in_the_middle_drops_the_visit_and_counts_it() -> None:
    assert day(scan(10), withdrawn(12)) == []
    machine = Visits(RULES)
    for fact in (scan(10), withdrawn(12), scan(10, "b")):
        machine.take(fact)
    assert machine.counters.withdrawn == 1 and machine.open == 1  # b came after it
    assert machine.withdraw(["nobody"]) == 0


def test_without_the_consent_to_match_the_visit_stays_and_the_sealed_identifier_goes() -> None:
    machine = Visits(RULES)
    opened = scan(10)
    machine.take(type(opened)(opened.when, opened.event, _sealed(opened), "loyalty_scan", "till-1", "s"))
    machine.take(withdrawn(11, purposes=("matching",)))
    (ended,) = machine.tick(100 * MINUTE_MS)
    assert ended.data.shopper is not None and ended.data.shopper.sealed is None


def _sealed(act: object) -> object:
    return person("a", sealed="p1.abc")


@pytest.mark.parametrize(
    "facts",
    [
        (linked(9, "a", "b"), scan(10, "a"), sale(20, "b", "T1")),
        (scan(10, "a"), linked(12, "a", "b"), sale(20, "b", "T1")),
        (scan(10, "a"), sale(20, "b", "T1"), linked(21, "a", "b")),
        (scan(10, "b"), linked(12, "a", "b"), sale(20, "a", "T1")),
        (seen(8, "shoes", "b"), scan(10, "a"), linked(12, "a", "b"), sale(20, "a", "T1")),
        (linked(9, "a", "b"), linked(9.5, "a", "b"), scan(10, "b"), sale(20, "b", "T1")),
    ],
)
def test_two_identifiers_that_a_person_proves_in_one_act_are_one_visit(facts: tuple[object, ...]) -> None:
    """Whichever came first, and whatever either of them had done by then."""
    (visit,) = day(*facts)
    assert visit.transaction_ids == ("T1",)
    assert minutes(visit.entered_at, visit.left_at) >= 10
    assert bool(visit.zones) == any(getattr(fact, "zone", "") == "shoes" for fact in facts)


def test_what_was_proved_holds_for_the_rest_of_the_day_and_for_nothing_that_was_told_before() -> None:
    told = day(scan(10, "b"), scan(100, "a"), linked(101, "a", "b"), sale(110, "b", "T1"), scan(300, "b"),
               sale(305, "a", "T2"))  # fmt: skip
    assert [visit.transaction_ids for visit in told] == [(), ("T1",), ("T2",)]


def test_without_the_act_two_identifiers_stay_two_visits_however_alike_they_go() -> None:
    assert len(day(scan(10, "a"), scan(10, "b"), seen(11, "shoes", "a"), seen(11, "shoes", "b"), sale(20, "a"))) == 2


def test_an_identifier_that_two_members_have_proved_theirs_joins_neither_to_the_other() -> None:
    """A family's phone: what it does from then on is a visit of its own, and is nobody else's."""
    machine = Visits(RULES)
    facts = (scan(10, "a"), scan(10, "c"), linked(11, "a", "b"), linked(12, "c", "b"), linked(12.5, "a", "b"),
             scan(13, "b"), sale(14, "a", "T1"), sale(15, "c", "T2"), sale(16, "b", "T3"))  # fmt: skip
    for fact in facts:
        machine.take(fact)
    told = {it.data.transaction_ids for it in machine.tick(100 * MINUTE_MS)}
    assert told == {("T1",), ("T2",), ("T3",)} and machine.counters.joined == 0


def test_a_visit_made_of_two_counts_as_joined_and_a_withdrawal_under_either_drops_all_of_it() -> None:
    machine = Visits(RULES)
    for fact in (scan(10, "a"), scan(11, "b"), linked(12, "a", "b")):
        machine.take(fact)
    assert (machine.open, machine.counters.opened, machine.counters.joined) == (1, 2, 1)
    assert machine.withdraw([person("b").key]) == 1 and machine.followed == 0
    assert machine.tick(100 * MINUTE_MS) == []


def test_a_consent_that_has_ended_drops_the_visit_at_the_review_and_at_the_telling() -> None:
    """The one for visits all of it, the one for matching what only the platform can open."""
    ended: dict[str, set[str]] = {}
    for purposes, told_at_end in (({"visits"}, 0), ({"matching"}, 1), ({"offers"}, 1)):
        for reviewed in (True, False):
            ended.clear()
            machine = Visits(RULES, ended=lambda records: {it for record in records for it in ended.get(record, ())})
            opened = scan(10)
            machine.take(type(opened)(opened.when, opened.event, person(sealed="p1.x"), "app_qr", "z", "s"))
            machine.review()
            assert machine.open == 1
            ended["r1"] = set(purposes)
            if reviewed:
                machine.review()
                assert machine.open == told_at_end
            told = machine.tick(100 * MINUTE_MS)
            assert len(told) == told_at_end and machine.counters.withdrawn == 1 - told_at_end
            for it in told:
                assert it.data.shopper is not None
                assert it.data.shopper.sealed == (None if "matching" in purposes else "p1.x")


def test_a_wall_clock_that_steps_closes_nothing_and_stretches_nothing() -> None:
    (visit,) = day(scan(10), sale(20, step_s=-7200, name="T1"))
    assert minutes(visit.entered_at, visit.left_at) == 10
    (visit,) = day(scan(10), sale(20, step_s=90_000, name="T1"))
    assert minutes(visit.entered_at, visit.left_at) == 10


def test_tags_at_the_till_go_with_the_lines_by_count() -> None:
    shelf = [tag(0, epc, "shirts") for epc in ("t1", "t2", "t3")]
    (exact,) = day(
        *shelf, scan(10), tag(12, "t1", "fitting"), tag(17, "t1", "till-1"), sale(18, wanted={GTIN: 1}, name="T1")
    )
    assert exact.epcs == ("t1",) and {"tags_counted", "carried_tags", "fitting_room"} <= set(exact.evidence)
    assert {stay.zone: stay.dwell_s for stay in exact.zones} == {"fitting": 300.0}
    (fewer,) = day(*shelf, scan(10), tag(17, "t1", "till-1"), sale(18, wanted={GTIN: 2}))
    assert fewer.epcs == ("t1",) and "tags_fewer" in fewer.evidence
    (many,) = day(*shelf, scan(10), tag(17, "t1", "till-1"), tag(17, "t2", "till-1"), sale(18, wanted={GTIN: 1}))
    assert many.epcs == () and "tags_ambiguous:1/2" in many.evidence


def test_a_tag_goes_with_one_sale_only_and_what_could_be_two_peoples_is_nobodys() -> None:
    facts = (
        tag(17, "t1", "till-1"), tag(17, "t2", "till-1"), sale(18, "a", "T1", wanted={GTIN: 1}),
        sale(18.5, "b", "T2", wanted={GTIN: 1}),
    )  # fmt: skip
    assert [visit.epcs for visit in day(*facts)] == [(), ()]
    apart = day(
        tag(17, "t1", "till-1"), sale(18, "a", "T1", wanted={GTIN: 1}), tag(27, "t2", "till-1"),
        sale(28, "b", "T2", wanted={GTIN: 1}),
    )  # fmt: skip
    assert [visit.epcs for visit in apart] == [("t1",), ("t2",)]
    read = day(
        tag(17, "t1", "till-1"), tag(17, "t2", "till-1"), sale(18, "a", "T1", wanted={GTIN: 1}, named=("t2",)),
        sale(18.5, "b", "T2", wanted={GTIN: 1}),
    )  # fmt: skip
    assert [visit.epcs for visit in read] == [("t2",), ("t1",)]


def test_goods_that_go_through_the_exit_close_the_visit_of_whoever_paid_them() -> None:
    facts = (tag(17, "t1", "till-1"), sale(18, wanted={GTIN: 1}), tag(20, "t1", "exit"))
    (visit,) = day(*facts, until=22)
    assert "exit" in visit.evidence and minutes(visit.entered_at, visit.left_at) == 3
    assert len(day(tag(19, "t9", "exit"), sale(18, wanted={GTIN: 1}), until=22)) == 0


def test_the_confidence_is_that_of_the_weakest_proof_and_support_only_takes_doubt_away() -> None:
    assert confidence(()) == 0.0 == confidence(SUPPORTS)
    for proof, certainty in PROVES.items():
        assert confidence([proof]) == certainty
        assert certainty < confidence([proof, *SUPPORTS]) <= HIGHEST
    assert confidence(["app_qr", "sale_after_scan"]) == PROVES["sale_after_scan"]


def test_what_is_followed_is_bounded_and_whoever_has_no_visit_goes_first() -> None:
    machine = Visits(RULES)
    machine.take(scan(1, "kept"))
    for number in range(CASES_MOST + 50):
        machine.take(seen(2, "shoes", f"n{number}"))
    assert machine.followed == CASES_MOST and machine.counters.surplus == 51 and machine.open == 1


_facts = st.lists(
    st.one_of(
        st.builds(scan, st.floats(0, 200), st.sampled_from("ab"), st.sampled_from(["till-1", "exit"])),
        st.builds(sale, st.floats(0, 200), st.sampled_from(["a", "b", None]), wanted=st.just({GTIN: 1})),
        st.builds(
            seen, st.floats(0, 200), st.sampled_from(["exit", "shoes"]), st.sampled_from("ab"), left=st.booleans(),
            dwell_s=st.floats(0, 4000),
        ),
        st.builds(linked, st.floats(0, 200), st.sampled_from("ac"), st.just("b")),
        st.builds(tag, st.floats(0, 200), st.sampled_from(["t1", "t2"]), st.sampled_from(["till-1", "exit"])),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(_facts, st.booleans())
def test_whatever_comes_in_whatever_order_a_visit_is_told_once_is_whole_and_lists_a_sale_once(
    facts: list[object], in_order: bool
) -> None:
    if in_order:
        facts.sort(key=lambda fact: fact.when.t_ms)  # type: ignore[attr-defined]
    told = day(*facts, until=800, step=2.0)
    ids = [visit.visit_id for visit in told]
    assert len(ids) == len(set(ids))
    last = {visit.visit_id.partition("-r")[0]: visit for visit in told}
    sales = [name for visit in last.values() for name in visit.transaction_ids]
    assert len(sales) == len(set(sales))
    for visit in told:
        assert visit.entered_at <= visit.left_at and 0 < visit.confidence <= HIGHEST
        assert visit.supersedes is None or visit.supersedes in ids
        assert all(stay.dwell_s >= 0 for stay in visit.zones)
    assert when(0).t_ms == 0
