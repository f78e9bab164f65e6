"""The worker that keeps the embedded broker running."""

from __future__ import annotations

import threading

from devices.transports.broker import Broker

_LOOK_S = 0.5


class BrokerWorker:
    """Starts the broker, starts it again when it has died, stops it last of all."""

    def __init__(self, broker: Broker, up: threading.Event) -> None:
        """`broker` outlives this object, with its port and store; `up` is set while it serves."""
        self._broker = broker
        self._up = up

    def open(self) -> None:
        """Start it.

        Raises:
            Unavailable: no broker on this platform, or its port is taken.
        """
        self._broker.open()
        self._up.set()

    def step(self, stop: threading.Event) -> None:
        """Look after it twice a second."""
        self._broker.revive()
        stop.wait(_LOOK_S)

    def close(self) -> None:
        """Stop it."""
        self._up.clear()
        self._broker.close()
