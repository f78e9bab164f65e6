"""How a gateway gets its certificate: a claim code and a key made here buy the first, the first buys the next.

The key is made on this machine, mode 0600, and never leaves it; the platform sees a signing request. Asking again with
the same code is safe, since the key is on disk before anything is sent. Renewal keeps the key and replaces the
certificate whole. Knows HTTP and three files; no journal.

*Source*: docs/sync.md, "Enrolment"; RFC 2986.
"""

from __future__ import annotations

import logging
import stat
import threading
from pathlib import Path
from random import Random
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from gateway.clock import Clock
from gateway.durable_file import replace_file
from gateway.errors import ConfigError, Rejected, Unavailable
from gateway.runtime.worker import Wait, wait
from sync.answer import Reply
from sync.http_client import HttpClient
from sync.pacing import BOOT_DELAY_S, Pace

log = logging.getLogger(__name__)

KeyKind = Literal["ed25519", "p256"]
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey

_PATH = "/v1/enrolments"
_DUE = 2 / 3  # of a certificate's life
_LOOK_EVERY_S = 3600.0
_IDLE_S = 0.5


class Identity(msgspec.Struct, frozen=True):
    """The three files, all in one directory that only the gateway may enter."""

    home: Path

    @property
    def key(self) -> Path:
        """The private key, PEM, mode 0600."""
        return self.home / "platform.key"

    @property
    def certificate(self) -> Path:
        """Our certificate, PEM."""
        return self.home / "platform.pem"

    @property
    def authority(self) -> Path:
        """The certificate of whoever signed ours, PEM."""
        return self.home / "platform-authority.pem"


class Enrolled(msgspec.Struct, frozen=True):
    """What the platform gave: until when (RFC 3339), for which kind of key."""

    gateway: str
    not_after: str
    kind: KeyKind


class _Answer(msgspec.Struct):
    gateway: str
    certificate: str
    authority: str = ""


class _Problem(msgspec.Struct):
    type: str = ""
    detail: str = ""


def enrol(client: HttpClient, identity: Identity, gateway: str, code: str, kind: KeyKind = "ed25519") -> Enrolled:
    """Get the first certificate.

    Args:
        client: reaches the platform; needs no credentials.
        identity: where key and certificates are put; a key that is there is used, whatever its kind.
        gateway: our name.
        code: the claim code.
        kind: of the key, if it is made now.

    Raises:
        Rejected: the platform does not take the code, the name or the key.
        Unavailable: no answer, or not one of the contract's; trying again is safe.
        ConfigError: the files cannot be used.
    """
    key = _key(identity, kind)
    return _ask(client, identity, gateway, key, {"code": code.strip()})


def platform_table(url: str, ca: Path | None, identity: Identity, done: Enrolled) -> dict[str, str]:
    """The `[platform]` table to use from now on.

    An Ed25519 key signs every request, and shows the certificate over TLS too; a P-256 key does the latter only.
    """
    table = {"url": url, "auth": "signature" if done.kind == "ed25519" else "mtls"}
    if done.kind == "ed25519":
        table["token"] = f"file:{identity.key}"
    table |= {"cert_file": str(identity.certificate), "key_file": str(identity.key)}
    if ca is not None:
        table["ca_file"] = str(ca.absolute())
    return table


def renew(client: HttpClient, identity: Identity, gateway: str) -> Enrolled:
    """Get the next certificate for the same key. Raises as `enrol`."""
    key = _load(identity.key)
    return _ask(client, identity, gateway, key, {"certificate": _present(identity)})


def is_due(certificate: Path, now_s: float) -> bool:
    """True when two thirds of the certificate's life are over. A clock that is behind makes nothing due.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    present = _parse(_read(certificate))
    if present is None:
        raise ConfigError("read certificate", str(certificate), "it is no certificate", "enrol again")
    since_s, until_s = present.not_valid_before_utc.timestamp(), present.not_valid_after_utc.timestamp()
    return now_s >= since_s + (until_s - since_s) * _DUE


class Renewal:
    """Worker: looks at the certificate once an hour and renews it in time; failures are tried again with back-off."""

    def __init__(
        self, client: HttpClient, identity: Identity, gateway: str, clock: Clock, rng: Random, *,
        boot_delay_s: float = BOOT_DELAY_S, pause: Wait = wait,
    ) -> None:  # fmt: skip
        """Store; `client` needs no credentials, and only this object uses it."""
        self._client = client
        self._identity = identity
        self._gateway = gateway
        self._clock = clock
        self._boot_delay_s = boot_delay_s
        self._pause = pause
        self._pace = Pace(gateway, rng, interval_s=_LOOK_EVERY_S)
        self.renewed = 0

    def open(self) -> None:
        """Spread over a fleet."""
        self._pace.boot(self._clock.now().mono_s, self._boot_delay_s)

    def step(self, stop: threading.Event) -> None:
        """Look, or wait half a second at most.

        Raises:
            ConfigError: the files cannot be used.
        """
        now = self._clock.now()
        due_s = self._pace.due_s - now.mono_s
        if due_s > 0:
            self._pause(stop, min(due_s, _IDLE_S))
            return
        try:
            if is_due(self._identity.certificate, now.wall_s):
                self._pace.sent(now.mono_s)
                enrolled = renew(self._client, self._identity, self._gateway)
                self.renewed += 1
                log.info("certificate=renewed not_after=%s", enrolled.not_after)
        except (Unavailable, Rejected) as error:
            wait_s = self._pace.failed(self._clock.now().mono_s, None)
            log.warning("certificate=not_renewed wait_s=%.0f reason=%r", wait_s, error.reason)
            return
        self._pace.worked(self._clock.now().mono_s, backlog=False)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()


# -- inside


def _ask(client: HttpClient, identity: Identity, gateway: str, key: PrivateKey, proof: dict[str, str]) -> Enrolled:
    body = {"gateway": gateway, "csr": _request(key, gateway), **proof}
    reply = client.call("POST", _PATH, msgspec.json.encode(body), {"content-type": "application/json"})
    client.close()
    if reply.status in (400, 403, 409, 410):
        raise Rejected("enrol", gateway, _detail(reply), "ask whoever runs the platform for a new code")
    try:
        if reply.status not in (200, 201):
            raise ValueError(f"HTTP {reply.status}")
        answer = msgspec.json.decode(reply.body, type=_Answer)
    except ValueError as error:
        raise Unavailable("enrol", gateway, f"not an answer of the contract ({str(error)[:200]})") from error
    certificate = _parse(answer.certificate)
    if (
        certificate is None
        or answer.gateway != gateway
        or _public(certificate.public_key()) != _public(key.public_key())
    ):
        raise Unavailable("enrol", gateway, "the answer has no certificate for our key and name")
    if answer.authority:
        _write(identity.authority, answer.authority)
    _write(identity.certificate, answer.certificate)
    until = certificate.not_valid_after_utc.isoformat(timespec="seconds").replace("+00:00", "Z")
    return Enrolled(gateway, until, "ed25519" if isinstance(key, Ed25519PrivateKey) else "p256")


def _request(key: PrivateKey, gateway: str) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    made = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def _detail(reply: Reply) -> str:
    try:
        told = msgspec.json.decode(reply.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {reply.status}"
    kind = told.type.rpartition(":")[2][:40]
    return f"{told.detail[:200]} ({kind})" if told.detail else f"HTTP {reply.status} {kind}".strip()


def _key(identity: Identity, kind: KeyKind) -> PrivateKey:
    """The key that is there, else a new one, durably written."""
    if identity.key.exists():
        return _load(identity.key)
    made: PrivateKey = Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    try:
        identity.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError("make key", str(identity.home), error.strerror or str(error)) from error
    _write(identity.key, made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    return made


def _load(path: Path) -> PrivateKey:
    text = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError("read key", str(path), "others can read it", f"chmod 600 {path}")
    try:
        key = load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError("read key", str(path), "it is no private key in PEM form", "move it away, enrol") from error
    if not isinstance(key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise ConfigError("read key", str(path), "it is neither Ed25519 nor P-256", "move it away and enrol again")
    return key


def _present(identity: Identity) -> str:
    return _read(identity.certificate)


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError("read certificate or key", str(path), reason, "enrol: storefront enrol URL CODE") from error


def _write(path: Path, text: str) -> None:
    """Replace a file whole, mode 0600."""
    try:
        replace_file(path, text.encode("ascii"))
    except (OSError, UnicodeEncodeError) as error:
        raise ConfigError("write certificate or key", str(path), str(error)[:200], "is the disk full?") from error


def _parse(text: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None


def _public(key: object) -> bytes:
    assert hasattr(key, "public_bytes")
    made: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return made
