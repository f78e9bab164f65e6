"""What `[[cameras]]` may say, checked and turned into what a camera's process needs.

Knows the configuration and the vision room's settings; no process, no event and no pixel.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
from msgspec import Meta

from config.loader import convert, resolve_secret
from config.settings import CameraSettings, Settings
from gateway.errors import ConfigError
from vision.camera_settings import CameraSettings as VisionSettings
from vision.camera_settings import Secret
from vision.model import Anchor, Line, Scene, ZoneArea, default_anchor
from vision.person_size import Calibration, PersonClick, calibration

Share = Annotated[float, Meta(ge=0, le=1)]
Point = tuple[Share, Share]
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


class BadgeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose badge, read where, is staff that passes a line: one crossing within `window_s` of it is not counted."""

    line: str
    ids: Annotated[tuple[Annotated[str, Meta(min_length=4)], ...], Meta(min_length=1)]  # a beacon's id or an EPC in
    # hex, or what they begin with
    device: str = ""  # only what this reader or receiver hears; empty: any
    window_s: Annotated[float, Meta(gt=0, le=60)] = 4.0


class CameraOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[cameras.options]`; coordinates are shares (0–1) of the picture's width and height."""

    detector: Literal["motion", "person"] = "motion"
    model: str = ""  # person: path of an ONNX file, see `storefront model check`
    fps: Annotated[float, Meta(gt=0, le=60)] = 10.0  # processed frames a second aimed at
    interval_s: Annotated[float, Meta(ge=1, le=3600)] = 60.0
    lines: tuple[LineOptions, ...] = ()
    zones: tuple[ZoneOptions, ...] = ()
    masks: tuple[Annotated[tuple[Point, ...], Meta(min_length=3)], ...] = ()  # where nobody is ever detected
    person_size: Annotated[tuple[PersonClick, ...], Meta(max_length=2)] = ()  # [[foot_y, height], …] of two clicked
    # persons, one near, one far, as shares of the picture's height; empty: learned
    staff_badges: tuple[BadgeOptions, ...] = ()
    heat_rows: Annotated[int, Meta(ge=0, le=64)] = 0
    heat_columns: Annotated[int, Meta(ge=0, le=64)] = 0
    loop: bool = False  # a file starts again at its end
    warm_up_s: Annotated[float, Meta(ge=0, le=120)] | None = None  # how long the empty scene is learned first
    stall_s: Annotated[float, Meta(gt=0)] = 5.0
    memory_mib: Annotated[int, Meta(ge=100)] = 800
    crossings: bool = False  # an event for each crossing, too


class CameraPlan(msgspec.Struct, frozen=True):
    """A camera, ready to be run."""

    settings: CameraSettings
    options: CameraOptions
    vision: VisionSettings
    time_zone: str = "UTC"  # intervals begin at whole minutes of it

    @property
    def name(self) -> str:
        """The camera's name in the configuration."""
        return self.settings.name


def plan_cameras(settings: Settings, file: str) -> list[CameraPlan]:
    """Plans of all enabled cameras, checked.

    Raises:
        ConfigError: the first thing that is wrong, with its path.
    """
    zone = settings.gateway.time_zone
    cameras = enumerate(settings.cameras)
    return [_plan(camera, f"cameras[{index}]", file, zone) for index, camera in cameras if camera.enabled]


def _plan(camera: CameraSettings, where: str, file: str, time_zone: str) -> CameraPlan:
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
        calibration=_calibration(options, where, file),
        warm_up_s=options.warm_up_s,
        model=Path(options.model).expanduser() if options.model else None,
        fps=options.fps,
        interval_s=options.interval_s,
        loop=options.loop,
        stall_s=options.stall_s,
        memory_limit_bytes=options.memory_mib << 20,
    )
    return CameraPlan(camera, options, vision, time_zone)


def _calibration(options: CameraOptions, where: str, file: str) -> Calibration | None:
    if not options.person_size:
        return None
    try:
        return calibration(options.person_size[0], options.person_size[-1])
    except ConfigError as error:
        place = f"{where}.options.person_size"
        raise ConfigError("read configuration", file, f"{place}: {error.reason}", error.hint) from error


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
    lines = {line.name for line in options.lines}
    for index, badge in enumerate(options.staff_badges):
        if badge.line not in lines:
            return f"options.staff_badges[{index}].line", f"there is no line {badge.line!r}", "name one of lines"
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


def secret_of(camera: CameraSettings) -> Secret:
    """User and password of its stream; empty where there are none. Raises ConfigError: the reference leads nowhere."""
    _, user = _address(camera.source)
    return Secret(user, resolve_secret(camera.password, f"cameras.{camera.name}.password"))
