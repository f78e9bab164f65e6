"""Cameras over HTTP: who may see what, a picture for nobody but a manager, and taps by the phone's clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import msgspec
import pytest
from starlette.applications import Starlette

from gateway.access.accounts import Accounts, Role
from gateway.access.sessions import form_token
from gateway.clock import FakeClock
from gateway.errors import Rejected, StorefrontError, Unavailable
from gateway.status.camera_routes import camera_routes
from gateway.status.guard import Guard
from gateway.status.routes import _sorry, body_limit
from gateway.status.session import Door, Doorway

BASE = "http://127.0.0.1"
JPEG = b"\xff\xd8 nobody \xff\xd9"
READS = (
    "/api/cameras",
    "/api/cameras/door/scene",
    "/api/cameras/door",
    "/api/cameras/door/snapshot",
    "/api/tests",
    "/api/tests/t1",
)
WRITES = (
    "/api/cameras/door/tests",
    "/api/tests/t1/taps",
    "/api/tests/t1/undo",
    "/api/tests/t1/stop",
    "/api/tests/t1/accept",
)
FOR_STAFF = {"/api/tests", "/api/tests/t1", *WRITES[:4]}


class Said(msgspec.Struct):
    what: str
    given: tuple[Any, ...]


class Desk:
    """Answers what it was asked."""

    def views(self) -> list[msgspec.Struct]:
        return [Said("views", ())]

    def view(self, camera: str) -> msgspec.Struct:
        if camera != "door":
            raise Unavailable("look at camera", camera, "no such camera runs", "these do: door")
        return Said("view", (camera,))

    def snapshot(self, camera: str) -> Any:
        self.view(camera)
        return SimpleNamespace(jpeg=JPEG)

    def scene(self, camera: str) -> msgspec.Struct:
        return Said("scene", (camera,))

    def set_scene(self, camera: str, drawing: str, digest: str) -> msgspec.Struct:
        return Said("draw", (camera, drawing, digest))

    def test_views(self) -> list[msgspec.Struct]:
        return [Said("tests", ())]

    def test_view(self, test: str) -> msgspec.Struct:
        return Said("test", (test,))

    def start_test(self, camera: str, line: str, minutes: float) -> msgspec.Struct:
        return Said("start", (camera, line, minutes))

    def tap(self, test: str, direction: str, key: str, age_s: float) -> msgspec.Struct:
        return Said("tap", (test, direction, key, age_s))

    def undo_tap(self, test: str, key: str) -> msgspec.Struct:
        return Said("undo", (test, key))

    def stop_test(self, test: str) -> msgspec.Struct:
        return Said("stop", (test,))

    def accept_test(self, test: str) -> msgspec.Struct:
        raise Rejected("accept test", test, "it is too small to prove anything", "20 taps are needed")


class Trail:
    """An audit trail in memory, or one that cannot be written."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, str, str]] = []
        self.writable = True

    def record(self, act: str, *, account: str, role: str, outcome: str, subject: str) -> None:
        if not self.writable:
            raise Unavailable("record", act, "the journal is full")
        self.acts.append((act, account, subject))


class Client:
    """A browser that asks one thing after the other."""

    def __init__(self, app: Any, headers: dict[str, str], cookies: dict[str, str]) -> None:
        self._app, self._headers, self._cookies = app, headers, cookies

    def get(self, path: str) -> httpx.Response:
        return self._ask("GET", path, {})

    def post(self, path: str, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        return self._ask("POST", path, headers or {}, **body)

    def _ask(self, method: str, path: str, headers: dict[str, str], **body: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url=BASE, headers=self._headers, cookies=self._cookies
            ) as client:
                return await client.request(method, path, headers=headers, **body)

        return asyncio.run(asked())


class Site:
    def __init__(self, folder: Path, desk: Desk | None) -> None:
        clock = FakeClock()
        accounts = Accounts(folder, clock)
        accounts.add("Ann", "manager", "482915")
        accounts.add("Bo", "staff", "771938")
        self.trail = Trail()
        self.door = Door(accounts, self.trail, clock, local=True)  # type: ignore[arg-type]
        site = Starlette(routes=camera_routes(lambda: desk), exception_handlers={StorefrontError: _sorry})
        self._app = Guard(Doorway(site, self.door), "127.0.0.1", body_limit=body_limit(site))
        self._tokens = {each.role: self.door.sessions.begin(each) for each in accounts.book().accounts}

    def client(self, role: Role = "viewer") -> Client:
        token = self._tokens.get(role, "")
        headers = {"origin": BASE, **({"x-csrf-token": form_token(token)} if token else {})}
        cookies = {"storefront_session": token} if token else {}
        return Client(self._app, headers, cookies)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    it = Site(tmp_path, Desk())
    yield it
    it.door.close()


def test_nobody_below_the_role_sees_or_changes_anything(site: Site) -> None:
    """A visitor gets nothing, staff the acceptance test, a manager all; the picture is a manager's alone."""
    for path in (*READS, *WRITES):
        for role in ("viewer", "staff", "manager"):
            client = site.client(role)  # type: ignore[arg-type]
            answer = client.get(path) if path in READS else client.post(path, data={"direction": "in", "key": "k"})
            allowed = role == "manager" or (role == "staff" and path in FOR_STAFF)
            assert (answer.status_code in (200, 409)) == allowed, (path, role, answer.status_code)
            assert allowed or JPEG not in answer.content
            assert "cache-control" not in answer.headers or answer.headers["cache-control"] == "no-store"


def test_a_write_without_the_form_s_token_or_from_elsewhere_is_refused(site: Site) -> None:
    """Also with a manager's cookie."""
    for path in WRITES:
        assert site.client("manager").post(path, headers={"x-csrf-token": "forged"}).status_code == 403
        assert site.client("manager").post(path, headers={"origin": "http://evil.example"}).status_code == 403
        assert site.client("manager").get(path).status_code == 405
        assert site.client("manager").post(path, content=b"x" * 4096).status_code == 413


def test_the_picture_is_recorded_before_it_is_made_and_never_kept(site: Site) -> None:
    """Who looked is in the audit trail; where that cannot be written there is no picture."""
    answer = site.client("manager").get("/api/cameras/door/snapshot")
    assert (answer.content, answer.headers["content-type"], answer.headers["cache-control"]) == (
        JPEG,
        "image/jpeg",
        "no-store",
    )
    assert site.trail.acts == [("camera.looked", "Ann", "door")]
    site.trail.writable = False
    assert site.client("manager").get("/api/cameras/door/snapshot").status_code == 503
    assert site.client("manager").get("/api/cameras/none").status_code == 503


def test_a_tap_that_waited_for_the_network_says_how_long_by_its_own_clock(site: Site) -> None:
    """Only the difference of the phone's two times counts; a word that is no number or direction is refused."""
    staff = site.client("staff")
    form = {"direction": "out", "key": "a1", "at_ms": "5000", "sent_ms": "7500.5"}
    assert staff.post("/api/tests/t1/taps", data=form).json()["given"] == ["t1", "out", "a1", 2.5005]
    assert staff.post("/api/tests/t1/taps", data={"direction": "in", "key": "b"}).json()["given"][3] == 0.0
    for wrong in ({"direction": "up"}, {"at_ms": "soon"}, {"at_ms": "nan"}, {"sent_ms": "1e999"}):
        answer = staff.post("/api/tests/t1/taps", data=form | wrong)
        assert (answer.status_code, len(answer.text.splitlines())) == (409, 2), wrong
    assert staff.post("/api/cameras/door/tests", data={"line": "a"}).json()["given"] == ["door", "a", 15.0]
    refused = site.client("manager").post("/api/tests/t1/accept")
    assert (refused.status_code, refused.text) == (409, "it is too small to prove anything\n20 taps are needed\n")


def test_a_gateway_without_a_camera_says_so(tmp_path: Path) -> None:
    """404 with where to read on; the role is asked first."""
    bare = Site(tmp_path, None)
    for path in READS:
        assert bare.client("manager").get(path).status_code == 404
        assert bare.client().get(path).status_code == 401
    bare.door.close()
