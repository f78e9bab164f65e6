"""Days on which events may get lost, come twice or change places: restored servers and journals, odd answers, erasure.

Against a real store of the reference platform, without HTTP, so that its database can be set back like a backup.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from gateway.clock import FakeClock
from gateway.journal.erasure import redact
from sync.answer import Reply, read_push
from sync.feed import Bounds, Feed, FeedRefused, FeedToken, Page, Position, token_digest
from sync.platform.store import PlatformStore, SequenceConflict, SequenceGap, UnknownEpoch
from sync.uplink import Batch, BatchResult, EpochReason, Lane, Outcome, Rejection
from tests.sync.sync_parts import Bench, FakeUplink, Store


class Direct:
    """An uplink into a platform's store, with answers that `script` puts in place of the true ones."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script: list[BatchResult] = []
        self.sent: list[Batch] = []
        self.told: list[tuple[int, int]] = []
        self.closed: dict[str, BatchResult] = {}  # answers about epochs that it will not hear of
        self._open()

    def _open(self) -> None:
        self.store = PlatformStore(self.path, durable=False)
        self.store.open()

    def backup(self) -> Path:
        """What the platform is now, in a file."""
        copy = self.path.with_name("platform.backup")
        with self.store.transaction() as connection:
            connection.execute("COMMIT")
            connection.execute("VACUUM INTO ?", (str(copy),))
            connection.execute("BEGIN")
        return copy

    def restore(self, copy: Path) -> None:
        """Somebody puts the backup back."""
        self.store.close()
        for path in self.path.parent.glob(self.path.name + "*"):
            path.unlink()
        shutil.copy(copy, self.path)
        self._open()

    def greet(self, lane: Lane, reason: EpochReason, previous: str | None) -> BatchResult:
        if lane.epoch in self.closed:
            return self.closed[lane.epoch]
        try:
            return BatchResult(outcome="taken", acked_through=self.store.find(lane)[0])
        except UnknownEpoch:
            self.store.open_epoch(lane, reason, previous)
            return BatchResult(outcome="taken", acked_through=0)

    def send(self, batch: Batch) -> BatchResult:
        self.sent.append(batch)
        try:
            consumed = self.store.consume(batch.lane, batch.first, batch.last, batch.body)
        except UnknownEpoch:
            return BatchResult(outcome="unknown_epoch")
        except SequenceGap as gap:
            return BatchResult(outcome="gap", expected_seq=gap.expected)
        except SequenceConflict as conflict:
            return BatchResult(outcome="conflict", conflict_seq=conflict.seq)
        if self.script:
            return self.script.pop(0)
        rejected = tuple(
            Rejection(verdict.seq, verdict.code, verdict.detail, verdict.verdict_id)
            for verdict in consumed.results
            if "rejected" in (verdict.status, verdict.original)
        )
        return BatchResult(outcome="taken", acked_through=consumed.acked_through, rejected=rejected)

    def declare_gap(self, lane: Lane, first: int, last: int, reason: str) -> BatchResult:
        self.told.append((first, last))
        if self.script:
            return self.script.pop(0)
        self.store.declare_gap(lane, first, last, reason)
        return BatchResult(outcome="taken")

    def close(self) -> None:
        pass

    def arrived(self) -> list[int]:
        """Numbers inside the events, in the order of arrival; -1 for one that was erased."""
        bodies = [body for _, body in self.store.events(0, 100_000, ("observations",))]
        return [(msgspec.json.decode(body).get("data") or {"n": -1})["n"] for body in bodies]


LOST = BatchResult(outcome="retry", reason="the answer is lost")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    with contextlib.suppress(Exception):
        store.close()


@pytest.fixture
def uplink(tmp_path: Path) -> Iterator[Direct]:
    uplink = Direct(tmp_path / "platform.db")
    yield uplink
    uplink.store.close()


def begin_epoch(store: Store, bench: Bench) -> Bench:
    """The gateway stops and starts again with a new epoch."""
    uplink = bench.syncer._uplink
    bench.close()
    store.close()
    store.open("salvaged")
    return Bench(store, uplink)


@pytest.mark.parametrize("restarted", [False, True], ids=["gateway runs on", "gateway restarts"])
def test_a_server_restored_to_before_an_epoch_began_gets_the_older_epochs_tail_again(
    store: Store, uplink: Direct, restarted: bool
) -> None:
    """What the platform lost of an older epoch is not forgotten because the gateway has a younger one by now."""
    bench = Bench(store, uplink)
    store.add(4)
    bench.drain()
    copy = uplink.backup()
    store.add(3, start=4)
    bench.drain()
    bench = begin_epoch(store, bench)
    store.add(2, start=7)
    bench.drain()
    uplink.restore(copy)
    if restarted:
        bench.close()
        bench = Bench(store, uplink)
        for _ in range(8):
            bench.step()
    store.add(2, start=9)
    bench.drain()
    for _ in range(8):
        bench.step()
    assert uplink.arrived() == list(range(11))
    bench.close()


@pytest.mark.parametrize("outcome", ["closed", "unauthorised"])
def test_an_older_epoch_that_a_server_will_not_hear_of_holds_no_new_event_up(
    store: Store, uplink: Direct, tmp_path: Path, outcome: Outcome
) -> None:
    """It takes the younger one, so what is new is delivered; a mere outage is waited for, as before."""
    bench = Bench(store, uplink)
    store.add(3)
    bench.drain()
    older = store.ledger()
    older.open()
    refused = older.view("observations").epochs[-1].epoch
    older.close()
    bench = begin_epoch(store, bench)
    store.add(2, start=3)
    bench.drain()
    bench.close()
    (tmp_path / "new").mkdir()
    fresh = Direct(tmp_path / "new" / "platform.db")
    fresh.closed = {refused: BatchResult(outcome=outcome, reason="not here")}
    bench = Bench(store, fresh)
    store.add(1, start=5)
    for _ in range(12):
        bench.step()
    assert fresh.arrived() == [3, 4, 5]
    assert not bench.alarms.up
    bench.close()
    fresh.store.close()


def test_a_new_server_gets_every_epoch_that_is_kept_in_order(store: Store, uplink: Direct, tmp_path: Path) -> None:
    """A platform that begins anew is given the journal from its first kept event on, whatever epochs it has."""
    bench = Bench(store, uplink)
    store.add(3)
    bench.drain()
    for start in (3, 6):
        bench = begin_epoch(store, bench)
        store.add(3, start=start)
        bench.drain()
    bench.close()
    store.writer.transact(lambda connection: connection.execute("DELETE FROM observations WHERE position <= 4"))
    (tmp_path / "new").mkdir()
    fresh = Direct(tmp_path / "new" / "platform.db")
    bench = Bench(store, fresh)
    for _ in range(12):
        bench.step()
    assert fresh.arrived() == [4, 5, 6, 7, 8]
    bench.close()
    fresh.store.close()


def test_a_journal_restored_from_a_backup_that_has_outgrown_the_platform_repeats_no_number(
    store: Store, uplink: Direct, tmp_path: Path
) -> None:
    """Nobody said that it was restored, and it has written more than it lost: the digests tell, all arrives."""
    bench = Bench(store, uplink)
    store.add(6)
    bench.drain()
    bench.close()
    store.close()
    shutil.copy(store.path, tmp_path / "backup.db")
    store.open()
    bench = Bench(store, uplink)
    store.add(3, start=6)
    bench.drain()
    bench.close()
    store.close()
    shutil.copy(tmp_path / "backup.db", store.path)
    store.open()
    store.add(8, start=100)
    bench = Bench(store, uplink)
    bench.drain()
    assert uplink.arrived() == [*range(9), *range(100, 108)]
    assert bench.alarms.up == ["sync.conflict.observations"]
    bench.close()


def test_a_server_and_a_journal_that_were_both_restored_agree_again(
    store: Store, uplink: Direct, tmp_path: Path
) -> None:
    """The store's box and the platform come back from backups of different days; new events all arrive once."""
    bench = Bench(store, uplink)
    store.add(3)
    bench.drain()
    older = uplink.backup()
    store.add(3, start=3)
    bench.drain()
    bench.close()
    store.close()
    shutil.copy(store.path, tmp_path / "backup.db")
    store.open()
    store.add(3, start=6)
    bench = Bench(store, uplink)
    bench.drain()
    bench.close()
    store.close()
    shutil.copy(tmp_path / "backup.db", store.path)
    uplink.restore(older)
    store.open()
    store.add(2, start=50)
    bench = Bench(store, uplink)
    bench.drain()
    assert uplink.arrived() == [0, 1, 2, 3, 4, 5, 50, 51]
    bench.close()


def test_two_gateways_with_one_journal_deliver_both_their_events_and_somebody_is_told(
    store: Store, uplink: Direct, tmp_path: Path
) -> None:
    """A cloned box pushes in turns with the original under one name: nothing of either is swallowed or mixed up."""
    store.add(4)
    store.close()
    shutil.copy(store.path, tmp_path / "clone.db")
    store.open()
    clone = Store(tmp_path / "clone.db", FakeClock()).open()
    first, second = Bench(store, uplink), Bench(clone, uplink)
    for turn in range(3):
        store.add(2, start=100 + 2 * turn)
        clone.add(3, start=200 + 3 * turn)
        second.drain()
        first.drain()
    arrived = uplink.arrived()
    assert sorted(arrived) == [0, 1, 2, 3, *range(100, 106), *range(200, 209)]
    assert [n for n in arrived if 100 <= n < 200] == list(range(100, 106))
    assert [n for n in arrived if n >= 200] == list(range(200, 209))
    alarms = first.alarms.up + second.alarms.up
    assert "sync.conflict.observations" in alarms and len(alarms) <= 2
    for bench in (first, second):
        bench.close()
    clone.close()


def test_a_crash_after_the_platform_was_told_of_a_gap_leaves_the_event_in_quarantine(
    store: Store, uplink: Direct
) -> None:
    """A number that the platform holds for lost is no event that it has: sent again, it is refused, not confirmed."""
    bench = Bench(store, uplink)
    store.add(3)
    bench.drain()
    lane = uplink.sent[0].lane
    store.add(3, start=3)
    uplink.store.declare_gap(lane, 4, 4, "client.bisected")  # … and then the gateway died before its own commit
    bench.close()
    bench = Bench(store, uplink)
    bench.drain()
    assert uplink.arrived() == [0, 1, 2, 4, 5]
    ((topic, reason),) = bench.quarantined()
    assert topic.endswith("/4") and reason.startswith("sequence.declared-lost")
    bench.close()


def test_batches_are_whole_again_after_one_event_was_too_large(store: Store) -> None:
    """The halving that finds a giant says nothing about the events behind it."""

    class Narrow(FakeUplink):
        def send(self, batch: Batch) -> BatchResult:
            if any(len(event) > 5000 for event in batch.events):
                self.sent.append(batch)
                return BatchResult(outcome="too_large", reason="HTTP 413")
            return super().send(batch)

    uplink = Narrow()
    bench = Bench(store, uplink)
    store.add(300)
    store.add(1, start=300, pad=6000)
    store.add(1500, start=301)
    bench.drain()
    assert [reason.partition(":")[0] for _, reason in bench.quarantined()] == ["client.too-large"]
    assert len(uplink.sent[-2].events) == 500
    assert len(uplink.sent) < 25
    bench.close()


def test_a_giant_that_the_platform_cannot_be_told_of_waits_and_is_not_lost(store: Store, uplink: Direct) -> None:
    """413 and 413 again for a single event, then a line that fails: it stays where it is until the gap is declared."""
    too_large = BatchResult(outcome="too_large", reason="HTTP 413")
    bench = Bench(store, uplink)
    store.add(2)
    uplink.script += [too_large, too_large, LOST, too_large, LOST]
    for _ in range(3):
        bench.step()
    assert (bench.cursor, bench.quarantined()) == (0, [])
    uplink.restore(_emptied(uplink))  # the script answered for a platform that had taken nothing
    bench.drain()
    assert uplink.arrived() in ([0, 1], [1])
    assert len(bench.quarantined()) + len(uplink.arrived()) == 2
    bench.close()


def _emptied(uplink: Direct) -> Path:
    with uplink.store.transaction() as connection:
        connection.execute("DELETE FROM event")
        connection.execute("UPDATE lane SET acked = 0")
    return uplink.backup()


@pytest.mark.parametrize("taken", [True, False], ids=["the answer was lost", "the request was lost"])
def test_an_event_erased_while_its_batch_was_on_the_way_is_erased_at_the_platform(
    store: Store, uplink: Direct, taken: bool
) -> None:
    """The batch comes again with the erased form; that is neither a conflict nor a second event."""
    bench = Bench(store, uplink)
    store.add(4)
    uplink.script.append(LOST)
    bench.step()
    if not taken:
        uplink.restore(_emptied(uplink))
    _redact(store, 2)
    bench.drain()
    assert uplink.arrived() == [0, -1, 2, 3]
    assert bench.syncer.counters.epochs == 0
    bench.close()


def test_a_rejection_that_comes_twice_with_an_erasure_in_between_keeps_the_erased_form(
    store: Store, uplink: Direct
) -> None:
    """What was erased before the verdict arrived does not come back in quarantine."""
    bench = Bench(store, uplink)
    store.add(3)
    verdict = Rejection(2, "schema.invalid", "no", "v-1")
    uplink.script += [LOST, BatchResult(outcome="taken", acked_through=3, rejected=(verdict,))]
    bench.step()
    _redact(store, 2)
    bench.drain()
    rows = bench.ledger._reader.query("SELECT payload FROM quarantine")
    (payload,) = [bytes(row[0]) for row in rows]
    assert b'"data":{' not in payload
    bench.close()


def test_a_verdict_on_what_was_settled_before_a_restore_is_not_counted_again(store: Store, uplink: Direct) -> None:
    """A batch that straddles the cursor brings verdicts from both sides of it; only the new side is quarantined."""
    bench = Bench(store, uplink)
    store.add(4)
    bench.drain()
    copy = _emptied(uplink)
    uplink.restore(copy)
    bench.syncer.replay(0)
    store.add(2, start=4)
    uplink.script.append(
        BatchResult(outcome="taken", acked_through=6, rejected=(Rejection(2, "late"), Rejection(5, "fresh")))
    )
    bench.drain()
    for _ in range(3):
        bench.step()
    assert [reason for _, reason in bench.quarantined()] == ["fresh"]
    bench.close()


def test_the_clock_goes_back_a_year_during_a_back_off_and_forward_again(store: Store, uplink: Direct) -> None:
    """The wait is neither longer nor shorter, the order stays, and nothing comes twice."""
    bench = Bench(store, uplink)
    store.add(2)
    uplink.script += [LOST] * 6
    for _ in range(6):
        bench.step()
    due_s = bench.syncer.state().next_try_s
    store.clock.step(-365 * 86400.0)
    assert bench.syncer.state().next_try_s == due_s
    store.add(2, start=2)
    store.clock.step(365 * 86400.0)
    store.add(2, start=4)
    bench.drain()
    assert uplink.arrived() == list(range(6))
    bench.close()


class Shrinking:
    """A feed's source from which retention takes events while a page is read."""

    def __init__(self) -> None:
        self.low = 0
        self.then: int | None = None

    def bounds(self) -> Bounds:
        return Bounds((self.low, 0, 0), (100, 0, 0))

    def page(self, after: Position, high: Position, streams: Sequence[str], limit: int) -> Page:
        if self.then is not None:
            self.low = self.then
        first = max(after[0], self.low) + 1
        return Page([b"%d" % n for n in range(first, first + limit)], (first + limit - 1, 0, 0))

    def tag(self, position: Position) -> bytes:
        return b"12345678"

    def lag(self, position: Position, high: Position, streams: Sequence[str]) -> int:
        return high[0] - position[0]


class NoOffsets:
    """Nobody has committed."""

    def find(self, consumer: str) -> None:
        return None

    def commit(self, *_: object) -> None:
        return None

    def drop(self, consumer: str) -> bool:
        return False


def test_a_page_whose_first_events_went_while_it_was_read_is_refused_and_has_no_hole() -> None:
    """Retention between the check of the cursor and the read is told like any other: 410 and where to begin again."""
    source = Shrinking()
    feed = Feed(source, NoOffsets(), b"s" * 32, 3)
    token = FeedToken("c", token_digest("c"), ("transactions",))
    start = feed.start(token, None, token.streams)
    page, fields = feed.page(start, token.streams, 5)
    assert page.events[0] == b"1"
    source.then = 20
    with pytest.raises(FeedRefused) as refused:
        feed.page(feed.start(token, fields["feed-next"], token.streams), token.streams, 5)
    assert (refused.value.status, refused.value.kind) == (410, "cursor-expired")
    source.then = None
    again = feed.start(token, str(refused.value.extra["oldest"]), token.streams)
    assert feed.page(again, token.streams, 1)[0].events == [b"21"]


LANE = Lane("gw01", "observations", "0" * 32)
BATCH = Batch(LANE, 11, (b"{}",) * 4)


@pytest.mark.parametrize(
    "results",
    [
        [{"seq": 12, "status": "rejected", "code": "a"}, {"seq": 12, "status": "duplicate", "original": "accepted"}],
        [{"seq": 12, "status": "accepted"}, {"seq": 12, "status": "rejected", "code": "a"}],
        [{"seq": 10, "status": "rejected", "code": "a"}],
    ],
    ids=["rejected, then accepted", "accepted, then rejected", "of the batch before"],
)
def test_verdicts_that_contradict_each_other_move_nothing(results: list[dict[str, object]]) -> None:
    """An answer that both takes and refuses an event is no answer."""
    said = {"gateway": LANE.gateway, "stream": LANE.stream, "epoch": LANE.epoch, "acked_through": 14}
    reply = Reply(200, {"content-type": "application/json"}, msgspec.json.encode({**said, "results": results}))
    assert read_push(reply, BATCH).outcome == "retry"


def test_the_same_verdict_twice_is_one() -> None:
    """A platform may repeat itself."""
    verdict = {"seq": 12, "status": "rejected", "code": "a", "verdict_id": "v-1"}
    again = {**verdict, "status": "duplicate", "original": "rejected"}
    said = {"gateway": LANE.gateway, "stream": LANE.stream, "epoch": LANE.epoch, "acked_through": 14}
    reply = Reply(200, {"content-type": "application/json"}, msgspec.json.encode({**said, "results": [verdict, again]}))
    result = read_push(reply, BATCH)
    assert (result.outcome, [rejection.seq for rejection in result.rejected]) == ("taken", [12])


def _redact(store: Store, position: int) -> None:
    store.writer.transact(lambda connection: redact(connection, "observations", [position], "e-1"))
