"""Which trouble is which cause, and the rules by which a cause becomes an alert; the settings change the defaults.

Pure. A trouble that is not in `CAUSES` is shown on the page and never an alert.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from config.settings import AlertSettings, Cause, Severity
from gateway.alerts.alert import Parameters, Seen

CAUSES: dict[str, tuple[Cause, str, str]] = {
    "journal_closed": ("gateway", "journal", ""),
    "unbalanced": ("gateway", "balance", "stream"),
    "stuck": ("gateway", "worker", "worker"),
    "failed": ("gateway", "worker", "worker"),
    "waiting": ("gateway", "worker", "worker"),
    "alarm": ("gateway", "alarm", "what"),
    "journal_full": ("storage", "storage", ""),
    "journal_filling": ("storage", "storage", ""),
    "buffer_short": ("storage", "storage", ""),
    "disk_low": ("disk_low", "disk", ""),
    "broker_away": ("broker_away", "broker", ""),
    "till_faulted": ("till_dark", "device", "device"),
    "till_stale": ("till_dark", "device", "device"),
    "camera_faulted": ("camera_dark", "device", "device"),
    "camera_stale": ("camera_dark", "device", "device"),
    "faulted": ("device_dark", "device", "device"),
    "stale": ("device_dark", "device", "device"),
    "never_seen": ("device_dark", "device", "device"),
    "not_delivering": ("delivery", "delivery", ""),
    "platform_away": ("delivery", "delivery", ""),
    "platform_unauthorised": ("delivery", "delivery", ""),
    "platform_closed": ("delivery", "delivery", ""),
    "quarantine_growing": ("quarantine", "quarantine", ""),
    "clock_unsynced": ("clock", "clock", ""),
    "queue_long": ("queue_long", "queue", "zone"),
    "coupons_at_risk": ("coupon_risk", "coupons", ""),
    "count_drift": ("count_drift", "line", "line"),
    "battery_low": ("battery_low", "battery", "sensor"),
}
"""Trouble → rule, family of causes, and the parameter that says which of them. Same id, same alert: a till that is
silent and then unplugged is one alert whose words change."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """How a cause becomes an alert. `only_open`: nothing begins outside the shop's opening hours."""

    raise_after_s: float
    clear_after_s: float
    only_open: bool = False
    severity: Severity | None = None
    in_quiet_hours: bool | None = None
    enabled: bool = True


RULES: dict[Cause, Rule] = {
    "till_dark": Rule(raise_after_s=300, clear_after_s=60, only_open=True),
    "camera_dark": Rule(raise_after_s=120, clear_after_s=60, only_open=True),
    "device_dark": Rule(raise_after_s=600, clear_after_s=60, only_open=True),
    "broker_away": Rule(raise_after_s=60, clear_after_s=60),
    "delivery": Rule(raise_after_s=300, clear_after_s=300),
    "storage": Rule(raise_after_s=30, clear_after_s=300),
    "disk_low": Rule(raise_after_s=60, clear_after_s=600),
    "quarantine": Rule(raise_after_s=0, clear_after_s=900),
    "clock": Rule(raise_after_s=1800, clear_after_s=300),
    "queue_long": Rule(raise_after_s=120, clear_after_s=120, only_open=True),
    "coupon_risk": Rule(raise_after_s=0, clear_after_s=600),
    "count_drift": Rule(raise_after_s=0, clear_after_s=0),
    "gateway": Rule(raise_after_s=60, clear_after_s=60),
    "battery_low": Rule(raise_after_s=3600, clear_after_s=3600),
}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From where on something is a trouble; each is the `limit` of its cause."""

    queue_people: float = 7
    backlog_s: float = 3600
    disk_free_mib: float = 512
    quarantined_per_hour: float = 20
    coupon_share: float = 0.9  # of what the shop may risk on coupons
    battery_percent: float = 15

    @property
    def eased(self) -> Limits:
        """A fifth easier to break: what is still beyond these keeps an alert up, and begins none."""
        return Limits(
            queue_people=self.queue_people * 0.8, backlog_s=self.backlog_s * 0.8,
            disk_free_mib=self.disk_free_mib * 1.2, quarantined_per_hour=self.quarantined_per_hour * 0.8,
            coupon_share=self.coupon_share * 0.8, battery_percent=self.battery_percent * 1.2,
        )  # fmt: skip


_LIMITS: dict[Cause, str] = {
    "queue_long": "queue_people",
    "delivery": "backlog_s",
    "disk_low": "disk_free_mib",
    "quarantine": "quarantined_per_hour",
    "coupon_risk": "coupon_share",
    "battery_low": "battery_percent",
}
"""Causes with a `limit`."""


def rules_of(settings: AlertSettings) -> dict[Cause, Rule]:
    """The defaults with the configuration's changes."""
    rules = dict(RULES)
    for own in settings.rules:
        given = {
            name: value
            for name in ("severity", "raise_after_s", "clear_after_s", "in_quiet_hours")
            if (value := getattr(own, name)) is not None
        }
        rules[own.cause] = msgspec.structs.replace(rules[own.cause], enabled=own.enabled, **given)
    return rules


def limits_of(settings: AlertSettings) -> Limits:
    """The limits with the configuration's changes."""
    return msgspec.structs.replace(
        Limits(),
        **{_LIMITS[it.cause]: it.limit for it in settings.rules if it.limit is not None and it.cause in _LIMITS},
    )


def cause_of(key: str, parameters: Parameters) -> str:
    """The id of a trouble's cause; "" when it is never an alert."""
    if key not in CAUSES:
        return ""
    _, family, parameter = CAUSES[key]
    return f"{family}:{parameters[parameter]}" if parameter else family


def seen_of(key: str, severity: Severity, parameters: Parameters) -> Seen | None:
    """A trouble as a cause; None when it is never an alert."""
    if not (id_ := cause_of(key, parameters)):
        return None
    return Seen(id=id_[:200], rule=CAUSES[key][0], key=key, severity=severity, parameters=parameters)


def within(span: str, local: datetime) -> bool:
    """Whether a local time lies in `22:00-08:00`; "" holds none, and across midnight is fine. Equal ends: all day."""
    if not span:
        return False
    now = f"{local.hour:02d}:{local.minute:02d}"
    begin, _, end = span.partition("-")
    return begin <= now < end if begin < end else now >= begin or now < end
