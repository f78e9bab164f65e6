"""What every request must pass and every answer carries: known host, bounded bodies where a route takes any, headers
that bind the browser.

The list of hosts is the defence against DNS rebinding: a foreign name that resolves to this machine is refused. A POST
passes to a registered `WriteRoute` only, with its body read whole, within its size and time; other methods never do.
Knows ASGI; knows no page.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not bound

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),  # with `no-referrer` a browser hides the Origin of our own forms, too
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_POLICY = b"content-security-policy"  # the one header that an answer may bring in another wording
BODY_S = 10.0  # in which a whole body must be here
_HEADERS, _HEADER_BYTES = 64, 12_288
_LONGEST = 2048  # of path and query; ours are shorter than 100


def hosts_for(host: str, names: Iterable[str] = ()) -> frozenset[str]:
    """The names under which the page may be asked for, when it listens on `host`; see `Guard` for wildcards."""
    names = {*LOOPBACK_NAMES, *(name.lower() for name in names), f"[{host}]" if ":" in host else host.lower()}
    if host in _WILDCARDS:
        own = socket.gethostname().lower()
        names |= {own, f"{own}.local"}
    return frozenset(names - set(_WILDCARDS) - {"[::]"})


class Guard:
    """ASGI middleware.

    Args:
        app: what is guarded.
        host: the address that the page listens on. On a wildcard every numeric address is taken, too: rebinding needs
            a name.
        names: further names of this machine.
        asset_prefix: paths that a browser may keep.
        body_limit: the longest body, in bytes, that a path takes; None: it takes no writes.
        body_s: how long a body may take.
    """

    def __init__(
        self, app: ASGIApp, host: str, asset_prefix: str = "/static/", *, names: Iterable[str] = (),
        body_limit: Callable[[Scope], int | None] = lambda scope: None, body_s: float = BODY_S,
    ) -> None:  # fmt: skip
        self._app = app
        self._hosts = hosts_for(host, names)
        self._numeric = host in _WILDCARDS
        self._assets = asset_prefix
        self._body_limit, self._body_s = body_limit, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the headers added."""
        if scope["type"] != "http":
            return
        names = [name for name, _ in scope["headers"]]
        reading = scope["method"] in ("GET", "HEAD")
        limit = None if reading or scope["method"] != "POST" else self._body_limit(scope)
        if len(names) > _HEADERS or sum(len(name) + len(value) for name, value in scope["headers"]) > _HEADER_BYTES:
            await _refuse(
                send, 431, b"too many headers\n", [(b"connection", b"close")]
            )  # h11 bounds what drips in only
        elif b"transfer-encoding" in names and b"content-length" in names:  # who is to say where the body ends?
            await _refuse(send, 400, b"a body has one length\n", [(b"connection", b"close")])
        elif not reading and limit is None:
            await _refuse(
                send, 405, b"this page is for reading\n", [(b"allow", b"GET, HEAD"), (b"connection", b"close")]
            )
        elif not self._known([value for name, value in scope["headers"] if name == b"host"]):
            await _refuse(send, 421, b"unknown host name: ask for the page under the address it is configured with\n")
        elif len(scope["path"]) + len(scope["query_string"]) > _LONGEST:
            await _refuse(send, 414, b"the address is too long\n")
        else:
            cache = b"public, max-age=3600" if scope["path"].startswith(self._assets) else b"no-store"

            async def with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    own = [(name.lower(), value) for name, value in message.get("headers", ())]
                    ours = [it for it in HEADERS if it[0] != _POLICY or _POLICY not in dict(own)]
                    message["headers"] = [*own, *ours, (b"cache-control", cache)]
                await send(message)

            if limit is not None:
                declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
                long = not declared.isdigit() or int(declared[:12]) > limit
                body = 413 if long else await self._body(receive, limit)
                if isinstance(body, int):
                    await _refuse(send, body, b"the body is too long or too slow\n", [(b"connection", b"close")])
                    return
                receive = _once(body, receive)
            await self._app(scope, receive, with_headers)

    async def _body(self, receive: Receive, limit: int) -> bytes | int:
        """The whole body; or the status to refuse it with."""
        body = bytearray()
        try:
            async with asyncio.timeout(self._body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return 400
                    body += message.get("body", b"")
                    if len(body) > limit:
                        return 413
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            return 408

    def _known(self, hosts: Iterable[bytes]) -> bool:
        given = list(hosts)
        if len(given) != 1:
            return False
        name = given[0].decode("latin-1").strip().lower()
        name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
        return name in self._hosts or (self._numeric and _is_numeric(name.strip("[]")))


def _once(body: bytes, receive: Receive) -> Receive:
    """A body that is here already, and after it what comes from the connection."""
    given = False

    async def receive_body() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_body


def _is_numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(send: Send, status: int, body: bytes, extra: Iterable[tuple[bytes, bytes]] = ()) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *extra, *HEADERS]})
    await send({"type": "http.response.body", "body": body})
