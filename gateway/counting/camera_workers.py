"""The workers of the cameras, and what all cameras share: the desk of the page and the watch over accepted lines.

Composition: at a start and at a reload, what there should be is compared with what runs. What counting takes is loaded
with the first camera only. Knows no picture.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from config.settings import Settings
from gateway.clock import Clock
from gateway.event import Origin
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.projections.store_time import StoreTime
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.worker import Worker
from gateway.workers.stages import SOURCES, WITNESSES

if TYPE_CHECKING:
    from gateway.counting.camera_desk import CameraDesk
    from gateway.counting.camera_plan import CameraPlan

_PATIENCE_S = 60.0


class Gateway(Protocol):
    """What the cameras need of `gateway.app.Gateway`."""

    settings: Settings
    file: Path | None
    directory: Path
    journal_path: Path
    origin: Origin
    clock: Clock
    inlet: Inlet
    commits: CommitLoop
    board: DeviceBoard
    supervisor: Supervisor

    def check(self, settings: Settings) -> None:
        """See `gateway.app.Gateway`."""
        ...

    def ask_reload(self) -> None:
        """See `gateway.app.Gateway`."""
        ...


class CameraWorkers:
    """Used on the main thread, but for what the workers themselves ask."""

    def __init__(self, gateway: Gateway, plans: list[CameraPlan]) -> None:
        """`plans`: the cameras of the start."""
        self.desk: CameraDesk | None = None  # made with the first camera
        self._gateway = gateway
        self._plans = plans

    def start(self) -> None:
        """Bring the worker of every camera."""
        for camera in self._plans:
            self._add(camera)

    def apply(self, plans: list[CameraPlan]) -> list[str]:
        """Cameras come, go and change at once; one that is as it was goes on counting.

        Returns:
            One line for each thing applied.
        """
        supervisor = self._gateway.supervisor
        old, new = ({camera.name: camera for camera in group} for group in (self._plans, plans))
        said = []
        for name in sorted(old.keys() - new.keys()):
            supervisor.remove(f"camera-{name}")
            self._gateway.board.forget(name)
            said.append(f"applied: camera {name} removed")
        for name, camera in new.items():
            if name not in old:
                self._add(camera)
                said.append(f"applied: camera {name} added")
            elif camera != old[name]:
                supervisor.replace(f"camera-{name}", partial(self._worker, camera))
                said.append(f"applied: camera {name} changed")
        self._plans = plans
        return said

    def process_ids(self) -> list[int]:
        """Ids of the cameras' processes that run now."""
        return [] if self.desk is None else self.desk.cameras.process_ids()

    def _add(self, camera: CameraPlan) -> None:
        self._shared()
        self._gateway.supervisor.add(
            f"camera-{camera.name}", partial(self._worker, camera), patience_s=_PATIENCE_S, stage=SOURCES
        )

    def _shared(self) -> CameraDesk:
        if self.desk is None:
            from gateway.counting.acceptance import AcceptanceTests
            from gateway.counting.camera_desk import CameraDesk
            from gateway.counting.camera_scene import SceneDrawings
            from gateway.counting.cameras import Cameras
            from gateway.counting.drift_watch import DriftWatch

            it = self._gateway
            tests = AcceptanceTests(it.directory / "acceptance", it.clock)
            self.desk = CameraDesk(Cameras(), tests, SceneDrawings(it), it.inlet, it.origin, it.clock)
            watch = partial(DriftWatch, it, tests, StoreTime(it.settings.gateway.time_zone))
            it.supervisor.add("drift-watch", watch, patience_s=_PATIENCE_S, stage=WITNESSES)
        return self.desk

    def _worker(self, camera: CameraPlan) -> Worker:
        from gateway.counting.camera_worker import CameraWorker

        it, desk = self._gateway, self._shared()
        return CameraWorker(
            camera, it.origin, it.inlet, it.board, it.clock, it.journal_path, desk.cameras,
            partial(desk.tests.saw, camera.name),
        )  # fmt: skip


def planned(settings: Settings, file: Path | None) -> list[CameraPlan]:
    """The cameras' plans; [] without one.

    Raises:
        ConfigError: a camera's options are wrong.
    """
    if not any(camera.enabled for camera in settings.cameras):
        return []
    from gateway.counting.camera_plan import plan_cameras

    return plan_cameras(settings, str(file or "configuration"))
