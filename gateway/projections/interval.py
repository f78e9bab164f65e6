"""An interval that a counter reports: when it began, how long it was, how much of it was seen. Knows no table."""

from __future__ import annotations

from datetime import datetime

LONGEST_S = 86_400.0


def begin_ms(begin: str, otherwise_ms: int) -> int:
    """When the interval began, if that is a time at all; mapped devices may say anything."""
    try:
        at = datetime.fromisoformat(begin)
    except ValueError:
        return otherwise_ms
    return otherwise_ms if at.tzinfo is None else int(at.timestamp() * 1000)


def span(interval_s: float, coverage: float) -> tuple[int, int]:
    """The interval and what was seen of it, milliseconds; nonsense is cut to what is possible."""
    interval_ms = int(min(max(interval_s, 0.0), LONGEST_S) * 1000)
    return interval_ms, int(interval_ms * min(max(coverage, 0.0), 1.0))
