"""A server of the gateway: it says what is in its way, lets nobody hold it for nothing, and ends in time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.access.server_tls import ServerTls
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.status.connection import Limits
from gateway.status.http_server import HttpServer

Make = Callable[..., HttpServer]


async def _hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello")


APP = Starlette(routes=[Route("/", _hello)])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Servers on loopback, closed at the end."""
    made: list[HttpServer] = []

    def server(port: int = 0, limits: Limits | None = None) -> HttpServer:
        tls = ServerTls("till", "127.0.0.1", (), ("", ""), tmp_path, "0001", FakeClock())
        made.append(HttpServer("till", "127.0.0.1", port, tls, limits or Limits(), most=10))
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
