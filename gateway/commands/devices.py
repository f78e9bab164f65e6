"""`drivers` and `replay`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from config.settings import DeviceSettings
from devices.catalogue import load, names
from devices.plan import plan_device
from devices.transports.replay import outcome_json, read_steps
from devices.transports.replay import replay as drive
from gateway.commands.common import print_json
from gateway.errors import ConfigError, Rejected
from gateway.intake.reading import DeviceState


def drivers(name: str | None, *, as_json: bool) -> int:
    """List drivers, or print one's manual."""
    if name is not None:
        entry = load(name)
        if as_json:
            print_json({
                "name": entry.name, "wire": entry.cls.wire, "summary": entry.summary, "manual": entry.manual,
                "options": msgspec.json.schema(entry.cls.options_type),
            })  # fmt: skip
        else:
            print(entry.manual)
        return 0
    entries = [load(each) for each in names()]
    if as_json:
        print_json([{"name": entry.name, "wire": entry.cls.wire, "summary": entry.summary} for entry in entries])
        return 0
    for entry in entries:
        print(f"{entry.name:<16} {entry.cls.wire:<7} {entry.summary}")
    print("\nstorefront drivers NAME prints a driver's manual.")
    return 0


def replay(driver: str, file: Path, options: Path | None, assignments: list[str], *, as_json: bool) -> int:
    """Feed a trace to a driver and print the readings.

    With `--json`, one object a line: each reading, or `{"type": "rejected", …}`, and at the end the counters as
    `{"type": "summary", …}`.
    """
    wanted: dict[str, Any] = {}
    if options is not None:
        try:
            wanted = tomllib.loads(options.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError("read driver options", str(options), str(error), "it must be a TOML file") from error
    for assignment in assignments:
        key, _, value = assignment.partition("=")
        try:
            wanted |= tomllib.loads(f"{key} = {value}")
        except tomllib.TOMLDecodeError:
            wanted[key] = value
    device = DeviceSettings(
        name="replay", driver=driver, address=f"replay:{file}", topics=("#",), options=wanted,
    )  # fmt: skip
    machine = plan_device(device, "driver", "command line").make()
    count = rejected = 0
    for outcome in drive(machine, read_steps(file, machine.wire)):
        count += 1
        rejected += isinstance(outcome, Rejected)
        if as_json:
            print_json(outcome_json(outcome))
        elif isinstance(outcome, Rejected):
            print(f"rejected   {outcome.reason}" + (f" — {outcome.hint}" if outcome.hint else ""))
        else:
            fields = outcome_json(outcome)
            kind = fields.pop("type")
            mark = "state" if isinstance(outcome, DeviceState) else kind
            print(f"{mark:<10} " + "  ".join(f"{key}={value}" for key, value in fields.items()))
    counters = msgspec.to_builtins(machine.counters)
    summary = {"readings": count - rejected, "rejected": rejected, **counters}
    if as_json:
        print_json({"type": "summary", **summary})
    else:
        print("\n" + "  ".join(f"{key}={value}" for key, value in summary.items()))
    return 0
