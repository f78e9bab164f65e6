"""From a snapshot to HTML: the pages and the parts of them that are sent again when they change.

Templates escape everything; a text that a device gave is never markup. Knows Jinja and the languages; no port.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup, escape

from gateway.access.accounts import Role, at_least
from gateway.alerts.desk import SNOOZES_S
from gateway.status import setup_words, words
from gateway.status.chart import BAR_HEIGHT, WALL_WIDTH, WIDTH, chart
from gateway.status.floor import Floor, floor
from gateway.status.language import LANGUAGES, NAMES, Language
from gateway.status.reasons import reason
from gateway.status.session import Visitor
from gateway.status.snapshot import Device, PluggedDevice, Snapshot
from gateway.status.tiles import tiles
from gateway.status.verdict import Trouble, trouble_of, troubles

HERE = Path(__file__).parent
_TYPED = re.compile("`([^`]{1,200})`")

STAFF_PARTS = frozenset({"events", "guests"})
"""Parts that tell of single sales and persons' doings: not for who is not signed in."""


class PagePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A page: where it is, the parts it is made of, and the template around them.

    `parts` (): it has a route of its own and is only named here. `pace`: a viewer is told of changes at every so many
    of the live looks. `menu`: it is in the navigation, under its name of
    `words.PAGES`, for those in `role` and above.
    """

    path: str
    parts: tuple[str, ...] = ()
    pace: int = 2
    menu: bool = True
    role: Role = "viewer"
    frame: str = "page.html"


PAGES: dict[str, PagePlan] = {
    "today": PagePlan(
        path="/",
        pace=1,
        parts=("verdict", "trouble", "guests", "figures", "hours", "floor", "devices", "events", "delivery"),
    ),
    "devices": PagePlan(path="/devices", parts=("verdict", "trouble", "plugged", "device_table")),
    "sync": PagePlan(path="/sync", parts=("verdict", "trouble", "sending", "streams", "coupons", "workers")),
    "alerts": PagePlan(path="/alerts", parts=("verdict", "alerts_now", "alerts_past")),
    "reports": PagePlan(path="/reports", role="staff"),
    "wall": PagePlan(path="/wall", parts=("wall", "wall_hours"), pace=1, frame="wall_frame.html"),
    "clicker": PagePlan(path="/clicker", role="staff"),
    "setup": PagePlan(path="/settings", role="manager"),
    "quarantine": PagePlan(path="/quarantine", role="manager"),
    "accounts": PagePlan(path="/accounts", role="manager"),
    "audit": PagePlan(path="/audit", role="manager"),
}
"""The pages in the order of the navigation. A page of another room adds itself here."""


STEADY = {"hours": "chart", "wall_hours": "chart", "floor": "floor"}
"""Parts that show one drawing and nothing else of the moment: half of all that is rendered, and seldom different."""


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
        self._environment.filters["coded"] = coded
        self._environment.globals.update(
            words=words, names=NAMES, assets=asset_version(), by_need=by_need, stanza=stanza, setup=setup_words,
            when=when,
            chart_size=(WIDTH, WALL_WIDTH, BAR_HEIGHT), snoozes=SNOOZES_S,
            because=because,
        )  # fmt: skip
        self._drawn: tuple[object, Floor | None] = (None, None)
        self._of: Snapshot | None = None  # whose parts these are
        self._shared: dict[str, Any] = {}
        self._said: dict[tuple[str, Role], dict[str, Any]] = {}
        self._parts: dict[tuple[str, str, Role], str] = {}
        self._steady: dict[tuple[str, str], tuple[object, str]] = {}

    def page(self, name: str, snapshot: Snapshot, language: str, visitor: Visitor = Visitor()) -> str:  # noqa: B008
        """A whole page for a visitor, ready without JavaScript."""
        values = self._values(snapshot, language, visitor.role)
        parts = [
            (part, Markup(self._rendered(part, snapshot, language, visitor.role)))
            for part in parts_of(name, visitor.role)
        ]
        return self._environment.get_template(PAGES[name].frame).render(
            page=name, parts=parts, visitor=visitor, menu=menu(visitor.role), **values
        )

    def parts(self, name: str, snapshot: Snapshot, language: str, role: Role = "viewer") -> dict[str, str]:
        """The parts of a page by their element's id, for everybody in that role."""
        return {part: self._rendered(part, snapshot, language, role) for part in parts_of(name, role)}

    def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> str:
        """A page that is no picture of the store: template `name` with these values, `t`, `_`, `say`, `visitor`."""
        speaker = self._languages[language]
        return self._environment.get_template(f"{name}.html").render(
            t=speaker, _=speaker.text, say=speaker.say, visitor=visitor, role=visitor.role, menu=menu(visitor.role),
            **values,
        )  # fmt: skip

    def _part(self, part: str, values: dict[str, Any]) -> str:
        return self._environment.get_template(f"{part}.html").render(**values)

    def _rendered(self, part: str, snapshot: Snapshot, language: str, role: Role) -> str:
        """A part of this snapshot, rendered once for all pages that have it."""
        values = self._values(snapshot, language, role)
        key = part, language, role
        if key not in self._parts:
            self._parts[key] = self._kept(part, language, values)
        return self._parts[key]

    def _kept(self, part: str, language: str, values: dict[str, Any]) -> str:
        """A part, kept from one snapshot to the next where all that it shows is the same drawing."""
        shown = values.get(STEADY.get(part, ""))
        if shown is None:
            return self._part(part, values)
        kept = self._steady.get((part, language))
        if kept is None or kept[0] != shown:
            kept = self._steady[part, language] = shown, self._part(part, values)
        return kept[1]

    def _values(self, snapshot: Snapshot, language: str, role: Role = "viewer") -> dict[str, Any]:
        """What templates see; made once for a snapshot and shared by everybody who looks at it."""
        day = snapshot.today
        if self._of is not snapshot:
            self._of = snapshot
            self._parts.clear()
            self._said.clear()
            self._shared = {
                "s": snapshot,
                "troubles": troubles(snapshot),
                "chart": None if day is None else chart(day, snapshot.at_ms),
                "floor": self._floor(snapshot),
            }
        if (language, role) not in self._said:
            speaker = self._languages[language]
            self._said[language, role] = {
                **self._shared,
                "role": role,
                "t": speaker,
                "_": speaker.text,
                "say": speaker.say,
                "tiles": [] if day is None else tiles(day, speaker, snapshot.at_ms),
            }
        return self._said[language, role]

    def _floor(self, snapshot: Snapshot) -> Floor | None:
        """The drawing, made anew only when something on it differs: a heat map has a thousand cells."""
        shown = snapshot.plan, snapshot.places, snapshot.heats
        if self._drawn[0] != shown:
            self._drawn = shown, floor(*shown)
        return self._drawn[1]


def parts_of(name: str, role: Role) -> tuple[str, ...]:
    """The parts of a page that are for a role."""
    return tuple(part for part in PAGES[name].parts if part not in STAFF_PARTS or at_least(role, "staff"))


def menu(role: Role) -> dict[str, PagePlan]:
    """The navigation of those in a role."""
    return {name: plan for name, plan in PAGES.items() if plan.menu and at_least(role, plan.role)}


def by_need(snapshot: Snapshot) -> list[tuple[Device, Trouble | None]]:
    """The devices with what is wrong with each, those that need a hand first, else in the configuration's order."""
    rows = [(device, trouble_of(device, snapshot)) for device in snapshot.devices]
    return sorted(rows, key=lambda row: row[1] is None)


def stanza(plugged: PluggedDevice) -> str:
    """What to write into the configuration to add it, with the likeliest driver."""
    driver = plugged.drivers[0]
    fields = {"name": f"{driver}-1", "driver": driver, "address": plugged.address}
    return "\n".join(["[[devices]]", *(f"{name} = {json.dumps(value)}" for name, value in fields.items())])


def coded(text: str) -> Markup:
    """A text in which `what stands between backticks` is to be typed, as HTML."""
    return Markup(_TYPED.sub(r"<code>\1</code>", str(escape(text))))


def because(speaker: Language, *texts: str) -> Markup:
    """Reason and hint as the gateway gives them, as HTML: in the visitor's language where they are known."""
    told = []
    for said, known in (reason(speaker, text) for text in texts if text):
        told.append(coded(said) if known else Markup('<span lang="en">{}</span>').format(coded(said)))
    return Markup(" — ").join(told)


def when(text: str) -> int:
    """An RFC 3339 text as milliseconds of the epoch."""
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def asset_version() -> str:
    """Changes with the style and the script, so a browser never mixes versions."""
    digest = blake2b(digest_size=4)
    for path in sorted((HERE / "static").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()
