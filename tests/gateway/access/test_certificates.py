"""The store's own authority: made once, limited to the shop, its leaves renewed in time, and no clock spoils it."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509

from gateway.access.certificates import LEAF_DAYS, RENEW_DAYS, StoreCa, own_names
from gateway.access.server_tls import ServerTls
from gateway.clock import FakeClock
from gateway.errors import ConfigError, Unavailable

NAMES = ("localhost", "127.0.0.1", "::1", "shop", "shop.local", "192.168.1.5")


def made(tmp_path: Path, clock: FakeClock | None = None) -> StoreCa:
    return StoreCa(tmp_path, "0042", clock or FakeClock())


def test_a_leaf_is_kept_until_a_third_of_its_life_is_left_and_the_authority_stays(tmp_path: Path) -> None:
    clock = FakeClock()
    ca = made(tmp_path, clock)
    first, authority = ca.leaf(NAMES), ca.fingerprint()
    assert ca.leaf(NAMES) == first and set(first.names) == set(NAMES)
    clock.advance((LEAF_DAYS - RENEW_DAYS) * 86_400 - 60)
    assert made(tmp_path, clock).leaf(NAMES) == first
    clock.advance(120)
    assert ca.leaf(NAMES).fingerprint != first.fingerprint and ca.fingerprint() == authority
    for name in ("ca.key", "page.key"):
        assert (tmp_path / "tls" / name).stat().st_mode & 0o777 == 0o600


def test_a_new_address_makes_a_new_leaf_and_servers_have_their_own(tmp_path: Path) -> None:
    ca = made(tmp_path)
    first = ca.leaf(NAMES)
    assert "192.168.7.7" in ca.leaf((*NAMES, "192.168.7.7")).names
    assert ca.leaf(NAMES, "feed").certificate != first.certificate


@pytest.mark.parametrize("wall_s", [0.0, 1_000_000_000.0, 1_795_312_800.0, 2_200_000_000.0])
def test_what_a_wrong_clock_made_is_good_once_the_clock_is_right(tmp_path: Path, wall_s: float) -> None:
    made(tmp_path, FakeClock(wall_s)).leaf(NAMES)
    right = FakeClock()
    leaf = made(tmp_path, right).leaf(NAMES)
    authority = x509.load_pem_x509_certificate((tmp_path / "tls" / "ca.pem").read_bytes())
    read = x509.load_pem_x509_certificate(leaf.certificate.read_bytes())
    read.verify_directly_issued_by(authority)
    for certificate in (authority, read):
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        assert begins.timestamp() <= right.wall_s < ends.timestamp()


def test_the_authority_speaks_for_the_shop_only(tmp_path: Path) -> None:
    ca = made(tmp_path)
    ca.leaf((*NAMES, "gw.shop.example"))
    names = ca.leaf((*NAMES, "gw.shop.example", "bank.example", "8.8.8.8")).names
    assert "gw.shop.example" in names and "bank.example" not in names and "8.8.8.8" not in names


@pytest.mark.parametrize("damaged", ["page.pem", "page.key"])
def test_a_damaged_leaf_is_made_anew_and_a_damaged_authority_is_said(tmp_path: Path, damaged: str) -> None:
    ca = made(tmp_path)
    first = ca.leaf(NAMES)
    (tmp_path / "tls" / damaged).write_text("-----BEGIN NOTHING-----")
    assert ca.leaf(NAMES).fingerprint != first.fingerprint
    (tmp_path / "tls" / "ca.key").chmod(0o644)
    with pytest.raises(Unavailable, match="others may read"):
        ca.leaf(NAMES)


def test_a_server_on_loopback_needs_none_and_one_that_runs_takes_a_renewed_one(tmp_path: Path) -> None:
    clock = FakeClock()

    def tls(host: str, given: tuple[str, str] = ("", "")) -> ServerTls:
        return ServerTls("page", host, (), given, tmp_path, "0042", clock)

    assert not tls("127.0.0.1").needed and not tls("localhost").needed
    served = tls("0.0.0.0")
    context = served.context()
    assert served.needed and context.minimum_version is ssl.TLSVersion.TLSv1_2 and not served.renew()
    clock.advance(LEAF_DAYS * 86_400)
    assert served.renew() and not served.renew()
    with pytest.raises(ConfigError, match="cert_file"):
        tls("127.0.0.1", (str(tmp_path / "none.pem"), str(tmp_path / "none.key"))).context()


def test_own_names_hold_the_machine_and_what_the_shop_calls_it() -> None:
    assert {"localhost", "127.0.0.1", "shop.example"} <= set(own_names("0.0.0.0", ["Shop.Example"]))
    assert "10.0.0.9" in own_names("10.0.0.9")
