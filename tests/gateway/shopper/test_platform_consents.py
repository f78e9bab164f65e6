"""What the platform may say about persons, and the keys that make it possible."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from gateway.clock import rfc3339_s
from gateway.errors import Rejected, Unavailable
from gateway.event import Draft, Origin
from gateway.intake.reading import ConsentAct, Identity
from gateway.shopper.identifiers import Identifier
from gateway.shopper.key_ring import KeyRing, SealKey
from gateway.shopper.platform_consents import ConsentDesk
from gateway.shopper.receipt import lines
from gateway.shopper.sealing import Opener, Sealer, key_from_text, key_to_text, new_key
from sync.commands import Command
from tests.gateway.shopper.conftest import Shop


class Desk:
    """A shop's desk, what it journalled, and the platform's hand in sealing to it."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.said: list[Draft] = []
        self.takes = True
        self.desk = ConsentDesk(shop.subjects, shop.ring, Origin("t1", "1", "gw01"), shop.clock, self._emit)
        self.key_id, public = shop.ring.own_public()
        self.sealer = Sealer(self.key_id, key_from_text(public))

    def _emit(self, draft: Draft) -> bool:
        self.said.append(draft)
        return self.takes

    def update(self, **more: Any) -> Any:
        data = {
            "act": "granted", "person": self.sealer.seal(Identifier("member", "M-1")), "purposes": ["visits"],
            "at": rfc3339_s(self.shop.clock.wall_s - 5), "notice_version": "3",
        }  # fmt: skip
        return self.desk.update(Command("c1", "consent.update", {**data, **more}))

    def named(self) -> bool:
        at = self.shop.clock.now()
        return self.shop.subjects.subject((Identity("member", "m-1"),), at, at.wall_s) is not None


@pytest.fixture
def desk(shop: Shop) -> Desk:
    return Desk(shop)


def test_a_consent_from_the_platform_counts_and_becomes_an_event(desk: Desk) -> None:
    """The event bears the command's name, so that a repetition after a crash is no second one."""
    first, again = desk.update(), desk.update()
    assert first == again and desk.named() and desk.said[0].dedupe == desk.said[1].dedupe != b""
    event = msgspec.json.decode(desk.said[0].body)
    assert event["type"] == "store.consent.granted.v1" and event["data"]["method"] == "platform"
    assert event["consentref"] == first["record_id"] and b"M-1" not in desk.said[0].body
    desk.update(act="withdrawn", purposes=[], at=rfc3339_s(desk.shop.clock.wall_s))
    assert not desk.named()


def test_an_older_consent_of_the_platform_does_not_undo_a_withdrawal_in_the_shop(desk: Desk) -> None:
    """Two places may speak of one person; the newest act counts."""
    desk.update(act="withdrawn", purposes=[], at=rfc3339_s(desk.shop.clock.wall_s - 1))
    desk.update(at=rfc3339_s(desk.shop.clock.wall_s - 60))
    assert not desk.named()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"person": "M-1"}, "form"),
        ({"person": "13800138000" * 9}, "form"),
        ({"at": "yesterday"}, "no time"),
        ({"purposes": ["everything"]}, "no such purpose"),
        ({"member": "M-1"}, "a field"),
        ({"act": "M-1"}, "a field"),
    ],
)
def test_a_command_that_is_none_is_refused_without_quoting_it(desk: Desk, more: dict[str, Any], reason: str) -> None:
    """A refusal becomes an event, which must not hold what was refused."""
    with pytest.raises(Rejected, match=reason) as caught:
        desk.update(**more)
    assert "M-1" not in caught.value.reason and "138" not in caught.value.reason and not desk.said


def test_what_is_sealed_to_another_gateway_is_refused(desk: Desk, make_shop: Callable[..., Shop]) -> None:
    """A command that went astray tells this shop nothing."""
    key_id, public = make_shop().ring.own_public()
    with pytest.raises(Rejected, match="not here"):
        desk.update(person=Sealer(key_id, key_from_text(public)).seal(Identifier("member", "M-1")))


def test_a_journal_that_does_not_take_the_event_has_the_command_repeated(desk: Desk) -> None:
    """Unavailable asks for it again; what was granted stays granted."""
    desk.takes = False
    with pytest.raises(Unavailable):
        desk.update()


def test_what_a_person_says_at_the_page_counts_at_once(desk: Desk) -> None:
    """And comes back as what a receipt is made of."""
    given = desk.desk.take(ConsentAct(act="granted", identifier=" m-1 ", purposes="visits", method="tablet"))
    assert desk.named() and "Consent receipt" in lines(given, "0042", "en")
    assert msgspec.json.decode(desk.said[0].body)["source"] == "//t1/stores/1/gw01/page/consents"
    ended = desk.desk.take(ConsentAct(act="withdrawn", identifier="M-1"))
    assert ended.record_id == given.record_id and not desk.named()
    with pytest.raises(Rejected):
        desk.desk.take(ConsentAct(act="granted", identifier="0", purposes="visits"))


def test_a_new_key_seals_from_its_time_on_and_survives_a_start(desk: Desk) -> None:
    """Until then the old one seals; what was sealed to it the platform goes on opening."""
    shop = desk.shop
    private, public = new_key()
    soon = rfc3339_s(shop.clock.wall_s + 60)
    data = {"key_id": "p2", "public_key": key_to_text(public), "not_before": soon}
    assert desk.desk.rotate(Command("k1", "keys.rotate", data)) == {"installed": True, "sealing": "p1"}
    assert desk.desk.rotate(Command("k1", "keys.rotate", data)) == {"installed": False, "sealing": "p1"}
    desk.update(purposes=["matching"])

    def sealed() -> str:
        at = shop.clock.now()
        named = shop.subjects.subject((Identity("member", "M-1"),), at, at.wall_s)
        assert named is not None and named.shopper.sealed is not None
        return named.shopper.sealed

    assert sealed().startswith("p1.")
    shop.clock.advance(61)
    shop.consents.close()
    shop.begin()
    assert Opener({"p2": private}).open(sealed()).value == "M-1"


@pytest.mark.parametrize(
    "data",
    [
        {"key_id": "p1", "public_key": key_to_text(new_key()[1])},
        {"key_id": "p 2", "public_key": key_to_text(new_key()[1])},
        {"key_id": "p2", "public_key": base64.b64encode(bytes(32)).decode()},
        {"key_id": "p2", "public_key": "AAAA"},
        {"key_id": "p2"},
    ],
)
def test_a_key_that_is_none_or_bears_anothers_name_is_refused(desk: Desk, data: dict[str, str]) -> None:
    """Nothing is ever sealed to it."""
    with pytest.raises(Rejected):
        desk.desk.rotate(Command("k", "keys.rotate", data))
    known = desk.shop.ring.keys()
    assert [key.id for key in known] == ["p1"]


def test_a_file_of_keys_that_does_not_answer_now_is_not_thrown_away(shop: Shop) -> None:
    """Too many open files, a slow disk: the configured key seals meanwhile, and no new key takes the others' place."""
    ring = KeyRing(shop.folder / "keys", shop.privacy.seal_keys)
    path = shop.folder / "keys" / "platform-keys.json"
    path.mkdir(parents=True)  # nothing that can be read
    key = ring.sealing(shop.clock.wall_s)
    assert key is not None and key.id == "p1" and path.exists()
    with pytest.raises(Unavailable):
        ring.add(SealKey(id="p9", public=key_to_text(new_key()[1]), origin="platform"))
    path.rmdir()
    assert ring.add(SealKey(id="p9", public=key_to_text(new_key()[1]), origin="platform"))
    known = ring.keys()
    assert [one.id for one in known] == ["p1", "p9"]


def test_a_damaged_file_of_keys_leaves_the_configured_ones(shop: Shop) -> None:
    """It is set aside: sales with members must not wait for somebody to repair it."""
    path = shop.folder / "keys" / "platform-keys.json"
    shop.ring.add(SealKey(id="p2", public=key_to_text(new_key()[1])))
    path.write_bytes(b"[{")
    ring = KeyRing(shop.folder / "keys", shop.privacy.seal_keys)
    key = ring.sealing(shop.clock.wall_s)
    assert key is not None and key.id == "p1" and path.with_name(path.name + ".damaged").exists()


def test_a_configured_key_that_is_no_point_seals_nothing_and_stops_nothing(make_shop: Callable[..., Shop]) -> None:
    """32 bytes pass the configuration's check; a weak point is found when it is used, and doctor says so."""
    shop = make_shop(seal_keys={"p1": base64.b64encode(bytes(32)).decode()}, assumed_purposes={"member": ("visits",)})
    at = shop.clock.now()
    named = shop.subjects.subject((Identity("member", "M-1"),), at, at.wall_s)
    assert named is not None and shop.ring.sealer(at.wall_s) is None


def test_our_own_key_is_the_gateways_alone_and_stays_the_same(shop: Shop) -> None:
    """Made once, mode 0600; commands sealed to it open after a restart."""
    first = shop.ring.own_public()
    assert KeyRing(shop.folder / "keys", {}).own_public() == first
    assert (shop.folder / "keys" / "seal.key").stat().st_mode & 0o777 == 0o600
