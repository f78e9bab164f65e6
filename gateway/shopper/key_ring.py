"""The keys of sealing: the platform's public keys, old and new, and this gateway's own pair.

Public keys come from the configuration and, later, from the platform (`keys.rotate`). The newest whose time has come
seals; older ones stay in the list, because the platform goes on opening what was sealed to them. The gateway's own
private key opens the identifiers in commands and never leaves its file. Knows no event and no consent.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from gateway.durable_file import replace_file
from gateway.errors import Rejected, Unavailable
from gateway.shopper.key_file import load_or_make
from gateway.shopper.sealing import Opener, Sealer, key_from_text, key_to_text, public_of

log = logging.getLogger(__name__)

_KEPT = 16  # public keys that came by command; the oldest go first


class SealKey(msgspec.Struct, frozen=True, kw_only=True):
    """A public key of the platform. `from_s`: seconds since 1970 from which it seals; 0: at once."""

    id: str
    public: str  # base64
    from_s: float = 0.0
    origin: str = "configuration"  # or "platform"


class KeyRing:
    """One for the gateway; any thread may ask. Nothing is read before the first question."""

    def __init__(self, directory: Path, configured: Mapping[str, str], seal_with: str = "") -> None:
        """Store.

        Args:
            directory: where the gateway's keys lie.
            configured: `[privacy].seal_keys`.
            seal_with: `[privacy].seal_with`; empty: the last of them.
        """
        self._own_path = directory / "seal.key"
        self._path = directory / "platform-keys.json"
        self._configured = [SealKey(id=key_id, public=public) for key_id, public in configured.items()]
        self._configured.sort(key=lambda key: key.id == seal_with)  # stable: the chosen one comes last
        self._rotated: list[SealKey] | None = None
        self._told = False  # that the file does not answer
        self._sealers: dict[str, Sealer | None] = {}
        self._own: bytes | None = None
        self._lock = threading.Lock()

    def keys(self) -> list[SealKey]:
        """Every public key known; of those whose time has come the last one seals."""
        with self._lock:
            return [*self._configured, *self._known()]

    def sealing(self, wall_s: float) -> SealKey | None:
        """The key that seals now; None where the platform has given none."""
        with self._lock:
            due = [key for key in (*self._configured, *self._known()) if key.from_s <= wall_s]
        return due[-1] if due else None

    def sealer(self, wall_s: float) -> Sealer | None:
        """What seals now; None without a usable key: only day keys are made then."""
        key = self.sealing(wall_s)
        if key is None:
            return None
        if key.id not in self._sealers:
            self._sealers[key.id] = None
            try:
                self._sealers[key.id] = Sealer(key.id, key_from_text(key.public))
            except ValueError:  # 32 bytes that are no point of the curve; a sale must not wait for a better key
                log.error("seal_key=unusable id=%s hint='see storefront privacy keys'", key.id)
        return self._sealers[key.id]

    def add(self, key: SealKey) -> bool:
        """Install a new public key; False when it was there already.

        Raises:
            Rejected: it is no key, or another key has its name.
            Unavailable: it cannot be kept.
        """
        try:
            Sealer(key.id, key_from_text(key.public))
        except ValueError as error:
            raise Rejected("install key", key.id[:32], str(error), "32 bytes in base64, as X25519 has them") from error
        with self._lock:
            rotated = self._load()
            for known in (*self._configured, *rotated):
                if known.id == key.id:
                    if known.public == key.public:
                        return False
                    raise Rejected("install key", key.id, "another key has that name", "give the new key a new id")
            kept = sorted([*rotated, key], key=lambda each: each.from_s)[-_KEPT:]
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                replace_file(self._path, msgspec.json.encode(kept))
            except OSError as error:
                raise Unavailable("install key", self._path.name, error.strerror or type(error).__name__) from error
            self._rotated = kept
        return True

    def own_public(self) -> tuple[str, str]:
        """The gateway's own key, for the platform to seal commands to: (id, public key in base64).

        Raises:
            Unavailable: it can neither be read nor made.
        """
        public = public_of(self._own_private())
        return _own_id(public), key_to_text(public)

    def opener(self) -> Opener:
        """Opens what was sealed to this gateway."""
        private = self._own_private()
        return Opener({_own_id(public_of(private)): private})

    def _own_private(self) -> bytes:
        with self._lock:
            if self._own is None:
                self._own = load_or_make(self._own_path)
            return self._own

    def _known(self) -> list[SealKey]:
        """The platform's keys; none while the file does not answer: what an older key sealed the platform opens."""
        try:
            return self._load()
        except Unavailable as error:
            if not self._told:
                log.error("platform_keys=not_readable_now reason=%r", error.reason)
            self._told = True
            return []

    def _load(self) -> list[SealKey]:
        if self._rotated is None:
            try:
                self._rotated = msgspec.json.decode(self._path.read_bytes(), type=list[SealKey])
            except FileNotFoundError:
                self._rotated = []
            except OSError as error:  # too many open files, say: the next question may find the keys
                raise Unavailable("read keys", self._path.name, error.strerror or type(error).__name__) from error
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # The configured keys remain; what was sealed to an older one the platform still opens.
                log.error("platform_keys=unreadable file=%s error=%s", self._path.name, type(error).__name__)
                with contextlib.suppress(OSError):
                    self._path.replace(self._path.with_name(self._path.name + ".damaged"))
                self._rotated = []
        return self._rotated


def _own_id(public: bytes) -> str:
    return f"gw-{hashlib.sha256(public).hexdigest()[:16]}"
