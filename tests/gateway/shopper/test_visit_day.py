"""A generated store day with known truth, in small; `storefront bench visits` is the same in full."""

from __future__ import annotations

from bench.visits import JOIN, join


def test_sales_of_a_generated_day_are_in_the_visits_of_whoever_paid_them() -> None:
    result = join(members=90, strangers=200, seed=7)
    assert result.sales > 60 and result.recall >= JOIN and result.precision >= JOIN
    assert result.after_withdrawal == 0 and result.visits == result.truth_visits
    assert result.tags > 0.6 * result.tags_truth and result.tags_wrong <= 0.02 * result.tags
