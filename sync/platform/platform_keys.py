"""The platform's secrets, in a directory of their own beside its database (0600, in no backup of it).

`seal*.key`: private keys that open what the shops seal; all of them open, the newest is the one to configure in the
shops. `issuer.key` signs coupons. `vault.key` is for identifiers at rest. Made at the first start.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.durable_file import sync_directory
from gateway.errors import Unavailable
from gateway.shopper.key_file import load_or_make
from gateway.shopper.sealing import Opener, key_to_text, public_of
from sync.platform.telling import Issuer
from sync.platform.vault import Vault


class PlatformKeys(msgspec.Struct, frozen=True):
    """Everything that needs a secret. `seal_public`: in base64, for `[privacy].seal_keys` of the shops."""

    vault: Vault
    opener: Opener
    seal_id: str
    seal_public: str
    issuer: Issuer
    issuer_public: str


def keys_beside(database: Path) -> PlatformKeys:
    """The keys of a platform's database; made where there are none.

    Raises:
        Unavailable, ConfigError: they can neither be read nor made.
    """
    directory = database.with_name(database.name + ".keys")
    load_or_make(directory / "seal.key")
    paths = sorted(directory.glob("seal*.key"), key=lambda path: (path.stat().st_mtime, path.name))
    private = {seal_id(public_of(key)): key for key in map(load_or_make, paths)}
    newest = list(private)[-1]
    issuer = Ed25519PrivateKey.from_private_bytes(load_or_make(directory / "issuer.key"))
    signs = issuer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    vault = Vault(directory / "vault.key")
    vault.open()
    try:
        sync_directory(directory.parent)  # the directory itself: nothing is boxed under a key that a power cut takes
    except OSError as error:
        raise Unavailable("keep keys", directory.name, error.strerror or type(error).__name__) from error
    return PlatformKeys(
        vault, Opener(private), newest, key_to_text(public_of(private[newest])), Issuer(seal_id(signs), issuer),
        key_to_text(signs),
    )  # fmt: skip


def seal_id(public: bytes) -> str:
    """A short name for a public key."""
    return f"p-{hashlib.sha256(public).hexdigest()[:8]}"
