"""The unit, the user and the directories, as systemd's own tools see them, and the sandbox as the libraries feel it."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SYSTEMD = Path(__file__).parents[2] / "systemd"
UNIT = SYSTEMD / "storefront.service"


def tool(name: str) -> str:
    """The tool's path; skips the test where it is not installed."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def settings(unit: str) -> list[tuple[str, str]]:
    """All assignments of a unit file in order."""
    lines = [line.strip() for line in unit.splitlines()]
    return [(key, value) for key, _, value in (line.partition("=") for line in lines if line and line[0] not in "#[")]


def values(key: str) -> list[str]:
    return [value for name, value in settings(UNIT.read_text("utf-8")) if name == key]


def test_systemd_accepts_the_unit_without_a_word(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds no unknown setting, no bad value, no missing program."""
    analyze = tool("systemd-analyze")
    copy = tmp_path / UNIT.name  # the gateway is not installed here: any program stands in for it
    copy.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text("utf-8"), flags=re.M), "utf-8")
    done = run(analyze, "verify", "--man=no", copy)
    about_us = [line for line in (done.stdout + done.stderr).splitlines() if "storefront" in line]
    assert about_us == []
    assert done.returncode == 0


def test_verify_would_notice_a_typing_error(tmp_path: Path) -> None:
    """The check above can fail."""
    analyze = tool("systemd-analyze")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text("utf-8").replace("ProtectHome=yes", "ProtectHomes=yes"), "utf-8")
    assert "ProtectHomes" in run(analyze, "verify", "--man=no", copy).stderr


def test_the_exposure_is_two_at_most() -> None:
    """`systemd-analyze security --offline` gives 2.0 or less, as the security table promises."""
    analyze = tool("systemd-analyze")
    done = run(analyze, "security", "--offline=true", "--no-pager", "--threshold=20", UNIT)
    if "unrecognized option" in done.stderr or "unknown option" in done.stderr.lower():
        pytest.skip("this systemd-analyze cannot judge a file offline")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert found, done.stderr
    assert float(found[1]) <= 2.0
    assert done.returncode == 0


def test_it_is_started_again_for_ever() -> None:
    """A store has no human: always, without a limit of starts, whatever the exit code."""
    assert values("Restart") == ["always"]
    assert values("StartLimitIntervalSec") == ["0"]
    assert values("RestartPreventExitStatus") == values("SuccessExitStatus") == []


def test_every_start_limit_stands_in_the_unit_section() -> None:
    """In [Service] the limit would be ignored and the default of five starts in ten seconds hold."""
    for name in ("storefront.service", "mosquitto.service.conf"):
        text = (SYSTEMD / name).read_text("utf-8")
        assert text.index("[Unit]") < text.index("\nStartLimitIntervalSec=0") < text.index("[Service]")


def test_device_classes_are_known_when_the_unit_starts() -> None:
    """Each hot-plug device class that is allowed has its kernel module loaded before."""
    allowed = {value.split()[0] for value in values("DeviceAllow")}
    assert {"char-ttyUSB", "char-ttyACM", "char-video4linux"} <= allowed
    for key in ("Wants", "After"):
        assert "modprobe@usbserial.service modprobe@cdc_acm.service modprobe@videodev.service" in values(key)


def test_no_secret_is_written_into_the_unit() -> None:
    """Secrets come by LoadCredential in a drop-in; Environment holds none."""
    assert values("Environment") == ["PYTHONFAULTHANDLER=1"]
    assert values("LimitCORE") == ["0"]


def test_sysusers_makes_the_user_with_its_groups() -> None:
    """A dry run is accepted and speaks of the user."""
    done = run(tool("systemd-sysusers"), "--dry-run", SYSTEMD / "storefront.sysusers.conf")
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-sysusers has no --dry-run")
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="making users and directories of a root of its own needs to be root")
def test_an_empty_root_gets_user_groups_and_directories(tmp_path: Path) -> None:
    """User storefront without a shell, in dialout and video; configuration for its group, secrets for root only."""
    (tmp_path / "etc").mkdir()
    sysusers, tmpfiles = tool("systemd-sysusers"), tool("systemd-tmpfiles")
    done = run(sysusers, f"--root={tmp_path}", SYSTEMD / "storefront.sysusers.conf")
    assert done.returncode == 0, done.stderr
    passwd = (tmp_path / "etc/passwd").read_text("utf-8")
    assert re.search(r"^storefront:.*:/var/lib/storefront:\S*/nologin$", passwd, re.M)
    groups = (tmp_path / "etc/group").read_text("utf-8")
    assert all(re.search(rf"^{group}:x?:\d+:storefront$", groups, re.M) for group in ("dialout", "video"))
    done = run(tmpfiles, "--create", f"--root={tmp_path}", SYSTEMD / "storefront.tmpfiles.conf")
    assert done.returncode == 0, done.stderr
    uid = int(passwd.split("storefront:", 1)[1].split(":")[1])
    found = {
        path: (status.st_mode & 0o7777, status.st_uid == uid, status.st_gid != 0)
        for path in ("etc/storefront", "etc/storefront/credentials", "var/lib/storefront")
        for status in [(tmp_path / path).stat()]
    }
    assert found == {
        "etc/storefront": (0o750, False, True),
        "etc/storefront/credentials": (0o700, False, False),
        "var/lib/storefront": (0o700, True, True),
    }


# Applies the unit's own system-call filter and W^X rule to a Python process, then runs a piece of code in it.
_JAIL = textwrap.dedent("""
    import ctypes, sys
    lib, libc = ctypes.CDLL(sys.argv[1], use_errno=True), ctypes.CDLL(None, use_errno=True)
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    context = lib.seccomp_init(0x00050000 | 1)  # SCMP_ACT_ERRNO(EPERM)
    for name in sys.argv[2].split():
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert lib.seccomp_rule_add(context, 0x7FFF0000, number, 0) == 0, name
    if sys.argv[3] == "wx":
        libc.prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE; kernels before 6.3 do not know it
    if lib.seccomp_load(context) != 0:
        print("no seccomp here"); sys.exit(99)
    exec(compile(sys.argv[4], "jailed", "exec"))
    print("lived")
""")


def syscalls(filters: list[str]) -> set[str]:
    """The system calls that SystemCallFilter= lines leave allowed: the first makes a list, the others change it."""
    analyze = tool("systemd-analyze")
    sets: dict[str, set[str]] = {}
    name = ""
    for line in run(analyze, "syscall-filter", "--no-pager").stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            name = word
            sets[name] = set()
        elif word and not word.startswith("#"):
            sets[name].add(word)

    def expand(word: str) -> set[str]:
        return set().union(*(expand(member) for member in sets[word])) if word.startswith("@") else {word}

    allowed = set(expand("@default"))
    for line in filters:
        members = set().union(*(expand(word) for word in line.removeprefix("~").split()))
        allowed = allowed - members if line.startswith("~") else allowed | members
    return allowed


def jailed(code: str, filters: list[str], *, wx: bool = True) -> str:
    library = ctypes.util.find_library("seccomp") or pytest.skip("libseccomp is not installed")
    names = " ".join(sorted(syscalls(filters)))
    done = run(sys.executable, "-W", "error", "-c", _JAIL, library, names, "wx" if wx else "", textwrap.dedent(code))
    if done.returncode == 99:
        pytest.skip("this kernel or container lets no filter be loaded")
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_the_gateways_libraries_live_under_the_units_system_call_filter(tmp_path: Path) -> None:
    """Database with WAL, threads, child process, sockets, serial line on a pty, TLS, OpenCV and numpy at work."""
    code = f"""
        import os, pty, socket, sqlite3, ssl, subprocess, threading, tty
        import cv2, msgspec, numpy, psutil, serial, uvicorn
        import paho.mqtt.client, apscheduler.triggers.cron
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        db = sqlite3.connect({str(tmp_path / "j.db")!r})
        db.execute("PRAGMA journal_mode=WAL"); db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t (x)"); db.execute("INSERT INTO t VALUES (1)"); db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)"); db.close()
        thread = threading.Thread(target=lambda: None); thread.start(); thread.join()
        assert subprocess.run(["/bin/true"]).returncode == 0
        here, there = socket.socketpair(); here.sendall(b"x"); assert there.recv(1) == b"x"
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()): pass
        ssl.create_default_context()
        master, slave = pty.openpty(); tty.setraw(slave)
        with serial.Serial(os.ttyname(slave), 115200, timeout=1, exclusive=True) as port:
            os.write(master, b"BB"); assert port.read(2) == b"BB"
        Ed25519PrivateKey.generate().sign(b"x")
        image = numpy.zeros((480, 640, 3), numpy.uint8)
        cv2.createBackgroundSubtractorMOG2().apply(cv2.GaussianBlur(image, (5, 5), 0))
        numpy.ones((300, 300)) @ numpy.ones((300, 300))
        psutil.virtual_memory(); psutil.net_if_addrs(); psutil.Process().memory_info()
        from gateway.clock import boot_id
        assert boot_id().strip("0")
    """
    assert jailed(code, values("SystemCallFilter")).strip().endswith("lived")


_ASK_THE_CLOCK = """
    import ctypes
    print(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref((ctypes.c_byte * 512)())))
"""


def test_the_clock_may_be_asked_how_good_it_is() -> None:
    """adjtimex(2) answers inside the unit's filter; without the line that allows it every event would be `unsynced`."""
    assert int(jailed(_ASK_THE_CLOCK, values("SystemCallFilter")).split()[0]) >= 0
    assert int(jailed(_ASK_THE_CLOCK, values("SystemCallFilter")[:2]).split()[0]) == -1
    assert values("ProtectClock") == []


def test_memory_can_not_be_writable_and_executable_under_the_same_rule() -> None:
    """The check above did run under W^X, where the kernel knows it."""
    code = """
        import ctypes, mmap
        assert ctypes.CDLL(None).prctl(66, 0, 0, 0, 0) == 1, "kernel without MDWE"
        try:
            mmap.mmap(-1, 4096, prot=7)
        except PermissionError:
            print("refused")
    """
    try:
        assert "refused" in jailed(code, values("SystemCallFilter"))
    except AssertionError as error:
        if "kernel without MDWE" in str(error):
            pytest.skip("this kernel does not know MDWE")
        raise
