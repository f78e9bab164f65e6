"""mTLS at the reference platform: the certificate of an enrolment opens it, and nothing else that looks like one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.errors import Unavailable
from sync.credentials import ClientCertificate
from sync.enrolment import Identity, enrol
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import platform_app
from sync.platform.client_certificates import ServerTls
from sync.platform.enrolments import Enrolments
from sync.platform.store import PlatformStore
from tests.sync.sync_parts import Served
from tests.sync.test_http_client import certificate

LANE = f"/v1/gateways/gw01/streams/transactions/epochs/{'a' * 32}"


class Rig:
    """A platform behind TLS with a clean machine's view of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ca, self.key = certificate(home, "platform")
        self.app = platform_app(home / "platform.db", durable=False, enrolled_only=True)
        self.enrolments: Enrolments = self.app.state.enrolments
        authority = self.enrolments.authority_text()
        self.served = Served(
            self.app,
            lambda app, **options: ServerTls(app, self.ca, self.key, authority, **options),
        )
        self.url = f"https://localhost:{self.served.port}"

    def client(self, identity: Identity | None = None) -> HttpClient:
        shown = {} if identity is None else {"certificate": identity.certificate, "key": identity.key}
        options = ClientOptions(url=self.url, ca=self.ca, connect_s=10, read_s=20, **shown)
        return HttpClient(options, None if identity is None else ClientCertificate(identity.certificate))

    def enrolled(self, gateway: str, kind: Any = "ed25519") -> Identity:
        identity = Identity(self.home / gateway)
        enrol(self.client(), identity, gateway, self.enrolments.invite(gateway), kind)
        return identity

    def status(self, identity: Identity | None) -> int:
        client = self.client(identity)
        try:
            return client.call("GET", LANE).status
        finally:
            client.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    with rig.served:
        yield rig


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_the_enrolled_certificate_opens_the_platform_for_its_gateway_alone(rig: Rig, kind: str) -> None:
    """Enrolling needs none; without one it is 401; another gateway's is no use; and a push goes through."""
    mine, other = rig.enrolled("gw01", kind), rig.enrolled("gw02", kind)
    assert rig.status(None) == 401
    assert rig.status(other) == 401
    assert rig.status(mine) == 404  # let in; there is no such epoch yet


def test_a_certificate_of_another_authority_gets_no_connection(rig: Rig, tmp_path: Path) -> None:
    """Self-signed, or of another platform with the same names: TLS itself refuses it."""
    (tmp_path / "foreign").mkdir()
    store = PlatformStore(tmp_path / "foreign" / "platform.db", durable=False)
    store.open()
    foreign = Enrolments(store, tmp_path / "foreign" / "authority", SystemClock())
    mine = rig.enrolled("gw01")
    from tests.sync.test_enrolment import load_pem_private_key, request_of

    key = load_pem_private_key(mine.key.read_bytes(), None)
    issued = foreign.claim("gw01", foreign.invite("gw01"), request_of(key))
    mine.certificate.write_text(issued.certificate)
    with pytest.raises(Unavailable):
        rig.status(mine)
    store.close()


def test_a_certificate_that_the_platform_does_not_know_any_more_is_401(rig: Rig) -> None:
    """Signed by the right authority, but not in its book: the platform was restored, or has taken it out."""
    mine = rig.enrolled("gw01")
    assert rig.status(mine) == 404
    with rig.app.state.store.transaction() as connection:
        connection.execute("DELETE FROM certificate")
    assert rig.status(mine) == 401


def test_a_gateway_cannot_claim_a_certificate_in_a_header(rig: Rig) -> None:
    """What is in the scope is put there by the connection and by nobody else."""
    mine = rig.enrolled("gw01")
    client = rig.client()
    shown = {"storefront.client_certificate": mine.certificate.read_text().replace("\n", "")}
    assert client.call("GET", LANE, headers=shown).status == 401
    client.close()
