"""A coupon desk in a process of its own, to be killed: requests on standard input, answers on standard output.

    python -m tests.faults.coupon_child DIRECTORY

A line is the lane, a tab and JSON; the first line out is `ready`. Journal, commit loop, desk and clerk are real ones,
only the transport is a pipe, so that a start takes a fraction of a second.
"""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from decimal import Decimal
from functools import partial
from pathlib import Path

from gateway.clock import SystemClock
from gateway.event import Origin
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.writer import JournalWriter
from gateway.shopper.coupon_clerk import CouponClerk
from gateway.shopper.coupon_messages import Answer, read_request, to_json
from gateway.shopper.coupon_rules import Limits
from gateway.shopper.coupons import CouponDesk

PUBLIC = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"


def main() -> None:
    path = Path(sys.argv[1]) / "journal.db"
    clock, stop = SystemClock(), threading.Event()
    commits = CommitLoop(JournalWriter(path, "gw01", clock, ballast_bytes=0), Inlet())
    at_risk = Decimal(10**9)  # where the clock is not synchronised every coupon counts
    limits = Limits(store="0042", currency="CNY", at_risk=at_risk)
    desk = CouponDesk(commits, Origin("t1", "0042", "gw01"), clock, limits, {"k1": PUBLIC})
    clerk = CouponClerk(desk, path)
    commits.open()

    def work(step: object) -> None:
        while not stop.is_set():
            step(stop)  # type: ignore[operator]

    for each in (commits.step, clerk.step):
        threading.Thread(target=work, args=(each,), daemon=True).start()
    while not desk.ready:
        stop.wait(0.002)
    lock = threading.Lock()

    def tell(lane: str, done: Future[Answer]) -> None:
        with lock:
            sys.stdout.buffer.write(lane.encode() + b"\t" + to_json(done.result()) + b"\n")
            sys.stdout.buffer.flush()

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin.buffer:
        lane, _, payload = line.rstrip(b"\n").partition(b"\t")
        request = read_request(payload)
        if not isinstance(request, Answer):
            desk.ask(lane.decode(), request).add_done_callback(partial(tell, lane.decode()))


if __name__ == "__main__":
    main()
