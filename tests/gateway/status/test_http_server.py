"""A server of the gateway: it says what is in its way, lets nobody hold it for nothing, and ends in time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from gateway.access.server_tls import ServerTls
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.status.connection import Limits, bound
from gateway.status.http_server import HttpServer

Make = Callable[..., HttpServer]


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", _hello)])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Servers on loopback, closed at the end."""
    made: list[HttpServer] = []

    def server(port: int = 0, limits: Limits | None = None, most: int = 10) -> HttpServer:
        tls = ServerTls("till", "127.0.0.1", (), ("", ""), tmp_path, "0001", FakeClock())
        made.append(HttpServer("till", "127.0.0.1", port, tls, limits or Limits(), most=most))
        return made[-1]

    yield server
    for one in made:
        one.close()


def test_it_serves_until_it_is_closed(make: Make) -> None:
    """`begun` comes before the first answer; closed, it has no port, and closing again does no harm."""
    server, begun = make(), []
    server.open(APP, lambda: begun.append(True))
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hello"
    connection.close()
    assert begun == [True] and server.url == f"http://127.0.0.1:{server.port}"
    server.look_after()
    server.close()
    server.close()
    assert server.port == 0
    with pytest.raises(Unavailable, match="has ended"):
        server.look_after()


def test_readers_who_never_read_hold_little_and_are_let_go(make: Make) -> None:
    """Twenty of them at once: what is made for them stops at the buffers, no thread waits, and all of it ends."""
    made_bytes, ended = [0], [0]

    async def endless(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    made_bytes[0] += 8192
                    yield bytes(8192)
                    await asyncio.sleep(0)
            finally:
                ended[0] += 1

        return StreamingResponse(chunks())

    server = make(limits=Limits(stalled_s=0.5, send_bytes=16_384), most=50)
    server.open(Starlette(routes=[Route("/", endless)]))
    before = threading.active_count()
    with contextlib.ExitStack() as open_:
        for _ in range(20):
            line = open_.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", server.port))
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        deadline_s = time.monotonic() + 20
        while ended[0] < 20 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert ended == [20] and threading.active_count() == before
        assert made_bytes[0] < 20 * 400_000


def test_a_connection_whose_other_side_is_gone_without_a_word_is_noticed(make: Make) -> None:
    """Every accepted connection inherits the time that a phone has which left the shop."""
    listening = socket.create_server(("127.0.0.1", 0))
    bound(listening, Limits(send_bytes=20_000))
    with listening, socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 40_000  # Linux doubles it for its books


def test_a_taken_port_and_a_foreign_address_name_the_key_to_change(make: Make, tmp_path: Path) -> None:
    """Whoever reads the message knows which line of the configuration it is about."""
    first = make()
    first.open(APP)
    with pytest.raises(Unavailable) as taken:
        make(first.port).open(APP)
    assert "till.port" in taken.value.hint
    tls = ServerTls("till", "localhost", (), ("", ""), tmp_path, "0001", FakeClock())
    with pytest.raises(Unavailable) as foreign:
        HttpServer("till", "no-such-host.invalid", 0, tls, Limits(), most=10).open(APP)
    assert "till.host" in foreign.value.hint or "certificate" in str(foreign.value)


def test_a_request_that_drips_is_cut_off_and_delays_no_end(make: Make) -> None:
    """A connection without a whole head ends after the limit; one that is open still is ended with the server."""
    server = make(limits=Limits(head_s=0.2))
    server.open(APP)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as dripping:
        dripping.sendall(b"GET / HT")
        assert dripping.recv(100) == b""
    patient = make()
    patient.open(APP)
    with socket.create_connection(("127.0.0.1", patient.port), timeout=30) as waiting:
        waiting.sendall(b"GET / HT")
        began_s = time.monotonic()
        patient.close()
        assert time.monotonic() - began_s < 10


def test_answers_are_dated_when_they_are_given(make: Make) -> None:
    """RFC 9110 wants a Date; it is made for an answer and not every second."""
    server = make()
    server.open(APP)
    before_s = int(time.time())
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    for _ in range(2):  # on one connection
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        dates = answer.headers.get_all("date") or []
        assert len(dates) == 1
        assert before_s <= parsedate_to_datetime(dates[0]).timestamp() <= time.time()
    connection.close()


def test_an_idle_server_does_not_wake(make: Make) -> None:
    """Its thread sleeps until somebody asks, or the end: nothing looks at a clock."""
    server = make()
    server.open(APP)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    thread = next(thread.native_id for thread in threading.enumerate() if thread.name == "till-http")
    woke = []
    while not woke or (min(woke) > 1 and len(woke) < 10):  # the first second may still hold the farewell
        before = _switches(thread)
        time.sleep(1.0)
        woke.append(_switches(thread) - before)
    assert min(woke) <= 1, woke  # uvicorn's own loop: ten


def _switches(thread: int | None) -> int:
    """How often the thread has gone to sleep."""
    status = Path(f"/proc/self/task/{thread}/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("voluntary_ctxt")).split()[1])


def test_whoever_comes_in_at_the_very_end_is_not_left_open(make: Make) -> None:
    """The end may be said in the same turn of the loop in which somebody is accepted."""
    for _ in range(10):
        server = make()
        server.open(APP)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30):
            server.close()
    gc.collect()  # what was left open is a warning here, and that is an error
