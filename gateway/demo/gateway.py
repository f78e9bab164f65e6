"""The gateway inside `storefront demo`: the real thing in a process of its own, with a line to the demo on its stdin.

It differs from `storefront run` in this: when its stdin closes it ends (a demo that was killed leaves nothing behind);
a line `step SECONDS` there moves the wall clock that this gateway sees — never the machine's; a line `deliver` ends the
wait for the next try at delivery; a line `hang` stops the cameras' processes as a hanging decoder would; a line
`replay DAYS VISITORS SHARE SEED` brings in a past, see `demo.history`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from config.loader import load
from gateway.app import Gateway
from gateway.clock import Clock, Instant, SystemClock
from gateway.demo.history import replay

_STEPPED_S = 600.0  # how long a clock that was stepped is not trusted, as with the system's


class SteppedClock:
    """A clock whose wall time can be moved, as by a person or a time server; monotonic time is the machine's."""

    def __init__(self, clock: Clock | None = None) -> None:
        """`clock`: whose time it is; the system's if None."""
        self._clock = clock or SystemClock()
        self._offset_s = 0.0
        self._distrust_until_us = 0

    def now(self) -> Instant:
        """This moment; `stepped` for ten minutes after a step."""
        now = self._clock.now()
        quality = "stepped" if now.mono_us < self._distrust_until_us else now.quality
        return Instant(now.wall_s + self._offset_s, now.mono_us, quality)

    def step(self, seconds: float) -> None:
        """Move the wall clock by `seconds`."""
        self._offset_s += seconds
        self._distrust_until_us = self._clock.now().mono_us + round(_STEPPED_S * 1e6)


class News(logging.Filter):
    """Lets warnings pass, and of the rest only that what they spoke of is well again."""

    def __init__(self) -> None:
        """All is well."""
        super().__init__()
        self._unwell: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """True for what a person at the demo should read."""
        if (
            "journal: it is not open yet" in record.getMessage()
        ):  # every start; a journal that stays shut says so itself
            return False
        subject = record.getMessage().partition(" ")[0]  # worker=line-gate, mqtt, journal=full
        subject = subject if subject.startswith("worker=") else subject.partition("=")[0]
        if record.levelno >= logging.WARNING:
            self._unwell.add(subject)
            return True
        well = subject in self._unwell and not record.getMessage().count("state=stopped")
        self._unwell.discard(subject)
        return well


def obey(
    orders: Iterable[str], clock: SteppedClock, stop: threading.Event, deliver: Callable[[], None] = lambda: None,
    cameras: Callable[[], list[int]] = list, replay: Callable[[str], None] = lambda what: None,
) -> None:  # fmt: skip
    """Carry out the demo's orders until its end of the line closes, then set `stop`."""
    for order in orders:
        word, _, value = order.strip().partition(" ")
        if word == "step":
            clock.step(float(value))
        elif word == "deliver":
            deliver()
        elif word == "replay":
            replay(value)
        elif word == "hang":
            for process in cameras():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGSTOP)
    stop.set()


def run(config: Path, orders: Iterable[str]) -> None:
    """Run the gateway of that configuration until SIGTERM, or until `orders` closes.

    Raises:
        ConfigError: the configuration is wrong.
        JournalError: the journal cannot be trusted or written.
    """
    stop, clock = threading.Event(), SteppedClock()
    gateway = Gateway(load(config), config, clock=clock)

    def bring_in(what: str) -> None:
        days, visitors, share, seed = what.split()
        zone = gateway.settings.gateway.time_zone
        replay(gateway, zone, int(days), float(visitors), float(share), int(seed), stop)

    # daemon: it waits for the demo, which may outlive this gateway
    threading.Thread(
        target=obey,
        args=(orders, clock, stop, gateway.deliver_now, gateway.cameras.process_ids, bring_in),
        name="demo-orders",
        daemon=True,
    ).start()
    gateway.run(stop, threading.Event())
