"""What a demo's doors are said to have counted in the weeks before it: so that "usual" and the forecast have a past.

Whole past hours, one event a door and hour, with the time when they would have happened, the detector `replayed` and a
source of their own; nothing of today and nothing that a till would have told. They go through the running gateway's
inlet like any other event. Invented at the demo's own pace, so that they can be compared with what it counts. Knows the
shop's rhythm; no camera.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from devices.simulator import day
from gateway.clock import Clock, Instant, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.event_types import CountQuality, FootfallCounted, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.projections.store_time import StoreTime

log = logging.getLogger(__name__)

DETECTOR: Final = "replayed"
SOURCE: Final = "replayed"
_SPREAD: Final = 0.06  # of an hour's mean
_TOGETHER: Final = 64
_WAIT_S: Final = 0.2
_LANE: Final = ".replayed"  # no device can have such a name


class Past(Protocol):
    """What the replay needs of a gateway (`gateway.app.Gateway`)."""

    clock: Clock
    inlet: Inlet
    origin: Origin


def past(
    origin: Origin, at: Instant, store_time: StoreTime, days: int, *, an_hour: float, main_an_hour: float, seed: int
) -> Iterator[Draft]:
    """Counts of both doors in every hour of the `days` before the day of `at`, the oldest first.

    Args:
        origin: of the gateway.
        at: now.
        store_time: the store's calendar.
        days: how many; 0: none.
        an_hour: people who come in an hour, at both doors; the demo's days know no weekend.
        main_an_hour: of these, through the main door.
        seed: of chance.
    """
    dice = random.Random(seed)  # noqa: S311 - people, not secrets
    today = store_time.day(int(at.wall_s * 1000))
    hour = datetime.fromtimestamp(at.wall_s, UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=days + 1)
    first, entry = store_time.days_before(int(at.wall_s * 1000), days), type_of(FootfallCounted)
    doors = (("main-door", "main", main_an_hour), ("side", "side-door", an_hour - main_an_hour))
    while hour.timestamp() + 3600 <= at.wall_s:
        here, hour = hour, hour + timedelta(hours=1)
        if not first <= store_time.day(int(here.timestamp() * 1000)) < today:
            continue
        for line, entrance, mean in doors:
            came = max(0, round(dice.gauss(mean, _SPREAD * mean)))
            data = FootfallCounted(
                line=line, entrance=entrance, interval_start=rfc3339_s(here.timestamp()), interval_s=3600.0, in_=came,
                out=came, quality=CountQuality(coverage=1.0, detector=DETECTOR),
            )  # fmt: skip
            yield draft(
                entry.stream, entry.name, data, source=origin.source(f"{SOURCE}/{line}"), at=at,
                happened_s=here.timestamp() + 3600, zone=entrance,
            )  # fmt: skip


def replay(gateway: Past, zone: str, days: int, speed: float, main_a_minute: float, seed: int,
           stop: threading.Event) -> int:  # fmt: skip
    """Put the past into the gateway's inlet, a little at a time; returns how many events. Any thread.

    Args:
        gateway: running, or about to.
        zone: the store's time zone.
        days: how many before today.
        speed: shop seconds in a real second.
        main_a_minute: people, in and out, that the main door's camera sees.
        seed: of chance.
        stop: ends it early.
    """
    an_hour = day.ASSUMED_VISITORS / day.DAY_S * speed * 3600
    main = min(an_hour, main_a_minute * 60 / 2)
    drafts = list(
        past(gateway.origin, gateway.clock.now(), StoreTime(zone), days, an_hour=an_hour, main_an_hour=main, seed=seed)
    )
    done = 0
    while done < len(drafts) and not stop.is_set():
        some = drafts[done : done + _TOGETHER]
        if gateway.inlet.offer(_LANE, Item(some), _WAIT_S):
            done += len(some)
    log.info("replayed=%d days=%d", done, days)
    return done
