"""Quarantined messages tried again: requests laid down in the data directory, done by whoever owns the journal.

A command writes a request (ids, nothing else) with an atomic rename. The running gateway, or the command itself when
none runs, gives each message to a fresh driver of its device, commits what it becomes, marks the entry and only then
removes the request. After a crash in between the request is done again at once, and every event's dedupe key, which
follows from the entry, keeps it from being written twice. Knows how to try again; what a message means is its driver's.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from config.loader import data_directory
from config.settings import Settings
from devices.driver import Message
from devices.plan import DevicePlan
from devices.source import DEFECTS, Intake
from gateway.clock import Clock, Instant
from gateway.durable_file import replace_file
from gateway.errors import JournalError, Rejected, Unavailable
from gateway.event import Draft, Origin
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.intake.normaliser import Normaliser
from gateway.intake.person import Subjects
from gateway.intake.sightings import Sightings
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.quarantine import PayloadSeal, Quarantined, get, mark_replayed
from gateway.journal.reader import UPLINK, JournalReader
from gateway.journal.writer import JournalWriter
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.subjects import ShopperSubjects

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_COMMIT_S = 30.0
_ANSWER_KEPT_S = 3600.0
_LANE = ".replays"
_NAME_BYTES = 8
_KEY_TROUBLE = "use quarantine key"  # what `PayloadSeal` was doing when there is no key


class Outcome(msgspec.Struct, frozen=True):
    """What became of one entry. Only `appended` takes it out of quarantine.

    `events`: how many events it became. One that the journal had already, because its device sent it again meanwhile,
    is counted but not written twice.
    """

    id: int
    outcome: Literal["appended", "rejected", "nothing", "not_held"]
    events: int = 0
    reason: str = ""


class Request(msgspec.Struct, frozen=True):
    """Entries to be tried again; `name` is that of its file."""

    name: str
    ids: tuple[int, ...]


class Spool:
    """The folder where requests and answers lie. Any process may use it."""

    def __init__(self, settings: Settings) -> None:
        """The spool of a gateway with these settings; the folder is made when first needed."""
        self.folder = data_directory(settings) / "replay"

    def put(self, ids: Sequence[int]) -> Request:
        """Lay down a request, durable when this returns.

        Raises:
            Unavailable: the folder cannot be written.
        """
        request = Request(secrets.token_hex(_NAME_BYTES), tuple(ids))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_file(self.folder / f"{request.name}.request", msgspec.json.encode(request.ids))
        except OSError as error:
            raise Unavailable(
                "request replay", str(self.folder), error.strerror or str(error), "run it as the gateway's user"
            ) from error
        return request

    def waiting(self) -> list[Request]:
        """Requests not yet answered, oldest first; a file that is none is removed."""
        found: list[tuple[float, Request]] = []
        with contextlib.suppress(OSError):
            for path in self.folder.glob("*.request"):
                try:
                    ids = msgspec.json.decode(path.read_bytes(), type=tuple[int, ...])
                    found.append((path.stat().st_mtime, Request(path.stem, ids)))
                except msgspec.DecodeError:
                    log.warning("replay=unreadable_request file=%s", path.name)
                    path.unlink(missing_ok=True)
                except OSError as error:
                    log.warning("replay=unreadable_request file=%s reason=%s", path.name, error.strerror)
        return [request for _, request in sorted(found, key=lambda each: (each[0], each[1].name))]

    def answer(self, request: Request, outcomes: Sequence[Outcome]) -> None:
        """Say what became of it and take it away; answers that nobody fetched in an hour go, too.

        Raises:
            Unavailable: the folder cannot be written; the request stays.
        """
        try:
            replace_file(self.folder / f"{request.name}.answer", msgspec.json.encode(outcomes))
            self.withdraw(request)
            for old in self.folder.iterdir():
                if old.suffix != ".request" and time.time() - old.stat().st_mtime > _ANSWER_KEPT_S:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable("answer replay", str(self.folder), error.strerror or str(error)) from error

    def answered(self, request: Request) -> list[Outcome] | None:
        """The answer, which this takes away; None while there is none."""
        path = self.folder / f"{request.name}.answer"
        try:
            outcomes = msgspec.json.decode(path.read_bytes(), type=list[Outcome])
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(
                "read answer", str(path), "it is damaged", "list the quarantine to see what is left"
            ) from error
        path.unlink(missing_ok=True)
        return outcomes

    def withdraw(self, request: Request) -> None:
        """Remove the request."""
        (self.folder / f"{request.name}.request").unlink(missing_ok=True)


class Book(Protocol):
    """Where events are written. Used by one thread."""

    def append(self, drafts: Sequence[Draft]) -> bool:
        """Make them durable; False when the gateway stops before they are."""
        ...

    def mark(self, entry: int) -> None:
        """Note, durably, that the entry has been replayed."""
        ...


class Retry:
    """Gives quarantined messages to their drivers again, as if each had just come to a gateway of its own."""

    def __init__(
        self, settings: Settings, plans: Callable[[], Sequence[DevicePlan]], reader: JournalReader, seal: PayloadSeal,
        day_keys: DayKeys, clock: Clock, subjects: Subjects | None = None,
    ) -> None:  # fmt: skip
        """`plans`: asked each time, because a reload changes them; `reader` is open.

        `subjects`: whom consents allow to name; without it, as while the gateway stands, nobody is named.
        """
        self._settings = settings
        self._plans = plans
        self._reader = reader
        self._seal = seal
        self._day_keys = day_keys
        self._subjects = subjects
        self._clock = clock

    def serve(self, request: Request, book: Book) -> list[Outcome] | None:
        """Try every entry of a request; None when the gateway stops before the end (nothing is lost by that)."""
        outcomes: list[Outcome] = []
        for entry in dict.fromkeys(request.ids):
            outcome = self._one(entry, book)
            if outcome is None:
                return None
            outcomes.append(outcome)
        return outcomes

    def _one(self, number: int, book: Book) -> Outcome | None:
        try:
            entry, payload = get(self._reader, number, self._seal)
            if entry.state != "held":
                return Outcome(number, "not_held", reason="it was replayed before")
            drafts = self._drafts(entry, payload)
        except Rejected as error:
            reason = f"{error.reason} ({error.hint})" if error.hint else error.reason
            return Outcome(number, "rejected", reason=reason)
        except JournalError as error:
            if error.operation != _KEY_TROUBLE:
                raise
            return Outcome(number, "rejected", reason=f"{error.reason} ({error.hint})")  # a lost key is no lost journal
        if not drafts:
            return Outcome(number, "nothing", reason="its driver understands it, but nothing in it is an event")
        if not book.append(drafts):
            return None
        book.mark(number)
        return Outcome(number, "appended", len(drafts))

    def _drafts(self, entry: Quarantined, payload: bytes) -> list[Draft]:
        """What the message becomes. Raises Rejected when its driver refuses it again."""
        if entry.source == UPLINK:
            raise Rejected(
                "replay", str(entry.id), "the platform refused this event; no driver can change that",
                "settle it with the platform: the event and its number are in `storefront quarantine show`",
            )  # fmt: skip
        plan = next((plan for plan in self._plans() if plan.name == entry.source), None)
        if plan is None:
            raise Rejected(
                "replay", str(entry.id), f"no device {entry.source} is configured",
                "give the configuration that has it with --config",
            )  # fmt: skip
        gateway = self._settings.gateway
        origin = Origin(gateway.tenant, gateway.store, gateway.name)
        now = self._clock.now()
        at = Instant(entry.at_ms / 1000, now.mono_us, now.quality)
        # A normaliser of its own: a sighting of the past must not move what the shop's readers see now.
        normaliser = Normaliser(
            origin, Sightings(origin, self._settings.presence, self._subjects), self._day_keys, self._subjects,
            time_zone=gateway.time_zone, currency=gateway.currency,
        )  # fmt: skip
        place = Intake(normaliser, Inlet(), DeviceBoard(), self._clock).place(plan)
        key = blake2b(msgspec.json.encode(entry) + payload, digest_size=8).digest()
        drafts: list[Draft] = []
        try:
            for reading in plan.make().feed(Message(entry.topic, payload), at):
                drafts += normaliser.drafts(reading, place, at, b"", fresh=False)
        except DEFECTS as error:  # else the request would be tried, and would fail, for ever
            raise Rejected(
                "replay", str(entry.id), f"the driver failed: {type(error).__name__}",
                "this is a defect of the software: report it",
            ) from error  # fmt: skip
        return [_marked(draft, key, index) for index, draft in enumerate(drafts)]


class Replays:
    """Worker: does the requests that commands lay down while the gateway runs."""

    class Gateway(Protocol):
        """What it works on (`gateway.app.Gateway`)."""

        settings: Settings
        clock: Clock
        inlet: Inlet
        commits: CommitLoop
        seal: PayloadSeal
        day_keys: DayKeys
        subjects: ShopperSubjects
        journal_path: Path

        @property
        def plans(self) -> list[DevicePlan]:
            """The devices."""
            ...

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._spool = Spool(gateway.settings)
        self._reader = JournalReader(gateway.journal_path)
        self._retry = Retry(
            gateway.settings, lambda: gateway.plans, self._reader, gateway.seal, gateway.day_keys, gateway.clock,
            gateway.subjects,
        )  # fmt: skip

    def open(self) -> None:
        """Nothing yet: the journal may still be opening."""

    def step(self, stop: threading.Event) -> None:
        """Do the requests there are, or wait a moment."""
        requests = self._spool.waiting() if self._gateway.commits.is_open else []
        if requests and not self._reader.is_open:
            self._reader.open()
        for request in requests:
            try:
                outcomes = self._retry.serve(request, _InletBook(self._gateway.inlet, self._gateway.commits, stop))
            except JournalError:
                if stop.is_set():  # the journal answers no more; the request waits for the next start
                    return
                raise
            if outcomes is None:
                return
            self._spool.answer(request, outcomes)
            log.info("replay=done entries=%d events=%d", len(outcomes), sum(one.events for one in outcomes))
        if not requests:
            stop.wait(_LOOK_EVERY_S)

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()


class _InletBook:
    """Writes as every source of the running gateway does."""

    def __init__(self, inlet: Inlet, commits: CommitLoop, stop: threading.Event) -> None:
        self._inlet, self._commits, self._stop = inlet, commits, stop

    def append(self, drafts: Sequence[Draft]) -> bool:
        durable = threading.Event()
        item = Item(drafts, durable.set)
        until_s = time.monotonic() + _COMMIT_S
        while not self._inlet.offer(_LANE, item, 0.25):
            if self._stop.is_set():
                return False
            if time.monotonic() > until_s:
                raise Unavailable("replay", "inlet", "it stays full", "see `storefront doctor`: is the disk full?")
        while not durable.wait(0.25):
            if self._stop.is_set():
                return False
            if time.monotonic() > until_s:
                raise Unavailable(
                    "replay", "journal", "the events are not committed yet", "see `storefront doctor`: is it full?"
                )
        return True

    def mark(self, entry: int) -> None:
        self._commits.submit(lambda connection: mark_replayed(connection, entry)).result(_COMMIT_S)


class WriterBook:
    """Writes through a journal writer of one's own, when no gateway runs."""

    def __init__(self, writer: JournalWriter) -> None:
        """`writer` is open."""
        self._writer = writer

    def append(self, drafts: Sequence[Draft]) -> bool:
        """Durable when it returns."""
        self._writer.append(drafts)
        return True

    def mark(self, entry: int) -> None:
        """Durable when it returns."""
        self._writer.transact(lambda connection: mark_replayed(connection, entry))


def _marked(draft: Draft, key: bytes, index: int) -> Draft:
    """Says that it was replayed, and names the fact by the entry where the device gave it no name."""
    dedupe = draft.dedupe or blake2b(key + index.to_bytes(4, "big"), digest_size=8).digest()
    return msgspec.structs.replace(draft, body=b'{"replayed":true,' + draft.body[1:], dedupe=dedupe, fresh=False)
