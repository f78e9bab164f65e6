"""The clicker: a person at the door taps in and out for a quarter of an hour; a report says how far it is off.

Works without JavaScript, one tap a request; the script on top keeps taps while the network is away and sends them later
with their own time (`/api/tests/…`). Knows forms; what a test is, is a `CameraDesk`'s.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.errors import Rejected, StorefrontError, Unavailable
from gateway.status.camera_routes import CameraDesk
from gateway.status.session import (
    Visitor,
    WriteRoute,
    door_of,
    fields,
    reads,
    record,
    require,
    switched_language,
    visitor_of,
)

_SHOWN = 50  # tests of the history
_MINUTES = (15, 5, 30, 60)


class Desk(Protocol):
    """The page's desk, as far as these pages ask."""

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...


def clicker_routes(
    desk: Desk, find: Callable[[], CameraDesk | None], language: Callable[[Request], str]
) -> list[BaseRoute]:
    """All of them. `find`: who answers for the cameras, None while there is none."""

    async def show(request: Request, template: str, status: int = 200, /, **values: object) -> Response:
        if (switched := switched_language(request)) is not None:
            return switched
        defaults: dict[str, object] = {"problem": "", "wait_s": 0.0, "here": "/clicker", "problem_": None}
        html = await desk.form(template, language(request), visitor_of(request), defaults | values)
        return Response(html, status, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    async def listed(request: Request, problem: StorefrontError | None = None) -> Response:
        cameras = find()
        work = door_of(request).work
        views: list[Any] = [] if cameras is None else list(await work(cameras.views))
        tests: list[Any] = [] if cameras is None else list(await work(cameras.test_views))
        return await show(
            request, "clicker", 409 if problem else 200, cameras=views, tests=tests[:_SHOWN], minutes=_MINUTES,
            problem_=problem,
        )  # fmt: skip

    async def clicker(request: Request) -> Response:
        cameras = find()
        if reads(request) or cameras is None:
            return await listed(request)
        given = await fields(request)
        camera, _, line = given.get("line", "").partition("/")
        minutes = next((it for it in _MINUTES if str(it) == given.get("minutes")), _MINUTES[0])
        await record(request, "camera.test.started", f"{camera} {line}"[:100])
        try:
            view: Any = await door_of(request).work(lambda: cameras.start_test(camera, line, minutes))
        except (Rejected, Unavailable) as error:
            return await listed(request, error)
        return RedirectResponse(f"/clicker/{view.id}", 303)

    async def one(request: Request, template: str = "clicker_test", problem: StorefrontError | None = None) -> Response:
        cameras, name = find(), request.path_params["name"]
        try:
            if cameras is None:
                raise Rejected("look at test", name[:64], "this gateway has no camera")
            view = await door_of(request).work(lambda: cameras.test_view(name))
        except Rejected:
            return await show(request, "setup_missing", 404, name=name[:64])
        return await show(
            request, template, 409 if problem else 200, it=view, key=secrets.token_hex(8), problem_=problem
        )

    async def test(request: Request) -> Response:
        cameras, name = find(), request.path_params["name"]
        if reads(request) or cameras is None:
            return await one(request)
        given = await fields(request)
        act = _ACTS.get(given.get("do", ""))
        if act is None:
            return PlainTextResponse("do what?\n", 400)
        if given["do"] == "accept":
            if not visitor_of(request).may("manager"):
                return PlainTextResponse("your role does not allow this\n", 403)
            await record(request, "camera.test.accepted", name[:64])
        try:
            await door_of(request).work(lambda: act(cameras, name, given))
        except (Rejected, Unavailable) as error:
            return await one(request, problem=error)
        return RedirectResponse(f"/clicker/{name}", 303)

    async def result(request: Request) -> Response:
        return await one(request, "clicker_result")

    staff = require("staff")
    return [
        WriteRoute("/clicker", staff(clicker), max_bytes=4096),
        WriteRoute("/clicker/{name}", staff(test), max_bytes=4096),
        Route("/clicker/{name}/result", staff(result)),
    ]


def _tap(direction: Literal["in", "out"]) -> Callable[[CameraDesk, str, Mapping[str, str]], object]:
    return lambda desk, test, given: desk.tap(test, direction, given.get("key", ""), 0.0)


_ACTS: dict[str, Callable[[CameraDesk, str, Mapping[str, str]], object]] = {
    "in": _tap("in"),
    "out": _tap("out"),
    "undo": lambda desk, test, given: desk.undo_tap(test, ""),
    "stop": lambda desk, test, given: desk.stop_test(test),
    "accept": lambda desk, test, given: desk.accept_test(test),
}
"""What a form may do to a test, by its `do`."""
