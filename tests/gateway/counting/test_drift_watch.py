"""The drift alarm: raised once from the read model's whole days, remembered, and cleared by a new accepted test."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import msgspec

from gateway.clock import FakeClock
from gateway.counting.acceptance import SETTLE_S, AcceptanceTests, TestView
from gateway.counting.drift_watch import DriftWatch
from gateway.event import Draft, Origin, draft
from gateway.event_types import CountQuality, FootfallCounted, type_of
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.writer import JournalWriter
from gateway.projections.projector import Projector, read_models
from gateway.projections.store_time import StoreTime
from vision.model import Crossing, Slice

ZONE = "Asia/Shanghai"
START = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)


def accepted(tests: AcceptanceTests, clock: FakeClock) -> TestView:
    test = tests.start("cam", "door", 1.0)
    begun_s = clock.now().mono_s
    for number in range(24):
        tests.tap(test.id, "in" if number % 2 else "out", str(number))
    crossings = tuple(Crossing("door", "in" if n % 2 else "out", n, n, begun_s + n) for n in range(24))
    tests.saw("cam", Slice(begun_s, begun_s + 60.0, 60.0, 600, crossings))
    clock.advance(61.0 + SETTLE_S)
    return tests.accept(test.id)


def hour(day: int, came: int, left: int) -> Draft:
    at = START + timedelta(days=day)
    data = FootfallCounted(
        line="door", entrance="main", interval_start=at.isoformat().replace("+00:00", "Z"), interval_s=3600.0, in_=came,
        out=left, quality=CountQuality(frames=36_000, fps=10.0, coverage=1.0, detector="motion"),
    )  # fmt: skip
    clock = FakeClock(at.timestamp() + 3600)
    kind = type_of(data)
    return draft(kind.stream, kind.name, data, source="//t1/stores/1/gw/camera/cam", at=clock.now())


def test_a_lost_direction_is_alarmed_once_and_a_new_test_ends_the_alarm(tmp_path: Path) -> None:
    """Ten days after the test a third of the leaving is lost."""
    clock = FakeClock(START.timestamp())
    tests = AcceptanceTests(tmp_path / "acceptance", clock, "boot")
    accepted(tests, clock)
    inlet = Inlet()
    commits = CommitLoop(JournalWriter(tmp_path / "journal.db", "gw01", clock), inlet)
    commits.open()
    stop = threading.Event()
    stop.set()
    gateway = SimpleNamespace(
        origin=Origin("t1", "1", "gw"), clock=clock, inlet=inlet, commits=commits, journal_path=tmp_path / "journal.db"
    )
    projector = Projector(tmp_path / "journal.db", commits, read_models(ZONE), clock, StoreTime(ZONE))
    projector.open()

    def days(first: int, last: int, share: float) -> list[str]:
        """Those days pass; what the watch then tells."""
        commits._writer.append([hour(day, 300, round(300 * share)) for day in range(first, last)])
        folding = threading.Thread(target=lambda: [projector.step(threading.Event()) for _ in range(3)])
        folding.start()
        while folding.is_alive():
            commits.step(stop)
        clock.wall_s = (START + timedelta(days=last)).timestamp()
        DriftWatch(gateway, tests, StoreTime(ZONE)).step(stop)
        drafts = [draft for item in inlet.take(100, 0.0, 0.0) for draft in item.drafts]
        return [msgspec.json.decode(each.body)["type"] for each in drafts]

    assert days(1, 10, 1.0) == []
    assert days(10, 14, 0.67) == ["store.alarm.raised.v1"]
    assert days(14, 15, 0.67) == []  # told once
    assert [view.drifting for view in tests.views()] == [True]
    accepted(tests, clock)
    assert days(15, 16, 1.0) == ["store.alarm.cleared.v1"]
    assert [view.drifting for view in tests.views()] == [False, False]
    projector.close()
    commits.close()
