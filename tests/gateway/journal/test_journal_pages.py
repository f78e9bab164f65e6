"""Finding rows in raw pages: everything SQLite wrote, nothing that it did not, and no error on any bytes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.journal.packing import row_crc
from gateway.journal.pages import PageSource, RawFile, RawRow, encoded, varint

BLOB = st.binary(max_size=40)
ROW = st.tuples(
    st.integers(1, 1 << 40), st.integers(0, 1 << 33), st.integers(0, 1 << 47), BLOB, st.binary(max_size=6000)
)


def scan(path: Path, page_bytes: int) -> dict[int, RawRow]:
    found: dict[int, RawRow] = {}

    def accept(row: RawRow) -> bool:
        if row_crc("s", row.position, row.boot, row.recorded_ms, row.dedupe, row.packed) != row.crc:
            return False
        found[row.position] = row
        return True

    with RawFile(path) as database, RawFile(path.with_name(path.name + "-wal")) as wal:
        source = PageSource(database, wal, page_bytes)
        source.database_rows(accept, lambda position: True, lambda done: None)
        source.wal_rows(accept, lambda position: True)
    return found


@pytest.mark.parametrize("wal", [False, True], ids=["file", "log"])
@pytest.mark.parametrize("page_bytes", [512, 1024, 4096])
@given(rows=st.lists(ROW, max_size=12, unique_by=lambda row: row[0]))
@settings(max_examples=15, deadline=None)
def test_every_row_that_sqlite_wrote_is_found(
    tmp_path_factory: pytest.TempPathFactory, page_bytes: int, wal: bool, rows: list[tuple[int, int, int, bytes, bytes]]
) -> None:
    """Small and large, with overflow pages, in the file and in the log, at every page size."""
    path = tmp_path_factory.mktemp("pages") / "x.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    if wal:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
    connection.execute(
        "CREATE TABLE s (position INTEGER PRIMARY KEY, boot INTEGER, recorded_ms INTEGER, dedupe BLOB, body BLOB, "
        "crc INTEGER)"
    )
    connection.executemany("INSERT INTO s VALUES (?, ?, ?, ?, ?, ?)", [(*row, row_crc("s", *row)) for row in rows])
    found = scan(path, page_bytes)
    connection.close()
    assert {(r.position, r.boot, r.recorded_ms, r.dedupe, r.packed) for r in found.values()} == set(rows)


@given(garbage=st.binary(max_size=4096), tail=st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_garbage_gives_no_row_and_no_error(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, tail: bytes
) -> None:
    """Any bytes, also record headers among them, are read to the end without a row that checks."""
    path = tmp_path_factory.mktemp("garbage") / "x.db"
    header = b"\x07\x00\x01\x05\x1c\x40\x04"
    path.write_bytes(garbage + b"\x81\x05\x07" + header + tail + garbage)
    path.with_name("x.db-wal").write_bytes(garbage + header + tail)
    assert scan(path, 1024) == {}


@given(st.integers(0, (1 << 56) - 1))
def test_varints_come_back(value: int) -> None:
    """Encoding and decoding agree."""
    assert varint(encoded(value), 0) == (value, len(encoded(value)))
