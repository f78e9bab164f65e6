"""The addresses of the page and what each answers. Knows HTTP; what it tells comes from a `Desk`.

`/` `/devices` `/sync` `/wall`  pages, complete without JavaScript; `/live?page=…`: their parts as they change (SSE)
`/api/status`           the `Snapshot` as JSON                  `/api/status/schema`  its JSON Schema
`/api/recognition`      members with a hint who are in the shop, for staff
`/api/events?stream=&limit=`  newest events, for staff          `/healthz`, `/metrics`  for machines
`/reports`              for staff, see `report_routes`
`/quarantine`           for managers, see `quarantine`   `/alerts`  takes what staff do with one
`/settings/…` `/clicker` see `setup_routes`, `clicker_routes`   `/privacy`  the notice, open
`/setup` `/sign-in` `/account` `/accounts` `/audit`  see `sign_in`
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from config.settings import Settings
from gateway.access.accounts import Role
from gateway.alerts.desk import AlertDesk
from gateway.errors import StorefrontError
from gateway.event import STREAMS, Stream
from gateway.event_types import AuditRecorded
from gateway.journal.quarantine import Quarantined
from gateway.reports.making import Order
from gateway.reports.render import Format
from gateway.reports.words import Language
from gateway.status.alert_routes import routes as alert_routes
from gateway.status.camera_routes import CameraDesk, camera_routes
from gateway.status.clicker_routes import clicker_routes
from gateway.status.language import choose
from gateway.status.notice import notice_of
from gateway.status.page import HERE, PAGES
from gateway.status.quarantine import Replayed
from gateway.status.quarantine import routes as quarantine_routes
from gateway.status.report_routes import Chosen
from gateway.status.report_routes import routes as report_routes
from gateway.status.session import LANGUAGE_COOKIE, Visitor, WriteRoute, door_of, require, switched_language, visitor_of
from gateway.status.session import Busy as Busy
from gateway.status.setup_routes import setup_routes
from gateway.status.setup_values import SetupDesk
from gateway.status.sign_in import routes as access_routes
from gateway.status.snapshot import Snapshot, not_healthy
from gateway.status.verdict import Trouble, troubles

VIEWERS = 40  # at most; a page beyond that still reloads by itself
LIVE_EVERY_S = 0.5
_STILL_THERE_S = 15.0
_EVENTS = 100
_EVENTS_MOST = 500
_PERSONAL = frozenset(
    {"shopper", "loyalty", "payer", "linked", "replaced", "operator", "day_key", "text", "consentref"}
)

_encode = msgspec.json.Encoder(decimal_format="string").encode


class Status(msgspec.Struct, frozen=True):
    """What `/api/status` gives: the snapshot, and what needs a hand."""

    status: Snapshot
    troubles: list[Trouble]


class Desk(Protocol):
    """Who answers: on the loop's thread, in bounded time."""

    stopping: asyncio.Event

    async def snapshot(self) -> Snapshot:
        """The present state, at most half a second old."""
        ...

    async def page(self, name: str, language: str, visitor: Visitor) -> bytes:
        """A page, rendered."""
        ...

    async def parts(self, name: str, language: str, role: Role) -> dict[str, str]:
        """A page's parts, rendered."""
        ...

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...

    async def acts(self, limit: int) -> list[AuditRecorded]:
        """The newest records of the audit trail, newest first."""
        ...

    async def quarantine(self, before: int | None, limit: int) -> Sequence[Quarantined]:
        """Entries of the quarantine, newest first."""
        ...

    async def quarantined(self, entry: int) -> tuple[Quarantined, bytes]:
        """One of them, opened."""
        ...

    async def replay(self, entry: int, wait_s: float) -> Replayed | None:
        """Have it tried again."""
        ...

    async def chosen(self, day: str, *, week: bool) -> Chosen:
        """What a choice on the page of reports means."""
        ...

    async def order(self, day: str, *, week: bool, format: Format, language: Language) -> Order:
        """All that making a report takes."""
        ...

    async def events(self, stream: Stream, limit: int) -> list[bytes]:
        """The newest events' bytes, newest first."""
        ...

    async def metrics(self) -> tuple[bytes, str]:
        """The metrics' text and its content type."""
        ...


def application(
    desk: Desk, default_language: str, cameras: Callable[[], CameraDesk | None] = lambda: None,
    alerts: AlertDesk | None = None, setup: Callable[[], SetupDesk] | None = None,
    settings: Callable[[], Settings] = Settings,
) -> Starlette:  # fmt: skip
    """The whole site.

    Args:
        desk: answers for the gateway.
        default_language: of who has no wish.
        cameras: who answers for the cameras, where there are any.
        alerts: where they are kept, where there is any.
        setup: who sets the shop up; None: nobody does, and there are no such pages.
        settings: those that run.
    """

    def language(request: Request) -> str:
        return _language(request, default_language)

    def tests() -> Sequence[object]:
        return [] if (found := cameras()) is None else found.test_views()

    return Starlette(
        routes=[
            *(Route(plan.path, _page(desk, name, default_language)) for name, plan in PAGES.items() if plan.parts),
            Route("/live", _live(desk, default_language)),
            Route("/api/status", _status(desk)),
            Route("/api/status/schema", _schema),
            Route("/api/events", require("staff")(_events(desk))),
            Route("/api/recognition", require("staff")(_guests(desk))),
            Route("/healthz", _healthz(desk)),
            Route("/metrics", _metrics(desk)),
            *camera_routes(cameras),
            *(alert_routes(alerts) if alerts is not None else ()),
            *access_routes(desk, language, "/" if setup is None else PAGES["setup"].path),
            *quarantine_routes(desk, language),
            *([] if setup is None else setup_routes(desk, setup, language, tests)),
            *clicker_routes(desk, cameras, language),
            Route("/privacy", _privacy(desk, settings, language)),
            *report_routes(desk, language),
            Mount("/static", StaticFiles(directory=HERE / "static", follow_symlink=False)),
        ],
        exception_handlers={StorefrontError: _sorry},
    )


def body_limit(app: Starlette) -> Callable[[Scope], int | None]:
    """The longest body that a path takes, by the application's own routes; None where it takes no writes."""
    writes = [route for route in app.routes if isinstance(route, WriteRoute)]

    def limit(scope: Scope) -> int | None:
        return next((route.max_bytes for route in writes if route.path_regex.match(scope["path"])), None)

    return limit


Endpoint = Callable[[Request], Awaitable[Response]]


def _page(desk: Desk, name: str, default: str) -> Endpoint:
    async def page(request: Request) -> Response:
        if (switched := switched_language(request)) is not None:
            return switched
        visitor = visitor_of(request)
        if name == "today" and not visitor.founded and not (await desk.snapshot()).devices:
            return RedirectResponse("/setup", 303)  # a new box: there is nothing to see before it is set up
        html = await desk.page(name, _language(request, default), visitor)
        return Response(html, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    return page


def _live(desk: Desk, default: str) -> Endpoint:
    viewers = 0

    async def live(request: Request) -> Response:
        name = request.query_params.get("page", "today")
        if name not in PAGES or not PAGES[name].parts:
            return PlainTextResponse("no such page\n", 404)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if viewers >= VIEWERS:
            return PlainTextResponse("too many viewers\n", 503, headers={"retry-after": "30"})
        return StreamingResponse(changes(request, name, _language(request, default)), media_type="text/event-stream")

    async def changes(request: Request, name: str, language: str) -> AsyncIterator[bytes]:
        nonlocal viewers
        viewers += 1
        role, door = visitor_of(request).role, door_of(request)
        every_s = LIVE_EVERY_S * PAGES[name].pace
        try:
            shown: dict[str, str] = {}
            quiet_s = 0.0
            yield b"retry: 3000\n\n"
            while not desk.stopping.is_set():
                if door.visitor(request, touch=False).role != role:  # signed out meanwhile, elsewhere or by time
                    yield b"event: role\ndata: {}\n\n"
                    return
                try:
                    parts = await desk.parts(name, language, role)
                except StorefrontError:
                    parts = {}  # the reader sees that nothing comes; the next look may succeed
                changed = {part: html for part, html in parts.items() if shown.get(part) != html}
                shown.update(changed)
                quiet_s = 0.0 if changed else quiet_s + every_s
                if changed:
                    yield b"data: " + _encode(changed) + b"\n\n"
                elif quiet_s >= _STILL_THERE_S:
                    quiet_s = 0.0
                    yield b": still there\n\n"
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(desk.stopping.wait(), _until_next_look(every_s))
        finally:
            viewers -= 1

    return live


def _until_next_look(every_s: float) -> float:
    """All viewers look at the same moments, so that one look and one rendering serve them all."""
    return every_s - asyncio.get_running_loop().time() % every_s


def _status(desk: Desk) -> Endpoint:
    async def status(request: Request) -> Response:
        snapshot = await desk.snapshot()
        wrong = troubles(snapshot)
        if not visitor_of(request).may("staff"):
            snapshot = msgspec.structs.replace(snapshot, events=(), guests=())
        return Response(_encode(Status(snapshot, wrong)), media_type="application/json")

    return status


async def _schema(request: Request) -> Response:
    return Response(_encode(msgspec.json.schema(Status)), media_type="application/schema+json")


def _events(desk: Desk) -> Endpoint:
    async def events(request: Request) -> Response:
        wanted = request.query_params.get("stream", "")
        limit = request.query_params.get("limit", str(_EVENTS))
        streams: list[Stream] = [stream for stream in STREAMS if wanted in ("", stream)]
        if not streams or not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= _EVENTS_MOST):
            return PlainTextResponse(f"stream: {', '.join(STREAMS)}; limit: 1 to {_EVENTS_MOST}\n", 400)
        found = [msgspec.json.decode(event) for stream in streams for event in await desk.events(stream, int(limit))]
        found.sort(key=lambda event: str(event.get("recordedtime")), reverse=True)
        return Response(
            _encode([without_persons(event) for event in found[: int(limit)]]), media_type="application/json"
        )

    return events


def _guests(desk: Desk) -> Endpoint:
    async def guests(request: Request) -> Response:
        lane = request.query_params.get("lane", "")
        found = [guest for guest in (await desk.snapshot()).guests if lane in ("", guest.lane)]
        return Response(_encode(found), media_type="application/json", headers={"cache-control": "no-store"})

    return guests


def _healthz(desk: Desk) -> Endpoint:
    async def healthz(request: Request) -> Response:
        reasons = not_healthy(await desk.snapshot())
        body = _encode({"ok": not reasons, "reasons": reasons})
        return Response(body, 503 if reasons else 200, media_type="application/json")

    return healthz


def _privacy(desk: Desk, settings: Callable[[], Settings], language: Callable[[Request], str]) -> Endpoint:
    async def privacy(request: Request) -> Response:
        if (switched := switched_language(request)) is not None:
            return switched
        values = {
            "problem": "", "wait_s": 0.0, "here": "/privacy", "n": notice_of(settings()),
            "at_ms": (await desk.snapshot()).at_ms,
        }  # fmt: skip
        html = await desk.form("privacy", language(request), visitor_of(request), values)
        return Response(html, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    return privacy


def _metrics(desk: Desk) -> Endpoint:
    async def metrics(request: Request) -> Response:
        text, content_type = await desk.metrics()
        return Response(text, headers={"content-type": content_type})

    return metrics


def without_persons(value: Any) -> Any:
    """An event's JSON without the fields that stand for a person or may hold one's words."""
    if isinstance(value, dict):
        return {name: without_persons(inner) for name, inner in value.items() if name not in _PERSONAL}
    if isinstance(value, list):
        return [without_persons(inner) for inner in value]
    return value


async def _sorry(request: Request, error: Exception) -> Response:
    assert isinstance(error, StorefrontError)
    return PlainTextResponse(f"{error.reason}\n{error.hint}\n", 503, headers={"retry-after": "2"})


def _language(request: Request, default: str) -> str:
    return choose(request.cookies.get(LANGUAGE_COOKIE, ""), request.headers.get("accept-language", ""), default)
