"""What was set aside, for a manager: the list, one message opened, and trying it again; acts go into the audit trail.

A message may hold anything, a card number too: it is opened one at a time, for a person who asks, and shown as text or
hexadecimal digits. Knows forms; what a message means is its driver's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.errors import Rejected
from gateway.journal.quarantine import Quarantined
from gateway.status.session import Visitor, WriteRoute, fields, record, require, visitor_of

PAGE = 50  # entries
REPLAY_S = 5.0  # how long a visitor waits for the outcome; it is done all the same
_SHOWN_BYTES = 4096


class Replayed(Protocol):
    """What became of a message that was tried again (`gateway.workers.replay_requests.Outcome`)."""

    @property
    def outcome(self) -> str:
        """`appended`, `rejected`, `nothing` or `not_held`."""
        ...

    @property
    def events(self) -> int:
        """How many events it became."""
        ...

    @property
    def reason(self) -> str:
        """Why it did not."""
        ...


class Keeps(Protocol):
    """The desk, as far as these pages ask."""

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...

    async def quarantine(self, before: int | None, limit: int) -> Sequence[Quarantined]:
        """Entries, newest first, those with an id below `before`."""
        ...

    async def quarantined(self, entry: int) -> tuple[Quarantined, bytes]:
        """One entry with its message, opened. Raises Rejected: there is none, or no key opens it."""
        ...

    async def replay(self, entry: int, wait_s: float) -> Replayed | None:
        """Have it tried again; None when that is not done in time."""
        ...


def routes(desk: Keeps, language: Callable[[Request], str]) -> list[BaseRoute]:
    """All of them. `language`: the one a visitor wants."""

    async def show(request: Request, status: int = 200, **values: object) -> Response:
        defaults: dict[str, object] = {
            "problem": "", "wait_s": 0.0, "here": "/quarantine", "entries": (), "entry": None, "text": "",
            "is_text": True, "cut": 0, "more": None, "outcome": None, "refused": "",
        }  # fmt: skip
        html = await desk.form("quarantine", language(request), visitor_of(request), defaults | values)
        return Response(html, status, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    async def listed(request: Request) -> Response:
        asked = request.query_params.get("before", "")
        before = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 19 else None
        found = await desk.quarantine(before, PAGE)
        return await show(request, entries=found, more=found[-1].id if len(found) == PAGE else None)

    async def opened(request: Request) -> Response:
        entry = request.path_params["entry"]
        await record(request, "quarantine.open", str(entry))
        try:
            found, payload = await desk.quarantined(entry)
        except Rejected as error:
            return await show(request, 404, refused=f"{error.reason} ({error.hint})" if error.hint else error.reason)
        text, is_text = readable(payload[:_SHOWN_BYTES])
        return await show(
            request, entry=found, text=text, is_text=is_text, cut=max(0, len(payload) - _SHOWN_BYTES)
        )  # fmt: skip

    async def replay(request: Request) -> Response:
        asked = (await fields(request)).get("entry", "")
        if not (asked.isascii() and asked.isdigit() and len(asked) < 19):
            return PlainTextResponse("no such entry\n", 400)
        await record(request, "quarantine.replay", asked)
        outcome = await desk.replay(int(asked), REPLAY_S)
        if outcome is None:
            return RedirectResponse("/quarantine", 303)
        found = await desk.quarantine(int(asked) + 1, 1)
        return await show(request, outcome=outcome, entries=found, more=None)

    manager = require("manager")
    return [
        Route("/quarantine", manager(listed)),
        WriteRoute("/quarantine/replay", manager(replay), max_bytes=1024, read=False),
        Route("/quarantine/{entry:int}", manager(opened)),
    ]


def readable(payload: bytes) -> tuple[str, bool]:
    """The message as text where it is some, else as hexadecimal digits, sixteen bytes a line."""
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(payload) - 4 or not payload[: error.start]:
            return "\n".join(payload[at : at + 16].hex(" ") for at in range(0, len(payload), 16)), False
        text = payload[: error.start].decode("utf-8")  # cut within a letter
    if any(not letter.isprintable() and letter not in "\r\n\t" for letter in text):
        return "\n".join(payload[at : at + 16].hex(" ") for at in range(0, len(payload), 16)), False
    return text, True
