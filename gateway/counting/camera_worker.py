"""A camera in the gateway: a worker that keeps its process, makes events of what it measured, and tells how it is.

The pictures stay in the camera's own process; what comes here are numbers about intervals of monotonic time, which get
their wall time here. Knows no pixel and no detector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway import event_types as types
from gateway.clock import Clock, Instant, rfc3339_s
from gateway.counting.camera_events import event_data, wall_s
from gateway.counting.camera_plan import CameraPlan, secret_of
from gateway.counting.cameras import Cameras
from gateway.counting.interval_book import IntervalBook
from gateway.counting.staff_badges import StaffBadges
from gateway.counting.wall_grid import SLACK_S, WallGrid
from gateway.errors import JournalError
from gateway.event import Draft, Origin, draft
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.journal.reader import JournalReader
from vision.camera import Camera
from vision.model import Crossing, FootfallInterval, Measurement, Slice

_OFFER_S = 0.5
_LOOK_S = 1.0
_KEPT = 4096  # measurements that wait here while the inlet is full
_LOOK_BACK = 2_000  # newest events in which an earlier run's reports of the present interval are looked for


class CameraWorker:
    """Worker: one camera under the supervisor."""

    def __init__(
        self, plan: CameraPlan, origin: Origin, inlet: Inlet, board: DeviceBoard, clock: Clock,
        journal: Path | None = None, cameras: Cameras | None = None, watch: Callable[[Slice], None] = lambda part: None,
    ) -> None:  # fmt: skip
        """Put the camera on the board; its process starts with the first step.

        Args:
            plan: what to run.
            origin: where this gateway stands.
            inlet: takes the events.
            board: is told how the camera is.
            clock: the gateway's time.
            journal: where an earlier run's reports are; None: there was none.
            cameras: where the others find this camera while it runs.
            watch: told what was seen about once a second, on this worker's thread.
        """
        self._plan = plan
        self._inlet = inlet
        self._board = board
        self._clock = clock
        self._journal = journal
        self._cameras = cameras or Cameras()
        self._watch = watch
        badges = plan.options.staff_badges
        self._badges = StaffBadges(badges, journal) if badges and journal is not None else None
        self._source = origin.source(f"camera/{plan.name}")
        self._grid = WallGrid(plan.time_zone, plan.vision.interval_s)
        self._book: IntervalBook | None = None
        self._drafts: list[Draft] = []
        self._looked_s = 0.0
        board.register(plan.name, f"camera ({plan.options.detector})", "", plan.settings.stale_after_s)
        settings = msgspec.structs.replace(
            plan.vision, origin_s=self._grid.origin_s(clock.now()), person_size=self._cameras.learned(plan)
        )
        self.camera = Camera(
            settings, self._measured, secret_of(plan.settings), self._saw, clock=lambda: clock.now().mono_s
        )

    def open(self) -> None:
        """Nothing is started yet."""
        self.camera.open()
        self._cameras.put(self._plan, self.camera)

    def step(self, stop: threading.Event) -> None:
        """Serve the process, hand on what it measured, say how it is."""
        self.camera.step(stop)
        self._hand_on()
        now = self._clock.now()
        if now.mono_s - self._looked_s >= _LOOK_S:
            self._looked_s = now.mono_s
            self._look(now)

    def close(self) -> None:
        """End the process; what it counted is kept, or counted as lost."""
        self._cameras.take(self.camera)
        self.camera.close()
        if self._badges is not None:
            self._badges.close()
        self._hand_on()
        if self._drafts:
            self._inlet.leave(self._plan.name, Item(self._drafts))
            self._drafts = []

    def _hand_on(self) -> None:
        """Into the inlet; what that does not take waits here, within bounds: the camera goes on meanwhile."""
        if self._drafts and self._inlet.offer(self._plan.name, Item(self._drafts), _OFFER_S):
            self._drafts = []
        self._give_up(len(self._drafts) - _KEPT)

    def _give_up(self, count: int) -> None:
        if count > 0:
            self._inlet.give_up(self._plan.name, Item(self._drafts[:count]))
            self._drafts = self._drafts[count:]

    def _look(self, now: Instant) -> None:
        if self._grid.off_s(now, self.camera.settings.origin_s) > SLACK_S:  # the wall clock has been set
            self.camera.align(self._grid.origin_s(now))
        if self._badges is not None:
            for sighting in self._badges.look():
                self.camera.sighted(sighting)
        state = self.camera.state()
        if state.state == "live":
            self._board.connected(self._plan.name)
            self._board.faulted(self._plan.name, "")
            self._board.heard(self._plan.name, now, 0)
        elif state.state in ("stale", "faulted"):
            hint = "check the camera's power, cable and address; counting goes on when it is back"
            self._board.lost(self._plan.name, state.reason or "no picture", hint)

    def _measured(self, measured: Measurement) -> None:
        at = self._clock.now()
        data = event_data(measured, at, self._grid.snapped)
        if isinstance(measured, FootfallInterval) and isinstance(data, types.FootfallCounted):
            data = self._earlier().report(data, measured.interval_start_s)
        self._add(data, at, wall_s(at, measured.interval_start_s + measured.interval_s))
        self._board.heard(self._plan.name, at)

    def _earlier(self) -> IntervalBook:
        """The book, begun with what an earlier run has told."""
        if self._book is None:
            self._book = IntervalBook(self._source)
            if self._journal is not None and self._journal.exists():
                self._book.restore(_newest(self._journal))
        return self._book

    def _saw(self, part: Slice) -> None:
        if self._plan.options.crossings:
            for crossing in part.crossings:
                self._crossed(crossing)
        self._watch(part)

    def _crossed(self, crossing: Crossing) -> None:
        at = self._clock.now()
        happened_s = wall_s(at, crossing.time_s)
        data = types.FootfallCrossed(line=crossing.line, direction=crossing.direction, at=rfc3339_s(happened_s))
        self._add(data, at, happened_s)

    def _add(self, data: types.EventData, at: Instant, happened_s: float) -> None:
        entry = types.type_of(data)
        self._drafts.append(draft(entry.stream, entry.name, data, source=self._source, at=at, happened_s=happened_s))


def _newest(journal: Path) -> list[bytes]:
    """The newest measurements; [] where the journal cannot be read yet: an interval is then told in two reports."""
    found: list[bytes] = []
    try:
        with JournalReader(journal) as reader:
            after = max(0, reader.head("measurements") - _LOOK_BACK)
            while batch := reader.read("measurements", after):
                after = batch[-1].position
                found += [event.json for event in batch]
    except JournalError:
        return []
    return found
