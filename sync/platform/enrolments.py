"""Enrolment at the reference platform: one-time claim codes, and a certificate authority just large enough for them.

A code is shown once and kept as a digest. It buys one certificate for one key; the same key may ask again with it, so
that an answer lost on the way costs nothing, another key may not. A certificate that still runs buys the next one for
the same key. The authority's key lies in a file of its own, mode 0600. Knows no HTTP.

*Source*: docs/sync.md, "Enrolment"; RFC 2986 (requests), RFC 5280 (certificates).
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.clock import Clock
from gateway.durable_file import create_file, sync_directory
from sync.platform.store import PlatformStore

CODE_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_CODE_LENGTH = 20  # 100 bits
_MISREAD = str.maketrans("ILO", "110", "- \t")
_CODE_LASTS_S = 24 * 3600.0
_CERTIFICATE_DAYS = 90
_AUTHORITY_DAYS = 3650
_EARLIER = timedelta(minutes=5)  # clocks differ

PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey


class EnrolmentRefused(Exception):
    """No certificate: `status`, `kind` and `detail` for the answer."""

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail


class Issued(msgspec.Struct, frozen=True):
    """A certificate and who signed it, both PEM; `not_after` RFC 3339."""

    gateway: str
    certificate: str
    authority: str
    not_after: str


class Enrolments:
    """Codes and certificates, in the platform's database; `home` holds the authority's key and certificate."""

    def __init__(self, store: PlatformStore, home: Path, clock: Clock) -> None:
        """Store; the authority is made when it is first needed."""
        self._store = store
        self._home = home
        self._clock = clock

    def invite(self, gateway: str, lasts_s: float = _CODE_LASTS_S) -> str:
        """A new claim code for a gateway; it is told here and never again."""
        code = "".join(secrets.choice(CODE_LETTERS) for _ in range(_CODE_LENGTH))
        with self._store.transaction() as connection:
            connection.execute(
                "INSERT INTO claim (digest, gateway, until) VALUES (?, ?, ?)",
                (_digest(code), gateway, self._clock.now().wall_s + lasts_s),
            )
        return "-".join(code[at : at + 5] for at in range(0, _CODE_LENGTH, 5))

    def claim(self, gateway: str, code: str, request: str) -> Issued:
        """A certificate for a code.

        Args:
            gateway: who says it asks.
            code: as typed: case, hyphens and blanks do not matter, nor O for 0 and I or L for 1.
            request: the signing request, PEM.

        Raises:
            EnrolmentRefused: the code is unknown or another gateway's, expired, or used by another key; or the request
                is none.
            GatewayClosed
        """
        key = _asked(request)
        raw = _raw(key)
        with self._store.transaction() as connection:
            self._store.refuse_closed(connection, gateway)
            row = connection.execute(
                "SELECT gateway, until, key, certificate FROM claim WHERE digest = ?", (_digest(code),)
            ).fetchone()
            if row is None or row[0] != gateway:
                raise EnrolmentRefused(403, "code-invalid", "there is no such code for this gateway")
            if row[2] is not None and row[2] != raw:
                raise EnrolmentRefused(409, "code-used", "another key has used this code")
            if row[1] <= self._clock.now().wall_s:
                raise EnrolmentRefused(403, "code-expired", "this code has expired; ask for another")
            certificate = (
                x509.load_pem_x509_certificate(row[3].encode()) if row[3] is not None else self._sign(gateway, key)
            )
            if row[3] is None:
                connection.execute(
                    "UPDATE claim SET key = ?, certificate = ? WHERE digest = ?",
                    (raw, _pem(certificate), _digest(code)),
                )
                self._note(connection, gateway, certificate, raw)
        return self._issued(gateway, certificate)

    def renew(self, gateway: str, present: str, request: str) -> Issued:
        """The next certificate for the key of one that still runs.

        Raises:
            EnrolmentRefused: the certificate is not ours, another gateway's, expired, or of another key.
            GatewayClosed
        """
        key = _asked(request)
        raw = _raw(key)
        try:
            old = x509.load_pem_x509_certificate(present.encode())
            old.verify_directly_issued_by(self._authority()[1])
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise EnrolmentRefused(403, "certificate-invalid", "the certificate is not of this platform") from None
        with self._store.transaction() as connection:
            self._store.refuse_closed(connection, gateway)
            row = connection.execute(
                "SELECT gateway, key, until FROM certificate WHERE serial = ?", (f"{old.serial_number:x}",)
            ).fetchone()
            if row is None or row[0] != gateway or row[1] != raw:
                raise EnrolmentRefused(403, "certificate-invalid", "the certificate is of another gateway or key")
            if row[2] <= self._clock.now().wall_s:
                raise EnrolmentRefused(403, "certificate-expired", "it has expired; enrol again with a new code")
            certificate = self._sign(gateway, key)
            self._note(connection, gateway, certificate, raw)
        return self._issued(gateway, certificate)

    def keys(self, gateway: str) -> list[Ed25519PublicKey]:
        """The Ed25519 keys with which this gateway may sign its requests now."""
        with self._store.transaction() as connection:
            rows = connection.execute(
                "SELECT DISTINCT key FROM certificate WHERE gateway = ? AND until > ?",
                (gateway, self._clock.now().wall_s),
            ).fetchall()
        return [Ed25519PublicKey.from_public_bytes(raw) for (raw,) in rows if len(raw) == 32]

    # -- inside

    def _note(self, connection: sqlite3.Connection, gateway: str, certificate: x509.Certificate, raw: bytes) -> None:
        connection.execute(
            "INSERT INTO certificate VALUES (?, ?, ?, ?)",
            (f"{certificate.serial_number:x}", gateway, raw, certificate.not_valid_after_utc.timestamp()),
        )

    def _issued(self, gateway: str, certificate: x509.Certificate) -> Issued:
        until = certificate.not_valid_after_utc.isoformat(timespec="seconds").replace("+00:00", "Z")
        return Issued(gateway, _pem(certificate), _pem(self._authority()[1]), until)

    def _sign(self, gateway: str, key: PublicKey) -> x509.Certificate:
        authority_key, authority = self._authority()
        now = datetime.fromtimestamp(self._clock.now().wall_s, UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, gateway)]))
            .issuer_name(authority.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + timedelta(days=_CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"urn:storefront:gateway:{gateway}")]),
                critical=False,
            )
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), False)
            .sign(authority_key, SHA256())
        )

    def is_of(self, gateway: str, certificate: bytes) -> bool:
        """Whether a certificate (DER, its signature verified) was issued to this gateway here and still runs."""
        shown = x509.load_der_x509_certificate(certificate)
        with self._store.transaction() as connection:
            row = connection.execute(
                "SELECT 1 FROM certificate WHERE serial = ? AND gateway = ? AND until > ?",
                (f"{shown.serial_number:x}", gateway, self._clock.now().wall_s),
            ).fetchone()
        return row is not None

    def authority(self) -> x509.Certificate:
        """The certificate that every gateway's is signed with; made when there is none.

        Raises:
            OSError: the directory cannot be read or written.
        """
        return self._authority()[1]

    def authority_text(self) -> str:
        """The same in PEM."""
        return _pem(self.authority())

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        """The authority's key and certificate, made when there are none. One file, so that both are there or neither.

        Raises:
            OSError: the directory cannot be read or written.
        """
        path = self._home / "authority.pem"
        if not path.exists():
            self._make_authority(path)
        text = path.read_bytes()
        key = load_pem_private_key(text, None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return key, x509.load_pem_x509_certificate(text)

    def _make_authority(self, path: Path) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.fromtimestamp(self._clock.now().wall_s, UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Storefront reference platform")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _EARLIER)
            .not_valid_after(now + timedelta(days=_AUTHORITY_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, SHA256())
        )
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + _pem(certificate).encode()
        path.parent.mkdir(parents=True, exist_ok=True)
        create_file(path, text)  # when another process was first, its authority is the authority
        sync_directory(path.parent.parent)


def _digest(code: str) -> bytes:
    return hashlib.sha256(code.upper().translate(_MISREAD).encode(errors="replace")).digest()


def _asked(request: str) -> PublicKey:
    """The key of a signing request that its owner has signed; names in it do not matter."""
    try:
        asked = x509.load_pem_x509_csr(request.encode())
        key = asked.public_key()
        genuine = asked.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EnrolmentRefused(400, "request-invalid", "the body has no certificate signing request in PEM") from None
    if not genuine:
        raise EnrolmentRefused(400, "request-invalid", "the request is not signed by its own key")
    if isinstance(key, Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise EnrolmentRefused(400, "key-unsuitable", "the key must be Ed25519 or P-256")


def _raw(key: PublicKey) -> bytes:
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
