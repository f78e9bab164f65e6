"""The audit trail: who did what, as events of the journal, each carrying the hash of the one before.

An act is recorded first and done then; what cannot be recorded is refused. The events are synced like any other, so a
trail that was rewritten here does not agree with what the platform holds. What is next in the chain lies in a small
file of its own, written before the commit and after it: after a crash in between, the journal says whether the last
record is there. Knows no page.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from gateway.clock import Clock, rfc3339_s
from gateway.durable_file import replace_file
from gateway.errors import Unavailable
from gateway.event import Origin, draft
from gateway.event_types import AuditRecorded, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.journal.reader import JournalReader, StoredEvent

_LANE = ".audit"
_COMMIT_S = 4.0
_PAGE = 500
_SUBJECT = 120
_BROKEN_OFF = ("restored", "salvaged")  # epochs before which events may be missing
_STREAM = type_of(AuditRecorded).stream
_TYPE = type_of(AuditRecorded).name
_MARKER = f'"type":"{_TYPE}"'.encode()
GENESIS = "0" * 64

Outcome = Literal["done", "refused", "failed"]


class Committing(Protocol):
    """The commit loop, as far as the trail asks."""

    @property
    def is_open(self) -> bool:
        """Whether the journal is there."""
        ...


class _Head(msgspec.Struct, frozen=True):
    """The last record that is surely in the journal, and one that may be: above `position`, if at all."""

    chain: str
    number: int
    hash: str
    pending: str = ""
    position: int = 0
    epoch: str = ""  # of the transactions, when the trail last looked


class Audit:
    """Any thread may use it; one record at a time."""

    def __init__(
        self, directory: Path, journal: Path, origin: Origin, inlet: Inlet, commits: Committing, clock: Clock,
        *, commit_s: float = _COMMIT_S,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            directory: the data directory.
            journal: the database file.
            origin: this gateway.
            inlet: where events go in.
            commits: says whether the journal is open.
            clock: stamps the records.
            commit_s: how long a record may take.
        """
        self._commit_s = commit_s
        self._file = directory / "keys" / "audit.json"
        self._journal = journal
        self._origin, self._inlet, self._commits, self._clock = origin, inlet, commits, clock
        self._lock = threading.Lock()
        self._head: _Head | None = None
        self._in_flight: threading.Event | None = None  # given to the inlet, not seen in the journal yet

    def record(
        self,
        act: str,
        *,
        account: str = "",
        role: str = "",
        outcome: Outcome = "done",
        subject: str = "",
        at_s: float | None = None,
    ) -> None:
        """Put an act into the trail; durable when this returns, within four seconds.

        Args:
            act: what, as `area.verb`: account.add, quarantine.replay, device.enrol …
            account: the name of whoever did it; "" for the gateway itself or somebody unknown.
            role: of the account.
            outcome: whether it is done, or was refused.
            subject: what it was done to; nothing about a shopper, and no secret.
            at_s: when, seconds since 1970; now if None.

        Raises:
            Unavailable: it could not be recorded. Do not do it.
        """
        if not self._lock.acquire(timeout=self._commit_s):
            raise self._failed("another act is being recorded")
        try:
            self._record(act, account, role, outcome, subject[:_SUBJECT], at_s)
        finally:
            self._lock.release()

    def look_at_journal(self) -> None:
        """Record that the journal was restored from a copy or salvaged, once for each time; durable when it returns.

        Acts between the copy and the restore are missing in it then: this is the record that says why.

        Raises:
            Unavailable: it could not be recorded; call again.
        """
        with JournalReader(self._journal) as reader:
            epoch = reader.epochs(_STREAM)[-1]
        if self._settled().epoch == epoch.epoch:
            return
        if epoch.reason in _BROKEN_OFF:
            self.record(f"journal.{epoch.reason}", role="box", subject=epoch.epoch)
        with self._lock:
            self._refuse_while_in_flight()
            self._save(msgspec.structs.replace(self._settled(), epoch=epoch.epoch))

    def _record(self, act: str, account: str, role: str, outcome: Outcome, subject: str, at_s: float | None) -> None:
        if not self._commits.is_open:
            raise self._failed("the journal is not open")
        self._refuse_while_in_flight()
        head = self._settled()
        now = self._clock.now()
        record = AuditRecorded(
            chain=head.chain, number=head.number + 1, previous=head.hash,
            at=rfc3339_s(now.wall_s if at_s is None else at_s), act=act, account=account, role=role, outcome=outcome,
            subject=subject, hash="",
        )  # fmt: skip
        record = msgspec.structs.replace(record, hash=hash_of(record))
        with JournalReader(self._journal) as reader:
            position = reader.head(_STREAM)
        self._save(msgspec.structs.replace(head, pending=record.hash, position=position))
        durable = threading.Event()
        event = draft(_STREAM, _TYPE, record, source=self._origin.source("gateway"), at=now)
        until_s = time.monotonic() + self._commit_s
        if not self._inlet.offer(_LANE, Item([event], durable.set), self._commit_s):
            raise self._failed("the journal takes nothing now")
        self._in_flight = durable
        if not durable.wait(max(0.0, until_s - time.monotonic())):
            raise self._failed("the journal did not take it in time")
        self._save(_Head(record.chain, record.number, record.hash, epoch=head.epoch))

    def _refuse_while_in_flight(self) -> None:
        if self._in_flight is not None and not self._in_flight.is_set():
            raise self._failed("the act before still waits for the journal")

    def _settled(self) -> _Head:
        """The head of the chain, with a record of unknown fate looked up."""
        head = self._head or self._load()
        if head.pending:
            with JournalReader(self._journal) as reader:
                for record in records(reader, head.position):
                    if record.hash == head.pending:
                        return _Head(record.chain, record.number, record.hash, epoch=head.epoch)
        return msgspec.structs.replace(head, pending="")

    def _load(self) -> _Head:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_Head)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from error
        except msgspec.MsgspecError:
            pass  # damaged: a new chain begins, and `storefront audit verify` says so
        return _Head(secrets.token_hex(8), 0, GENESIS)

    def _save(self, head: _Head) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self._file, msgspec.json.encode(head))
        except OSError as error:
            self._head = None
            raise self._failed(error.strerror or str(error)) from error
        self._head = head

    def _failed(self, reason: str) -> Unavailable:
        return Unavailable(
            "record act", "audit trail", f"this cannot be recorded and is not done: {reason}",
            "see `storefront doctor`; then try again",
        )  # fmt: skip


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with the trail at a record; `missing` counts the records between its neighbours."""

    number: int
    what: Literal["changed", "broken", "missing", "new_chain"]
    missing: int = 0


def hash_of(record: AuditRecorded) -> str:
    """SHA-256 over everything but the hash itself, as a JSON array in the order of the fields, in hex."""
    fields = [getattr(record, name) for name in AuditRecorded.__struct_fields__ if name != "hash"]
    return sha256(msgspec.json.encode(fields)).hexdigest()


def records(reader: JournalReader, after: int = 0) -> Iterator[AuditRecorded]:
    """The records above a position, oldest first.

    Raises:
        JournalError: the journal cannot be read.
    """
    while page := reader.read(_STREAM, after, _PAGE):
        after = page[-1].position
        yield from _of(page)


def _of(events: Iterable[StoredEvent]) -> Iterator[AuditRecorded]:
    """The records among these."""
    return (msgspec.json.decode(event.json, type=_Envelope).data for event in events if _MARKER in event.json)


class Newest:
    """The newest records, kept from one look to the next: they are few among a great many sales.

    A look reads one piece of the journal, so that whoever asks on a shared thread holds up nobody for long.
    """

    def __init__(self, limit: int, looked_through: int = 20_000) -> None:
        """`limit`: records wanted; `looked_through`: how many of the events that were there at first are looked at."""
        self.records: list[AuditRecorded] = []  # newest first
        self._limit, self._depth = limit, looked_through
        self._above: int | None = None  # position up to which everything since the first look has been read
        self._below = self._bottom = 0  # events up to this one are still to be read, down to that one

    def look(self, reader: JournalReader) -> bool:
        """Read a piece, first of what is new, then of what is old; False while there is more to read.

        Raises:
            JournalError: the journal cannot be read.
        """
        head = reader.head(_STREAM)
        if self._above is None or head < self._above:  # the first look, or another journal
            self.records, self._above = [], head
            self._below, self._bottom = head, max(0, head - self._depth)
        if self._above < head:
            page = reader.read(_STREAM, self._above, _PAGE)
            self._above = page[-1].position if page else head
            self.records = [*reversed(list(_of(page))), *self.records][: self._limit]
            return False
        if len(self.records) >= self._limit or self._below <= self._bottom:
            return True
        begin = max(self._bottom, self._below - _PAGE)
        page, at = [], begin
        while at < self._below and (some := reader.read(_STREAM, at, self._below - at)):  # by its size, maybe in parts
            page += [it for it in some if it.position <= self._below]
            at = some[-1].position
        self.records = [*self.records, *reversed(list(_of(page)))][: self._limit]
        self._below = begin if page else self._bottom  # older ones are not kept any more
        return False


def newest(reader: JournalReader, limit: int, looked_through: int = 20_000) -> list[AuditRecorded]:
    """Up to `limit` of the newest records, newest first, out of the newest `looked_through` events."""
    trail = Newest(limit, looked_through)
    while not trail.look(reader):
        pass
    return trail.records


def verify(trail: Iterator[AuditRecorded]) -> tuple[int, list[Finding]]:
    """How many records there are, and what is wrong with them. The oldest kept one may have others before it."""
    count, findings = 0, []
    before: AuditRecorded | None = None
    for record in trail:
        count += 1
        if record.hash != hash_of(record):
            findings.append(Finding(record.number, "changed"))
        if before is not None:
            if record.chain != before.chain:
                findings.append(Finding(record.number, "new_chain"))
            elif record.number > before.number + 1:
                findings.append(Finding(record.number, "missing", record.number - before.number - 1))
            elif record.previous != before.hash or record.number != before.number + 1:
                findings.append(Finding(record.number, "broken"))
        elif record.number == 1 and record.previous != GENESIS:
            findings.append(Finding(record.number, "broken"))
        before = record
    return count, findings


class _Envelope(msgspec.Struct):
    data: AuditRecorded
