"""Reading a recorded or live stream frame by frame through OpenCV's capture.

`grab` decodes, `retrieve` converts; frames that are not processed are only grabbed. The clock of a file is its own
time stamps, that of a live stream is the monotonic clock at the grab. Must not know what is done with the frames.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import cv2
import numpy as np

from gateway.errors import ConfigError, Unavailable
from vision.camera_settings import Secret
from vision.frame import Frame, Image
from vision.synthetic_camera import SyntheticCapture


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used, so that drawn scenes can stand in for it."""

    def isOpened(self) -> bool: ...

    def grab(self) -> bool: ...

    def retrieve(self) -> tuple[bool, Any]: ...

    def get(self, propId: int) -> float: ...

    def release(self) -> None: ...


PROCESSED_FPS = 12.0
"""Rate aimed at when none is asked for."""
SMALLEST_SIDE_PX = 16


def address(source: str, secret: Secret) -> str | int:
    """What OpenCV opens: a device index, or the source with user and password put in."""
    if source.isdigit():
        return int(source)
    scheme, mark, rest = source.partition("://")
    if not mark or not secret.user:
        return source
    return f"{scheme}://{quote(secret.user, safe='')}:{quote(secret.password, safe='')}@{rest}"


def prepare_ffmpeg() -> None:
    """Streams over TCP, and no words on standard error (they may hold an address with its password)."""
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def open_capture(source: str | int, timeout_ms: int = 5000) -> Capture:
    """Open a file path, device index, stream address, or "synthetic:top" / "synthetic:oblique".

    Raises:
        ConfigError: the file is missing, empty or holds no decodable video.
        Unavailable: the device or stream cannot be opened now.
    """
    if isinstance(source, str) and source.startswith("synthetic:"):
        return SyntheticCapture.named(source.removeprefix("synthetic:"))
    live = isinstance(source, int) or "://" in source
    if not live:
        path = Path(str(source))
        if not path.is_file():
            raise ConfigError("open video", str(source), "no such file")
        if path.stat().st_size == 0:
            raise ConfigError("open video", str(source), "the file is empty")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        if isinstance(source, int):
            capture = cv2.VideoCapture(source)
        else:
            capture = cv2.VideoCapture(
                source,
                cv2.CAP_FFMPEG,
                [
                    *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms),
                    *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms),
                    *(cv2.CAP_PROP_N_THREADS, 1),
                ],
            )
    except cv2.error as error:
        raise _cannot_open(source, live, str(error).splitlines()[0]) from error
    if not capture.isOpened():
        capture.release()
        raise _cannot_open(source, live, "no video in it that can be decoded")
    return capture


def _cannot_open(source: str | int, live: bool, reason: str) -> ConfigError | Unavailable:
    subject = hide_credentials(str(source))
    if live:
        return Unavailable("open video", subject, reason, "is the camera on and reachable?")
    return ConfigError("open video", subject, reason, "audio only, or an unknown codec?")


def hide_credentials(address: str) -> str:
    """`rtsp://user:secret@host/…` without user and secret, for messages."""
    head, mark, rest = address.partition("://")
    if not mark:
        return address
    authority, slash, path = rest.partition("/")
    return f"{head}://{authority.rpartition('@')[2]}{slash}{path.partition('?')[0]}"


def to_working_size(image: Image, width_px: int | None) -> Image:
    """`image` shrunk to at most `width_px`, (H, W, 3) uint8 BGR; never enlarged."""
    height, width = image.shape[:2]
    if width_px is None or width <= width_px:
        return image
    size = (width_px, max(SMALLEST_SIDE_PX, round(height * width_px / width)))
    while image.shape[1] >= 2 * size[0]:  # halving is many times cheaper than any other area average
        half = (image.shape[1] // 2, image.shape[0] // 2)
        even = image[: half[1] * 2, : half[0] * 2]
        image = np.asarray(cv2.resize(even, half, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def frame_rate(capture: Capture) -> float:
    """Frames a second as announced; 25 where that is nonsense."""
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 0.5 <= fps <= 480 else 25.0


class VideoFile:
    """A recorded file as an iterator of processed frames; counts what it read and what it could not read."""

    def __init__(self, path: str, every: int = 0, working_width_px: int | None = None) -> None:
        """Open `path`. `every` = process each n-th frame, 0 = about `PROCESSED_FPS` a second.

        Raises:
            ConfigError: see `open_capture`.
        """
        self._capture = open_capture(path)
        self.fps = frame_rate(self._capture)
        self.every = every if every > 0 else max(1, round(self.fps / PROCESSED_FPS))
        self.width_px = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height_px = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.announced_frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        self._working_width_px = working_width_px
        self.frames_read = 0
        self.frames_lost = 0
        if min(self.width_px, self.height_px) < SMALLEST_SIDE_PX:
            self.close()
            raise ConfigError("open video", path, f"a picture of {self.width_px}×{self.height_px} px holds nobody")

    @property
    def coverage(self) -> float:
        """Share of the frames the file announces (or that were tried) which could be read, 0–1."""
        expected = max(self.announced_frames, self.frames_read + self.frames_lost, 1)
        return min(1.0, self.frames_read / expected) if self.frames_read else 0.0

    def frames(self, retrieve_all: bool = False, on_skipped: Callable[[], None] | None = None) -> Iterator[Frame]:
        """Processed frames in order. A frame that cannot be converted is counted as lost and skipped."""
        last_s = -1.0
        while self._capture.grab():
            self.frames_read += 1
            number = self.frames_read
            if (number - 1) % self.every and not retrieve_all:
                continue
            decoded, image = self._capture.retrieve()
            if not decoded or image is None or min(image.shape[:2]) < SMALLEST_SIDE_PX:
                self.frames_read -= 1
                self.frames_lost += 1
                continue
            stamp_s = float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000
            counted_s = (number - 1) / self.fps
            time_s = stamp_s if abs(stamp_s - counted_s) < 0.2 * counted_s + 1 else counted_s
            time_s = max(time_s, last_s + 1e-3)
            last_s = time_s
            yield Frame(to_working_size(image, self._working_width_px), number, time_s)

    def close(self) -> None:
        """Release the decoder; may be called twice."""
        self._capture.release()
