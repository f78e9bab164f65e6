"""Finding persons with a neural network: YOLOX and FastestDet decoders over one forward pass.

The network is an ONNX file that the shop supplies; which decoder fits is told by the shapes of its input and output,
never by its name. Inference runs in `onnxruntime` where installed (about twice as fast on one thread), else in
`cv2.dnn`. Must not know tracks, lines or cameras, and opens no file but the model.

*Source*: YOLOX, Ge et al. 2021, and its ONNX demo (letterbox 114, BGR 0–255, strides 8/16/32, undecoded output);
FastestDet, Xuehao Ma 2022 (one grid, tanh centre offsets, sigmoid sizes, score = objectness^0.6 · class^0.4).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.errors import ConfigError
from vision.frame import Frame, Image
from vision.model import Box, Detection
from vision.video import to_working_size

Floats = NDArray[np.float32]
Runtime = Literal["auto", "cv2", "onnxruntime"]

LOWEST_SCORE = 0.10
NMS_IOU = 0.6
NESTED_SHARE = 0.75
"""A box is a second one on the same person if this share of the smaller lies in a better one of about its width."""
FASTESTDET_EXPONENT = 1.6
"""FastestDet is too sure of itself: its 0.65 is worth a YOLOX 0.5."""
PERSON_CLASS = 0
YOLOX_STRIDES = (8, 16, 32)


class Network(Protocol):
    """One forward pass. Called on one thread only."""

    runtime: str

    def forward(self, blob: Floats) -> Floats:
        """(1, 3, H, W) float32 in, the first output out."""
        ...


class _Cv2Network:
    runtime = "cv2"

    def __init__(self, path: Path) -> None:
        try:
            self._net: Any = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise _unreadable(path, error) from error

    def forward(self, blob: Floats) -> Floats:
        self._net.setInput(blob)
        return np.asarray(self._net.forward(), dtype=np.float32)


class _OnnxRuntimeNetwork:
    runtime = "onnxruntime"

    def __init__(self, path: Path) -> None:
        ort: Any = importlib.import_module("onnxruntime")
        errors: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        failures = (errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.NoModel, errors.InvalidArgument,
                    errors.RuntimeException, errors.NotImplemented)  # fmt: skip
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except failures as error:
            raise _unreadable(path, error) from error
        self._input: str = self._session.get_inputs()[0].name
        shape = self._session.get_inputs()[0].shape
        self.input_shape: tuple[int, ...] | None = tuple(shape) if all(isinstance(n, int) for n in shape) else None

    def forward(self, blob: Floats) -> Floats:
        return np.asarray(self._session.run(None, {self._input: blob})[0], dtype=np.float32)


class ModelLayout(msgspec.Struct, frozen=True):
    """What a model file turned out to be.

    Attributes:
        family: which decoder reads its output.
        input_px: side of the square input picture, pixels.
        output_shape: shape of the first output for that input.
        classes: number of object classes; class 0 must be "person".
        runtime: what ran it.
    """

    family: Literal["yolox", "fastestdet"]
    input_px: int
    output_shape: tuple[int, ...]
    classes: int
    runtime: str


def load_network(path: Path, runtime: Runtime = "auto") -> tuple[Network, ModelLayout]:
    """Load an ONNX file and find out by one forward pass how to read it.

    Raises:
        ConfigError: no such file, not an ONNX network, or one of another shape than the known families.
    """
    if not path.is_file():
        raise ConfigError("load model", str(path), "no such file", "the shop supplies the model")
    if path.stat().st_size == 0:
        raise ConfigError("load model", str(path), "the file is empty")
    if runtime == "auto":
        runtime = "onnxruntime" if importlib.util.find_spec("onnxruntime") else "cv2"
    network: Network = _OnnxRuntimeNetwork(path) if runtime == "onnxruntime" else _Cv2Network(path)
    tried = []
    declared = getattr(network, "input_shape", None)
    sides = [declared[-1]] if declared and len(declared) == 4 else [416, 352, 320, 640]
    for side in sides:
        try:
            output = network.forward(np.full((1, 3, side, side), 0.5, dtype=np.float32))
        except (cv2.error, ValueError, RuntimeError) as error:
            tried.append(f"{side} px: {str(error).splitlines()[0][:120]}")
            continue
        except _ort_errors() as error:
            tried.append(f"{side} px: {str(error).splitlines()[0][:120]}")
            continue
        layout = _layout(side, output.shape, network.runtime)
        if layout is not None:
            return network, layout
        tried.append(f"{side} px gives an output of shape {output.shape}")
    raise ConfigError(
        "load model",
        str(path),
        "its shapes fit no known detector (" + "; ".join(tried) + ")",
        "YOLOX (1×N×85, undecoded) and FastestDet (1×85×S×S) are understood; check with: storefront model check FILE",
    )


def _ort_errors() -> tuple[type[Exception], ...]:
    if not importlib.util.find_spec("onnxruntime"):
        return ()
    errors: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    return (errors.Fail, errors.InvalidArgument, errors.RuntimeException)


def _layout(side: int, shape: tuple[int, ...], runtime: str) -> ModelLayout | None:
    cells = sum((side // stride) ** 2 for stride in YOLOX_STRIDES)
    if len(shape) == 3 and shape[0] == 1 and shape[1] == cells and shape[2] >= 6:
        return ModelLayout("yolox", side, tuple(shape), shape[2] - 5, runtime)
    if len(shape) == 4 and shape[0] == 1 and shape[1] >= 6 and shape[2] == shape[3] == side // 16:
        return ModelLayout("fastestdet", side, tuple(shape), shape[1] - 5, runtime)
    return None


def _unreadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError("load model", str(path), "not a readable ONNX network", str(error).splitlines()[0][:200])


class PersonDetector:
    """Persons by a neural network, whole frame, one forward pass a frame."""

    name = "person"
    working_width_px: int | None = None
    warm_up_s = 0.0

    def __init__(self, model: Path, runtime: Runtime = "auto", lowest_score: float = LOWEST_SCORE) -> None:
        """Load `model`.

        Raises:
            ConfigError: see `load_network`.
        """
        self._network, self.layout = load_network(model, runtime)
        self._lowest_score = lowest_score
        self._grid, self._stride = _yolox_grid(self.layout.input_px)
        side = self.layout.input_px
        self._canvas: Image = np.full((side, side, 3), 114, dtype=np.uint8)
        self._inner = (0, 0)

    def warm_up(self, frames: Sequence[Frame]) -> None:
        """Nothing is learned about a scene."""

    def reset(self) -> None:
        """Nothing is learned about a scene."""

    def detect(self, frame: Frame, expected: Sequence[Box]) -> list[Detection]:
        """Persons in `frame.image` ((H, W, 3) uint8 BGR); `expected` is not used."""
        height, width = frame.image.shape[:2]
        if self.layout.family == "yolox":
            boxes, scores = self._yolox(frame.image)
        else:
            boxes, scores = self._fastestdet(frame.image)
        kept = non_maximum_suppression(boxes, scores, NMS_IOU)
        found = []
        for index in kept:
            left, top, right, bottom = boxes[index].tolist()
            left, top, right, bottom = max(0.0, left), max(0.0, top), min(width, right), min(height, bottom)
            if right - left > 1 and bottom - top > 1:
                found.append(Detection(Box(left, top, right - left, bottom - top), float(scores[index])))
        return found

    def forward_blob(self, image: Image) -> tuple[Floats, float]:
        """The network's input for `image`, and the scale from frame to input pixels."""
        side = self.layout.input_px
        height, width = image.shape[:2]
        if self.layout.family == "fastestdet":
            small = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
            return np.asarray(cv2.dnn.blobFromImage(small, 1 / 255.0), dtype=np.float32), 1.0
        scale = min(side / width, side / height)
        inner_w, inner_h = max(1, round(width * scale)), max(1, round(height * scale))
        if self._inner != (inner_h, inner_w):
            self._canvas[:], self._inner = 114, (inner_h, inner_w)
        small = to_working_size(image, inner_w)
        if small.shape[:2] != (inner_h, inner_w):
            small = np.asarray(cv2.resize(small, (inner_w, inner_h), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
        self._canvas[:inner_h, :inner_w] = small
        return np.asarray(cv2.dnn.blobFromImage(self._canvas), dtype=np.float32), scale

    def _yolox(self, image: Image) -> tuple[Floats, Floats]:
        blob, scale = self.forward_blob(image)
        output = self._network.forward(blob)[0]
        scores = output[:, 4] * output[:, 5 + PERSON_CLASS]
        keep = scores >= self._lowest_score
        output, scores = output[keep], scores[keep]
        centre = (output[:, :2] + self._grid[keep]) * self._stride[keep]
        size = np.exp(np.clip(output[:, 2:4], -10, 10)) * self._stride[keep]
        corners = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / np.float32(scale)
        return np.asarray(corners, dtype=np.float32), np.asarray(scores, dtype=np.float32)

    def _fastestdet(self, image: Image) -> tuple[Floats, Floats]:
        blob, _ = self.forward_blob(image)
        output = self._network.forward(blob)[0]
        height, width = image.shape[:2]
        cells = output.shape[-1]
        scores = (np.power(output[0], 0.6) * np.power(output[5 + PERSON_CLASS], 0.4)) ** FASTESTDET_EXPONENT
        rows, columns = np.nonzero(scores >= self._lowest_score)
        picked = output[:, rows, columns]
        x = (columns + np.tanh(picked[1])) / cells
        y = (rows + np.tanh(picked[2])) / cells
        w, h = 1 / (1 + np.exp(-picked[3])), 1 / (1 + np.exp(-picked[4]))
        corners = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
        corners *= np.array([width, height, width, height])
        return corners.astype(np.float32), np.asarray(scores[rows, columns], dtype=np.float32)


def _yolox_grid(side: int) -> tuple[Floats, Floats]:
    grids, strides = [], []
    for stride in YOLOX_STRIDES:
        cells = side // stride
        y, x = np.mgrid[:cells, :cells]
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((cells * cells, 1), stride))
    return np.concatenate(grids).astype(np.float32), np.concatenate(strides).astype(np.float32)


def non_maximum_suppression(boxes: Floats, scores: Floats, iou: float) -> list[int]:
    """Indices to keep, best first. `boxes` (N, 4) left, top, right, bottom; `scores` (N,)."""
    if not len(boxes):
        return []
    sizes = boxes.copy()
    sizes[:, 2:] -= sizes[:, :2]
    kept = cv2.dnn.NMSBoxes(sizes.tolist(), scores.tolist(), 0.0, iou)
    best: list[int] = []
    for index in (int(index) for index in np.asarray(kept).reshape(-1)):
        if not any(_nested(boxes[index].tolist(), boxes[other].tolist()) for other in best):
            best.append(index)
    return best


def _nested(box: list[float], better: list[float]) -> bool:
    across = min(box[2], better[2]) - max(box[0], better[0])
    down = min(box[3], better[3]) - max(box[1], better[1])
    if across <= 0 or down <= 0:
        return False
    own, other = (box[2] - box[0]) * (box[3] - box[1]), (better[2] - better[0]) * (better[3] - better[1])
    alike = 0.6 < (box[2] - box[0]) / max(1e-6, better[2] - better[0]) < 1.7
    return alike and across * down > NESTED_SHARE * min(own, other)
