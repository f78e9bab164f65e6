"""`storefront doctor`: finds what is wrong, in order of likelihood, changes nothing and prints no secret."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from config.loader import load
from devices.plan import plan
from devices.transports.broker import Broker, find_broker
from devices.transports.mqtt_settings import MqttSettings
from devices.transports.serial_line import SerialPort
from gateway.app import Gateway
from gateway.clock import FakeClock
from gateway.commands.checks import devices, storage
from gateway.commands.checks.finding import SEVERITIES, Finding, Veil, ranked
from gateway.commands.checks.mqtt_probe import visit
from gateway.commands.checks.ports import look, looks_like, may_use, users_of
from gateway.commands.checks.scene import Holder, Record, Scene, holder_of
from gateway.commands.doctor import examine
from gateway.errors import Unavailable
from gateway.event import Draft, Origin, draft
from gateway.event_types import Heartbeat, InteractionScanned, type_of
from gateway.intake.inlet import Poison
from gateway.journal.disk import ballast_path, suspect, take_lock
from tests.ports import free_port

SPARE = SerialPort("/dev/ttyUSB7", "/dev/serial/by-id/usb-1a86_X", None, "1a86:7523", "USB Serial")
READER = '[[devices]]\nname = "gate"\ndriver = "uhf_m100"\naddress = "{}"\n'
TILL = '[[devices]]\nname = "till"\ndriver = "pos_json"\ntopics = ["pos/#"]\n'


def nothing() -> None:
    """No systemd here."""


def see(shop, clock: FakeClock | None = None, ports=(), unit: Callable[[], dict | None] = nothing) -> list[Finding]:
    """What the doctor finds, on the shop's configuration."""
    return examine(shop.config, clock or shop.clock, ports, show_unit=unit)


def wrong(found: list[Finding], area: str) -> list[Finding]:
    return [each for each in found if each.area == area and each.severity in ("problem", "warning")]


@pytest.fixture
def taken(shop) -> Iterator[None]:
    """A gateway (this process) has the journal."""
    shop.directory.mkdir(exist_ok=True)
    lock = take_lock(shop.journal)
    yield
    os.close(lock)


# -- the command


def test_a_shop_that_never_ran_gets_sentences_and_hints(storefront, shop):
    """Without a journal: exit code 1, says that nothing runs, and what to do about it."""
    said = storefront("doctor", "--config", shop.config)
    assert said.code == 1
    assert "No gateway is running" in said.out
    assert "what to do: start it" in said.out
    data = storefront("doctor", "--config", shop.config, "--json").json
    assert data["ok"] is False
    assert {"severity", "area", "says", "do", "likelihood"} == set(data["findings"][0])


def test_a_running_gateway_in_order_is_said_to_be(shop, taken):
    """With the lock held, a fresh heartbeat and a good clock there is no warning; every field was looked at."""
    beat(shop, {})
    found = see(shop)
    assert [each for each in found if each.severity in ("problem", "warning")] == []
    assert {"configuration", "running", "disk", "journal", "clock", "software"} <= {each.area for each in found}


def test_a_wrong_configuration_is_the_first_thing_said(storefront, shop):
    """A typo: the key, what was expected, and the rest that can still be looked at."""
    shop.configure('[page]\nport = "x"')
    shop.config.write_text(shop.config.read_text().replace("[page]\nenabled = false\n", ""))
    said = storefront("doctor", "--config", shop.config)
    assert said.code == 1
    first = said.out.splitlines()[2]
    assert "page.port" in first
    assert "OpenCV" in said.out


def test_problems_come_before_warnings_and_the_likeliest_first():
    """The order is severity, then likelihood, whatever order the checks ran in."""
    made = [
        Finding(severity=severity, area=str(likelihood), says="", likelihood=likelihood)
        for severity in reversed(SEVERITIES)
        for likelihood in (5, 90, 40)
    ]
    assert [(each.severity, each.likelihood) for each in ranked(made)] == [
        (severity, likelihood) for severity in SEVERITIES for likelihood in (90, 40, 5)
    ]


# -- secrets and persons


def test_no_secret_and_no_person_is_ever_printed(storefront, shop, tmp_path, monkeypatch):
    """Canaries in secrets, addresses, quarantine, events and topics: none of them comes out, in text or JSON."""
    secret = tmp_path / "token"
    secret.write_text("CANARY-FILE")
    secret.chmod(0o600)
    monkeypatch.setenv("BROKER_PW", "CANARY-ENV")
    port = free_port()
    shop.configure(
        TILL + f'[platform]\nurl = "https://user:CANARY-URL@127.0.0.1:{port}/"\ntoken = "file:{secret}"\n'
        '[[devices]]\nname = "scale"\ndriver = "scanner_gs1"\naddress = "tcp://me:CANARY-LINE@127.0.0.1:1"\n'
        '[[cameras]]\nname = "door"\nsource = "rtsp://u:CANARY-CAM@192.0.2.1/x"\npassword = "env:BROKER_PW"\n',
        broker=f'mode = "external"\nurl = "mqtt://127.0.0.1:{port}"\nusername = "gw"\npassword = "env:BROKER_PW"',
    )
    entry = type_of(InteractionScanned)
    person = draft(
        entry.stream, entry.name, InteractionScanned(scanner="CANARY-MEMBER"), source="//t1/stores/1/gw01/pos/till",
        at=shop.clock.now(), subject="CANARY-SUBJECT",
    )  # fmt: skip
    shop.keep(person, poison=(Poison("till", "pos_json", "card CANARY-REASON", b"CANARY-CARD", "pos/CANARY-TOPIC"),))
    for arguments in (("doctor",), ("doctor", "--json")):
        said = storefront(*arguments, "--config", shop.config)
        assert said.code == 1
        assert "CANARY" not in said.out + said.err
        assert "in quarantine" in said.out


@pytest.mark.parametrize(
    "line",
    ['url = "mqtt://user:CANARY-A@host/x"', 'password = "CANARY-B"', 'url = "mqtt://user:CANARY/C@host"'],
)
def test_a_configuration_that_breaks_the_rules_for_secrets_does_not_print_them_either(storefront, shop, line):
    """A secret written where it must not be is refused, and not repeated in the refusal."""
    url = "" if "url" in line else 'url = "mqtt://h"\n'
    shop.configure(broker=f'mode = "external"\n{url}{line}')
    said = storefront("doctor", "--config", shop.config)
    assert said.code == 1
    assert "configuration" in said.out
    assert "CANARY" not in said.out


def test_the_veil_hides_what_it_was_told_and_only_that():
    """Secrets, credentials in addresses and control characters go; short texts and references stay."""
    veil = Veil()
    veil.hide_in({"a": {"api_key": "k-12345", "password": "file:/x"}, "b": [{"token": "abc"}], "name": "gate"})
    shown = veil.over(Finding(severity="note", area="x", says="k-12345 abc gate \x1b", do="rtsp://u:p@h file:/x"))
    assert (shown.says, shown.do) == ("… abc gate  ", "rtsp://…@h file:/x")


def test_secrets_that_are_missing_are_said(shop, tmp_path):
    """A secret file that others may read is a problem; one that only the service gets is a note."""
    secret = tmp_path / "token"
    secret.write_text("hush-hush")
    secret.chmod(0o644)
    shop.configure(f'[platform]\ntoken = "file:{secret}"\n')
    (found,) = wrong(see(shop), "configuration")
    assert "can be read by others" in found.says
    shop.configure('[platform]\ntoken = "credential:uplink"\n')
    assert wrong(see(shop), "configuration") == []
    assert any("service alone" in each.says for each in see(shop))


# -- the journal and its disk


def beat(shop, devices: dict[str, str], age_s: float = 5.0, clock: str = "ntp") -> None:
    """A heartbeat as the running gateway writes it, so many seconds ago."""
    entry = type_of(Heartbeat)
    data = Heartbeat(
        version="0", uptime_s=1, streams={}, disk_free_bytes=1, journal_bytes=1, wal_bytes=1, rss_bytes=1, clock=clock,
        devices=devices,
    )  # fmt: skip
    written = shop.clock.now()
    writer = shop.writer()
    # The journal's lock may be held by the test itself: write as the one who has it.
    writer._lock_fd = -1
    writer._ballast.fill()
    writer._open_database("fresh")
    writer.append(
        [draft(entry.stream, entry.name, data, source=Origin("t1", "0001", "gw01").source("gateway"), at=written)]
    )
    writer._disconnect()
    shop.clock.advance(age_s)


def test_the_holder_of_the_journal_is_named(shop, taken):
    """Whoever holds the lock is found, and looking does not take it away."""
    holder = holder_of(shop.journal)
    assert holder is not None
    assert holder.pid in (os.getpid(), None)
    assert holder_of(shop.journal) is not None


@pytest.mark.parametrize(
    ("up_s", "beat_s", "severity"), [(600, 500, "problem"), (600, None, "problem"), (600, 60, "ok"), (30, None, "ok")]
)
def test_a_gateway_that_writes_nothing_is_a_problem(shop, up_s, beat_s, severity):
    """The journal is held, but no heartbeat for minutes: a problem; a gateway just started is given time."""
    now = shop.clock.now()
    settings, plans = _planned(shop)
    scene = Scene(
        config=shop.config, settings=settings, plans=plans, directory=shop.directory, journal=shop.journal, now=now,
        holder=Holder(1, 0, now.wall_s - up_s), record=Record(heartbeat_s=beat_s and now.wall_s - beat_s),
    )  # fmt: skip
    assert [each.severity for each in storage.running(scene)] == [severity]


def test_a_damaged_journal_is_found(shop):
    """A page overwritten in the middle: a problem, with what to do."""
    shop.some(300)
    with shop.journal.open("r+b") as file:
        file.seek(shop.journal.stat().st_size // 2 // 512 * 512)
        file.write(b"\xa5" * 512)
    found = wrong(see(shop), "journal")
    assert found
    assert found[0].severity == "problem"
    assert "salvage" in found[0].do


def test_a_suspicion_and_a_full_quota_are_said(shop):
    """What a reader noted, and a quota that refuses events."""
    shop.some(2000)
    suspect(shop.journal, "a page was bad")
    assert any("a page was bad" in each.says for each in wrong(see(shop), "journal"))
    shop.config.write_text(shop.config.read_text().replace("max_mib = 64", "max_mib = 8"))
    pad = [random.Random(number).randbytes(7_000).hex() for number in range(900)]
    shop.keep(
        *(Draft("observations", "store.test.v1", b'{"source":"//t/x","data":"%s"}' % each.encode()) for each in pad)
    )
    found = wrong(see(shop), "journal")
    assert any("quota" in each.says and "observations are refused" in each.says for each in found)


def test_a_ballast_given_up_is_said(shop, taken):
    """While the gateway runs, a missing ballast means that the disk was full."""
    beat(shop, {})
    shop.config.write_text(shop.config.read_text().replace("ballast_mib = 0", "ballast_mib = 1"))
    assert any("given up" in each.says for each in wrong(see(shop), "disk"))
    ballast_path(shop.journal).write_bytes(b"")
    assert wrong(see(shop), "disk") == []


def test_a_directory_that_is_none_is_said(shop):
    """storage.directory names a file."""
    shop.directory.write_text("x")
    assert any("no directory" in each.says for each in wrong(see(shop), "disk"))


def test_looking_changes_nothing(shop):
    """The doctor leaves no new file but SQLite's own, and every file as it was."""
    shop.some(50)
    see(shop)
    before = {file: file.read_bytes() for file in shop.directory.iterdir() if file.is_file()}
    see(shop)
    assert {file: file.read_bytes() for file in shop.directory.iterdir() if file.is_file()} == before


# -- the clock


def test_the_clock(shop, taken):
    """Never set, ahead of itself, stepped, not synchronised: each has its sentence."""
    beat(shop, {})
    assert any("never set" in each.says for each in wrong(see(shop, FakeClock(1_000_000.0)), "clock"))
    behind = FakeClock(shop.clock.wall_s - 7200)
    assert any("2.0 h in the future" in each.says for each in wrong(see(shop, behind), "clock"))
    assert any(
        "not synchronised" in e.says for e in wrong(see(shop, FakeClock(shop.clock.wall_s, "unsynced")), "clock")
    )
    beat(shop, {}, clock="stepped")
    assert any("set by hand" in each.says for each in wrong(see(shop), "clock"))


# -- ports


@pytest.fixture
def line() -> Iterator[str]:
    """A real port: the far end of a pty."""
    near, far = pty.openpty()
    name = os.ttyname(far)
    os.close(far)
    yield name
    os.close(near)


def test_a_port_that_is_gone_names_what_is_there_instead(shop):
    """The reader's port is missing, another one is plugged in: both are said, the missing one as a problem."""
    shop.configure(READER.format("/dev/serial/by-id/usb-gone"))
    found = see(shop, ports=[SPARE])
    (gone,) = wrong(found, "ports")
    assert gone.severity == "problem"
    assert SPARE.by_id in gone.do
    (unused,) = [each for each in found if each.area == "ports" and each.severity == "note"]
    assert "CH340" in unused.says
    assert "uhf_m100 (115200 baud)" in unused.do
    assert found[0] is gone


def test_a_port_that_is_there_is_in_order(shop, line):
    """A port that exists, is allowed and free."""
    shop.configure(READER.format(line))
    assert wrong(see(shop), "ports") == []


def test_a_directory_and_a_file_are_no_ports(shop, tmp_path):
    """The address names something else."""
    shop.configure(READER.format(tmp_path))
    assert "a directory" in wrong(see(shop), "ports")[0].says
    shop.configure(READER.format(shop.config))
    assert "a file" in wrong(see(shop), "ports")[0].says


def test_a_busy_port_names_the_program(shop, line):
    """Another program has the port open: its name and number."""
    shop.configure(READER.format(line))
    fd = os.open(line, os.O_RDWR | os.O_NOCTTY)
    try:
        assert users_of(Path(line)) == [os.getpid()]
        (busy,) = wrong(see(shop), "ports")
    finally:
        os.close(fd)
    assert f"process {os.getpid()}" in busy.says


def test_a_port_without_permission_names_user_and_group(shop, line):
    """The gateway's user, not ours, is the one who must be let in."""
    path = Path(line)
    path.chmod(0o600)
    assert not may_use(path, 54_321)
    assert may_use(path, path.stat().st_uid)
    assert may_use(path, 0)
    shop.configure(READER.format(line))
    settings, plans = _planned(shop)
    scene = Scene(
        config=shop.config, settings=settings, plans=plans, directory=shop.directory, journal=shop.journal,
        now=shop.clock.now(), holder=Holder(1, 54_321, 0.0),
    )  # fmt: skip
    (denied,) = look(scene, [])
    assert denied.severity == "problem"
    assert "user 54321 may not use" in denied.says
    assert "usermod -aG" in denied.do


def test_every_usb_id_gets_drivers_that_exist():
    """Known and unknown adapters lead to serial drivers of the catalogue."""
    for usb_id in ("1a86:7523", "10c4:ea60", "0403:6001", "05e0:1701", "ffff:0001"):
        looks, drivers = looks_like(usb_id)
        assert looks
        assert drivers
    assert "ffff:0001" in looks_like("ffff:0001")[0]


def _planned(shop):
    settings = load(shop.config)
    return settings, tuple(plan(settings, "test"))


# -- devices


def test_silence_is_told_once_and_with_its_cause(shop, taken):
    """A stale device is a warning; one whose port is gone is not blamed a second time."""
    shop.configure(READER.format("/dev/gone") + '[[devices]]\nname = "b"\ndriver = "rdm6300"\naddress = "replay:x"\n')
    beat(shop, {"gate": "faulted", "b": "stale"})
    found = see(shop)
    (silent,) = wrong(found, "devices")
    assert silent.says.startswith("b (rdm6300)")
    assert len(wrong(found, "ports")) == 1


def test_a_device_that_spoke_since_the_heartbeat_is_not_called_silent(shop):
    """The heartbeat comes once a minute: what the journal holds since then counts for more."""
    shop.configure(READER.format("replay:x"))
    settings, plans = _planned(shop)
    now = shop.clock.now()
    for last_s, severity in ((now.wall_s - 1, "ok"), (now.wall_s - 50, "warning")):
        record = Record({"uhf_m100/gate": last_s}, now.wall_s, now.wall_s - 30, "ntp", {"gate": "never_seen"})
        scene = Scene(
            config=shop.config, settings=settings, plans=plans, directory=shop.directory, journal=shop.journal, now=now,
            holder=Holder(1, 0, 0.0), record=record,
        )  # fmt: skip
        assert [each.severity for each in devices.look(scene, [])] == [severity]


# -- broker


class ScriptedBroker:
    """Answers each packet of one client as told, and keeps what came."""

    def __init__(self, *answers: bytes) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._answers = answers
        self.port = self._server.getsockname()[1]
        self.came: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            client, _ = self._server.accept()
            self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        with client:
            for answer in self._answers:
                self.came.append(client.recv(65536))
                client.sendall(answer)
            while data := client.recv(65536):
                self.came.append(data)

    def close(self) -> None:
        self._server.close()
        self._thread.join(60)


WELCOME = b"\x20\x02\x00\x00"
GRANTED = b"\x90\x03\x00\x01\x01"
PUBLISH = b"\x30\x05\x00\x01tXY"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((WELCOME, GRANTED), ""),
        ((WELCOME, PUBLISH + GRANTED), ""),
        ((WELCOME, b"\x90\x03\x00\x01\x80"), "does not grant pos/#"),
        ((b"\x20\x02\x00\x04",), "user name or password is wrong"),
        ((b"\x20\x02\x00\x05",), "may not connect"),
        ((b"HTTP/1.1 400 Bad Request\r\n\r\n",), "no MQTT broker"),
        ((b"\x20\xff\xff\xff\xff\xff",), "no MQTT broker"),
    ],
)
def test_what_the_broker_says_becomes_a_sentence(shop, answers, says):
    """Accepted and granted, refused by credentials, by topic, or no broker at all."""
    broker = ScriptedBroker(*answers)
    try:
        shop.configure(TILL, broker=f'mode = "external"\nurl = "mqtt://127.0.0.1:{broker.port}"')
        found = see(shop)
    finally:
        broker.close()
    if not says:
        assert wrong(found, "broker") == []
        assert broker.came[0][9] == 0x02, "the session must be clean, so that nothing stays at the broker"
        assert b"doctor-" in broker.came[0]
        assert broker.came[-1].endswith(b"\xe0\x00")
    else:
        assert says in wrong(found, "broker")[0].says


def test_a_broker_that_is_away_or_silent_is_said_in_time(shop):
    """Nothing listens; something listens and says nothing: both within the time limit."""
    with socket.create_server(("127.0.0.1", free_port())) as silent:
        settings = MqttSettings(client_id="x", port=silent.getsockname()[1])
        started_s = time.monotonic()
        assert visit(settings, None, 0.3).accepted is False
        assert time.monotonic() - started_s < 20
    shop.configure(TILL, broker=f'mode = "external"\nurl = "mqtt://127.0.0.1:{settings.port}"')
    (away,) = wrong(see(shop), "broker")
    assert "nothing listens there" in away.says


def test_the_embedded_broker_itself_takes_the_visit(shop, tmp_path, taken):
    """The real embedded broker grants the topics of a running gateway."""
    try:
        find_broker()
    except Unavailable as error:
        pytest.skip(str(error))
    broker = Broker(tmp_path / "broker")
    broker.open()
    try:
        shop.configure(TILL, broker=f"port = {broker.port}")
        beat(shop, {"till": "live"})
        assert wrong(see(shop), "broker") == []
    finally:
        broker.close()


def test_a_taken_broker_port_is_said_before_the_start(shop):
    """Something else listens where the embedded broker would be."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        shop.configure(TILL, broker=f"port = {other.getsockname()[1]}")
        found = wrong(see(shop), "broker")
    assert any("Another program" in each.says or "no embedded broker" in each.says for each in found)


# -- platform, page, machine


def test_platform_reachable_or_not(shop):
    """A port that answers is in order; one that refuses is a warning; a TLS platform without TLS is a problem."""
    with socket.create_server(("127.0.0.1", free_port())) as platform:
        port = platform.getsockname()[1]
        shop.configure(f'[platform]\nurl = "http://127.0.0.1:{port}/"\nauth = "none"\n')
        assert wrong(see(shop), "platform") == []
    assert [each.severity for each in wrong(see(shop), "platform")] == ["warning"]
    talker = ScriptedBroker(b"HTTP/1.1 400\r\n\r\n")
    try:
        shop.configure(f'[platform]\nurl = "https://127.0.0.1:{talker.port}/"\nauth = "none"\n')
        assert [each.severity for each in wrong(see(shop), "platform")] == ["problem"]
    finally:
        talker.close()


def test_the_pages_port_taken_by_another_is_said(shop):
    """Without a gateway, a port that answers belongs to somebody else; a free one is in order."""
    with socket.create_server(("127.0.0.1", free_port())) as other:
        shop.configure(page=f"port = {other.getsockname()[1]}")
        assert any("page's port" in each.says for each in wrong(see(shop), "page"))
    assert wrong(see(shop), "page") == []


def test_the_page_of_the_running_gateway_is_known_as_ours(shop):
    """The real gateway's own page on its port is in order."""
    port = free_port()
    shop.configure(page=f"port = {port}")
    gateway, stop = Gateway(load(shop.config), shop.config), threading.Event()
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        until_s = time.monotonic() + 60
        while time.monotonic() < until_s:
            with socket.socket() as knock:
                if not knock.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        assert wrong(examine(shop.config, gateway.clock, (), show_unit=nothing), "page") == []
    finally:
        stop.set()
        thread.join(60)


@pytest.mark.parametrize(
    ("unit", "severities"),
    [
        (None, []),
        ({"LoadState": "not-found"}, []),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0", "UnitFileState": "enabled"}, []),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "9", "UnitFileState": "enabled"}, ["warning"]),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0", "UnitFileState": "disabled"}, ["warning"]),
        ({"LoadState": "loaded", "ActiveState": "inactive"}, ["problem"]),
        ({"LoadState": "loaded", "ActiveState": "failed", "Result": "exit-code", "NRestarts": "3"}, ["problem"]),
        ({"LoadState": "loaded", "ActiveState": "activating", "SubState": "auto-restart"}, ["problem"]),
    ],
)
def test_the_services_state(shop, unit, severities):
    """What systemd says becomes a finding; without systemd or without the unit there is none."""
    assert [each.severity for each in wrong(see(shop, unit=lambda: unit), "service")] == severities


def test_findings_are_plain_json(shop):
    """Every finding survives the way through JSON."""
    found = see(shop)
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Finding]) == found
    assert Record() == Record()
