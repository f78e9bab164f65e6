"""Which rule honours a coupon, and which reason refuses it: the whole table, without a database."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shopper.coupon_rules import Allowed, Limits, Moment, Standing, judge
from gateway.shopper.coupon_words import REASONS
from tests.gateway.shopper.counter import DAY_S, NOW_S, PLAIN

LIMITS = Limits(store="0042", currency="CNY", at_risk=Decimal(100))
NOW = Moment(NOW_S, trusted=True)
GUESSED = Moment(NOW_S, trusted=False)


def judged(
    *, now: Moment = NOW, standing: Standing | None = None, limits: Limits = LIMITS, currency: str = "", **token: Any
) -> Allowed | str:
    return judge(msgspec.structs.replace(PLAIN, **token), limits, standing or Standing(), now, currency)


@pytest.mark.parametrize(
    ("case", "verdict"),
    [
        ({"home": "0042"}, Allowed("home")),
        ({"home": "0042", "standing": Standing(lease="L")}, Allowed("home")),
        ({"lease": "0042"}, Allowed("lease")),
        ({"standing": Standing(lease="L")}, Allowed("lease", "L")),
        ({"home": "0007", "standing": Standing(lease="L")}, Allowed("lease", "L")),
        ({}, Allowed("optimistic", exposed=True)),
        ({"stores": ("0042", "0043")}, Allowed("optimistic", exposed=True)),
        ({"stores": ("0043",)}, "other_store"),
        ({"stores": ("0043",), "home": "0042"}, "other_store"),
        ({"home": "0007"}, "other_home"),
        ({"lease": "0007"}, "lent_elsewhere"),
        ({"currency": "EUR"}, "other_currency"),
        ({"currency": "EUR", "home": "0042"}, "other_currency"),
        ({"home": "0042", "standing": Standing(revoked=True)}, "revoked"),
        ({"home": "0042", "standing": Standing(taken=1)}, "used_up"),
        ({"home": "0042", "uses": 2, "standing": Standing(taken=1)}, Allowed("home")),
        ({"uses": 5, "standing": Standing(taken=1, optimistic=1)}, "coupon_limit"),
        ({"standing": Standing(at_risk=Decimal(90))}, Allowed("optimistic", exposed=True)),
        ({"standing": Standing(at_risk=Decimal("90.01"))}, "store_limit"),
        ({"home": "0042", "standing": Standing(at_risk=Decimal(100))}, Allowed("home")),
        ({"limits": msgspec.structs.replace(LIMITS, per_coupon=0)}, "coupon_limit"),
        ({"now": Moment(NOW_S + DAY_S, True)}, "expired"),
        ({"now": Moment(NOW_S + DAY_S - 1, True)}, Allowed("optimistic", exposed=True)),
        ({"now": Moment(NOW_S - DAY_S - 1, True)}, "too_early"),
        ({"now": Moment(NOW_S - DAY_S, True)}, Allowed("optimistic", exposed=True)),
    ],
)  # fmt: skip
def test_rules_in_their_order(case: dict[str, Any], verdict: Allowed | str) -> None:
    """Home, then lease, then the shop's own risk; and the first thing that is wrong is the reason."""
    assert judged(**case) == verdict


def test_a_basket_in_another_currency() -> None:
    """The coupon's currency must be the basket's; and money at risk is only counted in the shop's own."""
    assert judged(currency="EUR") == "other_currency"
    assert judged(currency="EUR", home="0042", limits=LIMITS) == "other_currency"
    foreign = msgspec.structs.replace(PLAIN, currency="EUR", home="0042")
    assert judge(foreign, LIMITS, Standing(), NOW, "EUR") == Allowed("home")
    optimistic = msgspec.structs.replace(PLAIN, currency="EUR")
    assert judge(optimistic, LIMITS, Standing(), NOW, "EUR") == "store_limit"


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (GUESSED, Allowed("home", exposed=True, note="clock_unsynced")),
        (Moment(0.0, False), "clock_unsynced"),
        (Moment(NOW_S + DAY_S, False), "clock_unsynced"),
        (Moment(0.0, False, NOW_S), Allowed("home", exposed=True, note="clock_unsynced")),
        (Moment(NOW_S, False, NOW_S + DAY_S), "expired"),
        (Moment(NOW_S + DAY_S, True, NOW_S), "expired"),
    ],
)  # fmt: skip
def test_a_clock_that_nobody_has_set(now: Moment, verdict: Allowed | str) -> None:
    """An expiry is certain only by the last certain time; what seems good is at the shop's risk."""
    assert judged(home="0042", now=now) == verdict


def test_at_risk_holds_for_every_rule_while_the_clock_is_wrong() -> None:
    """A home coupon whose date is only guessed counts against the sum, and is refused when that is full."""
    assert judged(home="0042", now=GUESSED, standing=Standing(at_risk=Decimal(95))) == "store_limit"


@given(
    st.builds(
        Standing, revoked=st.booleans(), taken=st.integers(0, 5), optimistic=st.integers(0, 3),
        lease=st.sampled_from(["", "L"]), at_risk=st.decimals(0, 200, places=2),
    ),
    st.builds(Moment, st.floats(0, 4e9), st.booleans(), st.floats(0, 4e9)),
    st.sampled_from(["", "0042", "0007"]), st.sampled_from(["", "0042", "0007"]), st.integers(1, 5),
)  # fmt: skip
def test_the_bound_holds_whatever_the_book_says(
    standing: Standing, now: Moment, home: str, lease: str, uses: int
) -> None:
    """What is allowed keeps the sum at risk within the limit, the uses within theirs, and the coupon's dates."""
    verdict = judged(now=now, standing=standing, home=home, lease=lease, uses=uses)
    if isinstance(verdict, str):
        assert verdict in REASONS
        return
    assert standing.taken < uses and not standing.revoked
    assert not verdict.exposed or standing.at_risk + PLAIN.face <= LIMITS.at_risk
    assert verdict.rule != "optimistic" or (not home and not lease and verdict.exposed)
    assert now.certain_s < PLAIN.expires_s or now.trusted
    assert now.trusted or verdict.exposed
