"""Persons, as intake may know them: identifiers as they were read, and the seam through which they become subjects.

Who may be named, for what, and under which key is decided behind `Subjects` (`gateway.shopper`). Raw identifiers live
in memory between a driver and that decision, and nowhere else. Knows no consent, no key and no storage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from gateway.clock import Instant
from gateway.errors import Rejected
from gateway.event_types import ConsentGranted, ConsentWithdrawn, Shopper
from gateway.intake.reading import ConsentAct, Identity, Points, Reading, Sale

__all__ = ["Identity", "Linked", "Nobody", "Subject", "Subjects", "unnamed"]


class Subject(msgspec.Struct, frozen=True):
    """A person as an event may name one, and the consent record that allows it."""

    shopper: Shopper
    consent: str


class Linked(msgspec.Struct, frozen=True):
    """A person, and the further identifiers that are theirs, in the order they were told."""

    subject: Subject
    others: tuple[Shopper, ...]


class Subjects(Protocol):
    """Who a reading's identifiers stand for. Called from the sources' own threads, for every reading with a person."""

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        """The person, as far as consent allows; None where it allows nothing or nobody is named for certain.

        Args:
            identities: as read; may be empty, malformed, several, or contradict each other.
            at: when the reading was received.
            happened_s: when it happened, seconds since 1970.

        Raises:
            Unavailable: whether there is a consent cannot be known now.
        """
        ...

    def linked(self, member: Identity, others: Sequence[Identity], at: Instant, happened_s: float) -> Linked | None:
        """The member and further identifiers that the same person proved theirs; None where consent does not cover it.

        Args:
            member: who acted.
            others: what is theirs from now on, then what no longer is.
            at: when the reading was received.
            happened_s: when it happened, seconds since 1970.

        Raises:
            Rejected: one of the others is no identifier.
            Unavailable: whether there is a consent cannot be known now.
        """
        ...

    def consent(self, act: ConsentAct, at: Instant, happened_s: float) -> ConsentGranted | ConsentWithdrawn:
        """Take a consent or its withdrawal; it holds, durably, when this returns.

        Raises:
            Rejected: the act is not one: no such purpose, an identifier that is none, no notice.
            Unavailable: it cannot be kept now.
        """
        ...


class Nobody:
    """`Subjects` where no consent is known: nobody is ever named."""

    def subject(self, identities: Sequence[Identity], at: Instant, happened_s: float) -> Subject | None:
        """None."""
        return None

    def linked(self, member: Identity, others: Sequence[Identity], at: Instant, happened_s: float) -> Linked | None:
        """None."""
        return None

    def consent(self, act: ConsentAct, at: Instant, happened_s: float) -> ConsentGranted | ConsentWithdrawn:
        """Refuse.

        Raises:
            Rejected: always.
        """
        raise Rejected("take consent", act.act, "consents are not kept here", "do it while the gateway runs")


def unnamed(reading: Reading) -> Reading | None:
    """A sale or points of nobody; None for a reading that is nothing without its person."""
    if isinstance(reading, Sale):
        return msgspec.structs.replace(reading, member=None, member_scheme=None, identities=(), operator=None)
    if isinstance(reading, Points):
        return msgspec.structs.replace(reading, member=None, member_scheme=None)
    return None
