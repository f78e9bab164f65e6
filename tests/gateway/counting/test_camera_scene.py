"""Drawing lines: into the file as a person would write it, or not at all."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from config.loader import load
from config.settings import Settings
from gateway.counting.camera_plan import plan_cameras
from gateway.counting.camera_scene import SceneDrawings
from gateway.errors import Rejected

TEXT = """# our shop
[[cameras]]
name = "door"                  # above the entrance
source = "synthetic:top"

[cameras.options]
interval_s = 900               # the head office wants quarters
lines = [{ name = "old", start = [0.1, 0.5], end = [0.9, 0.5] }]
"""
LINE = {"name": "new", "start": [0.5, 0.0], "end": [0.5, 1.0]}


class Shop:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.toml"
        self.file.write_text(TEXT)
        self.reloads = 0
        gateway = SimpleNamespace(
            file=self.file,
            settings=load(self.file),
            check=self.check,
            ask_reload=lambda: setattr(self, "reloads", self.reloads + 1),
        )
        self.drawings = SceneDrawings(gateway)

    def check(self, settings: Settings) -> None:
        plan_cameras(settings, "file")


def test_a_drawing_replaces_what_it_names_and_leaves_the_rest_of_the_file(tmp_path: Path) -> None:
    """Comments stay, defaults are not written, the camera is told; the same again changes nothing."""
    shop = Shop(tmp_path)
    zone = {"name": "till", "corners": [[0, 0], [0.4, 0], [0.4, 0.4]], "kind": "queue", "anchor": ""}
    drawing = {
        "lines": [LINE | {"entrance": ""}],
        "zones": [zone],
        "masks": [[[0, 0], [0.1, 0], [0, 0.1]]],
        "person_size": [[0.9, 0.3]],
    }
    before = shop.drawings.read("door", plan_cameras(load(shop.file), "f")[0].options)
    done = shop.drawings.change("door", msgspec.json.encode(drawing).decode(), before.digest)
    text = shop.file.read_text()
    assert "# our shop" in text and "# the head office wants quarters" in text and "anchor" not in text
    (plan,) = plan_cameras(load(shop.file), "f")
    assert [line.name for line in plan.options.lines] == ["new"] and plan.vision.interval_s == 900
    assert plan.options.zones[0].kind == "queue" and plan.vision.calibration is not None
    assert shop.reloads == 1 and shop.drawings.read("door", plan.options).digest == done.digest != before.digest
    partly = shop.drawings.change("door", '{"masks": []}', done.digest)
    assert [line.name for line in plan_cameras(load(shop.file), "f")[0].options.lines] == ["new"]
    assert shop.drawings.change("door", '{"masks": []}').digest == partly.digest


@pytest.mark.parametrize(
    "drawing",
    [
        "", "[]", '{"line": []}', '{"lines": [{"name": "a"}]}', '{"lines": [], "zones": []}',
        '{"lines": [{"name": "a", "start": [0.5, 0.5], "end": [0.5, 0.5]}]}',
        '{"lines": [{"name": "a", "start": [0.5, 1.5], "end": [0.5, 0.5]}]}',
        '{"lines": [{"name": "a", "start": [NaN, 0], "end": [1, 1]}]}',
        '{"person_size": [[0.9, 0.1], [0.2, 0.5]]}', '{"masks": [[[0, 0]]]}',
    ],
)  # fmt: skip
def test_a_drawing_that_cannot_count_changes_nothing(tmp_path: Path, drawing: str) -> None:
    """The file is byte for byte what it was, and the reason is told."""
    shop = Shop(tmp_path)
    with pytest.raises(Rejected) as refused:
        shop.drawings.change("door", drawing)
    assert refused.value.reason and shop.file.read_text() == TEXT and shop.reloads == 0


def test_a_file_that_was_edited_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """The digest belongs to another content."""
    shop = Shop(tmp_path)
    with pytest.raises(Rejected, match="edited meanwhile"):
        shop.drawings.change("door", msgspec.json.encode({"lines": [LINE]}).decode(), "0" * 64)
    assert shop.file.read_text() == TEXT
