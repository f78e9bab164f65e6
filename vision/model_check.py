"""`storefront model check FILE`: run a person detector's model once and say what it is.

Must not know cameras or counting.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from vision.detector_person import PersonDetector, Runtime
from vision.frame import Frame

RUNS = 5


class ModelReport(msgspec.Struct, frozen=True):
    """What a model file is and costs. `forward_ms` is one whole detection of a 1280×720 frame on one thread."""

    file: str
    family: str
    input_px: int
    output_shape: tuple[int, ...]
    classes: int
    runtime: str
    forward_ms: float
    size_bytes: int


def check_model(path: Path, runtime: Runtime = "auto") -> ModelReport:
    """Load `path` and run it.

    Raises:
        ConfigError: missing, not ONNX, or of an unknown shape.
    """
    cv2.setNumThreads(1)
    detector = PersonDetector(path, runtime)
    frame = Frame(np.full((720, 1280, 3), 114, dtype=np.uint8), 1, 0.0)
    detector.detect(frame, [])
    started = time.perf_counter()
    for _ in range(RUNS):
        detector.detect(frame, [])
    spent_ms = (time.perf_counter() - started) / RUNS * 1e3
    layout = detector.layout
    return ModelReport(
        str(path),
        layout.family,
        layout.input_px,
        layout.output_shape,
        layout.classes,
        layout.runtime,
        round(spent_ms, 1),
        path.stat().st_size,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """`storefront model check FILE [--runtime …] [--json]`; returns 0.

    Raises:
        ConfigError: missing, not ONNX, or of an unknown shape.
        SystemExit: the command line is wrong (2), or help was asked for (0).
    """
    parser = argparse.ArgumentParser(prog="storefront model check", description="Run a person detector's model once.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--runtime", choices=["auto", "cv2", "onnxruntime"], default="auto")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    found = check_model(given.file, given.runtime)
    if given.json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
        return 0
    rows = [
        f"{found.file}: {found.family}, {found.classes} classes, person is class 0",
        f"input 1×3×{found.input_px}×{found.input_px}, output {'×'.join(map(str, found.output_shape))}",
        f"{found.runtime}: {found.forward_ms} ms a frame on one thread",
    ]
    sys.stdout.write("\n".join(rows) + "\n")
    return 0
