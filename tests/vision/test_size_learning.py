"""Learning a person's size from blobs alone, where the obvious answer is wrong."""

from __future__ import annotations

import random

import pytest

from vision.size_learning import BlobSample, learned


def around(value: float, rng: random.Random) -> float:
    return value * rng.uniform(0.93, 1.07)


def test_pieces_of_huge_persons_are_not_persons() -> None:
    """Heads and hands by the hundred, and a few whole people as tall as the picture: the size is the people's."""
    rng = random.Random(1)
    areas = [rng.uniform(150, 3000) for _ in range(60)]
    pieces = [BlobSample(rng.uniform(60, 200), 0.7 * area**0.5, 1.5 * area**0.5, area) for area in areas]
    whole = [BlobSample(198, around(85, rng), around(188, rng), around(6000, rng)) for _ in range(8)]
    cut = [BlobSample(216, around(100, rng), around(150, rng), around(7500, rng), cut=True) for _ in range(30)]
    size = learned(pieces + whole + cut, 216)
    assert size is not None
    assert size.height_px(200) > 140


@pytest.mark.parametrize("slope", [0.35, 0.55])
def test_perspective_where_most_people_are_cut(slope: float) -> None:
    """Near people fill the picture and are cut; the few that are not tell how size grows towards the viewer."""
    rng = random.Random(2)
    samples = []
    for _ in range(300):
        foot = rng.uniform(90, 560)
        height = (40 + slope * foot) * rng.uniform(0.95, 1.05)
        seen = max(30.0, height - max(0.0, foot - 288))
        samples.append(BlobSample(min(288, foot), 0.35 * height, seen, 0.2 * height * seen, cut=foot > 288))
    size = learned(samples, 288)
    assert size is not None
    for foot in (120, 200, 280):
        assert size.height_px(foot) == pytest.approx(40 + slope * foot, rel=0.25)


def test_groups_that_are_taller_are_still_groups() -> None:
    """Pairs behind one another from above are twice as tall; where nothing is cut, the single person stays single."""
    rng = random.Random(3)
    single = [BlobSample(rng.uniform(80, 280), around(40, rng), around(60, rng), around(1400, rng)) for _ in range(40)]
    pairs = [BlobSample(rng.uniform(80, 280), around(40, rng), around(122, rng), around(2900, rng)) for _ in range(40)]
    size = learned(single + pairs, 288)
    assert size is not None
    assert size.height_px(200) == pytest.approx(60, rel=0.15)


@pytest.mark.parametrize("singles", [5, 6])
def test_groups_do_not_teach_the_size(singles: int) -> None:
    """Half of what moves are groups, and most of the moving area is cut by the lower edge: single persons are found."""
    rng = random.Random(3)
    samples = []
    for number in range(240):
        alone = number % 10 < singles
        members, foot = (1, rng.uniform(90, 280)) if alone else (rng.choice((2, 3, 4)), rng.uniform(150, 280))
        height = around(20 + 0.4 * foot, rng)
        tall, wide = height * (1 + 0.25 * (members - 1) * rng.random()), 0.38 * height * (1 + 0.6 * (members - 1))
        samples.append(BlobSample(foot, wide, tall, 0.55 * wide * tall))
    seen = sum(sample.area_px for sample in samples)
    cut = 0.0
    while cut < 0.7 * (seen + cut):
        height = around(140, rng)
        samples.append(BlobSample(288, 0.7 * height, 0.8 * height, 0.35 * height**2, cut=True))
        cut += samples[-1].area_px
    size = learned(samples, 288)
    assert size is not None
    for foot in (120, 200, 270):
        assert size.height_px(foot) == pytest.approx(20 + 0.4 * foot, rel=0.15)


def test_a_camera_that_hangs_upside_down() -> None:
    """People grow towards the upper edge; their line is found all the same."""
    rng = random.Random(4)
    samples = []
    for _ in range(200):
        foot = rng.uniform(60, 280)
        height = around(95 - 0.25 * foot, rng)
        samples.append(BlobSample(foot, 0.4 * height, height, 0.25 * height**2))
    size = learned(samples, 288)
    assert size is not None
    for foot in (80, 170, 260):
        assert size.height_px(foot) == pytest.approx(95 - 0.25 * foot, rel=0.12)
