"""The annotated video that `storefront count --preview` writes, of a file the user already owns.

The only place in the project that writes pictures, and only to the path the user gave; never used for a camera.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from gateway.errors import ConfigError
from vision.frame import Frame

if TYPE_CHECKING:
    from vision.pipeline import Pipeline


class Preview:
    """Draws tracks, lines and counts; opened at the first frame."""

    def __init__(self, path: Path, fps: float) -> None:
        self._path = path
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None

    def draw(self, frame: Frame, pipeline: Pipeline) -> None:
        """Add one frame.

        Raises:
            ConfigError: the file cannot be written.
        """
        picture = frame.image.copy()
        height, width = picture.shape[:2]
        if self._writer is None:
            if not self._path.parent.is_dir():
                raise ConfigError("write preview", str(self._path), "no such folder")
            self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, (width, height))
            if not self._writer.isOpened():
                raise ConfigError("write preview", str(self._path), "cannot be written", "name it .mp4")
        for line in pipeline.lines:
            (x1, y1), (x2, y2) = line.line.start, line.line.end
            ends = (int(x1 * width), int(y1 * height)), (int(x2 * width), int(y2 * height))
            cv2.line(picture, *ends, (0, 0, 255), 1)
            cv2.putText(picture, f"in {line.in_count} out {line.out_count}", ends[0], 0, 0.5, (0, 0, 255), 1)
        for track in pipeline.tracks:
            box = track.box
            colour = (0, 200, 0) if track.credible and track.observed else (160, 160, 160)
            corner = int(box.left_px), int(box.top_px)
            opposite = int(box.left_px + box.width_px), int(box.top_px + box.height_px)
            cv2.rectangle(picture, corner, opposite, colour, 1)
            cv2.putText(picture, str(track.id), corner, 0, 0.4, colour, 1)
        self._writer.write(picture)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
