"""The demo's main door: the people fit the trade, and the books tell a wrong count from a dark one."""

from __future__ import annotations

import time

import pytest

from gateway.clock import rfc3339_s
from gateway.demo.books import PixelCount
from gateway.demo.door import MOST_A_MINUTE, DemoDoor

FROM_S = 500_000.0


def counts(
    door: DemoDoor, more: int = 0, coverage: float = 1.0, stepped_s: float = 0.0
) -> dict[tuple[str, str], PixelCount]:
    """Thirty intervals of ten seconds as a perfect camera tells them, with `more` people in each."""
    machine_s = time.time() - time.monotonic() + stepped_s
    told = {}
    for number in range(30):
        start_s = FROM_S + 10.0 * number
        came, left = door.passed(start_s, start_s + 10.0)
        mono_s = start_s + 16.0
        told[("main-door", rfc3339_s(start_s))] = PixelCount(
            start_s + machine_s, 10.0, max(0, came + more), max(0, left), coverage, 0, mono_s + machine_s, mono_s
        )
    return told


@pytest.mark.parametrize("stepped_s", [0.0, 3600.0])
def test_a_perfect_camera_is_in_order_also_when_the_gateway_s_clock_is_stepped(stepped_s: float) -> None:
    """The truth of the same intervals, by the machine's clock."""
    door = DemoDoor(1, 6000.0)
    came, left = door.compared(counts(door, stepped_s=stepped_s))
    assert came.in_order and left.in_order
    assert came.shop == came.journal > 40
    assert "dark" not in came.note


def test_a_camera_that_misses_or_invents_people_is_out_of_order() -> None:
    """One more or less in every interval is beyond what is stated."""
    door = DemoDoor(1, 6000.0)
    assert door.compared(counts(door, more=1))[0].extra > 0
    assert door.compared(counts(door, more=-1))[0].missing > 0


def test_a_dark_camera_owes_no_count_and_may_invent_none() -> None:
    """Half-seen intervals are not compared, their darkness is told; people beyond the truth are found all the same."""
    door = DemoDoor(1, 6000.0)
    came, _ = door.compared(counts(door, more=-1, coverage=0.5))
    assert came.in_order and "150 s dark" in came.note
    assert not door.compared(counts(door, more=3, coverage=0.5))[0].in_order
    assert door.compared({})[0].in_order


@pytest.mark.parametrize(("an_hour", "most"), [(10.0, 1), (100.0, 2), (6000.0, MOST_A_MINUTE), (5e5, MOST_A_MINUTE)])
def test_the_people_follow_the_trade_as_far_as_a_door_takes_them(an_hour: float, most: int) -> None:
    """Fewer than the shop's mean traffic, so that the side door has people, too."""
    door = DemoDoor(3, an_hour)
    assert 1 <= door.people_a_minute <= most and 0 < door.share <= 1
    assert door.source == f"synthetic:top:3:{door.people_a_minute}"
