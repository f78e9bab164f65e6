"""`python -m bench`: run all benches one after the other, or those named, and print one table of figures at the end."""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial

from bench.figures import Figure, print_figures
from bench.suite import BENCHES, Size, run

QUICK_S, DEFAULT_S = 180.0, 600.0


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when every limit held, 1 when one was missed or not measured, 2 for a name that is none."""
    parser = argparse.ArgumentParser(
        prog="storefront bench", description="Figures beside limits and peers, measured here and now.",
        epilog="benches: " + ", ".join(bench.name for bench in BENCHES),
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="at most three minutes: fewer rounds, less of everything")
    size.add_argument("--full", action="store_true", help="everything at its full size; takes about an hour")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    asked = parser.parse_args(arguments)
    known = {bench.name: bench for bench in BENCHES}
    if unknown := [name for name in asked.names if name not in known]:
        print(f"no such bench: {', '.join(unknown)}. There are: {', '.join(known)}", file=sys.stderr)
        return 2
    how: Size = "quick" if asked.quick else "full" if asked.full else "default"
    chosen = [known[name] for name in asked.names] or list(BENCHES)
    print_line = partial(print, flush=True, file=sys.stderr if asked.json else sys.stdout)
    until_s = time.monotonic() + {"quick": QUICK_S, "default": DEFAULT_S, "full": float("inf")}[how]
    figures: list[tuple[str, Figure]] = []
    skipped: list[str] = []
    for bench in chosen:
        # Asked for by name, a bench that is left out at this size runs as it does at the next.
        own: Size = how
        if asked.names and bench.arguments(own) is None:
            own = "full" if bench.default is None else "default"
        if bench.arguments(own) is None or (not asked.names and time.monotonic() > until_s):
            skipped.append(bench.name)
            continue
        print_line(f"\n=== {bench.name}: {bench.title} ===")
        figures += [(bench.name, one) for one in run(bench, own, print_line)]
    if asked.json:
        print(json.dumps([{"bench": name, **one.as_json()} for name, one in figures]))
    else:
        print("\n=== figures ===")
        print_figures(one for _, one in figures)
        if skipped:
            print(f"left out at this size: {', '.join(skipped)}")
        missed = sum(one.met is False for _, one in figures)
        held = sum(one.met is True for _, one in figures)
        print(f"{held} held, {missed} missed; on a busy machine only the ratios taken in one run mean much")
    return int(any(one.met is False for _, one in figures))


if __name__ == "__main__":
    raise SystemExit(main())
