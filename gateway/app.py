"""The composition root: builds the gateway from its settings and runs it.

The only module that knows devices, vision, sync and page at once, and it knows them by construction only: what each
does is in its own room. Workers stop in the order of their stage: sources, then what speaks of them, the journal, the
page, the broker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from config.edit import LIVE, restart_needed
from config.loader import data_directory, journal_path, load
from config.settings import Settings
from devices.plan import DevicePlan, plan
from devices.source import Intake
from devices.transports.port_watch import PortBoard, PortWatch
from devices.usb_hints import hint_of
from gateway.access.accounts import Accounts
from gateway.access.audit import Audit
from gateway.access.notes import Notes
from gateway.alerts.desk import AlertDesk
from gateway.clock import Clock, SystemClock
from gateway.counting.camera_workers import CameraWorkers, planned
from gateway.errors import ConfigError, StorefrontError
from gateway.event import Origin
from gateway.intake.content_links import ContentLinks
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet
from gateway.intake.normaliser import Normaliser
from gateway.intake.sightings import Sightings
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.writer import JournalWriter
from gateway.platform_commands.subject_tables import TABLES
from gateway.projections.kpi_sources import sources_of
from gateway.projections.projector import Projector, read_models
from gateway.projections.store_time import StoreTime
from gateway.runtime.signals import Signals
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.systemd import Notifier, Watchdog, watchdog_s
from gateway.runtime.worker import Factory, Worker
from gateway.setup_desk import SetupDesk
from gateway.shopper.consent import Consents
from gateway.shopper.day_keys import DayKeys
from gateway.shopper.hints import Guest
from gateway.shopper.key_ring import KeyRing
from gateway.shopper.platform_consents import ConsentDesk
from gateway.shopper.subjects import ShopperSubjects
from gateway.shopper.visit_book import VisitDesk
from gateway.workers import visit_workers
from gateway.workers.alert_workers import AlertWorkers
from gateway.workers.broker import ShopBroker
from gateway.workers.device_sources import DeviceSources
from gateway.workers.erasing import Erasing, Forget
from gateway.workers.heartbeat import Departures, Heartbeat
from gateway.workers.housekeeping import Calendar, Chores, Housekeeping, salvage_under_way
from gateway.workers.kpi_hours import KpiHours
from gateway.workers.replay_requests import Outcome, Replays, Spool
from gateway.workers.stages import DELIVERY, JOURNAL, PAGE, SOURCES, WITNESSES
from gateway.workers.stock_hours import StockHours

if TYPE_CHECKING:
    from gateway.counting.camera_desk import CameraDesk
    from gateway.shopper.coupons import CouponDesk
    from gateway.status.snapshot import PluggedDevice
    from sync.assembly import Link
    from sync.syncer import SyncState

log = logging.getLogger(__name__)

_SEEN = ("floor", "alerts")  # tables that are looked at whenever they are needed
_STATUS_EVERY_S = 10.0
_SALVAGE_S = 120.0  # asked of systemd again and again while a salvage holds the start up


class Gateway:
    """One running gateway. `run` blocks until `stop` is set; everything is released when it returns."""

    def __init__(self, settings: Settings, file: Path | None = None, *, clock: Clock | None = None) -> None:
        """Check the devices' options and build the parts; nothing is opened yet.

        Args:
            settings: the whole configuration.
            file: where it came from, read again on reload; None: it cannot be reloaded.
            clock: the system's unless a test brings its own.

        Raises:
            ConfigError: a device's options are wrong.
        """
        self.settings = settings
        self.clock = clock or SystemClock()
        self.directory = data_directory(settings)
        self.journal_path = journal_path(settings)
        self.started = self.clock.now()
        self.file = file
        plans, cameras = plan(settings, str(file or "configuration")), planned(settings, file)
        self.setup_desk = SetupDesk(self)

        gateway, storage = settings.gateway, settings.storage
        self.origin = Origin(gateway.tenant, gateway.store, gateway.name)
        self.inlet = Inlet()
        self.board = DeviceBoard()
        self.ports = PortBoard()
        self.seal = PayloadSeal(self.directory / "keys" / "quarantine.key")
        self.writer = JournalWriter(
            self.journal_path, gateway.name, self.clock, max_bytes=storage.max_mib << 20,
            ballast_bytes=storage.ballast_mib << 20, seal=self.seal.seal,
        )  # fmt: skip
        self.commits = CommitLoop(self.writer, self.inlet, window_s=storage.window_s)
        self.accounts = Accounts(self.directory, self.clock)
        self.audit = Audit(self.directory, self.journal_path, self.origin, self.inlet, self.commits, self.clock)
        keys, privacy = self.directory / "keys", settings.privacy
        self.day_keys = DayKeys(keys, gateway.time_zone)
        self.key_ring = KeyRing(keys, privacy.seal_keys, privacy.seal_with)
        self.consents = Consents(
            self.journal_path, self.commits, keys / "consent.key", most_rows=privacy.consent_rows,
            kept_days=privacy.consent_kept_days, keep_withdrawn=bool(privacy.assumed_purposes),
        )  # fmt: skip
        self.subjects = ShopperSubjects(privacy, gateway.region, self.consents, self.day_keys, self.key_ring)
        self.sightings = Sightings(self.origin, settings.presence, self.subjects)
        self.normaliser = Normaliser(
            self.origin, self.sightings, self.day_keys, self.subjects, time_zone=gateway.time_zone,
            currency=gateway.currency, content_links=ContentLinks(settings.interaction.prefixes), region=gateway.region,
        )  # fmt: skip
        self.intake = Intake(self.normaliser, self.inlet, self.board, self.clock)
        self.coupons: CouponDesk | None = None
        if settings.coupons.enabled:
            from gateway.workers import coupon_counter  # HTTP libraries, where they are used

            self.coupons = coupon_counter.desk(self)
        self.visits: VisitDesk | None = None
        if settings.visits.enabled:
            self.visits = self.subjects.watch = visit_workers.desk(settings, self.clock, self.consents)
        self.alerts = AlertDesk(self.directory, settings, self.clock)
        self.chores = Chores(self)
        self.forgets: list[Forget] = [self.consents.erased]  # of rooms that hold a person's keys in memory
        if self.visits is not None:
            self.forgets.append(self.visits.erased)
        self.supervisor = Supervisor(self.clock)
        self.broker = ShopBroker(settings, self.directory / "broker", self.supervisor)
        self.sources = DeviceSources(plans, self.intake, self.broker, self.supervisor)
        self.cameras = CameraWorkers(self, cameras)
        self._alert_workers = AlertWorkers(self)
        self._declared: dict[str, int] = {}
        self.notifier = Notifier.from_environment()
        self._watchdog = Watchdog(watchdog_s(), self.supervisor.healthy, self.notifier.alive)
        self._link: Link | None = None
        self._syncers: dict[str, Factory] = {}
        self._reload_asked = threading.Event()
        self._wake: Callable[[], None] = lambda: None  # lets the main thread look at once
        self._ready = False
        self._told_s = 0.0

    def run(self, stop: threading.Event, reload: threading.Event | None = None) -> None:
        """Run until `stop` is set (SIGTERM and SIGINT set it, too, on the main thread).

        Raises:
            JournalError: the journal cannot be trusted or written.
        """
        signals = Signals(stop, reload) if threading.current_thread() is threading.main_thread() else None
        if signals is not None:
            self._wake = signals.wake
        self._add_workers()
        if signals is not None:
            signals.open()
        try:
            self.supervisor.run(stop, lambda: self._beat(reload), None if signals is None else signals.wait)
        finally:
            self.notifier.stopping()
            if hung := self.supervisor.stop(5.0):
                log.warning("stop=incomplete hung=%s", ",".join(hung))
            self.consents.close()
            if signals is not None:
                signals.close()

    def reload(self) -> list[str]:
        """Read the configuration file again and apply what can change while running.

        Devices, cameras, alerts and the floor plan change at once (`config.edit.LIVE`); everything else waits for a
        restart. The journal is never touched.

        Returns:
            One line for each thing applied, or in need of a restart.

        Raises:
            ConfigError: the new file is wrong; nothing was changed.
            Unavailable: the act cannot be noted for the audit trail; nothing was changed.
        """
        if self.file is None:
            raise ConfigError("reload", "configuration", "there is no file to read again", "start with --config")
        fresh = load(self.file)
        plans = plan(fresh, str(self.file))
        cameras = planned(fresh, self.file)
        self.accounts.note("config.reload", self.file.name)
        said = [f"restart needed: [{name}] changed" for name in restart_needed(self.settings, fresh)]
        if fresh.log != self.settings.log:
            logging.getLogger().setLevel(fresh.log.level.upper())
            said.append(f"applied: log.level = {fresh.log.level}")
        said += self.sources.apply(plans)
        said += self.cameras.apply(cameras)
        said += [f"applied: {name} changed" for name in _SEEN if getattr(fresh, name) != getattr(self.settings, name)]
        self.settings = msgspec.structs.replace(self.settings, **{name: getattr(fresh, name) for name in LIVE})
        said += [f"applied: {line}" for line in self._alert_workers.apply(fresh.alerts)]
        return said or ["nothing changed"]

    def ask_reload(self) -> None:
        """Have the main thread call `reload` soon; from any thread."""
        self._reload_asked.set()
        self._wake()

    def check(self, settings: Settings) -> None:
        """Look at settings as far as the loader cannot: at the options of drivers and cameras.

        Raises:
            ConfigError: they are wrong.
        """
        plan(settings, str(self.file or "configuration"))
        planned(settings, self.file)

    @property
    def plans(self) -> list[DevicePlan]:
        """The devices."""
        return self.sources.plans

    @property
    def camera_desk(self) -> CameraDesk | None:
        """Who answers for the cameras; None while there is none."""
        return self.cameras.desk

    def worker_of(self, device: str) -> str:
        """Name of the worker that serves a device; "" when there is no such device."""
        return self.sources.worker_of(device)

    def consent_desk(self) -> ConsentDesk:
        """Where consents are taken that come neither from a device nor from a till: from the page, from the platform.

        Never call its functions on the thread that commits.
        """
        from sync.alarms import committing  # only where somebody asks

        return ConsentDesk(self.subjects, self.key_ring, self.origin, self.clock, committing(self.inlet))

    def person_counts(self) -> dict[str, int]:
        """What became of readings that named a person, and of consents, since the start."""
        dropped = self.normaliser.counters.subjects_dropped + self.sightings.subjects_dropped
        visits = {} if self.visits is None else self.visits.counts()
        return {"subjects_dropped": dropped, **self.subjects.counts(), **self.normaliser.free_text.counts(), **visits}

    def guests(self) -> list[Guest]:
        """Members with a hint who are in the shop now; for staff."""
        return [] if self.visits is None else self.visits.recognition.guests()

    def delivery_states(self) -> list[SyncState]:
        """How delivery of each stream is now; [] without a platform, and before its workers have begun."""
        return [] if self._link is None else self._link.states()

    def replay(self, entry: int) -> Callable[[], Outcome | None]:
        """Have a quarantined entry tried again; what is returned gives the outcome once there is one.

        Raises:
            Unavailable: the request cannot be laid down.
        """
        spool = Spool(self.settings)
        request = spool.put([entry])

        def outcome() -> Outcome | None:
            answer = spool.answered(request)
            return answer[0] if answer else None

        return outcome

    def plugged(self) -> list[PluggedDevice]:
        """What is in the USB sockets and not set up, as far as it may concern a shop."""
        from gateway.status.snapshot import PluggedDevice  # only where somebody looks

        return [
            PluggedDevice(
                kind=hint.kind, usb_id=it.device.usb_id, product=it.device.product, address=it.address,
                drivers=hint.drivers if it.address else (), since_ms=int(it.since_wall_s * 1000),
            )
            for it in self.ports.plugged
            if (hint := hint_of(it.device)) is not None
        ]  # fmt: skip

    def deliver_now(self) -> None:
        """Try to deliver what waits at once (within `platform.boot_delay_s`), however long the next wait would be."""
        for name, factory in self._syncers.items():
            self.supervisor.replace(name, factory)

    # -- building

    def _add_workers(self) -> None:
        self.supervisor.add("journal", lambda: self.commits, patience_s=60.0, essential=True, stage=JOURNAL)
        self.sources.start()
        self.cameras.start()
        add = partial(self.supervisor.add, later=True)
        add("replays", lambda: Replays(self), patience_s=90.0, stage=SOURCES)
        add("departures", lambda: Departures(self.normaliser, self.inlet, self.clock), patience_s=10.0, stage=WITNESSES)
        add("audit", lambda: Notes(self.accounts, self.audit, self.commits), patience_s=30.0, stage=WITNESSES)
        add("heartbeat", lambda: Heartbeat(self, self._declared), patience_s=30.0, stage=WITNESSES)
        add("housekeeping", lambda: Housekeeping(self, self.chores), patience_s=60.0, stage=WITNESSES)
        add("erasing", lambda: Erasing(self, TABLES, self.forgets), patience_s=90.0, stage=WITNESSES)
        add("calendar", lambda: Calendar(self.chores.plan, self.clock), patience_s=60.0, stage=WITNESSES)
        add("projector", self._projector, patience_s=60.0, stage=WITNESSES)
        add("key-figures", self._key_figures, patience_s=60.0, stage=WITNESSES)
        add("stock", lambda: StockHours(self), patience_s=60.0, stage=WITNESSES)
        if self.settings.platform.configured:
            self._add_delivery()
        if self.settings.feed.enabled:
            add("feed", self._feed, patience_s=60.0, stage=DELIVERY)
        if self.coupons is not None:
            from gateway.workers import coupon_counter  # as above

            coupon_counter.add(self, self.coupons)
        if self.visits is not None:
            visit_workers.add(self, self.visits)
        self._alert_workers.apply(self.settings.alerts)
        if self.settings.page.enabled:
            add("ports", self._port_watch, patience_s=30.0, stage=SOURCES)
            add("page", self._page, patience_s=30.0, stage=PAGE)

    def _add_delivery(self) -> None:
        from gateway.workers.delivery import PATIENCE_S, link, workers  # HTTP libraries, only where there is a platform

        self._link = link(self)
        made = workers(self, self._link)
        for name, factory in made.items():
            self.supervisor.add(name, factory, patience_s=PATIENCE_S, stage=DELIVERY, later=True)
        self._syncers = {name: made[name] for name in self._link.factories()}

    def _feed(self) -> Worker:
        from gateway.workers.delivery import FeedServer  # as above

        return FeedServer(self)

    def _projector(self) -> Worker:
        zone = self.settings.gateway.time_zone
        return Projector(self.journal_path, self.commits, read_models(zone), self.clock, StoreTime(zone))

    def _port_watch(self) -> Worker:
        return PortWatch(self.ports, lambda: [plan.settings.address for plan in self.plans], self.clock)

    def _key_figures(self) -> Worker:
        sources = sources_of(self.settings, self.plans)
        return KpiHours(self, sources, StoreTime(self.settings.gateway.time_zone))

    def _page(self) -> Worker:
        from gateway.status.server import StatusServer

        return StatusServer(self)

    # -- running

    def _beat(self, reload: threading.Event | None) -> None:
        now = self.clock.now()
        if not self._ready and self.supervisor.ready():
            self._ready = True
            self.notifier.ready("taking events")
            log.info("gateway=ready store=%s devices=%d", self.origin.store, len(self.plans))
        self._watchdog.beat(now)
        if now.mono_s - self._told_s >= _STATUS_EVERY_S:
            self._told_s = now.mono_s
            if not self._ready and salvage_under_way(self.journal_path):
                self.notifier.extend_timeout(_SALVAGE_S)
                log.warning("journal=salvaging the_start_waits=1")
            live = sum(report.condition == "live" for report in self.board.reports(now))
            self.notifier.status(
                f"{live} of {len(self.plans)} devices live, {self.commits.counters.events} events kept"
            )
        if self._reload_asked.is_set() or (reload is not None and reload.is_set()):
            self._reload_asked.clear()
            if reload is not None:
                reload.clear()
            self.notifier.reloading(now)
            try:
                for line in self.reload():
                    log.info("reload=%s", line)
            except StorefrontError as error:
                log.error("reload=refused reason=%r hint=%r", error.reason, error.hint)
            self.notifier.ready()
