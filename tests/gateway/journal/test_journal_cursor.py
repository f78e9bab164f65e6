"""Cursors, acknowledgement and conservation: by example, and against a model with crashes."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.clock import FakeClock
from gateway.errors import Rejected
from gateway.event import STREAMS, Draft, Stream
from gateway.journal import cursor, loss
from gateway.journal.cursor import UPLINK
from gateway.journal.integrity import verify
from gateway.journal.loss import LossDeclared
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]


def fill(writer: JournalWriter, draft: MakeDraft, count: int = 20, stream: Stream = "observations") -> None:
    writer.append([draft(1000 + number, stream) for number in range(count)])


def state(path: Path, stream: Stream = "observations") -> tuple[int, ...]:
    """accepted, acked, pending, quarantined, expired, declared_lost."""
    with JournalReader(path) as reader:
        now = reader.state(stream)
    assert now.accepted == now.acked + now.pending + now.quarantined + now.expired + now.declared_lost
    return now.accepted, now.acked, now.pending, now.quarantined, now.expired, now.declared_lost


def test_a_cursor_goes_forward_only(writer: JournalWriter, draft: MakeDraft) -> None:
    """A position behind the cursor changes nothing; one beyond the newest event is refused."""
    fill(writer, draft)

    def move(position: int) -> int:
        return writer.transact(lambda c: cursor.advance(c, "feed:erp", "observations", position, 5))

    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    assert [move(7), move(3), move(20)] == [7, 7, 20]
    with pytest.raises(Rejected, match="beyond the newest event, 20"):
        move(21)
    assert move(20) == 20


def test_a_cursor_must_exist_to_move(writer: JournalWriter, draft: MakeDraft) -> None:
    """A misspelt name is refused, not made."""
    fill(writer, draft)
    with pytest.raises(Rejected, match="no such cursor"):
        writer.transact(lambda c: cursor.advance(c, "feed:typo", "observations", 1, 0))


def test_ensure_keeps_the_place(writer: JournalWriter, draft: MakeDraft) -> None:
    """Making a cursor that exists changes only whether it is required."""
    fill(writer, draft)
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=False))
    writer.transact(lambda c: cursor.advance(c, "feed:erp", "observations", 9, 5))
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    found = {c.stream: (c.position, c.required) for c in writer.transact(lambda c: cursor.positions(c, "feed:erp"))}
    assert found == {"observations": (9, True), "measurements": (0, True), "transactions": (0, True)}


def test_the_uplink_cannot_be_forgotten(writer: JournalWriter) -> None:
    """Any other cursor can."""
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    assert writer.transact(lambda c: cursor.forget(c, "feed:erp"))
    assert not writer.transact(lambda c: cursor.forget(c, "feed:erp"))
    with pytest.raises(Rejected, match="cannot be removed"):
        writer.transact(lambda c: cursor.forget(c, UPLINK))


def test_acknowledging_moves_counts_and_quarantines_together(
    writer: JournalWriter, draft: MakeDraft, path: Path
) -> None:
    """Rejected events lie in quarantine with their bytes and reason; the rest counts as delivered; saying it again
    changes nothing.
    """
    fill(writer, draft)
    with JournalReader(path) as reader:
        seventh = reader.read("observations", 6, 1)[0]
    for _ in range(2):
        writer.transact(lambda c: cursor.acknowledge(c, "observations", 10, {7: "schema.invalid", 9: "x"}, now_ms=42))
    assert state(path) == (20, 8, 10, 2, 0, 0)
    with JournalReader(path) as reader:
        rows = reader.query("SELECT at_ms, source, topic, reason, payload FROM quarantine ORDER BY id")
    assert len(rows) == 2
    assert tuple(rows[0]) == (42, UPLINK, f"observations/{seventh.epoch}/7", "schema.invalid", seventh.json)


def test_a_failed_acknowledgement_changes_nothing(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """When the sealing of a rejected event fails, neither the cursor nor a count has moved."""
    fill(writer, draft)

    def seal(payload: bytes) -> bytes:
        raise RuntimeError("no key")

    with pytest.raises(RuntimeError):
        writer.transact(lambda c: cursor.acknowledge(c, "observations", 10, {7: "bad"}, now_ms=1, seal=seal))
    assert state(path) == (20, 0, 20, 0, 0, 0)


@pytest.mark.parametrize(("through", "rejected"), [(21, {}), (10, {11: "x"})])
def test_impossible_answers_are_refused(
    writer: JournalWriter, draft: MakeDraft, path: Path, through: int, rejected: dict[int, str]
) -> None:
    """Acknowledging what was never sent moves nothing."""
    fill(writer, draft)
    with pytest.raises(Rejected):
        writer.transact(lambda c: cursor.acknowledge(c, "observations", through, rejected, now_ms=1))
    assert state(path) == (20, 0, 20, 0, 0, 0)


def test_advancing_the_uplink_counts_as_delivery(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """There is no way to move the uplink's cursor without the count."""
    fill(writer, draft)
    writer.transact(lambda c: cursor.advance(c, UPLINK, "observations", 4, 1))
    assert state(path) == (20, 4, 16, 0, 0, 0)


def test_a_loss_ahead_of_the_uplink_is_neither_pending_nor_delivered(
    writer: JournalWriter, draft: MakeDraft, path: Path
) -> None:
    """Positions that a salvage declared lost are passed over without being counted again."""
    fill(writer, draft)

    def lose(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM observations WHERE position BETWEEN 5 AND 8")
        connection.execute("UPDATE tally SET declared_lost = 4 WHERE stream = 'observations'")
        loss.declare(connection, LossDeclared("observations", 5, 8, 4, "salvage"), 1)

    writer.transact(lose)
    assert state(path) == (20, 0, 16, 0, 0, 4)
    writer.transact(lambda c: cursor.acknowledge(c, "observations", 6, {5: "not there"}, now_ms=1))
    assert state(path) == (20, 4, 12, 0, 0, 4)
    writer.transact(lambda c: cursor.acknowledge(c, "observations", 20, {}, now_ms=1))
    assert state(path) == (20, 16, 0, 0, 0, 4)


def test_losses_that_follow_each_other_become_one_row(writer: JournalWriter, path: Path) -> None:
    """Expiring five hundred at a time does not fill the table; another reason or a gap begins a new row."""
    for first, last, why in ((1, 500, "retention"), (501, 700, "retention"), (701, 710, "quota"), (720, 730, "quota")):
        declared = LossDeclared("observations", first, last, last - first + 1, why)
        writer.transact(partial(loss.declare, loss=declared, now_ms=1))
    with JournalReader(path) as reader:
        rows = [tuple(row) for row in reader.query("SELECT first, last, count, reason FROM loss ORDER BY id")]
    assert rows == [(1, 700, 700, "retention"), (701, 710, 10, "quota"), (720, 730, 11, "quota")]


class Conservation(RuleBasedStateMachine):
    """Append, acknowledge, reject, expire, declare, crash: every accepted event ends as exactly one thing."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.path = self.place / "journal.db"
        self.writer = JournalWriter(self.path, "gw01", FakeClock(), ballast_bytes=0)
        self.writer.open()
        self.fate: dict[Stream, list[str]] = {stream: [] for stream in STREAMS}
        self.cursor: dict[Stream, int] = dict.fromkeys(STREAMS, 0)
        self.number = 0

    def teardown(self) -> None:
        self.writer.close()
        report = verify(self.path)
        assert report.ok, report.findings
        shutil.rmtree(self.place)

    @rule(stream=st.sampled_from(STREAMS), count=st.integers(1, 7))
    def append(self, stream: Stream, count: int) -> None:
        drafts = []
        for _ in range(count):
            self.number += 1
            drafts.append(Draft(stream, "store.test.v1", b'{"n":%d}' % self.number))
        self.writer.append(drafts)
        self.fate[stream] += ["pending"] * count

    @rule(stream=st.sampled_from(STREAMS), share=st.floats(0, 1), reject=st.sets(st.integers(1, 12), max_size=4))
    def acknowledge(self, stream: Stream, share: float, reject: set[int]) -> None:
        fate, current = self.fate[stream], self.cursor[stream]
        through = current + round(share * (len(fate) - current))
        rejected = {current + offset: "no" for offset in reject if current + offset <= through}
        self.writer.transact(lambda c: cursor.acknowledge(c, stream, through, rejected, now_ms=1))
        for position in range(current + 1, through + 1):
            if fate[position - 1] == "pending":
                fate[position - 1] = "quarantined" if position in rejected else "acked"
        self.cursor[stream] = through

    @rule(stream=st.sampled_from(STREAMS), back=st.integers(0, 5))
    def acknowledge_again(self, stream: Stream, back: int) -> None:
        through = max(0, self.cursor[stream] - back)
        self.writer.transact(
            lambda c: cursor.acknowledge(c, stream, through, {through: "late"} if through else {}, now_ms=1)
        )

    @rule(stream=st.sampled_from(STREAMS), share=st.floats(0, 1))
    def expire(self, stream: Stream, share: float) -> None:
        fate, current = self.fate[stream], self.cursor[stream]
        through = current + int(share * max(0, len(fate) - 1 - current))
        if through == current:
            return
        gone = self.writer.transact(lambda c: cursor.expire_through(c, stream, through, 1))
        before = fate.count("pending")
        for position in range(current + 1, through + 1):
            if fate[position - 1] == "pending":
                fate[position - 1] = "expired"
        assert gone == before - fate.count("pending")
        declared = LossDeclared(stream, current + 1, through, gone, "quota")
        self.writer.transact(lambda c: loss.declare(c, declared, 1))
        self.writer.transact(lambda c: c.execute(f"DELETE FROM {stream} WHERE position <= {through}"))
        self.cursor[stream] = through

    @rule(stream=st.sampled_from(STREAMS), skip=st.integers(0, 3), count=st.integers(1, 3))
    def declare(self, stream: Stream, skip: int, count: int) -> None:
        """What a salvage does: some undelivered rows are gone."""
        fate = self.fate[stream]
        first = self.cursor[stream] + 1 + skip
        last = min(first + count - 1, len(fate) - 1)
        if last < first or any(fate[position - 1] != "pending" for position in range(first, last + 1)):
            return
        lost = last - first + 1

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(f"DELETE FROM {stream} WHERE position BETWEEN {first} AND {last}")
            connection.execute("UPDATE tally SET declared_lost = declared_lost + ? WHERE stream = ?", (lost, stream))
            loss.declare(connection, LossDeclared(stream, first, last, lost, "salvage"), 1)

        self.writer.transact(work)
        for position in range(first, last + 1):
            fate[position - 1] = "declared_lost"

    @rule(stream=st.sampled_from(STREAMS), share=st.floats(0, 1))
    def crash(self, stream: Stream, share: float) -> None:
        """The process dies in the middle of an acknowledgement: a copy of the files as they are is opened instead."""
        through = self.cursor[stream] + round(share * (len(self.fate[stream]) - self.cursor[stream]))
        crashed = self.place / "crashed"
        crashed.mkdir()

        def work(connection: sqlite3.Connection) -> None:
            cursor.acknowledge(connection, stream, through, {through: "no"} if through else {}, now_ms=1)
            for name in ("journal.db", "journal.db-wal"):
                shutil.copy(self.place / name, crashed / name)
            raise InterruptedError

        with pytest.raises(InterruptedError):
            self.writer.transact(work)
        self.writer.close()
        for name in ("journal.db", "journal.db-wal"):
            shutil.move(crashed / name, self.place / name)
        crashed.rmdir()
        self.writer.open()

    @invariant()
    def conserved(self) -> None:
        for stream in STREAMS:
            fate = self.fate[stream]
            expected = (
                len(fate),
                *(fate.count(end) for end in ("acked", "pending", "quarantined", "expired", "declared_lost")),
            )
            assert state(self.path, stream) == expected


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
