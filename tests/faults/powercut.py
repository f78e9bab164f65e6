"""Power cuts: what a disk would hold if the power went now, put in the place of what the page cache holds.

`kill -9` loses nothing that a process has written, synced or not. `powercut.c`, compiled here and preloaded into the
gateway, keeps a second copy of its files that only fsync brings up to date; `cut` builds from both what a disk may
hold: the synced bytes for certain, of the later ones nothing or any selection of sectors.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

_SECTOR_BYTES = 512
_NOT_KEPT = (".lock", "-shm", ".ballast")  # empty, rebuilt, meaningless


def compiler() -> str | None:
    """A C compiler, or None."""
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


class ForgetfulDisk:
    """The files below `root`, as a disk with a volatile cache keeps them."""

    def __init__(self, root: Path, folder: Path, chance: random.Random) -> None:
        """`folder`: for the shim and the durable copies."""
        self.root = root.resolve()
        self._folder = folder.resolve()
        self._shadow = self._folder / "shadow"
        self._chance = chance
        self.cuts = 0
        self.sectors_lost = 0

    def open(self) -> dict[str, str]:
        """Compile the shim; returns the environment that a process needs to have its writes forgotten."""
        program = compiler()
        assert program is not None, "no C compiler"
        shim = self._folder / "powercut.so"
        self._shadow.mkdir(parents=True)
        self.root.mkdir(parents=True, exist_ok=True)
        source = Path(__file__).with_name("powercut.c")
        subprocess.run([program, "-shared", "-fPIC", "-O1", "-o", str(shim), str(source), "-ldl"], check=True)
        return {
            "LD_PRELOAD": str(shim),
            "POWERCUT_ROOT": str(self.root),
            "POWERCUT_SHADOW": str(self._shadow),
            "POWERCUT_META": self._chance.choice(("eager", "lazy")),
            "POWERCUT_SYNC_US": "1500",
        }

    def cut(self) -> None:
        """Leave of every file what the disk would have; the process is dead already."""
        self.cuts += 1
        share = self._chance.choice((0.0, 0.0, 0.0, 0.5, 0.9))
        pending = self._folder / "shadow.pending"
        changed = set((_content(pending) or b"").decode().split("\n"))  # renames and removals not yet on the disk
        pending.unlink(missing_ok=True)
        tops = (self.root, self._shadow)
        names = {path.relative_to(top) for top in tops for path in top.rglob("*") if path.is_file()}
        for name in sorted(names):
            if str(name).endswith(_NOT_KEPT):
                if not str(name).endswith(".lock"):
                    (self.root / name).unlink(missing_ok=True)
                continue
            durable = _content(self._shadow / name)
            left = durable if f"/{name}" in changed else self._left(_content(self.root / name), durable, share)
            for top in tops:
                path = top / name
                if left is None:
                    path.unlink(missing_ok=True)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(left)

    def _left(self, cached: bytes | None, durable: bytes | None, share: float) -> bytes | None:
        """One file after the cut: what was synced, and `share` of the sectors that were not."""
        chance = self._chance
        if cached == durable:
            return durable
        if cached is None:
            return durable  # removed by somebody who is not watched
        if durable is None:  # new; its name may have reached the disk, and anything or nothing of its content
            if chance.random() >= share:
                return None
            durable = b""
        size = chance.choice((len(durable), len(cached))) if share else len(durable)
        left = bytearray(durable[:size].ljust(size, b"\0"))
        for at in range(0, size, _SECTOR_BYTES):
            now = cached[at : at + _SECTOR_BYTES][: size - at]
            if left[at : at + len(now)] != now:
                if chance.random() < share:
                    left[at : at + len(now)] = now
                else:
                    self.sectors_lost += 1
        self.sectors_lost += max(0, len(cached) - size) // _SECTOR_BYTES
        return bytes(left)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def preloadable() -> bool:
    """Whether a shim can be preloaded at all: glibc or musl on Linux, and a compiler."""
    return os.name == "posix" and Path("/proc/self/fd").exists() and compiler() is not None
