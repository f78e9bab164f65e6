"""The command `config.set`: a few options that the platform may change while the gateway runs.

Only what is on the list, and what takes effect without a restart; everything else is for people in the shop. All of a
command's changes or none: the whole file is checked, drivers' options included, before it is written.

*Source*: docs/sync.md, "Commands"; docs/decisions/0312-config-from-afar.md.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from config.edit import Edited, edit
from config.settings import Settings
from gateway.errors import ConfigError, Rejected, Unavailable

_ALLOWED = re.compile(r"log\.level|(?:devices|cameras)\.[A-Za-z0-9][A-Za-z0-9_-]{0,63}\.(?:enabled|stale_after_s)")
_MOST = 50
_APPLY_S = 10.0
_LOOK_EVERY_S = 0.1


class _Set(msgspec.Struct, forbid_unknown_fields=True):
    changes: dict[str, bool | int | float | str]
    digest: str | None = None


class Command(Protocol):
    """What is needed of `sync.commands.Command`."""

    @property
    def id(self) -> str: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Notes(Protocol):
    """What is needed of `gateway.access.accounts.Accounts`."""

    def note(self, act: str, subject: str) -> None:
        """Write an act down, durably; raises Unavailable."""
        ...


class Gateway(Protocol):
    """What is needed of `gateway.app.Gateway`."""

    settings: Settings
    file: Path | None

    @property
    def accounts(self) -> Notes:
        """Where acts are written down for the audit trail."""
        ...

    def check(self, settings: Settings) -> None:
        """Look at what the loader cannot know, such as drivers' options; raises ConfigError."""
        ...

    def ask_reload(self) -> None:
        """Have the file read again soon."""
        ...


class ConfigSet:
    """Handler of `config.set {changes: {path: value}, digest?}`. The same again changes nothing."""

    def __init__(self, gateway: Gateway, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Store."""
        self._noted = ""  # the command that was noted last: asked again while it waits, it is noted once
        self._gateway = gateway
        self._pause = pause

    def __call__(self, command: Command) -> Mapping[str, Any]:
        """Change the file and have the gateway take it over.

        Returns:
            `changed`: the paths that were otherwise before; `digest`: of the file as it is now.

        Raises:
            Rejected: an option is not on the list, or its value or the file would be wrong.
            Unavailable: the file cannot be written, or is not taken over yet.
        """
        try:
            asked = msgspec.convert(dict(command.data), _Set)
        except msgspec.ValidationError as error:
            raise Rejected("set option", "command", f"not understood: {error}") from error
        if not 1 <= len(asked.changes) <= _MOST:
            raise Rejected("set option", "command", f"between 1 and {_MOST} changes")
        for path in asked.changes:
            if not _ALLOWED.fullmatch(path):
                raise Rejected("set option", path[:80], "this one cannot be changed from afar")
        file = self._gateway.file
        if file is None:
            raise Rejected("set option", "configuration", "this gateway runs without a file")
        try:
            done = edit(
                file, asked.changes, expected=asked.digest, check=partial(self._check, command.id, asked.changes)
            )
        except ConfigError as error:
            raise Rejected("set option", "configuration", error.reason, error.hint) from error
        self._take_over(done)
        return {"changed": list(done.changed), "digest": done.digest}

    def _check(self, command: str, changes: Mapping[str, object], fresh: Settings) -> None:
        """The last look before the file is written. What cannot be noted for the audit trail is not done."""
        self._gateway.check(fresh)
        if command != self._noted:
            self._gateway.accounts.note("config.set", ", ".join(sorted(changes)))
            self._noted = command

    def _take_over(self, done: Edited) -> None:
        """Have it read again; also when nothing changed, for a crash may have come between the two."""
        running = self._gateway.settings
        self._gateway.ask_reload()
        for _ in range(int(_APPLY_S / _LOOK_EVERY_S)):
            if self._gateway.settings is not running:
                return
            self._pause(_LOOK_EVERY_S)
        raise Unavailable("set option", "configuration", "the gateway has not taken the file over yet")
