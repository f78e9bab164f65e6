"""What the key figures are made from: the hours of every read model over some days, read in a few short queries.

Values and reading only; what they mean is `kpi`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.projections import coupons, feedback, footfall, interactions, queue, sales, uptime, visits, zones
from gateway.projections.coupons import CouponHour
from gateway.projections.feedback import FeedbackHour
from gateway.projections.footfall import LineHour, Passed
from gateway.projections.interactions import InteractionHour
from gateway.projections.opening import day_span
from gateway.projections.projection import Query
from gateway.projections.queue import QueueHour
from gateway.projections.sales import SalesHour
from gateway.projections.store_time import StoreTime
from gateway.projections.visits import VisitHour
from gateway.projections.zones import ZoneHour

KNOWN_DAYS = 2  # a line, zone or queue that spoke so many days before is expected to speak
CAMPAIGN_DAYS = 30  # coupons are issued long before they are redeemed


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of the read models. `lines`, `zones` and `queues` reach `KNOWN_DAYS` further back, `passed` one day."""

    first: str
    last: str
    lines: tuple[LineHour, ...] = ()
    passed: tuple[Passed, ...] = ()
    sales: tuple[SalesHour, ...] = ()
    coupons: tuple[CouponHour, ...] = ()  # `CAMPAIGN_DAYS` further back than `last`
    feedback: tuple[FeedbackHour, ...] = ()
    scales: Mapping[str, tuple[int, int]] = {}  # lowest and highest score ever given, by question
    zones: tuple[ZoneHour, ...] = ()
    stays: Mapping[tuple[int, str], Mapping[int, int]] = {}
    queues: tuple[QueueHour, ...] = ()
    waits: Mapping[tuple[int, str], Mapping[int, int]] = {}
    interactions: tuple[InteractionHour, ...] = ()
    visits: tuple[VisitHour, ...] = ()
    uptime: Mapping[int, Mapping[str, float]] = {}


def read_rows(query: Query, first: str, last: str, store_time: StoreTime) -> Rows:
    """The rows of the days from `first` to `last` (`2026-11-22`), both included; empty where nothing was told."""
    known = _before(first, KNOWN_DAYS, store_time)
    campaign = min(known, _before(last, CAMPAIGN_DAYS, store_time))
    return Rows(
        first=first,
        last=last,
        lines=tuple(footfall.line_hours_of(query, known, last)),
        passed=tuple(footfall.passed_of(query, _before(first, 1, store_time), last)),
        sales=tuple(sales.hours_of(query, first, last)),
        coupons=tuple(coupons.hours_of(query, campaign, last)),
        feedback=tuple(feedback.hours_of(query, first, last)),
        scales=feedback.scales_of(query),
        zones=tuple(zones.hours_of(query, known, last)),
        stays=zones.spread_of(query, first, last),
        queues=tuple(queue.hours_of(query, known, last)),
        waits=queue.spread_of(query, first, last),
        interactions=tuple(interactions.hours_of(query, campaign, last)),
        visits=tuple(visits.hours_of(query, first, last)),
        uptime=uptime.hours_of(query, first, last),
    )


def _before(day: str, days: int, store_time: StoreTime) -> str:
    return store_time.days_before(day_span(day, store_time)[0] + 43_200_000, days)
