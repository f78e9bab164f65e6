"""Consumers that hold retention up are told of in time, and given up aloud."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import FakeClock
from gateway.event import STREAMS, Draft
from gateway.event_types import AlarmRaised, LossDeclared
from gateway.journal.cursor import acknowledge, advance, ensure, positions
from gateway.journal.writer import JournalWriter
from gateway.workers.feed_watch import BEHIND, EXPIRED, FeedWatch, expire
from sync.feed import FeedToken
from sync.feed_journal import JournalOffsets
from tests.sync.sync_parts import Store

DAY_S = 86_400.0


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    writer = JournalWriter(tmp_path / "journal.db", "gw01", FakeClock(), max_bytes=1 << 20, ballast_bytes=0)
    writer.open()
    yield writer
    writer.close()


def write(journal: JournalWriter, count: int) -> None:
    pad = [random.Random(number).randbytes(150).hex() for number in range(count)]
    journal.append(
        [Draft("observations", "store.t.v1", b'{"source":"//t/x","pad":"%b"}' % one.encode()) for one in pad]
    )
    head = journal.head("observations")
    journal.transact(lambda c: acknowledge(c, "observations", head, {}, now_ms=0))


def consumer(journal: JournalWriter, name: str, at: int = 0) -> None:
    now_ms = int(journal.clock.now().wall_s * 1000)
    journal.transact(lambda c: ensure(c, f"feed:{name}", True, streams=["observations"], now_ms=now_ms))
    journal.transact(lambda c: advance(c, f"feed:{name}", "observations", at, now_ms))


def look(journal: JournalWriter, watch: FeedWatch) -> list[Any]:
    """One look, of which everything is said and done."""
    found = journal.transact(lambda c: watch.look(c, journal.clock.now()))
    for one in found:
        watch.said(one)
        if one.expire:
            journal.transact(lambda c, name=one.consumer: expire(c, name, 1))  # type: ignore[misc]
    return [event for one in found for event in one.events]


def test_one_that_fills_the_journal_is_told_of_once_and_when_it_is_over(journal: JournalWriter) -> None:
    """At 80 % of what it may hold: a warning with its name; a look later nothing; when it has read, the all-clear."""
    watch = FeedWatch(["bi"], 14.0)
    write(journal, 100)
    consumer(journal, "bi", 50)
    assert look(journal, watch) == []
    while journal.fill_share() < 0.66:
        write(journal, 100)
    (alarm,) = look(journal, watch)
    assert (alarm.what, alarm.device, alarm.severity) == (BEHIND, "bi", "warning")
    assert look(journal, watch) == []
    head = journal.head("observations")
    journal.transact(lambda c: advance(c, "feed:bi", "observations", head, 1))
    (cleared,) = look(journal, watch)
    assert (type(cleared).__name__, cleared.what) == ("AlarmCleared", BEHIND)


def test_a_dead_one_is_expired_aloud_and_its_place_stays(journal: JournalWriter) -> None:
    """After two weeks without a step: an alarm, a loss with its range, and retention waits for it no longer."""
    watch = FeedWatch(["bi", "live"], 14.0)
    write(journal, 100)
    consumer(journal, "bi", 40)
    consumer(journal, "live", 100)  # has nothing to read: however long it is silent, it is not dead
    clock = journal.clock
    assert isinstance(clock, FakeClock)
    clock.advance(13 * DAY_S)
    assert look(journal, watch) == []
    clock.advance(2 * DAY_S)
    alarm, loss = look(journal, watch)
    assert isinstance(alarm, AlarmRaised)
    assert (alarm.what, alarm.severity, alarm.device) == (EXPIRED, "critical", "bi")
    assert isinstance(loss, LossDeclared)
    assert (loss.subject, loss.count, loss.first, loss.last) == ("feed:bi:observations", 60, 41, 100)
    (mine,) = journal.transact(lambda c: positions(c, "feed:bi"))
    assert (mine.position, mine.required) == (40, False)
    assert look(journal, watch) == []


def test_a_clock_that_nobody_has_set_expires_nobody(journal: JournalWriter) -> None:
    """A box that wakes up in another year proves nothing."""
    watch = FeedWatch(["bi"], 14.0)
    write(journal, 10)
    consumer(journal, "bi", 1)
    clock = journal.clock
    assert isinstance(clock, FakeClock)
    clock.quality = "unsynced"
    clock.advance(400 * DAY_S)
    assert look(journal, watch) == []


def test_one_that_is_not_configured_any_more_or_was_overrun_is_expired_too(journal: JournalWriter) -> None:
    """A consumer that was taken out of the file would otherwise hold the journal for ever."""
    write(journal, 100)
    consumer(journal, "gone", 40)
    (alarm, _) = look(journal, FeedWatch([], 14.0))
    assert "configuration" in alarm.hint
    consumer(journal, "slow", 40)
    journal.transact(lambda c: c.execute("DELETE FROM observations WHERE position <= 60"))
    (alarm, loss) = look(journal, FeedWatch(["slow"], 14.0))
    assert "quota" in alarm.hint
    assert loss.count == 60


def test_a_consumer_has_cursors_for_its_own_streams_only(tmp_path: Path) -> None:
    """What it may not read, it cannot hold up; a narrower token takes the other cursors back."""
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    store.add(5)
    offsets = JournalOffsets(store, store.clock)
    wide = FeedToken("bi", b"", STREAMS, required=True)
    narrow = FeedToken("bi", b"", ("observations",), required=True)
    offsets.commit(wide, (0, 0, 2), None)
    offset = offsets.commit(narrow, (0, 0, 3), None)
    assert offset is not None
    assert offset.position == (0, 0, 3)
    found = store.writer.transact(lambda c: positions(c, "feed:bi"))
    assert [(cursor.stream, cursor.position, cursor.required) for cursor in found] == [("observations", 3, True)]
    store.close()
