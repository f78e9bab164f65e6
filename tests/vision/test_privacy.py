"""Privacy by structure: no picture can be written or sent, and the one that can be asked for shows nobody."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path

import cv2
import msgspec
import numpy as np

from tests.vision.conftest import ROOT
from vision import model
from vision.detector_motion import MotionDetector
from vision.frame import Frame
from vision.model import Box, Scene
from vision.pipeline import Pipeline
from vision.snapshot import snapshot, unrecognisable

PACKAGES = ("gateway", "devices", "vision", "sync", "config")
WRITERS = ("imwrite", "VideoWriter", "np.save", "tofile(", "imwritemulti", "imwriteanimation")


def test_only_the_preview_can_write_pictures() -> None:
    """No line of the product writes a picture, but the preview that a user asks for on a file of their own."""
    found = [
        (path.relative_to(ROOT).as_posix(), word)
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for word in WRITERS
        if word in path.read_text(encoding="utf-8")
    ]
    assert {path for path, _ in found} <= {"vision/preview.py"}


def test_pictures_are_encoded_in_one_place() -> None:
    """Only the snapshot makes bytes of a picture."""
    using = [path.name for path in sorted((ROOT / "vision").glob("*.py")) if "imencode" in path.read_text()]
    assert using == ["snapshot.py"]


def test_the_gateway_s_own_process_loads_no_picture_library() -> None:
    """Everything about cameras outside their own process, the page's routes and the desk included, knows no pixel."""
    counting = ("camera_worker", "camera_desk", "drift_watch")
    modules = ", ".join((*(f"gateway.counting.{name}" for name in counting), "gateway.status.camera_routes"))
    script = f"import sys, {modules}; sys.exit(bool({{'cv2', 'numpy', 'vision.frame'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, timeout=60, check=False).returncode == 0


def test_a_picture_is_in_no_file_and_no_log() -> None:
    """Only the snapshot, what carries it and the route that answers with it speak of a picture's bytes."""
    speaking = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "jpeg" in path.read_text(encoding="utf-8").lower()
    }
    assert speaking == {"vision/camera_settings.py", "vision/snapshot.py", "gateway/status/camera_routes.py"}


def test_no_event_struct_can_hold_a_pixel() -> None:
    """Whatever leaves a camera's process is numbers and names: no bytes, no arrays, no open type anywhere inside."""
    allowed = {int, float, str, bool, type(None)}
    seen: set[object] = set()

    def check(kind: object) -> None:
        if kind in seen or kind in allowed:
            return
        seen.add(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for field in msgspec.structs.fields(kind):
                check(field.type)
            return
        arguments = typing.get_args(kind)
        assert arguments, f"{kind!r} could hold anything"
        if typing.get_origin(kind) is typing.Literal:
            return
        for argument in arguments:
            if argument is not Ellipsis:
                check(argument)

    for kind in (*typing.get_args(model.Measurement), model.Slice, model.Crossing, model.Visit):
        check(kind)


def test_frame_is_not_encodable() -> None:
    """A frame can not slip into a message."""
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 1, 0.0)
    try:
        msgspec.json.encode(frame)
    except (TypeError, NotImplementedError, ValueError):
        return
    raise AssertionError("a frame was encoded")


def test_snapshot_shows_nobody() -> None:
    """With a learned background the snapshot is the empty scene."""
    rng = np.random.default_rng(1)
    floor = rng.integers(90, 150, (120, 160, 3)).astype(np.uint8)
    frames = []
    for index in range(60):
        image = floor.copy()
        cv2.rectangle(image, (2 * index, 40), (2 * index + 18, 90), (0, 0, 255), -1)
        frames.append(Frame(image, index + 1, index / 10))
    detector = MotionDetector(warm_up_s=4.0)
    detector.warm_up(frames)
    pipeline = Pipeline(detector, Scene())
    for frame in frames:
        pipeline.process(frame)
    picture = snapshot(pipeline)
    assert picture is not None
    seen = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    red = (seen[..., 2].astype(int) - seen[..., 1] > 90).sum()
    assert red == 0


def test_persons_are_made_unrecognisable() -> None:
    """Inside a person's box no detail finer than a few blocks is left."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
    picture = unrecognisable(image, [Box(100, 60, 60, 120)])
    inside = picture[60:180, 100:160]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) <= 32
    assert not Path("snapshot.jpg").exists()
