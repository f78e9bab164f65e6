"""How every device is: heard from lately, silent, failed, or never seen. The page and the heartbeat read it.

Sources report here; the state is worked out when somebody asks, so a source that has died is seen as silent. Knows no
thread, no port and no event.
"""

from __future__ import annotations

import threading
from typing import Literal

import msgspec

from gateway.clock import Instant

DeviceCondition = Literal["never_seen", "live", "stale", "faulted", "disabled"]


class DeviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """One device as it is now. `heard_s` and `since_s`: seconds ago, None when never."""

    name: str
    driver: str
    zone: str
    condition: DeviceCondition
    reason: str = ""
    hint: str = ""
    heard_s: float | None = None
    since_wall_s: float = 0.0
    readings: int = 0
    bad: int = 0
    skipped_bytes: int = 0
    ignored: int = 0
    quarantined: int = 0
    dropped: int = 0


class _Device:
    __slots__ = (
        "bad", "condition", "connected", "driver", "dropped", "fault", "heard_us", "hint", "ignored", "name",
        "quarantined", "readings", "reason", "since_wall_s", "skipped_bytes", "stale_after_s", "zone",
    )  # fmt: skip

    def __init__(self, name: str, driver: str, zone: str, stale_after_s: float) -> None:
        self.name, self.driver, self.zone, self.stale_after_s = name, driver, zone, stale_after_s
        self.condition: DeviceCondition = "never_seen"
        self.connected = True
        self.fault = self.reason = self.hint = ""
        self.heard_us: int | None = None
        self.since_wall_s = 0.0
        self.readings = self.bad = self.skipped_bytes = self.ignored = self.quarantined = self.dropped = 0


class DeviceBoard:
    """The board of all devices; any thread may report and ask."""

    def __init__(self) -> None:
        self._devices: dict[str, _Device] = {}
        self._lock = threading.Lock()

    def register(self, name: str, driver: str, zone: str, stale_after_s: float) -> None:
        """Put a device on the board, or change what is said of it; its history stays."""
        with self._lock:
            device = self._devices.get(name)
            if device is None:
                self._devices[name] = _Device(name, driver, zone, stale_after_s)
            else:
                device.driver, device.zone, device.stale_after_s = driver, zone, stale_after_s

    def forget(self, name: str) -> None:
        """Take a device off the board."""
        with self._lock:
            self._devices.pop(name, None)

    def heard(self, name: str, at: Instant, readings: int = 1) -> None:
        """The device spoke sense at `at`. Hot path: one attribute store each, no lock."""
        device = self._devices.get(name)
        if device is not None:
            device.heard_us = at.mono_us
            device.readings += readings

    def connected(self, name: str) -> None:
        """Its line is open."""
        if (device := self._devices.get(name)) is not None:
            device.connected = True
            device.reason = device.hint = ""

    def lost(self, name: str, reason: str, hint: str) -> None:
        """Its line is gone or cannot be opened."""
        if (device := self._devices.get(name)) is not None:
            device.connected = False
            device.reason, device.hint = reason, hint

    def faulted(self, name: str, fault: str) -> None:
        """The device says that it is unwell or gone; "" when it is well again."""
        if (device := self._devices.get(name)) is not None:
            device.fault = fault

    def counted(self, name: str, *, bad: int, skipped_bytes: int, ignored: int) -> None:
        """Add what its driver counted since it last told."""
        if (device := self._devices.get(name)) is not None:
            device.bad += bad
            device.skipped_bytes += skipped_bytes
            device.ignored += ignored

    def quarantined(self, name: str, count: int = 1) -> None:
        """A message of it went to quarantine."""
        if (device := self._devices.get(name)) is not None:
            device.quarantined += count

    def dropped(self, name: str, total: int) -> None:
        """How many of its events were lost at the inlet since the start."""
        if (device := self._devices.get(name)) is not None:
            device.dropped = total

    def reports(self, now: Instant) -> list[DeviceReport]:
        """Every device as it is now, in the order of registration."""
        with self._lock:
            return [self._report(device, now) for device in self._devices.values()]

    def changes(self, now: Instant) -> list[DeviceReport]:
        """Devices whose condition differs from the last call's; for `store.device.state`."""
        changed = []
        with self._lock:
            for device in self._devices.values():
                condition = _condition(device, now)
                if condition != device.condition:
                    device.condition = condition
                    device.since_wall_s = now.wall_s
                    changed.append(self._report(device, now))
        return changed

    def _report(self, device: _Device, now: Instant) -> DeviceReport:
        heard_s = None if device.heard_us is None else max(0.0, (now.mono_us - device.heard_us) / 1e6)
        return DeviceReport(
            name=device.name,
            driver=device.driver,
            zone=device.zone,
            condition=_condition(device, now),
            reason=device.fault or device.reason,
            hint=device.hint,
            heard_s=heard_s,
            since_wall_s=device.since_wall_s,
            readings=device.readings,
            bad=device.bad,
            skipped_bytes=device.skipped_bytes,
            ignored=device.ignored,
            quarantined=device.quarantined,
            dropped=device.dropped,
        )


def _condition(device: _Device, now: Instant) -> DeviceCondition:
    if not device.connected or device.fault:
        return "faulted"
    if device.heard_us is None:
        return "never_seen"
    return "stale" if (now.mono_us - device.heard_us) / 1e6 > device.stale_after_s else "live"
