"""Visits are told exactly once, whenever the process is killed."""

from __future__ import annotations

from pathlib import Path

from tests.faults.visit_kills import ACTS, day


def test_a_day_that_is_killed_on_the_way_tells_the_same_sales_in_the_same_visits_once(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "deadly").mkdir()
    calm, _ = day(tmp_path / "calm", 0, 1)
    deadly, killed = day(tmp_path / "deadly", 5, 1)
    assert killed == 5
    ids = [visit["visit_id"] for visit in deadly]
    assert len(ids) == len(set(ids))
    seen = [
        sorted((it["shopper"]["day_key"], tuple(it.get("transaction_ids", ()))) for it in told)
        for told in (calm, deadly)
    ]
    assert seen[0] == seen[1]
    assert len({name for _, sales in seen[1] for name in sales}) == sum(len(sales) for _, sales in seen[1])
    assert sum(len(sales) for _, sales in seen[1]) == sum(1 for n in range(ACTS) if n % 3)
