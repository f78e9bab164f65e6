"""Start, memory and idle CPU of the daemon stay far from where they would hurt; `bench.footprint` has the limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.footprint import measure
from tests.mosquitto import Mosquitto

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_start_memory_and_idle_cpu(tmp_path: Path) -> None:
    """With twenty devices: the first event after 1.2 s of work, 90 MB, and 1.5 % of a core on a busy machine."""
    (tmp_path / "gw").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        found = measure(tmp_path / "gw", broker.port, idle_s=5.0, rounds=2)
    assert found.start_cpu_s <= 1.2
    assert found.start_s <= 10.0
    assert found.rss_mb <= 90
    assert found.idle_share <= 0.015
