"""The feed over HTTP: Starlette routes that a status server or a platform mounts.

Turns requests into calls of `Feed` on one thread of its own, waits for new events without holding a thread, and turns
what it is told into headers and problems. Knows no SQLite and no event.

*Source*: docs/sync.md, "Pull"; RFC 9457; RFC 8288 (Link); RFC 9110 §13 (preconditions).
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

import anyio
import anyio.to_thread
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.errors import StorefrontError
from sync.feed import MAX_LIMIT, MAX_WAIT_S, Feed, FeedRefused, FeedToken, Position, admit, allowed_streams

BATCH_TYPE = "application/cloudevents-batch+json"
PROBLEM_TYPE = "application/problem+json"
PROBLEM_PREFIX = "urn:storefront:problem:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOOK_EVERY_S = 0.25
_LISTENS_EVERY_S = 2.0  # how often it is looked whether a waiting consumer is still there
_MAX_BODY_BYTES = 64 * 1024

T = TypeVar("T")
Export = Callable[[Sequence[bytes]], bytes]


class FeedLimits(msgspec.Struct, frozen=True):
    """What one consumer may do: `requests_s` on average, `burst` at once, `polls` waiting, `all_polls` of everybody."""

    requests_s: float = 50.0
    burst: float = 100.0
    polls: int = 4
    all_polls: int = 200


def problem(status: int, kind: str, detail: str, extra: Mapping[str, object] | None = None) -> Response:
    """An RFC 9457 answer."""
    body = {"type": PROBLEM_PREFIX + kind, "title": kind.replace("-", " "), "status": status, "detail": detail}
    body.update(extra or {})
    headers = {"retry-after": str(extra["retry_after_s"])} if extra and "retry_after_s" in extra else {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status, headers, PROBLEM_TYPE)


class _Bucket:
    def __init__(self, limits: FeedLimits) -> None:
        self.left = limits.burst
        self.at_s = time.monotonic()
        self.polls = 0


class FeedRoutes:
    """The feed's handlers. Made once; used by one event loop."""

    def __init__(
        self, feed: Feed, tokens: Sequence[FeedToken], limits: FeedLimits | None = None,
        exports: Mapping[str, Export] | None = None,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            feed: answers; called on one thread at a time.
            tokens: who may read what; empty: nobody.
            limits: see `FeedLimits`.
            exports: further formats by the name that `?format=` gives; each returns a JSON document.
        """
        self._feed = feed
        self._tokens = tuple(tokens)
        self._limits = limits or FeedLimits()
        self._exports = dict(exports or {})
        self._one_thread: anyio.CapacityLimiter | None = None
        self._buckets: dict[str, _Bucket] = {}
        self._polls = 0
        self._high: Position = ()
        self._news = asyncio.Event()
        self._lookout: asyncio.Task[None] | None = None

    def routes(self) -> list[Route]:
        """For `Starlette(routes=…)`."""
        return [
            Route("/v1/feed", self._guarded(self._read), methods=["GET"]),
            Route("/v1/feed/snapshot", self._guarded(self._snapshot), methods=["GET"]),
            Route("/v1/feed/consumers/{name}", self._guarded(self._consumer), methods=["GET", "PUT", "DELETE"]),
        ]

    async def _read(self, request: Request, token: FeedToken) -> Response:
        query = request.query_params
        streams = allowed_streams(token, query.get("streams"))
        limit = int(_number(query.get("limit"), "limit", 500, 1, MAX_LIMIT))
        wait_s = _number(query.get("wait"), "wait", 0, 0, MAX_WAIT_S)
        export = query.get("format")
        if export is not None and export not in self._exports:
            raise FeedRefused(400, "format-unknown", "the format is not known here")
        position = await self._on_thread(lambda: self._feed.start(token, query.get("after"), streams))
        page, fields = await self._on_thread(lambda: self._feed.page(position, streams, limit))
        if not page.events and wait_s:
            deadline_s = time.monotonic() + wait_s
            async with self._poll(token):
                while not page.events and await self._changed(request, page.next, streams, deadline_s):
                    page, fields = await self._on_thread(partial(self._feed.page, page.next, streams, limit))
        following = {"after": fields["feed-next"], "limit": str(limit), "streams": ",".join(streams)}
        if wait_s:
            following["wait"] = f"{wait_s:g}"
        headers = {
            **fields,
            "link": f'<{request.url.path}?{urlencode(following, safe=",")}>; rel="next"',
            "cache-control": "no-store",
        }
        if export is not None:
            body = await self._on_thread(lambda: self._exports[export](page.events))
            return Response(body, 200, headers, "application/json")
        return Response(b"[" + b",".join(page.events) + b"]", 200, headers, BATCH_TYPE)

    async def _snapshot(self, request: Request, token: FeedToken) -> Response:
        body = await self._on_thread(lambda: self._feed.pointers(self._feed.source.bounds()))
        return Response(msgspec.json.encode(body), 200, {"cache-control": "no-store"}, "application/json")

    async def _consumer(self, request: Request, token: FeedToken) -> Response:
        name = request.path_params["name"]
        if not _NAME.fullmatch(name) or name != token.consumer:
            raise FeedRefused(403, "consumer-forbidden", "the token is another consumer's")
        if request.method == "DELETE":
            dropped = await self._on_thread(lambda: self._feed.offsets.drop(name))
            if not dropped:
                raise FeedRefused(404, "consumer-unknown", "it never committed an offset")
            return Response(status_code=204)
        if request.method == "PUT":
            cursor = _cursor_of(await _body(request))
            match, none_match = request.headers.get("if-match"), request.headers.get("if-none-match")
            offset = await self._on_thread(lambda: self._feed.commit(token, cursor, match, none_match))
        else:
            found = await self._on_thread(lambda: self._feed.offsets.find(name))
            if found is None:
                raise FeedRefused(404, "consumer-unknown", "it never committed an offset")
            offset = found
        text = await self._on_thread(lambda: self._feed.cursor(offset.position))
        body = {"consumer": name, "cursor": text, "streams": token.streams, "required": token.required}
        return Response(msgspec.json.encode(body), 200, {"etag": f'"{offset.version}"'}, "application/json")

    # -- inside

    def _guarded(
        self, handler: Callable[[Request, FeedToken], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                token = admit(self._tokens, request.headers.get("authorization"))
                self._spend(token)
                return await handler(request, token)
            except FeedRefused as refused:
                return problem(refused.status, refused.kind, refused.detail, refused.extra)
            except StorefrontError as error:
                return problem(503, "unavailable", error.reason, {"retry_after_s": 5})

        return answer

    def _spend(self, token: FeedToken) -> None:
        limits, now_s = self._limits, time.monotonic()
        bucket = self._buckets.setdefault(token.consumer, _Bucket(limits))
        bucket.left = min(limits.burst, bucket.left + (now_s - bucket.at_s) * limits.requests_s)
        bucket.at_s = now_s
        if bucket.left < 1.0:
            raise FeedRefused(429, "too-many-requests", "slow down, or use `wait`", {"retry_after_s": 1})
        bucket.left -= 1.0

    @contextlib.asynccontextmanager
    async def _poll(self, token: FeedToken) -> AsyncIterator[None]:
        bucket = self._buckets[token.consumer]
        if bucket.polls >= self._limits.polls:
            raise FeedRefused(429, "too-many-polls", "this consumer waits already", {"retry_after_s": 1})
        if self._polls >= self._limits.all_polls:
            raise FeedRefused(503, "too-many-polls", "too many consumers wait", {"retry_after_s": 5})
        bucket.polls += 1
        self._polls += 1
        try:
            yield
        finally:
            bucket.polls -= 1
            self._polls -= 1

    async def _changed(self, request: Request, position: Position, streams: Sequence[str], deadline_s: float) -> bool:
        """Wait until there is more than `position`; False at the deadline or when nobody listens any more."""
        while (left_s := deadline_s - time.monotonic()) > 0:
            news = self._watch()
            if self._high and self._feed.source.lag(position, self._high, streams) > 0:
                return True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), min(left_s, _LISTENS_EVERY_S))
            if await request.is_disconnected():
                return False
        return False

    def _watch(self) -> asyncio.Event:
        """Set at the next commit; one task looks at the journal for everybody who waits."""
        if self._lookout is None or self._lookout.done():
            self._news = asyncio.Event()
            self._lookout = asyncio.get_running_loop().create_task(self._look_out())
        return self._news

    async def _look_out(self) -> None:
        while self._polls:
            try:
                high = (await self._on_thread(self._feed.source.bounds)).high
            except StorefrontError:
                high = self._high  # whoever asks next is told
            if high != self._high:
                self._high = high
                news, self._news = self._news, asyncio.Event()
                news.set()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _on_thread(self, work: Callable[[], T]) -> T:
        if self._one_thread is None:
            self._one_thread = anyio.CapacityLimiter(1)
        return await anyio.to_thread.run_sync(work, limiter=self._one_thread)


def _number(text: str | None, name: str, default: float, low: float, high: float) -> float:
    if text is None:
        return default
    if not re.fullmatch(r"\d{1,9}(\.\d{1,3})?", text):
        raise FeedRefused(400, "parameter-invalid", f"{name} must be a number")
    value = float(text)
    if not low <= value:
        raise FeedRefused(400, "parameter-invalid", f"{name} must be at least {low:g}")
    return min(value, high)


def _cursor_of(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body, type=dict[str, Any])["cursor"])
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        raise FeedRefused(400, "body-invalid", 'the body must be {"cursor": "…"}') from None


async def _body(request: Request) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > _MAX_BODY_BYTES:
            raise FeedRefused(413, "body-too-large", f"at most {_MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
