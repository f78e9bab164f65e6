"""The embedded broker as a process: it starts, ends, comes back and goes with its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from devices.transports import broker as broker_module
from devices.transports.broker import Broker, find_broker
from gateway.errors import Unavailable
from tests.patience import until
from tests.ports import free_port

pytestmark = pytest.mark.broker


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Broker]:
    try:
        find_broker()
    except Unavailable as error:
        pytest.skip(str(error))
    broker = Broker(tmp_path / "broker", free_port())
    broker.open()
    yield broker
    broker.close()


def test_it_starts_on_loopback_and_stops_soon(running: Broker) -> None:
    """It listens on 127.0.0.1 only, and is gone soon after it was asked to stop."""
    assert running.pid is not None
    process = psutil.Process(running.pid)
    addresses = {connection.laddr.ip for connection in process.net_connections("tcp") if connection.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}
    began_s = time.monotonic()
    running.close()
    assert time.monotonic() - began_s < 20.0
    assert not running.alive
    assert not psutil.pid_exists(process.pid)
    running.close()


def test_acknowledged_messages_survive_a_kill(running: Broker, links: Any) -> None:
    """What the broker had taken from a publisher is delivered after kill -9 and a restart on the same port."""
    link = links.ready(running.port, "gw", "t/#")
    link.close()
    sender = links.ready(running.port, "sender")
    for number in range(100):
        sender.publish("t/x", b"%d" % number)
    session = sender._session
    assert session is not None
    links.until(lambda: not sender._outgoing and not session._client._out_messages, sender)
    port, pid = running.port, running.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not running.alive)
    assert running.revive()
    assert (running.port, running.restarts) == (port, 1)
    assert not running.revive()
    again = links.ready(running.port, "gw", "t/#")
    got = links.take(again, 100)
    assert sorted({int(item.payload) for item in got}) == list(range(100))


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the gateway leaves no broker behind."""
    if sys.platform != "linux":
        pytest.skip("the kernel's parent-death signal is Linux only")
    script = (
        "import sys, time; from pathlib import Path; from devices.transports.broker import Broker\n"
        "b = Broker(Path(sys.argv[1])); b.open(); print(b.pid, flush=True); time.sleep(60)"
    )
    root = Path(broker_module.__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
        parent.wait(30)
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    """A broker that is already there is not fought; the hint is to use it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        broker = Broker(tmp_path, port=other.getsockname()[1])
        with pytest.raises(Unavailable) as caught:
            broker.open()
    assert "1883" in str(caught.value) or "taken" in str(caught.value) or "in use" in str(caught.value)
    assert not broker.alive


def test_a_running_broker_on_the_port_is_said(running: Broker, tmp_path: Path) -> None:
    """Two gateways on one machine: the second is told that the port has a broker."""
    with pytest.raises(Unavailable, match="taken"):
        Broker(tmp_path / "second", port=running.port).open()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A data directory that is a file is unavailable, with a hint."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable) as caught:
        Broker(tmp_path / "file" / "broker").open()
    assert "writable" in caught.value.hint


def test_a_platform_without_the_program_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where no wheel has the broker, the hint names Mosquitto."""
    import importlib.metadata
    import sysconfig

    def absent(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(sysconfig, "get_path", lambda *_arguments: str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable) as caught:
        find_broker()
    assert "Mosquitto" in caught.value.hint
