"""Subjects: who a reading may name, and what becomes of readings that name nobody, two persons, or one twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.errors import Rejected
from gateway.event_types import ConsentGranted, ConsentWithdrawn
from gateway.intake.person import Linked, Subject
from gateway.intake.reading import ConsentAct, Identity
from gateway.shopper.identifiers import Identifier
from tests.gateway.shopper.conftest import Shop

MEMBER, PHONE = Identity("member", "m-4711"), Identity("phone", "138 0013 8000")


def act(shop: Shop, kind: Any, who: Identity, purposes: str = "", **more: Any) -> Any:
    at = shop.clock.now()
    told = ConsentAct(act=kind, scheme=who.scheme, identifier=who.value, purposes=purposes, **more)
    return shop.subjects.consent(told, at, at.wall_s)


def who(shop: Shop, *identities: Identity) -> Subject | None:
    at = shop.clock.now()
    return shop.subjects.subject(identities, at, at.wall_s)


def test_without_consent_nobody_is_named(shop: Shop) -> None:
    """And that is counted."""
    assert who(shop, MEMBER) is None and shop.subjects.counters.no_consent == 1


def test_each_purpose_allows_its_own_part(shop: Shop) -> None:
    """`visits`: the key of the day; `matching`: what only the platform opens; `offers`: neither."""
    act(shop, "granted", MEMBER, "offers")
    assert who(shop, MEMBER) is None
    act(shop, "granted", MEMBER, "visits")
    visits = who(shop, MEMBER)
    assert visits is not None and visits.shopper.day_key and visits.shopper.sealed is None
    act(shop, "granted", MEMBER, "visits,matching", record_id="r-9")
    both = who(shop, MEMBER)
    assert both is not None and both.shopper.day_key == visits.shopper.day_key and both.consent == "r-9"
    shop.clock.advance(1)
    act(shop, "granted", MEMBER, "matching", record_id="r-10")
    later = who(shop, MEMBER)
    assert later is not None and later.consent == "r-10" and later.shopper.sealed is not None
    assert shop.opener.open(later.shopper.sealed) == Identifier("member", "M-4711")


def test_another_spelling_is_the_same_person(shop: Shop) -> None:
    """A consent given with one spelling of a number covers the others."""
    act(shop, "granted", PHONE, "visits")
    named = who(shop, Identity("mobile", "+86 138-0013-8000"))
    assert named is not None and named == who(shop, PHONE)


def test_a_sale_with_two_identifiers_of_one_person_names_the_surer(shop: Shop) -> None:
    """Member number before phone; where only the phone has a consent, the phone."""
    act(shop, "granted", PHONE, "visits")
    named = who(shop, PHONE, MEMBER)
    assert named is not None and named.shopper.scheme == "phone"
    act(shop, "granted", MEMBER, "visits")
    named = who(shop, PHONE, MEMBER)
    assert named is not None and named.shopper.scheme == "member" and shop.subjects.counters.surplus == 2


def test_a_sale_that_names_two_persons_names_nobody(shop: Shop) -> None:
    """Two member numbers on one receipt: whose it is, nobody here can know. The same one twice is one."""
    act(shop, "granted", MEMBER, "visits")
    other = Identity("member", "M-9999")
    act(shop, "granted", other, "visits")
    assert who(shop, MEMBER, other) is None and shop.subjects.counters.contradictory == 1
    assert who(shop, MEMBER, Identity("club", " M-4711 ")) is not None


def test_a_withdrawal_on_one_identifier_covers_the_others_of_that_sale(shop: Shop) -> None:
    """Who withdrew as a member is not named by their phone number instead."""
    act(shop, "granted", PHONE, "visits,matching")
    act(shop, "withdrawn", MEMBER, "visits")
    named = who(shop, MEMBER, PHONE)
    assert named is not None and named.shopper.day_key is None and named.shopper.sealed is not None
    act(shop, "withdrawn", MEMBER)
    assert who(shop, MEMBER, PHONE) is None and shop.subjects.counters.withdrawn == 1
    assert who(shop, PHONE) is not None


def test_hostile_identifiers_name_nobody_and_stop_nothing(shop: Shop) -> None:
    """They are counted, and a right one beside them still counts."""
    act(shop, "granted", MEMBER, "visits")
    bad = [Identity("phone", "\ud800"), Identity("email", "a" * 5000), Identity("nonsense", "1"), Identity("card", "")]
    assert who(shop, *bad) is None and shop.subjects.counters.malformed == 4
    assert who(shop, *bad, MEMBER) is not None
    assert who(shop, *[Identity("phone", "x")] * 1000) is None
    assert who(shop) is None


def test_without_a_platform_key_only_the_day_key_is_made(make_shop: Callable[..., Shop]) -> None:
    """And a person who allowed matching alone is then not named at all."""
    shop = make_shop(seal_keys={})
    act(shop, "granted", MEMBER, "visits,matching")
    named = who(shop, MEMBER)
    assert named is not None and named.shopper.day_key and named.shopper.sealed is None
    act(shop, "granted", PHONE, "matching")
    assert who(shop, PHONE) is None and shop.subjects.counters.unsealed >= 2
    assert shop.subjects.counters.no_consent == 0


def test_what_was_agreed_elsewhere_counts_until_the_person_says_otherwise(make_shop: Callable[..., Shop]) -> None:
    """The membership's terms may cover visits; a withdrawal here still wins."""
    shop = make_shop(assumed_purposes={"member": ("visits",)})
    named = who(shop, MEMBER)
    assert named is not None and named.consent == "assumed-member" and named.shopper.sealed is None
    assert who(shop, PHONE) is None
    act(shop, "withdrawn", MEMBER)
    assert who(shop, MEMBER) is None


def test_a_grant_says_who_and_a_withdrawal_only_which_record(shop: Shop) -> None:
    """After a withdrawal no event names the person; where the grant was elsewhere, the platform alone is told."""
    given = act(shop, "granted", MEMBER, "visits matching", language="zh-CN", method="till")
    assert isinstance(given, ConsentGranted) and given.shopper is not None and given.notice_version == "2026-10"
    assert given.purposes == ("visits", "matching") and given.expires_at is not None
    ended = act(shop, "withdrawn", MEMBER)
    assert isinstance(ended, ConsentWithdrawn) and ended.record_id == given.record_id and ended.shopper is None
    stranger = act(shop, "withdrawn", Identity("member", "M-31337"))
    assert stranger.shopper is not None and stranger.shopper.day_key is None
    assert shop.opener.open(stranger.shopper.sealed).value == "M-31337"


def test_a_withdrawal_whose_record_does_not_tell_whose_says_who(shop: Shop) -> None:
    """A till that numbers withdrawals apart, or writes one word for all: the platform must end the right consent."""
    ada, ben = MEMBER, Identity("member", "M-2")
    act(shop, "granted", ada, "matching", record_id="R-1")
    ended = act(shop, "withdrawn", ada, record_id="W-9")
    assert shop.opener.open(ended.shopper.sealed).value == "M-4711" and ended.shopper.day_key is None
    for one in (ada, ben):
        shop.clock.advance(1)
        act(shop, "granted", one, "matching", record_id="terms-2026")
    shop.clock.advance(1)
    ended = act(shop, "withdrawn", ben, record_id="terms-2026")
    assert shop.opener.open(ended.shopper.sealed).value == "M-2"
    shop.clock.advance(1)
    act(shop, "granted", ada, "matching", record_id="R-2")
    assert act(shop, "withdrawn", ada, record_id="R-2").shopper is None


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"purposes": ""}, "none is named"),
        ({"purposes": "visits, marketing"}, "no such purpose"),
        ({"purposes": "visits " * 200}, "no such purpose"),
        ({"identifier": "0"}, "nobody"),
        ({"scheme": "star-sign"}, "not known"),
        ({"expires": "2027-01-01"}, "no time"),
        ({"expires": "9999-12-31T23:59:59+00:00"}, "no time"),
        ({"record_id": "a b"}, "form"),
        ({"record_id": "r-M4711"}, "holds the person"),
        ({"method": "till-4711-M-4711"}, "holds the person"),
        ({"notice_digest": "sha256"}, "form"),
        ({"language": "\x00"}, "form"),
    ],
)
def test_an_act_that_is_none_is_refused_without_quoting_it(shop: Shop, more: dict[str, Any], reason: str) -> None:
    """It goes to quarantine, where its payload is sealed; the reason is read by people."""
    fields: dict[str, Any] = {"act": "granted", "scheme": "member", "identifier": "m-4711", "purposes": "visits"}
    at = shop.clock.now()
    with pytest.raises(Rejected, match=reason) as caught:
        shop.subjects.consent(ConsentAct(**{**fields, **more}), at, at.wall_s)
    assert "4711" not in str(caught.value) and "star" not in str(caught.value)


def test_a_consent_without_a_notice_is_none(make_shop: Callable[..., Shop]) -> None:
    """Nobody agrees to what they were not told."""
    shop = make_shop(notice_version="")
    with pytest.raises(Rejected, match="notice"):
        act(shop, "granted", MEMBER, "visits")
    assert (
        act(shop, "granted", MEMBER, "visits", notice_version="v3", notice_digest="AB" * 32).notice_digest == "ab" * 32
    )


def test_the_day_key_changes_at_the_shops_midnight(shop: Shop) -> None:
    """Not at that of Greenwich, which is in the middle of a shop's day."""
    act(shop, "granted", MEMBER, "visits")
    shop.clock.wall_s = 1_795_312_800.0 - 1_795_312_800.0 % 86_400 - 8 * 3600 + 600  # 00:10 in Shanghai

    def key() -> str | None:
        named = who(shop, MEMBER)
        return None if named is None else named.shopper.day_key

    shop.clock.advance(86_400)
    morning = key()
    shop.clock.advance(23 * 3600)
    assert morning is not None and key() == morning
    shop.clock.advance(3600)
    assert key() != morning


def linked(shop: Shop, *others: Identity) -> Linked | None:
    at = shop.clock.now()
    return shop.subjects.linked(MEMBER, others, at, at.wall_s)


def test_what_a_member_proved_theirs_is_sealed_beside_them(shop: Shop) -> None:
    """Both go to the platform; with the consent for visits both have a key of the day, what was given up has none."""
    assert linked(shop, PHONE) is None
    act(shop, "granted", MEMBER, "visits")
    assert linked(shop, PHONE) is None, "joining identifiers is matching"
    act(shop, "granted", MEMBER, "matching")
    told = linked(shop, PHONE)
    assert told is not None and told.others[0].sealed is not None
    own = who(shop, PHONE)
    assert own is None and told.others[0].day_key, "the phone number has no consent of its own, the member has"
    act(shop, "granted", PHONE, "visits")
    own = who(shop, PHONE)
    assert own is not None and own.shopper.day_key == told.others[0].day_key != told.subject.shopper.day_key
    changed = linked(shop, PHONE, Identity("phone", "139 0013 8000"))
    assert changed is not None and changed.others[0].day_key and changed.others[1].day_key is None
    assert shop.opener.open(told.others[0].sealed) == Identifier("phone", "+8613800138000")


def test_a_withdrawal_on_the_linked_identifier_stops_the_link(shop: Shop) -> None:
    """A phone number that was taken back is not sent as somebody's; one that is none is refused."""
    act(shop, "granted", MEMBER, "visits,matching")
    shop.clock.advance(1)
    act(shop, "withdrawn", PHONE)
    assert linked(shop, PHONE) is None
    shop.clock.advance(1)
    act(shop, "granted", PHONE, "matching")
    told = linked(shop, PHONE)
    assert told is not None and told.subject.shopper.day_key is told.others[0].day_key is None, "no visits"
    with pytest.raises(Rejected):
        linked(shop, Identity("phone", "no number"))
