"""The synthetic scenes that counting is measured on, and the scripts they are made of.

Every situation that makes counters lie is here, from above and obliquely, at several sizes, speeds and frame rates:
pairs, files, opposite passing, groups, U-turns, loiterers, standing on the line, prams, light, noise, shake, drops.
Knows only the scene generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import msgspec

from vision.synthetic import SyntheticScene, View, Walker
from vision.synthetic_cast import Cast

LINE_ACROSS = ((0.02, 0.5), (0.98, 0.5))
LINE_DOWN = ((0.5, 0.02), (0.5, 0.98))
LINE_OBLIQUE = ((0.5, 0.25), (0.5, 1.0))
LINE_OBLIQUE_ACROSS = ((0.02, 0.6), (0.98, 0.6))


def suite() -> list[SyntheticScene]:
    """All scenes, 52 of them, in a fixed order."""
    return list(_scenes())


def _scenes() -> Iterator[SyntheticScene]:
    seeds = count(1)
    for view in ("top", "oblique"):
        for size in (0.09, 0.13) if view == "top" else (0.06, 0.09):
            yield _busy("both ways", view, next(seeds), size)
            yield _pairs("pairs side by side", view, next(seeds), size, abreast=True)
            yield _pairs("pairs in file", view, next(seeds), size, abreast=False)
            yield _opposite("opposite passing", view, next(seeds), size)
            yield _u_turns("U-turns", view, next(seeds), size)
            yield _standing("standing on the line", view, next(seeds), size)
            yield _loiterer("loiterer and traffic", view, next(seeds), size)
        size = 0.11 if view == "top" else 0.075
        busy = _busy("base", view, 101, size)
        yield _with(busy, "light steps", light_steps=((9.0, 0.7), (17.0, 1.25), (26.0, 0.9)))
        yield _with(busy, "noise", noise=10.0)
        yield _with(busy, "shake", shake_px=1.5)
        yield _with(busy, "drops to 5 fps", drops=((5.0, 14.0, 5.0), (20.0, 30.0, 5.0)))
        busy = _busy("base", view, 102, size)
        yield _with(busy, "25 fps", fps=25.0)
        yield _with(busy, "60 fps", fps=60.0, duration_s=min(busy.duration_s, 30.0))
        yield _with(busy, "small picture", width_px=240, height_px=180)
        yield _with(busy, "wide picture", width_px=640, height_px=360)
        yield _with(busy, "plain floor", texture=2.0)
        yield _with(busy, "mirrored", mirrored=True)
        yield _with(busy, "reversed", reversed_=True)
        yield _groups("groups of three", view, next(seeds), size)
        yield _prams("prams", view, next(seeds), size)
        yield _speeds("slow and fast", view, next(seeds), size)
        yield _crowd("crowd", view, next(seeds), 0.07)
        yield _with(_busy("base", view, next(seeds), size), "pillar", pillar=(0.27, 0.31))


def empty_scene(view: View, seed: int, duration_s: float = 3600.0, fps: float = 10.0) -> SyntheticScene:
    """Nobody, but noise, light steps every few minutes and a little shake."""
    steps = tuple((60.0 + 171.0 * i, (0.75, 1.2, 1.0)[i % 3]) for i in range(int(duration_s // 171)))
    line = LINE_ACROSS if view == "top" else LINE_OBLIQUE
    return SyntheticScene(
        f"empty {view}", view, (), line, duration_s, fps, noise=5.0, shake_px=0.4, light_steps=steps, seed=seed
    )


def _with(scene: SyntheticScene, name: str, **changes: object) -> SyntheticScene:
    return msgspec.structs.replace(scene, name=f"{scene.view}: {name}", **changes)


def scene_of(name: str, cast: Cast, walkers: list[Walker], seed: int) -> SyntheticScene:
    """The walkers of a cast on the floor and at the line that fit its view and axis; ends when all have gone."""
    end = max(walker.way[-1][0] for walker in walkers) + 1.5
    line = {
        ("top", "y"): LINE_ACROSS,
        ("top", "x"): LINE_DOWN,
        ("oblique", "y"): LINE_OBLIQUE_ACROSS,
        ("oblique", "x"): LINE_OBLIQUE,
    }[cast.view, cast.axis]
    floor = ((120, 128, 132), (150, 150, 155), (95, 105, 120))[seed % 3]
    named = f"{cast.view}: {name} {cast.size}"
    return SyntheticScene(named, cast.view, tuple(walkers), line, end, seed=seed, floor=floor)


def _busy(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    return scene_of(name, cast, [cast.pass_by(2.0 + 3.4 * i, cast.lane(), cast.coin()) for i in range(9)], seed)


def _pairs(name: str, view: View, seed: int, size: float, abreast: bool) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = []
    for i in range(5):
        walkers.append(cast.pass_by(2.0 + 10.0 * i, cast.lane(), cast.coin()))
        start, lane, forward = 7.0 + 10.0 * i, cast.lane(2), cast.coin()
        # Seen from the side, two abreast hide each other all the way; nobody walks in step that exactly.
        delay = (0.1 if view == "top" else 0.35) if abreast else (0.62 if view == "top" else 1.0)
        # Nor exactly in the leader's shadow: who is hidden all the way no silhouette can show.
        aside = cast.gap if abreast else (0.0 if view == "top" else 0.9 * size)
        second = cast.pass_by(start + delay, lane + aside, forward)
        walkers += [cast.pass_by(start, lane, forward), second]
    return scene_of(name, cast, walkers, seed)


def _opposite(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = []
    for i in range(6):
        start, lane = 2.0 + 6.0 * i, cast.lane(2)
        walkers += [
            cast.pass_by(start, lane, True),
            cast.pass_by(start + cast.rng.uniform(-0.4, 0.4), lane + cast.gap, False),
        ]
    return scene_of(name, cast, walkers, seed)


def _u_turns(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = []
    for i in range(6):
        walkers.append(cast.turn_back(2.0 + 9.0 * i, cast.lane() * 0.9, i % 2 == 0, cast.rng.uniform(0.03, 0.10)))
        if i % 3 == 0:
            walkers.append(cast.pass_by(5.0 + 9.0 * i, cast.lanes[1], i % 2 == 1))
    return scene_of(name, cast, walkers, seed)


def _standing(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    middle = sum(cast.lanes) / 2
    walkers = [
        cast.stand(2.0, middle, True, 0.0, 8.0, True),
        cast.stand(22.0, middle + 0.05, False, 0.01, 12.0, True),
        cast.stand(46.0, middle + 0.1, True, 0.01, 6.0, False),
        cast.pass_by(30.0, cast.lanes[1] if cast.axis == "y" or view == "oblique" else cast.lanes[0], True),
    ]
    return scene_of(name, cast, walkers, seed)


def _loiterer(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = [cast.loiter(1.0, 40.0, seed % 4 < 2)]
    walkers += [cast.pass_by(6.0 + 5.5 * i, cast.lane(), cast.coin()) for i in range(6)]
    return scene_of(name, cast, walkers, seed)


def _groups(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = []
    for i in range(4):
        walkers.append(cast.pass_by(2.0 + 10.0 * i, cast.lane(), cast.coin()))
        start, forward, lane = 7.0 + 10.0 * i, cast.coin(), cast.lane(3)
        walkers += [
            cast.pass_by(start + delay, lane + j * cast.gap, forward) for j, delay in enumerate((0.0, 0.45, 0.1))
        ]
    return scene_of(name, cast, walkers, seed)


def _prams(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = [cast.pass_by(2.0 + 5.0 * i, cast.lane(), i % 2 == 0, pram=i % 3 != 2) for i in range(8)]
    return scene_of(name, cast, walkers, seed)


def _speeds(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    speeds = (0.4, 1.0, 2.2, 0.6, 1.7, 1.2, 2.5, 0.35)
    walkers = [cast.pass_by(2.0 + 4.0 * i, cast.lane(), i % 2 == 0, speed=speed) for i, speed in enumerate(speeds)]
    return scene_of(name, cast, walkers, seed)


def _crowd(name: str, view: View, seed: int, size: float) -> SyntheticScene:
    cast = Cast(view, seed, size)
    walkers = [cast.pass_by(1.0 + 1.3 * i, cast.lane(), cast.rng.random() < 0.6) for i in range(24)]
    return scene_of(name, cast, walkers, seed)
