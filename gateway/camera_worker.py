"""Cameras in the gateway: settings to a camera's plan, its measurements to events, its state to the board.

The pictures stay in the camera's own process; what comes here are numbers about intervals of monotonic time, which get
their wall time here. Knows no pixel and no detector.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from config.loader import convert, resolve_secret
from config.settings import CameraSettings, Settings
from gateway import event_types as types
from gateway.clock import Clock, Instant, rfc3339_s
from gateway.errors import ConfigError
from gateway.event import Draft, Origin, draft
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from vision.camera import Camera
from vision.camera_settings import CameraSettings as VisionSettings
from vision.camera_settings import Secret
from vision.model import (
    Anchor,
    Crossing,
    FootfallInterval,
    HeatMapInterval,
    Line,
    Measurement,
    Quality,
    QueueInterval,
    ZoneArea,
    ZoneInterval,
)
from vision.pipeline import Scene, default_anchor

Share = Annotated[float, Meta(ge=0, le=1)]
Point = tuple[Share, Share]
_OFFER_S = 0.5
_LOOK_S = 1.0
_KEPT = 4096  # measurements that wait here while the inlet is full
_ONE = 1e-6


class LineOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A counting line from `start` to `end`; drawn downwards it counts right-to-left as in."""

    name: str
    start: Point
    end: Point
    entrance: str = ""
    anchor: Literal["", "foot", "centre"] = ""


class ZoneOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A polygon. `queue`: lengths and waits are measured; `staff`: who first appears there is not counted."""

    name: str
    corners: Annotated[tuple[Point, ...], Meta(min_length=3)]
    kind: Literal["zone", "queue", "staff"] = "zone"
    anchor: Literal["", "foot", "centre"] = ""


class CameraOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[cameras.options]`; coordinates are shares (0–1) of the picture's width and height."""

    detector: Literal["motion", "person"] = "motion"
    model: str = ""  # person: path of an ONNX file, see `storefront model check`
    fps: Annotated[float, Meta(gt=0, le=60)] = 10.0  # processed frames a second aimed at
    interval_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    lines: tuple[LineOptions, ...] = ()
    zones: tuple[ZoneOptions, ...] = ()
    masks: tuple[Annotated[tuple[Point, ...], Meta(min_length=3)], ...] = ()  # where nobody is ever detected
    heat_rows: Annotated[int, Meta(ge=0, le=64)] = 0
    heat_columns: Annotated[int, Meta(ge=0, le=64)] = 0
    loop: bool = False  # a file starts again at its end
    stall_s: Annotated[float, Meta(gt=0)] = 5.0
    memory_mib: Annotated[int, Meta(ge=100)] = 800
    crossings: bool = False  # an event for each crossing, too


class CameraPlan(msgspec.Struct, frozen=True):
    """A camera, ready to be run."""

    settings: CameraSettings
    options: CameraOptions
    vision: VisionSettings

    @property
    def name(self) -> str:
        """The camera's name in the configuration."""
        return self.settings.name


def plan_cameras(settings: Settings, file: str) -> list[CameraPlan]:
    """Plans of all enabled cameras, checked.

    Raises:
        ConfigError: the first thing that is wrong, with its path.
    """
    return [_plan(camera, f"cameras[{index}]", file) for index, camera in enumerate(settings.cameras) if camera.enabled]


class CameraWorker:
    """Worker: one camera under the supervisor."""

    def __init__(self, plan: CameraPlan, origin: Origin, inlet: Inlet, board: DeviceBoard, clock: Clock) -> None:
        """Put the camera on the board; its process starts with the first step."""
        self._plan = plan
        self._origin = origin
        self._inlet = inlet
        self._board = board
        self._clock = clock
        self._drafts: list[Draft] = []
        self._looked_s = 0.0
        board.register(plan.name, f"camera ({plan.options.detector})", "", plan.settings.stale_after_s)
        self.camera = Camera(
            plan.vision, self._measured, _secret(plan.settings),
            self._crossed if plan.options.crossings else None, clock=lambda: clock.now().mono_s,
        )  # fmt: skip

    def open(self) -> None:
        """Nothing yet."""
        self.camera.open()

    def step(self, stop: threading.Event) -> None:
        """Serve the process, hand on what it measured, say how it is."""
        self.camera.step(stop)
        self._hand_on()
        now = self._clock.now()
        if now.mono_s - self._looked_s >= _LOOK_S:
            self._looked_s = now.mono_s
            self._look(now)

    def close(self) -> None:
        """End the process; what it counted in whole intervals is kept, or counted as lost."""
        self.camera.close()
        self._hand_on()
        self._give_up(len(self._drafts))

    def _hand_on(self) -> None:
        """Into the inlet; what that does not take waits here, within bounds: the camera goes on meanwhile."""
        if self._drafts and self._inlet.offer(self._plan.name, Item(self._drafts), _OFFER_S):
            self._drafts = []
        self._give_up(len(self._drafts) - _KEPT)

    def _give_up(self, count: int) -> None:
        if count > 0:
            self._inlet.give_up(self._plan.name, Item(self._drafts[:count]))
            self._drafts = self._drafts[count:]

    def _look(self, now: Instant) -> None:
        state = self.camera.state()
        if state.state == "live":
            self._board.connected(self._plan.name)
            self._board.faulted(self._plan.name, "")
            self._board.heard(self._plan.name, now, 0)
        elif state.state in ("stale", "faulted"):
            hint = "check the camera's power, cable and address; counting goes on when it is back"
            self._board.lost(self._plan.name, state.reason or "no picture", hint)

    def _measured(self, measured: Measurement) -> None:
        at = self._clock.now()
        data = event_data(measured, at)
        self._add(data, at, wall_s(at, measured.interval_start_s + measured.interval_s))
        self._board.heard(self._plan.name, at)

    def _crossed(self, crossing: Crossing) -> None:
        at = self._clock.now()
        happened_s = wall_s(at, crossing.time_s)
        data = types.FootfallCrossed(line=crossing.line, direction=crossing.direction, at=rfc3339_s(happened_s))
        self._add(data, at, happened_s)

    def _add(self, data: types.EventData, at: Instant, happened_s: float) -> None:
        entry = types.type_of(data)
        source = self._origin.source(f"camera/{self._plan.name}")
        self._drafts.append(draft(entry.stream, entry.name, data, source=source, at=at, happened_s=happened_s))


def event_data(measured: Measurement, at: Instant) -> types.EventData:
    """The event of a measurement; its monotonic times become wall time by the offset at `at`."""
    start = rfc3339_s(wall_s(at, measured.interval_start_s))
    return _EVENTS[type(measured)](measured, start)


def wall_s(at: Instant, mono_s: float) -> float:
    """Wall time of a moment of monotonic time, seconds since 1970, by the present offset of the clocks."""
    return at.wall_s - (at.mono_s - mono_s)


def _footfall(it: FootfallInterval, start: str) -> types.EventData:
    return types.FootfallCounted(
        line=it.line, entrance=it.entrance or it.line, interval_start=start, interval_s=it.interval_s,
        in_=it.in_count, out=it.out_count, quality=_quality(it.quality), revision=it.supersedes,
    )  # fmt: skip


def _zone(it: ZoneInterval, start: str) -> types.EventData:
    dwell = None
    if it.dwell.n and it.dwell.p50_s is not None and it.dwell.p90_s is not None and it.dwell.mean_s is not None:
        dwell = types.Dwell(p50=it.dwell.p50_s, p90=it.dwell.p90_s, mean=it.dwell.mean_s, n=it.dwell.n)
    return types.ZoneOccupied(
        zone=it.zone, interval_start=start, interval_s=it.interval_s, mean=round(it.mean_persons, 3),
        peak=it.peak_persons, visitors=it.visitors, dwell_s=dwell, quality=_quality(it.quality),
    )  # fmt: skip


def _queue(it: QueueInterval, start: str) -> types.EventData:
    return types.QueueMeasured(
        zone=it.zone, interval_start=start, interval_s=it.interval_s, length_mean=round(it.mean_persons, 3),
        length_peak=it.peak_persons, wait_s_p50=it.wait_p50_s, wait_s_p90=it.wait_p90_s, quality=_quality(it.quality),
    )  # fmt: skip


def _heat(it: HeatMapInterval, start: str) -> types.EventData:
    return types.HeatmapSampled(
        camera=it.camera, interval_start=start, interval_s=it.interval_s, rows=it.rows, cols=it.columns,
        person_seconds=tuple(round(value, 2) for value in it.person_s),
    )  # fmt: skip


_EVENTS: dict[type, Callable[..., types.EventData]] = {
    FootfallInterval: _footfall,
    ZoneInterval: _zone,
    QueueInterval: _queue,
    HeatMapInterval: _heat,
}


def _quality(it: Quality) -> types.CountQuality:
    return types.CountQuality(
        frames=it.frames, fps=round(it.fps, 2), coverage=round(it.coverage, 4), detector=it.detector
    )


def _plan(camera: CameraSettings, where: str, file: str) -> CameraPlan:
    options = convert(camera.options, CameraOptions, file, f"{where}.options")
    problem = _problem(camera, options)
    if problem:
        place, reason, hint = problem
        raise ConfigError("read configuration", file, f"{where}.{place}: {reason}", hint)
    usual = default_anchor(options.detector)

    def anchored(given: str) -> Anchor:
        return usual if given == "" else ("foot" if given == "foot" else "centre")

    scene = Scene(
        lines=tuple(
            Line(it.name, it.start, it.end, anchored(it.anchor), it.entrance or it.name) for it in options.lines
        ),
        zones=tuple(ZoneArea(it.name, it.corners, anchored(it.anchor), it.kind) for it in options.zones),
        masks=options.masks,
        heat_rows=options.heat_rows,
        heat_columns=options.heat_columns,
    )
    address, _ = _address(camera.source)
    vision = VisionSettings(
        name=camera.name,
        source=address,
        scene=scene,
        detector=options.detector,
        model=Path(options.model).expanduser() if options.model else None,
        fps=options.fps,
        interval_s=options.interval_s,
        loop=options.loop,
        stall_s=options.stall_s,
        memory_limit_bytes=options.memory_mib << 20,
    )
    return CameraPlan(camera, options, vision)


def _problem(camera: CameraSettings, options: CameraOptions) -> tuple[str, str, str] | None:
    """What types cannot say: (place, reason, hint)."""
    if not camera.source:
        return "source", "missing", "a file, usb:0, rtsp://user@host/stream or synthetic:top"
    if urlsplit(camera.source).password:
        return "source", "the password stands in the address", 'take it out and write password = "file:…" or "env:…"'
    if options.detector == "person" and not options.model:
        return "options.model", "missing", "the person detector needs an ONNX file; `storefront model check` tries one"
    for index, line in enumerate(options.lines):
        if abs(line.start[0] - line.end[0]) + abs(line.start[1] - line.end[1]) < _ONE:
            return f"options.lines[{index}]", "the line has no length", "its start and end must differ"
    names = [line.name for line in options.lines] + [zone.name for zone in options.zones]
    if len(set(names)) != len(names):
        return "options", "two lines or zones have the same name", "give each its own"
    if not names and not options.heat_rows:
        return "options", "there is nothing to count", "draw a line: lines = [{ name = …, start = …, end = … }]"
    return None


def _address(source: str) -> tuple[str, str]:
    """What the vision room opens, and the user name that stood in it."""
    if source.startswith("usb:"):
        return source.removeprefix("usb:"), ""
    parts = urlsplit(source)
    if parts.scheme in ("", "synthetic") or not parts.username:
        return source, ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host)), unquote(parts.username)


def _secret(camera: CameraSettings) -> Secret:
    _, user = _address(camera.source)
    return Secret(user, resolve_secret(camera.password, f"cameras.{camera.name}.password"))
