"""Coupons by hour: how many were issued to this store, redeemed, refused, reserved and released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import Change, Fact, Query, Table, have_table
from gateway.projections.store_time import StoreTime

_STEPS = {f"store.coupon.{step}.v1": step for step in ("issued", "reserved", "redeemed", "released", "refused")}


class CouponDay(msgspec.Struct, frozen=True, kw_only=True):
    """A day's coupons."""

    issued: int = 0
    reserved: int = 0
    redeemed: int = 0
    released: int = 0
    refused: int = 0


class CouponHour(CouponDay, frozen=True, kw_only=True):
    """An hour's coupons."""

    hour_ms: int

    @property
    def presented(self) -> int:
        """How many were shown at a till: held ones end as redeemed or released, and a till may not hold any."""
        return max(self.redeemed + self.released, self.reserved) + self.refused


class Coupons:
    """The read model."""

    name = "coupons"
    streams: tuple[Stream, ...] = ("transactions",)
    tables: tuple[Table, ...] = (
        Table(
            "coupon_hour",
            "day TEXT NOT NULL, hour_ms INTEGER NOT NULL, step TEXT NOT NULL, coupons INTEGER NOT NULL, "
            "PRIMARY KEY (day, hour_ms, step)",
            day=True,
        ),
    )

    def __init__(self, time: StoreTime) -> None:
        """`time`: the store's calendar."""
        self.version = f"2 {time.name}"
        self._time = time

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by hour and step."""
        counts: dict[tuple[str, int, str], int] = {}
        for fact in facts:
            if step := _STEPS.get(fact.type):
                key = (*self._time.bucket(fact.happened_ms), step)
                counts[key] = counts.get(key, 0) + 1
        if counts:
            yield Change(
                "INSERT INTO coupon_hour VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET coupons = coupons + excluded.coupons",
                [(*key, count) for key, count in counts.items()],
            )


def day_of(query: Query, day: str) -> CouponDay | None:
    """That day's coupons; None when there were none."""
    if not have_table(query, "coupon_hour"):
        return None
    rows = query("SELECT step, sum(coupons) AS coupons FROM coupon_hour WHERE day = ? GROUP BY step", (day,))
    return CouponDay(**{row["step"]: row["coupons"] for row in rows}) if rows else None


def hours_of(query: Query, first: str, last: str) -> list[CouponHour]:
    """The hours from one day to another, both included, in which coupons moved; [] when none did."""
    if not have_table(query, "coupon_hour"):
        return []
    hours: dict[int, dict[str, int]] = {}
    for row in query("SELECT * FROM coupon_hour WHERE day BETWEEN ? AND ? ORDER BY hour_ms", (first, last)):
        hours.setdefault(row["hour_ms"], {})[row["step"]] = row["coupons"]
    return [CouponHour(hour_ms=hour_ms, **steps) for hour_ms, steps in hours.items()]
