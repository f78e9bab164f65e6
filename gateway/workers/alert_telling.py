"""Takes alerts out of the shop: a worker for each webhook.

Composition: the words are `alert_words`, the wire is sync's. A webhook that is slow or away holds up
nobody: what it is to be told waits at the desk, on the disk.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from random import Random
from typing import Final

from config.loader import resolve_secret
from config.settings import Settings, WebhookSettings
from gateway.alerts.desk import AlertDesk
from gateway.clock import Clock
from gateway.runtime.backoff import Backoff
from gateway.workers.alert_words import notice, speaker_of, trial
from sync.webhook import PACE_S, Told, Webhook

log = logging.getLogger(__name__)

_FIRST_S: Final = 2.0
_LONGEST_S: Final = 600.0
_LOOK_S: Final = 0.5


def webhook(settings: WebhookSettings, clock: Clock, *, total_s: float = 20.0) -> Webhook:
    """The way to a webhook.

    Raises:
        ConfigError: its address or secret cannot be read or used.
    """
    place = f"alerts.webhooks.{settings.name}"
    return Webhook(
        settings.shape, resolve_secret(settings.url, f"{place}.url"), clock,
        secret=resolve_secret(settings.secret, f"{place}.secret"),
        ca=Path(settings.ca_file) if settings.ca_file else None, total_s=total_s,
    )  # fmt: skip


def try_one(settings: Settings, hook: WebhookSettings, clock: Clock) -> Told:
    """Send a test message now.

    Raises:
        ConfigError: see `webhook`.
    """
    way = webhook(hook, clock)
    try:
        return way.tell(trial(int(clock.now().wall_s * 1000), settings, speaker_of(settings, hook.language)))
    finally:
        way.close()


class Telling:
    """Worker: tells one webhook, one message after the other, in order."""

    def __init__(self, settings: Settings, hook: WebhookSettings, desk: AlertDesk, clock: Clock, rng: Random) -> None:
        """Store."""
        self._settings, self._hook, self._desk, self._clock, self._rng = settings, hook, desk, clock, rng
        self._speaker = speaker_of(settings, hook.language)
        self._backoff = Backoff(_FIRST_S, _LONGEST_S)
        self._due_s = 0.0
        self._down = False
        self._way: Webhook | None = None

    def open(self) -> None:
        """Read the address; nothing is connected before there is something to tell.

        Raises:
            ConfigError: see `webhook`.
        """
        self._way = webhook(self._hook, self._clock)

    def step(self, stop: threading.Event) -> None:
        """Tell one, or wait half a second.

        Raises:
            Unavailable: that it was told cannot be kept.
        """
        assert self._way is not None
        now = self._clock.now()
        message = self._desk.next_message(self._hook.name) if now.mono_s >= self._due_s else None
        if message is None:
            stop.wait(_LOOK_S)
            return
        told = self._way.tell(notice(message, self._settings, self._speaker))
        if told.outcome == "later":
            pause_s = self._backoff.next(self._rng)
            self._due_s = now.mono_s + max(pause_s, told.pause_s or 0.0)
            self._say(told)
            self._desk.failed(self._hook.name, told.reason)
            return
        self._say(told)
        self._backoff = Backoff(_FIRST_S, _LONGEST_S)
        self._due_s = now.mono_s + PACE_S[self._hook.shape]
        self._desk.settled(message, told.reason if told.outcome == "refused" else "")

    def close(self) -> None:
        """Drop the connection."""
        if self._way is not None:
            self._way.close()

    def _say(self, told: Told) -> None:
        down = told.outcome != "taken"
        if down != self._down:
            self._down = down
            log.log(
                logging.WARNING if down else logging.INFO, "webhook=%s name=%s reason=%r",
                told.outcome, self._hook.name, told.reason,
            )  # fmt: skip
