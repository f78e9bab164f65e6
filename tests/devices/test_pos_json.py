"""The JSON till: every documented name, exact money, what is dropped, what is refused, and what names a sale."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.driver import Message
from devices.drivers import pos_json
from devices.drivers.pos_json import PosJson, PosJsonOptions
from gateway.clock import FakeClock
from gateway.errors import Rejected
from gateway.intake.reading import BasketStep, DeviceState, Feedback, Reading, Sale

EVENT = "store/0042/pos/till/lane2/event"
STATUS = "store/0042/pos/till/lane2/status"
NOW = FakeClock().now()


def readings(payload: object, topic: str = EVENT, *, retained: bool = False, **options: Any) -> list[Reading]:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return list(PosJson(PosJsonOptions(**options), "lane2").feed(Message(topic, raw, retained), NOW))


def sale(payload: object, **options: Any) -> Sale:
    (reading,) = readings(payload, **options)
    assert isinstance(reading, Sale)
    return reading


def refusal(payload: object, topic: str = EVENT, **options: Any) -> str:
    with pytest.raises(Rejected) as caught:
        readings(payload, topic, **options)
    assert caught.value.subject == topic
    return caught.value.reason


def basic(**fields: Any) -> dict[str, Any]:
    return {"sequence": 1, "totals": {"net": "1.00"}, "lines": [{"amount": "1.00"}]} | fields


def example() -> dict[str, Any]:
    """The example of the manual."""
    manual = inspect.cleandoc(pos_json.__doc__ or "")
    text = manual[manual.index('{"v": 1') : manual.index("Other names")]
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def test_the_example_of_the_manual_is_read_field_by_field() -> None:
    """What the manual shows is what the driver reads, and it adds up."""
    got = sale(example())
    assert (got.kind, got.sequence, got.workstation_id, got.business_date) == ("sale", "1234", "03", "2026-11-22")
    assert (got.operator, got.currency, got.tap, got.confidence) == ("77", "EUR", "json", 1.0)
    assert got.opened_at == datetime(2026, 11, 22, 9, 14, 50, tzinfo=UTC)
    milk, back = got.lines
    assert (milk.gtin, milk.quantity, milk.unit_price, milk.amount) == (
        "05901234123457",
        2,
        Decimal("1.20"),
        Decimal("2.40"),
    )
    assert (milk.discounts[0].amount, milk.discounts[0].promotion_id) == (Decimal("0.40"), "P7")
    assert (milk.tax[0].rate, milk.epcs) == (7, ("30143639F84191AD22901607",))
    assert (back.kind, back.sku, back.amount, back.original_transaction) == (
        "return", "A-17", Decimal("-0.50"), "0042-03-20261120-0991",
    )  # fmt: skip
    assert (got.tenders[0].kind, got.tenders[0].change) == ("cash", Decimal("3.50"))
    assert (got.totals.net, got.totals.item_count, got.coupons) == (Decimal("1.50"), 2, ("9506000134352001",))


def test_short_names_say_the_same() -> None:
    """The names of the event vocabulary give the same sale as those of the transaction model."""
    long = example()
    short = {
        {"type": "kind", "operator_id": "operator", "begin_time": "opened_at", "end_time": "closed_at"}.get(k, k): v
        for k, v in long.items()
    }
    short["lines"] = [
        {{"type": "kind", "extended_amount": "amount", "epc": "epcs"}.get(k, k): v for k, v in line.items()}
        for line in long["lines"]
    ]
    short["tenders"] = [{"kind": "cash", "amount": "5.00", "change": "3.50"}]
    loyalty, source = short.pop("loyalty"), short.pop("source")
    short |= {"member": loyalty["id"], "member_scheme": loyalty["scheme"], "tap": source["tap"], "confidence": 1.0}
    assert short.keys().isdisjoint({"type", "operator_id", "begin_time"})
    assert sale(short) == sale(long)


def test_both_names_must_agree() -> None:
    """Two names for one field may both be given, but not with two values."""
    assert sale(basic(type="sale", kind="sale")).kind == "sale"
    assert refusal(basic(type="sale", kind="return")) == "type and kind do not agree"
    assert "$.lines[0]" in refusal(basic(lines=[{"amount": 1, "extended_amount": 2}]))


def test_members_go_nowhere_but_into_the_member_fields() -> None:
    """The identifier appears once in everything the reading says; card digits appear never."""
    told = example() | {"loyalty": {"scheme": "club", "id_hash": "CANARY-1"}}
    told["tenders"] = [{"type": "card", "amount": "1.50", "last4": "CANARY-2"}]
    told["source"]["raw_ref"] = "CANARY-3"
    got = sale(told)
    assert (got.member, got.member_scheme) == ("CANARY-1", "club")
    text = msgspec.json.encode(got).decode()
    assert text.count("CANARY-1") == 1
    assert "CANARY-2" not in text
    assert "CANARY-3" not in text


@pytest.mark.parametrize("number", ["0.1", "1234567.89", "12.10", "0.000001", "-3"])
def test_money_is_exact_as_string_and_as_number(number: str) -> None:
    """A number is read as it is written, not through a binary float."""
    payload = f'{{"sequence": 1, "lines": [{{"amount": {number}}}], "totals": {{"net": "{number}"}}}}'.encode()
    got = sale(payload)
    assert str(got.lines[0].amount) == str(got.totals.net) == str(Decimal(number))
    assert got.confidence == 1.0


def test_returns_are_negative_however_the_till_writes_them() -> None:
    """A return told with positive amounts and one told with negative amounts are the same sale."""
    lines = [{"amount": "5.00", "quantity": "2", "type": "return"}]
    plain = sale(
        basic(type="return", lines=lines, totals={"net": "5.00", "tax": "0.5"}, tenders=[{"type": "cash", "amount": 5}])
    )
    negative = sale(
        basic(
            type="return",
            lines=[{"amount": "-5.00", "quantity": "-2"}],
            totals={"net": "-5.00", "tax": "-0.5"},
            tenders=[{"type": "cash", "amount": -5}],
        )
    )
    assert plain == negative
    assert (plain.totals.net, plain.lines[0].quantity, plain.tenders[0].amount) == (Decimal("-5.00"), -2, -5)
    assert plain.confidence == 1.0


@pytest.mark.parametrize(
    ("fields", "confidence"),
    [
        ({}, 1.0),
        ({"totals": {"net": "1.01"}}, 1.0),  # within a cent
        ({"totals": {"net": "1.02"}}, 0.5),
        ({"lines": [{"amount": "1.30", "discounts": [{"amount": "0.30"}]}]}, 1.0),
        ({"lines": [{"amount": "1.00", "discounts": [{"amount": "0.30"}]}]}, 0.5),
        ({"lines": [{"amount": "1.30"}], "totals": {"net": "1.00", "discount": "0.30"}}, 1.0),
        ({"lines": [{"amount": "0.90", "tax": [{"amount": "0.10", "included": False}]}]}, 1.0),
        ({"lines": [{"amount": "1.00"}, {"amount": "7.00", "voided": True}]}, 1.0),
        ({"lines": [{"amount": "1.00"}, {"amount": "7.00", "type": "void"}]}, 1.0),
        ({"lines": [{"amount": "8.00"}, {"amount": "-7.00", "type": "void"}]}, 1.0),
        ({"lines": []}, 0.5),
        ({"confidence": 0.2}, 0.2),
        ({"totals": {"net": "3.00"}, "source": {"confidence": 0.9}}, 0.5),
    ],
)
def test_totals_are_checked_against_the_lines(fields: dict[str, Any], confidence: float) -> None:
    """Lines less discounts must be what was to pay; if not, the sale is kept and believed less."""
    assert sale(basic(**fields)).confidence == confidence


@pytest.mark.parametrize(
    "payload",
    [basic(training=True), basic(type="no_sale"), {"sequence": 9, "cancelled": True}, example() | {"cancelled": True}],
)
def test_what_is_no_sale_is_counted_and_dropped(payload: dict[str, Any]) -> None:
    """Training, cancelled and no-sale transactions leave nothing but a count, complete or not."""
    driver = PosJson(PosJsonOptions(), "lane2")
    assert not list(driver.feed(Message(EVENT, json.dumps(payload).encode()), NOW))
    assert (driver.counters.ignored, driver.counters.frames, driver.counters.bad_frames) == (1, 0, 0)


def test_retained_events_are_ignored_and_retained_status_is_state() -> None:
    """A retained sale was counted long ago; a retained status is how a till is now."""
    assert readings(basic(), retained=True) == []
    assert readings(b"rubbish", retained=True) == []
    assert readings(b"offline", STATUS, retained=True) == [DeviceState(state="offline")]


def test_status_in_three_spellings() -> None:
    """Plain text, a JSON string and an object are the same status; anything else is refused."""
    assert readings(b"online", STATUS) == readings(b'"online"', STATUS) == readings({"state": "online"}, STATUS)
    assert readings({"status": "offline", "ts": 0}, STATUS) == [
        DeviceState(state="offline", device_at=datetime(1970, 1, 1, tzinfo=UTC))
    ]
    for bad in (b"", b"sleeping", b"{}", b'"gone"', b"[]", b"online" * 1000):
        assert refusal(bad, STATUS)


def test_baskets_and_answers() -> None:
    """Steps and scores come with the counter that names them; a wrong GTIN is left out of a step."""
    step = {"basket_id": "b", "step": "item_added", "gtin": "5901234123457", "lane": 3, "seq": 5, "boot": "x"}
    assert readings(step) == [
        BasketStep(basket_id="b", step="item_added", gtin="05901234123457", lane="3", device_seq="5", device_boot="x")
    ]
    assert readings(step | {"gtin": "5901234123450"})[0].gtin is None  # type: ignore[attr-defined]
    assert readings({"question": "nps", "score": 0}) == [Feedback(question="nps", score=0)]


def test_redelivered_is_the_same_fact_and_other_facts_are_others() -> None:
    """One transaction has one name whatever surrounds it; the same number on another day or as a void has another."""

    def name(**fields: Any) -> tuple[str | None, str | None]:
        got = sale(basic(**fields))
        return got.device_seq, got.device_boot

    told: Mapping[str, Any] = {"transaction_id": "0042-03-20261122-1", "business_date": "2026-11-22"}
    assert name(**told, ts=1, seq=1, boot="a") == name(**told, ts=2, seq=9, boot="b")
    assert name(**told) != name(**told, type="void")
    assert name(sequence=1, business_date="2026-11-22") != name(sequence=1, business_date="2026-11-23")
    assert name(sequence=1, boot="a") != name(sequence=1, boot="b")
    assert name(sequence=1, workstation_id="1", boot="a") != name(sequence=1, workstation_id="2", boot="a")
    assert name(sequence=1) == (None, None)  # a number that starts again tomorrow names nothing


def test_sequence_from_the_transaction_id() -> None:
    """The till's number is the last part of our own transaction id; another id is taken whole."""
    only = {"totals": {"net": 0}}
    assert sale(only | {"transaction_id": "0042-03-20261122-1234"}).sequence == "1234"
    assert sale(only | {"transaction_id": "A-9"}).sequence == "A-9"


def test_a_code_without_a_right_check_digit_is_a_sku() -> None:
    """A sale is not lost over one digit."""
    (line,) = sale(basic(lines=[{"amount": "1.00", "gtin": "5901234123450"}])).lines
    assert (line.gtin, line.sku) == (None, "5901234123450")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "truncated"),
        (b"\xff\xfe{}", "malformed"),
        (b'{"sequence": "\xff"}', "utf-8"),
        (b'{"sequence": 1, "totals": {"net": Infinity}}', "malformed"),
        (basic(totals={"net": "-Infinity"}), "$.totals"),
        (basic(totals={"net": "sNaN"}), "$.totals"),
        (basic(totals={"net": "1e11"}), "$.totals"),
        (basic(totals={"net": "1.0000001"}), "6 digits"),
        (basic(totals={"net": None}), "$.totals.net"),
        (basic(lines=[{"amount": "1"}] * 3 + [{"amount": "x"}]), "$.lines[3].amount"),
        (basic(lines={"amount": "1"}), "$.lines"),
        (basic(training="no"), "$.training"),
        (basic(business_date="22.11.2026"), "$.business_date"),
        (basic(end_time="2026-11-22T10:00:00"), "$.end_time"),
        (basic(end_time=10**15), "2199"),
        (basic(end_time="0001-01-01T00:00:00Z"), "1970"),
        (basic(currency="euro"), "$.currency"),
        (basic(v=2), "$.v"),
        (basic(sequence=-1), "$.sequence"),
        (basic(sequence="x" * 200), "$.sequence"),
        (basic(confidence=1.1), "$.confidence"),
        ({"totals": {"net": 1}}, "sequence is missing"),
        ({"sequence": 1}, "totals is missing"),
        ({}, "neither"),
        ([], "object"),
        (b"[" * 100_000, "deeper than 16"),
        (b'{"a":' * 17 + b"1" + b"}" * 17, "deeper than 16"),
        (b'{"sequence": 1, "totals": {"net": 1}, "x": "' + b"y" * 300_000 + b'"}', "larger than 262144"),
        ({"basket_id": "b"}, "step"),
        ({"question": "q", "score": 9.5}, "$.score"),
    ],
)
def test_bad_payloads_are_refused_with_the_place(payload: object, reason: str) -> None:
    """What cannot be read is refused, and the reason says where."""
    assert reason in refusal(payload)


def test_the_reason_holds_no_word_of_the_payload() -> None:
    """A member number in the wrong field does not travel on in the reason."""
    assert refusal(basic(type="CANARY")) == "Invalid enum value - at `$.type`"


def test_brackets_in_text_are_not_depth() -> None:
    """Only structure is depth: brackets and escaped quotes in a description are text."""
    text = '[[[[[[[[[[[[[[[[[[[[\\"{{{{{{{{{{{{{{{{{{{{"' * 3
    assert sale(basic(lines=[{"amount": "1.00", "description": text}])).lines[0].description == text


@pytest.mark.parametrize("options", [{"currency": "eur"}, {"max_bytes": 1}])
def test_wrong_options_name_the_field(options: dict[str, Any]) -> None:
    """A wrong option is refused with the field's name first."""
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        PosJsonOptions(**options)


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["sale", "1.00", "NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*example(), "net", "amount", "step"]), inner)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=60) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_any_payload_is_read_or_refused(payload: bytes) -> None:
    """Whatever arrives, on whatever topic, is a reading that can be written down, or is refused with a reason."""
    for topic in (EVENT, STATUS):
        try:
            got = readings(payload, topic)
        except Rejected as error:
            assert error.reason
        else:
            assert msgspec.json.decode(msgspec.json.encode(got)) is not None


@given(st.dictionaries(st.sampled_from(sorted(example())), _JSON, max_size=3))
def test_any_damage_to_a_good_sale_is_read_or_refused(damage: dict[str, Any]) -> None:
    """A sale with some fields replaced by anything is still a sale, is dropped, or is refused with a reason."""
    try:
        got = readings(json.dumps(example() | damage).encode())
    except Rejected as error:
        assert error.reason
    else:
        assert all(isinstance(reading, Sale) and reading.totals.net.is_finite() for reading in got)
