"""Person detector models: the two families are recognised by shape, anything else is refused with a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gateway.errors import ConfigError
from vision.detector_person import PersonDetector, non_maximum_suppression
from vision.frame import Frame
from vision.model_check import check_model, main


@pytest.mark.footage
@pytest.mark.parametrize(
    ("file", "family", "side"), [("yolox_nano.onnx", "yolox", 416), ("FastestDet.onnx", "fastestdet", 352)]
)
@pytest.mark.parametrize("runtime", ["cv2", "auto"])
def test_known_models(data: Path, file: str, family: str, side: int, runtime: str) -> None:
    """Both runtimes say the same of both models."""
    found = check_model(data / "models" / file, runtime)  # type: ignore[arg-type]
    assert (found.family, found.input_px, found.classes) == (family, side, 80)


@pytest.mark.footage
def test_runtimes_agree(data: Path) -> None:
    """OpenCV and onnxruntime find the same boxes."""
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(1)
    frame = Frame(rng.integers(0, 255, (240, 320, 3)).astype(np.uint8), 1, 0.0)
    model = data / "models" / "yolox_nano.onnx"
    one, other = (PersonDetector(model, runtime, 0.001).detect(frame, []) for runtime in ("cv2", "onnxruntime"))
    assert [d.score for d in one] == pytest.approx([d.score for d in other], abs=1e-3)


@pytest.mark.parametrize("runtime", ["cv2", "auto"])
@pytest.mark.parametrize("content", [None, b"", b"not a network" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None, runtime: str) -> None:
    """Missing, empty and foreign files give a sentence, not a crash."""
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        PersonDetector(path, runtime)  # type: ignore[arg-type]
    assert "model.onnx" in str(caught.value)


def field(number: int, payload: bytes | int) -> bytes:
    """One protocol buffer field: a length-delimited one of bytes, a varint of a number."""

    def varint(value: int) -> bytes:
        out = b""
        while value > 127:
            out, value = out + bytes([value & 127 | 128]), value >> 7
        return out + bytes([value])

    if isinstance(payload, int):
        return varint(number << 3) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def tiny_network() -> bytes:
    """An ONNX file of one Relu on 1×3×32×32 floats: valid, and no detector."""

    def value(name: bytes) -> bytes:
        shape = b"".join(field(1, field(1, size)) for size in (1, 3, 32, 32))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, shape)))

    node = field(1, b"x") + field(2, b"y") + field(3, b"relu") + field(4, b"Relu")
    graph = field(1, node) + field(2, b"g") + field(11, value(b"x")) + field(12, value(b"y"))
    return field(1, 8) + field(8, field(1, b"") + field(2, 13)) + field(7, graph)


@pytest.mark.parametrize("runtime", ["cv2", "auto"])
def test_another_shape_is_refused(tmp_path: Path, runtime: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A valid network that is no known detector is named by its shape."""
    path = tmp_path / "relu.onnx"
    path.write_bytes(tiny_network())
    with pytest.raises(ConfigError, match="shape"):
        PersonDetector(path, runtime)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"relu\.onnx"):
        main([str(path)])
    with pytest.raises(SystemExit) as wrong:
        main([])
    assert wrong.value.code == 2


def test_suppression_keeps_neighbours_and_drops_doubles() -> None:
    """Two people side by side stay two; a second and a nested box on one person go."""
    boxes = np.array([[0, 0, 30, 80], [2, 1, 32, 82], [25, 0, 55, 80], [4, 10, 28, 60]], np.float32)
    assert non_maximum_suppression(boxes, np.array([0.9, 0.8, 0.7, 0.6], np.float32), 0.6) == [0, 2]
    assert non_maximum_suppression(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.6) == []
