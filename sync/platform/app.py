"""The reference platform over HTTP: a Starlette application made by a function; nothing happens at import.

Each handler checks its request, calls the store once, and answers in the words of the contract. Knows no SQL.

*Source*: docs/sync.md; RFC 9530 (Content-Digest), RFC 9457 (problems).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.clock import Clock, SystemClock, rfc3339_s
from gateway.event import STREAMS
from sync.feed import CursorCode, Feed, FeedRefused, FeedToken
from sync.feed_routes import BATCH_TYPE, FeedRoutes, problem
from sync.platform.client_certificates import certificate_of
from sync.platform.enrolments import EnrolmentRefused, Enrolments
from sync.platform.feed_source import PlatformFeed
from sync.platform.history import spelling
from sync.platform.judge import judge as default_judge
from sync.platform.profile_door import ProfileDoor
from sync.platform.profile_pages import ProfilePages
from sync.platform.profiles import Profiles
from sync.platform.store import (
    Consumed,
    GatewayClosed,
    Judge,
    PlatformStore,
    SequenceConflict,
    SequenceGap,
    UnknownEpoch,
    WrongBatch,
)
from sync.signing import verify
from sync.uplink import Lane

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_EPOCH = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"([1-9]\d{0,17})-([1-9]\d{0,17})")
_REASONS = ("fresh", "restored", "salvaged", "conflict", "renamed")
_LOOK_EVERY_S = 0.25


class PlatformLimits(msgspec.Struct, frozen=True):
    """What the platform takes at once. It tells every gateway, which may then send larger batches than by itself."""

    max_events: int = 2000
    max_bytes: int = 1 << 20
    min_interval_ms: int = 0


class Guard(msgspec.Struct, frozen=True):
    """Who may push: gateway name, and SHA-256 of its bearer token or its Ed25519 public key (32 bytes) or both.

    Without any guard everybody may, which suits loopback demos only.
    """

    gateway: str
    digest: bytes = b""
    public_key: bytes = b""


class _Opening(msgspec.Struct):
    reason: str = "fresh"
    previous: str | None = None


class _Gap(msgspec.Struct):
    first: int
    last: int
    reason: str = ""


class _Command(msgspec.Struct):
    id: str
    type: str
    data: dict[str, Any] = {}


class _Enrolment(msgspec.Struct):
    gateway: str
    csr: str
    code: str = ""
    certificate: str = ""


class Platform:
    """The handlers, on one store."""

    def __init__(
        self, store: PlatformStore, limits: PlatformLimits, guards: Sequence[Guard], quota: Callable[[], int | None],
        clock: Clock, admin: bytes | None, enrolments: Enrolments, enrolled_only: bool = False,
    ) -> None:  # fmt: skip
        """`quota`: how many new events may be taken of the next batch; None: all. The rest as in `platform_app`."""
        self._store = store
        self._limits = limits
        self._guards = tuple(guards)
        self._quota = quota
        self._clock = clock
        self._admin = admin
        self._enrolments = enrolments
        self._guards_needed = bool(self._guards or admin or enrolled_only)

    def routes(self) -> list[Route]:
        """Everything but the feed."""
        lane = "/v1/gateways/{gateway}/streams/{stream}/epochs/{epoch}"
        one = "/v1/gateways/{gateway}"
        return [
            Route(lane, self._guarded(self._epoch), methods=["GET", "PUT"]),
            Route(lane + "/events", self._guarded(self._push), methods=["POST"]),
            Route(lane + "/gaps", self._guarded(self._gap), methods=["POST"]),
            Route(one + "/verdicts", self._guarded(self._verdicts), methods=["GET"]),
            Route(one + "/heartbeat", self._guarded(self._heartbeat), methods=["POST"]),
            Route(one + "/commands", self._guarded(self._commands), methods=["GET", "POST"]),
            Route("/v1/enrolments", self._enrol, methods=["POST"]),
        ]

    async def _push(self, request: Request) -> Response:
        lane = _lane(request)
        if request.headers.get("content-type", "").partition(";")[0].strip() != BATCH_TYPE:
            return problem(415, "media-type", f"the body must be {BATCH_TYPE}")
        span = _RANGE.fullmatch(request.headers.get("sync-range", ""))
        if span is None:
            return problem(400, "range-invalid", "Sync-Range must be first-last")
        first, last = int(span[1]), int(span[2])
        coded = await _body(request, self._limits.max_bytes + 4096)
        if not _digest_matches(request.headers.get("content-digest"), coded):
            return problem(400, "digest-mismatch", "Content-Digest is missing or is not that of the body")
        body = _decoded(coded, request.headers.get("content-encoding", "identity"), self._limits.max_bytes)
        if last - first + 1 > self._limits.max_events:
            return problem(413, "too-many-events", f"at most {self._limits.max_events} events")
        consumed = await run_in_threadpool(self._store.consume, lane, first, last, body, self._quota())
        return self._taken(lane, last, consumed)

    def _taken(self, lane: Lane, last: int, consumed: Consumed) -> Response:
        answer: dict[str, Any] = {
            "gateway": lane.gateway,
            "stream": lane.stream,
            "epoch": lane.epoch,
            "acked_through": consumed.acked_through,
            "results": consumed.results,
            "limits": self._limits,
            "server_time": self._now(),
            "commands_pending": 0,
        }
        if consumed.acked_through < last:
            answer["stopped"] = {"seq": consumed.acked_through + 1, "code": "quota", "retry_after_s": 1}
        return _json(answer)

    async def _epoch(self, request: Request) -> Response:
        lane = _lane(request)
        made = False
        if request.method == "PUT":
            opening = _decode(await _body(request, 4096), _Opening)
            if opening.reason not in _REASONS:
                raise FeedRefused(400, "reason-invalid", f"reason is one of {', '.join(_REASONS)}")
            made = await run_in_threadpool(self._store.open_epoch, lane, opening.reason, opening.previous)
        acked, rejected = await run_in_threadpool(self._store.find, lane)
        body = {"gateway": lane.gateway, "stream": lane.stream, "epoch": lane.epoch,
                "acked_through": acked, "rejected": rejected}  # fmt: skip
        return _json(body, 201 if made else 200)

    async def _gap(self, request: Request) -> Response:
        lane = _lane(request)
        gap = _decode(await _body(request, 4096), _Gap)
        await run_in_threadpool(self._store.declare_gap, lane, gap.first, gap.last, gap.reason)
        return _json({"first": gap.first, "last": gap.last})

    async def _verdicts(self, request: Request) -> Response:
        after = request.query_params.get("after", "0").removeprefix("v-")
        if not after.isascii() or not after.isdigit() or len(after) > 18:
            raise FeedRefused(400, "parameter-invalid", "after is a verdict_id")
        verdicts = await run_in_threadpool(self._store.verdicts, request.path_params["gateway"], int(after))
        return _json({"verdicts": verdicts})

    async def _heartbeat(self, request: Request) -> Response:
        body = await _body(request, 64 * 1024)
        _decode(body, dict[str, Any])
        await run_in_threadpool(self._store.beat, request.path_params["gateway"], body, self._now())
        return _json({"server_time": self._now()})

    async def _commands(self, request: Request) -> Response:
        gateway = request.path_params["gateway"]
        if request.method == "POST":
            command = _decode(await _body(request, 256 * 1024), _Command)
            event = {"specversion": "1.0", "id": command.id, "source": "//platform",
                     "type": f"store.command.{command.type}.v1", "time": self._now(), "data": command.data}  # fmt: skip
            made = await run_in_threadpool(self._store.command, gateway, command.id, msgspec.json.encode(event))
            return _json({"id": command.id}, 201 if made else 200)
        code = CursorCode(bytes.fromhex(self._store.fact("secret")) + gateway.encode(), 1)
        generation = bytes.fromhex(self._store.fact("generation"))
        text = request.query_params.get("after", "")
        (after,), tag = code.decode(text) if text else ((0,), generation)
        head = await run_in_threadpool(self._store.command_head, gateway)
        if tag != generation or after > head:
            raise FeedRefused(409, "generation-changed", "this platform was restored; begin again without `after`")
        wait = request.query_params.get("wait", "0")
        deadline_s = time.monotonic() + min(60.0, float(wait) if re.fullmatch(r"\d{1,3}", wait) else 0.0)
        while not (rows := await run_in_threadpool(self._store.commands, gateway, after, 100)):
            if time.monotonic() >= deadline_s or await request.is_disconnected():
                break
            await asyncio.sleep(_LOOK_EVERY_S)
        following = code.encode((rows[-1][0] if rows else after,), generation)
        body = b"[" + b",".join(row[1] for row in rows) + b"]"
        return Response(body, 200, {"feed-next": following, "cache-control": "no-store"}, BATCH_TYPE)

    async def _enrol(self, request: Request) -> Response:
        """No credentials: the code, or the certificate that still runs, is the proof."""
        try:
            asked = _decode(await _body(request, 16 * 1024), _Enrolment)
            if not _NAME.fullmatch(asked.gateway) or bool(asked.code) == bool(asked.certificate):
                return problem(400, "body-invalid", "gateway, csr, and either code or certificate are needed")
            work = (
                partial(self._enrolments.claim, asked.gateway, asked.code, asked.csr)
                if asked.code
                else partial(self._enrolments.renew, asked.gateway, asked.certificate, asked.csr)
            )
            return _json(await run_in_threadpool(work), 201)
        except EnrolmentRefused as refused:
            return problem(refused.status, refused.kind, refused.detail)
        except FeedRefused as refused:
            return problem(refused.status, refused.kind, refused.detail, refused.extra)
        except GatewayClosed:
            return problem(410, "gateway-closed", "this gateway is closed")
        except OSError:  # the authority's file
            return problem(503, "unavailable", "the authority cannot be used now", {"retry_after_s": 60})

    def _guarded(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            if not _NAME.fullmatch(request.path_params["gateway"]):
                return problem(404, "gateway-unknown", "there is no such gateway")
            if self._guards_needed and not await run_in_threadpool(self._may, request):
                return problem(401, "unauthorised", "this gateway's token is needed")
            try:
                return await handler(request)
            except GatewayClosed:
                return problem(410, "gateway-closed", "this gateway or epoch is closed")
            except UnknownEpoch:
                return problem(
                    404 if request.method == "GET" else 412, "unknown-epoch", "open the epoch with PUT first"
                )
            except SequenceGap as gap:
                return problem(409, "sequence-gap", "earlier events are missing", {"expected_seq": gap.expected})
            except SequenceConflict as conflict:
                return problem(409, "sequence-conflict", "another event has this number", {"seq": conflict.seq})
            except WrongBatch as error:
                return problem(400, "batch-invalid", str(error))
            except FeedRefused as refused:
                return problem(refused.status, refused.kind, refused.detail, refused.extra)

        return answer

    def _now(self) -> str:
        return rfc3339_s(self._clock.now().wall_s)

    def _may(self, request: Request) -> bool:
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode()).digest() if scheme.lower() == "bearer" else b""
        if request.method == "POST" and request.url.path.endswith("/commands"):
            return self._admin is not None and hmac.compare_digest(self._admin, digest)
        gateway = request.path_params["gateway"]
        shown = certificate_of(request.scope)
        if shown is not None and self._enrolments.is_of(gateway, shown):
            return True
        mine = [guard for guard in self._guards if guard.gateway == gateway]
        if digest and any(hmac.compare_digest(guard.digest, digest) for guard in mine):
            return True
        keys = [Ed25519PublicKey.from_public_bytes(guard.public_key) for guard in mine if guard.public_key]
        keys += self._enrolments.keys(gateway)
        now_s, fields = self._clock.now().wall_s, dict(request.headers)
        return any(verify({gateway: key}, now_s, request.method, str(request.url), fields) == gateway for key in keys)


def platform_app(
    path: Path,
    *,
    guards: Sequence[Guard] = (),
    tokens: Sequence[FeedToken] = (),
    limits: PlatformLimits | None = None,
    judge: Judge = default_judge,
    quota: Callable[[], int | None] = lambda: None,
    durable: bool = True,
    clock: Clock | None = None,
    admin: bytes | None = None,
    enrolled_only: bool = False,
    started: Callable[[Enrolments], None] = lambda enrolments: None,
    profiles: bool = False,
    region: str = "CN",
    time_zone: str = "Asia/Shanghai",
) -> Starlette:
    """The platform as an ASGI application; its database is opened when the server starts.

    Args:
        path: the SQLite file.
        guards: which gateways may push, with which token; none: every gateway, which only suits a loopback address.
        tokens: who may read the feed; none: nobody.
        limits: of a batch.
        judge: decides on each event.
        quota: see `Platform`.
        durable: see `PlatformStore`.
        clock: wall time for answers.
        admin: SHA-256 of the token that may give commands; with neither it nor guards, everybody may.
        enrolled_only: without guards too, a gateway must show the key that it enrolled with.
        started: called when the database is open; may give claim codes. `app.state.enrolments` is the same object.
        profiles: match persons, in a database and with keys beside this one, and show them under /profiles; then
            `app.state.profiles` is there.
        region: where a phone number without a country code is from.
        time_zone: of the times on the profile pages, IANA; the shops'.
    """
    store = PlatformStore(path, judge, durable=durable)
    source = PlatformFeed(store)
    app = Starlette()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await run_in_threadpool(store.open)
        if persons is not None:
            await run_in_threadpool(persons.open)
        await run_in_threadpool(started, enrolments)
        feed = Feed(source, source, bytes.fromhex(store.fact("secret")), 1)
        app.router.routes.extend(FeedRoutes(feed, tokens).routes())
        try:
            yield
        finally:
            if persons is not None:
                await run_in_threadpool(persons.close)
            await run_in_threadpool(store.close)

    app.router.lifespan_context = lifespan
    time_of = clock or SystemClock()
    enrolments = Enrolments(store, path.with_name(path.name + ".authority"), time_of)
    platform = Platform(store, limits or PlatformLimits(), guards, quota, time_of, admin, enrolments, enrolled_only)
    app.router.routes.extend(platform.routes())
    persons = Profiles(store, time_of, durable=durable) if profiles else None
    if persons is not None:
        door = ProfileDoor(admin, open_to_all=not (guards or admin or enrolled_only))
        pages = ProfilePages(persons, time_of, door, normalise=spelling(region), time_zone=time_zone)
        app.router.routes.extend(pages.routes())
    app.state.profiles = persons
    app.state.store = store
    app.state.enrolments = enrolments
    return app


def _lane(request: Request) -> Lane:
    params = request.path_params
    if params["stream"] not in STREAMS or not _EPOCH.fullmatch(params["epoch"]):
        raise FeedRefused(400, "lane-invalid", "no such stream, or the epoch is not 32 hexadecimal digits")
    return Lane(params["gateway"], params["stream"], params["epoch"])


def _json(body: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, {"cache-control": "no-store"}, "application/json")


def _decode(body: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FeedRefused(400, "body-invalid", str(error)) from None


async def _body(request: Request, limit: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise FeedRefused(413, "body-too-large", f"at most {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _digest_matches(field: str | None, body: bytes) -> bool:
    expected = "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"
    return any(hmac.compare_digest(part.strip(), expected) for part in (field or "").split(","))


def _decoded(body: bytes, coding: str, limit: int) -> bytes:
    """The body without its content coding, never more than `limit` bytes of it."""
    coding = coding.strip().lower()
    if coding in ("", "identity"):
        plain = body
    elif coding == "gzip":
        inflate = zlib.decompressobj(wbits=31)
        try:
            plain = inflate.decompress(body, limit + 1)
        except zlib.error as error:
            raise FeedRefused(400, "coding-invalid", str(error)) from None
        if len(plain) <= limit and not inflate.eof:
            raise FeedRefused(400, "coding-invalid", "the gzip stream is not complete")
    elif coding == "zstd":
        plain = _unzstd(body, limit)
    else:
        raise FeedRefused(415, "coding-unknown", "gzip, zstd or identity")
    if len(plain) > limit:
        raise FeedRefused(413, "body-too-large", f"at most {limit} bytes")
    return plain


def _unzstd(body: bytes, limit: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise FeedRefused(415, "coding-unknown", "zstd is not installed here; gzip or identity") from None
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(body)
        plain: bytes = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise FeedRefused(400, "coding-invalid", str(error)) from None
    return plain
