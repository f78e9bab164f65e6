"""One HTTP connection that nobody can hold for nothing: uvicorn's, with a time for the head and for taking the answer,
and a share for every address.

uvicorn bounds how long an idle connection may stay and how many there are in all; a head that drips, a body that drips
after its answer and a reader that does not read it leaves alone. What waits for a reader is bounded in our buffer and
in the kernel's, and one whose machine is gone without a word (a phone that left the shop) is noticed. Knows no request.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from gateway.access.accounts import network

HEAD_S = 10.0  # from the first byte (or the connection) to a whole head
STALLED_S = 20.0  # with an answer that is not taken
GONE_S = 30.0  # without a sign that what was sent has arrived
SEND_BYTES = 131_072  # that wait for a reader, with us and once more in the kernel, which would take megabytes
EACH = 32  # connections of one address
LOCAL = 128
HANDSHAKE_S = 10.0
GOODBYE_S = 0.3  # for the other side's farewell, which nobody needs


class Limits:
    """What the connections of one server share. Used on its loop's thread."""

    def __init__(
        self, head_s: float = HEAD_S, stalled_s: float = STALLED_S, each: int = EACH, local: int = LOCAL,
        send_bytes: int = SEND_BYTES,
    ) -> None:  # fmt: skip
        """`each`: how many connections an address may have; `local`: and loopback, where a proxy may stand for many."""
        self.head_s, self.stalled_s, self.each, self.local = head_s, stalled_s, each, local
        self.send_bytes = send_bytes
        self.open: Counter[str] = Counter()


def bound(listening: socket.socket, limits: Limits) -> None:
    """Set what every connection that this socket accepts inherits: a small buffer, and an end for who is gone."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, limits.send_bytes)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_USER_TIMEOUT", int(GONE_S * 1000)), ("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10)):
        if (option := getattr(socket, name, None)) is not None:  # Linux
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def protocol(limits: Limits) -> type[asyncio.Protocol]:
    """The protocol class to give to uvicorn as `http`."""

    class Bounded(H11Protocol):
        """See the module."""

        _address = ""
        _head_timer: asyncio.TimerHandle | None = None
        _stall_timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            peer = transport.get_extra_info("peername")
            self._address = network(str(peer[0])) if peer else "unknown"
            limits.open[self._address] += 1
            most = limits.local if self._address.startswith(("127.", "::/64")) else limits.each
            if limits.open[self._address] > most:
                transport.abort()
                return
            transport.set_write_buffer_limits(high=limits.send_bytes)
            self._await_head()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._address:
                limits.open[self._address] -= 1
                if limits.open[self._address] <= 0:
                    del limits.open[self._address]
            self._forget_head()
            self._forget_stall()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            self.server_state.default_headers = [_date(int(time.time()))]
            super().data_received(data)
            if self.cycle is None or self.cycle.response_complete:  # of a head, or of a body that nobody wants any more
                self._await_head()
            else:
                self._forget_head()

        def pause_writing(self) -> None:
            super().pause_writing()
            self._forget_stall()
            self._stall_timer = self.loop.call_later(limits.stalled_s, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._forget_stall()

        def _await_head(self) -> None:
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(limits.head_s, self.transport.abort)

        def _forget_head(self) -> None:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer = None

        def _forget_stall(self) -> None:
            if self._stall_timer is not None:
                self._stall_timer.cancel()
                self._stall_timer = None

    return Bounded


@lru_cache(maxsize=1)
def _date(now_s: int) -> tuple[bytes, bytes]:
    """The `Date` of answers, made when something is asked: uvicorn wakes every second for it (RFC 9110, §6.6.1)."""
    return b"date", formatdate(now_s, usegmt=True).encode()


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers end a TLS handshake or farewell that drips; uvicorn has no option for it."""

    async def create_server(self, *arguments: Any, **options: Any) -> Any:
        """As asyncio's."""
        if isinstance(options.get("ssl"), ssl.SSLContext):
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
            options.setdefault("ssl_shutdown_timeout", GOODBYE_S)
        return await super().create_server(*arguments, **options)
