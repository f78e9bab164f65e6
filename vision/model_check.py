"""`storefront model check FILE`: run a person detector's model once and say what it is.

Must not know cameras or counting.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from gateway.errors import ConfigError
from vision.detector_person import PersonDetector, Runtime
from vision.model import Frame

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
    """`storefront model check FILE [cv2|onnxruntime]`; returns the exit status (78 with the reason on error)."""
    given = list(sys.argv[1:] if argv is None else argv)
    if not given or len(given) > 2 or given[1:] not in ([], ["cv2"], ["onnxruntime"]):
        sys.stderr.write("usage: storefront model check FILE [cv2|onnxruntime]\n")
        return 64
    runtime: Runtime = "cv2" if given[1:] == ["cv2"] else "onnxruntime" if given[1:] else "auto"
    try:
        found = check_model(Path(given[0]), runtime)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 78
    rows = [
        f"{found.file}: {found.family}, {found.classes} classes, person is class 0",
        f"input 1×3×{found.input_px}×{found.input_px}, output {'×'.join(map(str, found.output_shape))}",
        f"{found.runtime}: {found.forward_ms} ms a frame on one thread",
    ]
    sys.stdout.write("\n".join(rows) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
