"""Intervals: by capture time, with coverage, corrected when late, and never a zero without frames."""

from __future__ import annotations

from vision.footfall import Footfall
from vision.model import (
    Crossing,
    FootfallInterval,
    HeatMapInterval,
    Line,
    QueueInterval,
    Scene,
    Slice,
    Visit,
    ZoneArea,
    ZoneInterval,
    ZoneShare,
)
from vision.staff import StaffSighting, StaffWatch, without_staff

SQUARE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
SCENE = Scene((Line("door", (0.5, 0), (0.5, 1), entrance="main"),))


def seconds(start: int, end: int, **more: object) -> list[Slice]:
    """One slice a second with ten frames each."""
    return [Slice(float(s), s + 0.9, 1.0, 10) for s in range(start, end)]


def fed(footfall: Footfall, slices: list[Slice]) -> None:
    for part in slices:
        footfall.add(part)


def test_capture_time_buckets_a_count() -> None:
    """A crossing that becomes certain in the next interval belongs to the one in which it happened."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 60))
    footfall.add(Slice(60.0, 60.9, 1.0, 10, (Crossing("door", "in", 1, 599, 59.8),)))
    fed(footfall, seconds(61, 70))
    (report,) = footfall.close(70.0, 70.0)
    assert isinstance(report, FootfallInterval)
    assert (report.interval_start_s, report.in_count, report.out_count, report.quality.coverage) == (0.0, 1, 0, 1.0)
    assert report.entrance == "main"


def test_no_coverage_no_number() -> None:
    """An interval without frames yields nothing at all."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 60))
    fed(footfall, seconds(180, 190))
    starts = [report.interval_start_s for report in footfall.close(190.0, 190.0)]
    assert starts == [0.0]


def test_gap_costs_coverage_only() -> None:
    """Half an interval without frames is half its coverage, and what was counted stays."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 15))
    footfall.add(Slice(15.0, 15.9, 1.0, 10, (Crossing("door", "out", 1, 155, 15.5),)))
    fed(footfall, seconds(46, 60))
    (report,) = footfall.close(70.0, 70.0)
    assert isinstance(report, FootfallInterval)
    assert report.out_count == 1
    assert report.quality.coverage == 0.5


def test_late_crossing_supersedes() -> None:
    """What arrives after the report gives a new report of the same interval, numbered."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 70))
    (first,) = footfall.close(70.0, 70.0)
    footfall.add(Slice(70.0, 70.9, 1.0, 10, (Crossing("door", "in", 1, 599, 59.0),)))
    (second,) = footfall.close(71.0, 71.0)
    assert isinstance(first, FootfallInterval)
    assert isinstance(second, FootfallInterval)
    assert (first.in_count, first.supersedes, second.in_count, second.supersedes) == (0, 0, 1, 1)
    assert footfall.close(72.0, 72.0) == []


def test_silent_camera_is_reported_in_the_end() -> None:
    """The interval of a camera that has died closes by the clock, with the coverage it had."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 30))
    assert footfall.close(30.0, 61.0) == []
    (report,) = footfall.close(30.0, 130.0)
    assert report.quality.coverage == 0.5


def test_memory_is_bounded_and_losses_are_counted() -> None:
    """Old intervals are forgotten; a crossing for a forgotten one is counted as lost, not invented."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    for minute in range(60):
        fed(footfall, seconds(minute * 60, minute * 60 + 60))
        footfall.close(minute * 60 + 60.0, minute * 60 + 60.0)
    footfall.add(
        Slice(3600.0, 3600.9, 1.0, 10, (Crossing("door", "in", 1, 1, 30.0), Crossing("odd", "in", 1, 1, 3600.0)))
    )
    assert footfall.lost_late == 2


def test_zones_queues_and_heat() -> None:
    """Zone, queue and heat map reports carry time-weighted numbers and visitors across restarts."""
    zones = (ZoneArea("shelf", SQUARE), ZoneArea("till", SQUARE, kind="queue"), ZoneArea("back", SQUARE, kind="staff"))
    footfall = Footfall("cam", Scene((), zones, (), 1, 2), "person", 10.0)
    for second in range(10):
        shares = (ZoneShare("shelf", ((1, 0.5), (3, 0.5)), (1, 2)), ZoneShare("till", ((2, 1.0),), (1,)))
        visits = (Visit("till", 1, 0.0, 4.0), Visit("till", 2, 1.0, 9.0)) if second == 9 else ()
        part = Slice(float(second), second + 0.9, 1.0, 10, (), visits, shares, (0.5, 0.25))
        footfall.add(part, generation=1 if second < 5 else 2)
    reports = footfall.close(20.0, 20.0)
    shelf = next(r for r in reports if isinstance(r, ZoneInterval) and r.zone == "shelf")
    till = next(r for r in reports if isinstance(r, QueueInterval))
    heat = next(r for r in reports if isinstance(r, HeatMapInterval))
    assert (shelf.mean_persons, shelf.peak_persons, shelf.visitors) == (2.0, 3, 4)
    assert (till.mean_persons, till.wait_p50_s, till.wait_p90_s) == (2.0, 4.0, 8.0)
    assert heat.person_s == (5.0, 2.5)
    assert {report.zone for report in reports if isinstance(report, ZoneInterval)} == {"shelf", "till"}


def test_staff_badge_claims_one_crossing() -> None:
    """A staff sighting takes the nearest crossing of its line out, once."""
    crossings = [Crossing("door", "in", n, 1, t) for n, t in enumerate((10.0, 11.0, 30.0), start=1)]
    visitors, staff = without_staff(crossings, [StaffSighting("door", 10.8), StaffSighting("side", 30.0)])
    assert [crossing.track for crossing in visitors] == [1, 3]
    assert [crossing.track for crossing in staff] == [2]


def test_a_badge_read_late_corrects_a_count_that_was_told() -> None:
    """Badge and crossing are joined once both are certain; the report is superseded by one without the staff."""
    footfall, watch = Footfall("cam", SCENE, "motion", 60.0), StaffWatch()
    fed(footfall, seconds(0, 58))
    crossings = (Crossing("door", "in", 1, 560, 56.0), Crossing("door", "out", 2, 570, 57.5))
    footfall.add(Slice(58.0, 58.9, 1.0, 10, crossings))
    watch.crossed(crossings)
    fed(footfall, seconds(59, 80))
    (first,) = footfall.close(80.0, 80.0)
    watch.sighted(StaffSighting("door", 57.0, 2.0))
    assert watch.claimed(64.0) == []  # a nearer crossing might still become certain
    for crossing in watch.claimed(80.0):
        footfall.retract(crossing)
    (second,) = footfall.close(81.0, 81.0)
    assert isinstance(first, FootfallInterval) and isinstance(second, FootfallInterval)
    assert (first.in_count, first.out_count, second.in_count, second.out_count, second.supersedes) == (1, 1, 1, 0, 1)
    assert footfall.totals() == {"door": (1, 0)}
    assert watch.claimed(90.0) == []  # once


def test_the_grid_moves_and_no_count_is_in_two_intervals() -> None:
    """When the wall clock is set, the interval under way ends early, with its own length; the next is whole."""
    footfall = Footfall("cam", SCENE, "motion", 60.0, origin_s=0.0)
    fed(footfall, seconds(0, 20))
    footfall.align(30.0, 20.0)
    fed(footfall, seconds(20, 100))
    found = [
        (r.interval_start_s, r.interval_s, r.quality.coverage)
        for r in footfall.close(100.0, 100.0)
        if isinstance(r, FootfallInterval)
    ]
    assert found == [(0.0, 20.0, 1.0), (20.0, 10.0, 1.0), (30.0, 60.0, 1.0)]


def test_the_last_report_holds_the_interval_under_way() -> None:
    """A gateway that stops says what it has counted, with the coverage that had until then."""
    footfall = Footfall("cam", SCENE, "motion", 60.0)
    fed(footfall, seconds(0, 14))
    footfall.add(Slice(14.0, 14.9, 1.0, 10, (Crossing("door", "in", 1, 1, 14.5),)))
    (report,) = footfall.close(15.0, 15.0, everything=True)
    assert isinstance(report, FootfallInterval)
    assert (report.in_count, report.interval_s, report.quality.coverage) == (1, 60.0, 0.25)
