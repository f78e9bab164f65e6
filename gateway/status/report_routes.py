"""The page of reports, for staff: choose a day or a week, look at it, print it, load it as PDF, XLSX or CSV.

    /reports             choose                     /reports/view      the report itself, to read and print
    /reports/file        made and sent at once      /reports/progress  made while telling how far it is (SSE)
    /reports/made/TOKEN  what that made, once, for who asked

Plain links do without JavaScript; with it they show how far it is. Nothing is in the making once its viewer is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import date
from typing import Final, Protocol, cast
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from gateway.errors import StorefrontError
from gateway.reports.making import Order
from gateway.reports.render import Format
from gateway.reports.words import Language
from gateway.status.report_jobs import Made, ReportJobs
from gateway.status.session import Visitor, require, switched_language, visitor_of

FILES: Final[tuple[Format, ...]] = ("pdf", "xlsx", "csv")
_FORMATS: Final[tuple[Format, ...]] = (*FILES, "html", "json")
# A report brings its own style. It may look as it likes and do nothing: no script, no request, no form, no frame.
_SANDBOX: Final = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """A day or a week, and what is known of it. Days are the store's; `before` and `after` are its neighbours."""

    day: str
    week: bool
    first: str
    last: str
    first_ms: int  # noon of it
    last_ms: int
    today: str
    before: str
    after: str
    known: bool


class Reports(Protocol):
    """The desk, as far as these pages ask."""

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...

    async def chosen(self, day: str, *, week: bool) -> Chosen:
        """What a choice means; `day` "": today."""
        ...

    async def order(self, day: str, *, week: bool, format: Format, language: Language) -> Order:
        """All that making it takes."""
        ...


def routes(desk: Reports, language: Callable[[Request], str]) -> list[BaseRoute]:
    """All of them. `language`: the one a visitor wants."""
    jobs: list[ReportJobs] = []

    def made_here() -> ReportJobs:
        if not jobs:  # belongs to the loop that serves
            jobs.append(ReportJobs())
        return jobs[0]

    async def choose(request: Request) -> Response:
        if (switched := switched_language(request)) is not None:
            return switched
        asked = _asked(request)
        chosen = await desk.chosen(asked[0] if asked else "", week=asked[1] if asked else False)
        links = {
            name: urlencode({"day": chosen.day, "span": "week" if chosen.week else "day", "format": name})
            for name in FILES
        }
        values = {
            "problem": "",
            "wait_s": 0.0,
            "here": "/reports",
            "it": chosen,
            "links": links,
            "wrong": asked is None,
        }
        html = await desk.form("reports", language(request), visitor_of(request), values)
        status = 400 if asked is None else 200
        return Response(html, status, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    async def wanted(request: Request, format: str) -> Order | None:
        asked = _asked(request)
        if asked is None or format not in _FORMATS:
            return None
        return await desk.order(
            asked[0], week=asked[1], format=format, language=cast("Language", language(request))
        )  # fmt: skip

    async def file(request: Request) -> Response:
        order = await wanted(request, request.query_params.get("format", ""))
        if order is None:
            return _no_such()
        async for step in made_here().make(order, request.is_disconnected):
            if isinstance(step, Made):
                return _attached(step)
        return Response(status_code=499)  # nobody reads it

    async def view(request: Request) -> Response:
        order = await wanted(request, "html")
        if order is None:
            return _no_such()
        async for step in made_here().make(order, request.is_disconnected):
            if isinstance(step, Made):
                headers = {"content-security-policy": _SANDBOX, "vary": "Accept-Language, Cookie"}
                return Response(step.content, media_type="text/html", headers=headers)
        return Response(status_code=499)

    async def progress(request: Request) -> Response:
        order = await wanted(request, request.query_params.get("format", ""))
        if order is None:
            return _no_such()
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        return StreamingResponse(steps(request, order), media_type="text/event-stream")

    async def steps(request: Request, order: Order) -> AsyncIterator[bytes]:
        here, told = made_here(), -1.0
        try:
            async for step in here.make(order, request.is_disconnected):
                if isinstance(step, Made):
                    token = here.keep(step, visitor_of(request).session)
                    yield _event("made", {"url": f"/reports/made/{token}", "empty": step.empty})
                elif step > told:
                    told = step
                    yield _event("", {"done": step})
        except StorefrontError as error:
            yield _event("failed", {"reason": error.reason})

    async def made(request: Request) -> Response:
        found = made_here().take(request.path_params["token"], visitor_of(request).session)
        return PlainTextResponse("it is not here any more: make it again\n", 404) if found is None else _attached(found)

    staff = require("staff")
    return [
        Route("/reports", staff(choose)),
        Route("/reports/file", staff(file)),
        Route("/reports/view", staff(view)),
        Route("/reports/progress", staff(progress)),
        Route("/reports/made/{token}", staff(made)),
    ]


def _asked(request: Request) -> tuple[str, bool] | None:
    """Day ("": today) and whether its week; None when that is none."""
    day, span = request.query_params.get("day", ""), request.query_params.get("span", "day")
    if span not in ("day", "week"):
        return None
    if not day:
        return "", span == "week"
    try:
        known = date.fromisoformat(day)
    except ValueError:
        return None
    return (known.isoformat(), span == "week") if 1971 <= known.year < 9000 else None


def _attached(made: Made) -> Response:
    disposition = f"attachment; filename*=UTF-8''{quote(made.name)}"
    return Response(made.content, media_type=made.media_type, headers={"content-disposition": disposition})


def _event(name: str, data: object) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(data) + b"\n\n"


def _no_such() -> Response:
    return PlainTextResponse("day: as 2026-11-22; span: day or week; format: pdf, xlsx, csv, html or json\n", 400)
