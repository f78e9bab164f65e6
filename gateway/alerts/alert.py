"""What an alert is: one cause that needs a hand, from when it was certain until it is over. Values only."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from config.settings import Cause, Severity

SEVERITIES: tuple[Severity, ...] = ("critical", "warning", "notice")
ALERT_TOPIC: Final = "alert-topic"  # the worker that keeps what is up on the shop's broker
Parameters = dict[str, str | int | float]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """A cause that is there at this moment. `id` names it for ever: `device:till1`; `key` is what is said of it."""

    id: str
    rule: Cause
    key: str
    severity: Severity
    parameters: Parameters = {}


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert. `number` is its own for ever; times are the wall's, in ms since 1970.

    `told`: it has been handed to the webhooks; `said`: the last event that was written of it.
    """

    number: int
    id: str
    rule: Cause
    key: str
    severity: Severity
    parameters: Parameters = {}
    raised_ms: int
    cleared_ms: int | None = None
    acknowledged: bool = False
    snoozed_until_ms: int = 0
    told: bool = False
    said: Literal["", "raised", "cleared"] = ""

    @property
    def up(self) -> bool:
        """Whether it is not over."""
        return self.cleared_ms is None

    @property
    def subject(self) -> str:
        """What it is about, as in `till1`; "" where there is only one."""
        return self.id.partition(":")[2]


class Alarm(msgspec.Struct, frozen=True, kw_only=True):
    """An alarm event of another part of the gateway that has not been cleared."""

    what: str
    source: str
    severity: Severity
    device: str = ""
    hint: str = ""
    since_ms: int


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a webhook is still to be told. `alert` is as it was at that moment."""

    id: str
    hook: str
    kind: Literal["raised", "cleared"]
    at_ms: int
    alert: Alert


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told, in the reader's language. No personal data: it leaves the shop."""

    id: str
    kind: Literal["raised", "cleared", "test"]
    cause: str
    severity: str
    title: str
    todo: str
    store: str
    gateway: str
    at: str  # RFC 3339
    heading: str = ""  # the first line of a chat message, as in "Store 0042 · warning"


class HookState(msgspec.Struct, frozen=True, kw_only=True):
    """How telling goes. `problem`: why the last try failed, "" when it did not."""

    name: str
    waiting: int
    problem: str = ""
    sent: int = 0
    dropped: int = 0


class AlertsView(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows: what is up, the worst first, and what was in the last seven days, newest first."""

    now: tuple[Alert, ...] = ()
    past: tuple[Alert, ...] = ()
    hooks: tuple[HookState, ...] = ()
    quiet: bool = False
