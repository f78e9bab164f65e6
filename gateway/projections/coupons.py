"""Coupons by day: how many were redeemed, refused, reserved and released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table
from gateway.projections.store_time import StoreTime

_STEPS = {f"store.coupon.{step}.v1": step for step in ("reserved", "redeemed", "released", "refused")}


class CouponDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day's coupons."""

    reserved: int = 0
    redeemed: int = 0
    released: int = 0
    refused: int = 0


class Coupons:
    """The read model."""

    name = "coupons"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "coupon_day",
            "day TEXT NOT NULL, step TEXT NOT NULL, coupons INTEGER NOT NULL, PRIMARY KEY (day, step)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"1 {time.name}"
        self._time = time

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by day and step."""
        counts: dict[tuple[str, str], int] = {}
        for fact in facts:
            if step := _STEPS.get(fact.type):
                key = self._time.day(fact.happened_ms), step
                counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO coupon_day VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET coupons = coupons + excluded.coupons",
                [(*key, count) for key, count in counts.items()],
            )


def day_of(query: Query, day: str) -> CouponDay | None:
    """That day's coupons; None when there were none."""
    if not have_table(query, "coupon_day"):
        return None
    rows = query("SELECT step, coupons FROM coupon_day WHERE day = ?", (day,))
    return CouponDay(**{row["step"]: row["coupons"] for row in rows}) if rows else None
