"""Real footage made harder, with the truth that follows: every variation of the given clips, both detectors.

A variation changes pixels, places, order or rate of a clip the way another camera, another door or another recorder
would; the truth is carried along, so nothing has to be looked at by hand. Further lines over the clip with known boxes
get their truth from those boxes. Run `python -m bench.footage [motion|MODEL.onnx …] [--only WORD]`; it takes several
minutes a detector. Knows nothing of detectors' insides: all of it goes through the same function as `storefront count`.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np

from bench.footage_people import FOLLOWS_FRAMES, CutOut
from vision.count import CountOptions, count
from vision.frame import Image
from vision.model import Anchor, Direction, Point
from vision.truth import as_direction, match

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("STOREFRONT_DATA", ROOT.parent / "shared" / "data"))
TOLERANCE_S = 1.0
CLEAR_SHARE = 0.1
"""A walker of the truth has crossed when the foot has been this share of the box's height on both sides."""

Ends = tuple[Point, Point]
True_ = tuple[int, Direction]


class Clip(msgspec.Struct, frozen=True):
    """A recording with known crossings of some lines (pixels)."""

    name: str
    path: Path
    fps: float
    width_px: int
    height_px: int
    anchor: Anchor
    lines: tuple[tuple[str, Ends, tuple[True_, ...]], ...]


class Variation(msgspec.Struct, frozen=True):
    """What is done to a clip.

    Attributes:
        draw: the new picture of (frame, its 0-based index, clip).
        place: where a point of the old picture lies in the new one (pixels).
        flips: the two sides of every line change places (a mirror does that, a turn does not).
        backwards: the last frame first.
        repeat, blend: each frame is written so often, with the steps between two frames drawn as a mixture of both.
        skip: only each n-th frame is kept. fps: of the new file, as a multiple of the old one's.
        quality: JPEG quality of each frame, 0–100. anchor: None = the clip's own; where feet are not below, the middle.
        follower: everybody crosses once more, so many frames later. clip: None = every clip, else the one it is for.
    """

    name: str
    draw: Callable[[Image, int, Clip], Image] | None = None
    place: Callable[[Point, Clip], Point] | None = None
    flips: bool = False
    backwards: bool = False
    repeat: int = 1
    blend: bool = False
    skip: int = 1
    fps: float = 1.0
    quality: int = 92
    anchor: Anchor | None = None
    follower: int = 0
    clip: str | None = None


def clips(data: Path = DATA) -> list[Clip]:
    """The given clips with crossings, and lines of our own whose truth comes from the given boxes."""
    video = data / "video"
    truth = json.loads((video / "vtest.groundtruth.json").read_text())["lines"][0]
    ends: Ends = ((560.0, 150.0), (560.0, 460.0))
    given = tuple((c["frame"], as_direction(c["dir"], ends)) for c in truth["crossings"])
    lines: list[tuple[str, Ends, tuple[True_, ...]]] = [("A", ends, given)]
    paths = boxes(video / "PETS09-S2L1.gt.txt")
    own = (
        ("B", (300.0, 90.0), (300.0, 560.0)),
        ("C", (120.0, 300.0), (700.0, 240.0)),
        ("D", (420.0, 100.0), (330.0, 560.0)),
    )
    for name, start, end in own:
        lines.append((name, (start, end), tuple(crossings(paths, (start, end)))))
    one = json.loads((video / "one-by-one-person-detection.groundtruth.json").read_text())
    exit_: Ends = ((610.0, 0.0), (610.0, 432.0))
    given = tuple((c["frame"], as_direction(c["dir"], exit_)) for c in one["crossings"])
    return [
        Clip("vtest", video / "vtest.avi", 10.0, 768, 576, "foot", tuple(lines)),
        Clip(
            "one-by-one", video / "one-by-one-person-detection.mp4", 10.0, 768, 432, "centre", (("exit", exit_, given),)
        ),
    ]


def boxes(path: Path) -> dict[int, list[tuple[int, float, float, float]]]:
    """Foot points (frame, x, y, box height) by person, in order of time, of a MOT15 file."""
    found: dict[int, list[tuple[int, float, float, float]]] = defaultdict(list)
    for text in path.read_text().splitlines():
        frame, person, left, top, width, height = (float(part) for part in text.split(",")[:6])
        found[int(person)].append((int(frame), left + width / 2, top + height, height))
    for places in found.values():
        places.sort()
    return found


def crossings(paths: dict[int, list[tuple[int, float, float, float]]], line: Ends) -> list[True_]:
    """Who crosses `line`, clear of it on both sides, by frame."""
    (ax, ay), (bx, by) = line
    length = math.hypot(bx - ax, by - ay)
    found: list[True_] = []
    for places in paths.values():
        side, passed, last, inside = 0, 0, 0.0, False
        for frame, x, y, height in places:
            distance = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / length
            along = ((bx - ax) * (x - ax) + (by - ay) * (y - ay)) / length**2
            if distance * last <= 0:
                passed, inside = frame, 0 <= along <= 1
            last = distance
            now = 0 if abs(distance) < CLEAR_SHARE * height else int(math.copysign(1, distance))
            if now and side and now != side and inside:
                found.append((passed, "in" if now > 0 else "out"))
            side = now or side
    return sorted(found)


# -- variations -------------------------------------------------------------------------------------------------


def scaled(share: float) -> Variation:
    """A camera with more or fewer pixels."""
    return Variation(
        f"scaled {share:g}",
        lambda image, _, clip: _resized(image, clip.width_px * share, clip.height_px * share),
        lambda point, _: (point[0] * share, point[1] * share),
    )


def shaken(most_px: float, name: str = "") -> Variation:
    """A camera on a swaying pole and in the wind: slow sway and quick jolts together."""

    def draw(image: Image, index: int, _: Clip) -> Image:
        rng = np.random.default_rng(index)
        sway = 0.6 * most_px * np.array([math.sin(index / 4.3), math.sin(index / 3.1 + 1)])
        dx, dy = sway + rng.uniform(-0.4 * most_px, 0.4 * most_px, 2)
        matrix = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
        size = (image.shape[1], image.shape[0])
        return np.asarray(cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), dtype=np.uint8)

    return Variation(name or f"shaken ±{most_px:g} px", draw)


def noisy(image: Image, index: int, _: Clip) -> Image:
    """A camera at night: coarse grain that a recorder has half smoothed away."""
    rng = np.random.default_rng(index)
    grain = np.asarray(cv2.resize(rng.normal(0, 9, (image.shape[0] // 2, image.shape[1] // 2, 3)), None, fx=2, fy=2))
    full = np.zeros(image.shape)
    full[: grain.shape[0], : grain.shape[1]] = grain
    return np.clip(image + full, 0, 255).astype(np.uint8)


def lit(image: Image, index: int, _: Clip) -> Image:
    """The light goes down, up and down again, each within a frame."""
    gain = (1.0, 0.7, 1.25, 0.85)[(index // 130) % 4]
    return np.asarray(cv2.convertScaleAbs(image, alpha=gain), dtype=np.uint8)


def sunny(image: Image, index: int, clip: Clip) -> Image:
    """A patch of sun wanders over the floor, a fiftieth of the picture a second."""
    height, width = image.shape[:2]
    x = (index / clip.fps * 0.02 * width) % (1.4 * width) - 0.2 * width
    edges = ((0.0, 0.45), (0.2, 0.45), (0.3, 1.0), (0.05, 1.0))
    corners = np.array([(x + right * width, down * height) for right, down in edges])
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255)
    bright = cv2.convertScaleAbs(image, alpha=1.35, beta=8)
    return np.where(cv2.blur(mask, (9, 9))[..., None] > 127, bright, image).astype(np.uint8)


def door(image: Image, index: int, clip: Clip) -> Image:
    """A leaf at the left edge swings open and shut every eight seconds."""
    height, width = image.shape[:2]
    phase = index / clip.fps % 8.0
    open_ = min(1.0, max(0.0, 1.2 - abs(phase - 4.0)))
    reach = int((0.02 + 0.07 * open_) * width)
    out = image.copy()
    out[int(0.3 * height) : int(0.95 * height), :reach] = (70, 80, 95)
    return out


def cropped(left: float, top: float, right: float, bottom: float) -> Variation:
    """Only a part of the picture, its sides as shares of the whole."""

    def draw(image: Image, _: int, clip: Clip) -> Image:
        rows = slice(int(top * clip.height_px), int(bottom * clip.height_px))
        return np.ascontiguousarray(image[rows, int(left * clip.width_px) : int(right * clip.width_px)])

    def place(point: Point, clip: Clip) -> Point:
        return point[0] - int(left * clip.width_px), point[1] - int(top * clip.height_px)

    return Variation("cropped", draw, place)


@functools.lru_cache(maxsize=1)
def _people(clip: Clip) -> CutOut:
    return CutOut(clip.path, clip.path.with_name("PETS09-S2L1.gt.txt"))


def followed(image: Image, index: int, clip: Clip) -> Image:
    """Groups: a follower a step behind everybody, twice as many people."""
    return _people(clip).follow(image, index)


def loitered(image: Image, index: int, clip: Clip) -> Image:
    """Somebody stands on line A, and sways over it, while everybody else passes."""
    return _people(clip).stand(image, index, (560.0, 330.0), 6.0)


def _gain(share: float) -> Callable[[Image, int, Clip], Image]:
    return lambda image, _, __: np.asarray(cv2.convertScaleAbs(image, alpha=share), dtype=np.uint8)


VARIATIONS: tuple[Variation, ...] = (
    Variation("as given", quality=97),
    Variation("mirrored", lambda i, _, c: i[:, ::-1], lambda p, c: (c.width_px - p[0], p[1]), flips=True),
    Variation("reversed", backwards=True),
    Variation(
        "upside down",
        lambda i, _, c: i[::-1, ::-1],
        lambda p, c: (c.width_px - p[0], c.height_px - p[1]),
        anchor="centre",
    ),
    cropped(0.3, 0.1, 1.0, 0.95),
    scaled(0.5),
    scaled(1.6),
    shaken(3),
    shaken(6),
    Variation("dark", _gain(0.45)),
    Variation("light steps", lit),
    Variation("sun patch", sunny),
    Variation("door leaf", door),
    Variation("noise", noisy),
    Variation("poor recorder", quality=14),
    Variation("5 fps", skip=2, fps=0.5),
    Variation("60 fps, repeated", repeat=6, fps=6.0),
    Variation("60 fps, blended", repeat=6, blend=True, fps=6.0),
    Variation("30 fps, repeated", repeat=3, fps=3.0),
    msgspec.structs.replace(shaken(4), name="reversed, shaken", backwards=True),
    msgspec.structs.replace(shaken(4), name="60 fps, shaken", repeat=6, fps=6.0),
    Variation("loiterer", loitered, clip="vtest"),
    Variation("followers", followed, clip="vtest", follower=FOLLOWS_FRAMES),
    Variation(
        "loiterer and followers",
        lambda i, n, c: loitered(followed(i, n, c), n, c),
        clip="vtest",
        follower=FOLLOWS_FRAMES,
    ),
)  # fmt: skip


def _resized(image: Image, width: float, height: float) -> Image:
    size = (round(width / 2) * 2, round(height / 2) * 2)
    return np.asarray(
        cv2.resize(image, size, interpolation=cv2.INTER_AREA if size[0] < image.shape[1] else cv2.INTER_CUBIC)
    )


def read(path: Path) -> list[Image]:
    """All pictures of a clip."""
    capture = cv2.VideoCapture(str(path))
    images: list[Image] = []
    while True:
        good, image = capture.read()
        if not good:
            break
        images.append(np.asarray(image, dtype=np.uint8))
    capture.release()
    return images


def frames_of(images: list[Image], variation: Variation, clip: Clip) -> Iterator[Image]:
    """The varied clip, picture by picture."""
    order = images[::-1] if variation.backwards else images
    order = order[:: variation.skip]
    for index, image in enumerate(order):
        drawn = image if variation.draw is None else variation.draw(image, index, clip)
        following = order[min(index + 1, len(order) - 1)]
        for step in range(variation.repeat):
            if variation.blend and step:
                share = step / variation.repeat
                yield np.asarray(cv2.addWeighted(image, 1 - share, following, share, 0), dtype=np.uint8)
            else:
                yield np.ascontiguousarray(drawn)


def write(path: Path, images: Iterable[Image], fps: float, quality: int) -> int:
    """A file that the command can read (motion JPEG); how many frames it has."""
    writer: cv2.VideoWriter | None = None
    frames = 0
    for image in images:
        if writer is None:
            size = (image.shape[1], image.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size)
            writer.set(cv2.VIDEOWRITER_PROP_QUALITY, quality)
        if quality < 50:
            image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1))
        writer.write(image)
        frames += 1
    if writer is not None:
        writer.release()
    return frames


def truth_of(true: tuple[True_, ...], variation: Variation, frames: int) -> list[True_]:
    """The crossings of the varied clip; `frames` of the original."""
    found: list[True_] = []
    everybody = [(frame + late, direction) for late in {0, variation.follower} for frame, direction in true]
    for frame, direction in everybody:
        at = frames + 1 - frame if variation.backwards else frame
        at = ((at - 1) // variation.skip) * variation.repeat + 1
        turns = variation.flips != variation.backwards
        found.append((at, direction if not turns else ("out" if direction == "in" else "in")))
    return sorted(found)


class Sweep(msgspec.Struct, frozen=True):
    """One variation, one line, one detector. `right`: within 10 % or one, in each direction."""

    clip: str
    variation: str
    line: str
    detector: str
    true: tuple[int, int]
    counted: tuple[int, int]
    matched: int
    took_s: float

    @property
    def right(self) -> bool:
        return all(abs(a - b) <= max(1.0, 0.1 * a) for a, b in zip(self.true, self.counted, strict=True))


def sweep(
    clip: Clip, variation: Variation, detectors: Sequence[str], images: list[Image], folder: Path
) -> Iterator[Sweep]:
    """Count one variation with each detector, line by line."""
    path = folder / "varied.avi"
    write(path, frames_of(images, variation, clip), clip.fps * variation.fps, variation.quality)
    ends = []
    for _, (start, end), _ in clip.lines:
        if variation.place is None:
            ends.append((start, end))
        else:
            ends.append((variation.place(start, clip), variation.place(end, clip)))
    for detector in detectors:
        begun = time.process_time()
        model = None if detector == "motion" else DATA / "models" / detector
        options = CountOptions(
            lines=tuple(ends), detector="person" if model else "motion", model=model,
            anchor=variation.anchor or clip.anchor,
        )  # fmt: skip
        _, found, _ = count(path, options)
        took_s = time.process_time() - begun
        for number, (name, _, given) in enumerate(clip.lines, start=1):
            true = truth_of(given, variation, len(images))
            own = [(c.frame, c.direction) for c in found if c.line == f"line{number}"]
            matched = len(match(true, own, round(TOLERANCE_S * clip.fps * variation.fps)))
            yield Sweep(clip.name, variation.name, name, detector, _sums(true), _sums(own), matched, took_s)
    path.unlink()


def _sums(found: Iterable[True_]) -> tuple[int, int]:
    words = [direction for _, direction in found]
    return words.count("in"), words.count("out")


def show(detectors: Sequence[str] = ("motion", "yolox_nano.onnx"), clip_word: str = "", word: str = "") -> None:
    """Print every line of every variation whose name holds `word`, then how many are right with the better detector."""
    if not (DATA / "video").is_dir():
        print(f"footage: skipped, none at {DATA}")
        return
    right: dict[tuple[str, str, str], bool] = {}
    for clip in clips():
        if clip_word not in clip.name:
            continue
        images = read(clip.path)
        for variation in VARIATIONS:
            if word not in variation.name or variation.clip not in (None, clip.name):
                continue
            with tempfile.TemporaryDirectory() as folder:
                for found in sweep(clip, variation, detectors, images, Path(folder)):
                    key = (found.clip, found.variation, found.line)
                    right[key] = right.get(key, False) or found.right
                    what = f"{found.clip} {found.line}, {found.variation}, {found.detector}"
                    ours = f"{found.counted[0]} / {found.counted[1]}, matched {found.matched}"
                    limit = f"{found.true[0]} / {found.true[1]} ± 1 or 10 %"
                    mark = "" if found.right else "  ✗"
                    print(f"{what:58s} ours {ours:34s} limit {limit:22s} peer –{mark}", flush=True)
    if right:
        print(f"footage: {sum(right.values())} of {len(right)} lines right with the better detector")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.footage")
    parser.add_argument("detectors", nargs="*", default=["motion", "yolox_nano.onnx"])
    parser.add_argument("--only", default="", help="variations whose name holds this word")
    parser.add_argument("--clip", default="", help="clips whose name holds this word")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    show(given.detectors, given.clip, given.only)


if __name__ == "__main__":
    main()
