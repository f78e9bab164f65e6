"""`storefront count`: persons over lines and in zones of a recorded video, and how right that is.

The same pipeline as the live cameras, driven by a file. A file without a readable frame is an error, never a zero.
Must not know the journal, events or live cameras. Prints nothing but its result and writes nothing but the preview
that is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gateway.errors import ConfigError
from vision.detector import Detector
from vision.detector_motion import MotionDetector
from vision.detector_person import PersonDetector, Runtime
from vision.frame import Frame
from vision.model import Anchor, Crossing, Direction, Line, Point, Scene, Visit, ZoneArea, default_anchor
from vision.person_size import Calibration, PersonClick, PersonSize, calibration
from vision.pipeline import Pipeline
from vision.preview import Preview
from vision.truth import Score, read_truth, score
from vision.video import VideoFile, prepare_ffmpeg
from vision.zone import occupancy

DetectorName = Literal["motion", "person"]


class CountedCrossing(msgspec.Struct, frozen=True):
    """One crossing as printed. `frame` is 1-based; `line` is present where more than one line is counted."""

    frame: int
    direction: Direction
    track: int
    line: str | msgspec.UnsetType = msgspec.UNSET


class CountedZone(msgspec.Struct, frozen=True):
    """One zone as printed: the most persons at once, and how long each visitor stayed."""

    peak: int
    dwells_s: list[float]


class CountResult(msgspec.Struct, frozen=True):
    """What `count` prints as JSON, field by field in this order."""

    in_: int = msgspec.field(name="in")
    out: int
    frames: int
    coverage: float
    crossings: list[CountedCrossing]
    zones: dict[str, CountedZone]
    truth: Score | msgspec.UnsetType = msgspec.UNSET


class CountOptions(msgspec.Struct, frozen=True):
    """What to count and how.

    Attributes:
        lines: start and end, in pixels of the video or in 0–1 where no number exceeds 1.
        zones: name and corners, likewise.
        every: process each n-th frame; 0 = about 12 a second.
        anchor: None = the detector's own.
        persons: calibration: two of (foot y, height) or one for a view from above, in pixels of the video or in shares
            of its height where no number exceeds 1; empty = learned.
    """

    lines: tuple[tuple[Point, Point], ...] = ()
    zones: tuple[tuple[str, tuple[Point, ...]], ...] = ()
    masks: tuple[tuple[Point, ...], ...] = ()
    detector: DetectorName = "motion"
    model: Path | None = None
    runtime: Runtime = "auto"
    anchor: Anchor | None = None
    every: int = 0
    interval_s: float = 60.0
    preview: Path | None = None
    persons: tuple[Point, ...] = ()


def count(video: Path, options: CountOptions) -> tuple[CountResult, list[Crossing], list[Visit]]:
    """Count one recorded file.

    Returns:
        the printable result, every crossing (with stream time), every visit.

    Raises:
        ConfigError: unreadable video, model, line, zone or option.
    """
    detector = build_detector(options.detector, options.model, options.runtime)
    source = VideoFile(str(video), options.every, detector.working_width_px)
    try:
        if options.persons:
            size = calibration_of(options.persons, source.height_px)
            detector = build_detector(options.detector, options.model, options.runtime, size)
        pipeline = Pipeline(detector, scene_of(options, source.width_px, source.height_px))
        if not pipeline.scene.lines and not pipeline.scene.zones:
            raise ConfigError("count", str(video), "nothing to count", "give --line x1,y1,x2,y2 or --zone name=x,y,…")
        pipeline.prepare(source.width_px, source.height_px)
        preview = Preview(options.preview, source.fps / source.every) if options.preview else None
        crossings: list[Crossing] = []
        visits: list[Visit] = []
        peaks: dict[str, int] = {}
        try:
            for frame in _warmed_up(source, detector):
                outcome = pipeline.process(frame)
                crossings += outcome.crossings
                visits += outcome.visits
                if preview is not None:
                    preview.draw(frame, pipeline)
        finally:
            if preview is not None:
                preview.close()
        outcome = pipeline.finish()
        crossings += outcome.crossings
        visits += outcome.visits
        for zone in pipeline.zones:
            peaks[zone.area.name] = occupancy(dict(zone.take().seconds)).peak_persons
        if not pipeline.frames:
            raise ConfigError("count", str(video), "no frame could be decoded", "is the file complete, and a video?")
        crossings.sort(key=lambda crossing: (crossing.frame, crossing.track))
        return _result(source, pipeline, crossings, visits, peaks), crossings, visits
    finally:
        source.close()


def build_detector(
    name: DetectorName,
    model: Path | None = None,
    runtime: Runtime = "auto",
    size: PersonSize | Calibration | None = None,
) -> Detector:
    """The detector called `name`; `size` matters to "motion" alone, a network knows how large people are.

    Raises:
        ConfigError: "person" without a usable model.
    """
    if name == "motion":
        return MotionDetector(size)
    if model is None:
        raise ConfigError("count", "detector person", "needs a model", "give --model FILE (an ONNX network)")
    return PersonDetector(model, runtime)


def _warmed_up(source: VideoFile, detector: Detector) -> Iterator[Frame]:
    """All processed frames, the first ones shown to the detector before they come."""
    frames = source.frames()
    if detector.warm_up_s > 0:
        early: list[Frame] = []
        for frame in frames:
            early.append(frame)
            if frame.time_s >= detector.warm_up_s or frame.image.shape != early[0].image.shape:
                break
        detector.warm_up([frame for frame in early if frame.image.shape == early[0].image.shape])
        early.reverse()
        while early:
            yield early.pop()
    yield from frames


def scene_of(options: CountOptions, width_px: int, height_px: int) -> Scene:
    """Lines and zones in relative coordinates.

    Raises:
        ConfigError: not a finite number.
    """
    anchor = options.anchor or default_anchor(options.detector)
    lines = []
    for number, ends in enumerate(options.lines, start=1):
        start, end = _relative(ends, width_px, height_px)
        lines.append(Line(f"line{number}", start, end, anchor))
    zones = [ZoneArea(name, _relative(corners, width_px, height_px), anchor) for name, corners in options.zones]
    masks = tuple(_relative(corners, width_px, height_px) for corners in options.masks)
    return Scene(tuple(lines), tuple(zones), masks)


def calibration_of(persons: Sequence[Point], picture_height_px: int) -> Calibration:
    """One or two clicked persons as a calibration; one is taken for the size everywhere.

    Raises:
        ConfigError: more than two, or persons that cannot be.
    """
    if len(persons) not in (1, 2):
        raise ConfigError(
            "count", "--person", f"{len(persons)} persons", "click two: one near the camera, one far away"
        )
    scale = 1.0 if all(abs(value) <= 1.0 for person in persons for value in person) else 1.0 / picture_height_px
    clicks = [PersonClick(foot_y * scale, height * scale) for foot_y, height in persons]
    return calibration(clicks[0], clicks[-1])


def _relative(points: Sequence[Point], width_px: int, height_px: int) -> tuple[Point, ...]:
    if all(abs(value) <= 1.0 for point in points for value in point):
        return tuple(points)
    return tuple((x / width_px, y / height_px) for x, y in points)


def _result(
    source: VideoFile, pipeline: Pipeline, crossings: list[Crossing], visits: list[Visit], peaks: dict[str, int]
) -> CountResult:
    several = len(pipeline.lines) > 1
    zones = {
        name: CountedZone(peak, [round(v.dwell_s, 2) for v in sorted(visits, key=_entered) if v.zone == name])
        for name, peak in peaks.items()
    }
    return CountResult(
        in_=sum(crossing.direction == "in" for crossing in crossings),
        out=sum(crossing.direction == "out" for crossing in crossings),
        frames=source.frames_read,
        coverage=round(source.coverage, 4),
        crossings=[
            CountedCrossing(c.frame, c.direction, c.track, c.line if several else msgspec.UNSET) for c in crossings
        ],
        zones=zones,
    )


def _entered(visit: Visit) -> float:
    return visit.entered_s


# -- command ----------------------------------------------------------------------------------------------------


def parse_numbers(text: str, what: str) -> tuple[Point, ...]:
    """ "x1,y1,x2,y2,…" as points.

    Raises:
        ConfigError: not an even count of finite numbers.
    """
    try:
        numbers = [float(part) for part in text.replace(";", ",").replace(" ", ",").split(",") if part]
    except ValueError as error:
        raise ConfigError("count", what, f"{text!r} is not a list of numbers", "write x1,y1,x2,y2") from error
    if len(numbers) < 4 or len(numbers) % 2 or not all(abs(number) < 1e6 for number in numbers):
        raise ConfigError("count", what, f"{text!r} is not a list of points", "write x1,y1,x2,y2")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def parse_line(text: str) -> tuple[Point, Point]:
    """ "x1,y1,x2,y2" as start and end. Raises ConfigError."""
    points = parse_numbers(text, f"--line {text}")
    if len(points) != 2:
        raise ConfigError("count", f"--line {text}", "a line has two points", "write x1,y1,x2,y2")
    return points[0], points[1]


def parse_person(text: str) -> Point:
    """ "y,height" of a clicked person's feet. Raises ConfigError."""
    try:
        foot_y, height = (float(part) for part in text.split(","))
    except ValueError as error:
        what = f"{text!r} is not the feet's y and a height"
        raise ConfigError("count", f"--person {text}", what, "write y,height") from error
    return foot_y, height


def parse_zone(text: str) -> tuple[str, tuple[Point, ...]]:
    """ "name=x1,y1,x2,y2,x3,y3,…"; two points are opposite corners of a rectangle. Raises ConfigError."""
    name, mark, rest = text.partition("=")
    if not mark:
        name, mark, rest = text.partition(":")
    if not mark:
        name, rest = "zone", text
    points = parse_numbers(rest, f"--zone {name}")
    if len(points) == 2:
        (x1, y1), (x2, y2) = points
        points = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    return name.strip() or "zone", points


def main(argv: Sequence[str] | None = None) -> int:
    """`storefront count VIDEO …`; returns 0.

    Raises:
        ConfigError: unreadable video, model, line, zone, truth or option.
        SystemExit: the command line is wrong (2), or help was asked for (0).
    """
    parser = argparse.ArgumentParser(prog="storefront count", description="Count persons in a recorded video.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--line", action="append", default=[], metavar="x1,y1,x2,y2")
    parser.add_argument("--zone", action="append", default=[], metavar="name=x1,y1,…")
    parser.add_argument("--mask", action="append", default=[], metavar="x1,y1,…", help="where nobody is detected")
    parser.add_argument(
        "--person", action="append", default=[], metavar="y,height",
        help="how large a person is: y of the feet and height; give two, one near, one far (without: learned)",
    )  # fmt: skip
    parser.add_argument("--detector", choices=["motion", "person"], default=None)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--runtime", choices=["auto", "cv2", "onnxruntime"], default="auto")
    parser.add_argument("--anchor", choices=["foot", "centre"])
    parser.add_argument("--every", type=int, default=0, metavar="N", help="process each N-th frame")
    parser.add_argument("--interval", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--preview", type=Path, metavar="OUT.mp4")
    parser.add_argument("--truth", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(argv)
    options = CountOptions(
        lines=tuple(parse_line(text) for text in given.line),
        zones=tuple(parse_zone(text) for text in given.zone),
        masks=tuple(parse_numbers(text, "--mask") for text in given.mask),
        detector=given.detector or ("person" if given.model else "motion"),
        model=given.model,
        runtime=given.runtime,
        anchor=given.anchor,
        every=given.every,
        interval_s=given.interval,
        preview=given.preview,
        persons=tuple(parse_person(text) for text in given.person),
    )
    prepare_ffmpeg()  # a damaged file shows in the coverage, not in a decoder's words
    truth = read_truth(given.truth) if given.truth else None
    result, crossings, _ = count(given.video, options)
    if truth is not None:
        result = msgspec.structs.replace(result, truth=score(truth, options.lines, crossings))
    text = msgspec.json.encode(result).decode() if given.json else describe(result, crossings, options)
    sys.stdout.write(text + "\n")
    return 0


def describe(result: CountResult, crossings: Sequence[Crossing], options: CountOptions) -> str:
    """The result for people: in and out per interval, then every crossing."""
    rows = [f"in {result.in_}  out {result.out}  frames {result.frames}  coverage {result.coverage:.1%}"]
    last = max((crossing.time_s for crossing in crossings), default=0.0)
    for index in range(int(last // options.interval_s) + 1 if crossings else 0):
        start = index * options.interval_s
        inside = [c for c in crossings if start <= c.time_s < start + options.interval_s]
        arrived = sum(c.direction == "in" for c in inside)
        rows.append(f"{start:8.0f} s  in {arrived:3d}  out {len(inside) - arrived:3d}")
    rows += [f"frame {c.frame:6d}  {c.direction:3s}  {c.line}  track {c.track}" for c in crossings]
    for name, zone in result.zones.items():
        dwells = ", ".join(f"{dwell:.1f}" for dwell in zone.dwells_s)
        rows.append(f"zone {name}  peak {zone.peak}  dwells {dwells or '–'} s")
    if isinstance(result.truth, Score):
        rows.append(result.truth.describe())
    return "\n".join(rows)
