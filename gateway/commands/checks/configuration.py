"""Is the configuration right, and do its secrets exist? What a secret is never leaves this module."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from config.loader import load, resolve_secret
from config.settings import Settings
from devices.plan import DevicePlan, plan
from gateway.commands.checks.finding import CONFIGURATION, Finding, Veil, fine, note, problem
from gateway.errors import ConfigError

USUAL = Path("/etc/storefront/gateway.toml")


def read(config: Path | None, veil: Veil) -> tuple[Settings | None, tuple[DevicePlan, ...], list[Finding]]:
    """The settings, if they can be used at all, and what is wrong with them."""
    findings: list[Finding] = []
    if config is not None:
        _learn_secrets(config, veil)
    try:
        settings = Settings() if config is None else load(config)
    except ConfigError as error:
        return None, (), [_wrong(error)]
    plans: tuple[DevicePlan, ...] = ()
    try:
        plans = tuple(plan(settings, str(config or "configuration")))
    except ConfigError as error:
        findings.append(_wrong(error))
    findings += _secrets(settings, veil)
    if config is None:
        findings.append(_nothing_given())
    elif not findings:
        findings.append(fine("configuration", f"{config}: {len(plans)} devices"))
    return settings, plans, findings


def _learn_secrets(config: Path, veil: Veil) -> None:
    try:
        veil.hide_in(tomllib.loads(config.read_text("utf-8")))
    except (OSError, ValueError):
        return  # the loader says what is wrong with it


def _secrets(settings: Settings, veil: Veil) -> list[Finding]:
    references = [("broker.password", settings.broker.password), ("platform.token", settings.platform.token)]
    references += [
        (f"cameras[{i}].password", camera.password) for i, camera in enumerate(settings.cameras) if camera.enabled
    ]
    findings = []
    for where, reference in references:
        kind = reference.partition(":")[0]
        try:
            veil.hide(resolve_secret(reference, where))
        except ConfigError as error:
            # The service has an environment and credentials of its own, which this shell need not have.
            elsewhere = kind == "env" or (kind == "credential" and "CREDENTIALS_DIRECTORY" not in os.environ)
            if elsewhere:
                findings.append(
                    note(
                        "configuration",
                        CONFIGURATION,
                        f"{where} is given to the service alone and cannot be checked from here.",
                        f"if the log complains about it: {error.hint}",
                    )
                )
            else:
                findings.append(_wrong(error))
    return findings


def _wrong(error: ConfigError) -> Finding:
    return problem(
        "configuration",
        CONFIGURATION,
        f"The configuration is wrong: {error.subject}: {error.reason}.",
        error.hint or "correct it and check it with `storefront check-config FILE`",
    )


def _nothing_given() -> Finding:
    if USUAL.exists():
        return note(
            "configuration",
            CONFIGURATION,
            f"No configuration was given, so the built-in defaults were checked, but this machine has {USUAL}.",
            f"storefront doctor --config {USUAL}",
        )
    return note(
        "configuration",
        0,
        "No configuration was given: the built-in defaults were checked.",
        "for a shop's own: storefront doctor --config gateway.toml",
    )
