"""Changes to the configuration file: a few values by their path, the rest of the file left as a person wrote it.

Reads the file, applies the changes, has the loader check the whole of it, makes sure that nobody has edited it
meanwhile and that nothing else has changed, and puts it in the old one's place in one step, with the old one's mode.
Comments and order stay. The page and the platform's `config.set` both go through here. Knows no option's meaning and
nothing that runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import stat
import tomllib
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import msgspec

from config.loader import parse
from config.settings import Settings
from gateway.durable_file import sync_directory, write_draft
from gateway.errors import ConfigError, Rejected, Unavailable

LIVE = (
    "devices",
    "cameras",
    "floor",
    "alerts",
    "log",
)  # tables that a running gateway takes over; every other one waits for a restart
_MOST_CHANGES = 200
_NEW_MODE = 0o600

Changes = Mapping[str, Any]
"""New values by path. A path is `table.key`; in a list of tables an entry goes by its `name`, as in
`devices.shelf-3.enabled`. A value of None takes the key, or the whole entry, out. A table under the path of an entry
that is not there yet adds the entry.
"""


class Edited(msgspec.Struct, frozen=True):
    """What an edit came to. `restart`: tables whose change waits for a restart of the gateway."""

    digest: str
    changed: tuple[str, ...]  # paths, those that were not so already
    restart: tuple[str, ...]


def digest_of(path: Path) -> str:
    """What names the file's present content; "" when there is no file. Give it back to `edit`.

    Raises:
        ConfigError: it cannot be read.
    """
    return _digest(_read(path))


def edit(
    path: Path, changes: Changes, *, expected: str | None = None, check: Callable[[Settings], object] | None = None
) -> Edited:
    """Change some values of the file, or nothing at all.

    Args:
        path: the file; made (mode 0600) where there is none.
        changes: see `Changes`.
        expected: the digest of the content that the changes were made for; None: whatever it is now. It does not
            matter where everything is as asked already: the same edit, told again after a crash, is done.
        check: looks further at the new settings than the loader (drivers' options), just before they are written;
            raises what it does not like.

    Raises:
        Rejected: somebody has edited the file meanwhile, or a path leads nowhere.
        ConfigError: the file, or what it would become, is wrong; it says where.
        Unavailable: the file cannot be written.
    """
    path = path.resolve()  # a link stays a link to what is edited
    before = _read(path)
    if len(changes) > _MOST_CHANGES:
        raise Rejected("edit configuration", str(path), f"more than {_MOST_CHANGES} changes at once")
    old = parse(before, str(path))
    plain = tomllib.loads(before)
    changed = tuple(where for where, value in changes.items() if _put(plain, where, value))
    if changed and expected is not None and expected != _digest(before):
        raise Rejected(
            "edit configuration", str(path), "it was edited meanwhile", "look at the file as it is now, and try again"
        )
    after = _applied(before, changes, str(path))
    fresh = parse(after, str(path))
    if check is not None:
        check(fresh)
    if tomllib.loads(after) != plain:  # whatever the editing library has done: only what was asked for
        raise Rejected("edit configuration", str(path), "more would change than was asked for", "edit the file by hand")
    if changed:
        _write(path, before, after)
    return Edited(_digest(after if changed else before), changed, restart_needed(old, fresh))


def restart_needed(running: Settings, fresh: Settings) -> tuple[str, ...]:
    """The tables that differ and that a running gateway cannot take over."""
    return tuple(
        name
        for name in Settings.__struct_fields__
        if name not in LIVE and getattr(running, name) != getattr(fresh, name)
    )


def _applied(text: str, changes: Changes, name: str) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        for where, value in changes.items():
            _put(document, where, value, tomlkit.table, tomlkit.aot)
        return tomlkit.dumps(document)
    except (TOMLKitError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError("edit configuration", name, f"the change cannot be written: {error}") from error


def _put(
    tables: MutableMapping[str, Any], where: str, value: Any, new_table: Callable[[], Any] = dict,
    new_list: Callable[[], Any] = list,
) -> bool:  # fmt: skip
    """Set, or take out, the value at a path; False when that is how it was.

    Raises:
        Rejected: the path leads nowhere.
    """
    *parents, last = where.split(".")
    if not all((*parents, last)):
        raise Rejected("edit configuration", where[:80], "this is no path", "write table.key")
    place: Any = tables
    for index, part in enumerate(parents):
        inner = _entry(place, part) if isinstance(place, list) else place.get(part)
        if inner is None:
            if value is None:
                return False
            if isinstance(place, list):
                raise Rejected("edit configuration", where[:80], f"there is no entry {part[:40]!r}")
            place[part] = new_list() if index + 1 == len(parents) and _is_new_entry(value) else new_table()
            inner = place[part]
        if not isinstance(inner, dict | list):
            raise Rejected("edit configuration", where[:80], f"{part[:40]!r} is no table")
        place = inner
    if isinstance(place, list):
        return _put_entry(place, last, value, where, new_table)
    if value is None:
        return place.pop(last, None) is not None
    same = last in place and place[last] == value and type(_plain(place[last])) is type(value)
    if not same:
        place[last] = value
    return not same


def _put_entry(entries: list[Any], name: str, value: Any, where: str, new_table: Callable[[], Any]) -> bool:
    present = _entry(entries, name)
    if value is None:
        if present is None:
            return False
        del entries[next(index for index, entry in enumerate(entries) if entry is present)]
        return True
    if not isinstance(value, Mapping) or value.get("name") != name:
        raise Rejected("edit configuration", where[:80], "an entry is a table with this very `name`")
    if present is None:
        fresh = new_table()
        fresh.update(value)
        entries.append(fresh)
        return True
    same = present == value
    for key in [key for key in present if key not in value]:
        del present[key]
    for key, one in value.items():
        present[key] = one
    return not same


def _entry(entries: list[Any], name: str) -> Any:
    return next((entry for entry in entries if isinstance(entry, dict) and entry.get("name") == name), None)


def _is_new_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and "name" in value


def _plain(value: Any) -> Any:
    return value.unwrap() if hasattr(value, "unwrap") else value


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
        raise ConfigError("edit configuration", str(path), reason) from error


def _write(path: Path, before: str, after: str) -> None:
    """In the old one's place in one step, durable when this returns; refused when the old one is not `before` now."""
    draft = None
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else _NEW_MODE
        draft = write_draft(path, after.encode(), mode)
        if _read(path) != before:
            raise Rejected("edit configuration", str(path), "it was edited meanwhile", "try again")
        draft.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise Unavailable(
            "edit configuration", str(path), error.strerror or str(error),
            "the gateway's user must be allowed to write the file and its directory",
        ) from error  # fmt: skip
    finally:
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else ""
