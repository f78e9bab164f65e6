"""The command `subject.erase`: the platform names a person by keys or by events, never by an identifier.

Writes a tombstone, which survives everything, and waits for the worker that does the work. Asked again it says what was
done. Knows nothing of how a row is erased.

*Source*: docs/sync.md, "Commands".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from gateway.clock import Clock
from gateway.errors import Rejected, Unavailable
from gateway.event import Stream
from gateway.journal import erasure, tombstones
from gateway.journal.reader import JournalReader
from gateway.journal.tombstones import Place

_PATIENCE_S = 20.0  # then the platform is asked for the command again, and other workers are not thought stuck
_LOOK_EVERY_S = 0.1
_ANSWER_S = 30.0

_ASSUMED = "assumed-"  # begins the reference of everybody whose consent is assumed: it names nobody

_Epoch = Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
_Seq = Annotated[int, Meta(ge=1, lt=1 << 53)]


class _Events(msgspec.Struct, forbid_unknown_fields=True, rename={"from_": "from"}):
    stream: Stream
    epoch: _Epoch
    from_: _Seq
    to: _Seq


_Record = Annotated[str, Meta(min_length=1, max_length=200)]
_Sealed = Annotated[str, Meta(min_length=8, max_length=8192)]


class _Erase(msgspec.Struct, forbid_unknown_fields=True):
    positions: list[_Events | Annotated[str, Meta(max_length=400)]] = []
    day_keys: list[Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]] = []
    consentrefs: list[_Record] = []
    sealed: list[_Sealed] = []


class Command(Protocol):
    """What is needed of `sync.commands.Command`."""

    @property
    def id(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Submits(Protocol):
    """The commit loop."""

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        """The future gives what `work` returned or raised."""
        ...


class SubjectErase:
    """Handler of `subject.erase {positions, day_keys, consentrefs, sealed}`; at least one key or event."""

    def __init__(self, journal: Path, writer: Submits, clock: Clock, *, patience_s: float = _PATIENCE_S) -> None:
        """`patience_s`: how long one call waits for the worker."""
        self._journal = journal
        self._writer = writer
        self._clock = clock
        self._patience_s = patience_s

    def __call__(self, command: Command) -> Mapping[str, Any]:
        """Erase, or find that it is done.

        Returns:
            `events`: how many events were redacted; the events `store.subject.erased.v1` say which.

        Raises:
            Rejected: it names nobody, or in a form that nobody understands.
            Unavailable: it is under way, or the journal does not take the tombstone.
        """
        keys, places = _read(command.data)
        now_ms = int(self._clock.now().wall_s * 1000)
        stone = tombstones.make(self._journal, command.id, keys, places, now_ms)
        try:
            self._writer.submit(lambda connection: erasure.register(connection, [stone], again=False)).result(_ANSWER_S)
        except TimeoutError as error:
            raise Unavailable("erase", "journal", f"no answer within {_ANSWER_S:g} s") from error
        deadline_s = time.monotonic() + self._patience_s
        with JournalReader(self._journal) as reader:
            while not reader.look(lambda connection: erasure.is_done(connection, stone.id)):
                if time.monotonic() >= deadline_s:
                    raise Unavailable("erase", "journal", "it is under way")
                time.sleep(_LOOK_EVERY_S)
            found = reader.look(lambda connection: erasure.ranges_of(connection, [stone.id]))
        return {"events": sum(one.last - one.first + 1 for one in found), "ranges": len(found)}


def _read(data: Mapping[str, Any]) -> tuple[list[str], list[Place]]:
    try:
        asked = msgspec.convert(dict(data), _Erase)
    except msgspec.ValidationError as error:
        raise Rejected(
            "erase", "command", f"not understood: {error}"
        ) from error  # it says where, never what stood there
    places = [
        _place_of(one) if isinstance(one, str) else Place(one.stream, one.epoch, one.from_, one.to)
        for one in asked.positions
    ]
    if any(place.first > place.last for place in places):
        raise Rejected("erase", "command", "a range ends before it begins")
    records = [record for record in asked.consentrefs if not record.startswith(_ASSUMED)]
    keys = [*asked.day_keys, *records, *asked.sealed]
    if not keys and not places:
        raise Rejected("erase", "command", "it names nobody: day_keys, consentrefs, sealed or positions are needed")
    return keys, places


def _place_of(event_id: str) -> Place:
    """An event's id is `gateway.stream.epoch.seq`."""
    parts = event_id.rsplit(".", 3)
    try:
        _, stream, epoch, seq = parts
        return msgspec.convert([stream, epoch, int(seq), int(seq)], Place)
    except (ValueError, msgspec.ValidationError) as error:
        raise Rejected("erase", "command", "an entry of positions is no event's id") from error
