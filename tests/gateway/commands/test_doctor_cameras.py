"""The doctor looks through each camera once and names what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import parse
from gateway.clock import FakeClock
from gateway.commands.checks import cameras
from gateway.commands.checks.finding import Finding
from gateway.commands.checks.scene import Holder, Record, Scene

LINES = 'lines = [{ name = "a", start = [0.5, 0.0], end = [0.5, 1.0] }]'


def looked(folder: Path, source: str, options: str = LINES, more: str = "", running: bool = False) -> list[Finding]:
    text = f'[[cameras]]\nname = "door"\nsource = "{source}"\n{more}\noptions = {{ {options} }}\n'
    return cameras.look(
        Scene(
            config=None, settings=parse(text, "shop.toml"), plans=(), directory=folder, journal=folder / "journal.db",
            now=FakeClock().now(), holder=Holder(1) if running else None, record=Record(conditions={"door": "live"}),
        )
    )  # fmt: skip


def test_a_camera_in_order_is_told_with_its_picture(tmp_path: Path) -> None:
    """Its size, and how many lines lie in it; without a camera nothing is said and nothing loaded."""
    (found,) = looked(tmp_path, "synthetic:top")
    assert (found.severity, found.says) == ("ok", "door: a picture of 384×288, 1 lines in it")
    assert looked(tmp_path, "synthetic:top", more="enabled = false") == []


@pytest.mark.parametrize(
    ("source", "options", "says"),
    [
        ("/nowhere/door.mp4", LINES, "no such file"),
        ("usb:63", LINES, "no picture from 63"),
        ("rtsp://127.0.0.1:9/door", LINES, "no picture from rtsp://127.0.0.1:9/door"),
        ("synthetic:sideways", LINES, "no such scene"),
        ("synthetic:top", "heat_rows = 0", "nothing to count"),
        ("synthetic:top", f'detector = "person", model = "/nowhere.onnx", {LINES}', "/nowhere.onnx"),
    ],
)
def test_what_is_wrong_is_named_with_what_to_do(tmp_path: Path, source: str, options: str, says: str) -> None:
    """A missing file, an absent device, a closed port, a wrong scene, an empty plan, a missing model."""
    found = looked(tmp_path, source, options)[0]
    assert found.severity == "problem" and says in found.says and found.do


def test_a_usb_camera_of_the_running_gateway_is_left_alone(tmp_path: Path) -> None:
    """Two programs cannot have it."""
    (found,) = looked(tmp_path, "usb:0", running=True)
    assert (found.severity, found.says) == ("note", "door: the running gateway has it (live).")
