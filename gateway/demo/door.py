"""The demo's main door: people who are drawn for a camera, and what the camera should have counted of them.

Who walks when is decided by the machine's monotonic clock and a seed, so the shop, the camera's process and the books
know the same people without talking to each other. Their number follows the shop's trade as far as a door can take
them; the rest of the shop's visitors take the side door. Knows the doorway and the journal's counts; no pixel.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import msgspec

from gateway.demo.books import Line, PixelCount

if TYPE_CHECKING:
    from vision.synthetic_camera import Doorway

MOST_A_MINUTE: Final = 36  # people, in and out; more do not fit through the drawn door
_SHARE: Final = 0.45  # of the shop's mean traffic: what the quietest hour has
_WHOLE: Final = 0.98  # coverage from which on an interval is compared with everybody who walked in it
_TOLERANCE_SHARE: Final = 0.05
_TOLERANCE: Final = 3  # people more or less, however few there were
_CLOCK_STEP_S: Final = 3600.0  # by whole hours the demo steps the gateway's clock


class Sums(msgspec.Struct):
    """What was counted and what was true, over the same intervals."""

    counted: int = 0
    true: int = 0


class DemoDoor:
    """The people of one demo."""

    def __init__(self, seed: int, an_hour: float) -> None:
        """`an_hour`: how many come into the shop in an hour of the clock."""
        self.people_a_minute = max(1, min(MOST_A_MINUTE, round(_SHARE * 2 * an_hour / 60)))
        self.share = min(1.0, self.people_a_minute * 30 / an_hour)  # of all who come
        self.source = f"synthetic:top:{seed}:{self.people_a_minute}"
        self._doorway: Doorway | None = None

    def passed(self, from_s: float, to_s: float) -> tuple[int, int]:
        """How many came in and went out between two moments of monotonic time."""
        if self._doorway is None:
            from vision.synthetic_camera import doorway  # OpenCV; the gateway is starting meanwhile

            self._doorway = doorway(self.source.removeprefix("synthetic:"))
        ways = [crossing.direction for _, crossing in self._doorway.crossings(from_s, to_s)]
        return ways.count("in"), ways.count("out")

    def compared(self, pixels: dict[tuple[str, str], PixelCount]) -> list[Line]:
        """The camera's counts beside the truth of the same intervals; only intervals that were seen are compared.

        An interval that was seen in part can prove only that nobody was invented.
        """
        whole = (Sums(), Sums())
        invented, dark_s = [0, 0], 0.0
        begun_s, ended_s = float("inf"), 0.0
        for count in pixels.values():
            start_s = _mono_s(count)
            end_s = start_s + count.interval_s
            begun_s, ended_s = min(begun_s, start_s), max(ended_s, end_s)
            dark_s -= count.interval_s * count.coverage
            for way, (counted, true) in enumerate(
                zip((count.came, count.left), self.passed(start_s, end_s), strict=True)
            ):
                if count.coverage >= _WHOLE:
                    whole[way].counted += counted
                    whole[way].true += true
                else:
                    invented[way] += max(0, counted - true - 1)
        dark_s += max(0.0, ended_s - begun_s)
        note = f"within {_TOLERANCE_SHARE:.0%} and {_TOLERANCE}"
        note += f"; {dark_s:.0f} s dark, told as dark" if dark_s >= 1.0 else ""
        note = note if pixels else "no interval of the camera has ended yet"
        return [
            _line(f"camera {name}", sums, extra, note)
            for name, sums, extra in zip(("in", "out"), whole, invented, strict=True)
        ]


def _line(what: str, sums: Sums, invented: int, note: str) -> Line:
    allowed = _TOLERANCE + round(_TOLERANCE_SHARE * sums.true)
    missing = max(0, sums.true - sums.counted - allowed)
    extra = max(0, sums.counted - sums.true - allowed) + max(0, invented - _TOLERANCE)
    return Line(what, sums.true, sums.counted, missing, extra, note, ("walked", "counted"))


def _mono_s(count: PixelCount) -> float:
    """When the interval began on the machine's clock; the gateway's may have been stepped by whole hours."""
    machine_s = time.time() - time.monotonic()
    stepped = round((count.recorded_s - count.mono_s - machine_s) / _CLOCK_STEP_S)
    return count.start_s - machine_s - stepped * _CLOCK_STEP_S
