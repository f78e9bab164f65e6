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
    from gateway.camera_plan import plan_cameras

    if config is None:
        raise ConfigError("check configuration", "(no file)", "which file?", "storefront check-config gateway.toml")
    settings = load(config)
    plans = plan(settings, str(config))
    cameras = plan_cameras(settings, str(config))
    if settings.platform.configured:
        from gateway.delivery import link  # HTTP libraries, only where there is a platform

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
