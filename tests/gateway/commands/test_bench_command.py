"""`storefront bench` belongs to a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.commands.bench import bench
from gateway.errors import ConfigError


def test_an_installed_package_says_that_it_has_no_benchmarks(tmp_path: Path) -> None:
    """Outside a checkout nothing is run, and the message says what to do."""
    with pytest.raises(ConfigError, match="not part of the installed package") as error:
        bench([], tmp_path)
    assert "make bench" in error.value.hint


def test_the_benchmarks_exit_code_is_the_commands(tmp_path: Path) -> None:
    """In a checkout its `bench` runs there with the arguments it was given."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "__main__.py").write_text("import sys\nsys.exit(len(sys.argv) - 1)\n", "utf-8")
    assert bench(["journal", "--quick", "--json"], tmp_path) == 3
