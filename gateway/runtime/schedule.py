"""Calendar jobs: what happens at a time of day in the store (retention at 03:10, hourly closes, key destruction).

The one door to APScheduler 3, and only its calendar arithmetic (`CronTrigger`) comes through it. Its scheduler sleeps
until the next wall-clock time it planned: when a store box without a clock battery steps back an hour it fires nothing
for an hour, and when it steps from 1970 to today it walks through every missed hour and then drops the job as misfired.
Here a worker compares the plan with the clock once a second and plans anew whenever the wall clock was stepped.

Steady loops are `Periodic` workers instead. Knows nothing of what the jobs do.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, tzinfo
from typing import Any

import msgspec

from gateway.clock import Clock, Instant
from gateway.errors import JournalError, JournalFull
from gateway.runtime.worker import Wait, wait

_log = logging.getLogger(__name__)

_STEP_S = 1.0  # the longest a step waits; so long after a clock step the plan is right again
_RETRY_S = 600.0
_CLOCK_STEP_S = 2.0  # the wall clock moved this far against the monotonic one: stepped, not slewed


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One calendar job.

    It must bear being run twice: a wall clock that steps back passes the same hour again, and so does a change from
    summer time to winter time.

    Args:
        name: for the log and the page.
        run: what to do, on the schedule's thread; one job at a time.
        minute: 0–59.
        hour: 0–23 in the store's time zone; None: every hour.
        after_start_s: also once, so many monotonic seconds after the plan was made. A shop that cuts the power at
            night never sees 03:10, so what must happen daily needs this. None: not.
    """

    name: str
    run: Callable[[], None]
    minute: int
    hour: int | None = None
    after_start_s: float | None = None


class Planned(msgspec.Struct, frozen=True):
    """A job's state: next time by the wall clock, good runs and failures so far."""

    name: str
    next_at: datetime | None
    runs: int
    failures: int


class _Entry:
    """A job in the plan."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.trigger: Any = None  # CronTrigger; the library has no types
        self.next_at: datetime | None = None
        self.extra_due_s: float | None = None  # monotonic: once after the start, or again after a failure
        self.runs = 0
        self.failures = 0


class Plan:
    """What is due when. Outlives the worker that follows it, so that a job that crashes delays no other.

    Used by one thread at a time, but `planned` by any.

    Args:
        jobs: the calendar.
        zone: the store's time zone.
    """

    def __init__(self, jobs: Iterable[Job], zone: tzinfo) -> None:
        self._entries = [_Entry(job) for job in jobs]
        self._zone = zone
        self._offset_s: float | None = None  # wall minus monotonic; None: nothing is planned yet
        self.clock_steps = 0

    def due(self, now: Instant) -> list[Job]:
        """Jobs to run now, each once however many of its times have passed; they count as run.

        The first call plans and returns nothing. After a step back everything is planned anew from now; after a step
        forward a job whose time was jumped over runs now.
        """
        offset_s = now.wall_s - now.mono_s
        if self._offset_s is None:
            self._begin(now)
        elif abs(offset_s - self._offset_s) > _CLOCK_STEP_S:
            self.clock_steps += 1
            _log.warning("calendar state=replanned clock_step_s=%+.1f", offset_s - self._offset_s)
            if offset_s < self._offset_s:
                for entry in self._entries:
                    entry.next_at = self._after(entry, now)
        self._offset_s = offset_s  # always: slewing, however far it adds up, is not a step
        due: list[Job] = []
        for entry in self._entries:
            passed = entry.next_at is not None and entry.next_at <= now.wall_at
            if passed:
                entry.next_at = self._after(entry, now)
            extra = entry.extra_due_s is not None and entry.extra_due_s <= now.mono_s
            if passed or extra:
                entry.extra_due_s = None
                due.append(entry.job)
        return due

    def ran(self, job: Job) -> None:
        """Count a run that went well."""
        for entry in self._entries:
            entry.runs += entry.job is job

    def failed(self, job: Job, now: Instant) -> None:
        """Count a run that failed; the job is due again ten minutes later, not only on the next day."""
        for entry in self._entries:
            if entry.job is job:
                entry.failures += 1
                entry.extra_due_s = now.mono_s + _RETRY_S

    def planned(self) -> list[Planned]:
        """The plan for a person, in the order of the calendar."""
        return [Planned(e.job.name, e.next_at, e.runs, e.failures) for e in self._entries]

    def next_s(self, now: Instant) -> float | None:
        """Seconds until the next job, 0 or more; None when there is none."""
        waits = [(e.next_at - now.wall_at).total_seconds() for e in self._entries if e.next_at is not None]
        waits += [e.extra_due_s - now.mono_s for e in self._entries if e.extra_due_s is not None]
        return max(0.0, min(waits)) if waits else None

    def _begin(self, now: Instant) -> None:
        from apscheduler.triggers.cron import (
            CronTrigger,
        )  # takes 0.1 s to import: not before the first event is durable

        for entry in self._entries:
            job = entry.job
            hour = "*" if job.hour is None else job.hour
            entry.trigger = CronTrigger(hour=hour, minute=job.minute, second=0, timezone=self._zone)
            entry.next_at = self._after(entry, now)
            if job.after_start_s is not None:
                entry.extra_due_s = now.mono_s + job.after_start_s

    def _after(self, entry: _Entry, now: Instant) -> datetime | None:
        """The job's first time after now."""
        local = now.wall_at.astimezone(self._zone)
        at: datetime | None = entry.trigger.get_next_fire_time(None, local)
        if at is not None and at <= now.wall_at:  # exactly now counts as run
            at = entry.trigger.get_next_fire_time(at, local)
        return at


class Schedule:
    """The worker that follows a plan.

    Args:
        plan: shared by all objects of this worker, one after the other.
        clock: wall and monotonic time.
        wait: how to wait.
    """

    def __init__(self, plan: Plan, clock: Clock, wait: Wait = wait) -> None:
        self._plan = plan
        self._clock = clock
        self._wait = wait

    def open(self) -> None:
        """Nothing to acquire."""

    def step(self, stop: threading.Event) -> None:
        """Run what is due, or wait a second at most.

        Raises:
            JournalError: from a job; at once.
            Exception: what the first failing job raised, after the other due jobs had their turn.
        """
        now = self._clock.now()
        due = self._plan.due(now)
        first: Exception | None = None
        for job in due:
            try:
                job.run()
            except Exception as error:  # raised again below: a failing job must not take the others' turn
                self._plan.failed(job, now)
                if isinstance(error, JournalError) and not isinstance(error, JournalFull):
                    raise
                first = first or error
            else:
                self._plan.ran(job)
        if first is not None:
            raise first
        if not due:
            left_s = self._plan.next_s(now)
            self._wait(stop, _STEP_S if left_s is None else min(max(left_s, 0.01), _STEP_S))

    def close(self) -> None:
        """Nothing to release; the plan stays with its owner."""
