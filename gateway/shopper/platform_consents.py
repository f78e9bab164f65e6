"""Consents that come from no device: from the page, and from the platform (`consent.update`, and `keys.rotate`).

A command lies in the platform's outbox, in logs on the way and in backups there, so the identifier in it is sealed to
this gateway's own key, whose public half goes out with the heartbeat; one in clear is refused. Both may be repeated:
the same consent twice is one, and so is the same key. Knows no wire and no journal beyond the book of consents.

*Source*: docs/sync.md, "Commands".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal, Protocol, TypeVar

import msgspec

from gateway.clock import Clock, Instant
from gateway.errors import Rejected, Unavailable
from gateway.event import Draft, Origin, draft
from gateway.event_types import ConsentGranted, ConsentWithdrawn, type_of
from gateway.intake.reading import ConsentAct
from gateway.shopper.key_ring import KeyRing, SealKey
from gateway.shopper.subjects import ShopperSubjects

T = TypeVar("T")
_LATEST_S = 7_258_118_400.0  # 2200


class Command(Protocol):
    """A command (`sync.commands.Command`)."""

    @property
    def id(self) -> str:
        """Its id; the same when it is repeated."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """What it says."""
        ...


class ConsentUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`consent.update`. `person`: the identifier, sealed to the gateway's key; `at`: when the person said so."""

    act: Literal["granted", "withdrawn"]
    person: str
    at: str
    purposes: tuple[str, ...] = ()
    record_id: str | None = None
    notice_version: str | None = None
    notice_digest: str | None = None
    language: str | None = None
    method: str = "platform"
    expires_at: str | None = None


class KeysRotate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`keys.rotate`. A new key of the platform, and from when on it seals (at once if it does not say)."""

    key_id: str
    public_key: str
    not_before: str | None = None


class ConsentDesk:
    """Carries both out; the command worker's thread calls."""

    def __init__(
        self, subjects: ShopperSubjects, keys: KeyRing, origin: Origin, clock: Clock, emit: Callable[[Draft], bool]
    ) -> None:
        """`emit`: hands an event to the journal; False: it does not take it now."""
        self._subjects = subjects
        self._keys = keys
        self._origin = origin
        self._clock = clock
        self._emit = emit

    def update(self, command: Command) -> Mapping[str, Any]:
        """Take the consent or withdrawal that the platform was told of.

        Raises:
            Rejected: it is none, or the person is not sealed to this gateway's key.
            Unavailable: it cannot be kept or journalled now.
        """
        told = _read(command, ConsentUpdate)
        person = self._keys.opener().open(told.person)
        now = self._clock.now()
        at_s = _moment(told.at)
        act = ConsentAct(
            act=told.act, scheme=person.scheme, identifier=person.value, purposes=",".join(told.purposes),
            record_id=told.record_id, notice_version=told.notice_version, notice_digest=told.notice_digest,
            language=told.language, method=told.method, expires=told.expires_at,
        )  # fmt: skip
        # The command's id names the fact: carried out again after a crash, it makes no second event.
        data = self._taken(act, now, at_s, "sync/commands", _fact(f"consent.update {command.id}"))
        return {"record_id": data.record_id, "purposes": list(data.purposes)}

    def take(self, act: ConsentAct, source: str = "page/consents") -> ConsentGranted | ConsentWithdrawn:
        """Take what a person says here and now, at the page; what comes back makes a receipt (`receipt.lines`).

        Args:
            act: with the raw identifier as it was typed in.
            source: the last part of the event's source.

        Raises:
            Rejected: it is no consent; the reason quotes nothing.
            Unavailable: it cannot be kept or journalled now; the same again changes nothing that was kept.
        """
        now = self._clock.now()
        return self._taken(act, now, now.wall_s, source, b"")

    def _taken(
        self, act: ConsentAct, now: Instant, at_s: float, source: str, dedupe: bytes
    ) -> ConsentGranted | ConsentWithdrawn:
        data = self._subjects.consent(act, now, at_s)
        entry = type_of(data)
        event = draft(
            entry.stream, entry.name, data, source=self._origin.source(source), at=now, happened_s=at_s,
            dedupe=dedupe, extensions={"consentref": data.record_id},
        )  # fmt: skip
        if not self._emit(event):
            raise Unavailable("take consent", "journal", "it does not take the event now", "try again")
        return data

    def rotate(self, command: Command) -> Mapping[str, Any]:
        """Install a new public key of the platform; the old ones stay known.

        Raises:
            Rejected: it is no key, or another key has its name.
            Unavailable: it cannot be kept now.
        """
        told = _read(command, KeysRotate)
        from_s = _moment(told.not_before) if told.not_before else 0.0
        if from_s == 0.0:
            from_s = self._clock.now().wall_s
        added = self._keys.add(SealKey(id=told.key_id, public=told.public_key, from_s=from_s, origin="platform"))
        sealing = self._keys.sealing(self._clock.now().wall_s)
        return {"installed": added, "sealing": sealing.id if sealing else None}


def _read(command: Command, kind: type[T]) -> T:
    try:
        return msgspec.convert(dict(command.data), kind)
    except msgspec.ValidationError as error:
        # Of the error only the place: its words might quote what was sent.
        place = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "the command"
        raise Rejected("read command", kind.__name__, f"a field is missing, unknown or wrong: {place[:80]}") from None


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        moment_s = at.timestamp() if at.tzinfo is not None else -1.0
    except (ValueError, OverflowError):
        moment_s = -1.0
    if not 0 <= moment_s < _LATEST_S:
        raise Rejected("read command", "time", "it is no time of this age with its zone", "RFC 3339 with an offset")
    return moment_s


def _fact(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
