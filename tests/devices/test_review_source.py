"""Sources under hostile devices and a journal that takes nothing: each step comes back, and nobody's source dies."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from devices.driver import Driver, driver
from devices.source import Intake, MqttSource, SerialSource
from devices.topic import TopicTable
from gateway.clock import Instant
from gateway.intake.inlet import Item
from gateway.intake.reading import Button, Reading
from tests.devices.source_parts import FakeLine, FakeLink, made_intake, plans

STUCK_S = 20.0  # below below the patience after which a worker counts as stuck
MAPPED = """
[[devices]]
name = "counter"
driver = "generic_json"
topics = ["c/+"]
[[devices.options.mappings]]
topic = "c/{name}"
reading = "door_count"
fields = { entered = "in", left = "out", interval_s = "for" }
fixed = { line = "{name}" }
[[devices]]
name = "smiley"
driver = "generic_json"
topics = ["s/+"]
[[devices.options.mappings]]
topic = "s/{name}"
reading = "feedback"
fields = { score = "v" }
fixed = { question = "q1" }
"""


@pytest.fixture
def intake() -> Intake:
    return made_intake(capacity=2)


def within(step: Any) -> float:
    """Seconds that a step takes; a step that would never end is told to stop after a while."""
    stop = threading.Event()
    timer = threading.Timer(STUCK_S, stop.set)
    timer.start()
    began_s = time.monotonic()
    step(stop)
    timer.cancel()
    timer.join()
    return time.monotonic() - began_s


def settle(items: Sequence[Item]) -> None:
    for item in items:
        if item.receipt is not None:
            item.receipt()


def test_a_broker_source_comes_back_while_the_journal_takes_nothing_and_loses_nothing_by_it(intake: Intake) -> None:
    """A step that waited for room would be taken for a hang, and the watchdog would end the process."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MAPPED), link, intake)
    for mid in range(1, 6):
        link.say(mid, "s/1", {"v": 3})
    assert within(source.step) < STUCK_S  # five are taken whole, because the lane was empty
    link.say(6, "s/1", {"v": 4})
    assert within(source.step) < STUCK_S
    assert within(source.step) < STUCK_S
    link.say(7, "s/1", {"v": 5})
    assert within(source.step) < STUCK_S
    assert link.idle >= 2 and [one.mid for one in link.arrived] == [7] and link.acked == []
    settle(intake.inlet.take(100, 0.0, 0.0))
    assert within(source.step) < STUCK_S
    settle(intake.inlet.take(100, 0.0, 0.0))
    assert within(source.step) < STUCK_S
    settle(intake.inlet.take(100, 0.0, 0.0))
    assert link.acked == [1, 2, 3, 4, 5, 6, 7]


def test_a_serial_source_that_waits_comes_back_reads_no_more_and_leaves_what_it_holds(intake: Intake) -> None:
    """With `policy = "wait"` and no room, each step ends, the line keeps its bytes, and a close loses nothing."""
    (device,) = plans('[[devices]]\nname = "gun"\ndriver = "scanner_gs1"\naddress = "/dev/x"\npolicy = "wait"')
    line = FakeLine(*[b"]d24006381333931\r\n" * 3] * 9)
    source = SerialSource(device, line, intake)
    source.open()
    for _ in range(3):
        assert within(source.step) < STUCK_S
    assert (line.reads, intake.inlet.size) == (2, 3)
    source.close()
    assert (intake.inlet.size, intake.inlet.counters()["gun"].dropped) == (6, 0)


def test_a_message_that_no_event_can_hold_is_set_aside_and_the_next_one_is_taken(intake: Intake) -> None:
    """An interval of a million years is poison; unguarded, the broker would bring it again and again for ever."""
    link = FakeLink()
    source = MqttSource("mqtt-devices", plans(MAPPED), link, intake)
    link.say(1, "c/door", {"in": 1, "out": 1, "for": 1e14})
    link.say(2, "c/door", {"in": 1, "out": 1, "for": 60})
    source.step(threading.Event())
    (item,) = intake.inlet.take(100, 0.0, 0.0)
    assert len(item.drafts) == 1 and "interval_s" in item.poison[0].reason
    settle([item])
    assert link.acked == [1, 2]


@driver("broken_for_a_test", wire="mqtt", topics=("x",))
class Broken(Driver):
    """A driver with a mistake in it."""

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        raise KeyError(data.payload)


def test_a_mistake_in_a_driver_costs_the_message_and_not_the_source(intake: Intake) -> None:
    """What a driver should never raise sets the message aside, and the reason quotes nothing of it."""
    (device,) = plans('[[devices]]\nname = "b"\ndriver = "beacon_gateway"\ntopics = ["x"]')
    link = FakeLink()
    source = MqttSource("mqtt-devices", [msgspec.structs.replace(device, driver=Broken)], link, intake)
    link.say(1, "x", "secret")
    source.step(threading.Event())
    (item,) = intake.inlet.take(100, 0.0, 0.0)
    assert "KeyError" in item.poison[0].reason and "secret" not in item.poison[0].reason


@driver("surrogates_for_a_test", wire="serial")
class Surrogates(Driver):
    """A driver that passes on what no event can hold, and then what one can."""

    def feed(self, data: Any, at: Instant) -> Iterable[Reading]:
        return [Button(value="\ud800"), Button(value="ok")]


def test_on_a_line_what_no_event_can_hold_is_counted_and_the_rest_is_taken(intake: Intake) -> None:
    """A serial line keeps nothing that could be set aside: the board counts it as bad."""
    (device,) = plans('[[devices]]\nname = "gun"\ndriver = "scanner_gs1"\naddress = "/dev/x"')
    source = SerialSource(msgspec.structs.replace(device, driver=Surrogates), FakeLine(b"x"), intake)
    source.open()
    source.step(threading.Event())
    assert [len(item.drafts) for item in intake.inlet.take(9, 0.0, 0.0)] == [1]
    assert intake.board.reports(intake.clock.now())[0].bad == 1


def test_topics_made_at_random_are_matched_and_do_not_fill_the_memory() -> None:
    """Thousands of topics of 60 kB each would otherwise be remembered."""
    table = TopicTable([["a/#"]])
    for number in range(5000):
        assert table.match(f"a/{number}/" + "x" * (60_000 if number % 50 == 0 else 1)) == (0,)
    assert sum(map(len, table._known)) < 4096 * 512
