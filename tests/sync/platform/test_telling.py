"""Telling the shops about a person, and forgetting one: who may be told, and that nothing of the forgotten stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from gateway.clock import rfc3339_s
from gateway.errors import Rejected
from gateway.event_types import CommandCompleted, CouponRedeemed
from gateway.platform_commands.coupons import Issue
from gateway.platform_commands.subject_erase import _read
from gateway.shopper import coupon_token
from gateway.shopper.platform_consents import ConsentUpdate
from gateway.shopper.sealing import Opener
from sync.platform.telling import Erased
from sync.uplink import Lane
from tests.sync.platform.platform_parts import DAY_S, EPOCH, T0, shopper
from tests.sync.platform.town import ISSUER, PRIVATE, Town

ANN, BEN = shopper("member", "CANARY-A1", "a" * 32), shopper("member", "CANARY-B2")
PHONE, SHARED = shopper("phone", "+8613800001234"), shopper("phone", "+8613800005678", "b" * 32)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    it = Town(tmp_path)
    yield it
    it.close()


def life(town: Town) -> None:
    """Two members with a shared phone; ANN buys, is linked, visits."""
    town.agrees(ANN, record="record-of-ann")
    town.agrees(BEN, record="record-of-ben")
    town.links(ANN, PHONE)
    town.links(ANN, SHARED)
    town.links(BEN, SHARED)
    town.sells("s1", T0 + 10, who=ANN, record="record-of-ann")
    town.sells("s2", T0 + DAY_S, who=PHONE)
    town.sells("s3", T0 + DAY_S, who=BEN)
    town.visits("v1", rfc3339_s(T0), rfc3339_s(T0 + 99), who=ANN, sales=("s1",))
    town.send()


def finish(town: Town, done: Erased) -> int:
    """The shops say that they have done it."""
    for told in done.commands:
        town.log.add(CommandCompleted(command=told.command, kind="subject.erase", outcome="done"))
    town.send()
    return town.telling.tidy()


def test_a_forgotten_person_is_nowhere_and_the_money_is(town: Town) -> None:
    life(town)
    key = town.key("CANARY-A1")
    done = town.telling.erase(key)
    assert done.events == 6
    assert town.reading.person(key) is None
    assert town.key_of("member", "CANARY-A1") is None
    finish(town, done)
    raw = town.raw()
    for canary in (b"CANARY-A1", b"+8613800001234", b"record-of-ann", b"a" * 32):
        assert canary not in raw, canary
    assert b"CANARY-B2" in raw  # the clear seal of the test: another's events are untouched
    with town.book.reading() as connection:
        rows = connection.execute("SELECT ref, amount_parts, identifier IS NULL FROM touch WHERE ref < 't'").fetchall()
    assert rows == [("s1", 100_000, 1), ("s2", 100_000, 1), ("s3", 100_000, 0)]
    assert town.refs("member", "CANARY-B2") == ["s3"]


def test_the_shops_are_told_by_events_and_keys_in_the_form_that_they_take(town: Town) -> None:
    life(town)
    town.telling.erase(town.key("CANARY-A1"))
    told = town.commands("subject.erase")
    for data in told:
        _read(data)
    assert sum(len(data.get("positions", [])) for data in told) == 6  # type: ignore[arg-type,misc]
    assert [data["day_keys"] for data in told if "day_keys" in data] == [["a" * 32]]
    assert [data["consentrefs"] for data in told if "consentrefs" in data] == [["record-of-ann"]]
    assert not any("CANARY-B2" in json.dumps(data) for data in told)


def test_a_record_that_others_have_too_erases_nobody_else(town: Town) -> None:
    """A till that writes one word as the record of every consent; what a shop only assumes."""
    town.agrees(ANN, record="terms-2026")
    town.agrees(BEN, T0 + 1, record="terms-2026")
    town.agrees(ANN, T0 + 2, record="assumed-member")
    town.sells("s1", T0 + 10, who=ANN, record="terms-2026")
    town.send()
    town.telling.erase(town.key("CANARY-A1"))
    told = town.commands("subject.erase")
    assert told and not any(data.get("consentrefs") for data in told)


def test_an_erasure_that_is_done_leaves_no_key_in_the_commands(town: Town) -> None:
    life(town)
    done = town.telling.erase(town.key("CANARY-A1"))
    assert finish(town, done) == len(done.commands)
    assert all(data == {} for data in town.commands("subject.erase"))


def test_what_comes_late_of_a_forgotten_person_is_forgotten_too_and_a_new_beginning_is_not(town: Town) -> None:
    life(town)
    town.telling.erase(town.key("CANARY-A1"))
    town.sells("late", T0 + 20, who=ANN)
    town.agrees(ANN, town.now_s + 10, record="new-record")
    town.sells("new", town.now_s + 20, who=ANN)
    town.send()
    assert town.telling.tidy() == 1
    town.now_s += 100
    assert town.refs("member", "CANARY-A1") == ["new"]
    bodies = [body for _, body in town.events(0, 100) if b'"late"' in body]
    assert len(bodies) == 1 and b"CANARY" not in bodies[0]


def test_the_same_events_again_are_duplicates_and_bring_nobody_back(town: Town) -> None:
    life(town)
    lane = Lane("gw01", "measurements", EPOCH)
    before = dict(town.events(0, 100))
    town.telling.erase(town.key("CANARY-A1"))
    visit = next(body for body in before.values() if b"visit.closed" in body)
    seq = int(json.loads(visit)["sequence"])
    said = town.store.consume(lane, 1, 1, b"[" + visit + b"]")
    assert said.fresh == 0 and said.results[0].status == "duplicate" and seq
    assert b"CANARY-A1" not in b"".join(body for _, body in town.events(0, 100))


def test_offers_need_a_consent_for_offers_and_a_key_to_seal_to(town: Town) -> None:
    life(town)
    key = town.key("CANARY-A1")
    with pytest.raises(Rejected, match="not agreed to offers"):
        town.telling.hint(key, "gw01", "likes tea")
    town.telling.consent(key, "gw01", ("offers",), granted=True)
    told = town.telling.hint(key, "gw01", "likes  tea", tier="gold")
    hint = town.commands("profile.hints")[0]["hints"][0]  # type: ignore[index]
    opened = {Opener({"g1": PRIVATE}).open(one).value for one in hint["sealed"]}
    assert (hint["text"], hint["tier"], opened) == ("likes tea", "gold", {"CANARY-A1", "+8613800001234"})
    assert told.command.startswith("profile-hints-")
    for text in ("", "x" * 300, "a\x00b"):
        with pytest.raises(Rejected):
            town.telling.hint(key, "gw01", text)
    with pytest.raises(Rejected, match="no such gateway"):
        town.telling.hint(key, "gw99", "x")
    with pytest.raises(Rejected, match="no such person"):
        town.telling.hint("nobody", "gw01", "x")
    town.store.beat("gw01", b"{}", "")
    with pytest.raises(Rejected, match="no key"):
        town.telling.hint(key, "gw01", "x")


def test_a_coupon_goes_down_and_its_redemption_comes_back_up(town: Town) -> None:
    life(town)
    key = town.key("CANARY-A1")
    town.telling.consent(key, "gw01", ("offers",), granted=True)
    with pytest.raises(Rejected, match="no such gateway"):
        town.telling.issue_coupon(key, "gw99", "0042", "spring", Decimal("5.00"))
    assert town.profile("member", "CANARY-A1").coupons == ()  # one that no shop heard of was not issued
    token, _ = town.telling.issue_coupon(key, "gw01", "0042", "spring", Decimal("5.00"))
    said = coupon_token.verify(token, {"k1": ISSUER.public_key()})
    issued = msgspec.convert(town.commands("coupons.issue")[0], Issue)
    assert issued.tokens == (token,) and coupon_token.public_key(issued.keys[0].public)
    told = [msgspec.convert(data, ConsentUpdate) for data in town.commands("consent.update")]
    assert [Opener({"g1": PRIVATE}).open(it.person).scheme for it in told] == ["member", "phone"]
    card = town.profile("member", "CANARY-A1").coupons[0]
    assert (card.coupon, card.state) == (said.id, "issued")
    town.log.add(CouponRedeemed(coupon=said.id, campaign="spring", channel="app"), T0 + DAY_S)
    town.send()
    card = town.profile("member", "CANARY-A1").coupons[0]
    assert (card.state, card.store) == ("redeemed", "0042")
    town.telling.consent(key, "gw01", ("offers",), granted=False)
    with pytest.raises(Rejected):
        town.telling.issue_coupon(key, "gw01", "0042", "spring", Decimal("5.00"))
