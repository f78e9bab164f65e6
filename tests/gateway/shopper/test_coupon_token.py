"""The coupon's text: what is issued is read, what anybody has touched is not."""

from __future__ import annotations

import base64
import json
import string
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Rejected
from gateway.shopper.coupon_token import LONGEST, MARK, CouponToken, issue, public_key, read, verify

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "coupon_tokens.json").read_text("utf-8"))
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
KEYS = {"k1": KEY.public_key()}
PLAIN = CouponToken(
    key="k1", id="C-1", campaign="spring", face=Decimal("10.00"), currency="CNY", not_before_s=1_790_000_000,
    expires_s=1_800_000_000,
)  # fmt: skip


def reason(text: str, keys: Any = KEYS) -> str:
    with pytest.raises(Rejected) as caught:
        verify(text, keys)
    assert text[8:20] not in str(caught.value) or len(text) < 20
    return caught.value.reason


def resigned(fields: bytes) -> str:
    """Any bytes, signed by the trusted key all the same."""
    signed = fields + KEY.sign(b"storefront/coupon/v1\0" + fields)
    return "SFC1" + base64.b32encode(signed).decode().rstrip("=")


def fields_of(text: str) -> bytes:
    code = text[4:]
    return base64.b32decode(code + "=" * (-len(code) % 8))[:-64]


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_the_published_vectors_are_issued_and_read_as_written(vector: dict[str, Any]) -> None:
    """Another implementation that follows the vectors makes the same texts from the same fields and seed."""
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTORS["seed"]))
    token = msgspec.convert(vector["fields"], CouponToken)
    assert issue(token, key) == vector["token"]
    assert verify(vector["token"], {token.key: public_key(VECTORS["public"])}) == token


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_the_published_bad_vectors_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    """Each hostile text has one reason, the one that the vectors state."""
    assert reason(vector["token"], {"k1": public_key(VECTORS["public"])}) == vector["reason"]


NAMES = st.text(string.ascii_letters + string.digits + "._-", min_size=0, max_size=31).map(lambda rest: "c" + rest)
STORES = st.text(string.digits, min_size=1, max_size=8)


@given(
    id=NAMES, campaign=NAMES, face=st.decimals("0.001", "9999999.999", places=3), uses=st.integers(1, 999),
    stores=st.lists(STORES, max_size=12, unique=True).map(tuple), home=st.just("") | STORES,
    start=st.integers(0, (1 << 32) - 2), length=st.integers(1, 1 << 20),
)  # fmt: skip
def test_what_is_issued_is_read(start: int, length: int, **fields: Any) -> None:
    """Every coupon that can be said comes back as it was."""
    end = min(start + length, (1 << 32) - 1)
    token = CouponToken(key="k1", currency="EUR", not_before_s=start, expires_s=end, **fields)
    assert verify(issue(token, KEY), KEYS) == token


@given(st.integers(0, 10_000), st.sampled_from(string.printable))
def test_no_character_can_be_changed(place: int, letter: str) -> None:
    """One character of a token replaced by any other makes it worthless."""
    text = issue(PLAIN, KEY)
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        assert reason(changed) in ("malformed", "unknown_version", "unknown_key", "bad_signature")


@given(st.text(max_size=700) | st.text(string.ascii_uppercase + "234567", max_size=700).map("SFC1".__add__))
def test_any_text_is_refused_and_nothing_else(text: str) -> None:
    """Whatever a scanner reads is a reason, not a crash."""
    assert reason(text) in ("malformed", "too_long", "unknown_version", "unknown_key", "bad_signature")


@given(st.binary(max_size=200))
def test_any_fields_of_the_issuer_are_whole_or_refused(fields: bytes) -> None:
    """Even with a right signature, only what this version would write is a coupon."""
    text = resigned(fields)
    try:
        token = verify(text, KEYS)
    except Rejected as error:
        assert error.reason in ("malformed", "unknown_key")
    else:
        assert issue(token, KEY) == text


def test_a_field_that_stands_twice_is_refused() -> None:
    """Two faces in one token: which one counts must not depend on the reader."""
    fields = fields_of(issue(PLAIN, KEY))
    at = fields.index(bytes((4, 5)) + b"10.00")
    assert reason(resigned(fields[: at + 7] + bytes((4, 5)) + b"99.00" + fields[at + 7 :])) == "malformed"
    assert reason(resigned(fields + fields)) == "malformed"


def test_a_field_that_is_not_known_is_refused() -> None:
    """A later version's field could limit the coupon, so it is not passed over."""
    assert reason(resigned(fields_of(issue(PLAIN, KEY)) + bytes((13, 1)) + b"x")) == "malformed"


def test_a_signature_of_another_purpose_is_none() -> None:
    """The same fields signed without the context, or with another key under the same id, are forged."""
    fields = fields_of(issue(PLAIN, KEY))
    bare = "SFC1" + base64.b32encode(fields + KEY.sign(fields)).decode().rstrip("=")
    assert reason(bare) == "bad_signature"
    assert reason(issue(PLAIN, Ed25519PrivateKey.generate())) == "bad_signature"
    assert reason(issue(PLAIN, KEY), {}) == "unknown_key"


def test_the_unused_bits_at_the_end_are_zero() -> None:
    """One coupon has one text: a token whose last character differs in unused bits is not the same."""
    text = next(
        text for number in range(20)
        if len(text := issue(msgspec.structs.replace(PLAIN, id="C" * (1 + number)), KEY)[4:]) % 8
    )  # fmt: skip
    alphabet = string.ascii_uppercase + "234567"
    twin = text[:-1] + alphabet[alphabet.index(text[-1]) + 1]
    assert reason("SFC1" + twin) == "malformed"


def test_what_is_too_long_is_not_even_decoded() -> None:
    """A text beyond the limit has its own reason."""
    assert reason("SFC1" + "A" * LONGEST) == "too_long"


def test_a_token_suits_a_small_qr_code() -> None:
    """Every character is in the QR code's alphanumeric mode and a usual coupon needs fewer than 300."""
    text = issue(msgspec.structs.replace(PLAIN, stores=("0042", "0043"), home="0042", channel="app"), KEY)
    assert len(text) < 300 and set(text) <= set(string.ascii_uppercase + string.digits) and text.startswith(MARK)


@pytest.mark.parametrize(
    "change",
    [
        {"id": ""}, {"id": "a b"}, {"id": "x" * 33}, {"face": Decimal(0)}, {"face": Decimal("1.2345")},
        {"face": Decimal("NaN")}, {"currency": "cny"}, {"uses": 0}, {"uses": 1000}, {"expires_s": 1},
        {"expires_s": 1 << 33}, {"stores": ("0042", "0042")}, {"home": "a,b"}, {"key": "K"},
        {"stores": tuple(f"store-{number:020d}" for number in range(10))}, {"not_before_s": -1},
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_not_issued(change: dict[str, Any]) -> None:
    """A coupon that no till could read is refused before it is given out."""
    with pytest.raises(Rejected):
        issue(msgspec.structs.replace(PLAIN, **change), KEY)


def test_a_public_key_is_32_bytes() -> None:
    """A key in the configuration that is none is refused with how to get it right."""
    for text in ("", "abc", base64.urlsafe_b64encode(bytes(31)).decode(), "ü" * 43):
        with pytest.raises(Rejected):
            public_key(text)


def test_reading_without_a_key_says_what_stands_there() -> None:
    """For a person to look at, whoever signed it."""
    assert read(issue(PLAIN, Ed25519PrivateKey.generate())) == PLAIN
