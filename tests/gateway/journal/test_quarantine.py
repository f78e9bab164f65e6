"""Quarantine: sealed, listed, opened, replayed."""

from __future__ import annotations

import errno
from functools import partial
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FakeClock
from gateway.errors import JournalError, JournalFull, Rejected
from gateway.event import Draft
from gateway.intake.inlet import Poison
from gateway.journal import quarantine
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.journal.writer import DEDUPE_WINDOW, JournalWriter

CARD = b'{"member":"6222 0200 1234 5678"}'


def test_a_payload_is_sealed_on_disk_and_opened_for_a_person(path: Path, clock: FakeClock) -> None:
    """Neither the database nor its log holds the payload or the topic; with the key both come back with the reason."""
    seal = PayloadSeal(path.parent / "keys" / "quarantine.key")
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0, seal=seal.seal)
    writer.open()
    writer.append([], [Poison("till-1", "pos_json", "totals do not add up", CARD, "pos/6222/sale", "pos/+/sale")])
    on_disk = path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()
    assert b"6222" not in on_disk
    assert b"totals do not add up" in on_disk
    with JournalReader(path) as reader:
        entry = quarantine.entries(reader)[0]
        assert (entry.source, entry.driver, entry.topic, entry.reason, entry.state) == (
            "till-1", "pos_json", "pos/+/sale", "totals do not add up", "held"
        )  # fmt: skip
        again, payload = quarantine.get(reader, entry.id, PayloadSeal(path.parent / "keys" / "quarantine.key"))
    assert (again, payload) == (msgspec.structs.replace(entry, topic="pos/6222/sale"), CARD)
    writer.close()


def test_entries_page_newest_first(writer: JournalWriter, path: Path) -> None:
    """Paging by the lowest id seen gives every entry once."""
    writer.append([], [Poison("s", "d", f"reason {n}", b"x") for n in range(25)])
    seen: list[str] = []
    with JournalReader(path) as reader:
        before = None
        while page := quarantine.entries(reader, before=before, limit=10):
            seen += [entry.reason for entry in page]
            before = page[-1].id
    assert seen == [f"reason {n}" for n in reversed(range(25))]


def test_replayed_is_noted_once(writer: JournalWriter, path: Path) -> None:
    """The first note counts; a second, or one for nothing, says so."""
    writer.append([], [Poison("s", "d", "r", b"x")])
    assert [writer.transact(partial(quarantine.mark_replayed, entry=n)) for n in (1, 1, 7)] == [True, False, False]
    with JournalReader(path) as reader:
        assert quarantine.entries(reader)[0].state == "replayed"


def test_an_entry_that_is_not_there(writer: JournalWriter, path: Path, tmp_path: Path) -> None:
    """Asking for a wrong number gives an error with a hint."""
    with JournalReader(path) as reader, pytest.raises(Rejected, match="no such entry"):
        quarantine.get(reader, 5, PayloadSeal(tmp_path / "key"))


def test_the_key_is_the_users_alone_and_is_kept(tmp_path: Path) -> None:
    """Made once with mode 0600; a later process opens what an earlier one sealed."""
    key = tmp_path / "key"
    sealed = PayloadSeal(key).seal(b"hello")
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    assert PayloadSeal(key).open(sealed) == b"hello"
    assert PayloadSeal(key).seal(b"hello") != sealed, "every sealing has its own nonce"
    assert [name.name for name in tmp_path.iterdir()] == ["key"]


def test_opening_never_makes_a_key(tmp_path: Path) -> None:
    """Without the key there is an error that says which file is missing."""
    sealed = PayloadSeal(tmp_path / "key").seal(b"x")
    with pytest.raises(JournalError, match="other"):
        PayloadSeal(tmp_path / "other").open(sealed)
    assert not (tmp_path / "other").exists()


def test_a_key_of_the_wrong_size_is_set_aside(tmp_path: Path) -> None:
    """A damaged key opens nothing and is kept; sealing goes on with a new one, so poison cannot stop the gateway."""
    key = tmp_path / "key"
    key.write_bytes(b"short")
    with pytest.raises(JournalError, match="5 bytes instead of 32"):
        PayloadSeal(key).open(PayloadSeal(tmp_path / "other").seal(b"x"))
    sealed = PayloadSeal(key).seal(b"x")
    assert PayloadSeal(key).open(sealed) == b"x"
    assert (tmp_path / "key.damaged").read_bytes() == b"short"


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(1, 255))
def test_a_changed_payload_does_not_open(
    tmp_path_factory: pytest.TempPathFactory, payload: bytes, place: int, change: int
) -> None:
    """Any flipped bit is noticed."""
    seal = PayloadSeal(tmp_path_factory.getbasetemp() / "shared.key")
    sealed = bytearray(seal.seal(payload))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(Rejected):
        seal.open(bytes(sealed))


def test_quarantine_is_bounded_in_bytes(path: Path, clock: FakeClock) -> None:
    """A flood of large poison takes a sixteenth of the quota at most; the newest entry stays however large it is."""
    quota = 16 << 20
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0, max_bytes=quota)
    writer.open()
    for number in range(60):
        writer.append([], [Poison("s", "d", f"{number}", b"x" * 100_000)])
    with JournalReader(path) as reader:
        kept = [tuple(row) for row in reader.query("SELECT reason, length(payload) FROM quarantine ORDER BY id")]
    assert [reason for reason, _ in kept] == [f"{number}" for number in range(50, 60)]
    assert sum(size for _, size in kept) <= quota // 16
    writer.append([], [Poison("s", "d", "huge", b"x" * (2 << 20))])
    with JournalReader(path) as reader:
        assert [entry.reason for entry in quarantine.entries(reader)] == ["huge"]
    writer.append([], [Poison("s", "d", "small", b"x")])
    with JournalReader(path) as reader:
        assert [entry.reason for entry in quarantine.entries(reader)] == ["small"]
    writer.close()


def test_poison_told_again_after_a_kill_lies_there_once(path: Path, clock: FakeClock) -> None:
    """Killed between commit and acknowledgement, the broker repeats it: known by its name, also after the start. Two
    that only look alike are two.
    """
    poison = Poison("s", "d", "r", b"x", dedupe=b"name", fresh=True)
    repeat = msgspec.structs.replace(poison, fresh=False)
    for life in range(2):
        writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
        writer.open()
        if life == 0:
            assert writer.append([], [poison, repeat]).quarantined == 1
        assert writer.append([], [repeat]).quarantined == 0
        with JournalReader(path) as reader:
            assert len(quarantine.entries(reader)) == 1
        writer._disconnect()  # as a kill leaves it
        writer._unlock()
    writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
    writer.open()
    assert writer.append([], [poison, repeat]).quarantined == 1, "the broker says that it is no repeat"
    writer.close()


@pytest.mark.parametrize(
    ("topic", "shown"),
    [
        ("kbeacon/publish/AC233FC01234", "kbeacon/publish/…"), ("gw/ac:23:3f:c0:12:34/#", "gw/…/#"),
        ("gw/ac-23-3f-c0-12-34-x/+", "gw/…-x/+"), ("shellies/+/button", "shellies/+/button"),
        ("observations/0123456789abcdef0123456789abcdef/12", "observations/0123456789abcdef0123456789abcdef/12"),
    ],
)  # fmt: skip
def test_no_hardware_address_stands_in_clear(writer: JournalWriter, path: Path, topic: str, shown: str) -> None:
    """A filter is configured, but it may name a receiver by its address; the sealed topic has it for who asks."""
    writer.append([], [Poison("s", "d", "r", b"x", topic, topic)])
    with JournalReader(path) as reader:
        (entry,) = quarantine.entries(reader)
    assert entry.topic == shown


def test_the_first_poison_on_a_full_disk_waits_for_room(tmp_path: Path) -> None:
    """No room for the key is no reason to end: the message stays with the broker until there is."""

    class Full(PayloadSeal):
        def _make(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JournalFull):
        Full(tmp_path / "keys" / "quarantine.key").seal(b"x")


def test_no_flood_of_events_makes_poison_forgotten(path: Path, clock: FakeClock) -> None:
    """A message in quarantine that is repeated after any number of readings, and after a restart, is known."""
    repeat = Poison("s", "d", "r", b"x", dedupe=b"name")
    flood = [
        Draft("observations", "store.test.v1", b"{}", number.to_bytes(8, "big"))
        for number in range(DEDUPE_WINDOW["observations"] + 2)
    ]
    for life in range(2):
        writer = JournalWriter(path, "gw01", clock, ballast_bytes=0)
        writer.open()
        if life == 0:
            assert writer.append([], [repeat]).quarantined == 1
            writer.append(flood)
        assert writer.append([], [repeat]).quarantined == 0
        writer.close()
