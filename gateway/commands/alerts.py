"""`alerts test`: send one message to every webhook now, and say what became of it."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.clock import SystemClock
from gateway.commands.common import settings_of
from gateway.errors import ConfigError
from gateway.workers.alert_telling import try_one


def test(config: Path | None, name: str, *, as_json: bool) -> int:
    """Send it; 1 when one was not taken.

    Raises:
        ConfigError: there is no such webhook, or none at all.
    """
    settings = settings_of(config)
    hooks = [hook for hook in settings.alerts.webhooks if name in ("", hook.name)]
    if not hooks:
        raise ConfigError(
            "test alerts", name or "alerts.webhooks", "there is no such webhook", "add an [[alerts.webhooks]] table"
        )
    failed = 0
    for hook in hooks:
        told = try_one(settings, hook, SystemClock())
        failed += told.outcome != "taken"
        if as_json:
            print(json.dumps({"name": hook.name, "outcome": told.outcome, "reason": told.reason}))
        else:
            print(f"{hook.name}: {told.outcome}{f' ({told.reason})' if told.reason else ''}")
    return int(failed > 0)
