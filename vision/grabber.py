"""Keeping the newest frame of a stream: a thread reads as fast as the stream comes, older frames are dropped unread.

Only frames that are due at the wanted rate are converted, the rest are just decoded. Must not know what becomes of a
frame. Lives in the camera's own process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import cv2

from gateway.errors import StorefrontError
from vision.frame import Frame
from vision.video import SMALLEST_SIDE_PX, Capture, to_working_size

Clock = Callable[[], float]


class Grabber:
    """Reads `capture` on a thread of its own until it fails or `stop` is called.

    `capture` is owned from here on and released when the thread ends.
    """

    def __init__(
        self, capture: Capture, fps: float, working_width_px: int | None, pace_fps: float | None, first_number: int = 1
    ) -> None:
        """`pace_fps`: the rate at which a file is played; None for a live source, which sets its own pace."""
        self._capture = capture
        self._gap_s = 1.0 / fps
        self._working_width_px = working_width_px
        self._pace_fps = pace_fps
        self._fresh = threading.Condition()
        self._newest: Frame | None = None
        self._stopped = threading.Event()
        self.grabbed = 0
        self.number = first_number - 1
        self.last_s = time.monotonic()
        self.ended = False
        self.reason = ""
        self._thread = threading.Thread(target=self._run, name="grabber", daemon=True)  # may hang in the decoder

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end; it may be stuck in the decoder, so nobody waits for it long."""
        self._stopped.set()
        self._thread.join(timeout=1.0)

    def take(self, timeout_s: float) -> Frame | None:
        """The newest unread frame; None if none comes in time."""
        with self._fresh:
            if self._newest is None and not self.ended:
                self._fresh.wait(timeout_s)
            frame, self._newest = self._newest, None
            return frame

    def _run(self) -> None:
        begun_s = time.monotonic()
        due_s = begun_s
        try:
            while not self._stopped.is_set():
                if self._pace_fps is not None:
                    ahead_s = begun_s + self.grabbed / self._pace_fps - time.monotonic()
                    if ahead_s > 0 and self._stopped.wait(ahead_s):
                        break
                if not self._capture.grab():
                    self.reason = "the stream has ended"
                    break
                now_s = time.monotonic()
                self.grabbed += 1
                self.number += 1
                self.last_s = now_s
                if now_s + self._gap_s * 0.25 < due_s:
                    continue
                due_s = max(due_s + self._gap_s, now_s)
                decoded, image = self._capture.retrieve()
                if not decoded or image is None or min(image.shape[:2]) < SMALLEST_SIDE_PX:
                    continue
                frame = Frame(to_working_size(image, self._working_width_px), self.number, now_s)
                with self._fresh:
                    self._newest = frame
                    self._fresh.notify()
        except (cv2.error, StorefrontError) as error:
            self.reason = str(error).splitlines()[0]
        finally:
            self._capture.release()
            with self._fresh:
                self.ended = True
                self._fresh.notify()
