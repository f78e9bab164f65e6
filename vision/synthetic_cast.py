"""Who walks how through a drawn scene: clothes, sizes and ways of the people that scripts are made of.

Ways are given along the direction of traffic and across it, so one script serves both axes and both views. Knows only
walkers; which situations there are is decided by those who write scenes.
"""

from __future__ import annotations

import random

from vision.synthetic import Colour, View, Walker


class Cast:
    """Makes walkers of one scene: clothes, sizes, ways.

    `axis` is the direction of traffic in the picture; ways are given as (time, along, across). `low` and `high` are
    where people appear and vanish along the axis, `middle` is where the line is, `lanes` the span across, `gap` the
    distance of two who walk side by side.
    """

    def __init__(self, view: View, seed: int, size: float, aspect: float = 384 / 288) -> None:
        self.rng = random.Random(seed)  # noqa: S311 — scenes, not secrets
        self.view: View = view
        self.size = size
        self.axis = axis = "x" if seed % 2 else "y"
        self.low, self.middle, self.high = -0.24, 0.5, 1.24
        self.lanes = (0.2, 0.8)
        self.gap = 1.15 * size * (aspect if axis == "x" else 1.0)
        self.speed = size * 2.6 * (1.0 if axis == "x" else aspect)  # 1.3 m/s with shoulders of 0.5 m
        if view == "oblique" and axis == "x":
            self.lanes, self.gap = (0.5, 0.92), 0.2
        elif view == "oblique":
            self.low, self.middle, self.high, self.lanes = 0.2, 0.6, 1.6, (0.15, 0.85)
            self.gap, self.speed = 1.5 * size, self.speed * 0.7

    def colour(self) -> Colour:
        """A colour that differs from the grey floor."""
        while True:
            b, g, r = (self.rng.randint(15, 235) for _ in range(3))
            if max(abs(b - 120), abs(g - 128), abs(r - 132)) > 55:
                return b, g, r

    def lane(self, members: int = 1) -> float:
        """Somewhere across, with room for that many side by side."""
        return self.rng.uniform(self.lanes[0], max(self.lanes[0] + 0.01, self.lanes[1] - (members - 1) * self.gap))

    def coin(self) -> bool:
        return self.rng.random() < 0.5

    def walker(self, way: list[tuple[float, float, float]], pram: bool = False) -> Walker:
        """A walker of the cast along `way`: (time, along, across)."""
        turned = tuple((t, a, c) if self.axis == "x" else (t, c, a) for t, a, c in way)
        return Walker(
            turned,
            self.size * self.rng.uniform(0.92, 1.08),
            self.colour(),
            self.colour(),
            (self.rng.randint(10, 60),) * 3,
            pram,
            self.rng.uniform(0, 6.28),
        )

    def pass_by(self, start_s: float, across: float, forward: bool, pram: bool = False, speed: float = 1.0) -> Walker:
        """Straight through the picture, a little aslant."""
        duration = (self.high - self.low) / (self.speed * speed)
        ends = (self.low, self.high) if forward else (self.high, self.low)
        slant = self.rng.uniform(-0.03, 0.03)
        return self.walker([(start_s, ends[0], across - slant), (start_s + duration, ends[1], across + slant)], pram)

    def turn_back(self, start_s: float, across: float, forward: bool, short: float) -> Walker:
        """Up to `short` before the line and back again."""
        begin = self.low if forward else self.high
        reach = self.middle - short if forward else self.middle + short
        travel = abs(reach - begin) / self.speed
        return self.walker(
            [
                (start_s, begin, across),
                (start_s + travel, reach, across),
                (start_s + travel + 0.6, reach, across + 0.05),
                (start_s + 2 * travel + 0.6, begin, across + 0.08),
            ]
        )

    def stand(self, start_s: float, across: float, forward: bool, short: float, stay_s: float, onward: bool) -> Walker:
        """Walk to `short` before the line, stand, walk on or go back."""
        begin, end = (self.low, self.high) if forward else (self.high, self.low)
        at = self.middle - short if forward else self.middle + short
        travel = abs(at - begin) / self.speed
        leave = start_s + travel + stay_s
        target = end if onward else begin
        return self.walker(
            [
                (start_s, begin, across),
                (start_s + travel, at, across),
                (leave, at, across),
                (leave + abs(target - at) / self.speed, target, across),
            ]
        )

    def loiter(self, start_s: float, duration_s: float, forward: bool) -> Walker:
        """Wander about on the near or far side of the line for long."""
        begin = self.low if forward else self.high
        inner, outer = self.middle + (begin - self.middle) * 0.22, self.middle + (begin - self.middle) * 0.55
        middle = (self.lanes[0] + self.lanes[1]) / 2
        way = [(start_s, begin, middle)]
        time_s = start_s
        while time_s < start_s + duration_s:
            along, across = self.rng.uniform(*sorted((inner, outer))), self.lane()
            time_s += max(0.8, (abs(along - way[-1][1]) + abs(across - way[-1][2])) / self.speed * 1.3)
            way.append((time_s, along, across))
            time_s += self.rng.uniform(0.5, 4.0)
            way.append((time_s, along, across))
        way.append((time_s + abs(way[-1][1] - begin) / self.speed, begin, middle))
        return self.walker(way)
