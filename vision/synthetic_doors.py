"""Drawn doors beyond the suite: what a door camera sees that makes counters lie in ways the suite does not ask for.

People as large as a camera over a door sees them, groups of two to four, somebody who stands in the doorway for a
minute while others pass, a queue that stands over the line, a camera that shakes while people cross. Numbers were
never chosen by these scenes; they are there to be failed. Knows only the scene generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import msgspec

from vision.synthetic import SyntheticScene, View, Walker
from vision.synthetic_cast import Cast
from vision.synthetic_suite import scene_of

STAY_S = 60.0


def doors() -> list[SyntheticScene]:
    """All scenes in a fixed order."""
    return list(_scenes())


DOORS: tuple[tuple[View, tuple[float, ...], float], ...] = (
    ("top", (0.12, 0.18, 0.25), 0.15),
    ("oblique", (0.06, 0.08, 0.11), 0.08),
)
"""A view, the sizes of people walking through, and the size in all other scenes."""


def _scenes() -> Iterator[SyntheticScene]:
    seeds = count(301)
    for view, sizes, _ in DOORS:
        for size in sizes:
            yield _passing("door", view, next(seeds), size)
            yield _groups("groups of two to four", view, next(seeds), size)
    for view, _, size in DOORS:
        yield _passing("pairs and prams", view, next(seeds), size, prams=True)
        for onward in (False, True):
            for short in (0.0, 0.03):
                what = f"a minute {'on' if not short else 'by'} the line, then {'on' if onward else 'back'}"
                yield _doorway(what, view, next(seeds), size, short, onward)
        for seed in (next(seeds), next(seeds)):
            yield _queue("queue over the line", view, seed, size)
        for shake_px in (1.5, 3.0):
            shaken = _groups(f"shake {shake_px:g} px", view, next(seeds), size)
            yield msgspec.structs.replace(shaken, shake_px=shake_px)
        yield msgspec.structs.replace(_groups("60 fps", view, next(seeds), size), fps=60.0, duration_s=32.0)
        wide = _groups("25 fps, 640 px", view, next(seeds), size)
        yield msgspec.structs.replace(wide, fps=25.0, width_px=640, height_px=480)


def _passing(name: str, view: View, seed: int, size: float, prams: bool = False) -> SyntheticScene:
    """One after another, two abreast every third time."""
    cast = Cast(view, seed, size)
    walkers: list[Walker] = []
    for i in range(10):
        abreast = 1 + (i % 3 == 1)
        start_s, forward, lane = 2.0 + 4.5 * i, cast.coin(), cast.lane(abreast)
        walkers.append(cast.pass_by(start_s, lane, forward, pram=prams and i % 2 == 0))
        if abreast == 2:
            delay_s = 0.15 if view == "top" else 0.4
            walkers.append(cast.pass_by(start_s + delay_s, lane + cast.gap, forward))
    return scene_of(name, cast, walkers, seed)


def _groups(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    """Two, three and four who belong together, not in step, as close as people walk."""
    cast = Cast(view, seed, size)
    walkers: list[Walker] = []
    for i in range(5):
        members, start_s, forward = 2 + i % 3, 2.0 + 8.0 * i, cast.coin()
        abreast = min(members, 2)
        lane = cast.lane(abreast)
        for j in range(members):
            delay_s = 0.9 * (j // abreast) + cast.rng.uniform(0.1, 0.4) * (j % abreast)
            walkers.append(cast.pass_by(start_s + delay_s, lane + (j % abreast) * cast.gap, forward))
        walkers.append(cast.pass_by(start_s + 4.5, cast.lane(), cast.coin()))
    return scene_of(name, cast, walkers, seed)


def _doorway(name: str, view: View, seed: int, size: float, short: float, onward: bool) -> SyntheticScene:
    """Somebody stands in the doorway for a minute; others pass on both sides of them, not through them."""
    cast = Cast(view, seed, size)
    middle = sum(cast.lanes) / 2
    walkers = [cast.stand(2.0, middle, cast.coin(), short, STAY_S, onward)]
    for i in range(8):
        beside = 1.3 * cast.gap * (1 if cast.coin() else -1)
        walkers.append(cast.pass_by(10.0 + 6.0 * i, middle + beside, cast.coin()))
    return scene_of(name, cast, walkers, seed)


def _queue(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    """Six wait in file for a till beyond the line; every twelve seconds the first leaves and all move up a place."""
    cast = Cast(view, seed, size)
    middle, forward = sum(cast.lanes) / 2, cast.coin()
    step_s, pace = 12.0, 1.7 * size * (1.0 if cast.axis == "x" else 4 / 3)
    sign = 1.0 if forward else -1.0
    begin, end = (cast.low, cast.high) if forward else (cast.high, cast.low)
    walkers = []
    for i in range(6):
        lane = middle + cast.rng.uniform(-0.1, 0.1) * size
        place = cast.middle + sign * pace * (1.5 - i)  # two stand beyond the line at first
        way = [(1.0 + 0.9 * i, begin, lane)]
        time_s = way[0][0] + abs(place - begin) / cast.speed
        way.append((time_s, place, lane))
        for turn in range(i):
            leave_s = 14.0 + step_s * turn + 0.5 * (i - turn)
            way.append((max(leave_s, time_s), place, lane))
            place += sign * pace
            time_s = way[-1][0] + pace / cast.speed
            way.append((time_s, place, lane))
        leave_s = 14.0 + step_s * i
        way.append((max(leave_s, time_s), place, lane))
        way.append((way[-1][0] + abs(end - place) / cast.speed, end, lane))
        walkers.append(cast.walker(way))
    return scene_of(name, cast, walkers, seed)
