"""Killed at any moment, with or without the power: no acknowledged event is lost, and none is there twice."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from tests.faults.cheats import CHEATS
from tests.faults.kill_harness import BrokerKind, Harness, Report
from tests.faults.powercut import preloadable
from tests.mosquitto import mosquitto_program

pytestmark = [pytest.mark.broker, pytest.mark.slow]

needs_mosquitto = pytest.mark.skipif(mosquitto_program() is None, reason="mosquitto is not installed")
needs_compiler = pytest.mark.skipif(not preloadable(), reason="no C compiler, or no /proc: no power cuts here")

KILLS_EACH = 75  # four runs, so that two workers share them: 300 in all
CUTS_EACH = 25


def _run(folder: Path, broker: BrokerKind, kills: int, *, power_cut: bool = False, cheat: str = "") -> Report:
    seed = random.SystemRandom().randrange(1 << 31)  # in the report, to have the same choices again
    return Harness(folder, broker, power_cut=power_cut, cheat=cheat, seed=seed).run(kills)


@needs_mosquitto
@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", [1, 2])
def test_kills_over_mosquitto_lose_and_repeat_nothing(tmp_path: Path, part: int) -> None:
    """150 kills under load: every message acknowledged to its publisher is in the journal once, in order."""
    report = _run(tmp_path, "mosquitto", KILLS_EACH)
    assert report.clean, msgspec.json.format(msgspec.json.encode(report)).decode()
    assert report.messages > KILLS_EACH * 20
    assert report.kills == KILLS_EACH


@pytest.mark.timeout(240)
@pytest.mark.parametrize("part", [1, 2])
def test_kills_over_the_embedded_broker_lose_and_repeat_nothing(tmp_path: Path, part: int) -> None:
    """The same with our own broker, which repeats what is owed after some seconds and so out of order."""
    report = _run(tmp_path, "embedded", KILLS_EACH)
    assert report.clean, msgspec.json.format(msgspec.json.encode(report)).decode()
    assert report.messages > KILLS_EACH * 20


@needs_compiler
@pytest.mark.timeout(240)
@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=needs_mosquitto), "embedded"])
def test_power_cuts_lose_and_repeat_nothing(tmp_path: Path, broker: BrokerKind) -> None:
    """50 cuts of the power: what was not synced is gone or torn, what was acknowledged is there, and no start minds."""
    report = _run(tmp_path, broker, CUTS_EACH, power_cut=True)
    assert report.clean, msgspec.json.format(msgspec.json.encode(report)).decode()
    assert report.kills == CUTS_EACH


@needs_mosquitto
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("cheat", "sign"),
    [
        ("ack-before-commit", "lost"),
        ("synchronous-off", "lost"),
        ("synchronous-normal", "lost"),
        ("forgetful", "duplicated"),
        ("numbers-again", "lost"),
        ("by-content", "lost"),
    ],
)
def test_the_harness_catches_a_gateway_that_cheats(tmp_path: Path, cheat: str, sign: str) -> None:
    """Each way to cheat shows in the figure that it should, within a few dozen kills."""
    power_cut = CHEATS[cheat].needs_power_cut
    if power_cut and not preloadable():
        pytest.skip("no C compiler, or no /proc: no power cuts here")
    kills = 30 if cheat == "forgetful" else 12  # a kill between commit and acknowledgement is one in five
    report = _run(tmp_path, "mosquitto", kills, power_cut=power_cut, cheat=cheat)
    assert not report.clean
    assert getattr(report.findings, sign) > 0, report


@needs_mosquitto
@needs_compiler
def test_a_number_given_twice_is_seen(tmp_path: Path) -> None:
    """A reader that looks now and then catches a (epoch, seq) that names other bytes after a power cut."""
    report = _run(tmp_path, "mosquitto", 20, power_cut=True, cheat="synchronous-normal")
    assert report.findings.renamed > 0, report
