"""`storefront report` prints or writes a report, and says what is wrong with what it was asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.journal.reader import JournalReader
from tests.gateway.commands.conftest import Storefront
from tests.gateway.status.shop import FakeGateway, passed, sale


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A store that counted four and sold one on the fake clock's day."""
    gateway = FakeGateway(tmp_path / "data")
    gateway.open()
    gateway.keep(passed(4), sale())
    gateway.count()
    gateway.close()
    path = tmp_path / "gateway.toml"
    path.write_text(f'[storage]\ndirectory = "{tmp_path / "data"}"\nmax_mib = 64\n[gateway]\nstore = "0042"\n')
    return path


def test_the_day_is_printed_in_the_stores_language(storefront: Storefront, config: Path) -> None:
    said = storefront("report", "--config", config, "--day", "2026-11-22")
    assert said.code == 0 and "门店日报" in said.out and "客流量" in said.out


def test_a_file_is_written_where_asked(storefront: Storefront, config: Path, tmp_path: Path) -> None:
    said = storefront(
        "report", "-c", config, "--day", "2026-11-22", "--week", "--format", "pdf", "-o", tmp_path / "r.pdf"
    )
    assert said.code == 0 and (tmp_path / "r.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("day", ["22.11.2026", "2026-02-30", "0001-01-01", "x"])
def test_a_day_that_is_none_is_refused(storefront: Storefront, config: Path, day: str) -> None:
    said = storefront("report", "-c", config, "--day", day)
    assert said.code == 78 and "this is no day" in said.err


def test_a_place_that_cannot_be_written_and_a_journal_that_is_not_there(
    storefront: Storefront, config: Path, tmp_path: Path
) -> None:
    assert storefront("report", "-c", config, "-o", tmp_path / "no" / "r.txt").code == 78
    other = tmp_path / "other.toml"
    other.write_text(f'[storage]\ndirectory = "{tmp_path / "empty"}"\n')
    said = storefront("report", "-c", other)
    assert said.code != 0 and "no journal" in said.err


def test_a_journal_that_was_never_counted_has_no_data(storefront: Storefront, tmp_path: Path) -> None:
    gateway = FakeGateway(tmp_path / "data")
    gateway.open()
    gateway.keep(sale())
    gateway.close()
    with JournalReader(gateway.journal_path) as reader:
        assert reader.head("transactions") == 1
    path = tmp_path / "gateway.toml"
    path.write_text(f'[storage]\ndirectory = "{tmp_path / "data"}"\n')
    said = storefront("report", "-c", path, "--day", "2026-11-22", "--lang", "en")
    assert said.code == 0 and "There is no data" in said.out
