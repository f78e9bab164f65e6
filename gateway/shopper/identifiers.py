"""Identifiers of persons, normalised: one spelling for one person, and nothing for what names nobody.

Store and platform must spell alike or never match, so both use this module; tests/vectors/identifiers.json pins it.
What a till writes where there is no member ("0", "GUEST", a masked number) is refused, because it would make one person
of many. An identifier stands in no error, not even in part. Knows no key, no consent and no event.

*Source*: Unicode UAX 15 (NFKC); ITU-T E.164 by way of libphonenumber; RFC 5321 §2.4, §4.5.3.1; RFC 5891 (IDNA 2008).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import msgspec

from config.settings import PrivacySettings, Scheme
from gateway.errors import Rejected
from gateway.intake.check_digits import gs1, luhn

__all__ = ["SCHEMES", "Identifier", "Rules", "Scheme", "normalise", "rules_of", "scheme_of"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)  # the surer first: which of several names a sale
_LONGEST = 256  # characters as read; NFKC can make 18 of one
_KEPT = {"member": 64, "phone": 16, "email": 254, "app": 128, "payment": 128, "beacon": 128, "card": 64}

# What devices call a kind of identifier; a shop adds its own in [privacy.scheme_names].
_NAMES: dict[str, Scheme] = {
    **{scheme: scheme for scheme in SCHEMES},
    "club": "member", "loyalty": "member", "membership": "member", "customer": "member", "会员": "member",
    "tel": "phone", "telephone": "phone", "mobile": "phone", "msisdn": "phone", "手机": "phone", "手机号": "phone",
    "mail": "email", "e-mail": "email", "邮箱": "email", "app_id": "app", "openid": "app", "unionid": "app",
    "token": "payment", "par": "payment", "rfid": "card", "nfc": "card",
}  # fmt: skip
_PLACEHOLDERS = frozenset(
    {
        "NONE", "NULL", "NIL", "NAN", "N/A", "NA", "NO", "GUEST", "ANON", "ANONYMOUS", "UNKNOWN", "UNDEFINED",
        "NOMEMBER", "NO-MEMBER", "CASH", "WALKIN", "WALK-IN", "FALSE", "TRUE", "DEFAULT", "DUMMY", "无", "非会员",
        "散客", "游客", "匿名",
    }
)  # fmt: skip


class Identifier(msgspec.Struct, frozen=True):
    """A normalised identifier. Equal for two spellings of one number; never in a log, an error or an event."""

    scheme: Scheme
    value: str

    def __repr__(self) -> str:
        """Without the value: a representation ends up in tracebacks."""
        return f"Identifier({self.scheme!r}, …)"

    @property
    def plaintext(self) -> bytes:
        """What is sealed and keyed."""
        return f"{self.scheme}\x1f{self.value}".encode()


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from shop to shop."""

    region: str = "CN"  # ISO 3166: where a phone number without a country code is from
    member_check: Literal["none", "luhn", "gs1"] = "none"
    scheme_names: Mapping[str, Scheme] = {}


def rules_of(privacy: PrivacySettings, region: str) -> Rules:
    """The rules of `[privacy]` and `[gateway].region`."""
    names = {_folded(name): scheme for name, scheme in privacy.scheme_names.items()}
    return Rules(region=region, member_check=privacy.member_check, scheme_names=names)


def scheme_of(name: str, rules: Rules) -> Scheme:
    """Our scheme for what a device calls it.

    Raises:
        Rejected: nobody has said what that is. Guessing could make one person of the members of two clubs.
    """
    folded = _folded(name[:_LONGEST])
    scheme = rules.scheme_names.get(folded) or _NAMES.get(folded)
    if scheme is None:
        raise Rejected(
            "read identifier", "scheme", "the kind of identifier is not known",
            "say in [privacy.scheme_names] what the till means by it",
        )  # fmt: skip
    return scheme


def normalise(scheme: Scheme, raw: str, rules: Rules) -> Identifier:
    """One spelling of an identifier.

    Full-width and other digits become ASCII, marks without width are dropped. Then by scheme: `member` without spaces,
    upper case, with a right check digit where `rules` ask for one; `phone` E.164; `email` all lower, domain as ASCII;
    `app` and `payment` as they are; `beacon` and `card` upper case, a card's number without separators and leading
    zeros.

    Raises:
        Rejected: it cannot be such an identifier, or stands for nobody. The reason does not quote it.
    """
    if not raw or len(raw) > _LONGEST:
        raise _refused(scheme, "it is empty" if not raw else f"it has more than {_LONGEST} characters")
    text = unicodedata.normalize("NFKC", raw)
    if not text.isascii() or not text.isprintable():
        text = "".join(_plain(scheme, char) for char in text)
    text = text.strip()
    value = _SCHEMES[scheme](text, rules)
    if not value or len(value) > _KEPT[scheme]:
        raise _refused(scheme, f"it must have 1 to {_KEPT[scheme]} characters")
    if value.upper() in _PLACEHOLDERS or _REPEATED.fullmatch(value):
        raise _refused(scheme, "it stands for nobody")
    return Identifier(scheme, value)


_REPEATED = re.compile(r"0+|(\w)\1{3,}|[\W_]+")  # 0, 0000, 99999999, XXXX, ---
_MEMBER = re.compile(r"[\w./:+=|-]+")
_APP = re.compile(r"[A-Za-z0-9._:=+/@~-]+")
_BEACON = re.compile(r"[0-9A-Z/:._-]+")
_CARD = re.compile(r"[0-9A-Z]+")
_PHONE = re.compile(r"[0-9+()./ \t-]{5,40}")
_LOCAL = re.compile(r"[^\s@\"(),:;<>\[\\\]]{1,64}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_SPACES = re.compile(r"\s+")


def _plain(scheme: Scheme, char: str) -> str:
    category = unicodedata.category(char)
    if category in ("Cc", "Cs", "Co", "Cn"):
        raise _refused(scheme, "it holds a character that no identifier has")
    if category == "Cf":  # directional marks round a number that was pasted, zero-width joiners
        return ""
    return str(unicodedata.decimal(char)) if category == "Nd" else char


def _member(text: str, rules: Rules) -> str:
    value = unicodedata.normalize("NFKC", _SPACES.sub("", text).upper())
    if not _MEMBER.fullmatch(value):
        raise _refused("member", "it holds a character that no member number has, or is masked")
    if rules.member_check != "none":
        digits = value if value.isascii() and value.isdigit() else ""
        if len(digits) < 2 or not _CHECKS[rules.member_check](digits):
            raise _refused("member", "its check digit is wrong")
    return value


def _phone(text: str, rules: Rules) -> str:
    import phonenumbers  # 20 ms and 3 MB that a shop without phone numbers does not need

    if not _PHONE.fullmatch(text):
        raise _refused("phone", "it is no phone number")
    try:
        number = phonenumbers.parse(text, rules.region)
    except phonenumbers.NumberParseException:
        raise _refused("phone", "it is no phone number") from None  # its text might quote
    if number.extension or not phonenumbers.is_valid_number(number):
        raise _refused("phone", "no line has that number")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _email(text: str, _rules: Rules) -> str:
    local, at, domain = text.lower().rpartition("@")
    if not at or not _LOCAL.fullmatch(local) or local.startswith(".") or local.endswith(".") or ".." in local:
        raise _refused("email", "it is no e-mail address")
    try:
        labels = [_ascii_label(label) for label in domain.split(".")]
    except UnicodeError:
        raise _refused("email", "its domain is none") from None  # a UnicodeError quotes
    name = ".".join(labels)
    if len(labels) < 2 or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("email", "its domain is none")
    return f"{local}@{name}"


def _ascii_label(label: str) -> str:
    """A label of a domain as it stands in the DNS.

    Raises:
        UnicodeError: it cannot stand there.
    """
    if label.isascii():
        return label
    if "ß" in label or "ς" in label:  # IDNA 2003, which Python has, would make them ss and σ: another domain
        return "xn--" + label.encode("punycode").decode("ascii")
    return label.encode("idna").decode("ascii")


def _app(text: str, _rules: Rules) -> str:
    if not _APP.fullmatch(text):
        raise _refused("app", "it holds a character that no such identifier has")
    return text


def _payment(text: str, _rules: Rules) -> str:
    if not _APP.fullmatch(text):
        raise _refused("payment", "it holds a character that no token has, or is masked")
    if text.isdigit() and 12 <= len(text) <= 19 and luhn(text):
        raise _refused("payment", "it is a card number, which has no place here; tills must send a token")
    return text


def _beacon(text: str, _rules: Rules) -> str:
    value = text.upper()
    if not _BEACON.fullmatch(value):
        raise _refused("beacon", "it is no beacon's identity")
    return value


def _card(text: str, _rules: Rules) -> str:
    value = re.sub(r"[\s:.-]", "", text).upper()
    if not _CARD.fullmatch(value):
        raise _refused("card", "it is no card's number")
    return (value.lstrip("0") or "0") if value.isdigit() else value


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _refused(scheme: str, reason: str) -> Rejected:
    return Rejected("read identifier", scheme, reason, "see docs/privacy.md for what each kind looks like")


_CHECKS: dict[str, Callable[[str], bool]] = {"luhn": luhn, "gs1": gs1}
_SCHEMES: dict[Scheme, Callable[[str, Rules], str]] = {
    "member": _member, "phone": _phone, "email": _email, "app": _app, "payment": _payment, "beacon": _beacon,
    "card": _card,
}  # fmt: skip
