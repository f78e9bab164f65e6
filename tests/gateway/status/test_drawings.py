"""Lines, bars and the floor: a gap where nobody counted, a scale that holds everything, heat that fits its plan."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import AreaSettings, FloorSettings
from gateway.status.chart import SPARK_HEIGHT, SPARK_WIDTH, _rounded_up, spark
from gateway.status.floor import WIDTH, Heat, Place, floor
from gateway.status.today import Figure

HEAT = Heat(camera="door", rows=2, cols=3, person_s=(0.0, 1.0, 0.0, 0.0, 0.0, 100.0), covered_s=60.0)


def area(**more: object) -> AreaSettings:
    return AreaSettings(**{"x_m": 0.0, "y_m": 0.0, "width_m": 6.0, "depth_m": 4.0, **more})  # type: ignore[arg-type]


def test_a_line_has_a_gap_where_nobody_counted_and_is_none_of_one_point() -> None:
    drawn = spark([1.0, 2.0, None, 3.0, 4.0])
    assert drawn is not None and drawn.line.count("M") == 2 and drawn.area.count("z") == 2
    dark = spark([1.0, 2.0, None])
    assert dark is not None and dark.last is None
    assert spark([None, 5.0]) is None and spark([]) is None


@given(st.lists(st.none() | st.floats(-1e6, 1e9), max_size=30))
def test_a_line_stays_in_its_box(values: list[float | None]) -> None:
    drawn = spark(values)
    if drawn is not None and drawn.last is not None:
        x, y = drawn.last
        assert 0 <= x <= SPARK_WIDTH and 0 <= y <= SPARK_HEIGHT


@given(st.floats(0, 1e7))
def test_the_scale_is_even_and_holds_the_highest_bar(value: float) -> None:
    most = _rounded_up(value)
    assert most >= value and most % 2 == 0 and most <= max(2, 2 * value)


def test_heat_lies_where_the_plan_says_and_turns_with_the_camera() -> None:
    plan = FloorSettings(width_m=6.0, depth_m=4.0, areas=(area(camera="door"),))
    drawn = floor(plan, (), (HEAT,))
    assert drawn is not None and drawn.heated and drawn.height == 240
    assert drawn.boxes[0].cells == ((1, "M120 0h120v120h-120z"), (5, "M240 120h120v120h-120z"))
    turned = floor(FloorSettings(width_m=6.0, depth_m=4.0, areas=(area(camera="door", turned=180),)), (), (HEAT,))
    assert turned is not None and turned.boxes[0].cells[-1] == (5, "M0 0h120v120h-120z")


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
def test_every_cell_stays_inside_its_area(turned: int) -> None:
    heat = Heat(camera="door", rows=5, cols=7, person_s=tuple(range(1, 36)), covered_s=1.0)
    drawn = floor(FloorSettings(areas=(area(camera="door", turned=turned),)), (), (heat,))
    assert drawn is not None
    corners = [piece.partition("h")[0].split() for _, path in drawn.boxes[0].cells for piece in path.split("M")[1:]]
    assert len(corners) == 35 == len({tuple(it) for it in corners})
    assert all(0 <= float(x) < 180 and 0 <= float(y) < 120 for x, y in corners)


def test_a_camera_that_saw_nothing_is_dark_and_a_zone_with_trouble_says_so() -> None:
    plan = FloorSettings(areas=(area(camera="door"), area(zone="checkout", x_m=6.0)))
    drawn = floor(plan, (Place(zone="checkout", devices=2, ailing=1, share=0.5),), ())
    assert drawn is not None and [box.dark for box in drawn.boxes] == [True, False]
    assert drawn.boxes[1].ailing == 1 and drawn.boxes[1].level == 5


def test_without_a_plan_zones_are_laid_out_and_without_zones_there_is_no_drawing() -> None:
    assert floor(FloorSettings(), (), ()) is None
    drawn = floor(FloorSettings(), tuple(Place(zone=f"z{n}") for n in range(50)), (HEAT,))
    assert drawn is not None and len(drawn.boxes) == 25
    assert all(box.x >= 0 and box.x + box.width <= WIDTH for box in drawn.boxes)


@pytest.mark.parametrize(
    ("value", "usual", "verdict"),
    [
        (100, 100, "usual"), (114, 100, "usual"), (120, 100, "above"), (160, 100, "far_above"), (80, 100, "below"),
        (40, 100, "far_below"), (3, 1, "usual"), (5, 0, ""), (7, None, ""),
    ],
)  # fmt: skip
def test_a_number_is_put_into_words_beside_the_usual(value: int, usual: int | None, verdict: str) -> None:
    figure = Figure(value=Decimal(value), usual=None if usual is None else Decimal(usual), weeks=4)
    assert figure.verdict == verdict


def test_a_lower_bound_is_not_compared_and_a_share_may_differ_by_little() -> None:
    assert Figure(value=Decimal(40), usual=Decimal(100), at_least=True).verdict == ""
    assert Figure(value=Decimal("0.10"), usual=Decimal("0.20")).verdict == "below"
