"""An endless drawn doorway that looks like a camera: the demo store's, and the fault tests'.

Who walks when is decided by absolute time and a seed alone, so a process that opens it again sees the same people go
on, and the truth of any span can be computed by anybody who knows the clock. Must not know counting.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import cv2
import numpy as np

from gateway.errors import ConfigError
from vision.frame import Image
from vision.model import Point
from vision.synthetic import Painter, SyntheticScene, View, Walker
from vision.synthetic_suite import LINE_DOWN, LINE_OBLIQUE
from vision.truth import TrueCrossing

SPAN_S = 20.0
"""People are drawn by lot anew for each span of this length."""
WALK_S = 7.0
USUAL_RATE = 9.0
WIDTH_PX, HEIGHT_PX, FPS = 384, 288, 15.0


class Doorway:
    """The same people for everybody who asks about the same time. `visitors_a_minute` come or go, 39 at most."""

    def __init__(self, view: View = "top", seed: int = 1, visitors_a_minute: float = USUAL_RATE) -> None:
        self.view: View = view
        self.line: tuple[Point, Point] = LINE_DOWN if view == "top" else LINE_OBLIQUE
        self._seed = seed
        self._rate = visitors_a_minute
        self._spans: dict[int, tuple[Walker, ...]] = {}

    def walkers(self, time_s: float) -> list[Walker]:
        """Everybody who may be in the picture at `time_s`; their ways are in absolute time."""
        span = int(time_s // SPAN_S)
        return [*self._of(span - 1), *self._of(span)]

    def crossings(self, from_s: float, to_s: float) -> list[tuple[float, TrueCrossing]]:
        """(time_s, crossing) of everybody whose middle passes the line in [from_s, to_s); frame numbers are 0."""
        found = []
        for span in range(int(from_s // SPAN_S) - 1, int(to_s // SPAN_S) + 1):
            for walker in self._of(span):
                (t1, x1, _), (t2, x2, _) = walker.way
                passed_s = t1 + (t2 - t1) * (0.5 - x1) / (x2 - x1)
                if from_s <= passed_s < to_s:
                    found.append((passed_s, TrueCrossing(0, "in" if x2 < x1 else "out")))
        return sorted(found, key=lambda item: item[0])

    def _of(self, span: int) -> tuple[Walker, ...]:
        if span not in self._spans:
            while len(self._spans) > 8:
                del self._spans[min(self._spans)]
            rng = random.Random(self._seed * 1_000_003 + span)  # noqa: S311 — a drawn scene
            people = []
            count = min(int(SPAN_S / 1.5), sum(rng.random() < self._rate / 60 for _ in range(int(SPAN_S))))
            starts = sorted(rng.uniform(0, SPAN_S - 1) for _ in range(count))
            for start in starts:
                way = (-0.25, 1.25) if rng.random() < 0.5 else (1.25, -0.25)
                lane = rng.uniform(0.2, 0.8) if self.view == "top" else rng.uniform(0.55, 0.9)
                begin_s = span * SPAN_S + start
                people.append(
                    Walker(
                        ((begin_s, way[0], lane), (begin_s + WALK_S * rng.uniform(0.8, 1.15), way[1], lane)),
                        (0.10 if self.view == "top" else 0.06) * rng.uniform(0.92, 1.08),
                        (rng.randint(20, 90), rng.randint(20, 90), rng.randint(120, 230)),
                        (rng.randint(20, 80), rng.randint(20, 60), rng.randint(20, 60)),
                        phase=rng.uniform(0, 6.28),
                    )
                )
            self._spans[span] = tuple(people)
        return self._spans[span]


def doorway(view: str) -> Doorway:
    """The people of a source's name after "synthetic:", see `SyntheticCapture.named`.

    Raises:
        ConfigError: another word.
    """
    kind, seed, rate, *more = (*view.split(":"), "", "")[: max(3, view.count(":") + 1)]
    if kind not in ("top", "oblique") or more or not all(part.isdecimal() or not part for part in (seed, rate)):
        hint = "use synthetic:top or synthetic:oblique, with a seed and people a minute if wanted: synthetic:top:7:20"
        raise ConfigError("open video", f"synthetic:{view}", "no such scene", hint)
    return Doorway("top" if kind == "top" else "oblique", int(seed or 1), float(rate or USUAL_RATE))


class SyntheticCapture:
    """`cv2.VideoCapture` over a `Doorway`, in real time of `clock`; `grab` waits for the next frame."""

    def __init__(
        self,
        doorway: Doorway,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._doorway = doorway
        self._clock = clock
        self._sleep = sleep
        scene = SyntheticScene(
            "doorway", doorway.view, (), doorway.line, 1e9, FPS, WIDTH_PX, HEIGHT_PX, noise=3.0, seed=7
        )
        self._rng = np.random.default_rng(7)
        self._painter = Painter(scene, self._rng)
        self._time_s = clock()
        self._open = True

    @classmethod
    def named(cls, view: str) -> SyntheticCapture:
        """ "top" or "oblique", with an optional seed and people a minute: "top:7:20".

        Raises:
            ConfigError: another word.
        """
        return cls(doorway(view))

    def isOpened(self) -> bool:
        return self._open

    def grab(self) -> bool:
        """Wait until the next frame is due."""
        due_s = self._time_s + 1 / FPS
        if (wait_s := due_s - self._clock()) > 0:
            self._sleep(wait_s)
        self._time_s = max(due_s, self._clock() - 1.0)
        return self._open

    def retrieve(self) -> tuple[bool, Image]:
        """The frame of the latest `grab`, (288, 384, 3) uint8 BGR."""
        image = self._painter.paint(self._doorway.walkers(self._time_s), self._time_s)
        return True, np.clip(image.astype(np.int16) + self._painter.grain(self._rng), 0, 255).astype(np.uint8)

    def get(self, propId: int) -> float:
        known = {cv2.CAP_PROP_FPS: FPS, cv2.CAP_PROP_FRAME_WIDTH: WIDTH_PX, cv2.CAP_PROP_FRAME_HEIGHT: HEIGHT_PX}
        return float(known.get(propId, 0.0))

    def release(self) -> None:
        self._open = False
