"""Erasure end to end: keys are gone from every file, whatever is killed, restored or salvaged in between."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.clock import FakeClock
from gateway.errors import Rejected, Unavailable
from gateway.event import STREAMS, Draft, Origin, Stream, draft
from gateway.event_types import PointsEarned, Shopper, VisitClosed, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.journal import erasure, tombstones
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.cursor import acknowledge
from gateway.journal.erasure import SubjectTable
from gateway.journal.integrity import backup, verify
from gateway.journal.packing import unpack
from gateway.journal.pages import PageSource, RawFile, RawRow
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.journal.rows import row_checks
from gateway.journal.schema import PAGE_BYTES
from gateway.journal.writer import JournalWriter
from gateway.platform_commands.subject_erase import SubjectErase
from gateway.platform_commands.subject_tables import TABLES
from gateway.shopper.consent import Consents, Terms
from gateway.shopper.identifiers import Identifier
from gateway.workers.erasing import Erasing

ORIGIN = Origin("t1", "0001", "gw01")
TABLE = SubjectTable(name="consent_test", columns=("record", "day_key"))


class House:
    """A journal with its commit loop on a thread of its own, as in a gateway."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.journal_path = directory / "journal.db"
        self.origin = ORIGIN
        self.clock = FakeClock()
        self.inlet = Inlet()
        self.seal = PayloadSeal(directory / "quarantine.key")
        self.writer = JournalWriter(self.journal_path, "gw01", self.clock, ballast_bytes=0, seal=self.seal.seal)
        self.commits = CommitLoop(self.writer, self.inlet, window_s=0.0)
        self.erasing = Erasing(self, [TABLE])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> House:
        self.commits.open()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.inlet.wake()
        self._thread.join(60)
        self.erasing.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.commits.step(self._stop)
        self.commits.close()

    def add(self, drafts: list[Draft]) -> None:
        """Commit events, 250 a batch, which a fast disk stores unpacked."""
        for start in range(0, len(drafts), 250):
            durable = threading.Event()
            assert self.inlet.offer("test", Item(drafts[start : start + 250], durable.set), 5.0)
            assert durable.wait(10)

    def transact(self, work: Any) -> Any:
        return self.commits.submit(work).result(30)

    def command(self, name: str, **data: Any) -> Any:
        handler = SubjectErase(self.journal_path, self.commits, self.clock, patience_s=0.0)
        return handler(SimpleNamespace(id=name, data=data))

    def erase(self, name: str, **data: Any) -> Any:
        """The command, until it is done."""
        with contextlib.suppress(Unavailable):
            return self.command(name, **data)
        self.work()
        return self.command(name, **data)

    def work(self, steps: int = 100_000) -> None:
        """Let the worker go on until there is nothing to do, or so many steps."""
        for _ in range(steps):
            with JournalReader(self.journal_path) as reader:
                if not reader.look(erasure.next_undone):
                    return
            self.erasing.step(threading.Event())

    def events(self, stream: Stream) -> list[dict[str, Any]]:
        with JournalReader(self.journal_path) as reader:
            return [event.decode() for event in reader.read(stream, 0, 10_000, 1 << 30)]


def person(number: int) -> Shopper:
    chance = Random(number)
    return Shopper(day_key=chance.randbytes(16).hex(), sealed=f"k1.{chance.randbytes(48).hex()}", scheme="member")


def visit(number: int, shopper: Shopper) -> Draft:
    data = VisitClosed(
        visit_id=f"v{number}", opened_by="app_qr", entered_at="2026-11-22T09:00:00.000Z",
        left_at="2026-11-22T09:30:00.000Z", evidence=(f"member:{shopper.day_key}",), confidence=0.9, algorithm="1",
        shopper=shopper,
    )  # fmt: skip
    return _draft(data, consentref=f"consent-{number:06d}-{shopper.day_key}"[:30])


def points(number: int, shopper: Shopper) -> Draft:
    return _draft(PointsEarned(programme="p", points=number, shopper=shopper))  # type: ignore[arg-type]


def _draft(data: Any, **extensions: Any) -> Draft:
    entry = type_of(data)
    return draft(entry.stream, entry.name, data, source="//t/x", at=FakeClock().now(), extensions=extensions)


def files(house: House) -> list[Path]:
    return [path for path in house.directory.rglob("*") if path.is_file()]


class Search:
    """Finds keys in bytes: as they are, or as their MD5 or SHA-256 in hexadecimal, by 32 characters of each."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._forms = {
            form.removeprefix("k1.").encode()[:32]
            for key in keys
            for form in (key, hashlib.md5(key.encode()).hexdigest(), hashlib.sha256(key.encode()).hexdigest())
        }

    def count(self, data: bytes) -> int:
        """How many times one of them stands there; the time it takes does not grow with their number."""
        return sum(
            run[0][at : at + 32] in self._forms
            for run in re.finditer(rb"[0-9a-f]{32,}", data)
            for at in range(len(run[0]) - 31)
        )


def hits(paths: list[Path], keys: list[str]) -> int:
    """How many times a key stands in one of the files."""
    search = Search(keys)
    return sum(search.count(path.read_bytes()) for path in paths)


def rows_with(path: Path, keys: list[str]) -> int:
    """How many rows anywhere on the file's pages, also forgotten copies of rows, unpack to something with a key."""
    learned = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        learned = dict(connection.execute("SELECT id, bytes FROM dictionary").fetchall())
    found, search = 0, Search(keys)

    def accept(row: RawRow) -> bool:
        nonlocal found
        for stream in STREAMS:
            if row_checks(stream, msgspec.structs.astuple(row), learned):
                body = unpack(row.packed, learned)
                found += search.count(body) > 0
                return True
        return False

    with RawFile(path) as database, RawFile(path.with_name("no-log")) as log:
        PageSource(database, log, PAGE_BYTES).database_rows(accept, lambda _: True, lambda _: None)
    return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path / "data") as made:
        made.transact(lambda c: c.execute("CREATE TABLE consent_test (record TEXT PRIMARY KEY, day_key TEXT)"))
        yield made


def test_a_thousand_canaries_leave_no_trace(house: House, tmp_path: Path) -> None:
    """1,000 persons in 3,000 events of two streams, delivered, waiting and refused: after their erasure no file, no
    page and no later backup has any of their keys; everybody else's events and all points are as before."""
    persons = [person(number) for number in range(1_000)]
    others = [person(number) for number in range(5_000, 5_500)]
    drafts = [visit(number, one) for number, one in enumerate(persons)]
    drafts += [points(number, one) for number, one in enumerate(persons)]
    drafts += [visit(10_000 + number, one) for number, one in enumerate(others)]
    drafts += [visit(20_000 + number, one) for number, one in enumerate(persons)]
    Random(1).shuffle(drafts)
    house.add(drafts)
    house.transact(lambda c: acknowledge(
        c, "measurements", 1_000, {5: "no", 6: "no", 700: "no"}, now_ms=1, seal=house.seal.seal))  # fmt: skip
    rows = [(f"r{number}", one.day_key) for number, one in enumerate(persons[:50])]
    house.transact(lambda c: c.executemany("INSERT INTO consent_test VALUES (?, ?)", rows))
    house.transact(lambda c: c.execute("DELETE FROM measurements WHERE position <= 333"))  # as retention does
    before = house.events("transactions")
    keys = [key for one in persons for key in (one.day_key, one.sealed) if key]
    assert house.commits.empty_log().result(30)
    assert hits(files(house), keys) >= 50, "the test could not fail"
    assert rows_with(house.journal_path, keys) > 500, "the test could not fail"

    answer = house.erase("erase-1", day_keys=[one.day_key for one in persons])

    assert answer["events"] > 2_000
    assert house.commits.empty_log().result(30)
    backup(house.journal_path, tmp_path / "later.db")
    everywhere = [*files(house), tmp_path / "later.db"]
    assert hits(everywhere, keys) == 0
    assert rows_with(house.journal_path, keys) == rows_with(tmp_path / "later.db", keys) == 0
    assert verify(house.journal_path).ok
    after = house.events("transactions")
    assert [event["id"] for event in after[: len(before)]] == [event["id"] for event in before]
    assert sum(int(e["data"]["points"]) for e in after[: len(before)]) == sum(range(1_000))
    kept = [e for e in house.events("measurements") if e["data"] is not None]
    assert {e["data"]["shopper"]["day_key"] for e in kept} <= {one.day_key for one in others}
    assert len(kept) > 300
    told = [e["data"] for e in after if e["type"] == "store.subject.erased.v1"]
    assert sum(part["events"] for part in told) == answer["events"]
    assert told[0]["rows"] == 50
    assert told[0]["quarantined"] >= 1
    assert not [key for key in keys if key in msgspec.json.encode(told).decode()]


def test_killed_in_the_middle_it_is_finished_at_the_next_start(house: House, tmp_path: Path) -> None:
    """What the disk holds after any number of steps is enough to finish, without the command being given again."""
    persons = [person(number) for number in range(300)]
    house.add([visit(number, one) for number, one in enumerate(persons)])
    keys = [key for one in persons for key in (one.day_key, one.sealed) if key]
    with contextlib.suppress(Unavailable):
        house.command("erase-1", day_keys=[one.day_key for one in persons])
    for steps in (0, 1, 3, 5, 8):
        house.work(steps)
        image = tmp_path / f"killed-{steps}"
        shutil.copytree(house.directory, image, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
        with House(image) as again:
            again.work()
            assert again.command("erase-1", day_keys=[persons[0].day_key])["events"] == 300
            assert hits(files(again), keys) == 0
            assert len([e for e in again.events("transactions") if e["type"] == "store.subject.erased.v1"]) == 1


def test_a_backup_that_comes_back_is_erased_once_more_before_anybody_reads(tmp_path: Path) -> None:
    """The tombstones beside the database know the keys again, although they hold none of them."""
    persons = [person(number) for number in range(40)]
    keys = [key for one in persons for key in (one.day_key, one.sealed) if key]
    with House(tmp_path / "data") as house:
        house.transact(lambda c: c.execute("CREATE TABLE consent_test (record TEXT PRIMARY KEY, day_key TEXT)"))
        house.transact(lambda c: c.execute("INSERT INTO consent_test VALUES ('r', ?)", (persons[3].day_key,)))
        house.add([visit(number, one) for number, one in enumerate(persons)])
        backup(house.journal_path, tmp_path / "before.db")
        assert house.erase("erase-1", day_keys=[one.day_key for one in persons])["events"] == 40
    for file in house.directory.glob("journal.db*"):
        if file.name in ("journal.db", "journal.db-wal", "journal.db-shm"):
            file.unlink()
    shutil.copy(tmp_path / "before.db", house.journal_path)
    with House(tmp_path / "data") as restored:
        with JournalReader(restored.journal_path) as reader:
            assert reader.look(erasure.held)
        restored.work()
        with JournalReader(restored.journal_path) as reader:
            assert not reader.look(erasure.held)
        assert restored.commits.empty_log().result(30)
        assert hits(files(restored), keys) == 0
        assert all(event["data"] is None for event in restored.events("measurements"))
        told = restored.events("transactions")[-1]["data"]
        assert (told["again"], told["events"], told["rows"]) == (True, 40, 1)


def test_a_salvage_and_what_it_sets_aside(tmp_path: Path) -> None:
    """A damaged database is salvaged without the erased, and the file set aside, which has them, is removed."""
    persons = [person(number) for number in range(40)]
    with House(tmp_path / "data") as house:
        house.add([visit(number, one) for number, one in enumerate(persons)])
        backup(house.journal_path, tmp_path / "before.db")
        house.erase("erase-1", day_keys=[one.day_key for one in persons[:20]])
    shutil.copy(tmp_path / "before.db", house.journal_path)
    with house.journal_path.open("r+b") as file:
        file.write(b"\0" * 100)
    with House(tmp_path / "data") as salvaged:
        assert salvaged.commits.salvaged is not None
        salvaged.work()
        assert not list(salvaged.directory.glob("*.damaged-*"))
        events = salvaged.events("measurements")
        assert [event["data"] is None for event in events] == [True] * 20 + [False] * 20


def test_events_named_by_their_number(house: House) -> None:
    """Positions and ids erase what stands there, whatever it is; the same command again changes nothing."""
    house.add([visit(number, person(number)) for number in range(10)])
    events = house.events("measurements")
    epoch = events[0]["id"].rsplit(".", 2)[1]
    first = house.erase(
        "e1", positions=[{"stream": "measurements", "epoch": epoch, "from": 2, "to": 3}, events[7]["id"]]
    )
    assert first == house.command("e1", day_keys=["0" * 32]) == {"events": 3, "ranges": 2}
    gone = [event["data"] is None for event in house.events("measurements")]
    assert gone == [False, True, True, False, False, False, False, True, False, False]
    unknown = house.erase("e2", positions=[{"stream": "measurements", "epoch": "f" * 32, "from": 1, "to": 9}])
    assert unknown["events"] == 0


def test_consents_and_sealed_identifiers_are_keys_too(house: House) -> None:
    """Either of them finds its events."""
    house.add([visit(number, person(number)) for number in range(6)])
    consent = house.events("measurements")[1]["consentref"]
    assert house.erase("e1", consentrefs=[consent], sealed=[person(4).sealed])["events"] == 2


def test_what_a_shop_assumes_of_everybody_names_nobody(house: House) -> None:
    """A platform that sends the references of a person's events erases that person, and not all members."""
    house.add([_draft(PointsEarned(programme="p", points=n, shopper=person(n)), consentref="assumed-member")
               for n in range(5)])  # type: ignore[arg-type]  # fmt: skip
    done = house.erase("e1", consentrefs=["assumed-member"], day_keys=[person(3).day_key])
    assert done["events"] == 1


@pytest.mark.parametrize(
    "data",
    [
        {}, {"day_keys": []}, {"day_keys": ["short"]}, {"day_keys": "ab" * 16}, {"member": "123"},
        {"positions": ["no-id"]}, {"positions": [{"stream": "x", "epoch": "f" * 32, "from": 1, "to": 2}]},
        {"positions": [{"stream": "measurements", "epoch": "f" * 32, "from": 3, "to": 2}]},
        {"consentrefs": [""]}, {"consentrefs": ["assumed-member"]},
        {"sealed": ["tiny"]}, {"positions": ["gw01.measurements.zz.xx"]},
        {"day_keys": [f"{number:032x}" for number in range(10_001)]},
    ],
)  # fmt: skip
def test_what_nobody_understands_is_refused(house: House, data: dict[str, Any]) -> None:
    """And nothing is written down of it, the refusal's reason included."""
    with pytest.raises(Rejected) as refused:
        house.command("e1", **data)
    assert "123" not in str(refused.value)
    assert not tombstones.path_of(house.journal_path).exists()


def test_the_file_of_tombstones_bears_damage(tmp_path: Path) -> None:
    """A torn line is passed over and does not spoil the next; the file's salt stays; a line is there once."""
    journal = tmp_path / "journal.db"
    first = tombstones.make(journal, "e1", ["ab" * 16], [], 1)
    with tombstones.path_of(journal).open("ab") as file:
        file.write(b"\n0badc0de {")
    second = tombstones.make(journal, "e2", ["cd" * 16], [], 2)
    assert tombstones.make(journal, "e1", ["ef" * 16], [], 3) == first
    assert tombstones.load(journal) == [first, second]
    assert first.salt == second.salt
    assert ("ab" * 16).encode() not in tombstones.path_of(journal).read_bytes()


def test_a_lost_file_of_tombstones_is_made_again(tmp_path: Path) -> None:
    """The database has a copy of every line."""
    with House(tmp_path / "data") as house:
        house.add([visit(1, person(1))])
        house.erase("e1", day_keys=[person(1).day_key])
        before = tombstones.load(house.journal_path)
        tombstones.path_of(house.journal_path).unlink()
    with House(tmp_path / "data") as house:
        assert tombstones.load(house.journal_path) == before
        house.work()


def test_intake_goes_on_while_a_person_is_erased(house: House) -> None:
    """No piece of an erasure holds the writing thread longer than a commit may take."""
    persons = [person(number) for number in range(2_000)]
    house.add([visit(number, one) for number, one in enumerate(persons)])
    with contextlib.suppress(Unavailable):
        house.command("e1", day_keys=[one.day_key for one in persons])
    worker = threading.Thread(target=house.work)
    worker.start()
    worst_s, number = 0.0, 0
    while worker.is_alive():
        began_s = time.monotonic()
        house.add([visit(50_000 + number, person(9_999))])
        worst_s, number = max(worst_s, time.monotonic() - began_s), number + 1
    worker.join()
    assert number > 10
    assert worst_s < 1.0  # 2 shared cores; 20 ms is usual


def test_an_erasure_waits_for_the_log_to_be_emptied(house: House) -> None:
    """While a reader holds the write-ahead log, which may have the person, the erasure is not told as done."""
    house.add([visit(1, person(1))])
    with contextlib.suppress(Unavailable):
        house.command("e1", day_keys=[person(1).day_key])
    with contextlib.closing(sqlite3.connect(house.journal_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM measurements").fetchone()
        house.work(12)
        with pytest.raises(Unavailable, match="under way"):
            house.command("e1", day_keys=[person(1).day_key])
        reader.execute("ROLLBACK")
    house.work()
    assert house.command("e1", day_keys=[person(1).day_key])["events"] == 1


def test_a_consent_of_the_store_goes_by_its_record(house: House) -> None:
    """The room's own table: the row with the record goes, whatever it is looked up by, and the others stay."""
    consents = Consents(house.journal_path, house.commits, house.directory / "consent.key")
    erasing = Erasing(house, TABLES, [consents.erased])
    ada, bob = Identifier("member", "A-1"), Identifier("member", "B-2")
    for one, record in ((ada, "R-1"), (bob, "R-2")):
        consents.grant(one, ("visits",), 1_000, 1 << 50, Terms(record=record), 1_000)
    assert consents.standing(ada, 2.0, 2.0).granted == {"visits": "R-1"}
    with contextlib.suppress(Unavailable):
        house.command("e1", consentrefs=["R-1"])
    house.erasing = erasing
    house.work()
    assert consents.standing(ada, 2.0, 2.0).granted == {}
    assert consents.standing(bob, 2.0, 2.0).granted == {"visits": "R-2"}
    assert consents.count() == 1
    told = house.events("transactions")[-1]["data"]
    assert (told["events"], told["rows"]) == (0, 1)
    consents.close()
