"""Fifty thousand stores come back after an outage: how many requests a second the platform sees, and for how long.

A simulation in virtual time that runs the gateway's own objects (`Pace`, `Backoff`, `BatchSize`) for each stream, the
heartbeat and the commands of each store, against a platform that answers at once. During the outage everything with
something to say keeps trying, so its back-off is where a real one's would be when the line returns. The platform's
limits are those that the reference platform tells in each answer, and one second between two batches of a stream.

Beside it: a platform that takes no more than 500 events at once, a fleet whose waits at the cap are U(0, cap), and one
without any jitter, cut off in the same second. Counted are the requests that the outage has caused: tries, backlog, the
first heartbeat and the first question for commands. Ordinary business afterwards goes on at the stores' own interval.

    python -m bench.fleet [--stores 50000] [--quick]
"""

from __future__ import annotations

import argparse
import heapq
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from sync.batch_size import BatchSize
from sync.pacing import Backoff, Pace
from sync.platform.app import PlatformLimits
from sync.syncer import SyncOptions
from sync.uplink import Limits

Hour = dict[str, int]
ORDINARY: Hour = {"transactions": 60, "measurements": 240, "observations": 700}
BUSY: Hour = {"transactions": 60, "measurements": 240, "observations": 2000}
HEAVY: Hour = {"transactions": 60, "measurements": 240, "observations": 4700}
ASKS: Hour = {"heartbeat": 60, "commands": 144}  # how often an hour each of them has something to ask anyway
MIN_INTERVAL_S = 1.0
STEADY_S = 3600.0  # of trying; a longer outage leaves more behind, but the back-off has long been where it stays
PEAK_LIMIT, DRAIN_LIMIT_S = 1500, 360.0


class NoJitter(Backoff):
    """The back-off of a fleet that nobody warned."""

    def next(self, rng: Random) -> float:
        step_s = min(self.cap_s, self.base_s * 2.0 ** min(self.tries, 60))
        self.tries += 1
        return step_s


class FullJitter(Backoff):
    """U(0, cap) at the cap, too: twice as many in the first second as on average."""

    EVEN = 0.0


class Line:
    """One stream of one store, or one of its questions."""

    __slots__ = ("batches", "pace")

    def __init__(self, store: int, batches: int, rng: Random, backoff: Backoff) -> None:
        self.pace = Pace(f"gw{store:05d}", rng, interval_s=2.0, backoff=backoff)
        self.pace.min_interval_s = MIN_INTERVAL_S
        self.batches = batches


class Peak(NamedTuple):
    """What the platform saw: most requests in any second, seconds until the last backlog was gone, all requests."""

    requests_s: int
    drained_s: float
    requests: int


def batches_of(events: float, max_events: int) -> int:
    """How many requests a backlog takes when the platform has told this limit; at least one."""
    options = SyncOptions()
    size = BatchSize(options.max_events, options.max_bytes)
    size.told(Limits(max_events=max_events))
    return max(1, -(-int(events) // size.events))


def simulate(
    stores: int, outage_s: float, hour: Hour, *, backoff: Callable[[], Backoff] = Backoff, max_events: int,
) -> Peak:  # fmt: skip
    """One outage and what follows."""
    rng = Random(2026)
    queue: list[tuple[float, int]] = []
    lines: list[Line] = []
    needed = {name: batches_of(count * outage_s / 3600.0, max_events) for name, count in hour.items()}
    outage_s = min(outage_s, STEADY_S)
    for store in range(stores):
        for name, count in (hour | ASKS).items():
            line = Line(store, needed.get(name, 1), rng, backoff())
            # It notices at its next event or question; without jitter all are cut off in the same second.
            first_s = 0.0 if backoff is NoJitter else rng.expovariate(count / 3600.0)
            heapq.heappush(queue, (min(first_s, outage_s), len(lines)))
            lines.append(line)
    seconds: Counter[int] = Counter()
    last_s = 0.0
    while queue:
        now_s, number = heapq.heappop(queue)
        line = lines[number]
        line.pace.sent(now_s)
        if now_s < outage_s:
            line.pace.failed(now_s)
        else:
            seconds[int(now_s - outage_s)] += 1
            line.batches -= 1
            if line.batches <= 0:
                last_s = max(last_s, now_s - outage_s)
                continue
            line.pace.worked(now_s, backlog=True)
        heapq.heappush(queue, (line.pace.due_s, number))
    return Peak(max(seconds.values()), last_s, sum(seconds.values()))


def main() -> None:
    """Command line."""
    arguments = argparse.ArgumentParser(description="A fleet after an outage.")
    arguments.add_argument("--stores", type=int, default=50_000)
    arguments.add_argument("--quick", action="store_true", help="the judged runs only")
    chosen = arguments.parse_args()
    theirs = PlatformLimits().max_events
    print(f"{chosen.stores:,} stores, the gateway's own back-off and batch sizes in virtual time")
    judged: tuple[tuple[str, float, Hour, type[Backoff], int], ...] = (
        ("1 h, 1,000 events", 3600.0, ORDINARY, Backoff, theirs),
        ("1 h, 2,300 events", 3600.0, BUSY, Backoff, theirs),
        ("1 h, 5,000 events", 3600.0, HEAVY, Backoff, theirs),
    )
    beside: tuple[tuple[str, float, Hour, type[Backoff], int], ...] = (
        ("12 h, 1,000 events an hour", 43200.0, ORDINARY, Backoff, theirs),
        ("1 h, 2,300 events, 500 at once", 3600.0, BUSY, Backoff, 500),
        ("15 min, 1,000 events an hour", 900.0, ORDINARY, Backoff, theirs),
        ("1 h, 2,300 events, U(0, cap), 500", 3600.0, BUSY, FullJitter, 500),
        ("1 h, 1,000 events, no jitter, 500", 3600.0, ORDINARY, NoJitter, 500),
    )
    for runs, limited in ((judged, True), (() if chosen.quick else beside, False)):
        for name, outage_s, hour, backoff, max_events in runs:
            peak = simulate(chosen.stores, outage_s, hour, backoff=backoff, max_events=max_events)
            holds = peak.requests_s <= PEAK_LIMIT * chosen.stores / 50_000 and peak.drained_s <= DRAIN_LIMIT_S
            verdict = ("ok" if holds else "MISSED") if limited else "no limit set"
            print(
                f"  {name:34} peak {peak.requests_s:8,} requests/s <= {PEAK_LIMIT:,}   "
                f"drained in {peak.drained_s:5.0f} s <= {DRAIN_LIMIT_S:.0f}   {peak.requests:,} requests   {verdict}"
            )


if __name__ == "__main__":
    main()
