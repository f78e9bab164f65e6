"""kill -9 at the coupon desk: what a till was told stays true, and no coupon is redeemed twice."""

from __future__ import annotations

from pathlib import Path

from tests.faults.coupon_kills import fight


def test_a_desk_that_is_killed_keeps_its_word(tmp_path: Path) -> None:
    """A dozen kills in the middle of eight tills' fight: nothing doubled, forgotten, untold or contradicted."""
    books = fight(tmp_path, kills=12)
    assert (books.doubled, books.forgotten, books.untold, books.contradicted) == (0, 0, 0, 0)
    assert books.redeemed > 20 and books.answers > 200  # it was a fight
