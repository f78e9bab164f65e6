"""The book of visits: reads the journal, lets the machine decide, and tells each visit exactly once.

What is under way lies in tables beside the journal. The place in the journal, the rows and the events of the visits
that ended are one transaction (`CommitLoop.record`), so a crash at any moment neither loses a visit nor repeats one.
Where the tables are lost or the journal has another epoch (a salvage, a restore), the last twelve hours are read again,
and what they tell already is not told again. Decides nothing about a visit.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, TimeoutError
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.clock import Clock, boot_id
from gateway.errors import JournalFull, Unavailable
from gateway.event import Draft, Origin, Stream, draft
from gateway.event_types import type_of
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.erasure import SubjectTable
from gateway.journal.reader import JournalReader
from gateway.journal.schema import head_of
from gateway.shopper.hints import Recognition
from gateway.shopper.visit_case import Case, Rules
from gateway.shopper.visit_facts import Act, Fact, Linked, Sighting, Sold, Timeline, fact_of
from gateway.shopper.visits import Counters, Ended, Visits

log = logging.getLogger(__name__)
T = TypeVar("T")

STREAMS: tuple[Stream, ...] = ("transactions", "observations")
SUBJECTS = (
    SubjectTable(name="visit_subject", key=("case_id", "word"), columns=("word",)),
    SubjectTable(name="hint", key=("person",), columns=("record", "day_key")),
)
CHUNK = 2_000
_READ_BYTES = 4 << 20
_REST_S = 1.0
_ASLEEP_S = 5.0  # without news from the journal: so late may the end of a visit be noticed
_ANSWER_S = 20.0
_FULL_RETRY_S = 1.0
_KEEP_EVERY = 5_000  # events without anything to write, read again after a crash
_AGAIN_MS = 12 * 3_600_000
_WARM = 20_000  # events of a stream that are read again at a start, for the tags
_APART_MS = 300_000  # how far one stream may be ahead of the other
_LIVE_MS = 300_000  # whoever acted longer ago is not announced to staff
_BLOCKED_MOST = 10_000
_REVIEW_S = 15.0  # a consent that has ended drops what rests on it within that
_TABLES = (
    "CREATE TABLE IF NOT EXISTS visit_case (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS visit_subject (case_id TEXT, word TEXT, PRIMARY KEY (case_id, word)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS visit_place (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    # An erasure finds a word and deletes its row; the visit goes with it, whatever else the visit holds.
    "CREATE TRIGGER IF NOT EXISTS visit_erased AFTER DELETE ON visit_subject BEGIN "
    "DELETE FROM visit_case WHERE id = OLD.case_id; END",
)
_case_of = msgspec.msgpack.Decoder(Case).decode


class _Moved(Exception):
    """The place in the tables is not the one that this worker began at."""


class _Place(msgspec.Struct):
    """Where the fold stands, as it is written down."""

    positions: dict[str, int] = {}
    epochs: str = ""
    offsets: dict[str, int] = {}
    last: tuple[int, int] | None = None


class _Told(msgspec.Struct):
    visit_id: str


class _ToldEvent(msgspec.Struct):
    data: _Told | None = None


class VisitDesk:
    """What outlives a worker: withdrawals on their way, who is recognised, and the hold on what is in memory."""

    def __init__(
        self, rules: Rules, recognition: Recognition, ended: Callable[[str], Collection[str]] = lambda record: ()
    ) -> None:
        """`ended`: the purposes that a consent allows no more, by its record (`Consents.ended`)."""
        self.recognition = recognition
        self.rules = rules
        self.lock = threading.Lock()
        self.machine: Visits | None = None
        self._ended = ended
        self._withdrawn: deque[tuple[str, frozenset[str]]] = deque(maxlen=_BLOCKED_MOST)
        self._counters = Counters()

    @property
    def wanted(self) -> bool:
        """See `subjects.Watch`."""
        return self.recognition.wanted

    def named(self, person: bytes, day_key: str) -> None:
        """See `subjects.Watch`."""
        self.recognition.named(person, day_key)

    def withdrawn(self, person: bytes, day_key: str, purposes: Collection[str]) -> None:
        """A person took a consent back: the hint goes now, what is under way at the worker's next step."""
        self.recognition.withdrawn(person, day_key, purposes)
        self._withdrawn.append((day_key, frozenset(purposes)))

    def erased(self, matches: Callable[[str], bool]) -> None:
        """Forget whoever is being erased (`gateway.workers.erasing.Forget`)."""
        self.recognition.erased(matches)
        with self.lock:
            if self.machine is not None:
                self.machine.erase(matches)

    def ended(self, records: Sequence[str]) -> set[str]:
        """The purposes that whoever gave any of these consents allows no more."""
        return {purpose for record in records for purpose in self._ended(record)}

    def next_withdrawal(self) -> tuple[str, frozenset[str]] | None:
        """The oldest that the worker has not carried out yet."""
        return self._withdrawn.popleft() if self._withdrawn else None

    def counts(self) -> dict[str, int]:
        """What became of visits since the start, for the heartbeat."""
        machine = self.machine
        if machine is not None:
            self._counters = machine.counters
        told = msgspec.structs.asdict(self._counters)
        return {**{f"visits_{name}": count for name, count in told.items()}, **self.recognition.counts()}


class VisitBook:
    """Worker. A fresh one goes on where the tables say."""

    def __init__(self, desk: VisitDesk, path: Path, commits: CommitLoop, origin: Origin, clock: Clock) -> None:
        """`path`: the journal's file."""
        self._desk = desk
        self._commits = commits
        self._origin = origin
        self._clock = clock
        self._reader = JournalReader(path)
        self._machine: Visits | None = None
        self._timeline = Timeline()
        self._positions: dict[str, int] = {}
        self._kept: dict[str, int] = {}
        self._ahead: dict[str, int] = {}  # how far each stream has been read, on the timeline
        self._epochs = ""
        self._blocked: dict[str, int] = {}
        self._reviewed_s = 0.0
        self._seen = 0  # of the journal's news
        self._more = False

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Wait for events, take one chunk of each stream, tell what has ended, rest.

        Raises:
            Unavailable: the journal did not answer in time.
            JournalError: it cannot be read or written any more.
        """
        if not self._commits.is_open:
            stop.wait(0.05)
            return
        if self._machine is not None and not self._more:
            self._seen = self._commits.news.after(self._seen, _ASLEEP_S, stop)
        try:
            machine = self._prepare(stop) if self._machine is None else self._machine
            self._more = self._fold(machine, stop)
        except JournalFull:
            self._machine = None
            stop.wait(_FULL_RETRY_S)
            return
        except _Moved:
            self._machine = None
            return
        except Unavailable:
            self._machine = None  # what is in memory may be ahead of the tables
            raise
        if not self._more:
            stop.wait(_REST_S)

    def wake(self) -> None:
        """See `runtime.worker.Sleeper`."""
        self._commits.news.wake()

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    # -- one step

    def _fold(self, machine: Visits, stop: threading.Event) -> bool:
        more = False
        now = self._clock.now()
        now_ms = self._timeline.at(boot_id(), now.mono_us, int(now.wall_s * 1000))
        chunks = [(stream, *self._read(stream)) for stream in STREAMS if not self._too_far(stream)]
        with self._desk.lock:
            self._take_back(machine, now_ms)
            for stream, facts, end, full in chunks:
                more = more or full
                for fact in facts:
                    if not self._is_blocked(fact):
                        machine.take(fact)
                self._positions[stream] = end
                if not full:
                    self._ahead[stream] = now_ms
                elif facts:
                    self._ahead[stream] = facts[-1].when.now_ms
            if now.mono_s - self._reviewed_s >= _REVIEW_S:
                self._reviewed_s = now.mono_s
                machine.review()
            ended = machine.tick(min(self._ahead.get(stream, 0) for stream in STREAMS))
            self._announce(machine, now_ms, int(now.wall_s * 1000))
            rows = [case for name in machine.cases.dirty if (case := machine.cases.get(name)) is not None]
            saved = [(case.id, msgspec.msgpack.encode(case), _words(case)) for case in rows]
            gone = list(machine.cases.gone)
            machine.cases.dirty.clear()
            machine.cases.gone.clear()
        for name in gone + [it.case for it in ended]:
            self._desk.recognition.gone(name)
        idle = all(self._positions[it] - self._kept[it] < _KEEP_EVERY for it in STREAMS)
        if saved or gone or ended or not idle or self._desk.recognition.unwritten:
            self._write(saved, gone, [self._draft(it) for it in ended], stop)
        return more or any(self._too_far(stream) for stream in STREAMS)

    def _read(self, stream: Stream) -> tuple[list[Fact], int, bool]:
        events = self._reader.read(stream, self._positions[stream], CHUNK, _READ_BYTES)
        if not events:
            return [], self._positions[stream], False
        timeline = self._timeline
        facts = [fact for event in events if (fact := fact_of(event.json, timeline)) is not None]
        full = len(events) >= CHUNK or sum(len(event.json) for event in events) > _READ_BYTES // 2
        return facts, events[-1].position, full

    def _too_far(self, stream: Stream) -> bool:
        others = [self._ahead[it] for it in STREAMS if it != stream and it in self._ahead]
        mine = self._ahead.get(stream)
        return mine is not None and bool(others) and mine > min(others) + _APART_MS

    def _take_back(self, machine: Visits, now_ms: int) -> None:
        while (withdrawal := self._desk.next_withdrawal()) is not None:
            key, purposes = withdrawal
            if "visits" in purposes:
                machine.withdraw([key])
                while len(self._blocked) >= _BLOCKED_MOST:
                    del self._blocked[next(iter(self._blocked))]
                self._blocked[key] = now_ms
            elif "matching" in purposes:
                machine.unseal([key])

    def _is_blocked(self, fact: Fact) -> bool:
        """Whether it was said before its person took the consent back."""
        if not self._blocked or not isinstance(fact, Act | Sighting | Sold | Linked) or fact.person is None:
            return False
        keys = (fact.person.key, fact.key) if isinstance(fact, Linked) else (fact.person.key,)
        return any(fact.when.now_ms <= self._blocked.get(key, -1) for key in keys)

    def _announce(self, machine: Visits, now_ms: int, wall_ms: int) -> None:
        for case in machine.fresh:
            if case.state == "open" and now_ms - case.last_ms <= _LIVE_MS:
                self._desk.recognition.here(case.id, case.keys, case.lane, wall_ms)
        machine.fresh.clear()

    def _draft(self, ended: Ended) -> Draft:
        entry = type_of(ended.data)
        left_s = datetime.fromisoformat(ended.data.left_at).timestamp()
        return draft(
            entry.stream, entry.name, ended.data, source=self._origin.source("visits"), at=self._clock.now(),
            happened_s=left_s, dedupe=blake2b(f"visit\x1f{ended.data.visit_id}".encode(), digest_size=8).digest(),
            extensions={"consentref": ended.consent} if ended.consent else None,
        )  # fmt: skip

    def _write(
        self, saved: Sequence[tuple[str, bytes, list[str]]], gone: Sequence[str], drafts: Sequence[Draft],
        stop: threading.Event,
    ) -> None:  # fmt: skip
        begun, place = dict(self._kept), self._place()

        def work(connection: sqlite3.Connection) -> tuple[None, Sequence[Draft]]:
            if _place_of(connection).positions != begun:
                raise _Moved
            for name in [*gone, *(it[0] for it in saved)]:
                connection.execute("DELETE FROM visit_subject WHERE case_id = ?", (name,))  # and, by it, the case
            for name, body, words in saved:
                connection.execute("INSERT OR REPLACE INTO visit_case VALUES (?, ?)", (name, body))
                connection.executemany("INSERT INTO visit_subject VALUES (?, ?)", [(name, word) for word in words])
            self._desk.recognition.write(connection)
            _put_place(connection, place)
            return None, drafts

        if drafts:
            self._wait(self._commits.record(work), stop)
        else:
            self._wait(self._commits.submit(lambda connection: work(connection)[0]), stop)
        self._kept = dict(place.positions)

    def _wait(self, future: Future[T], stop: threading.Event) -> T:
        for _ in range(int(_ANSWER_S / 0.25)):
            try:
                return future.result(0.25)
            except TimeoutError:
                if stop.is_set() and future.cancel():
                    break
        future.cancel()
        raise Unavailable("keep visits", "journal", "the writer does not answer", "is the disk overloaded?")

    # -- the beginning

    def _prepare(self, stop: threading.Event) -> Visits:
        if not self._reader.is_open:
            self._reader.open()
        self._epochs = " ".join(self._reader.epochs(stream)[-1].epoch for stream in STREAMS)
        now_ms = int(self._clock.now().wall_s * 1000)
        again = {stream: self._since(stream, now_ms - _AGAIN_MS) for stream in (*STREAMS, "measurements")}

        def begin(connection: sqlite3.Connection) -> tuple[_Place, list[bytes]]:
            for statement in _TABLES:
                connection.execute(statement)
            self._desk.recognition.load(connection)
            place = _place_of(connection)
            if place.epochs != self._epochs:
                place.positions = {
                    stream: min(place.positions.get(stream, again[stream]), head_of(connection, stream))
                    for stream in STREAMS
                }
            _put_place(connection, msgspec.structs.replace(place, epochs=self._epochs))
            return place, [row[0] for row in connection.execute("SELECT body FROM visit_case")]

        place, bodies = self._wait(self._commits.submit(begin), stop)
        machine = Visits(self._desk.rules, self._desk.recognition.lead, self._desk.ended)
        machine.counters = msgspec.structs.replace(self._desk.machine.counters) if self._desk.machine else Counters()
        for body in bodies:
            try:
                machine.cases.add(_case_of(body))
            except (msgspec.DecodeError, UnicodeDecodeError):
                log.warning("visits=unreadable rows=1")
        if place.epochs != self._epochs:
            self._know_told(machine, again["measurements"])
        self._timeline = Timeline(place.offsets, place.last)
        self._positions, self._kept = dict(place.positions), dict(place.positions)
        self._ahead = {}
        self._warm(machine)
        with self._desk.lock:
            self._desk.machine = self._machine = machine
        self._announce_again(machine)
        return machine

    def _warm(self, machine: Visits) -> None:
        """Tags and tills of just now: nothing else of what was taken matters to them."""
        for stream in STREAMS:
            after, end = max(0, self._positions[stream] - _WARM), self._positions[stream]
            while after < end and (events := self._reader.read(stream, after, CHUNK, _READ_BYTES)):
                for event in events:
                    if event.position <= end and (fact := fact_of(event.json, self._timeline)) is not None:
                        machine.remember(fact)
                after = events[-1].position

    def _know_told(self, machine: Visits, after: int) -> None:
        decode = msgspec.json.Decoder(_ToldEvent).decode
        while events := self._reader.read("measurements", after, CHUNK, _READ_BYTES):
            after = events[-1].position
            for event in events:
                if b'"store.visit.closed.v1"' in event.json:
                    try:
                        told = decode(event.json).data
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        continue
                    if told is not None:
                        machine.was_told(told.visit_id)

    def _announce_again(self, machine: Visits) -> None:
        wall_ms = int(self._clock.now().wall_s * 1000)
        for case in machine.under_way():
            self._desk.recognition.here(case.id, case.keys, case.lane, min(wall_ms, case.last_ms + case.skew_ms))

    def _since(self, stream: Stream, recorded_ms: int) -> int:
        """The position before the first event that was recorded since; by halving, for nothing is indexed by time."""
        low, high = 0, self._reader.head(stream)
        while low < high:
            middle = (low + high) // 2
            rows = self._reader.query(
                f"SELECT recorded_ms FROM {stream} WHERE position > ? ORDER BY position LIMIT 1",  # noqa: S608 - fixed names
                (middle,),
            )
            if rows and int(rows[0]["recorded_ms"]) < recorded_ms:
                low = middle + 1
            else:
                high = middle
        return low

    def _place(self) -> _Place:
        return _Place(dict(self._positions), self._epochs, dict(self._timeline.offsets), self._timeline.last)


def _words(case: Case) -> list[str]:
    """Everything in a case that stands for the person."""
    named = (case.shopper.day_key, case.shopper.sealed)
    return list(dict.fromkeys([*case.keys, *case.consents, *(word for word in named if word)]))


def _place_of(connection: sqlite3.Connection) -> _Place:
    row = connection.execute("SELECT value FROM visit_place WHERE name = 'place'").fetchone()
    try:
        return _Place() if row is None else msgspec.json.decode(row[0], type=_Place)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Place()


def _put_place(connection: sqlite3.Connection, place: _Place) -> None:
    connection.execute("INSERT OR REPLACE INTO visit_place VALUES ('place', ?)", (msgspec.json.encode(place),))
