"""The worker that erases persons: carries out, in small steps, what the tombstones ask for.

It looks on a reader's connection, newest events first, and hands the writing thread a few rows at a time, so intake is
held up no longer than by one commit. A pass that was cut short begins anew and finds less to do. In the end the
write-ahead log is emptied and the erasure told as an event, which names nobody. Knows the order of things; what stays
of an event is `gateway.redaction`'s, how a row is changed is `journal.erasure`'s.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from gateway.clock import Clock
from gateway.errors import JournalFull, Rejected, Unavailable
from gateway.event import STREAMS, Draft, Origin, Stream, draft
from gateway.event_types import ErasedRange, SubjectErased, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.journal import erasure
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.erasure import Matches, Range, SubjectTable, Wanted
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.reader import JournalReader
from gateway.journal.schema import head_of
from gateway.redaction import redacted

log = logging.getLogger(__name__)
T = TypeVar("T")

_IDLE_S = 1.0
_REST_MOST_S = 0.2
_ANSWER_S = 30.0
_DURABLE_S = 5.0
_WAIT_S = 0.25
_FULL_RETRY_S = 1.0
_LOG_RETRY_S = 0.5
_RANGES_AT_ONCE = 500  # told in one event
_LANE = ".erasing"  # no device can have such a name

Forget = Callable[[Matches], None]
"""Told what is being erased, before and after it is removed from the tables: drop it from memory."""


class Gateway(Protocol):
    """What an erasure works on (`gateway.app.Gateway`)."""

    origin: Origin
    clock: Clock
    inlet: Inlet
    commits: CommitLoop
    journal_path: Path
    seal: PayloadSeal


class _Stopped(Exception):
    """The gateway stops; the pass begins anew at the next start."""


class _Done(msgspec.Struct):
    rows: int = 0
    quarantined: int = 0
    files: int = 0


class Erasing:
    """Worker: one bounded piece of an erasure a step."""

    def __init__(self, gateway: Gateway, tables: Sequence[SubjectTable], forgets: Sequence[Forget] = ()) -> None:
        """Store.

        Args:
            gateway: see `Gateway`.
            tables: of other rooms, see `SubjectTable`.
            forgets: for rooms that hold keys in memory.
        """
        self._gateway = gateway
        self._tables = tuple(tables)
        self._forgets = forgets
        self._reader = JournalReader(gateway.journal_path)
        self._work: Iterator[None] | None = None
        self._stop = threading.Event()

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Do one piece, then rest as long as it took; or look whether there is something to do.

        Raises:
            Unavailable: the journal does not answer.
            JournalError: it cannot be trusted.
        """
        if not self._gateway.commits.is_open:
            stop.wait(_WAIT_S)
            return
        if not self._reader.is_open:
            self._reader.open()
        began_s = self._gateway.clock.now().mono_s
        try:
            if self._work is None:
                stones = self._reader.look(erasure.next_undone)
                if not stones:
                    stop.wait(_IDLE_S)
                    return
                self._work = self._erase(erasure.together(stones), again=self._reader.look(erasure.held))
            self._stop = stop
            next(self._work)
        except StopIteration:
            self._work = None
        except JournalFull:
            self._work = None
            stop.wait(_FULL_RETRY_S)
        except _Stopped:
            self._work = None
        else:
            stop.wait(min(_REST_MOST_S, self._gateway.clock.now().mono_s - began_s))

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _erase(self, wanted: Wanted, *, again: bool) -> Iterator[None]:
        """The whole of it; every turn of the iterator is one bounded piece."""
        name = wanted.ids[0]
        done = _Done()
        yield from self._in_tables(wanted, done)
        yield from self._in_quarantine(wanted, done)
        above = dict.fromkeys(STREAMS, 0)
        for _ in range(2):  # then what came in meanwhile, while its consent was still believed in
            for stream in STREAMS:
                head = self._reader.look(lambda connection, stream=stream: head_of(connection, stream))  # type: ignore[misc]
                yield from self._in_stream(stream, above[stream], head, wanted)
                above[stream] = head
        done.files = self._remove_set_aside()
        while not self._ask(self._gateway.commits.empty_log()):
            self._stop.wait(_LOG_RETRY_S)  # each try costs intake a commit window: not again at once
            yield
        found = self._reader.look(lambda connection: erasure.ranges_of(connection, [name]))
        if found or done.rows or done.quarantined or not again:
            yield from self._tell(wanted, found, done, again=again)

        def finish(connection: object) -> None:
            erasure.finish(connection, wanted.ids)  # type: ignore[arg-type]
            erasure.forget_gone(connection)  # type: ignore[arg-type]

        self._ask(self._gateway.commits.submit(finish))
        events = sum(one.last - one.first + 1 for one in found)
        log.info("erasure=done erasures=%d events=%d rows=%d again=%d", len(wanted.ids), events, done.rows, again)

    def _in_stream(self, stream: Stream, above: int, head: int, wanted: Wanted) -> Iterator[None]:
        name = wanted.ids[0]
        for low, through in self._reader.look(lambda c: erasure.spans(c, stream, above, head, wanted)):
            while through > low:
                top, bottom = through, low
                through, found = self._reader.look(lambda c: erasure.look(c, stream, bottom, top, wanted))  # noqa: B023 - called at once
                if found:
                    rows = found
                    self._ask(
                        self._gateway.commits.submit(lambda c: erasure.redact(c, stream, rows, name))  # noqa: B023 - waited for
                    )
                yield

    def _in_tables(self, wanted: Wanted, done: _Done) -> Iterator[None]:
        self._forget(wanted)
        for table in self._tables:
            after: erasure.RowKey | None = None
            while True:
                start = after
                after, rows = self._reader.look(lambda c: erasure.rows_of(c, table, start, wanted.matches))  # noqa: B023 - called at once
                if after is None:
                    break
                if rows:
                    named = rows
                    done.rows += self._ask(
                        self._gateway.commits.submit(lambda c: erasure.erase_rows(c, table, named))  # noqa: B023 - waited for
                    )
                yield
        self._forget(wanted)  # what was looked up meanwhile

    def _forget(self, wanted: Wanted) -> None:
        for forget in self._forgets:
            forget(wanted.matches)

    def _in_quarantine(self, wanted: Wanted, done: _Done) -> Iterator[None]:
        """Events that the platform refused lie sealed in quarantine; what no driver understood has no keys yet."""
        after = 0
        while entries := self._reader.look(lambda connection: erasure.refused_by_platform(connection, after)):  # noqa: B023 - called at once
            after = entries[-1][0]
            changed: list[tuple[int, bytes]] = []
            for entry, topic, sealed in entries:
                try:
                    payload = self._gateway.seal.open(bytes(sealed))
                except Rejected:
                    continue  # its key is gone, and with it what it says
                if (erasure.named_by(wanted.places, topic) or wanted.names(payload)) and (rest := redacted(payload)):
                    changed.append((entry, self._gateway.seal.seal(rest)))
            if changed:
                rows = changed
                done.quarantined += self._ask(
                    self._gateway.commits.submit(lambda connection: erasure.replace_quarantined(connection, rows))  # noqa: B023 - waited for
                )
            yield

    def _remove_set_aside(self) -> int:
        """Remove damaged databases that salvages have set aside: they hold everything that was erased since."""
        path = self._gateway.journal_path
        removed = 0
        for file in path.parent.glob(f"{path.name}.damaged-*"):
            try:
                file.unlink()
            except OSError as error:
                raise Unavailable(
                    "erase", str(file), error.strerror or str(error), "it holds what was erased: remove it by hand"
                ) from error
            removed += not file.name.endswith("-wal")
        return removed

    def _tell(self, wanted: Wanted, found: Sequence[Range], done: _Done, *, again: bool) -> Iterator[None]:
        """The erasure as events: how much, and which numbers, durable before it counts as done."""
        chunks = [found[at : at + _RANGES_AT_ONCE] for at in range(0, max(1, len(found)), _RANGES_AT_ONCE)]
        epoch = self._reader.epochs("transactions")[-1].epoch
        for number, chunk in enumerate(chunks, 1):
            data = SubjectErased(
                erasures=len(wanted.ids), command=wanted.ids[0] if len(wanted.ids) == 1 else None,
                events=sum(one.last - one.first + 1 for one in chunk),
                ranges=tuple(
                    ErasedRange(stream=one.stream, epoch=one.epoch, first=one.first, last=one.last) for one in chunk
                ),
                rows=done.rows, quarantined=done.quarantined, files=done.files, part=number, parts=len(chunks),
                again=again,
            )  # fmt: skip
            entry = type_of(data)
            fact = f"erased\x1f{wanted.ids[0]}\x1f{number}\x1f{epoch if again else ''}"
            said = draft(
                entry.stream, entry.name, data, source=self._gateway.origin.source("gateway"),
                at=self._gateway.clock.now(), dedupe=hashlib.sha256(fact.encode()).digest()[:8],
            )  # fmt: skip
            while not self._commit(said):
                yield

    def _commit(self, said: Draft) -> bool:
        durable = threading.Event()
        return self._gateway.inlet.offer(_LANE, Item([said], durable.set), _WAIT_S) and durable.wait(_DURABLE_S)

    def _ask(self, future: Future[T]) -> T:
        waited_s = 0.0
        while True:
            try:
                return future.result(_WAIT_S)
            except TimeoutError:
                waited_s += _WAIT_S
                if self._stop.is_set():
                    future.cancel()
                    raise _Stopped from None
                if waited_s >= _ANSWER_S:
                    future.cancel()
                    raise Unavailable("erase", "journal", "the writer does not answer") from None
