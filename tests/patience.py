"""How long a test waits for what must happen: long, because only a failure waits that long.

A deadline that a quick machine never comes near is no assertion about time; where a test is about time, it says so
itself and leaves a slow and busy machine room.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0


def until(holds: Callable[[], T], within_s: float = PATIENCE_S, every_s: float = 0.01) -> T:
    """Ask again and again until the answer is true, and give it.

    Args:
        holds: asked at least once.
        within_s: AssertionError when it is not true by then.
        every_s: pause between two questions.
    """
    deadline_s = time.monotonic() + within_s
    while not (found := holds()):
        assert time.monotonic() < deadline_s, f"did not happen within {within_s:g} s; last answer: {found!r}"
        time.sleep(every_s)
    return found
