"""A book of visits that is killed again and again while a day of scans and sales goes on, and the journal afterwards.

The day is the same whoever lives through it: act `n` happens in minute `n` of a clock that is set by `n`. An act is
durable before the next one, so the truth is known from its number. Run as a module it is the child that is killed.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.clock import FakeClock
from gateway.journal.reader import JournalReader
from tests.gateway.shopper.visit_shop import VisitShop

ACTS = 240
_MEMBERS = 9
_LIFE_S = 150.0


def live(directory: Path) -> None:
    """Go on with the day where the journal says that it is, to its end."""
    shop = VisitShop(directory, FakeClock())
    shop.open()
    with JournalReader(shop.path) as reader:
        done = reader.head("transactions")
    shop.clock.advance(60.0 * done)
    for number in range(done, ACTS):
        who = f"m{number % _MEMBERS}"
        print(number, flush=True)
        shop.put([shop.sale(f"T{number}", who) if number % 3 else shop.scan(who)])
        shop.fold()
        shop.clock.advance(60.0)
    shop.after(600)
    shop.close()


def day(directory: Path, kills: int, seed: int) -> tuple[list[dict[str, Any]], int]:
    """What is told when the day has ended, and how often it was killed on the way.

    The child says each act as it begins it, and dies a moment after one of those drawn here: where a kill falls does
    not depend on how fast the machine is.
    """
    dice, killed = random.Random(seed), 0
    ends = sorted(dice.sample(range(ACTS // 20, ACTS - ACTS // 20), kills))
    until_s = time.monotonic() + _LIFE_S
    while time.monotonic() < until_s:
        life = [sys.executable, "-m", "tests.faults.visit_kills", str(directory)]
        with subprocess.Popen(life, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for line in child.stdout:
                if killed < kills and int(line) >= ends[killed]:
                    time.sleep(dice.uniform(0.0, 0.01))
                    child.kill()
                    killed += 1
                    break
            else:
                if child.wait() == 0:
                    break
                raise AssertionError(f"the child ended with {child.returncode}")
    with JournalReader(directory / "journal.db") as reader:
        events = [event.decode() for event in reader.read("measurements", 0, 100_000, 1 << 30)]
    return [it["data"] for it in events if it["type"] == "store.visit.closed.v1"], killed


if __name__ == "__main__":
    live(Path(sys.argv[1]))
