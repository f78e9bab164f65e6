"""`run` and `check-config`."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path

from config.loader import data_directory, load
from config.settings import PageSettings, Settings
from devices.plan import plan
from gateway.access.accounts import Accounts
from gateway.access.server_tls import LOOPBACK
from gateway.app import Gateway
from gateway.clock import SystemClock
from gateway.commands.common import begin_logging, print_json, settings_of
from gateway.errors import ConfigError, StorefrontError
from gateway.runtime.memory import keep_memory_private, share_heaps

log = logging.getLogger(__name__)


def run(config: Path | None) -> int:
    """Run the gateway until it is told to stop."""
    settings = settings_of(config)
    begin_logging(settings.log.level)
    share_heaps()
    if not keep_memory_private():
        log.warning("memory=dumpable hint='a core dump of this process could hold what devices said of persons'")
    if settings.page.enabled:
        _offer_setup(settings)
    Gateway(settings, config).run(threading.Event(), None if config is None else threading.Event())
    return 0


def _offer_setup(settings: Settings) -> None:
    """Print the set-up code of a gateway that nobody has set up; only to a terminal, for a log is no place for it."""
    accounts = Accounts(data_directory(settings), SystemClock())
    try:
        if accounts.set_up:
            return
        if sys.stdout.isatty():
            print(f"Not set up yet. {_set_up_at(settings.page, accounts.new_setup_code())}", flush=True)
        else:
            log.warning("page=not_set_up hint='storefront setup-code prints the code for /setup'")
    except StorefrontError as error:  # a page that nobody can sign in to is no reason to lose events
        log.error("accounts=unusable reason=%r hint=%r", error.reason, error.hint)


def _set_up_at(page: PageSettings, code: str) -> str:
    """Where to use the code; with the address where it is known, and the code in it, for it is good for once."""
    if not page.port:
        return f"Set-up code for /setup of the page: {code}"
    own = f"[{page.host}]" if ":" in page.host else page.host
    base = f"http://{own}" if page.host in LOOPBACK else f"https://{next(iter(page.names), '<this machine>')}"
    return f"Set it up: {base}:{page.port}/setup?code={code}  (set-up code {code})"


def check_config(config: Path | None, *, as_json: bool) -> int:
    """Check a file and say what it would run."""
    from gateway.counting.camera_plan import plan_cameras

    if config is None:
        raise ConfigError("check configuration", "(no file)", "which file?", "storefront check-config gateway.toml")
    settings = load(config)
    plans = plan(settings, str(config))
    cameras = plan_cameras(settings, str(config))
    if settings.platform.configured:
        from gateway.workers.delivery import link  # HTTP libraries, only where there is a platform

        link(Gateway(settings, config))
    if as_json:
        names = {"devices": [device.name for device in plans], "cameras": [camera.name for camera in cameras]}
        print_json({"ok": True, "file": str(config), **names})
        return 0
    print(f"{config}: in order")
    for device in plans:
        where = device.settings.address or ", ".join(device.topics)
        print(f"  {device.name:<20} {device.driver.name:<16} {where}")
    for camera in cameras:
        print(f"  {camera.name:<20} {'camera':<16} {camera.vision.source}")
    return 0
