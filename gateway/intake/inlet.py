"""The inlet: the only hand-off between the threads that hear devices and the thread that commits.

Every source has a bounded lane of its own, so a flooding reader can neither exhaust memory nor hold up a sale. A full
lane either makes its source wait (the device or broker can hold the data) or drops the oldest and counts the loss (a
serial line cannot wait). `take` goes round the lanes. Knows nothing of storage.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import msgspec

from gateway.event import STREAMS, Draft, Stream

Policy = Literal["wait", "drop_oldest"]
_NEVER = 1 << 62


class Poison(msgspec.Struct, frozen=True):
    """An input that could not become an event: what came, from where, and why it was refused."""

    source: str
    driver: str
    reason: str
    payload: bytes
    topic: str = ""  # may name a person (`member/4711/scan`), so it is sealed with the payload …
    filter: str = ""  # … and this, the configured filter that it matched, is what stands in clear
    dedupe: bytes = b""  # names the message, as a draft's names the fact; empty: always a new one
    fresh: bool = False  # see `Draft`


class Item(msgspec.Struct):
    """What one delivery from a source became; committed whole. `receipt` is called once, after the commit."""

    drafts: Sequence[Draft]
    receipt: Callable[[], None] | None = None
    poison: Sequence[Poison] = ()

    @property
    def stream(self) -> Stream:
        """The most important stream that the item touches; poison counts as measurements."""
        if not self.drafts:
            return "measurements"
        if len(self.drafts) == 1:
            return self.drafts[0].stream
        return min((draft.stream for draft in self.drafts), key=STREAMS.index)

    @property
    def weight(self) -> int:
        """How many rows the item will write; at least 1."""
        return len(self.drafts) + len(self.poison) or 1


class LaneCounters(msgspec.Struct):
    """What happened to one source's events at the inlet, in events since the start."""

    offered: int = 0
    taken: int = 0
    dropped: int = 0  # lost here because the lane was full; declared as a loss
    waited: int = 0  # offers that found the lane full


class _Lane:
    def __init__(self, policy: Policy, capacity: int) -> None:
        self.policy = policy
        self.capacity = capacity
        self.items: deque[Item] = deque()
        self.size = 0
        self.counters = LaneCounters()


class Inlet:
    """Lanes of accepted items between sources and the journal writer. All methods may be called from any thread."""

    def __init__(self, capacity: int = 4096) -> None:
        """`capacity`: how many events one lane holds when nothing else is said."""
        self._capacity = capacity
        self._lanes: dict[str, _Lane] = {}
        self._order: deque[str] = deque()
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._emptied = threading.Condition(self._lock)
        self._size = 0
        self._notify_at = _NEVER  # the taker sleeps until so many events wait; a wake-up for each would cost the GIL
        self._woken = False
        self._hurried = False

    def lane(self, source: str, policy: Policy = "wait", capacity: int | None = None) -> None:
        """Open (or re-configure) a source's lane; a source without one gets the default at its first offer."""
        with self._lock:
            lane = self._lanes.get(source)
            if lane is None:
                self._lanes[source] = _Lane(policy, capacity or self._capacity)
                self._order.append(source)
            else:
                lane.policy, lane.capacity = policy, capacity or self._capacity

    def offer(self, source: str, item: Item, timeout_s: float = 0.0) -> bool:
        """Put an item into the source's lane.

        Returns False when the lane stayed full for `timeout_s`: nothing was taken, offer it again. With the policy
        `drop_oldest` it always returns True, and what had to go is counted.
        """
        weight = item.weight
        with self._lock:
            lane = self._lane(source)
            if lane.size + weight > lane.capacity and lane.items:
                lane.counters.waited += 1
                if lane.policy == "drop_oldest":
                    while lane.items and lane.size + weight > lane.capacity:
                        self._drop_oldest(lane)
                else:
                    deadline_s = time.monotonic() + timeout_s
                    while lane.items and lane.size + weight > lane.capacity:
                        left_s = deadline_s - time.monotonic()
                        if left_s <= 0 or not self._emptied.wait(left_s):
                            return False
            self._put(lane, item)
        return True

    def give_up(self, source: str, item: Item) -> None:
        """Count an item as lost that its source can neither hand on nor keep."""
        with self._lock:
            self._lane(source).counters.dropped += len(item.drafts)

    def leave(self, source: str, item: Item) -> bool:
        """Take what a source that ends still holds and nobody would say again, beyond the lane's capacity.

        False when that much again lies there already: then it is counted as lost.
        """
        with self._lock:
            lane = self._lane(source)
            if lane.size >= 2 * lane.capacity:
                lane.counters.dropped += len(item.drafts)
                return False
            self._put(lane, item)
        return True

    def take(self, limit: int, window_s: float, timeout_s: float, streams: Collection[Stream] = STREAMS) -> list[Item]:
        """Collect about `limit` events for one commit.

        Waits up to `timeout_s` for the first item, then up to `window_s` for more. Lanes whose next item is of a
        stream not in `streams` are passed over: what is refused now stays where it is. Returns [] after `timeout_s`.
        """
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            while not self._ready(streams):
                left_s = deadline_s - time.monotonic()
                if left_s <= 0 or self._woken:
                    self._woken = self._hurried = False
                    return []
                self._sleep(1 if len(streams) == len(STREAMS) else self._size + 1, left_s)
            end_s = time.monotonic() + window_s
            while self._size < limit and not self._hurried and (left_s := end_s - time.monotonic()) > 0:
                self._sleep(limit, left_s)
            self._hurried = False
            return self._collect(limit, streams)

    def wake(self, *, hurry: bool = False) -> None:
        """Let a waiting `take` return early (used to run a transaction that is not an event).

        `hurry`: also when it is collecting; what it has then is its answer.
        """
        with self._lock:
            self._woken = True
            self._hurried = self._hurried or hurry
            self._filled.notify_all()

    @property
    def size(self) -> int:
        """Events waiting in all lanes."""
        return self._size

    def counters(self) -> dict[str, LaneCounters]:
        """A copy of every lane's counters, by source."""
        with self._lock:
            return {name: msgspec.structs.replace(lane.counters) for name, lane in self._lanes.items()}

    def _lane(self, source: str) -> _Lane:
        lane = self._lanes.get(source)
        if lane is None:
            lane = self._lanes[source] = _Lane("wait", self._capacity)
            self._order.append(source)
        return lane

    def _put(self, lane: _Lane, item: Item) -> None:
        weight = item.weight
        lane.items.append(item)
        lane.size += weight
        lane.counters.offered += len(item.drafts)
        self._size += weight
        if self._size >= self._notify_at:
            self._notify_at = _NEVER
            self._filled.notify()

    def _sleep(self, until_size: int, timeout_s: float) -> None:
        self._notify_at = until_size
        self._filled.wait(timeout_s)
        self._notify_at = _NEVER

    def _ready(self, streams: Collection[Stream]) -> bool:
        if not self._size:
            return False
        if len(streams) == len(STREAMS):
            return True
        return any(lane.items and lane.items[0].stream in streams for lane in self._lanes.values())

    def _collect(self, limit: int, streams: Collection[Stream]) -> list[Item]:
        taken: list[Item] = []
        count, idle = 0, 0
        everything = len(streams) == len(STREAMS)
        share = max(1, limit // max(1, sum(bool(lane.items) for lane in self._lanes.values())))
        while count < limit and idle < len(self._order):
            lane = self._lanes[self._order[0]]
            self._order.rotate(-1)
            before = count
            while lane.items and count < limit and count - before < share:
                if not everything and lane.items[0].stream not in streams:
                    break
                item = lane.items.popleft()
                weight = item.weight
                lane.size -= weight
                self._size -= weight
                lane.counters.taken += len(item.drafts)
                taken.append(item)
                count += weight
            idle = idle + 1 if count == before else 0
        if taken:
            self._emptied.notify_all()
        return taken

    def _drop_oldest(self, lane: _Lane) -> None:
        item = lane.items.popleft()
        lane.size -= item.weight
        self._size -= item.weight
        lane.counters.dropped += len(item.drafts)
