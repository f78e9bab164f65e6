"""Can persons be named to the platform, and only to it? Prints no key and no identifier."""

from __future__ import annotations

import stat

from gateway.commands.checks.finding import CONFIGURATION, Finding, fine, note, problem, warning
from gateway.commands.checks.scene import Scene
from gateway.commands.privacy import usable
from gateway.errors import Unavailable
from gateway.shopper.key_ring import KeyRing


def look(scene: Scene) -> list[Finding]:
    """The keys of sealing, the files of our own keys, and the notice."""
    privacy, directory = scene.settings.privacy, scene.directory / "keys"
    if not any(device.driver.sales for device in scene.plans) and not privacy.seal_keys:
        return []
    findings: list[Finding] = []
    try:
        sealing = KeyRing(directory, privacy.seal_keys, privacy.seal_with).sealing(scene.now.wall_s)
    except (OSError, Unavailable):
        sealing = None
    if sealing is None:
        findings.append(
            note(
                "privacy", CONFIGURATION,
                "The platform has given no key to seal identifiers to, so only day keys are made: shoppers who agreed "
                "to it cannot be matched to their profiles.",
                "put its public key into [privacy].seal_keys; `storefront privacy keys` shows what there is",
            )
        )  # fmt: skip
    elif not usable(sealing.public):
        findings.append(
            problem(
                "privacy", CONFIGURATION, f"The platform's key {sealing.id} is no X25519 key, so nothing is sealed.",
                "ask the platform for its key again",
            )
        )  # fmt: skip
    if not privacy.notice_version:
        findings.append(
            note(
                "privacy", CONFIGURATION,
                "No notice is named in [privacy].notice_version, so a consent that names none itself is refused.",
                "name the notice that hangs in the shop",
            )
        )  # fmt: skip
    open_files = [
        path.name for path in sorted(directory.glob("*.key")) + sorted(directory.glob("*.daykey"))
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]  # fmt: skip
    if open_files:
        findings.append(
            warning(
                "privacy", CONFIGURATION, f"Keys can be read by other users: {', '.join(open_files[:5])}.",
                f"chmod 600 {directory}/*key",
            )
        )  # fmt: skip
    return findings or [fine("privacy", "identifiers are sealed, a notice is named, keys are the gateway's alone")]
