"""Cameras over HTTP: how they are and the calibration picture for a manager, the acceptance test of a line for staff.

`GET  /api/cameras`                        every camera: state, lines, live counts
`GET  /api/cameras/NAME`                   one of them; ask again each second for a live preview
`GET  /api/cameras/NAME/snapshot`          JPEG, nobody recognisable in it, made in memory when asked for, never kept
`GET, POST /api/cameras/NAME/scene`        its lines, zones, masks, clicked people; POST: drawing (JSON), digest
`GET  /api/tests`, `/api/tests/ID`         acceptance tests, newest first; one with its report
`POST /api/cameras/NAME/tests`             line, minutes (15): begin one
`POST /api/tests/ID/taps`                  direction (in, out), key, at_ms, sent_ms: somebody came or went
`POST /api/tests/ID/undo`                  key, or nothing for the newest tap
`POST /api/tests/ID/stop`, `…/accept`      end it early; hold the line to its result (manager)

A tap carries when it was made and when it is sent, both by the phone's own clock in milliseconds; how long it waited is
their difference, so no clock need be right. Bodies are forms. Knows HTTP; what it does is a `CameraDesk`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.access.accounts import Role
from gateway.errors import Rejected
from gateway.status.session import WriteRoute, door_of, fields, reads, record, require

_DIRECTIONS: dict[str, Literal["in", "out"]] = {"in": "in", "out": "out"}
_SMALL = 2_048  # bytes of a body
_encode = msgspec.json.Encoder(decimal_format="string").encode


class Picture(Protocol):
    """`vision.camera_settings.Snapshot`."""

    @property
    def jpeg(self) -> bytes:
        """A whole JPEG file."""
        ...


class CameraDesk(Protocol):
    """`gateway.counting.camera_desk.CameraDesk`: called off the loop; every answer is a value that can be JSON."""

    def views(self) -> Sequence[msgspec.Struct]:
        """Every camera."""
        ...

    def view(self, camera: str) -> msgspec.Struct:
        """One."""
        ...

    def snapshot(self, camera: str) -> Picture:
        """The calibration picture."""
        ...

    def scene(self, camera: str) -> msgspec.Struct:
        """What is drawn in its picture."""
        ...

    def set_scene(self, camera: str, drawing: str, digest: str) -> msgspec.Struct:
        """Draw something else."""
        ...

    def test_views(self) -> Sequence[msgspec.Struct]:
        """Every acceptance test."""
        ...

    def test_view(self, test: str) -> msgspec.Struct:
        """One."""
        ...

    def start_test(self, camera: str, line: str, minutes: float) -> msgspec.Struct:
        """Begin one."""
        ...

    def tap(self, test: str, direction: Literal["in", "out"], key: str, age_s: float) -> msgspec.Struct:
        """Somebody came or went."""
        ...

    def undo_tap(self, test: str, key: str) -> msgspec.Struct:
        """Take a tap back."""
        ...

    def stop_test(self, test: str) -> msgspec.Struct:
        """End it."""
        ...

    def accept_test(self, test: str) -> msgspec.Struct:
        """Hold the line to it."""
        ...


Find = Callable[[], CameraDesk | None]
Act = Callable[[CameraDesk, str, dict[str, str]], msgspec.Struct]


def camera_routes(find: Find) -> list[BaseRoute]:
    """Every address above. `find`: the desk, None while the gateway has no camera."""

    def read(path: str, role: Role, ask: Callable[[CameraDesk, Request], Any]) -> Route:
        async def answer(request: Request) -> Response:
            if (desk := find()) is None:
                return _no_camera()
            return await _answered(request, lambda: _json(ask(desk, request)))

        return Route(path, require(role)(answer))

    def write(path: str, role: Role, act: Act, audited: str = "") -> WriteRoute:
        async def answer(request: Request) -> Response:
            if (desk := find()) is None:
                return _no_camera()
            name, given = request.path_params["name"], await fields(request)
            if audited:
                await record(request, audited, name)
            return await _answered(request, lambda: _json(act(desk, name, given)))

        return WriteRoute(path, require(role)(answer), max_bytes=_SMALL, read=False)

    async def scene(request: Request) -> Response:
        if (desk := find()) is None:
            return _no_camera()
        name = request.path_params["name"]
        if reads(request):
            return await _answered(request, lambda: _json(desk.scene(name)))
        given = await fields(request)
        await record(request, "camera.scene.changed", name)
        drawing, digest = given.get("drawing", ""), given.get("digest", "")
        return await _answered(request, lambda: _json(desk.set_scene(name, drawing, digest)))

    async def snapshot(request: Request) -> Response:
        if (desk := find()) is None:
            return _no_camera()
        name = request.path_params["name"]
        await record(request, "camera.looked", name)
        return await _answered(request, lambda: _picture(desk.snapshot(name)))

    return [
        read("/api/cameras", "manager", lambda desk, request: desk.views()),
        read("/api/cameras/{name}", "manager", lambda desk, request: desk.view(request.path_params["name"])),
        Route("/api/cameras/{name}/snapshot", require("manager")(snapshot)),
        WriteRoute("/api/cameras/{name}/scene", require("manager")(scene)),
        read("/api/tests", "staff", lambda desk, request: desk.test_views()),
        read("/api/tests/{name}", "staff", lambda desk, request: desk.test_view(request.path_params["name"])),
        write("/api/cameras/{name}/tests", "staff", _start, "camera.test.started"),
        write("/api/tests/{name}/taps", "staff", _tap),
        write("/api/tests/{name}/undo", "staff", lambda desk, test, given: desk.undo_tap(test, given.get("key", ""))),
        write("/api/tests/{name}/stop", "staff", lambda desk, test, given: desk.stop_test(test)),
        write(
            "/api/tests/{name}/accept",
            "manager",
            lambda desk, test, given: desk.accept_test(test),
            "camera.test.accepted",
        ),
    ]


def _start(desk: CameraDesk, camera: str, given: dict[str, str]) -> msgspec.Struct:
    return desk.start_test(camera, given.get("line", ""), _number(given, "minutes", 15.0))


def _accept(desk: CameraDesk, test: str, given: dict[str, str]) -> msgspec.Struct:
    return desk.accept_test(test)


def _tap(desk: CameraDesk, test: str, given: dict[str, str]) -> msgspec.Struct:
    direction = _DIRECTIONS.get(given.get("direction", ""))
    if direction is None:
        raise Rejected("tap", test[:64], "no direction", "direction: in or out")
    waited_ms = _number(given, "sent_ms", 0.0) - _number(given, "at_ms", 0.0) if "at_ms" in given else 0.0
    return desk.tap(test, direction, given.get("key", ""), waited_ms / 1000)


def _number(given: dict[str, str], name: str, otherwise: float) -> float:
    try:
        value = float(given.get(name, otherwise))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise Rejected("read form", name, "not a number", f"{name}: a number")
    return value


async def _answered(request: Request, work: Callable[[], Response]) -> Response:
    """`work` off the loop; what is refused says why."""
    try:
        return await door_of(request).work(work)
    except Rejected as error:
        return PlainTextResponse(f"{error.reason}\n{error.hint}\n", 409)


def _json(value: Any) -> Response:
    return Response(_encode(value), media_type="application/json")


def _picture(picture: Picture) -> Response:
    return Response(picture.jpeg, media_type="image/jpeg")


def _no_camera() -> Response:
    return PlainTextResponse("this gateway has no camera\nsee docs/cameras.md\n", 404)
