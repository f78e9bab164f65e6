"""Signals of the operating system as plain events: end, and reload.

A handler that calls `Event.set` can deadlock: it may interrupt its own thread inside `Event.wait`, which holds the same
lock. So the handler here only notes the signal; the interpreter also writes a byte to a socket, which wakes the main
thread that waits on it, and that sets the events. A full socket loses the byte, never the note. Knows nothing of what
the events mean.

*Source*: Python documentation, `signal.set_wakeup_fd` and "Note on Signal Handlers and Exceptions".
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT)
_NO_SIGNAL = b"\0"

Handler = Callable[[int, FrameType | None], object] | int | None


class Signals:
    """SIGTERM and SIGINT set `stop`; SIGHUP sets `reload`.

    Used by the main thread only: `open`, then `wait` again and again, then `close`, which puts the old handlers back.

    Args:
        stop: set once by SIGTERM or SIGINT.
        reload: set by SIGHUP; None: SIGHUP ends too, as when a terminal window is closed.
    """

    def __init__(self, stop: threading.Event, reload: threading.Event | None = None) -> None:
        self._stop = stop
        self._reload = reload
        self._ending = False  # noted by the handler, which runs on the main thread between two instructions
        self._hung_up = False
        self._former: dict[signal.Signals, Handler] = {}
        self._former_fd = -1
        self._reader: socket.socket | None = None
        self._writer: socket.socket | None = None

    def open(self) -> None:
        """Take the signals over.

        Raises:
            ValueError: not called by the main thread.
        """
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._reader, self._writer = reader, writer
        self._former_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (*_ENDING, signal.SIGHUP):
            self._former[number] = signal.signal(number, self._note)

    def wait(self, event: threading.Event, timeout_s: float) -> bool:
        """Wait for a signal, `timeout_s` seconds at most; True when `event` is set. The main thread's `Wait`."""
        if event.is_set():
            return True
        if self._reader is None:
            return event.wait(timeout_s)
        self._tell()
        if event.is_set():
            return True
        self._reader.settimeout(max(timeout_s, 0.001))
        with contextlib.suppress(TimeoutError):
            for number in self._reader.recv(4096):
                self._note(number)
        self._tell()
        return event.is_set()

    def wake(self) -> None:
        """Let a `wait` return now. From any thread."""
        if (writer := self._writer) is not None:
            with contextlib.suppress(OSError):  # full: it is about to return; closed: nobody waits any more
                writer.send(_NO_SIGNAL)

    def close(self) -> None:
        """Put everything back as it was."""
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()
        if self._writer is not None and self._reader is not None:
            signal.set_wakeup_fd(self._former_fd)
            self._writer.close()
            self._reader.close()
        self._reader = self._writer = None

    def _note(self, number: int, frame: FrameType | None = None) -> None:
        if number in _ENDING or (number == signal.SIGHUP and self._reload is None):
            self._ending = True
        elif number == signal.SIGHUP:
            self._hung_up = True

    def _tell(self) -> None:
        if self._ending:
            self._stop.set()
        if self._hung_up:
            self._hung_up = False  # first: a signal that comes now is told next time
            if self._reload is not None:
                self._reload.set()
