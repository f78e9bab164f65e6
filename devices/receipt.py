"""What a receipt says, read from its lines by a profile of regular expressions: number, items, totals, payments.

Receipts have no standard; a `Profile` is how one kind of till words them, and any part of it can be replaced. The
arithmetic of the receipt is checked against itself: items − discounts (+ tax, if prices come without) = total. Pure:
knows no printer, no device, no clock and no event. Nothing here keeps a line that it did not understand.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date, time
from decimal import Decimal
from typing import Literal

import msgspec

from devices.receipt_profiles import Profile

TenderKind = Literal["cash", "card", "voucher", "mobile", "other"]

_CENT = Decimal("0.01")
_NAME_CAP = 120  # characters of a description
_LINE_CAP = 200  # characters of a line; paper has at most 80, and expressions take long over long lines
_TIME = re.compile(r"(?<![\d:.])(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2}))?\s*(?P<p>[ap]\.?m\b)?", re.IGNORECASE)


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A line that was sold (or, with a negative amount, taken back). `discounts`: (positive amount, wording)."""

    name: str
    amount: Decimal
    gtin: str | None = None
    sku: str | None = None
    quantity: Decimal = Decimal(1)
    unit: str = ""
    price: Decimal | None = None
    discounts: tuple[tuple[Decimal, str], ...] = ()


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What was read. `total` is None where none was found; `tax_added`: prices come without tax."""

    ignored: bool = False
    refund: bool = False
    number: str | None = None
    day: date | None = None
    time: time | None = None
    operator: str | None = None
    member: str | None = None
    items: tuple[Item, ...] = ()
    subtotal: Decimal | None = None
    discount: Decimal | None = None
    tax: Decimal | None = None
    total: Decimal | None = None
    tenders: tuple[tuple[TenderKind, Decimal], ...] = ()
    change: Decimal | None = None
    adds_up: bool = False
    tax_added: bool = False


class Wording:
    """A profile, compiled.

    Raises:
        ValueError: an expression is none or lacks a group it needs; the message begins with the field's name.
    """

    def __init__(self, profile: Profile) -> None:
        self._separator = profile.decimal_separator
        self.date_order = profile.date_order
        self.number = self._compiled("number", profile.number, "number")
        self.operator = self._compiled("operator", profile.operator, "operator")
        self.member = self._compiled("member", profile.member, "member")
        self.quantity = self._compiled("quantity", profile.quantity, "qty", "price")
        self.discount = self._compiled("discount", profile.discount, "amount")
        self.subtotal = self._compiled("subtotal", profile.subtotal, "amount")
        self.total = self._compiled("total", profile.total, "amount")
        self.tax = self._compiled("tax", profile.tax, "amount")
        self.change = self._compiled("change", profile.change, "amount")
        self.refund = self._compiled("refund", profile.refund)
        self.barcode_number = self._compiled("barcode_number", profile.barcode_number)
        self.dates = [self._compiled("date", text, "y") for text in profile.date]
        self.items = [self._compiled("item", text, "amount") for text in profile.item]
        self.ignore = [self._compiled("ignore", text) for text in profile.ignore]
        self.slips = [self._compiled("slip", text) for text in profile.slip]
        self.tenders = {kind: self._compiled("tender", text, "amount") for kind, text in profile.tender.items()}

    def _compiled(self, field: str, text: str, *groups: str) -> re.Pattern[str]:
        thousands = "," if self._separator == "." else "."
        number = rf"\d[\d{thousands}']*\{self._separator}\d{{1,2}}(?!\d)"
        amount = rf"(?:[¥$€£]|EUR|USD|CNY|RMB|GBP|CHF)?\s?[-−]?\s?[¥$€£]?\s?{number}(?:\s?(?:€|EUR|元))?(?:\s?[-−])?"
        first, found, rest = text.partition("{amount}")  # in alternatives the group's name can stand only once
        text = first + found + rest.replace("{amount}", f"(?P<amount2>{amount})")
        text = text.replace("{any}", amount).replace("{amount}", f"(?P<amount>{amount})")
        text = text.replace("{price}", f"(?P<price>{amount})").replace(
            "{qty}", r"(?P<qty>[-−]?\d{1,5}(?:[.,]\d{1,3})?)"
        )
        try:
            pattern = re.compile(text, re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"{field}: not a regular expression: {error}") from error
        missing = [group for group in groups if text and group not in pattern.groupindex]
        if missing:
            raise ValueError(f"{field}: needs a group {missing[0]}")
        return pattern

    def money(self, text: str) -> Decimal:
        """`"$ 1,234.50"`, `"1.234,50-"` → Decimal; the sign may stand before or after."""
        digits = re.sub(rf"[^0-9{re.escape(self._separator)}]", "", text).replace(self._separator, ".")
        value = Decimal(digits)
        return -value if re.search("[-−]", text) else value


def read(lines: list[str], wording: Wording, barcodes: tuple[str, ...] = ()) -> Receipt:
    """Read a receipt's lines; never raises, a document that is no receipt gives one without a total."""
    reader = _Reader(wording)
    for line in lines:
        text = unicodedata.normalize("NFKC", line[:_LINE_CAP]).strip()[:_LINE_CAP]
        reader.line(_WIDE_GAP.sub("  ", text))
    return reader.receipt(barcodes)


def scrubbed(text: str) -> str:
    """`text` without what looks like a card number, masked or whole (PROTOCOLS §6.1, privacy)."""
    text = _MASKED.sub("****", text)
    return _LONG_NUMBER.sub(lambda match: match[0] if _is_product(re.sub(r"\D", "", match[0])) else "****", text)


_WIDE_GAP = re.compile(r"\s{3,}")  # columns are two spaces apart at least; more only costs expressions time
_MASKED = re.compile(r"\d{4,}[\s-]*[*xX•#]{2,}[\s*xX•#-]*\d{0,4}|[*xX•#]{4,}[\s*xX•#-]*\d{2,4}")
_LONG_NUMBER = re.compile(r"\d(?:[ -]?\d){12,18}")
_LEADING_CODE = re.compile(r"(\d{8}|\d{12,14})(?:\s+(\S.*))?$", re.ASCII)


def _is_product(digits: str) -> bool:
    """True for a GTIN with a right check digit."""
    if len(digits) not in (8, 12, 13, 14) or not digits.isascii():
        return False
    return sum(int(digit) * (1, 3)[index % 2] for index, digit in enumerate(reversed(digits))) % 10 == 0


class _Reader:
    """Takes lines in order. What a line is depends on what came before: items stand above the total, tenders below."""

    def __init__(self, wording: Wording) -> None:
        self._wording = wording
        self._ignored = self._refund = False
        self._number: str | None = None
        self._day: date | None = None
        self._time: time | None = None
        self._operator: str | None = None
        self._member: str | None = None
        self._items: list[Item] = []
        self._discount = Decimal(0)
        self._subtotal: Decimal | None = None
        self._tax: Decimal | None = None
        self._totals: list[tuple[Decimal, Decimal]] = []  # each with the discounts above it
        self._tenders: list[tuple[TenderKind, Decimal]] = []
        self._change: Decimal | None = None
        self._name = ""  # the line before, if nothing was read in it
        self._after_item = False  # the line before was an item
        self._held: tuple[Decimal, Decimal, str] | None = None  # quantity, price, unit waiting for their item

    def line(self, text: str) -> None:
        """Read one line."""
        wording, name, after_item = self._wording, self._name, self._after_item
        self._name, self._after_item = "", False
        if not text:
            return
        titles = wording.ignore if self._totals else [*wording.ignore, *wording.slips]
        if any(title.search(text) for title in titles):
            self._ignored = True
        elif wording.refund.pattern and wording.refund.search(text):
            self._refund = True
        elif not self._money_line(text) and not self._facts(text) and not self._item(text, name, after_item):
            self._name = text

    def _money_line(self, text: str) -> bool:
        """Totals, discounts, tax, payments."""
        wording = self._wording
        if (amount := self._amount(wording.total, text)) is not None:
            self._totals.append((amount, self._discount))
        elif (amount := self._amount(wording.subtotal, text)) is not None:
            self._subtotal = amount
        elif (amount := self._amount(wording.change, text)) is not None and self._totals:
            self._change = abs(amount)
        elif (tender := self._tender(text)) is not None:
            self._tenders.append(tender)
        elif (amount := self._amount(wording.discount, text)) is not None:
            self._discount += abs(amount)
            if self._items and self._subtotal is None and not self._totals:
                match = wording.discount.search(text)
                reason = self._clean(match.groupdict().get("name") or "" if match else "")
                last = self._items[-1]
                self._items[-1] = msgspec.structs.replace(last, discounts=(*last.discounts, (abs(amount), reason)))
        elif (amount := self._amount(wording.tax, text)) is not None:
            self._tax = (self._tax or Decimal(0)) + amount
        else:
            return False
        return True

    def _tender(self, text: str) -> tuple[TenderKind, Decimal] | None:
        if not self._totals:  # above the total, "Card game 9.99" is something sold
            return None
        for kind, pattern in self._wording.tenders.items():
            amount = self._amount(pattern, text)
            if amount is not None:
                return msgspec.convert(kind, TenderKind), amount
        return None

    def _facts(self, text: str) -> bool:
        """Operator, member, number, date: a line may hold several of them. The first of each counts.

        Who it was is taken out of the line before a number is looked for: "Customer ID: 77" is no receipt number.
        """
        wording, found = self._wording, False
        if match := wording.operator.search(text):
            self._operator, found = self._operator or match["operator"].strip(), True
            text = text[: match.start()] + text[match.end() :]
        if match := wording.member.search(text):
            if "*" not in match["member"]:  # a masked number names nobody
                self._member = self._member or match["member"]
            text, found = text[: match.start()] + text[match.end() :], True
        if match := wording.number.search(text):
            self._number, found = self._number or match["number"], True
        for pattern in wording.dates:
            match = pattern.search(text)
            day = _day(match, wording.date_order) if match else None
            if day is not None:
                self._day, found = self._day or day, True
                break
        if match := _TIME.search(text):
            clock = _clock(match)
            if clock is not None and (found or match[0].strip() == text):
                self._time, found = self._time or clock, True
        return found

    def _item(self, text: str, name_before: str, after_item: bool) -> bool:
        wording = self._wording
        match = wording.quantity.search(text)
        if match:
            self._quantity(match, after_item)
            return True
        match = None if self._totals else next(filter(None, (pattern.search(text) for pattern in wording.items)), None)
        if match is None:
            return False
        groups = match.groupdict()
        amount, price = self._money(match), groups.get("price")
        item = Item(
            name=self._clean(groups.get("name") or name_before), amount=amount, sku=groups.get("sku"),
            quantity=_quantity(groups["qty"]) if groups.get("qty") else Decimal(1),
            unit=(groups.get("unit") or "").lower(), price=wording.money(price) if price else None,
        )  # fmt: skip
        unnamed = not groups.get("name") and not groups.get("sku")
        if unnamed and after_item and self._items[-1].amount == amount:  # the item above, taken apart
            last = self._items.pop()
            item = msgspec.structs.replace(item, name=last.name, gtin=last.gtin, sku=last.sku)
        if self._held is not None:
            item = _with_quantity(item, *self._held) or item
            self._held = None
        code = _LEADING_CODE.match(item.sku or item.name)
        if code and _is_product(code[1]):
            item = msgspec.structs.replace(
                item, gtin=code[1].zfill(14), sku=None,
                name=item.name if item.sku else self._clean(code[2] or name_before),
            )  # fmt: skip
        self._items.append(item)
        self._after_item = True
        return True

    def _quantity(self, match: re.Match[str], after_item: bool) -> None:
        """`2 x 0,49` alone: it belongs to the item above if the amounts agree, else to the next one."""
        held = _quantity(match["qty"]), self._wording.money(match["price"]), match.groupdict().get("unit") or ""
        item = _with_quantity(self._items[-1], *held) if after_item else None
        if item is not None:
            self._items[-1] = item
        else:
            self._held = held

    def _amount(self, pattern: re.Pattern[str], text: str) -> Decimal | None:
        match = pattern.search(text)
        return self._money(match) if match else None

    def _money(self, match: re.Match[str]) -> Decimal:
        groups = match.groupdict()
        return self._wording.money(groups["amount"] or groups.get("amount2") or "0")

    def _clean(self, text: str) -> str:
        return scrubbed(" ".join(text.split()))[:_NAME_CAP]

    def receipt(self, barcodes: tuple[str, ...]) -> Receipt:
        """What all lines together say."""
        number = self._number
        if number is None and self._wording.barcode_number.pattern:
            for match in filter(None, map(self._wording.barcode_number.search, barcodes)):
                number = match.groupdict().get("number") or match[0]
                break
        total, discount, adds_up, tax_added = self._checked()
        return Receipt(
            ignored=self._ignored, refund=self._refund, number=number, day=self._day, time=self._time,
            operator=self._operator, member=self._member, items=tuple(self._items), subtotal=self._subtotal,
            discount=discount or None, tax=self._tax, total=total, tenders=tuple(self._tenders), change=self._change,
            adds_up=adds_up, tax_added=tax_added,
        )  # fmt: skip

    def _checked(self) -> tuple[Decimal | None, Decimal, bool, bool]:
        """(total, discount, adds up, tax added). Of several totals the first that adds up, else the last."""
        total, discount = self._totals[-1] if self._totals else (None, self._discount)
        sold = sum((item.amount for item in self._items), Decimal(0))
        for candidate, above in self._totals if self._items else []:
            for tax in (Decimal(0), self._tax or Decimal(0)):
                if abs(sold - above + tax - candidate) <= _CENT:
                    return candidate, above, True, bool(tax)
        return total, discount, False, False


def _quantity(text: str) -> Decimal:
    return Decimal(text.replace(",", ".").replace("−", "-"))


def _with_quantity(item: Item, quantity: Decimal, price: Decimal, unit: str) -> Item | None:
    """The item with this quantity if quantity × price is its amount; else None."""
    if abs(abs(quantity * price) - abs(item.amount)) > _CENT:
        return None
    return msgspec.structs.replace(item, quantity=quantity, price=price, unit=unit.lower())


def _day(match: re.Match[str], order: str) -> date | None:
    groups = match.groupdict()
    if "a" in groups:
        if not order:
            return None
        groups["d"], groups["m"] = (groups["a"], groups["b"]) if order == "dmy" else (groups["b"], groups["a"])
    month = groups["m"] if groups["m"].isdigit() else _MONTHS.get(groups["m"][:3].lower(), "0")
    try:
        year = int(groups["y"])
        return date(year + 2000 if year < 100 else year, int(month), int(groups["d"]))
    except ValueError:
        return None


def _clock(match: re.Match[str]) -> time | None:
    hour, half = int(match["H"]), (match["p"] or "").lower()
    if half:
        hour = hour % 12 + (12 if half.startswith("p") else 0)
    try:
        return time(hour, int(match["M"]), int(match["S"] or 0))
    except ValueError:
        return None


_MONTHS = {
    name: str(number)
    for number, names in enumerate(
        ("jan", "feb", "mar mär", "apr", "may mai", "jun", "jul", "aug", "sep", "oct okt", "nov", "dec dez"), 1
    )
    for name in names.split()
}
