"""The state of the gateway at one moment, as typed values: what `/api/status` gives as JSON and the page shows.

Values and pure functions only: `snapshot` turns what was observed (`Facts`) into what a person or a machine wants to
know. A number that nobody knows is null, never 0, and says why. Knows no port, no thread and no language.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from config.settings import FloorSettings
from gateway.alerts.alert import Alarm, AlertsView
from gateway.alerts.rules import Limits
from gateway.clock import ClockQuality, Instant
from gateway.event import Stream
from gateway.intake.health import DeviceCondition, DeviceReport
from gateway.intake.inlet import LaneCounters
from gateway.journal.commit_loop import CommitCounters
from gateway.journal.reader import StreamState
from gateway.runtime.worker import State, WorkerState
from gateway.shopper.coupons import CouponFigures
from gateway.shopper.hints import Guest
from gateway.status.floor import Heat, Place, places_of
from gateway.status.today import DayFacts, Today, today

_RATE_OVER_S = 120.0  # a shorter look says nothing about a rate: after a start what waited comes in a burst
_SAMPLE_EVENTS = 500  # fewer stored events say nothing about their size
_DISK_RESERVE_BYTES = 64 << 20  # left to the system


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Which gateway this is. `page_open`: the page can be reached from other machines."""

    tenant: str
    store: str
    gateway: str
    version: str
    time_zone: str
    language: str
    platform: bool = False  # a platform is configured
    page_open: bool = False


class Battery(msgspec.Struct, frozen=True):
    """How full a sensor's battery is, in percent."""

    sensor: str
    percent: int


class PlannedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the configuration, and the worker that serves it."""

    name: str
    driver: str
    zone: str
    worker: str
    sales: bool = False
    zones: tuple[str, ...] = ()  # of its antennas
    last_event_ms: int | None = None  # recorded time of its last event, also of earlier runs
    per_minute: float | None = None  # what it said in the last minutes; null: not looked at for long enough
    battery: Battery | None = None  # the emptiest of its sensors
    stale_after_s: float = 0.0  # a silence of this length is usual


class PluggedDevice(msgspec.Struct, frozen=True, kw_only=True):
    """Something in a USB socket that is not set up. `kind`: a key of `words.PLUGGED`; `drivers` (): none can serve it.

    `address`: to write into the configuration; "" when it is no serial port.
    """

    kind: str
    usb_id: str
    product: str = ""
    address: str = ""
    drivers: tuple[str, ...] = ()
    since_ms: int


class StorageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The journal on its disk, in bytes. `kept` events are in it; the first stream is refused above `refuse_share`."""

    quota_bytes: int
    file_bytes: int
    free_pages_bytes: int
    wal_bytes: int
    disk_free_bytes: int
    kept: int
    refuse_share: float


class Rate(msgspec.Struct, frozen=True):
    """Events accepted over the last `over_s` seconds (at most ten minutes)."""

    events: int
    over_s: float


class ReadModel(msgspec.Struct, frozen=True):
    """A projection and how many events it has yet to fold."""

    name: str
    behind: int


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """A recent event in a few words: a message key, its parameters, and where. No personal data."""

    at_ms: int
    stream: Stream
    type: str
    key: str
    parameters: dict[str, str | int | float] = {}
    place: str = ""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream's delivery is now. `live` and `draining` work; `waiting`, `closed` and `unauthorised` do not."""

    stream: Stream
    condition: Literal["starting", "live", "draining", "waiting", "closed", "unauthorised"]
    reason: str = ""
    next_try_s: float = 0.0


class Refusal(msgspec.Struct, frozen=True):
    """An event that the platform refused: its id and the verdict."""

    at_ms: int
    event: str
    verdict: str


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was observed of the parts, all at about the same moment. None: the journal cannot be read yet."""

    now: Instant
    started: Instant
    identity: Identity
    ready: bool
    healthy: bool
    clock_steps: int | None
    planned: tuple[PlannedDevice, ...] = ()
    plugged: tuple[PluggedDevice, ...] = ()
    reports: tuple[DeviceReport, ...] = ()
    workers: tuple[WorkerState, ...] = ()
    lanes: dict[str, LaneCounters] = {}
    waiting_in_inlet: int = 0
    commits: CommitCounters = msgspec.field(default_factory=CommitCounters)
    persons: dict[str, int] = {}
    coupons: CouponFigures | None = None  # None: switched off
    admitted: tuple[Stream, ...] = ()
    streams: tuple[StreamState, ...] | None = None
    sending: tuple[Sending, ...] = ()
    storage: StorageFacts | None = None
    rate: Rate | None = None
    quarantine_held: int | None = None
    quarantined_hour: int | None = None
    refusals: tuple[Refusal, ...] = ()
    read_models: tuple[ReadModel, ...] | None = None
    day: DayFacts | None = None
    plan: FloorSettings = FloorSettings()
    events: tuple[EventLine, ...] = ()
    guests: tuple[Guest, ...] = ()
    rss_bytes: int | None = None
    limits: Limits = Limits()
    alarms: tuple[Alarm, ...] = ()
    alerts: AlertsView = AlertsView()


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device as it is now. `heard_s` and `since_s`: seconds ago; null when never or not known."""

    name: str
    driver: str
    zone: str
    condition: DeviceCondition
    sales: bool
    worker: str
    reason: str
    hint: str
    heard_s: float | None
    since_s: float | None
    last_event_ms: int | None
    per_minute: float | None
    battery: Battery | None
    stale_after_s: float
    readings: int
    bad: int
    quarantined: int
    dropped: int


class StreamLine(msgspec.Struct, frozen=True, kw_only=True):
    """Conservation of a stream: `accepted = delivered + waiting + quarantined + expired + lost`."""

    stream: Stream | Literal["all"]
    accepted: int
    delivered: int
    waiting: int
    quarantined: int
    expired: int
    lost: int
    oldest_waiting_s: float | None
    admitted: bool

    @property
    def balanced(self) -> bool:
        """Whether nothing is missing."""
        return self.accepted == self.delivered + self.waiting + self.quarantined + self.expired + self.lost


BufferReason = Literal["", "measuring", "quiet", "unknown"]


class Buffer(msgspec.Struct, frozen=True, kw_only=True):
    """How long events can wait here. `hours_left` is null with a reason: measuring, or hardly anything arrives."""

    hours_left: float | None
    reason: BufferReason
    used_share: float | None
    room_bytes: int | None
    events_per_s: float | None
    bytes_per_event: float | None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Where the events are. `streams` and `total` are null until the journal can be read.

    `sending`: how delivery of each stream is; empty without a platform.
    """

    platform: bool
    streams: tuple[StreamLine, ...] | None
    total: StreamLine | None
    buffer: Buffer
    quarantine_held: int | None  # messages set aside, of any reason
    quarantined_hour: int | None = None  # those of the last hour
    refusals: tuple[Refusal, ...] = ()  # the platform's last, newest first
    sending: tuple[Sending, ...] = ()


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """Before the journal: what sources offered, what is waiting, what was dropped, and how commits go."""

    waiting: int
    offered: int
    dropped: int
    waited: int
    commits: int
    events: int
    duplicates: int
    poison: int
    full: int
    worst_commit_ms: float | None
    lanes: dict[str, LaneCounters]
    persons: dict[str, int] = {}  # readings that named somebody, and consents, by what became of them


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the daemon."""

    name: str
    state: State
    stuck: bool
    reason: str
    hint: str
    since_s: float
    next_try_s: float | None
    crashes: int
    outages: int


class System(msgspec.Struct, frozen=True, kw_only=True):
    """The box. Bytes; null where not known."""

    clock: ClockQuality
    clock_steps: int | None
    uptime_s: float
    rss_bytes: int | None
    journal_bytes: int | None
    wal_bytes: int | None
    quota_bytes: int | None
    disk_free_bytes: int | None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page, `/api/status` and `/metrics` say."""

    at_ms: int
    identity: Identity
    ready: bool
    healthy: bool
    today: Today | None
    plan: FloorSettings
    places: tuple[Place, ...]
    heats: tuple[Heat, ...]  # where people stood today, by camera
    devices: tuple[Device, ...]
    plugged: tuple[PluggedDevice, ...]
    delivery: Delivery
    intake: Intake
    coupons: CouponFigures | None  # null where coupons are switched off
    workers: tuple[Worker, ...]
    system: System
    read_models: tuple[ReadModel, ...] | None
    events: tuple[EventLine, ...]
    guests: tuple[Guest, ...]  # members with a hint who are in the shop; for staff only
    limits: Limits = Limits()
    alarms: tuple[Alarm, ...] = ()
    alerts: AlertsView = AlertsView()


def snapshot(facts: Facts) -> Snapshot:
    """What there is to know from what was observed."""
    storage = facts.storage
    devices = _devices(facts)
    return Snapshot(
        at_ms=int(facts.now.wall_s * 1000),
        identity=facts.identity,
        ready=facts.ready,
        healthy=facts.healthy,
        today=None if facts.day is None else today(facts.day),
        plan=facts.plan,
        places=_places(facts, devices),
        heats=_heats(facts),
        devices=devices,
        plugged=facts.plugged,
        delivery=_delivery(facts),
        intake=_intake(facts),
        coupons=facts.coupons,
        workers=tuple(
            Worker(
                name=it.name, state=it.state, stuck=it.stuck, reason=it.reason, hint=it.hint, since_s=it.since_s,
                next_try_s=it.next_try_s, crashes=it.crashes, outages=it.outages,
            )
            for it in facts.workers
        ),
        system=System(
            clock=facts.now.quality,
            clock_steps=facts.clock_steps,
            uptime_s=max(0.0, facts.now.mono_s - facts.started.mono_s),
            rss_bytes=facts.rss_bytes,
            journal_bytes=None if storage is None else storage.file_bytes,
            wal_bytes=None if storage is None else storage.wal_bytes,
            quota_bytes=None if storage is None else storage.quota_bytes,
            disk_free_bytes=None if storage is None else storage.disk_free_bytes,
        ),
        read_models=facts.read_models,
        events=facts.events,
        guests=facts.guests,
        limits=facts.limits,
        alarms=facts.alarms,
        alerts=facts.alerts,
    )  # fmt: skip


def not_healthy(snapshot: Snapshot) -> list[str]:
    """Why `/healthz` is not content, in words for a monitoring system; [] when it is.

    A device or a platform that is away does not make the gateway unhealthy.
    """
    reasons = []
    if not snapshot.ready:
        reasons.append("not ready: the journal is not open yet")
    reasons += [f"worker {worker.name} makes no progress" for worker in snapshot.workers if worker.stuck]
    if not snapshot.healthy and not reasons:
        reasons.append("a worker makes no progress")
    for line in snapshot.delivery.streams or ():
        if not line.balanced:
            reasons.append(f"the counts of {line.stream} do not add up")
        if not line.admitted:
            reasons.append(f"no room left for {line.stream}")
    return reasons


def _devices(facts: Facts) -> tuple[Device, ...]:
    reports = {report.name: report for report in facts.reports}
    return tuple(_device(device, reports.get(device.name), facts.now) for device in facts.planned)


def _device(planned: PlannedDevice, report: DeviceReport | None, now: Instant) -> Device:
    if report is None:  # its worker has not come so far as to register it
        report = DeviceReport(name=planned.name, driver=planned.driver, zone=planned.zone, condition="never_seen")
    return Device(
        name=planned.name, driver=planned.driver, zone=planned.zone, condition=report.condition, sales=planned.sales,
        worker=planned.worker, reason=report.reason, hint=report.hint, heard_s=report.heard_s,
        since_s=max(0.0, now.wall_s - report.since_wall_s) if report.since_wall_s else None,
        last_event_ms=planned.last_event_ms, per_minute=planned.per_minute, battery=planned.battery,
        stale_after_s=planned.stale_after_s, readings=report.readings, bad=report.bad,
        quarantined=report.quarantined, dropped=report.dropped,
    )  # fmt: skip


def _places(facts: Facts, devices: Sequence[Device]) -> tuple[Place, ...]:
    zones = [zone for planned in facts.planned for zone in (planned.zone, *planned.zones)]
    ailing = {device.name for device in devices if device.condition in ("faulted", "stale")}
    placed = [
        (zone, planned.name in ailing) for planned in facts.planned for zone in {planned.zone, *planned.zones} if zone
    ]
    view = None if facts.day is None else facts.day.view
    shares = {zone.zone: zone.share for zone in view.kpis.zones} if view is not None else {}
    waiting = {it.zone: round(it.length_mean) for it in view.queues_now} if view is not None else {}
    return places_of(zones, placed, shares, waiting)


def _heats(facts: Facts) -> tuple[Heat, ...]:
    """Where people stood today, of every camera that told, and of those that have not."""
    view = None if facts.day is None else facts.day.view
    told = {it.camera: it for it in view.maps} if view is not None else {}
    return tuple(
        Heat(camera=it.camera, rows=it.rows, cols=it.cols, person_s=it.person_s, covered_s=it.interval_s)
        for it in told.values()
    )


def _delivery(facts: Facts) -> Delivery:
    lines: tuple[StreamLine, ...] | None = None
    total = None
    if facts.streams is not None:
        now_ms = facts.now.wall_s * 1000
        lines = tuple(_line(state, now_ms, state.stream in facts.admitted) for state in facts.streams)
        ages = [line.oldest_waiting_s for line in lines if line.oldest_waiting_s is not None]
        total = StreamLine(
            stream="all",
            accepted=sum(line.accepted for line in lines),
            delivered=sum(line.delivered for line in lines),
            waiting=sum(line.waiting for line in lines),
            quarantined=sum(line.quarantined for line in lines),
            expired=sum(line.expired for line in lines),
            lost=sum(line.lost for line in lines),
            oldest_waiting_s=max(ages, default=None),
            admitted=all(line.admitted for line in lines),
        )
    return Delivery(
        platform=facts.identity.platform, streams=lines, total=total, buffer=buffer(facts.storage, facts.rate),
        quarantine_held=facts.quarantine_held, quarantined_hour=facts.quarantined_hour, refusals=facts.refusals,
        sending=facts.sending,
    )  # fmt: skip


def _line(state: StreamState, now_ms: float, admitted: bool) -> StreamLine:
    oldest_ms = state.oldest_pending_ms
    return StreamLine(
        stream=state.stream, accepted=state.accepted, delivered=state.acked, waiting=state.pending,
        quarantined=state.quarantined, expired=state.expired, lost=state.declared_lost,
        oldest_waiting_s=None if oldest_ms is None else max(0.0, (now_ms - oldest_ms) / 1000), admitted=admitted,
    )  # fmt: skip


def buffer(storage: StorageFacts | None, rate: Rate | None) -> Buffer:
    """How long events can wait here before the first of them are refused, if they keep arriving as they do now.

    Room is what is left of the quota or of the disk, whichever is less; an event takes what the stored ones take.
    """
    if storage is None:
        return Buffer(
            hours_left=None, reason="unknown", used_share=None, room_bytes=None, events_per_s=None,
            bytes_per_event=None,
        )  # fmt: skip
    used_bytes = max(0, storage.file_bytes - storage.free_pages_bytes)
    room_bytes = max(
        0,
        min(
            int(storage.quota_bytes * storage.refuse_share) - used_bytes,
            storage.free_pages_bytes + storage.disk_free_bytes - _DISK_RESERVE_BYTES,
        ),
    )
    per_event = used_bytes / storage.kept if storage.kept >= _SAMPLE_EVENTS else None
    per_s = rate.events / rate.over_s if rate is not None and rate.over_s >= _RATE_OVER_S else None
    hours_left: float | None = None
    reason: BufferReason = ""
    if per_event is None or per_s is None:
        reason = "measuring"
    elif per_s * per_event * 3600 * 24 * 365 < room_bytes:  # a year and more is no figure to act upon
        reason = "quiet"
    else:
        hours_left = room_bytes / (per_s * per_event) / 3600
    return Buffer(
        hours_left=hours_left, reason=reason, used_share=used_bytes / storage.quota_bytes, room_bytes=room_bytes,
        events_per_s=per_s, bytes_per_event=per_event,
    )  # fmt: skip


def _intake(facts: Facts) -> Intake:
    lanes, commits = facts.lanes, facts.commits
    return Intake(
        waiting=facts.waiting_in_inlet,
        offered=sum(lane.offered for lane in lanes.values()),
        dropped=sum(lane.dropped for lane in lanes.values()),
        waited=sum(lane.waited for lane in lanes.values()),
        commits=commits.commits,
        events=commits.events,
        duplicates=commits.duplicates,
        poison=commits.poison,
        full=commits.full,
        worst_commit_ms=commits.worst_commit_s * 1000 if commits.commits else None,
        lanes=lanes,
        persons=facts.persons,
    )
