"""Where tills meet the coupon desk: a topic of the shop's broker and an HTTP address, both before the same desk.

Composition: turns `[coupons]` into the desk, its clerk and these two workers. A till is known by its topic (the broker
lets a device write its own only), by its bearer token, or, on this very machine, by the name it gives. Nothing here
decides about a coupon.
"""

from __future__ import annotations

import asyncio
import builtins
import hashlib
import hmac
import logging
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, TimeoutError
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from config.loader import data_directory, resolve_secret
from config.settings import CouponSettings, Settings
from devices.transports.mqtt import Delivery, MqttLink
from gateway.access.server_tls import ServerTls
from gateway.clock import Clock
from gateway.errors import Rejected, Unavailable
from gateway.event import Origin
from gateway.intake.normaliser import Normaliser
from gateway.journal.commit_loop import CommitLoop
from gateway.runtime.supervisor import Supervisor
from gateway.shopper.coupon_clerk import CouponClerk
from gateway.shopper.coupon_messages import LANE, LARGEST, Answer, Operation, Request, answer, read_request, to_json
from gateway.shopper.coupon_rules import Limits
from gateway.shopper.coupons import CouponDesk
from gateway.status.connection import Limits as ConnectionLimits
from gateway.status.guard import hosts_for
from gateway.status.http_server import LOOK_AFTER_S, HttpServer
from gateway.workers.broker import ShopBroker
from gateway.workers.stages import SOURCES, WITNESSES

log = logging.getLogger(__name__)

_DECIDE_S = 5.0  # longest that a till waits; it asks again then
_RECEIVE_S = 0.5
_TOGETHER = 64
_BODY_S = 5.0  # longest that a question may take to arrive
_CONNECTIONS = 300  # more than the shares of some addresses: none shuts out the tills of another
_IDLE_S = 60  # between two customers a till keeps its connection
_OPERATIONS: tuple[Operation, ...] = ("check", "reserve", "confirm", "release")
_STATUS = {"bad_request": 400, "busy": 503, "unavailable": 503}
_LANE = re.compile(LANE)


class Gateway(Protocol):
    """What the counter needs of `gateway.app.Gateway`."""

    settings: Settings
    origin: Origin
    clock: Clock
    commits: CommitLoop
    normaliser: Normaliser


class Shop(Gateway, Protocol):
    """What it takes to bring the workers."""

    journal_path: Path
    supervisor: Supervisor
    broker: ShopBroker


class Session(Protocol):
    """What the topics need of a broker session (`MqttLink`)."""

    def open(self) -> None:
        """Begin to connect."""
        ...

    def receive(self, timeout_s: float, limit: int = ...) -> list[Delivery]:
        """Serve the network and return what arrived."""
        ...

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge."""
        ...

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message."""
        ...

    def close(self) -> None:
        """Disconnect."""
        ...


def desk(gateway: Gateway) -> CouponDesk:
    """The desk of `[coupons]`.

    Raises:
        Rejected: an issuer's key is none.
    """
    settings, shop = gateway.settings.coupons, gateway.settings.gateway
    limits = Limits(
        store=shop.store, currency=shop.currency, per_coupon=settings.per_coupon, at_risk=Decimal(settings.at_risk)
    )
    keys = {key.id: key.public for key in settings.keys}
    return CouponDesk(
        gateway.commits, gateway.origin, gateway.clock, limits, keys, hold_s=settings.hold_s,
        clean=gateway.normaliser.name,
    )  # fmt: skip


def add(shop: Shop, desk: CouponDesk) -> None:
    """Bring the clerk and the two doors, as far as `[coupons]` wants them; a topic brings the broker it needs."""
    settings, supervisor = shop.settings.coupons, shop.supervisor
    clerk = partial(CouponClerk, desk, shop.journal_path, restore_on_return=settings.restore_on_return)
    supervisor.add("coupon-clerk", clerk, patience_s=60.0, stage=WITNESSES, later=True)
    if settings.mqtt and shop.broker.mode != "none":
        shop.broker.start()
        topics = (topic_of(shop.settings.gateway.store),)
        supervisor.add(
            "coupon-topics", lambda: CouponTopics(desk, MqttLink(shop.broker.session("mqtt-coupons", topics))),
            patience_s=30.0, stage=SOURCES,
        )  # fmt: skip
    if settings.http:
        supervisor.add("coupon-http", lambda: CouponServer(shop, desk), patience_s=30.0, stage=SOURCES)


def topic_of(store: str) -> str:
    """The topic filter that tills of a store ask on."""
    return f"store/{store}/coupon/+/request"


class CouponTopics:
    """Worker: answers what tills publish, `…/{lane}/request` on `…/{lane}/response`.

    A request is acknowledged after its answer was handed to the broker's session, so one that is lost in between is
    delivered again and, bearing the same number, answered the same.
    """

    def __init__(self, desk: CouponDesk, session: Session) -> None:
        """`session` is not open yet and listens to `topic_of` the store."""
        self._desk = desk
        self._session = session
        self.unanswered = 0

    def open(self) -> None:
        """Begin to connect."""
        self._session.open()

    def step(self, stop: threading.Event) -> None:
        """Answer what has arrived; questions that arrive together are decided together."""
        deliveries = self._session.receive(_RECEIVE_S, _TOGETHER)
        asked = [(delivery.topic, self._ask(delivery)) for delivery in deliveries if not delivery.retained]
        until_s = time.monotonic() + _DECIDE_S
        for topic, future in asked:
            self._tell(topic, _result(future, until_s))
        self._session.ack(deliveries)

    def close(self) -> None:
        """Disconnect."""
        self._session.close()

    def _ask(self, delivery: Delivery) -> Future[Answer] | Answer:
        lane = delivery.topic.split("/")[-2]
        request = answer("bad_request") if delivery.fault else read_request(delivery.payload)
        if isinstance(request, Answer):
            return request
        return self._desk.ask(lane, request) if lane and _LANE.match(lane) else answer("bad_request", request)

    def _tell(self, topic: str, said: Answer) -> None:
        try:
            self._session.publish(topic.removesuffix("request") + "response", to_json(said))
        except (
            Rejected,
            Unavailable,
        ):  # no topic to answer on, or no broker: the till asks again
            self.unanswered += 1


def _result(future: Future[Answer] | Answer, until_s: float) -> Answer:
    if isinstance(future, Answer):
        return future
    try:
        return future.result(max(0.0, until_s - time.monotonic()))
    except TimeoutError:
        return answer("unavailable")


class CouponServer:
    """Worker: serves `POST /v1/coupons/{check,reserve,confirm,release}`."""

    def __init__(self, gateway: Gateway, desk: CouponDesk) -> None:
        """Store."""
        self._settings: CouponSettings = gateway.settings.coupons
        self._desk = desk
        self._tills: dict[str, bytes] = {}
        self._hosts = hosts_for(self._settings.host)
        tls = ServerTls(
            "coupons", self._settings.host, (), (self._settings.cert_file, self._settings.key_file),
            data_directory(gateway.settings), gateway.settings.gateway.store, gateway.clock,
        )  # fmt: skip
        self._server = HttpServer(
            "coupons", self._settings.host, self._settings.port, tls, ConnectionLimits(),
            most=_CONNECTIONS, keep_alive_s=_IDLE_S,
        )  # fmt: skip

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while closed."""
        return self._server.port

    def open(self) -> None:
        """Listen and serve.

        Raises:
            ConfigError: a till's token cannot be read.
            Unavailable: the port is taken, or the address is not this machine's.
        """
        settings = self._settings
        self._tills = {
            till.name: _digest(resolve_secret(till.token, f"coupons.tills.{till.name}.token"))
            for till in settings.tills
        }
        routes = [
            Route(f"/v1/coupons/{operation}", self._handler(operation), methods=["POST"]) for operation in _OPERATIONS
        ]
        self._server.open(Starlette(routes=routes))
        log.info("coupons=open address=%s", self._server.url)

    def step(self, stop: threading.Event) -> None:
        """Look after the server.

        Raises:
            Unavailable: it has ended.
        """
        self._server.look_after()
        stop.wait(LOOK_AFTER_S)

    def close(self) -> None:
        """End the server; safe on one that never began."""
        self._server.close()

    def _handler(self, operation: Operation) -> Any:
        async def handle(http: HttpRequest) -> Response:
            return await self._respond(http, operation)

        return handle

    async def _respond(self, http: HttpRequest, operation: Operation) -> Response:
        lane = self._till(http)
        if lane is None:
            return Response(status_code=401, headers={"www-authenticate": "Bearer"})
        if not self._tills and _host(http) not in self._hosts:
            return Response(status_code=421)  # a browser that was led here under another name
        if http.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return Response(status_code=415)  # a browser may not send JSON to another origin unasked
        body = b""
        try:
            async with asyncio.timeout(_BODY_S):
                async for part in http.stream():
                    body += part
                    if len(body) > LARGEST:
                        return _response(answer("bad_request"), 413)
        except ClientDisconnect:
            return Response(status_code=400)
        except builtins.TimeoutError:
            return Response(status_code=408, headers={"connection": "close"})
        request = read_request(body, operation)
        if isinstance(request, Answer):
            return _response(request)
        return _response(await self._decide(lane or request.lane or "http", request))

    async def _decide(self, lane: str, request: Request) -> Answer:
        future = asyncio.wrap_future(self._desk.ask(lane, request))
        try:
            return await asyncio.wait_for(asyncio.shield(future), _DECIDE_S)
        except builtins.TimeoutError:
            return answer("unavailable", request)

    def _till(self, http: HttpRequest) -> str | None:
        """The till that a request's token belongs to; "" where tills have none, None where it is wrong."""
        if not self._tills:
            return ""
        scheme, _, token = http.headers.get("authorization", "").partition(" ")
        given = _digest(token.strip())
        found = [name for name, wanted in self._tills.items() if hmac.compare_digest(given, wanted)]
        return found[0] if found and token and scheme.lower() == "bearer" else None


def _response(said: Answer, status: int | None = None) -> Response:
    status = status or _STATUS.get(said.reason, 200)
    headers = {"cache-control": "no-store"} | ({"retry-after": "1"} if said.retry else {})
    return Response(to_json(said), status, headers, "application/json")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _host(http: HttpRequest) -> str:
    name = http.headers.get("host", "").strip().lower()
    return name.partition("]")[0] + "]" if name.startswith("[") else name.partition(":")[0]
