"""A camera as the gateway sees it: a process to keep alive, and the measurements that come out of it.

The process may crash, hang, leak or lose its stream; each costs the coverage of that time and nothing else. A quick
restart is affordable five times a minute, then tries become slow and the state says so. Must not know pixels: it
receives slices and hands on intervals. It is a `Worker` of `gateway.runtime`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from random import Random
from typing import Literal

import msgspec
import psutil

from gateway.errors import Unavailable
from gateway.runtime.backoff import Backoff, RestartBudget
from vision.camera_process import run
from vision.camera_settings import (
    EXIT_CONFIG,
    EXIT_STALLED,
    Ask,
    CameraSettings,
    Message,
    Report,
    Secret,
    Snapshot,
)
from vision.footfall import Footfall
from vision.model import Crossing, Measurement, Slice
from vision.person_size import PersonSize
from vision.staff import StaffSighting, StaffWatch

POLL_S = 0.2
START_S = 30.0
"""A process may take this long until its first word: loading OpenCV and a model from an SD card."""
STOP_S = 0.6
"""A process that is told to stop has this long for its last word; the gateway's own stop is short."""
SLOW_RETRY_S = 60.0
SUCCESSOR_WARM_UP_S = 5.0
MEMORY_CHECK_S = 5.0
MOST_RECENT = 20_000


class CameraState(msgspec.Struct, frozen=True):
    """What a person may know of a camera now.

    Attributes:
        state: never_seen until the first frame; live; stale (no frames now, being retried); faulted (restart budget
            spent or a configuration that cannot work: somebody should look); ended (a file has been played).
        last_frame_age_s: seconds since the latest slice; None before the first.
        restarts: processes started beyond the first.
        reason: why it is not live, or why its process was replaced less than a minute ago.
        frames_shed: frames that were decoded but not processed because the machine or the wanted rate said so.
    """

    name: str
    state: Literal["never_seen", "live", "stale", "faulted", "ended"]
    last_frame_age_s: float | None
    restarts: int
    reason: str
    frames_shed: int
    lost_late: int


class LineCount(msgspec.Struct, frozen=True):
    """One line so far, since the gateway began to look at this camera: the live numbers of a calibration."""

    line: str
    in_count: int
    out_count: int


class Camera:
    """Keeps one camera's process alive and folds its slices. `open`, then `step` again and again, then `close`.

    All calls on one thread, except `state`, `totals`, `recent_crossings`, `sighted` and `ask_snapshot`: those are for
    any thread.
    """

    def __init__(
        self,
        settings: CameraSettings,
        emit: Callable[[Measurement], None],
        secret: Secret | None = None,
        on_slice: Callable[[Slice], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """`emit` is called with each interval, from `step`; `on_slice` with what was seen, about once a second."""
        self.settings = settings
        self._emit = emit
        self._secret = secret or Secret()
        self._on_slice = on_slice
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311 — jitter
        self._backoff = Backoff(0.5, 20.0)
        self._budget = RestartBudget()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._footfall = Footfall(
            settings.name, settings.scene, settings.detector, settings.interval_s, settings.origin_s
        )
        self._generation = 0
        self._started_s = 0.0
        self._heard_s: float | None = None
        self._next_start_s = 0.0
        self._memory_s = 0.0
        self._progress_s = 0.0
        self._slice_s: float | None = None
        self._size: PersonSize | None = settings.person_size
        self._report: Report | None = None
        self._reason = ""
        self._spent = False
        self._lock = threading.Lock()
        self._recent: deque[Crossing] = deque(maxlen=MOST_RECENT)
        self._staff = StaffWatch()
        self._sighted: deque[StaffSighting] = deque(maxlen=MOST_RECENT)  # from other threads
        self._wanted = threading.Event()
        self._picture: Snapshot | None = None
        self._pictured = threading.Event()
        self._decoder = msgspec.msgpack.Decoder(Message)

    # -- Worker -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Nothing is started yet; the first `step` does."""

    def step(self, stop: threading.Event) -> None:
        """Take in what the process says for at most `POLL_S`, watch over it, close due intervals."""
        now_s = self._clock()
        if self._process is None:
            if now_s >= self._next_start_s:
                self._start(now_s)
            else:
                stop.wait(min(POLL_S, self._next_start_s - now_s))
        else:
            self._listen()
            self._watch(self._clock())
        while self._sighted:
            self._staff.sighted(self._sighted.popleft())
        for crossing in self._staff.claimed(self._progress_s):
            self._footfall.retract(crossing)
        for measurement in self._footfall.close(self._progress_s, self._clock()):
            self._emit(measurement)

    def align(self, origin_s: float) -> None:
        """From now on intervals start at `origin_s` + n · interval of monotonic time; the one under way ends now."""
        self.settings = msgspec.structs.replace(self.settings, origin_s=origin_s)
        self._footfall.align(origin_s, self._clock())
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # a process that has died gets it with its settings
                self._pipe.send_bytes(msgspec.json.encode(Ask("align", origin_s)))

    def close(self) -> None:
        """Stop the process, in order where it listens and by force where not, and report all that was counted."""
        if self._pipe is not None and self._process is not None and self._heard_s is not None:
            with contextlib.suppress(OSError):
                self._pipe.send_bytes(msgspec.json.encode(Ask("stop")))
            deadline_s = self._clock() + STOP_S
            while self._process.is_alive() and self._clock() < deadline_s:
                if not self._listen():
                    break
        self._end()
        for measurement in self._footfall.close(self._progress_s, self._clock(), everything=True):
            self._emit(measurement)

    # -- for others ---------------------------------------------------------------------------------------------

    @property
    def process_id(self) -> int | None:
        """Of the present process."""
        return self._process.pid if self._process is not None else None

    def state(self) -> CameraState:
        """A value for the status page. Any thread."""
        now_s = self._clock()
        age_s = now_s - self._slice_s if self._slice_s is not None else None
        report = self._report
        shed = report.frames_grabbed - report.frames_processed if report is not None else 0
        state: Literal["never_seen", "live", "stale", "faulted", "ended"]
        if report is not None and report.health == "ended":
            state = "ended"
        elif self._spent or (report is not None and report.health == "failed"):
            state = "faulted"
        elif age_s is None:
            # Frames may be flowing while the first ones are still looked at.
            state = "live" if report is not None and report.frames_grabbed and self._process else "never_seen"
        else:
            state = "live" if age_s <= self.settings.stall_s + 3.0 else "stale"
        reason = self._reason or (report.reason if report is not None else "")
        restarts = max(0, self._generation - 1)
        lost_late = self._footfall.lost_late
        return CameraState(self.settings.name, state, age_s, restarts, reason, shed, lost_late)

    @property
    def person_size(self) -> PersonSize | None:
        """As learned or calibrated by its processes so far; None before."""
        return self._size

    def totals(self) -> list[LineCount]:
        """What each line has counted since this object began; staff who were taken back are not in it. Any thread."""
        return [LineCount(line, arrived, left) for line, (arrived, left) in self._footfall.totals().items()]

    def sighted(self, sighting: StaffSighting) -> None:
        """A badge of staff was read at a line: one crossing near that moment is not counted. Any thread."""
        self._sighted.append(sighting)

    def recent_crossings(self, since_s: float) -> list[Crossing]:
        """Crossings from `since_s` (monotonic) on, for the acceptance test. Any thread."""
        with self._lock:
            return [crossing for crossing in self._recent if crossing.time_s >= since_s]

    def ask_snapshot(self, timeout_s: float = 5.0) -> Snapshot:
        """The calibration picture, for a signed-in manager only. Any thread but the worker's; waits.

        Raises:
            Unavailable: the camera shows nothing now.
        """
        self._pictured.clear()
        self._wanted.set()
        if not self._pictured.wait(timeout_s) or self._picture is None:
            raise Unavailable("take snapshot", self.settings.name, "the camera shows nothing now", "is it connected?")
        picture, self._picture = self._picture, None
        return picture

    # -- the process --------------------------------------------------------------------------------------------

    def _start(self, now_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=True)
        settings = self.settings
        if self._size is not None:  # learned by an earlier process
            warm_up_s = settings.warm_up_s if settings.warm_up_s is not None else SUCCESSOR_WARM_UP_S
            settings = msgspec.structs.replace(settings, person_size=self._size, warm_up_s=warm_up_s)
        self._generation += 1
        arguments = (msgspec.json.encode(settings), msgspec.json.encode(self._secret), theirs)
        self._process = context.Process(target=run, args=arguments, name=f"camera {settings.name}", daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        self._started_s, self._heard_s, self._memory_s = now_s, None, now_s

    def _listen(self) -> bool:
        """Take in messages for a moment; False when the process has hung up."""
        pipe = self._pipe
        if pipe is None:
            return False
        try:
            if self._wanted.is_set():
                self._wanted.clear()
                pipe.send_bytes(msgspec.json.encode(Ask("snapshot")))
            timeout_s = POLL_S
            while pipe.poll(timeout_s):
                self._take(self._decoder.decode(pipe.recv_bytes()))
                timeout_s = 0.0
        except (EOFError, OSError, msgspec.DecodeError):
            return False
        return True

    def _take(self, message: Message) -> None:
        self._heard_s = self._clock()
        if isinstance(message, Slice):
            self._slice_s = self._heard_s
            self._progress_s = max(self._progress_s, message.end_s)
            self._footfall.add(message, self._generation)
            self._staff.crossed(message.crossings)
            with self._lock:
                self._recent.extend(message.crossings)
            if self._on_slice is not None:
                self._on_slice(message)
        elif isinstance(message, Report):
            self._report = message
            if message.person_size is not None:
                self._size = message.person_size
            if message.health == "live" and self._heard_s - self._started_s > 60.0:
                self._backoff.reset()
                self._spent, self._reason = False, ""
        else:
            self._picture = message
            self._pictured.set()

    def _watch(self, now_s: float) -> None:
        """Replace a process that has ended, says nothing, or has grown too large."""
        process = self._process
        if process is None:
            return
        if not process.is_alive():
            while self._pipe is not None and self._has_more():
                pass
            status = process.exitcode
            if status == 0 and self._report is not None and self._report.health == "ended":
                return
            self._reason = {
                EXIT_STALLED: f"no frame for {self.settings.stall_s:g} s",
                EXIT_CONFIG: self._report.reason if self._report is not None else "wrong configuration",
            }.get(status or 0, f"the camera's process ended with status {status}")
            self._lose(now_s, slow=status == EXIT_CONFIG)
        elif self._heard_s is None:
            if now_s - self._started_s > START_S:
                self._reason = f"the camera's process said nothing for {START_S:g} s after its start"
                self._lose(now_s)
        elif now_s - self._heard_s > self.settings.hang_s:
            self._reason = f"the camera's process hung for {self.settings.hang_s:g} s"
            self._lose(now_s)
        elif now_s - self._memory_s >= MEMORY_CHECK_S:
            self._memory_s = now_s
            with contextlib.suppress(psutil.Error):
                used_bytes = psutil.Process(process.pid).memory_info().rss
                if used_bytes > self.settings.memory_limit_bytes:
                    self._reason = f"the camera's process grew to {used_bytes // 2**20} MiB"
                    self._lose(now_s)

    def _has_more(self) -> bool:
        """Drain what a dead process had still said."""
        pipe = self._pipe
        try:
            if pipe is None or not pipe.poll(0):
                return False
            self._take(self._decoder.decode(pipe.recv_bytes()))
        except (EOFError, OSError, msgspec.DecodeError):
            return False
        return True

    def _lose(self, now_s: float, slow: bool = False) -> None:
        """End the process and plan its successor."""
        self._end()
        affordable = self._budget.spend(now_s)
        self._spent = self._spent or slow or not affordable  # until it has been live for a while again
        self._next_start_s = now_s + (SLOW_RETRY_S if self._spent else self._backoff.next(self._rng))

    def _end(self) -> None:
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if process is not None:
            if process.is_alive():
                process.kill()
            process.join(timeout=5.0)
            if process.exitcode is not None:
                process.close()
        if pipe is not None:
            pipe.close()
