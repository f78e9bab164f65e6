"""A shop with a real journal, whose commit loop and book of visits a test steps by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from gateway import event_types as types
from gateway.clock import FakeClock, rfc3339_s
from gateway.event import Draft, draft
from gateway.shopper.hints import Recognition
from gateway.shopper.visit_book import VisitBook, VisitDesk
from gateway.shopper.visit_case import Rules
from tests.gateway.shopper.shoppers import GTIN, RULES
from tests.gateway.shopper.stepped_shop import AT_ONCE, SteppedShop


def key(who: str) -> str:
    return who.encode().hex().ljust(32, "0")


class VisitShop(SteppedShop):
    """Desk, book and journal of one shop."""

    def __init__(self, directory: Path, clock: FakeClock | None = None, rules: Rules = RULES) -> None:
        super().__init__(directory, clock or FakeClock())
        self.rules = rules
        self.ended: Callable[[str], Collection[str]] = lambda record: ()
        self.begin()

    def begin(self) -> None:
        """As after a start: nothing in memory."""
        self.desk = VisitDesk(self.rules, Recognition(self.clock), lambda record: self.ended(record))
        self.book = VisitBook(self.desk, self.path, self.commits, self.origin, self.clock)

    def close(self) -> None:
        self.book.close()
        super().close()

    def restart(self) -> None:
        """The process is gone and comes back."""
        self.book.close()
        self.begin()

    def fold(self, times: int = 1) -> None:
        """Let the book work, with the commit loop running meanwhile."""
        with self.committing():
            for _ in range(times):
                self.book.step(AT_ONCE)

    def after(self, minutes: float) -> list[dict[str, Any]]:
        """Let time pass, and what is told then."""
        self.clock.advance(minutes * 60)
        self.fold(2)
        self.commits.step(AT_ONCE)
        return self.told()

    def told(self) -> list[dict[str, Any]]:
        return [it["data"] for it in self.events("measurements") if it["type"] == "store.visit.closed.v1"]

    # -- what happens

    def event(
        self, data: types.EventData, *, zone: str | None = "till-1", consent: str | None = None,
        ago_s: float = 0.0,
    ) -> Draft:  # fmt: skip
        entry = types.type_of(data)
        now = self.clock.now()
        return draft(
            entry.stream, entry.name, data, source=self.origin.source("bench/one"), at=now, zone=zone,
            happened_s=now.wall_s - ago_s, extensions={"consentref": consent} if consent else None,
        )  # fmt: skip

    def scan(self, who: str, zone: str = "till-1", consent: str = "", **fields: Any) -> Draft:
        shopper = types.Shopper(day_key=key(who), **fields)
        data = types.InteractionScanned(scanner="scanner-1", shopper=shopper)
        return self.event(data, zone=zone, consent=consent or f"r-{who}")

    def link(self, who: str, other: str) -> Draft:
        one, two = (types.Shopper(day_key=key(it), sealed=f"p1.{it}") for it in (who, other))
        data = types.MemberLinked(act="login", shopper=one, linked=msgspec.structs.replace(two, scheme="app"))
        return self.event(data, consent=f"r-{who}")

    def sale(
        self, name: str, who: str | None = None, *, zone: str = "till-1", gtins: Sequence[str] = (GTIN,),
        ago_s: float = 0.0, took_s: float = 0.0,
    ) -> Draft:  # fmt: skip
        shopper = None if who is None else types.Shopper(day_key=key(who))
        closed_s = self.clock.wall_s - ago_s
        lines = tuple(types.Line(seq=n, gtin=gtin, amount=Decimal(5)) for n, gtin in enumerate(gtins, 1))
        data = types.Sale(
            transaction_id=name, kind="sale", workstation_id=zone, business_date="2026-11-22", lines=lines,
            opened_at=rfc3339_s(closed_s - took_s) if took_s else None,
            closed_at=rfc3339_s(closed_s) if took_s else None,
            loyalty=shopper, totals=types.Totals(net=Decimal(5)), tap="json", confidence=1.0,
        )  # fmt: skip
        return self.event(data, zone=zone, consent=None if who is None else f"r-{who}", ago_s=ago_s)

    def beacon(self, who: str, zone: str, *, left: bool = False, dwell_s: float | None = None) -> Draft:
        kind = types.BeaconDeparted if left else types.BeaconArrived
        shopper = types.Shopper(day_key=key(who))
        data = kind(scheme="ibeacon", beacon=key(who), receiver=zone, zone=zone, dwell_s=dwell_s, shopper=shopper)
        return self.event(data, zone=zone, consent=f"r-{who}")

    def tag(self, epc: str, zone: str, gtin: str = GTIN, came_from: str = "shirts") -> Draft:
        data = types.RfidMoved(
            epc=epc, epc_hex="30" * 12, gtin=gtin, reader="gate", zone_from=came_from, zone_to=zone, reads=3,
            first_seen="2026-11-22T00:00:00.000Z", last_seen="2026-11-22T00:00:00.000Z",
        )  # fmt: skip
        return self.event(data, zone=zone)

    def withdrawal(self, record: str, *purposes: str) -> Draft:
        return self.event(
            types.ConsentWithdrawn(
                record_id=record, purposes=purposes or ("visits",), notice_version="1", notice_digest="",
                language="zh", method="till",
            ),
            zone=None, consent=record,
        )  # fmt: skip
