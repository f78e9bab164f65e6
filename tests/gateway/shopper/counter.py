"""A coupon desk over a real journal, whose commit loop and clerk a test steps by hand or lets run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway import event_types as types
from gateway.clock import FakeClock
from gateway.event import draft
from gateway.shopper.coupon_clerk import CouponClerk
from gateway.shopper.coupon_messages import Answer, Request
from gateway.shopper.coupon_rules import Limits
from gateway.shopper.coupon_token import CouponToken, issue
from gateway.shopper.coupons import CouponDesk
from tests.gateway.shopper.stepped_shop import AT_ONCE, SteppedShop

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = "A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg"
NOW_S = 1_795_312_800
DAY_S = 86_400
PLAIN = CouponToken(
    key="k1", id="C-1", campaign="spring", face=Decimal("10.00"), currency="CNY", not_before_s=NOW_S - DAY_S,
    expires_s=NOW_S + DAY_S, channel="app",
)  # fmt: skip
HOME = msgspec.structs.replace(PLAIN, id="H-1", home="0042")


def coupon(token: CouponToken = PLAIN, **changes: Any) -> str:
    """The text of a coupon that the trusted key has signed."""
    return issue(msgspec.structs.replace(token, **changes), KEY)


class Counter(SteppedShop):
    """Desk, clerk and journal of one shop."""

    def __init__(self, directory: Path, clock: FakeClock | None = None, **options: Any) -> None:
        limits = {name: options.pop(name) for name in ("per_coupon", "at_risk") if name in options}
        super().__init__(directory, clock or FakeClock(float(NOW_S)), options.pop("max_bytes", 64 << 20))
        self.restore = options.pop("restore_on_return", False)
        self.desk = CouponDesk(
            self.commits, self.origin, self.clock, Limits(store="0042", currency="CNY", **limits), {"k1": PUBLIC},
            **options,
        )  # fmt: skip
        self.clerk = CouponClerk(self.desk, self.path, restore_on_return=self.restore)
        self.asked = 0

    def open(self) -> None:
        super().open()
        self.tend(4)

    def close(self) -> None:
        self.clerk.close()
        super().close()

    def tend(self, times: int = 2) -> None:
        """Let the clerk do its rounds, with the commit loop running meanwhile."""
        with self.committing():
            for _ in range(times):
                self.clerk.step(AT_ONCE)
                self.clock.advance(2.5)

    def send(self, operation: str, *, lane: str = "1", number: str = "", **fields: Any) -> Future[Answer]:
        self.asked += 1
        request = msgspec.convert({"request": number or f"r{self.asked}", "operation": operation, **fields}, Request)
        return self.desk.ask(lane, request)

    def ask(self, operation: str, **fields: Any) -> Answer:
        future = self.send(operation, **fields)
        self.commits._run_jobs()
        return future.result(0)

    def sell(self, transaction: str, *coupons: str, kind: str = "sale", lane: str = "1", **fields: Any) -> None:
        """A till's finished transaction comes in, and the clerk reads it."""
        sale = types.Sale(
            transaction_id=transaction, kind=kind, workstation_id=lane, business_date="2026-11-22", coupons=coupons,
            totals=types.Totals(net=Decimal(5)), tap="json", confidence=1.0, **fields,
        )  # fmt: skip
        entry = types.type_of(sale)
        source = self.origin.source("pos_json/till")
        self.put([draft(entry.stream, entry.name, sale, source=source, at=self.clock.now())])
        self.tend()

    def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Every coupon event of the journal: what happened, and its data."""
        return [
            (event["type"].split(".")[2], event["data"])
            for event in self.events("transactions")
            if event["type"].startswith("store.coupon")
        ]

    def steps(self) -> list[str]:
        return [step for step, _ in self.told()]


@contextmanager
def counter(directory: Path, clock: FakeClock | None = None, **options: Any) -> Iterator[Counter]:
    """An open one."""
    made = Counter(directory, clock, **options)
    made.open()
    try:
        yield made
    finally:
        made.close()
