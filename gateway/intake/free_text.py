"""Free text: what a till lets people type, without the numbers that are persons.

A phone number in a line's description or an e-mail in a receipt number would pass by consent, keys and sealing into the
journal. What a check digit, a numbering plan or its form gives away is taken out, and counted: in a *note* (a
description, a reason) a marker takes its place, in a *name* (a receipt number, which others refer to) a pseudonym of
the day, so that two of them stay two. Article numbers with a right GS1 check digit, amounts and other numbers stay.
Names of people, member numbers and whatever no rule knows are not found: docs/privacy.md says so. Knows no event.

*Source*: ISO/IEC 7812-1 (numbers of payment cards) and its annex B (Luhn); GB 11643-1999 (citizen numbers of China,
ISO 7064 MOD 11-2); ITU-T E.164 by way of libphonenumber; RFC 5321 §4.1.2; GS1 General Specifications §7.9.1.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from typing import Any, Literal, TypeVar

import msgspec

from gateway.event_types import Line
from gateway.intake import reading as said
from gateway.intake.check_digits import gs1, luhn

Kind = Literal["phone", "email", "card", "id_number"]
R = TypeVar("R", bound=said.Reading)
S = TypeVar("S", bound=msgspec.Struct)

_HARMLESS_MOST = 4_096
_GROUPS_MOST = 8  # of digits, in one number
_GS1_LENGTHS = (8, 12, 13, 14, 18)
_LONGEST = 4_000  # characters; what is longer and looks suspicious is cut
_SUSPECT = re.compile(r"[@＠﹫]|\d(?:[^\w\n]{0,2}\d){7,}")
_EMAIL = re.compile(r"[^\s@,;:()<>\[\]\"']{1,64}@(?:[\w-]{1,63}\.){1,8}(?:[^\W\d_]{2,24}|xn--[a-z0-9-]{2,59})(?![\w-])")
_STRETCH = re.compile(r"(?<!\d)\d(?:[ ().-]{0,2}\d){7,40}(?!\d)")
_DATE = re.compile(r"(?<!\d)(?:(?:19|20)\d\d([-.])[01]\d\1[0-3]\d|[0-3]\d([-.])[0-3]\d\2(?:19|20)\d\d)(?!\d)")
_GROUP = re.compile(r"\d+")
_LATIN = re.compile(r"[A-Za-z_]")
_CALLS = re.compile(
    r"(?:tel|phone|mob|mobile|cell|call|whatsapp|电话|電話|手机|手機|联系|聯繫|微信)\W{0,3}$", re.IGNORECASE
)
_PLUS = re.compile(r"\+\(?$")
_CARDS = re.compile(
    r"4\d{15}(?:\d{3})?|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11,16}|35(?:2[89]|[3-8]\d)\d{12,15}|6(?:011|5\d\d|4[4-9]\d)\d{12,15}|62\d{14,17}"
)
_IN_FOURS = re.compile(r"(?:\d{4,}[ -])*\d{2,}")
_CHINESE_MOBILE = re.compile(r"(?:(?:00)?86)?1[3-9]\d{9}")
_AS_A_MOBILE = re.compile(r"\d{11,15}|(?:(?:00)?86[ -])?1\d\d[ -]\d{4}[ -]\d{4}")
_IN_PAIRS = re.compile(r"\(?\d{2,}(?:(?:[ ()-]{1,2}\d{2,})+|(?:\.\d{2,})+)")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"), "-")
_TEXTS: dict[type[said.Reading], tuple[str, ...]] = {
    said.Sale: ("sequence", "workstation_id", "business_date", "currency"),
    said.BasketStep: ("basket_id", "lane"),
    said.Points: ("programme", "transaction_id"),
    said.Scan: ("campaign", "content_id"),
    said.Feedback: ("question",),
}
"""Fields by which others refer to something: `name`s. Notes are the lines' own (`_line`)."""


class FreeTextCounters(msgspec.Struct):
    """Numbers of persons taken out of free text, since the start, by what they were."""

    phone: int = 0
    email: int = 0
    card: int = 0
    id_number: int = 0


class FreeText:
    """One for the gateway; sources call it from their own threads."""

    def __init__(self, region: str) -> None:
        """`region`: ISO 3166, where a phone number without a country code is from."""
        self.counters = FreeTextCounters()
        self._region = region
        self._harmless: set[tuple[bool, str]] = set()  # article numbers come again and again

    def cleaned(self, reading: R, pseudonym: Callable[[str, str], str]) -> R:
        """The reading without numbers of persons in what was typed; the same object where there are none.

        Args:
            reading: anything that a device said. Fields that hold an identifier by their meaning are left alone.
            pseudonym: of a kind and a value, for today.
        """

        def name(text: str) -> str:
            return self.name(text, pseudonym)

        changed: dict[str, Any] = {}
        for field in ("device_seq", *_TEXTS.get(type(reading), ())):
            text = getattr(reading, field)
            if text and _SUSPECT.search(text):
                changed[field] = name(text)
        if isinstance(reading, said.Sale):
            changed["coupons"] = tuple(map(name, reading.coupons))
            if _SUSPECT.search("\n".join(_line_texts(reading.lines))):
                changed["lines"] = tuple(self._line(line, name) for line in reading.lines)
        elif isinstance(reading, said.Custom):
            changed["values"] = {key: self._value(value) for key, value in reading.values.items()}
            changed["subject"] = reading.subject and name(reading.subject)
        return _replaced(reading, changed)

    def counts(self) -> dict[str, int]:
        """How many were taken out since the start, by what they were."""
        return {f"subjects_text_{kind}": count for kind, count in msgspec.structs.asdict(self.counters).items()}

    def note(self, text: str) -> str:
        """A text that nobody refers to, with `[phone]`, `[email]`, `[card]` and `[id_number]` in place of such."""
        return self._without(text, lambda kind, _: f"[{kind}]", names=False)

    def name(self, text: str, pseudonym: Callable[[str, str], str]) -> str:
        """A text that others refer to, with pseudonyms in place of such; `pseudonym`: as for `cleaned`."""
        return self._without(text, lambda kind, value: f"{kind}-{pseudonym(kind, value)[:16]}", names=True)

    # -- inside

    def _line(self, line: Line, name: Callable[[str], str]) -> Line:
        discounts = tuple(
            _replaced(
                it,
                {
                    "reason": it.reason and self.note(it.reason),
                    "promotion_id": it.promotion_id and name(it.promotion_id),
                    "coupon": it.coupon and name(it.coupon),
                },
            )
            for it in line.discounts
        )
        return _replaced(
            line,
            {
                "description": line.description and self.note(line.description), "sku": line.sku and name(line.sku),
                "unit": name(line.unit),
                "original_transaction": line.original_transaction and name(line.original_transaction),
                "discounts": discounts,
            },
        )  # fmt: skip

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.note(value)
        if isinstance(value, list):
            return [self._value(each) for each in value]
        if isinstance(value, dict):
            return {key: self._value(each) for key, each in value.items()}
        return value

    def _without(self, text: str, instead: Callable[[Kind, str], str], *, names: bool) -> str:
        if (names, text) in self._harmless or not _SUSPECT.search(text):
            return text
        plain = _plain(text[:_LONGEST])
        parts: list[str] = []
        done = 0
        for start, end, kind, value in self._found(plain, names=names):
            parts += [plain[done:start], instead(kind, value)]
            done = end
            setattr(self.counters, kind, getattr(self.counters, kind) + 1)
        if done:
            return "".join([*parts, plain[done:]])
        if len(self._harmless) >= _HARMLESS_MOST:
            self._harmless.clear()
        self._harmless.add((names, text))
        return text

    def _found(self, plain: str, *, names: bool) -> list[tuple[int, int, Kind, str]]:
        """Numbers of persons from left to right: start, end, kind, and one spelling of each."""
        found: list[tuple[int, int, Kind, str]] = [
            (it.start(), it.end(), "email", it[0].lower()) for it in (_EMAIL.finditer(plain) if "@" in plain else ())
        ]
        taken = [(start, end) for start, end, _, _ in found]
        plain = _DATE.sub(lambda it: "#" * len(it[0]), plain)
        for stretch in _STRETCH.finditer(plain):
            if not any(start < stretch.end() and stretch.start() < end for start, end in taken):
                found += self._numbers(plain, stretch, names=names)
        return sorted(found)

    def _numbers(self, plain: str, stretch: re.Match[str], *, names: bool) -> Iterator[tuple[int, int, Kind, str]]:
        """Of a stretch of digits and separators every part that is one; of two that begin together the longer."""
        groups = [(it.start(), it.end()) for it in _GROUP.finditer(plain, stretch.start(), stretch.end())]
        first = 0
        while first < len(groups):
            for last in range(min(len(groups), first + _GROUPS_MOST) - 1, first - 1, -1):
                if 8 <= sum(end - start for start, end in groups[first : last + 1]) <= 19:
                    found = self._number(plain, groups[first][0], groups[last][1], names=names)
                    if found is not None:
                        yield found
                        first = last
                        break
            first += 1

    def _number(self, plain: str, start: int, end: int, *, names: bool) -> tuple[int, int, Kind, str] | None:
        text = plain[start:end]
        digits = text if text.isdigit() else "".join(_GROUP.findall(text))
        whole, before = digits is text, plain[start - 1 : start]
        if whole and len(digits) in _GS1_LENGTHS and before not in ("+", "(") and gs1(digits):
            return (start, end, "id_number", digits) if _is_citizen(digits) else None  # else an article, or a pallet
        if whole and len(digits) == 17 and _is_citizen(text + plain[end : end + 1].upper()):
            return start, end + 1, "id_number", text + "X"
        called = _CALLS.search(plain, max(0, start - 16), start) is not None
        if _LATIN.match(plain, end) or (before and _LATIN.match(before) and not called):
            return None  # part of a code
        if before == "." and plain[start - 2 : start - 1].isdigit():
            return None  # the cents of an amount
        if len(digits) == 18 and _is_citizen(digits):
            return start, end, "id_number", digits
        if _CARDS.fullmatch(digits) and _IN_FOURS.fullmatch(text) and luhn(digits):
            return start, end, "card", digits
        plus = _PLUS.search(plain, max(0, start - 2), start)
        number = self._phone(text, digits, abroad=plus is not None, called=called, names=names)
        if number is None:
            return None
        opened = ")" in text and before == "("
        return start - opened if plus is None else plus.start(), end, "phone", number

    def _phone(self, text: str, digits: str, *, abroad: bool, called: bool, names: bool) -> str | None:
        """The number in E.164 where it is written as one dials it; None for every other number."""
        if not 8 <= len(digits) <= 17:
            return None
        whole = digits == text
        grouped = not whole and _IN_PAIRS.fullmatch(text) is not None
        if not names and digits.startswith("00") and digits[2] != "0" and (whole or grouped):
            abroad, digits = True, digits[2:]
        mobile = self._region == "CN" and _CHINESE_MOBILE.fullmatch(digits) is not None
        mobile = mobile and (_AS_A_MOBILE.fullmatch(text) is not None or (grouped and not names))
        trunk = 10 <= len(digits) <= 12 and digits[0] == "0" != digits[1] and (grouped or not (whole and names))
        if not (abroad or mobile or (trunk and (whole or grouped)) or (not names and (called or grouped))):
            return None
        import phonenumbers  # 20 ms and 3 MB that a shop whose tills write nothing like it does not need

        try:
            number = phonenumbers.parse(f"+{digits}" if abroad else digits, self._region)
        except phonenumbers.NumberParseException:
            return None
        if not phonenumbers.is_valid_number(number):
            return None
        if grouped and not (abroad or mobile or trunk or called):  # where one dials no nought: as it is printed there
            printed = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
            if _GROUP.findall(printed) != _GROUP.findall(text):
                return None
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _plain(text: str) -> str:
    """As it would be dialled: digits of every script and full-width ones as ASCII, no marks without width."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", text).translate(_DASHES)
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char
        for char in folded
        if unicodedata.category(char) != "Cf"
    )


def _is_citizen(number: str) -> bool:
    """Whether 18 characters are a citizen's number of China: province, a day of birth, and the right last one."""
    if len(number) != 18 or not number[:17].isdigit() or not "11" <= number[:2] <= "91":
        return False
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * pow(2, 17 - index, 11) for index, digit in enumerate(number[:17]))
    return born.year >= 1900 and number[17] == "10X98765432"[total % 11]


def _line_texts(lines: Iterable[Line]) -> Iterator[str]:
    for line in lines:
        for text in (line.description, line.sku, line.unit, line.original_transaction):
            if text is not None:
                yield text
        for discount in line.discounts:
            yield from (text for text in (discount.reason, discount.promotion_id, discount.coupon) if text is not None)


def _replaced(struct: S, fields: Mapping[str, Any]) -> S:
    """The struct with these values; the same one where they are the same."""
    changed = {name: value for name, value in fields.items() if value != getattr(struct, name)}
    return msgspec.structs.replace(struct, **changed) if changed else struct
