"""Barcode and QR scanners on a serial line or USB-CDC: EAN/UPC, GS1, Digital Link, coupons, loyalty cards.

Document: GS1 General Specifications 24 (element strings, §3; variable measure, §2.1.11), ISO/IEC 15424 (AIM symbology
identifiers), GS1 Digital Link URI syntax 1.4, GS1 US "North American Coupon Application Guideline" (AI 8110). Knows
nothing of shops, persons or campaigns: a loyalty card is recognised here and keyed elsewhere.

One scan is one line; there is no checksum and no counter::

    ]d2 01 09506000134352 17 260331 10 ABC <GS> 21 XYZ <CR>
    └┬┘ └┬ └─────┬──────┘
     │   │       └ value: fixed length, or up to GS (1D) or the end
     │   └ GS1 application identifier
     └ AIM identifier: "]", symbology letter, modifier; missing if the scanner is not told to send it

CR, LF and CR LF end a line alike; 100 ms of silence end one too; a line of more than 4096 bytes is dropped and counted
in `bad_frames`. Text is UTF-8, else Latin-1. GS is data and is never stripped.

Set the scanner to: serial or CDC (no keyboard wedge), AIM identifier as prefix, CR as suffix, GS sent as 1D. Then::

    [[devices]]
    name = "till-2-scanner"
    driver = "scanner_gs1"
    port = "/dev/serial/by-id/usb-..."
    [devices.options]
    loyalty = ['^\\]C02[0-9]{12}$', '^https://shop\\.example/m/(?P<member>[0-9]+)$']
    rcn_region = "de"

What is tried, in this order: loyalty patterns (on the payload with its AIM identifier, then without it); http(s) link,
as Digital Link or plain URL, whatever the symbology; bracketed element strings `(01)…`; what the AIM identifier says;
without an AIM identifier, or with one that says nothing (Code 128, plain QR), first a number with a right GTIN check
digit, then element strings that begin with an identification key or hold a GS. The rest is `opaque`, with the reason.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import msgspec
from biip import ParseConfig, ParseError
from biip.gs1_digital_link_uris import GS1DigitalLinkURI
from biip.gs1_element_strings import GS1ElementString
from biip.gtin import Gtin
from biip.rcn import Rcn
from biip.upc import Upc

from devices.driver import Driver, Options, driver
from gateway.clock import Instant
from gateway.intake.reading import Reading, Scan

_CAP_BYTES = 4096
_IDLE_FLUSH_US = 100_000
_LOYALTY_CAP = 512  # characters; a member code is short, and a pattern must not be run over a page of text
_LINE_END = re.compile(rb"[\r\n]+")
_GS = "\x1d"

# ISO/IEC 15424 letters with a meaning; an unlisted one is a symbology that nothing here can know.
_AIM_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUXYZcdehopsz")
_AIM_GS1 = frozenset({"]C1", "]e0", "]e1", "]e2", "]d2", "]Q3", "]J1"})  # element strings; GS1 GenSpecs §5.1.2
_AIM_EAN = frozenset({"]E0", "]E4", "]I1"})

# Predefined lengths after the AI's first two digits, GS1 GenSpecs §7.8.5: such a value can be skipped without a GS.
_FIXED = {"00": 18, "01": 14, "02": 14, "03": 14, "04": 16, "20": 2} | {f"{n}": 6 for n in range(11, 20)}
# Identification keys: what an element string may begin with to be believed where nothing says that it is GS1.
_KEYS = re.compile(r"0[012]|25[35]|41[0-7]|8003|8004|8006|8010|8017|8018|8110")
_BRACKETED = re.compile(r"\((\d{2,4})\)")
_LINK = re.compile(r"https?://", re.IGNORECASE)
_SLASH_END = re.compile(r"/(?=[?#]|$)")
_LINK_GTIN = re.compile(r"/01/(\d{8}|\d{12,14})(?=[/?#]|$)")
_EARLIEST_YEAR = 2026  # a box without a clock says 1970; two-digit years are not read by that

_NO_DATE_CHECK = ParseConfig(gs1_element_strings_verify_date=False)  # else one bad date loses the GTIN beside it

Region = Literal["dk", "ee", "fi", "de", "gb", "lv", "lt", "no", "se"]


class Layout(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one kind of in-store label is laid out, for countries and scales that `rcn_region` does not know.

    `pattern` has one character a digit: a digit stands for itself, `P` is price, `W` is weight, any other letter is
    not read. `"21IIIIIPPPPPX"`: prefix 21, item, price, check digit. `"22IIIIIPPPPPWWWWWX"`: a label of 18 digits.
    """

    pattern: str
    price_decimals: int = 2  # digits after the point, 0–4
    weight_decimals: int = 3  # of kilograms, 0–4

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9]{1,4}[A-Z0-9]{4,26}", self.pattern):
            raise ValueError("pattern: needs 1–4 leading digits and 4–26 more digits or capital letters")
        if not re.search("[PW]", self.pattern):
            raise ValueError("pattern: needs price digits (P) or weight digits (W)")
        if not (0 <= self.price_decimals <= 4 and 0 <= self.weight_decimals <= 4):
            raise ValueError("price_decimals, weight_decimals: must be 0 to 4")

    def measure(self, digits: str) -> tuple[Decimal | None, Decimal | None] | None:
        """(price, weight in kg) of a label of this layout; None if `digits` is not one."""
        if len(digits) != len(self.pattern) or not (digits.isascii() and digits.isdigit()):
            return None
        if any(p.isdigit() and p != d for p, d in zip(self.pattern, digits, strict=True)):
            return None
        price = "".join(d for p, d in zip(self.pattern, digits, strict=True) if p == "P")
        weight = "".join(d for p, d in zip(self.pattern, digits, strict=True) if p == "W")
        return (
            Decimal(price).scaleb(-self.price_decimals) if price else None,
            Decimal(weight).scaleb(-self.weight_decimals) if weight else None,
        )


class ScannerOptions(Options, frozen=True, kw_only=True):
    """Options of a scanner; all have a default."""

    prefixes: tuple[str, ...] = ()  # what the scanner puts before the payload (and the AIM identifier); one is removed
    loyalty: tuple[str, ...] = ()  # regular expressions; groups: member (else the whole), scheme, campaign, content
    rcn_region: Region | None = None  # whose rules read weight and price in EAN prefixes 02 and 20–29
    layouts: tuple[Layout, ...] = ()  # tried before rcn_region
    baud: int = 9600

    def __post_init__(self) -> None:
        if any(not prefix for prefix in self.prefixes):
            raise ValueError("prefixes: must not be empty")
        for pattern in self.loyalty:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"loyalty: {pattern!r} is not a regular expression: {error}") from error
        if self.baud <= 0:
            raise ValueError("baud: must be positive")


@driver("scanner_gs1", wire="serial", options=ScannerOptions, baud=9600)
class ScannerGs1(Driver):
    """Lines to scans. Every line that is not empty becomes exactly one `Scan`."""

    def __init__(self, options: Any, device: str) -> None:
        super().__init__(options, device)
        self._buffer = bytearray()
        self._overlong = False  # inside a line of more than the cap, waiting for its end
        self._last_us = 0
        self._prefixes = sorted(options.prefixes, key=len, reverse=True)
        self._loyalty = [re.compile(pattern) for pattern in options.loyalty]
        self._rcn_config = ParseConfig(rcn_region=options.rcn_region)

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        """Take bytes; yield a scan for every line that ends in them."""
        self._last_us = at.mono_us
        self._buffer += data
        *lines, rest = _LINE_END.split(bytes(self._buffer))
        self._buffer = bytearray(rest)
        scans = [scan for line in lines for scan in self._line(line, at)]
        if len(self._buffer) > _CAP_BYTES:
            self._overlong = True
        if self._overlong:
            self.counters.skipped_bytes += len(self._buffer)
            self._buffer.clear()
        return scans

    def tick(self, at: Instant) -> Iterable[Reading]:
        """A scanner without a suffix ends its line by silence."""
        if (not self._buffer and not self._overlong) or at.mono_us - self._last_us < _IDLE_FLUSH_US:
            return ()
        line = bytes(self._buffer)
        self._buffer.clear()
        return list(self._line(line, at))

    def _line(self, line: bytes, at: Instant) -> Iterator[Scan]:
        if self._overlong or len(line) > _CAP_BYTES:
            self._overlong = False
            self.counters.bad_frames += 1
            self.counters.skipped_bytes += len(line)
        elif line:
            raw = _decode(line)
            for prefix in self._prefixes:
                if raw.startswith(prefix):
                    raw = raw.removeprefix(prefix)
                    break
            if raw:
                self.counters.frames += 1
                yield self._scan(raw, at)

    def _scan(self, raw: str, at: Instant) -> Scan:
        aim, text = _split_aim(raw)
        loyalty = self._member(raw, text)
        if loyalty is not None:
            groups = loyalty.groupdict()
            return Scan(
                text=groups.get("member") or text, symbology=aim, kind="loyalty", scheme=groups.get("scheme"),
                campaign=groups.get("campaign"), content_id=groups.get("content"),
            )  # fmt: skip
        if _LINK.match(text):
            return _link(text, aim, at)
        if not text:
            return Scan(text=text, symbology=aim, error="nothing after the AIM identifier")
        if _BRACKETED.match(text):
            return _elements(_unbracketed(text), text, aim, at)
        if aim == "]E3":
            return self._with_addon(text, aim)
        if aim in _AIM_EAN:
            return self._product(text, aim)
        if aim in _AIM_GS1:
            return _elements(text, text, aim, at)
        if aim is not None and aim[1] not in _AIM_LETTERS:
            return Scan(text=text, symbology=aim, error="AIM identifier of an unknown symbology")
        return self._guess(text, aim, at)

    def _member(self, raw: str, text: str) -> re.Match[str] | None:
        """The match of the first loyalty pattern that fits: with the AIM identifier first, then without."""
        if len(raw) > _LOYALTY_CAP:
            return None
        for pattern in self._loyalty:
            match = pattern.search(raw) or pattern.search(text)
            if match:
                return match
        return None

    def _product(self, text: str, aim: str | None) -> Scan:
        """EAN, UPC, ITF-14 or an in-store number; the AIM identifier or the check digit says so."""
        for layout in self.options.layouts:
            measure = layout.measure(text)
            if measure is not None:
                price, weight_kg = measure
                gtin = _gtin(text, None)
                return Scan(
                    text=text, symbology=aim, kind="rcn", price=price, weight_kg=weight_kg,
                    gtin=gtin.as_gtin_14() if gtin else None,
                )  # fmt: skip
        gtin, error = _gtin(text, self._rcn_config), None
        if gtin is None:
            gtin = _gtin(text, None)  # the number may be right and only its measure digits not the region's
            error = "variable measure does not fit the region" if gtin else "not a number with a right check digit"
        if gtin is None:
            return Scan(text=text, symbology=aim, error=error or "no GS1 element strings")
        if not isinstance(gtin, Rcn):
            return Scan(text=text, symbology=aim, kind="gtin", gtin=gtin.as_gtin_14())
        return Scan(
            text=text, symbology=aim, kind="rcn", gtin=gtin.as_gtin_14(), weight_kg=gtin.weight, error=error,
            price=None if gtin.price is None else gtin.price.quantize(Decimal("0.01")),
        )  # fmt: skip

    def _with_addon(self, text: str, aim: str) -> Scan:
        """`]E3`: 13 digits and 2 or 5 more (newspapers, books)."""
        if len(text) not in (15, 18) or not (text.isascii() and text.isdigit()):
            return Scan(text=text, symbology=aim, error="not 13 digits and an add-on of 2 or 5")
        scan = self._product(text[:13], aim)
        return msgspec.structs.replace(scan, text=text, addon=text[13:])

    def _guess(self, text: str, aim: str | None, at: Instant) -> Scan:
        """Nothing says what this is. A right check digit beats an AI: `4006381333931` is no AI 400."""
        if text.isascii() and text.isdigit():
            if len(text) in (12, 13, 14) or (len(text) == 8 and aim is None) or self.options.layouts:
                scan = self._product(text, aim)
                if scan.kind != "opaque":
                    return scan
            upc = _upc_e(text) if aim is None else None
            if upc is not None:
                return Scan(text=text, symbology=aim, kind="gtin", gtin=upc)
            if len(text) == 18 and aim is None and _check_digit_ok(text):  # a bare SSCC
                return Scan(text=text, symbology=aim, kind="gs1", gs1={"00": text})
        if _GS in text or _KEYS.match(text):
            scan = _elements(text, text, aim, at)
            if scan.kind != "opaque" and scan.error is None:
                return scan
        return Scan(text=text, symbology=aim, error="not a GS1 code, loyalty card or link")


def parse_8110(value: str) -> tuple[dict[str, str], str | None]:
    """The fields of a North American coupon (the value of AI 8110), and what is wrong with it if something is.

    Fields that could be read before the fault are kept. VLI is the one digit that tells a field's length.

    *Source*: GS1 US, North American Coupon Application Guideline Using GS1 DataBar Expanded, §3; the mandatory part is
    checked against one published string, the optional fields are not.
    """
    fields: dict[str, str] = {}
    rest = value

    def take(name: str, length: int) -> None:
        nonlocal rest
        if len(rest) < length or not rest[:length].isdigit():
            raise ValueError(name)
        if name:
            fields[name] = rest[:length]
        rest = rest[length:]

    def vli(name: str, plus: int, lowest: int, highest: int) -> None:
        nonlocal rest
        if not rest[:1].isdigit() or not lowest <= int(rest[0]) <= highest:
            raise ValueError(name)
        length, rest = int(rest[0]) + plus, rest[1:]
        take(name, length)

    def requirement(which: str) -> None:
        vli(f"{which}_req", 0, 1, 5)
        take(f"{which}_req_code", 1)
        take(f"{which}_family", 3)

    try:
        if not value.isascii():
            raise ValueError("company_prefix")
        vli("company_prefix", 6, 0, 6)
        take("offer_code", 6)
        vli("save_value", 0, 1, 5)
        requirement("primary")
        while rest:
            key, rest = rest[0], rest[1:]
            if key == "1":
                take("additional_rules", 1)
            if key in ("1", "2"):
                which = "second" if key == "1" else "third"
                requirement(which)
                if rest[:1] == "9":  # the same company as the first
                    rest = rest[1:]
                else:
                    vli(f"{which}_company_prefix", 6, 0, 6)
            elif key in ("3", "4"):
                take("expires" if key == "3" else "starts", 6)
            elif key == "5":
                vli("serial", 6, 0, 9)
            elif key == "6":
                vli("retailer", 6, 1, 7)
            elif key == "9":
                for name in ("save_value_code", "save_value_applies_to", "store_coupon", "dont_multiply"):
                    take(name, 1)
            else:
                raise ValueError("optional fields")
    except ValueError as error:
        return fields, f"AI 8110: {error} cannot be read"
    return fields, None


def _elements(data: str, text: str, aim: str | None, at: Instant) -> Scan:
    """GS1 element strings; `text` is what was scanned. What can be read is kept, the first fault is named."""
    elements, error = _walk(data)
    if not elements:
        return Scan(text=text, symbology=aim, error=error or "no GS1 element strings")
    return _of_elements(elements, error, text, aim, at)


def _walk(data: str) -> tuple[list[tuple[str, str, Decimal | None]], str | None]:
    """(AI, value, decimal value) of every element string. A value that breaks its AI's format is stepped over."""
    if not data.isascii():  # the AI patterns would take the digits of any script
        return [], "GS1 element strings are ASCII"
    found: list[tuple[str, str, Decimal | None]] = []
    error: str | None = None
    rest = data.lstrip(_GS)
    while rest:
        field = rest.partition(_GS)[0]
        try:
            element = GS1ElementString.extract(rest, config=_NO_DATE_CHECK)
            if ".." in element.ai.format and len(element) < len(field):
                raise ParseError("a value cut short is a wrong value")  # too long, or a character that is not allowed
        except ParseError:
            ai = rest[:2]
            error = error or (f"AI {ai}: value does not fit" if ai.isdigit() else "no application identifier")
            if ai in _FIXED and len(field) >= 2 + _FIXED[ai]:
                found.append((ai, field[2 : 2 + _FIXED[ai]], None))  # a date that cannot be is still what is printed
                rest = rest[2 + _FIXED[ai] :].lstrip(_GS)
            else:
                rest = rest[len(field) :].lstrip(_GS)
            continue
        if element.gtin_error or element.sscc_error or element.gln_error:
            error = error or f"AI {element.ai.ai}: wrong check digit"
        found.append((element.ai.ai, element.value, element.decimal))
        rest = rest[len(element) :].lstrip(_GS)
    return found, error


def _of_elements(
    elements: list[tuple[str, str, Decimal | None]], error: str | None, text: str, aim: str | None, at: Instant
) -> Scan:
    gs1: dict[str, str] = {}
    weight_kg: Decimal | None = None
    price: Decimal | None = None
    for ai, value, decimal in elements:
        if ai not in gs1:  # repeated: the first counts
            gs1[ai] = value
            weight_kg = decimal if ai.startswith("310") else weight_kg
            price = decimal if ai.startswith(("392", "393")) else price
    gtin = _gtin(gs1["01"], None) if "01" in gs1 else None
    coupon: dict[str, str] = {}
    if "255" in gs1:
        coupon = {"gcn": gs1["255"][:13]}
        if gs1["255"][13:]:
            coupon["serial"] = gs1["255"][13:]
        if not _check_digit_ok(gs1["255"][:13]):
            error = error or "AI 255: wrong check digit"
    if "8110" in gs1:
        fields, fault = parse_8110(gs1["8110"])
        coupon |= fields
        error = error or fault
    expiry: str | None = None
    printed = gs1.get("17") or gs1.get("7003", "")[:6]
    if printed:
        expiry = _iso_date(printed, at)
        if expiry is None:
            error = error or "no such expiry date"
    return Scan(
        text=text, symbology=aim, kind="coupon" if coupon else "gs1", gtin=gtin.as_gtin_14() if gtin else None, gs1=gs1,
        lot=gs1.get("10"), serial=gs1.get("21"), expiry=expiry, weight_kg=weight_kg, price=price, coupon=coupon,
        error=error,
    )  # fmt: skip


def _link(text: str, aim: str | None, at: Instant) -> Scan:
    """A Digital Link or any other link. `/01/` with a right GTIN is a Digital Link even if the rest breaks."""
    try:
        uri = GS1DigitalLinkURI.parse(_SLASH_END.sub("", text, count=1), config=_NO_DATE_CHECK)
    except (ParseError, ValueError):  # ValueError: urllib on a host in brackets
        match = _LINK_GTIN.search(text)
        gtin = _gtin(match[1], None) if match and match[1].isascii() else None
        if gtin is None:
            return Scan(text=text, symbology=aim, kind="url")
        return Scan(
            text=text, symbology=aim, kind="digital_link", gtin=gtin.as_gtin_14(), gs1={"01": gtin.as_gtin_14()},
            digital_link=text, error="Digital Link: a part does not fit",
        )  # fmt: skip
    elements, error = [], None
    for element in uri.element_strings:
        elements.append((element.ai.ai, element.value, element.decimal))
        if element.gtin_error or element.sscc_error or element.gln_error:
            error = error or f"AI {element.ai.ai}: wrong check digit"
    scan = _of_elements(elements, error, text, aim, at)
    kind: Literal["coupon", "digital_link"] = "coupon" if scan.coupon else "digital_link"
    return msgspec.structs.replace(scan, kind=kind, digital_link=text)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def _split_aim(raw: str) -> tuple[str | None, str]:
    """(`]d2`, payload); (None, raw) where there is no AIM identifier. `]Yn` has n more modifier characters."""
    if not re.match(r"\][A-Za-z][0-9A-Za-z]", raw):
        return None, raw
    length = 3 + (int(raw[2]) if raw[1] == "Y" and raw[2].isdigit() else 0)
    return raw[:length], raw[length:]


def _unbracketed(text: str) -> str:
    """`(01)0950…(10)A` as element strings; a GS is allowed after any of them (GS1 GenSpecs §7.8.6)."""
    parts = _BRACKETED.split(text)  # "", AI, value, AI, value …
    return _GS.join(ai + value.strip(" ") for ai, value in zip(parts[1::2], parts[2::2], strict=True))


def _gtin(digits: str, config: ParseConfig | None) -> Gtin | None:
    if not (digits.isascii() and digits.isdigit()):
        return None
    try:
        return Gtin.parse(digits, config=config)
    except ParseError:
        return None


def _upc_e(text: str) -> str | None:
    """The GTIN of a UPC-E of 8 digits (shorter forms, without a check digit, are too easily something else)."""
    if len(text) != 8 or text[0] not in "01":
        return None
    try:
        return f"{Upc.parse(text).as_upc_a():0>14}"
    except ParseError:
        return None


def _check_digit_ok(digits: str) -> bool:
    """GS1 check digit, GenSpecs §7.9.1: weights 3, 1, 3 … from the right."""
    weighted = (int(digit) * (1, 3)[index % 2] for index, digit in enumerate(reversed(digits)))
    return sum(weighted) % 10 == 0


def _iso_date(yymmdd: str, at: Instant) -> str | None:
    """ISO date or None. The century is the nearest one and day 00 is the month's last, GS1 GenSpecs §7.12."""
    now = max(at.wall_at.year, _EARLIEST_YEAR)
    year = now - now % 100 + int(yymmdd[:2])
    year += -100 if year - now > 50 else 100 if year - now < -49 else 0
    try:
        month, day = int(yymmdd[2:4]), int(yymmdd[4:6])
        return date(year, month, day or calendar.monthrange(year, month)[1]).isoformat()
    except ValueError:
        return None
