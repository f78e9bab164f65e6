"""The store's own certificate authority, for a page and a feed on the network that nobody gave a certificate.

Made at the first start: a P-256 key (mode 0600) whose certificate staff install once, limited to this shop's own names
and private addresses, so that a stolen box cannot speak for a bank. The leaf is made anew when a third of its life is
left, when the machine's names or addresses change, and when the clock was wrong. Knows no server.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.clock import Clock
from gateway.durable_file import replace_file
from gateway.errors import Unavailable

LEAF_DAYS = 90
RENEW_DAYS = 30
_CA_DAYS = 3650
_BORN = datetime(2026, 1, 1, tzinfo=UTC)  # a box without a clock must not make a CA that is not valid yet
_SLACK = timedelta(days=1)
_PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "::1/128",
    "fc00::/7", "fe80::/10",
)  # fmt: skip
_LOCAL = ("localhost", "local", "lan", "internal", "home.arpa")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Issued(msgspec.Struct, frozen=True):
    """A certificate in use: its files, until when (seconds since 1970), for whom, and its SHA-256 in hex."""

    certificate: Path
    key: Path
    expires_s: float
    names: tuple[str, ...]
    fingerprint: str


class StoreCa:
    """One thread uses it at a time; other processes may read its files."""

    def __init__(self, directory: Path, store: str, clock: Clock) -> None:
        """Store.

        Args:
            directory: the gateway's data directory; everything lies in its `tls`.
            store: named in the certificates.
            clock: dates them.
        """
        self._folder = directory / "tls"
        self._store, self._clock = store, clock
        self.certificate = self._folder / "ca.pem"

    def leaf(self, names: Iterable[str], server: str = "page") -> Issued:
        """A server's certificate for these names and addresses, made or renewed if it has to be.

        Raises:
            Unavailable: the files cannot be read or written.
        """
        wanted = tuple(sorted({name.lower() for name in names}))
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            key, authority = self._authority(wanted)
            file = self._folder / f"{server}.pem"
            if (known := self._kept(file, wanted, authority)) is not None:
                return known
            return self._issue(file, wanted, key, authority)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        except ValueError as error:  # a PEM that is none
            raise self._unusable(str(error)) from error

    def present(self, server: str = "page") -> Issued | None:
        """A server's certificate as it lies there; None before the first.

        Raises:
            Unavailable: it cannot be read.
        """
        file = self._folder / f"{server}.pem"
        try:
            return _described(file, file.with_suffix(".key"), _read(file)) if file.exists() else None
        except (OSError, ValueError) as error:
            raise self._unusable(str(error)) from error

    def fingerprint(self) -> str:
        """SHA-256 of the authority's certificate, in hex; "" before it is made."""
        try:
            return _read(self.certificate).fingerprint(hashes.SHA256()).hex() if self.certificate.exists() else ""
        except (OSError, ValueError) as error:
            raise self._unusable(str(error)) from error

    # -- inside

    def _authority(self, names: tuple[str, ...]) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        file = self._folder / "ca.key"
        if file.exists() and self.certificate.exists():
            if file.stat().st_mode & 0o077:
                raise self._unusable(f"others may read {file.name}: chmod 600 it")
            key = serialization.load_pem_private_key(file.read_bytes(), None)
            authority = _read(self.certificate)
            if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == authority.public_key():
                return key, authority
            raise self._unusable("ca.key and ca.pem do not belong together; move the folder away for a new authority")
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Storefront {self._store} {os.urandom(3).hex()}")])
        now = max(self._now(), _BORN)
        dns = [x509.DNSName(each) for each in dict.fromkeys((*_LOCAL, *(it for it in names if _ip(it) is None)))]
        own = [ipaddress.ip_network(each) for each in names if (ip := _ip(each)) is not None and not _within(ip)]
        networks = [x509.IPAddress(each) for each in (*map(ipaddress.ip_network, _PRIVATE), *own)]
        authority = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BORN)
            .not_valid_after(now + timedelta(days=_CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(x509.NameConstraints([*dns, *networks], None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        replace_file(self._folder / "ca.key", _private(key), 0o600)
        replace_file(self._folder / "ca.pem", authority.public_bytes(serialization.Encoding.PEM), 0o644)
        return key, authority

    def _kept(self, file: Path, names: tuple[str, ...], authority: x509.Certificate) -> Issued | None:
        key = file.with_suffix(".key")
        if not file.exists() or not key.exists():
            return None
        try:
            leaf = _read(file)
            leaf.verify_directly_issued_by(authority)
            loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        except (ValueError, TypeError, InvalidSignature):  # cut short, of another authority: made anew
            return None
        now = self._now()
        fits = _described(file, key, leaf).names == _permitted(names, authority)
        young = leaf.not_valid_before_utc <= now <= leaf.not_valid_after_utc - timedelta(days=RENEW_DAYS)
        return _described(file, key, leaf) if fits and young and loaded.public_key() == leaf.public_key() else None

    def _issue(
        self, file: Path, names: tuple[str, ...], key: ec.EllipticCurvePrivateKey, authority: x509.Certificate
    ) -> Issued:
        own = ec.generate_private_key(ec.SECP256R1())
        now = max(self._now(), _BORN + _SLACK)
        permitted = _permitted(names, authority)
        alternatives = [x509.DNSName(each) if (ip := _ip(each)) is None else x509.IPAddress(ip) for each in permitted]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Storefront {self._store}")]))
            .issuer_name(authority.subject)
            .public_key(own.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SLACK)
            .not_valid_after(now + timedelta(days=LEAF_DAYS))
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        # A crash between the two is seen by `_kept`, and both are made anew.
        replace_file(self._folder / f"{file.stem}.key", _private(own), 0o600)
        replace_file(self._folder / file.name, leaf.public_bytes(serialization.Encoding.PEM), 0o644)
        return _described(file, file.with_suffix(".key"), leaf)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now().wall_s, UTC).replace(microsecond=0)

    def _unusable(self, reason: str) -> Unavailable:
        return Unavailable(
            "use certificates", str(self._folder), reason, "see `storefront tls show`; or give page.cert_file"
        )


def own_names(host: str, extra: Iterable[str] = ()) -> tuple[str, ...]:
    """The names and addresses that a page listening on `host` is asked for under."""
    machine = socket.gethostname().lower()
    names = {"localhost", "127.0.0.1", "::1", machine, f"{machine.partition('.')[0]}.local", *extra}
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - recognised, not bound
        import psutil

        for addresses in psutil.net_if_addrs().values():
            for each in addresses:
                if each.family in (socket.AF_INET, socket.AF_INET6) and "%" not in each.address:
                    names.add(each.address)
    else:
        names.add(host)
    return tuple(sorted(name.lower() for name in names if name))


def _permitted(names: Iterable[str], authority: x509.Certificate) -> tuple[str, ...]:
    """Those that the authority may speak for; a name that came later needs a new authority."""
    permitted = authority.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    domains = [each.value for each in permitted if isinstance(each, x509.DNSName)]
    networks = [each.value for each in permitted if isinstance(each, x509.IPAddress)]
    kept = []
    for name in names:
        ip = _ip(name)
        if ip is None:
            good = any(name == domain or name.endswith(f".{domain}") for domain in domains)
        else:
            good = any(ip in network for network in networks if not isinstance(network, Address))
        if good:
            kept.append(str(ip or name))
    return tuple(sorted(kept))


def _described(file: Path, key: Path, leaf: x509.Certificate) -> Issued:
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    said = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return Issued(
        file, key, leaf.not_valid_after_utc.timestamp(), tuple(sorted(said)), leaf.fingerprint(hashes.SHA256()).hex()
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=signs, crl_sign=signs, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read(file: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(file.read_bytes())


def _ip(name: str) -> Address | None:
    try:
        return ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return None


def _within(ip: Address) -> bool:
    return any(ip in ipaddress.ip_network(each) for each in _PRIVATE)
