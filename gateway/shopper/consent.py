"""Consent: what a person agreed to, looked up for every reading that names one.

A row a person and purpose: the newest grant and the newest withdrawal, by the time of the act and not of its arrival,
so that messages may come in any order. A withdrawal that is not older than the grant wins; what has ended or was never
given allows nothing. A person is an HMAC under a key of this store that is in no backup and never leaves the machine.
Rows lie in the journal's database and are written by its thread; a bounded cache of them serves the hot path. Knows no
event, no device and no raw identifier beyond the call it came with.

*Source*: PIPL Art. 14–16; GDPR Art. 7; ISO/IEC TS 27560 (the fields of a record).
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, TimeoutError
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from config.settings import Purpose
from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.journal.reader import JournalReader
from gateway.shopper import consent_rows
from gateway.shopper.consent_rows import PURPOSES, Consent, Terms
from gateway.shopper.identifiers import Identifier
from gateway.shopper.key_file import load_or_make

__all__ = ["PURPOSES", "Consent", "ConsentCounters", "Consents", "Purpose", "Standing", "Terms"]

T = TypeVar("T")

_CACHED = 20_000  # persons
_WAIT_S = 5.0
_AGAIN_S = 5.0  # between two tries to keep withdrawals that found no room
_UNKEPT_MOST = 10_000  # persons
_AHEAD_MS = 300_000  # a grant so far ahead of a clock that is set was taken while the clock was wrong
_SET_MS = 1_704_067_200_000  # 2024-01-01: a clock before that was never set
_SAME_VISIT_MS = 3_600_000  # whoever signs up at the till agrees to the visit that led there
_TRIM_SHARE = 100  # a hundredth at once, because finding the oldest reads the table
_CHUNK = 500


class Writing(Protocol):
    """The journal's writing thread (`gateway.journal.commit_loop.CommitLoop`)."""

    def submit(self, work: Callable[[sqlite3.Connection], T]) -> Future[T]:
        """Run `work` in one transaction."""
        ...


class Standing(msgspec.Struct, frozen=True):
    """What a person allows now: purpose → record id. `withdrawn`: what was taken back; `known`: anything recorded."""

    granted: dict[str, str]
    withdrawn: frozenset[str]
    expired: frozenset[str]
    known: frozenset[str]


class ConsentCounters(msgspec.Struct):
    """Since the start."""

    granted: int = 0
    withdrawn: int = 0
    expired: int = 0  # look-ups that found a consent which had ended
    swept: int = 0  # rows removed because they had ended long ago
    trimmed: int = 0  # rows removed because there were too many
    unknown: int = 0  # look-ups while the table could not be made: answered with nothing
    unkept: int = 0  # persons whose withdrawal counts, but lies in memory only until the journal takes it


class Consents:
    """The consents of one store; any thread may ask, but not the journal's own."""

    def __init__(
        self, journal: Path, writing: Writing, key_path: Path, *, most_rows: int = 200_000, kept_days: float = 365.0,
        keep_withdrawn: bool = False, wait_s: float = _WAIT_S,
    ) -> None:  # fmt: skip
        """Store; the table is made and read at the first question.

        Args:
            journal: the database.
            writing: its writing thread.
            key_path: the key that persons are looked up by; made when absent.
            most_rows: more than this and the oldest go, ended ones first.
            kept_days: how long an ended row stays: as long as a late message could contradict it.
            keep_withdrawn: withdrawals go last and never by age: where the shop assumes a consent until something else
                is recorded, a forgotten withdrawal would name the person again.
            wait_s: the longest that a question or an act waits for the journal.
        """
        self.counters = ConsentCounters()
        self._reader = JournalReader(journal)
        self._writing = writing
        self._key_path = key_path
        self._most_rows = most_rows
        self._keep_withdrawn = keep_withdrawn
        self._kept_ms = int(kept_days * 86_400_000)
        self._wait_s = wait_s
        self._key: bytes | None = None
        self._cache: OrderedDict[bytes, dict[Purpose, Consent]] = OrderedDict()
        self._rows = 0
        self._unkept: dict[bytes, dict[Purpose, int]] = {}  # withdrawals, ms, that the journal has not taken yet
        self._trying: tuple[dict[bytes, dict[Purpose, int]], Future[None]] | None = None
        self._tried_s = 0.0
        self._lock = threading.Lock()
        self._ready = False

    def standing(self, identifier: Identifier, now_s: float, happened_s: float) -> Standing:
        """What the person allows now, of something that happened at `happened_s`.

        A withdrawal counts from the moment it is known, also for what happened before it. A grant counts for what
        happened after it, and in the hour before.

        Raises:
            Unavailable: the journal does not answer.
        """
        now_ms, happened_ms = int(now_s * 1000), int(happened_s * 1000)
        with self._lock:
            rows = self._of(self.person(identifier))
        granted: dict[str, str] = {}
        withdrawn, expired = set(), set()
        for purpose, row in rows.items():
            if consent_rows.is_withdrawn(row):
                withdrawn.add(purpose)
            elif row.expires_ms <= now_ms:
                expired.add(purpose)
            elif row.granted_ms <= happened_ms + _SAME_VISIT_MS:
                granted[purpose] = row.terms.record
        if expired and not granted:
            self.counters.expired += 1
        return Standing(granted, frozenset(withdrawn), frozenset(expired), frozenset(rows))

    def rows(self, identifier: Identifier) -> list[Consent]:
        """Everything recorded of a person, by purpose; [] for nobody known.

        Raises:
            Unavailable: the journal does not answer.
        """
        with self._lock:
            rows = self._of(self.person(identifier))
        return [rows[purpose] for purpose in PURPOSES if purpose in rows]

    def grant(
        self, identifier: Identifier, purposes: Sequence[Purpose], acted_ms: int, expires_ms: int, terms: Terms,
        now_ms: int,
    ) -> None:  # fmt: skip
        """Take a consent; durable when this returns. An older one than is recorded changes nothing.

        Raises:
            Unavailable: it cannot be kept now; nothing was granted.
        """

        def merged(row: Consent) -> Consent:
            if acted_ms <= row.granted_ms:
                return row
            return msgspec.structs.replace(
                row, granted_ms=acted_ms, expires_ms=expires_ms, terms=terms, touched_ms=now_ms
            )

        self._change(identifier, purposes, merged)
        self.counters.granted += 1

    def withdraw(
        self, identifier: Identifier, purposes: Sequence[Purpose], acted_ms: int | None, now_ms: int
    ) -> str | None:
        """Take a withdrawal; it counts at once and is durable when this returns.

        Args:
            identifier: whose.
            purposes: of what.
            acted_ms: when, by the clock of whoever took it; None: now, whatever our clock says, so that it outdoes
                every grant recorded.
            now_ms: our time.

        Returns:
            The record id of the newest grant that it ends; None where nothing was granted here.

        Raises:
            Unavailable: it cannot be kept now; it counts all the same, and is kept as soon as the journal takes it.
                Only an end of the process before that forgets it.
        """
        ended: list[Consent] = []
        taken: dict[Purpose, int] = dict.fromkeys(purposes, now_ms if acted_ms is None else acted_ms)

        def merged(row: Consent) -> Consent:
            wrong_clock = _SET_MS <= now_ms < row.granted_ms - _AHEAD_MS
            at_ms = max(now_ms, row.granted_ms) if acted_ms is None or wrong_clock else acted_ms
            taken[row.purpose] = at_ms
            if row.granted_ms and at_ms >= row.granted_ms:
                ended.append(row)
            return consent_rows.withdrawn(row, at_ms, now_ms)

        try:
            self._change(identifier, purposes, merged)
        except Unavailable:
            self._hold_back(identifier, taken)
            raise
        self.counters.withdrawn += 1
        return max(ended, key=lambda row: row.granted_ms).terms.record if ended else None

    def ended(self, record: str, now_s: float) -> frozenset[str]:
        """The purposes that whoever gave the consent `record` allows no more.

        Where several persons share a record it does not say who, so only what all of them have ended counts. A record
        that is not known says nothing: the person may have given a newer one.

        Raises:
            Unavailable: the journal does not answer.
        """
        now_ms = int(now_s * 1000)
        with self._lock:
            try:
                self._open()
                rows = self._reader.query("SELECT DISTINCT person FROM consent WHERE record = ? LIMIT 50", (record,))
            except JournalFull:
                return frozenset()  # nor can anything be granted
            except JournalError as error:
                raise Unavailable("look up consent", "journal", error.reason, error.hint) from error
            persons = [self._of(bytes(row["person"])) for row in rows]
        ended: list[set[str]] = [
            {it.purpose for it in each.values() if consent_rows.is_withdrawn(it) or it.expires_ms <= now_ms}
            for each in persons
        ]
        return frozenset(set.intersection(*ended)) if ended else frozenset()

    def is_anothers(self, record: str, identifier: Identifier) -> bool:
        """Whether somebody else's consent has this record already: then it does not name one.

        Raises:
            Unavailable: the journal does not answer.
        """
        person = self.person(identifier)
        with self._lock:
            self._of(person)
            if not self._ready:
                return False  # nor can anything be granted
            try:
                return bool(
                    self._reader.query(
                        "SELECT 1 FROM consent WHERE record = ? AND person <> ? LIMIT 1", (record, person)
                    )
                )
            except JournalError as error:
                raise Unavailable("look up consent", "journal", error.reason, error.hint) from error

    def forget(self, identifier: Identifier) -> int:
        """Remove everything recorded of a person (erasure); returns how many rows.

        Without a consent nobody is named, so what is gone allows nothing.

        Raises:
            Unavailable: the journal does not answer.
        """
        person = self.person(identifier)

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM consent WHERE person = ?", (person,)).rowcount

        with self._lock:
            self._open()
            self._put(person, {})
            self._unkept.pop(person, None)
            future = self._writing.submit(work)
        removed = self._answer(future)
        self._rows -= removed
        return removed

    def erased(self, matches: Callable[[str], bool]) -> None:
        """Rows are being, or have been, removed by an erasure: whatever is remembered of the table counts no more."""
        with self._lock:
            self._cache.clear()
            self._ready = False

    def sweep(self, now_s: float) -> int:
        """Remove rows that ended long ago, some hundreds at a time; returns how many. Daily.

        Raises:
            Unavailable: the journal does not answer.
        """
        limit_ms = int(now_s * 1000) - self._kept_ms

        def work(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                "SELECT person, purpose FROM consent WHERE touched_ms < ?1 AND "
                "((withdrawn_ms >= granted_ms AND withdrawn_ms < ?1) OR expires_ms < ?1) "
                "AND NOT (?3 AND withdrawn_ms > 0) LIMIT ?2",
                (limit_ms, _CHUNK, self._keep_withdrawn),
            ).fetchall()
            connection.executemany("DELETE FROM consent WHERE person = ? AND purpose = ?", rows)
            return len(rows)

        removed = 0
        with self._lock:
            self._open()
        while chunk := self._answer(self._writing.submit(work)):
            removed += chunk
        if removed:
            with self._lock:
                self._cache.clear()
                self._rows -= removed
            self.counters.swept += removed
        return removed

    def count(self) -> int:
        """Rows kept.

        Raises:
            Unavailable: the journal does not answer.
        """
        with self._lock:
            self._open()
            return self._rows

    def person(self, identifier: Identifier) -> bytes:
        """The key a person is looked up by, 16 bytes; it means nothing outside this machine."""
        return self.mac(identifier.plaintext)

    def mac(self, text: bytes) -> bytes:
        """HMAC under the store's key, 16 bytes."""
        if self._key is None:
            self._key = load_or_make(self._key_path)
        return hmac.new(self._key, text, hashlib.sha256).digest()[:16]

    def close(self) -> None:
        """Release the reader; safe to call twice."""
        with self._lock:
            self._reader.close()
            self._ready = False

    # -- inside, with the lock held

    def _of(self, person: bytes) -> dict[Purpose, Consent]:
        self._keep_unkept()
        rows = self._stored(person)
        if held_back := self._unkept.get(person):
            rows = {**rows}
            for purpose, at_ms in held_back.items():
                rows[purpose] = consent_rows.withdrawn(rows.get(purpose, Consent(purpose=purpose)), at_ms, at_ms)
        return rows

    def _hold_back(self, identifier: Identifier, taken: Mapping[Purpose, int]) -> None:
        """Count a withdrawal that could not be written."""
        person = self.person(identifier)
        with self._lock:
            self._cache.pop(person, None)
            before = self._unkept.pop(person, {})
            self._unkept[person] = {
                **before, **{purpose: max(at_ms, before.get(purpose, 1)) for purpose, at_ms in taken.items()}
            }  # fmt: skip
            while len(self._unkept) > _UNKEPT_MOST:
                del self._unkept[next(iter(self._unkept))]
            self.counters.unkept = len(self._unkept)

    def _keep_unkept(self) -> None:
        """Hand what is held back to the journal again from time to time; never waits."""
        if self._trying is not None and self._trying[1].done():
            (tried, future), self._trying = self._trying, None
            if not future.cancelled() and future.exception() is None:
                for person, taken in tried.items():
                    if self._unkept.get(person) == taken:
                        del self._unkept[person]
                self.counters.unkept = len(self._unkept)
                self._cache.clear()
                self._ready = False  # rows are counted anew
        if self._unkept and self._trying is None and time.monotonic() - self._tried_s >= _AGAIN_S:
            self._tried_s = time.monotonic()
            some = dict(itertools.islice(self._unkept.items(), _CHUNK))
            self._trying = some, self._writing.submit(lambda connection: consent_rows.keep(connection, some))

    def _stored(self, person: bytes) -> dict[Purpose, Consent]:
        rows = self._cache.get(person)
        if rows is not None:
            self._cache.move_to_end(person)
            return rows
        try:
            self._open()
            rows = consent_rows.read(person, self._reader.query(consent_rows.SELECT, (person,)))
        except JournalFull:
            self.counters.unknown += 1
            return {}
        except JournalError as error:
            raise Unavailable("look up consent", "journal", error.reason, error.hint) from error
        self._put(person, rows)
        return rows

    def _put(self, person: bytes, rows: dict[Purpose, Consent]) -> None:
        self._cache[person] = rows
        self._cache.move_to_end(person)
        while len(self._cache) > _CACHED:
            self._cache.popitem(last=False)

    def _change(
        self, identifier: Identifier, purposes: Sequence[Purpose], merged: Callable[[Consent], Consent]
    ) -> None:
        person = self.person(identifier)
        with self._lock:
            before = self._of(person)
            if not self._ready:
                raise Unavailable("keep consent", "journal", "there is no room for it", "see `storefront doctor`")
            changed = {purpose: merged(before.get(purpose, Consent(purpose=purpose))) for purpose in purposes}
            added = len(changed.keys() - before.keys())
            self._put(person, {**before, **changed})
            self._rows += added
            excess = self._rows - self._most_rows
            trim = excess + self._most_rows // _TRIM_SHARE if excess > 0 else 0
            rows, last = list(changed.values()), self._keep_withdrawn
            future = self._writing.submit(lambda connection: consent_rows.write(connection, person, rows, trim, last))
        try:
            trimmed = self._answer(future)
        except Unavailable:
            with self._lock:
                self._rows -= added
                self._cache.pop(person, None)
            raise
        if trimmed:
            with self._lock:
                self._rows -= trimmed
                self._cache.clear()
            self.counters.trimmed += trimmed

    def _open(self) -> None:
        if self._ready:
            return

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(consent_rows.TABLE)
            connection.execute(consent_rows.INDEX)
            return int(connection.execute("SELECT count(*) FROM consent").fetchone()[0])

        self._rows = self._answer(self._writing.submit(work), full=True)
        if not self._reader.is_open:
            self._reader.open()
        self._ready = True

    def _answer(self, future: Future[T], *, full: bool = False) -> T:
        """What the writing thread says.

        Raises:
            Unavailable: it does not, or cannot.
            JournalFull: there is no room, where `full` asks to be told.
        """
        try:
            return future.result(self._wait_s)
        except TimeoutError as error:
            future.cancel()
            raise Unavailable("keep consent", "journal", "the writer does not answer", "see the log") from error
        except JournalFull as error:
            if full:
                raise
            raise Unavailable("keep consent", "journal", error.reason, error.hint) from error
        except JournalError as error:
            raise Unavailable("keep consent", "journal", error.reason, error.hint) from error
