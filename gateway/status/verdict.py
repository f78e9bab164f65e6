"""What needs a hand, and what to do: troubles in the order in which a person should look at them.

One trouble a cause: a broker that is away is one trouble, not one for each device behind it. A trouble is a key with
parameters, so every language can say it (`words.py`); `detail` is the part's own technical text. Pure.

Names of parameters carry their unit (`_s`, `_share`), by which they are written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from config.settings import Severity
from gateway.alerts.alert import ALERT_TOPIC
from gateway.alerts.rules import cause_of
from gateway.status.snapshot import Device, Snapshot, Worker

_ORDER: tuple[Severity, ...] = ("critical", "warning", "notice")

_PATIENCE_S = 90.0  # after the start, before a device that was never heard is a trouble
_BUFFER_CRITICAL_H = 4.0
_BUFFER_WARNING_H = 24.0
_WAL_BYTES = 32 << 20
_BEHIND = 20_000
_TOLD_BY_ITSELF: Final = ("sync.unauthorised", "sync.closed", "sync.refuses-everything", "journal_log_large")
_AT_BROKER: Final = ("broker", "coupon-topics", "recognition", ALERT_TOPIC)  # parts that cannot work without it
_DARK: Final = {
    "till": ("till_faulted", "till_stale"),
    "camera": ("camera_faulted", "camera_stale"),
    "": ("faulted", "stale"),
}
_DRIFT: Final = "footfall drift: "


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that needs a hand. `since_s`: how long already, null when not known."""

    severity: Severity
    key: str
    parameters: dict[str, str | int | float] = {}
    detail: str = ""
    since_s: float | None = None

    @property
    def cause(self) -> str:
        """Its cause, by which an alert knows it; "" when it is never one."""
        return cause_of(self.key, self.parameters)


def troubles(snapshot: Snapshot) -> list[Trouble]:
    """Everything that needs a hand, the worst first; [] when all is well."""
    found = [
        *_journal(snapshot), *_workers(snapshot), *_devices(snapshot), *_floor(snapshot), *_delivery(snapshot),
        *_coupons(snapshot), *_clock(snapshot), *_housekeeping(snapshot), *_alarms(snapshot),
    ]  # fmt: skip
    return sorted(_roots(found), key=lambda trouble: _ORDER.index(trouble.severity))


def _roots(found: list[Trouble]) -> Iterator[Trouble]:
    """Without what follows from another trouble: of a broker that is away, or of a journal that is closed."""
    keys = {trouble.key for trouble in found}
    for trouble in found:
        worker = str(trouble.parameters.get("worker", ""))
        of_broker = worker in _AT_BROKER or worker.startswith("mqtt-")
        if not ("broker_away" in keys and of_broker) and not ("journal_closed" in keys and trouble.key == "waiting"):
            yield trouble


def _journal(snapshot: Snapshot) -> Iterator[Trouble]:
    lines = snapshot.delivery.streams
    if lines is None:
        if snapshot.system.uptime_s > _PATIENCE_S:
            yield Trouble(severity="critical", key="journal_closed")
        return
    for line in lines:
        if not line.balanced:
            yield Trouble(severity="critical", key="unbalanced", parameters={"stream": line.stream})
    refused = [line.stream for line in lines if not line.admitted]
    if "transactions" in refused:
        yield Trouble(severity="critical", key="journal_full")
    elif refused:
        yield Trouble(severity="critical", key="journal_filling", parameters={"streams": ", ".join(refused)})


def _workers(snapshot: Snapshot) -> Iterator[Trouble]:
    served = {device.worker for device in snapshot.devices}
    faulted = {device.worker for device in snapshot.devices if device.condition == "faulted"}
    for worker in snapshot.workers:
        if worker.stuck:
            yield Trouble(severity="critical", key="stuck", parameters={"worker": worker.name}, since_s=worker.since_s)
        elif worker.state == "failed" and worker.name not in faulted and not worker.name.startswith("line-"):
            yield Trouble(
                severity="warning", key="failed", parameters={"worker": worker.name}, detail=_detail(worker),
                since_s=worker.since_s,
            )  # fmt: skip
        elif worker.state == "waiting" and worker.name not in served:
            yield Trouble(
                severity="warning", key="waiting", parameters={"worker": worker.name}, detail=_detail(worker),
                since_s=worker.since_s,
            )  # fmt: skip


def _devices(snapshot: Snapshot) -> Iterator[Trouble]:
    behind: dict[str, list[Device]] = {}
    for device in snapshot.devices:
        behind.setdefault(device.worker, []).append(device)
    waiting = {worker.name: worker for worker in snapshot.workers if worker.state == "waiting"}
    for name, devices in behind.items():
        cause = _common_cause(devices, waiting.get(name))
        if cause is not None:
            yield cause
            continue
        for device in devices:
            if (trouble := trouble_of(device, snapshot)) is not None:
                yield trouble


def _common_cause(devices: list[Device], worker: Worker | None) -> Trouble | None:
    """The broker session that all of them share is down."""
    if not devices[0].worker.startswith("mqtt-"):
        return None
    if worker is not None:
        detail, since_s = _detail(worker), worker.since_s
    elif (
        len(devices) > 1 and all(it.condition == "faulted" for it in devices) and len({i.reason for i in devices}) == 1
    ):
        detail, since_s = f"{devices[0].reason} — {devices[0].hint}", devices[0].since_s or 0.0
    else:
        return None
    return Trouble(
        severity="warning", key="broker_away", detail=detail, since_s=since_s,
        parameters={"devices": ", ".join(device.name for device in devices[:6]) + (" …" if len(devices) > 6 else "")},
    )  # fmt: skip


def trouble_of(device: Device, snapshot: Snapshot) -> Trouble | None:
    """What is wrong with one device; None when nothing is."""
    where = {"device": device.name, "zone": device.zone or device.driver}
    faulted, stale = _DARK["till" if device.sales else device.driver if device.driver == "camera" else ""]
    if device.condition == "faulted":
        return Trouble(
            severity="warning", key=faulted, parameters=dict(where),
            detail=" — ".join(filter(None, (device.reason, device.hint))), since_s=device.since_s,
        )  # fmt: skip
    if device.condition == "stale":
        return Trouble(
            severity="warning", key=stale,
            parameters={**where, "heard_s": device.heard_s or 0.0}, since_s=device.heard_s,
        )  # fmt: skip
    if device.condition == "never_seen" and snapshot.system.uptime_s > max(_PATIENCE_S, device.stale_after_s):
        return Trouble(severity="warning", key="never_seen", parameters=dict(where))
    if device.battery is not None and device.battery.percent <= snapshot.limits.battery_percent:
        return Trouble(
            severity="notice", key="battery_low",
            parameters={"sensor": device.battery.sensor or device.name, "percent": device.battery.percent},
        )  # fmt: skip
    return None


def _floor(snapshot: Snapshot) -> Iterator[Trouble]:
    queue = None if snapshot.today is None else snapshot.today.longest_queue
    if queue is not None and queue.length >= snapshot.limits.queue_people:
        yield Trouble(severity="warning", key="queue_long", parameters={"people": queue.length, "zone": queue.zone})
    for plugged in snapshot.plugged:
        yield Trouble(severity="notice", key="plugged", parameters={"kind": plugged.kind}, detail=plugged.product)


def _delivery(snapshot: Snapshot) -> Iterator[Trouble]:
    delivery = snapshot.delivery
    hours = delivery.buffer.hours_left
    if hours is not None and hours < _BUFFER_WARNING_H:
        yield Trouble(
            severity="critical" if hours < _BUFFER_CRITICAL_H else "warning", key="buffer_short",
            parameters={"left_s": hours * 3600},
        )  # fmt: skip
    total = delivery.total
    waiting = 0 if total is None else total.waiting
    held = {str(sending.condition): sending.reason for sending in reversed(delivery.sending)}
    for condition, key in (("unauthorised", "platform_unauthorised"), ("closed", "platform_closed")):
        if condition in held:
            yield Trouble(severity="warning", key=key, detail=held[condition], parameters={"waiting": waiting})
    oldest_s = 0.0 if total is None else total.oldest_waiting_s or 0.0
    if "waiting" in held and waiting and oldest_s <= snapshot.limits.backlog_s:
        yield Trouble(severity="notice", key="platform_away", detail=held["waiting"], parameters={"waiting": waiting})
    if delivery.platform and total is not None and oldest_s > snapshot.limits.backlog_s:
        yield Trouble(
            severity="warning", key="not_delivering", since_s=total.oldest_waiting_s,
            parameters={"waiting": total.waiting, "oldest_s": total.oldest_waiting_s or 0.0},
            detail=held.get("waiting", ""),
        )  # fmt: skip
    if (delivery.quarantined_hour or 0) >= snapshot.limits.quarantined_per_hour:
        yield Trouble(
            severity="warning", key="quarantine_growing", parameters={"messages": delivery.quarantined_hour or 0}
        )  # fmt: skip
    elif delivery.quarantine_held:
        yield Trouble(severity="notice", key="quarantined", parameters={"messages": delivery.quarantine_held})
    if snapshot.intake.dropped:
        yield Trouble(severity="notice", key="dropped", parameters={"events": snapshot.intake.dropped})


def _coupons(snapshot: Snapshot) -> Iterator[Trouble]:
    coupons = snapshot.coupons
    if coupons is None:
        return
    if coupons.at_risk_limit > 0 and float(coupons.at_risk) >= (
        snapshot.limits.coupon_share * float(coupons.at_risk_limit)
    ):
        money = {"risk": f"{coupons.at_risk:f}", "limit": f"{coupons.at_risk_limit:f}", "currency": coupons.currency}
        yield Trouble(severity="notice", key="coupons_at_risk", parameters=dict(money))


def _clock(snapshot: Snapshot) -> Iterator[Trouble]:
    if snapshot.system.clock == "stepped":
        yield Trouble(severity="notice", key="clock_stepped")
    elif snapshot.system.clock == "unsynced":
        yield Trouble(severity="notice", key="clock_unsynced")


def _housekeeping(snapshot: Snapshot) -> Iterator[Trouble]:
    free_bytes = snapshot.system.disk_free_bytes
    if free_bytes is not None and free_bytes < snapshot.limits.disk_free_mib * (1 << 20):
        yield Trouble(severity="warning", key="disk_low", parameters={"free_bytes": free_bytes})
    if (snapshot.system.wal_bytes or 0) > _WAL_BYTES:
        yield Trouble(severity="notice", key="wal_long", parameters={"wal_bytes": snapshot.system.wal_bytes or 0})
    behind = max((model.behind for model in snapshot.read_models or ()), default=0)
    if behind > _BEHIND:
        yield Trouble(severity="notice", key="catching_up", parameters={"events": behind})
    if snapshot.identity.page_open:
        yield Trouble(severity="notice", key="page_open")


def _alarms(snapshot: Snapshot) -> Iterator[Trouble]:
    """What other parts have raised an alarm about, and a look at the gateway does not show by itself."""
    for alarm in snapshot.alarms:
        if alarm.what.startswith(_TOLD_BY_ITSELF):
            continue
        since_s = max(0.0, (snapshot.at_ms - alarm.since_ms) / 1000)
        if alarm.what.startswith(_DRIFT):
            line = {"line": alarm.what.removeprefix(_DRIFT)}
            yield Trouble(severity=alarm.severity, key="count_drift", parameters=dict(line), since_s=since_s)
        else:
            what = {"what": f"{alarm.what} {alarm.device}".strip()}
            yield Trouble(
                severity=alarm.severity, key="alarm", parameters=dict(what), detail=alarm.hint, since_s=since_s
            )  # fmt: skip


def _detail(worker: Worker) -> str:
    return " — ".join(filter(None, (worker.reason, worker.hint)))
