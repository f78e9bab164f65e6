"""The whole daemon, run and ended as its users do, with one thing after the other taken away from it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from devices.transports.broker import ACK_WAIT_S, find_broker
from gateway.errors import Unavailable
from tests.faults.daemon import ROOT, Daemon, plugged, say, until
from tests.faults.evidence import Findings, Looks, examine
from tests.faults.traffic import DEVICES, Ledger, message, probe
from tests.mosquitto import Mosquitto
from tests.patience import PATIENCE_S
from tests.ports import free_port

pytestmark = [pytest.mark.broker, pytest.mark.slow]

CARD = """
[[devices]]
name = "pad"
driver = "rdm6300"
address = "{address}"
zone = "checkout"
"""
CARD_BYTES = b"\x0262E3086CED08\x03"


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A Mosquitto of the test's own."""
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@contextlib.contextmanager
def _shop(port: int, folder: Path, per_s: float = 300.0) -> Iterator[Path]:
    """The publisher with its ledger."""
    ledger = folder / "ledger.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.traffic", str(port), str(ledger), str(per_s)],
        stdin=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdin is not None
    try:
        yield ledger
    finally:
        process.stdin.close()
        try:
            process.wait(90)
        finally:
            process.kill()


def _subscribed(daemon: Daemon, port: int) -> None:
    """Until both sessions of the daemon stand."""
    number = 0

    def heard() -> bool:
        nonlocal number
        number += 1
        with contextlib.suppress(OSError):
            probe(port, number)
        names = {event["data"].get("sensor") or event["data"].get("basket_id", "")[:5] for event in daemon.events()}
        return {"probe"} <= names and any("basket_id" in event["data"] for event in daemon.events())

    assert until(heard, every_s=0.2) is not None, daemon.log()


def _rest(daemon: Daemon, quiet_s: float = 3.0) -> None:
    """Until nothing comes any more."""
    seen, since_s = -1, time.monotonic()
    until_s = since_s + 60
    while time.monotonic() < until_s and time.monotonic() - since_s < quiet_s:
        time.sleep(0.2)
        heads = daemon.query(
            "SELECT (SELECT max(position) FROM transactions) t, (SELECT max(position) FROM observations) o"
        )
        now = sum(value or 0 for row in heads for value in row.values())
        if now != seen:
            seen, since_s = now, time.monotonic()


def _compare(daemon: Daemon, ledger: Path, *, in_order: bool = True, broker_forgets: bool = False) -> Ledger:
    findings = Findings()
    said = msgspec.json.decode(ledger.read_bytes(), type=Ledger)
    examine(daemon.journal, said, findings, in_order=in_order, broker_forgets=broker_forgets)
    assert findings.clean, (findings, daemon.log()[-3000:])
    return said


def test_sigterm_is_an_orderly_stop(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Told to stop under load it ends by itself with exit code 0, and the next one goes on without loss or repeat."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url)
    with daemon:
        _subscribed(daemon, mosquitto.port)
        with _shop(mosquitto.port, tmp_path) as ledger:
            for life in range(1, 4):
                # Before that it has opened nothing, and the signal ends it as it would end any program.
                assert until(lambda life=life: daemon.log().count("gateway=ready") >= life) is not None  # type: ignore[misc]
                time.sleep(random.uniform(0.0, 0.5))
                code, took_s = daemon.stop()
                assert code == 0, daemon.log()
                assert took_s <= 20.0  # well below a second on an idle machine
                daemon.start()
        assert until(lambda: daemon.log().count("gateway=ready") >= 4) is not None
        _rest(daemon)
        assert daemon.stop()[0] == 0
    _compare(daemon, ledger)
    assert "Traceback" not in daemon.log()


def test_sighup_applies_a_changed_device_and_refuses_a_broken_file(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """A reload takes a new topic at once; a broken file is named, refused, and nothing stops."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url)
    with daemon:
        _subscribed(daemon, mosquitto.port)
        daemon.configure(DEVICES.replace('"probe/#"', '"probe/#", "extra/#"').replace('"keyless/{s}"', '"extra/{s}"'))
        daemon.signal(signal.SIGHUP)
        assert daemon.says("mqtt-devices changed"), daemon.log()

        def heard() -> bool:
            say(mosquitto.port, ("extra/7", b'{"n":1}'))
            return daemon.has(0.3, "sensor.read", sensor="keyless-7") is not None

        assert until(heard) is not None, daemon.log()
        daemon.configure('[[devices]]\nname = "till"\ndriver = "pos_json"\ntopcs = ["a"]\n')
        daemon.signal(signal.SIGHUP)
        assert daemon.says("reload=refused"), daemon.log()
        assert "topcs" in daemon.log()
        say(mosquitto.port, ("extra/8", b'{"n":2}'))
        assert daemon.has(PATIENCE_S, "sensor.read", sensor="keyless-8") is not None
        assert daemon.stop()[0] == 0


def test_a_second_daemon_on_the_same_journal_is_refused(tmp_path: Path) -> None:
    """It ends at once with 74 and says who is there; the first goes on."""
    daemon = Daemon(tmp_path / "gw", "")
    with daemon:
        assert daemon.says("gateway=ready"), daemon.log()
        second = subprocess.run(
            [sys.executable, "-m", "gateway", "run", "--config", str(daemon.config)],
            capture_output=True, text=True, timeout=90, cwd=ROOT, check=False,
        )  # fmt: skip
        assert second.returncode == 74, second.stderr
        assert "another gateway process" in second.stderr
        assert daemon.process is not None and daemon.process.poll() is None
        assert daemon.stop()[0] == 0


def test_a_typo_in_the_configuration_is_exit_78(tmp_path: Path) -> None:
    """The message names the file and the key, and what was meant; nothing is written."""
    config = tmp_path / "gateway.toml"
    config.write_text(f'[storage]\ndirectry = "{tmp_path / "state"}"\n')
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "run", "--config", str(config)],
        capture_output=True, text=True, timeout=90, cwd=ROOT, check=False,
    )  # fmt: skip
    assert ended.returncode == 78
    assert "storage.directry" in ended.stderr
    assert str(config) in ended.stderr
    assert "directory" in ended.stderr
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("thing", "word"), [("directory", "directory"), ("missing", "not there"), ("file", "serial")])
def test_a_serial_port_that_is_none_is_told_and_waited_for(tmp_path: Path, thing: str, word: str) -> None:
    """A fault of one device is an event with a reason, and the daemon lives on and stops in order."""
    port = tmp_path / "port"
    if thing == "directory":
        port.mkdir()
    elif thing == "file":
        port.write_text("no port")
    daemon = Daemon(tmp_path / "gw", CARD.format(address=port))
    with daemon:
        told = daemon.has(PATIENCE_S, "device.state", device="pad", state="faulted")
        assert told is not None, daemon.log()
        assert told["data"]["reason"], told
        assert "hint=" in daemon.log()
        assert daemon.stop()[0] == 0
    assert "Traceback" not in daemon.log()
    assert "defect of the software" not in daemon.log()


@pytest.mark.parametrize("away_s", [0.1, 7.0])
def test_a_replugged_serial_device_is_heard_soon(tmp_path: Path, away_s: float) -> None:
    """Unplugged and plugged in again as another tty: the first event is durable soon after, and the fault was told."""
    with plugged(tmp_path / "port") as plug:
        daemon = Daemon(tmp_path / "gw", CARD.format(address=plug.name))
        with daemon:
            assert until(lambda: _swipe(plug, daemon, 1), every_s=0.3) is not None, daemon.log()
            plug.unplug()
            if away_s > 1:
                assert daemon.has(PATIENCE_S, "device.state", device="pad", state="faulted") is not None, daemon.log()
            time.sleep(away_s)
            before = _cards(daemon)
            plug.plug()
            took_s = until(lambda: _swipe(plug, daemon, before + 1), every_s=0.1)
            assert took_s is not None, daemon.log()
            assert took_s <= 20.0  # 5 s where the machine has nothing else to do
            assert daemon.stop()[0] == 0


def _cards(daemon: Daemon) -> int:
    return sum("card" in event["type"] and "gone" not in event["type"] for event in daemon.events())


def _swipe(plug: object, daemon: Daemon, wanted: int) -> bool:
    with contextlib.suppress(OSError):
        plug.say(CARD_BYTES)  # type: ignore[attr-defined]
    return _cards(daemon) >= wanted


def test_a_destroyed_header_does_not_stop_the_start(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The database's first page is gone: the daemon starts, keeps every event with its bytes, and opens a new epoch."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url)
    with daemon:
        _subscribed(daemon, mosquitto.port)
        with _shop(mosquitto.port, tmp_path) as ledger:
            time.sleep(1.5)
        _rest(daemon, 1.0)
        assert daemon.stop()[0] == 0
        looks, findings = Looks(daemon.journal), Findings()
        looks.look(findings)
        with daemon.journal.open("r+b") as file:
            file.write(os.urandom(512))
        daemon.start()
        assert daemon.says("journal=salvaged"), daemon.log()
        say(mosquitto.port, ("keyless/0", b'{"n":0}'))  # known already, by no name that the gateway could know it by
        assert until(lambda: len(daemon.query("SELECT * FROM epoch")) == 6) is not None
        assert daemon.stop()[0] == 0
    looks.look(findings, whole=True)
    assert findings.clean, findings
    assert looks.seen > 100
    said = msgspec.json.decode(ledger.read_bytes(), type=Ledger)
    assert said.count() > 100
    assert any(path.name.startswith("journal.db.damaged-") for path in daemon.journal.parent.iterdir())


def test_a_killed_mosquitto_loses_nothing(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The broker is killed and started again three times under load: what it had acknowledged arrives once."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url)
    with daemon:
        _subscribed(daemon, mosquitto.port)
        mosquitto.saved(b"keyed/#", b"json/till/event")  # both sessions
        with _shop(mosquitto.port, tmp_path, 150) as ledger:
            for _ in range(3):
                time.sleep(1.5)
                mosquitto.kill()
                time.sleep(0.3)
                mosquitto.start()
            time.sleep(1.0)
        _rest(daemon)
        assert daemon.stop()[0] == 0
    said = _compare(daemon, ledger, in_order=False)
    assert said.reconnects >= 3


def test_a_killed_embedded_broker_is_revived_and_loses_nothing(tmp_path: Path) -> None:
    """The same with the daemon's own broker, which it starts again. It forgets packet ids, so what has no number of its
    own may be there twice; lost is nothing.
    """
    daemon, port = _embedded(tmp_path)
    with daemon:
        _subscribed(daemon, port)
        with _shop(port, tmp_path, 100) as ledger:
            for _ in range(3):
                time.sleep(1.5)
                broker = _broker_of(daemon)
                broker.kill()
                broker.wait(30)
                assert until(lambda: _broker_lives(daemon)) is not None, daemon.log()
            time.sleep(1.0)
        _rest(daemon, ACK_WAIT_S + 3.0)
        assert daemon.stop()[0] == 0
    said = _compare(daemon, ledger, in_order=False, broker_forgets=True)
    assert said.reconnects >= 3


def test_kills_that_take_the_embedded_broker_along_lose_nothing(tmp_path: Path) -> None:
    """kill -9 of the daemon ends its broker with it; both come back, and all that was acknowledged is there: once,
    where it has a number of its own.
    """
    daemon, port = _embedded(tmp_path)
    with daemon:
        _subscribed(daemon, port)
        with _shop(port, tmp_path, 100) as ledger:
            for _ in range(6):
                time.sleep(random.uniform(0.3, 1.0))
                daemon.kill()
                daemon.start()
                assert until(lambda: _broker_lives(daemon)) is not None, daemon.log()
            time.sleep(1.0)
        _rest(daemon, ACK_WAIT_S + 3.0)
        assert daemon.stop()[0] == 0
    said = _compare(daemon, ledger, in_order=False, broker_forgets=True)
    assert said.reconnects >= 3  # a publisher that a busy machine keeps waiting misses a life of the broker


def _embedded(tmp_path: Path) -> tuple[Daemon, int]:
    try:
        find_broker()
    except Unavailable as error:
        pytest.skip(str(error))
    port = free_port()
    return Daemon(tmp_path / "gw", DEVICES, f"port = {port}"), port


def _broker_of(daemon: Daemon) -> psutil.Process:
    found = [child for child in psutil.Process(daemon.pid).children() if "nats" in child.name()]
    assert len(found) == 1, found
    return found[0]


def _broker_lives(daemon: Daemon) -> bool:
    return any("nats" in child.name() for child in psutil.Process(daemon.pid).children())


def test_a_full_journal_refuses_observations_and_takes_sales(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """With the quota nearly used up a flood of observations waits at the broker while every sale is taken."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url, "max_mib = 8")
    with daemon:
        _subscribed(daemon, mosquitto.port)
        for _ in range(100):
            flood = [("button/0", b'{"action":"%b"}' % b64encode(os.urandom(3000))) for _ in range(50)]
            say(mosquitto.port, *flood)
            if _refused(daemon):
                break
        assert until(lambda: _refused(daemon)) is not None, daemon.log()
        for number in range(0, 400, 8):
            say(mosquitto.port, message(number))
        wanted = {f"0042-03-2026-11-22-{number}" for number in range(0, 400, 8)}

        def missing() -> set[str]:
            told = (event["data"] for event in daemon.events(("transactions",)))
            return wanted - {data["transaction_id"] for data in told if "transaction_id" in data}

        assert until(lambda: not missing()) is not None, (sorted(missing()), daemon.log()[-2000:])
        assert daemon.stop()[0] == 0
    assert daemon.journal.stat().st_size <= 8 << 20


def _refused(daemon: Daemon) -> bool:
    return any("refused_streams=" in line and line.endswith("observations") for line in daemon.log().splitlines())


def test_retained_messages_and_sys_topics_are_no_events(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """State of the past counts as nothing, at the first start and at the second; the broker's own chatter neither."""
    say(mosquitto.port, ("keyless/0", b'{"n":111}'), ("button/1", b'{"action":"single"}'), retain=True)
    devices = DEVICES.replace('topics = ["keyed/#",', 'topics = ["#", "$SYS/#", "keyed/#",')
    daemon = Daemon(tmp_path / "gw", devices, mosquitto.url)
    with daemon:
        _subscribed(daemon, mosquitto.port)
        time.sleep(1.5)  # $SYS speaks once a second here
        assert daemon.stop()[0] == 0
        daemon.start()
        say(mosquitto.port, ("keyless/2", b'{"n":333}'))
        assert daemon.has(PATIENCE_S, "sensor.read", sensor="keyless-2", value=333.0) is not None, daemon.log()
        assert daemon.stop()[0] == 0
    assert not [event for event in daemon.events() if event["data"].get("value") in (111.0, "single")]
    assert not [event for event in daemon.events() if "SYS" in str(event)]
    assert daemon.query("SELECT * FROM quarantine") == []


def test_poison_is_set_aside_with_its_reason_and_nothing_stops(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Each bad message lies in quarantine with a reason and never comes again, and the next good one is taken."""
    daemon = Daemon(tmp_path / "gw", DEVICES, mosquitto.url)
    bad: list[tuple[str, bytes]] = [
        ("poison/0", b"not json"),
        ("poison/1", b'{"n":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        ("poison/2", b'{"n": "\xff\xfe"}'),
        ("poison/3", b'{"n": {"a": 1}}'),
        ("poison/4", b""),
        ("poison/5", b"[1, 2"),
        ("poison/6", b'{"n": 1e999999}'),
        ("store/0042/pos/json/till/event", b'{"totals": {"net": "abc"}, "sequence": 1}'),
        ("store/0042/pos/json/till/event", b'{"totals": 5}'),
        ("store/0042/pos/json/till/event", b"\x00" * 100),
    ]
    with daemon:
        _subscribed(daemon, mosquitto.port)
        say(mosquitto.port, *bad, ("keyless/0", b'{"n":5}'))
        assert daemon.has(PATIENCE_S, "sensor.read", sensor="keyless-0", value=5.0) is not None, daemon.log()
        assert until(lambda: len(daemon.query("SELECT id FROM quarantine")) == len(bad)) is not None, (
            daemon.query("SELECT topic, reason FROM quarantine"), daemon.log()[-2000:],
        )  # fmt: skip
        rows = daemon.query("SELECT source, topic, reason FROM quarantine ORDER BY id")
        assert all(row["reason"] for row in rows)
        assert not any("abc" in row["reason"] for row in rows)  # what a payload says belongs into no table of reasons
        assert daemon.stop()[0] == 0
        daemon.start()
        say(mosquitto.port, ("keyless/1", b'{"n":6}'))
        assert daemon.has(PATIENCE_S, "sensor.read", sensor="keyless-1", value=6.0) is not None, daemon.log()
        assert len(daemon.query("SELECT id FROM quarantine")) == len(bad)
        assert daemon.stop()[0] == 0
    assert "Traceback" not in daemon.log()
