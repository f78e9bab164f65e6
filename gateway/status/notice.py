"""The notice that hangs in the shop, as the configuration that runs has it: what senses, why, how long, who answers.

Only what is switched on is listed; a driver that this table does not know is named as another device, never left out.
Pure. *Source*: docs/privacy.md.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from config.settings import Settings

_SENSES: dict[str, str] = {
    "pos_json": "till",
    "pos_escpos": "till",
    "scanner_gs1": "scanner",
    "uhf_m100": "tags",
    "uhf_reader18": "tags",
    "impinj_r700": "tags",
}
_PERSONAL: dict[str, tuple[str, str]] = {"rdm6300": ("staff_cards", "cards"), "beacon_gateway": ("sensors", "beacons")}


class Sense(msgspec.Struct, frozen=True):
    """One kind of sensor, `key` of `setup_words.SENSES`; `days`: how long what it says is kept here."""

    key: str
    count: int
    days: float


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """All that the notice says. `named`: persons may be named at all; `host`: the platform's, "" without one."""

    store: str
    controller: str
    contact: str
    version: str
    senses: tuple[Sense, ...]
    named: bool
    purposes: tuple[str, ...]
    assumed: bool
    sealed: bool
    coupons: bool
    host: str
    consent_days: float


def notice_of(settings: Settings) -> Notice:
    """The notice of these settings."""
    keep, privacy = settings.storage.retention, settings.privacy
    counts: dict[str, int] = {}
    for device in settings.devices:
        if device.enabled:
            key = _SENSES.get(device.driver, "other")
            if device.driver in _PERSONAL:
                key = _PERSONAL[device.driver][device.personal]
            counts[key] = counts.get(key, 0) + 1
    if cameras := sum(camera.enabled for camera in settings.cameras):
        counts = {"camera": cameras, **counts}
    days = {"camera": keep.measurements_days, "till": keep.transactions_days}
    named = bool(counts.keys() & {"till", "scanner", "cards", "beacons", "other"})
    sealed = bool(privacy.seal_keys) or settings.platform.configured
    purposes = ["visits"] if named else []
    if named and sealed:
        purposes += ["matching", "offers", "analytics"]
    servers = settings.platform.log.servers
    return Notice(
        store=settings.gateway.store, controller=privacy.controller, contact=privacy.contact,
        version=privacy.notice_version,
        senses=tuple(Sense(key, count, days.get(key, keep.observations_days)) for key, count in counts.items()),
        named=named, purposes=tuple(purposes), assumed=bool(privacy.assumed_purposes) and named, sealed=sealed,
        coupons=settings.coupons.enabled, host=_host(settings.platform.url or (servers[0] if servers else "")),
        consent_days=privacy.consent_days,
    )  # fmt: skip


def _host(address: str) -> str:
    """A host's name without what stands around it."""
    try:
        return urlsplit(address if "//" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""
