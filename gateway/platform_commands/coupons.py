"""What the platform may tell the coupon desk: coupons given out here, withdrawn, or lent to this shop.

Each handler changes only what its command says and nothing the second time. Composition: it knows commands and the
coupon book, nothing of how either travels.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import TimeoutError
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from msgspec import Meta

from gateway.errors import Rejected, Unavailable
from gateway.event import Draft
from gateway.shopper import coupon_tables as tables
from gateway.shopper.coupon_token import CouponToken, public_key, verify
from gateway.shopper.coupons import CouponDesk
from sync.commands import Command, Handler

T = TypeVar("T", bound="_Wanted")
R = TypeVar("R")

_MOST = 1000  # coupons in one command
_ANSWER_S = 10.0
_Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_Names = Annotated[tuple[_Name, ...], Meta(max_length=_MOST)]


class _Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of a command's data."""


class _Key(_Wanted, frozen=True):
    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,16}$")]
    public: Annotated[str, Meta(max_length=64)]


class Issue(_Wanted, frozen=True):
    """`coupons.issue`: tokens that shoppers of this shop were given, and issuers' keys to trust."""

    tokens: Annotated[tuple[str, ...], Meta(max_length=_MOST)] = ()
    keys: Annotated[tuple[_Key, ...], Meta(max_length=20)] = ()


class Revoke(_Wanted, frozen=True):
    """`coupons.revoke`: what is honoured no more, for ever."""

    coupons: _Names = ()
    campaigns: _Names = ()
    keys: _Names = ()


class Lease(_Wanted, frozen=True):
    """`coupons.lease`: single coupons, or units of one campaign, lent to this shop until a second since 1970.

    The same lease with other units replaces it; 0 units gives it back.
    """

    lease: _Name
    until_s: Annotated[int, Meta(ge=0, lt=1 << 40)]
    coupons: _Names = ()
    campaign: str = ""
    units: Annotated[int, Meta(ge=0, le=1_000_000)] = 0


class Gateway(Protocol):
    """What the handlers need of the gateway."""

    coupons: CouponDesk | None


def handlers(gateway: Gateway) -> dict[str, Handler]:
    """The handlers; none where the shop takes no coupons, so that the platform hears `unknown`."""
    desk = gateway.coupons
    if desk is None:
        return {}

    def doing(kind: type[T], work: Callable[[CouponDesk, sqlite3.Connection, T], dict[str, Any]]) -> Handler:
        def handle(command: Command) -> Mapping[str, Any]:
            try:
                wanted = msgspec.convert(dict(command.data), kind)
            except msgspec.ValidationError as error:
                raise Rejected("carry out command", command.kind, str(error), "see docs/coupons.md") from error
            return _write(desk, lambda connection: work(desk, connection, wanted))

        return handle

    return {
        "coupons.issue": doing(Issue, _issue),
        "coupons.revoke": doing(Revoke, _revoke),
        "coupons.lease": doing(Lease, _lease),
    }


def _issue(desk: CouponDesk, connection: sqlite3.Connection, wanted: Issue) -> dict[str, Any]:
    for key in wanted.keys:
        public_key(key.public)
        tables.put_key(connection, key.id, key.public)
    if wanted.keys:
        desk.trust(connection)
    tokens, refused = _verified(wanted.tokens, desk.keys)
    for token in tokens:
        tables.know(connection, token, issued=True)
    return {"issued": len(tokens), "keys": len(wanted.keys), "refused": refused}


def _verified(texts: Sequence[str], keys: Mapping[str, Ed25519PublicKey]) -> tuple[list[CouponToken], dict[str, int]]:
    """The tokens that verify, and how many do not for each reason."""
    tokens: list[CouponToken] = []
    refused: dict[str, int] = {}
    for text in texts:
        try:
            tokens.append(verify(text, keys))
        except Rejected as error:
            refused[error.reason] = refused.get(error.reason, 0) + 1
    return tokens, refused


def _revoke(desk: CouponDesk, connection: sqlite3.Connection, wanted: Revoke) -> dict[str, Any]:
    tables.revoke(connection, "coupon", wanted.coupons)
    tables.revoke(connection, "campaign", wanted.campaigns)
    tables.revoke(connection, "key", wanted.keys)
    if wanted.keys:
        desk.trust(connection)
    used = sum(
        use.state in ("held", "redeemed") for coupon in wanted.coupons for use in tables.uses_of(connection, coupon)
    )
    return {"used_already": used}


def _lease(desk: CouponDesk, connection: sqlite3.Connection, wanted: Lease) -> dict[str, Any]:
    if bool(wanted.coupons) == bool(wanted.campaign):
        raise Rejected("carry out command", "coupons.lease", "it needs coupons, or a campaign with units, not both")
    for coupon in wanted.coupons:
        tables.put_lease(connection, tables.Lease(lease=wanted.lease, coupon=coupon, until_s=wanted.until_s))
    if wanted.campaign:
        tables.put_lease(
            connection,
            tables.Lease(
                lease=wanted.lease, campaign=wanted.campaign, units=wanted.units, until_s=wanted.until_s
            ),
        )  # fmt: skip
    return {"used": tables.lease_used(connection, wanted.lease)}


def _write(desk: CouponDesk, work: Callable[[sqlite3.Connection], R]) -> R:
    """In one transaction.

    Raises:
        Unavailable: the journal does not answer now; the command is carried out later.
    """
    if not desk.ready:
        raise Unavailable("carry out command", "coupon book", "it is not open yet")

    def record(connection: sqlite3.Connection) -> tuple[R, Sequence[Draft]]:
        return work(connection), ()

    future = desk.commits.record(record)
    try:
        return future.result(_ANSWER_S)
    except TimeoutError:
        future.cancel()
        raise Unavailable("carry out command", "coupon book", "the journal does not answer") from None
    except sqlite3.Error as error:
        raise Unavailable("carry out command", "coupon book", str(error)) from error
