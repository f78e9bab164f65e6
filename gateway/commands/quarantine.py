"""`quarantine list | show | replay`: messages that could not become events, and another try for them."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from config.loader import data_directory, journal_path
from config.settings import Settings
from devices.plan import plan
from gateway.access.accounts import Accounts
from gateway.clock import SystemClock
from gateway.commands.common import journal_of, print_json, settings_of
from gateway.commands.ownership import become_owner
from gateway.commands.progress import bar
from gateway.errors import JournalError, Unavailable
from gateway.journal.diagnosis import assess
from gateway.journal.disk import take_lock
from gateway.journal.quarantine import PayloadSeal, Quarantined, entries, get
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.shopper.day_keys import DayKeys
from gateway.workers.housekeeping import salvage_under_way
from gateway.workers.replay_requests import Outcome, Request, Retry, Spool, WriterBook

_PAGE = 1000
_WAIT_S = 30.0
_TRY_EVERY_S = 0.1


def listing(config: Path | None, *, limit: int, held: bool, as_json: bool) -> int:
    """The newest entries, without their payloads."""
    with JournalReader(journal_of(config)) as reader:
        found = _entries(reader, limit, held=held)
    if as_json:
        print_json([_plain(entry) for entry in found])
        return 0
    if not found:
        print("Nothing is in quarantine.")
        return 0
    for entry in found:
        print(f"{entry.id:>6}  {_time(entry)}  {entry.state:<9} {entry.source:<16} {printable(entry.topic)}")
        print(f"        {printable(entry.reason)}")
    print("\nstorefront quarantine show ID prints a message; replay ID gives it to its driver again.")
    return 0


def show(config: Path | None, entry: int, *, as_json: bool) -> int:
    """One entry with its payload, which may hold anything, also about persons."""
    settings = settings_of(config)
    with JournalReader(journal_path(settings)) as reader:
        found, payload = get(reader, entry, _seal(settings))
    try:
        text: str | None = payload.decode()
    except UnicodeDecodeError:
        text = None
    if as_json:
        shown = {"payload_hex": payload.hex()} if text is None else {"payload": text}
        print_json(_plain(found) | shown)
        return 0
    print(
        f"entry    {found.id} ({found.state})\ncame     {_time(found)}\n"
        f"device   {found.source} ({found.driver or 'event'})"
    )
    print(f"topic    {printable(found.topic)}\nreason   {printable(found.reason)}\nbytes    {len(payload)}\n")
    print(payload.hex(" ") if text is None else printable(text))
    return 0


def replay(config: Path | None, ids: list[int], *, everything: bool, as_json: bool) -> int:
    """Give messages to their drivers again; 65 when one of them stays in quarantine."""
    settings = settings_of(config)
    plans = plan(settings, str(config or "configuration"))
    path = journal_path(settings)
    become_owner(data_directory(settings))
    with JournalReader(path) as reader:
        if everything:
            ids = [entry.id for entry in reversed(_entries(reader, None, held=True)) if entry.driver]
    outcomes: list[Outcome] = []
    if ids:
        spool = Spool(settings)
        Accounts(data_directory(settings), SystemClock()).note("quarantine.replay", ", ".join(map(str, ids)))
        request = spool.put(ids)
        with bar("replaying"):
            outcomes = _await(spool, request, _Alone(settings, plans, path, spool))
    _print_outcomes(outcomes, as_json=as_json)
    return 65 if any(one.outcome in ("rejected", "nothing") for one in outcomes) else 0


class _Alone:
    """Does the requests in this process, when no gateway holds the journal."""

    def __init__(self, settings: Settings, plans: list[Any], path: Path, spool: Spool) -> None:
        self._settings, self._plans, self._path, self._spool = settings, plans, path, spool

    def serve(self) -> bool:
        """Do everything that waits in the spool; False when a gateway has the journal and will do it."""
        settings, clock = self._settings, SystemClock()
        seal = _seal(settings)
        writer = JournalWriter(
            self._path, settings.gateway.name, clock, max_bytes=settings.storage.max_mib << 20,
            ballast_bytes=settings.storage.ballast_mib << 20, seal=seal.seal,
        )  # fmt: skip
        try:
            os.close(take_lock(self._path))
            damage = "a salvage is not finished" if salvage_under_way(self._path) else assess(self._path)
            if damage is not None:  # SQLite might open it all the same, and lose what could be saved
                raise JournalError(
                    "replay", str(self._path), damage, "run `storefront journal salvage`, or start the gateway"
                )
            writer.open()
        except JournalError as error:
            if isinstance(error.__cause__, BlockingIOError):
                return False
            raise
        except OSError as error:
            raise JournalError("replay", str(self._path), error.strerror or str(error)) from error
        try:
            with JournalReader(self._path) as reader:
                retry = Retry(
                    settings,
                    lambda: self._plans,
                    reader,
                    seal,
                    DayKeys(data_directory(settings) / "keys", settings.gateway.time_zone),
                    clock,
                )
                for request in self._spool.waiting():
                    self._spool.answer(request, retry.serve(request, WriterBook(writer)) or [])
        finally:
            writer.close()
        return True


def _await(spool: Spool, request: Request, alone: _Alone) -> list[Outcome]:
    """The answer of the running gateway, or our own when none runs, also if it ends meanwhile."""
    until_s = time.monotonic() + _WAIT_S
    next_try_s = 0.0
    while time.monotonic() < until_s:
        if (outcomes := spool.answered(request)) is not None:
            return outcomes
        if time.monotonic() >= next_try_s:
            next_try_s = time.monotonic() + 1.0
            try:
                if alone.serve():
                    continue
            except (JournalError, Unavailable):
                spool.withdraw(request)
                raise
        time.sleep(_TRY_EVERY_S)
    raise Unavailable(
        "replay", str(spool.folder), "the gateway has not answered yet",
        "the request stays and will be done; look again with `storefront quarantine list`",
    )  # fmt: skip


def _entries(reader: JournalReader, limit: int | None, *, held: bool) -> list[Quarantined]:
    """The newest entries first, up to `limit`."""
    found: list[Quarantined] = []
    before: int | None = None
    while page := entries(reader, before=before, limit=_PAGE):
        before = page[-1].id
        found += [entry for entry in page if entry.state == "held" or not held]
        if limit is not None and len(found) >= limit:
            return found[:limit]
    return found


def _seal(settings: Settings) -> PayloadSeal:
    return PayloadSeal(data_directory(settings) / "keys" / "quarantine.key")


def _plain(entry: Quarantined) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(entry)
    return facts


def _time(entry: Quarantined) -> str:
    return f"{datetime.fromtimestamp(entry.at_ms / 1000, UTC):%Y-%m-%d %H:%M:%S}Z"


def _print_outcomes(outcomes: list[Outcome], *, as_json: bool) -> None:
    if as_json:
        print_json(outcomes)
        return
    for one in outcomes:
        events = f" as {one.events} event{'s' if one.events != 1 else ''}" if one.events else ""
        print(
            f"{one.id:>6}  {one.outcome.replace('_', ' ')}{events}{': ' + printable(one.reason) if one.reason else ''}"
        )
    if not outcomes:
        print("Nothing to replay.")


def printable(text: str) -> str:
    """The text with control characters spelled out: a message must not be able to speak to the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
