"""Back-off and restart budget."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime.backoff import Backoff, RestartBudget


class Dice(Random):
    """Always the lowest or always the highest throw."""

    def __init__(self, part: float) -> None:
        super().__init__(0)
        self.part = part

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.part


def test_waits_double_up_to_the_cap_and_start_again_after_reset() -> None:
    """The whole steps are 1, 2, 4, 5, 5; after a reset 1 again."""
    backoff, high = Backoff(1.0, 5.0), Dice(1.0)
    assert [backoff.next(high) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next(high) == 1.0


def test_jitter_takes_away_half_at_most() -> None:
    """The shortest throw is half of the step."""
    backoff, low = Backoff(1.0, 5.0), Dice(0.0)
    assert [backoff.next(low) for _ in range(4)] == [0.5, 1.0, 2.0, 2.5]


@given(st.floats(0.001, 100), st.floats(1, 1000), st.integers(0, 5000), st.integers())
def test_every_wait_lies_between_half_the_base_and_the_cap(base_s: float, factor: float, tries: int, seed: int) -> None:
    """However many tries, a wait is never near zero, never above the cap, and never overflows."""
    backoff = Backoff(base_s, base_s * factor)
    backoff.tries = tries
    assert base_s / 2 <= backoff.next(Random(seed)) <= base_s * factor


@pytest.mark.parametrize(("base_s", "cap_s"), [(0, 1), (-1, 1), (2, 1), (float("nan"), 1)])
def test_a_backoff_without_a_wait_is_refused(base_s: float, cap_s: float) -> None:
    """Base above zero, cap not below it."""
    with pytest.raises(ValueError, match="base_s"):
        Backoff(base_s, cap_s)


def test_a_copy_starts_from_the_beginning() -> None:
    """Two workers given the same back-off do not lengthen each other's waits."""
    backoff = Backoff(1.0, 8.0)
    backoff.next(Random(1))
    assert backoff.copy().tries == 0


def test_five_crashes_in_a_minute_are_affordable_and_the_sixth_is_not() -> None:
    """The budget is 5 in 60 s, sliding."""
    budget = RestartBudget()
    assert [budget.spend(s) for s in (0, 10, 20, 30, 40, 50)] == [True] * 5 + [False]


def test_a_crash_a_quarter_minute_is_affordable_for_ever() -> None:
    """Crashes 15 s apart never use the budget up."""
    budget = RestartBudget()
    assert all(budget.spend(n * 15.0) for n in range(100))
