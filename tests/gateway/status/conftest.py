"""The gateway that the page's tests look at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.status.shop import FakeGateway


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[FakeGateway]:
    """Open, with an empty journal."""
    shown = FakeGateway(tmp_path)
    shown.open()
    yield shown
    shown.close()
