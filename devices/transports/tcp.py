"""A device behind a raw TCP port (serial-to-Ethernet converters, networked readers and scales).

Own code on `socket`, because pyserial's `socket://` reads byte by byte and throws away what it read when the peer
closes. Must not know what the bytes mean.

*Source*: PROTOCOLS §2.9.
"""

from __future__ import annotations

import select
import socket
import sys

from gateway.errors import Unavailable

_CONNECT_S = 5.0
_WRITE_S = 5.0
_CHUNK_BYTES = 65536


class TcpLine:
    """A `Line` over one TCP connection. A peer that vanished without a word is noticed after about 30 s of silence."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._address = f"tcp://{host}:{port}"
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect, in at most 5 s for each address that the name has.

        Raises:
            Unavailable: no such host, refused, or no answer.
        """
        if self._socket is not None:
            return
        try:
            connection = socket.create_connection((self._host, self._port), timeout=_CONNECT_S)
        except OSError as error:
            raise Unavailable("open line", self._address, _reason(error), _hint(error)) from error
        keep_alive(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_WRITE_S)
        self._socket = connection

    def read(self, timeout_s: float) -> bytes:
        """All that has come, up to 64 KiB; b"" after `timeout_s` of silence.

        Raises:
            Unavailable: the peer closed or lost the connection.
        """
        connection = self._opened("read line")
        try:
            if not readable(connection.fileno(), timeout_s):
                return b""
            data = connection.recv(_CHUNK_BYTES)
        except OSError as error:
            raise Unavailable("read line", self._address, _reason(error)) from error
        if not data:
            raise Unavailable("read line", self._address, "the device closed the connection")
        return data

    def write(self, data: bytes) -> None:
        """Send all of `data`. Raises Unavailable when the peer is gone or takes nothing for 5 s."""
        connection = self._opened("write line")
        try:
            connection.sendall(data)
        except OSError as error:
            raise Unavailable("write line", self._address, _reason(error)) from error

    def close(self) -> None:
        """Close the connection; may be called again."""
        connection, self._socket = self._socket, None
        if connection is not None:
            connection.close()

    def _opened(self, operation: str) -> socket.socket:
        if self._socket is None:
            raise Unavailable(operation, self._address, "the line is not open")
        return self._socket


def readable(fd: int, timeout_s: float) -> bool:
    """Wait until there is something to read, or that the peer has gone, on `fd`; False after `timeout_s` (≥ 0)."""
    poll = select.poll()  # select() cannot take descriptors above 1023
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def keep_alive(connection: socket.socket) -> None:
    """Let the kernel probe a silent peer: the connection fails about 30 s after a cable was pulled."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)  # the same for unanswered data


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or str(error)).lower()


def _hint(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is unknown: check its spelling, or use the address in numbers"
    if isinstance(error, ConnectionRefusedError):
        return "the host is there but nothing listens on that port: check the port and the device's network mode"
    return "check that the device is on and on the same network"
