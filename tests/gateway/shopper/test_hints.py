"""Hints: what is kept of whom, what is refused, who is on the board and for how long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from gateway.clock import FakeClock
from gateway.shopper.hints import LONGEST_TEXT, Hint, Recognition, checked

A, B, KEY = b"a" * 16, b"b" * 16, "0" * 32


class Shop:
    """A recognition over a table in memory."""

    def __init__(self, most: int = 100) -> None:
        self.clock = FakeClock()
        self.connection = sqlite3.connect(":memory:")
        self.most = most
        self.begin()

    def begin(self) -> None:
        self.recognition = Recognition(self.clock, self.most)
        self.recognition.load(self.connection)

    def hint(self, *persons: bytes, group: str = "g", days: float = 1.0, text: str = "hello") -> None:
        hint = Hint(group=group, text=text, expires_ms=int((self.clock.wall_s + days * 86_400) * 1000))
        self.recognition.keep(self.connection, [(person, f"r-{group}") for person in persons], hint)

    def rows(self) -> int:
        return int(self.connection.execute("SELECT count(*) FROM hint").fetchone()[0])

    def come(self, person: bytes = A, key: str = KEY, visit: str = "v1") -> list[str]:
        self.recognition.named(person, key)
        self.recognition.here(visit, [key], "till-1", 0)
        return [guest.visit for guest in self.recognition.guests()]


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop()
    yield made
    made.connection.close()


@pytest.mark.parametrize(
    ("text", "tier", "language", "coupons", "wrong"),
    [
        ("欢迎光临", "金卡", "zh", ("C-1",), ""),
        ("<script>alert(1)</script>", "", "", (), ""),  # ugly, but text: whoever shows it escapes it
        ("", "", "", (), "text"),
        (" ", "", "", (), "text"),
        ("a" * (LONGEST_TEXT + 1), "", "", (), "text"),
        ("a\nb", "", "", (), "text"),
        ("a\u202eb", "", "", (), "text"),
        ("ok", "\x00", "", (), "tier"),
        ("ok", "t" * 41, "", (), "tier"),
        ("ok", "", "zh'onload", (), "language"),
        ("ok", "", "", ("a b",), "coupons"),
        ("ok", "", "", ("c",) * 21, "coupons"),
        ("call 138 0013 8000", "", "", (), "it names the person"),
        ("ok", "VIP +86-138-0013-8000", "", (), "it names the person"),
        ("ok", "m-4711x", "", (), "it names the person"),
    ],
)
def test_a_hint_is_short_printable_text_without_the_persons_own_identifiers(
    text: str, tier: str, language: str, coupons: tuple[str, ...], wrong: str
) -> None:
    assert checked(text, tier, language, coupons, ["+8613800138000", "M4711X"]) == wrong


def test_nobody_is_on_the_board_without_a_hint_or_a_visit(shop: Shop) -> None:
    assert shop.recognition.wanted is False and shop.come() == []
    shop.hint(A)
    shop.recognition.named(A, KEY)
    assert shop.recognition.guests() == []
    assert shop.come() == ["v1"]
    shop.recognition.gone("v1")
    assert shop.recognition.guests() == []


def test_identifiers_of_one_hint_are_one_person_wherever_they_are_read(shop: Shop) -> None:
    shop.hint(A, B)
    shop.recognition.named(A, "k1")
    shop.recognition.named(B, "k2")
    assert shop.recognition.lead("k2") == shop.recognition.lead("k1")
    assert shop.recognition.lead("k3") == "k3"


def test_a_hint_that_has_ended_is_not_shown_and_goes_at_the_next_start(shop: Shop) -> None:
    shop.hint(A, days=1)
    shop.clock.advance(90_000)
    assert shop.come() == []
    shop.begin()
    assert shop.rows() == 0 and not shop.recognition.wanted


@pytest.mark.parametrize(("purpose", "hinted"), [("offers", False), ("visits", True)])
def test_a_withdrawal_takes_the_guest_from_the_board_at_once_and_without_offers_the_hint_too(
    shop: Shop, purpose: str, hinted: bool
) -> None:
    shop.hint(A, B)
    shop.come()
    shop.recognition.withdrawn(A, KEY, [purpose])
    assert shop.recognition.guests() == [] and shop.recognition.wanted is hinted
    shop.recognition.write(shop.connection)
    assert shop.rows() == (2 if hinted else 0)
    assert [notice.here for notice in shop.recognition.notices()] == [True, False]


def test_the_platform_takes_a_hint_back_by_any_identifier(shop: Shop) -> None:
    shop.hint(A, B)
    shop.come()
    shop.recognition.take_back(shop.connection, [B])
    assert shop.rows() == 0 and shop.recognition.guests() == []


def test_an_erasure_by_consent_record_or_by_day_key_forgets_the_person(shop: Shop) -> None:
    shop.hint(A, group="g")
    shop.hint(B, group="h")
    shop.recognition.named(B, KEY)
    shop.recognition.erased("r-g".__eq__)
    assert shop.come(A, "k1") == []
    shop.recognition.erased(KEY.__eq__)
    assert not shop.recognition.wanted


def test_there_are_never_more_than_allowed_and_what_ends_soonest_goes_first() -> None:
    shop = Shop(most=3)
    for number in range(10):
        shop.hint(bytes([number]) * 16, group=str(number), days=1 + number)
    assert shop.rows() == 3 and shop.come(bytes([9]) * 16) == ["v1"] and shop.come(bytes([0]) * 16, "k", "v2") == ["v1"]
    shop.connection.close()


def test_a_restart_knows_who_was_in_the_shop(shop: Shop) -> None:
    shop.hint(A)
    shop.come()
    shop.recognition.write(shop.connection)
    shop.begin()
    shop.recognition.here("v1", [KEY], "till-1", 0)
    assert len(shop.recognition.guests()) == 1


def test_a_damaged_row_is_no_hint(shop: Shop) -> None:
    shop.hint(A)
    shop.connection.execute("UPDATE hint SET hint = x'ff00'")
    shop.begin()
    assert not shop.recognition.wanted
