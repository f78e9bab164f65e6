"""Enrolment: code, key and request against the reference platform over a real connection, and what is refused."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from gateway.cli import app as cli
from gateway.clock import FakeClock
from gateway.errors import ConfigError, Rejected, Unavailable
from sync.credentials import Signature
from sync.enrolment import Identity, Renewal, enrol, is_due, renew
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import platform_app
from sync.platform.enrolments import Enrolments
from sync.platform.faults import Fault, FaultyLine
from tests.sync.sync_parts import Served

DAY_S = 86_400.0
LANE = "/v1/gateways/gw01/streams/observations/epochs/" + "a" * 32


class Rig:
    """A platform that asks for enrolment, and the way to it."""

    def __init__(self, home: Path) -> None:
        self.clock = FakeClock()
        self.app = platform_app(home / "platform.db", durable=False, clock=self.clock, enrolled_only=True)
        self.line = FaultyLine(self.app)
        self.served = Served(self.line)
        self.identity = Identity(home / "gateway" / "keys")

    @property
    def enrolments(self) -> Enrolments:
        made: Enrolments = self.app.state.enrolments
        return made

    def client(self, credentials: Any = None) -> HttpClient:
        return HttpClient(ClientOptions(url=self.served.url, connect_s=2, read_s=5), credentials)

    def enrol(self, code: str, gateway: str = "gw01", identity: Identity | None = None, kind: Any = "ed25519") -> str:
        return enrol(self.client(), identity or self.identity, gateway, code, kind).not_after

    def post(self, **body: str) -> requests.Response:
        return requests.post(self.served.url + "/v1/enrolments", json=body, timeout=30)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    with rig.served:
        yield rig


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def request_of(key: Any, name: str = "anybody") -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    made = builder.sign(key, None if isinstance(key, Ed25519PrivateKey) else SHA256())
    return made.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_a_code_buys_a_certificate_for_a_key_made_here(rig: Rig, kind: str, tmp_path: Path) -> None:
    """Key and authority are for their owners only; the certificate is of our key, name and the platform's authority."""
    rig.enrol(rig.enrolments.invite("gw01"), kind=kind)
    certificate = x509.load_pem_x509_certificate(rig.identity.certificate.read_bytes())
    authority = x509.load_pem_x509_certificate(rig.identity.authority.read_bytes())
    key = load_pem_private_key(rig.identity.key.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey if kind == "ed25519" else ec.EllipticCurvePrivateKey)
    assert certificate.public_key() == key.public_key()
    assert certificate.subject.rfc4514_string() == "CN=gw01"
    certificate.verify_directly_issued_by(authority)
    assert mode(rig.identity.key) == 0o600 and mode(rig.identity.home) == 0o700
    assert mode(tmp_path / "platform.db.authority" / "authority.pem") == 0o600
    assert b"PRIVATE" not in rig.identity.authority.read_bytes() + rig.identity.certificate.read_bytes()


def test_the_enrolled_key_opens_the_platform_and_no_other_does(rig: Rig, tmp_path: Path) -> None:
    """Unsigned and foreign requests are 401; another gateway's key is no use here; an expired one neither."""
    rig.enrol(rig.enrolments.invite("gw01"))
    other = Identity(tmp_path / "other")
    rig.enrol(rig.enrolments.invite("gw02"), "gw02", other)

    def asked(identity: Identity, name: str) -> int:
        key = load_pem_private_key(identity.key.read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        client = rig.client(Signature(key, name, rig.clock))
        status = client.call("GET", LANE).status
        client.close()
        return status

    assert requests.get(rig.served.url + LANE, timeout=30).status_code == 401
    assert asked(rig.identity, "gw01") == 404  # let in; there is no such epoch yet
    assert asked(other, "gw01") == 401 and asked(other, "gw02") == 401
    rig.clock.advance(91 * DAY_S)
    assert asked(rig.identity, "gw01") == 401


def test_codes_that_are_wrong_foreign_expired_or_used_are_refused(rig: Rig, tmp_path: Path) -> None:
    """Each with its own word, and no certificate is written."""
    code = rig.enrolments.invite("gw01")
    with pytest.raises(Rejected, match="code-invalid"):
        rig.enrol("00000-00000-00000-00000")
    with pytest.raises(Rejected, match="code-invalid"):
        rig.enrol(code, "gw02")
    late = rig.enrolments.invite("gw01", 60.0)
    rig.clock.advance(60.0)
    with pytest.raises(Rejected, match="code-expired"):
        rig.enrol(late)
    assert not rig.identity.certificate.exists()
    rig.enrol(code)
    with pytest.raises(Rejected, match="code-used"):
        rig.enrol(code, identity=Identity(tmp_path / "thief"))
    rig.app.state.store.close_gateway("gw01")
    with pytest.raises(Rejected, match="gateway-closed"):
        rig.enrol(rig.enrolments.invite("gw01"))


def test_a_code_is_read_as_people_write_it_and_is_kept_as_a_digest(rig: Rig, tmp_path: Path) -> None:
    """Lower case, blanks, O for 0, I for 1; the database does not know the code."""
    code = rig.enrolments.invite("gw01")
    assert code.replace("-", "").encode() not in (tmp_path / "platform.db").read_bytes()
    assert rig.enrol(f" {code.lower().replace('-', ' ').replace('0', 'o').replace('1', 'i')} ")


def test_an_answer_lost_on_the_way_costs_nothing(rig: Rig) -> None:
    """The same key asks again with its code and is given the same certificate."""
    code = rig.enrolments.invite("gw01")
    rig.line.add(Fault(kind="lose_answer", path="/enrolments"))
    with pytest.raises(Unavailable):
        rig.enrol(code)
    key = rig.identity.key.read_bytes()
    rig.enrol(code)
    first = rig.identity.certificate.read_bytes()
    rig.enrol(code)
    assert (rig.identity.key.read_bytes(), rig.identity.certificate.read_bytes()) == (key, first)


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"gateway":"gw01","certificate":"x"}', b"[]"])
def test_an_answer_that_is_no_certificate_of_ours_changes_nothing(rig: Rig, body: bytes) -> None:
    """A captive portal's page, say."""
    rig.line.add(Fault(kind="garbage", path="/enrolments", body=body))
    with pytest.raises(Unavailable):
        rig.enrol(rig.enrolments.invite("gw01"))
    assert not rig.identity.certificate.exists()


def test_a_certificate_of_another_key_is_not_taken(rig: Rig, tmp_path: Path) -> None:
    """Even from the right platform."""
    key = Ed25519PrivateKey.generate()
    foreign = rig.enrolments.claim("gw01", rig.enrolments.invite("gw01"), request_of(key))
    rig.line.add(Fault(kind="garbage", path="/enrolments", body=msgspec.json.encode(foreign)))
    with pytest.raises(Unavailable, match="our key"):
        rig.enrol(rig.enrolments.invite("gw01"))


def test_a_certificate_is_renewed_when_two_thirds_are_over(rig: Rig) -> None:
    """Not before; a failure is tried again; the key stays; the old file is there until the new one is."""
    rig.enrol(rig.enrolments.invite("gw01"))
    key, first = rig.identity.key.read_bytes(), rig.identity.certificate.read_bytes()
    worker = Renewal(rig.client(), rig.identity, "gw01", rig.clock, Random(1), boot_delay_s=0.0,
                     pause=lambda stop, seconds: rig.clock.advance(max(seconds, 300.0)) is None)  # fmt: skip
    worker.open()
    stop = threading.Event()

    def run_until(renewed: int, steps: int) -> None:
        for _ in range(steps):
            worker.step(stop)
            if worker.renewed == renewed:
                return

    run_until(1, 200)
    assert worker.renewed == 0
    rig.clock.advance(61 * DAY_S)
    assert is_due(rig.identity.certificate, rig.clock.now().wall_s)
    rig.line.add(Fault(kind="status", path="/enrolments", times=2), Fault(kind="lose_answer", path="/enrolments"))
    run_until(1, 200)
    worker.close()
    assert worker.renewed == 1 and rig.line.played == 3
    assert rig.identity.key.read_bytes() == key
    assert rig.identity.certificate.read_bytes() != first
    assert not is_due(rig.identity.certificate, rig.clock.now().wall_s)


def test_what_must_not_be_renewed_is_not(rig: Rig, tmp_path: Path) -> None:
    """Expired, another gateway's, another key's, another authority's; a closed gateway's."""
    rig.enrol(rig.enrolments.invite("gw01"))
    present, key = rig.identity.certificate.read_text(), load_pem_private_key(rig.identity.key.read_bytes(), None)
    mine, other = request_of(key), request_of(Ed25519PrivateKey.generate())
    elsewhere = Enrolments(rig.app.state.store, tmp_path / "elsewhere", rig.clock)
    foreign = elsewhere.claim("gw01", elsewhere.invite("gw01"), mine).certificate
    for gateway, certificate, csr in (
        ("gw02", present, mine), ("gw01", present, other), ("gw01", foreign, mine), ("gw01", "x", mine),
        ("gw01", rig.identity.authority.read_text(), mine),
    ):  # fmt: skip
        answer = rig.post(gateway=gateway, certificate=certificate, csr=csr)
        assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "certificate-invalid")
    assert rig.post(gateway="gw01", certificate=present, csr=mine).status_code == 201
    rig.clock.advance(90 * DAY_S)
    assert "certificate-expired" in rig.post(gateway="gw01", certificate=present, csr=mine).text
    rig.app.state.store.close_gateway("gw01")
    assert rig.post(gateway="gw01", certificate=present, csr=mine).status_code == 410


@pytest.mark.parametrize(
    ("csr", "kind"),
    [
        ("", "request-invalid"), ("\ud83d\ude00", "request-invalid"),
        ("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", "request-invalid"),
        (request_of(rsa.generate_private_key(65537, 2048)), "key-unsuitable"),
        (request_of(ec.generate_private_key(ec.SECP384R1())), "key-unsuitable"),
    ],
    ids=["empty", "emoji", "torn", "rsa", "p384"],
)  # fmt: skip
def test_requests_that_are_none_do_not_use_up_the_code(rig: Rig, csr: str, kind: str) -> None:
    """A 400 with a word for it, and the code still works."""
    code = rig.enrolments.invite("gw01")
    answer = rig.post(gateway="gw01", code=code, csr=csr)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (400, kind)
    assert rig.enrol(code)


def test_a_request_that_somebody_else_signed_is_refused(rig: Rig) -> None:
    """The owner of the key must have made it."""
    raw = bytearray(
        x509.load_pem_x509_csr(request_of(Ed25519PrivateKey.generate()).encode()).public_bytes(Encoding.DER)
    )
    raw[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(raw)).public_bytes(Encoding.PEM).decode()
    answer = rig.post(gateway="gw01", code=rig.enrolments.invite("gw01"), csr=forged)
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (400, "request-invalid")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"gateway":"../x","csr":"","code":"1"}', b'{"gateway":"gw01","csr":"x"}',
             b'{"gateway":"gw01","csr":"x","code":"1","certificate":"2"}',
             b'{"gateway":"gw01","csr":"x","code":"\\ud800"}']
)  # fmt: skip
def test_bodies_that_are_no_enrolment_are_refused(rig: Rig, body: bytes) -> None:
    """Never a 5xx."""
    assert requests.post(rig.served.url + "/v1/enrolments", data=body, timeout=30).status_code == 400
    assert requests.post(rig.served.url + "/v1/enrolments", data=b" " * 20_000, timeout=30).status_code == 413


def test_a_key_that_others_can_read_is_not_used(rig: Rig) -> None:
    """S9: wider modes are refused, with what to do."""
    rig.enrol(rig.enrolments.invite("gw01"))
    rig.identity.key.chmod(0o644)
    for work in (lambda: renew(rig.client(), rig.identity, "gw01"), lambda: rig.enrol(rig.enrolments.invite("gw01"))):
        with pytest.raises(ConfigError, match="chmod 600"):
            work()
    rig.identity.certificate.write_text("x")
    with pytest.raises(ConfigError, match="no certificate"):
        is_due(rig.identity.certificate, 0.0)


def test_the_command_writes_the_files_and_prints_a_table_that_works(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it prints is a configuration that the gateway accepts, with no secret in it."""
    from config.loader import parse

    config = tmp_path / "gateway.toml"
    config.write_text(f'[storage]\ndirectory = "{tmp_path / "gateway"}"\n')
    code = rig.enrolments.invite("gw01")
    assert cli(["enrol", rig.served.url, code, "--config", str(config)], standalone_mode=False) == 0
    told = capsys.readouterr().out
    settings = parse(told[told.index("[platform]") :], "told").platform
    assert (settings.url, settings.auth, settings.token) == (
        rig.served.url,
        "signature",
        f"file:{rig.identity.key}",
    )
    assert settings.cert_file == str(rig.identity.certificate)
    assert code not in told and "PRIVATE" not in told
    with pytest.raises(ConfigError, match="plain HTTP"):
        cli(["enrol", "http://platform.example", code, "--config", str(config)], standalone_mode=False)
