"""Killed a thousand times, and the power cut a hundred: what was lost, what was there twice.

The harness is `tests.faults.kill_harness`; here it runs long, over both brokers, with kills alone and with power cuts.

    python -m bench.faults [--kills 1000] [--cuts 100] [--broker mosquitto|embedded]
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from bench.figures import Figure, print_figures
from tests.faults.kill_harness import BrokerKind, Harness
from tests.faults.powercut import preloadable


def figure(broker: BrokerKind, kills: int, *, power_cut: bool) -> Figure:
    """One run of the harness."""
    seed = random.SystemRandom().randrange(1 << 31)
    with tempfile.TemporaryDirectory() as folder:
        report = Harness(Path(folder), broker, power_cut=power_cut, seed=seed).run(kills)
    what = "power cuts" if power_cut else "kill -9"
    found = report.findings
    ours = f"{found.lost}, {found.duplicated} of {report.messages:,} in {report.kills}, {report.kills_a_minute:.0f}/min"
    if not report.clean:
        print(f"seed {seed}: {found.violations}", file=sys.stderr)
    return Figure(f"{what} under load, {broker}: acknowledged events lost, doubled", "0, 0", "", ours, report.clean)


def main() -> int:
    """Run and print; 1 when anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000, help="for each broker")
    parser.add_argument("--cuts", type=int, default=100, help="power cuts for each broker")
    parser.add_argument("--broker", choices=["mosquitto", "embedded"])
    args = parser.parse_args()
    figures: list[Figure] = []
    brokers: tuple[BrokerKind, ...] = (args.broker,) if args.broker else ("mosquitto", "embedded")
    for broker in brokers:
        figures.append(figure(broker, args.kills, power_cut=False))
        if preloadable():
            figures.append(figure(broker, args.cuts, power_cut=True))
    print_figures(figures)
    print(json.dumps({"figures": [one.as_json() for one in figures]}))
    return 0 if all(one.met for one in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
