"""How large a person is at each height of the picture, as two numbers, and the two clicks that give them.

A person's height in pixels grows about linearly with the height of the feet in an oblique view and is constant from
straight above. Must not know pixels, tracks or lines; `vision.size_learning` learns a size where nobody has clicked.
"""

from __future__ import annotations

import math

import msgspec

from gateway.errors import ConfigError

SMALLEST_SHARE, LARGEST_SHARE = 0.01, 2.0
"""Of the picture's height: a smaller person cannot be counted, a larger one does not fit."""
SAME_PLACE_SHARE = 0.02
"""Feet that lie closer together in height give no slope, only a mean."""


class PersonSize(msgspec.Struct, frozen=True):
    """Height = `base_px` + `slope` · y of the box's lower edge; width = `aspect` · height; `fill` = mask in the box.

    `learned` is false for the first guess made from the frame's size.
    """

    base_px: float
    slope: float = 0.0
    aspect: float = 0.45
    fill: float = 0.6
    learned: bool = True

    def height_px(self, foot_y_px: float) -> float:
        return max(6.0, self.base_px + self.slope * foot_y_px)

    def width_px(self, foot_y_px: float) -> float:
        return self.aspect * self.height_px(foot_y_px)

    def area_px(self, foot_y_px: float) -> float:
        """Mask pixels of one person."""
        height = self.height_px(foot_y_px)
        return self.fill * self.aspect * height * height


class PersonClick(msgspec.Struct, frozen=True, array_like=True):
    """One person clicked in the picture: y of the feet and the person's height, as shares (0–1) of its height."""

    foot_y: float
    height: float


class Calibration(msgspec.Struct, frozen=True):
    """Two clicked persons, one near and one far where the view is oblique; holds for every size of the picture."""

    near: PersonClick
    far: PersonClick

    def size(self, picture_height_px: int) -> PersonSize:
        """The size in a picture of that height."""
        scaled = [
            (click.foot_y * picture_height_px, click.height * picture_height_px) for click in (self.near, self.far)
        ]
        return calibrated(scaled[0], scaled[1], least_apart_px=SAME_PLACE_SHARE * picture_height_px)


def calibration(first: PersonClick, second: PersonClick) -> Calibration:
    """Two clicks, checked.

    Raises:
        ConfigError: no such person can be in a picture, or the two contradict each other.
    """
    for click in (first, second):
        if not (math.isfinite(click.foot_y) and -0.5 <= click.foot_y <= 1.5):
            raise _wrong(f"feet at {click.foot_y:g} of the picture's height", "the feet lie in the picture: 0 to 1")
        if not (math.isfinite(click.height) and SMALLEST_SHARE <= click.height <= LARGEST_SHARE):
            limits = f"{SMALLEST_SHARE:g} to {LARGEST_SHARE:g}"
            raise _wrong(f"a person {click.height:g} of the picture high", f"from head to foot: {limits}")
    near, far = sorted((first, second), key=lambda click: -click.foot_y)
    if near.foot_y - far.foot_y >= SAME_PLACE_SHARE and near.height < 0.8 * far.height:
        raise _wrong("the person further up is the larger one", "are the two clicks mixed up?")
    return Calibration(near, far)


def guessed(width_px: int, height_px: int) -> PersonSize:
    """Before anything is known: a fifth of the picture high."""
    return PersonSize(0.22 * height_px, 0.0, 0.6, 0.6, learned=False)


def calibrated(
    first: tuple[float, float], second: tuple[float, float], aspect: float = 0.45, least_apart_px: float = 1.0
) -> PersonSize:
    """From two clicked persons, each (y of the feet, height), px."""
    (y1, h1), (y2, h2) = first, second
    slope = (h2 - h1) / (y2 - y1) if abs(y2 - y1) >= least_apart_px else 0.0
    return PersonSize(h1 - slope * y1 if slope else (h1 + h2) / 2, slope, aspect)


def _wrong(reason: str, hint: str) -> ConfigError:
    return ConfigError("calibrate", "person size", reason, hint)
