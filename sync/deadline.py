"""A transport for requests whose whole exchange has a deadline, not only each single read.

`requests` times one `recv`; a server that drips a byte every nine seconds, in the header or the body, would hold the
caller for ever. Here a timer closes the socket when the exchange has lasted too long, and the blocked read fails.
Knows nothing of what is exchanged.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.retry import Retry


class Lifeline:
    """The sockets of one client, and the scissors. `limit` is used by one thread at a time."""

    def __init__(self) -> None:
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
        """Everything inside ends within `seconds` (> 0) or fails; afterwards `cut` says whether it was cut."""
        self.cut = False
        timer = threading.Timer(seconds, self._sever)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

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
