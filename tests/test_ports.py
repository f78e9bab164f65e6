"""Ports for servers: outside of what the system picks, and given once."""

from __future__ import annotations

import socket

from tests.ports import free_port


def test_no_port_is_given_twice_and_a_taken_one_never() -> None:
    """A hundred are all different and can be listened on; one that somebody has is passed over."""
    given = [free_port() for _ in range(100)]
    assert len(set(given)) == 100
    first = given[-1] + 1
    with socket.create_server(("127.0.0.1", first)) if free_port() == first else socket.socket():
        assert first not in {free_port() for _ in range(5)}


def test_the_system_does_not_pick_them() -> None:
    """Whatever it gives to whoever asks for any, these stay free for whom they were given to."""
    with socket.create_server(("127.0.0.1", 0)) as picked:
        assert free_port() < picked.getsockname()[1]
