"""One look through a camera: does it open, does a picture come, do its lines and zones lie in it?

For `storefront doctor` and for setting a camera up; nothing is counted and the picture goes no further than here.
"""

from __future__ import annotations

import cv2
import msgspec

from gateway.errors import Unavailable
from vision.camera_settings import Secret
from vision.counting_line import CountingLine
from vision.model import Scene
from vision.video import SMALLEST_SIDE_PX, address, hide_credentials, open_capture, prepare_ffmpeg
from vision.zone import Zone

TRIES = 25
"""A stream may begin with frames that cannot be decoded yet."""


class Probe(msgspec.Struct, frozen=True):
    """What came."""

    width_px: int
    height_px: int


def probe(source: str, secret: Secret, scene: Scene, timeout_ms: int = 5000) -> Probe:
    """Open `source` and read one picture; takes about twice `timeout_ms` at most.

    Raises:
        ConfigError: the file is no video, or a line or zone cannot count anything in its picture.
        Unavailable: the device or stream does not open, or no picture comes.
    """
    prepare_ffmpeg()
    capture = open_capture(address(source, secret), timeout_ms)
    try:
        for _ in range(TRIES):
            if not capture.grab():
                break
            decoded, image = capture.retrieve()
            if decoded and image is not None and min(image.shape[:2]) >= SMALLEST_SIDE_PX:
                height, width = image.shape[:2]
                for line in scene.lines:
                    CountingLine(line, width, height)
                for area in scene.zones:
                    Zone(area, width, height)
                return Probe(width, height)
    except cv2.error as error:
        raise Unavailable("look through camera", hide_credentials(source), str(error).splitlines()[0]) from error
    finally:
        capture.release()
    raise Unavailable(
        "look through camera",
        hide_credentials(source),
        "it opens, but no picture comes",
        "is another program using it?",
    )
