"""From a foreground mask to persons: joining fragments, splitting groups by the expected size of a person.

A blob about the size of a person is one. A larger one is explained by as many person-sized ellipses as its pixels
need, started where persons are expected and where most unexplained pixels lie, then moved to the middle of the pixels
they own. Must not know time, background or lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vision.components import Component, components
from vision.frame import Image
from vision.model import Box, Detection
from vision.person_size import PersonSize

Floats = NDArray[np.float32]

SMALLEST_FRAGMENT = 0.04
"""Components below this share of a person's pixels are noise."""
SMALLEST_PERSON = 0.30
"""A blob below this share is not a person, unless the frame's edge cuts it."""
SMALLEST_CUT_PERSON = 0.12
SINGLE_WIDTH, SINGLE_HEIGHT, SINGLE_AREA, SMALL_AREA = 1.55, 1.45, 1.7, 1.3
"""A blob within these multiples of a person's width, height and pixels is one person; below the last in any shape."""
LOWEST_PERSON = 0.5
"""A whole blob lower than this share of a person's height starts no track, but may continue one."""
SHARED_SCORE = 0.3
"""Of a person who is hidden in another's blob."""
NEW_SHARE = 0.55
"""Of a person's pixels must be unexplained by others for one more member of a group; a pram has less."""
MOST_BLOBS = 200
MOST_IN_GROUP = 12
MOST_POINTS = 900


def persons_in(mask: Image, size: PersonSize, expected: Sequence[Box]) -> list[Detection]:
    """Person boxes that explain `mask` ((H, W) uint8, 0 or 255)."""
    height, width = mask.shape[:2]
    parts = [part for part in components(mask) if part.area >= SMALLEST_FRAGMENT * size.area_px(part.bottom)]
    parts.sort(key=_area, reverse=True)
    blobs = _joined(parts[:MOST_BLOBS], size)
    found: list[Detection] = []
    for blob in blobs:
        one = size.area_px(blob.bottom)
        cut = blob.left <= 1 or blob.top <= 1 or blob.right >= width - 1 or blob.bottom >= height - 1
        if blob.area < (SMALLEST_CUT_PERSON if cut else SMALLEST_PERSON) * one:
            continue
        wide, high = blob.right - blob.left, blob.bottom - blob.top
        person_w, person_h = size.width_px(blob.bottom), size.height_px(blob.bottom)
        shaped = wide <= SINGLE_WIDTH * person_w and high <= SINGLE_HEIGHT * person_h
        above = 0.6 < size.aspect < 1.7  # from above people point any way, and hide nobody
        if ((shaped or above) and blob.area <= SINGLE_AREA * one) or blob.area <= SMALL_AREA * one:
            low = not (above or cut) and high < LOWEST_PERSON * person_h  # a pram, a dog, or somebody half hidden
            alone = Detection(Box(blob.left, blob.top, wide, high), SHARED_SCORE if low else _score(blob.area / one))
            found += _shared(blob, expected) or [alone]
        else:
            inside = blob.filled() > 0
            found += _split(inside, blob, size, expected)
    return found


def _area(blob: Component) -> float:
    return blob.area


def _joined(parts: list[Component], size: PersonSize) -> list[Component]:
    """Fragments that together fit one person become one blob; largest first."""
    blobs: list[Component] = []
    for part in parts:
        for blob in blobs:
            left, right = min(blob.left, part.left), max(blob.right, part.right)
            top, bottom = min(blob.top, part.top), max(blob.bottom, part.bottom)
            one = size.area_px(bottom)
            fits = right - left <= 1.2 * size.width_px(bottom) and bottom - top <= 1.15 * size.height_px(bottom)
            inside = part.area < 0.3 * one and left == blob.left and right == blob.right and (top, bottom) == (
                blob.top,
                blob.bottom,
            )  # fmt: skip
            if inside or (fits and blob.area + part.area <= 1.3 * one):
                blob.contours += part.contours
                blob.left, blob.right, blob.top, blob.bottom = left, right, top, bottom
                blob.area += part.area
                break
        else:
            blobs.append(part)
    return blobs


def _detection(left: float, top: float, width: float, height: float, share: float) -> Detection:
    return Detection(Box(left, top, width, height), _score(share))


def _score(share: float) -> float:
    """Confidence from the share of a person's pixels that are there."""
    return min(1.0, 0.5 + 0.5 * share)


def _shared(blob: Component, expected: Sequence[Box]) -> list[Detection]:
    """Several known persons behind one another in one blob: each stays where expected, moved with the blob.

    The one that fits best is sure, the others are weak: they hold their tracks for a while, not for ever.
    """
    inside = [
        box for box in expected if blob.left <= box.centre[0] <= blob.right and blob.top <= box.centre[1] <= blob.bottom
    ]
    if len(inside) < 2:
        return []
    left, right = min(box.left_px for box in inside), max(box.left_px + box.width_px for box in inside)
    top, bottom = min(box.top_px for box in inside), max(box.top_px + box.height_px for box in inside)
    dx, dy = (blob.left + blob.right - left - right) / 2, (blob.top + blob.bottom - top - bottom) / 2
    moved = [Box(box.left_px + dx / 2, box.top_px + dy / 2, box.width_px, box.height_px) for box in inside]
    middle = (blob.left + blob.right) / 2, (blob.top + blob.bottom) / 2
    moved.sort(key=lambda box: abs(box.centre[0] - middle[0]) + abs(box.centre[1] - middle[1]))
    return [Detection(box, 1.0 if index == 0 else SHARED_SCORE) for index, box in enumerate(moved)]


def _lower_edge(box: Box) -> float:
    return box.top_px + box.height_px


def _split(inside: NDArray[np.bool_], blob: Component, size: PersonSize, expected: Sequence[Box]) -> list[Detection]:
    high, wide = inside.shape
    ys, xs = np.nonzero(inside)
    middle_y = blob.top + float(ys.mean())
    person_h = size.height_px(min(blob.bottom, middle_y + size.height_px(middle_y) / 2))
    person_w = size.aspect * person_h
    one = size.fill * person_w * person_h
    most = int(np.clip(round(blob.area / one * 1.15), 1, MOST_IN_GROUP))
    centres, hidden = _seeds(inside, blob, person_w, person_h, one, most, expected)
    if not centres:
        return [_detection(blob.left, blob.top, wide, high, 1.0)]
    middle = np.array(centres, dtype=np.float32)
    points = np.stack([xs, ys], axis=1).astype(np.float32)
    if len(points) > MOST_POINTS:
        points = points[:: len(points) // MOST_POINTS + 1]
    scale = np.array([person_w / 2, person_h / 2], dtype=np.float32)
    for _ in range(4):
        distance = (((points[:, None, :] - middle[None, :, :]) / scale) ** 2).sum(axis=2)
        owner = distance.argmin(axis=1)
        near = distance[np.arange(len(points)), owner] < 2.2
        for index in range(len(middle)):
            own = points[(owner == index) & near]
            if len(own):
                middle[index] = 0.5 * middle[index] + 0.5 * own.mean(axis=0)
    found = [Detection(box, SHARED_SCORE) for box in hidden]
    for x, y in middle.tolist():
        # The box of a member keeps the expected size and stays within its blob where the blob is larger.
        left = min(max(0.0, x - person_w / 2), max(0.0, wide - person_w))
        top = min(max(0.0, y - person_h / 2), max(0.0, high - person_h))
        found.append(_detection(blob.left + left, blob.top + top, min(person_w, wide), min(person_h, high), 0.8))
    return found


def _seeds(
    inside: NDArray[np.bool_],
    blob: Component,
    person_w: float,
    person_h: float,
    one: float,
    most: int,
    expected: Sequence[Box],
) -> tuple[list[tuple[float, float]], list[Box]]:
    """Where persons start: expected ones first, then the densest unexplained places; and who is hidden."""
    high, wide = inside.shape
    rest: Floats = inside.astype(np.float32)
    centres: list[tuple[float, float]] = []
    hidden: list[Box] = []
    half_w, half_h = person_w / 2, person_h / 2

    def explain(x: float, y: float) -> float:
        """Take the pixels of a person at (x, y) out of `rest`; how many there were."""
        top, bottom = max(0, round(y - half_h)), min(high, round(y + half_h) + 1)
        left, right = max(0, round(x - half_w)), min(wide, round(x + half_w) + 1)
        if bottom <= top or right <= left:
            return 0.0
        part = rest[top:bottom, left:right]
        return float(part.sum())

    def clear(x: float, y: float) -> None:
        top, bottom = max(0, round(y - half_h * 1.1)), min(high, round(y + half_h * 1.1) + 1)
        left, right = max(0, round(x - half_w * 1.1)), min(wide, round(x + half_w * 1.1) + 1)
        rest[top:bottom, left:right] = 0

    for box in sorted(expected, key=_lower_edge, reverse=True):  # who stands nearer hides who stands behind
        x, y = box.centre
        x, y = x - blob.left, y - blob.top
        if not (0 <= x < wide and 0 <= y < high) or len(centres) >= MOST_IN_GROUP:
            continue
        if explain(x, y) >= 0.5 * one:
            centres.append((x, y))
            clear(x, y)
        elif inside[int(y), int(x)]:
            hidden.append(box)
    kernel = (max(1, round(person_w * 0.8)), max(1, round(person_h * 0.85)))
    while len(centres) < most:
        density = cv2.boxFilter(rest, -1, kernel, normalize=False, borderType=cv2.BORDER_CONSTANT)
        _, best, _, (column, row) = cv2.minMaxLoc(density)
        if best < NEW_SHARE * one:
            break
        centres.append((float(column), float(row)))
        clear(float(column), float(row))
    return centres, hidden
