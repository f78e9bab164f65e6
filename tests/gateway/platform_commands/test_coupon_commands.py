"""What the platform tells the coupon desk: issue, revoke, lease; each the same when told twice."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.errors import Rejected, Unavailable
from gateway.journal.reader import JournalReader
from gateway.platform_commands.coupons import handlers
from gateway.shopper.coupon_token import issue
from sync.commands import Command
from tests.gateway.shopper.counter import DAY_S, HOME, NOW_S, Counter, counter, coupon
from tests.gateway.workers.test_coupon_counter import running


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Counter]:
    with counter(tmp_path) as made, running(made):
        yield made


def tell(shop: Counter, kind: str, **data: Any) -> dict[str, Any]:
    gateway: Any = SimpleNamespace(coupons=shop.desk)
    return dict(handlers(gateway)[f"coupons.{kind}"](Command("c1", f"coupons.{kind}", data)))


def asked(shop: Counter, operation: str, **fields: Any) -> str:
    return shop.send(operation, **fields).result(30).reason


def test_issued_coupons_are_known_by_their_id(shop: Counter) -> None:
    """A till that can only name the id in its sale redeems it; what does not verify is counted, not kept."""
    tokens = [coupon(HOME), coupon(HOME, id="H-2"), issue(HOME, Ed25519PrivateKey.generate()), "x"]
    for _ in range(2):
        assert tell(shop, "issue", tokens=tokens) == {
            "issued": 2, "keys": 0, "refused": {"bad_signature": 1, "malformed": 1}
        }  # fmt: skip
    with JournalReader(shop.path) as reader:
        assert reader.query("SELECT coupon, issued FROM coupon_known ORDER BY coupon")[1][0] == "H-2"


def test_an_issuers_key_from_the_platform(shop: Counter) -> None:
    """A new issuer is trusted from the command on, and after a restart; when its key is revoked, no more."""
    key = Ed25519PrivateKey.generate()
    public = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode()
    token = issue(coupon_of("N-1", "new"), key)
    assert asked(shop, "check", token=token) == "unknown_key"
    tell(shop, "issue", keys=[{"id": "new", "public": public}])
    assert asked(shop, "check", token=token) == "valid"
    tell(shop, "revoke", keys=["new"])
    assert asked(shop, "check", token=token) == "unknown_key"


def coupon_of(name: str, key: str) -> Any:
    return msgspec.structs.replace(HOME, id=name, key=key)


def test_revoked(shop: Counter) -> None:
    """From then on refused; the platform hears how many uses it came too late for."""
    assert asked(shop, "reserve", token=coupon(HOME)) == "reserved"
    for _ in range(2):
        assert tell(shop, "revoke", coupons=["H-1", "H-2"], campaigns=["autumn"]) == {"used_already": 1}
    assert asked(shop, "check", token=coupon(HOME, id="H-2")) == "revoked"
    assert asked(shop, "check", token=coupon(HOME, id="H-3", campaign="autumn")) == "revoked"


def test_lent_and_given_back(shop: Counter) -> None:
    """Units of a campaign; told twice they are not more; with 0 units the shop has none and the used ones are told."""
    for _ in range(2):
        assert tell(shop, "lease", lease="L1", campaign="spring", units=1, until_s=NOW_S + DAY_S)["used"] in (0, 1)
        assert asked(shop, "reserve", token=coupon(id="C-1", home="0007"), number="n") == "reserved"
    assert asked(shop, "reserve", token=coupon(id="C-2", home="0007")) == "other_home"
    assert tell(shop, "lease", lease="L1", campaign="spring", units=0, until_s=NOW_S + DAY_S) == {"used": 1}
    assert tell(shop, "lease", lease="L2", coupons=["C-3"], until_s=NOW_S + DAY_S) == {"used": 0}
    assert asked(shop, "reserve", token=coupon(id="C-3", home="0007")) == "reserved"


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("issue", {"tokens": "x"}), ("issue", {"tokens": ["x"] * 1001}), ("issue", {"wrong": 1}),
        ("issue", {"keys": [{"id": "K", "public": "x"}]}), ("issue", {"keys": [{"id": "k", "public": "x"}]}),
        ("revoke", {"coupons": ["a b"]}), ("lease", {"lease": "L", "until_s": 1}),
        ("lease", {"lease": "L", "until_s": 1, "coupons": ["C"], "campaign": "x"}),
        ("lease", {"lease": "L", "until_s": -1, "coupons": ["C"]}),
    ],
)  # fmt: skip
def test_what_is_no_command_is_refused(shop: Counter, kind: str, data: dict[str, Any]) -> None:
    """Nothing of a command with a mistake in it is carried out."""
    with pytest.raises(Rejected):
        tell(shop, kind, **data)


def test_without_a_desk_there_are_no_handlers(tmp_path: Path) -> None:
    """A shop that takes no coupons answers `unknown`; one that is starting asks for patience."""
    nobody: Any = SimpleNamespace(coupons=None)
    assert handlers(nobody) == {}
    with pytest.raises(Unavailable):
        tell(Counter(tmp_path), "revoke", coupons=["C-1"])
