"""Retention: what goes silently, what is counted, what never goes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalFull
from gateway.event import STREAMS, Draft, Stream
from gateway.journal import cursor
from gateway.journal.integrity import verify
from gateway.journal.loss import LossDeclared
from gateway.journal.reader import JournalReader, StreamState
from gateway.journal.retention import Retention, RetentionPolicy, Swept
from gateway.journal.schema import PAGE_BYTES
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
DAY_S = 86_400.0
WEEK = RetentionPolicy(
    keep_s=dict.fromkeys(STREAMS, 7 * DAY_S), max_age_s={"observations": 30 * DAY_S, "measurements": 60 * DAY_S}
)


def sweep(writer: JournalWriter, policy: RetentionPolicy, clock: FakeClock) -> list[Swept]:
    retention = Retention(policy)
    steps: list[Swept] = []
    while not steps or steps[-1].more:
        steps.append(writer.transact(lambda connection: retention.step(connection, clock.now())))
        assert len(steps) < 1000
    return steps


def state(path: Path, stream: Stream = "observations") -> StreamState:
    with JournalReader(path) as reader:
        now = reader.state(stream)
    assert now.accepted == now.acked + now.pending + now.quarantined + now.expired + now.declared_lost
    return now


def acknowledge(writer: JournalWriter, stream: Stream, through: int) -> None:
    writer.transact(lambda c: cursor.acknowledge(c, stream, through, {}, now_ms=1))


def test_delivered_events_go_when_they_are_old(
    writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path
) -> None:
    """Older than the limit and passed by every required cursor: deleted without a loss, in steps of at most 500."""
    for start in range(0, 1200, 100):
        writer.append([draft(n) for n in range(start, start + 100)])
    acknowledge(writer, "observations", 1100)
    clock.advance(8 * DAY_S)
    steps = sweep(writer, WEEK, clock)
    assert [step.deleted for step in steps] == [500, 500, 100, 0]
    assert all(step.declared == () for step in steps)
    now = state(path)
    assert (now.accepted, now.acked, now.pending, now.oldest) == (1200, 1100, 100, 1101)


def test_young_delivered_events_stay(writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path) -> None:
    """They serve local readers until their time is over."""
    writer.append([draft(n) for n in range(50)])
    acknowledge(writer, "observations", 50)
    clock.advance(6 * DAY_S)
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]


def test_undelivered_events_stay_until_their_limit(
    writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path
) -> None:
    """Weeks without the platform lose nothing; beyond the limit they go, are counted, and the loss is declared."""
    writer.append([draft(n) for n in range(20)])
    writer.append([draft(n, "transactions") for n in range(100, 120)])
    clock.advance(29 * DAY_S)
    writer.append([draft(n) for n in range(20, 30)])
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]
    clock.advance(2 * DAY_S)
    steps = sweep(writer, WEEK, clock)
    assert [loss for step in steps for loss in step.declared] == [LossDeclared("observations", 1, 20, 20, "retention")]
    now = state(path)
    assert (now.pending, now.expired, now.acked, now.oldest) == (10, 20, 0, 21)
    clock.advance(4000 * DAY_S)
    sweep(writer, WEEK, clock)
    assert state(path, "transactions").pending == 20, "no limit is set for sales"
    assert verify(path).ok


def test_partly_delivered_events_are_counted_once(
    writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path
) -> None:
    """What was delivered before it expired does not count as expired."""
    writer.append([draft(n) for n in range(30)])
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    acknowledge(writer, "observations", 12)
    clock.advance(40 * DAY_S)
    steps = sweep(writer, WEEK, clock)
    assert [loss for step in steps for loss in step.declared] == [LossDeclared("observations", 13, 29, 17, "retention")]
    assert steps[0].overrun == ("feed:erp",)
    now = state(path)
    assert (now.acked, now.expired, now.pending) == (12, 17, 1)


def test_a_required_consumer_holds_events_until_pressure(
    writer: JournalWriter, draft: MakeDraft, clock: FakeClock
) -> None:
    """A local consumer that is behind keeps delivered events, until the quota asks for them; then it is named."""
    writer.append([draft(n) for n in range(30)])
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    acknowledge(writer, "observations", 30)
    clock.advance(10 * DAY_S)
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]
    pressed = RetentionPolicy(keep_s=WEEK.keep_s, relax_above=0.0, overrun_above=0.0, expire_above={})
    steps = sweep(writer, pressed, clock)
    assert [step.deleted for step in steps] == [29, 0]
    assert steps[0].overrun == ("feed:erp",)


def test_the_newest_row_always_stays(writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path) -> None:
    """Positions are never given twice, even after everything was delivered and deleted."""
    writer.append([draft(n) for n in range(10)])
    acknowledge(writer, "observations", 10)
    clock.advance(400 * DAY_S)
    sweep(writer, WEEK, clock)
    assert state(path).oldest == 10
    writer.close()
    writer.open()
    writer.append([draft(11)])
    assert writer.head("observations") == 11


def test_pressure_takes_observations_then_measurements_never_sales(
    path: Path, clock: FakeClock, draft: MakeDraft
) -> None:
    """At the quota's limits the least important stream gives up its oldest events first; sales give nothing."""
    writer = JournalWriter(path, "gw01", clock, max_bytes=1500 * PAGE_BYTES, ballast_bytes=0)
    writer.open()
    number = 0
    for stream, share in (("observations", 0.3), ("measurements", 0.6), ("transactions", 0.95)):
        while writer.fill_share() < share:
            writer.append([draft(number + i, stream, 700) for i in range(10)])
            number += 10
    policy = RetentionPolicy(max_age_s={}, expire_above={"observations": 0.80, "measurements": 0.90})
    steps = sweep(writer, policy, clock)
    order = [loss.stream for step in steps for loss in step.declared]
    assert order[0] == "observations"
    assert "transactions" not in order
    assert {loss.reason for step in steps for loss in step.declared} == {"quota"}
    assert writer.fill_share() <= 0.80 or state(path).pending == 1
    assert state(path, "transactions").expired == 0
    assert verify(path).ok
    writer.close()


def test_it_works_when_the_quota_is_full(path: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """With not one page left, deleting still works and appending goes on after it."""
    writer = JournalWriter(path, "gw01", clock, max_bytes=300 * PAGE_BYTES, ballast_bytes=0)
    writer.open()
    number = 0
    with pytest.raises(JournalFull):
        while True:
            writer.append([draft(number + i, size=700) for i in range(5)])
            number += 5
    while True:  # to the last page
        try:
            writer.append([draft(number, size=10)])
            number += 1
        except JournalFull:
            break
    steps = sweep(writer, RetentionPolicy(), clock)
    assert sum(step.deleted for step in steps) > 0
    writer.append([draft(number + 1, size=700)])
    now = state(path)
    assert now.expired == sum(loss.count for step in steps for loss in step.declared) > 0
    assert verify(path).ok
    writer.close()


def test_a_wrong_clock_expires_nothing(writer: JournalWriter, draft: MakeDraft, clock: FakeClock) -> None:
    """Rows written before the clock was set (1970) and a clock that is not synchronised judge nobody."""
    right = clock.wall_s
    clock.wall_s = 1000.0
    writer.append([draft(n) for n in range(10)])
    clock.wall_s = right
    writer.append([draft(n) for n in range(10, 20)])
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]
    clock.wall_s = right + 900 * DAY_S
    clock.quality = "unsynced"
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]
    clock.quality = "ntp"
    assert sum(step.deleted for step in sweep(writer, WEEK, clock)) == 19


def test_rows_after_a_step_back_are_as_young_as_those_before(
    writer: JournalWriter, draft: MakeDraft, clock: FakeClock
) -> None:
    """A clock that stood a year back for a while does not make its rows a year old."""
    writer.append([draft(n) for n in range(5)])
    clock.step(-300 * DAY_S)
    writer.append([draft(n) for n in range(5, 10)])
    clock.step(300 * DAY_S)
    clock.advance(1 * DAY_S)
    assert [step.deleted for step in sweep(writer, WEEK, clock)] == [0]


def test_a_step_is_one_transaction(writer: JournalWriter, draft: MakeDraft, clock: FakeClock, path: Path) -> None:
    """When a step's transaction fails, rows, cursor, counts and loss are as before."""
    writer.append([draft(n) for n in range(20)])
    clock.advance(400 * DAY_S)
    retention = Retention(WEEK)

    def work(connection: sqlite3.Connection) -> None:
        retention.step(connection, clock.now())
        raise InterruptedError

    with pytest.raises(InterruptedError):
        writer.transact(work)
    now = state(path)
    assert (now.pending, now.expired, now.oldest) == (20, 0, 1)
    with JournalReader(path) as reader:
        assert reader.query("SELECT * FROM loss") == []
