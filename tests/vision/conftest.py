"""Where the footage is, and small builders shared by the vision tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from vision.model import Box, Track

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    cv2.setNumThreads(1)
    yield


@pytest.fixture(scope="session")
def data() -> Path:
    """The data beside the project; skips where it is absent."""
    folder = Path(os.environ.get("STOREFRONT_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "video").is_dir():
        pytest.skip(f"no footage at {folder} (set STOREFRONT_DATA)")
    return folder


def track(
    identity: int,
    x: float,
    y: float,
    *,
    width: float = 20.0,
    height: float = 40.0,
    observed: bool = True,
    credible: bool = True,
) -> Track:
    """A track whose box is centred on (x, y)."""
    return Track(identity, Box(x - width / 2, y - height / 2, width, height), observed, credible, 0.0, 0.0)
