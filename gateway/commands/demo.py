"""`demo`, and the gateway inside it."""

from __future__ import annotations

import logging
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from config.loader import load, state_directory
from gateway.commands.common import begin_logging
from gateway.demo.history import afternoon
from gateway.demo.plan import DemoPlan, Outcome
from gateway.demo.show import Demo
from gateway.errors import ConfigError


def demo(
    data: Path | None, port: int, speed: float, seed: int, faults: list[str], for_s: float | None,
    *, platform: bool = True, history_days: int = 0, visitors: float = 0.0,
) -> int:  # fmt: skip
    """Run the virtual store and a gateway that serves it; 0 when the books agree at the end, else 1."""
    from devices.simulator.faults import FAULTS

    chosen = tuple(name for name in FAULTS if name in faults)
    if unknown := [name for name in faults if name not in FAULTS]:
        raise ConfigError("start demo", unknown[0], "there is no such fault", f"choose of: {', '.join(FAULTS)}")
    if "uplink" in faults and not platform:
        raise ConfigError("start demo", "uplink", "without a platform there is no line to cut", "drop --no-platform")
    begin_logging("warning")
    plan = DemoPlan(
        data=(data or state_directory()).expanduser().absolute(), page_port=port, speed=speed, seed=seed,
        faults=chosen, for_s=for_s, platform=platform, history_days=history_days,
        visitors=visitors, zone=afternoon(datetime.now(UTC)),
    )  # fmt: skip
    outcome = Demo(plan, _say).run(threading.Event())
    _close(outcome)
    return 0 if outcome.in_order else 1


def inside(config: Path) -> int:
    """The gateway of a demo."""
    from gateway.demo.gateway import News, run

    begin_logging(load(config).log.level)
    for handler in logging.getLogger().handlers:
        handler.addFilter(News())
    run(config, sys.stdin)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _close(outcome: Outcome) -> None:
    print("\nClosed. The shop's own books beside the journal:")
    for line in outcome.lines:
        verdict = "agree" if line.in_order else f"MISSING {line.missing}, TOO MANY {line.extra}"
        sides = line.sides
        note = f"   ({line.note})" if line.note else ""
        print(f"  {line.what:<13} {sides[0]} {line.shop:>7,}   {sides[1]} {line.journal:>7,}   {verdict}{note}")
    for state in outcome.states:
        print(
            f"  {state.stream}: accepted {state.accepted:,} = acked {state.acked:,} + pending {state.pending:,}"
            f" + quarantined {state.quarantined:,} + expired {state.expired:,} + declared_lost {state.declared_lost:,}"
        )
