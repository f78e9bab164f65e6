"""Serial ports: each configured one there, allowed and free; each other one, what it looks like and what to try.

Nothing is opened: opening a port moves its control lines, and some readers restart on that. Who uses a port is read
from the system's table of open files.

*Source*: usb.ids (vendor and product numbers); tty permissions: udev's rules on Debian, group `dialout`.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from devices.catalogue import load, names
from devices.plan import DevicePlan
from devices.transports.dial import why
from devices.transports.serial_line import SerialPort
from gateway.commands.checks.finding import BUSY, PERMISSION, UNPLUGGED, Finding, fine, note, problem
from gateway.commands.checks.scene import Scene

_CONNECT_S = 3.0

# USB id, or vendor alone → what it looks like, and the drivers to try first. Adapters tell only their chip.
_LOOKS: dict[str, tuple[str, tuple[str, ...]]] = {
    "1a86": (
        "a WCH CH340 or CH9102 USB-serial chip, as low-cost UHF and 125 kHz readers have",
        ("uhf_m100", "uhf_reader18", "rdm6300"),
    ),
    "10c4": ("a Silicon Labs CP210x USB-serial chip, as many UHF readers have", ("uhf_m100", "uhf_reader18")),
    "0403": ("an FTDI USB-serial chip, as adapter cables have", ("rdm6300", "uhf_reader18", "pos_escpos")),
    "067b": ("a Prolific PL2303 USB-serial cable", ("uhf_reader18", "scanner_gs1", "pos_escpos")),
    "05e0": ("a Zebra / Symbol barcode scanner", ("scanner_gs1",)),
    "0c2e": ("a Honeywell barcode scanner", ("scanner_gs1",)),
    "05f9": ("a Datalogic barcode scanner", ("scanner_gs1",)),
    "1eab": ("a Newland barcode scanner", ("scanner_gs1",)),
    "04b8": ("an Epson receipt printer", ("pos_escpos",)),
    "0519": ("a Star receipt printer", ("pos_escpos",)),
    "0483": ("a device with an STM32 chip of its own (scanners, readers)", ("scanner_gs1", "uhf_m100")),
    "2341": ("an Arduino board", ("rdm6300",)),
}  # fmt: skip


def look(scene: Scene, ports: Sequence[SerialPort]) -> list[Finding]:
    """Every serial device's line, then ports that nobody uses.

    Args:
        scene: the visit.
        ports: what is plugged in now (`devices.transports.serial_line.ports`).
    """
    lines = [plan for plan in scene.plans if plan.driver.wire == "serial"]
    used = {os.path.realpath(plan.settings.address) for plan in lines if "://" not in plan.settings.address}
    spare = [port for port in ports if port.usb_id is not None and os.path.realpath(port.path) not in used]
    found: list[Finding] = []
    for line in lines:
        address = line.settings.address
        if "://" in address:
            found.append(_remote(scene, line))
        elif not address.startswith("replay:"):
            found.append(_local(scene, line, spare))
    return found + [_unused(port) for port in spare]


def _local(scene: Scene, line: DevicePlan, spare: Sequence[SerialPort]) -> Finding:
    name, address = line.name, line.settings.address
    path = Path(address)
    if not path.exists():
        others = ", ".join(port.stable for port in spare)
        instead = (
            f"; or it is another port now: {others}" if others else "; lsusb shows whether the computer sees it at all"
        )
        return problem(
            "ports", UNPLUGGED, f"{name}: there is no port {address}.",
            f"check its cable and power, plug it in again{instead}",
        )  # fmt: skip
    if not path.is_char_device():
        kind = "a directory" if path.is_dir() else "a file"
        return problem(
            "ports", UNPLUGGED, f"{name}: {address} is {kind}, not a port.",
            f"correct its address{': ' if spare else ''}{', '.join(port.stable for port in spare)}",
        )  # fmt: skip
    if not may_use(path, scene.user):
        group = path.stat().st_gid
        return problem(
            "ports", PERMISSION, f"{name}: {_user(scene.user)} may not use {address}.",
            f"usermod -aG {_group(group)} {_user(scene.user)}, then restart the gateway (or log in again)",
        )  # fmt: skip
    gateway = scene.holder.pid if scene.holder else None
    others_pids = [pid for pid in users_of(path) if pid != gateway]
    if others_pids:
        who = ", ".join(_process(pid) for pid in others_pids)
        return problem(
            "ports",
            BUSY,
            f"{name}: {address} is in use by {who}.",
            "end that program: two readers steal each other's bytes",
        )
    stable = _stable_name(path)
    if stable is not None:
        return note(
            "ports", 0, f"{name}: {address} may be another device after the next plug.", f'write address = "{stable}"'
        )
    return fine("ports", f"{name} at {address}")


def _stable_name(path: Path) -> str | None:
    """A name that stays, for an address that names a number the kernel gave."""
    if not path.name.startswith(("ttyUSB", "ttyACM")):
        return None
    for folder in (Path("/dev/serial/by-id"), Path("/dev/serial/by-path")):
        with contextlib.suppress(OSError):
            for link in sorted(folder.iterdir()):
                if os.path.realpath(link) == os.path.realpath(path):
                    return str(link)
    return None


def _remote(scene: Scene, line: DevicePlan) -> Finding:
    """A line over the network. While the gateway is connected nobody else calls: most servers serve one at a time."""
    name, address = line.name, line.settings.address
    if scene.running and scene.record.conditions.get(name) == "live":
        return fine("ports", f"{name} at {address}")
    try:
        parts = urlsplit(address)
        if not parts.hostname or not parts.port:
            return problem(
                "ports", UNPLUGGED, f"{name}: {address} is no address.", "tcp://host:port or rfc2217://host:port"
            )
        if scene.running:
            return note(
                "ports",
                UNPLUGGED,
                f"{name}: {address} is not tried while the gateway runs.",
                "see what is said of the device",
            )
        socket.create_connection((parts.hostname, parts.port), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        return problem(
            "ports",
            UNPLUGGED,
            f"{name}: {address} does not answer: {why(error)}.",
            "check its power, its cable and its address",
        )
    return fine("ports", f"{name} at {address}")


def _unused(port: SerialPort) -> Finding:
    looks, drivers = looks_like(port.usb_id or "")
    return note(
        "ports", UNPLUGGED,
        f"{port.path} is plugged in and not configured: it looks like {looks}.",
        f'to try it: [[devices]] name = "new", address = "{port.stable}", driver = {" or ".join(_with_baud(drivers))}',
    )  # fmt: skip


def looks_like(usb_id: str) -> tuple[str, tuple[str, ...]]:
    """What a USB id (`1a86:7523`) looks like, and the drivers to try, the likeliest first."""
    serial = tuple(name for name in names() if load(name).cls.wire == "serial")
    looks, first = _LOOKS.get(usb_id.partition(":")[0], (f"a USB serial device ({usb_id})", ()))
    return looks, tuple(name for name in first if name in serial) or serial


def _with_baud(drivers: Sequence[str]) -> list[str]:
    return [f"{name} ({load(name).cls.baud} baud)" for name in drivers]


def may_use(path: Path, uid: int) -> bool:
    """Whether a user may read and write a file, by its mode, owner and group."""
    if uid == 0:
        return True
    facts = path.stat()
    mode = stat.S_IMODE(facts.st_mode)
    if facts.st_uid == uid:
        return mode & 0o600 == 0o600
    try:
        person = pwd.getpwuid(uid)
        groups = os.getgrouplist(person.pw_name, person.pw_gid)
    except KeyError:
        groups = []
    if facts.st_gid in groups:
        return mode & 0o060 == 0o060
    return mode & 0o006 == 0o006


def users_of(path: Path) -> list[int]:
    """Processes that have the file open, as far as we may see."""
    target = os.path.realpath(path)
    found = []
    for folder in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(os.readlink(entry) == target for entry in folder.iterdir()):  # noqa: PTH115 - text compare is enough
                found.append(int(folder.parent.name))
    return sorted(found)


def _process(pid: int) -> str:
    try:
        return f"{psutil.Process(pid).name()} (process {pid})"
    except psutil.Error:
        return f"process {pid}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return "dialout"
