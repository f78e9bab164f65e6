"""`coupon issue | show | keys`: make coupons for tests, a pilot or the demo, and look at one.

A chain's own system issues its coupons; this is for those that have none yet, and for trying a shop out.
"""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import rfc3339_s
from gateway.commands.common import print_json, settings_of
from gateway.durable_file import create_file
from gateway.errors import ConfigError, Rejected
from gateway.shopper.coupon_rules import Limits, Moment, Standing, judge
from gateway.shopper.coupon_token import CouponToken, public_key, read, verify
from gateway.shopper.coupon_token import issue as signed
from gateway.shopper.coupon_words import REASONS


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What `coupon issue` was asked for."""

    key: Path
    key_id: str
    campaign: str
    face: str
    currency: str = ""
    count: int = 1
    days: float = 30.0
    uses: int = 1
    stores: tuple[str, ...] = ()
    home: str = ""
    lease: str = ""
    channel: str = "print"
    id: str = ""


class _Issued(msgspec.Struct, frozen=True):
    id: str
    token: str


class _Shown(msgspec.Struct, frozen=True):
    token: CouponToken
    signature: str  # good, or why it is not known to be
    verdict: str  # valid, or the reason against it


def keys(path: Path, key_id: str, *, as_json: bool) -> int:
    """Make an issuer's key where there is none, and print what the gateways' configuration needs of it.

    Raises:
        ConfigError: the file cannot be made, or holds no such key.
    """
    if not path.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            create_file(path, pem)
        except OSError as error:
            raise ConfigError("make coupon key", str(path), error.strerror or str(error), "name a new file") from error
    public = _public(_key(path))
    if as_json:
        print_json({"id": key_id, "public": public})
        return 0
    print(f"# Whoever has {path} can issue coupons: keep it away from the shops.")
    print(f'[[coupons.keys]]\nid = "{key_id}"\npublic = "{public}"')
    return 0


def issue(config: Path | None, wish: Wish, qr: Path | None, *, as_json: bool) -> int:
    """Print coupons, one a line; `qr`: a folder that gets an SVG of each.

    Raises:
        ConfigError: the key cannot be read.
        Rejected: a coupon cannot be as wished.
    """
    key = _key(wish.key)
    try:
        face = Decimal(wish.face)
    except InvalidOperation as error:
        raise Rejected("issue coupon", "--value", "it is no amount of money", "write 10 or 2.50") from error
    now = datetime.now(UTC)
    currency = wish.currency or settings_of(config).gateway.currency
    issued = []
    for number in range(wish.count):
        name = wish.id if wish.count == 1 and wish.id else f"{wish.id or 'C'}-{secrets.token_hex(6)}-{number + 1}"
        token = CouponToken(
            key=wish.key_id, id=name, campaign=wish.campaign, face=face, currency=currency, uses=wish.uses,
            not_before_s=int(now.timestamp()), expires_s=int((now + timedelta(days=wish.days)).timestamp()),
            stores=wish.stores, home=wish.home, lease=wish.lease, channel=wish.channel,
        )  # fmt: skip
        issued.append(_Issued(name, signed(token, key)))
    if qr is not None:
        _draw(issued, qr)
    for one in issued:
        if as_json:
            print_json(one)
        else:
            print(one.token)
    return 0


def show(config: Path | None, text: str, *, as_json: bool) -> int:
    """Print what a coupon says, whether its signature is known here, and what this shop would answer to a first use.

    Raises:
        Rejected: it is no coupon.
    """
    token = read(text.strip())
    settings = settings_of(config)
    try:
        verify(text.strip(), {key.id: public_key(key.public) for key in settings.coupons.keys})
        signature = verdict = "good"
    except Rejected as error:
        signature = verdict = error.reason
    if signature == "good":
        limits = Limits(
            store=settings.gateway.store, currency=settings.gateway.currency, per_coupon=settings.coupons.per_coupon,
            at_risk=Decimal(settings.coupons.at_risk),
        )  # fmt: skip
        judged = judge(token, limits, Standing(), Moment(time.time(), trusted=True))
        verdict = judged if isinstance(judged, str) else "valid"
    if as_json:
        print_json(_Shown(token, signature, verdict))
        return 0 if verdict == "valid" else 1
    print(f"coupon     {token.id}   campaign {token.campaign}   issuer {token.key}: {signature}")
    print(f"value      {token.face} {token.currency}   uses {token.uses}   channel {token.channel or '-'}")
    print(f"valid      {rfc3339_s(token.not_before_s)} to {rfc3339_s(token.expires_s)}")
    print(f"stores     {', '.join(token.stores) or 'all'}   home {token.home or '-'}   lent to {token.lease or '-'}")
    said = REASONS[verdict]
    print(f"here       {verdict}: {said.en} {said.zh}")
    return 0 if verdict == "valid" else 1


def _key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            "read coupon key", str(path), getattr(error, "strerror", None) or "it is no private key in PEM",
            "`storefront coupon keys FILE` makes one",
        ) from error  # fmt: skip
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError("read coupon key", str(path), "it is not an Ed25519 key", "`storefront coupon keys FILE`")
    return key


def _public(key: Ed25519PrivateKey) -> str:
    import base64

    return base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")


def _draw(issued: list[_Issued], folder: Path) -> None:
    import segno  # only here

    folder.mkdir(parents=True, exist_ok=True)
    for one in issued:
        segno.make(one.token, error="m", micro=False).save(str(folder / f"{one.id}.svg"), scale=4)
