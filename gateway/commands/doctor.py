"""`doctor`: what is wrong, the likeliest cause first, and what to do about it.

For the technician in the store, with the gateway running or not. It changes nothing, opens no serial port, says nothing
to the platform, and prints no secret and nothing that a device said. Which checks there are is listed in `examine`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from config.loader import data_directory, journal_path
from devices.transports.serial_line import SerialPort, ports
from gateway.clock import Clock, SystemClock
from gateway.commands.checks import cameras, configuration, devices, machine, network, privacy, storage
from gateway.commands.checks import clock as clock_check
from gateway.commands.checks import ports as port_check
from gateway.commands.checks.finding import Finding, Veil, ranked
from gateway.commands.checks.scene import Scene, holder_of, record_of
from gateway.commands.common import print_json
from gateway.commands.progress import bar

Progress = Callable[[int, int], None]
_WORDS = {"problem": "PROBLEM", "warning": "WARNING", "note": "note"}


def doctor(config: Path | None, *, as_json: bool) -> int:
    """Examine everything and print it; 1 when something is not in order."""
    with bar("examining") as progress:
        found = examine(config, SystemClock(), ports(), progress=progress)
    wrong = any(each.severity in ("problem", "warning") for each in found)
    if as_json:
        print_json({"ok": not wrong, "findings": found})
    else:
        _print(found)
    return int(wrong)


def examine(
    config: Path | None,
    clock: Clock,
    plugged_in: Sequence[SerialPort],
    *,
    show_unit: machine.Show = machine.show_unit,
    progress: Progress = lambda done, total: None,
) -> list[Finding]:
    """Every finding, in the order to read them.

    Args:
        config: the configuration file; None: the built-in defaults.
        clock: says how good the wall clock is.
        plugged_in: the serial ports of this machine.
        show_unit: asks systemd.
        progress: told (done, total) checks.
    """
    veil = Veil()
    settings, plans, found = configuration.read(config, veil)
    found += machine.software()
    if settings is not None:
        journal = journal_path(settings)
        scene = Scene(
            config=config, settings=settings, plans=plans, directory=data_directory(settings), journal=journal,
            now=clock.now(), holder=holder_of(journal), record=record_of(journal),
        )  # fmt: skip
        checks: tuple[Callable[[Scene], list[Finding]], ...] = (
            storage.running, storage.directory, storage.journal, clock_check.look,
            lambda scene: port_check.look(scene, plugged_in), network.broker,
            network.way_to_broker, network.platform, network.page, cameras.look,
            privacy.look,
            lambda scene: machine.service(scene, show_unit),
        )  # fmt: skip
        for number, check in enumerate(checks):
            progress(number, len(checks) + 1)
            found += check(scene)
        found += devices.look(scene, found)
    return ranked(veil.over(each) for each in found)


def _print(found: Sequence[Finding]) -> None:
    wrong = [each for each in found if each.severity in ("problem", "warning")]
    notes = [each for each in found if each.severity == "note"]
    well = [each for each in found if each.severity == "ok"]
    if wrong:
        print(f"{len(wrong)} not in order, the likeliest cause of trouble first:\n")
    else:
        print("Everything is in order.\n")
    for number, each in enumerate(wrong, 1):
        print(f"{number:>3}. {_WORDS[each.severity]}  {each.says}")
        if each.do:
            print(f"     what to do: {each.do}")
    for each in notes:
        print(f"   - {each.says}" + (f"\n     {each.do}" if each.do else ""))
    if well:
        print("\n   In order:")
        for each in well:
            print(f"     {each.area:<14} {each.says}")
