"""A distributed log in place of the platform's push: a whole gateway with `[platform.log]`, and options refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.loader import parse
from gateway.app import Gateway
from gateway.errors import ConfigError
from gateway.event import Origin, draft
from gateway.event_types import ButtonPressed
from gateway.intake.inlet import Item
from gateway.journal.reader import JournalReader
from sync.event_log import event_log
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
interval_s = 0.2
boot_delay_s = 0
[platform.log]
kind = "nats"
servers = ["{server}"]
"""

SERVER = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("nats", reason="the extra [nats] is not installed")
    if SERVER is None:
        pytest.skip("there is no nats-server")
    port = free_port()
    command = [SERVER, "-a", "127.0.0.1", "-p", str(port), "-js", "-sd", str(tmp_path / "nats")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"nats://127.0.0.1:{port}"
    process.kill()
    process.wait(30)


@pytest.mark.broker
def test_a_gateway_without_a_platform_delivers_into_its_log(tmp_path: Path, server: str) -> None:
    """What is accepted counts as delivered once JetStream has acknowledged it; the page knows of a platform."""
    gateway = Gateway(parse(CONFIG.format(directory=tmp_path / "state", server=server), "test"))
    stop = threading.Event()
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        until(lambda: gateway.commits.is_open)
        at = gateway.clock.now()
        press = ButtonPressed(button="b1", value="single")
        one = draft("observations", "store.button.pressed.v1", press, source="//t/b", at=at)
        gateway.inlet.offer("b1", Item([one] * 20), 5.0)

        def delivered() -> int:
            with JournalReader(gateway.journal_path) as reader:
                return next(it.acked for it in reader.states() if it.stream == "observations")

        until(lambda: delivered() >= 20, every_s=0.1)
    finally:
        stop.set()
        thread.join(60)
    assert delivered() == 20


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ('kind = "nats"\nservers = ["nats://log.example:4222"]', "an open connection to another machine"),
        ('kind = "nats"\nservers = ["http://127.0.0.1"]', "not an address like tls://host:4222"),
        ('kind = "nats"\nservers = ["nats://u:p@127.0.0.1"]', "not an address like tls://host:4222"),
        ('kind = "nats"\nservers = ["nats://127.0.0.1"]\ncredentials_file = "none.creds"', "there is no such file"),
        ('kind = "kafka"\nservers = ["kafka.example"]', "each must be host:port"),
        ('kind = "kafka"', "missing"),
        ('kind = "kafka"\nservers = ["a:1"]\npassword = "plain"', "a secret stands in the configuration"),
    ],
)
def test_what_must_not_be_used_is_refused_at_the_start(table: str, reason: str) -> None:
    """Open connections to other machines, foreign addresses, missing files and secrets in the clear."""
    for extra in ("nats", "confluent_kafka"):
        pytest.importorskip(extra)
    with pytest.raises(ConfigError) as refused:
        settings = parse(f"[platform.log]\n{table}\n", "test")
        event_log(settings.platform.log, Origin("t1", "0042", "gw01"))
    assert reason in str(refused.value)
