"""Looks at the parts of a running gateway and writes down what they are: the `Facts` that a snapshot is made from.

One thread uses an observer: it has a journal reader of its own, and every look is a few short queries. What changes
slowly is looked up less often. Knows what the parts expose; judges nothing.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import version

import psutil

from gateway.access.audit import Newest
from gateway.access.server_tls import LOOPBACK
from gateway.clock import Instant
from gateway.errors import JournalError, Rejected
from gateway.event import STREAMS, Stream
from gateway.event_types import AuditRecorded
from gateway.intake.health import DeviceReport
from gateway.journal.quarantine import Quarantined, entries, get
from gateway.journal.reader import UPLINK, JournalReader, StoredEvent, StreamState
from gateway.journal.writer import REFUSE_ABOVE
from gateway.projections import coupons, devices, feedback, footfall, sales
from gateway.projections.kpi import Kpis, Sources, day_kpis
from gateway.projections.kpi_rows import read_rows
from gateway.projections.kpi_sources import sells, sources_of
from gateway.projections.kpi_view import DayView, Outlook, read_compared, read_day, read_outlook
from gateway.projections.opening import day_span
from gateway.projections.store_time import StoreTime
from gateway.reports.making import Order
from gateway.reports.render import Format
from gateway.reports.words import Language as LanguageName
from gateway.status.event_words import line_of
from gateway.status.parts import Gateway
from gateway.status.quarantine import Replayed
from gateway.status.report_routes import Chosen
from gateway.status.snapshot import (
    Battery,
    EventLine,
    Facts,
    Identity,
    PlannedDevice,
    Rate,
    ReadModel,
    Refusal,
    Sending,
    StorageFacts,
)  # fmt: skip
from gateway.status.today import DayFacts

SHOWN: dict[Stream, int] = {"transactions": 6, "measurements": 5, "observations": 6}  # newest events in words
_LOOKED_THROUGH = 24  # newest events of a stream, some of which nobody wants to read
_DAY_MS = 86_400_000
_RATE_WINDOW_S = 600.0
_RATE_EVERY_S = 5.0
_SLOW_EVERY_S = 15.0
_REFUSALS = 5
_ACTS = 200
_TOLD = 60
_VIEW_EVERY_S = 3.0
_OUTLOOK_EVERY_S = 20.0  # of the days behind us, which are still being counted after a start
_BATTERY_TOLD_S = 14 * 86_400.0  # a sensor that has not told for longer is not there any more
_SPOKEN_WINDOW_S = 300.0
_SPOKEN_EVERY_S = 15.0
_SPOKEN_LEAST_S = 30.0


class Observer:
    """Life: `observe` as often as wanted, `close` once."""

    def __init__(self, gateway: Gateway) -> None:
        """Store."""
        self._gateway = gateway
        self._reader = JournalReader(gateway.journal_path)
        self._process = psutil.Process()
        self._version = version("storefront-gateway")
        self._time = StoreTime(gateway.settings.gateway.time_zone)
        self._samples: deque[tuple[float, int]] = deque()
        self._spoken: dict[str, deque[tuple[float, int]]] = {}
        self._slow_s: float | None = None
        self._quarantined: int | None = None
        self._quarantined_hour: int | None = None
        self._refusals: tuple[Refusal, ...] = ()
        self._last_events: dict[str, int] = {}
        self._batteries: dict[str, Battery] = {}
        self._counted_ever = False
        self._view: tuple[DayView, float, int] | None = None
        self._trail = Newest(_ACTS)
        self._told: set[tuple[str, str]] = set()  # stretches of days of which something is known
        self._past: tuple[Kpis, tuple[str, int], float] | None = None
        self._outlook: tuple[Outlook, float] | None = None
        self._shown: dict[Stream, tuple[int, list[EventLine]]] = {}

    def observe(self) -> Facts:
        """Everything as it is now.

        Raises:
            JournalError: the journal cannot be read.
        """
        gateway = self._gateway
        now = gateway.clock.now()
        open_ = self._readable()
        if open_:
            self._look_slowly(now)
        states = tuple(self._reader.states()) if open_ else None
        supervisor, reports = gateway.supervisor, tuple(gateway.board.reports(now))
        return Facts(
            now=now,
            started=gateway.started,
            identity=self._identity(),
            ready=supervisor.ready(),
            healthy=supervisor.healthy(),
            clock_steps=getattr(gateway.clock, "steps", None),
            planned=self._planned(self._rates(now, reports)),
            plugged=tuple(gateway.plugged()),
            reports=reports,
            workers=tuple(supervisor.states()),
            lanes=gateway.inlet.counters(),
            waiting_in_inlet=gateway.inlet.size,
            commits=gateway.commits.counters,
            persons=gateway.person_counts(),
            coupons=None if gateway.coupons is None else gateway.coupons.figures(),
            admitted=gateway.commits.admitted,
            streams=states,
            sending=tuple(
                Sending(stream=it.stream, condition=it.condition, reason=it.reason, next_try_s=it.next_try_s)
                for it in gateway.delivery_states()
            ),
            storage=self._storage(states) if states else None,
            rate=self._rate(now, states) if states else None,
            quarantine_held=self._quarantined,
            refusals=self._refusals,
            read_models=self._read_models(states) if states else None,
            day=self._day(now) if open_ else None,
            plan=gateway.settings.floor,
            events=self._events(states) if states else (),
            guests=tuple(gateway.guests()),
            rss_bytes=self._process.memory_info().rss,
            quarantined_hour=self._quarantined_hour,
            limits=gateway.alerts.limits,
            alarms=gateway.alerts.alarms(),
            alerts=gateway.alerts.view(),
        )

    def newest(self, stream: Stream, limit: int) -> list[StoredEvent]:
        """The newest events of a stream, newest first; [] while there is no journal.

        Raises:
            JournalError: the journal cannot be read.
        """
        if not self._readable():
            return []
        head = self._reader.head(stream)
        return self._reader.read(stream, max(0, head - limit), limit)[::-1]

    def acts(self, limit: int) -> list[AuditRecorded] | None:
        """The newest records of the audit trail, newest first; [] while there is no journal; None: ask again.

        Raises:
            JournalError: the journal cannot be read.
        """
        if not self._readable():
            return []
        return self._trail.records[:limit] if self._trail.look(self._reader) else None

    def quarantine(self, before: int | None, limit: int) -> list[Quarantined]:
        """Entries of the quarantine, newest first, those with an id below `before`."""
        return entries(self._reader, before=before, limit=limit) if self._readable() else []

    def quarantined(self, entry: int) -> tuple[Quarantined, bytes]:
        """One entry and its message, opened.

        Raises:
            Rejected: there is no such entry, or no key opens it.
        """
        if not self._readable():
            raise Rejected("show quarantined", str(entry), "the journal is not open yet")
        try:
            return get(self._reader, entry, self._gateway.seal)
        except JournalError as error:  # a lost key is no lost journal
            raise Rejected("show quarantined", str(entry), error.reason, error.hint) from error

    def ask_replay(self, entry: int) -> Callable[[], Replayed | None]:
        """Have an entry tried again; what is returned gives the outcome once there is one."""
        return self._gateway.replay(entry)

    def chosen(self, day: str, *, week: bool) -> Chosen:
        """A day or its week, and whether anything is known of it; `day` "": today."""
        now_ms, time = int(self._gateway.clock.now().wall_s * 1000), self._time
        today = time.day(now_ms)
        day = day or today
        noon_ms = sum(day_span(day, time)) // 2
        first_ms = noon_ms
        if week:
            first_ms -= date.fromisoformat(day).weekday() * _DAY_MS
        last_ms = first_ms + (6 * _DAY_MS if week else 0)
        first, last, step = time.day(first_ms), time.day(last_ms), 7 if week else 1
        after = time.day(noon_ms + step * _DAY_MS)
        known = (first, last) in self._told
        if not known and self._readable():
            rows = read_rows(self._reader.query, first, last, time)
            known = not day_kpis(rows, self._sources(), time, now_ms).empty
            if known:  # and stays so: nobody needs to add it up again
                self._told = {*list(self._told)[-_TOLD:], (first, last)}
        return Chosen(
            day=day, week=week, first=first, last=last, first_ms=first_ms, last_ms=last_ms, today=today,
            before=time.days_before(noon_ms, step), after=after if after <= today else "", known=known,
        )  # fmt: skip

    def order(self, day: str, *, week: bool, format: Format, language: LanguageName) -> Order:
        """All that making a report takes; `day` "": today."""
        settings, now_ms = self._gateway.settings, int(self._gateway.clock.now().wall_s * 1000)
        return Order(
            journal=str(self._reader.path.absolute()), day=day or self._time.day(now_ms), week=week, format=format,
            language=language, store=settings.gateway.store, time_zone=settings.gateway.time_zone, now_ms=now_ms,
            sources=self._sources(),
        )  # fmt: skip

    def _sources(self) -> Sources:
        return sources_of(self._gateway.settings, self._gateway.plans)

    def close(self) -> None:
        """Release the reader."""
        self._reader.close()

    def _readable(self) -> bool:
        if not self._reader.is_open and self._gateway.commits.is_open:
            self._reader.open()
        return self._reader.is_open

    def _identity(self) -> Identity:
        settings, origin = self._gateway.settings, self._gateway.origin
        return Identity(
            tenant=origin.tenant, store=origin.store, gateway=origin.gateway, version=self._version,
            time_zone=settings.gateway.time_zone, language=settings.gateway.language,
            platform=settings.platform.configured, page_open=settings.page.host not in LOOPBACK,
        )  # fmt: skip

    def _planned(self, per_minute: Mapping[str, float]) -> tuple[PlannedDevice, ...]:
        gateway = self._gateway
        devices = [
            PlannedDevice(
                name=plan.name,
                driver=plan.settings.driver,
                zone=plan.settings.zone,
                worker=gateway.worker_of(plan.name),
                sales=sells(plan),
                zones=tuple(dict.fromkeys(plan.settings.antenna_zones.values())),
                last_event_ms=self._last_events.get(gateway.origin.source(plan.path)),
                per_minute=per_minute.get(plan.name),
                battery=self._batteries.get(gateway.origin.source(plan.path)),
                stale_after_s=plan.settings.stale_after_s,
            )
            for plan in gateway.plans
        ]
        cameras = [
            PlannedDevice(
                name=camera.name,
                driver="camera",
                zone="",
                worker=f"camera-{camera.name}",
                last_event_ms=self._last_events.get(gateway.origin.source(f"camera/{camera.name}")),
                per_minute=per_minute.get(camera.name),
                stale_after_s=camera.stale_after_s,
            )
            for camera in gateway.settings.cameras
            if camera.enabled
        ]
        return (*devices, *cameras)

    def _rates(self, now: Instant, reports: Sequence[DeviceReport]) -> dict[str, float]:
        """What each device said a minute, over the last minutes."""
        for gone in self._spoken.keys() - {report.name for report in reports}:
            del self._spoken[gone]
        rates = {}
        for report in reports:
            samples = self._spoken.setdefault(report.name, deque())
            if not samples or now.mono_s - samples[-1][0] >= _SPOKEN_EVERY_S:
                samples.append((now.mono_s, report.readings))
            while now.mono_s - samples[0][0] > _SPOKEN_WINDOW_S:
                samples.popleft()
            begun_s, begun = samples[0]
            if now.mono_s - begun_s >= _SPOKEN_LEAST_S:
                rates[report.name] = (report.readings - begun) * 60 / (now.mono_s - begun_s)
        return rates

    def _look_slowly(self, now: Instant) -> None:
        if self._slow_s is not None and now.mono_s - self._slow_s < _SLOW_EVERY_S:
            return
        self._slow_s = now.mono_s
        query = self._reader.query
        self._quarantined = int(query("SELECT count(*) AS held FROM quarantine WHERE state = 'held'")[0]["held"])
        hour_ms = int((now.wall_s - 3600) * 1000)
        self._quarantined_hour = int(
            query("SELECT count(*) AS held FROM quarantine WHERE state = 'held' AND at_ms > ?", (hour_ms,))[0]["held"]
        )
        self._refusals = tuple(
            Refusal(row["at_ms"], row["topic"], row["reason"])
            for row in query(
                "SELECT at_ms, topic, reason FROM quarantine WHERE source = ? ORDER BY id DESC LIMIT ?",
                (UPLINK, _REFUSALS),
            )
        )
        self._last_events = {it.source: it.last_ms for it in devices.last_events(query)}
        told_ms = int((now.wall_s - _BATTERY_TOLD_S) * 1000)
        self._batteries = {
            it.source: Battery(it.sensor, it.percent) for it in devices.emptiest_batteries(query, told_ms)
        }
        self._counted_ever = footfall.counted_ever(query)

    def _storage(self, states: Sequence[StreamState]) -> StorageFacts:
        path = self._reader.path
        sizes = self._reader.query(
            "SELECT page_count * page_size AS file, freelist_count * page_size AS free "
            "FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )[0]
        try:
            wal_bytes = path.with_name(path.name + "-wal").stat().st_size
        except OSError:
            wal_bytes = 0
        return StorageFacts(
            quota_bytes=self._gateway.settings.storage.max_mib << 20,
            file_bytes=int(sizes["file"]),
            free_pages_bytes=int(sizes["free"]),
            wal_bytes=wal_bytes,
            disk_free_bytes=shutil.disk_usage(path.parent).free,
            kept=sum(state.accepted - state.oldest + 1 for state in states if state.oldest),
            refuse_share=min(REFUSE_ABOVE.values()),
        )

    def _rate(self, now: Instant, states: Sequence[StreamState]) -> Rate | None:
        total = sum(state.accepted for state in states)
        samples = self._samples
        if not samples or now.mono_s - samples[-1][0] >= _RATE_EVERY_S:
            samples.append((now.mono_s, total))
        while now.mono_s - samples[0][0] > _RATE_WINDOW_S:
            samples.popleft()
        begun_s, begun = samples[0]
        return Rate(total - begun, now.mono_s - begun_s) if now.mono_s > begun_s else None

    def _read_models(self, states: Sequence[StreamState]) -> tuple[ReadModel, ...]:
        heads = {state.stream: state.accepted for state in states}
        behind: dict[str, int] = {}
        for row in self._reader.query("SELECT name, stream, position FROM cursor WHERE name GLOB 'projection:*'"):
            name = str(row["name"]).partition(":")[2]
            behind[name] = behind.get(name, 0) + max(0, heads.get(row["stream"], 0) - row["position"])
        return tuple(ReadModel(name, count) for name, count in sorted(behind.items()))

    def _day(self, now: Instant) -> DayFacts:
        settings, query = self._gateway.settings, self._reader.query
        now_ms = int(now.wall_s * 1000)
        day = self._time.day(now_ms)
        tills = {plan.name for plan in self._gateway.plans if sells(plan)}
        live = {it.name for it in self._gateway.board.reports(now) if it.condition in ("live", "stale")}
        lines = tuple(footfall.lines_of(query, day))
        counter = self._counted_ever or any(camera.enabled for camera in settings.cameras)
        if self._view is None or self._view[0].day != day or now.mono_s - self._view[1] >= _VIEW_EVERY_S:
            sources = Sources(counter, tuple(sorted(tills)), settings.gateway.currency)
            balance = sum(line.people_in - line.people_out for line in lines)
            hour = self._time.bucket(now_ms)
            if self._past is None or self._past[1] != hour or now.mono_s - self._past[2] >= _OUTLOOK_EVERY_S:
                self._past = read_compared(query, day, sources, self._time, now_ms), hour, now.mono_s
            self._view = read_day(query, day, sources, self._time, now_ms, 0, self._past[0]), now.mono_s, balance
        if self._outlook is None or self._outlook[0].day != day or now.mono_s - self._outlook[1] >= _OUTLOOK_EVERY_S:
            self._outlook = read_outlook(query, day, self._time, 0), now.mono_s
        return DayFacts(
            day=day,
            now_ms=now_ms,
            currency=settings.gateway.currency,
            lines=lines,
            people_hours=tuple(footfall.hours_of(query, day)) if lines else (),
            sales_hours=tuple(sales.hours_of(query, day)),
            coupons=coupons.day_of(query, day),
            feedback=tuple(feedback.day_of(query, day)),
            view=self._view[0],
            view_balance=self._view[2],
            outlook=self._outlook[0],
            hour_now=self._time.hour(now_ms),
            counter_set_up=counter,
            tills=len(tills),
            tills_live=len(tills & live),
        )

    def _events(self, states: Sequence[StreamState]) -> tuple[EventLine, ...]:
        """The newest of every stream, so that a flood of one does not hide another; read again only when there are."""
        lines: list[EventLine] = []
        for state in states:
            seen, told = self._shown.get(state.stream, (-1, []))
            if seen != state.accepted:
                newest = self.newest(state.stream, _LOOKED_THROUGH)
                told = [line for event in newest if (line := line_of(event)) is not None][: SHOWN[state.stream]]
                self._shown[state.stream] = state.accepted, told
            lines += told
        return tuple(sorted(lines, key=lambda line: -line.at_ms))


assert set(SHOWN) == set(STREAMS)
