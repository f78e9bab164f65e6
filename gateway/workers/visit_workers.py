"""The workers of visits: the book that keeps them, and the topic that greets a member at the till.

Composition of `[visits]`. Knows no rule of a visit.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from config.settings import Settings
from devices.transports.mqtt import MqttLink
from gateway.clock import Clock
from gateway.event import Origin
from gateway.journal.commit_loop import CommitLoop
from gateway.runtime.supervisor import Supervisor
from gateway.runtime.worker import Worker
from gateway.shopper.consent import Consents
from gateway.shopper.hints import Recognition
from gateway.shopper.visit_book import VisitBook, VisitDesk
from gateway.shopper.visit_case import Rules
from gateway.workers.broker import ShopBroker
from gateway.workers.stages import WITNESSES


class Gateway(Protocol):
    """What the visits need of `gateway.app.Gateway`."""

    settings: Settings
    origin: Origin
    clock: Clock
    commits: CommitLoop
    journal_path: Path
    supervisor: Supervisor
    broker: ShopBroker


def desk(settings: Settings, clock: Clock, consents: Consents) -> VisitDesk:
    """The desk of `[visits]`."""
    visits = settings.visits
    rules = Rules(
        idle_ms=int(visits.idle_min * 60_000), after_sale_ms=int(visits.after_sale_min * 60_000),
        exits=frozenset(visits.exits), fitting_rooms=frozenset(visits.fitting_rooms),
    )  # fmt: skip
    return VisitDesk(rules, Recognition(clock, visits.hints), lambda record: consents.ended(record, clock.now().wall_s))


def add(gateway: Gateway, desk: VisitDesk) -> None:
    """Bring them; the topic where there is a broker."""
    book = partial(VisitBook, desk, gateway.journal_path, gateway.commits, gateway.origin, gateway.clock)
    gateway.supervisor.add("visits", book, patience_s=60.0, stage=WITNESSES, later=True)
    if gateway.settings.visits.mqtt and gateway.broker.present:
        topics = partial(_topics, gateway, desk)
        gateway.supervisor.add("recognition", topics, patience_s=30.0, stage=WITNESSES, later=True)


def _topics(gateway: Gateway, desk: VisitDesk) -> Worker:
    from gateway.workers.recognition_topics import RecognitionTopics

    settings, link = gateway.settings, MqttLink(gateway.broker.session("mqtt-recognition"))
    return RecognitionTopics(desk.recognition, link, settings.gateway.store, settings.visits.lanes)
