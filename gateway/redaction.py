"""What stays of an event when a person in it is erased: a pure function from bytes to bytes.

An event keeps its place, its type and its time. What is about a person goes: where the fact must stay countable (the
money of a sale, points, a redeemed coupon) the fields named in `_KEPT` stay, everything else becomes `data: null`. The
lists say what stays, never what goes, so a field that a later version adds is erased until somebody decides otherwise.
Knows no storage and no key's meaning.

*Source*: PIPL Art. 47 (deletion, and what bookkeeping law lets a shop keep); docs/decisions/0311-erasure.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

MARK = "redacted"  # CloudEvents extension, `true` in an event that was redacted

_HEAD_ALWAYS = frozenset(
    (
        "specversion", "id", "sequence", "recordedtime", "bootid", "source", "type", "dataschema", "time", "monous",
        "clockq",
    )
)  # fmt: skip
_HEAD_OF_FACT = _HEAD_ALWAYS | {"subject", "zone", "srcseq"}  # places and things; a person never stands there

_Spec = Mapping[str, Any]
"""Fields that stay: True whole, a string in its place, or the `_Spec` of an object or of every object in a list."""


def _all(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, True)


_DISCOUNT = _all("amount", "reason", "promotion_id")
_LINE = {
    **_all(
        "seq", "kind", "gtin", "sku", "epcs", "description", "quantity", "unit", "unit_price", "regular_price",
        "amount", "voided", "original_transaction",
    ),
    "discounts": _DISCOUNT,
    "tax": _all("amount", "rate", "included"),
}  # fmt: skip
_SALE = {
    **_all(
        "transaction_id", "kind", "workstation_id", "operator", "business_date", "opened_at", "closed_at", "currency",
        "tap", "confidence", "receipt_end",
    ),
    "lines": _LINE,
    "tenders": _all("kind", "amount", "change"),
    "totals": _all("gross", "discount", "tax", "net", "tendered", "change", "item_count"),
}  # fmt: skip
_COUPON = {**_all("campaign", "face_value", "channel", "rule"), "coupon": ""}
_POINTS = _all("programme", "points")
_KEPT: dict[str, _Spec] = {
    "store.pos.sale.v1": _SALE,
    **{f"store.coupon.{step}.v1": _COUPON for step in ("reserved", "redeemed", "released", "refused")},
    **{f"store.points.{step}.v1": _POINTS for step in ("earned", "spent")},
}
# What the gateway says of itself names nobody, and a chain of hashes or a declaration must stay as it was said.
_NEVER = frozenset(f"store.{name}.v1" for name in ("audit.recorded", "subject.erased", "loss.declared"))

_PERSONAL = re.compile(rb'"(?:day_key|sealed|consentref|record_id)":"')
_NAMED = re.compile(rb'"(?:day_key|sealed|consentref|record_id)":"([^"\\]{1,8192})"')
_DAY_KEY = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")  # also inside other text, as in a visit's evidence


def keys_in(body: bytes) -> set[bytes]:
    """Every key in an event that may stand for a person: day keys, sealed identifiers, references to a consent.

    Empty for most events, at the cost of one search.
    """
    if _PERSONAL.search(body) is None:
        return set()
    return {*_NAMED.findall(body), *_DAY_KEY.findall(body)}


def redacted(body: bytes) -> bytes | None:
    """The event without the person; None when it has been redacted already, or is nothing to be redacted.

    Args:
        body: a whole event, or one as the journal stores it (without what the journal adds).
    """
    try:
        event = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if not isinstance(event, dict) or event.get(MARK) is True or event.get("type") in _NEVER:
        return None
    spec = _KEPT.get(str(event.get("type")))
    stays = _HEAD_ALWAYS if spec is None else _HEAD_OF_FACT
    kept = {name: value for name, value in event.items() if name in stays}
    kept[MARK] = True
    kept["data"] = None if spec is None else _only(event.get("data"), spec)
    return msgspec.json.encode(kept)


def is_redacted(event: bytes) -> bool:
    """Whether an event's bytes say that it was redacted."""
    return b'"redacted":true' in event and redacted(event) is None  # the words alone may stand in any text


def _only(value: Any, spec: _Spec) -> Any:
    if isinstance(value, list):
        return [_only(one, spec) for one in value if isinstance(one, dict)]
    if not isinstance(value, dict):
        return None
    kept: dict[str, Any] = {}
    for name, one in value.items():
        rule = spec.get(name)
        if rule is True:
            kept[name] = one
        elif isinstance(rule, str):
            kept[name] = rule
        elif rule is not None:
            kept[name] = _only(one, rule)
    return kept
