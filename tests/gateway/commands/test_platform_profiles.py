"""`storefront platform import | rebuild | segments`: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sync.platform.profiles import book_path

ORDERS = (
    "order_id,ordered_at,amount,currency,member\n"
    "o1,2026-11-22T10:00:00+08:00,12.50,CNY,M-1\n"
    "o2,yesterday,12.50,CNY,M-SECRET\n"
)


def test_an_import_says_what_was_refused_and_ends_with_one(tmp_path: Path, storefront: Any) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS, "utf-8")
    database = tmp_path / "p.db"
    said = storefront("platform", "import", tmp_path / "orders.csv", "--database", database)
    assert said.code == 1
    assert "orders, 2 rows: 1 taken, 0 known, 1 refused" in said.out and "line 3: ordered_at" in said.out
    assert "SECRET" not in said.out and book_path(database).exists()
    again = storefront("platform", "import", tmp_path / "orders.csv", "--database", database, "--json")
    assert again.code == 1 and json.loads(again.out)[0]["known"] == 1


def test_an_unknown_header_and_a_missing_database_are_errors_of_the_call(tmp_path: Path, storefront: Any) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n", "utf-8")
    said = storefront("platform", "import", tmp_path / "x.csv", "--database", tmp_path / "p.db")
    assert said.code == 78 and "order_id" in said.err
    assert storefront("platform", "rebuild", "--database", tmp_path / "none.db").code == 78


def test_rebuild_and_segments_run_on_an_empty_platform(tmp_path: Path, storefront: Any) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS.splitlines()[0] + "\n", "utf-8")
    database = ("--database", tmp_path / "p.db")
    assert storefront("platform", "import", tmp_path / "orders.csv", *database).code == 0
    assert "0 events folded" in storefront("platform", "rebuild", *database).out
    said = storefront("platform", "segments", *database)
    assert said.code == 0 and "0 persons bought something" in said.out and "clusters and churn:" in said.out
