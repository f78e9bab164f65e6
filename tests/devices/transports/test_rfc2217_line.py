"""RFC 2217 lines against a small server made of pyserial's own server side."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import serial
from serial import rfc2217

from devices.transports.line import line_for
from gateway.errors import Unavailable
from tests.ports import free_port

# pyserial 3.5 names its reader thread with setters that Python has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name).*:DeprecationWarning")


class EchoServer:
    """A serial server whose port has TX and RX joined; remembers the settings it was given."""

    def __init__(self) -> None:
        self.port = serial.serial_for_url("loop://", timeout=0)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.number = self.listener.getsockname()[1]
        self.stopping = threading.Event()
        self.connection: socket.socket | None = None
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def write(self, data: bytes) -> None:
        assert self.connection is not None
        self.connection.sendall(data)

    def _serve(self) -> None:
        self.listener.settimeout(0.05)
        while not self.stopping.is_set():
            try:
                self.connection, _ = self.listener.accept()
            except TimeoutError:
                continue
            with self.connection as connection:
                connection.settimeout(0.01)
                manager = rfc2217.PortManager(self.port, self)
                while not self.stopping.is_set():
                    try:
                        data = connection.recv(4096)
                    except TimeoutError:
                        data = None
                    except OSError:
                        break
                    if data == b"":
                        break
                    if data:
                        self.port.write(b"".join(manager.filter(data)))
                    echo = self.port.read(self.port.in_waiting)
                    if echo:
                        connection.sendall(b"".join(manager.escape(echo)))

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(60)
        self.listener.close()
        self.port.close()


@pytest.fixture
def server() -> Iterator[EchoServer]:
    running = EchoServer()
    yield running
    running.stop()


def test_speed_and_framing_are_set_at_the_far_end_and_every_byte_survives(server: EchoServer) -> None:
    """The far port gets our settings, and all 256 byte values come back, FF included."""
    line = line_for(f"rfc2217://127.0.0.1:{server.number}", baud=57600, bytesize=7, parity="E")
    line.open()
    try:
        assert (server.port.baudrate, server.port.bytesize, server.port.parity) == (57600, 7, "E")
        line.write(bytes(range(256)))
        back = b""
        until_s = time.monotonic() + 60
        while len(back) < 256 and time.monotonic() < until_s:
            back += line.read(0.5)
        assert back == bytes(range(256))
        assert line.read(0.03) == b""
    finally:
        line.close()


def test_a_server_that_stops_is_unavailable(server: EchoServer) -> None:
    """When the server goes, reading ends as unavailable, soon."""
    line = line_for(f"rfc2217://127.0.0.1:{server.number}")
    line.open()
    server.stop()
    try:
        with pytest.raises(Unavailable):
            for _ in range(600):
                line.read(0.1)
    finally:
        line.close()


def test_a_port_without_rfc2217_is_unavailable_with_a_hint() -> None:
    """A plain TCP service is told apart from a serial server."""
    with socket.create_server(("127.0.0.1", 0)) as plain:
        number = plain.getsockname()[1]
        line = line_for(f"rfc2217://127.0.0.1:{number}")
        with pytest.raises(Unavailable, match="RFC2217") as caught:
            line.open()
    assert "ser2net" in caught.value.hint


def test_nobody_listening_is_unavailable() -> None:
    """A refused connection is unavailable, not a crash."""
    with pytest.raises(Unavailable):
        line_for(f"rfc2217://127.0.0.1:{free_port()}").open()
