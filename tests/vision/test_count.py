"""`storefront count`: its JSON, its options, and bad input of every kind, on videos that the test draws itself."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from gateway.__main__ import EXIT_CODES
from gateway.errors import ConfigError
from vision.count import main, parse_line, parse_numbers, parse_zone
from vision.model import Crossing
from vision.synthetic_suite import suite
from vision.truth import TrueCrossing, as_direction, match, score

LINE = ((0.5, 0.0), (0.5, 1.0))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of drawn people, as a video file."""
    path = tmp_path_factory.mktemp("clip") / "people.mp4"
    scene = next(scene for scene in suite() if scene.name == "top: both ways 0.09")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (scene.width_px, scene.height_px))
    for frame in scene.frames():
        if frame.time_s > 20:
            break
        writer.write(frame.image)
    writer.release()
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The exit status, and what was printed, as the console command gives them."""
    error_text = ""
    try:
        status = main([str(argument) for argument in arguments])
    except ConfigError as error:
        status, error_text = EXIT_CODES[type(error)], str(error)
    out, err = capsys.readouterr()
    return status, out, err + error_text


def test_json_has_exactly_the_promised_shape(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One object: in, out, frames, coverage, crossings, zones."""
    status, out, _ = run(
        capsys, clip, "--line", "0.5,0,0.5,1", "--line", "0,0.5,1,0.5", "--zone", "a=0,0,1,1", "--json"
    )
    assert status == 0
    result = json.loads(out)
    assert list(result) == ["in", "out", "frames", "coverage", "crossings", "zones"]
    assert result["frames"] == 201
    assert result["coverage"] == 1.0
    assert result["in"] + result["out"] == len(result["crossings"]) > 0
    assert set(result["zones"]["a"]) == {"peak", "dwells_s"}


def test_one_line_needs_no_line_name(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one line a crossing is frame, direction and track and nothing else; pixels and shares say the same."""
    _, relative, _ = run(capsys, clip, "--line", "0.02,0.5,0.98,0.5", "--json")
    _, pixels, _ = run(capsys, clip, "--line", "7.68,144,376.32,144", "--json")
    first, second = json.loads(relative), json.loads(pixels)
    assert first == second
    assert all(set(crossing) == {"frame", "direction", "track"} for crossing in first["crossings"])


def test_text_preview_and_truth(clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The text shows intervals and crossings; the preview is a video; the truth is scored."""
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"crossings": [{"frame": 50, "dir": "in"}]}))
    preview = tmp_path / "preview.mp4"
    status, out, _ = run(
        capsys, clip, "--line", "0.02,0.5,0.98,0.5", "--interval", "10", "--preview", preview, "--truth", truth
    )
    assert status == 0
    assert "in " in out
    assert "precision" in out
    assert "frame" in out
    seen = cv2.VideoCapture(str(preview))
    assert seen.read()[0]
    seen.release()


def test_every_and_anchor(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Skipping frames keeps frame numbers and counts of the whole file."""
    _, out, _ = run(capsys, clip, "--line", "0.02,0.5,0.98,0.5", "--every", "2", "--anchor", "foot", "--json")
    assert json.loads(out)["frames"] == 201


def spoiled(folder: Path, kind: str, clip: Path) -> Path:
    path = folder / f"{kind}.mp4"
    data = clip.read_bytes()
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(1).bytes(50_000))
    elif kind == "head":
        path.write_bytes(data[:300])
    elif kind == "text":
        path.write_text("not a video\n" * 1000)
    elif kind == "audio":  # RIFF/WAVE: 8 kHz, mono, one second
        path.write_bytes(
            b"RIFF" + (36 + 16000).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
            + b"\x01\x00\x01\x00" + (8000).to_bytes(4, "little") + (16000).to_bytes(4, "little") + b"\x02\x00\x10\x00"
            + b"data" + (16000).to_bytes(4, "little") + b"\x00" * 16000
        )  # fmt: skip
    return path


@pytest.mark.parametrize("kind", ["missing", "empty", "noise", "head", "text", "audio"])
def test_unreadable_files_are_errors_not_zeros(
    kind: str, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No frame, no number: a clear sentence and status 78."""
    status, out, err = run(capsys, spoiled(tmp_path, kind, clip), "--line", "0.5,0,0.5,1", "--json")
    assert status == 78
    assert out == ""
    assert kind in err


def test_truncated_file_counts_its_gap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file cut off in the middle counts what is there and says how much that is."""
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    rng = np.random.default_rng(1)
    for _ in range(100):
        writer.write(rng.integers(0, 255, (120, 160, 3)).astype(np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    status, out, err = run(capsys, path, "--line", "0.5,0,0.5,1", "--json")
    assert status in (0, 78), err
    if status == 0:
        result = json.loads(out)
        assert 0 < result["frames"] < 100
        assert result["in"] == result["out"] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--line", "0.5,0.5,0.5,0.5"],
        ["--line", "900,0,900,200"],
        ["--line", "1,2,3"],
        ["--line", "a,b,c,d"],
        ["--line", "nan,0,1,1"],
        ["--zone", "z=0.1,0.1,0.1,0.1"],
        ["--line", "0,0,1,1", "--person", "0.5"],
        ["--line", "0,0,1,1", "--person", "0.9,0.001"],
        ["--line", "0,0,1,1", "--person", "0.9,0.1", "--person", "0.3,0.5"],
        ["--line", "0,0,1,1", "--person", "0.9,0.3", "--person", "0.5,0.2", "--person", "0.3,0.1"],
        ["--line", "0,0,1,1", "--detector", "person"],
        ["--line", "0,0,1,1", "--model", "missing.onnx"],
        ["--line", "0,0,1,1", "--truth", "missing.json"],
        ["--line", "0,0,1,1", "--preview", "/nowhere/at/all.mp4"],
    ],
    ids=" ".join,
)
def test_impossible_options_are_errors(arguments: list[str], clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot count anything is refused with a reason."""
    status, out, err = run(capsys, clip, *arguments)
    assert status == 78
    assert out == ""
    assert err.strip()


def test_two_clicked_persons_calibrate(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In pixels and in shares alike; a right size counts as well as a learned one, an absurd one counts differently."""
    line = ("--line", "0.5,0,0.5,1", "--json")
    _, learned, _ = run(capsys, clip, *line)
    _, shares, _ = run(capsys, clip, *line, "--person", "0.9,0.17", "--person", "0.3,0.17")
    _, pixels, _ = run(capsys, clip, *line, "--person", "259.2,48.96", "--person", "86.4,48.96")
    _, absurd, _ = run(capsys, clip, *line, "--person", "0.5,0.03")
    numbers = [json.loads(text)[way] for text in (learned, shares, pixels) for way in ("in", "out")]
    assert numbers[:2] == numbers[2:4] == numbers[4:]
    assert [json.loads(absurd)[way] for way in ("in", "out")] != numbers[:2]


def test_changing_resolution_starts_the_scene_anew() -> None:
    """Lines are relative: the pipeline goes on with the new size and invents nothing."""
    from vision.detector_motion import MotionDetector
    from vision.frame import Frame
    from vision.model import Line, Scene
    from vision.pipeline import Pipeline

    pipeline = Pipeline(MotionDetector(warm_up_s=0.0), Scene((Line("door", *LINE, "centre"),)))
    rng = np.random.default_rng(1)
    for number in range(60):
        size = (120, 160) if number < 30 else (240, 320)
        image = np.full((*size, 3), 120, np.uint8) + rng.integers(0, 4, (*size, 3)).astype(np.uint8)
        assert pipeline.process(Frame(image, number + 1, number / 10)).crossings == ()


def test_parsing() -> None:
    """Lines, zones and lists are read in the forms that the help names."""
    assert parse_line("1,2,3,4") == ((1.0, 2.0), (3.0, 4.0))
    assert parse_numbers("1,2;3,4", "x") == ((1.0, 2.0), (3.0, 4.0))
    assert parse_zone("till=0,0,1,1") == ("till", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    assert parse_zone("0,0,1,0,1,1") == ("zone", ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))


def test_score_and_directions() -> None:
    """Left and right become in and out by the line; matches are one to one and in the same direction."""
    assert as_direction("left", LINE) == "in"
    assert as_direction("left_to_right", LINE) == "out"
    assert as_direction("down", ((0, 0.5), (1, 0.5))) == "in"
    assert match([(10, "in"), (12, "in")], [(11, "in"), (40, "in"), (11, "out")], 10) == [(0, 0)]
    crossings = [Crossing("a", "in", 1, 11, 1.1), Crossing("a", "out", 2, 50, 5.0)]
    found = score([TrueCrossing(10, "left"), TrueCrossing(30, "left")], [LINE], crossings)
    assert (found.error_in, found.error_out, found.matched, found.precision, found.recall) == (-1, 1, 1, 0.5, 0.5)
