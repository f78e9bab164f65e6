"""What a till may ask of the coupon desk and what it is answered, as JSON; documented in docs/coupons.md.

Unknown fields are passed over, so that a newer till can talk to an older gateway. Knows no transport and no book.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from gateway.clock import rfc3339_s
from gateway.shopper.coupon_rules import RuleName
from gateway.shopper.coupon_token import CouponToken
from gateway.shopper.coupon_words import AGAIN, REASONS, Said

Operation = Literal["check", "reserve", "confirm", "release"]
LARGEST = 8192  # bytes of a request
LANE = r"^[A-Za-z0-9_-]{0,64}$"
_Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
_Reference = Annotated[str, Meta(max_length=128, pattern=r"^[\x20-\x7e]*$")]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `request`: the till's own number for it, new for every new question, the same when repeated."""

    v: Literal[1] = 1
    request: _Id
    operation: Operation
    token: Annotated[str, Meta(max_length=4096)] = ""  # check, reserve
    reservation: _Reference = ""  # confirm, release
    transaction: _Reference = ""  # the till's number of the sale, where it has one already
    currency: Annotated[str, Meta(pattern="^([A-Z]{3})?$")] = ""  # of the basket
    void: bool = False  # release: the sale was undone after the coupon was redeemed
    lane: Annotated[str, Meta(pattern=LANE)] = ""  # the till's name, where neither topic nor token says it

    def __post_init__(self) -> None:
        needed = "token" if self.operation in ("check", "reserve") else "reservation"
        if not getattr(self, needed):
            raise ValueError(f"{self.operation} needs `{needed}`")

    @property
    def digest(self) -> bytes:
        """Names the content, to know a repetition from another question with the same number; on any transport."""
        return hashlib.blake2b(msgspec.msgpack.encode(msgspec.structs.replace(self, lane="")), digest_size=16).digest()


class Text(msgspec.Struct, frozen=True):
    """For the cashier."""

    zh: str
    en: str


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One answer. `reason` is a key of `coupon_words.REASONS`; `ok` says which way it went."""

    v: int = 1
    request: str = ""
    operation: str = ""
    ok: bool
    reason: str
    retry: bool = False  # nothing was decided: send the same request again
    coupon: str = ""
    campaign: str = ""
    face: Decimal | None = None
    currency: str = ""
    rule: RuleName | None = None
    use: int = 0
    uses: int = 0
    expires_at: str = ""
    reservation: str = ""
    hold_s: int = 0  # how long the reservation is kept
    note: str = ""  # clock_unsynced, late
    text: Text


class _Numbered(msgspec.Struct):
    request: _Id


_request = msgspec.json.Decoder(Request).decode
_answer = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder(decimal_format="string").encode
_number = msgspec.json.Decoder(_Numbered).decode


def read_request(payload: bytes, operation: Operation | None = None) -> Request | Answer:
    """A request, or the answer to what is none. `operation`: where the address says it; the body may then leave it out.

    Nothing of a payload that cannot be read is repeated, but its number.
    """
    if len(payload) > LARGEST:
        return answer("bad_request")
    try:
        if operation is None:
            return _request(payload)
        told: Any = msgspec.json.decode(payload)
        if not isinstance(told, dict) or told.setdefault("operation", operation) != operation:
            return answer("bad_request")
        return msgspec.convert(told, Request)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return answer("bad_request", number=_number_of(payload), operation=operation or "")


def answer(
    reason: str, request: Request | None = None, *, number: str = "", operation: str = "", **more: Any
) -> Answer:
    """The answer for a reason, with its texts. `more`: fields of `Answer`."""
    said: Said = REASONS[reason]
    return Answer(
        request=request.request if request else number, operation=request.operation if request else operation,
        ok=reason in ("valid", "reserved", "redeemed", "released"), reason=reason, retry=reason in AGAIN,
        text=Text(said.zh, said.en), **more,
    )  # fmt: skip


def about(token: CouponToken) -> dict[str, Any]:
    """The fields of an answer that tell what a coupon is."""
    return {
        "coupon": token.id, "campaign": token.campaign, "face": token.face, "currency": token.currency,
        "uses": token.uses, "expires_at": rfc3339_s(token.expires_s),
    }  # fmt: skip


def to_json(said: Answer) -> bytes:
    """The answer as it goes to the till, and as it is kept."""
    return _encode(said)


def from_json(payload: bytes) -> Answer:
    """An answer that was kept."""
    return _answer(payload)


def _number_of(payload: bytes) -> str:
    try:
        return str(_number(payload).request)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError):
        return ""
