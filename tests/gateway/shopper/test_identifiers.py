"""Identifiers: one spelling for one person, nothing for what names nobody, and no error that quotes one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Rejected
from gateway.shopper.identifiers import SCHEMES, Identifier, Rules, Scheme, normalise, scheme_of

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "identifiers.json").read_text("utf-8")
)["vectors"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['scheme']}-{vector['raw'][:24]!a}")
def test_an_identifier_is_spelled_as_the_vectors_say(vector: dict[str, Any]) -> None:
    """Store and platform share these; a change here is a change on both sides."""
    rules = Rules(region=vector["region"], member_check=vector["member_check"])
    if vector["normalised"] is None:
        with pytest.raises(Rejected):
            normalise(vector["scheme"], vector["raw"], rules)
    else:
        assert normalise(vector["scheme"], vector["raw"], rules).value == vector["normalised"]


@given(scheme=st.sampled_from(SCHEMES), raw=st.text(max_size=300))
def test_whatever_is_read_is_spelled_or_refused_and_twice_the_same(scheme: Scheme, raw: str) -> None:
    """Nothing but Rejected is raised, a spelling is stable, and it can be encoded and sealed."""
    try:
        once = normalise(scheme, raw, Rules())
    except Rejected:
        return
    assert once.plaintext.count(b"\x1f") == 1
    assert normalise(scheme, once.value, Rules()) == once


@given(scheme=st.sampled_from(SCHEMES), middle=st.text(alphabet="0123456789abcdefXYZ\x00\ud800@+ ", min_size=6))
def test_no_error_and_no_representation_quotes_an_identifier(scheme: Scheme, middle: str) -> None:
    """What is refused may still be somebody's number, so the reason says only what is wrong with it."""
    try:
        identifier = normalise(scheme, f"ZQ7{middle}", Rules())
    except Rejected as error:
        assert "ZQ7" not in str(error).upper()
    else:
        assert "ZQ7" not in repr(identifier).upper()


def test_a_card_number_is_no_payment_token() -> None:
    """A till that sends the number of a bank card is refused: it has no place here."""
    with pytest.raises(Rejected, match="card number"):
        normalise("payment", "4111111111111111", Rules())


def test_a_scheme_is_known_by_the_names_tills_use_and_by_the_shops_own() -> None:
    """An unknown name is not guessed: the members of two clubs may have the same numbers."""
    rules = Rules(scheme_names={"vip": "member"})
    assert [scheme_of(name, rules) for name in (" Club ", "手机", "VIP", "E-Mail")] == [
        "member", "phone", "member", "email",
    ]  # fmt: skip
    with pytest.raises(Rejected, match="not known"):
        scheme_of("staff", rules)


def test_schemes_keep_equal_values_apart() -> None:
    """The member 123456 and the card 123456 are two persons."""
    assert Identifier("member", "123456").plaintext != Identifier("card", "123456").plaintext
