"""Scenes drawn by the project itself, with exact truth: the test instrument of counting, and the demo store's camera.

People are drawn as a camera sees them, straight from above (shoulders, head, swinging arms) or obliquely (head, body,
legs, growing towards the viewer), on a floor with texture, under noise, light steps, shake and dropped frames. Where
everybody walks is a script in floor coordinates, so every crossing is known before a pixel exists. Nothing here looks
at detectors or tracks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import cv2
import msgspec
import numpy as np

from vision.frame import Frame, Image
from vision.model import Point
from vision.truth import TrueCrossing

View = Literal["top", "oblique"]
Colour = tuple[int, int, int]

CLEAR_SIZES = 0.30
"""A walker has crossed when the body's middle has been this far (in shoulder widths) on both sides of the line."""


class Walker(msgspec.Struct, frozen=True):
    """One person's way: (time_s, x, y) corners in relative picture coordinates of the feet; linear in between.

    Attributes:
        size: shoulder width relative to the picture's width, at the middle of the picture.
        cloth, trousers, hair: BGR.
        pram: pushes a pram ahead.
    """

    way: tuple[tuple[float, float, float], ...]
    size: float = 0.09
    cloth: Colour = (60, 60, 160)
    trousers: Colour = (70, 50, 40)
    hair: Colour = (30, 35, 45)
    pram: bool = False
    phase: float = 0.0

    def at(self, time_s: float) -> Point | None:
        """Relative position of the feet, None before the first and after the last corner."""
        if not self.way[0][0] <= time_s <= self.way[-1][0]:
            return None
        for (t1, x1, y1), (t2, x2, y2) in zip(self.way, self.way[1:], strict=False):
            if time_s <= t2:
                share = (time_s - t1) / (t2 - t1) if t2 > t1 else 1.0
                return x1 + share * (x2 - x1), y1 + share * (y2 - y1)
        return self.way[-1][1:]


class SyntheticScene(msgspec.Struct, frozen=True):
    """Everything that determines a scene; the same scene always gives the same pixels.

    Attributes:
        line: counted line in relative coordinates, of the feet (oblique) or the body's middle (top).
        light_steps: (time_s, gain) from that time on.
        drops: (from_s, to_s, fps) spans with fewer frames.
        mirrored, reversed_: the picture flipped left to right; time run backwards.
        pillar: an occluder (left, right) in relative x, in front of everybody.
    """

    name: str
    view: View
    walkers: tuple[Walker, ...]
    line: tuple[Point, Point]
    duration_s: float
    fps: float = 10.0
    width_px: int = 384
    height_px: int = 288
    noise: float = 3.0
    shake_px: float = 0.0
    light_steps: tuple[tuple[float, float], ...] = ()
    drops: tuple[tuple[float, float, float], ...] = ()
    texture: float = 14.0
    floor: Colour = (120, 128, 132)
    shadow: bool = True
    pillar: tuple[float, float] | None = None
    mirrored: bool = False
    reversed_: bool = False
    seed: int = 1

    # -- truth --------------------------------------------------------------------------------------------------

    def times(self) -> list[tuple[int, float]]:
        """(frame number, capture time) of every frame that is delivered."""
        kept = []
        next_s = -1.0
        for index in range(round(self.duration_s * self.fps)):
            time_s = index / self.fps
            fps = next((slow for begin, end, slow in self.drops if begin <= time_s < end), self.fps)
            if time_s + 1e-9 >= next_s:
                kept.append((index + 1, time_s))
                next_s = time_s + 1 / fps
        return kept

    def crossings(self) -> list[TrueCrossing]:
        """All crossings, by frame of the full frame rate."""
        found: list[TrueCrossing] = []
        for walker in self.walkers:
            found += self._crossings_of(walker)
        return sorted(found, key=lambda crossing: crossing.frame)

    def _crossings_of(self, walker: Walker) -> list[TrueCrossing]:
        (ax, ay), (bx, by) = [(x * self.width_px, y * self.height_px) for x, y in self.line_drawn]
        length = math.hypot(bx - ax, by - ay)
        clear = CLEAR_SIZES * walker.size * self.width_px
        side, passed, found = 0, 0, []
        last = 0.0
        for index in range(round(self.duration_s * self.fps)):
            place = self.place(walker, index / self.fps)
            if place is None:
                continue
            x, y = place[0] * self.width_px, place[1] * self.height_px
            distance = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length
            along = ((bx - ax) * (x - ax) + (by - ay) * (y - ay)) / length**2
            if distance * last <= 0:
                passed = index + 1
            last = distance
            now = 0 if abs(distance) < clear else int(math.copysign(1, distance))
            if now and side and now != side and 0 <= along <= 1:
                found.append(TrueCrossing(passed, "in" if now > 0 else "out"))
            side = now or side
        return found

    @property
    def line_drawn(self) -> tuple[Point, Point]:
        """The line as it lies in the delivered picture; mirroring keeps its direction from start to end."""
        if not self.mirrored:
            return self.line
        return (1 - self.line[0][0], self.line[0][1]), (1 - self.line[1][0], self.line[1][1])

    def place(self, walker: Walker, time_s: float) -> Point | None:
        """Where the walker's feet are in the delivered picture at stream time `time_s`."""
        own = self.duration_s - 1 / self.fps - time_s if self.reversed_ else time_s
        place = walker.at(own)
        if place is None or not self.mirrored:
            return place
        return 1 - place[0], place[1]

    # -- pixels -------------------------------------------------------------------------------------------------

    def frames(self) -> Iterator[Frame]:
        """The delivered frames, (height_px, width_px, 3) uint8 BGR."""
        rng = np.random.default_rng(self.seed)
        painter = Painter(self, rng)
        sway = np.zeros(2)
        for number, time_s in self.times():
            image = painter.paint(self.walkers, time_s)
            if self.shake_px:
                sway = 0.7 * sway + rng.normal(0, self.shake_px, 2)
                image = _shifted(image, float(sway[0]), float(sway[1]))
            gain = 1.0
            for begin, value in self.light_steps:
                gain = value if time_s >= begin else gain
            if gain != 1.0:
                image = np.asarray(cv2.convertScaleAbs(image, alpha=gain), dtype=np.uint8)
            if self.noise:
                grain = painter.grain(rng)
                image = np.clip(image.astype(np.int16) + grain, 0, 255).astype(np.uint8)
            yield Frame(np.asarray(image, dtype=np.uint8), number, time_s)


class Painter:
    """Draws one scene's frames; keeps the floor and a pool of noise."""

    def __init__(self, scene: SyntheticScene, rng: np.random.Generator) -> None:
        self.scene = scene
        height, width = scene.height_px, scene.width_px
        coarse = rng.normal(0, 1, (height // 12 + 2, width // 12 + 2)).astype(np.float32)
        fine = rng.normal(0, 0.4, (height, width)).astype(np.float32)
        cloud = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + fine
        floor = np.asarray(scene.floor, dtype=np.float32) + scene.texture * cloud[..., None]
        floor[:: max(8, height // 9)] *= 0.82  # joints between tiles
        floor[:, :: max(8, width // 12)] *= 0.82
        if scene.view == "oblique":
            floor[: height // 6] = np.asarray((150, 160, 165)) + scene.texture * cloud[: height // 6, :, None] * 2
        self.floor: Image = np.clip(floor, 0, 255).astype(np.uint8)
        self._pool = [rng.normal(0, scene.noise, (height, width, 3)).astype(np.int16) for _ in range(7)]

    def grain(self, rng: np.random.Generator) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        """Sensor noise, (H, W, 3) int16."""
        grain = self._pool[int(rng.integers(len(self._pool)))]
        return np.roll(grain, int(rng.integers(grain.shape[1])), axis=1)

    def paint(self, walkers: tuple[Walker, ...] | list[Walker], time_s: float) -> Image:
        """One noiseless frame."""
        scene = self.scene
        image = self.floor.copy()
        present = [(place, walker) for walker in walkers if (place := scene.place(walker, time_s)) is not None]
        present.sort(key=lambda item: item[0][1])
        for (x, y), walker in present:
            ahead = scene.place(walker, time_s + 0.2) or (x, y)
            before = scene.place(walker, time_s - 0.2) or (x, y)
            heading = math.atan2((ahead[1] - before[1]) * scene.height_px, (ahead[0] - before[0]) * scene.width_px)
            speed = math.hypot(ahead[0] - before[0], ahead[1] - before[1]) / 0.4
            swing = math.sin(time_s * 2 * math.pi * 0.95 + walker.phase) if speed > 0.01 else 0.0
            if speed <= 0.01:  # nobody stands like a post
                x += 0.05 * walker.size * math.sin(time_s * 1.3 + walker.phase)
            if scene.view == "top":
                self._from_above(image, walker, x, y, heading, swing)
            else:
                self._obliquely(image, walker, x, y, heading, swing)
        if scene.pillar is not None:
            left, right = (round(side * scene.width_px) for side in scene.pillar)
            image[:, left:right] = (90, 95, 100)
        return image

    def _from_above(self, image: Image, walker: Walker, x: float, y: float, heading: float, swing: float) -> None:
        scene = self.scene
        cx, cy = x * scene.width_px, y * scene.height_px
        wide = walker.size * scene.width_px / 2
        turn = math.degrees(heading) + 90
        if scene.shadow:
            _shade(image, cx + wide * 0.35, cy + wide * 0.3, wide * 1.05, wide * 0.75, turn)
        along = (math.cos(heading), math.sin(heading))
        if walker.pram:
            nose = (cx + along[0] * wide * 1.7, cy + along[1] * wide * 1.7)
            box = (nose, (wide * 1.5, wide * 0.9), math.degrees(heading))
            cv2.fillConvexPoly(image, cv2.boxPoints(box).astype(np.int32), (150, 60, 40))
        for sign in (-1, 1):  # arms
            ax = cx - along[1] * wide * 0.8 * sign + along[0] * wide * 0.5 * swing * sign
            ay = cy + along[0] * wide * 0.8 * sign + along[1] * wide * 0.5 * swing * sign
            _ellipse(image, ax, ay, wide * 0.28, wide * 0.28, 0, walker.cloth)
        for sign in (-1, 1):  # feet
            fx, fy = cx + along[0] * wide * 0.6 * swing * sign, cy + along[1] * wide * 0.6 * swing * sign
            _ellipse(image, fx, fy, wide * 0.3, wide * 0.25, turn, walker.trousers)
        _ellipse(image, cx, cy, wide, wide * 0.58, turn, walker.cloth)
        _ellipse(
            image, cx + along[0] * wide * 0.12, cy + along[1] * wide * 0.12, wide * 0.42, wide * 0.42, 0, walker.hair
        )

    def _obliquely(self, image: Image, walker: Walker, x: float, y: float, heading: float, swing: float) -> None:
        scene = self.scene
        wide = walker.size * scene.width_px * (0.45 + 1.1 * y)
        tall = 3.3 * wide
        cx, foot = x * scene.width_px, y * scene.height_px
        if scene.shadow:
            _shade(image, cx + wide * 0.8, foot, wide * 1.3, wide * 0.3, 0)
        spread = wide * (0.12 + 0.5 * abs(swing) * abs(math.cos(heading)))
        for sign in (-1, 1):
            lift = wide * 0.25 * max(0.0, swing * sign)
            hip, sole = (cx + sign * wide * 0.14, foot - 0.46 * tall), (cx + sign * spread * swing, foot - lift)
            cv2.line(image, _px(hip), _px(sole), walker.trousers, max(1, round(wide * 0.34)))
        body_w = wide * (0.36 + 0.14 * abs(math.sin(heading)))
        if walker.pram:
            way = 1 if math.cos(heading) >= 0 else -1
            box = ((cx + way * wide * 1.1, foot - wide * 0.6), (wide * 1.1, wide * 0.9), 0.0)
            cv2.fillConvexPoly(image, cv2.boxPoints(box).astype(np.int32), (150, 60, 40))
        _ellipse(image, cx, foot - 0.63 * tall, body_w, 0.22 * tall, 0, walker.cloth)
        for sign in (-1, 1):
            hand = (cx + sign * wide * 0.42 + wide * 0.3 * swing * sign * math.cos(heading), foot - 0.46 * tall)
            shoulder = (cx + sign * body_w * 0.8, foot - 0.78 * tall)
            cv2.line(image, _px(shoulder), _px(hand), walker.cloth, max(1, round(wide * 0.2)))
        _ellipse(image, cx, foot - 0.92 * tall, wide * 0.22, wide * 0.28, 0, walker.hair)
        _ellipse(image, cx, foot - 0.89 * tall, wide * 0.17, wide * 0.18, 0, (130, 160, 200))


def _px(point: Point) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _ellipse(image: Image, x: float, y: float, a: float, b: float, turn: float, colour: Colour) -> None:
    cv2.ellipse(image, ((x, y), (max(1.0, 2 * a), max(1.0, 2 * b)), turn), colour, -1, cv2.LINE_AA)


def _shade(image: Image, x: float, y: float, a: float, b: float, turn: float) -> None:
    """Darken an ellipse to 72 %."""
    reach = math.ceil(max(a, b)) + 2
    left, top = max(0, round(x) - reach), max(0, round(y) - reach)
    part = image[top : max(0, round(y) + reach), left : max(0, round(x) + reach)]
    if part.size:
        mask = np.zeros(part.shape[:2], dtype=np.uint8)
        cv2.ellipse(mask, ((x - left, y - top), (2 * a, 2 * b), turn), 255, -1)
        dark = cv2.convertScaleAbs(part, alpha=0.72)
        part[mask > 0] = dark[mask > 0]


def _shifted(image: Image, dx: float, dy: float) -> Image:
    matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
    return np.asarray(cv2.warpAffine(image, matrix, (image.shape[1], image.shape[0]), borderMode=cv2.BORDER_REPLICATE))
