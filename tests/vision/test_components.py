"""Parts of masks: the cheap majority filter is the median it stands for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from vision.components import majority


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_the_majority_of_a_mask_is_its_median_up_to_the_edge(share: float) -> None:
    """Pixel by pixel, for sparse and for dense masks."""
    mask = (np.random.default_rng(7).random((97, 131)) < share).astype(np.uint8) * 255
    assert (majority(mask) == cv2.medianBlur(mask, 5)).all()
