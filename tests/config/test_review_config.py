"""What a configuration may say that once brought a traceback, or a device that could never be heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.loader import parse
from devices.plan import plan
from gateway.app import Gateway
from gateway.commands.running import check_config
from gateway.errors import ConfigError

SERIAL = '[[devices]]\nname = "a"\ndriver = "uhf_m100"\naddress = "/dev/x"\n'
MQTT = '[[devices]]\nname = "b"\ndriver = "beacon_gateway"\n'


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[gateway]\ntime_zone = "Asia"', "gateway.time_zone"),
        (f'[gateway]\ntime_zone = "{"x" * 5000}"', "gateway.time_zone"),
        ("[presence]\nmin_reads = 101", "presence.min_reads"),
        ("[presence]\ndepart_after_s = inf", "presence.depart_after_s"),
        ("[presence]\narrive_within_s = inf", "presence.arrive_within_s"),
        ("[presence]\nmove_offset_db = -1.0", "presence.move_offset_db"),
        ("[presence]\nmove_offset_db = nan", "presence.move_offset_db"),
        ("[presence]\nmove_hold_off_s = inf", "presence.move_hold_off_s"),
        ("[storage.retention]\nobservations_days = inf", "storage.retention.observations_days"),
        (f"[storage]\nmax_mib = {1 << 62}", "storage.max_mib"),
        (f"[page]\nport = {'9' * 5000}", "too many digits"),
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        (SERIAL + "depart_after_s = inf", "devices[0].depart_after_s"),
        (SERIAL + 'antenna_zones = { door = "x" }', "devices[0].antenna_zones.door"),
        (SERIAL.replace("/dev/x", "tcp://host"), "devices[0].address"),
        (SERIAL.replace("/dev/x", "tcp://host:99999"), "devices[0].address"),
        (MQTT + 'topics = ["a/#/b"]', "devices[0].topics[0]"),
        (MQTT + 'topics = ["a", ""]', "devices[0].topics[1]"),
        (MQTT + 'topics = ["$share/group/a"]', "devices[0].topics[0]"),
        ('[broker]\nmode = "external"\nurl = "mqtt://h:99999"\n' + MQTT, "broker.url"),
        ('[broker]\nmode = "none"\n' + MQTT, "broker.mode"),
    ],
    ids=lambda text: text[:40],
)
def test_what_cannot_work_is_refused_with_its_place_and_a_hint(text: str, place: str) -> None:
    """Every mistake is found before anything starts, and never as a traceback."""
    with pytest.raises(ConfigError) as refused:
        plan(parse(text, "shop.toml"), "shop.toml")
    assert refused.value.subject == "shop.toml" and place in refused.value.reason


def test_the_largest_values_that_are_accepted_can_be_run(tmp_path: Path) -> None:
    """The bounds of the configuration lie within those of what it configures."""
    most = 9_000_000
    gateway = Gateway(
        parse(
            f'[presence]\nmin_reads = 100\narrive_within_s = {most}\nmove_offset_db = {most}\n'
            f'move_hold_off_s = {most}\nmove_slope_db_per_s = {most}\ndepart_after_s = {most}\n'
            f'[storage]\ndirectory = "{tmp_path}"\n',
            "test",
        )
    )  # fmt: skip
    assert gateway.plans == []


def test_check_config_finds_a_platform_that_could_not_be_spoken_to(tmp_path: Path) -> None:
    """An address that is none is found by the check, not by the service at three in the morning."""
    file = tmp_path / "gateway.toml"
    file.write_text('[platform]\nurl = "nonsense"\nauth = "none"\n')
    with pytest.raises(ConfigError, match="absolute"):
        check_config(file, as_json=False)
