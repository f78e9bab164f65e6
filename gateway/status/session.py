"""Who asks, and what they may: the cookie, the roles, and the check that a write comes from our own form.

    WriteRoute("/quarantine/replay", require("manager")(replay), max_bytes=4096)

`require` lets nobody below the role in and checks every write; `WriteRoute` is the only way to accept anything but GET
and HEAD (the `Guard` refuses the rest before it reads a body), and takes no endpoint that nobody guards. In an endpoint
`visitor_of(request)` says who it is, `await record(request, act, subject)` puts the act into the audit trail. Knows no
page.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.access.accounts import Accounts, Role, at_least
from gateway.access.audit import Audit, Outcome
from gateway.access.sessions import Sessions, form_token
from gateway.clock import Clock
from gateway.errors import StorefrontError, Unavailable
from gateway.status.language import LANGUAGES

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]

LANGUAGE_COOKIE = "storefront_language"
FIELD = "csrf"
HEADER = "x-csrf-token"
MAX_BYTES = 16_384  # of a body, where a route says nothing else
_WAITING = 16
_ALWAYS_OPEN = ("/setup", "/healthz", "/static/")  # before the gateway is set up
_DOOR, _VISITOR = "storefront.door", "storefront.visitor"


class Visitor(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `csrf` is what this visitor's forms carry in the field `csrf` (or a script in `X-CSRF-Token`)."""

    role: Role = "viewer"
    account: str = ""
    csrf: str = ""
    session: str = ""
    founded: bool = True  # False: there is no manager yet, so nobody can be signed in

    def may(self, role: Role) -> bool:
        """Whether that role's things are open to this visitor."""
        return at_least(self.role, role)


class Busy(StorefrontError):
    """Too many questions wait already."""


class Door:
    """What signing in needs. `work` runs what takes long (a PIN's hash, a commit) off the loop, two at a time."""

    def __init__(
        self, accounts: Accounts, audit: Audit, clock: Clock, *, local: bool, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Store.

        Args:
            accounts: who works here.
            audit: what they did.
            clock: ends sessions.
            local: the page listens on loopback only.
            changed: called after every write, on the loop's thread: what was rendered before it is out of date.
        """
        self.accounts, self.audit = accounts, audit
        self.sessions = Sessions(accounts, clock)
        self.local = local
        self.changed = changed
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="page-door")
        self._waiting = 0

    async def work(self, job: Callable[[], T]) -> T:
        """What `job` returns or raises.

        Raises:
            Busy: too many wait already.
        """
        if self._waiting >= _WAITING:
            raise Busy("answer", "page", "too many people sign in at once", "try again in a moment")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, job)
        except RuntimeError as error:  # the pool is closed
            raise Busy("answer", "page", "the gateway is stopping", "it is back in a moment") from error
        finally:
            self._waiting -= 1

    def visitor(self, connection: HTTPConnection, *, touch: bool = True) -> Visitor:
        """Who asks, by the cookie; a viewer when the accounts cannot be read."""
        token = connection.cookies.get(cookie_name(connection.scope), "")
        try:
            session = self.sessions.find(token, touch=touch) if token else None
        except Unavailable:
            session = None
        if session is None:
            return Visitor(founded=self.founded())
        return Visitor(role=session.role, account=session.account, csrf=form_token(token), session=session.key)

    def founded(self) -> bool:
        """Whether there is a manager. Accounts that cannot be read are no reason to hide that devices are down."""
        try:
            return self.accounts.set_up
        except Unavailable:
            return True

    def close(self) -> None:
        """Take no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Doorway:
    """ASGI middleware: says who asks, and keeps all but `/setup` shut on the network until there is a manager."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        """Store."""
        self._app, self._door = app, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or send to `/setup`."""
        path = scope["path"]
        connection = HTTPConnection(scope)
        if not self._door.local and not path.startswith(_ALWAYS_OPEN) and not self._door.founded():
            answer: Response = (
                RedirectResponse("/setup", 303)
                if scope["method"] == "GET" and _wants_html(connection)
                else PlainTextResponse("this gateway is not set up: see /setup\n", 403)
            )
            await answer(scope, receive, send)
            return
        scope[_DOOR] = self._door
        scope[_VISITOR] = self._door.visitor(connection, touch=path != "/live" and not path.startswith("/static/"))
        await self._app(scope, receive, send)


class WriteRoute(Route):
    """A route that takes forms, too. Its endpoint comes from `require` or `anybody`."""

    def __init__(self, path: str, endpoint: Endpoint, *, max_bytes: int = MAX_BYTES, read: bool = True) -> None:
        """Check that somebody guards it.

        Args:
            path: as Starlette's.
            endpoint: see above.
            max_bytes: the longest body; a longer one is refused unread.
            read: whether GET is answered, too.
        """
        assert getattr(endpoint, "guarded", False), f"{path} takes writes from anybody"
        super().__init__(path, endpoint, methods=["GET", "POST"] if read else ["POST"])
        self.max_bytes = max_bytes


def require(role: Role) -> Callable[[Endpoint], Endpoint]:
    """Decorator of an endpoint: only this role and those above; a write needs our Origin and the form's token."""

    def decorate(endpoint: Endpoint) -> Endpoint:
        @wraps(endpoint)
        async def guarded(request: Request) -> Response:
            visitor = visitor_of(request)
            if not visitor.may(role):
                return _turned_away(request, visitor)
            if not reads(request):
                if not same_origin(request):
                    return PlainTextResponse("this did not come from the gateway's own page\n", 403)
                if not hmac.compare_digest(await _token(request), visitor.csrf.encode()):
                    return PlainTextResponse("this form is out of date: load the page again\n", 403)
            answer = await endpoint(request)
            if not reads(request):
                door_of(request).changed()
            return answer

        guarded.guarded = True  # type: ignore[attr-defined]
        return guarded

    return decorate


def anybody(endpoint: Endpoint) -> Endpoint:
    """Decorator of an endpoint that those who are not signed in may write to: our Origin is still needed."""

    @wraps(endpoint)
    async def guarded(request: Request) -> Response:
        if not reads(request) and not same_origin(request):
            return PlainTextResponse("this did not come from the gateway's own page\n", 403)
        return await endpoint(request)

    guarded.guarded = True  # type: ignore[attr-defined]
    return guarded


def visitor_of(request: HTTPConnection) -> Visitor:
    """Who asks."""
    found = request.scope.get(_VISITOR)
    return found if isinstance(found, Visitor) else Visitor()


def door_of(request: HTTPConnection) -> Door:
    """Accounts, sessions and audit trail."""
    door = request.scope[_DOOR]
    assert isinstance(door, Door)
    return door


async def record(request: Request, act: str, subject: str = "", outcome: Outcome = "done") -> None:
    """Put an act of the visitor into the audit trail, before it is done.

    Raises:
        Unavailable: it cannot be recorded; let it go up, the visitor is told, and do nothing.
    """
    visitor, door = visitor_of(request), door_of(request)
    await door.work(
        lambda: door.audit.record(act, account=visitor.account, role=visitor.role, outcome=outcome, subject=subject)
    )


def address_of(request: HTTPConnection) -> str:
    """The visitor's address; "" where there is none."""
    return request.client.host if request.client is not None else ""


def cookie_name(scope: Scope) -> str:
    """`__Host-` binds the cookie to this name, this path and TLS; over plain loopback a browser would refuse it."""
    return "__Host-storefront" if scope.get("scheme") == "https" else "storefront_session"


def keep_cookie(response: Response, request: HTTPConnection, token: str) -> None:
    """Sign the browser in; a session cookie: it ends with the browser, too."""
    secure = request.scope.get("scheme") == "https"
    response.set_cookie(cookie_name(request.scope), token, path="/", secure=secure, httponly=True, samesite="strict")


def drop_cookie(response: Response, request: HTTPConnection) -> None:
    """Sign the browser out."""
    secure = request.scope.get("scheme") == "https"
    response.delete_cookie(cookie_name(request.scope), path="/", secure=secure, httponly=True, samesite="strict")


def switched_language(request: Request) -> Response | None:
    """Where `?lang=` names a language: the same page again, with the choice kept; else None."""
    wanted = request.query_params.get("lang", "")
    if not reads(request) or wanted not in LANGUAGES:
        return None
    kept = RedirectResponse(request.url.path, 303)
    kept.set_cookie(LANGUAGE_COOKIE, wanted, max_age=31_536_000, httponly=True, samesite="lax")
    return kept


def reads(request: Request) -> bool:
    """Whether the request changes nothing."""
    return request.method in ("GET", "HEAD")


def same_origin(request: Request) -> bool:
    """Whether a browser says that our own page sends this. A browser always says where a POST comes from."""
    headers = request.headers
    origins = headers.getlist("origin")
    site = headers.get("sec-fetch-site", "same-origin")
    return origins == [f"{request.scope['scheme']}://{headers.get('host', '')}"] and site == "same-origin"


async def _token(request: Request) -> bytes:
    if (given := request.headers.get(HEADER)) is not None:
        return given.encode("utf-8", "replace")
    return (await fields(request)).get(FIELD, "").encode("utf-8", "replace")


async def fields(request: Request) -> dict[str, str]:
    """A form's text fields, the last of each name; {} for what is no form. At most 400 fields, no files."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return {}
    form: Any = await request.form(max_files=0, max_fields=400)
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def _turned_away(request: Request, visitor: Visitor) -> Response:
    if visitor.account:
        return PlainTextResponse("your role does not allow this\n", 403)
    if reads(request) and _wants_html(request):
        return RedirectResponse(f"/sign-in?next={quote(request.url.path, safe='/')}", 303)
    return PlainTextResponse("sign in first: /sign-in\n", 401)


def _wants_html(connection: HTTPConnection) -> bool:
    return "text/html" in connection.headers.get("accept", "")
