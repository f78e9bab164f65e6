"""Word that events have been written, for those who read the journal as it grows: they wait here and need not look.

A count and a wait for a higher one, so that what is told before somebody waits is not missed. Knows no event.
"""

from __future__ import annotations

import threading


class News:
    """How many events have been written since the start. Any thread; `tell` is the commit loop's."""

    def __init__(self) -> None:
        self._told = threading.Condition()
        self._count = 0

    def tell(self, events: int) -> None:
        """So many more are durable; 0 is no news."""
        if events:
            with self._told:
                self._count += events
                self._told.notify_all()

    def after(self, seen: int, timeout_s: float, stop: threading.Event) -> int:
        """Wait until there are more than `seen`, `timeout_s` at most, or until `wake` when `stop` is set.

        Returns:
            How many there are: what to call `seen` the next time. Whatever is counted can be read already.
        """
        with self._told:
            self._told.wait_for(lambda: self._count > seen or stop.is_set(), timeout_s)
            return self._count

    def wake(self) -> None:
        """Let those whose `stop` is set go."""
        with self._told:
            self._told.notify_all()
