"""What the platform may know of an identifier: a keyed mark to find it by, and the value under a key of its own.

The database holds neither numbers nor their plain digests: without the key file (0600, beside it, not in its backups)
marks cannot be tried out and boxes not opened. The value itself is needed again to tell a gateway whom a consent is
about, sealed to that gateway's key. Sealed identifiers from the shops are opened here with the platform's private key.
Knows no profile.

*Source*: design of the project, PRIVACY_SECURITY.md, "Persons" 2; PIPL Art. 51.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.durable_file import create_file
from gateway.errors import ConfigError, Rejected

SCHEMES = ("member", "phone", "email", "app", "payment", "beacon", "card")
LONGEST = 254  # characters of a value: an e-mail address
_KEY_BYTES = 32
_MARK_BYTES = 16
_NONCE_BYTES = 12


class Named(Protocol):
    """A normalised identifier."""

    @property
    def scheme(self) -> str:
        """One of `SCHEMES`."""
        ...

    @property
    def value(self) -> str:
        """In the one spelling that shop and platform share."""
        ...


class Opens(Protocol):
    """Opens what the shops have sealed (`gateway.shopper.sealing.Opener`). Called from one thread at a time."""

    def open(self, sealed: str) -> Named:
        """The identifier inside.

        Raises:
            Rejected: it is damaged, or sealed to a key that is not here.
        """
        ...


class Vault:
    """Marks and boxes. `open` first; then any thread."""

    def __init__(self, path: Path) -> None:
        """`path`: the key file; made when there is none."""
        self._path = path
        self._mark_key = b""
        self._box: AESGCM | None = None

    def open(self) -> None:
        """Read the key, or make it.

        Raises:
            ConfigError: the file is not a key.
        """
        try:
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                create_file(self._path, secrets.token_bytes(2 * _KEY_BYTES))  # whoever was first made the key
            key = self._path.read_bytes()
        except OSError as error:
            raise ConfigError("read platform key", str(self._path), error.strerror or str(error)) from error
        if len(key) != 2 * _KEY_BYTES:
            raise ConfigError("read platform key", str(self._path), "it is damaged", "put the right file back")
        self._mark_key, self._box = key[:_KEY_BYTES], AESGCM(key[_KEY_BYTES:])

    def mark(self, scheme: str, value: str) -> bytes:
        """16 bytes, the same for the same identifier, telling nothing without the key."""
        return hmac.digest(self._mark_key, f"{scheme}\x1f{value}".encode(), hashlib.sha256)[:_MARK_BYTES]

    def boxed(self, value: str) -> bytes:
        """The value, encrypted at rest."""
        assert self._box is not None
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._box.encrypt(nonce, value.encode(), None)

    def unboxed(self, box: bytes) -> str:
        """The value again.

        Raises:
            Rejected: it was made under another key, or is damaged.
        """
        assert self._box is not None
        try:
            return self._box.decrypt(box[:_NONCE_BYTES], box[_NONCE_BYTES:], None).decode()
        except InvalidTag:
            raise Rejected("open identifier", "at rest", "another key or damaged") from None


def checked(scheme: str, value: str) -> tuple[str, str]:
    """The identifier, when it can be one.

    Raises:
        Rejected: unknown scheme, empty, too long, or control characters in it; the reason never quotes the value.
    """
    if scheme not in SCHEMES:
        raise Rejected("read identifier", "scheme", "not one of " + ", ".join(SCHEMES))
    if not value or len(value) > LONGEST or not value.isprintable():
        raise Rejected("read identifier", scheme, f"empty, over {LONGEST} characters, or not printable")
    return scheme, value


def masked(scheme: str, value: str) -> str:
    """The value as a page may show it: enough to compare with what a customer says, too little to use."""
    name, at, domain = value.partition("@")
    if at:
        return f"{name[:1]}•••@{domain}"
    keep = min(4, len(value) // 3)
    return f"{scheme} •••{value[len(value) - keep :]}" if keep else f"{scheme} •••"
