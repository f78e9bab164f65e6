"""Delivery in the whole gateway: events reach the reference platform, and who pulls reads the same bytes."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from config.loader import parse
from gateway.app import Gateway
from gateway.errors import ConfigError
from gateway.event import draft
from gateway.event_types import ButtonPressed, InteractionScanned, Shopper
from gateway.intake.inlet import Item
from gateway.journal.reader import JournalReader
from gateway.workers.delivery import FeedServer, link, workers
from sync.platform.app import platform_app
from sync.platform.store import PlatformStore
from tests.patience import until
from tests.ports import free_port

CONFIG = """
[storage]
directory = "{directory}"
[broker]
mode = "none"
[page]
enabled = false
[platform]
url = "http://127.0.0.1:{port}"
auth = "none"
interval_s = 0.2
boot_delay_s = 0
[feed]
enabled = true
port = {feed_port}
[[feed.consumers]]
name = "bi"
token = "env:FEED_TOKEN"
streams = ["observations"]
"""


@contextlib.contextmanager
def platform(path: Path, port: int = 0) -> Iterator[int]:
    """A reference platform on loopback."""
    config = uvicorn.Config(platform_app(path), host="127.0.0.1", port=port, log_level="warning", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(60)


def test_events_reach_the_platform_and_the_feed_and_survive_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushed once each over an outage of the platform; pulled bytes are the journal's; no token, no feed."""
    monkeypatch.setenv("FEED_TOKEN", "s3cret")
    feed_port = free_port()
    with platform(tmp_path / "platform.db") as port:
        settings = parse(CONFIG.format(directory=tmp_path / "state", port=port, feed_port=feed_port), "test")
        gateway = Gateway(settings)
        stop = threading.Event()
        thread = threading.Thread(target=gateway.run, args=(stop,))
        thread.start()
        until(lambda: gateway.commits.is_open)

        def press(count: int) -> None:
            at = gateway.clock.now()
            data = ButtonPressed(button="b", value="single")
            one = draft("observations", "store.button.pressed.v1", data, source="//t1/b", at=at)
            gateway.inlet.offer("test", Item([one] * count), 1.0)

        def acked() -> int:
            with JournalReader(gateway.journal_path) as reader:
                return reader.state("observations").acked

        press(300)
        until(lambda: acked() == 300)
    press(50)  # the platform is away
    with platform(tmp_path / "platform.db", port):
        until(lambda: acked() == 350)
        request = urllib.request.Request(f"http://127.0.0.1:{feed_port}/v1/feed?limit=500")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=30)
        request.add_header("Authorization", "Bearer s3cret")
        with urllib.request.urlopen(request, timeout=30) as answer:
            pulled = json.loads(answer.read())
        request.full_url += "&format=epcis"
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.loads(answer.read())["epcisBody"] == {"eventList": []}  # buttons are no items
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    with JournalReader(gateway.journal_path) as reader:
        kept = [event.decode() for event in reader.read("observations", 0, 500)]
        state = reader.state("observations")
    assert pulled == kept and len(kept) == 350
    assert state.accepted == state.acked + state.pending + state.quarantined + state.expired + state.declared_lost


def test_a_platform_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    """Plain HTTP to another machine, and a signing key that is none, are told before anything is sent."""
    for platform_table, why in (
        ('url = "http://platform.example"\nauth = "none"', "plain HTTP"),
        ('url = "https://platform.example"\nauth = "signature"\ntoken = "env:NOT_A_KEY"', "private key"),
    ):
        settings = parse(f'[storage]\ndirectory = "{tmp_path}"\n[platform]\n{platform_table}', "test")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(ConfigError, match=why):
            patch.setenv("NOT_A_KEY", "no key")
            link(Gateway(settings))


def test_a_certificate_that_we_enrolled_for_is_renewed_and_another_is_not(tmp_path: Path) -> None:
    """Only the files of `storefront enrol` are ours to replace."""
    for certificate, ours in ((tmp_path / "keys" / "platform.pem", True), (tmp_path / "given.pem", False)):
        settings = parse(
            f'[storage]\ndirectory = "{tmp_path}"\n[platform]\nurl = "https://platform.example"\nauth = "mtls"\n'
            f'cert_file = "{certificate}"\nkey_file = "{tmp_path / "keys" / "platform.key"}"',
            "test",
        )
        gateway = Gateway(settings)
        assert ("certificate" in workers(gateway, link(gateway))) == ours


def test_an_orderly_stop_is_quick_and_takes_along_what_has_just_come_in(tmp_path: Path) -> None:
    """The long poll for commands ends at once; an event accepted a moment ago is delivered though its turn was far."""
    with platform(tmp_path / "platform.db") as port:
        text = CONFIG.format(directory=tmp_path / "state", port=port, feed_port=free_port())
        settings = parse(text.partition("[feed]")[0].replace("interval_s = 0.2", "interval_s = 600"), "test")
        gateway = Gateway(settings)
        stop = threading.Event()
        thread = threading.Thread(target=gateway.run, args=(stop,))
        thread.start()
        until(lambda: gateway.commits.is_open)
        until(lambda: [one.condition for one in gateway.delivery_states()] == ["live"] * 3)
        time.sleep(1.0)  # the question for commands is under way
        durable = threading.Event()
        data = ButtonPressed(button="b", value="single")
        one = draft("observations", "store.button.pressed.v1", data, source="//t1/b", at=gateway.clock.now())
        gateway.inlet.offer("test", Item([one], durable.set), 1.0)
        assert durable.wait(60)
        began_s = time.monotonic()
        stop.set()
        thread.join(60)
        took_s = time.monotonic() - began_s
    with JournalReader(gateway.journal_path) as reader:
        assert reader.state("observations").pending == 0
    assert took_s < 15.0  # 0.5 s on an idle machine


def test_an_orderly_stop_does_not_wait_for_a_platform_that_is_silent(tmp_path: Path) -> None:
    """A server that accepts and never answers holds nobody."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        text = CONFIG.format(directory=tmp_path / "state", port=port, feed_port=free_port())
        gateway = Gateway(parse(text.partition("[feed]")[0], "test"))
        stop = threading.Event()
        thread = threading.Thread(target=gateway.run, args=(stop,))
        thread.start()
        until(lambda: gateway.commits.is_open)
        time.sleep(1.5)
        began_s = time.monotonic()
        stop.set()
        thread.join(60)
        took_s = time.monotonic() - began_s
    assert took_s < 15.0  # 1.2 s on an idle machine


def test_the_platform_has_a_person_erased(tmp_path: Path) -> None:
    """The command comes down, the gateway redacts, the erasure and the command's outcome come back up; a repeated
    delivery of the redacted event is a duplicate for the platform and replaces what it had."""
    day_key, sealed = "ab" * 16, "p1." + "c2VhbGVk" * 12
    with platform(tmp_path / "platform.db") as port:
        text = CONFIG.format(directory=tmp_path / "state", port=port, feed_port=free_port())
        gateway = Gateway(parse(text.partition("[feed]")[0], "test"))
        stop = threading.Event()
        thread = threading.Thread(target=gateway.run, args=(stop,))
        thread.start()
        until(lambda: gateway.commits.is_open)
        data = InteractionScanned(scanner="s", shopper=Shopper(day_key=day_key, sealed=sealed))
        at = gateway.clock.now()
        extensions = {"consentref": "R-1"}
        said = draft(
            "transactions", "store.interaction.scanned.v1", data, source="//t1/b", at=at, extensions=extensions
        )
        gateway.inlet.offer("test", Item([said]), 1.0)
        store = PlatformStore(tmp_path / "platform.db")
        store.open()

        def received(kind: str) -> list[dict[str, Any]]:
            events = [json.loads(body) for _, body in store.events(0, 500, ["transactions"])]
            return [event for event in events if event["type"] == f"store.{kind}.v1"]

        until(lambda: received("interaction.scanned"))
        for name, kind, asked in (
            ("e1", "subject.erase", {"consentrefs": ["R-1"]}),
            ("e2", "journal.replay", {"stream": "transactions", "from": 1}),
        ):
            head = {"specversion": "1.0", "id": name, "source": "//p", "type": f"store.command.{kind}.v1"}
            store.command("gw01", name, json.dumps({**head, "data": asked}).encode())
        until(lambda: len(received("command.completed")) == 2)
        until(lambda: received("interaction.scanned")[0]["data"] is None)
        stop.set()
        thread.join(60)
        (erased,) = received("subject.erased")
        outcomes = [event["data"]["outcome"] for event in received("command.completed")]
        everything = json.dumps([json.loads(body) for _, body in store.events(0, 500, ["transactions"])])
        store.close()
    assert outcomes == ["done", "done"]
    assert erased["data"]["events"] == 1
    assert erased["data"]["ranges"][0]["first"] == 1
    assert not any(word in everything for word in (day_key, sealed))


def test_the_feed_on_the_network_speaks_tls_with_the_stores_own_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a certificate given: plain HTTP gets nothing, and who has the authority's certificate gets an answer."""
    monkeypatch.setenv("FEED_TOKEN", "s3cret")
    port = free_port()
    text = CONFIG.format(directory=tmp_path / "state", port=9, feed_port=port)
    settings = parse(text.replace("[feed]\n", '[feed]\nhost = "0.0.0.0"\n'), "test")
    assert settings.feed.host == "0.0.0.0"
    gateway = Gateway(settings)
    gateway.commits.open()
    feed = FeedServer(gateway)
    try:
        feed.open()
        trusting = ssl.create_default_context(cafile=tmp_path / "state" / "tls" / "ca.pem")

        def served() -> bool:
            try:
                urllib.request.urlopen(f"https://localhost:{port}/v1/feed", timeout=30, context=trusting).close()
            except urllib.error.HTTPError as error:
                error.close()
                return error.code == 401  # over TLS, and asking for a token
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionRefusedError), error  # not up yet
            return False

        until(served)
        with pytest.raises((urllib.error.URLError, OSError)):
            urllib.request.urlopen(f"http://localhost:{port}/v1/feed", timeout=30)
    finally:
        feed.close()
        gateway.commits.close()
