"""Sealing: what a store seals, and only that, opens with the platform's key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Rejected
from gateway.shopper.identifiers import Identifier
from gateway.shopper.sealing import INFO, Opener, Sealer, key_from_text, new_key, public_of, reseal

FILE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "sealing.json").read_text("utf-8"))
PRIVATE = key_from_text(FILE["private_key"])
OPENER = Opener({FILE["key_id"]: PRIVATE})


@pytest.mark.parametrize("vector", FILE["vectors"], ids=lambda vector: vector["scheme"])
def test_the_shared_vectors_open(vector: dict[str, str]) -> None:
    """Sealed once, for ever readable: both sides keep to the same bytes."""
    assert OPENER.open(vector["sealed"]) == Identifier(vector["scheme"], vector["value"])  # type: ignore[arg-type]


@pytest.mark.parametrize("vector", FILE["vectors"], ids=lambda vector: vector["scheme"])
def test_another_hand_opens_them_by_the_standard_alone(vector: dict[str, str]) -> None:
    """RFC 9180 written out (base mode, one message): the library and the standard agree on info, suite and layout."""
    key_id, _, text = vector["sealed"].partition(".")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    enc, sealed = raw[:32], raw[32:]

    def extract(suite: bytes, salt: bytes, label: bytes, secret: bytes) -> bytes:
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite + label + secret, hashlib.sha256).digest()

    def expand(suite: bytes, key: bytes, label: bytes, info: bytes, length: int) -> bytes:
        labelled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
        return hmac.new(key, labelled + b"\x01", hashlib.sha256).digest()[:length]

    kem, hpke = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x01"
    private = X25519PrivateKey.from_private_bytes(PRIVATE)
    shared = private.exchange(X25519PublicKey.from_public_bytes(enc))
    context = enc + public_of(PRIVATE)
    secret = expand(kem, extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    schedule = b"\x00" + extract(hpke, b"", b"psk_id_hash", b"") + extract(hpke, b"", b"info_hash", INFO)
    master = extract(hpke, secret, b"secret", b"")
    key, nonce = expand(hpke, master, b"key", schedule, 16), expand(hpke, master, b"base_nonce", schedule, 12)
    plain = AESGCM(key).decrypt(nonce, sealed, b"")
    assert plain.decode() == f"{vector['scheme']}\x1f{vector['value']}" and key_id == FILE["key_id"]


@given(value=st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable()))
def test_whatever_is_sealed_comes_out_again(value: str) -> None:
    """And sealed twice it looks like two persons."""
    sealer = Sealer(FILE["key_id"], public_of(PRIVATE))
    first, second = sealer.seal(Identifier("member", value)), sealer.seal(Identifier("member", value))
    assert first != second and OPENER.open(first).value == OPENER.open(second).value == value


@given(text=st.text(max_size=120), place=st.integers(0, 200), change=st.integers(1, 63))
def test_what_is_damaged_or_made_up_is_refused(text: str, place: int, change: int) -> None:
    """Any changed character and any other text: Rejected, and nothing else."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sealed = FILE["vectors"][0]["sealed"]
    at = len(FILE["key_id"]) + 1 + place % (len(sealed) - len(FILE["key_id"]) - 2)  # the last letter has idle bits
    turned = letters[(letters.index(sealed[at]) + change) % 64]
    for wrong in (text, f"{FILE['key_id']}.{text}", sealed[:at] + turned + sealed[at + 1 :]):
        with pytest.raises(Rejected):
            OPENER.open(wrong)


def test_the_platform_seals_again_to_its_new_key() -> None:
    """After a rotation the owner of the old key, and nobody else, can move what it has to the new one."""
    private, public = new_key()
    vector = FILE["vectors"][0]
    moved = reseal(vector["sealed"], OPENER, Sealer("next", public))
    assert Opener({"next": private}).open(moved).value == vector["value"]
    with pytest.raises(Rejected, match="not here"):
        OPENER.open(moved)


@pytest.mark.parametrize("public", [bytes(32), b"short", (1).to_bytes(32, "little")])
def test_a_weak_or_short_key_is_refused(public: bytes) -> None:
    """To the all-zero point everybody could read what is sealed."""
    with pytest.raises(ValueError):
        Sealer("weak", public)
