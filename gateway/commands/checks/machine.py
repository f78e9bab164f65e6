"""The machine: versions of what the gateway stands on, and the state of its systemd unit where there is one."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gateway.commands.checks.finding import NOT_RUNNING, SOFTWARE, Finding, fine, note, problem, warning
from gateway.commands.checks.scene import Scene
from gateway.journal.engine import sqlite_version

UNIT = "storefront.service"
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "UnitFileState")
_LOOK_S = 3.0
_OFTEN = 3
Show = Callable[[], dict[str, str] | None]


def software() -> list[Finding]:
    """Python, OpenCV and SQLite."""
    try:
        vision = version("opencv-python-headless")
    except PackageNotFoundError:
        return [
            problem(
                "software",
                SOFTWARE,
                "OpenCV is missing: no camera can count.",
                "pip install opencv-python-headless, or `make run`",
            ),
        ]
    ours = version("storefront-gateway")
    says = f"storefront-gateway {ours}, Python {platform.python_version()}, OpenCV {vision}, SQLite {sqlite_version()}"
    return [fine("software", f"{says}, {platform.system()} {platform.machine()}")]


def show_unit() -> dict[str, str] | None:
    """What systemd says of the unit; None where there is no systemd, or it does not answer."""
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        return None
    command = [program, "show", UNIT, "--property", ",".join(_PROPERTIES)]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_LOOK_S, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def service(scene: Scene, show: Show = show_unit) -> list[Finding]:
    """The unit's state; nothing where the gateway is no service here."""
    unit = show()
    if unit is None or unit.get("LoadState") != "loaded":
        return []
    active, result, restarts = unit.get("ActiveState", ""), unit.get("Result", ""), unit.get("NRestarts", "0")
    log = "journalctl -u storefront -n 50 says why"
    if active == "failed" or (active == "activating" and unit.get("SubState") == "auto-restart"):
        return [
            problem(
                "service", NOT_RUNNING, f"The service does not stay up ({result}, restarted {restarts} times).", log
            )
        ]
    if active != "active":
        do = "systemctl enable --now storefront"
        return [
            note("service", 0, f"The service is {active}.")
            if scene.running
            else problem("service", NOT_RUNNING, f"The service is {active}.", do)
        ]
    found: list[Finding] = []
    if unit.get("UnitFileState") == "disabled":
        found.append(
            warning(
                "service",
                SOFTWARE,
                "The service runs, but will not after a restart of the machine.",
                "systemctl enable storefront",
            )
        )
    if restarts.isdigit() and int(restarts) >= _OFTEN:
        found.append(warning("service", SOFTWARE, f"The service was restarted {restarts} times.", log))
    return found or [fine("service", f"active, restarted {restarts} times")]
