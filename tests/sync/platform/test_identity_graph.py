"""The identity graph: what joins, what does not, and that neither depends on the order of arrival."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sync.platform.identity_graph import Act, Claim, Link, Person, resolve

A, B, PHONE, PHONE2, MAIL, APP, CARD = 1, 2, 11, 12, 13, 14, 15
SCHEMES = {A: "member", B: "member", PHONE: "phone", PHONE2: "phone", MAIL: "email", APP: "app", CARD: "payment"}


def links(*told: tuple[Act, int, int] | tuple[Act, int, int, int]) -> list[Link]:
    """One link a tuple, a second apart."""
    return [Link(n, one[0], one[1], one[2], n * 1000, one[3] if len(one) == 4 else 0) for n, one in enumerate(told, 1)]


def owners(persons: list[Person], identifier: int, at_ms: int | None = None) -> list[Claim]:
    """The claims that count, at a moment."""
    return [
        claim
        for person in persons
        for claim in person.claims
        if claim.identifier == identifier
        and claim.sole
        and (at_ms is None or ((claim.since_ms or 0) <= at_ms and (claim.until_ms is None or at_ms < claim.until_ms)))
    ]


def person_of(persons: list[Person], identifier: int, at_ms: int | None = None) -> int | None:
    """The place of the one person with a claim that counts."""
    found = [
        n for n, person in enumerate(persons) for claim in owners([person], identifier, at_ms) if claim is not None
    ]
    return found[0] if len(found) == 1 else None


def test_an_act_joins_what_it_proved_and_nothing_else() -> None:
    persons = resolve(SCHEMES, links(("registration", A, PHONE), ("login", PHONE, APP)))
    assert person_of(persons, A) == person_of(persons, PHONE) == person_of(persons, APP)
    assert person_of(persons, MAIL) not in (None, person_of(persons, A), person_of(persons, B))


def test_a_phone_of_two_members_is_nobodys_and_joins_nobody() -> None:
    persons = resolve(SCHEMES, links(("registration", A, PHONE), ("registration", B, PHONE), ("login", PHONE, APP)))
    assert person_of(persons, A) != person_of(persons, B)
    assert owners(persons, PHONE) == []
    assert person_of(persons, APP) not in (person_of(persons, A), person_of(persons, B))


def test_one_card_for_a_family_is_nobodys() -> None:
    persons = resolve(SCHEMES, links(("basket", A, CARD), ("basket", B, CARD), ("basket", A, CARD)))
    assert owners(persons, CARD) == [] and person_of(persons, A) != person_of(persons, B)


def test_a_changed_number_has_its_owner_until_the_change_and_may_go_to_another_after_it() -> None:
    persons = resolve(
        SCHEMES, links(("registration", A, PHONE), ("phone_change", A, PHONE2, PHONE), ("registration", B, PHONE))
    )
    assert person_of(persons, PHONE, 1500) == person_of(persons, A) == person_of(persons, PHONE2, 5000)
    assert person_of(persons, PHONE, 2500) is None
    assert person_of(persons, PHONE, 3500) == person_of(persons, B)


def test_what_was_used_before_it_was_linked_is_the_first_owners() -> None:
    persons = resolve(SCHEMES, links(("registration", A, PHONE)))
    assert person_of(persons, PHONE, 0) == person_of(persons, A)


def test_a_guest_account_becomes_the_members_by_a_login_but_not_by_sharing_a_card() -> None:
    guest = links(("login", MAIL, CARD), ("login", MAIL, PHONE))
    by_login = resolve(SCHEMES, [*guest, Link(9, "login", A, MAIL, 9000)])
    assert person_of(by_login, A) == person_of(by_login, MAIL) == person_of(by_login, PHONE)
    assert [it.joined for it in by_login if it.joined] == [(9,)]
    by_card = resolve(SCHEMES, [*guest, Link(9, "basket", A, CARD, 9000)])
    assert person_of(by_card, A) != person_of(by_card, MAIL)
    assert owners(by_card, CARD) == []


def test_a_card_change_joins_two_members_and_taking_it_back_parts_them() -> None:
    told = links(("registration", A, PHONE), ("registration", B, MAIL), ("card_change", A, B))
    joined = resolve(SCHEMES, told)
    assert person_of(joined, A) == person_of(joined, B) == person_of(joined, MAIL)
    parted = resolve(SCHEMES, told[:2])
    assert person_of(parted, A) != person_of(parted, B) == person_of(parted, MAIL)


def test_a_hub_is_nobodys() -> None:
    persons = resolve(SCHEMES, links(("registration", A, PHONE)), frozenset({PHONE}))
    assert all(claim.identifier != PHONE for person in persons for claim in person.claims)


ACTS = st.sampled_from(["registration", "login", "basket", "phone_change"])
ANY = st.lists(st.tuples(ACTS, st.sampled_from(sorted(SCHEMES)), st.sampled_from(sorted(SCHEMES))), max_size=9)


@given(ANY, st.randoms())
def test_the_order_of_arrival_does_not_matter_and_nobody_is_joined_without_an_act(told, dice) -> None:  # type: ignore[no-untyped-def]
    acts = [Link(n, act, one, other, n * 1000) for n, (act, one, other) in enumerate(told, 1)]
    shuffled = dice.sample(acts, len(acts))
    persons = resolve(SCHEMES, acts)
    assert persons == resolve(SCHEMES, shuffled)
    linked = {frozenset((it.one, it.other)) for it in acts}
    for person in persons:
        mine = {claim.identifier for claim in person.claims}
        reached, edge = {min(mine)}, {min(mine)}
        while edge:
            edge = {b for a in edge for b in mine - reached if frozenset((a, b)) in linked}
            reached |= edge
        assert reached == mine
    for identifier in SCHEMES:
        now = [p for p in persons for c in p.claims if c.identifier == identifier and c.sole]
        assert len({id(p) for p in now}) <= 1
