"""The audit trail: chained over restarts and crashes, refused when it cannot be written, and no change goes unseen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.access import audit as trail
from gateway.access.audit import Audit, Finding, Newest, newest, records, verify
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.event import Origin, draft
from gateway.event_types import AlarmRaised, AuditRecorded, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.journal import integrity
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter


class Shop:
    """A journal with its commit loop on a thread."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.journal = folder, folder / "journal.db"
        self.clock, self.inlet = FakeClock(), Inlet()
        writer = JournalWriter(self.journal, "gw01", self.clock, max_bytes=64 << 20, ballast_bytes=0)
        self.commits = CommitLoop(writer, self.inlet, window_s=0.0)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def audit(self, commit_s: float = 4.0) -> Audit:
        origin = Origin("t1", "0042", "gw01")
        return Audit(self.folder, self.journal, origin, self.inlet, self.commits, self.clock, commit_s=commit_s)

    def _run(self) -> None:
        while not self.stop.is_set():
            self.commits.step(self.stop)

    def open(self) -> None:
        self.commits.open()
        self.thread.start()

    def close(self) -> None:
        self.stop.set()
        self.inlet.wake()
        if self.thread.ident is not None:
            self.thread.join(60)
        self.commits.close()

    def others(self, count: int) -> None:
        """Events that are no records, durable when this returns."""
        durable = threading.Event()
        now, data = self.clock.now(), AlarmRaised(what="x")
        source = Origin("t1", "0042", "gw01").source("till")
        events = [draft("transactions", type_of(AlarmRaised).name, data, source=source, at=now) for _ in range(count)]
        for begin in range(0, count, 100):
            last = begin + 100 >= count
            assert self.inlet.offer("till", Item(events[begin : begin + 100], durable.set if last else None), 5.0)
        assert durable.wait(10)

    def trail(self) -> list[AuditRecorded]:
        with JournalReader(self.journal) as reader:
            return list(records(reader))


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    made.open()
    yield made
    made.close()


def test_acts_of_several_lives_are_one_chain(shop: Shop) -> None:
    for life in range(3):
        audit = shop.audit()
        audit.record("session.begin", account="Ann", role="manager")
        audit.record("account.add", account="Ann", role="manager", subject=f"Bo{life}")
    found = shop.trail()
    assert [record.number for record in found] == [1, 2, 3, 4, 5, 6]
    assert verify(iter(found)) == (6, [])
    with JournalReader(shop.journal) as reader:
        assert [record.number for record in newest(reader, 2)] == [6, 5]


def test_a_journal_that_was_restored_is_told_of_once_and_explains_what_is_missing(shop: Shop, tmp_path: Path) -> None:
    """The trail goes on from where the gateway was, so that what the copy lacks shows as a gap beside the record."""
    shop.audit().look_at_journal()  # a fresh journal is nothing to tell
    for number in range(3):
        shop.audit().record("account.add", subject=str(number))
        if number == 0:
            integrity.backup(shop.journal, tmp_path / "copy.db")
    shop.close()
    for path in shop.folder.glob("journal.db*"):
        path.unlink()
    (tmp_path / "copy.db").rename(shop.journal)
    again = Shop(shop.folder)
    again.open()
    try:
        for _ in range(2):
            audit = again.audit()
            audit.look_at_journal()
            audit.look_at_journal()
        found = again.trail()
        assert [(it.number, it.act, it.role) for it in found] == [
            (1, "account.add", ""),
            (4, "journal.restored", "box"),
        ]
        assert verify(iter(found))[1] == [Finding(4, "missing", 2)]
    finally:
        again.close()


def test_the_newest_records_are_followed_piece_by_piece(shop: Shop) -> None:
    """Among many other events, at each look as if all had been read again; only what is new is read."""
    audit, trail = shop.audit(), Newest(5)
    looks: list[int] = []
    with JournalReader(shop.journal) as reader:
        for number in range(12):
            if number % 4 == 0:
                shop.others(700)
            audit.record("account.add", subject=str(number))
            looks.append(1)
            while not trail.look(reader):
                looks[-1] += 1
            assert trail.records == newest(reader, 5)
            assert [it.number for it in trail.records] == list(range(number + 1, max(0, number - 4), -1))
    assert max(looks[1:]) <= 4 and looks[-1] == 2


def test_every_change_to_the_trail_is_found(shop: Shop) -> None:
    audit = shop.audit()
    for number in range(5):
        audit.record("account.add", account="Ann", subject=str(number))
    found = shop.trail()
    for name in AuditRecorded.__struct_fields__:
        value = getattr(found[2], name)
        changed = msgspec.structs.replace(found[2], **{name: value + 1 if isinstance(value, int) else value + "x"})
        assert verify(iter([*found[:2], changed, *found[3:]]))[1], name
    assert verify(iter([*found[:2], *found[3:]]))[1] == [Finding(4, "missing", 1)]
    assert verify(iter([found[1], found[0], *found[2:]]))[1]
    rewritten = msgspec.structs.replace(found[2], subject="x")
    rewritten = msgspec.structs.replace(rewritten, hash=trail.hash_of(rewritten))
    assert verify(iter([*found[:2], rewritten, *found[3:]]))[1] == [Finding(4, "broken")]
    assert verify(iter(found[3:])) == (2, [])  # what retention has taken is no gap


@pytest.mark.parametrize("committed", [True, False])
def test_after_a_crash_around_the_commit_the_chain_goes_on_without_a_fork(shop: Shop, committed: bool) -> None:
    audit = shop.audit()
    audit.record("account.add", subject="one")
    file = shop.folder / "keys" / "audit.json"
    before = msgspec.json.decode(file.read_bytes())
    audit.record("account.add", subject="two")
    after = msgspec.json.decode(file.read_bytes())
    if committed:  # the file as it was between the commit and the note of it
        file.write_bytes(msgspec.json.encode({**before, "pending": after["hash"], "position": 1}))
    else:
        file.write_bytes(msgspec.json.encode({**after, "pending": "f" * 64, "position": 2}))
    shop.audit().record("account.add", subject="three")
    assert verify(iter(shop.trail())) == (3, [])


def test_what_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    audit = shop.audit(commit_s=0.1)
    with pytest.raises(Unavailable, match="not open"):
        audit.record("account.add")
    shop.commits.open()  # but nobody commits
    try:
        with pytest.raises(Unavailable, match="in time"):
            audit.record("account.add", subject="late")
        with pytest.raises(Unavailable, match="still waits"):
            audit.record("account.add", subject="behind it")
        shop.commits.step(threading.Event())
        shop.thread.start()
        audit.record("account.add", subject="next")
        assert [record.subject for record in shop.trail()] == ["late", "next"]
        assert verify(iter(shop.trail())) == (2, [])
    finally:
        shop.close()


def test_a_lost_place_begins_a_new_chain_that_verification_names(shop: Shop) -> None:
    shop.audit().record("account.add")
    (shop.folder / "keys" / "audit.json").write_text("{")
    shop.audit().record("account.add")
    assert [finding.what for finding in verify(iter(shop.trail()))[1]] == ["new_chain"]
