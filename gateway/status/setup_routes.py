"""Setting the shop up, for managers: what is done and what is next, the store, devices, cameras, the platform.

A form carries the mark of what its visitor saw; when somebody else has changed that meanwhile, both are shown and
nothing is written. Every change is in the audit trail before it is made. Knows forms; files and drivers are a
`SetupDesk`'s.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from config.fields import Field, at, changes, texts
from gateway.errors import ConfigError, Rejected, StorefrontError, Unavailable
from gateway.status.drawing_form import ZoneRow, in_words, options_of, rows_given, rows_of
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
from gateway.status.setup_form import (
    CAMERA_FIELDS,
    DEVICE_FIELDS,
    NAME_FIELD,
    NOT_ON,
    STORE_FIELDS,
    Form,
    Problem,
    given_values,
    marked,
    problem_of,
    shown,
    status_of,
)
from gateway.status.setup_steps import steps
from gateway.status.setup_values import Conflict, Kind, Now, SetupDesk, mark_of
from gateway.status.snapshot import Snapshot

NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,63}$")
STORE = "gateway,privacy"  # the tables of the store's form
_MAX_BYTES = 32_768
_ACT: dict[Kind, str] = {"devices": "setup.device", "cameras": "setup.camera"}
_FIRST_LINE = [{"name": "door", "start": [0.5, 0.05], "end": [0.5, 0.95]}]


class Desk(Protocol):
    """The page's desk, as far as these pages ask."""

    async def snapshot(self) -> Snapshot:
        """The present state."""
        ...

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...


Endpoint = Callable[[Request], Awaitable[Response]]


def setup_routes(desk: Desk, find: Callable[[], SetupDesk], language: Callable[[Request], str],
                 tests: Callable[[], Sequence[Any]]) -> list[BaseRoute]:  # fmt: skip
    """All of them. `tests`: the acceptance tests that were made."""
    room = _Room(desk, find, language, tests)
    manager = require("manager")

    def page(path: str, endpoint: Endpoint) -> Route:
        return Route(path, manager(room.safely(endpoint)))

    def form(path: str, endpoint: Endpoint, *, read: bool = True) -> WriteRoute:
        return WriteRoute(path, manager(room.safely(endpoint)), max_bytes=_MAX_BYTES, read=read)

    made: list[BaseRoute] = [
        page("/settings", room.home),
        form("/settings/store", room.store),
        form("/settings/platform", room.platform),
        page("/settings/add-device", room.drivers),
        form("/settings/add-device/{driver}", room.add_device),
        form("/settings/add-camera", room.add_camera),
        form("/settings/cameras/{name}/draw", room.draw),
        page("/settings/state/{name}", room.state),
    ]
    kinds: tuple[Kind, ...] = ("devices", "cameras")
    for kind in kinds:
        made += [
            page(f"/settings/{kind}", room.listed(kind)),
            form(f"/settings/{kind}/{{name}}", room.entry(kind)),
            form(f"/settings/{kind}/{{name}}/switch", room.switch(kind), read=False),
            form(f"/settings/{kind}/{{name}}/remove", room.remove(kind)),
        ]
    return made


class _Room:
    """The endpoints and what they share."""

    def __init__(
        self, desk: Desk, find: Callable[[], SetupDesk], language: Callable[[Request], str],
        tests: Callable[[], Sequence[Any]],
    ) -> None:  # fmt: skip
        self._desk, self._find, self._language, self._tests = desk, find, language, tests

    def safely(self, endpoint: Endpoint) -> Endpoint:
        """A page stays a page when the file is broken or away: it says so."""

        async def answered(request: Request) -> Response:
            if (switched := switched_language(request)) is not None:
                return switched
            try:
                return await endpoint(request)
            except ConfigError as error:
                return await self._show(request, "setup_broken", 503, reason=error.reason, hint=error.hint)

        return answered

    # -- pages

    async def home(self, request: Request) -> Response:
        now, certificate = await self._work(request, lambda: (self._setup.now(), self._setup.certificate()))
        tests = await self._work(request, lambda: list(self._tests()))
        snapshot = await self._desk.snapshot()
        return await self._show(
            request, "setup_home", now=now, steps=steps(now, snapshot, certificate, tests), identity=snapshot.identity,
            saved="saved" in request.query_params,
        )  # fmt: skip

    async def store(self, request: Request) -> Response:
        now = await self._now(request)
        if reads(request):
            form = shown(STORE_FIELDS, now.tables, mark_of(now, STORE))
        else:
            given = await fields(request)
            saved = await self._saved(request, STORE_FIELDS, given, now.tables, "", STORE, "setup.store")
            if saved is None:
                return RedirectResponse("/settings?saved=1", 303)
            form = saved
        return await self._show(request, "setup_store", status_of(form), form=form, now=now, zones=zones())

    def listed(self, kind: Kind) -> Endpoint:
        async def listed(request: Request) -> Response:
            return await self._list(request, kind)

        return listed

    async def drivers(self, request: Request) -> Response:
        lines = await self._work(request, self._setup.drivers)
        plugged = (await self._desk.snapshot()).plugged
        asked = request.query_params.get("address", "")
        likely = next((it.drivers for it in plugged if asked and it.address == asked), ())
        ordered = sorted(lines, key=lambda it: likely.index(it.name) if it.name in likely else len(likely))
        return await self._show(
            request, "setup_drivers", drivers=ordered, likely=likely, plugged=plugged,
            address=asked if likely else "",
        )  # fmt: skip

    async def add_device(self, request: Request) -> Response:
        driver = request.path_params["driver"]
        line = next((it for it in await self._work(request, self._setup.drivers) if it.name == driver), None)
        if line is None:
            return await self._missing(request, driver)
        wanted = (NAME_FIELD, *await self._device_fields(request, driver, line.wire))
        now = await self._now(request)
        if reads(request):
            values = texts(wanted, {}) | {"name": _free(now, driver)}
            address = request.query_params.get("address", "")[:200]
            form = Form(fields=wanted, values=values | ({"address": address} if address else {}))
        else:
            made = await self._added(request, "devices", wanted, {"driver": driver})
            if isinstance(made, Response):
                return made
            form = made
        return await self._show(request, "setup_entry", status_of(form), form=form, now=now, driver=line, **_NEW)

    async def add_camera(self, request: Request) -> Response:
        now = await self._now(request)
        wanted = (NAME_FIELD, *CAMERA_FIELDS, *await self._work(request, self._setup.camera_fields))
        if reads(request):
            form = Form(fields=wanted, values=texts(wanted, {}) | {"name": _free(now, "camera")})
        else:
            made = await self._added(request, "cameras", wanted, {}, {"lines": _FIRST_LINE})
            if isinstance(made, Response):
                return made
            form = made
        return await self._show(
            request, "setup_entry", status_of(form), form=form, now=now, driver=None, **_NEW | {"kind": "cameras"}
        )

    def entry(self, kind: Kind) -> Endpoint:
        async def entry(request: Request) -> Response:
            now, name = await self._now(request), request.path_params["name"]
            table = now.entry(kind, name)
            if table is None:
                return await self._missing(request, name)
            driver = None
            if kind == "devices":
                lines = await self._work(request, self._setup.drivers)
                driver = next((it for it in lines if it.name == table.get("driver")), None)
                wire = driver.wire if driver else "serial"
                wanted = await self._device_fields(request, str(table.get("driver", "")), wire)
            else:
                wanted = (*CAMERA_FIELDS, *await self._work(request, self._setup.camera_fields))
            if reads(request):
                form = shown(wanted, table, mark_of(now, f"{kind}.{name}"))
            else:
                saved = await self._saved(
                    request, wanted, await fields(request), table, f"{kind}.{name}.", f"{kind}.{name}",
                    f"{_ACT[kind]}.change",
                )  # fmt: skip
                if saved is None:
                    return RedirectResponse(f"/settings/{kind}/{name}?saved=1", 303)
                form = saved
            snapshot = await self._desk.snapshot()
            return await self._show(
                request, "setup_entry", status_of(form), form=form, now=now, driver=driver, kind=kind, name=name,
                device=_device(snapshot, name), table=table, s=snapshot, saved="saved" in request.query_params,
            )  # fmt: skip

        return entry

    def switch(self, kind: Kind) -> Endpoint:
        async def switch(request: Request) -> Response:
            name = request.path_params["name"]
            on = (await fields(request)).get("on", "") == "1"
            if (await self._now(request)).entry(kind, name) is None:
                return await self._missing(request, name)
            problem = await self._write(
                request, f"{_ACT[kind]}.{'on' if on else 'off'}", name, {f"{kind}.{name}.enabled": on},
                f"{kind}.{name}", None,
            )  # fmt: skip
            if problem is not None:
                return await self._list(request, kind, problem)
            return RedirectResponse(f"/settings/{kind}", 303)

        return switch

    def remove(self, kind: Kind) -> Endpoint:
        async def remove(request: Request) -> Response:
            name, now = request.path_params["name"], await self._now(request)
            table, below = now.entry(kind, name), f"{kind}.{request.path_params['name']}"
            if table is None:
                return await self._missing(request, name)
            problem: StorefrontError | None = None
            if not reads(request):
                mark = (await fields(request)).get("mark", "")
                problem = await self._write(request, f"{_ACT[kind]}.remove", name, {below: None}, below, mark)
                if problem is None:
                    return RedirectResponse(f"/settings/{kind}", 303)
                now = await self._now(request)
                table = now.entry(kind, name) or {}
            return await self._show(
                request, "setup_remove", 409 if problem else 200, kind=kind, name=name, table=table,
                mark=mark_of(now, below), problem_=problem_of(problem),
            )  # fmt: skip

        return remove

    async def state(self, request: Request) -> Response:
        name, snapshot = request.path_params["name"], await self._desk.snapshot()
        now = await self._now(request)
        return await self._show(
            request, "setup_state", device=_device(snapshot, name), s=snapshot, now=now, table=_table(now, name)
        )

    async def draw(self, request: Request) -> Response:
        name, now = request.path_params["name"], await self._now(request)
        table, below = now.entry("cameras", name), f"cameras.{request.path_params['name']}"
        if table is None:
            return await self._missing(request, name)
        rows, wrong, problem, theirs = rows_of(table.get("options", {})), dict[str, str](), None, None
        if not reads(request):
            given = await fields(request)
            before, rows = rows, rows_given(given)
            options, wrong = options_of(rows)
            if not wrong:
                present = table.get("options", {})
                new = {
                    f"{below}.options.{key}": value or None
                    for key, value in options.items()
                    if (value or None) != (present.get(key) or None)
                }
                failed = await self._write(request, "setup.camera.draw", name, new, below, given.get("mark", ""))
                if failed is None:
                    return RedirectResponse(f"/settings/cameras/{name}/draw?saved=1", 303)
                problem = problem_of(failed)
                theirs = before if isinstance(failed, Conflict) else None
                now = await self._now(request)
        return await self._show(
            request, "setup_draw", 409 if theirs is not None else 400 if wrong or problem else 200, name=name,
            table=table, rows=rows, flaws=wrong, problem_=problem, theirs=in_words(theirs), mark=mark_of(now, below),
            saved="saved" in request.query_params, device=_device(await self._desk.snapshot(), name), now=now,
            blank=_BLANK, blank_zone=ZoneRow(),
        )  # fmt: skip

    async def platform(self, request: Request) -> Response:
        problem, values, until = None, {"url": "", "ca_file": ""}, ""
        now = await self._now(request)
        values = {key: str(at(now.tables, f"platform.{key}") or "") for key in values}
        if not reads(request):
            given = await fields(request)
            values = {key: given.get(key, "").strip()[:300] for key in values}
            code = given.get("code", "")[:100]
            try:  # the code is a secret until it is used, and so it is in no record
                subject = urlsplit(values["url"]).hostname or ""
                await record(request, "setup.platform", subject)
                until = await self._work(request, lambda: self._setup.enrol(values["url"], code, values["ca_file"]))
            except (Rejected, ConfigError, Unavailable, ValueError) as error:
                problem = Problem(reason=str(error)) if isinstance(error, ValueError) else problem_of(error)
                await record(request, "setup.platform", "", "failed")
            now = await self._now(request)
        certificate = await self._work(request, self._setup.certificate)
        return await self._show(
            request, "setup_platform", 400 if problem else 200, values=values, problem_=problem, until=until,
            certificate=certificate, now=now, at_ms=(await self._desk.snapshot()).at_ms,
        )  # fmt: skip

    # -- what they share

    @property
    def _setup(self) -> SetupDesk:
        return self._find()

    async def _now(self, request: Request) -> Now:
        return await door_of(request).work(self._setup.now)

    async def _work(self, request: Request, job: Callable[[], Any]) -> Any:
        return await door_of(request).work(job)

    async def _show(self, request: Request, template: str, status: int = 200, /, **values: object) -> Response:
        defaults: dict[str, object] = {
            "problem": "", "wait_s": 0.0, "here": "/settings", "at_path": request.url.path, "saved": False,
        }  # fmt: skip
        html = await self._desk.form(template, self._language(request), visitor_of(request), defaults | values)
        return Response(html, status, media_type="text/html", headers={"vary": "Accept-Language, Cookie"})

    async def _missing(self, request: Request, name: str) -> Response:
        return await self._show(request, "setup_missing", 404, name=name[:64])

    async def _list(self, request: Request, kind: Kind, problem: StorefrontError | None = None) -> Response:
        now, snapshot = await self._now(request), await self._desk.snapshot()
        rows = [(table, _device(snapshot, str(table.get("name", "")))) for table in now.entries(kind)]
        return await self._show(
            request, f"setup_{kind}", 409 if problem else 200, now=now, rows=rows, s=snapshot,
            problem_=problem_of(problem),
        )  # fmt: skip

    async def _device_fields(self, request: Request, driver: str, wire: str) -> tuple[Field, ...]:
        try:
            own = await self._work(request, lambda: self._setup.driver_fields(driver))
        except ConfigError:  # the file names a driver that is not there: the rest can still be changed
            own = ()
        return tuple(it for it in DEVICE_FIELDS if it.name not in NOT_ON[wire]) + tuple(own)

    async def _added(
        self, request: Request, kind: Kind, wanted: tuple[Field, ...], fixed: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
    ) -> Form | Response:  # fmt: skip
        """Add an entry and go to its page; or the form again."""
        given = await fields(request)
        name = given.get("name", "").strip()
        now = await self._now(request)
        form = Form(fields=wanted, values=given_values(wanted, given))
        if not NAME.match(name):
            return msgspec.structs.replace(form, wrong={"name": Problem("name")})
        if now.entry("devices", name) or now.entry("cameras", name):
            return msgspec.structs.replace(form, wrong={"name": Problem("taken")})
        try:
            told = changes(wanted[1:], given, {})
        except Rejected as error:
            return msgspec.structs.replace(form, wrong={error.subject: Problem(error.reason)})
        table: dict[str, Any] = {"name": name, **fixed}
        own: dict[str, Any] = dict(options or {})
        for path, value in told.items():
            if path.startswith("options."):
                own[path.partition(".")[2]] = value
            else:
                table[path] = value
        below = f"{kind}.{name}"
        new = {below: table | ({"options": own} if own else {})}
        problem = await self._write(request, f"{_ACT[kind]}.add", name, new, below, mark_of(now, below))
        if problem is None:
            return RedirectResponse(
                f"/settings/cameras/{name}/draw" if kind == "cameras" else f"/settings/devices/{name}?saved=1", 303
            )
        return marked(form, problem)

    async def _saved(
        self, request: Request, wanted: tuple[Field, ...], given: Mapping[str, str], table: Mapping[str, Any],
        prefix: str, below: str, act: str,
    ) -> Form | None:  # fmt: skip
        """Save what a form changes; None when that is done, else the form with what is wrong."""
        form = Form(fields=wanted, values=given_values(wanted, given), mark=given.get("mark", "")[:64])
        try:
            told = changes(wanted, given, table)
        except Rejected as error:
            return msgspec.structs.replace(form, wrong={error.subject: Problem(error.reason)})
        new = {f"{prefix}{path}": value for path, value in told.items()}
        problem = await self._write(request, act, _subject(below, told), new, below, form.mark)
        if problem is None:
            return None
        if isinstance(problem, Conflict):
            now = await self._now(request)
            kind, _, name = below.partition(".")
            there = now.tables if not name else now.entry("devices" if kind == "devices" else "cameras", name) or {}
            stands = texts(wanted, there)
            theirs = {key: text for key, text in stands.items() if text != form.values[key]}
            return msgspec.structs.replace(form, theirs=theirs, edited=True, mark=mark_of(now, below))
        return marked(form, problem)

    async def _write(
        self, request: Request, act: str, subject: str, new: Mapping[str, Any], below: str, mark: str | None
    ) -> StorefrontError | None:
        """Record, then write; what is in the way, or None."""
        if mark is not None:  # nothing to write is no reason not to look whether somebody else has
            now = await self._now(request)
            if mark != mark_of(now, below):
                return Conflict("save", below, "somebody has changed it meanwhile", "look at what is there now")
        if not new:
            return None
        await record(request, act, subject)
        try:
            await self._work(request, lambda: self._setup.save(new, below, mark))
        except (Rejected, ConfigError, Unavailable) as error:
            await record(request, act, subject, "failed")
            return error
        return None


_BLANK = dict.fromkeys(("name", "x1", "y1", "x2", "y2", "entrance", "anchor", "corners", "foot", "height"), "")
_NEW: dict[str, Any] = {
    "kind": "devices", "name": "", "device": None, "table": {}, "s": None,
}  # fmt: skip


@functools.cache  # the system's files are read for it
def zones() -> list[str]:
    """Time zones to choose from; another one may be written all the same."""
    return sorted(it for it in available_timezones() if "/" in it and not it.startswith(("Etc/", "posix/", "right/")))


def _device(snapshot: Snapshot, name: str) -> Any:
    return next((it for it in snapshot.devices if it.name == name), None)


def _table(now: Now, name: str) -> Mapping[str, Any]:
    return now.entry("devices", name) or now.entry("cameras", name) or {}


def _subject(below: str, told: Mapping[str, Any]) -> str:
    return f"{below.partition('.')[2]} {' '.join(told)}".strip()


def _free(now: Now, stem: str) -> str:
    """A name that nobody has yet."""
    taken = {str(one.get("name")) for kind in ("devices", "cameras") for one in now.tables.get(kind, ())}
    return next(name for number in range(1, len(taken) + 2) if (name := f"{stem}-{number}") not in taken)
