"""The writing connection: positions, repeats, epochs, what a failed commit leaves."""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FakeClock
from gateway.errors import JournalError
from gateway.event import STREAMS, Draft
from gateway.intake.inlet import Poison
from gateway.journal import identity, packing
from gateway.journal.integrity import backup, verify
from gateway.journal.packing import LEARNED_BYTES, Packer, learn, pack, unpack
from gateway.journal.reader import JournalReader
from gateway.journal.rows import dictionaries_of
from gateway.journal.schema import SCHEMA_VERSION, connect_reader
from gateway.journal.writer import DEDUPE_WINDOW, JournalWriter

MakeDraft = Callable[..., Draft]
Everything = Callable[[Path], dict[tuple[str, int], bytes]]
KEPT = Path(__file__).parent / "kept"


def test_positions_are_gap_free_per_stream(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """Every stream counts 1, 2, 3 … on its own, across commits."""
    for number in range(0, 60, 6):
        writer.append([draft(number + i, STREAMS[i % 3]) for i in range(6)])
    with JournalReader(path) as reader:
        for stream in STREAMS:
            events = reader.read(stream, 0)
            assert [event.position for event in events] == list(range(1, 21))
            assert [event.seq for event in events] == list(range(1, 21))
            assert all(event.decode()["sequence"] == f"{event.seq:016d}" for event in events)
    assert [writer.head(stream) for stream in STREAMS] == [20, 20, 20]


def test_a_repeated_fact_is_written_once(writer: JournalWriter, draft: MakeDraft) -> None:
    """The same dedupe key within one commit and in a later one is written once and counted."""
    assert writer.append([draft(1), draft(1), draft(2)]).written == 2
    again = writer.append([draft(2), draft(3)])
    assert (again.written, again.duplicates, writer.duplicates) == (1, 1, 2)
    assert writer.head("observations") == 3


def test_a_draft_without_a_key_is_always_new(writer: JournalWriter, draft: MakeDraft) -> None:
    """An empty dedupe key never matches another."""
    writer.append([draft(1, dedupe=False), draft(1, dedupe=False)])
    assert writer.head("observations") == 2


def test_repeats_are_known_after_reopening(writer: JournalWriter, draft: MakeDraft) -> None:
    """A redelivery after a restart is recognised from the journal's tail."""
    writer.append([draft(number) for number in range(50)])
    writer.close()
    writer.open()
    assert writer.append([draft(number) for number in range(40, 60)]).written == 10
    assert writer.head("observations") == 60


def test_a_flood_of_others_makes_no_sale_forgotten(writer: JournalWriter, draft: MakeDraft) -> None:
    """A sale that is repeated after any number of readings, and after a restart, is known."""
    sale = draft(1, "transactions")
    flood = max(DEDUPE_WINDOW.values()) + 2
    writer.append([sale])
    for stream in ("observations", "measurements"):
        writer.append([Draft(stream, "store.test.v1", b"{}", number.to_bytes(8, "big")) for number in range(flood)])
    assert writer.append([sale]).duplicates == 1
    writer.close()
    writer.open()
    writer.append([draft(2)])
    assert writer.append([sale]).duplicates == 1
    assert writer.head("transactions") == 1


def test_a_fact_that_bears_an_old_name_is_remembered_from_its_own_time(writer: JournalWriter) -> None:
    """A broker that counts anew names a new message like an old one: its repeat is known as long as any other's."""
    window = DEDUPE_WINDOW["measurements"]
    facts = [Draft("measurements", "store.test.v1", b"{}", number.to_bytes(8, "big")) for number in range(window + 9)]
    again = msgspec.structs.replace(facts[0], fresh=True)
    writer.append(facts[: window - 1])
    assert writer.append([again]).written == 1
    writer.append(facts[window - 1 :])
    assert writer.append([facts[0]]).duplicates == 1


def test_a_rolled_back_commit_leaves_positions_and_keys(path: Path, clock: FakeClock, draft: MakeDraft) -> None:
    """When a commit fails nothing of it is there, and the same drafts then take the same positions."""
    trouble = [True]

    def seal(payload: bytes) -> bytes:
        if trouble:
            raise RuntimeError("the seal fails")
        return payload

    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0, seal=seal)
    writer.open()
    with pytest.raises(RuntimeError):
        writer.append([draft(1), draft(2)], [Poison("scanner", "scanner_gs1", "bad", b"?")])
    assert writer.head("observations") == 0
    trouble.clear()
    assert writer.append([draft(1), draft(2)], [Poison("scanner", "scanner_gs1", "bad", b"?")]).written == 2
    with JournalReader(path) as reader:
        assert [event.position for event in reader.read("observations", 0)] == [1, 2]
    writer.close()


def test_transact_rolls_back_what_the_work_wrote(writer: JournalWriter, path: Path) -> None:
    """An error of the work leaves nothing behind and comes out as it is."""

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO loss (subject, first, last, count, reason) VALUES ('x', 1, 1, 1, 'inlet')")
        raise KeyError("mine")

    with pytest.raises(KeyError):
        writer.transact(work)
    with JournalReader(path) as reader:
        assert reader.query("SELECT * FROM loss") == []


def test_bytes_of_an_event_are_the_same_for_ever(
    writer: JournalWriter, draft: MakeDraft, path: Path, everything: Everything
) -> None:
    """Reopening, learning a dictionary and appending more change no byte of what is there."""
    writer.append([draft(number) for number in range(300)])
    before = everything(path)
    writer.close()
    writer.open()
    writer.append([draft(number) for number in range(300, 600)])
    after = everything(path)
    assert len(after) == 600
    assert {place: after[place] for place in before} == before


def test_a_learned_dictionary_is_used_and_survives(
    writer: JournalWriter, draft: MakeDraft, path: Path, everything: Everything
) -> None:
    """After some hundred events a dictionary is made; rows packed with it come back after reopening."""
    for start in range(0, 600, 20):
        writer.append([draft(number, size=8) for number in range(start, start + 20)])
    with JournalReader(path) as reader:
        forms = {bytes(row[0])[:2] for row in reader.query("SELECT body FROM observations")}
    assert b"\x03\x01" in forms
    assert identity.load(path).dictionaries.keys() == {1}
    writer.close()
    writer.open()
    found = everything(path)
    assert all(draft(number, size=8).body[1:] in found["observations", number + 1] for number in range(600))


def test_a_lost_dictionary_is_taken_back_and_its_number_is_not_given_again(
    writer: JournalWriter, draft: MakeDraft, path: Path, everything: Everything
) -> None:
    """A disk that lied can lose the row of a dictionary and keep events that need it; a copy lies beside."""
    for start in range(0, 600, 20):
        writer.append([draft(number, size=8) for number in range(start, start + 20)])
    before = everything(path)
    writer.close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        phrases = connection.execute("SELECT id, bytes FROM dictionary").fetchall()
        connection.execute("DELETE FROM dictionary")
    writer.open()
    with JournalReader(path) as reader:
        assert [tuple(row) for row in reader.query("SELECT id, bytes FROM dictionary")][:1] == phrases != []
    assert everything(path) == before


def test_a_dictionary_takes_only_what_events_share() -> None:
    """A name that only one event says, or that too few events say, is never in a dictionary."""
    bodies = [
        b'{"type":"store.a.v1","subject":"person-%s","data":{"key":"value","n":%d}}'
        % (b"abcdefghijklmn"[i : i + 1] * 9, i)
        for i in range(14)
    ]
    rare = [b'{"type":"store.rare.v1","secret":"orchid"}'] * 3
    phrases = learn(bodies + rare)
    assert b'"key":"value"' in phrases
    assert b"orchid" not in phrases
    assert not any(letter * 9 in phrases for letter in (b"a", b"b", b"n"))


@given(st.binary(max_size=3000), st.binary(max_size=LEARNED_BYTES))
def test_packing_gives_back_every_body(body: bytes, learned: bytes) -> None:
    """Any bytes come back, with the fixed dictionary and with a learned one, at most a byte longer."""
    assert unpack(pack(body)) == body
    packed = Packer(7, learned).pack(body)
    assert len(packed) <= len(body) + 1
    assert unpack(packed, {7: learned}) == body


@given(st.binary(max_size=200))
def test_unpacking_garbage_says_so(garbage: bytes) -> None:
    """Bytes that `pack` did not make give a ValueError or some bytes, never another error."""
    try:
        unpack(garbage, {1: b"x"})
    except ValueError:
        return


def test_the_shipped_dictionary_is_pinned() -> None:
    """Old rows need exactly this dictionary: it may never change; a better one gets a new format byte."""
    digest = hashlib.sha256(packing._DICTIONARY_1).hexdigest()
    assert digest == "01a3f83ab61048c0409c80aeba2037687d8c72ded70d4b1f433ec862340ff2b3"


def test_a_new_gateway_name_begins_an_epoch(
    path: Path, clock: FakeClock, draft: MakeDraft, everything: Everything
) -> None:
    """Events before a renaming keep their ids; those after it count from 1 under the new name."""
    writer = JournalWriter(path, "old", clock, ballast_bytes=0)
    writer.open()
    writer.append([draft(1), draft(2)])
    writer.close()
    before = everything(path)
    writer = JournalWriter(path, "new", clock, ballast_bytes=0)
    writer.open()
    writer.append([draft(3)])
    with JournalReader(path) as reader:
        third = reader.read("observations", 2)[0]
        assert (third.seq, third.decode()["id"].split(".")[0]) == (1, "new")
        assert [epoch.reason for epoch in reader.epochs("observations")] == ["fresh", "renamed"]
    after = everything(path)
    assert {place: after[place] for place in before} == before
    writer.close()


def test_reopening_in_the_same_boot_begins_nothing(writer: JournalWriter, path: Path) -> None:
    """A restart alone opens no epoch."""
    writer.close()
    writer.open()
    with JournalReader(path) as reader:
        assert [len(reader.epochs(stream)) for stream in STREAMS] == [1, 1, 1]


def _hold(path: str, held: object, let_go: object) -> None:
    writer = JournalWriter(Path(path), "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    held.set()  # type: ignore[attr-defined]
    let_go.wait(30)  # type: ignore[attr-defined]
    writer.close()


def test_two_daemons_on_one_journal(path: Path, clock: FakeClock) -> None:
    """A second process is refused with what to do; when the first ends the journal can be opened."""
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(str(path), held, let_go))
    first.start()
    try:
        assert held.wait(30)
        second = JournalWriter(path, "gw01", clock, ballast_bytes=0)
        with pytest.raises(JournalError, match=r"another gateway process.*stop it first"):
            second.open()
    finally:
        let_go.set()
        first.join(60)
    second.open()
    second.close()


def test_a_newer_schema_is_refused_untouched(writer: JournalWriter, path: Path, clock: FakeClock) -> None:
    """A database of a newer version is neither altered nor salvaged; the message says to install that version."""
    from gateway.journal.salvage import open_or_salvage

    writer.transact(lambda connection: connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}"))
    writer.close()
    before = path.read_bytes()
    with pytest.raises(JournalError, match="install the version"):
        open_or_salvage(JournalWriter(path, "gw01", clock, ballast_bytes=0))
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.damaged-*"))


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.db")), ids=lambda kept: kept.stem)
def test_every_kept_old_database_opens(kept: Path, path: Path, clock: FakeClock, everything: Everything) -> None:
    """A journal of every earlier schema opens, and each of its events has the bytes it always had."""
    path.write_bytes(kept.read_bytes())
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    digest = hashlib.sha256()
    found = everything(path)
    for place in sorted(found):
        digest.update(found[place] + b"\n")
    count, expected = kept.with_suffix(".sha256").read_text("ascii").split()
    assert (len(found), digest.hexdigest()) == (int(count), expected)
    assert verify(path).ok
    assert writer.append([Draft("transactions", "store.test.v1", b'{"new":1}')]).written == 1
    writer.close()


@pytest.mark.parametrize("kept", sorted(KEPT.glob("*.db")), ids=lambda kept: kept.stem)
def test_every_kept_old_database_is_copied_and_salvaged_whole(
    kept: Path, path: Path, clock: FakeClock, everything: Everything
) -> None:
    """With rows of the older schema and of this one side by side no byte changes, also after damage to another row."""
    from gateway.journal.salvage import salvage

    path.write_bytes(kept.read_bytes())
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    writer.append([Draft("measurements", "store.test.v1", b'{"new":%d}' % number) for number in range(30)])
    before = everything(path)
    copy = path.with_name("copy.db")
    assert backup(path, copy).ok
    writer.transact(lambda connection: connection.execute("UPDATE measurements SET crc = crc + 1 WHERE position = 3"))
    writer.close()
    assert everything(copy) == before
    assert [loss.count for loss in salvage(path, gateway="gw01", now_ms=1).declared] == [1]
    assert everything(path) == {place: body for place, body in before.items() if place != ("measurements", 3)}
    assert verify(path).ok


def test_there_is_a_kept_database_of_every_schema() -> None:
    """Whoever adds a migration keeps a database of the schema before it."""
    assert len(list(KEPT.glob("schema-*.db"))) >= SCHEMA_VERSION


def test_opening_an_up_to_date_journal_imports_no_sqlite_utils(writer: JournalWriter, path: Path) -> None:
    """The migration tool costs 0.2 s and 25 MB; a start that has nothing to migrate does without."""
    writer.close()
    code = (
        "import sys; from pathlib import Path; from gateway.clock import SystemClock\n"
        "from gateway.journal.writer import JournalWriter\n"
        f"w = JournalWriter(Path({str(path)!r}), 'gw01', SystemClock(), ballast_bytes=0); w.open(); w.close()\n"
        "assert 'sqlite_utils' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_learned_dictionaries_are_checked(writer: JournalWriter, draft: MakeDraft, path: Path) -> None:
    """A dictionary that has changed is refused: events unpacked with it would be wrong without anybody seeing."""
    writer.append([draft(number, size=8) for number in range(300)])
    writer.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE dictionary SET bytes = zeroblob(40)")
    connection.close()
    reading = connect_reader(path)
    with pytest.raises(JournalError, match="checksum"):
        dictionaries_of(reading)
    reading.close()
