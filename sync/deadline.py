"""A transport for requests whose whole exchange has a deadline, not only each single read.

`requests` times one `recv`; a server that drips a byte every nine seconds, in the header or the body, would hold the
caller for ever. Here a timer closes the socket when the exchange has lasted too long, and the blocked read fails.
Knows nothing of what is exchanged.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.retry import Retry

_LOOK_EVERY_S = 0.1


class Ending:
    """How long exchanges may go on once their worker is asked to stop."""

    def __init__(self, stop: threading.Event, grace_s: float) -> None:
        """`grace_s`: for everything after `stop` is set, together; counted from when that is first seen."""
        self.stop = stop
        self._grace_s = grace_s
        self._ends_s: float | None = None

    def left_s(self) -> float | None:
        """Seconds left; None while nobody has asked to stop."""
        if not self.stop.is_set():
            return None
        now_s = time.monotonic()
        if self._ends_s is None:
            self._ends_s = now_s + self._grace_s
        return max(0.0, self._ends_s - now_s)


class Lifeline:
    """The sockets of one client, and the scissors. `limit` is used by one thread at a time."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self._lock = threading.Lock()
        self._connections: set[HTTPConnection] = set()
        self.cut = False

    def add(self, connection: HTTPConnection) -> None:
        """A connection is about to be used."""
        with self._lock:
            self._connections.add(connection)

    def remove(self, connection: HTTPConnection) -> None:
        """It is closed."""
        with self._lock:
            self._connections.discard(connection)

    @contextlib.contextmanager
    def limit(self, seconds: float) -> Iterator[None]:
        """Everything inside ends within `seconds` (> 0), sooner when `ending` says so, or fails.

        Afterwards `cut` says whether it was cut.
        """
        self.cut = False
        done = threading.Event()
        scissors = threading.Thread(target=self._watch, args=(done, time.monotonic() + seconds, self.ending))
        scissors.daemon = True
        scissors.start()
        try:
            yield
        finally:
            done.set()

    def _watch(self, done: threading.Event, ends_s: float, ending: Ending | None) -> None:
        while True:
            left_s = ends_s - time.monotonic()
            if ending is not None and (asked_s := ending.left_s()) is not None:
                left_s = min(left_s, asked_s)
            if left_s <= 0:
                self._sever()
                return
            if done.wait(left_s if ending is None else min(left_s, _LOOK_EVERY_S)):
                return

    def _sever(self) -> None:
        self.cut = True
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            line = connection.sock
            if line is not None:
                with contextlib.suppress(OSError):
                    # On the bare socket: SSLSocket.shutdown would pull the TLS state from under the reading thread.
                    socket.socket.shutdown(line, socket.SHUT_RDWR)


class DeadlineAdapter(HTTPAdapter):
    """An `HTTPAdapter` without retries of its own whose connections hang on a `Lifeline`."""

    def __init__(self, lifeline: Lifeline) -> None:
        self._lifeline = lifeline
        super().__init__(pool_connections=2, pool_maxsize=2, max_retries=Retry(0, read=False))

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pool, with connection classes that tell the lifeline of their sockets."""
        super().init_poolmanager(*args, **kwargs)
        lifeline = self._lifeline

        class Plain(HTTPConnection):
            def connect(self) -> None:
                lifeline.add(self)
                super().connect()

            def close(self) -> None:
                super().close()
                lifeline.remove(self)

        class Tls(HTTPSConnection):
            def connect(self) -> None:
                lifeline.add(self)
                super().connect()

            def close(self) -> None:
                super().close()
                lifeline.remove(self)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TlsPool}
