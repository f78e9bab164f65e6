"""Item events as EPCIS 2.0: the mapping, GS1's schema, and the vocabulary that the schema does not hold anybody to."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FakeClock, Instant
from gateway.event import Origin, draft, envelope
from gateway.event_types import (
    ButtonPressed,
    EventData,
    Line,
    RfidArrived,
    RfidDeparted,
    RfidMoved,
    Sale,
    Shopper,
    Totals,
    type_of,
)
from sync.epcis import CONTEXT, epcis_document, exporter

DATA = Path(os.environ.get("STOREFRONT_DATA", Path(__file__).parents[3] / "shared" / "data"))
SCHEMA = DATA / "devices" / "epcis" / "EPCIS-JSON-Schema.json"
ZONE = ZoneInfo("Asia/Shanghai")
ORIGIN = Origin("t1", "0042", "gw01")
AT_S = 1_795_338_667.12
EPC, OTHER = "urn:epc:id:sgtin:0614141.812345.6789", "urn:epc:id:sgtin:0614141.812345.6790"
HEX = "3074257BF7194E4000001A85"  # EPC above, SGTIN-96
GTIN = "80614141123458"
BIZ_STEPS = frozenset(  # CBV 2.0, 7.1.3
    re.findall(
        r"\w+",
        "accepting arriving assembling collecting commissioning consigning creating_class_instance cycle_counting "
        "decommissioning departing destroying disassembling dispensing encoding entering_exiting holding inspecting "
        "installing killing loading other packing picking receiving removing repackaging repairing replacing reserving "
        "retail_selling shipping staging_outbound stock_taking stocking storing transporting unloading unpacking "
        "void_shipping sensor_reporting sampling",
    )
)
DISPOSITIONS = frozenset(  # CBV 2.0, 7.2.3
    re.findall(
        r"\w+",
        "active container_closed damaged destroyed dispensed disposed encoded expired in_progress in_transit inactive "
        "no_pedigree_match non_sellable_other partially_dispensed recalled reserved retail_sold returned "
        "sellable_accessible sellable_not_accessible stolen unknown available completeness_verified "
        "completeness_inferred conformant container_open mismatch_instance mismatch_class mismatch_quantity "
        "needs_replacement non_conformant unavailable",
    )
)
TRANSACTIONS = frozenset(
    re.findall(
        r"\w+", "bol cert desadv inv pedigree po poc prodorder recadv rma testprd testres upevt"
    )  # CBV 2.0, 7.3.3
)
URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")


def sent(data: EventData, *, seq: int = 1, device: str = "llrp/dock 1", at_s: float = AT_S) -> bytes:
    """An event's bytes, as the journal has them."""
    kind = type_of(data)
    at = Instant(wall_s=at_s, mono_us=1_000_000)
    made = draft(kind.stream, kind.name, data, source=ORIGIN.source(device), at=at)
    return envelope(
        made.body, gateway="gw01", stream=kind.stream, epoch="a" * 32, seq=seq, recorded_s=at_s + 1, boot="0" * 32
    )


def tag(kind: type[Any], **more: Any) -> Any:
    facts = {
        "epc": EPC, "epc_hex": HEX, "reader": "dock 1", "antenna": 2, "reads": 3, "zone_to": "鞋区",
        "first_seen": "2026-11-22T03:00:00.000Z", "last_seen": "2026-11-22T03:05:00.500Z", **more,
    }  # fmt: skip
    return kind(**facts)


def line(seq: int, **more: Any) -> Line:
    return Line(seq=seq, amount=Decimal("9.90"), **more)


def sale(*lines: Line, kind: Any = "sale", **more: Any) -> Sale:
    return Sale(
        transaction_id="2026/7 1", kind=kind, workstation_id="till-1", business_date="2026-11-22", lines=lines,
        totals=Totals(net=Decimal("9.90")), tap="json", confidence=1.0, **more,
    )  # fmt: skip


def listed(*events: bytes) -> list[dict[str, Any]]:
    """The events of the document, which is checked whole on the way."""
    document = json.loads(msgspec.json.encode(epcis_document(events, ZONE, AT_S)))
    assert (document["@context"], document["type"], document["schemaVersion"]) == ([CONTEXT], "EPCISDocument", "2.0")
    found: list[dict[str, Any]] = document["epcisBody"]["eventList"]
    for item in found:
        assert item.get("bizStep") in {*BIZ_STEPS, None}
        assert item.get("disposition") in {*DISPOSITIONS, None}
        assert {each["type"] for each in item.get("bizTransactionList", [])} <= TRANSACTIONS
        uris = [item["eventID"], item["readPoint"]["id"], *item.get("epcList", [])]
        uris += [item["bizLocation"]["id"]] if "bizLocation" in item else []
        uris += [each["epcClass"] for each in item.get("quantityList", [])]
        uris += [each["bizTransaction"] for each in item.get("bizTransactionList", [])]
        assert all(URI.fullmatch(uri) for uri in uris), uris
    if SCHEMA.exists():
        jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(document)
    return found


EVERYTHING = [
    tag(RfidArrived),
    tag(RfidMoved, zone_from="door", antenna=None),
    tag(RfidDeparted, zone_from="鞋区", zone_to=None),
    sale(
        line(1, epcs=(HEX, OTHER), gtin=GTIN, quantity=Decimal(3)),
        line(2, gtin="4006381333931", quantity=Decimal("0.512"), unit="KGM"),
        line(3, kind="return", gtin="4006381333931", quantity=Decimal(-1)),
        operator="kassierer", loyalty=Shopper(day_key="d41d8cd9", sealed="c2VhbGVk"),
    ),
    ButtonPressed(button="b", value="single"),
]  # fmt: skip


def test_the_document_is_valid_by_the_schema_of_gs1() -> None:
    """Every kind of event that we make; and the check can fail."""
    if not SCHEMA.exists():
        pytest.skip(f"GS1's schema is not there: {SCHEMA.name}")
    assert len(listed(*(sent(data, seq=number) for number, data in enumerate(EVERYTHING, 1)))) == 5
    listed()
    document = epcis_document([sent(EVERYTHING[0])], ZONE, AT_S)
    document["epcisBody"]["eventList"][0]["action"] = "SEEN"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(json.loads(SCHEMA.read_text("utf-8"))).validate(document)


def test_the_vocabulary_of_this_test_is_that_of_gs1() -> None:
    """The schema takes any bizStep, so the lists are held to its enums here."""
    if not SCHEMA.exists():
        pytest.skip(f"GS1's schema is not there: {SCHEMA.name}")
    parts = json.loads(SCHEMA.read_text("utf-8"))["definitions"]
    for name, ours in (
        ("bizStep", BIZ_STEPS), ("disposition", DISPOSITIONS), ("bizTransaction-type", TRANSACTIONS)
    ):  # fmt: skip
        (enum,) = [set(choice["enum"]) for choice in parts[name]["anyOf"] if "enum" in choice]
        assert enum == ours


def test_an_arrival_says_what_where_and_when() -> None:
    """Time, offset of the store, reader with antenna, zone."""
    (item,) = listed(sent(tag(RfidArrived)))
    assert item["eventTime"] == "2026-11-22T09:11:07.120Z"
    assert item["eventTimeZoneOffset"] == "+08:00"
    assert item["recordTime"] == "2026-11-22T09:11:08.120Z"
    assert (item["action"], item["bizStep"], item["disposition"]) == (
        "OBSERVE",
        "cycle_counting",
        "sellable_accessible",
    )
    assert item["epcList"] == [EPC]
    assert item["readPoint"]["id"] == "urn:storefront:readpoint:t1:0042:gw01:dock%201:2"
    assert item["bizLocation"]["id"] == "urn:storefront:location:t1:0042:%E9%9E%8B%E5%8C%BA"


def test_a_departure_claims_no_more_than_when_it_was_seen_last() -> None:
    """Silence is no observation: the last sighting's time, no step, no location."""
    (item,) = listed(sent(tag(RfidDeparted, zone_from="door", zone_to=None)))
    assert item["eventTime"] == "2026-11-22T03:05:00.500Z"
    assert item["disposition"] == "unknown"
    assert "bizStep" not in item and "bizLocation" not in item


def test_a_sale_names_items_by_epc_and_the_rest_of_a_line_by_gtin() -> None:
    """Three sold, two of them known by EPC (one in hexadecimal): one is left for the class; weight keeps its unit."""
    item, back = listed(sent(EVERYTHING[3], device="pos/till-1"))
    assert (item["bizStep"], item["disposition"]) == ("retail_selling", "retail_sold")
    assert item["epcList"] == [EPC, OTHER]
    assert item["quantityList"] == [
        {"epcClass": f"https://id.gs1.org/01/{GTIN}", "quantity": 1.0},
        {"epcClass": "https://id.gs1.org/01/04006381333931", "quantity": 0.512, "uom": "KGM"},
    ]
    assert item["bizTransactionList"] == [
        {"type": "inv", "bizTransaction": "urn:storefront:transaction:t1:0042:till-1:2026%2F7%201"}
    ]
    assert "bizLocation" not in item  # the goods have left, nobody knows where to
    assert (back["bizStep"], back["disposition"]) == ("accepting", "returned")
    assert back["quantityList"] == [{"epcClass": "https://id.gs1.org/01/04006381333931", "quantity": 1.0}]
    assert item["eventID"] != back["eventID"]


def test_a_negative_quantity_is_a_return_whatever_the_line_is_called() -> None:
    """Tills that know no return lines take goods back so."""
    (item,) = listed(sent(sale(line(1, gtin="4006381333931", quantity=Decimal(-2)))))
    assert (item["disposition"], item["quantityList"][0]["quantity"]) == ("returned", 2.0)


def test_nothing_about_a_person_is_exported() -> None:
    """Neither the operator nor the shopper of a sale."""
    text = msgspec.json.encode(epcis_document([sent(EVERYTHING[3])], ZONE, AT_S)).decode()
    assert not any(word in text for word in ("kassierer", "d41d8cd9", "c2VhbGVk"))


@pytest.mark.parametrize(
    "data",
    [
        tag(RfidArrived, epc=f"urn:epc:raw:96.x{HEX}"),
        tag(RfidArrived, epc="urn:epc:id:sgtin:a b"),
        sale(line(1, gtin="4006381333930")),  # check digit
        sale(line(1, gtin="2012345000003")),  # a number of this shop only
        sale(line(1, gtin="4006381333931", voided=True)),
        sale(line(1, gtin="4006381333931", kind="fee")),
        sale(line(1, gtin="4006381333931"), kind="void"),
        sale(line(1, sku="shoe-42")),
        sale(),
        ButtonPressed(button="b", value="single"),
    ],
)
def test_what_names_no_item_of_trade_gives_no_event(data: EventData) -> None:
    """Raw banks, broken or private numbers, voided lines, other events."""
    assert listed(sent(data)) == []


def test_erased_and_damaged_events_are_passed_over() -> None:
    """Without data there is nothing to say, and one event never keeps the others back."""
    good = sent(tag(RfidArrived))
    erased = json.loads(good)
    erased["data"] = None
    wrong = json.loads(good)
    wrong["data"]["reads"] = "many"
    late = json.loads(sent(tag(RfidDeparted, last_seen="yesterday")))
    items = listed(json.dumps(erased).encode(), json.dumps(wrong).encode(), b"{}", json.dumps(late).encode(), good)
    assert [item["eventTime"] for item in items] == ["2026-11-22T09:11:07.120Z"] * 2


def test_the_same_event_has_the_same_id_for_ever() -> None:
    """So that a document may be captured twice; another event has another."""
    first = listed(sent(tag(RfidArrived)), sent(tag(RfidArrived), seq=2))
    assert first == listed(sent(tag(RfidArrived)), sent(tag(RfidArrived), seq=2))
    assert first[0]["eventID"] == "urn:uuid:db84c7f7-a263-5e16-a0af-c5ffe1046296"
    assert first[0]["eventID"] != first[1]["eventID"]


def test_the_offset_is_that_of_the_day() -> None:
    """Summer time and half hours."""
    for name, at_s, offset in (
        ("Europe/Berlin", 1_782_000_000.0, "+02:00"), ("Europe/Berlin", AT_S, "+01:00"),
        ("America/St_Johns", AT_S, "-03:30"), ("UTC", AT_S, "+00:00"),
    ):  # fmt: skip
        export = exporter(name, FakeClock())
        (item,) = json.loads(export([sent(tag(RfidArrived), at_s=at_s)]))["epcisBody"]["eventList"]
        assert item["eventTimeZoneOffset"] == offset


@given(
    st.lists(
        st.builds(
            line, seq=st.just(1), gtin=st.none() | st.text(max_size=15) | st.from_regex(r"\d{13}", fullmatch=True),
            epcs=st.lists(st.text(max_size=30) | st.just(HEX), max_size=3).map(tuple),
            quantity=st.decimals(-100, 100, places=3), unit=st.sampled_from(["C62", "KGM", "", "kilo", "€€"]),
            kind=st.sampled_from(["sale", "return", "fee"]),
        ),
        max_size=4,
    ),
    st.text(max_size=10), st.text(max_size=10),
)  # fmt: skip
def test_whatever_a_till_says_the_document_is_valid(lines: list[Line], workstation: str, transaction: str) -> None:
    """Any text in any field: still URIs, still the schema."""
    data = msgspec.structs.replace(sale(*lines), workstation_id=workstation, transaction_id=transaction)
    for item in listed(sent(data, device="pos/x")):
        assert item.get("epcList") or item.get("quantityList")
        assert all(each["quantity"] > 0 for each in item.get("quantityList", []))
