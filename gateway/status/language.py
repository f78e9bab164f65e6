"""Two languages, one way to say things: texts from the catalogues, numbers, money, times and durations from Babel.

`%(name)s` in a text is replaced by its parameter, written out by the unit in its name: `_s` a duration, `_bytes` a
size, `_money` an amount with its currency; a number with the language's grouping, anything else as it is. Never HTML:
escaping is the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_time
from babel.messages.pofile import read_po
from babel.numbers import format_compact_decimal, format_currency, format_decimal, format_percent

from gateway.status import words

LANGUAGES = ("zh_CN", "en")
NAMES = {"zh_CN": "中文", "en": "English"}
LOCALE = Path(__file__).parent / "locale"
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
_GRAND = 1_000_000


class Language:
    """One language, ready to speak. Any thread may use it."""

    def __init__(self, name: str, time_zone: str) -> None:
        """Read the catalogue.

        Args:
            name: `zh_CN` or `en`.
            time_zone: the store's, IANA.
        """
        self.name = name
        self.tag = name.replace("_", "-")
        self.zone = time_zone
        self._locale = Locale.parse(name)
        self._zone = ZoneInfo(time_zone)
        self._texts = _texts(name)

    def text(self, message: str) -> str:
        """The message in this language; itself where the catalogue has none."""
        return self._texts.get(message, message)

    def say(self, message: str, parameters: Mapping[str, object] | None = None) -> str:
        """The message with its parameters written out."""
        given = parameters or {}
        return _PLACEHOLDER.sub(lambda found: self._written(found[1], given.get(found[1], "")), self.text(message))

    def number(self, value: Decimal | float, places: int = 0) -> str:
        """A number, grouped; from a million on in short form on big figures' behalf."""
        if isinstance(value, int) and -_GRAND < value < _GRAND:
            return f"{value:,}"  # as both languages group it; Babel takes fifty times as long
        if places == 0 and not -_GRAND < value < _GRAND:
            return str(format_compact_decimal(value, locale=self._locale, fraction_digits=2))
        return str(format_decimal(value, format="#,##0." + "#" * places if places else "#,##0", locale=self._locale))

    def money(self, value: Decimal, currency: str, *, whole: bool = False) -> str:
        """An amount of money; `whole` leaves the small change of a big one out."""
        if not re.fullmatch("[A-Z]{3}", currency):
            return f"{format_decimal(value, locale=self._locale)} {currency}".strip()
        short = whole and abs(value) >= 1000
        pattern = "¤#,##0;-¤#,##0" if short else None
        text = str(format_currency(value, currency, pattern, self._locale, currency_digits=not short))
        return text.replace("CN¥", "¥")  # there is no other yen or yuan in a shop

    def percent(self, share: Decimal | float, places: int = 1) -> str:
        """A share of one in percent."""
        return str(
            format_percent(share, format="#,##0." + "0" * places + "%" if places else "#,##0%", locale=self._locale)
        )

    def time(self, at_ms: int, seconds: bool = False) -> str:
        """The time of day in the store."""
        return str(format_time(self._at(at_ms), "HH:mm:ss" if seconds else "HH:mm", locale=self._locale))

    def date(self, at_ms: int) -> str:
        """The day in the store, with its weekday."""
        return str(format_date(self._at(at_ms), "full", locale=self._locale))

    def weekday(self, at_ms: int) -> str:
        """The name of the day in the store."""
        return str(format_date(self._at(at_ms), "EEEE", locale=self._locale))

    def signed(self, value: Decimal | float) -> str:
        """A whole number that may lie on either side of zero."""
        sign = "+" if value > 0 else "−" if value < 0 else ""
        return sign + self.number(max(value, -value))

    def moment(self, at_ms: int, now_ms: int) -> str:
        """A time today, or a day and a time."""
        at = self._at(at_ms)
        time = self.time(at_ms)
        if at.date() == self._at(now_ms).date():
            return time
        return f"{format_date(at, 'medium', locale=self._locale)} {time}"

    def stamp(self, at_ms: int) -> str:
        """A day and a time."""
        return f"{format_date(self._at(at_ms), 'medium', locale=self._locale)} {self.time(at_ms, seconds=True)}"

    def hour(self, at_ms: int) -> str:
        """The hour of the day, two digits."""
        return f"{self._at(at_ms).hour:02d}"

    def iso(self, at_ms: int) -> str:
        """The instant for machines."""
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")

    def duration(self, seconds: float) -> str:
        """About how long, in its biggest unit (and the next one for hours)."""
        whole = int(max(0.0, seconds))
        if whole < 60:
            return self.say(words.UNDER_A_MINUTE)
        if whole < 5400:
            return self.say(words.MINUTES, {"number": (whole + 30) // 60})
        if whole < 129_600:
            return self.say(words.HOURS, {"number": (whole + 1800) // 3600})
        return self.say(words.DAYS, {"number": (whole + 43_200) // 86_400})

    def ago(self, seconds: float) -> str:
        """How long ago."""
        if seconds < 60:
            return self.text(words.JUST_NOW)
        return self.say(words.AGO, {"span_s": seconds})

    def size(self, size_bytes: float) -> str:
        """Bytes in a readable unit."""
        for unit in ("B", "KiB", "MiB"):
            if abs(size_bytes) < 1024:
                return f"{self.number(size_bytes, 0 if unit == 'B' else 1)} {unit}"
            size_bytes /= 1024
        return f"{self.number(size_bytes, 1)} GiB"

    def _written(self, name: str, value: object) -> str:
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            if name.endswith("_money"):
                return self._amount(str(value))
            if name == "streams":
                return self.text(words.COMMA).join(self._written("stream", it) for it in str(value).split(", "))
            known = _KNOWN.get(name, {}).get(str(value))
            return self.text(known) if known else str(value)
        if name.endswith("_s"):
            return self.duration(float(value))
        if name.endswith("_bytes"):
            return self.size(float(value))
        return self.number(value, 0 if isinstance(value, int) else 1)

    def _amount(self, text: str) -> str:
        number, _, currency = text.partition(" ")
        try:
            amount = Decimal(number)
        except InvalidOperation:
            return text
        if not amount.is_finite() or abs(amount) > Decimal(10) ** 12:
            return text
        return self.money(amount, currency)

    def _at(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(self._zone)


_KNOWN: dict[str, Mapping[str, str]] = {
    "condition": words.CONDITIONS,
    "step": words.STEPS,
    "quantity": words.QUANTITIES,
    "stream": words.STREAMS,
    "outcome": words.OUTCOMES,
    "kind": {kind: advice.title for kind, advice in words.PLUGGED.items()},
}


def choose(cookie: str, accept: str, fallback: str) -> str:
    """The language for a visitor: the kept choice, else what the browser prefers, else the shop's."""
    if cookie in LANGUAGES:
        return cookie
    wishes: list[tuple[float, int, str]] = []
    for index, part in enumerate(accept[:500].split(",")):
        tag, _, quality = part.strip().partition(";q=")
        language = {"zh": "zh_CN", "en": "en"}.get(tag.lower().split("-")[0])
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if language and weight > 0:
            wishes.append((-weight, index, language))
    return min(wishes)[2] if wishes else fallback


def _texts(name: str) -> dict[str, str]:
    """The catalogue; none for the source language."""
    path = LOCALE / name / "messages.po"
    if not path.exists():
        return {}
    with path.open("rb") as file:
        catalogue = read_po(file, locale=name)
    return {
        message.id: message.string
        for message in catalogue
        if isinstance(message.id, str) and message.id and isinstance(message.string, str) and message.string
    }
