"""Every error the gateway raises on purpose; what a caller may do about it is the class, the rest is text.

    StorefrontError
    ├── ConfigError      the configuration is wrong        → say where, exit 78 (EX_CONFIG)
    ├── Unavailable      a thing outside is not there now  → retry with back-off
    ├── ProtocolError    bytes that break the protocol     → count, resynchronise, go on
    ├── Rejected         one input cannot be accepted      → quarantine with its reason, go on
    └── JournalError     the journal cannot be trusted     → stop acknowledging, end the process
        └── JournalFull  no room for this class of event   → refuse it (source waits or counts), go on

Foreign exceptions are mapped to these where the library is called. This module knows no other room.
"""

from __future__ import annotations


class StorefrontError(Exception):
    """Base of the tree: what was being done, to what, why it failed, and what a person can do about it."""

    def __init__(self, operation: str, subject: str, reason: str, hint: str = "") -> None:
        self.operation = operation
        self.subject = subject
        self.reason = reason
        self.hint = hint
        super().__init__(operation, subject, reason, hint)

    def __str__(self) -> str:
        text = f"{self.operation}: {self.subject}: {self.reason}"
        return f"{text} — {self.hint}" if self.hint else text


class ConfigError(StorefrontError):
    """The configuration cannot be used; the process ends with exit code 78."""


class Unavailable(StorefrontError):
    """Something outside (device, broker, platform, disk) is not there now; try again with back-off."""


class ProtocolError(StorefrontError):
    """Bytes that break the device's protocol; the driver counts them and resynchronises."""


class Rejected(StorefrontError):
    """One message cannot become an event; it goes to quarantine with this reason and is acknowledged."""


class JournalError(StorefrontError):
    """The journal cannot be written or trusted; nothing more is acknowledged and the process ends."""


class JournalFull(JournalError):
    """There is no room for this class of event now; the source waits or counts the loss."""
