"""Fifty thousand stores come back after an outage: how many requests a second the platform sees, and for how long.

A simulation in virtual time that runs the gateway's own `Pace` objects, one for each stream of each store, against a
platform that answers at once. During the outage every stream with something to send keeps trying, so its back-off is
where a real one's would be when the line returns. The same is run without jitter (everybody waits the full step, and
all were cut off in the same second) to show what the jitter is for.

Each store has the events of an hour to send, in batches of 500; the platform asks for one second between batches of a
stream. The limit is for an ordinary hour; a busy one is printed beside it, since the peak is simply twice the number of
requests divided by 300 s (the residual of a wait of U(0, 300 s) is a triangle): a platform that wants it lower lets
batches be larger. Counted are the requests that the outage has caused, tries and backlog, not the flushes of ordinary
business afterwards, which go on at the stores' own interval.

    python -m bench.fleet [--stores 50000] [--outage-s 3600]
"""

from __future__ import annotations

import argparse
import heapq
from collections import Counter
from random import Random

from sync.pacing import FullJitter, Pace

ORDINARY = {"transactions": 60, "measurements": 240, "observations": 700}
BUSY = {"transactions": 60, "measurements": 240, "observations": 2000}
BATCH = 500
MIN_INTERVAL_S = 1.0
PEAK_LIMIT, DRAIN_LIMIT_S = 1500, 360.0


class NoJitter(FullJitter):
    """The back-off of a fleet that nobody warned."""

    def next(self, rng: Random) -> float:
        step_s = min(self.cap_s, self.base_s * 2.0 ** min(self.tries, 60))
        self.tries += 1
        return step_s


class Line:
    """One stream of one store."""

    __slots__ = ("batches", "pace")

    def __init__(self, store: int, batches: int, rng: Random, backoff: FullJitter) -> None:
        self.pace = Pace(f"gw{store:05d}", rng, interval_s=2.0, backoff=backoff)
        self.pace.min_interval_s = MIN_INTERVAL_S
        self.batches = batches


def simulate(stores: int, outage_s: float, hour: dict[str, int], *, jitter: bool) -> tuple[int, float, int]:
    """Returns (most requests in any second after the return, seconds until the last backlog is gone, requests)."""
    rng = Random(2026)
    queue: list[tuple[float, int]] = []
    lines: list[Line] = []
    for store in range(stores):
        for count in hour.values():
            events = count * outage_s / 3600.0
            batches = max(1, -(-int(events) // BATCH))
            line = Line(store, batches, rng, FullJitter() if jitter else NoJitter())
            # The first failure: at the stream's next event; without jitter all notice it in the same second.
            first_s = rng.expovariate(count / 3600.0) if jitter else 0.0
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
    return max(seconds.values()), last_s, sum(seconds.values())


def main() -> None:
    """Command line."""
    arguments = argparse.ArgumentParser(description="A fleet after an outage.")
    arguments.add_argument("--stores", type=int, default=50_000)
    arguments.add_argument("--outage-s", type=float, default=3600.0)
    chosen = arguments.parse_args()
    print(f"{chosen.stores:,} stores, outage of {chosen.outage_s:,.0f} s, the gateway's own back-off in virtual time")
    runs = (("full jitter, ordinary hour", ORDINARY, True), ("full jitter, busy hour", BUSY, True),
            ("no jitter, ordinary hour", ORDINARY, False))  # fmt: skip
    for name, hour, jitter in runs:
        peak, drained_s, total = simulate(chosen.stores, chosen.outage_s, hour, jitter=jitter)
        judged = jitter and hour is ORDINARY
        verdict = (
            ("ok" if peak <= PEAK_LIMIT and drained_s <= DRAIN_LIMIT_S else "MISSED") if judged else "no limit set"
        )
        print(
            f"  {name:28} peak {peak:8,} requests/s <= {PEAK_LIMIT:,}   "
            f"drained in {drained_s:5.0f} s <= {DRAIN_LIMIT_S:.0f}   {total:,} requests   {verdict}"
        )


if __name__ == "__main__":
    main()
