"""One HTTP server of the gateway: a bound port, a thread with the server's loop, its certificate, and a quick end.

The page, the feed and the tills' counter are each one of these with another application. Knows no request.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from gateway.access.server_tls import ServerTls
from gateway.errors import Unavailable
from gateway.status.connection import Limits, Loop, bound, protocol

LOOK_AFTER_S = 5.0  # how often its worker calls `look_after`
_BACKLOG = 64
_HEAD_BYTES = 16_384
_CLOSE_S = 1.0
_COMING_IN_S = 0.01  # whoever is accepted in the last turn of the loop begins first: asyncio would forget them open
_FORCED_S = 0.3  # of it, for connections that do not end by themselves


class HttpServer:
    """A part of a worker: its `open`, `step` and `close` call these. Used on the worker's thread."""

    def __init__(
        self, name: str, host: str, port: int, tls: ServerTls, limits: Limits, *, most: int, keep_alive_s: int = 5
    ) -> None:
        """Store.

        Args:
            name: of its table in the configuration, as errors name it.
            host: the address to listen on.
            port: to listen on; 0 takes a free one.
            tls: whether it speaks TLS, and with which certificate.
            limits: what one connection, and one address, may have.
            most: connections and requests at the same time.
            keep_alive_s: how long a connection may idle.
        """
        self._name, self._host, self._port, self._tls = name, host, port, tls
        self._limits, self._most, self._keep_alive_s = limits, most, keep_alive_s
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; 0 while closed. Differs from the configured one when that is 0."""
        return 0 if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is: scheme, address and port."""
        return f"{'https' if self._tls.needed else 'http'}://{self._host}:{self.port}"

    def open(self, app: Any, begun: Callable[[], None] = lambda: None) -> None:
        """Bind the port and serve.

        Args:
            app: the ASGI application.
            begun: called once on the server's loop before anything is served.

        Raises:
            ConfigError: the given certificate cannot be used.
            Unavailable: the port is taken, or the address is not this machine's.
        """
        context = self._tls.context() if self._tls.needed else None
        self._socket = self._listen()
        config = uvicorn.Config(
            app, loop="asyncio", http=protocol(self._limits), ws="none", lifespan="off", log_config=None,
            access_log=False, log_level="warning", server_header=False, proxy_headers=False,
            limit_concurrency=self._most, timeout_keep_alive=self._keep_alive_s, timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=_HEAD_BYTES, backlog=_BACKLOG, date_header=False,
        )  # fmt: skip
        config.load()
        config.ssl = context
        server, listening = _Server(config), self._socket

        async def serve() -> None:
            server.loop = asyncio.get_running_loop()
            begun()
            await server.serve(sockets=[listening])

        def run() -> None:
            with asyncio.Runner(loop_factory=Loop) as runner:
                runner.run(serve())

        self._server = server
        self._thread = threading.Thread(target=run, name=f"{self._name}-http", daemon=True)
        self._thread.start()

    def look_after(self) -> None:
        """See that it serves, and renew its certificate.

        Raises:
            Unavailable: it has ended.
        """
        if self._thread is not None and not self._thread.is_alive():
            raise Unavailable(f"serve {self._name}", self._host, "the HTTP server has ended", "see the log")
        self._tls.renew()

    def close(self) -> None:
        """End it within a second; safe on one that never began."""
        deadline_s = time.monotonic() + _CLOSE_S
        if self._server is not None:
            self._server.end()
        if self._thread is not None:
            self._thread.join(_CLOSE_S - _FORCED_S)
            if self._thread.is_alive() and self._server is not None:
                self._server.force_exit = True
                self._thread.join(max(0.1, deadline_s - time.monotonic()))
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _listen(self) -> socket.socket:
        address = f"{self._host}:{self._port}"
        try:
            family = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            # The protocol by name: asyncio turns Nagle's delay (40 ms an answer) off only where it sees TCP.
            listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        except OSError as error:
            raise Unavailable(
                f"open {self._name}", address, str(error), f"set {self._name}.host to an address of this machine"
            ) from error
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound(listening, self._limits)
            listening.bind((self._host, self._port))
            listening.listen(_BACKLOG)
        except OSError as error:
            listening.close()
            raise Unavailable(
                f"open {self._name}", address, error.strerror or str(error),
                f"another program uses this port: end it, or set {self._name}.port to another one",
            ) from error  # fmt: skip
        return listening


class _Server(uvicorn.Server):
    """uvicorn's, told when to end: its own loop looks ten times a second whether it should, and what day it is."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.loop: asyncio.AbstractEventLoop | None = None  # once it runs
        self._ended = asyncio.Event()

    async def main_loop(self) -> None:
        """Until `end`."""
        await self._ended.wait()
        await asyncio.sleep(_COMING_IN_S)

    def end(self) -> None:
        """From any thread, at any time."""
        self.should_exit = True  # for one that has not begun
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended already
                self.loop.call_soon_threadsafe(self._ended.set)
