"""The shape of a shop's day as plain numbers: when people come, how much they buy, how many bring a coupon.

Facts, rounded, from real shops and streets; nothing here is a record of anybody. A shop that opens from 10 to 22, as
they do in China; the curves are of other countries, taken over the same hours. Knows no shopper, device or clock.

*Source*: visitors by hour: mean counts of the four Queen Street sensors in 2024, Auckland pedestrian counts (Heart of
the City), CC BY 4.0. Baskets by hour, lines a basket and the share with a coupon: store 367 in 2017 of "The Complete
Journey" (dunnhumby), data for research and education; its time stamps are read as UTC, five hours late.
What is no such fact but a plain assumption is named `ASSUMED_…`.
"""

from __future__ import annotations

from typing import Final

OPENS_H: Final = 10
CLOSES_H: Final = 22
DAY_S: Final = (CLOSES_H - OPENS_H) * 3600.0

# Share of the day's visitors in each hour from 10 to 22.
VISITORS_BY_HOUR: Final = (0.065, 0.080, 0.100, 0.100, 0.098, 0.105, 0.113, 0.112, 0.080, 0.061, 0.048, 0.038)
# Share of the day's baskets in each hour: later than the street, because people shop on their way home.
BASKETS_BY_HOUR: Final = (0.058, 0.067, 0.067, 0.075, 0.077, 0.092, 0.128, 0.122, 0.106, 0.095, 0.074, 0.040)
# Share of baskets with 1, 2, 3 … lines; the last is "10 and more".
BASKET_LINES: Final = (0.24, 0.083, 0.075, 0.068, 0.061, 0.045, 0.043, 0.036, 0.032, 0.317)
COUPON_SHARE: Final = 0.055  # of baskets in which a coupon was redeemed
PROMOTED_SHARE: Final = 0.10  # of the value of a basket, taken off by promotions

ASSUMED_VISITORS: Final = 1200  # a day: a mid-sized shop
ASSUMED_BY_WEEKDAY: Final = (0.84, 0.84, 0.88, 0.93, 1.07, 1.25, 1.19)  # of a mean day, from Monday on
ASSUMED_CONVERSION: Final = 0.35  # visitors who buy, over the whole day
ASSUMED_TRIES_ON: Final = 0.6  # of those who take a garment
ASSUMED_TROLLEY: Final = 0.25  # visitors who take a trolley
ASSUMED_MEMBER: Final = 0.3  # visitors who are members; who buys shows the card
ASSUMED_APP: Final = 0.5  # members who show the app at the door
ASSUMED_POSTER: Final = 0.06  # visitors who scan a poster's code
ASSUMED_ANSWER: Final = 0.12  # visitors who press a button of the feedback stand


def visitors_per_s(at_s: float, visitors: float = ASSUMED_VISITORS) -> float:
    """Visitors a second at `at_s` seconds after opening; 0 when the shop is closed.

    Args:
        at_s: seconds since opening.
        visitors: in the whole day.
    """
    if not 0 <= at_s < DAY_S:
        return 0.0
    return visitors * VISITORS_BY_HOUR[int(at_s // 3600)] / 3600


def visitors_in(weekday: int, hour: int, visitors: float) -> float:
    """How many come in an hour of the clock on a weekday (0: Monday); 0 when the shop is closed.

    Args:
        weekday: 0 to 6.
        hour: 0 to 23.
        visitors: on a mean day.
    """
    if not OPENS_H <= hour < CLOSES_H:
        return 0.0
    return visitors * ASSUMED_BY_WEEKDAY[weekday] * VISITORS_BY_HOUR[hour - OPENS_H]


def conversion(at_s: float) -> float:
    """Share of visitors entering at `at_s` who will buy, 0–1: `ASSUMED_CONVERSION` bent by the hour's baskets."""
    hour = min(int(max(at_s, 0.0) // 3600), len(BASKETS_BY_HOUR) - 1)
    return min(0.95, ASSUMED_CONVERSION * BASKETS_BY_HOUR[hour] / VISITORS_BY_HOUR[hour])


def clock_text(at_s: float) -> str:
    """The shop's time of day, as in `14:05`."""
    minutes = int(OPENS_H * 60 + at_s % DAY_S // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"
