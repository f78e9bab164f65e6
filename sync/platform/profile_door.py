"""The door before the profiles: who may come in, under which name, and what a request may bring.

Open on loopback while the platform has no guards at all; else the platform's own token is needed, by Bearer or as the
password that the browser asks for: the user name beside it says who looks. Whatever changes something is a POST from a
page of the same origin. Knows no profile.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qs, urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from gateway.errors import Unavailable
from sync.feed_routes import problem

Fields = Mapping[str, str]
Handler = Callable[[Request], Awaitable[Response]]

_BODY_BYTES: Final = 16 * 1024
_NAME: Final = 32
_LOOPBACK: Final = ("localhost", "127.0.0.1", "[::1]")


class BodyError(Exception):
    """What came is not what was asked for."""


class ProfileDoor:
    """Stands before every handler."""

    def __init__(self, admin: bytes | None, *, open_to_all: bool) -> None:
        """`admin`: SHA-256 of the token that is needed; `open_to_all`: none is, but only under a loopback name."""
        self._admin, self._open = admin, open_to_all

    def guarded(self, handler: Handler) -> Handler:
        """The handler behind the door."""

        async def answer(request: Request) -> Response:
            if (refused := self._refused(request)) is not None:
                return refused
            try:
                return await handler(request)
            except BodyError as error:
                return problem(400, "body-invalid", str(error))
            except Unavailable as error:
                return problem(503, "unavailable", error.reason)

        return answer

    def who(self, request: Request) -> str:
        """Who looks: the name given with the token, `token` without one, `local` where no token is needed."""
        if self._open:
            return "local"
        name = "".join(it for it in _shown(request)[0] if it.isprintable()).strip()[:_NAME]
        return name or "token"

    def _refused(self, request: Request) -> Response | None:
        if self._open:
            host = request.headers.get("host", "").lower()
            name = host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
            if name not in _LOOPBACK:
                return problem(421, "host-unknown", "without a token, profiles are for this machine only")
        elif self._admin is None:
            return problem(403, "forbidden", "start the platform with --admin to read profiles")
        elif not hmac.compare_digest(self._admin, hashlib.sha256(_shown(request)[1].strip().encode()).digest()):
            refused = problem(401, "unauthorised", "the platform's own token is needed")
            refused.headers["www-authenticate"] = 'Basic realm="profiles", charset="UTF-8"'
            return refused
        if request.method == "POST" and not _same_origin(request):
            return problem(403, "cross-origin", "this came from a page of somebody else")
        return None


def _shown(request: Request) -> tuple[str, str]:
    """Name and token."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "", text
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        return "", ""
    return name, password


def _same_origin(request: Request) -> bool:
    """A program says nothing of an origin; a browser always does when it posts."""
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


async def _read(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _BODY_BYTES:
            raise BodyError(f"at most {_BODY_BYTES} bytes")
    return body


async def form(request: Request) -> Fields:
    """The fields of a form."""
    try:
        fields = parse_qs((await _read(request)).decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise BodyError("it is no form") from None
    return {name: values[0].strip() for name, values in fields.items()}


async def json_object(request: Request) -> Fields:
    """A JSON object of strings."""
    try:
        return msgspec.json.decode(await _read(request) or b"{}", type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BodyError("a JSON object of strings is needed") from None
