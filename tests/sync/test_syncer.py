"""The state machine of one stream: its place at a start, prefixes, pace, jitter and precedence, in fake time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from bench.fleet import ASKS, BUSY, FullJitter, simulate
from gateway.clock import FakeClock
from gateway.errors import JournalFull
from sync.pacing import Backoff, Pace, Precedence, asked_wait_s, next_tick_s, phase_s
from sync.syncer import SyncOptions
from sync.uplink import BatchResult, Limits, Rejection, Stopped
from tests.sync.sync_parts import GATEWAY, STREAMS, Bench, FakeUplink, Store, ids_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    store.close()


def arrived(uplink: FakeUplink) -> list[int]:
    return [n for log in uplink.taken.values() for n in ids_of([event for event in log if event])]


def test_a_prefix_moves_the_cursor_to_its_end_and_the_rest_follows(store: Store) -> None:
    """What was not taken is sent again, after the time that the platform asked for."""
    uplink = FakeUplink(
        BatchResult(outcome="taken", acked_through=6, stopped=Stopped(7, "quota", 20.0)),
    )
    bench = Bench(store, uplink)
    store.add(10)
    bench.step()
    assert bench.cursor == 6
    assert 20.0 <= bench.syncer.state().next_try_s <= 40.0
    uplink.taken[uplink.greeted[-1]] = list(uplink.sent[0].events[:6])
    bench.drain()
    assert uplink.sent[1].first == 7
    assert arrived(uplink) == list(range(10))
    bench.close()


def test_a_platform_that_takes_nothing_is_not_asked_again_at_once(store: Store) -> None:
    """No progress is a failure, not a loop."""
    uplink = FakeUplink(*[BatchResult(outcome="taken", acked_through=0)] * 8)
    bench = Bench(store, uplink)
    store.add(3)
    bench.drain()
    assert bench.waited_s > 5
    assert arrived(uplink) == [0, 1, 2]
    bench.close()


def test_a_restart_sends_what_was_answered_but_not_settled_and_nothing_is_applied_twice(store: Store) -> None:
    """The process died between the platform's commit and its own."""
    uplink = FakeUplink(BatchResult(outcome="retry", reason="lost answer"))
    bench = Bench(store, uplink)
    store.add(5)
    bench.step()
    uplink.taken[uplink.greeted[-1]] = list(uplink.sent[0].events)  # it had arrived
    bench.close()
    again = Bench(store, uplink)
    again.drain()
    assert arrived(uplink) == list(range(5))
    again.close()


def test_a_platform_that_lost_its_tail_gets_it_again_even_when_nothing_new_happens(store: Store) -> None:
    """At every start the platform is asked how far it is."""
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(10)
    bench.drain()
    bench.close()
    del uplink.taken[uplink.greeted[-1]][4:]
    again = Bench(store, uplink)
    for _ in range(3):
        again.step()
    assert arrived(uplink) == list(range(10))
    again.close()


def test_a_new_platform_gets_everything_that_is_kept(store: Store) -> None:
    """An empty platform knows no epoch: the gateway begins at its first event."""
    bench = Bench(store, FakeUplink())
    store.add(1200)
    bench.drain()
    bench.close()
    fresh = FakeUplink()
    again = Bench(store, fresh)
    for _ in range(6):
        again.step()
    assert arrived(fresh) == list(range(1200))
    again.close()


def test_a_server_ahead_of_the_journal_means_a_lost_tail_and_a_new_epoch(tmp_path: Path) -> None:
    """A journal restored from a backup never uses a number twice: new events get a new epoch, old ones stay."""
    clock = FakeClock()
    store = Store(tmp_path / "journal.db", clock).open()
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(6)
    bench.drain()
    bench.close()
    store.close()
    shutil.copy(store.path, tmp_path / "backup.db")
    store.open()
    bench = Bench(store, uplink)
    store.add(4, start=6)
    bench.drain()
    first_epoch = bench.epoch
    bench.close()
    store.close()
    shutil.copy(tmp_path / "backup.db", store.path)
    store.open()  # nobody said that it was restored
    bench = Bench(store, uplink)
    bench.step()
    store.add(3, start=50)
    bench.drain()
    assert bench.epoch != first_epoch
    assert bench.alarms.up == ["sync.tail-lost.observations"]
    assert arrived(uplink) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 50, 51, 52]
    assert [lane.epoch for lane in uplink.taken] == [first_epoch, bench.epoch]
    bench.close()
    store.close()


def test_an_epoch_that_began_by_itself_is_sent_after_the_older_one(tmp_path: Path) -> None:
    """Events of two epochs never share a batch, and each epoch is greeted before its first event."""
    clock = FakeClock()
    store = Store(tmp_path / "journal.db", clock).open()
    store.add(3)
    store.close()
    store.open("restored")
    store.add(2, start=3)
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    bench.drain()
    assert [(batch.first, batch.last) for batch in uplink.sent] == [(1, 3), (1, 2)]
    assert len(uplink.greeted) == 2
    assert arrived(uplink) == list(range(5))
    bench.close()
    store.close()


def test_events_that_were_lost_inside_the_journal_are_declared_to_the_platform(store: Store) -> None:
    """A hole does not stop the stream and is not silent."""
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(10)
    store.writer.transact(lambda c: c.execute("DELETE FROM observations WHERE position IN (1, 5, 6)"))
    bench.drain()
    assert [(first, last) for _, first, last, _ in uplink.gaps] == [(1, 1), (5, 6)]
    assert arrived(uplink) == [1, 2, 3, 6, 7, 8, 9]
    bench.close()


def test_a_platform_that_refuses_everything_does_not_empty_the_journal_into_quarantine(store: Store) -> None:
    """A broken platform that says 400 to all costs a few events of quarantine an hour, not the backlog."""
    uplink = FakeUplink(*[BatchResult(outcome="bisect", reason="HTTP 400")] * 100_000)
    bench = Bench(store, uplink)
    store.add(500)
    start_s = store.clock.now().mono_s
    while store.clock.now().mono_s - start_s < 3600:
        bench.step()
    assert bench.cursor < 20
    assert "sync.refuses-everything.observations" in bench.alarms.up
    bench.close()


def test_rejections_of_a_range_that_was_settled_before_are_not_counted_again(store: Store) -> None:
    """A replay brings the old verdicts; quarantine keeps the first of each."""
    uplink = FakeUplink(BatchResult(outcome="taken", acked_through=4, rejected=(Rejection(2, "bad", "no", "v-1"),)))
    bench = Bench(store, uplink)
    store.add(4)
    bench.step()
    uplink.taken[uplink.greeted[-1]] = list(uplink.sent[0].events)
    bench.syncer.replay(0)
    uplink.script.append(BatchResult(outcome="taken", acked_through=4, rejected=(Rejection(2, "bad", "no", "v-1"),)))
    bench.step()
    assert len(uplink.sent) == 2
    assert [reason for _, reason in bench.quarantined()] == ["bad: no [v-1]"]
    bench.close()


def test_limits_of_the_platform_are_kept(store: Store) -> None:
    """Batch size and interval are as the platform asked."""
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(30)
    uplink.script.append(BatchResult(outcome="taken", acked_through=0, limits=Limits(max_events=7, min_interval_s=3.0)))
    bench.step()
    start_s = store.clock.now().mono_s
    bench.drain()
    assert max(len(batch.events) for batch in uplink.sent[1:]) == 7
    assert store.clock.now().mono_s - start_s >= 4 * 3.0
    bench.close()


def test_a_journal_without_room_for_the_cursor_is_waited_for(store: Store) -> None:
    """The platform has the batch; the acknowledgement is written when there is room again."""
    uplink = FakeUplink()
    bench = Bench(store, uplink)
    store.add(5)
    refusals = [3]
    settle = bench.ledger.acknowledge

    class Full:
        view, read, begin_epoch = bench.ledger.view, bench.ledger.read, bench.ledger.begin_epoch

        def acknowledge(self, *arguments):  # type: ignore[no-untyped-def]
            if refusals[0]:
                refusals[0] -= 1
                raise JournalFull("move cursor", "journal", "no room")
            return settle(*arguments)

    bench.syncer._ledger = Full()
    bench.drain()
    assert arrived(uplink) == list(range(5))
    assert len(uplink.sent) == 4
    bench.close()


def test_a_clock_that_is_wrong_by_a_year_changes_nothing(store: Store) -> None:
    """Waits are monotonic: a step of the wall clock neither hurries nor stops the stream."""
    uplink = FakeUplink(BatchResult(outcome="retry", retry_after_s=10.0))
    bench = Bench(store, uplink)
    store.add(5)
    bench.step()
    store.clock.step(-365 * 86400.0)
    assert 10.0 <= bench.syncer.state().next_try_s <= 20.0
    store.clock.step(2 * 365 * 86400.0)
    bench.drain()
    assert arrived(uplink) == list(range(5))
    bench.close()


def test_live_events_leave_within_the_interval(store: Store) -> None:
    """Without a backlog an event waits for one tick at most."""
    uplink = FakeUplink()
    bench = Bench(store, uplink, options=SyncOptions(boot_delay_s=0.0, interval_s=2.0))
    bench.step()
    for _ in range(20):
        store.add(1)
        accepted_s = store.clock.now().mono_s
        bench.drain()
        assert store.clock.now().mono_s - accepted_s <= 2.0 + 0.5
    bench.close()


def test_the_first_word_is_said_after_the_boot_delay(store: Store) -> None:
    """A street that gets its power back does not knock in one second."""
    waits = []
    for seed in range(40):
        bench = Bench(store, FakeUplink(), seed=seed, options=SyncOptions(boot_delay_s=60.0))
        waits.append(bench.syncer.state().next_try_s)
        bench.close()
    assert min(waits) < 10 and max(waits) > 50 and max(waits) <= 60


def test_a_wait_spreads_over_the_whole_step_and_stops_growing_at_the_cap() -> None:
    """U(0, step), base 1 s, cap 300 s, up to and with the first wait at the cap."""
    backoff, rng = Backoff(), Random(3)
    steps = [[Backoff.next(_at(backoff, tries), rng) for _ in range(400)] for tries in (0, 3, 9)]
    for waits, top in zip(steps, (1, 8, 300), strict=True):
        assert max(waits) <= top and max(waits) > 0.95 * top and min(waits) < 0.05 * top


@pytest.mark.parametrize("cap_s", [300.0, 900.0, 1.0])
def test_who_has_its_place_at_the_cap_keeps_it_almost(cap_s: float) -> None:
    """From the second wait at the cap on, U(0.8, 1) × cap, so that a fleet comes back evenly."""
    backoff, rng = Backoff(cap_s=cap_s), Random(3)
    for tries in (11, 40, 10_000):
        waits = [Backoff.next(_at(backoff, tries), rng) for _ in range(400)]
        assert 0.8 * cap_s <= min(waits) < 0.85 * cap_s and 0.97 * cap_s < max(waits) <= cap_s


def test_a_fleet_comes_back_evenly_after_an_outage() -> None:
    """The busiest second sees little more than an even share, a fifth of it for chance, and all are back by the cap."""
    peak = simulate(2000, 3600.0, BUSY, max_events=2000)
    streams_and_questions = len(BUSY) + len(ASKS)
    assert peak.requests == 2000 * streams_and_questions
    assert peak.drained_s <= 300.0
    rough = simulate(2000, 3600.0, BUSY, backoff=FullJitter, max_events=500)
    assert peak.requests_s < 0.75 * rough.requests_s


def _at(backoff: Backoff, tries: int) -> Backoff:
    backoff.tries = tries
    return backoff


@pytest.mark.parametrize(("asked", "low", "high"), [(10.0, 10.0, 20.0), (0.0, 0.0, 0.0), (1e9, 3600.0, 7200.0)])
def test_an_asked_wait_is_never_shorter_and_at_most_twice_as_long(asked: float, low: float, high: float) -> None:
    """A foolish wish is cut to an hour."""
    waits = [asked_wait_s(asked, Random(seed)) for seed in range(50)]
    assert low <= min(waits) and max(waits) <= high


def test_the_phase_is_the_gateways_own_and_spreads() -> None:
    """The same name always flushes at the same point of the interval; names spread evenly."""
    phases = [phase_s(f"gw{n:05d}", 10.0) for n in range(2000)]
    assert phase_s("gw00001", 10.0) == phases[1]
    assert all(150 < sum(bucket <= phase < bucket + 1 for phase in phases) < 260 for bucket in range(10))
    assert next_tick_s(100.0, 10.0, 3.0) == 103.0
    assert next_tick_s(103.0, 10.0, 3.0) == 113.0


def test_an_important_stream_drains_first_and_the_others_still_get_their_turn() -> None:
    """While transactions drain, observations send one batch in two seconds; a stream that stopped holds nobody up."""
    precedence = Precedence(STREAMS)
    precedence.draining("observations", 100.0, True)
    precedence.draining("transactions", 100.0, True)
    assert precedence.wait_s("transactions", 100.1) == 0.0
    assert precedence.wait_s("observations", 100.1) == pytest.approx(1.9)
    assert precedence.wait_s("observations", 102.0) == 0.0
    precedence.draining("transactions", 102.0, False)
    precedence.draining("observations", 102.0, True)
    assert precedence.wait_s("observations", 102.1) == 0.0
    assert precedence.wait_s("transactions", 102.1) == 0.0


def test_pace_waits_for_the_asked_interval_even_after_a_failure() -> None:
    """`min_interval` holds whatever happened."""
    pace = Pace(GATEWAY, Random(1), interval_s=2.0)
    pace.min_interval_s = 5.0
    pace.sent(10.0)
    pace.failed(10.1)
    assert pace.due_s >= 15.0
    pace.worked(10.2, backlog=True)
    assert pace.due_s == 15.0
