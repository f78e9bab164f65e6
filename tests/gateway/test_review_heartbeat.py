"""The gateway's witnesses while the journal takes nothing, and when one of them has to start anew."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest

from config.settings import PresenceSettings
from gateway.clock import Clock, FakeClock, Instant
from gateway.event import Draft, Origin
from gateway.intake.health import DeviceBoard
from gateway.intake.inlet import Inlet, Item
from gateway.intake.normaliser import Normaliser
from gateway.intake.place import Place
from gateway.intake.reading import TagRead
from gateway.intake.sightings import Sightings
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.writer import JournalWriter
from gateway.workers.heartbeat import Departures, Heartbeat

LOSS = "store.loss.declared.v1"


class Shop:
    """What a heartbeat reports on; its journal is never opened."""

    def __init__(self, folder: Path) -> None:
        self.origin = Origin("t1", "0042", "gw01")
        self.clock: Clock = FakeClock()
        self.board = DeviceBoard()
        self.inlet = Inlet(capacity=4)
        self.journal_path: Path = folder / "journal.db"
        self.commits = CommitLoop(JournalWriter(self.journal_path, "gw01", self.clock), self.inlet)
        self.started: Instant = self.clock.now()
        self.inlet.lane("gate", "drop_oldest")

    def person_counts(self) -> dict[str, int]:
        return {}

    def lose(self, count: int) -> None:
        for _ in range(4 + count if not self.inlet.counters()["gate"].offered else count):
            self.inlet.offer("gate", Item([Draft("observations", "x", b"{}")]))

    def fill(self) -> None:
        while self.inlet.offer(".gateway", Item([Draft("measurements", "x", b"{}")])):
            pass


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


@pytest.fixture
def stop() -> threading.Event:
    event = threading.Event()
    event.set()  # no step waits
    return event


def declared(items: list[Item]) -> list[int]:
    told = [draft for item in items for draft in item.drafts if draft.type == LOSS]
    return [msgspec.json.decode(draft.body)["data"]["count"] for draft in told]


def test_losses_wait_where_they_are_counted_while_nothing_is_taken(shop: Shop, stop: threading.Event) -> None:
    """A month with a full disk is one loss in the end, and not a list that grows by the second."""
    heartbeat = Heartbeat(shop)
    shop.lose(1)
    shop.fill()
    for _ in range(3):
        heartbeat.step(stop)
        shop.lose(2)
    shop.inlet.take(100, 0.0, 0.0)
    heartbeat.step(stop)
    heartbeat.step(stop)
    assert declared(shop.inlet.take(100, 0.0, 0.0)) == [1, 6]


def test_a_fresh_heartbeat_tells_no_loss_twice_and_the_last_one_leaves_none_untold(
    shop: Shop, stop: threading.Event
) -> None:
    """What was declared outlives the worker; what is lost after its last step is declared as it closes."""
    told: dict[str, int] = {}
    for _ in range(2):
        heartbeat = Heartbeat(shop, told)
        shop.lose(3)
        heartbeat.step(stop)
        shop.lose(2)
        heartbeat.close()
    assert declared(shop.inlet.take(100, 0.0, 0.0)) == [3, 2, 3, 2]


def test_departures_come_back_while_nothing_is_taken_and_lose_none(stop: threading.Event) -> None:
    """A step that waited for room would be taken for a hang."""
    origin, clock, inlet = Origin("t1", "0042", "gw01"), FakeClock(), Inlet(capacity=1)
    normaliser = Normaliser(origin, Sightings(origin, PresenceSettings()), None)  # type: ignore[arg-type]
    for _ in range(2):
        place = Place(device="gate", path="uhf_m100/gate")
        normaliser.drafts(TagRead(epc="3034257BF7194E4000001A85", rssi_dbm=-50.0), place, clock.now())
    clock.advance(60.0)
    inlet.offer(".departures", Item([Draft("observations", "x", b"{}")]))
    worker = Departures(normaliser, inlet, clock)
    going = threading.Event()
    timer = threading.Timer(6.0, going.set)
    timer.start()
    worker.step(going)
    assert not going.is_set()
    timer.cancel()
    inlet.take(9, 0.0, 0.0)
    worker.step(stop)
    assert [draft.type for item in inlet.take(9, 0.0, 0.0) for draft in item.drafts] == ["store.rfid.departed.v1"]
