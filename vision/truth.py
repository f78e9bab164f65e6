"""Scoring a count against the truth: error per direction, matched crossings, precision and recall.

Understands a ground-truth JSON with `crossings` (frame, dir) at the top or under `lines`. "left" and "right" are turned
into *in* and *out* by the direction of the counted line. Must not know how the count was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.errors import ConfigError
from vision.model import Crossing, Direction, Point

TOLERANCE_FRAMES = 10


class TrueCrossing(msgspec.Struct, frozen=True):
    """One crossing of the truth; `direction` is in / out, or left / right / up / down in the picture."""

    frame: int
    direction: str


class Score(msgspec.Struct, frozen=True):
    """How right a count is. `matched` pairs agree in direction and lie within the tolerance of each other."""

    true_in: int
    true_out: int
    error_in: int
    error_out: int
    matched: int
    precision: float
    recall: float

    def describe(self) -> str:
        return (
            f"truth in {self.true_in} ({self.error_in:+d})  out {self.true_out} ({self.error_out:+d})  "
            f"matched {self.matched}  precision {self.precision:.3f}  recall {self.recall:.3f}"
        )


class _RawCrossing(msgspec.Struct):
    frame: int
    dir: str = ""
    direction: str = ""


class _RawLine(msgspec.Struct):
    crossings: list[_RawCrossing] = []


class _RawTruth(msgspec.Struct):
    crossings: list[_RawCrossing] = []
    lines: list[_RawLine] = []


def read_truth(path: Path) -> list[TrueCrossing]:
    """The crossings of a truth file.

    Raises:
        ConfigError: missing file or another shape.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=_RawTruth)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError("read truth", str(path), str(error)) from error
    found = raw.crossings or [crossing for line in raw.lines for crossing in line.crossings]
    return [TrueCrossing(crossing.frame, crossing.direction or crossing.dir) for crossing in found]


def score(
    truth: Sequence[TrueCrossing],
    lines: Sequence[tuple[Point, Point]],
    crossings: Sequence[Crossing],
    tolerance_frames: int = TOLERANCE_FRAMES,
) -> Score:
    """Compare; with several counted lines the first tells which way *in* is."""
    turned = [(true.frame, as_direction(true.direction, lines[0])) for true in truth] if lines else []
    counted = [(crossing.frame, crossing.direction) for crossing in crossings]
    matched = len(match(turned, counted, tolerance_frames))
    true_in = sum(direction == "in" for _, direction in turned)
    counted_in = sum(direction == "in" for _, direction in counted)
    return Score(
        true_in,
        len(turned) - true_in,
        counted_in - true_in,
        len(counted) - counted_in - (len(turned) - true_in),
        matched,
        round(matched / len(counted), 4) if counted else 1.0,
        round(matched / len(turned), 4) if turned else 1.0,
    )


def match(
    truth: Sequence[tuple[int, Direction]], counted: Sequence[tuple[int, Direction]], tolerance_frames: int
) -> list[tuple[int, int]]:
    """Index pairs (truth, counted): earliest first, each used once, same direction, within the tolerance."""
    free = list(range(len(counted)))
    pairs = []
    for index in sorted(range(len(truth)), key=lambda i: truth[i][0]):
        frame, direction = truth[index]
        near = [j for j in free if counted[j][1] == direction and abs(counted[j][0] - frame) <= tolerance_frames]
        if near:
            best = min(near, key=lambda j: (counted[j][0], j))
            pairs.append((index, best))
            free.remove(best)
    return pairs


def as_direction(word: str, line: tuple[Point, Point]) -> Direction:
    """*in* or *out* for "left", "right_to_left", "down" … over a line drawn from its first to its second point.

    Raises:
        ConfigError: an unknown word.
    """
    if word == "in":
        return "in"
    if word == "out":
        return "out"
    heading = word.rpartition("_")[2]
    ways = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
    if heading not in ways:
        raise ConfigError("read truth", word, "not a direction", "use in, out, left, right, up or down")
    (ax, ay), (bx, by) = line
    mx, my = ways[heading]
    return "in" if (bx - ax) * my - (by - ay) * mx > 0 else "out"
