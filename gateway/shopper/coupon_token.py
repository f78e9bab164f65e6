"""The coupon as a shopper carries it: a signed text, short enough for a QR code, that proves itself without a network.

    SFC1 BASE32( fields ‖ signature )          no blanks; letters A–Z and digits 2–7 after the mark

`1` is the version of everything behind it. A field is one byte tag, one byte length, value; tags rise strictly, so no
field can stand twice and one coupon has one text. The signature is Ed25519 (64 bytes) over `storefront/coupon/v1` NUL
and the fields, the key's id among them.

    tag  field       value
    1    key id      1–16 of a–z 0–9 -
    2    id          1–32 of A–Z a–z 0–9 . _ -      names the coupon for ever, whoever presents it
    3    campaign    the same
    4    face        decimal, at most seven digits and three after the point: 10 or 2.50
    5    currency    ISO 4217
    6    stores      names, comma between; absent: every shop that trusts the key
    7    not before  seconds since 1970, 4 bytes, big-endian
    8    expiry      the same; the coupon is dead from that second on
    9    uses        1–999, 2 bytes, big-endian
    10   home        a store's name; absent: none
    11   lease       the store that it was lent to when it was made; absent: none
    12   channel     how it was given out: app, sms, print …; absent: not said

Capital letters, digits and nothing else: QR codes store them densely, and a scanner that acts as a keyboard of another
country cannot garble them. Knows no journal, no rule and no clock.

*Source*: RFC 8032 (Ed25519); RFC 4648 §6 (Base32); ISO/IEC 18004 (alphanumeric mode).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.errors import Rejected

MARK = "SFC"
VERSION = "1"
LONGEST = 600  # characters; a token with 20 stores has about 500
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32
_CONTEXT = b"storefront/coupon/v1\0"
_TEXT = re.compile(rf"{MARK}([0-9])([A-Z2-7]+)")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}"
_STORE = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_MOST_S = (1 << 32) - 1


class CouponToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says, checked for form; that a trusted key signed it is `verify`'s to say.

    `face`: money, > 0. `not_before_s`, `expires_s`: seconds since 1970. `stores`: () for every shop. `uses`: 1–999.
    """

    key: str
    id: str
    campaign: str
    face: Decimal
    currency: str
    not_before_s: int
    expires_s: int
    uses: int = 1
    stores: tuple[str, ...] = ()
    home: str = ""
    lease: str = ""
    channel: str = ""


def is_token(text: str) -> bool:
    """Whether a text claims to be one, of whatever version."""
    return _TEXT.fullmatch(text) is not None


def public_key(text: str) -> Ed25519PublicKey:
    """An issuer's public key from its 32 bytes in base64url, as the configuration has it.

    Raises:
        Rejected: it is none.
    """
    try:
        code = text.rstrip("=")
        raw = base64.b64decode(code + "=" * (-len(code) % 4), altchars=b"-_", validate=True)
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"{len(raw)} bytes")
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:  # binascii.Error is one
        raise Rejected(
            "read coupon key", "public key", "it is not an Ed25519 public key (32 bytes in base64url)",
            "`storefront coupon keys FILE` prints it",
        ) from error  # fmt: skip


def issue(token: CouponToken, key: Ed25519PrivateKey) -> str:
    """The text of a coupon, signed.

    Raises:
        Rejected: a field cannot be said in a token.
    """
    fields = _packed(token)
    signed = fields + key.sign(_CONTEXT + fields)
    text = MARK + VERSION + base64.b32encode(signed).decode().rstrip("=")
    if len(text) > LONGEST:
        raise Rejected("issue coupon", token.id, f"the token would have {len(text)} characters", "name fewer stores")
    read(text)  # what could not be read is not handed out
    return text


def verify(text: str, keys: Mapping[str, Ed25519PublicKey]) -> CouponToken:
    """Read a token and prove that one of `keys` signed it.

    Raises:
        Rejected: `reason` is one of malformed, too_long, unknown_version, unknown_key, bad_signature.
    """
    token, fields, signature = _read(text)
    key = keys.get(token.key)
    if key is None:
        raise _refused("unknown_key")
    try:
        key.verify(signature, _CONTEXT + fields)
    except InvalidSignature as error:
        raise _refused("bad_signature") from error
    return token


def read(text: str) -> CouponToken:
    """Read a token without asking who signed it: to show it to a person, never to honour it.

    Raises:
        Rejected: `reason` is one of malformed, too_long, unknown_version.
    """
    return _read(text)[0]


def _read(text: str) -> tuple[CouponToken, bytes, bytes]:
    if len(text) > LONGEST:
        raise _refused("too_long")
    match = _TEXT.fullmatch(text)
    if match is None:
        raise _refused("malformed")
    if match[1] != VERSION:
        raise _refused("unknown_version")
    code = match[2]
    try:
        signed = base64.b32decode(code + "=" * (-len(code) % 8))
    except binascii.Error as error:
        raise _refused("malformed") from error
    if base64.b32encode(signed).decode().rstrip("=") != code:  # unused bits that are set: another text, same bytes
        raise _refused("malformed")
    fields, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
    try:
        return _unpacked(fields), fields, signature
    except ValueError as error:
        raise _refused("malformed") from error


def _text_of(pattern: str) -> Callable[[bytes], str]:
    known = re.compile(pattern, re.ASCII)

    def read_text(value: bytes) -> str:
        text = value.decode("ascii")
        if not known.fullmatch(text):
            raise ValueError
        return text

    return read_text


def _face(value: bytes) -> Decimal:
    face = Decimal(_text_of(r"(?:0|[1-9][0-9]{0,6})(?:\.[0-9]{1,3})?")(value))
    if face <= 0:
        raise ValueError
    return face


def _stores(value: bytes) -> tuple[str, ...]:
    stores = tuple(_text_of(f"{_STORE}(?:,{_STORE})*")(value).split(","))
    if len(set(stores)) != len(stores):
        raise ValueError
    return stores


def _number(size: int, lowest: int, highest: int) -> Callable[[bytes], int]:
    def read_number(value: bytes) -> int:
        number = int.from_bytes(value, "big")
        if len(value) != size or not lowest <= number <= highest:
            raise ValueError
        return number

    return read_number


_FIELDS: dict[int, tuple[str, Callable[[bytes], Any], Callable[[Any], bytes]]] = {
    1: ("key", _text_of(r"[a-z0-9-]{1,16}"), str.encode),
    2: ("id", _text_of(_NAME), str.encode),
    3: ("campaign", _text_of(_NAME), str.encode),
    4: ("face", _face, lambda face: format(face, "f").encode()),
    5: ("currency", _text_of("[A-Z]{3}"), str.encode),
    6: ("stores", _stores, lambda stores: ",".join(stores).encode()),
    7: ("not_before_s", _number(4, 0, _MOST_S), lambda at_s: int(at_s).to_bytes(4, "big")),
    8: ("expires_s", _number(4, 1, _MOST_S), lambda at_s: int(at_s).to_bytes(4, "big")),
    9: ("uses", _number(2, 1, 999), lambda uses: int(uses).to_bytes(2, "big")),
    10: ("home", _text_of(_STORE), str.encode),
    11: ("lease", _text_of(_STORE), str.encode),
    12: ("channel", _text_of(_NAME), str.encode),
}
_OPTIONAL = {"stores", "home", "lease", "channel"}


def _packed(token: CouponToken) -> bytes:
    parts = bytearray()
    for tag, (name, parse, plain) in _FIELDS.items():
        value = getattr(token, name)
        if name in _OPTIONAL and not value:
            continue
        try:
            packed = plain(value)
            if len(packed) > 255 or parse(packed) != value:
                raise ValueError
        except (ValueError, OverflowError, ArithmeticError) as error:
            raise Rejected("issue coupon", name, "it has a value that a token cannot say", _HINT) from error
        parts += bytes((tag, len(packed))) + packed
    if token.not_before_s >= token.expires_s:
        raise Rejected("issue coupon", "expires_s", "it is not after not_before_s", _HINT)
    return bytes(parts)


def _unpacked(fields: bytes) -> CouponToken:
    """Raises ValueError for whatever is not exactly what `_packed` would write."""
    found: dict[str, Any] = {}
    offset, last = 0, 0
    while offset < len(fields):
        if offset + 2 > len(fields):
            raise ValueError
        tag, length = fields[offset], fields[offset + 1]
        value = fields[offset + 2 : offset + 2 + length]
        if tag <= last or tag not in _FIELDS or not value or len(value) < length:
            raise ValueError
        name, parse, _ = _FIELDS[tag]
        found[name] = parse(value)
        offset, last = offset + 2 + length, tag
    if any(name not in found and name not in _OPTIONAL for name, _, _ in _FIELDS.values()):
        raise ValueError
    token = CouponToken(**found)
    if token.not_before_s >= token.expires_s:
        raise ValueError
    return token


def _refused(reason: str) -> Rejected:
    """The token's own text is never quoted: who has it, has the coupon."""
    return Rejected("read coupon", "token", reason)


_HINT = "docs/coupons.md lists the fields and their limits"
