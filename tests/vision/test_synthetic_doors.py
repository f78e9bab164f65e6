"""The drawn doors beyond the suite: their own truth, and that whoever stands in the doorway is counted once or not."""

from __future__ import annotations

import itertools

import pytest

from tests.vision.test_synthetic import counted
from vision.synthetic_doors import STAY_S, doors

DOORS = doors()


def test_distinct_and_reproducible() -> None:
    """Every scene has a name of its own, and asking again gives the same walkers."""
    assert len({(scene.name, scene.seed) for scene in DOORS}) == len(DOORS)
    assert doors() == DOORS


def test_who_stands_a_minute_counts_only_by_leaving_onward() -> None:
    """Of two otherwise like scenes, the one in which they go on has one crossing more than walkers who pass."""
    for scene in DOORS:
        if "a minute" not in scene.name:
            continue
        steps = [(a[0], b[0]) for walker in scene.walkers for a, b in itertools.pairwise(walker.way)]
        assert max(end_s - begin_s for begin_s, end_s in steps) > STAY_S - 0.001
        assert len(scene.crossings()) == len(scene.walkers) - ("then back" in scene.name)


def test_a_queue_crosses_one_by_one() -> None:
    """Everybody of a queue over the line crosses it once, all in one direction, and the last long after the first."""
    for scene in DOORS:
        if "queue" in scene.name:
            crossings = scene.crossings()
            assert len(crossings) == len(scene.walkers)
            assert len({crossing.direction for crossing in crossings}) == 1
            assert crossings[-1].frame - crossings[0].frame > 40 * scene.fps


@pytest.mark.slow
@pytest.mark.parametrize("what", ["on the line, then back", "on the line, then on"])
def test_a_minute_in_the_doorway_from_above(what: str) -> None:
    """Somebody stands on the line for a minute while eight pass: each direction is right within one."""
    scene = next(scene for scene in DOORS if scene.name.startswith("top: a minute") and what in scene.name)
    true = [crossing.direction for crossing in scene.crossings()]
    found = [crossing.direction for crossing in counted(scene)]
    for direction in ("in", "out"):
        assert abs(found.count(direction) - true.count(direction)) <= 1
