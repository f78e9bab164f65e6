"""What the gateway tells systemd: ready, alive, reloading, stopping, and one line of status.

Own code instead of a dependency: the protocol is one datagram of `NAME=value` lines. Without `NOTIFY_SOCKET` (a
terminal, a container, macOS) everything here does nothing. Knows no worker: whether the gateway is well is asked for.

*Source*: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5) `Type=notify`.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Mapping

from gateway.clock import Instant

_log = logging.getLogger(__name__)

_SEND_TIMEOUT_S = 0.5  # systemd's queue may be full; the gateway's main thread must not wait for it


class Notifier:
    """Sends notifications; a failure to send is logged once and otherwise ignored, as sd_notify(3) advises.

    Args:
        address: a path, or `@name` for an abstract socket; None or "" for nobody to tell.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address or None
        self.failures = 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Notifier:
        """The notifier of the service manager that started us, if there is one."""
        return cls(environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str = "") -> None:
        """Events are taken now; also the end of a reload."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def reloading(self, at: Instant) -> None:
        """The configuration is being loaded again; `ready` ends it. `at` is read just now."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={at.mono_us}")

    def stopping(self) -> None:
        """The orderly end has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog."""
        self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> None:
        """Ask for more time to start or stop, from now: a salvage of a large journal may take minutes."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def _send(self, *lines: str) -> None:
        if self.address is None or not lines:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
                line.settimeout(_SEND_TIMEOUT_S)
                line.sendto("\n".join(lines).encode(), path)
        except (
            OSError,
            ValueError,
            AttributeError,
        ) as error:  # ValueError: NUL in the path; AttributeError: no AF_UNIX
            self.failures += 1
            if self.failures == 1:
                _log.warning("notify=systemd state=unreachable reason=%s", type(error).__name__)


def watchdog_s(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How often systemd wants to hear of us, seconds (half its limit); None when it does not watch this process.

    Args:
        environ: holds WATCHDOG_USEC and WATCHDOG_PID, where systemd set them.
        pid: this process; asked of the system if None.
    """
    limit_us, owner = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (limit_us.isascii() and limit_us.isdigit()) or int(limit_us) == 0:
        return None
    if owner and owner != str(os.getpid() if pid is None else pid):
        return None  # meant for the process that started us
    return int(limit_us) / 2e6


class Watchdog:
    """Feeds systemd's watchdog while the gateway makes progress, and only then.

    It runs no timer: whoever watches the workers calls `beat`. When they stop making progress, or the watcher itself
    hangs, no word is sent, and systemd replaces the process.

    Args:
        interval_s: how often to send, seconds; None: never (nobody watches).
        healthy: whether every worker has made progress lately.
        alive: sends the word.
    """

    def __init__(self, interval_s: float | None, healthy: Callable[[], bool], alive: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._healthy = healthy
        self._alive = alive
        self._sent_mono_s: float | None = None
        self._well = True

    def beat(self, at: Instant) -> bool:
        """Send the word if it is due and deserved; True when it was sent. Call several times an interval."""
        if self._interval_s is None:
            return False
        well = self._healthy()
        if well != self._well:
            self._well = well
            _log.log(
                logging.INFO if well else logging.ERROR, "watchdog=systemd state=%s", "fed" if well else "starving"
            )
        due = self._sent_mono_s is None or at.mono_s - self._sent_mono_s >= self._interval_s
        if not (well and due):
            return False
        self._sent_mono_s = at.mono_s
        self._alive()
        return True


def _status(text: str) -> list[str]:
    """STATUS= with the text on one line: a newline would start another assignment."""
    line = " ".join(text.split())
    return [f"STATUS={line}"] if line else []
