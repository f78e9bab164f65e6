"""What needs a hand, and what to do: troubles in the order in which a person should look at them.

One trouble a cause: a broker that is away is one trouble, not one for each device behind it. A trouble is a key with
parameters, so every language can say it (`words.py`); `detail` is the part's own technical text. Pure.

Names of parameters carry their unit (`_s`, `_share`), by which they are written out.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

import msgspec

from gateway.status.snapshot import Device, Snapshot, Worker

Severity = Literal["critical", "warning", "notice"]
_ORDER: tuple[Severity, ...] = ("critical", "warning", "notice")

_PATIENCE_S = 90.0  # after the start, before a device that was never heard is a trouble
_BUFFER_CRITICAL_H = 4.0
_BUFFER_WARNING_H = 24.0
_UNSENT_S = 3600.0
_WAL_BYTES = 32 << 20
_BEHIND = 20_000
_BATTERY_PERCENT = 15
_QUEUE_LONG = 7
_RISK_NEAR = Decimal("0.9")  # of the limit: the next optimistic coupon may be refused


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that needs a hand. `since_s`: how long already, null when not known."""

    severity: Severity
    key: str
    parameters: dict[str, str | int | float] = {}
    detail: str = ""
    since_s: float | None = None


def troubles(snapshot: Snapshot) -> list[Trouble]:
    """Everything that needs a hand, the worst first; [] when all is well."""
    found = [
        *_journal(snapshot), *_workers(snapshot), *_devices(snapshot), *_floor(snapshot), *_delivery(snapshot),
        *_coupons(snapshot), *_clock(snapshot), *_housekeeping(snapshot),
    ]  # fmt: skip
    return sorted(found, key=lambda trouble: _ORDER.index(trouble.severity))


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
    for worker in snapshot.workers:
        if worker.stuck:
            yield Trouble(severity="critical", key="stuck", parameters={"worker": worker.name}, since_s=worker.since_s)
        elif worker.state == "failed" and not worker.name.startswith("line-"):
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
    if device.condition == "faulted":
        return Trouble(
            severity="warning", key="till_faulted" if device.sales else "faulted", parameters=dict(where),
            detail=" — ".join(filter(None, (device.reason, device.hint))), since_s=device.since_s,
        )  # fmt: skip
    if device.condition == "stale":
        return Trouble(
            severity="warning", key="till_stale" if device.sales else "stale",
            parameters={**where, "heard_s": device.heard_s or 0.0}, since_s=device.heard_s,
        )  # fmt: skip
    if device.condition == "never_seen" and snapshot.system.uptime_s > _PATIENCE_S:
        return Trouble(severity="warning", key="never_seen", parameters=dict(where))
    if device.battery is not None and device.battery.percent <= _BATTERY_PERCENT:
        return Trouble(
            severity="notice", key="battery_low",
            parameters={"sensor": device.battery.sensor or device.name, "percent": device.battery.percent},
        )  # fmt: skip
    return None


def _floor(snapshot: Snapshot) -> Iterator[Trouble]:
    queue = None if snapshot.today is None else snapshot.today.longest_queue
    if queue is not None and queue.length >= _QUEUE_LONG:
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
    if "waiting" in held and waiting and (total is None or (total.oldest_waiting_s or 0.0) <= _UNSENT_S):
        yield Trouble(severity="notice", key="platform_away", detail=held["waiting"], parameters={"waiting": waiting})
    if delivery.platform and total is not None and (total.oldest_waiting_s or 0.0) > _UNSENT_S:
        yield Trouble(
            severity="warning", key="not_delivering", since_s=total.oldest_waiting_s,
            parameters={"waiting": total.waiting, "oldest_s": total.oldest_waiting_s or 0.0},
            detail=held.get("waiting", ""),
        )  # fmt: skip
    if delivery.quarantine_held:
        yield Trouble(severity="notice", key="quarantined", parameters={"messages": delivery.quarantine_held})
    if snapshot.intake.dropped:
        yield Trouble(severity="notice", key="dropped", parameters={"events": snapshot.intake.dropped})


def _coupons(snapshot: Snapshot) -> Iterator[Trouble]:
    coupons = snapshot.coupons
    if coupons is None:
        return
    if coupons.at_risk_limit > 0 and coupons.at_risk >= _RISK_NEAR * coupons.at_risk_limit:
        money = {"risk": f"{coupons.at_risk:f}", "limit": f"{coupons.at_risk_limit:f}", "currency": coupons.currency}
        yield Trouble(severity="notice", key="coupons_at_risk", parameters=dict(money))


def _clock(snapshot: Snapshot) -> Iterator[Trouble]:
    if snapshot.system.clock == "stepped":
        yield Trouble(severity="notice", key="clock_stepped")
    elif snapshot.system.clock == "unsynced":
        yield Trouble(severity="notice", key="clock_unsynced")


def _housekeeping(snapshot: Snapshot) -> Iterator[Trouble]:
    if (snapshot.system.wal_bytes or 0) > _WAL_BYTES:
        yield Trouble(severity="notice", key="wal_long", parameters={"wal_bytes": snapshot.system.wal_bytes or 0})
    behind = max((model.behind for model in snapshot.read_models or ()), default=0)
    if behind > _BEHIND:
        yield Trouble(severity="notice", key="catching_up", parameters={"events": behind})
    if snapshot.identity.page_open:
        yield Trouble(severity="notice", key="page_open")


def _detail(worker: Worker) -> str:
    return " — ".join(filter(None, (worker.reason, worker.hint)))
