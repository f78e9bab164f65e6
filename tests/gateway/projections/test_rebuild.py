"""The bench's mixed events are all folded, and the forecast beats "as a week ago" on real streets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.projections import fold, forecasts

DATA = Path(os.environ.get("STOREFRONT_DATA") or Path(__file__).parents[4] / "shared" / "data")


def test_every_one_of_the_mixed_events_is_folded() -> None:
    took = fold(5000)  # ends the process with a message unless all of them were counted
    assert took["took_s"] > 0


def test_the_forecast_beats_the_same_hour_a_week_ago_on_real_streets() -> None:
    if not (DATA / "retail").is_dir():
        pytest.skip("the street counts beside the project are absent (STOREFRONT_DATA)")
    error, _ = forecasts(DATA)
    assert error.met, error.ours
