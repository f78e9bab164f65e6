"""Start, memory and idle CPU of the daemon stay far from where they would hurt; `bench.footprint` has the limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.footprint import measure
from tests.mosquitto import Mosquitto

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_start_memory_and_idle_cpu(tmp_path: Path) -> None:
    """With twenty devices: the first event after 2 s of work at most, 105 MB, and 3 % of a core on a busy machine."""
    (tmp_path / "gw").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        found = measure(tmp_path / "gw", broker.port, idle_s=5.0, rounds=2)
    assert found.start_cpu_s <= 2.0
    assert found.start_s <= 10.0
    assert found.rss_mb <= 105
    assert found.idle_share <= 0.03
