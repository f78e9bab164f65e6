"""The running gateway as the page sees it: what its parts expose to an `Observer`, and no more.

Protocols only. Knows no look and no fact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, Protocol

from config.settings import Settings
from gateway.access.audit import Audit
from gateway.alerts.desk import AlertDesk
from gateway.clock import Clock, Instant
from gateway.event import Origin, Stream
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.quarantine import PayloadSeal
from gateway.projections import kpi_sources
from gateway.runtime.worker import WorkerState
from gateway.shopper.coupons import CouponFigures
from gateway.shopper.hints import Guest
from gateway.status.camera_routes import CameraDesk
from gateway.status.quarantine import Replayed
from gateway.status.setup_values import SetupDesk
from gateway.status.snapshot import PluggedDevice


class Plan(kpi_sources.Plan, Protocol):
    """A device's plan (`devices.plan.DevicePlan`)."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def path(self) -> str:
        """Its part of an event's source."""
        ...


class Watched(Protocol):
    """The supervisor."""

    def states(self) -> list[WorkerState]:
        """Every worker's state."""
        ...

    def ready(self) -> bool:
        """Whether events are taken."""
        ...

    def healthy(self) -> bool:
        """Whether no worker hangs."""
        ...


class Sent(Protocol):
    """How delivery of a stream is (`sync.syncer.SyncState`)."""

    @property
    def stream(self) -> Stream:
        """Which."""
        ...

    @property
    def condition(self) -> Literal["starting", "live", "draining", "waiting", "closed", "unauthorised"]:
        """Whether it works."""
        ...

    @property
    def reason(self) -> str:
        """Why it does not; "" when it does."""
        ...

    @property
    def next_try_s(self) -> float:
        """Seconds until the next try."""
        ...


class Coupons(Protocol):
    """Who answers tills about coupons (`gateway.shopper.coupons.CouponDesk`)."""

    def figures(self) -> CouponFigures:
        """How it stands."""
        ...


class Gateway(Protocol):
    """What the page looks at (`gateway.app.Gateway`). Attributes only; read from the page's thread."""

    settings: Settings
    clock: Clock
    origin: Origin
    started: Instant
    board: DeviceBoard
    inlet: Inlet
    commits: CommitLoop
    audit: Audit
    seal: PayloadSeal
    alerts: AlertDesk

    @property
    def journal_path(self) -> Path:
        """The journal's file."""
        ...

    @property
    def plans(self) -> Sequence[Plan]:
        """The devices."""
        ...

    @property
    def supervisor(self) -> Watched:
        """Who knows how the workers are."""
        ...

    def person_counts(self) -> dict[str, int]:
        """What became of readings that named a person, and of consents."""
        ...

    @property
    def coupons(self) -> Coupons | None:
        """Who answers tills about coupons; None where coupons are switched off."""
        ...

    def guests(self) -> Sequence[Guest]:
        """Members with a hint who are in the shop, the latest first."""
        ...

    @property
    def camera_desk(self) -> CameraDesk | None:
        """Who answers for the cameras; None while there is none."""
        ...

    @property
    def setup_desk(self) -> SetupDesk:
        """Who sets the shop up."""
        ...

    def worker_of(self, device: str) -> str:
        """Name of the worker that serves a device."""
        ...

    def delivery_states(self) -> Sequence[Sent]:
        """How delivery of each stream is; [] without a platform."""
        ...

    def replay(self, entry: int) -> Callable[[], Replayed | None]:
        """Have a quarantined entry tried again; what is returned gives the outcome once there is one."""
        ...

    def plugged(self) -> Sequence[PluggedDevice]:
        """What is plugged in and not set up."""
        ...
