"""Ports for servers that have to be told one: free now, and given to nobody else before the server has it.

A port that the system picked and that was let go again may be the next one it picks, for another server or for the near
end of any connection; a server that is started again later may then find it taken. These ports lie outside the range
the system picks from, and each process of a test run takes them from a stretch of its own.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import socket
from pathlib import Path

_LOWEST, _USUAL_RANGE = 12_000, 32_768
_STRETCH = 1_000
_next = 0


def free_port() -> int:
    """A loopback port that nobody listens on and that this process has not given before.

    Raises:
        RuntimeError: a thousand ports are taken.
    """
    global _next
    stretch = _stretch()
    if not _next:
        _next = random.SystemRandom().randrange(_STRETCH)  # several runs on one machine begin at different places
    for _ in range(_STRETCH):
        _next += 1
        port = stretch + _next % _STRETCH
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("0.0.0.0", port))  # without SO_REUSEADDR: also a connection that has just ended counts as there
            return port
    raise RuntimeError(f"no free port from {stretch} to {stretch + _STRETCH}")


def _stretch() -> int:
    """Where the ports of this process begin; without xdist those of its first worker."""
    worker = int((re.findall(r"\d+", os.environ.get("PYTEST_XDIST_WORKER", "")) or ["0"])[0])
    stretches = max(1, (_picked_from() - _LOWEST) // _STRETCH)
    return _LOWEST + worker % stretches * _STRETCH


def _picked_from() -> int:
    """The first port that the system picks by itself."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return _USUAL_RANGE
