"""Coupons by hour: how many were issued to this store, redeemed, refused, reserved and released.

Issued are those that the platform's command `coupons.issue` brought, by the event that says it was carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from gateway.event import Stream
from gateway.projections.projection import COUNT_LIMIT, Change, Fact, Query, Table, have_table
from gateway.projections.store_time import StoreTime

_COMMAND = "store.command.completed.v1"
_STEPS = {f"store.coupon.{step}.v1": step for step in ("reserved", "redeemed", "released", "refused")}


class _Completed(msgspec.Struct):
    kind: str
    outcome: str
    result: msgspec.Raw = msgspec.Raw(b"{}")


class _Issued(msgspec.Struct):
    issued: int = 0


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
        self.version = f"3 {time.name}"
        self._time = time

    def fold(self, facts: Sequence[Fact]) -> Iterable[Change]:
        """Count the run by hour and step."""
        counts: dict[tuple[str, int, str], int] = {}
        for fact in facts:
            step = _STEPS.get(fact.type) or ("issued" if fact.type == _COMMAND else "")
            count = _issued(fact) if fact.type == _COMMAND else 1
            if step and count:
                key = (*self._time.bucket(fact.happened_ms), step)
                counts[key] = counts.get(key, 0) + count
        if counts:
            yield Change(
                "INSERT INTO coupon_hour VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET coupons = coupons + excluded.coupons",
                [(*key, count) for key, count in counts.items()],
            )


def _issued(fact: Fact) -> int:
    """How many coupons the platform issued to this store with a command; 0 for any other command."""
    try:
        told = _decode_completed(fact.data)
        if told.kind != "coupons.issue" or told.outcome != "done":
            return 0
        issued = _decode_issued(told.result).issued
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0
    return issued if 0 <= issued <= COUNT_LIMIT else 0


_decode_completed = msgspec.json.Decoder(_Completed).decode
_decode_issued = msgspec.json.Decoder(_Issued).decode


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
