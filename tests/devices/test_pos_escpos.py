"""The receipt tap: arguments skipped exactly, code pages, ends of receipts, and what a receipt says by its profile."""

from __future__ import annotations

import json
import os
import warnings
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.drivers.pos_escpos import PosEscpos, TillOptions
from devices.escpos import Document, PrinterStream, decoded
from devices.receipt import Wording, read, scrubbed
from devices.receipt_profiles import PROFILES
from gateway.clock import FakeClock
from gateway.intake.reading import DeviceState, Reading, Sale

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own imports warn of is not ours
    from escpos.printer import Dummy

_DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data") / "devices"
CUT = b"\x1dV\x00"
SHOP = """CORNER SHOP
Receipt No: A-1001   Cashier: Kim
Milk 1L            2 x 1.20   2.40
Bread                         1.10
TOTAL                         3.50
Cash                          5.00
Change                        1.50
2026-11-22 10:16
"""


def tap(data: bytes, **options: Any) -> tuple[list[Reading], PosEscpos]:
    """All that a driver says to `data` and the silence after it."""
    clock, driver = FakeClock(), PosEscpos(TillOptions(**options), "till")
    said = list(driver.feed(data, clock.now()))
    said += driver.tick(clock.advance(6.0))
    return said, driver


def sale(data: bytes, **options: Any) -> Sale:
    said, _ = tap(data, **options)
    (reading,) = said
    assert isinstance(reading, Sale)
    return reading


def documents(data: bytes, size: int = 10_000_000) -> tuple[list[Document], PrinterStream]:
    stream = PrinterStream()
    return [found for i in range(0, len(data), size) for found in stream.feed(data[i : i + size], 0)], stream


def lines(data: bytes, **encoding: Any) -> list[str]:
    (document,), stream = documents(data + CUT)
    assert stream.skipped_bytes == 0
    return decoded(document, **encoding)


def printed(build: Any) -> bytes:
    """What python-escpos sends for what `build` prints."""
    printer = Dummy()
    build(printer)
    output: bytes = printer.output
    return output


def shared(name: str) -> bytes:
    path = _DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not beside the project")
    return path.read_bytes()


def test_the_real_receipt_gives_its_four_items_tax_and_total() -> None:
    """A receipt with a logo, as a till printed it: 4 items 12.95 + tax 1.30 = 14.25, checked by its own arithmetic."""
    got = sale(shared("escpos-tools_receipt-with-logo.bin"))
    assert [(line.description, line.amount) for line in got.lines] == [
        ("Example item #1", Decimal("4.00")), ("Another thing", Decimal("3.50")), ("Something else", Decimal("1.00")),
        ("A final item", Decimal("4.45")),
    ]  # fmt: skip
    assert (got.totals.gross, got.totals.tax, got.totals.net) == (Decimal("12.95"), Decimal("1.30"), Decimal("14.25"))
    assert (got.business_date, got.end, got.confidence, got.device_seq) == ("2015-04-06", "cut", 0.9, None)


@pytest.mark.parametrize("size", [1, 2, 7, 4096])
def test_the_escpos_vectors_give_their_lines_codes_and_cuts(size: int) -> None:
    """Each vector's text, barcode, QR code, cut and drawer pulse come out, however the bytes are cut."""
    vectors = [v for v in json.loads(shared("protocol_vectors.json"))["vectors"] if v["protocol"] == "escpos"]
    assert len(vectors) >= 3
    for vector in vectors:
        (document,), stream = documents(bytes.fromhex(vector["hex"]), size)
        wanted = vector["decoded"]
        assert [*decoded(document), "---CUT---"] == wanted["lines"], vector["id"]
        assert list(document.barcodes) == ([wanted["barcode"]] if "barcode" in wanted else [])
        assert list(document.qr_codes) == ([wanted["qr"]] if "qr" in wanted else [])
        assert (stream.pulses, stream.skipped_bytes) == (1 if "pulse" in wanted else 0, 0)


# One of each command in the table, with arguments of the right length.
COMMANDS = [
    "1b40",
    "1b32",
    "1b4c",
    "1b53",
    "1b76",
    "1b2108",
    "1b2d01",
    "1b3318",
    "1b3d01",
    "1b4501",
    "1b4701",
    "1b4b01",
    "1b4d01",
    "1b5202",
    "1b5401",
    "1b5601",
    "1b6101",
    "1b633504",
    "1b6501",
    "1b70003232",
    "1b7201",
    "1b7b01",
    "1b2005",
    "1b244141",
    "1b5c4141",
    "1b574141414141414141",
    "1b4408102000",
    "1b2a000300414141",
    "1b2a210200414141414141",
    "1b28410300414141",
    "1b260320210141414102414141414141",
    "1d2111",
    "1d4201",
    "1d4802",
    "1d4941",
    "1d4c4141",
    "1d504141",
    "1d574141",
    "1d6141",
    "1d6201",
    "1d6601",
    "1d6840",
    "1d7231",
    "1d7702",
    "1d5c4141",
    "1d6b023539303100",
    "1d6b49047b424142",
    "1d284c040041414141",
    "1d384c050000004141414141",
    "1d7630000200020041414141",
    "1d2a01014141414141414141",
    "1c26",
    "1c2e",
    "1c2141",
    "1c2d01",
    "1c4301",
    "1c534141",
    "1c5701",
    "1c700141",
    "1c284102004141",
    "100401",
    "10040701",
    "10040803",
    "100501",
    "1014010001",
    "10140801031401060208",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_exactly_its_arguments(command: str) -> None:
    """Nothing of a command's arguments becomes text, and nothing of the text after it is eaten."""
    data = b"before" + bytes.fromhex(command) + b"after\n" + CUT
    for size in (1, 3, len(data)):
        (document,), stream = documents(data, size)
        assert "".join(decoded(document, kanji="ascii")) == "beforeafter"
        assert stream.skipped_bytes == 0


@pytest.mark.parametrize("cut", ["1d56 00", "1d56 01", "1d56 30", "1d56 31", "1d56 41 03", "1d56 42 00", "1d56 61 10",
                                 "1d56 67 10", "1d56 68 10", "1b69", "1b6d"])  # fmt: skip
def test_every_cut_ends_the_receipt(cut: str) -> None:
    """Each way to cut gives one document, and the drawer pulse and feed after it open none."""
    data = b"text" + bytes.fromhex(cut) + b"\x1bp\x00\x32\x32\n\n\n\n\n"
    found, stream = documents(data)
    assert [document.end for document in found] == ["cut"]
    assert stream.silence(60_000_000) == []


def test_feed_and_silence_end_a_receipt() -> None:
    """Four line feeds end it after 1.5 s, text alone after 5 s; a pause in between does not."""
    stream = PrinterStream()
    assert stream.feed(b"one\n\n\n\n", 0) == []
    assert stream.silence(1_499_999) == []
    (document,) = stream.silence(1_500_000)
    assert (document.end, decoded(document)) == ("feed", ["one", "", "", ""])
    assert stream.feed(b"two\n\n\n", 2_000_000) == []
    assert stream.silence(6_999_999) == []
    (document,) = stream.silence(7_000_000)
    assert document.end == "idle"
    assert stream.silence(99_000_000) == []
    assert stream.feed(b"three\n", 100_000_000) == []
    (document,) = stream.feed(b"four\n", 106_000_000)  # nobody looked during the silence
    assert decoded(document) == ["three"]


def test_a_command_that_never_ends_does_not_swallow_the_next_receipt() -> None:
    """A picture of a megabyte that stops after a byte, or a barcode without its end, is given up in the silence."""
    for stuck in (b"\x1dv0\x00\x40\x00\x00\x01\x00", b"\x1dk\x02123", b"\x1d(k\xff\xff1P0abc", b"\x1b*"):
        stream = PrinterStream()
        assert stream.feed(stuck, 0) == []
        assert stream.silence(5_000_000) == []
        (document,) = stream.feed(b"next" + CUT, 6_000_000)
        assert decoded(document) == ["next"]


def test_a_length_beyond_any_picture_is_not_believed() -> None:
    """Four gigabytes of graphics are a broken length: the text after it is read at once."""
    found, stream = documents(b"\x1d8L\xff\xff\xff\xfftext" + CUT)
    assert "text" in decoded(found[0])[0]
    assert stream.skipped_bytes > 0


def test_code_pages_kanji_and_utf8() -> None:
    """Text is read by ESC t, by FS &, by the configured codec, and as UTF-8 wherever it is UTF-8."""
    assert lines(b"\x1bt\x10Gr\xfc\xdfe") == ["Grüße"]
    assert lines(b"\x1bt\x13\xd5") == ["€"]
    assert lines(b"\x81") == ["ü"]  # cp437 until told otherwise
    assert lines(b"\x1bt\x05\x81", pages={5: "cp1251"}) == ["Ѓ"]
    assert lines("Grüße 合计".encode()) == ["Grüße 合计"]
    assert lines(b"\x1c&" + "合计".encode("gbk") + b"\x1c.\x81") == ["合计ü"]
    assert lines("合计㐀".encode("gb18030"), encoding="gb18030") == ["合计㐀"]
    assert lines("合計".encode("shift_jis"), encoding="shift_jis") == ["合計"]
    assert lines("합계".encode("cp949"), encoding="cp949") == ["합계"]
    assert lines("一二三四五六七八九十".encode()[:-1]) == ["一二三四五六七八九\N{REPLACEMENT CHARACTER}"]
    assert lines(b"\x1bt\x10\x1b@\x81") == ["ü"]  # ESC @ forgets the code page


def test_code_128_with_code_sets() -> None:
    """`{B` text and `{C` digit pairs of a Code 128 barcode give the number that is printed."""
    (document,), _ = documents(b"x\x1dkI\x08{BA-{C\x0c\x22" + CUT)
    assert document.barcodes == ("A-1234",)


def test_text_is_capped() -> None:
    """64 KiB of text without an end are a fault, bounded, counted, and the next receipt is whole."""
    said, driver = tap(b"x" * 41 + b"\n" + (b"word " * 8 + b"\n") * 3000 + CUT + SHOP.encode() + CUT)
    assert [type(reading) for reading in said] == [DeviceState, Sale]
    assert (driver.counters.bad_frames, driver.counters.frames) == (1, 1)
    assert driver.counters.skipped_bytes > 50_000


def test_python_escpos_receipts_in_chinese() -> None:
    """A receipt printed by a real library, in GBK and in UTF-8, gives the same sale."""
    text = (
        "小票号：0007\n可口可乐   2  3.00  6.00\n苹果   1.500  10.00  15.00\n"
        "合计：￥21.00\n微信支付  21.00\n2026-11-22 10:16:02\n"
    )

    def build(encoded: bytes) -> bytes:
        def steps(printer: Any) -> None:
            printer.set(align="center", bold=True, double_height=True)
            printer.text("SHOP\n")
            printer.set(align="left", bold=False)
            printer._raw(encoded)
            printer.barcode("5901234123457", "EAN13")
            printer.cut()
            printer.cashdraw(2)

        return printed(steps)

    gbk = sale(build(b"\x1c&" + text.encode("gbk") + b"\x1c."), profile="zh", currency="CNY", timezone="Asia/Shanghai")
    utf8 = sale(build(text.encode()), profile="zh", currency="CNY", timezone="Asia/Shanghai")
    assert gbk == utf8
    assert (gbk.sequence, gbk.totals.net, gbk.confidence, gbk.currency) == ("0007", Decimal("21.00"), 1.0, "CNY")
    assert [(line.description, line.quantity) for line in gbk.lines] == [("可口可乐", 2), ("苹果", Decimal("1.500"))]
    assert gbk.tenders[0].kind == "mobile"
    assert gbk.closed_at is not None
    assert gbk.closed_at.isoformat() == "2026-11-22T10:16:02+08:00"


def test_python_escpos_pictures_and_codes_leave_no_text() -> None:
    """QR codes and barcodes of every way the library prints them leave nothing but the text around them."""

    def steps(printer: Any) -> None:
        printer.text("before\n")
        printer.qr("https://example.com/r/1", native=True)
        printer.barcode("123456789012", "EAN13", height=80, function_type="A")
        printer.barcode("{B12345", "CODE128", function_type="B")
        printer.text("after\n")
        printer.ln(3)
        printer.cut(mode="PART")

    found, stream = documents(printed(steps))
    text = [line for document in found for line in decoded(document) if line]
    assert text == ["before", "after"]
    assert found[0].qr_codes == ("https://example.com/r/1",)
    assert stream.skipped_bytes == 0


@pytest.mark.parametrize(
    ("title", "profile"),
    [
        ("*** COPY ***", "en"),
        ("DUPLICATE RECEIPT", "en"),
        ("** REPRINT **", "en"),
        ("X REPORT", "en"),
        ("Z-Report 12", "en"),
        ("NO SALE", "en"),
        ("MERCHANT COPY", "en"),
        ("补打小票", "zh"),
        ("X报表", "zh"),
        ("开钱箱", "zh"),
        ("Z-Bericht", "de"),
        ("KOPIE", "de"),
        ("Tagesabschluss 22.11.", "de"),
    ],
)
def test_what_is_no_sale_is_ignored(title: str, profile: Any) -> None:
    """Copies, reports and drawer slips are counted and leave nothing, even with a total on them."""
    separator = PROFILES[profile].decimal_separator
    total = {"en": "TOTAL", "zh": "合计", "de": "SUMME"}[profile]
    said, driver = tap(f"{title}\nitem   1{separator}00\n{total}   1{separator}00\n".encode() + CUT, profile=profile)
    assert not said
    assert (driver.counters.ignored, driver.counters.frames) == (1, 0)


def test_goods_that_sound_like_titles_are_sold() -> None:
    """Copy paper, training shoes and a card slip under the total do not make a sale vanish."""
    got = sale(b"Copy paper A4    5.00\nTraining shoes   49.00\nTotal  54.00\nVISA  54.00\nCUSTOMER COPY\n" + CUT)
    assert [line.description for line in got.lines] == ["Copy paper A4", "Training shoes"]
    assert got.confidence == 0.9
    assert got.tenders[0].kind == "card"


def test_a_plain_receipt_says_everything() -> None:
    """Number, operator, items, tender, change, date: each lands where it belongs."""
    got = sale(SHOP.encode() + CUT, currency="EUR", workstation_id="3", timezone="Europe/Berlin")
    assert (got.sequence, got.operator, got.business_date, got.workstation_id) == ("A-1001", "Kim", "2026-11-22", "3")
    assert (got.device_seq, got.device_boot) == ("A-1001", "2026-11-22")
    assert [(line.quantity, line.unit_price, line.amount) for line in got.lines] == [
        (2, Decimal("1.20"), Decimal("2.40")), (1, None, Decimal("1.10")),
    ]  # fmt: skip
    assert (got.tenders[0].amount, got.tenders[0].change, got.totals.tendered) == (5, Decimal("1.50"), 5)
    assert got.confidence == 1.0
    assert sale(SHOP.encode() + CUT).closed_at is None  # without a zone the time of day is not known


def test_refunds_are_negative() -> None:
    """A refund slip prints positive amounts; a receipt with a negative total says it itself. Both are returns."""
    slip = sale(b"REFUND\nReceipt No: 7\nBread   1.10\nTOTAL   1.10\nCash   1.10\n" + CUT)
    signed = sale(b"Receipt No: 7\nBread   -1.10\nTOTAL   -1.10\nCash   -1.10\n" + CUT)
    for got in (slip, signed):
        assert (got.kind, got.totals.net, got.lines[0].amount, got.lines[0].quantity) == (
            "return",
            Decimal("-1.10"),
            Decimal("-1.10"),
            -1,
        )
        assert (got.lines[0].kind, got.tenders[0].amount, got.confidence) == ("return", Decimal("-1.10"), 1.0)
    assert sale(b"Bread  1.10\nBread  1,10-\nTotal  0,00\n".replace(b".", b",") + CUT, profile="de").kind == "sale"


def test_items_that_do_not_add_up_lower_the_confidence() -> None:
    """The sale stands, and is believed half; a cent of rounding is no mismatch."""
    assert sale(SHOP.replace("TOTAL                         3.50", "TOTAL   9.50").encode() + CUT).confidence == 0.5
    assert sale(SHOP.replace("TOTAL                         3.50", "TOTAL   3.51").encode() + CUT).confidence == 1.0
    assert sale(b"Discount  -0.50\nTotal   1.00\n" + CUT).confidence == 0.45
    assert sale(b"Receipt No: 9\nBread  1.50\nDiscount  -0.50\nTotal   1.00\n" + CUT).confidence == 1.0
    assert sale(SHOP.encode()).confidence == 0.9  # ended by silence


def test_a_receipt_without_a_total_is_a_fault_without_a_word_of_it() -> None:
    """It is counted and reported; nothing of its text is in the report."""
    said, driver = tap(b"Jane Doe\n4111 1111 1111 1111\n" + CUT)
    assert said == [DeviceState(state="fault", detail="a receipt without a total (2 lines, ended by cut)")]
    assert driver.counters.bad_frames == 1
    said, driver = tap(b"\n\n\x1bp\x00\x32\x32" + CUT)
    assert not said
    assert driver.counters.bad_frames == 0


def test_card_numbers_and_customers_do_not_leak() -> None:
    """Card-like digits leave the texts, a masked member is nobody, and a customer's id is no receipt number."""
    assert scrubbed("Card 411111******1111 ok") == "Card **** ok"
    assert scrubbed("4111 1111 1111 1111") == scrubbed("4111-1111-1111-1111") == scrubbed("XXXXXXXXXXXX1111") == "****"
    assert scrubbed("5901234123457 Milk") == "5901234123457 Milk"  # a GTIN
    text = SHOP.replace("Receipt No: A-1001   Cashier: Kim", "Customer ID: 99887766\nMember No: ****4321").replace(
        "Bread     ", "Gift card 6222021234567890123"
    )
    told = msgspec.json.encode(sale(text.encode() + CUT)).decode()
    assert "6222021234567890123" not in told
    assert "4321" not in told
    assert json.loads(told)["member"] == "99887766"
    assert told.count("99887766") == 1


def test_barcode_as_receipt_number() -> None:
    """Where the number is only in the barcode, the barcode names the receipt; other codes do not."""
    data = b"Bread  1.10\nTotal  1.10\n\x1dk\x02590123\x00\x1dkI\x07{BR-123" + CUT
    assert sale(data, barcode_number=r"^R-(?P<number>\d+)$").sequence == "123"
    assert sale(data, barcode_number=r"^Q").device_seq is None


def wording(name: str, **changes: Any) -> Wording:
    return Wording(msgspec.structs.replace(PROFILES[name], **changes))


@pytest.mark.parametrize(
    ("text", "name", "day", "at"),
    [
        ("2026-11-22 10:16:02", "en", date(2026, 11, 22), time(10, 16, 2)),
        ("Monday 6th of April 2015 02:56:25 PM", "en", date(2015, 4, 6), time(14, 56, 25)),
        ("Nov 22, 2026 12:05 am", "en", date(2026, 11, 22), time(0, 5)),
        ("03/04/26 23:59", "en", None, None),  # day or month first? nobody said
        ("2026年11月22日 10:16", "zh", date(2026, 11, 22), time(10, 16)),
        ("日期:20261122 10:16", "zh", date(2026, 11, 22), time(10, 16)),
        ("22.11.26 10:16 Uhr", "de", date(2026, 11, 22), time(10, 16)),
        ("31.02.2026", "de", None, None),
        ("22.11.2026 25:99", "de", date(2026, 11, 22), None),
    ],
)
def test_dates(text: str, name: str, day: date | None, at: time | None) -> None:
    """Dates are read as their country writes them; one that cannot be, or could be two days, is none."""
    got = read([text], wording(name))
    assert (got.day, got.time) == (day, at)


def test_day_and_month_by_option() -> None:
    """With `date_order` the ambiguous date is one day."""
    assert read(["03/04/2026"], wording("en", date_order="dmy")).day == date(2026, 4, 3)
    assert read(["03/04/2026"], wording("en", date_order="mdy")).day == date(2026, 3, 4)


@pytest.mark.parametrize(
    ("name", "text", "amount"),
    [
        ("en", "Total   1,234.50", "1234.50"),
        ("en", "TOTAL DUE: $ 3.50", "3.50"),
        ("en", "Balance due  £3.50", "3.50"),
        ("en", "Grand Total (3 items) 3.50", "3.50"),
        ("en", "Total USD 3.50", "3.50"),
        ("en", "Subtotal 3.50", None),
        ("en", "Total tax 0.50", None),
        ("en", "Total savings 0.50", None),
        ("en", "Total 3", None),
        ("zh", "合计：￥１２.５０", "12.50"),
        ("zh", "应付金额 12.5", "12.5"),
        ("zh", "合计数量: 3", None),
        ("zh", "小计 12.50", None),
        ("de", "SUMME EUR 1.234,50", "1234.50"),
        ("de", "Zu zahlen 3,50 €", "3.50"),
        ("de", "Zwischensumme 3,50", None),
        ("de", "Gesamtbetrag 3,00 0,57 3,57", None),
    ],
)
def test_totals(name: str, text: str, amount: str | None) -> None:
    """What the bottom line is called, and what only sounds like it."""
    assert read([text], wording(name)).total == (None if amount is None else Decimal(amount))


def test_layouts_of_items() -> None:
    """Quantities stand before, in, under or over the line they belong to; a code alone takes the name above it."""
    text = [
        "Beer",
        "6 x 0.50   3.00",
        "2 x Brush   4.00",
        "2 x 1.50",
        "Soap   3.00",
        "Oil   5.00",
        "2 @ 2.50",
        "5901234123457 Tea   1.00",
        "Total   16.00",
    ]
    got = read(text, wording("en"))
    assert [(i.name, i.quantity, i.price, i.amount) for i in got.items] == [
        ("Beer", 6, Decimal("0.50"), 3),
        ("Brush", 2, None, 4),
        ("Soap", 2, Decimal("1.50"), 3),
        ("Oil", 2, Decimal("2.50"), 5),
        ("Tea", 1, None, 1),
    ]
    assert got.items[-1].gtin == "05901234123457"
    assert got.adds_up


@pytest.mark.parametrize(
    "options",
    [
        {"number": "("},
        {"total": "TOTAL"},
        {"item": (r"^{qty}$",)},
        {"tender": {"shells": "x{amount}"}},
        {"encoding": "klingon"},
        {"kanji": "base64"},
        {"code_pages": {"x": "cp437"}},
        {"code_pages": {"1": "nope"}},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../etc"},
        {"currency": "euro"},
        {"idle_s": 0},
        {"feed_lines": 0},
        {"baud": -1},
        {"operator": "x"},
    ],
    ids=str,
)
def test_wrong_options_name_the_field(options: dict[str, Any]) -> None:
    """A wrong option is refused with the field's name first."""
    with pytest.raises(ValueError, match=f"^{next(iter(options))}: "):
        TillOptions(**options)


def test_an_expression_of_ones_own_replaces_the_profiles() -> None:
    """A till with its own words is read by its own words; the other expressions and tenders stay."""
    data = b"Bread  1.10\nGRAND SUM>> 1.10\nPAYCARD 1.10\n" + CUT
    got = sale(data, total=r"^GRAND SUM>>\s*{amount}$", tender={"voucher": r"^PAYCARD\s+{amount}$"})
    assert (got.totals.net, got.tenders[0].kind) == (Decimal("1.10"), "voucher")
    assert tap(data)[0] == [DeviceState(state="fault", detail="a receipt without a total (3 lines, ended by cut)")]


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([bytes.fromhex(c) for c in COMMANDS]),
            st.just(CUT),
            st.sampled_from([b"Total 1.00\n", b"Bread  1.00\n", b"\n\n\n\n"]),
        ),
        max_size=12,
    ),
    st.integers(1, 9),
)
def test_any_bytes_are_survived_and_cuts_do_not_matter(parts: list[bytes], size: int) -> None:
    """Any bytes give the same readings and counters however they are cut, and never an exception."""
    data = b"".join(parts)
    whole, driver = tap(data)
    clock, cut = FakeClock(), PosEscpos(TillOptions(), "till")
    pieces = [reading for i in range(0, len(data), size) for reading in cut.feed(data[i : i + size], clock.now())]
    pieces += cut.tick(clock.advance(6.0))
    assert pieces == whole
    assert cut.counters == driver.counters
    assert msgspec.json.encode(whole)


@settings(deadline=None)
@given(
    st.text(alphabet="Total 0123456789.,-x*#:@$€合计%\nBARVATtaxcash", max_size=400),
    st.sampled_from(["en", "zh", "de"]),
)
def test_any_text_is_read(text: str, name: str) -> None:
    """Any text of receipt-like characters is read without an exception, by every profile."""
    got = read(text.split("\n"), _WORDINGS[name])
    assert got.total is None or got.total.is_finite()


_WORDINGS = {name: Wording(profile) for name, profile in PROFILES.items()}
