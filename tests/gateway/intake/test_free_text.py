"""Free text: numbers of persons go, in every way that people type them, and nothing else does."""

from __future__ import annotations

import csv
import gzip
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import PresenceSettings
from gateway.clock import FakeClock, Instant
from gateway.event import Origin
from gateway.intake import reading as said
from gateway.intake.free_text import FreeText
from gateway.intake.normaliser import Normaliser
from gateway.intake.place import Place
from gateway.intake.sightings import Sightings

DATA = Path(os.environ.get("STOREFRONT_DATA", "../shared/data")) / "retail"
SHANGHAI = ZoneInfo("Asia/Shanghai")
REGIONS = ("CN", "US", "GB", "DE", "HK", "JP", "FR")


def named(text: str, region: str = "CN") -> str:
    """A receipt number as it comes out."""
    sale = said.Sale(sequence=text, totals=said.Totals(net=Decimal(1)))
    return FreeText(region).cleaned(sale, lambda kind, value: f"{hash((kind, value)) & 0xFFFFFFFF:016x}").sequence


@pytest.mark.parametrize(
    ("region", "text", "left"),
    [
        ("CN", "张三 13800138000 送货", "张三 [phone] 送货"), ("CN", "电话：138 0013 8000", "电话:[phone]"),
        ("CN", "tel13800138000", "tel[phone]"), ("CN", "call +86 138-0013-8000!", "call [phone]!"),
        ("CN", "１３８００１３８０００", "[phone]"), ("CN", "138\u200b0013\u200b8000", "[phone]"),
        ("CN", "١٣٨٠٠١٣٨٠٠٠", "[phone]"), ("CN", "021-62345678", "[phone]"), ("CN", "(021) 6234 5678", "[phone]"),
        ("CN", "12 13800138000", "12 [phone]"), ("CN", "00441234567890", "[phone]"), ("CN", "1380013‑8000", "[phone]"),
        ("CN", "13800138000,13900139000", "[phone],[phone]"), ("US", "ring (212) 555-0123", "ring [phone]"),
        ("US", "212-555-0123", "[phone]"), ("GB", "for Ann 07911 123456", "for Ann [phone]"),
        ("FR", "06 12 34 56 78", "[phone]"), ("FR", "06.12.34.56.78", "[phone]"), ("DE", "0171 1234567", "[phone]"),
        ("HK", "whatsapp 9123 4567", "whatsapp [phone]"), ("JP", "090-1234-5678", "[phone]"),
        ("CN", "to Zhang.San+x@qq.com ok", "to [email] ok"), ("CN", "ann＠example.com", "[email]"),
        ("CN", "zhang@公司.中国", "[email]"), ("CN", "a@b.co，13800138000", "[email],[phone]"),
        ("CN", "4111 1111 1111 1111", "[card]"), ("CN", "5500-0055-5555-5559", "[card]"),
        ("CN", "6222021234567890128", "[card]"), ("CN", "3782 822463 10005", "[card]"),
        ("CN", "11010519491231002X", "[id_number]"), ("CN", "身份证11010519491231002x", "身份证[id_number]"),
    ],
)  # fmt: skip
def test_a_number_of_a_person_goes_however_it_is_typed(region: str, text: str, left: str) -> None:
    told = FreeText(region)
    assert told.note(text) == left
    assert sum(told.counts().values()) == left.count("[")


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(
    "text",
    [
        "", "Milk 1L", "2@3.50", "Milk 2@1.99ea", "5901234123457", "96385074", "09506000134352", "036000291452",
        "0042-1-2026-11-22-00017", "13-20261122-1", "13.99 18.00 7.25", "1 @ 3.77 2017-01-01 18:24:46",
        "2.09 2017-01-01 21", "2026-11-22T09:31:07.120Z", "22.11.2026 10", "1795312800000", "31198481877",
        "4200001234202611221234567890", "0000536365", "85123A", "SET/20 RED RETROSPOT", "3f13800138000a",
        "SKU13800138001", "110105194912310023", "11010519490231002X", "4111111111111112", "1 x 12 x 330 ml 12 13 14",
        "https://id.gs1.org/01/09506000134352/21/12345678", "urn:epc:id:sgtin:0614141.112345.400", "3034257BF7194E40",
        "v-00112233445566778899aabb", "@home", "a@b", "user@3.50",
    ],
)  # fmt: skip
def test_what_is_none_stays_as_it_is(region: str, text: str) -> None:
    told = FreeText(region)
    assert told.note(text) == text and named(text, region) == text
    assert sum(told.counts().values()) == 0


def _gs1_check(body: str) -> str:
    return body + str(-sum(int(digit) * (3, 1)[n % 2] for n, digit in enumerate(reversed(body))) % 10)


@given(st.sampled_from([7, 11, 12, 13]), st.integers(0, 10**13 - 1), st.sampled_from(REGIONS))
def test_no_article_number_is_taken_for_anything_else(length: int, number: int, region: str) -> None:
    """Whatever its digits, and also where it stands between other words."""
    code = _gs1_check(f"{number:013d}"[-length:])
    for text in (code, f"Milk {code} x2"):
        assert FreeText(region).note(text) == text and named(text, region) == text


@given(st.integers(10**7, 10**8 - 1), st.text(max_size=12), st.text(max_size=12), st.sampled_from(["", " ", "-"]))
def test_no_word_round_it_hides_a_phone_number(tail: int, before: str, after: str, gap: str) -> None:
    """But letters and digits that make it a part of a longer code, and what undoes the text itself."""
    number = f"138{gap}{str(tail)[:4]}{gap}{str(tail)[4:]}"
    closed = (before[-1:], after[:1])
    if any(it.isalnum() or it in "_+.-()@＠﹫ " for it in closed if it):
        before, after = before + "，", "，" + after
    left = FreeText("CN").note(before + number + after)
    assert number not in left and str(tail) not in left


def test_a_citizens_number_is_known_by_its_day_of_birth_and_its_check_digit() -> None:
    weights, checks = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2), "10X98765432"
    for body in ("11010519491231002", "44030119900229123", "44030119920229123", "31011520261122001"):
        last = checks[sum(int(digit) * weight for digit, weight in zip(body, weights, strict=True)) % 11]
        for end in checks:
            born = "19900229" not in body  # there was no such day
            assert (FreeText("GB").note(body + end) == "[id_number]") == (end == last and born), body + end


def test_in_a_name_two_stay_two_and_one_stays_one() -> None:
    """A receipt number is what a return and a repetition go by."""
    one, other = named("T-13800138000"), named("T-13800138001")
    assert "13800138000" not in named("TEL13800138000")
    assert one != other and one == named("T-13800138000") and one.startswith("T-phone-") and "138001" not in one


class Keys:
    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return f"{scheme}-{hash(identifier) & 0xFFFF:08x}".ljust(32, "0")


def drafts(reading: said.Reading, **place: Any) -> list[dict[str, Any]]:
    origin = Origin("t", "s", "g")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), Keys())
    at = Place(device="till", path="pos/till", **place)
    return [json.loads(draft.body) for draft in normaliser.drafts(reading, at, FakeClock().now())]


def test_no_field_of_a_sale_that_people_type_into_brings_a_number_into_its_event() -> None:
    phone, mail = "13800138000", "ann@example.com"
    line = said.SaleLine(
        seq=1, description=f"Cake for {mail}", sku=phone, unit=phone,
        amount=Decimal(5), original_transaction=f"T-{phone}",
        discounts=(said.Discount(amount=Decimal(1), reason=mail, promotion_id=phone, coupon=phone),),
    )  # fmt: skip
    sale = said.Sale(
        sequence=phone, workstation_id=f"lane {phone}", business_date=phone, currency=phone,
        lines=(line, line), coupons=(phone,),
        device_seq=phone, totals=said.Totals(net=Decimal(5)),
    )  # fmt: skip
    (event,) = drafts(sale)
    text = json.dumps(event, ensure_ascii=False)
    assert phone not in text and mail not in text
    data = event["data"]
    returned = data["lines"][0]["original_transaction"]
    assert returned.removeprefix("T-") in data["transaction_id"], "a return finds its sale"
    assert event["srcseq"] == data["coupons"][0] == data["lines"][0]["sku"]
    assert data["lines"][0]["description"] == "Cake for [email]"


class DatedKeys:
    """Another pseudonym on every day, as it is in a shop."""

    def day_key(self, scheme: str, identifier: str, at: Instant) -> str:
        return sha256(f"{scheme} {identifier} {at.wall_at.astimezone(SHANGHAI):%Y-%m-%d}".encode()).hexdigest()


@pytest.mark.parametrize(
    "times",
    [
        {"closed_at": datetime(2026, 11, 21, 23, 58, tzinfo=SHANGHAI)},
        {"closed_at": datetime(2026, 11, 22, 0, 2, tzinfo=SHANGHAI)},
        {"business_date": "2026-11-21"},
        {"device_at": datetime(2026, 11, 21, 23, 58, tzinfo=SHANGHAI)},
        {"device_at": datetime(2026, 11, 22, 0, 30, tzinfo=SHANGHAI), "business_date": "2026-11-21"},
        {"closed_at": datetime(1, 1, 1, tzinfo=SHANGHAI), "business_date": "2026-11-21"},
    ],
    ids=["closed", "clock-ahead", "business-date", "told", "told-when-sent", "no-time"],
)
def test_a_receipt_sent_again_after_midnight_is_the_same_sale(times: dict[str, Any]) -> None:
    """Its pseudonym is of its own day, however late the till says it once more; but not of a day whose key is gone."""
    origin = Origin("t", "s", "g")
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), DatedKeys(), time_zone="Asia/Shanghai")
    sale = said.Sale(sequence="13800138000", device_seq="1", totals=said.Totals(net=Decimal(5)), **times)
    place = Place(device="till", path="pos/till")

    def fact(minutes: int) -> bytes:
        at = datetime(2026, 11, 21, 23, 59, tzinfo=SHANGHAI) + timedelta(minutes=minutes)
        (draft,) = normaliser.drafts(sale, place, Instant(at.timestamp(), 1))
        return draft.dedupe

    assert fact(0) == fact(2) == fact(24 * 60) == fact(48 * 60)
    assert fact(0) != fact(5 * 24 * 60)


@pytest.mark.parametrize(
    "reading",
    [
        said.BasketStep(basket_id="13800138000", step="opened", lane="13800138000"),
        said.Points(programme="13800138000", points=Decimal(1), transaction_id="13800138000"),
        said.Scan(text="13800138000", kind="opaque"),
        said.Scan(text="M-1", kind="loyalty", campaign="13800138000", content_id="13800138000"),
        said.Custom(
            event_type="store.feedback.given.v1",
            values={"question_id": "13800138000", "score": 1, "device": "13800138000"},
        ),
    ],
    ids=["basket", "points", "scan", "poster", "custom"],
)
def test_nor_does_a_field_of_anything_else(reading: said.Reading) -> None:
    events = drafts(reading, keep_text=True)
    assert events and "13800138000" not in json.dumps(events)


def test_what_is_an_identifier_by_its_meaning_is_not_touched() -> None:
    """It is keyed and sealed by who decides about persons, and must be spelled as it was read."""
    told = FreeText("CN")
    for reading in (
        said.Scan(text="13800138000", kind="loyalty", scheme="phone"),
        said.Points(programme="p", points=Decimal(1), member="13800138000"),
        said.ConsentAct(act="granted", identifier="a@b.example", scheme="email"),
    ):  # fmt: skip
        assert told.cleaned(reading, lambda *_: "x") is reading


@given(st.text(alphabet="0138 -.()+@x元\u200b", max_size=400))
def test_hostile_text_is_bounded_and_total(text: str) -> None:
    left = FreeText("CN").note(text)
    assert len(left) <= max(len(text), 4_000) * 3
    assert FreeText("CN").note(left) is not None


def test_a_very_long_text_takes_milliseconds() -> None:
    """What is looked at ends; the rest of a text with numbers in it is cut."""
    for unit in ("13 80 01 ", "1380013800", "1@", "0-"):
        began_s = time.process_time()
        assert len(FreeText("CN").note(unit * 100_000)) <= max(4_000 * 3, len(unit) * 100_000)
        assert time.process_time() - began_s < 5.0


def _rows() -> Iterator[dict[str, str]]:
    with gzip.open(DATA / "completejourney_store367_transactions_2017.csv.gz", "rt") as file:
        yield from list(csv.DictReader(file))[::8]


@pytest.mark.skipif(not DATA.is_dir(), reason="the retail data beside the project is absent (STOREFRONT_DATA)")
@pytest.mark.parametrize("region", ["CN", "US", "DE"])
def test_of_a_real_shops_lines_receipts_and_coupons_nothing_is_lost(region: str) -> None:
    told = FreeText(region)
    for row in _rows():
        receipt = f"0367-1-{row['transaction_timestamp'][:10]}-{row['basket_id']}"
        line = f"{row['product_type']} {row['quantity']} @ {row['sales_value']} {row['transaction_timestamp']}"
        for text in (row["basket_id"], row["product_id"], row["product_category"], receipt, line):
            assert told.note(text) == text
        assert named(receipt, region) == receipt
    with (DATA / "completejourney_coupon_redemptions.csv").open() as file:
        assert all(named(row["coupon_upc"], region) == row["coupon_upc"] for row in csv.DictReader(file))
    assert msgspec.structs.astuple(told.counters) == (0, 0, 0, 0)
