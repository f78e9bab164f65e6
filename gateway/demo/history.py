"""What a demo's shop is said to have counted and sold before it began: so that "usual" and the forecast have a past.

People at both doors for every hour that the shop was open, sales of the last week and who listened to the tills, up to
the moment when the demo begins, with the times when they would have happened, the detector `replayed` and sources of
their own. They go through the running gateway's inlet like any other event. Invented at the pace at which the demo's
own people come, so that the two can be compared. Knows the shop's rhythm; no camera and no till.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from devices.plan import DevicePlan
from devices.simulator import day
from gateway.clock import Clock, Instant, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.event_types import CountQuality, EventData, FootfallCounted, Heartbeat, Sale, Totals, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.projections.kpi_sources import sells
from gateway.projections.store_time import StoreTime
from gateway.projections.uptime import BEAT_S

log = logging.getLogger(__name__)

DETECTOR: Final = "replayed"
SOURCE: Final = "replayed"
SALES_DAYS: Final = 7  # as many as a comparison with a week ago wants; more would only be many
ZONES: Final = (
    "Asia/Shanghai", "Asia/Dubai", "Europe/London", "America/Sao_Paulo", "America/Chicago", "America/Los_Angeles",
    "Pacific/Honolulu", "Pacific/Auckland",
)  # fmt: skip
_AFTERNOON: Final = range(12, 19)  # hours in which a day has both a past and a future
_BEST_H: Final = 15
_STAY_S: Final = 180.0  # who came so shortly before the demo begins is still in the shop
_PRICES: Final = (12.0, 62.0)  # of a piece, in the shop's currency
_TOGETHER: Final = 64
_WAIT_S: Final = 0.2
_LANE: Final = ".replayed"  # no device can have such a name


class Past(Protocol):
    """What the replay needs of a gateway (`gateway.app.Gateway`)."""

    clock: Clock
    inlet: Inlet
    origin: Origin

    @property
    def plans(self) -> list[DevicePlan]:
        """Its devices."""
        ...


def afternoon(at: datetime) -> str:
    """Where the demo's shop lies: in Shanghai, or where it is afternoon while it is night there."""

    def away_h(zone: str) -> float:
        local = at.astimezone(ZoneInfo(zone))
        return abs(local.hour + local.minute / 60 - _BEST_H)

    home = ZONES[0]
    return home if at.astimezone(ZoneInfo(home)).hour in _AFTERNOON else min(ZONES, key=away_h)


def past(
    origin: Origin,
    at: Instant,
    store_time: StoreTime,
    days: int,
    *,
    visitors: float,
    main_share: float,
    seed: int,
    tills: Sequence[str] = (),
) -> Iterator[Draft]:
    """What was counted and sold on the `days` before the day of `at` and on that day until then, the oldest first.

    Args:
        origin: of the gateway.
        at: now.
        store_time: the store's calendar.
        days: how many; 0: nothing, not of today either.
        visitors: on a mean day.
        main_share: of these, through the main door.
        seed: of chance.
        tills: that are said to have been listened to while there were sales.
    """
    dice = random.Random(seed)  # noqa: S311 - people, not secrets
    until_s, now_ms = at.wall_s - at.wall_s % 60, int(at.wall_s * 1000)
    first, sold_from = store_time.days_before(now_ms, days), store_time.days_before(now_ms, min(days, SALES_DAYS))
    here_s = until_s - until_s % 3600 - (days + 1) * 86_400
    while days and here_s < until_s:
        today, hour = store_time.day(int(here_s * 1000)), store_time.hour(int(here_s * 1000))[1]
        span_s = min(3600.0, until_s - here_s)
        mean = day.visitors_in(date.fromisoformat(today).weekday(), hour, visitors) * span_s / 3600
        if today >= first and mean > 0:
            for line, entrance, share in (("main-door", "main", main_share), ("side", "side-door", 1 - main_share)):
                came = _about(dice, mean * share)
                here = min(came, round(mean * share * _STAY_S / span_s)) if here_s + span_s >= until_s else 0
                counted = FootfallCounted(
                    line=line, entrance=entrance, interval_start=rfc3339_s(here_s), interval_s=span_s, in_=came,
                    out=came - here, quality=CountQuality(coverage=1.0, detector=DETECTOR),
                )  # fmt: skip
                yield _told(origin, at, counted, line, here_s + span_s, entrance)
        if today >= sold_from and mean > 0:
            listened = Heartbeat(
                version=DETECTOR, uptime_s=0.0, streams={}, disk_free_bytes=0, journal_bytes=0, wal_bytes=0,
                rss_bytes=0, clock=DETECTOR, devices=dict.fromkeys(tills, "live"),
            )  # fmt: skip
            for minute in range(int(span_s / BEAT_S)):
                yield _told(origin, at, listened, "gateway", here_s + minute * BEAT_S, None)
            sold = _about(dice, mean * day.conversion((hour - day.OPENS_H) * 3600.0))
            for number, when_s in enumerate(sorted(dice.uniform(here_s, here_s + span_s) for _ in range(sold))):
                name = f"{origin.store}-{SOURCE}-{today}-{hour:02d}{number:04d}"
                yield _told(origin, at, _sale(dice, name, today), "till", when_s, "checkout")
        here_s += 3600


def replay(gateway: Past, zone: str, days: int, visitors: float, main_share: float, seed: int,
           stop: threading.Event) -> int:  # fmt: skip
    """Put the past into the gateway's inlet, a little at a time; returns how many events. Any thread.

    Args:
        gateway: running, or about to.
        zone: the store's time zone.
        days: how many before today.
        visitors: on a mean day.
        main_share: of these, through the main door.
        seed: of chance.
        stop: ends it early.
    """
    tills = [plan.settings.name for plan in gateway.plans if sells(plan)]
    at, time = gateway.clock.now(), StoreTime(zone)
    drafts = list(
        past(gateway.origin, at, time, days, visitors=visitors, main_share=main_share, seed=seed, tills=tills)
    )
    done = 0
    while done < len(drafts) and not stop.is_set():
        some = drafts[done : done + _TOGETHER]
        if gateway.inlet.offer(_LANE, Item(some), _WAIT_S):
            done += len(some)
    log.info("replayed=%d days=%d", done, days)
    return done


def _told(origin: Origin, at: Instant, data: EventData, by: str, when_s: float, zone: str | None) -> Draft:
    entry, source = type_of(data), origin.source(f"{SOURCE}/{by}")
    return draft(entry.stream, entry.name, data, source=source, at=at, happened_s=when_s, zone=zone)


def _sale(dice: random.Random, name: str, today: str) -> Sale:
    pieces = 1 + dice.choices(range(len(day.BASKET_LINES)), day.BASKET_LINES)[0]
    net = Decimal(str(round(sum(dice.uniform(*_PRICES) for _ in range(pieces)), 2)))
    return Sale(
        transaction_id=name, kind="sale", workstation_id="till-1", business_date=today, currency="CNY",
        totals=Totals(net=net, item_count=Decimal(pieces)), tap="json", confidence=1.0,
    )  # fmt: skip


def _about(dice: random.Random, mean: float) -> int:
    """A count of people whose mean this is."""
    return max(0, round(dice.gauss(mean, mean**0.5)))
