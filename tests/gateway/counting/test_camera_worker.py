"""Cameras in the gateway: settings become a plan, measurements become events, a dead camera costs its own coverage."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import msgspec
import pytest

from config.loader import parse
from gateway.clock import FakeClock, Instant, SystemClock
from gateway.counting import camera_worker as module
from gateway.counting.camera_events import event_data
from gateway.counting.camera_plan import plan_cameras, secret_of
from gateway.counting.camera_worker import CameraWorker
from gateway.errors import ConfigError
from gateway.event import Draft, Origin
from gateway.event_types import type_of
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.journal.writer import JournalWriter
from vision.model import (
    DwellStatistics,
    FootfallInterval,
    HeatMapInterval,
    Measurement,
    Quality,
    QueueInterval,
    ZoneInterval,
)

ORIGIN = Origin("t1", "0042", "gw01")
QUALITY = Quality(frames=600, fps=10.0, coverage=0.98, detector="motion")
LINE = '{ name = "door", start = [0.0, 0.5], end = [1.0, 0.5] }'


def camera(options: str, source: str = "synthetic:top", more: str = "") -> str:
    return f'[[cameras]]\nname = "door"\nsource = "{source}"\n{more}\noptions = {options}\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (camera("{}"), "cameras[0].options: there is nothing to count"),
        (
            camera('{ lines = [{ name = "a", start = [0.5, 0.5], end = [0.5, 0.5] }] }'),
            "lines[0]: the line has no length",
        ),
        (camera('{ lines = [{ name = "a", start = [0.5, 0.5], end = [1.5, 0.5] }] }'), "expected float <= 1"),
        (camera(f'{{ detector = "person", lines = [{LINE}] }}'), "cameras[0].options.model: missing"),
        (camera(f"{{ lines = [{LINE}], zone = 1 }}"), "cameras[0].options.zone: unknown key"),
        (camera(f"{{ lines = [{LINE}, {LINE}] }}"), "two lines or zones have the same name"),
        (
            camera(f"{{ lines = [{LINE}], person_size = [[0.9, 0.1], [0.2, 0.5]] }}"),
            "person_size: the person further up",
        ),
        (camera(f'{{ lines = [{LINE}], staff_badges = [{{ line = "no", ids = ["E280"] }}] }}'), "there is no line"),
        (camera(f"{{ lines = [{LINE}] }}", "rtsp://me:secret@cam/1"), "cameras[0].source: the password stands"),
        (camera(f"{{ lines = [{LINE}] }}", more='password = "hunter2"'), "cameras[0].password: a secret stands"),
    ],
)
def test_a_mistake_in_a_camera_is_named(text: str, place: str) -> None:
    """The installer reads which key of which camera is wrong."""
    with pytest.raises(ConfigError) as caught:
        plan_cameras(parse(text, "shop.toml"), "shop.toml")
    assert place in caught.value.reason and "secret@" not in str(caught.value)


def test_the_password_goes_beside_the_address() -> None:
    """What is opened holds no credentials; the user name goes with the referenced password."""
    (plan,) = plan_cameras(parse(camera(f"{{ lines = [{LINE}] }}", "rtsp://me%40x@cam:554/1"), "t"), "t")
    assert plan.vision.source == "rtsp://cam:554/1"
    assert secret_of(plan.settings).user == "me@x"


@pytest.mark.parametrize(
    "measured",
    [
        FootfallInterval("door", "main", 100.0, 60.0, 3, 2, QUALITY, 1),
        ZoneInterval("z", 100.0, 60.0, 1.5, 3, 4, DwellStatistics(2, 10.0, 9.0, 11.0), QUALITY),
        ZoneInterval("z", 100.0, 60.0, 0.0, 0, 0, DwellStatistics(0, None, None, None), QUALITY),
        QueueInterval("q", 100.0, 60.0, 1.5, 3, 4.0, None, QUALITY),
        HeatMapInterval("door", 100.0, 60.0, 1, 2, (0.5, 1.25), QUALITY),
    ],
)
def test_every_measurement_is_an_event_with_its_wall_time(measured: Measurement) -> None:
    """Monotonic interval times become wall time, and the data fit the vocabulary's schema."""
    clock = FakeClock()
    clock.mono_us = 160_000_000
    data = event_data(measured, clock.now())
    plain = msgspec.json.decode(msgspec.json.encode(data))
    assert plain["interval_start"] == time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(clock.wall_s - 60.0))
    assert msgspec.convert(plain, type(data)) == data
    assert type_of(data).stream == "measurements"


def test_a_running_camera_counts_and_a_missing_one_is_a_gap_with_a_reason() -> None:
    """The synthetic doorway yields counts with coverage; a file that is not there yields no count at all."""
    clock, inlet, board = SystemClock(), Inlet(), DeviceBoard()
    text = camera(f"{{ interval_s = 2, lines = [{LINE}] }}") + camera(
        f"{{ interval_s = 2, lines = [{LINE}] }}", "/nowhere.mp4"
    ).replace('"door"', '"gone"', 1)
    workers = [CameraWorker(plan, ORIGIN, inlet, board, clock) for plan in plan_cameras(parse(text, "t"), "t")]
    stop = threading.Event()
    counted = []
    deadline_s = time.monotonic() + 120
    conditions: dict[str, str] = {}
    while time.monotonic() < deadline_s and not (counted and conditions.get("gone") == "faulted"):
        for worker in workers:
            worker.step(stop)
        counted += [draft for item in inlet.take(100, 0.0, 0.0) for draft in item.drafts]
        conditions = {report.name: report.condition for report in board.reports(clock.now())}
    for worker in workers:
        worker.close()
    events = [msgspec.json.decode(draft.body) for draft in counted]
    assert events and all(event["source"].endswith("/camera/door") for event in events)
    assert all(0 < event["data"]["quality"]["coverage"] <= 1 for event in events)
    assert conditions == {"door": "live", "gone": "faulted"}
    (gone,) = (report for report in board.reports(clock.now()) if report.name == "gone")
    assert gone.reason and gone.hint


def test_measurements_wait_within_bounds_while_the_inlet_is_full_and_the_rest_is_counted() -> None:
    """A camera goes on while the disk is full; its memory does not grow, and no count is lost in silence."""
    clock, inlet = FakeClock(), Inlet(capacity=1)
    (plan,) = plan_cameras(parse(camera(f"{{ lines = [{LINE}] }}"), "t"), "t")
    worker = CameraWorker(plan, ORIGIN, inlet, DeviceBoard(), clock)
    inlet.offer("door", Item([Draft("measurements", "x", b"{}")]))
    for _ in range(module._KEPT + 5):
        worker._measured(FootfallInterval("door", "main", 0.0, 60.0, 3, 2, QUALITY, 1))
    worker._hand_on()
    assert (len(worker._drafts), inlet.counters()["door"].dropped) == (module._KEPT, 5)
    worker.close()
    assert (worker._drafts, inlet.counters()["door"].dropped) == ([], 5)
    assert sum(len(item.drafts) for item in inlet.take(10_000, 0.0, 0.0)) == 1 + module._KEPT


class Afternoon:
    """A clock whose wall time is ten minutes past a full hour when the test begins."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def now(self) -> Instant:
        mono_s = time.monotonic()
        return Instant(1_795_312_800.0 + 600.0 + mono_s - self._began_s, round(mono_s * 1e6))


def test_a_gateway_stopped_within_an_interval_tells_what_it_counted_and_the_next_run_adds_to_it(tmp_path: Path) -> None:
    """Both runs' reports begin at the full hour; the second supersedes the first and covers more."""
    text = camera(f"{{ interval_s = 3600, warm_up_s = 1, lines = [{LINE}] }}")
    (plan,) = plan_cameras(parse(text, "t"), "t")
    assert plan.vision.warm_up_s == 1.0
    clock, journal, told = Afternoon(), tmp_path / "journal.db", []
    writer = JournalWriter(journal, "gw01", clock)
    writer.open()
    for _ in range(2):
        inlet, seen = Inlet(), []
        worker = CameraWorker(plan, ORIGIN, inlet, DeviceBoard(), clock, journal, watch=seen.append)
        worker.open()
        deadline_s = time.monotonic() + 120
        while len(seen) < 3 and time.monotonic() < deadline_s:
            worker.step(threading.Event())
        worker.close()
        drafts = [draft for item in inlet.take(100, 0.0, 0.0) for draft in item.drafts]
        writer.append(drafts)
        told += [msgspec.json.decode(draft.body)["data"] for draft in drafts]
    writer.close()
    assert [each.get("revision", 0) for each in told] == [0, 1]
    assert {each["interval_start"] for each in told} == {"2026-11-22T02:00:00.000Z"}
    first, second = (each["quality"]["coverage"] for each in told)
    assert 0 < first < second < 0.1
