"""Notifications over a real datagram socket; the watchdog by hand."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.clock import FakeClock, SystemClock
from gateway.runtime.systemd import Notifier, Watchdog, watchdog_s


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A service manager listening on a path or on an abstract name."""
    end = Manager(str(tmp_path / "n") if request.param == "path" else f"@storefront-{secrets.token_hex(8)}")
    yield end
    end.socket.close()


def test_every_word_is_one_datagram_of_assignments(manager: Manager) -> None:
    """READY, STATUS, WATCHDOG, STOPPING and EXTEND_TIMEOUT_USEC arrive as sd_notify(3) writes them."""
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    words: list[tuple[Callable[[], None], list[str]]] = [
        (lambda: notifier.ready("3 devices live"), ["READY=1", "STATUS=3 devices live"]),
        (notifier.ready, ["READY=1"]),
        (lambda: notifier.status("backlog 12"), ["STATUS=backlog 12"]),
        (notifier.alive, ["WATCHDOG=1"]),
        (notifier.stopping, ["STOPPING=1"]),
        (lambda: notifier.extend_timeout(90.5), ["EXTEND_TIMEOUT_USEC=90500000"]),
    ]
    for send, expected in words:
        send()
        assert manager.heard() == expected


def test_reloading_carries_the_monotonic_time_of_the_kernel(manager: Manager) -> None:
    """systemd compares MONOTONIC_USEC with its own CLOCK_MONOTONIC, so it must be that clock in microseconds."""
    before_us = SystemClock().now().mono_us
    Notifier(manager.address).reloading(SystemClock().now())
    first, second = manager.heard()
    assert first == "RELOADING=1"
    assert before_us <= int(second.removeprefix("MONOTONIC_USEC=")) <= SystemClock().now().mono_us


def test_a_status_cannot_smuggle_another_assignment(manager: Manager) -> None:
    """A device name with a newline stays one line of status."""
    Notifier(manager.address).status("till\nSTOPPING=1\r\n3")
    assert manager.heard() == ["STATUS=till STOPPING=1 3"]


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}])
def test_without_a_service_manager_nothing_happens(environ: dict[str, str]) -> None:
    """On a terminal every call is a no-op and no failure."""
    notifier = Notifier.from_environment(environ)
    notifier.ready("x")
    notifier.alive()
    notifier.status("")
    assert notifier.failures == 0


@pytest.mark.parametrize("address", ["/nonexistent/notify", "vsock:2:1234", "x" * 300, "a\0b"])
def test_a_manager_that_is_gone_costs_one_line_of_log(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Failures are counted and told once; the gateway goes on."""
    notifier = Notifier(address)
    for _ in range(3):
        notifier.alive()
    assert notifier.failures == 3
    assert len(caplog.records) == 1


def test_a_manager_that_does_not_read_does_not_stop_the_gateway(tmp_path: Path) -> None:
    """With systemd's queue full a send gives up after its time-out and is counted."""
    manager = Manager(str(tmp_path / "n"))
    filler = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    filler.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            filler.sendto(b"x", manager.address)
    notifier = Notifier(manager.address)
    notifier.alive()
    assert notifier.failures == 1
    filler.close()
    manager.socket.close()


@pytest.mark.parametrize(
    ("environ", "expected_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "78"}, None),
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "３"}, None),
        ({"WATCHDOG_PID": "77"}, None),
    ],
)
def test_the_interval_is_half_of_systemds_limit_if_it_is_meant_for_us(
    environ: dict[str, str], expected_s: float | None
) -> None:
    """sd_watchdog_enabled(3): own pid or none; anything else is not watched."""
    assert watchdog_s(environ, pid=77) == expected_s


def test_our_own_pid_is_the_default() -> None:
    """Asked of the system when not given."""
    assert watchdog_s({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}) == 1.0


class Fed:
    """A watchdog on a fake clock; `at_s` holds when it was fed."""

    def __init__(self, interval_s: float | None) -> None:
        self.clock = FakeClock()
        self.well = True
        self.at_s: list[float] = []
        self.dog = Watchdog(interval_s, lambda: self.well, lambda: self.at_s.append(self.clock.now().mono_s - 1.0))

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds * 4)):
            self.dog.beat(self.clock.now())
            self.clock.advance(0.25)


def test_progress_feeds_it_once_an_interval() -> None:
    """Beaten four times a second with an interval of 5 s: fed at 0, 5, 10."""
    fed = Fed(5.0)
    fed.run(12)
    assert fed.at_s == [0.0, 5.0, 10.0]


def test_without_progress_it_starves_and_recovers_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """No word while a worker is stuck, however often it is beaten; told once; fed again as soon as all is well."""
    caplog.set_level(logging.INFO)
    fed = Fed(5.0)
    fed.run(1)
    fed.well = False
    fed.run(20)
    assert fed.at_s == [0.0]
    fed.well = True
    fed.run(1)
    assert fed.at_s == [0.0, 21.0]
    assert [record.args for record in caplog.records] == [("starving",), ("fed",)]


def test_it_is_no_timer() -> None:
    """Nobody calls `beat` (the main thread hangs): nothing is sent, whatever time passes."""
    fed = Fed(5.0)
    fed.clock.advance(100)
    assert fed.at_s == []


def test_nobody_watches_nothing_is_sent() -> None:
    """Interval None: silent, and health is not even asked."""
    fed = Fed(None)
    fed.run(10)
    assert fed.at_s == []


@given(st.lists(st.tuples(st.booleans(), st.floats(0.01, 3.0)), max_size=80))
def test_it_is_fed_only_when_well_and_never_sooner_than_the_interval(course: list[tuple[bool, float]]) -> None:
    """Over any course of health and time."""
    fed = Fed(2.0)
    for well, pause_s in course:
        fed.well, before = well, len(fed.at_s)
        fed.dog.beat(fed.clock.now())
        assert well or len(fed.at_s) == before
        fed.clock.advance(pause_s)
    assert all(b - a >= 1.999999 for a, b in zip(fed.at_s, fed.at_s[1:], strict=False))
