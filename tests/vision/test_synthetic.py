"""Drawn scenes with exact truth: the generator itself, a share of the suite, and what must hold on all of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from vision.detector_motion import MotionDetector
from vision.model import Crossing, Line, Scene
from vision.pipeline import Pipeline
from vision.synthetic import SyntheticScene
from vision.synthetic_camera import Doorway
from vision.synthetic_suite import empty_scene, suite
from vision.truth import match

SCENES = suite()


def counted(scene: SyntheticScene) -> list[Crossing]:
    detector = MotionDetector()
    anchor = "centre" if scene.view == "top" else "foot"
    pipeline = Pipeline(detector, Scene((Line("line", *scene.line_drawn, anchor),)))  # type: ignore[arg-type]
    every = max(1, round(scene.fps / 12))
    frames = [frame for frame in scene.frames() if (frame.number - 1) % every == 0]
    detector.warm_up([frame for frame in frames if frame.time_s <= detector.warm_up_s])
    found: list[Crossing] = []
    for frame in frames:
        found += pipeline.process(frame).crossings
    return found + list(pipeline.finish().crossings)


def wrong(scene: SyntheticScene) -> tuple[int, int]:
    """(missed + invented crossings, true crossings)."""
    true = [(crossing.frame, crossing.direction) for crossing in scene.crossings()]
    found = [(crossing.frame, crossing.direction) for crossing in counted(scene)]
    # Somebody who stands on the line may be dated anywhere within the stay.
    tolerance = round(scene.fps * (14.0 if "standing" in scene.name else 1.0))
    matched = len(match(true, found, tolerance))  # type: ignore[arg-type]
    return len(true) + len(found) - 2 * matched, len(true)


def test_suite_is_large_and_reproducible() -> None:
    """At least forty scenes of distinct names; the same scene draws the same pixels."""
    assert len(SCENES) >= 40
    assert len({scene.name for scene in SCENES}) == len(SCENES)
    short = msgspec.structs.replace(SCENES[0], duration_s=0.5)
    first, second = list(short.frames()), list(short.frames())
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


def test_truth_is_mirrored_and_reversed_exactly() -> None:
    """The generator's own truth swaps directions under both."""
    scene = SCENES[0]
    directions = [crossing.direction for crossing in scene.crossings()]
    swapped = ["out" if direction == "in" else "in" for direction in directions]
    assert [c.direction for c in msgspec.structs.replace(scene, mirrored=True).crossings()] == swapped or scene.line[0][
        1
    ] == scene.line[1][1]
    assert [c.direction for c in msgspec.structs.replace(scene, reversed_=True).crossings()] == swapped[::-1]


def test_drops_leave_frames_out() -> None:
    """A span with 5 frames a second delivers 5 a second, with the numbers of the full rate."""
    scene = msgspec.structs.replace(SCENES[0], drops=((1.0, 3.0, 5.0),), duration_s=4.0)
    times = [time_s for _, time_s in scene.times()]
    assert sum(1.0 <= time_s < 3.0 for time_s in times) == 10
    assert len(times) == 30


@pytest.mark.slow
@pytest.mark.parametrize("view", ["top", "oblique"])
def test_share_of_the_suite(view: str) -> None:
    """Every third scene of a view: at least 93 % of crossings right (the bench runs all of them)."""
    results = [wrong(scene) for scene in [scene for scene in SCENES if scene.view == view][::3]]
    errors, crossings = sum(error for error, _ in results), sum(true for _, true in results)
    assert crossings > 60
    assert errors <= 0.07 * crossings


@pytest.mark.slow
@pytest.mark.parametrize("view", ["top", "oblique"])
def test_empty_scene_counts_nobody(view: str) -> None:
    """Three minutes of noise, light steps and a little shake are nobody (the bench runs an hour)."""
    scene = empty_scene("top" if view == "top" else "oblique", 5, 180.0, 5.0)
    assert counted(scene) == []


@pytest.mark.parametrize("name", ["mirrored", "reversed_"])
def test_mirrored_and_reversed_are_swapped(name: str) -> None:
    """The whole pipeline counts a mirrored and a reversed scene with directions swapped."""
    scene = next(scene for scene in SCENES if scene.name == "top: both ways 0.09")
    plain = [crossing.direction for crossing in counted(scene)]
    turned = [crossing.direction for crossing in counted(msgspec.structs.replace(scene, **{name: True}))]
    across = scene.line[0][1] == scene.line[1][1]  # mirrored left to right, a line across turns round with its people
    assert sorted(turned) == sorted("out" if direction == "in" else "in" for direction in plain) or (
        name == "mirrored" and across
    )


def test_doorway_is_the_same_for_everybody() -> None:
    """Two processes that look at the same time see the same people."""
    one, other = Doorway("top", 3), Doorway("top", 3)
    assert one.walkers(1234.5) == other.walkers(1234.5)
    assert one.crossings(1000.0, 1600.0) == other.crossings(1000.0, 1600.0)
    assert 30 < len(one.crossings(1000.0, 1600.0)) < 130
