"""The acceptance test of a counting line: a person at the door taps in and out, and the camera must count the same.

A test is one file of JSON lines in the data directory: what was tapped and what was counted, each as it happened, so it
survives a restart in its middle and is kept for as long as the shop wants to prove its counts. Every tap is on the disk
before it is confirmed. Times are seconds since the test began, by the monotonic clock within one boot and by the wall
clock across one. Any thread. Knows no HTTP; who may do what is asked elsewhere.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, Literal

import msgspec

from gateway.clock import Clock, boot_id, rfc3339_s
from gateway.durable_file import sync_directory
from gateway.errors import Rejected, Unavailable
from vision.acceptance import AcceptanceReport, Tap, report
from vision.model import Crossing, Direction, Slice

MINUTES: Final = 15.0
MOST_MINUTES: Final = 240.0
SETTLE_S: Final = 8.0  # after its end: the last crossings become certain
_LATE_TAP_S: Final = 900.0  # a phone without network may deliver its taps so late
_MOST_TAPS: Final = 20_000
_COVER_EVERY_S: Final = 10.0
_KEPT: Final = 200  # tests; beyond, the oldest that were not accepted go

State = Literal["running", "settling", "done"]


class _Begun(msgspec.Struct, frozen=True, tag="begun"):
    camera: str
    line: str
    duration_s: float
    wall_s: float
    mono_s: float
    boot: str


class _Tapped(msgspec.Struct, frozen=True, tag="tap"):
    key: str
    direction: Direction
    at_s: float


class _Undone(msgspec.Struct, frozen=True, tag="undo"):
    key: str


class _Counted(msgspec.Struct, frozen=True, tag="counted"):
    direction: Direction
    at_s: float


class _Covered(msgspec.Struct, frozen=True, tag="covered"):
    seconds: float


class _Stopped(msgspec.Struct, frozen=True, tag="stopped"):
    at_s: float


class _Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    wall_s: float


class _Alarmed(msgspec.Struct, frozen=True, tag="alarm"):
    raised: bool


_Record = _Begun | _Tapped | _Undone | _Counted | _Covered | _Stopped | _Accepted | _Alarmed
_decode = msgspec.json.Decoder(_Record).decode


class TestView(msgspec.Struct, frozen=True, kw_only=True):
    """A test as the page shows it. `result` may change while it is running or settling."""

    __test__ = False  # not one of pytest's

    id: str
    camera: str
    line: str
    begun_at: str
    duration_s: float
    state: State
    left_s: float
    tapped_in: int
    tapped_out: int
    result: AcceptanceReport
    accepted_at: str | None = None
    drifting: bool = False


class _Test:
    """One file, read."""

    def __init__(self, path: Path, head: _Begun) -> None:
        self.path, self.head = path, head
        self.duration_s = head.duration_s
        self.taps: dict[str, _Tapped] = {}
        self.undone: set[str] = set()
        self.crossings: list[Crossing] = []
        self.covered_s = 0.0
        self.unwritten_s = 0.0
        self.accepted_s: float | None = None
        self.drifting = False

    def take(self, record: _Record) -> None:
        if isinstance(record, _Tapped):
            self.taps[record.key] = record
        elif isinstance(record, _Undone):
            self.taps.pop(record.key, None)
            self.undone.add(record.key)
        elif isinstance(record, _Counted):
            number = len(self.crossings) + 1
            self.crossings.append(Crossing(self.head.line, record.direction, number, number, record.at_s))
        elif isinstance(record, _Covered):
            self.covered_s += record.seconds
        elif isinstance(record, _Stopped):
            self.duration_s = min(self.duration_s, record.at_s)
        elif isinstance(record, _Accepted):
            self.accepted_s = record.wall_s
        elif isinstance(record, _Alarmed):
            self.drifting = record.raised

    def report(self) -> AcceptanceReport:
        taps = [Tap(tap.direction, tap.at_s) for tap in self.taps.values()]
        seconds = max(self.duration_s, 1e-3)
        coverage = round(min(1.0, (self.covered_s + self.unwritten_s) / seconds), 4)
        return report(self.head.line, taps, self.crossings, 0.0, seconds, coverage)


class AcceptanceTests:
    """All tests of this gateway; at most one runs on a line."""

    def __init__(self, folder: Path, clock: Clock, boot: str | None = None) -> None:
        """`folder`: where the files are; made when first needed. `boot`: of this machine."""
        self._folder, self._clock = folder, clock
        self._boot = boot or boot_id()
        self._tests: dict[str, _Test] | None = None
        self._lock = threading.Lock()

    def start(self, camera: str, line: str, minutes: float = MINUTES) -> TestView:
        """Begin a test now.

        Raises:
            Rejected: one runs on that line, or the time makes no sense.
            Unavailable: it cannot be written.
        """
        if not 1.0 <= minutes <= MOST_MINUTES:
            raise Rejected("start test", line, f"{minutes:g} minutes", f"1 to {MOST_MINUTES:g}; usually {MINUTES:g}")
        with self._lock:
            tests, now = self._all(), self._clock.now()
            for test in tests.values():
                if (test.head.camera, test.head.line) == (camera, line) and self._state(test) == "running":
                    raise Rejected("start test", line, "a test runs on this line already", "stop it first")
            head = _Begun(camera, line, 60.0 * minutes, now.wall_s, now.mono_s, self._boot)
            stem = rfc3339_s(now.wall_s)[:19].replace(":", "").replace("-", "")
            name = next(text for n in range(1000) if (text := f"{stem}-{n}") not in tests)
            test = _Test(self._folder / f"{name}.jsonl", head)
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._write(test, head)
                sync_directory(self._folder)
            except OSError as error:
                raise _unwritable(self._folder, error) from error
            tests[name] = test
            self._forget_old(tests)
            return self._view(name, test)

    def tap(self, name: str, direction: Direction, key: str, age_s: float = 0.0) -> TestView:
        """Somebody came or went; durable when this returns.

        Args:
            name: the test's id.
            direction: in or out.
            key: the phone's own name of this tap; the same key again is the same tap.
            age_s: how long ago by the phone's clock, for a tap that had to wait for the network.

        Raises:
            Rejected: no such test, it is over, or the tap makes no sense.
            Unavailable: it cannot be written; tap again.
        """
        if not (0 < len(key) <= 64 and 0 <= age_s <= _LATE_TAP_S):
            raise Rejected("tap", name, "the tap makes no sense", f"a key of 1 to 64, an age of 0 to {_LATE_TAP_S:g} s")
        with self._lock:
            test = self._test(name)
            at_s = self._now_s(test) - age_s
            if key in test.taps or key in test.undone:
                return self._view(name, test)
            if not 0 <= at_s < test.duration_s or self._state(test) == "done":
                raise Rejected("tap", name, "the test was not running then", "start another")
            if len(test.taps) >= _MOST_TAPS:
                raise Rejected("tap", name, "more taps than people fit through a door", "stop the test")
            self._write(test, _Tapped(key, direction, round(at_s, 3)))
            return self._view(name, test)

    def undo(self, name: str, key: str = "") -> TestView:
        """Take a tap back; the newest where no `key` is given. One that is not there changes nothing.

        Raises:
            Rejected: no such test, or it is over.
            Unavailable: it cannot be written.
        """
        with self._lock:
            test = self._test(name)
            if self._state(test) == "done":
                raise Rejected("undo", name, "the test is over", "start another")
            taken = key or max(test.taps.values(), key=lambda tap: tap.at_s, default=_Tapped("", "in", 0.0)).key
            if taken in test.taps:
                self._write(test, _Undone(taken))
            return self._view(name, test)

    def stop(self, name: str) -> TestView:
        """End a test before its time; one that is over stays as it is.

        Raises:
            Rejected: no such test.
            Unavailable: it cannot be written.
        """
        with self._lock:
            test = self._test(name)
            if self._state(test) == "running":
                self._write(test, _Stopped(round(self._now_s(test), 3)))
            return self._view(name, test)

    def acceptable(self, name: str) -> TestView:
        """The test, if it may be accepted.

        Raises:
            Rejected: no such test, it is not over, or it proves nothing.
        """
        with self._lock:
            test = self._test(name)
            if self._state(test) != "done":
                raise Rejected("accept test", name, "it is not over yet", f"wait {SETTLE_S:g} s after its end")
            if not test.report().enough:
                hint = "20 taps and 95 % coverage are needed: test again at a busy hour, with the camera live"
                raise Rejected("accept test", name, "it is too small to prove anything", hint)
            return self._view(name, test)

    def accept(self, name: str) -> TestView:
        """From now on this test's result is the level that the line is held to.

        Raises:
            Rejected: see `acceptable`.
            Unavailable: it cannot be written.
        """
        self.acceptable(name)
        with self._lock:
            test = self._test(name)
            if test.accepted_s is None:
                self._write(test, _Accepted(self._clock.now().wall_s))
            return self._view(name, test)

    def alarmed(self, name: str, raised: bool) -> None:
        """Remember that the alarm over a drift from this test has been raised or cleared.

        Raises:
            Rejected: no such test.
            Unavailable: it cannot be written.
        """
        with self._lock:
            self._write(self._test(name), _Alarmed(raised))

    def view(self, name: str) -> TestView:
        """One test.

        Raises:
            Rejected: no such test.
        """
        with self._lock:
            return self._view(name, self._test(name))

    def views(self) -> list[TestView]:
        """All that are kept, newest first."""
        with self._lock:
            return [self._view(name, test) for name, test in sorted(self._all().items(), reverse=True)]

    def saw(self, camera: str, part: Slice) -> None:
        """What a camera saw, about once a second; of use while a test of it runs. Never raises: counting goes on."""
        with self._lock:
            for test in self._all().values():
                if test.head.camera != camera or self._state(test) == "done" or test.head.boot != self._boot:
                    continue
                try:
                    self._add(test, part)
                except Unavailable:  # the coverage that is missing then says so
                    continue

    def _add(self, test: _Test, part: Slice) -> None:
        begun_s = test.head.mono_s
        for crossing in part.crossings:
            at_s = crossing.time_s - begun_s
            if crossing.line == test.head.line and 0 <= at_s < test.duration_s:
                self._write(test, _Counted(crossing.direction, round(at_s, 3)), sync=False)
        inside_s = min(part.end_s - begun_s, test.duration_s) - max(part.start_s - begun_s, 0.0)
        length_s = part.end_s - part.start_s
        if inside_s > 0:
            test.unwritten_s += part.covered_s * min(1.0, inside_s / length_s) if length_s > 0 else part.covered_s
        if test.unwritten_s >= _COVER_EVERY_S or (test.unwritten_s and part.end_s - begun_s >= test.duration_s):
            seconds, test.unwritten_s = round(test.unwritten_s, 3), 0.0
            self._write(test, _Covered(seconds), sync=False)

    def _now_s(self, test: _Test) -> float:
        now = self._clock.now()
        return now.mono_s - test.head.mono_s if test.head.boot == self._boot else now.wall_s - test.head.wall_s

    def _state(self, test: _Test) -> State:
        over_s = self._now_s(test) - test.duration_s
        return "running" if over_s < 0 else "settling" if over_s < SETTLE_S else "done"

    def _view(self, name: str, test: _Test) -> TestView:
        pressed = [tap.direction for tap in test.taps.values()]
        return TestView(
            id=name, camera=test.head.camera, line=test.head.line, begun_at=rfc3339_s(test.head.wall_s),
            duration_s=round(test.duration_s, 3), state=self._state(test),
            left_s=round(max(0.0, test.duration_s - self._now_s(test)), 1),
            tapped_in=pressed.count("in"), tapped_out=pressed.count("out"), result=test.report(),
            accepted_at=None if test.accepted_s is None else rfc3339_s(test.accepted_s), drifting=test.drifting,
        )  # fmt: skip

    # -- files

    def _all(self) -> dict[str, _Test]:
        if self._tests is None:
            paths = sorted(self._folder.glob("*.jsonl"))
            self._tests = {path.stem: test for path in paths if (test := _read(path)) is not None}
        return self._tests

    def _test(self, name: str) -> _Test:
        test = self._all().get(name)
        if test is None:
            raise Rejected("look at test", name[:64], "there is no such test", "see the list of tests")
        return test

    def _write(self, test: _Test, record: _Record, *, sync: bool = True) -> None:
        """Append to the file first, so that nothing is shown that a power cut could take back."""
        try:
            with test.path.open("ab") as file:
                file.write(msgspec.json.encode(record) + b"\n")
                file.flush()
                if sync:
                    os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(test.path, error) from error
        test.take(record)

    def _forget_old(self, tests: dict[str, _Test]) -> None:
        free = sorted(name for name, test in tests.items() if test.accepted_s is None)
        for name in free[: max(0, len(tests) - _KEPT)]:
            tests.pop(name).path.unlink(missing_ok=True)


def _read(path: Path) -> _Test | None:
    """A test's file; None for one that never began. A last line that a power cut left in half is cut off."""
    try:
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(path, len(whole))
    except OSError:
        return None
    test: _Test | None = None
    for text in whole.splitlines():
        try:
            record = _decode(text)
        except msgspec.DecodeError:
            continue
        if isinstance(record, _Begun):
            test = test or _Test(path, record)
        elif test is not None:
            test.take(record)
    return test


def _unwritable(path: Path, error: OSError) -> Unavailable:
    return Unavailable("write test", str(path), error.strerror or str(error), "is the disk full or read-only?")
