"""The inside of a camera's process: open the stream, keep the newest frame, count, tell the gateway, reconnect.

Frames never leave this module: what is sent are slices, a word about health once a second, and, when a signed-in
manager asks for it, one picture with everybody in it made unrecognisable. If the decoder hangs, the process ends
itself and the gateway starts another. Must not know events, the journal or restarts.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from random import Random

import cv2
import msgspec

from gateway.errors import ConfigError, Unavailable
from gateway.runtime.backoff import Backoff
from vision.camera_settings import (
    EXIT_CONFIG,
    EXIT_ORPHAN,
    EXIT_STALLED,
    Ask,
    CameraHealth,
    CameraSettings,
    Message,
    Report,
    Secret,
)
from vision.count import build_detector
from vision.detector import Detector
from vision.detector_motion import MotionDetector
from vision.grabber import Grabber
from vision.pipeline import Pipeline
from vision.slicer import Slicer
from vision.snapshot import snapshot
from vision.video import Capture, address, frame_rate, open_capture, prepare_ffmpeg

REPORT_S = 1.0


def run(settings_bytes: bytes, secret_bytes: bytes, pipe: Connection) -> None:
    """Entry point of the spawned process; returns or exits with a status the gateway understands."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gateway stops its cameras in its own order
    prepare_ffmpeg()
    cv2.setNumThreads(1)
    settings = msgspec.json.decode(settings_bytes, type=CameraSettings)
    secret = msgspec.json.decode(secret_bytes, type=Secret)
    child = CameraChild(settings, secret, pipe)
    try:
        child.run()
    except ConfigError as error:
        child.say("failed", str(error))
        sys.exit(EXIT_CONFIG)
    except (BrokenPipeError, ConnectionResetError, EOFError):
        sys.exit(EXIT_ORPHAN)  # the gateway has gone


class CameraChild:
    """One camera process's state. `run` returns when told to stop or when a file has ended."""

    def __init__(self, settings: CameraSettings, secret: Secret, pipe: Connection) -> None:
        self._settings = settings
        self._secret = secret
        self._pipe = pipe
        self._backoff = Backoff(1.0, 30.0)
        self._rng = Random()  # noqa: S311 — jitter
        self._detector: Detector | None = None
        self._said_s = 0.0
        self._grabbed = 0
        self._number = 1
        self._slicer: Slicer | None = None

    def run(self) -> None:
        """Count until told to stop.

        Raises:
            ConfigError: settings that can never work.
        """
        settings = self._settings
        self.say("starting", "")
        detector = build_detector(
            settings.detector, settings.model, settings.runtime, settings.person_size or settings.calibration
        )
        self._detector = detector
        warm_up_s = settings.warm_up_s if settings.warm_up_s is not None else detector.warm_up_s
        self._slicer = Slicer(Pipeline(detector, settings.scene), settings.interval_s, settings.origin_s, warm_up_s)
        while True:
            try:
                capture = open_capture(address(settings.source, self._secret))
            except Unavailable as error:
                if self._wait("reconnecting", error.reason):
                    return
                continue
            if self._stream(self._slicer, capture):
                return
            if not self._is_file() or settings.loop:
                self._send(self._slicer.flush())
            else:
                self._send(self._slicer.flush(finish=True))
                self.say("ended", "the file has ended")
                while not self._stop_asked(1.0):
                    self.say("ended", "the file has ended")
                return
            if not settings.loop and self._wait("reconnecting", "the stream has ended"):
                return

    def say(self, health: CameraHealth, reason: str) -> None:
        """Send a word about health."""
        self._said_s = time.monotonic()
        size = self._detector.size if isinstance(self._detector, MotionDetector) else None
        processed = self._slicer.pipeline.frames if self._slicer is not None else 0
        self._send([Report(health, self._said_s, self._grabbed, processed, size, reason)])

    def _stream(self, slicer: Slicer, capture: Capture) -> bool:
        """Count one connection; True when told to stop."""
        settings = self._settings
        pace = frame_rate(capture) if self._is_file() else None
        width = slicer.pipeline.detector.working_width_px
        grabber = Grabber(capture, settings.fps, width, pace, self._number)
        before = self._grabbed
        grabber.start()
        try:
            while True:
                frame = grabber.take(0.25)
                self._grabbed, self._number = before + grabber.grabbed, grabber.number + 1
                now_s = time.monotonic()
                if frame is not None:
                    self._send(slicer.add(frame))
                    self._backoff.reset()
                if now_s - self._said_s >= REPORT_S:
                    self.say("live" if now_s - grabber.last_s < 2.0 else "reconnecting", grabber.reason)
                if self._stop_asked(0.0):
                    self._send(slicer.flush())
                    self._pipe.close()  # all is said; nobody need wait for the grabber
                    return True
                if grabber.ended and frame is None:
                    return False
                if now_s - grabber.last_s > settings.stall_s:
                    self._send(slicer.flush())
                    self.say("reconnecting", f"no frame for {settings.stall_s:g} s")
                    sys.exit(EXIT_STALLED)  # the reading thread hangs in the decoder; only a new process is clean
        finally:
            grabber.stop()

    def _wait(self, health: CameraHealth, reason: str) -> bool:
        """Back off before the next connection, still talking; True when told to stop."""
        until_s = time.monotonic() + self._backoff.next(self._rng)
        while (left_s := until_s - time.monotonic()) > 0:
            self.say(health, reason)
            if self._stop_asked(min(REPORT_S, left_s)):
                return True
        return False

    def _stop_asked(self, timeout_s: float) -> bool:
        while self._pipe.poll(timeout_s):
            asked = msgspec.json.decode(self._pipe.recv_bytes(), type=Ask)
            if asked.what == "stop":
                return True
            if asked.what == "align" and self._slicer is not None:
                self._slicer.align(asked.origin_s)
            elif (
                asked.what == "snapshot"
                and self._slicer is not None
                and (picture := snapshot(self._slicer.pipeline)) is not None
            ):
                self._send([picture])
            timeout_s = 0.0
        return False

    def _is_file(self) -> bool:
        source = self._settings.source
        return not source.isdigit() and "://" not in source and not source.startswith("synthetic:")

    def _send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._pipe.send_bytes(msgspec.msgpack.encode(message))
