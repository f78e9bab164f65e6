"""The worker behind the page: an HTTP server on a thread of its own, and the desk that answers it.

Two threads, one direction each: the server's loop takes requests and waits; this worker's thread looks at the gateway,
renders, and hands the answer back. So the journal is read by one thread only and a slow visitor holds up nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from config.loader import data_directory
from gateway.access.accounts import Accounts, Role
from gateway.access.server_tls import LOOPBACK, ServerTls
from gateway.event import Stream
from gateway.event_types import AuditRecorded
from gateway.journal.quarantine import Quarantined
from gateway.reports.making import Order
from gateway.reports.render import Format
from gateway.reports.words import Language
from gateway.status.connection import Limits
from gateway.status.guard import Guard
from gateway.status.http_server import LOOK_AFTER_S, HttpServer
from gateway.status.observer import Observer
from gateway.status.page import Page
from gateway.status.parts import Gateway
from gateway.status.quarantine import Replayed
from gateway.status.report_routes import Chosen
from gateway.status.routes import Busy, application, body_limit
from gateway.status.session import Door, Doorway, Visitor
from gateway.status.snapshot import Snapshot, snapshot

__all__ = ["Gateway", "StatusServer"]

log = logging.getLogger(__name__)
T = TypeVar("T")

FRESH_S = 0.45  # a snapshot this old is made anew
_AT_ONCE_S = 0.1  # and this old for viewers who look at the same moments: what a page asked before is no answer
_QUESTIONS = 128
_CONNECTIONS = 100
_ANSWER_S = 10.0
_LOOK_S = 0.2


class StatusServer:
    """Worker: `open` binds and serves, each `step` answers what was asked, `close` ends it within a second."""

    def __init__(self, gateway: Gateway, limits: Limits | None = None) -> None:
        """Store.

        Args:
            gateway: what the page looks at.
            limits: of its connections; the usual ones if None.
        """
        self._limits = limits or Limits()
        self._gateway = gateway
        self._settings = gateway.settings.page
        self._desk = _Desk(Observer(gateway), Page(gateway.settings.gateway.time_zone))
        accounts = Accounts(data_directory(gateway.settings), gateway.clock)
        self.door = Door(
            accounts, gateway.audit, gateway.clock, local=self._settings.host in LOOPBACK, changed=self._desk.outdated
        )
        tls = ServerTls(
            "page", self._settings.host, self._settings.names, (self._settings.cert_file, self._settings.key_file),
            data_directory(gateway.settings), gateway.settings.gateway.store, gateway.clock,
        )  # fmt: skip
        self._server = HttpServer(
            "page", self._settings.host, self._settings.port, tls, self._limits, most=_CONNECTIONS
        )

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while closed. Differs from the configured one when that is 0."""
        return self._server.port

    def open(self) -> None:
        """Bind the port and serve.

        Raises:
            Unavailable: the port is taken or the address is not this machine's.
        """
        gateway = self._gateway
        site = application(
            self._desk, gateway.settings.gateway.language, lambda: gateway.camera_desk, gateway.alerts,
            lambda: gateway.setup_desk,
            lambda: gateway.settings,
        )  # fmt: skip
        app = Guard(
            Doorway(site, self.door),
            self._settings.host,
            names=self._settings.names,
            body_limit=body_limit(site),
            body_s=self._limits.head_s,
        )
        self._server.open(app, self._desk.begin)
        log.info("page=open address=%s", self._server.url)

    def step(self, stop: threading.Event) -> None:
        """Wait for questions and answer them.

        Raises:
            Unavailable: the server has ended.
        """
        self._server.look_after()
        self._desk.answer(LOOK_AFTER_S)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._desk.wake()

    def close(self) -> None:
        """End the server, then release what it looked at."""
        self._desk.stop()
        self._server.close()
        self.door.close()
        self._desk.close()


class _Desk:
    """Questions from the loop's thread, answers from the worker's."""

    def __init__(self, observer: Observer, page: Page) -> None:
        self._observer = observer
        self._page = page
        self._questions: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue(_QUESTIONS)
        self._snapshot: Snapshot | None = None
        self._looked_s = 0.0
        self._rendered: dict[tuple[str, str, Role], dict[str, str]] = {}
        self._exposition: Callable[[Snapshot], tuple[bytes, str]] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[tuple[str, str, Role], asyncio.Future[dict[str, str]]] = {}
        self._stopped = threading.Event()
        self.stopping = asyncio.Event()

    # -- on the loop's thread

    def outdated(self) -> None:
        """Somebody changed something: the next answer comes from a new look, so that they see it done."""
        self._looked_s = -math.inf

    def begin(self) -> None:
        """Remember the loop, so that the end can be told to it."""
        self._loop = asyncio.get_running_loop()

    async def snapshot(self) -> Snapshot:
        """The present state."""
        return await self._ask(self._look)

    async def page(self, name: str, language: str, visitor: Visitor) -> bytes:
        """A page, rendered."""
        return await self._ask(lambda: self._page.page(name, self._look(), language, visitor).encode())

    async def form(self, name: str, language: str, visitor: Visitor, values: Mapping[str, object]) -> bytes:
        """A form's page, rendered."""
        return await self._ask(lambda: self._page.form(name, language, visitor, values).encode())

    async def acts(self, limit: int) -> list[AuditRecorded]:
        """The newest records of the audit trail, read piece by piece: others are answered in between."""
        until_s = time.monotonic() + _ANSWER_S
        while (found := await self._ask(lambda: self._observer.acts(limit))) is None:
            if time.monotonic() > until_s:
                raise Busy("answer", "page", "the gateway is too busy to answer", "try again in a moment")
        return found

    async def parts(self, name: str, language: str, role: Role) -> dict[str, str]:
        """A page's parts; who asks at the same moment shares the answer."""
        key = name, language, role
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(lambda: self._parts(name, language, role)))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: tuple[str, str, Role], done: asyncio.Future[dict[str, str]]) -> None:
        self._asked.pop(key, None)
        if not done.cancelled():
            done.exception()  # seen, also when nobody waits for it any more

    async def quarantine(self, before: int | None, limit: int) -> Sequence[Quarantined]:
        """Entries of the quarantine."""
        return await self._ask(lambda: self._observer.quarantine(before, limit))

    async def quarantined(self, entry: int) -> tuple[Quarantined, bytes]:
        """One of them, opened."""
        return await self._ask(lambda: self._observer.quarantined(entry))

    async def replay(self, entry: int, wait_s: float) -> Replayed | None:
        """Lay the request down and look for its answer from time to time; nobody else waits for that."""
        request = await self._ask(lambda: self._observer.ask_replay(entry))
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and not self._stopped.is_set():
            if (outcome := await self._ask(request)) is not None:
                return outcome
            await asyncio.sleep(_LOOK_S)
        return None

    async def chosen(self, day: str, *, week: bool) -> Chosen:
        """What a choice on the page of reports means."""
        return await self._ask(lambda: self._observer.chosen(day, week=week))

    async def order(self, day: str, *, week: bool, format: Format, language: Language) -> Order:
        """All that making a report takes."""
        return await self._ask(lambda: self._observer.order(day, week=week, format=format, language=language))

    async def events(self, stream: Stream, limit: int) -> list[bytes]:
        """The newest events."""
        return await self._ask(lambda: [event.json for event in self._observer.newest(stream, limit)])

    async def metrics(self) -> tuple[bytes, str]:
        """The metrics' text."""
        return await self._ask(self._metrics)

    async def _ask(self, work: Callable[[], T]) -> T:
        if self._stopped.is_set():
            raise _stopping()
        answer: Future[T] = Future()
        try:
            self._questions.put_nowait((work, answer))
        except queue.Full:
            raise Busy("answer", "page", "too many people look at once", "try again in a moment") from None
        try:
            return await asyncio.wait_for(asyncio.wrap_future(answer), _ANSWER_S)
        except TimeoutError:
            raise Busy("answer", "page", "the gateway is too busy to answer", "try again in a moment") from None
        except asyncio.CancelledError:
            answer.cancel()
            raise

    # -- on the worker's thread

    def answer(self, timeout_s: float) -> None:
        """Wait for a question and answer it and all that wait behind it."""
        with contextlib.suppress(queue.Empty):
            self._answer(*self._questions.get(timeout=timeout_s))
            for _ in range(_QUESTIONS):
                self._answer(*self._questions.get_nowait())

    def wake(self) -> None:
        """Let `answer` return; where questions wait it will anyway. From any thread."""
        with contextlib.suppress(queue.Full):
            self._questions.put_nowait((lambda: None, Future()))

    def stop(self) -> None:
        """Let the streams end; nothing is answered any more."""
        self._stopped.set()
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has closed already
                self._loop.call_soon_threadsafe(self.stopping.set)
        with contextlib.suppress(queue.Empty):
            while True:
                _, answer = self._questions.get_nowait()
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(_stopping())

    def close(self) -> None:
        """Release the journal."""
        self._observer.close()

    def _answer(self, work: Callable[[], Any], answer: Future[Any]) -> None:
        if not answer.set_running_or_notify_cancel():
            return
        try:
            answer.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised again where the request is answered
            answer.set_exception(error)

    def _look(self, fresh_s: float = FRESH_S) -> Snapshot:
        now_s = time.monotonic()
        if self._snapshot is None or now_s - self._looked_s >= fresh_s:
            self._looked_s = now_s  # before the look: what is changed during it is for the next one
            self._snapshot = snapshot(self._observer.observe())
            self._rendered.clear()
        return self._snapshot

    def _parts(self, name: str, language: str, role: Role) -> dict[str, str]:
        seen = self._look(_AT_ONCE_S)
        key = name, language, role
        if key not in self._rendered:
            self._rendered[key] = self._page.parts(name, seen, language, role)
        return self._rendered[key]

    def _metrics(self) -> tuple[bytes, str]:
        if self._exposition is None:  # imported when first asked for: most gateways are never scraped
            from gateway.status.metrics import exposition

            self._exposition = exposition
        return self._exposition(self._look())


def _stopping() -> Busy:
    return Busy("answer", "page", "the gateway is stopping", "it is back in a moment")
