"""The uplink into JetStream against a real NATS server: once, in order, over kills of the server and lost answers."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.clock import FakeClock
from sync.uplink import Batch, Lane
from tests.ports import free_port
from tests.sync.sync_parts import Bench, Store

nats = pytest.importorskip("nats", reason="the extra [nats] is not installed")

SERVER = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
pytestmark = [pytest.mark.broker, pytest.mark.skipif(SERVER is None, reason="there is no nats-server")]

from sync.nats_uplink import NatsOptions, NatsUplink  # noqa: E402 - after the check for the extra


class Server:
    """A NATS server with JetStream on disk, on a port of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert SERVER is not None
        command = [SERVER, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self.home)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        raise AssertionError("the server did not start")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def stored(self) -> list[tuple[str, int]]:
        """(subject, number in the data) of every message, in order."""

        async def read() -> list[tuple[str, int]]:
            connection = await nats.connect(self.url)
            jetstream = connection.jetstream()
            info = await jetstream.stream_info("EVENTS")
            found = []
            for seq in range(1, info.state.last_seq + 1):
                message = await jetstream.get_msg("EVENTS", seq)
                data = msgspec.json.decode(message.data)
                found.append((message.subject, data["data"]["n"] if "data" in data else -1))
            await connection.close()
            return found

        return asyncio.run(read())


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "nats")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    store.close()


def uplink(server: Server) -> NatsUplink:
    return NatsUplink(NatsOptions(servers=(server.url,), tenant="t1", store="00 42", timeout_s=3.0))


def test_events_arrive_once_and_in_order_over_restarts_of_both_sides(server: Server, store: Store) -> None:
    """The log's last message says where to go on, after any restart and without a time window."""
    bench = Bench(store, uplink(server))
    store.add(30)
    bench.drain()
    bench.close()
    again = Bench(store, uplink(server))
    store.add(10, start=30)
    again.drain()
    server.kill()
    store.add(10, start=40)
    again.step()
    assert again.cursor == 40
    server.start()
    again.drain()
    again.close()
    assert server.stored() == [("ev.t1.00_42.observations", n) for n in range(50)]


def test_a_batch_that_was_stored_but_not_answered_is_not_stored_again(server: Server, store: Store) -> None:
    """500 of 500 were doubled by a time window; here none, at once and by a fresh client."""
    store.add(25)
    ledger = store.ledger()
    ledger.open()
    events = ledger.read("observations", 0, 100, 1 << 20)
    lane = Lane("gw01", "observations", events[0].epoch)
    batch = Batch(lane, 1, tuple(event.json for event in events))
    first, second = uplink(server), uplink(server)
    assert first.send(batch).acked_through == 25
    repeated = second.send(batch)
    assert (repeated.outcome, repeated.acked_through, repeated.duplicates) == ("taken", 25, 25)
    assert second.greet(lane, "fresh", None).acked_through == 25
    assert len(server.stored()) == 25
    first.close()
    second.close()
    ledger.close()


def test_a_client_with_an_old_idea_of_the_log_looks_again(server: Server, store: Store) -> None:
    """A wrong last sequence is not written over: the client finds its place first."""
    store.add(6)
    ledger = store.ledger()
    ledger.open()
    events = [event.json for event in ledger.read("observations", 0, 100, 1 << 20)]
    lane = Lane("gw01", "observations", ledger.view("observations").epochs[-1].epoch)
    old, other = uplink(server), uplink(server)
    assert old.send(Batch(lane, 1, tuple(events[:2]))).outcome == "taken"
    assert other.send(Batch(lane, 3, tuple(events[2:4]))).outcome == "taken"
    assert old.send(Batch(lane, 3, tuple(events[2:6]))).outcome == "retry"
    assert old.send(Batch(lane, 3, tuple(events[2:6]))).acked_through == 6
    assert [n for _, n in server.stored()] == list(range(6))
    old.close()
    other.close()
    ledger.close()


def test_a_gap_is_a_message_and_the_stream_goes_on(server: Server, store: Store) -> None:
    """What will not come is said in the log, once."""
    bench = Bench(store, uplink(server))
    store.add(6)
    store.writer.transact(lambda connection: connection.execute("DELETE FROM observations WHERE position IN (3, 4)"))
    bench.drain()
    bench.close()
    assert [n for _, n in server.stored()] == [0, 1, -1, 4, 5]


def test_a_log_that_keeps_nothing_does_not_bring_everything_back(server: Server, store: Store) -> None:
    """After the log's own retention the gateway's cursor counts."""
    bench = Bench(store, uplink(server))
    store.add(5)
    bench.drain()
    bench.close()

    async def purge() -> None:
        connection = await nats.connect(server.url)
        await connection.jetstream().purge_stream("EVENTS")
        await connection.close()

    asyncio.run(purge())
    again = Bench(store, uplink(server))
    store.add(2, start=5)
    again.drain()
    again.close()
    bench_stored = _after_purge(server)
    assert bench_stored == [5, 6]


def _after_purge(server: Server) -> list[int]:
    async def read() -> list[int]:
        connection = await nats.connect(server.url)
        jetstream = connection.jetstream()
        state = (await jetstream.stream_info("EVENTS")).state
        found = [
            msgspec.json.decode((await jetstream.get_msg("EVENTS", seq)).data)["data"]["n"]
            for seq in range(state.first_seq, state.last_seq + 1)
        ]
        await connection.close()
        return found

    return asyncio.run(read())


def test_no_server_is_a_failure_and_not_an_exception(store: Store) -> None:
    """Everything is kept."""
    away = NatsUplink(NatsOptions(servers=("nats://127.0.0.1:9",), tenant="t1", store="1", timeout_s=1.0))
    assert away.greet(Lane("gw01", "observations", "0" * 32), "fresh", None).outcome == "retry"
    away.close()
