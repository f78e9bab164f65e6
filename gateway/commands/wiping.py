"""`wipe`: destroy keys and data for good, with a receipt."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import msgspec

from config.loader import data_directory
from gateway.access.accounts import Accounts
from gateway.clock import SystemClock
from gateway.commands.common import print_json, settings_of
from gateway.commands.ownership import as_owner
from gateway.commands.progress import bar
from gateway.errors import Rejected, StorefrontError
from gateway.event import Origin
from gateway.wipe import Receipt, survey
from gateway.wipe import wipe as destroy


def wipe(config: Path | None, confirmed: str | None, receipt_file: Path | None, *, as_json: bool) -> int:
    """Say what would be destroyed; with the store's name given, destroy it and print the receipt."""
    settings = settings_of(config)
    identity = settings.gateway
    origin = Origin(identity.tenant, identity.store, identity.name)
    directory = data_directory(settings)
    spare = [] if config is None else [config]
    plan = survey(directory, origin, time.time(), spare)
    if confirmed is None:
        if as_json:
            print_json({"wiped": False, "would_destroy": plan})
        else:
            _print_plan(plan)
        return 1
    if confirmed != identity.store:
        raise Rejected(
            "wipe", str(directory), f"this is store {identity.store}, not {confirmed[:40]}", "name it rightly"
        )
    if receipt_file is not None and receipt_file.resolve().is_relative_to(directory.resolve()):
        raise Rejected("wipe", str(receipt_file), "the receipt would be wiped, too", "put it elsewhere")
    # The wipe takes the note with it; where it is refused or cut short, the gateway's audit trail tells of it.
    with contextlib.suppress(StorefrontError), as_owner(directory):
        Accounts(directory, SystemClock()).note("gateway.wipe", identity.store)
    with bar("wiping") as progress:
        receipt = destroy(directory, plan, time.time, spare, progress)
    text = msgspec.json.format(msgspec.json.encode(receipt)).decode() + "\n"
    if receipt_file is not None:
        receipt_file.write_text(text, "utf-8")
    if as_json:
        print_json({"wiped": True, "receipt": receipt})
    else:
        print(text, end="")
        print(
            "Destroyed. Not touched: secrets and certificates elsewhere, the configuration file, backups, the platform."
        )
        print(
            "Flash memory may keep old copies of blocks until they are used again: destroy the disk where that matters."
        )
    return 0


def _print_plan(plan: Receipt) -> None:
    print(f"Store {plan.store}, gateway {plan.gateway}: everything in {plan.directory} would be destroyed:")
    print(f"  {plan.files} files, {plan.bytes} bytes, {plan.keys} of them keys; the journal: {plan.journal}")
    for lane in plan.lanes:
        print(f"  {lane.stream:<14} up to {lane.last_seq}, {lane.undelivered} not delivered yet")
    if plan.undelivered:
        print(f"  ! {plan.undelivered} events have not reached the platform and would be lost")
    print(f"Nothing was done. Stop the gateway, then: storefront wipe --yes {plan.store}")
