"""One try at a TCP connection, with TLS or without, on a thread of its own.

Name look-up cannot be bounded and a connect takes as long as it takes; whoever must never wait starts a `Dial` and
looks at it now and then. Must not know what will be spoken.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable

from devices.transports.tcp import keep_alive

_CONNECT_S = 5.0


class Dial:
    """One attempt: `start` it, look at `done`, then take `raw` or read `error`. It ends by itself."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, on_done: Callable[[], None]) -> None:
        """Store where to. `on_done` is called on the attempt's thread when it has ended."""
        self._host = host
        self._port = port
        self._tls = tls
        self._on_done = on_done
        self._lock = threading.Lock()
        self._raw: socket.socket | None = None
        self._abandoned = False
        self.done = False
        self.error = ""

    def start(self) -> None:
        """Begin. The thread lives as long as the connect's time-outs (5 s an address) and the name look-up."""
        threading.Thread(target=self._run, name=f"dial-{self._host}", daemon=True).start()

    def take(self) -> socket.socket | None:
        """The connected socket, now the caller's; None when the attempt failed, see `error`."""
        raw, self._raw = self._raw, None
        return raw

    def abandon(self) -> None:
        """Nobody wants the result any more; a socket is closed, now or when it comes."""
        with self._lock:
            self._abandoned = True
            if self._raw is not None:
                self._raw.close()
                self._raw = None

    def _run(self) -> None:
        raw: socket.socket | None = None
        try:
            raw = socket.create_connection((self._host, self._port), timeout=_CONNECT_S)
            keep_alive(raw)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                raw = self._tls.wrap_socket(raw, server_hostname=self._host)
        except (OSError, ValueError) as error:  # ValueError: a host name that IDNA cannot encode
            self.error = why(error)
            if raw is not None:
                raw.close()
                raw = None
        with self._lock:
            if self._abandoned and raw is not None:
                raw.close()
                raw = None
            self._raw = raw
            self.done = True
        self._on_done()


def why(error: BaseException) -> str:
    """A connection error in words that name the remedy."""
    text = str(getattr(error, "strerror", None) or error)
    if isinstance(error, ConnectionRefusedError):
        return f"{text}: nothing listens there; is it running, and is the port right?"
    if isinstance(error, socket.gaierror):
        return f"{text}: check the host name"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted ({error.verify_message}): is the CA file the one that signed it?"
    if isinstance(error, TimeoutError):
        return "no answer in time: check that the host is on and reachable"
    return text
