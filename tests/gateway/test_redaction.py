"""What stays of an event when a person is erased."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest

from gateway.clock import FakeClock
from gateway.event import draft
from gateway.event_types import (
    EVENT_TYPES,
    EventData,
    InteractionScanned,
    Line,
    PointsEarned,
    Sale,
    Shopper,
    Tender,
    Totals,
    VisitClosed,
    type_of,
)
from gateway.redaction import _KEPT, is_redacted, keys_in, redacted

DAY_KEY, SEALED, CONSENT = "ab" * 16, "k1.c2VhbGVkLWlkZW50aWZpZXI", "consent-0001"
PERSON = Shopper(day_key=DAY_KEY, sealed=SEALED, scheme="member")


def body(data: EventData) -> bytes:
    entry = type_of(data)
    extensions = {"consentref": CONSENT}
    return draft(
        entry.stream, entry.name, data, source="//t/x", at=FakeClock().now(), subject="T-1", zone="till", srcseq="7",
        extensions=extensions,
    ).body  # fmt: skip


SALE = Sale(
    transaction_id="T-1", kind="sale", workstation_id="till-1", business_date="2026-11-22", currency="CNY",
    lines=(Line(seq=1, gtin="06901234567892", amount=Decimal("9.90")),),
    tenders=(Tender(kind="card", amount=Decimal("9.90")),), coupons=("C-77",), loyalty=PERSON,
    totals=Totals(net=Decimal("9.90")), tap="json", confidence=1.0,
)  # fmt: skip
VISIT = VisitClosed(
    visit_id="v", opened_by="app_qr", entered_at="2026-11-22T09:00:00.000Z", left_at="2026-11-22T09:30:00.000Z",
    evidence=(f"app:{DAY_KEY}",), confidence=0.9, algorithm="1", shopper=PERSON,
)  # fmt: skip


def test_a_sale_keeps_its_money_and_loses_its_person() -> None:
    """The sale is counted as before: every amount stays, the member, the coupon and the consent do not."""
    event = msgspec.json.decode(redacted(body(SALE)) or b"")
    assert event["data"]["totals"] == {"net": "9.90"}
    assert event["data"]["lines"][0]["amount"] == "9.90"
    assert event["data"]["tenders"] == [{"kind": "card", "amount": "9.90"}]
    assert event["subject"] == "T-1"
    assert msgspec.convert(event["data"], Sale, strict=False).loyalty is None
    text = msgspec.json.encode(event).decode()
    assert not any(word in text for word in (DAY_KEY, SEALED, CONSENT, "C-77"))


def test_what_is_only_about_a_person_becomes_null() -> None:
    """A visit, a scan and a type that nobody knows keep their place, type and time."""
    unknown = b'{"source":"//t/x","type":"store.new.thing.v1","time":"t","data":{"day_key":"%b"}}' % DAY_KEY.encode()
    for given in (body(VISIT), body(InteractionScanned(scanner="s", shopper=PERSON)), unknown):
        event = msgspec.json.decode(redacted(given) or b"")
        assert event["data"] is None
        assert event["redacted"] is True
        assert {"type", "time", "source"} <= event.keys()
        assert not {"subject", "zone", "srcseq", "consentref"} & event.keys()


def test_points_stay_countable() -> None:
    """The programme owes or has redeemed as many points as before."""
    event = msgspec.json.decode(
        redacted(body(PointsEarned(programme="p", points=Decimal(5), transaction_id="T-1", shopper=PERSON))) or b""
    )
    assert event["data"] == {"programme": "p", "points": "5"}


def test_twice_is_once() -> None:
    """A redacted event is left alone, and what is no event is, too."""
    once = redacted(body(VISIT))
    assert once is not None
    assert is_redacted(once)
    assert redacted(once) is None
    assert not is_redacted(body(SALE))
    for nothing in (b"", b"[]", b"nonsense", b"\xff"):
        assert redacted(nothing) is None


def test_every_key_of_a_person_is_found() -> None:
    """Day keys (also inside a visit's evidence), sealed identifiers and consents; other events have none."""
    found = keys_in(body(VISIT))
    assert {DAY_KEY.encode(), SEALED.encode(), CONSENT.encode()} <= found
    assert keys_in(b'{"type":"store.rfid.arrived.v1","data":{"epc":"%b"}}' % (b"ab" * 16)) == set()


@pytest.mark.parametrize("name", sorted(_KEPT))
def test_what_stays_is_in_the_vocabulary(name: str) -> None:
    """Every field of the lists exists, and what is left of an event is still valid data of its type."""
    _exists(EVENT_TYPES[name].data, _KEPT[name])


def _exists(struct: Any, spec: Any) -> None:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name, rule in spec.items():
        assert name in fields, f"{struct.__name__}.{name}"
        if isinstance(rule, dict):
            inner = fields[name].type
            _exists(next((one for one in get_args(inner) if hasattr(one, "__struct_fields__")), inner), rule)
    assert not [one for one, field in fields.items() if field.required and one not in spec], struct.__name__
