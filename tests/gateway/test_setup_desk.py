"""Changes from the page: comments kept, nobody overwritten unseen, errors told at their place below the entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import load
from config.settings import Settings
from devices.plan import plan
from gateway.errors import ConfigError, Rejected
from gateway.setup_desk import SetupDesk
from gateway.status.setup_values import Conflict, NotTaken, mark_of

TEXT = """# by hand
[gateway]
store = "0042"  # the number on the door
[[devices]]
name = "gate"
driver = "uhf_m100"  # the white one
address = "tcp://127.0.0.1:9"
[[devices]]
name = "cards"
driver = "rdm6300"
address = "tcp://127.0.0.1:9"
"""


class Running:
    """A gateway that only counts."""

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.settings = load(file) if file else Settings()
        self.reloads = 0

    def check(self, settings: Settings) -> None:
        plan(settings, "gateway.toml")

    def ask_reload(self) -> None:
        self.reloads += 1


@pytest.fixture
def running(tmp_path: Path) -> Running:
    file = tmp_path / "gateway.toml"
    file.write_text(TEXT, "utf-8")
    return Running(file)


def test_one_value_changes_and_every_comment_stays(running: Running) -> None:
    desk = SetupDesk(running)
    desk.save({"devices.gate.options.power_dbm": 20.0}, "devices.gate", mark_of(desk.now(), "devices.gate"))
    assert running.file is not None
    text = running.file.read_text("utf-8")
    assert "# the white one" in text and "# by hand" in text and "power_dbm = 20.0" in text
    assert running.reloads == 1 and desk.now().pending and desk.now().restart == ()


def test_two_managers_at_different_devices_do_not_meet_and_at_one_device_the_second_is_told(running: Running) -> None:
    desk = SetupDesk(running)
    now = desk.now()
    gate, cards = mark_of(now, "devices.gate"), mark_of(now, "devices.cards")
    desk.save({"devices.gate.zone": "door"}, "devices.gate", gate)
    desk.save({"devices.cards.zone": "till"}, "devices.cards", cards)
    with pytest.raises(Conflict):
        desk.save({"devices.gate.zone": "window"}, "devices.gate", gate)
    assert desk.now().entry("devices", "gate") == {**(now.entry("devices", "gate") or {}), "zone": "door"}


def test_an_entry_of_the_same_name_is_not_overwritten_by_a_new_one(running: Running) -> None:
    desk = SetupDesk(running)
    absent = mark_of(desk.now(), "devices.new")
    table = {"name": "new", "driver": "rdm6300", "address": "tcp://127.0.0.1:9"}
    desk.save({"devices.new": table}, "devices.new", absent)
    with pytest.raises(Conflict):
        desk.save({"devices.new": table | {"zone": "x"}}, "devices.new", absent)


def test_an_error_is_told_from_the_entry_and_changes_nothing(running: Running) -> None:
    desk = SetupDesk(running)
    with pytest.raises(NotTaken) as error:
        desk.save({"devices.gate.options.power_dbm": 99.0}, "devices.gate", None)
    assert error.value.place == "options.power_dbm" and "0 to 33" in error.value.reason
    with pytest.raises(NotTaken) as error:
        desk.save({"gateway.time_zone": "Mars/Olympus"}, "gateway,privacy", None)
    assert error.value.place == "gateway.time_zone"
    assert running.file is not None and running.file.read_text("utf-8") == TEXT and running.reloads == 0


def test_a_broken_file_and_no_file_are_said_and_nothing_is_written(running: Running) -> None:
    assert running.file is not None
    running.file.write_text(TEXT + "x = = 1", "utf-8")
    with pytest.raises(ConfigError):
        SetupDesk(running).now()
    with pytest.raises(ConfigError):
        SetupDesk(running).save({"gateway.store": "1"}, "gateway", None)
    nowhere = SetupDesk(Running(None))
    assert not nowhere.now().writable
    with pytest.raises(Rejected):
        nowhere.save({"gateway.store": "1"}, "gateway", None)
    with pytest.raises(Rejected, match="without a file"):  # before the claim code is used up
        nowhere.enrol("http://127.0.0.1:9", "CODE", "")


def test_a_table_that_cannot_be_taken_over_waits_for_a_restart(running: Running) -> None:
    desk = SetupDesk(running)
    desk.save({"gateway.store": "0043"}, "gateway,privacy", None)
    assert desk.now().restart == ("gateway",)


def test_serial_drivers_have_the_lines_options_too_with_the_drivers_own_defaults(running: Running) -> None:
    fields = {it.name: it for it in SetupDesk(running).driver_fields("rdm6300")}
    assert fields["options.baud"].default == "9600" and "options.parity" in fields
    assert "options.baud" not in {it.name for it in SetupDesk(running).driver_fields("pos_json")}
