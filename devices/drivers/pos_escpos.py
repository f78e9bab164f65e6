"""Receipt printer of a till, listened to: a passive tap of the ESC/POS bytes on the printer's serial line.

Document: Epson ESC/POS command reference (TM series), read by `devices.escpos`; what a receipt says is no standard, so
a profile of regular expressions per till reads it. Knows nothing of products, persons or how the line was tapped: the
tap must never stand between till and printer (a second RX on the printer's TX wire, or a relay that prints first).

A receipt on the wire::

    1B 40           ESC @     start            1D 56 m [n]   GS V     cut: the receipt is over
    1B 74 n         ESC t     code page        1B 70 m t t   ESC p    drawer, often after the cut: no receipt
    1C 26 … 1C 2E   FS & … .  GBK text         1D 6B m …     GS k     barcode, often the receipt's number
    text 0A         a line of text

It is over with a cut, with four line feeds and 1.5 s of silence, or with 5 s of silence. A till that prints every item
as it is scanned needs a longer `idle_s`. Profiles `en`, `zh`, `de` are built in; every expression can be replaced::

    [[devices]]
    name = "till-3"
    driver = "pos_escpos"
    port = "/dev/serial/by-path/..."
    [devices.options]
    profile = "zh"
    currency = "CNY"
    timezone = "Asia/Shanghai"
    number = '小票号:(?P<number>\\d+)'
    total = '^本单应付\\s*{amount}$'

Expressions are searched in one line at a time, upper and lower case alike, after Unicode NFKC (so full-width digits,
colons and ￥ are plain ones) and with wide gaps made two spaces. `{amount}`, `{price}` and `{qty}` stand for numbers in
the till's notation; the groups `amount`, `price`, `qty`, `unit`, `name`, `sku`, `number`, `operator`, `member` are what
is read, and of dates `y`, `m`, `d` (or `y`, `a`, `b` in the order of `date_order`).

A receipt becomes one `Sale`. No number on it: `sequence` is a digest of its text and nothing names the fact, so a
reprint counts twice. `confidence` is 1.0; times 0.5 if the items, discounts and tax do not add up to the total within a
cent, times 0.9 without a number, times 0.9 if silence ended it. A receipt without a total is counted in `bad_frames`
and reported as a fault without a word of its text. X and Z reports, copies, reprints and drawer openings are `ignored`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from devices.driver import Driver, Options, driver
from devices.escpos import CODE_PAGES, TEXT_CAP_BYTES, Document, End, PrinterStream, decoded, known_codec
from devices.receipt import Item, Receipt, Wording, read
from devices.receipt_profiles import PROFILES, Profile
from gateway.clock import Instant
from gateway.intake.reading import DeviceState, Discount, Reading, Sale, SaleLine, Tender, Totals

_TENDERS = ("cash", "card", "voucher", "mobile", "other")
_KILOGRAM = frozenset({"kg", "公斤"})


class TillOptions(Options, frozen=True, kw_only=True):
    """Options of a tapped till. An expression left empty is the profile's."""

    profile: Literal["en", "zh", "de"] = "en"
    number: str = ""  # group number
    date: tuple[str, ...] = ()  # groups y m d; or a b y, read by date_order
    operator: str = ""  # group operator
    member: str = ""  # group member
    item: tuple[str, ...] = ()  # first that fits; name missing: the line before is the name
    quantity: str = ""  # a line of its own after or before its item, without an amount
    discount: str = ""
    subtotal: str = ""
    total: str = ""
    tax: str = ""
    change: str = ""
    tender: dict[str, str] = msgspec.field(default_factory=dict)  # kind → expression; other kinds stay
    refund: str = ""  # a title that makes the receipt a return
    ignore: tuple[str, ...] = ()  # titles of documents that are no sale
    slip: tuple[str, ...] = ()  # the same, but only above the total
    barcode_number: str = ""  # the barcode that is the receipt's number: whole text, or its group number
    decimal_separator: Literal["", ".", ","] = ""
    date_order: Literal["", "dmy", "mdy"] = ""  # for 03/04/2026; if empty such a date is not read
    timezone: str = ""  # IANA name; if empty the receipt's time of day is not used
    currency: str = ""  # ISO 4217
    encoding: str = ""  # of text that is neither UTF-8 nor in Kanji mode; else by ESC t
    kanji: str = "gb18030"  # of text after FS &: gb18030, cp949, shift_jis
    code_pages: dict[str, str] = msgspec.field(
        default_factory=dict
    )  # ESC t number → codec, where the printer differs from Epson
    workstation_id: str = ""
    feed_lines: int = 4
    feed_silence_s: float = 1.5
    idle_s: float = 5.0
    baud: int = 9600

    def __post_init__(self) -> None:
        for name in ("encoding", "kanji"):
            if getattr(self, name) and not known_codec(getattr(self, name)):
                raise ValueError(f"{name}: there is no codec of that name")
        if any(not n.isdigit() or not known_codec(codec) for n, codec in self.code_pages.items()):
            raise ValueError("code_pages: must map numbers to codecs")
        if any(kind not in _TENDERS for kind in self.tender):
            raise ValueError(f"tender: kinds are {', '.join(_TENDERS)}")
        for name in ("feed_silence_s", "idle_s", "feed_lines", "baud"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: must be positive")
        if self.currency and not re.fullmatch("[A-Z]{3}", self.currency):
            raise ValueError("currency: must be three capital letters (ISO 4217)")
        if self.timezone:
            try:
                ZoneInfo(self.timezone)
            except (ZoneInfoNotFoundError, ValueError, OSError) as error:
                raise ValueError("timezone: there is no such zone") from error
        Wording(self.merged())

    def merged(self) -> Profile:
        """The profile with every expression that is given here put in its place."""
        profile = PROFILES[self.profile]
        given = {name: getattr(self, name) for name in Profile.__struct_fields__ if getattr(self, name)}
        return msgspec.structs.replace(profile, **given | {"tender": profile.tender | self.tender})


@driver("pos_escpos", wire="serial", options=TillOptions, baud=9600)
class PosEscpos(Driver):
    """Printer bytes to sales. One receipt becomes at most one `Sale`."""

    def __init__(self, options: Any, device: str) -> None:
        super().__init__(options, device)
        self._stream = PrinterStream(
            feed_lines=options.feed_lines, feed_silence_s=options.feed_silence_s, idle_s=options.idle_s
        )
        self._profile = options.merged()
        self._wording = Wording(self._profile)
        self._pages = CODE_PAGES | {int(number): codec for number, codec in options.code_pages.items()}
        self._zone = ZoneInfo(options.timezone) if options.timezone else None

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        """Take bytes; yield the sales of the receipts that end in them."""
        return self._readings(self._stream.feed(data, at.mono_us))

    def tick(self, at: Instant) -> Iterable[Reading]:
        """Silence ends a receipt where nothing cuts the paper."""
        return self._readings(self._stream.silence(at.mono_us))

    def _readings(self, documents: list[Document]) -> list[Reading]:
        self.counters.skipped_bytes = self._stream.skipped_bytes
        return [reading for document in documents for reading in self._document(document)]

    def _document(self, document: Document) -> Iterator[Reading]:
        if document.overflow:
            self.counters.bad_frames += 1
            yield DeviceState(state="fault", detail=f"a receipt of more than {TEXT_CAP_BYTES // 1024} KiB of text")
            return
        lines = decoded(document, encoding=self._profile.encoding, kanji=self.options.kanji, pages=self._pages)
        receipt = read(lines, self._wording, document.barcodes + document.qr_codes)
        if receipt.ignored:
            self.counters.ignored += 1
        elif receipt.total is None:
            self.counters.bad_frames += 1
            detail = f"a receipt without a total ({len(lines)} lines, ended by {document.end})"
            yield DeviceState(state="fault", detail=detail)
        else:
            self.counters.frames += 1
            yield self._sale(receipt, receipt.total, document.end, _digest(lines))

    def _sale(self, receipt: Receipt, total: Decimal, end: End, digest: str) -> Sale:
        """The receipt as a sale. A refund slip prints positive amounts; here they are negative."""
        sign = -1 if receipt.refund and total > 0 else 1
        returned = receipt.refund or total < 0
        confidence = (
            (Decimal("1.0") if receipt.adds_up else Decimal("0.5"))
            * (Decimal("1.0") if receipt.number else Decimal("0.9"))
            * (Decimal("0.9") if end == "idle" else Decimal("1.0"))
        )

        def signed(amount: Decimal | None) -> Decimal | None:
            return None if amount is None else sign * amount

        closed_at = None
        if receipt.day and receipt.time and self._zone:
            closed_at = datetime.combine(receipt.day, receipt.time, self._zone)
        cash = [index for index, (kind, _) in enumerate(receipt.tenders) if kind == "cash"]
        changed = cash[-1] if cash else len(receipt.tenders) - 1  # change is handed back on cash, if there was any
        day = receipt.day.isoformat() if receipt.day else None
        return Sale(
            device_at=closed_at, device_seq=receipt.number, device_boot=(day or digest) if receipt.number else None,
            kind="return" if returned else "sale", sequence=receipt.number or digest,
            workstation_id=self.options.workstation_id or None, business_date=day,
            operator=receipt.operator, closed_at=closed_at, currency=self.options.currency or None,
            lines=tuple(_line(seq, item, sign) for seq, item in enumerate(receipt.items, 1)),
            tenders=tuple(
                Tender(kind=kind, amount=sign * amount, change=receipt.change if index == changed else None)
                for index, (kind, amount) in enumerate(receipt.tenders)
            ),
            member=receipt.member,
            totals=Totals(
                net=sign * total, gross=signed(receipt.subtotal), discount=receipt.discount, tax=signed(receipt.tax),
                tendered=sum((sign * amount for _, amount in receipt.tenders), Decimal(0)) if receipt.tenders else None,
                change=receipt.change,
            ),
            tap="escpos", confidence=float(confidence), end=end,
        )  # fmt: skip


def _line(seq: int, item: Item, sign: int) -> SaleLine:
    amount = sign * item.amount
    return SaleLine(
        seq=seq, kind="return" if amount < 0 else "sale", amount=amount, gtin=item.gtin, sku=item.sku,
        description=item.name or None, quantity=-abs(item.quantity) if amount < 0 else item.quantity,
        unit="KGM" if item.unit in _KILOGRAM else "C62", unit_price=item.price,
        discounts=tuple(Discount(amount=off, reason=reason or None) for off, reason in item.discounts),
    )  # fmt: skip


def _digest(lines: list[str]) -> str:
    """Twelve hex digits that name this text, for receipts that have no number of their own."""
    return hashlib.sha256("\n".join(lines).encode("utf-8", "replace")).hexdigest()[:12]
