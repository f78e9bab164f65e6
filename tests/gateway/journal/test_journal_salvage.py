"""Starting on a damaged journal: whatever whole rows are left come back, everything else is declared, ids are kept."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gateway.clock import FakeClock
from gateway.errors import JournalError
from gateway.event import STREAMS, Draft
from gateway.intake.inlet import Poison
from gateway.journal import cursor, disk, identity, salvage
from gateway.journal.integrity import verify
from gateway.journal.packing import row_crc
from gateway.journal.reader import JournalReader
from gateway.journal.salvage import SalvageReport, open_or_salvage
from gateway.journal.schema import PAGE_BYTES
from gateway.journal.writer import JournalWriter

MakeDraft = Callable[..., Draft]
Everything = Callable[[Path], dict[tuple[str, int], bytes]]


DELIVERED = 30  # of the observations


def build(path: Path, draft: MakeDraft, events: int = 300, *, wal: bool = False) -> None:
    """A small journal with some delivered events, large rows, a learned dictionary and a poison message."""
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    for start in range(0, events, 10):
        writer.append([draft(n, STREAMS[n % 3], 4000 if n % 97 == 0 else 40) for n in range(start, start + 10)])
    writer.append([], [Poison("pos", "pos_json", "no", b"{")])
    writer.transact(lambda c: cursor.acknowledge(c, "observations", DELIVERED, {4: "schema.invalid"}, now_ms=1))
    writer.transact(lambda c: cursor.ensure(c, "feed:erp", required=True))
    writer.transact(lambda c: cursor.ensure(c, "projection:sales", required=True))
    writer.transact(lambda c: cursor.advance(c, "feed:erp", "observations", 22, 1))
    if wal:  # leave as a killed process does
        copies = {name: (path.parent / name).read_bytes() for name in (path.name, path.name + "-wal")}
        writer.close()
        for name, content in copies.items():
            (path.parent / name).write_bytes(content)
    else:
        writer.close()


def reopen(path: Path, **options: object) -> SalvageReport | None:
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    try:
        return open_or_salvage(writer, **options)  # type: ignore[arg-type]
    finally:
        writer.close()


def states(path: Path) -> dict[str, tuple[int, ...]]:
    with JournalReader(path) as reader:
        return {
            s.stream: (s.accepted, s.acked, s.pending, s.quarantined, s.expired, s.declared_lost)
            for s in reader.states()
        }


def check(path: Path, before: dict[tuple[str, int], bytes], everything: Everything, report: SalvageReport) -> None:
    """What must hold after any salvage: ids and bytes kept, holes declared, counts conserved, numbers never reused."""
    after = everything(path)
    assert {place: json for place, json in after.items() if before.get(place) != json} == {}, "bytes changed"
    gone = {place for place in before if place not in after}
    for one in report.streams:
        declared = {(one.stream, n) for first, last in one.ranges for n in range(first, last + 1)}
        delivered = DELIVERED if one.stream == "observations" else 0
        undelivered = {place for place in gone if place[0] == one.stream and place[1] > delivered}
        assert undelivered <= declared, "a hole is not declared"
        assert not declared & set(after), "something is declared that is there"
    check_report = verify(path)
    assert check_report.ok, check_report.findings
    for accepted, acked, pending, quarantined, expired, lost in states(path).values():
        assert accepted == acked + pending + quarantined + expired + lost
        assert min(acked, pending, quarantined, expired, lost) >= 0
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    for stream in STREAMS:
        if any(place[0] == stream for place in after):
            assert writer.head(stream) >= max(position for name, position in after if name == stream)
        writer.append([Draft(stream, "store.test.v1", b'{"new":1}')])
        with JournalReader(path) as reader:
            new = reader.read(stream, writer.head(stream) - 1, 1)[0]
            assert reader.epochs(stream)[-1].reason == "salvaged"
        assert new.seq == 1
        assert new.json not in before.values()
    writer.close()
    assert (path.parent / report.set_aside).exists() or (path.parent / (report.set_aside + "-wal")).exists()


def destroy(path: Path, start: int, size: int, how: str) -> None:
    content = {"zero": bytes(size), "random": random.Random(start).randbytes(size)}[how]
    with path.open("rb+") as file:
        file.seek(start)
        file.write(content)


@pytest.mark.parametrize("how", ["zero", "random"])
@pytest.mark.parametrize("size", [100, PAGE_BYTES, 3 * PAGE_BYTES])
def test_a_destroyed_header(path: Path, draft: MakeDraft, everything: Everything, how: str, size: int) -> None:
    """The first bytes are gone: every event comes back with its id and its bytes."""
    build(path, draft)
    before = everything(path)
    destroy(path, 0, size, how)
    report = reopen(path)
    assert report is not None
    check(path, before, everything, report)
    if size < 3 * PAGE_BYTES:
        assert len(everything(path)) >= len(before)


@pytest.mark.parametrize("how", ["zero", "random"])
def test_each_page_destroyed_in_turn(tmp_path: Path, draft: MakeDraft, everything: Everything, how: str) -> None:
    """Whichever page is lost, the start succeeds, and every event whose own bytes survive is there."""
    original = tmp_path / "original" / "journal.db"
    original.parent.mkdir()
    build(original, draft, 240)
    before = everything(original)
    pages = original.stat().st_size // PAGE_BYTES
    step = 3 if how == "zero" else 5
    salvaged = 0
    for page in range(0, pages, step):
        place = tmp_path / f"{how}-{page}"
        shutil.copytree(original.parent, place)
        path = place / "journal.db"
        destroy(path, page * PAGE_BYTES, PAGE_BYTES, how)
        whole = surviving(path, before, original)
        report = reopen(path)
        if report is None:  # not needed for a start: found when it is read, noted, and salvaged at the next start
            found = verify(path)
            if found.ok:
                continue
            disk.suspect(path, found.findings[0])
            report = reopen(path)
        assert report is not None
        salvaged += 1
        check(path, before, everything, report)
        missing = whole - set(everything(path))
        assert not missing, f"page {page}: whole rows {sorted(missing)[:5]} were not recovered"
        shutil.rmtree(place)
    assert salvaged >= pages // step // 2


def surviving(path: Path, before: dict[tuple[str, int], bytes], original: Path) -> set[tuple[str, int]]:
    """Events whose packed body is still in one piece in the file (those of one page; long rows lie in several)."""
    content = path.read_bytes()
    found: set[tuple[str, int]] = set()
    with JournalReader(original) as reader:
        for stream in STREAMS:
            for position, body in reader.query(f"SELECT position, body FROM {stream}"):
                if len(body) < 400 and bytes(body) in content:
                    at = content.index(bytes(body))
                    # the cell's head lies just before the body: a body alone, cut off from it, is no row
                    if any(content[max(0, at - 40) : at]):
                        found.add((stream, position))
    return found & set(before)


def test_half_a_page_destroyed(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """The page's header and cell pointers are gone, its rows are not: they are found by their shape."""
    build(path, draft)
    before = everything(path)
    content = path.read_bytes()
    leaf = next(
        page
        for page in range(20, len(content) // PAGE_BYTES)
        if content[page * PAGE_BYTES] == 13 and content[page * PAGE_BYTES + 4] >= 3
    )
    destroy(path, leaf * PAGE_BYTES, 64, "zero")
    disk.suspect(path, "seen")
    report = reopen(path)
    assert report is not None
    assert everything(path).keys() == before.keys()
    check(path, before, everything, report)


@pytest.mark.parametrize("left", [0, 1, 99, 4096, 20_000, 60_001])
def test_a_file_cut_short(path: Path, draft: MakeDraft, everything: Everything, left: int) -> None:
    """Truncated anywhere, also to nothing: what is left is recovered, the rest up to the known head is declared."""
    build(path, draft)
    before = everything(path)
    os.truncate(path, left)
    report = reopen(path)
    assert report is not None
    check(path, before, everything, report)


def test_a_text_file_in_its_place(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """Somebody saved notes over it: nothing is left, the start succeeds and the loss is counted from what is known."""
    build(path, draft)
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()  # the identity file now knows how far the streams had got
    writer.close()
    before = everything(path)
    path.write_text("shopping list\n" * 500)
    report = reopen(path)
    assert report is not None
    check(path, before, everything, report)
    assert {one.stream: one.lost for one in report.streams} == {
        "observations": 70, "measurements": 100, "transactions": 100
    }  # fmt: skip
    assert (path.parent / report.set_aside).read_text().startswith("shopping list")


def test_an_emptied_file_whose_log_has_everything(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """SQLite would throw the log of an empty database away; its rows come back."""
    build(path, draft, wal=True)
    before = everything(path)
    path.write_bytes(b"")
    report = reopen(path)
    assert report is not None
    assert everything(path).keys() == before.keys()
    check(path, before, everything, report)


def test_a_missing_file_whose_log_is_there(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """The same for a database file that is gone altogether."""
    build(path, draft, wal=True)
    before = everything(path)
    path.unlink()
    report = reopen(path)
    assert report is not None
    assert everything(path).keys() == before.keys()


@pytest.mark.parametrize(("start", "size"), [(0, 32), (10_000, 2_000), (40, 4_000)])
@pytest.mark.parametrize("how", ["zero", "random"])
def test_a_log_destroyed_in_the_middle(
    path: Path, draft: MakeDraft, everything: Everything, start: int, size: int, how: str
) -> None:
    """SQLite would quietly forget every commit after the destroyed frame; they come back."""
    build(path, draft, wal=True)
    before = everything(path)
    destroy(path.with_name(path.name + "-wal"), start, size, how)
    report = reopen(path)
    assert report is not None
    check(path, before, everything, report)
    lost = set(before) - set(everything(path))
    assert len(lost) < 40, "only what lay on the destroyed frames alone may be missing"


def test_garbage_instead_of_the_log(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """A log of noise beside a whole database changes nothing."""
    build(path, draft)
    before = everything(path)
    path.with_name(path.name + "-wal").write_bytes(random.Random(5).randbytes(50_000))
    reopen(path)
    after = everything(path)
    assert {place: after.get(place) for place in before} == before


def test_what_sql_gave_survives_with_its_cursors(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """A destroyed leaf of one stream costs nothing else: cursors, counts and quarantine stay."""
    build(path, draft)
    before = everything(path)
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    writer.transact(lambda c: c.execute("CREATE TABLE consent (subject TEXT PRIMARY KEY, given INTEGER)"))
    writer.transact(lambda c: c.execute("CREATE INDEX consent_given ON consent (given)"))
    writer.transact(lambda c: c.execute("INSERT INTO consent VALUES ('key-1', 1)"))
    writer.transact(lambda c: c.execute("CREATE TABLE projection_sales (day TEXT)"))
    writer.close()
    with sqlite3.connect(path) as connection:
        packed = connection.execute("SELECT body FROM observations WHERE position = 60").fetchone()[0]
    connection.close()
    at = path.read_bytes().index(packed) // PAGE_BYTES * PAGE_BYTES
    destroy(path, at, PAGE_BYTES, "zero")
    with pytest.raises(JournalError), JournalReader(path) as reader:
        reader.read("observations", 0, 1000)
    report = reopen(path)
    assert report is not None, "a reader that met the damage leaves a note for the next start"
    check(path, before, everything, report)
    assert report.cursors_recovered
    assert report.quarantine_recovered == 2
    assert report.tables_copied == ("consent",)
    lost = sum(last - first + 1 for one in report.streams for first, last in one.ranges)
    assert 1 <= lost <= 20
    assert [loss.stream for loss in report.declared] == ["observations"]
    with JournalReader(path) as reader:
        assert [tuple(row) for row in reader.query("SELECT * FROM consent")] == [("key-1", 1)]
        names = {row[0] for row in reader.query("SELECT name FROM cursor")}
        observations = reader.state("observations")
    assert names == {"uplink", "feed:erp"}
    assert (observations.acked, observations.quarantined, observations.declared_lost) == (29, 1, lost)


def test_a_corrupted_cursor_is_not_believed(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """A flipped bit that would pass events over is noticed; the uplink starts again from what is known for sure."""
    build(path, draft)
    before = everything(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE cursor SET position = 99 WHERE name = 'uplink' AND stream = 'observations'")
    connection.close()
    report = reopen(path)
    assert report is not None
    assert not report.cursors_recovered
    with JournalReader(path) as reader:
        assert reader.state("observations").pending == 70, "the identity file knew of thirty; the rest is sent again"
    check(path, before, everything, report)


def test_lost_newest_rows_never_give_their_numbers_again(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """When the newest rows are gone, new events start above every position that is known to have been used."""
    build(path, draft)
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    writer.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM transactions WHERE position > 80")
    connection.close()
    salvage.salvage(path, now_ms=1)
    with JournalReader(path) as reader:
        state = reader.state("transactions")
    assert (state.accepted, state.pending, state.declared_lost) == (100, 80, 20)
    assert verify(path).ok


def test_a_second_salvage_counts_nothing_twice(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """What was declared lost once is not declared again."""
    build(path, draft)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM measurements WHERE position BETWEEN 40 AND 49")
    connection.close()
    first = salvage.salvage(path, now_ms=1)
    once = states(path)
    second = salvage.salvage(path, now_ms=2)
    assert [one.lost for one in first.streams] == [0, 10, 0]
    assert [one.lost for one in second.streams] == [0, 0, 0]
    assert second.declared == ()
    assert states(path) == once
    assert verify(path).ok
    assert len(list(path.parent.glob("journal.db.damaged-*[!l]"))) == 2, "nothing set aside is ever overwritten"


def test_without_the_identity_file_too(path: Path, draft: MakeDraft, everything: Everything) -> None:
    """Database header and identity both gone: the events come back, under a new epoch since theirs is unknown."""
    build(path, draft)
    count = len(everything(path))
    identity.path_of(path).unlink()
    destroy(path, 0, 100, "zero")
    report = reopen(path)
    assert report is not None
    assert 0 < len(everything(path)) <= count
    assert verify(path).ok


class Stopped(BaseException):
    """The process dies here."""


@pytest.mark.parametrize("after", range(1, 8))
def test_a_salvage_cut_short_is_finished(
    path: Path, draft: MakeDraft, everything: Everything, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at any step, the next start carries on and loses nothing."""
    build(path, draft, wal=True)
    before = everything(path)
    destroy(path, 0, 100, "random")
    steps = 0

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal steps
        if armed and event in ("os.rename", "os.remove") and str(path.parent) in str(arguments[0]):
            steps += 1
            if steps == after:
                raise Stopped

    armed = True
    import sys

    sys.addaudithook(audit)
    try:
        reopen(path)
    except Stopped:
        pass
    finally:
        armed = False
    report = reopen(path)
    found = everything(path)
    assert {place: found.get(place) for place in before} == before
    assert verify(path).ok
    assert not list(path.parent.glob("*.salvag*")), "no note and no half-made file is left"
    assert report is None or report.set_aside


def test_what_salvage_cannot_mend_comes_out(path: Path, clock: FakeClock) -> None:
    """A directory where the file should be is not damage: the message says what to do, nothing is moved."""
    path.mkdir(parents=True)
    with pytest.raises(JournalError):
        open_or_salvage(JournalWriter(path, "gw01", clock, ballast_bytes=0))
    assert path.is_dir()


def test_a_whole_journal_is_left_alone(path: Path, draft: MakeDraft) -> None:
    """No salvage, no new epoch, nothing set aside; also after a kill that left a log."""
    build(path, draft, wal=True)
    assert reopen(path) is None
    with JournalReader(path) as reader:
        assert [len(reader.epochs(stream)) for stream in STREAMS] == [1, 1, 1]
    assert not list(path.parent.glob("*.damaged-*"))


def test_a_note_on_a_whole_journal_is_taken_away(path: Path, draft: MakeDraft) -> None:
    """A complaint that a full check does not confirm changes nothing."""
    build(path, draft)
    disk.suspect(path, "a cosmic ray, seen once")
    assert reopen(path) is None
    assert disk.suspicion(path) is None


def test_a_row_moved_elsewhere_does_not_check() -> None:
    """The checksum covers the stream and the position."""
    crc = row_crc("observations", 7, 1, 2, b"k", b"body")
    assert crc != row_crc("observations", 8, 1, 2, b"k", b"body")
    assert crc != row_crc("measurements", 7, 1, 2, b"k", b"body")


def another_dictionary(path: Path) -> None:
    """Put other phrases of the same number in a dictionary's place, with a checksum that fits them."""
    with sqlite3.connect(path) as connection:
        (phrases,) = connection.execute("SELECT bytes FROM dictionary WHERE id = 1").fetchone()
        strange = bytes(reversed(phrases))
        connection.execute("UPDATE dictionary SET bytes = ?, crc = ?", (strange, zlib.crc32(strange)))
    connection.close()


def test_rows_under_another_dictionary_are_never_read_as_nonsense(
    path: Path, draft: MakeDraft, everything: Everything
) -> None:
    """Files of two journals got mixed: readers refuse such rows, verify finds them, and a salvage reads them with the
    dictionary of the identity file, byte for byte.
    """
    build(path, draft)
    before = everything(path)
    another_dictionary(path)
    with pytest.raises(JournalError, match="checksum"):
        everything(path)
    assert not verify(path).ok
    disk.suspect(path, "seen")
    report = reopen(path)
    assert report is not None
    assert everything(path) == before
    check(path, before, everything, report)


def test_a_dictionary_that_only_the_identity_file_has_wrong_costs_nothing(
    path: Path, draft: MakeDraft, everything: Everything
) -> None:
    """The file has no checksum of its own: what it says otherwise than the database counts only where rows agree."""
    build(path, draft)
    before = everything(path)
    facts = identity.load(path)
    wrong = msgspec.structs.replace(facts, dictionaries={1: bytes(reversed(facts.dictionaries[1]))})
    identity.path_of(path).write_bytes(msgspec.json.encode(wrong))
    report = salvage.salvage(path, gateway="gw01", now_ms=1)
    assert everything(path) == before
    assert all(not one.lost for one in report.streams)


def left_by_a_kill(path: Path, draft: MakeDraft, tmp_path: Path, rows: int = 40) -> Path:
    """A journal in the state that a killed process leaves it in: open, its newest commits in the log alone."""
    build(path, draft)
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    writer.append([draft(1000 + n, "transactions") for n in range(rows)])
    left = tmp_path / "left"
    left.mkdir()
    for name in (path.name, f"{path.name}-wal", f"{path.name}.identity.json"):
        shutil.copy(path.with_name(name), left / name)
    writer.close()
    return left / path.name


def test_a_log_that_is_gone_is_missed(path: Path, tmp_path: Path, draft: MakeDraft, everything: Everything) -> None:
    """Somebody removed it after a kill. SQLite would go on as if nothing had been in it, and give numbers that were
    delivered to other events; a new epoch begins and the next start has no complaint.
    """
    left = left_by_a_kill(path, draft, tmp_path)
    before = everything(left)
    left.with_name(left.name + "-wal").unlink()
    left.with_name(left.name + "-shm").unlink(missing_ok=True)
    report = reopen(left)
    assert report is not None and "log is gone" in report.reason
    after = everything(left)
    assert len(after) == 300 and {place: before[place] for place in after} == after
    with JournalReader(left) as reader:
        assert [epoch.reason for epoch in reader.epochs("transactions")] == ["fresh", "salvaged"]
    assert reopen(left) is None


def test_a_kill_with_its_log_is_no_damage(path: Path, tmp_path: Path, draft: MakeDraft, everything: Everything) -> None:
    """The same with the log in its place: nothing is salvaged, nothing is missing."""
    left = left_by_a_kill(path, draft, tmp_path)
    assert reopen(left) is None
    assert len(everything(left)) == 340


def test_a_database_that_is_gone_is_declared(path: Path, draft: MakeDraft) -> None:
    """The file was deleted, what lies beside it was not: the start succeeds and says how much is lost."""
    build(path, draft)
    writer = JournalWriter(path, "gw01", FakeClock(), ballast_bytes=0)
    writer.open()
    writer.close()
    path.unlink()
    report = reopen(path)
    assert report is not None and report.reason == "the database file is gone"
    assert {one.stream: one.lost for one in report.streams} == {
        "observations": 70, "measurements": 100, "transactions": 100
    }  # fmt: skip
    assert reopen(path) is None


def test_a_note_that_cannot_be_read_stops_the_start(path: Path, draft: MakeDraft) -> None:
    """It may say that the journal was moved away for a salvage: going on would begin an empty one in its place."""
    build(path, draft)
    path.with_name(path.name + ".salvage").mkdir()
    with pytest.raises(JournalError, match="open journal"):
        reopen(path)


def test_a_salvage_of_an_older_schema_leaves_no_hardware_address_in_clear(path: Path) -> None:
    """What the change of the schema takes out of quarantined topics does not come back by way of a salvage."""
    path.write_bytes((Path(__file__).parent / "kept" / "schema-2.db").read_bytes())
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            "INSERT INTO quarantine (at_ms, source, driver, topic, reason, payload) "
            "VALUES (1, 's', 'd', 'gw/AC233FC01234/up', 'r', x'00')"
        )
    salvage.salvage(path, gateway="gw01")
    with JournalReader(path) as reader:
        assert [row["topic"] for row in reader.query("SELECT topic FROM quarantine ORDER BY id")][-1] == "gw/…/up"
