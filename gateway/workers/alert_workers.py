"""The workers of alerts: the watch, the topic and one for each webhook, as `[alerts]` wants them now.

Composition: who is needed is compared with who runs, so a start and a reload are the same act. Knows no alert.
"""

from __future__ import annotations

from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from config.settings import AlertSettings
from devices.transports.mqtt import MqttLink
from gateway.alerts.alert import ALERT_TOPIC
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.worker import Factory
from gateway.workers.broker import ShopBroker
from gateway.workers.stages import DELIVERY, WITNESSES

WATCH = "alerts"
_PATIENCE_S = 60.0


if TYPE_CHECKING:
    from gateway.workers.alert_watch import Gateway as Watched

    class Gateway(Watched, Protocol):
        """What is needed of `gateway.app.Gateway`."""

        @property
        def supervisor(self) -> Supervisor:
            """Who runs the workers."""
            ...

        @property
        def broker(self) -> ShopBroker:
            """The shop's."""
            ...


class _Wanted(msgspec.Struct, frozen=True):
    """A worker there should be. `like`: equal as long as the running one will do."""

    like: Any
    make: Factory
    stage: int


class AlertWorkers:
    """Used on the main thread."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._running: dict[str, Any] = {}

    def apply(self, settings: AlertSettings) -> list[str]:
        """Have the desk obey these settings, and bring, change and end workers as they say.

        Returns:
            One line for each worker that came, changed or went.
        """
        desk, supervisor = self._gateway.alerts, self._gateway.supervisor
        desk.obey(settings)
        wanted = self._wanted(settings)
        said = []
        for name in [name for name in self._running if name not in wanted]:
            supervisor.remove(name)
            del self._running[name]
            said.append(f"{name} removed")
        for name, it in wanted.items():
            if name not in self._running:
                supervisor.add(name, it.make, patience_s=_PATIENCE_S, stage=it.stage, later=True)
                said.append(f"{name} added")
            elif self._running[name] != it.like:
                supervisor.replace(name, it.make)
                said.append(f"{name} changed")
            self._running[name] = it.like
        if not settings.enabled:
            desk.close()
        return said

    def _wanted(self, alerts: AlertSettings) -> dict[str, _Wanted]:
        if not alerts.enabled:
            return {}
        gateway, desk, clock = self._gateway, self._gateway.alerts, self._gateway.clock
        found = {WATCH: _Wanted(None, self._watch, WITNESSES)}
        if alerts.mqtt and gateway.broker.present:
            found[ALERT_TOPIC] = _Wanted(None, self._topic, DELIVERY)
        if alerts.webhooks:
            from gateway.workers.alert_telling import Telling  # HTTP libraries, only where somebody is told

            for hook in alerts.webhooks:
                make = partial(Telling, gateway.settings, hook, desk, clock, SystemRandom())
                found[f"webhook-{hook.name}"] = _Wanted(hook, make, DELIVERY)
        return found

    def _watch(self) -> Any:
        from gateway.workers.alert_watch import AlertWatch  # most of what the page knows, too: after the first events
        from sync.alarms import committing

        gateway = self._gateway
        return AlertWatch(gateway, gateway.alerts, committing(gateway.inlet))

    def _topic(self) -> Any:
        from gateway.workers.alert_topic import AlertTopic

        gateway = self._gateway
        link = MqttLink(gateway.broker.session("mqtt-alerts"))
        return AlertTopic(gateway.settings, gateway.alerts, gateway.clock, link)
