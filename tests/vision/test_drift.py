"""The watch over an accepted counter: steadiness is silent, each kind of loss is found, and recovery ends the alarm."""

from __future__ import annotations

import random
from datetime import date, timedelta

from vision.acceptance import Tap, report
from vision.drift import DayCount, Drift, accepted, watched
from vision.model import Crossing

SHARES = dict.fromkeys(range(10, 22), 1 / 12)


def start() -> Drift:
    taps = [Tap("in", 10.0 * i) for i in range(45)] + [Tap("out", 10.0 * i + 5) for i in range(45)]
    crossings = [Crossing("door", tap.direction, 1, 1, tap.time_s) for tap in taps]
    return accepted(report("door", taps, crossings, 0.0, 900.0, 1.0))


class Shop:
    """A shop whose weekends are busier, its counter, and a till beside it."""

    def __init__(self, till: bool = False) -> None:
        self.rng, self.till, self.days, self.drift = random.Random(1), till, [], start()  # type: ignore[var-annotated]

    def day(self, found_in: float = 1.0, found_out: float = 1.0, trade: float = 1.0, coverage: float = 1.0) -> str:
        on = date(2026, 1, 1) + timedelta(len(self.days))
        came = round(trade * (500 if on.weekday() < 5 else 900) * self.rng.gauss(1.0, 0.06))
        counted = round(came * found_in), round(came * self.rng.gauss(1.0, 0.02) * found_out)
        hours = {hour: round(sum(counted) * share) for hour, share in SHARES.items()}
        till = round(0.35 * came * self.rng.gauss(1.0, 0.05)) if self.till else None
        today = DayCount(on.isoformat(), on.weekday(), *counted, coverage, hours, till)
        self.drift = watched(self.drift, today, self.days)
        self.days.append(today)
        return self.drift.alarm


def until(shop: Shop, alarm: str, most: int = 30, **how: float) -> int:
    """Days until the watch says that."""
    for days in range(1, most + 1):
        if shop.day(**how) == alarm:
            return days
    raise AssertionError(f"not {alarm!r} within {most} days: {shop.drift}")


def test_a_steady_year_is_silent() -> None:
    """Busy weekends and chance are no drift."""
    for till in (False, True):
        shop = Shop(till)
        assert {shop.day() for _ in range(365)} == {""}


def test_a_lost_direction_alarms_within_days_and_its_repair_clears_it() -> None:
    """A third of the leaving is missed: the share of in rises; repaired, the alarm ends."""
    shop = Shop()
    for _ in range(30):
        shop.day()
    assert until(shop, "share", found_out=0.67) <= 3
    assert shop.day(found_out=0.67) == "share"  # it stays
    assert until(shop, "") <= 14


def test_equal_loss_is_seen_beside_earlier_weeks_or_a_second_counter() -> None:
    """Both directions lose 40 %: the share is as ever, the level is not."""
    for till in (False, True):
        shop = Shop(till)
        for _ in range(60):
            shop.day()
        assert until(shop, "level", found_in=0.6, found_out=0.6) <= 5


def test_a_second_counter_tells_bad_trade_from_a_bad_counter() -> None:
    """Trade falls by 40 %: with a till beside it nothing is raised; without, earlier weeks cannot tell."""
    beside, alone = Shop(till=True), Shop()
    for shop in (beside, alone):
        for _ in range(60):
            shop.day()
    assert {beside.day(trade=0.6) for _ in range(20)} == {""}
    assert until(alone, "level", trade=0.6) <= 6


def test_dark_and_empty_days_say_nothing() -> None:
    """Neither raises nor clears."""
    shop = Shop()
    for _ in range(30):
        shop.day()
    until(shop, "share", found_out=0.5)
    before = shop.drift
    assert shop.day(coverage=0.5) == "share" and shop.drift == before
    assert shop.day(trade=0.001) == "share" and shop.drift == before
