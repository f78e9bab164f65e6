"""The tracker alone: identities through gaps and meetings, and bounded state."""

from __future__ import annotations

import time

import numpy as np

from vision.counting_line import CountingLine
from vision.model import Box, Detection, Line, Track
from vision.tracker import Tracker, TrackerOptions


def person(x: float, y: float, score: float = 0.9, width: float = 30.0, height: float = 75.0) -> Detection:
    return Detection(Box(x - width / 2, y - height / 2, width, height), score)


def observed(tracks: list[Track]) -> set[int]:
    return {track.id for track in tracks if track.observed}


def test_one_person_is_one_track() -> None:
    """A walker keeps one identity, becomes credible, and is dated from the first sighting."""
    tracker = Tracker()
    tracks: list[Track] = []
    for step in range(40):
        tracks = tracker.step([person(50 + 8 * step, 100)], step / 10)
    (track,) = tracks
    assert (track.id, track.credible, track.first_s) == (1, True, 0.0)
    assert abs(track.velocity_px_s[0] - 80) < 8


def test_identity_survives_occlusion() -> None:
    """Hidden for more than a second, found again where the walk led."""
    tracker = Tracker()
    for step in range(50):
        hidden = 20 <= step < 34
        tracks = tracker.step([] if hidden else [person(50 + 8 * step, 100)], step / 10)
    assert observed(tracks) == {1}


def test_opposite_walkers_keep_their_identities() -> None:
    """Two who pass each other at arm's length do not swap."""
    tracker = Tracker()
    for step in range(50):
        tracks = tracker.step([person(50 + 8 * step, 100), person(450 - 8 * step, 112)], step / 10)
    by_id = {track.id: track.velocity_px_s[0] for track in tracks if track.observed}
    assert by_id[1] > 0 > by_id[2]


def test_what_never_moves_is_not_credible() -> None:
    """A sign that a detector takes for a person at .55 never becomes one; a sure, still person does."""
    tracker = Tracker()
    rng = np.random.default_rng(1)
    for step in range(100):
        jitter = float(rng.normal(0, 1))
        tracks = tracker.step([person(100 + jitter, 100, 0.55), person(300 + jitter, 100, 0.9)], step / 10)
    assert {track.id: track.credible for track in tracks} == {1: False, 2: True}


def test_weak_detection_continues_but_does_not_start() -> None:
    """Second-round detections hold a track that exists and make none."""
    tracker = Tracker()
    for step in range(10):
        tracker.step([person(50 + 5 * step, 100)], step / 10)
    tracks = tracker.step([person(100, 100, 0.3), person(400, 100, 0.3)], 1.0)
    assert observed(tracks) == {1}
    assert len(tracks) == 1


def test_weak_support_ends_where_it_does_not_keep() -> None:
    """With `weak_keeps` off a track without sure support ends after `lost_s`."""
    tracker = Tracker(TrackerOptions(weak_keeps=False, lost_s=1.0))
    for step in range(10):
        tracker.step([person(50 + 5 * step, 100)], step / 10)
    for step in range(10, 25):
        tracker.step([person(100, 100, 0.3)], step / 10)
    assert len(tracker) == 0


def test_state_is_bounded() -> None:
    """A storm of false detections neither grows the state nor ends the person who is there."""
    tracker = Tracker(TrackerOptions(most_tracks=64))
    rng = np.random.default_rng(1)
    for step in range(60):
        storm = [person(float(x), float(y)) for x, y in rng.uniform(0, 4000, (50, 2))]
        tracker.step([person(50 + 8 * step, 100), *storm], step / 10)
        assert len(tracker) <= 64 + 51


def test_frame_rate_does_not_matter() -> None:
    """The same walk at 5 and at 30 frames a second is one track."""
    for fps in (5, 10, 30):
        tracker = Tracker()
        for step in range(fps * 4):
            tracks = tracker.step([person(50 + 90 * step / fps, 100)], step / fps)
        assert observed(tracks) == {1}, fps


def test_empty_and_degenerate_detections() -> None:
    """Nothing, and boxes without area, are taken calmly."""
    tracker = Tracker()
    assert tracker.step([], 0.0) == []
    assert tracker.step([Detection(Box(1, 1, 0, 5), 0.9)], 0.1) == []
    assert tracker.step([person(5, 5)], 0.1)[0].id == 1  # no time has passed


def test_cost_with_twenty_people_is_flat() -> None:
    """Tracker and line together stay cheap, at the end as at the start (generous here; `bench` has the limit)."""
    tracker, line = Tracker(), CountingLine(Line("a", (0.5, 0), (0.5, 1)), 1000, 1000)
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, 1000, (20, 2))
    spent: list[float] = []
    for step in range(600):
        where = (starts + np.array([3.0 * step, 0.0])) % 1000
        people = [person(float(x), float(y)) for x, y in where]
        begun = time.process_time()
        line.update(tracker.step(people, step / 10), tracker.ended, step + 1, step / 10)
        spent.append(time.process_time() - begun)
    assert np.median(spent[-100:]) < 0.003
    assert np.median(spent[-100:]) < 2.5 * np.median(spent[100:200])
