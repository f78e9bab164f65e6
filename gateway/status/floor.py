"""The shop seen from above, ready to draw: zones with who is there, and where people stood as a heat map.

The plan is the configuration's; without one the zones that devices name are laid out side by side. Where a camera was
dark there is no colour, which is not the colour of an empty floor. Pure; knows no markup and no language.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from config.settings import AreaSettings, FloorSettings

WIDTH = 360  # drawing units: a phone's width, so that text is as big there as anywhere
LEVELS = 5
_COLUMNS = 3
_BOX, _ROW, _GAP = 116, 66, 6
_MOST_ZONES = 24
_CELLS_MOST = 4096


class Heat(msgspec.Struct, frozen=True, kw_only=True):
    """Person-seconds by cell of a camera's picture, row by row from the top left; `covered_s`: how long it looked."""

    camera: str
    rows: int
    cols: int
    person_s: tuple[float, ...]
    covered_s: float


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a zone: its share of all person-time today, and who waits there now; None where not known."""

    zone: str
    share: float | None = None
    waiting: int | None = None
    devices: int = 0
    ailing: int = 0  # of them need a hand


class Box(msgspec.Struct, frozen=True, kw_only=True):
    """A zone or a camera's view on the drawing, in its units."""

    name: str
    kind: Literal["zone", "camera"]
    x: int
    y: int
    width: int
    height: int
    share: float | None = None
    waiting: int | None = None
    level: int = 0  # of a zone's warmth; 0: not known, or nobody was there
    ailing: int = 0
    dark: bool = False  # a camera's view that nobody has seen
    cells: tuple[tuple[int, str], ...] = ()  # level 1 to 5 and the path that fills it


class Floor(msgspec.Struct, frozen=True):
    """The drawing. `heated`: some camera told where people stood."""

    height: int
    boxes: tuple[Box, ...]
    heated: bool


def floor(settings: FloorSettings, places: Sequence[Place], heats: Sequence[Heat]) -> Floor | None:
    """The drawing; None when there is neither a plan nor a zone nor a camera that tells."""
    found = {place.zone: place for place in places}
    seen = {heat.camera: heat for heat in heats}
    if settings.areas:
        scale = WIDTH / settings.width_m
        boxes = [_area(area, scale, found, seen) for area in settings.areas]
        height = round(settings.depth_m * scale)
    else:
        boxes, height = _laid_out(places, heats)
    if not boxes:
        return None
    # Views lie below zones, so that a zone's name can be read.
    boxes.sort(key=lambda box: box.kind == "zone")
    most = max((place.share or 0.0 for place in places), default=0.0)
    views = [box for box in boxes if box.cells]
    boxes = [  # where a camera shows every square foot, a zone's mean would only hide it
        box if any(_overlap(box, view) for view in views)
        else msgspec.structs.replace(box, level=_level(box.share or 0.0, most))
        for box in boxes
    ]  # fmt: skip
    heated = any(box.cells or box.level for box in boxes)
    return Floor(max(40, min(height, 4 * WIDTH)), tuple(boxes), heated)


def _area(area: AreaSettings, scale: float, places: Mapping[str, Place], heats: Mapping[str, Heat]) -> Box:
    x, y = round(area.x_m * scale), round(area.y_m * scale)
    width, height = round(area.width_m * scale), round(area.depth_m * scale)
    if area.camera:
        return _view(area.camera, x, y, width, height, heats.get(area.camera), area.turned)
    return _zone(places.get(area.zone, Place(zone=area.zone)), x, y, width, height)


def _laid_out(places: Sequence[Place], heats: Sequence[Heat]) -> tuple[list[Box], int]:
    boxes: list[Box] = []
    y = 0
    for heat in heats[:4]:
        height = round(WIDTH * min(1.0, max(0.4, heat.rows / max(1, heat.cols))))
        boxes.append(_view(heat.camera, 0, y, WIDTH, height, heat, 0))
        y += height + _GAP
    zones = [place for place in places if place.zone][:_MOST_ZONES]
    for index, place in enumerate(zones):
        row, column = divmod(index, _COLUMNS)
        boxes.append(_zone(place, column * (_BOX + _GAP), y + row * (_ROW + _GAP), _BOX, _ROW))
    rows = -(-len(zones) // _COLUMNS)
    return boxes, y + rows * (_ROW + _GAP) - _GAP


def _zone(place: Place, x: int, y: int, width: int, height: int) -> Box:
    return Box(
        name=place.zone, kind="zone", x=x, y=y, width=width, height=height, share=place.share, waiting=place.waiting,
        ailing=place.ailing,
    )  # fmt: skip


def _view(name: str, x: int, y: int, width: int, height: int, heat: Heat | None, turned: int) -> Box:
    seen = heat is not None and heat.covered_s > 0 and 0 < heat.rows * heat.cols <= _CELLS_MOST
    cells = _cells(heat, x, y, width, height, turned) if heat is not None and seen else ()
    return Box(name=name, kind="camera", x=x, y=y, width=width, height=height, dark=not seen, cells=cells)


def _cells(heat: Heat, x: int, y: int, width: int, height: int, turned: int) -> tuple[tuple[int, str], ...]:
    """One path a level: a share of the warmest cell, by square root, so that a queue does not hide the rest."""
    warmest = max(heat.person_s, default=0.0)
    if warmest <= 0:
        return ()
    rows, cols = (heat.cols, heat.rows) if turned in (90, 270) else (heat.rows, heat.cols)
    wide, high = width / cols, height / rows
    paths: dict[int, list[str]] = {}
    for index, value in enumerate(heat.person_s[: heat.rows * heat.cols]):
        if value <= 0:
            continue
        level = _level(value, warmest)
        row, col = _turned(*divmod(index, heat.cols), heat.rows, heat.cols, turned)
        path = f"M{x + col * wide:.5g} {y + row * high:.5g}h{wide:.4g}v{high:.4g}h{-wide:.4g}z"
        paths.setdefault(level, []).append(path)
    return tuple((level, "".join(paths[level])) for level in sorted(paths))


def _overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width and other.x < one.x + one.width
        and one.y < other.y + other.height and other.y < one.y + one.height
    )  # fmt: skip


def _level(value: float, warmest: float) -> int:
    return 0 if value <= 0 or warmest <= 0 else min(LEVELS, 1 + int((value / warmest) ** 0.5 * LEVELS))


def _turned(row: int, col: int, rows: int, cols: int, turned: int) -> tuple[int, int]:
    if turned == 90:
        return col, rows - 1 - row
    if turned == 180:
        return rows - 1 - row, cols - 1 - col
    if turned == 270:
        return cols - 1 - col, row
    return row, col


def places_of(
    zones: Iterable[str], devices: Iterable[tuple[str, bool]], shares: Mapping[str, float], waiting: Mapping[str, int]
) -> tuple[Place, ...]:
    """The zones there are, each with its devices, in the order in which they are first named.

    Args:
        zones: every zone that a device names.
        devices: the zone of each device, and whether it needs a hand.
        shares: of all person-time today, by zone, where that is counted.
        waiting: who waits now, by the queue's zone.
    """
    names = dict.fromkeys([*zones, *shares, *waiting])
    counted = dict.fromkeys(names, 0)
    ailing = dict.fromkeys(names, 0)
    for zone, needs_a_hand in devices:
        if zone in counted:
            counted[zone] += 1
            ailing[zone] += needs_a_hand
    return tuple(
        Place(
            zone=zone, share=shares.get(zone), waiting=waiting.get(zone), devices=counted[zone], ailing=ailing[zone]
        )
        for zone in names
        if zone
    )  # fmt: skip
