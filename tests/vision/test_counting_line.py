"""The counting line without any video: tables for the cases, properties for what must hold for every path."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError
from tests.vision.conftest import track
from vision.counting_line import CountingLine
from vision.model import Crossing, Line

WIDTH, HEIGHT = 400, 300
DOWN = Line("door", (0.5, 0.0), (0.5, 1.0), "centre")
SHORT = Line("door", (0.5, 0.4), (0.5, 0.6), "centre")


def walk(points: Sequence[tuple[float, float]], line: Line = DOWN, credible: bool = True) -> list[Crossing]:
    """Feed one track through `points`, one a frame, then end it."""
    counter = CountingLine(line, WIDTH, HEIGHT)
    found: list[Crossing] = []
    for number, (x, y) in enumerate(points, start=1):
        found += counter.update([track(1, x, y, credible=credible)], [], number, number / 10)
    found += counter.update([], [1], len(points) + 1, (len(points) + 1) / 10)
    assert len(counter) == 0
    return found


def straight(start: float, end: float, y: float = 150.0, steps: int = 21) -> list[tuple[float, float]]:
    return [(start + (end - start) * i / (steps - 1), y) for i in range(steps)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param(straight(300, 100), ["in"], id="right to left over a line drawn downwards is in"),
        pytest.param(straight(100, 300), ["out"], id="left to right is out"),
        pytest.param(straight(100, 190) + straight(190, 100), [], id="U-turn before the line"),
        pytest.param(straight(100, 203) + straight(203, 100), [], id="U-turn just past the line"),
        pytest.param(straight(100, 300) + straight(300, 100), ["out", "in"], id="there and back counts both"),
        pytest.param([(198 + 5 * (i % 2), 150.0) for i in range(100)], [], id="jitter on the line"),
        pytest.param(straight(100, 199) + [(199 + (i % 3), 150.0) for i in range(50)] + straight(199, 300), ["out"],
                     id="standing on the line, then on"),
        pytest.param(straight(100, 199) + [(199 + (i % 3), 150.0) for i in range(50)] + straight(199, 100), [],
                     id="standing on the line, then back"),
        pytest.param([(150.0, 150.0), (250.0, 150.0)], ["out"], id="two sightings suffice"),
        pytest.param([(206.0, 150.0), *straight(206, 300)], [], id="born beyond the line"),
        pytest.param(straight(100, 206), ["out"], id="ends a little beyond the line"),
    ],
)  # fmt: skip
def test_cases(points: list[tuple[float, float]], expected: list[str]) -> None:
    """Each way of passing, or not passing, gives the counts that a person would give."""
    assert [crossing.direction for crossing in walk(points)] == expected


def test_walking_round_the_end_counts_nothing() -> None:
    """Only what passes between the two ends of the line is counted."""
    assert walk(straight(100, 300, y=20.0), SHORT) == []
    assert len(walk(straight(100, 300, y=150.0), SHORT)) == 1


def test_crossing_is_dated_at_the_line() -> None:
    """The frame of a crossing is where the line was passed, not where it became certain."""
    (crossing,) = walk(straight(100, 300, steps=41))  # 5 px a frame: on the line at frame 21
    assert crossing.frame in (21, 22)
    assert crossing.time_s == pytest.approx(2.1, abs=0.1)


def test_flicker_that_never_becomes_credible_is_not_counted() -> None:
    """A track counts once it is credible, and then also for what it did before."""
    assert walk(straight(100, 300), credible=False) == []
    counter = CountingLine(DOWN, WIDTH, HEIGHT)
    found: list[Crossing] = []
    for number, (x, y) in enumerate(straight(150, 260, steps=12), start=1):
        found += counter.update([track(1, x, y, credible=number > 10)], [], number, number / 10)
    assert [(crossing.direction, crossing.frame) for crossing in found] == [("out", 6)]


def test_coasting_over_the_line_does_not_count() -> None:
    """Both sides must have been seen."""
    counter = CountingLine(DOWN, WIDTH, HEIGHT)
    for number, (x, y) in enumerate(straight(100, 300), start=1):
        assert counter.update([track(1, x, y, observed=x < 190)], [], number, number / 10) == []
    assert counter.finish() == []


def test_state_is_dropped_with_the_track() -> None:
    """Nothing grows: ten thousand tracks later only the live ones are remembered."""
    counter = CountingLine(DOWN, WIDTH, HEIGHT)
    for identity in range(1, 10_001):
        counter.update([track(identity, 100, 150)], [identity - 1], identity, identity / 10)
    assert len(counter) == 1


@pytest.mark.parametrize(
    "line",
    [
        Line("none", (0.5, 0.5), (0.5, 0.5)),
        Line("outside", (1.5, 0.2), (1.5, 0.9)),
        Line("beyond", (-0.5, -0.2), (-0.1, -0.9)),
        Line("nan", (float("nan"), 0.1), (0.5, 0.9)),
    ],
    ids=lambda line: line.name,
)
def test_impossible_line_is_refused(line: Line) -> None:
    """A line that can count nothing is a configuration error, not a zero."""
    with pytest.raises(ConfigError):
        CountingLine(line, WIDTH, HEIGHT)


paths = st.lists(
    st.tuples(st.floats(1, WIDTH - 1, allow_nan=False), st.floats(1, HEIGHT - 1, allow_nan=False)),
    min_size=2,
    max_size=40,
)


def directions(crossings: list[Crossing]) -> list[str]:
    return [crossing.direction for crossing in crossings]


def swapped(words: list[str]) -> list[str]:
    return ["out" if word == "in" else "in" for word in words]


@given(paths)
def test_mirrored_is_swapped(points: list[tuple[float, float]]) -> None:
    """Seen in a mirror, everybody goes the other way."""
    assert directions(walk([(WIDTH - x, y) for x, y in points])) == swapped(directions(walk(points)))


@given(paths)
def test_line_turned_round_is_swapped(points: list[tuple[float, float]]) -> None:
    """B→A counts what A→B counts, the other way round."""
    turned = Line("door", DOWN.end, DOWN.start, "centre")
    assert directions(walk(points, turned)) == swapped(directions(walk(points)))


clear = st.sampled_from([60.0, 120.0, 280.0, 340.0])


@given(st.lists(clear, min_size=2, max_size=12))
def test_reversed_is_swapped(stops: list[float]) -> None:
    """A path walked backwards counts the same number each way, swapped."""
    points = [point for a, b in itertools.pairwise(stops) for point in straight(a, b)]
    forwards, backwards = directions(walk(points)), directions(walk(points[::-1]))
    assert backwards == swapped(forwards)[::-1]


@given(paths)
def test_directions_alternate(points: list[tuple[float, float]]) -> None:
    """With a line across the whole picture nobody can go in twice without going out."""
    found = directions(walk(points))
    assert all(a != b for a, b in itertools.pairwise(found))


@given(st.floats(20, 180), st.floats(0.0, 0.9))
def test_u_turn_is_zero(start: float, reach: float) -> None:
    """However close to the line a person comes, turning back before it counts nothing."""
    turn = start + reach * (200 - start)
    assert walk(straight(start, turn) + straight(turn, start)) == []


@given(paths, st.integers(2, 5))
def test_resolution_does_not_matter(points: list[tuple[float, float]], factor: int) -> None:
    """The same way at a higher resolution, with people as much larger, gives the same counts."""
    large = CountingLine(DOWN, WIDTH * factor, HEIGHT * factor)
    found: list[Crossing] = []
    for number, (x, y) in enumerate(points, start=1):
        bigger = track(1, x * factor, y * factor, width=20.0 * factor, height=40.0 * factor)
        found += large.update([bigger], [], number, number / 10)
    found += large.update([], [1], len(points) + 1, 9.9)
    assert directions(found) == directions(walk(points))


def test_hidden_legs_lift_no_feet_over_a_line_across() -> None:
    """Feet that jump up and back by half a size count nothing on a line across, and sideways still count."""
    across = Line("door", (0.0, 0.5), (1.0, 0.5), "foot")
    half = 0.23 * (20 * 40) ** 0.5  # between the two hystereses
    jumping = [(100.0 + i, 130.0 + (half if i // 6 % 2 else -half)) for i in range(60)]
    assert walk(jumping, across) == []
    down = Line("door", (0.5, 0.0), (0.5, 1.0), "foot")
    assert len(walk([(200.0 - (y - 130.0), 130.0) for _, y in jumping], down)) > 3
