"""Housekeeping: what must be done to a journal that runs for years — retention, keys, identity, the size of its log.

Daily at 03:10 store time, and in small steps whenever the quota is half used, old events go; what goes undelivered is
declared as an event. Day keys die after their 48 hours. After a salvage it raises the alarm that a person will see.
Knows the policy of the settings and the order of chores; deciding what may go is `journal.retention`'s.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, TimeoutError
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from zoneinfo import ZoneInfo

import msgspec

from config.settings import RetentionSettings, Settings
from gateway.clock import Clock, Instant
from gateway.errors import JournalError, JournalFull, Unavailable
from gateway.event import STREAMS, Draft, Origin, draft
from gateway.event_types import AlarmCleared, AlarmRaised, EventData, LossDeclared, type_of
from gateway.intake.inlet import Inlet, Item
from gateway.journal import identity
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.loss import LossDeclared as LostRange
from gateway.journal.reader import JournalReader
from gateway.journal.retention import Retention, RetentionPolicy, Swept
from gateway.journal.schema import WAL_LIMIT_BYTES, fill_share
from gateway.runtime.schedule import Job, Plan, Schedule
from gateway.shopper.consent import Consents
from gateway.shopper.day_keys import DayKeys
from gateway.workers.feed_watch import FeedWatch, Finding, expire

if TYPE_CHECKING:
    import sqlite3

log = logging.getLogger(__name__)
T = TypeVar("T")

_LANE = ".housekeeping"
_OFFER_S = 0.25
_OFFERS = 4
_LOOK_EVERY_S = 10.0
_SWEEP_SEEN_S = 5.0  # how long after the calendar a sweep may begin
_IDENTITY_EVERY_S = 3600.0
_CALM_S = 5.0
_STEPS = 20  # chunks of 500 rows in one step of the worker
_ANSWER_S = 30.0
_WAL_PATIENCE_S = 60.0
_FIRST_EVENTS = 200  # an alarm about a salvage is among the first events after it
SALVAGED = "journal_salvaged"
WAL_LARGE = "journal_log_large"
_DAY_S = 86_400.0


class Gateway(Protocol):
    """What housekeeping works on (`gateway.app.Gateway`)."""

    settings: Settings
    origin: Origin
    clock: Clock
    inlet: Inlet
    commits: CommitLoop
    day_keys: DayKeys
    consents: Consents
    journal_path: Path


def policy_of(settings: RetentionSettings) -> RetentionPolicy:
    """What may go, by the settings: delivered events after so many days.

    What was not delivered stays until the policy's own hard limits (observations 90 days, measurements 400,
    transactions for ever), or longer where the settings say so: a changed setting never deletes what nobody has yet.
    """
    base = RetentionPolicy()
    keep_s = {stream: getattr(settings, f"{stream}_days") * _DAY_S for stream in STREAMS}
    hard_s = {stream: max(limit_s, keep_s[stream]) for stream, limit_s in base.max_age_s.items()}
    return msgspec.structs.replace(base, keep_s=keep_s, max_age_s=hard_s)


class Chores:
    """The calendar of the house; outlives the workers that follow it."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self.sweep = threading.Event()  # set: retention is due
        self.plan = Plan(
            (
                Job(name="retention", run=self.sweep.set, hour=3, minute=10, after_start_s=300.0),
                Job(name="day keys", run=self.destroy_keys, minute=5, after_start_s=60.0),
                Job(name="consents", run=self.sweep_consents, hour=3, minute=40, after_start_s=600.0),
            ),
            ZoneInfo(gateway.settings.gateway.time_zone),
        )

    def destroy_keys(self) -> None:
        """Destroy the day keys that have served.

        Raises:
            Unavailable: a key file cannot be overwritten or removed; the calendar tries again.
        """
        try:
            destroyed = self._gateway.day_keys.destroy_old(self._gateway.clock.now())
        except (OSError, ValueError) as error:
            raise Unavailable(
                "destroy day keys", "keys", str(error), "remove foreign files from the folder; it must be writable"
            ) from error
        if destroyed:
            log.info("day_keys=destroyed count=%d", destroyed)

    def sweep_consents(self) -> None:
        """Remove consents that ended long ago.

        Raises:
            Unavailable: the journal does not answer; the calendar tries again.
        """
        if swept := self._gateway.consents.sweep(self._gateway.clock.now().wall_s):
            log.info("consents=swept rows=%d", swept)


class Calendar:
    """Worker: follows the plan, some seconds after the start: its library takes 0.1 s that the first events need."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        """Store."""
        self._schedule = Schedule(plan, clock)
        self._calm = False

    def open(self) -> None:
        """Nothing to acquire."""

    def step(self, stop: threading.Event) -> None:
        """Run what is due, or wait for it."""
        if self._calm:
            self._schedule.step(stop)
        else:
            self._calm = True
            stop.wait(_CALM_S)

    def close(self) -> None:
        """Nothing to release."""


class Housekeeping:
    """Worker: one small chore a step."""

    def __init__(self, gateway: Gateway, chores: Chores, *, wal_alarm_bytes: int = 2 * WAL_LIMIT_BYTES) -> None:
        """`wal_alarm_bytes`: a write-ahead log that stays above this is an alarm."""
        self._gateway = gateway
        self._chores = chores
        self._wal_alarm_bytes = wal_alarm_bytes
        self._retention = Retention(policy_of(gateway.settings.storage.retention))
        feed = gateway.settings.feed
        self._consumers = FeedWatch([consumer.name for consumer in feed.consumers], feed.dead_after_days)
        self._wal = gateway.journal_path.with_name(gateway.journal_path.name + "-wal")
        self._wal_large_s: float | None = None
        self._wal_told = False
        self._looked_s: float | None = None
        self._saved_s: float | None = None
        self._overrun: tuple[str, ...] = ()
        self._lost: list[LostRange] = []  # what was given up and has not been told yet; ranges are joined

    def open(self) -> None:
        """Nothing yet: the journal may still be opening, and a salvage takes its time."""

    def step(self, stop: threading.Event) -> None:
        """Do what is due, or wait until something is."""
        now = self._gateway.clock.now()
        if not self._gateway.commits.is_open:
            stop.wait(0.25)
            return
        try:
            if self._looked_s is None:
                if not self._say(self._salvage_drafts(now), stop):
                    return
                self._saved_s = now.mono_s
            if self._looked_s is None or now.mono_s - self._looked_s >= _LOOK_EVERY_S:
                self._looked_s = now.mono_s
                self._look(now, stop)
            if self._lost:
                self._tell_losses(stop)
            if self._chores.sweep.is_set():
                self._sweep(stop)
            else:
                stop.wait(_SWEEP_SEEN_S)
        except JournalFull:
            stop.wait(1.0)  # the commit loop says so; deleting is tried again
        except JournalError:
            if not stop.is_set():  # a gateway that stops answers no more
                raise

    def close(self) -> None:
        """Nothing to release."""

    def _look(self, now: Instant, stop: threading.Event) -> None:
        if self._ask(fill_share, stop, 0.0) >= RetentionPolicy().relax_above:
            self._chores.sweep.set()
        if self._saved_s is not None and now.mono_s - self._saved_s >= _IDENTITY_EVERY_S:
            self._saved_s = now.mono_s
            self._ask(lambda connection: identity.save(self._gateway.journal_path, connection), stop, None)
        self._watch_wal(now, stop)
        self._watch_consumers(now, stop)

    def _sweep(self, stop: threading.Event) -> None:
        """Delete some chunks and say what went undelivered; the wish stays while there is more."""
        clock = self._gateway.clock
        lost: list[LostRange] = []
        for _ in range(_STEPS):
            swept = self._ask(lambda c: self._retention.step(c, clock.now()), stop, Swept(0, more=True))
            lost += swept.declared
            if swept.overrun and swept.overrun != self._overrun:
                self._overrun = swept.overrun
                log.warning(
                    "retention=overran cursors=%s hint='these readers are too far behind'", ",".join(swept.overrun)
                )
            if not swept.more:
                self._chores.sweep.clear()
                break
            if stop.is_set():
                break
        for loss in _joined(lost):
            log.warning("retention=expired stream=%s events=%d reason=%s", loss.stream, loss.count, loss.reason)
        # Deleting makes the room that telling of it needs: it goes on, and what it gave up is told once there is room.
        self._lost = _joined(sorted(self._lost + lost, key=lambda loss: (loss.stream, loss.first)))
        self._tell_losses(stop)

    def _watch_consumers(self, now: Instant, stop: threading.Event) -> None:
        """What holds deleting up, and what is given up for it; said first and done then."""
        nothing: list[Finding] = []
        for finding in self._ask(lambda connection: self._consumers.look(connection, now), stop, nothing):
            if self._say([self._draft(event, now) for event in finding.events], stop):
                self._consumers.said(finding)
                if finding.expire:
                    log.error("feed_consumer=expired name=%s", finding.consumer)
                    name, now_ms = finding.consumer, int(now.wall_s * 1000)
                    self._ask(lambda connection: expire(connection, name, now_ms), stop, None)  # noqa: B023 - waited for

    def _watch_wal(self, now: Instant, stop: threading.Event) -> None:
        """A log that stays large is held by a reader that does not let go."""
        size_bytes = self._wal.stat().st_size if self._wal.exists() else 0
        if size_bytes <= self._wal_alarm_bytes:
            self._wal_large_s = None
            if self._wal_told:
                cleared = AlarmCleared(what=WAL_LARGE, severity="warning")
                self._wal_told = not self._say([self._draft(cleared, now)], stop)
            return
        if self._wal_large_s is None:
            self._wal_large_s = now.mono_s
        elif now.mono_s - self._wal_large_s >= _WAL_PATIENCE_S and not self._wal_told:
            log.warning("journal=log_large bytes=%d", size_bytes)
            hint = "a program reads the journal and does not let go: end it (fuser names it)"
            raised = AlarmRaised(what=WAL_LARGE, severity="warning", hint=hint)
            self._wal_told = self._say([self._draft(raised, now)], stop)

    def _salvage_drafts(self, now: Instant) -> list[Draft]:
        """The alarm and the losses of the last salvage, unless the journal holds them already.

        Read from the journal itself, so that a salvage by hand and a crash after a salvage are told, too.
        """
        gateway = self._gateway
        with JournalReader(gateway.journal_path) as reader:
            epoch = reader.epochs("transactions")[-1]
            if epoch.reason != "salvaged" or reader.state("transactions").oldest > epoch.base + 1:
                return []
            for event in reader.read("transactions", epoch.base, _FIRST_EVENTS):
                if SALVAGED.encode() in event.json and event.decode()["data"].get("what") == SALVAGED:
                    return []
            rows = reader.query(
                "SELECT subject, first, last, count FROM loss WHERE reason = 'salvage' AND at_ms = ? AND count > 0",
                (epoch.opened_ms,),
            )
        lost = [LostRange(row[0], row[1], row[2], row[3], "salvage") for row in rows]
        count = sum(loss.count for loss in lost)
        files = gateway.journal_path.parent.glob(f"{gateway.journal_path.name}.damaged-*")
        aside = sorted(path.name for path in files if not path.name.endswith("-wal"))
        hint = (
            f"the journal was damaged and has been recovered; {count} undelivered events are lost. Check the disk and "
            f"the power supply. The damaged files are kept{': ' + aside[-1] if aside else ''}"
        )
        log.error("journal=was_salvaged undelivered_lost=%d", count)
        alarm = self._draft(AlarmRaised(what=SALVAGED, severity="critical", hint=hint), now)
        return [alarm, *(self._loss_draft(loss, now) for loss in lost)]

    def _tell_losses(self, stop: threading.Event) -> None:
        now = self._gateway.clock.now()
        if self._say([self._loss_draft(loss, now) for loss in self._lost], stop):
            self._lost = []

    def _say(self, drafts: Sequence[Draft], stop: threading.Event) -> bool:
        """Into the inlet like any source; False when that stayed full: a step must come back all the same."""
        item = Item(drafts)
        for _ in range(_OFFERS if drafts else 0):
            if self._gateway.inlet.offer(_LANE, item, _OFFER_S):
                return True
            if stop.is_set():
                break
        return not drafts

    def _ask(self, work: Callable[[sqlite3.Connection], T], stop: threading.Event, otherwise: T) -> T:
        """Have `work` done on the writing thread; `otherwise` when the gateway stops meanwhile.

        Raises:
            Unavailable: no answer for half a minute.
        """
        future: Future[T] = self._gateway.commits.submit(work)
        for _ in range(int(_ANSWER_S / _OFFER_S)):
            try:
                return future.result(_OFFER_S)
            except TimeoutError:
                if stop.is_set() and future.cancel():
                    return otherwise
        future.cancel()
        raise Unavailable("keep house", "journal", "the writer does not answer", "see the log for what holds it")

    def _loss_draft(self, loss: LostRange, now: Instant) -> Draft:
        reason = {"retention": "retention", "quota": "quota"}.get(loss.reason, "salvage")
        data = msgspec.convert(
            {"subject": loss.stream, "count": loss.count, "reason": reason, "first": loss.first, "last": loss.last},
            LossDeclared,
        )
        return self._draft(data, now, loss.stream)

    def _draft(self, data: EventData, now: Instant, subject: str | None = None) -> Draft:
        entry = type_of(data)
        source = self._gateway.origin.source("gateway")
        return draft(entry.stream, entry.name, data, source=source, at=now, subject=subject)


def _joined(lost: Sequence[LostRange]) -> list[LostRange]:
    """Ranges that carry on from each other, as one."""
    joined: list[LostRange] = []
    for loss in lost:
        last = joined[-1] if joined else None
        if last and (last.stream, last.reason, last.last + 1) == (loss.stream, loss.reason, loss.first):
            joined[-1] = LostRange(loss.stream, last.first, loss.last, last.count + loss.count, loss.reason)
        else:
            joined.append(loss)
    return joined


def salvage_under_way(journal: Path) -> bool:
    """True while a salvage of that journal has begun and not ended (it leaves a note until then)."""
    return journal.with_name(journal.name + ".salvage").exists()
