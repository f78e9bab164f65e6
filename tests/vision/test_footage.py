"""Real footage against its truth, through the same function as the command. Skipped where the footage is absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import footage
from vision.count import CountOptions, count
from vision.truth import as_direction, match

pytestmark = pytest.mark.footage

ALL = (("all", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))),)
LINE_A = ((560.0, 150.0), (560.0, 460.0))
LINE_EXIT = ((610.0, 0.0), (610.0, 432.0))


def truth(data: Path, clip: str) -> Any:
    return json.loads((data / "video" / f"{clip}.groundtruth.json").read_text())


@pytest.mark.parametrize("anchor", [None, "foot"])
@pytest.mark.parametrize("detector", ["motion", "yolox_nano.onnx"])
def test_vtest_line(data: Path, detector: str, anchor: Any) -> None:
    """Both detectors: within ±1 per direction of 18 / 15, and at least nine in ten true crossings within ±10 frames."""
    name, model = ("motion", None) if detector == "motion" else ("person", data / "models" / detector)
    options = CountOptions(lines=(LINE_A,), detector=name, model=model, anchor=anchor)  # type: ignore[arg-type]
    result, crossings, _ = count(data / "video" / "vtest.avi", options)
    true = [(c["frame"], as_direction(c["dir"], LINE_A)) for c in truth(data, "vtest")["lines"][0]["crossings"]]
    assert abs(result.in_ - 18) <= 1
    assert abs(result.out - 15) <= 1
    assert len(match(true, [(c.frame, c.direction) for c in crossings], 10)) >= 0.9 * len(true)
    assert (result.frames, result.coverage) == (795, 1.0)


def test_one_by_one_person(data: Path) -> None:
    """The person detector: six out, nobody in, and each of the six stays right within a second and a half."""
    options = CountOptions(
        lines=(LINE_EXIT,), zones=ALL, detector="person", model=data / "models" / "yolox_nano.onnx", anchor="centre"
    )
    result, _, _ = count(data / "video" / "one-by-one-person-detection.mp4", options)
    assert (result.in_, result.out) == (0, 6)
    dwells = [visit["dwell_s_at_10fps"] for visit in truth(data, "one-by-one-person-detection")["visits"]]
    assert result.zones["all"].dwells_s == pytest.approx(dwells, abs=1.5)
    assert result.zones["all"].peak == 1


def test_one_by_one_motion(data: Path) -> None:
    """The motion detector finds at least five of six who stand for up to half a minute, and invents nobody."""
    options = CountOptions(lines=(LINE_EXIT,), zones=ALL, detector="motion")
    result, _, _ = count(data / "video" / "one-by-one-person-detection.mp4", options)
    assert 5 <= result.out <= 6
    assert result.in_ == 0


@pytest.mark.parametrize("model", ["yolox_nano.onnx", "FastestDet.onnx"])
def test_store_aisle_occupancy(data: Path, model: str) -> None:
    """Two people, then a third, one of them hidden at the end."""
    options = CountOptions(zones=ALL, detector="person", model=data / "models" / model)
    result, _, _ = count(data / "video" / "intel_preview_store-aisle-detection.gif", options)
    assert result.zones["all"].peak == 3
    assert len(result.zones["all"].dwells_s) == 3


@pytest.mark.parametrize(
    ("clip", "variation", "line"),
    [
        ("one-by-one", "reversed", "exit"),  # somebody huge stands there from the start, and is in fragments
    ],
)
def test_motion_on_varied_footage(data: Path, tmp_path: Path, clip: str, variation: str, line: str) -> None:
    """What once broke the motion detector: each direction is right within 10 % or one."""
    chosen = next(one for one in footage.clips(data) if one.name == clip)
    varied = next(one for one in footage.VARIATIONS if one.name == variation)
    results = footage.sweep(chosen, varied, ["motion"], footage.read(chosen.path), tmp_path)
    found = next(result for result in results if result.line == line)
    assert found.right, found
