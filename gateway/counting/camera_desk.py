"""What a technician may do with the cameras: look, take a calibration picture, test a line and accept the result.

One door for all of it, called by the page's routes; the role is asked there. Any thread. Knows no HTTP.
"""

from __future__ import annotations

import threading
from typing import Final

import msgspec

from gateway.clock import Clock
from gateway.counting.acceptance import AcceptanceTests, TestView
from gateway.counting.camera_scene import Drawn, SceneDrawings
from gateway.counting.cameras import Cameras, CameraView
from gateway.errors import Rejected, Unavailable
from gateway.event import Origin, draft
from gateway.event_types import CountError, FootfallAccepted, type_of
from gateway.intake.inlet import Inlet, Item
from vision.acceptance import DirectionReport
from vision.camera_settings import Snapshot
from vision.model import Direction

_LANE: Final = ".cameras"  # no device can have such a name
_COMMIT_S: Final = 5.0


class CameraDesk:
    """The door. `cameras` and `tests` are told by the cameras' workers."""

    def __init__(
        self, cameras: Cameras, tests: AcceptanceTests, drawings: SceneDrawings, inlet: Inlet, origin: Origin,
        clock: Clock,
    ) -> None:  # fmt: skip
        """Store."""
        self.cameras, self.tests, self._drawings = cameras, tests, drawings
        self._inlet, self._origin, self._clock = inlet, origin, clock

    def views(self) -> list[CameraView]:
        """Every camera that runs."""
        found = []
        for name in self.cameras.names():
            try:
                found.append(self.cameras.view(name))
            except Unavailable:  # it has just gone
                continue
        return found

    def view(self, camera: str) -> CameraView:
        """One of them: how it is, and what its lines count now.

        Raises:
            Unavailable: no such camera runs.
        """
        return self.cameras.view(camera)

    def snapshot(self, camera: str) -> Snapshot:
        """The calibration picture with nobody recognisable in it; waits up to five seconds.

        Raises:
            Unavailable: no such camera runs, or it shows nothing now.
        """
        return self.cameras.snapshot(camera)

    def scene(self, camera: str) -> Drawn:
        """Its lines, zones, masks and clicked people, and the digest of the file they stand in.

        Raises:
            Unavailable: no such camera runs.
        """
        return self._drawings.read(camera, self.cameras.plan(camera).options)

    def set_scene(self, camera: str, drawing: str, digest: str) -> Drawn:
        """See `SceneDrawings.change`. Raises Unavailable as well: no such camera runs."""
        self.cameras.plan(camera)
        return self._drawings.change(camera, drawing, digest)

    def test_views(self) -> list[TestView]:
        """Every acceptance test, newest first."""
        return self.tests.views()

    def test_view(self, test: str) -> TestView:
        """One. Raises Rejected: there is no such test."""
        return self.tests.view(test)

    def start_test(self, camera: str, line: str, minutes: float) -> TestView:
        """Begin a test.

        Raises:
            Unavailable: no such camera runs, or the disk cannot be written.
            Rejected: it has no such line, or a test runs there.
        """
        lines = [each.name for each in self.cameras.plan(camera).options.lines]
        if line not in lines:
            raise Rejected(
                "start test", line[:64], "the camera has no such line", f"it has: {', '.join(lines) or 'none'}"
            )
        return self.tests.start(camera, line, minutes)

    def tap(self, test: str, direction: Direction, key: str, age_s: float) -> TestView:
        """See `AcceptanceTests.tap`."""
        return self.tests.tap(test, direction, key, age_s)

    def undo_tap(self, test: str, key: str) -> TestView:
        """See `AcceptanceTests.undo`."""
        return self.tests.undo(test, key)

    def stop_test(self, test: str) -> TestView:
        """See `AcceptanceTests.stop`."""
        return self.tests.stop(test)

    def accept_test(self, test: str) -> TestView:
        """Hold the line to this result; the fact is an event, durable before it is confirmed.

        Raises:
            Rejected: the test is not over or proves nothing.
            Unavailable: it cannot be kept now.
        """
        view = self.tests.acceptable(test)
        if view.accepted_at is not None:
            return view
        durable = threading.Event()
        now = self._clock.now()
        data = FootfallAccepted(
            test=view.id, camera=view.camera, line=view.line, begun_at=view.begun_at, duration_s=view.duration_s,
            coverage=view.result.coverage, entering=_error(view.result.entering), leaving=_error(view.result.leaving),
        )  # fmt: skip
        entry, source = type_of(data), self._origin.source(f"camera/{view.camera}")
        event = draft(entry.stream, entry.name, data, source=source, at=now)
        if not (self._inlet.offer(_LANE, Item([event], durable.set), _COMMIT_S) and durable.wait(_COMMIT_S)):
            raise Unavailable("accept test", test, "the journal does not take the event now", "look at the page: why?")
        return self.tests.accept(test)


def _error(it: DirectionReport) -> CountError:
    shares = {"error": it.error_share, "error_low": it.error_low, "error_high": it.error_high}
    rounded = {name: None if share is None else round(share, 4) for name, share in shares.items()}
    return msgspec.convert({"tapped": it.tapped, "counted": it.counted, "matched": it.matched, **rounded}, CountError)
