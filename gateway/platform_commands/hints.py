"""The command `profile.hints`: what staff may say to members who have agreed to offers, when they come.

`{hints: [{sealed: [...], text, tier, language, coupons, expires_at}]}`; `sealed` are one person's identifiers, each
sealed to this gateway's own key; an empty `text` takes the person's hint back. The same command twice changes nothing
more. Knows no wire; what becomes of a hint is `shopper.hints`'s.

*Source*: docs/sync.md, "Commands"; docs/visits.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, TimeoutError
from datetime import datetime
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from gateway.clock import Clock
from gateway.errors import Rejected, Unavailable
from gateway.shopper.consent import Consents
from gateway.shopper.hints import Hint, checked, group_of
from gateway.shopper.identifiers import Identifier
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.subjects import ShopperSubjects
from gateway.shopper.visit_book import VisitDesk
from sync.commands import Command

_MOST = 500  # hints in one command
_LONGEST_S = 400 * 86_400.0
_ANSWER_S = 10.0


class _Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    sealed: Annotated[tuple[Annotated[str, Meta(max_length=4096)], ...], Meta(min_length=1, max_length=16)]
    text: Annotated[str, Meta(max_length=2000)]
    expires_at: Annotated[str, Meta(max_length=40)]
    tier: Annotated[str, Meta(max_length=200)] = ""
    language: Annotated[str, Meta(max_length=20)] = ""
    coupons: Annotated[tuple[str, ...], Meta(max_length=100)] = ()


class _Hints(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hints: Annotated[tuple[_Told, ...], Meta(max_length=_MOST)]


class Writing(Protocol):
    """The journal's writing thread."""

    def submit(self, work: Callable[[Any], Any]) -> Future[Any]:
        """Run `work` in one transaction."""
        ...


class Gateway(Protocol):
    """What the handler needs of `gateway.app.Gateway`."""

    subjects: ShopperSubjects
    consents: Consents
    key_ring: KeyRing
    clock: Clock

    @property
    def commits(self) -> Writing:
        """The commit loop."""
        ...

    @property
    def visits(self) -> VisitDesk | None:
        """Who holds the hints; None where visits are off."""
        ...


class HintDesk:
    """Handler; the command worker's thread calls."""

    def __init__(self, gateway: Gateway, desk: VisitDesk) -> None:
        """Store."""
        self._gateway = gateway
        self._desk = desk

    def __call__(self, command: Command) -> Mapping[str, Any]:
        """Take the hints that can be taken.

        Returns:
            `kept`, `taken_back`, `no_consent`, `refused` (by reason), `expired`: numbers of hints; `dropped`:
            identifiers of others that had to go because there were too many.

        Raises:
            Rejected: the command is none.
            Unavailable: a consent cannot be looked up, or the hint not be kept, now.
        """
        try:
            told = msgspec.convert(dict(command.data), _Hints)
        except msgspec.ValidationError as error:
            place = str(error).rpartition(" - at ")[2] if " - at " in str(error) else "the command"
            raise Rejected("keep hints", "command", f"not understood: {place[:80]}", "see docs/visits.md") from None
        done: dict[str, int] = {"kept": 0, "taken_back": 0, "no_consent": 0, "expired": 0, "dropped": 0}
        refused: dict[str, int] = {}
        for one in told.hints:
            try:
                self._take(one, done)
            except Rejected as error:
                refused[error.reason] = refused.get(error.reason, 0) + 1
        return {**done, "refused": refused}

    def _take(self, told: _Told, done: dict[str, int]) -> None:
        gateway, recognition = self._gateway, self._desk.recognition
        opener = gateway.key_ring.opener()
        identifiers = list(dict.fromkeys(self._spelled(opener.open(sealed)) for sealed in told.sealed))
        persons = [gateway.consents.person(identifier) for identifier in identifiers]
        if not told.text.strip():
            done["taken_back"] += 1
            self._ask(lambda connection: recognition.take_back(connection, persons))
            return
        wrong = checked(told.text, told.tier, told.language, told.coupons, [it.value for it in identifiers])
        if wrong:
            raise Rejected("keep hint", "hint", wrong)
        now = gateway.clock.now()
        expires_s = min(_moment(told.expires_at), now.wall_s + _LONGEST_S)
        if expires_s <= now.wall_s:
            done["expired"] += 1
            return
        agreed = [
            (person, "" if record.startswith("assumed-") else record)
            for identifier, person in zip(identifiers, persons, strict=True)
            if (record := gateway.subjects.allows(identifier, "offers", now)) is not None
        ]
        if not agreed:
            done["no_consent"] += 1
            return
        hint = Hint(
            group=group_of(persons), text=told.text.strip(), tier=told.tier.strip(), language=told.language,
            coupons=told.coupons, expires_ms=int(expires_s * 1000),
        )  # fmt: skip
        done["dropped"] += self._ask(lambda connection: recognition.keep(connection, agreed, hint))
        done["kept"] += 1

    def _spelled(self, told: Identifier) -> Identifier:
        """As this store spells it: the platform may trim or write a phone number differently."""
        return self._gateway.subjects.identifier(told.scheme, told.value)

    def _ask(self, work: Callable[[Any], int]) -> int:
        if self._desk.machine is None:
            raise Unavailable("keep hints", "visits", "their book is not open yet")
        future = self._gateway.commits.submit(work)
        try:
            return int(future.result(_ANSWER_S))
        except TimeoutError:
            future.cancel()
            raise Unavailable("keep hints", "journal", "the writer does not answer") from None


def _moment(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
        return at.timestamp() if at.tzinfo is not None else _no_time()
    except (ValueError, OverflowError):
        return _no_time()


def _no_time() -> float:
    raise Rejected("keep hint", "hint", "expires_at", "RFC 3339 with its zone")
