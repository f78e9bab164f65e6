"""Housekeeping: old events go, undelivered ones only with a declared loss, keys die, a salvage is said aloud."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.loader import parse
from config.settings import RetentionSettings, Settings
from gateway.app import Gateway
from gateway.clock import FakeClock
from gateway.errors import Unavailable
from gateway.event import STREAMS, Draft, Origin, Stream
from gateway.intake.inlet import Inlet, Item
from gateway.journal import cursor
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.identity import load
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.runtime.systemd import Notifier
from gateway.shopper.consent import Consents, Terms
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.identifiers import Identifier
from gateway.workers.housekeeping import SALVAGED, WAL_LARGE, Chores, Housekeeping, policy_of, salvage_under_way
from tests.patience import until

NIGHT_S = datetime(2026, 11, 22, 19, 5, tzinfo=UTC).timestamp()  # 03:05 in Shanghai


class House:
    """What housekeeping works on, with a commit loop on a thread of its own."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.settings = Settings()
        self.origin = Origin("t1", "0001", "gw01")
        self.clock = FakeClock()
        self.inlet = Inlet()
        self.journal_path = folder / "journal.db"
        self.writer = JournalWriter(self.journal_path, "gw01", self.clock, max_bytes=max_bytes, ballast_bytes=0)
        self.commits = CommitLoop(self.writer, self.inlet, window_s=0.001)
        self.day_keys = DayKeys(folder / "keys")
        self.consents = Consents(self.journal_path, self.commits, folder / "keys" / "consent.key")
        self.chores = Chores(self)
        self.house = Housekeeping(self, self.chores)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live)

    def open(self) -> None:
        self.commits.open()
        self._thread.start()

    def _live(self) -> None:
        while not self._stop.is_set():
            self.commits.step(self._stop)

    def close(self) -> None:
        self._stop.set()
        self.inlet.wake()
        self._thread.join(60)
        self.commits.close()

    def fill(self, stream: Stream, share: float, deliver: bool = False) -> None:
        """Write events until so much of the quota is used."""
        while self.commits.submit(lambda _: self.writer.fill_share()).result(30) < share:
            head = self.head(stream)
            drafts = [noise(head + number, stream) for number in range(200)]
            done = threading.Event()
            assert self.inlet.offer("test", Item(drafts, done.set), 5)
            assert done.wait(10)
        if deliver:
            through = self.head(stream)
            self.commits.submit(lambda c: cursor.acknowledge(c, stream, through, {}, now_ms=0)).result(30)

    def head(self, stream: Stream) -> int:
        with JournalReader(self.journal_path) as reader:
            return reader.head(stream)

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Every event of a type, waiting a moment for those under way."""
        with JournalReader(self.journal_path) as reader:
            found = [event.decode() for stream in STREAMS for event in reader.read(stream, 0, 100_000, 1 << 30)]
        return [event for event in found if event["type"] == kind]


def noise(number: int, stream: Stream) -> Draft:
    """An event of about 400 bytes that do not compress."""
    pad = random.Random(number).randbytes(150).hex()
    return Draft(
        stream, "store.test.v1", b'{"source":"//t/x","type":"store.test.v1","data":{"pad":"%s"}}' % pad.encode()
    )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path, 1 << 20)
    made.open()
    yield made
    made.close()


def tidy(house: House, steps: int = 60) -> None:
    """Let housekeeping work until nothing is due."""
    house.clock.advance(11)
    house.house.step(_calm())
    while house.chores.sweep.is_set() and steps:
        house.house.step(_calm())
        steps -= 1


def _calm() -> threading.Event:
    """A stop event whose waits return at once, though it is not set."""

    class Now(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    return Now()


def test_delivered_events_go_when_half_of_the_quota_is_used(house):
    """Under pressure delivered events are deleted without waiting for the night, and nothing is declared."""
    house.fill("observations", 0.6, deliver=True)
    tidy(house)
    assert house.commits.submit(lambda _: house.writer.fill_share()).result(30) < 0.5
    assert _oldest(house, "observations") > 1
    assert house.events("store.loss.declared.v1") == []


def test_what_expires_undelivered_is_declared_to_the_last_event(house):
    """Above its limit the quota costs the oldest observations; the events that say so add up to the stream's count."""
    house.fill("observations", 0.84)
    tidy(house)
    with JournalReader(house.journal_path) as reader:
        state = reader.state("observations")
    assert state.expired > 0
    assert state.accepted == state.acked + state.pending + state.quarantined + state.expired + state.declared_lost
    until(lambda: house.events("store.loss.declared.v1"))
    told = [event["data"] for event in house.events("store.loss.declared.v1")]
    assert {loss["subject"] for loss in told} == {"observations"}
    assert {loss["reason"] for loss in told} == {"quota"}
    assert sum(loss["count"] for loss in told) == state.expired
    assert min(loss["first"] for loss in told) == 1
    assert max(loss["last"] for loss in told) == _oldest(house, "observations") - 1


def test_sales_are_never_given_up(house):
    """However full the quota is, no undelivered transaction is deleted."""
    house.fill("transactions", 0.95)
    head = house.head("transactions")
    tidy(house)
    with JournalReader(house.journal_path) as reader:
        state = reader.state("transactions")
    assert (state.oldest, state.accepted, state.pending, state.expired) == (1, head, head, 0)


def test_old_delivered_events_go_at_night(house):
    """At 03:10 store time what is delivered and older than its days goes; the younger stays."""
    house.clock.wall_s = NIGHT_S - 20 * 86_400
    house.fill("observations", 0.05, deliver=True)
    old = house.head("observations")
    house.clock.wall_s = NIGHT_S
    house.fill("observations", 0.3, deliver=True)
    head = house.head("observations")
    assert head > old
    plan = house.chores.plan
    assert plan.due(house.clock.now()) == []
    house.clock.advance(299)
    assert [job.name for job in plan.due(house.clock.now())] == ["day keys"]
    tidy(house)
    assert _oldest(house, "observations") == 1
    house.clock.advance(10)
    due = plan.due(house.clock.now())
    assert [job.name for job in due] == ["retention"]
    due[0].run()
    tidy(house)
    assert _oldest(house, "observations") == old + 1
    assert house.head("observations") == head


def test_a_changed_setting_never_deletes_what_was_not_delivered(house):
    """Days in the configuration are about delivered events; undelivered ones have the policy's hard limits."""
    policy = policy_of(RetentionSettings(transactions_days=1, measurements_days=1, observations_days=1))
    assert policy.keep_s == dict.fromkeys(STREAMS, 86_400.0)
    assert policy.max_age_s == {"measurements": 400 * 86_400.0, "observations": 90 * 86_400.0}
    assert policy_of(RetentionSettings(observations_days=300)).max_age_s["observations"] == 300 * 86_400.0


def test_day_keys_are_destroyed_after_their_time(house):
    """A key three days old is gone after the hourly job, today's stays; a foreign file is an outage with a hint."""
    folder = house.journal_path.parent / "keys"
    house.day_keys.day_key("member", "4711", house.clock.now())
    (old,) = folder.glob("*.daykey")
    house.clock.advance(3 * 86_400)
    house.day_keys.day_key("member", "4711", house.clock.now())
    house.chores.destroy_keys()
    assert not old.exists()
    assert len(list(folder.glob("*.daykey"))) == 1
    (folder / "note.daykey").write_text("x")
    with pytest.raises(Unavailable, match="foreign"):
        house.chores.destroy_keys()


def test_a_log_that_stays_large_is_an_alarm_and_its_end_is_said(house):
    """The write-ahead log above its limit for a minute raises one alarm; back below it is cleared."""
    house.house = Housekeeping(house, house.chores, wal_alarm_bytes=40_000)
    with contextlib.closing(JournalReader(house.journal_path)) as reader:
        reader.open()
        with reader._snapshot() as connection:
            connection.execute("SELECT count(*) FROM observations").fetchone()
            house.fill("observations", 0.2)
            for _ in range(9):
                tidy(house)
            until(lambda: house.events("store.alarm.raised.v1"))
    assert [event["data"]["what"] for event in house.events("store.alarm.raised.v1")] == [WAL_LARGE]
    house.commits.submit(lambda _: None).result(30)
    house.house._wal = house.journal_path.with_name("none")
    tidy(house)
    until(lambda: house.events("store.alarm.cleared.v1"))


def test_the_identity_file_follows_every_hour(house):
    """The copy of the journal's facts is brought up to date, so that a salvage need not guess far back."""
    house.fill("observations", 0.05)
    tidy(house)
    before = load(house.journal_path).heads["observations"]
    house.clock.advance(3700)
    tidy(house)
    assert before < load(house.journal_path).heads["observations"] == house.head("observations")


def _oldest(house: House, stream: Stream) -> int:
    with JournalReader(house.journal_path) as reader:
        return reader.state(stream).oldest


# -- the whole gateway


def settings(folder: Path) -> Settings:
    return parse(
        f'[storage]\ndirectory = "{folder}"\nballast_mib = 0\nmax_mib = 16\n[broker]\nmode = "none"\n'
        "[page]\nenabled = false\n",
        "test",
    )


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Gateway]:
    gateway, stop = Gateway(settings(folder)), threading.Event()
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        yield gateway
    finally:
        stop.set()
        thread.join(60)


def kinds(path: Path) -> list[str]:
    with JournalReader(path) as reader:
        return [event.decode()["type"] for event in reader.read("transactions", 0, 1000)]


def test_a_destroyed_journal_does_not_stop_the_start_and_is_said_once(tmp_path):
    """A gateway on a wrecked database comes up, raises one critical alarm that names the file set aside, and says no
    more of it at later starts."""
    with running(tmp_path) as gateway:
        until(lambda: gateway.commits.is_open)
        until(lambda: gateway.commits.counters.events > 0)
    path = tmp_path / "journal.db"
    path.write_bytes(b"\xa5" * path.stat().st_size)
    for _ in range(3):
        with running(tmp_path) as gateway:
            until(lambda: gateway.commits.is_open and "store.alarm.raised.v1" in kinds(path))
            until(lambda: gateway.commits.counters.events > 0)
    with JournalReader(path) as reader:
        events = [event.decode() for event in reader.read("transactions", 0, 1000)]
    (alarm,) = [event["data"] for event in events if event["type"] == "store.alarm.raised.v1"]
    (aside,) = [file.name for file in tmp_path.glob("journal.db.damaged-*") if not file.name.endswith("-wal")]
    assert alarm["what"] == SALVAGED
    assert alarm["severity"] == "critical"
    assert aside in alarm["hint"]
    assert not salvage_under_way(path)


def test_a_long_salvage_asks_systemd_for_time(tmp_path):
    """While a salvage holds the start up, the service manager is asked to wait longer; else it is not."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        gateway = Gateway(settings(tmp_path), clock=FakeClock())
        gateway.notifier = Notifier(str(tmp_path / "notify"))
        assert isinstance(gateway.clock, FakeClock)
        gateway.clock.advance(20)
        gateway._beat(None)
        assert b"EXTEND" not in manager.recv(4096)
        (tmp_path / "journal.db.salvage").write_text("{}")
        gateway.clock.advance(20)
        gateway._beat(None)
        assert manager.recv(4096).startswith(b"EXTEND_TIMEOUT_USEC=120000000")


class Closed(Inlet):
    """An inlet that is full until a test opens it."""

    full = True

    def offer(self, source: str, item: Item, timeout_s: float = 0.0) -> bool:
        return not self.full and super().offer(source, item, timeout_s)


def test_deleting_goes_on_while_nobody_can_be_told_and_it_is_told_in_full_afterwards(house):
    """What makes room must not wait for room; the losses of the meantime are one, joined, and add up."""
    house.fill("observations", 0.84)
    house.inlet = Closed()
    tidy(house)
    with JournalReader(house.journal_path) as reader:
        expired = reader.state("observations").expired
    assert expired > 0 and not house.chores.sweep.is_set()
    house.inlet.full = False
    house.house.step(_calm())
    told = [draft for item in house.inlet.take(100, 0.0, 0.0) for draft in item.drafts]
    assert [draft.type for draft in told] == ["store.loss.declared.v1"]
    assert f'"count":{expired}'.encode() in told[0].body


def test_consents_that_ended_long_ago_are_swept_on_the_calendar(house):
    """Through the thread that writes, like everything; a standing one stays."""
    at_ms = int(house.clock.now().wall_s * 1000)
    for number, days in (("A-1", 1), ("A-2", 3000)):
        ends_ms = at_ms + days * 86_400_000
        house.consents.grant(Identifier("member", number), ("visits",), at_ms, ends_ms, Terms(record=number), at_ms)
    house.clock.advance(400 * 86_400)
    house.chores.sweep_consents()
    assert house.consents.count() == 1
    house.consents.close()
