"""Sealing: an identifier of a person that only the platform can read.

HPKE in base mode (X25519, HKDF-SHA256, AES-128-GCM) to the platform's public key. On the wire
`<key id>.<base64url of enc ‖ ciphertext, without padding>`; what is sealed is `<scheme>` U+001F `<normalised value>`.
The shop cannot open what it has sealed. Sealing the same twice gives two texts that nobody can tell to be the same.
Store and platform share this module and tests/vectors/sealing.json. Knows no consent, no event and no file.

*Source*: RFC 9180 (HPKE), §5.1.1 and §7; the contract of events, `event_types.Shopper`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gateway.errors import Rejected
from gateway.shopper.identifiers import SCHEMES, Identifier

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.hpke import Suite

INFO = b"storefront/subject/v1"
KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_SEALED = re.compile(r"(?P<key>[A-Za-z0-9][A-Za-z0-9_-]{0,31})\.(?P<text>[A-Za-z0-9_-]{66,2048})")


class Sealer:
    """Seals to one public key; any thread may call."""

    def __init__(self, key_id: str, public: bytes) -> None:
        """Prepare.

        Args:
            key_id: what the platform knows the key by, 1 to 32 letters, digits, `_` and `-`.
            public: its X25519 public key, 32 bytes.

        Raises:
            ValueError: the id or the key is none; all-zero and other weak points are none.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        if not _KEY_ID.fullmatch(key_id):
            raise ValueError("a key id has 1 to 32 letters, digits, _ and -")
        if len(public) != KEY_BYTES:
            raise ValueError(f"an X25519 public key has {KEY_BYTES} bytes")
        self.key_id = key_id
        self._public: Any = X25519PublicKey.from_public_bytes(public)
        self._suite = _suite()
        self._encrypt(b"x")  # a weak key is found now and not at the first person

    def seal(self, identifier: Identifier) -> str:
        """The identifier as only the key's owner can read it."""
        sealed = self._encrypt(identifier.plaintext)
        return f"{self.key_id}.{base64.urlsafe_b64encode(sealed).rstrip(b'=').decode('ascii')}"

    def _encrypt(self, plaintext: bytes) -> bytes:
        return self._suite.encrypt(plaintext, self._public, INFO)


class Opener:
    """Opens what was sealed to any of the keys it has; the platform's side."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys`: key id → X25519 private key, 32 bytes.

        Raises:
            ValueError: a key has another length.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        self._keys: dict[str, Any] = {
            key_id: X25519PrivateKey.from_private_bytes(private) for key_id, private in keys.items()
        }
        self._suite = _suite()

    def open(self, sealed: str) -> Identifier:
        """The identifier that was sealed.

        Raises:
            Rejected: it is not in the form, for a key that is not here, damaged, or was no identifier.
        """
        from cryptography.exceptions import InvalidTag

        form = _SEALED.fullmatch(sealed)
        if form is None:
            raise _closed("it is not in the form of a sealed identifier")
        private = self._keys.get(form["key"])
        if private is None:
            raise _closed("it was sealed to a key that is not here", "keep old private keys as long as their events")
        try:
            text = form["text"].encode("ascii")
            raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            scheme, mark, value = self._suite.decrypt(raw, private, INFO).decode().partition("\x1f")
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise _closed("it is damaged, or was sealed to another key of that name") from error
        known = next((each for each in SCHEMES if each == scheme), None)
        if known is None or not mark or not value:
            raise _closed("what was sealed is no identifier")
        return Identifier(known, value)


def reseal(sealed: str, opener: Opener, sealer: Sealer) -> str:
    """The same identifier sealed to another key. Only whoever has the private key can: the platform, never a shop.

    Raises:
        Rejected: see `Opener.open`.
    """
    return sealer.seal(opener.open(sealed))


def new_key() -> tuple[bytes, bytes]:
    """A fresh X25519 key pair: private and public, 32 bytes each."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    private = X25519PrivateKey.generate()
    return private.private_bytes_raw(), private.public_key().public_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The public half of a private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def key_from_text(text: str) -> bytes:
    """A key as it stands in a configuration: 32 bytes in base64.

    Raises:
        ValueError: it is not.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a key is 32 bytes in base64") from error
    if len(key) != KEY_BYTES:
        raise ValueError("a key is 32 bytes in base64")
    return key


def key_to_text(key: bytes) -> str:
    """A key for a configuration or a message."""
    return base64.b64encode(key).decode("ascii")


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


def _closed(reason: str, hint: str = "") -> Rejected:
    return Rejected("open sealed identifier", "sealed identifier", reason, hint)
