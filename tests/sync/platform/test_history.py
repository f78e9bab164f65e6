"""Online history from CSV: what is taken, what is refused with its line, and that a file may come twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigError, Rejected
from sync.platform.history import import_file, import_lines
from tests.sync.platform.platform_parts import Open, World


def as_written(scheme: str, raw: str) -> Open:
    """Spelled as they are, but for what cannot be."""
    if "?" in raw:
        raise Rejected("read identifier", scheme, "it cannot be one")
    return Open(scheme, raw)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    it = World(tmp_path)
    yield it
    it.close()


MEMBERS = "member,joined_at,tier\nA1,2026-11-01T09:00:00+08:00,gold\n"
CONSENTS = (
    "record_id,at,step,purposes,member,email\n"
    "c1,2026-11-01T09:00:00+08:00,granted,matching|visits,A1,\n"
    "c2,2026-11-01T09:00:00+08:00,granted,matching,,x@example.com\n"
)
ORDERS = (
    "order_id,ordered_at,amount,currency,member,phone,email,items\n"
    "o1,2026-11-22T10:00:00+08:00,12.50,CNY,A1,,,2\n"
    "o2,2026-11-23T10:00:00+08:00,8.00,CNY,,+861,,1\n"
    "o3,2026-11-24T10:00:00+08:00,8.00,CNY,,,x@example.com,1\n"
)
REGISTRATIONS = (
    "at,act,member,scheme,value,verified,replaced\n"
    "2026-11-02T09:00:00+08:00,registration,A1,phone,+861,yes,\n"
    "2026-11-02T09:00:00+08:00,registration,A1,email,x@example.com,no,\n"
)


def test_orders_join_by_verified_registrations_only(world: World) -> None:
    for text in (MEMBERS, CONSENTS, ORDERS, REGISTRATIONS):
        said = import_lines(world.book, text.splitlines(True), as_written, "f.csv")
        assert (said.refused, said.taken) == (0, said.rows)
    assert [ref for ref in world.refs("member", "A1") if ref] == ["o1", "o2"]
    assert world.refs("email", "x@example.com") == ["o3"]


def test_a_file_that_comes_twice_changes_nothing(world: World, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("\ufeff" + ORDERS, "utf-8")
    first = import_file(world.book, tmp_path / "o.csv", as_written)
    again = import_file(world.book, tmp_path / "o.csv", as_written)
    assert (first.kind, first.taken, again.taken, again.known) == ("orders", 3, 0, 3)


def test_a_bad_row_is_refused_with_its_line_and_without_what_it_says(world: World) -> None:
    text = (
        "order_id;ordered_at;amount;currency;member;items\n"
        "o1;2026-11-22T10:00:00+08:00;1.00;CNY;A1;1\n"
        '"o\n2";2026-11-22T10:00:00+08:00;1.00;CNY;A1;1\n'
        "o3;2026-11-22 10:00;1.00;CNY;SECRET;1\n"
        "o4;2026-11-22T10:00:00+08:00;1,00;CNY;SECRET;1\n"
        "o5;2026-11-22T10:00:00+08:00;1.00;CNY;SECRET?;1\n"
        "o6;2026-11-22T10:00:00+08:00;1.00;CNY;;1\n"
        "\n"
        "o7;2026-11-22T10:00:00+08:00;1.00\n"
        "o8;2026-11-22T10:00:00+08:00;1e99;CNY;SECRET;1\n"
        ";2026-11-22T10:00:00+08:00;1.00;CNY;SECRET;1\n"
        "o9;2026-11-22T10:00:00+08:00;NaN;CNY;SECRET;1\n"
    )
    said = import_lines(world.book, text.splitlines(True), as_written, "f.csv")
    assert (said.rows, said.taken, said.refused) == (10, 2, 8)
    assert [(it.line, it.column) for it in said.problems] == [
        (5, "ordered_at"),
        (6, "amount"),
        (7, "member"),
        (8, "member"),
        (10, ""),
        (11, "amount"),
        (12, "order_id"),
        (13, "amount"),
    ]
    assert "SECRET" not in str(said)
    with world.book.reading() as connection:
        assert connection.execute("SELECT count(*) FROM touch").fetchone() == (2,)


@pytest.mark.parametrize("text", ["", "a,b,c\n1,2,3\n", "member,member,joined_at\n"])
def test_a_header_that_fits_nothing_is_said_with_what_would(world: World, text: str) -> None:
    with pytest.raises(ConfigError, match="order_id"):
        import_lines(world.book, text.splitlines(True), as_written, "f.csv")


def test_a_file_that_is_not_utf8_or_not_there_is_an_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_bytes(ORDERS.encode("utf-16"))
    for name in ("o.csv", "none.csv"):
        with pytest.raises(ConfigError):
            import_file(world.book, tmp_path / name, as_written)


@given(st.text(max_size=300))
def test_whatever_stands_in_the_rows_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    world = World(tmp_path_factory.mktemp("history"))
    try:
        said = import_lines(world.book, [ORDERS.splitlines(True)[0], *text.splitlines(True)], as_written, "f.csv")
        assert said.rows == said.taken + said.known + said.refused
    finally:
        world.close()
