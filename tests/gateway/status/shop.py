"""A gateway as the page sees it: real journal, inlet, board and commit loop; no devices and no supervisor thread."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

from config.settings import DeviceSettings, GatewaySettings, PageSettings, Settings, StorageSettings
from gateway import event_types as types
from gateway.access.audit import Audit
from gateway.alerts.desk import AlertDesk
from gateway.clock import FakeClock, Instant
from gateway.errors import Unavailable
from gateway.event import Draft, Origin, draft
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.quarantine import PayloadSeal
from gateway.journal.writer import JournalWriter
from gateway.projections.projector import Projector, read_models
from gateway.projections.store_time import StoreTime
from gateway.runtime.worker import WorkerState
from gateway.setup_desk import SetupDesk
from gateway.shopper.hints import Guest
from gateway.status.parts import Coupons, Plan, Sent
from gateway.status.snapshot import PluggedDevice
from gateway.workers.replay_requests import Outcome
from tests.patience import PATIENCE_S

ZONE = "Asia/Shanghai"
SCRIPT = "<script>alert('x')</script>"
IMAGE = '"><img src=x onerror=alert(1)>'


class Till:
    name: ClassVar[str] = "pos_json"
    sales: ClassVar[bool] = True


class PlannedTill:
    """A device's plan."""

    def __init__(self, settings: DeviceSettings) -> None:
        self.settings = settings
        self.driver = Till

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def path(self) -> str:
        return f"{self.settings.driver}/{self.settings.name}"


class Workers:
    """A supervisor of our own."""

    def __init__(self) -> None:
        self.is_ready = True
        self.said: list[WorkerState] = [WorkerState(name="journal", state="running", stage=20, essential=True)]

    def states(self) -> list[WorkerState]:
        return self.said

    def ready(self) -> bool:
        return self.is_ready

    def healthy(self) -> bool:
        return not any(worker.stuck for worker in self.said)


class FakeGateway:
    """What `gateway.app.Gateway` shows to the page; commits happen on the caller's thread."""

    def __init__(self, directory: Path, **page: Any) -> None:
        self.settings = Settings(
            gateway=GatewaySettings(store="0042", time_zone=ZONE),
            storage=StorageSettings(directory=str(directory), max_mib=64),
            page=PageSettings(port=0, **page),
            devices=(DeviceSettings(name="till1", driver="pos_json", zone="front"),),
        )
        self.clock = FakeClock()
        self.origin = Origin("t1", "0042", "gw01")
        self.started: Instant = self.clock.now()
        self.board = DeviceBoard()
        self.inlet = Inlet()
        self.journal_path = directory / "journal.db"
        self.seal = PayloadSeal(directory / "keys" / "quarantine.key")
        self.writer = JournalWriter(
            self.journal_path, "gw01", self.clock, max_bytes=64 << 20, ballast_bytes=0, seal=self.seal.seal
        )
        self.commits = CommitLoop(self.writer, self.inlet, window_s=0.0)
        self.audit = Audit(directory, self.journal_path, self.origin, self.inlet, self.commits, self.clock)
        self.supervisor = Workers()
        self.plans: Sequence[Plan] = [PlannedTill(device) for device in self.settings.devices]
        self.board.register("till1", "pos_json", "front", 300.0)
        self.sockets: list[PluggedDevice] = []
        self.replayed: list[int] = []
        self.file: Path | None = None
        self.setup_desk = SetupDesk(self)
        self.camera_desk = None
        self.alerts = AlertDesk(directory, self.settings, self.clock)
        self.coupons: Coupons | None = None
        self.present: list[Guest] = []

    def check(self, settings: Settings) -> None:
        """All is taken."""

    def ask_reload(self) -> None:
        """There is no file."""

    def person_counts(self) -> dict[str, int]:
        return {"subjects_dropped": 3, "consents_granted": 1}

    def guests(self) -> Sequence[Guest]:
        return self.present

    def worker_of(self, device: str) -> str:
        return "mqtt-sales"

    def open(self) -> None:
        self.commits.open()

    def keep(self, *events: types.EventData, source: str = "pos_json/till1", zone: str | None = "front") -> None:
        self.inlet.offer("test", Item([self.draft(event, source, zone) for event in events]))
        self.commits.step(threading.Event())

    def draft(self, data: types.EventData, source: str = "pos_json/till1", zone: str | None = None) -> Draft:
        entry = types.type_of(data)
        return draft(
            entry.stream, entry.name, data, source=self.origin.source(source), at=self.clock.now(), zone=zone,
            subject=None,
        )  # fmt: skip

    def replay(self, entry: int) -> Callable[[], Outcome | None]:
        self.replayed.append(entry)
        return lambda: Outcome(entry, "appended", 1)

    def plugged(self) -> Sequence[PluggedDevice]:
        return self.sockets

    def delivery_states(self) -> Sequence[Sent]:
        return []

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """A thread that commits meanwhile, as a running gateway has."""
        stop = threading.Event()

        def commit() -> None:
            while not stop.is_set():
                self.commits.step(stop)

        thread = threading.Thread(target=commit)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            self.inlet.wake()
            thread.join(60)

    def count(self) -> None:
        """Let the read models catch up."""
        stop = threading.Event()
        stop.set()
        projector = Projector(self.journal_path, self.commits, read_models(ZONE), self.clock, StoreTime(ZONE))
        with self.committing(), contextlib.closing(projector):
            steps, deadline_s = 0, time.monotonic() + PATIENCE_S
            while steps < 3 and time.monotonic() < deadline_s:
                with contextlib.suppress(Unavailable):  # a busy disk: it begins again
                    projector.step(stop)
                    steps += 1

    def close(self) -> None:
        if self.commits.is_open:
            self.commits.close()


def sale(net: str = "12.50", **more: Any) -> types.Sale:
    """A sale."""
    return types.Sale(
        transaction_id="0042-1-1", kind="sale", workstation_id="1", business_date="2026-11-22", currency="CNY",
        totals=types.Totals(net=Decimal(net), item_count=Decimal(2)), tap="json", confidence=1.0, **more,
    )  # fmt: skip


def passed(people_in: int, people_out: int = 0) -> types.FootfallCounted:
    """People through the door."""
    return types.FootfallCounted(
        line="door", entrance="front", interval_start="", interval_s=0.0, in_=people_in, out=people_out,
        quality=types.CountQuality(coverage=1.0, detector="t"),
    )  # fmt: skip
