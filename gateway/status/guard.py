"""What every request must pass and every answer carries: known host, reading only, and headers that bind the browser.

The list of hosts is the defence against DNS rebinding: a foreign name that resolves to this machine is refused. Knows
ASGI; knows no page.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_WILDCARDS = ("0.0.0.0", "::", "")  # noqa: S104 - recognised, not bound

HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
_LONGEST = 2048  # of path and query; ours are shorter than 100


def hosts_for(host: str) -> frozenset[str]:
    """The names under which the page may be asked for, when it listens on `host`; see `Guard` for wildcards."""
    names = {*LOOPBACK_NAMES, f"[{host}]" if ":" in host else host.lower()}
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
        asset_prefix: paths that a browser may keep.
    """

    def __init__(self, app: ASGIApp, host: str, asset_prefix: str = "/static/") -> None:
        self._app = app
        self._hosts = hosts_for(host)
        self._numeric = host in _WILDCARDS
        self._assets = asset_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, or pass on with the headers added."""
        if scope["type"] != "http":
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _refuse(send, 405, b"this page is for reading\n", [(b"allow", b"GET, HEAD")])
        elif not self._known([value for name, value in scope["headers"] if name == b"host"]):
            await _refuse(send, 421, b"unknown host name: ask for the page under the address it is configured with\n")
        elif len(scope["path"]) + len(scope["query_string"]) > _LONGEST:
            await _refuse(send, 414, b"the address is too long\n")
        else:
            cache = b"public, max-age=3600" if scope["path"].startswith(self._assets) else b"no-store"

            async def with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), *HEADERS, (b"cache-control", cache)]
                await send(message)

            await self._app(scope, receive, with_headers)

    def _known(self, hosts: Iterable[bytes]) -> bool:
        given = list(hosts)
        if len(given) != 1:
            return False
        name = given[0].decode("latin-1").strip().lower()
        name = name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
        return name in self._hosts or (self._numeric and _is_numeric(name.strip("[]")))


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
