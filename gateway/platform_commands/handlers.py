"""What the platform may tell this gateway to do: one table, a line a kind of command.

Composition only. A handler is `(Command) -> Mapping` and lives in a module of its own; it is called again with the same
id after a crash and must then change nothing more (`sync.commands.Handler`). `journal.replay` is not here: the link to
the platform carries it out itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.platform_commands import coupons as coupon_commands
from gateway.platform_commands.config_set import ConfigSet
from gateway.platform_commands.hints import HintDesk
from gateway.platform_commands.return_visits import ReturnVisits
from gateway.platform_commands.subject_erase import SubjectErase

if TYPE_CHECKING:
    from gateway.workers.delivery import Gateway
    from sync.commands import Handler


def handlers(gateway: Gateway) -> dict[str, Handler]:
    """The handler of every kind of command, as docs/sync.md names them."""
    persons = gateway.consent_desk()
    return {
        **coupon_commands.handlers(gateway),
        "config.set": ConfigSet(gateway),
        "consent.update": persons.update,
        "keys.rotate": persons.rotate,
        **(
            {}
            if gateway.visits is None
            else {"profile.hints": HintDesk(gateway, gateway.visits), "visits.returning": ReturnVisits(gateway)}
        ),
        "subject.erase": SubjectErase(gateway.journal_path, gateway.commits, gateway.clock),
    }
