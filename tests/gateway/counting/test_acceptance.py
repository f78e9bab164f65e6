"""The acceptance test of a line: every tap is kept, a restart in its middle loses nothing, little proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.counting.acceptance import SETTLE_S, AcceptanceTests
from gateway.errors import Rejected
from vision.model import Crossing, Slice


def slices(tests: AcceptanceTests, clock: FakeClock, seconds: int, cross_every: int = 0) -> None:
    """A camera that is live, second by second, and counts somebody in now and then."""
    for second in range(seconds):
        mono_s = clock.now().mono_s
        crossed = cross_every and second % cross_every == 0
        crossing = (Crossing("door", "in", second, second, mono_s + 0.5),) if crossed else ()
        clock.advance(1.0)
        tests.saw("cam", Slice(mono_s, mono_s + 1.0, 1.0, 10, crossing))


def test_taps_survive_a_restart_in_the_middle_and_a_last_line_cut_in_half(tmp_path: Path) -> None:
    """A new process goes on with the same test; what was confirmed is there, what was not written whole is not."""
    clock = FakeClock()
    tests = AcceptanceTests(tmp_path, clock, "boot")
    test = tests.start("cam", "door", 2.0)
    slices(tests, clock, 60, cross_every=3)
    for number in range(20):
        tests.tap(test.id, "in", f"k{number}", age_s=3.0 * number)
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as half:
        half.write(b'{"type":"tap","key":"half","dir')
    again = AcceptanceTests(tmp_path, clock, "boot")
    assert again.view(test.id).tapped_in == 20
    slices(again, clock, 60)
    again.tap(test.id, "out", "late", age_s=2.0)
    clock.advance(SETTLE_S)
    view = again.view(test.id)
    assert (view.state, view.tapped_in, view.tapped_out) == ("done", 20, 1)
    assert view.result.coverage > 0.95 and view.result.enough
    assert (view.result.entering.counted, view.result.entering.matched) == (20, 20)
    assert AcceptanceTests(tmp_path, clock, "boot").view(test.id) == view


def test_after_a_reboot_the_wall_clock_carries_the_test_on(tmp_path: Path) -> None:
    """Monotonic time begins anew; the test's own time does not."""
    clock = FakeClock()
    clock.mono_us = 9_000_000_000
    test = AcceptanceTests(tmp_path, clock, "first").start("cam", "door", 10.0)
    clock.advance(60.0)
    clock.mono_us = 5_000_000
    rebooted = AcceptanceTests(tmp_path, clock, "second")
    rebooted.tap(test.id, "in", "a")
    assert rebooted.view(test.id).left_s == pytest.approx(540.0)
    slices(rebooted, clock, 30, cross_every=3)  # of another boot: its times cannot be compared
    assert rebooted.view(test.id).result.coverage < 0.1


def test_a_tap_counts_once_can_be_undone_and_stays_undone(tmp_path: Path) -> None:
    """A phone that sends again does no harm, also after the tap has been taken back."""
    clock = FakeClock()
    tests = AcceptanceTests(tmp_path, clock, "boot")
    test = tests.start("cam", "door")
    clock.advance(30.0)
    for key, direction in (("a", "in"), ("b", "out"), ("a", "in")):
        tests.tap(test.id, direction, key)  # type: ignore[arg-type]
        clock.advance(1.0)
    assert (tests.view(test.id).tapped_in, tests.view(test.id).tapped_out) == (1, 1)
    assert tests.undo(test.id).tapped_out == 0  # the newest
    assert tests.undo(test.id, "a").tapped_in == 0
    assert tests.undo(test.id).tapped_in == 0
    assert tests.tap(test.id, "in", "a").tapped_in == 0


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    """Times, keys, tests and acceptance out of their bounds; each with a reason, and nothing is written."""
    clock = FakeClock()
    tests = AcceptanceTests(tmp_path, clock, "boot")
    with pytest.raises(Rejected):
        tests.start("cam", "door", 0.5)
    test = tests.start("cam", "door", 1.0)
    with pytest.raises(Rejected, match="runs on this line"):
        tests.start("cam", "door")
    for key, age_s in (("", 0.0), ("k" * 65, 0.0), ("k", -1.0), ("k", 901.0), ("k", 30.0)):
        with pytest.raises(Rejected):
            tests.tap(test.id, "in", key, age_s)
    for call in (tests.view, tests.stop, tests.undo, tests.accept):
        with pytest.raises(Rejected, match="no such test"):
            call("../../etc/passwd")
    with pytest.raises(Rejected, match="not over"):
        tests.accept(test.id)
    assert tests.stop(test.id).state == "settling"
    clock.advance(SETTLE_S + 1)
    with pytest.raises(Rejected, match="not running then"):
        tests.tap(test.id, "in", "k")
    with pytest.raises(Rejected, match="too small"):
        tests.accept(test.id)
    assert tests.view(test.id).tapped_in == 0


def test_an_accepted_test_is_listed_first_by_date_and_kept(tmp_path: Path) -> None:
    """Newest first; acceptance is remembered."""
    clock = FakeClock()
    tests = AcceptanceTests(tmp_path, clock, "boot")
    ids = []
    for _ in range(2):
        test = tests.start("cam", "door", 1.0)
        ids.append(test.id)
        for number in range(20):
            tests.tap(test.id, "in", str(number))
        slices(tests, clock, 61, cross_every=3)
        clock.advance(SETTLE_S)
    accepted = tests.accept(ids[0])
    assert accepted.accepted_at is not None
    tests.alarmed(ids[0], True)
    listed = AcceptanceTests(tmp_path, clock, "boot").views()
    assert [(view.id, view.accepted_at is not None, view.drifting) for view in listed] == [
        (ids[1], False, False), (ids[0], True, True),
    ]  # fmt: skip
