"""`run` and `check-config`."""

from __future__ import annotations

import threading
from pathlib import Path

from config.loader import load
from devices.plan import plan
from gateway.app import Gateway
from gateway.commands.common import begin_logging, print_json, settings_of
from gateway.errors import ConfigError


def run(config: Path | None) -> int:
    """Run the gateway until it is told to stop."""
    settings = settings_of(config)
    begin_logging(settings.log.level)
    Gateway(settings, config).run(threading.Event(), None if config is None else threading.Event())
    return 0


def check_config(config: Path | None, *, as_json: bool) -> int:
    """Check a file and say what it would run."""
    if config is None:
        raise ConfigError("check configuration", "(no file)", "which file?", "storefront check-config gateway.toml")
    settings = load(config)
    plans = plan(settings, str(config))
    if as_json:
        print_json({"ok": True, "file": str(config), "devices": [plan.name for plan in plans]})
        return 0
    print(f"{config}: in order")
    for device in plans:
        where = device.settings.address or ", ".join(device.topics)
        print(f"  {device.name:<20} {device.driver.name:<16} {where}")
    return 0
