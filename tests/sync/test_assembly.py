"""The way to the platform as the gateway builds it: from a configuration table to events that have arrived."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import msgspec
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gateway.clock import FakeClock, SystemClock
from gateway.errors import ConfigError, Rejected
from gateway.event import Draft, draft
from gateway.intake.inlet import Inlet, Item
from gateway.journal.commit_loop import CommitLoop
from gateway.journal.writer import JournalWriter
from gateway.runtime.supervisor import Supervisor
from sync.alarms import EventAlarms, committing, offering
from sync.assembly import PATIENCE_S, Link, platform_options
from sync.commands import Command
from sync.feed import token_digest
from sync.heartbeat import Beats
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import Guard, platform_app
from sync.platform.store import PlatformStore
from tests.sync.sync_parts import GATEWAY, ORIGIN, HeardAlarms, Loose, Served

QUICK = {"boot_delay_s": 0.0, "interval_s": 0.2, "poll_s": 0.0}


class NoWriter:
    def submit(self, work: object) -> object:
        raise AssertionError("nothing is written here")


def link(url: str, table: dict[str, object], token: str = "g", **beside: object) -> Link:
    parts = {
        "ca": None, "journal": Path("none.db"), "writer": NoWriter(), "origin": ORIGIN, "clock": SystemClock(),
        "alarms": HeardAlarms(),
    }  # fmt: skip
    return Link(url, lambda: token, platform_options(table), **{**parts, **beside})  # type: ignore[arg-type]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path


def test_a_whole_gateway_under_the_supervisor_delivers_obeys_and_reports(home: Path) -> None:
    """Three streams, a command, its result as an event, with a bearer token that the platform checks."""
    clock = SystemClock()
    app = platform_app(
        home / "p.db", guards=(Guard(GATEWAY, token_digest("g")),), admin=token_digest("a"), durable=False
    )
    store: PlatformStore = app.state.store
    with Served(app) as served:
        writer = JournalWriter(home / "journal.db", GATEWAY, clock, ballast_bytes=0)
        writer.open()
        inlet = Inlet()
        loop = CommitLoop(writer, inlet)
        built = link(
            served.url, QUICK, journal=home / "journal.db", writer=loop, clock=clock,
            alarms=EventAlarms(offering(inlet), ORIGIN, clock),
        )  # fmt: skip
        supervisor = Supervisor(clock, rng=Random(1))
        supervisor.add("journal", lambda: loop, stage=20, essential=True, patience_s=30.0)
        for name, factory in built.factories().items():
            supervisor.add(name, factory, stage=5, patience_s=PATIENCE_S)
        supervisor.add(
            "sync.commands",
            built.commands(home / "commands.json", {}, committing(inlet)),
            stage=5,
            patience_s=PATIENCE_S,
        )
        stop = threading.Event()
        runner = threading.Thread(target=supervisor.run, args=(stop,))
        runner.start()
        at = clock.now()
        for n in range(30):
            event = draft(("transactions", "measurements", "observations")[n % 3], "store.test.made.v1", Loose(n),  # type: ignore[arg-type]
                          source=ORIGIN.source("t"), at=at)  # fmt: skip
            assert inlet.offer("t", Item([event]), 5.0)
        command = {"id": "c1", "type": "journal.replay", "data": {"stream": "observations", "from": 1}}
        given = requests.post(
            f"{served.url}/v1/gateways/{GATEWAY}/commands",
            json=command,
            headers={"Authorization": "Bearer a"},
            timeout=30,
        )
        assert given.status_code == 201
        deadline_s = time.monotonic() + 60
        while store.bounds()[1] < 31 and time.monotonic() < deadline_s:
            time.sleep(0.05)
        stop.set()
        runner.join(60)
        supervisor.stop(60.0)
        events = [
            msgspec.json.decode(body)
            for _, body in store.events(0, 100, ("transactions", "measurements", "observations"))
        ]
    assert sorted(event["data"]["n"] for event in events if "n" in event["data"]) == list(range(30))
    (result,) = [event for event in events if event["type"] == "store.command.completed.v1"]
    assert result["data"]["outcome"] == "done" and result["data"]["result"]["stream"] == "observations"
    assert {state.stream for state in built.states()} == {"transactions", "measurements", "observations"}


@pytest.mark.parametrize(
    "table",
    [{"auth": "basic"}, {"interval_s": 0}, {"max_events": "many"}, {"colour": "red"}, {"max_bytes": 1}, {"poll_s": 61}],
)
def test_options_that_make_no_sense_are_refused_at_the_start(table: dict[str, object]) -> None:
    """Unknown, mistyped and out of range, each with a word about it."""
    with pytest.raises(ConfigError):
        platform_options(table)


def test_credentials_that_cannot_work_are_refused_at_the_start() -> None:
    """Each method names what it lacks."""
    for table in ({"auth": "mtls"}, {"auth": "oauth2"}, {"auth": "signature"}):
        with pytest.raises(ConfigError):
            link("https://platform.example", table)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        link("http://platform.example", {})
    with pytest.raises(ConfigError):
        link("https://platform.example", {"auth": "oauth2", "token_url": "http://auth.example/t", "client_id": "x"})
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with pytest.raises(ConfigError, match="not Ed25519"):
        link("https://platform.example", {"auth": "signature"}, pem)
    mine = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert link("https://platform.example", {"auth": "signature"}, mine)
    assert link("https://p.example", {"auth": "oauth2", "token_url": "https://auth.example/t", "client_id": "x"})


def test_a_replay_of_nothing_is_refused() -> None:
    """A command with the wrong data is a refused one, not a crash."""
    built = link("https://platform.example", {})
    for data in ({}, {"stream": "x", "from": 1}, {"stream": ["a"], "from": 1}, {"stream": "observations", "from": 0}):
        with pytest.raises(Rejected):
            built.replay(Command("c", "journal.replay", data))  # type: ignore[arg-type]


def test_an_alarm_is_an_event_once_until_it_is_cleared() -> None:
    """Repeating says nothing new; one that could not be handed in is said at the next occasion."""
    said: list[Draft] = []
    taking = [False]

    def emit(event: Draft) -> bool:
        if taking[0]:
            said.append(event)
        return taking[0]

    alarms = EventAlarms(emit, ORIGIN, FakeClock())
    alarms.raised("sync.closed.observations", "call somebody")
    taking[0] = True
    for _ in range(3):
        alarms.raised("sync.closed.observations", "call somebody")
    alarms.cleared("sync.other")
    alarms.cleared("sync.closed.observations")
    alarms.cleared("sync.closed.observations")
    kinds = [(event.type, event.stream) for event in said]
    assert kinds == [("store.alarm.raised.v1", "transactions"), ("store.alarm.cleared.v1", "transactions")]


def test_a_heartbeat_is_heard_and_a_deaf_platform_is_waited_for(home: Path) -> None:
    """Every minute; failures back off."""
    clock = FakeClock()
    app = platform_app(home / "p.db", durable=False)

    def pause(stop: threading.Event, seconds: float) -> bool:
        clock.advance(max(seconds, 0.001))
        return False

    with Served(app) as served:
        beats = Beats(
            HttpClient(ClientOptions(url=served.url)),
            GATEWAY,
            lambda: b'{"version":"1"}',
            clock,
            Random(1),
            pause=pause,
        )
        beats.open()
        app.state.store.close_gateway(GATEWAY)
        for _ in range(300):
            beats.step(threading.Event())
        assert beats.heard == 0
        app.state.store.close_gateway(GATEWAY, False)
        start_s = clock.now().mono_s
        while beats.heard < 3:
            beats.step(threading.Event())
        assert clock.now().mono_s - start_s >= 100
        beats.close()
