"""The inlet: bounded lanes, fairness between sources, policies, time-outs."""

from __future__ import annotations

import threading
import time
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.event import STREAMS, Draft, Stream
from gateway.intake.inlet import Inlet, Item, Poison

SALES: tuple[Stream, ...] = ("transactions",)


def item(number: int = 0, stream: Stream = "observations", weight: int = 1) -> Item:
    return Item(tuple(Draft(stream, "store.test.v1", b'{"n":%d}' % number) for _ in range(weight)))


def numbers(items: list[Item]) -> list[int]:
    return [int(one.drafts[0].body[5:-1]) for one in items]


def test_items_of_a_source_come_out_in_order() -> None:
    """One lane is first in, first out."""
    inlet = Inlet()
    for number in range(10):
        assert inlet.offer("rfid", item(number))
    assert numbers(inlet.take(4, 0, 0)) == [0, 1, 2, 3]
    assert numbers(inlet.take(100, 0, 0)) == [4, 5, 6, 7, 8, 9]
    assert inlet.size == 0


def test_a_flooding_source_does_not_hold_up_another() -> None:
    """A full lane of reads leaves room in every take for the till's single event."""
    inlet = Inlet()
    for number in range(4000):
        inlet.offer("rfid", item(number))
    inlet.offer("pos", item(90_000, "transactions"))
    assert 90_000 in numbers(inlet.take(64, 0, 0))


def test_lanes_share_a_take_equally() -> None:
    """Three full lanes get about a third each."""
    inlet = Inlet()
    for source in range(3):
        for _ in range(500):
            inlet.offer(f"reader-{source}", item(source))
    taken = numbers(inlet.take(300, 0, 0))
    assert len(taken) == 300
    assert all(90 <= taken.count(source) <= 110 for source in range(3))


def test_a_full_waiting_lane_refuses_without_taking() -> None:
    """Policy wait: False, nothing taken, nothing lost, and counted as waited."""
    inlet = Inlet(capacity=2)
    assert inlet.offer("pos", item(1))
    assert inlet.offer("pos", item(2))
    assert not inlet.offer("pos", item(3))
    counters = inlet.counters()["pos"]
    assert (counters.offered, counters.waited, counters.dropped, inlet.size) == (2, 1, 0, 2)


def test_a_full_lane_drops_the_oldest_and_counts() -> None:
    """Policy drop_oldest: the newest is kept, what had to go is counted in events."""
    inlet = Inlet()
    inlet.lane("rfid", "drop_oldest", 5)
    inlet.offer("rfid", item(1, weight=3))
    inlet.offer("rfid", item(2, weight=2))
    assert inlet.offer("rfid", item(3, weight=1))
    assert inlet.counters()["rfid"].dropped == 3
    assert numbers(inlet.take(100, 0, 0)) == [2, 3]


def test_an_item_larger_than_the_lane_gets_in_alone() -> None:
    """A delivery of more events than the lane holds is not refused for ever."""
    inlet = Inlet(capacity=2)
    assert inlet.offer("pos", item(1, weight=5))
    assert not inlet.offer("pos", item(2))
    assert numbers(inlet.take(1, 0, 0)) == [1]


def test_an_offer_waits_until_there_is_room() -> None:
    """A source with a time-out goes on as soon as the taker has made room."""
    inlet = Inlet(capacity=1)
    inlet.offer("pos", item(1))
    result: list[bool] = []
    thread = threading.Thread(target=lambda: result.append(inlet.offer("pos", item(2), timeout_s=10)))
    thread.start()
    deadline = time.monotonic() + 5
    while inlet.counters()["pos"].waited == 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert numbers(inlet.take(1, 0, 0)) == [1]
    thread.join(60)
    assert result == [True]
    assert numbers(inlet.take(1, 0, 0)) == [2]


def test_an_offer_gives_up_after_its_timeout() -> None:
    """No room for 50 ms: False after at least that long."""
    inlet = Inlet(capacity=1)
    inlet.offer("pos", item(1))
    started = time.monotonic()
    assert not inlet.offer("pos", item(2), timeout_s=0.05)
    assert 0.05 <= time.monotonic() - started < 5


def test_take_returns_empty_after_its_timeout() -> None:
    """Nothing offered: [] and not before the time-out."""
    started = time.monotonic()
    assert Inlet().take(10, 1.0, 0.05) == []
    assert 0.05 <= time.monotonic() - started < 5


def test_take_waits_out_its_window_for_more() -> None:
    """What comes within the window joins the first item's commit."""
    inlet = Inlet()
    inlet.offer("pos", item(1))
    thread = threading.Timer(0.02, lambda: inlet.offer("pos", item(2)))
    thread.start()
    assert numbers(inlet.take(2, 10.0, 0.0)) == [1, 2]
    thread.join()


def test_wake_ends_a_wait_for_the_first_item() -> None:
    """The committing thread is called for a transaction that is not an event."""
    inlet = Inlet()
    timer = threading.Timer(0.02, inlet.wake)
    timer.start()
    started = time.monotonic()
    assert inlet.take(10, 0, 30) == []
    assert time.monotonic() - started < 10
    timer.join()


def test_streams_that_are_refused_stay_where_they_are() -> None:
    """Only lanes whose next item is admitted are taken from; the rest waits, in order, and loses nothing."""
    inlet = Inlet()
    inlet.offer("rfid", item(1))
    inlet.offer("pos", item(2, "transactions"))
    inlet.offer("rfid", item(3))
    assert numbers(inlet.take(10, 0, 0, SALES)) == [2]
    assert inlet.take(10, 0, 0, SALES) == []
    assert numbers(inlet.take(10, 0, 0)) == [1, 3]


def test_an_admitted_item_wakes_a_restricted_take() -> None:
    """While observations are refused, a sale still ends the wait at once."""
    inlet = Inlet()
    for number in range(5):
        inlet.offer("rfid", item(number))
    timer = threading.Timer(0.02, lambda: inlet.offer("pos", item(77, "transactions")))
    timer.start()
    started = time.monotonic()
    assert numbers(inlet.take(10, 0.0, 30, SALES)) == [77]
    assert time.monotonic() - started < 10
    timer.join()


def test_an_item_counts_as_its_most_important_stream() -> None:
    """A delivery that holds a sale is treated as one; poison alone counts as measurements."""
    mixed = Item((*item(1).drafts, *item(2, "transactions").drafts))
    assert mixed.stream == "transactions"
    poison = Item((), poison=(Poison("pos", "pos_json", "broken", b"{"),))
    assert (poison.stream, poison.weight, Item(()).weight) == ("measurements", 1, 1)


def test_many_threads_lose_nothing() -> None:
    """Four offering threads and a taker: every item comes out once, each source's in order."""
    inlet = Inlet(capacity=50)
    total = 2_000

    def offer(source: int) -> None:
        for number in range(total):
            while not inlet.offer(f"s{source}", item(source * total + number), timeout_s=1):
                continue

    threads = [threading.Thread(target=offer, args=(source,)) for source in range(4)]
    for thread in threads:
        thread.start()
    taken: list[int] = []
    deadline = time.monotonic() + 30
    while len(taken) < 4 * total and time.monotonic() < deadline:
        taken.extend(numbers(inlet.take(64, 0.0, 0.2)))
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == list(range(4 * total))
    for source in range(4):
        own = [number for number in taken if number // total == source]
        assert own == sorted(own)


class InletModel(RuleBasedStateMachine):
    """Whatever is offered, dropped, refused and taken: the inlet agrees with plain lists and stays bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = Inlet(capacity=6)
        self.inlet.lane("drops", "drop_oldest", 6)
        self.lanes: dict[str, deque[tuple[int, int, Stream]]] = {"waits": deque(), "drops": deque(), "other": deque()}
        self.lost = 0
        self.number = 0

    @rule(
        source=st.sampled_from(["waits", "drops", "other"]), weight=st.integers(1, 9), stream=st.sampled_from(STREAMS)
    )
    def offer(self, source: str, weight: int, stream: Stream) -> None:
        lane = self.lanes[source]
        held = sum(entry[1] for entry in lane)
        room = held + weight <= 6 or not lane
        self.number += 1
        taken = self.inlet.offer(source, item(self.number, stream, weight))
        if source == "drops":
            assert taken
            while lane and sum(entry[1] for entry in lane) + weight > 6:
                self.lost += lane.popleft()[1]
            lane.append((self.number, weight, stream))
        else:
            assert taken == room
            if taken:
                lane.append((self.number, weight, stream))

    @rule(limit=st.integers(1, 20), admitted=st.sets(st.sampled_from(STREAMS), min_size=1))
    def take(self, limit: int, admitted: set[Stream]) -> None:
        taken = self.inlet.take(limit, 0.0, 0.0, tuple(admitted))
        for number in numbers(taken):
            lane = next(lane for lane in self.lanes.values() if lane and lane[0][0] == number)
            assert lane[0][2] in admitted
            lane.popleft()
        if not taken:
            assert not any(lane and lane[0][2] in admitted for lane in self.lanes.values())

    @invariant()
    def agrees(self) -> None:
        assert self.inlet.size == sum(entry[1] for lane in self.lanes.values() for entry in lane)
        counters = self.inlet.counters()
        assert sum(lane.dropped for lane in counters.values()) == self.lost
        offered = sum(lane.offered for lane in counters.values())
        assert offered == sum(lane.taken + lane.dropped for lane in counters.values()) + self.inlet.size


TestInletModel = InletModel.TestCase
TestInletModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
