"""The clicker's statistics and the watch for drift."""

from __future__ import annotations

import random

import pytest

from vision.acceptance import Tap, report, student_t, wilson
from vision.model import Crossing


def test_known_error_lies_in_its_interval() -> None:
    """A counter that misses one in ten shows about −10 %, and the interval holds it in nearly all repetitions."""
    held = 0
    for seed in range(200):
        rng = random.Random(seed)
        taps = [Tap("in", rng.uniform(0, 900)) for _ in range(120)]
        crossings = [Crossing("door", "in", 1, 1, tap.time_s + rng.gauss(0, 0.5)) for tap in taps if rng.random() > 0.1]
        result = report("door", taps, crossings, 0.0, 900.0, 1.0)
        assert result.entering.error_low is not None
        assert result.entering.error_high is not None
        held += result.entering.error_low <= -0.1 <= result.entering.error_high
    assert held >= 180


def test_perfect_count_still_has_an_interval() -> None:
    """No seen error in 30 taps does not prove an error of nothing."""
    taps = [Tap("in", 30.0 * i) for i in range(30)]
    crossings = [Crossing("door", "in", i, 1, tap.time_s) for i, tap in enumerate(taps)]
    result = report("door", taps, crossings, 0.0, 900.0, 1.0)
    assert result.entering.error_share == 0.0
    assert result.entering.error_high == pytest.approx(0.1)
    assert result.entering.matched == 30
    assert result.enough
    assert result.leaving.error_share is None


def test_too_few_taps_accept_nothing() -> None:
    """A quiet quarter of an hour is not a test."""
    assert not report("door", [Tap("in", 5.0)], [], 0.0, 900.0, 1.0).enough


def test_quantiles() -> None:
    """Student's and Wilson's numbers agree with the tables."""
    assert student_t(14) == pytest.approx(2.145, abs=0.01)
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(90, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=0.001)


def test_a_dark_camera_accepts_nothing() -> None:
    """Taps enough, but the camera saw a part of the time only."""
    taps = [Tap("in", 10.0 * i) for i in range(40)]
    assert not report("door", taps, [], 0.0, 900.0, 0.9).enough
