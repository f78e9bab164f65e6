"""The scanner driver: every vector of the protocol notes, every gap of the GS1 library, and no text that breaks it."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.drivers.scanner_gs1 import Layout, ScannerGs1, ScannerOptions, parse_8110
from gateway.clock import FakeClock
from gateway.intake.reading import Scan

_DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
_VECTORS = _DATA / "devices" / "protocol_vectors.json"


def scan(text: str | bytes, **options: Any) -> Scan:
    """The one scan that a line of text gives."""
    driver = ScannerGs1(ScannerOptions(**options), "scanner")
    line = text.encode() if isinstance(text, str) else text
    (reading,) = driver.feed(line + b"\r", FakeClock().now())
    assert isinstance(reading, Scan)
    return reading


def vectors(protocol: str) -> list[dict[str, Any]]:
    if not _VECTORS.exists():
        pytest.skip("protocol_vectors.json is not beside the project")
    return [v for v in json.loads(_VECTORS.read_text("utf-8"))["vectors"] if v["protocol"] == protocol]


def test_every_barcode_vector_gives_its_gtin_elements_and_text() -> None:
    """Each barcode vector decodes to the GTIN and the element strings it states; a plain QR link gives even more."""
    found = vectors("barcode")
    assert len(found) >= 10
    for vector in found:
        decoded, got = vector["decoded"], scan(vector["text"])
        assert got.text == (vector["text"][3:] if vector["text"].startswith("]") else vector["text"])
        if vector["id"] == "scan-plain-qr-dl":
            assert (got.kind, got.gtin, got.serial) == ("digital_link", "09506000134352", "123")
            continue
        assert got.gtin == decoded["gtin14"], vector["id"]
        assert list(got.gs1.items()) == [tuple(pair) for pair in decoded["elements"]], vector["id"]
        assert got.error is None, vector["id"]


def test_every_8110_vector_gives_its_fields() -> None:
    """The coupon string of the notes decodes to exactly the stated fields, alone and as a scan."""
    for vector in vectors("gs1-8110"):
        assert parse_8110(vector["text"]) == (vector["decoded"], None)
        assert scan("]C18110" + vector["text"]).coupon == vector["decoded"]


@pytest.mark.parametrize(
    ("text", "gtin", "kind"),
    [
        ("]Q1https://id.gs1.org/01/09506000134352", "09506000134352", "digital_link"),  # gap 1
        ("]d1HTTPS://EXAMPLE.COM/some/path/01/9506000134352/10/A?17=261231", "09506000134352", "digital_link"),
        ("https://example.com/01/09506000134352/", "09506000134352", "digital_link"),
        ("]h0WHATEVER", None, "opaque"),  # gap 2
        ("]q9WHATEVER", None, "opaque"),
        ("]J10109506000134352", "09506000134352", "gs1"),
        ("]E3590123412345712", "05901234123457", "gtin"),  # gap 3
        ("]E3590123412345712345", "05901234123457", "gtin"),
        ("4006381333931", "04006381333931", "gtin"),  # gap 4
        ("4006381333930", None, "opaque"),
        ("]d2010950600013435217260230", "09506000134352", "gs1"),  # gap 5
        ("]d2010950600013435217260299", "09506000134352", "gs1"),
        ("]d2010950600013435217269901", "09506000134352", "gs1"),
        ("(01)09506000134352(10)A", "09506000134352", "gs1"),  # gap 6
        ("]Q1https://example.com/menu", None, "url"),
        ("http://[", None, "url"),
        ("04252614", "00042100005264", "gtin"),  # UPC-E
        ("123456", None, "opaque"),  # six digits could be anything
        ("]C1", None, "opaque"),
        ("]", None, "opaque"),
        ("]Y", None, "opaque"),
        ("]Y9A", None, "opaque"),
    ],
)
def test_gaps_of_the_library_are_bridged(text: str, gtin: str | None, kind: str) -> None:
    """What biip does not read by itself is read here, and what nobody can read is opaque with a reason."""
    got = scan(text)
    assert (got.gtin, got.kind) == (gtin, kind)
    assert (got.error is not None) == (kind == "opaque" or "172602" in text or "172699" in text)


def test_addon_is_split() -> None:
    """Two or five digits after a periodical's EAN are the add-on."""
    assert scan("]E3590123412345712").addon == "12"
    assert scan("]E3590123412345712345").addon == "12345"
    assert scan("]E35901234123457").kind == "opaque"


def test_dates() -> None:
    """Day 00 is the last of the month; an impossible day keeps lot and value; the century is the nearest one."""
    assert scan("]d2010950600013435217240200").expiry == "2024-02-29"
    bad = scan("]d201095060001343521726023010LOT")
    assert (bad.expiry, bad.lot, bad.gs1["17"], bad.error) == (None, "LOT", "260230", "no such expiry date")
    assert scan("]d2010950600013435217990101").expiry == "1999-01-01"
    driver = ScannerGs1(ScannerOptions(), "scanner")
    (unset,) = driver.feed(b"]d2010950600013435217260331\r", FakeClock(wall_s=0.0).now())
    assert isinstance(unset, Scan)
    assert unset.expiry == "2026-03-31"  # a box that thinks it is 1970 reads the same year


def test_a_value_with_a_forbidden_character_is_not_cut_short() -> None:
    """A serial number that breaks its format is left out and named, never shortened to what fits."""
    got = scan("]d2010950600013435221AB CD\x1d10LOT")
    assert (got.serial, got.lot, got.error) == (None, "LOT", "AI 21: value does not fit")


def test_group_separator_survives_at_both_ends_and_inside() -> None:
    """GS is data: it stays in the text wherever it stands."""
    assert scan("\x1d0109506000134352\x1d10A\x1d").text == "\x1d0109506000134352\x1d10A\x1d"
    assert scan("\x1d0109506000134352\x1d10A\x1d").lot == "A"


def test_variable_measure_by_region_and_by_layout() -> None:
    """Price and weight come out of in-store labels, by the country's rules or by a layout of one's own."""
    assert scan("]E02212342019956", rcn_region="de").price == Decimal("19.95")
    assert scan("]E02812341012349", rcn_region="de").weight_kg == Decimal("1.234")
    plain = scan("]E02212342019956")
    assert (plain.kind, plain.price, plain.gtin) == ("rcn", None, "02212342019956")
    label = scan("221234500199001257", layouts=(Layout(pattern="22IIIIIPPPPPWWWWWX"),))
    assert (label.kind, label.price, label.weight_kg) == ("rcn", Decimal("1.99"), Decimal("0.125"))
    other = scan("]E02212343019955", rcn_region="de")  # right EAN, wrong measure digit
    assert (other.kind, other.price, other.error) == ("rcn", None, "variable measure does not fit the region")


def test_loyalty_patterns_come_before_gs1() -> None:
    """A configured card is a card even where it would pass for an EAN or a link; the member group is the number."""
    assert scan("]C02123456789012", loyalty=(r"^\]C02[0-9]{12}$",)).kind == "loyalty"
    card = scan("]E05901234123457", loyalty=(r"^590[0-9]{10}$",))
    assert (card.kind, card.text, card.gtin) == ("loyalty", "5901234123457", None)
    link = scan("]Q1https://s.example/m/42", loyalty=(r"^https://s\.example/m/(?P<member>\d+)$",))
    assert (link.kind, link.text) == ("loyalty", "42")
    assert scan("]C02" + "1" * 600, loyalty=(r"2",)).kind == "opaque"


def test_coupons() -> None:
    """A global coupon number gives number and serial; a broken North American coupon keeps what could be read."""
    assert scan("]C1255950600013435212").coupon == {"gcn": "9506000134352", "serial": "12"}
    assert scan("]C1255950600013435312").error == "AI 255: wrong check digit"
    fields, error = parse_8110("1061414165432131501101203261231509876547")
    assert (fields["expires"], fields["serial"], error) == (
        "261231",
        "987654",
        "AI 8110: optional fields cannot be read",
    )
    fields, error = parse_8110("10614141654321315011012050987656611234567")
    assert (fields["serial"], fields["retailer"], error) == ("987656", "1234567", None)
    assert parse_8110("10614141654321315011012090110")[0]["store_coupon"] == "1"
    second = parse_8110("106141416543213150110120101103459")
    assert second[1] is None
    assert (second[0]["second_req"], second[0]["second_family"]) == ("1", "345")
    assert parse_8110("")[1] == "AI 8110: company_prefix cannot be read"


@pytest.mark.parametrize(
    "options",
    [{"prefixes": ("",)}, {"loyalty": ("(",)}, {"baud": 0}],
    ids=["empty prefix", "broken pattern", "no baud rate"],
)
def test_wrong_options_name_the_field(options: dict[str, Any]) -> None:
    """A wrong option is refused with the field's name first."""
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        ScannerOptions(**options)


@pytest.mark.parametrize("pattern", ["", "21IIIII", "PPPPPP", "21iiiiP", "21" + "P" * 40])
def test_wrong_layouts_are_refused(pattern: str) -> None:
    """A layout without a prefix, without a measure or of impossible length is refused."""
    with pytest.raises(ValueError, match=r"^pattern: "):
        Layout(pattern=pattern)


def test_silence_ends_a_line_and_an_overlong_line_is_dropped() -> None:
    """100 ms of silence give the scan; 5,000 bytes give nothing but a count, and the next scan is whole."""
    clock, driver = FakeClock(), ScannerGs1(ScannerOptions(), "scanner")
    assert not list(driver.feed(b"]E059012341", clock.now()))
    assert not list(driver.tick(clock.advance(0.05)))
    assert not list(driver.feed(b"23457", clock.now()))
    (reading,) = driver.tick(clock.advance(0.1))
    assert isinstance(reading, Scan)
    assert reading.gtin == "05901234123457"
    assert not list(driver.feed(b"A" * 5000, clock.now()))
    (reading,) = driver.feed(b"A\r]E496385074\r", clock.now())
    assert isinstance(reading, Scan)
    assert reading.gtin == "00000096385074"
    assert (driver.counters.bad_frames, driver.counters.skipped_bytes) == (1, 5001)


_LOUD = st.text(st.sampled_from("]CEdQeJ01235689(){}[]/:?.=&%htps\x1d\x00é٠²"), max_size=60)
_NUMERIC = st.builds(
    "".join, st.lists(st.sampled_from(["01", "09506000134352", "17", "26", "10", "\x1d", "8110", "255"]))
)
_PREFIXED = st.builds(
    str.__add__,
    st.sampled_from(["", "]C1", "]d2", "]E0", "]E3", "]Q1", "]Y2", "http://", "https://a/01/", "(01)", "]e08110"]),
    st.one_of(_LOUD, _NUMERIC, st.text(max_size=40)),
)


@given(st.one_of(st.binary(max_size=80), _PREFIXED.map(lambda text: text.encode("utf-8", "replace"))))
def test_no_bytes_break_the_driver(data: bytes) -> None:
    """Any bytes give scans that can be written down, and whatever is not understood says why."""
    for options in (ScannerOptions(), ScannerOptions(rcn_region="se", layouts=(Layout(pattern="2PPPPP"),))):
        driver = ScannerGs1(options, "scanner")
        for reading in driver.feed(data + b"\n", FakeClock().now()):
            assert isinstance(reading, Scan)
            assert json.loads(json.dumps(reading.text)) == reading.text
            assert reading.kind != "opaque" or reading.error
            assert reading.gtin is None or (len(reading.gtin) == 14 and reading.gtin.isascii())


@given(st.lists(_PREFIXED, max_size=4), st.integers(1, 7))
def test_cuts_do_not_matter(texts: list[str], size: int) -> None:
    """The same bytes give the same scans however they are cut."""
    data = b"".join(text.encode("utf-8", "replace") + b"\r\n" for text in texts)
    now = FakeClock().now()
    whole, cut = ScannerGs1(ScannerOptions(), "a"), ScannerGs1(ScannerOptions(), "a")
    pieces = [scan for i in range(0, len(data), size) for scan in cut.feed(data[i : i + size], now)]
    assert list(whole.feed(data, now)) == pieces
    assert whole.counters == cut.counters
