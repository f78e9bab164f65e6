"""The command `visits.returning`: the platform says of visits of this shop whether the person had been here before.

The shop cannot know: its day keys live for a day. `{visits: {visit_id: true | false}}` comes back as a
`store.visit.compared.v1` a visit, which names nobody; told twice it is one event. Knows no wire and no figure.

*Source*: docs/sync.md, "Commands"; docs/decisions/0523-who-came-again.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from gateway.clock import Clock
from gateway.errors import Rejected, Unavailable
from gateway.event import Draft, Origin, draft
from gateway.event_types import VisitCompared, type_of
from gateway.intake.inlet import Inlet, Item
from sync.commands import Command

_LANE = ".return-visits"
_OFFER_S = 5.0
_MOST = 500  # visits in one command
_Visit = Annotated[str, Meta(pattern=r"^v-[0-9a-f]{24}(-r[0-9]{1,2})?$")]


class _Returning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    visits: Annotated[dict[_Visit, bool], Meta(min_length=1, max_length=_MOST)]


class Gateway(Protocol):
    """What the handler needs of `gateway.app.Gateway`."""

    origin: Origin
    clock: Clock
    inlet: Inlet


class ReturnVisits:
    """Handler; the command worker's thread calls. What is lost with an answer to the platform comes again."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway

    def __call__(self, command: Command) -> Mapping[str, Any]:
        """Journal what the platform says; returns how many visits.

        Raises:
            Rejected: it is no such statement; nothing of it is taken.
            Unavailable: the journal does not take it now.
        """
        try:
            told = msgspec.convert(dict(command.data), _Returning)
        except msgspec.ValidationError as error:
            raise Rejected("take return visits", "command", str(error)[:200], "see docs/visits.md") from error
        drafts = [self._draft(VisitCompared(visit_id=visit, returning=it)) for visit, it in told.visits.items()]
        if not self._gateway.inlet.offer(_LANE, Item(drafts), _OFFER_S):
            raise Unavailable("take return visits", "journal", "it does not take the events now")
        return {"visits": len(drafts)}

    def _draft(self, data: VisitCompared) -> Draft:
        entry = type_of(data)
        fact = blake2b(f"compared\x1f{data.visit_id}\x1f{data.returning}".encode(), digest_size=8).digest()
        return draft(
            entry.stream, entry.name, data, source=self._gateway.origin.source("sync/commands"),
            at=self._gateway.clock.now(), dedupe=fact,
        )  # fmt: skip
