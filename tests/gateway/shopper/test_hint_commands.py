"""`profile.hints`: from the platform's sealed words to a guest whom a reading names, and what is refused on the way."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.clock import rfc3339_s
from gateway.errors import Rejected, Unavailable
from gateway.intake.reading import ConsentAct, Identity
from gateway.platform_commands.hints import HintDesk
from gateway.shopper.hints import Recognition
from gateway.shopper.identifiers import Identifier
from gateway.shopper.sealing import Sealer, key_from_text
from gateway.shopper.visit_book import VisitDesk
from gateway.shopper.visit_case import Rules
from gateway.shopper.visits import Visits
from sync.commands import Command
from tests.gateway.shopper.conftest import Shop


class Desk:
    """A shop with visits, and the platform's hand in sealing to it."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.visits = VisitDesk(Rules(), Recognition(shop.clock))
        self.visits.machine = Visits(Rules())
        shop.writer.transact(self.visits.recognition.load)
        shop.subjects.watch = self.visits
        self.handler = HintDesk(
            SimpleNamespace(  # type: ignore[arg-type]
                subjects=shop.subjects, consents=shop.consents, key_ring=shop.ring, clock=shop.clock,
                commits=shop.writing, visits=self.visits,
            ),
            self.visits,
        )  # fmt: skip
        key_id, public = shop.ring.own_public()
        self.sealer = Sealer(key_id, key_from_text(public))

    def sealed(self, scheme: str = "member", value: str = "M-1") -> str:
        return self.sealer.seal(Identifier(scheme, value))  # type: ignore[arg-type]

    def tell(self, **more: Any) -> dict[str, Any]:
        hint = {
            "sealed": [self.sealed()], "text": "欢迎", "tier": "gold", "language": "zh", "coupons": ["C-1"],
            "expires_at": rfc3339_s(self.shop.clock.wall_s + 3600),
        }  # fmt: skip
        return dict(self.handler(Command("c1", "profile.hints", {"hints": [{**hint, **more}]})))

    def consent(self, act: str = "granted", purposes: str = "visits,offers", who: str = "M-1") -> None:
        at = self.shop.clock.now()
        said = ConsentAct(act=act, scheme="member", identifier=who, purposes=purposes)  # type: ignore[arg-type]
        self.shop.subjects.consent(said, at, at.wall_s)

    def come(self, who: str = "m-1") -> list[str]:
        at = self.shop.clock.now()
        subject = self.shop.subjects.subject((Identity("member", who),), at, at.wall_s)
        if subject is not None and subject.shopper.day_key:
            self.visits.recognition.here("v1", [subject.shopper.day_key], "till-1", 0)
        return [guest.text for guest in self.visits.recognition.guests()]


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


def test_a_member_who_agreed_is_recognised_by_what_the_platform_said(desk: Desk) -> None:
    desk.consent()
    assert desk.tell()["kept"] == 1 and desk.tell()["kept"] == 1
    assert desk.come() == ["欢迎"]


def test_without_a_consent_for_offers_nothing_is_kept(desk: Desk) -> None:
    desk.consent(purposes="visits")
    assert desk.tell() == {"kept": 0, "taken_back": 0, "no_consent": 1, "expired": 0, "dropped": 0, "refused": {}}
    assert desk.come() == []


def test_a_withdrawal_ends_it_at_once_and_the_hint_does_not_come_back_with_a_new_consent(desk: Desk) -> None:
    desk.consent()
    desk.tell()
    assert desk.come()
    desk.shop.clock.advance(1)
    desk.consent("withdrawn", "offers")
    assert desk.visits.recognition.guests() == []
    desk.shop.clock.advance(1)
    desk.consent()
    assert desk.come() == []


def test_a_withdrawal_that_an_older_message_brings_after_a_newer_consent_ends_nothing(desk: Desk) -> None:
    desk.consent()
    desk.tell()
    at = desk.shop.clock.now()
    old = ConsentAct(act="withdrawn", scheme="member", identifier="M-1", purposes="visits,offers")
    desk.shop.subjects.consent(old, at, at.wall_s - 86_400)
    assert desk.come() == ["欢迎"]
    withdrawal = desk.visits.next_withdrawal()
    assert withdrawal is None or withdrawal[1] == frozenset()


def test_an_empty_text_takes_the_hint_back(desk: Desk) -> None:
    desk.consent()
    desk.tell()
    assert desk.tell(text="")["taken_back"] == 1 and desk.come() == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"text": "a\x1bb"}, "text"),
        ({"text": "number M-1 M1M-1"}, ""),
        ({"language": "<zh>"}, "language"),
        ({"coupons": ["a/b"]}, "coupons"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"sealed": ["gw-1.abc"]}, "it is not in the form of a sealed identifier"),
    ],
)
def test_a_hint_that_is_none_is_refused_with_its_reason_and_the_others_are_taken(
    desk: Desk, changes: dict[str, Any], reason: str
) -> None:
    desk.consent()
    told = desk.tell(**changes)
    assert told["refused"] == ({reason: 1} if reason else {}) and told["kept"] == (0 if reason else 1)


def test_a_hint_that_has_ended_is_not_kept(desk: Desk) -> None:
    desk.consent()
    assert desk.tell(expires_at="2020-01-01T00:00:00Z")["expired"] == 1


@pytest.mark.parametrize("data", [{}, {"hints": 1}, {"hints": [{"text": "SECRET"}]}, {"hints": [], "more": 1}])
def test_a_command_that_is_none_is_refused_without_being_quoted(desk: Desk, data: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as refused:
        desk.handler(Command("c1", "profile.hints", data))
    assert "SECRET" not in str(refused.value)


def test_while_the_book_is_not_open_the_platform_is_asked_again(desk: Desk) -> None:
    desk.consent()
    desk.visits.machine = None
    with pytest.raises(Unavailable):
        desk.tell()


def test_the_table_holds_no_identifier(desk: Desk, make_shop: Callable[..., Shop]) -> None:
    desk.consent(who="MEMBER-4711")
    desk.tell(sealed=[desk.sealed(value="MEMBER-4711")])
    desk.come("member-4711")
    desk.shop.writer.transact(desk.visits.recognition.write)
    desk.shop.close()
    kept = b"".join(path.read_bytes() for path in desk.shop.folder.glob("journal.db*"))
    assert b"4711" not in kept
