"""How many people are inside: in minus out since the shop opened, never below zero.

Doors are miscounted a little, and the error adds up over a day. So it begins at zero when the shop opens, and when it
would fall below zero, somebody was missed coming in: it starts again from zero and says how often. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from gateway.projections.footfall import Passed


class Inside(msgspec.Struct, frozen=True, kw_only=True):
    """People inside after the last interval, and the most there were. `restarts`: how often it fell below zero."""

    since_ms: int
    at_ms: int | None  # beginning of the newest interval; None: nothing was counted
    people: int
    peak: int
    restarts: int
    peaks: Mapping[int, int] = {}  # by the hour that an interval began in


def inside(passed: Iterable[Passed], since_ms: int, hours: Sequence[int] = ()) -> Inside:
    """Add up in and out from `since_ms` on.

    Args:
        passed: the intervals, in order.
        since_ms: when the shop opened.
        hours: beginnings of the hours whose peaks are wanted, in order.
    """
    people = peak = restarts = 0
    at_ms: int | None = None
    peaks: dict[int, int] = {}
    index = -1
    for it in passed:
        if it.begin_ms < since_ms:
            continue
        before = people
        people += it.people_in - it.people_out
        if people < 0:
            people, restarts = 0, restarts + 1
        elif people > peak:
            peak = people
        at_ms = it.begin_ms
        while index + 1 < len(hours) and hours[index + 1] <= it.begin_ms:
            index += 1
            peaks[hours[index]] = before  # who was inside when the hour began
        if index >= 0 and people > peaks[hours[index]]:
            peaks[hours[index]] = people
    return Inside(since_ms=since_ms, at_ms=at_ms, people=people, peak=peak, restarts=restarts, peaks=peaks)
