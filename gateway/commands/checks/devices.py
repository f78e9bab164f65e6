"""When each device was last heard of, and how the running gateway finds it. Nothing of what it said."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.commands.checks.finding import SILENT, Finding, fine, note, problem, warning
from gateway.commands.checks.scene import Scene, ago


def look(scene: Scene, others: Sequence[Finding]) -> list[Finding]:
    """One finding a device; `others`: what was found before, so that an effect is not told as a cause."""
    broker_down = any(each.area == "broker" and each.severity == "problem" for each in others)
    blamed = {each.says.partition(":")[0] for each in others if each.area == "ports" and each.severity == "problem"}
    found: list[Finding] = []
    for plan in scene.plans:
        last_s = scene.record.last_s.get(plan.path)
        last = f"last event {ago(last_s, scene.now)}" if last_s else "no event among the newest"
        condition = scene.record.conditions.get(plan.name) if scene.running else None
        if condition and last_s and last_s > (scene.record.heartbeat_s or 0.0):
            condition = "live"  # it has spoken since the heartbeat
        says = f"{plan.name} ({plan.driver.name}): {last}"
        if condition is None:
            found.append(note("devices", 0, says + "."))
        elif condition == "live":
            found.append(fine("devices", says))
        elif plan.name in blamed or (broker_down and plan.driver.wire == "mqtt"):
            found.append(note("devices", 0, f"{says}; what was found above explains that."))
        elif condition == "faulted":
            found.append(
                problem("devices", SILENT, f"{says}; it has failed or its line is down.", _try(plan.driver.wire))
            )
        elif condition == "never_seen":
            found.append(
                warning("devices", SILENT, f"{says}; silent since the gateway started.", _try(plan.driver.wire))
            )
        elif condition == "stale":
            stale_min = plan.settings.stale_after_s / 60
            found.append(
                warning(
                    "devices", SILENT, f"{says}; silent for more than {stale_min:.0f} min.",
                    f"use it once. {_try(plan.driver.wire)}; if so long a silence is usual, raise stale_after_s",
                )
            )  # fmt: skip
    return found


def _try(wire: str) -> str:
    if wire == "serial":
        return "check its power and cable, and that baud and driver are right (`storefront drivers NAME`)"
    return "check its power and network, and that it publishes to the topics configured"
