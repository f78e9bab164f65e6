"""Setting up, signing in and out, one's own PIN and sessions, other people's accounts, and the audit trail.

Every act is in the audit trail before it is done. Knows forms; who is locked out, and why, is the access room's.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from gateway.access.accounts import ROLES, Account, Role, Verdict
from gateway.errors import Rejected, Unavailable
from gateway.event_types import AuditRecorded
from gateway.status.session import (
    Door,
    Visitor,
    WriteRoute,
    address_of,
    anybody,
    door_of,
    drop_cookie,
    fields,
    keep_cookie,
    reads,
    record,
    require,
    switched_language,
    visitor_of,
)

_ACTS = 200
_CODE = 16  # characters of a set-up code, at most
_PLACE = re.compile(r"^/[a-z0-9_/-]{0,100}$")
_BROWSERS = ("Edg", "Firefox", "OPR", "MicroMessenger", "Chrome", "Safari", "curl")


class Renders(Protocol):
    """The desk, as far as forms ask."""

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        ...

    async def acts(self, limit: int) -> list[AuditRecorded]:
        """The newest records of the audit trail, newest first."""
        ...


Speak = Callable[[Request], str]


def routes(desk: Renders, language: Speak, begin_at: str) -> list[BaseRoute]:
    """All of them. `language`: the one a visitor wants; `begin_at`: where the first manager begins."""
    show = _Show(desk, language)
    return [
        WriteRoute("/setup", anybody(_setup(show, begin_at))),
        WriteRoute("/sign-in", anybody(_sign_in(show))),
        WriteRoute("/sign-out", require("staff")(_sign_out), read=False),
        WriteRoute("/account", require("staff")(_account(show))),
        WriteRoute("/accounts", require("manager")(_accounts(show))),
        Route("/audit", require("manager")(_audit(show, desk))),
    ]


class _Show:
    """Renders a form for a visitor."""

    def __init__(self, desk: Renders, language: Speak) -> None:
        self._desk, self._language = desk, language

    async def __call__(self, request: Request, template: str, status: int = 200, /, **values: object) -> Response:
        if (switched := switched_language(request)) is not None:
            return switched
        defaults: dict[str, object] = {"problem": "", "wait_s": 0.0, "done": "", "here": request.url.path}
        html = await self._desk.form(template, self._language(request), visitor_of(request), defaults | values)
        headers = {"vary": "Accept-Language, Cookie"}
        if values.get("wait_s"):
            headers["retry-after"] = str(int(float(str(values["wait_s"]))) + 1)
        return Response(html, status, media_type="text/html", headers=headers)


Endpoint = Callable[[Request], Awaitable[Response]]


def _setup(show: _Show, begin_at: str) -> Endpoint:
    async def setup(request: Request) -> Response:
        door = door_of(request)
        if door.accounts.set_up:
            return RedirectResponse("/sign-in", 303)
        if reads(request):
            return await show(request, "setup", name="", code=request.query_params.get("code", "")[:_CODE])
        form = await fields(request)
        name, pin, code = form.get("name", ""), form.get("pin", ""), form.get("code", "")
        if pin != form.get("again", ""):
            return await show(request, "setup", 400, problem="differ", name=name, code=code[:_CODE])
        address = address_of(request)
        try:
            verdict = await door.work(lambda: _found(door, code, name, pin, address))
        except Rejected as error:
            return await show(request, "setup", 400, problem=error.reason, name=name, code=code[:_CODE])
        if verdict.account is None:
            problem = "code" if verdict.reason == "wrong" else "locked"
            return await show(
                request, "setup", 429 if verdict.wait_s else 403, problem=problem, wait_s=verdict.wait_s, name=name,
                code="",
            )  # fmt: skip
        return _let_in(request, door, verdict.account, begin_at)

    return setup


def _found(door: Door, code: str, name: str, pin: str, address: str) -> Verdict:
    verdict = door.accounts.try_code(code, address)
    if verdict.reason:
        return verdict
    door.audit.record("page.setup", role="manager", subject=name[:32])
    return door.accounts.found(code, name, pin, address)


def _sign_in(show: _Show) -> Endpoint:
    async def sign_in(request: Request) -> Response:
        door = door_of(request)
        if not door.accounts.set_up:
            return RedirectResponse("/setup", 303)
        place = request.query_params.get("next", "/")
        place = place if _PLACE.match(place) and not place.startswith("//") else "/"
        if reads(request):
            return await show(request, "sign_in", name="", place=place)
        form = await fields(request)
        name, pin, address = form.get("name", ""), form.get("pin", ""), address_of(request)
        verdict = await door.work(lambda: _tried(door, name, pin, address))
        if verdict.account is None:
            problem = "locked" if verdict.wait_s else "wrong"
            status = 429 if verdict.wait_s else 403
            return await show(
                request, "sign_in", status, problem=problem, wait_s=verdict.wait_s, name=name[:32], place=place
            )
        return _let_in(request, door, verdict.account, place)

    return sign_in


def _tried(door: Door, name: str, pin: str, address: str) -> Verdict:
    """Try, and put it into the trail: a success must be there to count, a refusal is one in any case."""
    verdict = door.accounts.try_pin(name, pin, address)
    if verdict.account is not None:
        door.audit.record("session.begin", account=verdict.account.name, role=verdict.account.role)
    elif verdict.reason == "wrong":
        known = door.accounts.book().account(name)  # what is no account's name may be a PIN in the wrong field
        with contextlib.suppress(Unavailable):
            door.audit.record(
                "session.lock" if verdict.locks else "session.begin", subject=known.name if known else "",
                outcome="refused",
            )  # fmt: skip
    return verdict


def _let_in(request: Request, door: Door, account: Account, place: str) -> Response:
    """A session that did not exist before: nobody can have laid it under the visitor."""
    if old := visitor_of(request).session:
        door.sessions.end(old)
    answer = RedirectResponse(place, 303)
    keep_cookie(answer, request, door.sessions.begin(account, _browser(request)))
    return answer


async def _sign_out(request: Request) -> Response:
    await record(request, "session.end")
    door_of(request).sessions.end(visitor_of(request).session)
    answer = RedirectResponse("/", 303)
    drop_cookie(answer, request)
    return answer


def _account(show: _Show) -> Endpoint:
    async def account(request: Request) -> Response:
        door, visitor = door_of(request), visitor_of(request)
        problem, wait_s = "", 0.0
        if not reads(request):
            form = await fields(request)
            if form.get("do") == "revoke":
                await record(request, "session.revoke")
                door.sessions.end(form.get("session", ""), visitor.account)
            elif form.get("do") == "pin":
                if form.get("pin", "") != form.get("again", ""):
                    problem = "differ"
                else:
                    verdict, problem = await door.work(lambda: _changed_pin(door, visitor, form, address_of(request)))
                    wait_s = verdict.wait_s
                    if verdict.account is not None and not problem:
                        return _let_in(request, door, verdict.account, "/account")
            else:
                return PlainTextResponse("do what?\n", 400)
            if not problem:
                return RedirectResponse("/account", 303)
        sessions = door.sessions.all(visitor.account)
        status = 400 if problem else 200
        return await show(request, "account", status, problem=problem, wait_s=wait_s, sessions=sessions)

    return account


def _changed_pin(door: Door, visitor: Visitor, form: dict[str, str], address: str) -> tuple[Verdict, str]:
    verdict = door.accounts.try_pin(visitor.account, form.get("old", ""), address)
    if verdict.account is None:
        return verdict, "locked" if verdict.wait_s else "wrong"
    door.audit.record("account.pin", account=visitor.account, role=visitor.role, subject=visitor.account)
    try:
        return Verdict(door.accounts.set_pin(visitor.account, form.get("pin", ""))), ""
    except Rejected as error:
        return verdict, error.reason


def _accounts(show: _Show) -> Endpoint:
    async def accounts(request: Request) -> Response:
        door, visitor = door_of(request), visitor_of(request)
        problem = ""
        if not reads(request):
            form = await fields(request)
            act = _ACTIONS.get(form.get("do", ""))
            if act is None:
                return PlainTextResponse("do what?\n", 400)
            name = form.get("name", "")
            subject = name[:32] + (f" {form['role'][:10]}" if "role" in form else "")
            await record(request, f"account.{form['do']}", subject)
            try:
                await door.work(lambda: act(door, name, form))
            except Rejected as error:
                problem = error.reason
                await record(request, f"account.{form['do']}", subject, "failed")
            else:
                return RedirectResponse("/accounts", 303)
        rows = [(account, door.accounts.locked_s(account.name)) for account in door.accounts.book().accounts]
        return await show(
            request, "accounts", 400 if problem else 200, problem=problem, rows=rows, roles=ROLES[1:],
            sessions=door.sessions.all(), own=visitor.session,
        )  # fmt: skip

    return accounts


def _role(form: Mapping[str, str]) -> Role:
    role = form.get("role", "")
    if role not in ROLES[1:]:
        raise Rejected("check account", role[:20], "role", "staff or manager")
    return "manager" if role == "manager" else "staff"


_ACTIONS: dict[str, Callable[[Door, str, Mapping[str, str]], object]] = {
    "add": lambda door, name, form: door.accounts.add(name, _role(form), form.get("pin", "")),
    "pin": lambda door, name, form: door.accounts.set_pin(name, form.get("pin", "")),
    "role": lambda door, name, form: door.accounts.set_role(name, _role(form)),
    "unlock": lambda door, name, form: door.accounts.unlock(name),
    "remove": lambda door, name, form: door.accounts.remove(name),
    "revoke": lambda door, name, form: door.sessions.end(form.get("session", "")),
}
"""What a manager may do to accounts, by the form's `do`."""


def _audit(show: _Show, desk: Renders) -> Endpoint:
    async def audit(request: Request) -> Response:
        return await show(request, "audit", acts=await desk.acts(_ACTS))

    return audit


def _browser(request: Request) -> str:
    """Which browser, roughly: enough to know one's own session again."""
    agent = request.headers.get("user-agent", "")
    system = next((it for it in ("Android", "iPhone", "iPad", "Windows", "Macintosh", "Linux") if it in agent), "")
    return " ".join(part for part in (next((it for it in _BROWSERS if it in agent), ""), system) if part)
