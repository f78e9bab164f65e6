"""A camera over the network: it counts, it asks for its password, and a server that dies costs coverage alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from gateway.errors import ConfigError, Unavailable
from tests.vision.rtsp_server import RtspServer
from tests.vision.sight import watched
from vision.camera import Camera
from vision.camera_settings import CameraSettings, Secret
from vision.frame import Image
from vision.model import Crossing, FootfallInterval, Line, Measurement, Scene, Slice
from vision.probe import probe
from vision.synthetic_camera import Doorway, SyntheticCapture

DOORWAY = Doorway("top", 5, 30.0)
SCENE = Scene((Line("door", *DOORWAY.line, "centre"),))


def picture() -> Callable[[], Image]:
    """The doorway as it looks when it is asked for."""
    capture = SyntheticCapture(DOORWAY, sleep=lambda seconds: None)

    def now() -> Image:
        capture._time_s = time.monotonic()
        return capture.retrieve()[1]

    return now


class Watched:
    """A camera on the server, and what it told."""

    def __init__(self, port: int, secret: Secret) -> None:
        self.reports: list[Measurement] = []
        self.crossings: list[Crossing] = []
        self.seen: list[Slice] = []
        settings = CameraSettings(
            name="net", source=f"rtsp://127.0.0.1:{port}/door", scene=SCENE, interval_s=5.0, warm_up_s=3.0, stall_s=3.0
        )
        self.camera = Camera(settings, self.reports.append, secret, self._saw)
        self.camera.open()

    def until(self, holds: Callable[[], object], limit_s: float = 100.0) -> None:
        deadline_s = time.monotonic() + limit_s
        while not holds():
            assert time.monotonic() < deadline_s, self.camera.state()
            self.camera.step(threading.Event())

    def _saw(self, part: Slice) -> None:
        self.seen.append(part)
        self.crossings += part.crossings


@pytest.mark.slow
def test_a_network_camera_with_a_password_counts_and_its_server_s_death_costs_coverage_alone() -> None:
    """Who was seen is counted, before and after the connection broke; the time in between is dark, never a zero."""
    with RtspServer(picture(), login="shop:s p@ce", frames_a_connection=90, dead_s=3.0) as server:
        one = Watched(server.port, Secret("shop", "s p@ce"))
        try:
            one.until(lambda: server.connections >= 2 and one.seen and one.seen[-1].end_s > server.ended_s[0] + 7.0)
            died_s = server.ended_s[0]
            one.until(lambda: any(r.interval_start_s > died_s for r in one.reports))
        finally:
            one.camera.close()
    assert server.refused >= 1  # it was asked for the password, and gave it
    first_s, last_s = one.seen[0].start_s, one.seen[-1].end_s
    dark = [(a.end_s, b.start_s) for a, b in zip(one.seen, one.seen[1:], strict=False) if b.start_s - a.end_s > 1.5]
    assert dark and any(low <= died_s + 1.0 and high >= died_s + 2.0 for low, high in dark)
    true = [t for t, _ in DOORWAY.crossings(first_s + 4.0, last_s - 4.0)]
    lit = [t for t in true if not any(low - 4.0 < t < high + 4.0 for low, high in dark)]
    found = [crossing.time_s for crossing in one.crossings]
    assert all(any(abs(t - f) < 1.0 for f in found) for t in lit if watched(one.seen, t))
    counts = [report for report in one.reports if isinstance(report, FootfallInterval)]
    assert counts and min(report.quality.coverage for report in counts) < 0.95
    assert all(report.quality.coverage > 0 for report in counts)


def test_a_wrong_password_is_a_gap_with_a_reason_that_keeps_the_secret() -> None:
    """The probe says so within its time; what it says holds neither user nor password."""
    with RtspServer(picture(), login="shop:right") as server:
        source = f"rtsp://127.0.0.1:{server.port}/door"
        with pytest.raises(Unavailable) as wrong:
            probe(source, Secret("shop", "wr0ng"), SCENE)
        assert "wr0ng" not in str(wrong.value) and "shop:" not in str(wrong.value)
        seen = probe(source, Secret("shop", "right"), SCENE)
        assert (seen.width_px, seen.height_px) == (384, 288)


def test_a_line_beside_the_picture_is_found_before_anybody_is_counted() -> None:
    """The probe places lines and zones on a real picture."""
    with pytest.raises(ConfigError, match="outside the frame"):
        probe("synthetic:top", Secret(), Scene((Line("a", (1.2, 0.0), (1.2, 1.0)),)))
    assert probe("synthetic:oblique", Secret(), SCENE).width_px == 384
