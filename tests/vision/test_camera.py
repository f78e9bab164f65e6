"""A camera's process killed, hung, leaking, stalled and misconfigured: each costs coverage and nothing else."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.errors import ConfigError, Unavailable
from tests.vision.sight import watched
from vision.camera import Camera
from vision.camera_settings import CameraSettings, Secret
from vision.model import Crossing, FootfallInterval, Line, Measurement, Scene, Slice
from vision.synthetic_camera import Doorway, SyntheticCapture
from vision.video import VideoFile, address, hide_credentials, open_capture

DOORWAY = Doorway("top", 3)
SCENE = Scene((Line("door", *DOORWAY.line, "centre"),))
STOP = threading.Event()


def settings(**changes: object) -> CameraSettings:
    usual: dict[str, object] = {"name": "cam", "source": "synthetic:top:3", "scene": SCENE, "interval_s": 5.0}
    return CameraSettings(**{**usual, "warm_up_s": 2.0, **changes})  # type: ignore[arg-type]


class Run:
    """One camera under test; steps it until something holds."""

    def __init__(self, chosen: CameraSettings, secret: Secret | None = None) -> None:
        self.reports: list[Measurement] = []
        self.seen: list[Slice] = []
        self.camera = Camera(chosen, self.reports.append, secret, on_slice=self.seen.append)
        self.camera.open()

    @property
    def crossings(self) -> list[Crossing]:
        return [crossing for part in self.seen for crossing in part.crossings]

    def until(self, holds: Callable[[], object], limit_s: float = 90.0) -> None:
        deadline_s = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline_s, f"did not happen in {limit_s} s; {self.camera.state()}"
            self.camera.step(STOP)

    def live(self) -> None:
        self.until(lambda: self.camera.state().state == "live" and self.camera.state().last_frame_age_s is not None)


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Run]]:
    made: list[Run] = []

    def make(**changes: object) -> Run:
        made.append(Run(settings(**changes)))
        return made[-1]

    yield make
    for each in made:
        each.camera.close()


@pytest.mark.slow
def test_killed_process_is_replaced(run: Callable[..., Run]) -> None:
    """SIGKILL: a new process, the same camera, reports go on with the coverage they have; crossings match the truth."""
    one = run()
    assert one.camera.state().state == "never_seen"
    one.live()
    begun_s = time.monotonic()
    first = one.camera.process_id
    assert first is not None
    os.kill(first, signal.SIGKILL)
    killed_s = time.monotonic()
    one.until(lambda: one.camera.process_id not in (None, first))
    one.live()
    back_s = time.monotonic()
    one.until(lambda: len([r for r in one.reports if isinstance(r, FootfallInterval)]) >= 3)
    assert one.camera.state().restarts == 1
    coverage = [report.quality.coverage for report in one.reports]
    assert all(0 < value <= 1 for value in coverage)
    ended_s = time.monotonic() - 3.0
    true = [t for t, _ in DOORWAY.crossings(begun_s, ended_s) if not killed_s - 5 < t < back_s + 4]
    found = [crossing.time_s for crossing in one.crossings]
    assert all(any(abs(t - f) < 0.6 for f in found) for t in true if watched(one.seen, t))


@pytest.mark.slow
def test_hung_process_is_replaced(run: Callable[..., Run]) -> None:
    """SIGSTOP: a process that says nothing is killed and followed by another."""
    one = run(hang_s=3.0)
    one.live()
    first = one.camera.process_id
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    one.until(lambda: one.camera.process_id not in (None, first))
    one.live()
    assert one.camera.state().restarts == 1


@pytest.mark.slow
def test_leaking_process_is_replaced(run: Callable[..., Run]) -> None:
    """A process above its memory limit is ended, with the reason; the budget then slows the tries down."""
    one = run(memory_limit_bytes=1024 * 1024)
    one.until(lambda: "grew to" in one.camera.state().reason)
    first = one.camera.process_id
    one.until(lambda: one.camera.process_id not in (None, first) or one.camera.state().restarts)


@pytest.mark.slow
def test_snapshot_on_request(run: Callable[..., Run]) -> None:
    """A picture comes through memory when asked for; a camera that shows nothing says so."""
    one = run()
    with pytest.raises(Unavailable):
        one.camera.ask_snapshot(timeout_s=0.1)
    one.live()
    pictures: list[bytes] = []
    asking = threading.Thread(target=lambda: pictures.append(one.camera.ask_snapshot(60.0).jpeg))
    asking.start()
    one.until(lambda: not asking.is_alive())
    assert pictures[0][:2] == b"\xff\xd8"


@pytest.mark.slow
def test_wrong_settings_fail_slowly_and_say_why(run: Callable[..., Run], tmp_path: Path) -> None:
    """A file that is no video can never work: faulted, with the reason, and no report."""
    path = tmp_path / "text.mp4"
    path.write_text("nothing")
    one = run(source=str(path))
    one.until(lambda: one.camera.state().state == "faulted")
    assert "text.mp4" in one.camera.state().reason
    assert one.reports == []


@pytest.mark.slow
def test_silent_rtsp_server_is_a_gap(run: Callable[..., Run]) -> None:
    """A server that accepts and sends nothing yields no count and no crash, and its address keeps its secret."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        one = Run(settings(source=f"rtsp://127.0.0.1:{port}/door"), Secret("user", "se:cret"))
        try:
            one.until(lambda: one.camera.state().reason != "")
            state = one.camera.state()
            assert state.state in ("never_seen", "stale")
            assert "se:cret" not in state.reason
            assert one.reports == []
        finally:
            one.camera.close()


def test_crash_loop_spends_the_budget() -> None:
    """Five quick restarts, then slow ones and a fault: with a fake clock and processes that die at once."""
    now = [0.0]
    camera = Camera(settings(), lambda _: None, clock=lambda: now[0])
    starts: list[float] = []

    class Dead:
        pid, exitcode = 1, -11

        def is_alive(self) -> bool:
            return False

        def join(self, timeout: float) -> None: ...

        def close(self) -> None: ...

    def start(now_s: float) -> None:
        starts.append(now_s)
        camera._process = Dead()  # type: ignore[assignment]

    camera._start = start  # type: ignore[method-assign]
    waiting = threading.Event()
    waiting.set()  # no real waiting
    while now[0] < 400:
        camera.step(waiting)
        now[0] += 0.1
    assert camera.state().state == "faulted"
    assert len([s for s in starts if s < 60]) <= 7
    assert 4 <= len([s for s in starts if s >= 60]) <= 8
    assert "status -11" in camera.state().reason


def test_credentials_stay_out_of_text() -> None:
    """They are put into the address at the last moment, quoted, and never shown."""
    full = address("rtsp://10.0.0.9:554/ch1?x=1", Secret("us er", "p@ss/word"))
    assert full == "rtsp://us%20er:p%40ss%2Fword@10.0.0.9:554/ch1?x=1"
    assert hide_credentials(str(full)) == "rtsp://10.0.0.9:554/ch1"
    assert address("0", Secret()) == 0
    with pytest.raises(ConfigError):
        SyntheticCapture.named("sideways")


def test_absent_device_is_unavailable() -> None:
    """A USB camera that is not plugged in is waited for, not a configuration error."""
    with pytest.raises(Unavailable):
        open_capture(63)


def test_video_file_closes_twice(tmp_path: Path) -> None:
    """Missing files are refused before anything is opened."""
    with pytest.raises(ConfigError):
        VideoFile(str(tmp_path / "no.mp4"))
