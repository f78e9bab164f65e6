"""`privacy report | keys`: what the running configuration does with data about persons, and which keys protect it.

The report is made from the settings alone, so that it cannot say anything but what would run. For the shop's record of
processing (PIPL Art. 55, GDPR Art. 30) and for whoever writes the notice. Prints no secret and no identifier.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from config.loader import data_directory
from config.settings import PrivacySettings, Settings
from devices.plan import DevicePlan, plan
from gateway.clock import SystemClock
from gateway.commands.common import print_json, settings_of
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.sealing import Sealer, key_from_text


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """One way that something about persons takes."""

    source: str
    driver: str
    reads: str  # what of persons it can say
    keeps: str  # what an event keeps of it
    needs: str  # the consent
    kept: str  # where and how long


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the configuration does with data about persons."""

    store: str
    flows: tuple[Flow, ...]
    goes_to: tuple[str, ...]
    never: tuple[str, ...]
    warnings: tuple[str, ...]


_TILL = (
    "member number, phone, e-mail, payment token, operator",
    "day key and sealed identifier of the shopper; day key of the operator",
    "visits (day key), matching (sealed)",
    "transactions",
)
_READS: dict[str, tuple[str, str, str, str]] = {
    "pos_json": _TILL,
    "pos_escpos": _TILL,
    "scanner_gs1": ("member codes", "day key and sealed identifier", "visits, matching", "transactions"),
    "generic_json": ("persons only where mapped to scan, points or consent", "day key and sealed identifier",
                     "visits, matching", "transactions"),
}  # fmt: skip
_NEVER = (
    "no face recognition, no sound, no search for phones",
    "no picture is stored or sent: cameras are counted in memory",
    "no identifier of a person in clear in the journal, its log, backups, the log file or on the wire",
)


def inventory(settings: Settings, plans: list[DevicePlan]) -> Inventory:
    """What this configuration would do with data about persons."""
    keep = settings.storage.retention
    days = {"transactions": keep.transactions_days, "measurements": keep.measurements_days,
            "observations": keep.observations_days}  # fmt: skip
    flows = []
    for device in plans:
        if not device.settings.enabled:
            continue
        found = _READS.get(device.driver.name)
        if device.driver.name == "rdm6300":
            found = _card(device.settings.personal)
        elif device.driver.name == "beacon_gateway" and device.settings.personal:
            found = ("own beacons that shoppers carry", "day key; without a consent nothing", "visits", "observations")
        if found is not None:
            reads, keeps, needs, stream = found
            kept = f"{stream}, {days[stream]:g} days after delivery"
            flows.append(
                Flow(source=device.name, driver=device.driver.name, reads=reads, keeps=keeps, needs=needs, kept=kept)
            )
    flows += [
        Flow(source=camera.name, driver="camera", reads="people in the picture", keeps="counts of people", needs="none",
             kept=f"measurements, {days['measurements']:g} days after delivery; pictures: not at all")
        for camera in settings.cameras if camera.enabled
    ]  # fmt: skip
    privacy = settings.privacy
    flows.append(
        Flow(source="consents", driver="-", reads="who agreed to what", keeps="keyed look-up, purposes, times, notice",
             needs="none: it is the proof",
             kept=f"here, until {privacy.consent_kept_days:g} days after they end; {privacy.consent_rows} rows at most")
    )  # fmt: skip
    flows.append(
        Flow(source="quarantine", driver="-", reads="messages that could not be read",
             keeps="encrypted, key of this box", needs="none", kept="here, the newest ones")
    )  # fmt: skip
    goes_to = []
    if settings.platform.url:
        goes_to.append(f"platform {settings.platform.url}")
    goes_to += [
        f"feed consumer {it.name}: {', '.join(it.streams)}" for it in settings.feed.consumers if settings.feed.enabled
    ]
    return Inventory(
        store=f"{settings.gateway.tenant}/{settings.gateway.store}/{settings.gateway.name}", flows=tuple(flows),
        goes_to=tuple(goes_to), never=_NEVER, warnings=tuple(_warnings(settings, plans)),
    )  # fmt: skip


def report(config: Path | None, *, as_json: bool) -> int:
    """Print the inventory."""
    settings = settings_of(config)
    found = inventory(settings, plan(settings, str(config or "configuration")))
    if as_json:
        print_json(found)
        return 0
    print(f"What {found.store} does with data about persons\n")
    for flow in found.flows:
        print(f"{flow.source} ({flow.driver})")
        for name in ("reads", "keeps", "needs", "kept"):
            print(f"    {name:<6} {getattr(flow, name)}")
    print("\nGoes to: " + ("; ".join(found.goes_to) or "nobody: there is no platform and no feed"))
    for line in found.never:
        print(f"Never:   {line}")
    for line in found.warnings:
        print(f"Note:    {line}")
    return 0


def keys(config: Path | None, *, as_json: bool) -> int:
    """Print the public keys of sealing; 1 when none can be used."""
    settings = settings_of(config)
    privacy, now = settings.privacy, SystemClock().now()
    directory = data_directory(settings) / "keys"
    ring = KeyRing(directory, privacy.seal_keys, privacy.seal_with)
    sealing = ring.sealing(now.wall_s)
    known = ring.keys()
    rows = [
        {
            "id": key.id, "origin": key.origin, "public_key": key.public, "usable": usable(key.public),
            "from": None if not key.from_s else f"{datetime.fromtimestamp(key.from_s, UTC):%Y-%m-%d %H:%M}Z",
            "seals": sealing is not None and key.id == sealing.id,
        }
        for key in known
    ]  # fmt: skip
    days = sorted(path.stem for path in directory.glob("*.daykey"))
    own = ring.own_public() if (directory / "seal.key").exists() else None
    if as_json:
        print_json({"platform": rows, "own": own and {"id": own[0], "public_key": own[1]}, "day_keys": days})
    else:
        for row in rows:
            word = "seals" if row["seals"] else "waits" if row["from"] and not row["seals"] else "old"
            print(f"{row['id']:<20} {word:<6} {row['origin']:<14} {row['public_key']}")
        if not rows:
            print("The platform has given no key: only day keys are made, and nobody can be matched to a profile.")
        print(f"own key: {own[0]} {own[1]}" if own else "own key: made at the gateway's first heartbeat")
        print(f"day keys: {', '.join(days) or 'none yet'}")
    return 0 if any(row["seals"] and row["usable"] for row in rows) else 1


def usable(public: str) -> bool:
    """Whether something can be sealed to the key."""
    try:
        Sealer("probe", key_from_text(public))
    except ValueError:
        return False
    return True


def _card(personal: bool) -> tuple[str, str, str, str]:
    if personal:
        return ("numbers of shoppers' cards", "day key and sealed number", "visits, matching", "observations")
    return (
        "numbers of the shop's own cards",
        "day key",
        "none: not for shoppers' cards (personal = true)",
        "observations",
    )


def _warnings(settings: Settings, plans: list[DevicePlan]) -> list[str]:
    privacy: PrivacySettings = settings.privacy
    said = []
    if not privacy.seal_keys:
        said.append("the platform has given no key ([privacy].seal_keys): only day keys are made")
    if not privacy.notice_version:
        said.append("no notice is named ([privacy].notice_version): consents must name their own")
    said += [
        f"{scheme}: {', '.join(purposes)} count as agreed to elsewhere; keep the proof of it"
        for scheme, purposes in privacy.assumed_purposes.items()
    ]
    return said + [
        f"{device.name} keeps the text of unknown codes (keep_text), which may be personal"
        for device in plans
        if device.settings.keep_text
    ]
