"""A picture and when it was taken: the only value that holds pixels, and it lives in a camera's own process.

Deliberately not a `msgspec.Struct`, so it is never encoded by accident. Must not know what is seen in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.uint8]
"""(H, W, 3) uint8 BGR, or (H, W) uint8 for a mask."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and when it was taken. Lives in the camera's process only.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        number: 1-based position in the source, counting frames that were skipped.
        time_s: capture time on the stream's own clock, seconds, anchored once at connect.
    """

    image: Image
    number: int
    time_s: float
