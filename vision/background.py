"""What the empty scene looks like, and which pixels of a frame do not belong to it.

The model is an interval per pixel and channel: the learned background, widened by its own noise and by what its
neighbours show, so that one pixel of camera shake moves no edge out of the interval. Light steps are taken out by a
robust gain before comparing, larger shake by the motion of the scene's corners, shadows and reflections by their
constant ratio to the background. Persons who stand are protected from being learned; what is left lying is learned in
the end. Must not know tracks or lines.

*Source*: the spatial tolerance is in the spirit of Barnich & Van Droogenbroeck, "ViBe", 2011; the brightness ratio as
the mark of shadows is Horprasert et al., "A statistical approach for real-time robust background subtraction", 1999.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from vision.components import components, majority
from vision.frame import Image
from vision.stabiliser import Stabiliser, shift_px, undone

Floats = NDArray[np.float32]
SHAKY_PX = 0.6
SAME_GREY = 14
LIGHT_STEP = 14


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
        ghost_s: what is still for this long is looked at whether it is a hole in the background.
        shadow_darkest, shadow_brightest: ratios to the background that a shadow or reflection can have.
        shadow_colour: largest difference of the three channels' ratios in a shadow.
        flood_share: a mask larger than this is a change of the whole picture, not persons.
    """

    least_step: float = 12.0
    noise_sigmas: float = 3.0
    most_step: float = 45.0
    refresh_s: float = 0.4
    adapt_s: float = 12.0
    forget_s: float = 12.0
    forget_person_s: float = 90.0
    ghost_s: float = 1.5
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
        self.person_height_px = 0.0

    @property
    def picture(self) -> Image:
        """The background as it is now, (H, W, 3) uint8 BGR. Only when `ready`."""
        return self._flat.copy()

    def learn(self, images: Sequence[Image]) -> None:
        """Start from what recurs in at most 41 of `images` (at least one), see `recurring`."""
        picked = [images[i] for i in np.unique(np.linspace(0, len(images) - 1, min(41, len(images))).astype(int))]
        middle = picked[len(picked) // 2]
        height, width = middle.shape[:2]
        self._stabiliser = Stabiliser(_grey(middle))
        motions = [self._stabiliser.motion(_grey(image)) for image in picked]
        shifts = [shift_px(motion, width, height) for motion in motions]
        self.shaky = float(np.percentile(shifts, 60)) > SHAKY_PX
        if self.shaky:
            known = [(image, motion) for image, motion in zip(picked, motions, strict=True) if motion is not None]
            picked = [undone(image, motion, middle) for image, motion in known]
        self._mean, self._noise = recurring(picked)
        height, width = picked[0].shape[:2]
        self._steady = self._mean.copy()
        self._steady_s = np.zeros((height, width), dtype=np.float32)
        self._refreshed_s: float | None = None
        self._most = np.full(self._mean.shape, self.options.most_step, dtype=np.uint8)
        self._rebuild()
        self.ready = True

    def foreground(self, image: Image, time_s: float, persons: Image | None, settling: bool = False) -> Image:
        """Which pixels belong to something that is not background, without shadows.

        Args:
            image: the frame, already free of sensor noise (slightly blurred).
            time_s: its capture time. persons: (H, W) uint8 mask of where persons are known to be, or None.
            settling: nobody is known yet, so nothing that stands is forgotten soon.

        Returns:
            (H, W) uint8, 0 or 255.
        """
        if not self.ready:
            self.learn([image])
        image = self._even_light(image)
        if self.shaky:
            motion = self._stabiliser.motion(_grey(image))
            if motion is not None:
                image = undone(image, motion, self._flat)
        mask: Image = np.asarray(cv2.bitwise_not(cv2.inRange(image, self._low, self._high)), dtype=np.uint8)
        share = cv2.countNonZero(mask) / mask.size
        if share > self.options.flood_share:
            self._mean[:] = image
            self._rebuild()
            return np.zeros_like(mask)
        self._raw = mask
        if share > 0:
            mask = self._without_shadow(image, mask)
        if self._refreshed_s is None or time_s - self._refreshed_s >= self.options.refresh_s:
            self._refresh(image, mask, persons, time_s, settling)
        return mask

    # -- adapting -----------------------------------------------------------------------------------------------

    def _refresh(self, image: Image, mask: Image, persons: Image | None, time_s: float, settling: bool) -> None:
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
        apart = cv2.absdiff(image, self._flat)
        cv2.accumulateWeighted(image, self._mean, share, calm)
        cv2.accumulateWeighted(cv2.convertScaleAbs(apart, alpha=1.25), self._noise, share / 2, calm)
        # What does not belong to the background, but has not changed for long, is learned after all.
        blue, green, red = cv2.split(cv2.absdiff(image, cv2.convertScaleAbs(self._steady)))
        moved = cv2.max(cv2.max(blue, green), red)
        still = (moved <= options.least_step + 4) & (self._raw > 0)
        self._steady_s = np.where(still, self._steady_s + np.float32(step_s), np.float32(0))
        cv2.accumulateWeighted(image, self._steady, 0.3)
        if persons is not None:
            limit = np.where(persons > 0, np.float32(options.forget_person_s), np.float32(options.forget_s))
        else:
            forget_s = options.forget_person_s if settling else options.forget_s
            limit = np.full(mask.shape, forget_s, dtype=np.float32)
        old = (self._steady_s > limit) | self._ghosts(image, self._raw)
        if old.any():
            self._mean[old] = image[old]
            self._steady_s[old] = 0
        self._rebuild()

    def _ghosts(self, image: Image, mask: Image) -> NDArray[np.bool_]:
        """Still blobs whose outline is in the background and not in the frame: somebody learned by mistake has left.

        *Source*: Cucchiara et al., "Detecting moving objects, ghosts, and shadows in video streams", 2003.
        """
        ghosts = np.zeros(mask.shape, dtype=bool)
        still = (self._steady_s > self.options.ghost_s) & (mask > 0)
        least = 0.002 * mask.size
        if np.count_nonzero(still) < least:
            return ghosts
        closed = cv2.morphologyEx(majority(mask), cv2.MORPH_CLOSE, self._kernel)
        here, learned = _edges(_grey(image)), _edges(self._grey)
        for part in components(np.asarray(closed, dtype=np.uint8)):
            if part.area < least:
                continue
            box = np.s_[part.top : part.bottom, part.left : part.right]
            blob = part.filled()
            if np.count_nonzero(still[box] & (blob > 0)) < 0.6 * part.area:
                continue
            outline = cv2.morphologyEx(blob, cv2.MORPH_GRADIENT, self._kernel) > 0
            if float(learned[box][outline].mean()) > 1.3 * float(here[box][outline].mean()) + 2:
                ghosts[box] |= blob > 0
        return ghosts

    def _rebuild(self) -> None:
        options = self.options
        widen = cv2.convertScaleAbs(self._noise, alpha=options.noise_sigmas, beta=options.least_step)
        widen = cv2.min(widen, self._most)
        self._flat: Image = np.asarray(cv2.convertScaleAbs(self._mean), dtype=np.uint8)
        self._low = cv2.subtract(cv2.erode(self._flat, self._kernel), widen)  # both saturate
        self._high = cv2.add(cv2.dilate(self._flat, self._kernel), widen)
        self._grey = _grey(self._flat)
        samples = self._flat[2::LIGHT_STEP, 2::LIGHT_STEP].reshape(-1, 3).astype(np.float32) + 1.0
        self._bright = np.flatnonzero((samples > 20).all(axis=1) & (samples < 245).all(axis=1))
        self._inverse = 1.0 / samples[self._bright]

    # -- light, shake, shadow ------------------------------------------------------------------------------------

    def _even_light(self, image: Image) -> Image:
        """Undo a change of light or exposure that the whole picture shares."""
        if len(self._bright) < 30:
            return image
        seen = image[2::LIGHT_STEP, 2::LIGHT_STEP].reshape(-1, 3)[self._bright]
        ratios = (seen + np.float32(1.0)) * self._inverse
        middle = len(ratios) // 2
        gain = np.partition(ratios, middle, axis=0)[middle]  # the median, without `np.median`'s ceremony
        if np.abs(gain - 1).max() < 0.02 or not (gain.min() > 0.3 and gain.max() < 3.0):
            return image
        inverse = (1.0 / gain).tolist()
        return np.asarray(cv2.multiply(image, np.array([*inverse, 1.0])), dtype=np.uint8)

    def _without_shadow(self, image: Image, mask: Image) -> Image:
        options = self.options
        x, y, width, height = cv2.boundingRect(mask)
        part = np.s_[y : y + height, x : x + width]
        ratio = cv2.divide(image[part], self._flat[part], scale=100)
        blue, green, red = cv2.split(ratio)
        highest, lowest = cv2.max(cv2.max(blue, green), red), cv2.min(cv2.min(blue, green), red)
        dim = cv2.inRange(green, round(options.shadow_darkest * 100), round(options.shadow_brightest * 100))
        plain = cv2.inRange(cv2.subtract(highest, lowest), 0, round(options.shadow_colour * 100))
        shadow = cv2.bitwise_and(cv2.bitwise_and(dim, plain), mask[part])
        # Cloth has texture of its own: where edges differ from the background's, it is no shadow.
        edges = cv2.absdiff(_edges(_grey(image[part])), _edges(self._grey[part]))
        shadow[cv2.dilate(edges, self._kernel) > 28] = 0
        kept = mask.copy()
        solid = cv2.bitwise_and(mask[part], cv2.bitwise_not(shadow))
        # Plain clothes darken the wall as a shadow would, but they hang between a head and feet.
        tall = max(5, round(0.6 * (self.person_height_px or 0.15 * mask.shape[0])))
        solid = majority(np.asarray(solid, dtype=np.uint8))
        hung = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((tall, 1), np.uint8))
        kept[part] = cv2.bitwise_and(mask[part], cv2.bitwise_or(hung, solid))
        return kept


def recurring(images: Sequence[Image]) -> tuple[Floats, Floats]:
    """The empty scene and its noise, (H, W, 3) float32 each, from pictures with people in them.

    Per pixel the value that recurs most: who stands long holds a pixel once, the floor comes back after everyone. A run
    of equal values therefore weighs only the logarithm of its length.
    """
    small = [cv2.resize(_grey(image), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for image in images]
    grey = np.stack(small).astype(np.int16)
    count = len(grey)
    run = np.ones(grey.shape, dtype=np.float32)
    for index in range(1, count):
        same = np.abs(grey[index] - grey[index - 1]) < SAME_GREY
        run[index] = np.where(same, run[index - 1] + 1, 1)
    weight = 1 / run
    best = np.zeros(grey.shape[1:], dtype=np.float32)
    chosen = grey[count // 2].copy()
    for index in range(count):
        votes = ((np.abs(grey - grey[index]) < SAME_GREY) * weight).sum(axis=0)
        better = votes > best
        best = np.where(better, votes, best)
        chosen[better] = grey[index][better]
    height, width = images[0].shape[:2]
    target = cv2.resize(chosen.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    total = np.zeros((height, width, 3), dtype=np.float32)
    square = np.zeros_like(total)
    times = np.zeros((height, width, 1), dtype=np.float32)
    for image in images:
        near = (np.abs(_grey(image).astype(np.float32) - target) < 1.5 * SAME_GREY)[..., None]
        total += np.where(near, image, np.float32(0))
        square += np.where(near, np.float32(image) ** 2, np.float32(0))
        times += near
    known = np.maximum(times, 1)
    mean = np.where(times > 0, total / known, np.median(np.stack(images[:: max(1, count // 11)]), axis=0))
    deviation = np.sqrt(np.maximum(square / known - (total / known) ** 2, 0))
    noise = cv2.blur(np.asarray(deviation, dtype=np.float32), (3, 3))
    return mean.astype(np.float32), np.asarray(noise, dtype=np.float32)


def _grey(image: Image) -> Image:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))


def _edges(grey: Image) -> Image:
    return np.asarray(cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
