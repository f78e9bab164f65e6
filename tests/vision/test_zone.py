"""Zones, dwell, queue numbers and the heat map, driven by hand."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigError
from tests.vision.conftest import track
from vision.heatmap import HeatMap
from vision.model import Visit, ZoneArea
from vision.zone import Zone, occupancy, percentile

LEFT = ZoneArea("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), "centre")


def test_visit_is_dated_by_sightings() -> None:
    """A visit lasts from the first to the last sighting inside, also when the track became credible later."""
    zone = Zone(LEFT, 400, 300)
    visits: list[Visit] = []
    for step in range(100):
        x = 50.0 if step < 60 else 350.0
        visits += zone.update([track(1, x, 100, credible=step > 10)], [], step / 10)
    assert [(visit.entered_s, visit.left_s) for visit in visits] == [(0.0, 5.9)]


def test_a_step_over_the_edge_does_not_end_a_visit() -> None:
    """Somebody who stands on the edge is one visitor, not ten."""
    zone = Zone(LEFT, 400, 300)
    visits: list[Visit] = []
    for step in range(100):
        visits += zone.update([track(1, 198.0 + 4 * (step // 4 % 2), 100)], [], step / 10)
    visits += zone.finish()
    assert len(visits) == 1


def test_occupancy_is_weighted_by_time_not_by_frame() -> None:
    """Two frame rates in one interval give the mean of the time, and a gap in the stream counts nothing."""
    zone = Zone(LEFT, 400, 300)
    time_s = 0.0
    for _ in range(100):  # 10 s with one person at 10 fps
        zone.update([track(1, 50, 100)], [], time_s)
        time_s += 0.1
    for _ in range(10):  # 10 s with two persons at 1 fps
        zone.update([track(1, 50, 100), track(2, 80, 100)], [], time_s)
        time_s += 1.0
    zone.update([track(1, 50, 100)], [2], time_s + 100.0)
    inside = occupancy(dict(zone.take().seconds))
    assert inside.observed_s == pytest.approx(19.0, abs=0.2)
    assert inside.mean_persons == pytest.approx(28 / 19, abs=0.02)
    assert inside.peak_persons == 2


def test_one_bad_frame_makes_no_peak() -> None:
    """A peak must have been held."""
    zone = Zone(LEFT, 400, 300)
    for step in range(50):
        people = [track(1, 50, 100)] + ([track(2, 90, 100)] if step == 20 else [])
        zone.update(people, [2] if step == 21 else [], step / 10)
    assert occupancy(dict(zone.take().seconds)).peak_persons == 1


def test_hidden_person_still_counts() -> None:
    """Occupancy holds a coasting track until the tracker gives it up."""
    zone = Zone(LEFT, 400, 300)
    zone.update([track(1, 50, 100)], [], 0.0)
    zone.update([track(1, 50, 100, observed=False)], [], 0.5)
    assert zone.inside_now == 1
    assert [visit.dwell_s for visit in zone.update([], [1], 3.0)] == [0.0]
    assert zone.inside_now == 0


def test_foot_on_the_lower_edge_is_inside() -> None:
    """Feet that the frame cuts off stand on its edge."""
    zone = Zone(ZoneArea("all", ((0, 0), (1, 0), (1, 1), (0, 1))), 400, 300)
    assert zone.holds(track(1, 200, 285))
    assert zone.holds(track(1, 200, 290))


@pytest.mark.parametrize("corners", [((0, 0), (1, 1)), ((0, 0), (0.5, 0.5), (1, 1)), ((2, 2), (3, 2), (3, 3))])
def test_impossible_zone_is_refused(corners: tuple[tuple[float, float], ...]) -> None:
    """A zone without area, or outside the picture, is a configuration error."""
    with pytest.raises(ConfigError):
        Zone(ZoneArea("zone", corners), 400, 300)


def test_percentile_of_nothing_is_nothing() -> None:
    """No visits, no number."""
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def test_heat_is_person_seconds() -> None:
    """Three seconds in one cell are three person-seconds there at any frame rate."""
    heat = HeatMap(2, 2, 400, 300)
    for step in range(31):
        heat.update([track(1, 100, 40)], step / 10)
    assert heat.take() == pytest.approx((3.0, 0.0, 0.0, 0.0))
    assert sum(heat.take()) == 0.0
