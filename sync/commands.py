"""Commands from the platform: read the down feed, carry each out once, report it as an event, remember the place.

The gateway asks, so it works behind any NAT. The order is: carry out, hand the result to the journal, write the place
down. A crash in between repeats the command, which is why a handler must do nothing the second time (it is given the
command's id), and why the result's dedupe key is made of that id. Knows no journal and no device; handlers do.

*Source*: docs/sync.md, "Commands".
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

import msgspec

from gateway.clock import Clock
from gateway.durable_file import replace_file
from gateway.errors import JournalError, Rejected, StorefrontError, Unavailable
from gateway.event import Origin, draft
from gateway.event_types import CommandCompleted, type_of
from gateway.runtime.worker import Wait, wait
from sync.answer import Reply, retry_after_s
from sync.http_client import HttpClient
from sync.http_uplink import gateway_path
from sync.pacing import BOOT_DELAY_S, Pace
from sync.ports import Emit

log = logging.getLogger(__name__)

_KEPT = 1000
_IDLE_S = 0.5
_MAX_IN_PAGE = 500
_KIND_LIMIT = 100  # characters of a kind that are repeated in the report
_DEFECTS = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_PREFIX, _SUFFIX = "store.command.", ".v1"


class Command(msgspec.Struct, frozen=True):
    """One command: its id, what to do (`config.set`, `subject.erase` …) and with what."""

    id: str
    kind: str
    data: Mapping[str, Any]


Handler = Callable[[Command], Mapping[str, Any]]
"""Carries a command out and returns what to report. Called again with the same id after a crash: must then change
nothing more. Raises `Rejected` when the command cannot be carried out as it is, `Unavailable` to be called again later.
"""


class Place(msgspec.Struct, frozen=True):
    """How far the feed has been carried out: its cursor ("" = from the beginning) and the last ids, newest last."""

    cursor: str = ""
    done: tuple[str, ...] = ()


class Places(Protocol):
    """Where the place is kept."""

    def load(self) -> Place:
        """The place; an empty one when there is none."""
        ...

    def save(self, place: Place) -> None:
        """Keep it, durably."""
        ...


class PlaceFile:
    """`Places` in a small file, replaced whole."""

    def __init__(self, path: Path) -> None:
        """`path`: beside the journal."""
        self._path = path

    def load(self) -> Place:
        """What the file says; the beginning when it is missing or damaged, since every handler bears a repetition."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Place)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return Place()

    def save(self, place: Place) -> None:
        """Write and rename.

        Raises:
            Unavailable: the disk does not take it.
        """
        try:
            replace_file(self._path, msgspec.json.encode(place))
        except OSError as error:
            raise Unavailable("keep place in commands", str(self._path), error.strerror or str(error)) from error


class _Event(msgspec.Struct):
    id: str
    type: str
    data: dict[str, Any] | None = None


_page = msgspec.json.Decoder(list[msgspec.Raw])
_event = msgspec.json.Decoder(_Event)


class Commands:
    """Worker: asks for commands with a long poll and carries them out, one after the other."""

    def __init__(
        self, client: HttpClient, gateway: str, origin: Origin, handlers: Mapping[str, Handler], emit: Emit,
        places: Places, clock: Clock, rng: Random, *, poll_s: float = 25.0, boot_delay_s: float = BOOT_DELAY_S,
        pause: Wait = wait,
    ) -> None:  # fmt: skip
        """Store.

        Args:
            client: reaches the platform; only this object uses it.
            gateway: this gateway's name.
            origin: for the result's source.
            handlers: by kind; a kind without one is reported as unknown.
            emit: hands the result to the journal; False: try again.
            places: where the place is kept.
            clock: monotonic time.
            rng: the dice of the waits.
            poll_s: how long the platform may hold the question; it bounds how long `step` takes, so the worker's
                patience must be longer.
            boot_delay_s: the first question is asked after U(0, this).
            pause: how this thread waits.
        """
        self._client = client
        self._gateway = gateway
        self._origin = origin
        self._handlers = dict(handlers)
        self._emit = emit
        self._places = places
        self._clock = clock
        self._poll_s = poll_s
        self._boot_delay_s = boot_delay_s
        self._pause = pause
        self._pace = Pace(gateway, rng, interval_s=1.0)
        self._place = Place()
        self._unreadable = 0
        self.carried_out = 0

    def open(self) -> None:
        """Find the place."""
        self._place = self._places.load()
        self._pace.boot(self._clock.now().mono_s, self._boot_delay_s)

    def step(self, stop: threading.Event) -> None:
        """Ask once, or wait half a second at most."""
        due_s = self._pace.due_s - self._clock.now().mono_s
        if due_s > 0:
            self._pause(stop, min(due_s, _IDLE_S))
            return
        try:
            reply = self._ask()
            if reply.status == 409:
                log.warning("commands=begin_again reason=generation_changed")
                self._keep(Place("", self._place.done))
            page, cursor = _read(reply)
            for event in page:
                if stop.is_set():
                    return
                if event is not None:
                    self._carry_out(event)
            self._tell_unreadable(page.count(None))
            self._keep(Place(cursor, self._place.done))
        except Unavailable as error:
            wait_s = self._pace.failed(self._clock.now().mono_s, _asked(error))
            log.debug("commands=waiting wait_s=%.1f reason=%r", wait_s, error.reason)
            return
        self._pace.worked(self._clock.now().mono_s, backlog=True)

    def close(self) -> None:
        """Drop the connection."""
        self._client.close()

    def _ask(self) -> Reply:
        query = f"?after={self._place.cursor}&wait={self._poll_s:g}"
        self._pace.sent(self._clock.now().mono_s)
        return self._client.call("GET", f"{gateway_path(self._gateway)}/commands{query}", wait_s=self._poll_s)

    def _carry_out(self, event: _Event) -> None:
        if event.id in self._place.done:
            return
        kind = event.type.removeprefix(_PREFIX).removesuffix(_SUFFIX)
        command = Command(event.id, kind, event.data or {})
        completed = self._run(command)
        report_type = type_of(completed)
        digest = hashlib.sha256(f"command {event.id}".encode()).digest()[:8]
        report = draft(
            report_type.stream, report_type.name, completed, source=self._origin.source("sync/commands"),
            at=self._clock.now(), subject=event.id[:200], dedupe=digest,
        )  # fmt: skip
        if not self._emit(report):
            raise Unavailable("report command", kind, "the journal does not take it now")
        self.carried_out += 1
        log.info("command=%s outcome=%s", kind if kind in self._handlers else "unknown", completed.outcome)
        self._keep(Place(self._place.cursor, (*self._place.done, event.id)[-_KEPT:]))

    def _tell_unreadable(self, count: int) -> None:
        """Such a page is not left behind: its readable commands are carried out, and it is asked for again.

        Raises:
            Unavailable: some of it cannot be read.
        """
        if count != self._unreadable:
            self._unreadable = count
            log.warning("commands=%s unreadable=%d", "unreadable" if count else "readable_again", count)
        if count:
            raise Unavailable("ask for commands", "platform", f"{count} commands of a page cannot be read")

    def _run(self, command: Command) -> CommandCompleted:
        completed = partial(CommandCompleted, command=command.id, kind=command.kind[:_KIND_LIMIT])
        handler = self._handlers.get(command.kind)
        if handler is None:
            return completed(outcome="unknown", detail="this gateway does not know the command")
        try:
            return completed(outcome="done", result=dict(handler(command)))
        except Unavailable:
            raise
        except JournalError as error:  # full, or stopping: nothing was decided, and what was asked still holds
            raise Unavailable("carry out command", command.kind[:_KIND_LIMIT], error.reason, error.hint) from error
        except Rejected as error:
            return completed(outcome="refused", detail=error.reason)
        except StorefrontError as error:
            return completed(outcome="failed", detail=error.reason)
        except _DEFECTS as error:  # it would come again for ever, and with it no command behind it: no erasure either
            log.error("command=%s failed=%s", command.kind, type(error).__name__)
            return completed(outcome="failed", detail=f"a defect of the gateway's software ({type(error).__name__})")

    def _keep(self, place: Place) -> None:
        if place != self._place:
            self._places.save(place)
            self._place = place


class _Later(Unavailable):
    """The platform said when to come back."""

    after_s: float | None = None


def _asked(error: Unavailable) -> float | None:
    return error.after_s if isinstance(error, _Later) else None


def _read(reply: Reply) -> tuple[list[_Event | None], str]:
    """The commands of a valid answer, None for one that cannot be read, and the cursor behind them.

    Raises:
        Unavailable: anything else.
    """
    cursor = reply.headers.get("feed-next", "")
    reason = f"HTTP {reply.status}"
    if (
        reply.status == 200
        and cursor
        and len(cursor) <= 400
        and cursor.isascii()
        and cursor.replace("-", "").replace("_", "").isalnum()
    ):
        try:
            page = _page.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            reason = f"not a page of commands ({error})"
        else:
            if len(page) <= _MAX_IN_PAGE:
                return [_readable(raw) for raw in page], cursor
            reason = "not a page of commands"
    later = _Later("ask for commands", "platform", reason)
    later.after_s = retry_after_s(reply.headers)
    raise later


def _readable(raw: msgspec.Raw) -> _Event | None:
    """One command of a page; None for what is none: it must not hold up those behind it."""
    try:
        event = _event.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return event if 0 < len(event.id) <= 200 else None
