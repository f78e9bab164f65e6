"""The heartbeat: once a minute the platform hears that the gateway is there, and its conservation line.

Beside the heartbeat event in the journal, which waits in line behind a backlog; this one says "now". Knows no journal:
what to say is asked of whoever knows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from random import Random

from gateway.clock import Clock
from gateway.errors import Unavailable
from gateway.runtime.worker import Wait, wait
from sync.answer import read_done
from sync.http_client import HttpClient
from sync.http_uplink import gateway_path
from sync.pacing import Pace

_IDLE_S = 0.5


class Beats:
    """Worker: posts what `say` gives, every `interval_s`."""

    def __init__(
        self, client: HttpClient, gateway: str, say: Callable[[], bytes], clock: Clock, rng: Random, *,
        interval_s: float = 60.0, pause: Wait = wait,
    ) -> None:  # fmt: skip
        """`say`: a JSON object; called on this worker's thread."""
        self._client = client
        self._path = gateway_path(gateway) + "/heartbeat"
        self._say = say
        self._clock = clock
        self._pause = pause
        self._pace = Pace(gateway, rng, interval_s=interval_s)
        self._interval_s = interval_s
        self.heard = 0

    def open(self) -> None:
        """The first one is due within one interval."""
        self._pace.boot(self._clock.now().mono_s, self._interval_s)

    def step(self, stop: threading.Event) -> None:
        """Post when it is time, or wait half a second at most."""
        due_s = self._pace.due_s - self._clock.now().mono_s
        if due_s > 0:
            self._pause(stop, min(due_s, _IDLE_S))
            return
        self._pace.sent(self._clock.now().mono_s)
        try:
            result = read_done(self._client.call("POST", self._path, self._say(), {"content-type": "application/json"}))
        except Unavailable:
            self._pace.failed(self._clock.now().mono_s)
            return
        if result.outcome != "taken":
            self._pace.failed(self._clock.now().mono_s, result.retry_after_s)
            return
        self.heard += 1
        self._pace.worked(self._clock.now().mono_s, backlog=False)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()
