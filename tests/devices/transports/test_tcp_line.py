"""TCP lines against a listening socket of the test's own."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from devices.transports.line import Line, line_for
from gateway.errors import Unavailable
from tests.ports import free_port


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        yield server


@pytest.fixture
def pair(listener: socket.socket) -> Iterator[tuple[Line, socket.socket]]:
    line = line_for(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
    line.open()
    peer, _ = listener.accept()
    peer.settimeout(5)
    yield line, peer
    line.close()
    peer.close()


def test_bytes_go_both_ways(pair: tuple[Line, socket.socket]) -> None:
    """What the device sends arrives in one read, and what is written arrives there."""
    line, peer = pair
    peer.sendall(b"\xff\x00" * 500)
    assert line.read(2.0) == b"\xff\x00" * 500
    line.write(b"\xaa\xdd")
    assert peer.recv(16) == b"\xaa\xdd"
    assert line.read(0) == b""


def test_bytes_before_the_end_are_not_lost(pair: tuple[Line, socket.socket]) -> None:
    """A device that sends and closes is read to its last byte before the line is unavailable."""
    line, peer = pair
    peer.sendall(b"last words")
    peer.close()
    assert line.read(2.0) == b"last words"
    with pytest.raises(Unavailable, match="closed"):
        line.read(2.0)


def test_a_reset_is_unavailable_and_the_line_opens_again(
    pair: tuple[Line, socket.socket], listener: socket.socket
) -> None:
    """A connection that breaks is reported as unavailable; after closing, the same line connects anew."""
    line, peer = pair
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    peer.close()
    with pytest.raises(Unavailable):
        line.read(2.0)
    with pytest.raises(Unavailable):
        for _ in range(3):
            line.write(b"x")
    line.close()
    line.open()
    again, _ = listener.accept()
    again.sendall(b"hello")
    assert line.read(2.0) == b"hello"
    again.close()


def test_nobody_listening_says_what_to_check() -> None:
    """A refused connection names the port as the thing to check."""
    with pytest.raises(Unavailable) as caught:
        line_for(f"tcp://127.0.0.1:{free_port()}").open()
    assert "port" in caught.value.hint


def test_a_silent_peer_is_probed(pair: tuple[Line, socket.socket]) -> None:
    """The kernel's keep-alive is on, so that a pulled cable ends the connection."""
    line, _ = pair
    assert line._socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1  # type: ignore[attr-defined]
