"""Hostile surroundings: disks, clocks, folders and plugs as shops have them. Nothing durable is lost, and it is told.

Every case runs the daemon as its users do, gives it cards through a pty, takes something away, and asks the log, the
doctor and the journal. Disks are tmpfs of the test's own; where mounting is not allowed those cases are skipped.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.commands.doctor import examine
from gateway.journal.integrity import verify
from tests.faults.daemon import ROOT, Daemon, Plug, plugged, until
from tests.faults.powercut import compiler
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.slow

CARD = '[[devices]]\nname = "pad"\ndriver = "rdm6300"\naddress = "{address}"\nzone = "checkout"\n'
SWIPE = b"\x0262E3086CED08\x03"
YEAR_S = 31_536_000


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    """A card reader that is plugged in."""
    with plugged(tmp_path / "port") as found:
        yield found


@pytest.fixture
def shop(tmp_path: Path, plug: Plug) -> Daemon:
    """A gateway with that reader, not running."""
    return Daemon(tmp_path / "gw", CARD.format(address=plug.name))


@contextlib.contextmanager
def disk_of(shop: Daemon, *options: str) -> Iterator[Path]:
    """The data directory on a disk of its own."""
    place = shop.journal.parent
    place.mkdir()
    mount = shutil.which("mount", path="/bin:/usr/bin:/sbin:/usr/sbin")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)], capture_output=True, check=False
    )  # fmt: skip
    if not made or made.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False, timeout=10)


def remounted(place: Path, how: str) -> None:
    done = subprocess.run(["mount", "-o", f"remount,{how}", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("remounting is not allowed here")


def cards(shop: Daemon) -> list[dict[str, object]]:
    """Every swipe in the journal."""
    return [event for event in shop.events() if event["type"] == "store.lf.card.seen.v1"]


def swiped(shop: Daemon, plug: Plug, more: int = 1) -> bool:
    """Swipe until so many more cards are durable."""
    wanted = len(cards(shop)) + more

    def once() -> bool:
        with contextlib.suppress(OSError):
            plug.say(SWIPE)
        return len(cards(shop)) >= wanted

    return until(once, PATIENCE_S, 0.6) is not None  # a card that lies there still is no second one


def ready(shop: Daemon, lives: int = 1) -> bool:
    return until(lambda: shop.log().count("gateway=ready") >= lives) is not None


def doctor(shop: Daemon) -> str:
    """What the doctor finds not in order, in one text."""
    found = examine(shop.config, SystemClock(), [])
    return "\n".join(f"{each.area}: {each.says}" for each in found if each.severity in ("problem", "warning"))


def whole(shop: Daemon, before: list[dict[str, object]]) -> None:
    """Everything that was durable is there with the number and bytes it had, and the journal checks."""
    assert cards(shop)[: len(before)] == before
    assert verify(shop.journal).ok
    assert "Traceback" not in shop.log()


def test_a_plug_pulled_in_the_middle_of_a_frame(shop: Daemon, plug: Plug) -> None:
    """Half a frame before and half a frame after make no card; the next whole one does, and the fault was told."""
    with shop:
        assert ready(shop) and swiped(shop, plug), shop.log()
        before = cards(shop)
        plug.say(SWIPE[:7])
        plug.unplug()
        assert shop.has(PATIENCE_S, "device.state", device="pad", state="faulted") is not None, shop.log()
        plug.plug()
        # Until the new line is open nothing of it is heard: say the second half until something happens or it does not.
        assert until(lambda: shop.log().count("worker=line-pad state=running") >= 2) is not None, shop.log()
        plug.say(SWIPE[7:])
        assert swiped(shop, plug), shop.log()
        assert shop.stop()[0] == 0
    whole(shop, before)
    assert {str(event["data"]) for event in cards(shop)} == {str(before[0]["data"])}, "a card that nobody has"


def test_a_disk_without_another_file(shop: Daemon, plug: Plug) -> None:
    """Out of inodes while it runs: it goes on; a stop and a start there are told; with room all is as it was."""
    with disk_of(shop, "size=64m", "nr_inodes=40") as place, shop:
        assert ready(shop) and swiped(shop, plug), shop.log()
        filled = 0
        with contextlib.suppress(OSError):
            while True:
                (place / f"file-{filled}").touch()
                filled += 1
        assert swiped(shop, plug), shop.log()
        assert "more files" in doctor(shop)
        before = cards(shop)
        assert shop.stop()[0] == 0
        shop.start()
        assert shop.says("worker=journal state=waiting") or shop.process is None, shop.log()
        assert "No space left" in shop.log() or "no room" in shop.log()
        for number in range(filled):
            (place / f"file-{number}").unlink()
        assert ready(shop, 2), shop.log()
        assert swiped(shop, plug), shop.log()
        assert shop.stop()[0] == 0
        whole(shop, before)
        assert "journal=damaged" not in shop.log()


def test_a_disk_that_fills_up(shop: Daemon, plug: Plug) -> None:
    """What is swiped while nothing can be written waits, and is there once there is room; the doctor says why."""
    with disk_of(shop, "size=6m") as place, shop:
        assert ready(shop) and swiped(shop, plug), shop.log()
        before = cards(shop)
        room = os.statvfs(place)
        hog = place / "hog"
        fd = os.open(hog, os.O_CREAT | os.O_RDWR)
        os.posix_fallocate(fd, 0, room.f_bavail * room.f_frsize)
        os.close(fd)

        def refused() -> bool:
            plug.say(SWIPE)
            return "journal=full" in shop.log()

        assert until(refused, PATIENCE_S, 0.6) is not None, shop.log()
        assert "disk is full" in doctor(shop)
        held = len(cards(shop))
        hog.unlink()
        assert until(lambda: len(cards(shop)) > held) is not None, shop.log()
        assert shop.says("again_after_full=1")
        assert shop.stop()[0] == 0
        whole(shop, before)


def test_a_disk_that_is_read_only(shop: Daemon, plug: Plug) -> None:
    """It ends with 74 and names the disk; writable again, it goes on with everything and nothing was salvaged."""
    with disk_of(shop, "size=64m") as place, shop:
        assert ready(shop) and swiped(shop, plug), shop.log()
        before = cards(shop)
        assert shop.stop()[0] == 0
        remounted(place, "ro")
        shop.start()
        assert shop.process is not None and shop.process.wait(PATIENCE_S) == 74
        assert "Read-only file system" in shop.log()
        assert "read-only" in doctor(shop)
        remounted(place, "rw")
        shop.start()
        assert ready(shop, 2) and swiped(shop, plug), shop.log()
        assert shop.stop()[0] == 0
        whole(shop, before)
        assert "journal=damaged" not in shop.log()


def test_a_folder_that_is_not_ours(shop: Daemon) -> None:
    """As after a restore with the wrong owner: each command ends with a code and a reason, none with a traceback."""
    powerless = []
    if os.geteuid() == 0:  # whom no mode stops, unless he does without that power
        if (setpriv := shutil.which("setpriv")) is None:
            pytest.skip("there is no setpriv")
        powerless = [setpriv, "--bounding-set=-dac_override,-dac_read_search"]
    folder = shop.journal.parent
    folder.mkdir(mode=0)
    try:
        for command, code in (("run", 74), ("doctor", 1), ("journal stats", 74)):
            ended = subprocess.run(
                [*powerless, sys.executable, "-m", "gateway", *command.split(), "--config", str(shop.config)],
                capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, check=False,
            )  # fmt: skip
            said = ended.stdout + ended.stderr
            assert "Permission denied" in said and "Traceback" not in said, said
            assert ended.returncode == code, said
    finally:
        folder.chmod(0o700)


def test_a_database_cut_short_anywhere(shop: Daemon, plug: Plug) -> None:
    """Truncated at any byte between two lives: it starts, what is left keeps its numbers, the rest is declared."""
    with shop:
        assert ready(shop) and swiped(shop, plug, 3), shop.log()
        before = {str(event["id"]): event for event in shop.events()}
        assert shop.stop()[0] == 0
        size = shop.journal.stat().st_size
        os.truncate(shop.journal, random.randrange(size))
        shop.start()
        assert ready(shop, 2), shop.log()
        assert "journal=salvaged" in shop.log()
        assert shop.has(PATIENCE_S, "alarm.raised", what="journal_salvaged") is not None, shop.log()
        assert swiped(shop, plug), shop.log()
        assert shop.stop()[0] == 0
    after = {str(event["id"]): event for event in shop.events()}
    assert all(after[name] == event for name, event in before.items() if name in after)
    lost = len(before.keys() - after.keys())
    declared = sum(row["count"] for row in shop.query("SELECT count FROM loss"))
    assert lost <= declared, (lost, shop.query("SELECT * FROM loss"))
    assert verify(shop.journal).ok
    assert "earlier salvage" in "\n".join(each.says for each in examine(shop.config, SystemClock(), []))


def test_a_log_that_somebody_removed(shop: Daemon, plug: Plug) -> None:
    """After a kill the newest commits lie in the log alone; without it, a new epoch begins and it is told."""
    with shop:
        assert ready(shop) and swiped(shop, plug), shop.log()
        shop.kill()
        shop.journal.with_name("journal.db-wal").unlink()
        shop.start()
        assert ready(shop, 2), shop.log()
        assert "the write-ahead log is gone" in shop.log()
        assert shop.has(PATIENCE_S, "alarm.raised", what="journal_salvaged") is not None
        assert swiped(shop, plug), shop.log()
        assert shop.stop()[0] == 0
    assert len(shop.query("SELECT * FROM epoch")) == 6
    assert verify(shop.journal).ok


def test_a_clock_that_steps(shop: Daemon, plug: Plug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A year ahead, two years back, an hour each way as summer time wrongly set does it: every card is durable in the
    order it was swiped, nothing expires, nothing is stuck, and the events say that the clock had stepped.
    """
    if (program := compiler()) is None:
        pytest.skip("no C compiler")
    shim, step = tmp_path / "clockstep.so", tmp_path / "step"
    source = Path(__file__).with_name("clockstep.c")
    subprocess.run([program, "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"], check=True)
    step.write_text("0")
    monkeypatch.setenv("LD_PRELOAD", str(shim))
    monkeypatch.setenv("CLOCKSTEP", str(step))
    shop.start()
    monkeypatch.undo()
    with contextlib.ExitStack() as stack:
        stack.push(shop.__exit__)
        assert ready(shop) and swiped(shop, plug), shop.log()
        seen = cards(shop)
        for seconds in (YEAR_S, -YEAR_S, 3600, -3600, 0):
            draft = step.with_name("step.new")
            draft.write_text(str(seconds))
            draft.replace(step)
            assert swiped(shop, plug), (seconds, shop.log())
            assert cards(shop)[: len(seen)] == seen
            seen = cards(shop)
        assert shop.stop()[0] == 0
    whole(shop, seen)
    assert [event["sequence"] for event in seen] == sorted(str(event["sequence"]) for event in seen)
    assert [event["monous"] for event in seen] == sorted(int(str(event["monous"])) for event in seen)
    assert {"stepped"} <= {event["clockq"] for event in seen}
    assert shop.query("SELECT * FROM loss") == []
