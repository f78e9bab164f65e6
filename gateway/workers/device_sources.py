"""The workers that hear the shop's devices: one for each serial line, one for each session at the broker.

Composition: at a start and at a reload, what there should be is compared with what runs. Knows no driver and no event.
"""

from __future__ import annotations

from functools import partial

from devices.driver import Driver
from devices.plan import DevicePlan
from devices.source import Intake, MqttSource, SerialSource
from devices.transports.line import line_for
from devices.transports.mqtt import MqttLink
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.worker import Factory
from gateway.workers.broker import ShopBroker
from gateway.workers.stages import SOURCES

_PATIENCE_S = 30.0


class DeviceSources:
    """Used on the main thread, but for what the workers themselves ask."""

    def __init__(self, plans: list[DevicePlan], intake: Intake, broker: ShopBroker, supervisor: Supervisor) -> None:
        """`plans`: the devices of the start."""
        self.plans = plans
        self._intake, self._broker, self._supervisor = intake, broker, supervisor
        self._drivers: dict[str, tuple[DevicePlan, Driver]] = {}  # of devices behind the broker

    def start(self) -> None:
        """Bring the worker of every device, and the broker where one needs it."""
        self._broker_for(self.plans)
        for name, group in _groups(self.plans).items():
            self._add(name, group)

    def apply(self, plans: list[DevicePlan]) -> list[str]:
        """Bring, change and end workers so that these are the devices; one that is as it was goes on.

        Returns:
            One line for each thing applied.
        """
        old, new = _groups(self.plans), _groups(plans)
        said = []
        gone = {plan.name for plan in self.plans} - {plan.name for plan in plans}
        for name in old.keys() - new.keys():
            self._supervisor.remove(name)
            said.append(f"applied: {name} removed")
        for name in sorted(gone):
            self._intake.board.forget(name)
            self._drivers.pop(name, None)
        if self._broker_for(plans):
            said.append("applied: broker added")
        for name, group in new.items():
            if name not in old:
                self._add(name, group)
                said.append(f"applied: {name} added")
            elif group != old[name]:
                self._supervisor.replace(name, self._factory(name, group))
                said.append(f"applied: {name} changed")
        self.plans = plans
        return said

    def worker_of(self, device: str) -> str:
        """Name of the worker that serves a device; "" when there is no such device."""
        return next((name for name, group in _groups(self.plans).items() if device in {it.name for it in group}), "")

    def driver_of(self, device: DevicePlan) -> Driver:
        """The driver of a device behind the broker: as it was while nothing about the device has changed.

        Its session begins anew for any of its devices' sake, and the others must not forget what they have heard.
        """
        kept = self._drivers.get(device.name)
        if kept is None or kept[0] != device:
            kept = self._drivers[device.name] = (device, device.make())
        return kept[1]

    def _broker_for(self, plans: list[DevicePlan]) -> bool:
        return any(plan.driver.wire == "mqtt" for plan in plans) and self._broker.start()

    def _add(self, name: str, group: list[DevicePlan]) -> None:
        self._supervisor.add(name, self._factory(name, group), patience_s=_PATIENCE_S, stage=SOURCES)

    def _factory(self, name: str, group: list[DevicePlan]) -> Factory:
        return partial(self._session, name, group) if group[0].driver.wire == "mqtt" else partial(self._line, group[0])

    def _line(self, device: DevicePlan) -> SerialSource:
        line = line_for(device.settings.address, device.baud, device.bytesize, device.parity)
        return SerialSource(device, line, self._intake)

    def _session(self, name: str, group: list[DevicePlan]) -> MqttSource:
        link = MqttLink(self._broker.session(name, tuple(topic for plan in group for topic in plan.topics)))
        return MqttSource(
            name, group, link, self._intake, self._broker.instance, self.driver_of,
            lambda device: self._drivers.pop(device.name, None),
        )  # fmt: skip


def _groups(plans: list[DevicePlan]) -> dict[str, list[DevicePlan]]:
    """Which worker serves which devices: a line has its own; tills share a broker session, and so do all others."""
    groups: dict[str, list[DevicePlan]] = {}
    for device in plans:
        if device.driver.wire == "serial":
            groups[f"line-{device.name}"] = [device]
        else:
            groups.setdefault("mqtt-sales" if device.driver.sales else "mqtt-devices", []).append(device)
    return groups
