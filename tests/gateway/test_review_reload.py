"""A reload while the gateway runs: what it names is what happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.loader import load
from gateway.app import Gateway
from gateway.errors import ConfigError, Unavailable
from tests.patience import until

BEACONS = '[[devices]]\nname = "ble"\ndriver = "beacon_gateway"\ntopics = ["ble/#"]\n'


class Running:
    """A gateway that runs in a thread of the test, and its file."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "gateway.toml"
        self.head = f'[storage]\ndirectory = "{folder}/data"\n[page]\nenabled = false\n[broker]\nport = 0\n'
        self.write("")
        self.gateway = Gateway(load(self.file), self.file)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.gateway.run, args=(self.stop,))

    def write(self, more: str) -> None:
        self.file.write_text(self.head + more)

    def states(self) -> dict[str, str]:
        return {state.name: state.state for state in self.gateway.supervisor.states()}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    it = Running(tmp_path)
    it.thread.start()
    until(it.gateway.supervisor.ready)
    yield it
    it.stop.set()
    it.thread.join(60)
    assert not it.thread.is_alive()


def test_the_first_device_behind_the_broker_brings_the_broker_and_a_second_reload_does_not(running: Running) -> None:
    """Without it the new device's session would wait for a broker that nobody starts."""
    assert "broker" not in running.states()
    running.write(BEACONS)
    added = ["broker", "mqtt-devices", "alert-topic"]  # alerts have a place to stand on from now on
    assert running.gateway.reload() == [f"applied: {name} added" for name in added]
    until(lambda: running.states()["mqtt-devices"] == "running")
    running.write("")
    assert running.gateway.reload() == ["applied: mqtt-devices removed"]
    running.write(BEACONS)
    assert running.gateway.reload() == ["applied: mqtt-devices added"]
    until(lambda: running.states()["mqtt-devices"] == "running")


DOOR = """[[cameras]]
name = "door"
source = "synthetic:top"
options = {{ warm_up_s = 1, interval_s = 60, lines = [{{ name = "{line}", start = [0.5, 0.0], end = [0.5, 1.0] }}] }}
"""


def test_a_camera_comes_changes_and_goes_without_a_restart(running: Running) -> None:
    """Its worker, its place among the running cameras and its place on the board follow the file."""
    gateway = running.gateway
    running.write(DOOR.format(line="a"))
    assert gateway.reload() == ["applied: camera door added"]
    assert gateway.camera_desk is not None
    cameras = gateway.camera_desk.cameras
    until(lambda: cameras.names() == ["door"] and cameras.process_ids() != [])
    until(lambda: cameras.view("door").state.last_frame_age_s is not None)
    assert gateway.reload() == ["nothing changed"]
    first = cameras.process_ids()
    running.write(DOOR.format(line="b"))
    assert gateway.reload() == ["applied: camera door changed"]
    until(lambda: cameras.process_ids() not in ([], first))
    assert [count.line for count in cameras.view("door").counts] == ["b"]
    running.write("")
    assert gateway.reload() == ["applied: camera door removed"]
    until(lambda: cameras.names() == [])
    assert gateway.board.reports(gateway.clock.now()) == [] and gateway.settings.cameras == ()
    with pytest.raises(Unavailable, match="no such camera"):
        cameras.view("door")


def test_a_mistake_in_a_camera_is_told_at_the_reload_and_changes_nothing(running: Running) -> None:
    """It would otherwise keep the gateway from starting the next time."""
    running.write(BEACONS + '[[cameras]]\nname = "door"\nsource = "synthetic:top"\n')
    with pytest.raises(ConfigError, match="nothing to count"):
        running.gateway.reload()
    assert "mqtt-devices" not in running.states()


ALERTS = """[floor]
width_m = 30.0
[alerts]
quiet_hours = ""
[[alerts.rules]]
cause = "queue_long"
limit = 12
[[alerts.webhooks]]
name = "duty"
shape = "generic"
url = "env:NO_SUCH_HOOK"
"""


def test_the_floor_and_the_alerts_follow_the_file_while_everything_runs(running: Running) -> None:
    """A limit holds at the next look; a webhook's worker comes, changes and goes; without alerts nobody looks."""
    gateway = running.gateway
    running.write(ALERTS)
    assert gateway.reload() == ["applied: floor changed", "applied: alerts changed", "applied: webhook-duty added"]
    assert gateway.settings.floor.width_m == 30.0 and gateway.alerts.limits.queue_people == 12
    until(lambda: running.states()["webhook-duty"] == "failed")  # its address is not there
    running.write(ALERTS.replace("NO_SUCH", "NOR_SUCH"))
    assert gateway.reload() == ["applied: alerts changed", "applied: webhook-duty changed"]
    running.write("[alerts]\nenabled = false\n")
    gone = ["applied: alerts removed", "applied: webhook-duty removed"]
    assert gateway.reload() == ["applied: floor changed", "applied: alerts changed", *gone]
    assert "alerts" not in running.states() and gateway.alerts.view().hooks == ()
    running.write("")
    assert gateway.reload() == ["applied: alerts changed", "applied: alerts added"]
    until(lambda: running.states()["alerts"] == "running")


def test_what_is_saved_on_the_set_up_page_is_taken_over_by_the_running_gateway(running: Running) -> None:
    desk = running.gateway.setup_desk
    desk.save({"alerts.quiet_hours": "01:00-02:00", "floor.depth_m": 9.0}, "alerts", None)
    until(lambda: running.gateway.settings.floor.depth_m == 9.0)
    until(lambda: running.gateway.alerts.settings.quiet_hours == "01:00-02:00")
    assert desk.now().restart == () and not desk.now().pending


def test_a_reload_for_one_device_behind_the_broker_makes_no_other_forget(running: Running) -> None:
    """Its session begins anew for a changed topic; the driver beside it is the same object, with all it has heard."""
    other = BEACONS.replace('"ble"', '"other"').replace("ble/#", "other/#")
    running.write(BEACONS + other)
    running.gateway.reload()
    until(lambda: running.states().get("mqtt-devices") == "running")
    before = {plan.name: running.gateway.sources.driver_of(plan) for plan in running.gateway.plans}
    running.write(BEACONS + other.replace("other/#", "elsewhere/#"))
    assert running.gateway.reload() == ["applied: mqtt-devices changed"]
    until(lambda: running.states()["mqtt-devices"] == "running")
    after = {plan.name: running.gateway.sources.driver_of(plan) for plan in running.gateway.plans}
    assert after["ble"] is before["ble"]
    assert after["other"] is not before["other"]
