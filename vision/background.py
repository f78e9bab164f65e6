"""What the empty scene looks like, and which pixels of a frame do not belong to it.

The model is an interval per pixel and channel: the learned background, widened by its own noise and by what its
neighbours show, so that one pixel of camera shake moves no edge out of the interval. Light steps are taken out by a
robust gain before comparing, larger shake by phase correlation, shadows and reflections by their constant ratio to the
background. Persons who stand are protected from being learned; what is left lying is learned in the end. Must not
know persons' sizes, tracks or lines.

*Source*: the spatial tolerance is in the spirit of Barnich & Van Droogenbroeck, "ViBe", 2011; the brightness ratio as
the mark of shadows is Horprasert et al., "A statistical approach for real-time robust background subtraction", 1999.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from vision.model import Image

Floats = NDArray[np.float32]


class BackgroundOptions(msgspec.Struct, frozen=True):
    """Numbers of the background model.

    Attributes:
        least_step: grey levels by which a pixel must leave its interval.
        noise_sigmas: widening by the pixel's own noise.
        most_step: no pixel's interval is widened further than this.
        refresh_s: how often the model is adapted.
        adapt_s: time constant of adaptation where nobody is.
        forget_s: what stays unchanged this long where no person is known becomes background …
        forget_person_s: … and where a person is known.
        shadow_darkest, shadow_brightest: ratios to the background that a shadow or reflection can have.
        shadow_colour: largest difference of the three channels' ratios in a shadow.
        flood_share: a mask larger than this is a change of the whole picture, not persons.
    """

    least_step: float = 12.0
    noise_sigmas: float = 3.0
    most_step: float = 45.0
    refresh_s: float = 0.33
    adapt_s: float = 12.0
    forget_s: float = 12.0
    forget_person_s: float = 90.0
    shadow_darkest: float = 0.50
    shadow_brightest: float = 1.18
    shadow_colour: float = 0.10
    flood_share: float = 0.7


class Background:
    """Adaptive background of one fixed camera. All images are (H, W, 3) uint8 BGR of one size."""

    def __init__(self, options: BackgroundOptions | None = None) -> None:
        self.options = options or BackgroundOptions()
        self.ready = False
        self.shaky = False
        self._kernel = np.ones((3, 3), np.uint8)

    def learn(self, images: Sequence[Image]) -> None:
        """Start from the per-pixel median of at most 41 of `images` (at least one)."""
        picked = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(41, len(images))).astype(int))]
        middle = picked[len(picked) // 2]
        self._window: Floats | None = None
        shifts = np.array([self._shift(_grey(image), _grey(middle)) for image in picked])
        self.shaky = bool(np.percentile(np.hypot(shifts[:, 0], shifts[:, 1]), 80) > 0.6)
        if self.shaky:
            picked = [_moved(image, shift) for image, shift in zip(picked, shifts, strict=True)]
        stack = np.stack(picked)
        median = np.median(stack, axis=0).astype(np.float32)
        spread = np.median(np.abs(stack.astype(np.int16) - median.astype(np.int16)), axis=0).astype(np.float32)
        self._mean = median
        self._noise = cv2.blur(np.asarray(spread * 1.4826, dtype=np.float32), (3, 3))
        height, width = middle.shape[:2]
        self._steady = self._mean.copy()
        self._steady_s = np.zeros((height, width), dtype=np.float32)
        self._refreshed_s: float | None = None
        self._gain = np.ones(3)
        self._rebuild()
        self.ready = True

    def foreground(self, image: Image, time_s: float, persons: Image | None) -> Image:
        """Which pixels belong to something that is not background, without shadows.

        Args:
            image: the frame, already free of sensor noise (slightly blurred).
            time_s: its capture time. persons: (H, W) uint8 mask of where persons are known to be, or None.

        Returns:
            (H, W) uint8, 0 or 255.
        """
        if not self.ready:
            self.learn([image])
        if self.shaky:
            image = _moved(image, self._shift(_grey(image), self._grey))
        image = self._even_light(image)
        mask = cv2.bitwise_not(cv2.inRange(image, self._low, self._high))
        share = cv2.countNonZero(mask) / mask.size
        if share > self.options.flood_share:
            self._mean[:] = image
            self._rebuild()
            return np.zeros_like(mask)
        if share > 0:
            mask = self._without_shadow(image, mask)
        if self._refreshed_s is None or time_s - self._refreshed_s >= self.options.refresh_s:
            self._refresh(image, mask, persons, time_s)
        return mask

    # -- adapting -----------------------------------------------------------------------------------------------

    def _refresh(self, image: Image, mask: Image, persons: Image | None, time_s: float) -> None:
        options = self.options
        step_s = min(2.0, time_s - self._refreshed_s) if self._refreshed_s is not None else 0.0
        self._refreshed_s = time_s
        if step_s <= 0:
            return
        near = cv2.dilate(mask, self._kernel, iterations=2)
        if persons is not None:
            near = cv2.bitwise_or(near, persons)
        calm = cv2.bitwise_not(near)
        share = min(1.0, step_s / options.adapt_s)
        apart = cv2.absdiff(image, cv2.convertScaleAbs(self._mean)).astype(np.float32)
        cv2.accumulateWeighted(image, self._mean, share, calm)
        cv2.accumulateWeighted(apart * 1.25, self._noise, share / 2, calm)
        # What does not belong to the background, but has not changed for long, is learned after all.
        moved = cv2.absdiff(image, cv2.convertScaleAbs(self._steady)).max(axis=2)
        still = (moved <= options.least_step + 4) & (mask > 0)
        self._steady_s = np.where(still, self._steady_s + np.float32(step_s), np.float32(0))
        cv2.accumulateWeighted(image, self._steady, 0.3)
        if persons is not None:
            limit = np.where(persons > 0, np.float32(options.forget_person_s), np.float32(options.forget_s))
        else:
            limit = np.full(mask.shape, options.forget_s, dtype=np.float32)
        old = self._steady_s > limit
        if old.any():
            self._mean[old] = image[old]
            self._steady_s[old] = 0
        self._rebuild()

    def _rebuild(self) -> None:
        options = self.options
        widen = np.clip(self._noise * options.noise_sigmas + options.least_step, options.least_step, options.most_step)
        mean = self._mean
        low, high = cv2.erode(mean, self._kernel), cv2.dilate(mean, self._kernel)
        self._low = cv2.convertScaleAbs(np.clip(low - widen, 0, 255))
        self._high = cv2.convertScaleAbs(np.clip(high + widen, 0, 255))
        self._flat = cv2.convertScaleAbs(mean)
        self._grey = _grey(self._flat)
        self._samples = self._flat[2::8, 2::8].astype(np.float32) + 1.0

    # -- light, shake, shadow ------------------------------------------------------------------------------------

    def _even_light(self, image: Image) -> Image:
        """Undo a change of light or exposure that the whole picture shares."""
        ratio = (image[2::8, 2::8].astype(np.float32) + 1.0) / self._samples
        usable = (self._samples > 20).all(axis=2) & (self._samples < 245).all(axis=2)
        if usable.sum() < 30:
            return image
        gain = np.median(ratio[usable], axis=0)
        if np.abs(gain - 1).max() < 0.02 or not (gain.min() > 0.3 and gain.max() < 3.0):
            return image
        inverse = (1.0 / gain).tolist()
        return np.asarray(cv2.multiply(image, (*inverse, 1.0)))

    def _without_shadow(self, image: Image, mask: Image) -> Image:
        options = self.options
        x, y, width, height = cv2.boundingRect(mask)
        part = np.s_[y : y + height, x : x + width]
        ratio = cv2.divide(image[part], self._flat[part], scale=100)
        blue, green, red = cv2.split(ratio)
        highest, lowest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
        dim = cv2.inRange(green, round(options.shadow_darkest * 100), round(options.shadow_brightest * 100))  # type: ignore[call-overload]
        plain = cv2.inRange(cv2.subtract(highest, lowest), 0, round(options.shadow_colour * 100))  # type: ignore[call-overload]
        shadow = cv2.bitwise_and(cv2.bitwise_and(dim, plain), mask[part])
        # Cloth has texture of its own: where edges differ from the background's, it is no shadow.
        edges = cv2.absdiff(_edges(_grey(image[part])), _edges(self._grey[part]))
        shadow[cv2.dilate(edges, self._kernel) > 28] = 0
        kept = mask.copy()
        kept[part] = cv2.bitwise_and(mask[part], cv2.bitwise_not(shadow))
        return kept

    def _shift(self, grey: Image, reference: Image) -> NDArray[np.float64]:
        """How far `grey` lies from `reference`, (x, y) px; zero where it cannot be told."""
        half = (grey.shape[1] // 2, grey.shape[0] // 2)
        a = cv2.resize(reference, half, interpolation=cv2.INTER_AREA).astype(np.float32)
        b = cv2.resize(grey, half, interpolation=cv2.INTER_AREA).astype(np.float32)
        if self._window is None or self._window.shape != a.shape:
            self._window = cv2.createHanningWindow(half, cv2.CV_32F)
        (dx, dy), response = cv2.phaseCorrelate(a, b, self._window)
        limit = 0.12 * half[0]
        if response < 0.05 or abs(dx) > limit or abs(dy) > limit:
            return np.zeros(2)
        return np.array([dx * 2, dy * 2])


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def _edges(grey: Image) -> Image:
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))


def _moved(image: Image, shift: NDArray[np.float64]) -> Image:
    """`image` moved back by `shift`, edges repeated."""
    if np.abs(shift).max() < 0.3:
        return image
    matrix = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]], dtype=np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
