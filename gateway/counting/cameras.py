"""The cameras that run, by name: how each is, what it counts now, its calibration picture.

Workers put their camera here while they have it; everybody else (the page, the acceptance test) asks here, so nobody
holds on to a camera that has been replaced. Any thread. Knows no HTTP and no pixel: a picture passes through as bytes.
"""

from __future__ import annotations

import threading

import msgspec

from gateway.counting.camera_plan import CameraPlan
from gateway.errors import Unavailable
from vision.camera import Camera, CameraState, LineCount
from vision.camera_settings import Snapshot
from vision.model import Scene
from vision.person_size import PersonClick, PersonSize


class CameraView(msgspec.Struct, frozen=True, kw_only=True):
    """A camera as a technician sees it while setting it up. Coordinates are shares of the picture; no pixel is here.

    Attributes:
        counts: each line since the gateway began to look at this camera.
        person_size: the clicked people; empty: their size is learned.
    """

    name: str
    source: str
    detector: str
    state: CameraState
    counts: tuple[LineCount, ...]
    scene: Scene
    person_size: tuple[PersonClick, ...] = ()


class Cameras:
    """All of them. `put` and `take` are the workers', the rest is for everybody."""

    def __init__(self) -> None:
        """None runs."""
        self._running: dict[str, tuple[CameraPlan, Camera]] = {}
        self._learned: dict[str, tuple[CameraPlan, PersonSize]] = {}
        self._lock = threading.Lock()

    def put(self, plan: CameraPlan, camera: Camera) -> None:
        """A worker has this camera now."""
        with self._lock:
            self._running[plan.name] = plan, camera

    def take(self, camera: Camera) -> None:
        """A worker gives its camera up; one that another has put in its place stays."""
        with self._lock:
            for name, (plan, held) in list(self._running.items()):
                if held is camera:
                    del self._running[name]
                    if camera.person_size is not None:
                        self._learned[name] = plan, camera.person_size

    def learned(self, plan: CameraPlan) -> PersonSize | None:
        """How large people are, as its last process knew, so that a line that was moved need not wait for a warm-up."""
        with self._lock:
            before = self._learned.get(plan.name)
        if before is None or _looks(before[0]) != _looks(plan):
            return None
        return before[1]

    def names(self) -> list[str]:
        """Those that run, in order."""
        with self._lock:
            return sorted(self._running)

    def plan(self, name: str) -> CameraPlan:
        """What that camera was told to do.

        Raises:
            Unavailable: no such camera runs.
        """
        return self._held(name)[0]

    def view(self, name: str) -> CameraView:
        """How it is and what it counts now.

        Raises:
            Unavailable: no such camera runs.
        """
        plan, camera = self._held(name)
        return CameraView(
            name=name, source=plan.vision.source, detector=plan.options.detector, state=camera.state(),
            counts=tuple(camera.totals()), scene=plan.vision.scene, person_size=plan.options.person_size,
        )  # fmt: skip

    def snapshot(self, name: str, timeout_s: float = 5.0) -> Snapshot:
        """The calibration picture, nobody recognisable in it; in memory only. Waits; for a signed-in manager.

        Raises:
            Unavailable: no such camera runs, or it shows nothing now.
        """
        return self._held(name)[1].ask_snapshot(timeout_s)

    def process_ids(self) -> list[int]:
        """Of the processes that run now."""
        with self._lock:
            cameras = [camera for _, camera in self._running.values()]
        return [process for camera in cameras if (process := camera.process_id) is not None]

    def _held(self, name: str) -> tuple[CameraPlan, Camera]:
        with self._lock:
            held = self._running.get(name)
        if held is None:
            known = ", ".join(self.names()) or "none"
            raise Unavailable("look at camera", name, "no such camera runs", f"these do: {known}")
        return held


def _looks(plan: CameraPlan) -> tuple[object, ...]:
    """What decides how large people appear."""
    return plan.vision.source, plan.vision.detector, plan.vision.calibration
