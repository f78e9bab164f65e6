"""From a snapshot to HTML: the pages and the parts of them that are sent again when they change.

Templates escape everything; a text that a device gave is never markup. Knows Jinja and the languages; no port.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from gateway.access.accounts import Role, at_least
from gateway.status import words
from gateway.status.language import LANGUAGES, NAMES, Language
from gateway.status.session import Visitor
from gateway.status.snapshot import Snapshot
from gateway.status.today import Figure, Today
from gateway.status.verdict import troubles

HERE = Path(__file__).parent
PAGES: dict[str, tuple[str, ...]] = {
    "today": ("verdict", "trouble", "figures", "devices", "events", "delivery"),
    "devices": ("verdict", "trouble", "device_table"),
    "sync": ("verdict", "trouble", "delivery", "streams", "workers"),
}
"""The pages and the parts they are made of."""

STAFF_PARTS = frozenset({"events"})
"""Parts that tell of single sales and persons' doings: not for who is not signed in."""

_CHART_HEIGHT = 64
_HOURS_LEAST = 12
_HOUR_MS = 3_600_000


class Page:
    """Renders. One thread uses it."""

    def __init__(self, time_zone: str) -> None:
        """Read templates and catalogues.

        Args:
            time_zone: the store's, IANA.
        """
        self._languages = {name: Language(name, time_zone) for name in LANGUAGES}
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, auto_reload=False,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.globals.update(words=words, names=NAMES, bars=bars, assets=asset_version())

    def page(self, name: str, snapshot: Snapshot, language: str, visitor: Visitor = Visitor()) -> str:  # noqa: B008
        """A whole page for a visitor, ready without JavaScript."""
        values = self._values(snapshot, language, visitor.role)
        parts = [(part, Markup(self._part(part, values))) for part in parts_of(name, visitor.role)]
        return self._environment.get_template("page.html").render(page=name, parts=parts, visitor=visitor, **values)

    def parts(self, name: str, snapshot: Snapshot, language: str, role: Role = "viewer") -> dict[str, str]:
        """The parts of a page by their element's id, for everybody in that role."""
        values = self._values(snapshot, language, role)
        return {part: self._part(part, values) for part in parts_of(name, role)}

    def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> str:
        """A page that is no picture of the store: template `name` with these values, `t`, `_`, `say`, `visitor`."""
        speaker = self._languages[language]
        return self._environment.get_template(f"{name}.html").render(
            t=speaker, _=speaker.text, say=speaker.say, visitor=visitor, role=visitor.role, **values
        )

    def _part(self, part: str, values: dict[str, Any]) -> str:
        return self._environment.get_template(f"{part}.html").render(**values)

    def _values(self, snapshot: Snapshot, language: str, role: Role = "viewer") -> dict[str, Any]:
        speaker = self._languages[language]
        return {
            "s": snapshot,
            "role": role,
            "t": speaker,
            "_": speaker.text,
            "say": speaker.say,
            "troubles": troubles(snapshot),
            "why": Why(speaker),
        }


def parts_of(name: str, role: Role) -> tuple[str, ...]:
    """The parts of a page that are for a role."""
    return tuple(part for part in PAGES[name] if part not in STAFF_PARTS or at_least(role, "staff"))


class Why:
    """Says why a figure is not there, or how far it holds."""

    def __init__(self, language: Language) -> None:
        """`language`: to say it in."""
        self._language = language

    def __call__(self, figure: Figure, about: str = "people") -> str:
        """The reason in words; "" when there is nothing to say."""
        key = f"not_set_up:{about}" if figure.reason == "not_set_up" else figure.reason
        if not key:
            key = "counter_dark" if figure.at_least else ""
        return self._language.say(words.REASONS[key], {"dark_s": figure.dark_s or 0.0}) if key else ""


def bars(today: Today) -> list[tuple[int, int | None, int, int | None, int]]:
    """The hourly chart: instant, people in and their bar's height, sales and theirs (0 to 64 units).

    At least twelve hours, so that the picture is steady; the newest 24 on a day of 25.
    """
    if not today.hours:
        return []
    first = today.hours[0].hour_ms
    last = max(today.hours[-1].hour_ms, first + (_HOURS_LEAST - 1) * _HOUR_MS)
    known = {hour.hour_ms: hour for hour in today.hours}
    most = max(max(hour.people_in or 0, hour.sales or 0) for hour in today.hours) or 1
    rows = []
    for at in range(first, last + 1, _HOUR_MS):
        hour = known.get(at)
        people, sold = (hour.people_in, hour.sales) if hour else (None, None)
        rows.append((at, people, _height(people, most), sold, _height(sold, most)))
    return rows[-24:]


def _height(value: int | None, most: int) -> int:
    return 0 if not value else max(2, round(value * _CHART_HEIGHT / most))


def asset_version() -> str:
    """Changes with the style and the script, so a browser never mixes versions."""
    digest = blake2b(digest_size=4)
    for path in sorted((HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
