"""Does each camera show a picture in which its lines and zones lie, and does its model load?

Each is looked through once, for a few seconds; a USB camera that the running gateway has is left alone. Nothing of the
picture is kept or shown.
"""

from __future__ import annotations

from gateway.commands.checks.finding import CONFIGURATION, SILENT, UNPLUGGED, Finding, fine, note, problem
from gateway.commands.checks.scene import Scene
from gateway.errors import ConfigError, StorefrontError, Unavailable


def look(scene: Scene) -> list[Finding]:
    """One finding a camera, and one a model that is no good."""
    if not any(camera.enabled for camera in scene.settings.cameras):
        return []
    from gateway.counting.camera_plan import CameraPlan, plan_cameras, secret_of  # where there is a camera
    from vision.model_check import check_model  # OpenCV
    from vision.probe import probe

    def one(plan: CameraPlan) -> list[Finding]:
        found = []
        if plan.vision.model is not None:
            try:
                model = check_model(plan.vision.model)
                found.append(fine("cameras", f"{plan.name}: {model.family}, {model.forward_ms:.0f} ms a frame"))
            except ConfigError as error:
                found.append(_wrong(plan.name, error))
        condition = scene.record.conditions.get(plan.name, "") if scene.running else ""
        if scene.running and plan.vision.source.isdigit():
            state = "live" if condition == "live" else condition or "not heard of yet"
            return [*found, note("cameras", 0, f"{plan.name}: the running gateway has it ({state}).")]
        try:
            seen = probe(plan.vision.source, secret_of(plan.settings), plan.vision.scene)
        except ConfigError as error:
            return [*found, _wrong(plan.name, error)]
        except Unavailable as error:
            likelihood = UNPLUGGED if plan.vision.source.isdigit() else SILENT
            what = "check its power and cable, its address, user and password, and that no firewall is between"
            says = f"{plan.name}: no picture from {error.subject}: {error.reason}."
            return [*found, problem("cameras", likelihood, says, what)]
        lines = len(plan.vision.scene.lines)
        says = f"{plan.name}: a picture of {seen.width_px}×{seen.height_px}, {lines} lines in it"
        return [*found, fine("cameras", says)]

    try:
        plans = plan_cameras(scene.settings, str(scene.config or "configuration"))
    except ConfigError as error:
        return [_wrong("cameras", error)]
    return [finding for plan in plans for finding in one(plan)]


def _wrong(name: str, error: StorefrontError) -> Finding:
    says = f"{name}: {error.subject}: {error.reason}."
    return problem("cameras", CONFIGURATION, says, error.hint or "correct it: see docs/cameras.md")
