"""Presence: from very many sightings of a thing to the few facts that it arrived, moved and departed.

A pure machine over keys of any kind: EPCs, beacons, cards. A `Policy` says what it takes to arrive, move and depart; a
`Spot` says where a sighting was made and which policy holds there. Time comes with each sighting and may be a little
out of order. Knows no reading, no event and no clock.

*Source*: EVENTS, "Arrive / move / depart"; beacons: PROTOCOLS §7, "Presence".
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Hashable, Sequence
from typing import Final, Generic, Literal, TypeVar

import msgspec

from gateway.clock import Instant

MAX_SPOTS: Final = 16  # remembered of one thing; the one heard longest ago is forgotten first


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What makes a thing arrive, move and depart. The defaults are those of an RFID gate.

    Strengths are in dB, or in the reader's raw steps where it says no dBm.
    """

    arrive_reads: int = 2  # sightings that make an arrival …
    arrive_of: int = 2  # … among the last so many …
    arrive_within_s: float = 2.0  # … in so much time
    enter_rssi: float | None = None  # only sightings count whose smoothed strength is at least this
    exit_below_db: float = 6.0  # with `enter_rssi`: weaker than that by so much …
    exit_after_s: float = 10.0  # … for so long is a departure
    depart_after_s: float = 10.0  # silence everywhere that is a departure
    depart_intervals: float = 0.0  # or so many mean intervals between sightings, if that is longer
    move_offset_db: float = 6.0  # another spot must be so much stronger …
    hold_off_s: float = 0.5  # … until the present one has been silent for so long; from then on the offset falls …
    fade_db_s: float = 8.0  # … by so much a second, to 0
    lost_after_s: float = 10.0  # a spot silent for so long has lost the thing: its past strength counts no more
    sighting_s: float = 1.0  # sightings by other readers within this time are the same sighting
    ring: int = 20  # strengths that the mean of a spot is taken of
    smoothing: float | None = None  # weight of the newest strength (0 to 1) instead of a mean over the ring

    def __post_init__(self) -> None:
        if not 1 <= self.arrive_reads <= self.arrive_of <= 100:
            raise ValueError("arrive_reads: must be 1 to arrive_of (at most 100)")
        if not 1 <= self.ring <= 1000:
            raise ValueError("ring: must be 1 to 1000")
        if self.smoothing is not None and not 0 < self.smoothing <= 1:
            raise ValueError("smoothing: must be above 0 and at most 1")
        for name in ("arrive_within_s", "depart_after_s", "lost_after_s"):
            if not 0 < getattr(self, name) < 1e7:
                raise ValueError(f"{name}: must be positive")
        for name in ("exit_below_db", "exit_after_s", "depart_intervals", "move_offset_db", "hold_off_s", "fade_db_s",
                     "sighting_s"):  # fmt: skip
            if not 0 <= getattr(self, name) < 1e7:
                raise ValueError(f"{name}: must not be negative")


GATE: Final = Policy()
SHELF: Final = Policy(depart_after_s=600.0)
BEACON: Final = Policy(
    arrive_of=3, arrive_within_s=30.0, enter_rssi=-80.0, depart_intervals=5.0, move_offset_db=5.0, hold_off_s=5.0,
    fade_db_s=1.0, smoothing=0.3,
)  # fmt: skip


class Spot(msgspec.Struct, frozen=True, cache_hash=True):
    """Where a sighting is made. Make it once and use it again: spots are compared often.

    `zone`: spots of one zone are one place, and going between them is no move; without a zone each spot is its own.
    `scale`: strengths of different scales are never compared.
    """

    reader: str
    antenna: int | None = None
    zone: str | None = None
    scale: Literal["dbm", "raw"] = "dbm"
    policy: Policy = GATE


K = TypeVar("K", bound=Hashable)


class Arrived(msgspec.Struct, Generic[K], frozen=True, kw_only=True):
    """It is here now. `rssi`: smoothed strength in the spot's scale, None if never given; `reads` since first seen."""

    key: K
    spot: Spot
    rssi: float | None
    reads: int
    first_seen: Instant
    last_seen: Instant


class Moved(msgspec.Struct, Generic[K], frozen=True, kw_only=True):
    """It is at another spot than before; fields as in `Arrived`."""

    key: K
    origin: Spot
    spot: Spot
    rssi: float | None
    reads: int
    first_seen: Instant
    last_seen: Instant


class Departed(msgspec.Struct, Generic[K], frozen=True, kw_only=True):
    """It is gone: silent, too weak, or `evicted` because there was no room to go on watching it."""

    key: K
    spot: Spot
    rssi: float | None
    reads: int
    first_seen: Instant
    last_seen: Instant
    reason: Literal["silence", "weak", "evicted"]


class Presence(Generic[K]):
    """Follows at most `capacity` things. Not thread-safe: one thread calls `observe` and `expire`."""

    def __init__(self, capacity: int = 50_000) -> None:
        """Store; `capacity` ≥ 1. About 1 kB of memory a thing."""
        if capacity < 1:
            raise ValueError("capacity: must be at least 1")
        self.evicted = 0  # things given up for want of room, arrived or not
        self._capacity = capacity
        self._tracks: dict[K, _Track] = {}
        self._deadlines: list[tuple[int, int, K, _Track]] = []  # may be early, never late: looked at again when due
        self._order = itertools.count()

    def __len__(self) -> int:
        """Things followed now, also those that have not arrived yet."""
        return len(self._tracks)

    def observe(
        self, key: K, spot: Spot, rssi: float | None, at: Instant
    ) -> Sequence[Arrived[K] | Moved[K] | Departed[K]]:
        """Take one sighting; returns what follows from it, most often nothing.

        Args:
            key: the thing.
            spot: where it was sighted.
            rssi: its strength in the scale of the spot, None if the device gives none.
            at: when. A little out of order does no harm: time does not run backwards for it.
        """
        outcomes: list[Arrived[K] | Moved[K] | Departed[K]] = []
        track = self._tracks.get(key)
        if track is not None and at.mono_us >= track.deadline_us():
            if track.here is not None:
                outcomes.append(_departed(key, track, "silence"))
            del self._tracks[key]
            track = None
        if track is None:
            if len(self._tracks) >= self._capacity:
                outcomes += self._evict()
            track = self._tracks[key] = _Track(at, spot.policy)
            self._watch(key, track)
        here = track.here
        heard = track.hear(spot, rssi, at)
        if here is None:
            if track.arrives(heard, at):
                outcomes.append(_arrived(key, track))
        elif heard is not here:
            if here.yields_to(heard, at.mono_us):
                origin, track.here, track.weak_us = here.spot, heard, None
                outcomes.append(_moved(key, track, origin))
        elif spot.policy.enter_rssi is not None and track.weakens(spot.policy, at.mono_us):
            outcomes.append(_departed(key, track, "weak"))
            del self._tracks[key]
        return outcomes or ()

    def expire(self, at: Instant) -> list[Departed[K]]:
        """Departures that silence until `at` has made certain; call it about twice a second. Empty list if none."""
        departed: list[Departed[K]] = []
        while self._deadlines and self._deadlines[0][0] <= at.mono_us:
            _, _, key, track = heapq.heappop(self._deadlines)
            if self._tracks.get(key) is not track:
                continue
            if track.deadline_us() > at.mono_us:
                self._watch(key, track)
                continue
            del self._tracks[key]
            if track.here is not None:
                departed.append(_departed(key, track, "silence"))
        return departed

    def forget(self, key: K) -> None:
        """What was said of it last could not be told: it has to arrive again."""
        self._tracks.pop(key, None)

    def _watch(self, key: K, track: _Track) -> None:
        heapq.heappush(self._deadlines, (track.deadline_us(), next(self._order), key, track))

    def _evict(self) -> list[Departed[K]]:
        """Give up what is nearest to its end anyway."""
        while True:
            early_us, _, key, track = heapq.heappop(self._deadlines)
            if self._tracks.get(key) is not track:
                continue
            if track.deadline_us() > early_us:
                self._watch(key, track)
                continue
            del self._tracks[key]
            self.evicted += 1
            return [_departed(key, track, "evicted")] if track.here is not None else []


class _Heard:
    """How strongly one spot (all spots of a zone) hears a thing."""

    __slots__ = ("last_us", "level", "ring", "spot", "total")

    def __init__(self, spot: Spot, at_us: int) -> None:
        self.spot = spot
        self.last_us = at_us
        self.level: float | None = None
        self.ring: deque[float] = deque()
        self.total = 0.0

    def take(self, spot: Spot, rssi: float | None, at_us: int) -> None:
        policy = spot.policy
        if spot is not self.spot:
            if spot.scale != self.spot.scale:
                self._forget()
            self.spot = spot
        if at_us - self.last_us > policy.lost_after_s * 1e6:
            self._forget()
        if at_us > self.last_us:
            self.last_us = at_us
        if rssi is None:
            return
        if policy.smoothing is not None:
            self.level = rssi if self.level is None else self.level + policy.smoothing * (rssi - self.level)
            return
        ring = self.ring
        ring.append(rssi)
        self.total += rssi
        while len(ring) > policy.ring:
            self.total -= ring.popleft()
        self.level = self.total / len(ring)

    def _forget(self) -> None:
        self.ring.clear()
        self.total, self.level = 0.0, None

    def yields_to(self, other: _Heard, at_us: int) -> bool:
        """True if `other` is now where the thing is, not here."""
        policy = self.spot.policy
        age_s = (at_us - self.last_us) / 1e6
        if age_s >= policy.lost_after_s:
            return True
        offset_db = policy.move_offset_db
        if age_s > policy.hold_off_s:
            offset_db = max(0.0, offset_db - policy.fade_db_s * (age_s - policy.hold_off_s))
        if self.level is None or other.level is None or self.spot.scale != other.spot.scale:
            return offset_db == 0.0  # nothing to compare: it is where it is heard, once silence here has spoken
        return other.level > self.level + offset_db


class _Track:
    """One thing: where it is heard, and where it is (`here` is None until it has arrived)."""

    __slots__ = (
        "counted_reader",
        "counted_us",
        "first",
        "heard",
        "here",
        "last",
        "policy",
        "reads",
        "recent",
        "weak_us",
    )

    def __init__(self, at: Instant, policy: Policy) -> None:
        self.policy = policy  # of the latest sighting
        self.heard: dict[object, _Heard] = {}
        self.here: _Heard | None = None
        self.first = self.last = at
        self.reads = 0
        self.recent: deque[tuple[Instant, bool]] = deque()
        self.counted_us = 0
        self.counted_reader: str | None = None
        self.weak_us: int | None = None

    def hear(self, spot: Spot, rssi: float | None, at: Instant) -> _Heard:
        where = spot if spot.zone is None else spot.zone
        heard = self.heard.get(where)
        if heard is None:
            if len(self.heard) >= MAX_SPOTS:
                oldest = min((w for w, h in self.heard.items() if h is not self.here), key=self._last_heard_us)
                del self.heard[oldest]
            heard = self.heard[where] = _Heard(spot, at.mono_us)
        heard.take(spot, rssi, at.mono_us)
        self.policy = spot.policy
        if at.mono_us > self.last.mono_us:
            self.last = at
        same = spot.reader != self.counted_reader and abs(at.mono_us - self.counted_us) < spot.policy.sighting_s * 1e6
        if self.counted_reader is None or not same:
            self.counted_reader, self.counted_us = spot.reader, at.mono_us
            self.reads += 1
            if self.here is None:
                enter = spot.policy.enter_rssi
                self.recent.append((at, enter is None or (heard.level is not None and heard.level >= enter)))
                while len(self.recent) > spot.policy.arrive_of:
                    self.recent.popleft()
        return heard

    def _last_heard_us(self, where: object) -> int:
        return self.heard[where].last_us

    def arrives(self, latest: _Heard, at: Instant) -> bool:
        """Decides on arrival and then on the strongest spot; `first` and `reads` become those of the arrival."""
        policy = latest.spot.policy
        since_us = at.mono_us - round(policy.arrive_within_s * 1e6)
        counted = [seen for seen, enters in self.recent if enters and seen.mono_us >= since_us]
        if len(counted) < policy.arrive_reads:
            return False
        self.first = min(counted, key=lambda seen: seen.mono_us)
        self.reads = len(counted)
        self.recent.clear()
        scale = latest.spot.scale
        rivals = [
            h for h in self.heard.values() if h.spot.scale == scale and h.level is not None and h.last_us >= since_us
        ]
        self.here = max(rivals, key=lambda h: h.level or 0.0, default=latest) if latest.level is not None else latest
        return True

    def weakens(self, policy: Policy, at_us: int) -> bool:
        """True once the thing has been too weak for too long."""
        level = self.here.level if self.here else None
        if level is None or policy.enter_rssi is None or level >= policy.enter_rssi - policy.exit_below_db:
            self.weak_us = None
            return False
        if self.weak_us is None:
            self.weak_us = at_us
        return at_us - self.weak_us >= policy.exit_after_s * 1e6

    def deadline_us(self) -> int:
        """When silence ends it, monotonic µs."""
        if self.here is None:
            return self.last.mono_us + round(self.policy.arrive_within_s * 1e6) + 1
        policy = self.here.spot.policy
        silence_s = policy.depart_after_s
        if policy.depart_intervals and self.reads > 1:
            interval_s = (self.last.mono_us - self.first.mono_us) / 1e6 / (self.reads - 1)
            silence_s = max(silence_s, min(policy.depart_intervals * interval_s, 10 * silence_s))
        return self.last.mono_us + round(silence_s * 1e6)


def _arrived(key: K, track: _Track) -> Arrived[K]:
    spot, rssi = _where(track)
    return Arrived(key=key, spot=spot, rssi=rssi, reads=track.reads, first_seen=track.first, last_seen=track.last)


def _moved(key: K, track: _Track, origin: Spot) -> Moved[K]:
    spot, rssi = _where(track)
    return Moved(
        key=key, origin=origin, spot=spot, rssi=rssi, reads=track.reads, first_seen=track.first, last_seen=track.last
    )


def _departed(key: K, track: _Track, reason: Literal["silence", "weak", "evicted"]) -> Departed[K]:
    spot, rssi = _where(track)
    return Departed(
        key=key, spot=spot, rssi=rssi, reads=track.reads, first_seen=track.first, last_seen=track.last, reason=reason
    )


def _where(track: _Track) -> tuple[Spot, float | None]:
    assert track.here is not None  # only things that have arrived are spoken of
    return track.here.spot, track.here.level
