"""What the setup pages are told, and whom they ask. Values and one protocol; knows no file, no driver and no form."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from config.fields import Field, at
from gateway.errors import Rejected

Kind = Literal["devices", "cameras"]


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration file as it stands.

    Attributes:
        tables: its plain TOML.
        writable: False: the gateway runs without a file.
        restart: tables that differ from what runs and wait for a restart.
        pending: devices or cameras differ from what runs: they are being taken over, or could not be.
    """

    tables: Mapping[str, Any]
    writable: bool
    restart: tuple[str, ...] = ()
    pending: bool = False

    def entry(self, kind: Kind, name: str) -> Mapping[str, Any] | None:
        """The table of a device or a camera; None where the file has none of that name."""
        return next((one for one in self.entries(kind) if one.get("name") == name), None)

    def entries(self, kind: Kind) -> list[Mapping[str, Any]]:
        """All of them."""
        return list(self.tables.get(kind, ()))


def mark_of(now: Now, below: str) -> str:
    """What names the present content of an entry or of some tables (`gateway,privacy`)."""
    table, _, name = below.partition(".")
    seen: Any
    if name:
        seen = next((one for one in now.tables.get(table, ()) if one.get("name") == name), None)
    else:
        seen = [at(now.tables, one) for one in below.split(",")]
    return hashlib.sha256(msgspec.json.encode(seen, order="deterministic")).hexdigest()[:32]


class DriverLine(msgspec.Struct, frozen=True):
    """A driver to choose. `wire`: serial or mqtt; `topics`: where it listens unless told otherwise."""

    name: str
    wire: str
    summary: str
    manual: str
    topics: tuple[str, ...] = ()


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's certificate for the platform. `problem`: it cannot be read; then nothing else is known."""

    name: str = ""
    since_ms: int = 0
    until_ms: int = 0
    problem: str = ""


class Conflict(Rejected):
    """Somebody else has changed the same thing meanwhile; nothing was written."""


class NotTaken(Rejected):
    """The loader does not take the value; `place` says below the entry where ("" where it is not about it)."""

    def __init__(self, place: str, reason: str, hint: str) -> None:
        """Store."""
        self.place = place
        super().__init__("save", place or "configuration", reason, hint)


class SetupDesk(Protocol):
    """`gateway.setup_desk.SetupDesk`; called off the loop."""

    def now(self) -> Now:
        """The file. Raises ConfigError: it cannot be read, or somebody has broken it."""
        ...

    def drivers(self) -> list[DriverLine]:
        """All drivers there are."""
        ...

    def driver_fields(self, name: str) -> tuple[Field, ...]:
        """A driver's own options, named `options.…`. Raises ConfigError: there is no such driver."""
        ...

    def camera_fields(self) -> tuple[Field, ...]:
        """A camera's options but what is drawn."""
        ...

    def save(self, changes: Mapping[str, Any], below: str, mark: str | None) -> None:
        """Write changes, or nothing.

        Args:
            changes: see `config.edit.Changes`.
            below: the entry or tables that they are about, as in `devices.till-1` or `gateway`.
            mark: of what the visitor saw of it, see `mark_of`; None: whatever it is now.

        Raises:
            Conflict, NotTaken, Rejected, ConfigError, Unavailable.
        """
        ...

    def enrol(self, url: str, code: str, ca_file: str) -> str:
        """Get a certificate and write `[platform]`; gives until when (RFC 3339). Takes seconds."""
        ...

    def certificate(self) -> Certificate | None:
        """The present one; None without."""
        ...
