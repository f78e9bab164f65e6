"""How much memory lies idle in a process of many threads."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import ctypes, sys, threading
from gateway.runtime.memory import share_heaps
if sys.argv[2] == "shared":
    assert share_heaps()
kept, full, done = [], threading.Barrier(9), threading.Event()
def work():
    kept.append([bytes(5000) for _ in range(50)])
    full.wait(30)
    done.wait(30)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
full.wait(30)
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
done.set()
for thread in threads:
    thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="heaps of this kind are glibc's")
@pytest.mark.parametrize("how", ["own", "shared"])
def test_eight_threads_share_two_heaps(tmp_path: Path, how: str) -> None:
    """Left alone, glibc gives each of them one of its own, as far as the number of cores lets it."""
    told = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", _PROGRAM, str(told), how], check=True, timeout=120)
    found = told.read_text().count("<heap nr=")
    assert found == 2 if how == "shared" else found > 2
