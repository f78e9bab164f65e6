"""What is told twice of an interval supersedes and never doubles."""

from __future__ import annotations

import msgspec

from gateway.clock import FakeClock
from gateway.counting.interval_book import KEPT, IntervalBook
from gateway.event import Origin, draft
from gateway.event_types import CountQuality, FootfallCounted, type_of

SOURCE = Origin("t1", "0042", "gw01").source("camera/door")
START = "2026-11-22T10:00:00.000Z"


def counted(came: int, left: int, coverage: float, revision: int = 0, start: str = START) -> FootfallCounted:
    quality = CountQuality(frames=round(600 * coverage), fps=10.0, coverage=coverage, detector="motion")
    return FootfallCounted(
        line="door", entrance="main", interval_start=start, interval_s=60.0, in_=came, out=left, quality=quality,
        revision=revision,
    )  # fmt: skip


def stored(data: FootfallCounted, source: str = SOURCE) -> bytes:
    return draft("measurements", type_of(data).name, data, source=source, at=FakeClock().now()).body


def test_an_undisturbed_interval_is_told_as_it_was_counted() -> None:
    """Corrections of one span keep their own numbers."""
    book = IntervalBook(SOURCE)
    assert book.report(counted(3, 2, 1.0), 0.0) == counted(3, 2, 1.0)
    assert book.report(counted(4, 2, 1.0, revision=1), 0.0) == counted(4, 2, 1.0, revision=1)


def test_a_restart_in_the_middle_adds_up_in_one_superseding_report() -> None:
    """Counts, frames and coverage of both runs; the revision is above every earlier one, also for corrections."""
    book = IntervalBook(SOURCE)
    book.restore([stored(counted(3, 2, 0.4)), stored(counted(9, 9, 0.4), "//t1/other"), b"no event", b"{}"])
    whole = book.report(counted(5, 1, 0.5), 100.0)
    assert (whole.in_, whole.out, whole.revision, whole.quality.coverage) == (8, 3, 1, 0.9)
    assert (whole.quality.frames, whole.quality.fps) == (540, 10.0)
    later = book.report(counted(6, 1, 0.5, revision=1), 100.0)
    assert (later.in_, later.out, later.revision, later.quality.coverage) == (9, 3, 2, 0.9)
    again = IntervalBook(SOURCE)
    again.restore([stored(counted(3, 2, 0.4)), stored(whole), stored(later)])
    third = again.report(counted(1, 1, 0.05), 200.0)
    assert (third.in_, third.revision, third.quality.coverage) == (10, 3, 0.95)


def test_a_clock_set_back_loses_nothing_and_covers_no_more_than_all() -> None:
    """The same hour is counted twice: the second report holds both, and coverage stays a share."""
    book = IntervalBook(SOURCE)
    book.report(counted(3, 2, 1.0), 0.0)
    both = book.report(counted(4, 4, 1.0), 3600.0)
    assert (both.in_, both.out, both.revision, both.quality.coverage) == (7, 6, 1, 1.0)


def test_the_book_is_bounded() -> None:
    """Old intervals are forgotten."""
    book = IntervalBook(SOURCE)
    for number in range(3 * KEPT):
        book.report(counted(1, 1, 1.0, start=f"start {number}"), float(number))
    assert len(book._told) == KEPT
    assert msgspec.structs.asdict(book.report(counted(1, 1, 1.0, start="start 0"), 0.0))["revision"] == 0
