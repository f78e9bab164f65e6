"""The nouns of people counting, as frozen values.

A camera yields a `Frame` (`vision.frame`); a detector turns it into `Detection`s; the tracker joins those into
`Track`s; lines and zones turn tracks into `Crossing`s and `Visit`s; the footfall worker folds them into the interval
structs at the end of this file, which are all that leaves the camera's process. This module must not know how any of
them is computed; nothing in it can hold a pixel, and whoever imports it loads no picture library.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Direction = Literal["in", "out"]
Anchor = Literal["foot", "centre"]
Point: TypeAlias = tuple[float, float]


class Box(msgspec.Struct, frozen=True, gc=False):
    """An axis-aligned box in frame pixels, y downwards."""

    left_px: float
    top_px: float
    width_px: float
    height_px: float

    @property
    def centre(self) -> Point:
        return self.left_px + self.width_px / 2, self.top_px + self.height_px / 2

    @property
    def foot(self) -> Point:
        return self.left_px + self.width_px / 2, self.top_px + self.height_px

    def anchor(self, kind: Anchor) -> Point:
        """The point that is counted: the middle of the lower edge, or of the body."""
        return self.foot if kind == "foot" else self.centre


class Detection(msgspec.Struct, frozen=True, gc=False):
    """A person seen in one frame, without identity. `score` is 0–1."""

    box: Box
    score: float = 1.0


class Track(msgspec.Struct, frozen=True, gc=False):
    """One person over time, as of the present frame.

    Attributes:
        id: positive, never reused by one tracker.
        box: filtered position; a prediction when `observed` is false.
        observed: a detection supports the track in this very frame.
        credible: enough history and motion (or confidence) to be a person and not a flicker or a sign.
        first_s, last_s: stream time of the first and the latest supporting detection.
        velocity_px_s: filtered motion of the box centre, (x, y), px/s.
    """

    id: int
    box: Box
    observed: bool
    credible: bool
    first_s: float
    last_s: float
    velocity_px_s: Point = (0.0, 0.0)


class Line(msgspec.Struct, frozen=True):
    """A directed counting line A→B in relative coordinates (0–1 of width and height).

    *in* is from the side where (B−A)×(P−A) < 0 to the side where it is > 0, in image coordinates (y downwards): a line
    drawn downwards counts right-to-left as in. `entrance` groups the lines of one door.
    """

    name: str
    start: Point
    end: Point
    anchor: Anchor = "foot"
    entrance: str = ""


class ZoneArea(msgspec.Struct, frozen=True):
    """A polygon in relative coordinates. `kind` "staff" marks people who first appear there as staff."""

    name: str
    corners: tuple[Point, ...]
    anchor: Anchor = "foot"
    kind: Literal["zone", "queue", "staff"] = "zone"


class Scene(msgspec.Struct, frozen=True):
    """What is looked for in one camera's picture. `masks` are relative polygons where nobody is ever detected."""

    lines: tuple[Line, ...] = ()
    zones: tuple[ZoneArea, ...] = ()
    masks: tuple[tuple[Point, ...], ...] = ()
    heat_rows: int = 0
    heat_columns: int = 0


class Crossing(msgspec.Struct, frozen=True, gc=False):
    """One person passed one line. `frame` and `time_s` say when the line itself was passed, not when it was certain."""

    line: str
    direction: Direction
    track: int
    frame: int
    time_s: float


class Visit(msgspec.Struct, frozen=True, gc=False):
    """A finished stay of one track in one zone; stream times of the first and last sighting inside."""

    zone: str
    track: int
    entered_s: float
    left_s: float

    @property
    def dwell_s(self) -> float:
        return self.left_s - self.entered_s


class ZoneShare(msgspec.Struct, frozen=True):
    """One zone over a short span: (persons inside, seconds) pairs, and the ids of the different tracks."""

    zone: str
    seconds: tuple[tuple[int, float], ...]
    visitors: tuple[int, ...]


class Slice(msgspec.Struct, frozen=True, tag="slice"):
    """What one camera saw in a span that never crosses an interval's edge; stream time is monotonic seconds.

    Attributes:
        start_s, end_s: capture time of the first and last frame of the span.
        covered_s: seconds of it with frames. frames: processed frames.
        crossings, visits: what became certain now; they may date from earlier spans.
        heat_s: person-seconds per cell, row-major; empty without a heat map.
    """

    start_s: float
    end_s: float
    covered_s: float
    frames: int
    crossings: tuple[Crossing, ...] = ()
    visits: tuple[Visit, ...] = ()
    zones: tuple[ZoneShare, ...] = ()
    heat_s: tuple[float, ...] = ()


class Quality(msgspec.Struct, frozen=True):
    """How much was seen: processed frames, frames a second, the share of the interval with frames (0–1), by what."""

    frames: int
    fps: float
    coverage: float
    detector: str


class FootfallInterval(msgspec.Struct, frozen=True, tag="footfall"):
    """Persons over one line in one interval of capture time; `supersedes` counts earlier reports of the interval."""

    line: str
    entrance: str
    interval_start_s: float
    interval_s: float
    in_count: int
    out_count: int
    quality: Quality
    supersedes: int = 0


class DwellStatistics(msgspec.Struct, frozen=True):
    """Seconds that `n` finished visits lasted; None where n is 0."""

    n: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None


class ZoneInterval(msgspec.Struct, frozen=True, tag="zone"):
    """Occupancy of one zone: `mean_persons` is weighted by time, not by frame."""

    zone: str
    interval_start_s: float
    interval_s: float
    mean_persons: float
    peak_persons: int
    visitors: int
    dwell: DwellStatistics
    quality: Quality


class QueueInterval(msgspec.Struct, frozen=True, tag="queue"):
    """Length of a waiting line, and how long those who left it had waited."""

    zone: str
    interval_start_s: float
    interval_s: float
    mean_persons: float
    peak_persons: int
    wait_p50_s: float | None
    wait_p90_s: float | None
    quality: Quality


class HeatMapInterval(msgspec.Struct, frozen=True, tag="heatmap"):
    """Person-seconds per cell, row-major, `rows` × `columns` over the frame."""

    camera: str
    interval_start_s: float
    interval_s: float
    rows: int
    columns: int
    person_s: tuple[float, ...]
    quality: Quality


Measurement = FootfallInterval | ZoneInterval | QueueInterval | HeatMapInterval
"""What the core maps to events."""


def default_anchor(detector: str) -> Anchor:
    """Where a person is counted unless told otherwise: a mask's lower edge may be a shadow, a network's is the feet."""
    return "centre" if detector == "motion" else "foot"
