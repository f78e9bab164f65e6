"""`storefront coupon`: a key, a coupon of it, and what a shop says of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.commands import coupon
from gateway.errors import ConfigError, Rejected


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "issuer.pem"


def wish(key: Path, **changes: object) -> coupon.Wish:
    return coupon.Wish(**{"key": key, "key_id": "pilot", "campaign": "spring", "face": "10.50"} | changes)  # type: ignore[arg-type]


def test_from_the_key_to_the_shop(key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The printed table is a configuration under which the printed coupon is good; the key is for its owner only."""
    coupon.keys(key, "pilot", as_json=False)
    config = tmp_path / "gateway.toml"
    config.write_text(capsys.readouterr().out)
    assert key.stat().st_mode & 0o777 == 0o600
    coupon.issue(config, wish(key, home="0001"), tmp_path / "qr", as_json=True)
    issued = json.loads(capsys.readouterr().out)
    assert (tmp_path / "qr" / f"{issued['id']}.svg").read_text().count("<svg") == 1
    assert coupon.show(config, issued["token"], as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["signature"], shown["verdict"], shown["token"]["face"]) == ("good", "valid", "10.50")
    assert coupon.show(None, issued["token"], as_json=False) == 1
    assert "unknown_key" in capsys.readouterr().out


def test_a_key_is_never_overwritten(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Asked again, the same key is shown."""
    for _ in range(2):
        coupon.keys(key, "pilot", as_json=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_several_have_names_of_their_own(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred coupons are a hundred ids."""
    coupon.keys(key, "pilot", as_json=True)
    coupon.issue(None, wish(key, count=100, id="X"), None, as_json=True)
    ids = {json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()[1:]}
    assert len(ids) == 100 and all(name.startswith("X-") for name in ids)


def test_mistakes(key: Path, tmp_path: Path) -> None:
    """No key, a file that is none, money that is none, a text that is no coupon: each says so."""
    with pytest.raises(ConfigError):
        coupon.issue(None, wish(key), None, as_json=False)
    (tmp_path / "x").write_text("hello")
    with pytest.raises(ConfigError):
        coupon.keys(tmp_path / "x", "pilot", as_json=False)
    with pytest.raises(ConfigError):
        coupon.keys(tmp_path / "no" / "folder", "pilot", as_json=False)
    coupon.keys(key, "pilot", as_json=True)
    for face in ("ten", "0", "NaN"):
        with pytest.raises(Rejected):
            coupon.issue(None, wish(key, face=face), None, as_json=False)
    with pytest.raises(Rejected):
        coupon.show(None, "SFC1AAAA", as_json=False)
