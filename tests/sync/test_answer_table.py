"""Every row of the answer table, against the real platform with a scripted fault in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from gateway.clock import FakeClock
from sync.answer import Reply
from sync.http_client import Outgoing
from sync.platform.app import platform_app
from sync.platform.faults import Fault, FaultyLine
from sync.platform.store import PlatformStore
from tests.sync.sync_parts import GATEWAY, Bench, Served, Store, http_uplink, ids_of

HTML = {"content-type": "text/html"}
JSON = {"content-type": "application/json"}
PROBLEM = {"content-type": "application/problem+json"}


class Rig:
    """A gateway with ten events, a platform, and a fault between them."""

    def __init__(self, tmp_path: Path) -> None:
        self.store = Store(tmp_path / "journal.db", FakeClock()).open()
        self.app = platform_app(tmp_path / "platform.db", durable=False)
        self.line = FaultyLine(self.app)
        self.platform: PlatformStore = self.app.state.store
        self.served = Served(self.line)
        self.served.__enter__()
        self.uplink = http_uplink(self.served.url, self.store.clock, coding="zstd")
        self.bench = Bench(self.store, self.uplink)

    def arrived(self) -> list[int]:
        return ids_of([body for _, body in self.platform.events(0, 10_000, ("observations",))])

    def close(self) -> None:
        self.bench.close()
        self.served.__exit__()
        self.store.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def answer(rig: Rig, through: int, **fields: object) -> bytes:
    """A 200's body as the contract has it, but for `fields`."""
    body = {"gateway": GATEWAY, "stream": "observations", "epoch": rig.bench.epoch, "acked_through": through}
    return msgspec.json.encode({**body, **fields})


def faulted(rig: Rig, status: int, body: bytes = b"", headers: dict[str, str] | None = None, times: int = 1) -> None:
    """Ten events meet the fault; the cursor must not have moved; everything arrives once afterwards."""
    rig.store.add(10)
    rig.line.add(Fault(kind="status", status=status, body=body, headers=headers or {}, times=times))
    rig.bench.step()
    assert rig.line.played >= 1
    assert rig.bench.cursor == 0
    assert rig.arrived() == []


def recovered(rig: Rig) -> None:
    rig.bench.drain()
    assert rig.arrived() == list(range(10))
    assert rig.bench.quarantined() == []
    assert rig.bench.syncer.state().condition == "live"


def test_a_valid_200_advances_and_quarantines_the_rejected_with_their_verdict(rig: Rig) -> None:
    """Rejected events count as consumed, and their verdict stands in quarantine."""
    rig.store.add(10, bad={3, 7})
    rig.bench.drain()
    assert rig.arrived() == [0, 1, 2, 4, 5, 6, 8, 9]
    held = rig.bench.quarantined()
    assert [topic.rpartition("/")[2] for topic, _ in held] == ["4", "8"]
    assert all(reason.startswith("schema.invalid: ") and "[v-" in reason for _, reason in held)
    assert rig.bench.syncer.counters.batches == 1  # a poison event costs no round trip of its own


INVALID = {
    "captive portal": (b"<html>please log in</html>", HTML),
    "HTML that claims to be JSON": (b"<html></html>", JSON),
    "nothing": (b"", JSON),
    "JSON that is no object": (b"[1]", JSON),
    "truncated JSON": (b'{"gateway":"gw01","stream', JSON),
    "not UTF-8": (b'{"gateway":"\xff"}', JSON),
}


@pytest.mark.parametrize(("body", "headers"), INVALID.values(), ids=INVALID.keys())
def test_an_invalid_200_moves_nothing(rig: Rig, body: bytes, headers: dict[str, str]) -> None:
    """A 200 that is not the contract's answer is a network failure."""
    faulted(rig, 200, body, headers)
    assert rig.bench.syncer.state().condition == "waiting"
    recovered(rig)


WRONG = {
    "another gateway": {"gateway": "gw02"},
    "another stream": {"stream": "transactions"},
    "another epoch": {"epoch": "0" * 32},
    "acknowledges more than was sent": {"acked_through": 11},
    "acknowledges less than nothing": {"acked_through": -1},
    "acknowledges half an event": {"acked_through": 9.5},
    "acknowledges true": {"acked_through": True},
    "acknowledges a string": {"acked_through": "10"},
    "a verdict beyond what it took": {"acked_through": 4, "results": [{"seq": 5, "status": "rejected"}]},
    "a verdict that nobody knows": {"results": [{"seq": 5, "status": "maybe"}]},
    "two verdicts on one event": {
        "results": [{"seq": 5, "status": "rejected", "code": "a"}, {"seq": 5, "status": "rejected", "code": "b"}]
    },
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_200_about_something_else_moves_nothing(rig: Rig, wrong: dict[str, object]) -> None:
    """The answer must name this gateway, stream and epoch, and acknowledge something between current and last sent."""
    rig.store.add(10)
    body = answer(rig, 10, **wrong)
    rig.line.add(Fault(kind="status", status=200, body=body, headers=JSON))
    rig.bench.step()
    assert (rig.bench.cursor, rig.arrived()) == (0, [])
    recovered(rig)


@pytest.mark.parametrize("status", [204, 301, 302, 303, 307, 308])
def test_204_and_redirects_move_nothing_and_are_not_followed(rig: Rig, status: int) -> None:
    """No answer sends the events to another host."""
    faulted(rig, status, headers={"location": "http://127.0.0.1:1/elsewhere"})
    assert rig.bench.syncer.state().condition == "waiting"
    recovered(rig)


@pytest.mark.parametrize("status", [400, 422])
def test_a_batch_refused_once_is_halved_and_arrives_whole(rig: Rig, status: int) -> None:
    """A single refusal of a batch costs nothing."""
    faulted(rig, status, b'{"detail":"no"}', PROBLEM)
    recovered(rig)


@pytest.mark.parametrize("status", [400, 422])
def test_the_one_event_that_is_refused_alone_three_times_is_quarantined(rig: Rig, status: int) -> None:
    """Bisection ends in quarantine `client.bisected`, the neighbours arrive, and the platform knows of the gap."""

    class Poisoned:
        async def __call__(self, scope, receive, send):  # type: ignore[no-untyped-def]
            if scope["type"] == "http" and scope["path"].endswith("/events"):
                message = await receive()
                if b"poison" in await _plain(message["body"]):
                    await send({"type": "http.response.start", "status": status, "headers": []})
                    await send({"type": "http.response.body", "body": b""})
                    return
                sent = [message]

                async def replay():  # type: ignore[no-untyped-def]
                    return sent.pop() if sent else await receive()

                await rig.app(scope, replay, send)
                return
            await rig.app(scope, receive, send)

    async def _plain(body: bytes) -> bytes:
        import gzip

        return gzip.decompress(body)

    rig.uplink.coding = "gzip"
    rig.line.app = Poisoned()
    rig.store.add(6)
    rig.store.add(1, start=6, pad=0)
    _append_poison(rig.store)
    rig.store.add(3, start=8)
    rig.bench.drain()
    assert rig.arrived() == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10]
    ((topic, reason),) = rig.bench.quarantined()
    assert topic.endswith("/8")
    assert reason.startswith("client.bisected")


def _append_poison(store: Store) -> None:
    from gateway.event import draft
    from tests.sync.sync_parts import ORIGIN, Loose

    event = draft("observations", "store.poison.v1", Loose(7), source=ORIGIN.source("t"), at=store.clock.now())
    store.writer.append([event])


def test_a_page_of_a_proxy_with_status_400_quarantines_nothing(rig: Rig) -> None:
    """An HTML 400 has not looked at any event."""
    faulted(rig, 400, b"<html>Bad Request</html>", HTML, times=12)
    recovered(rig)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_renewed_once_then_it_waits_and_alarms(rig: Rig, status: int) -> None:
    """One refresh at once; then back-off up to 15 minutes; ingest goes on; the alarm ends with the trouble."""

    class Counted:
        refreshed = 0

        def headers(self, outgoing: Outgoing) -> dict[str, str]:
            return {"authorization": f"Bearer {self.refreshed}"}

        def refresh(self, reply: Reply) -> bool:
            self.refreshed += 1
            return True

    credentials = Counted()
    rig.uplink._client._credentials = credentials
    faulted(rig, status, times=2)
    assert credentials.refreshed == 1
    assert rig.bench.syncer.state().condition == "unauthorised"
    assert rig.bench.alarms.up == ["sync.unauthorised.observations"]
    rig.store.add(0)
    recovered(rig)
    assert rig.bench.alarms.down == ["sync.unauthorised.observations"]


@pytest.mark.parametrize("status", [404, 410])
def test_a_closed_gateway_stops_pushing_keeps_everything_and_comes_back(rig: Rig, status: int) -> None:
    """Nothing more is pushed; only the epoch is asked for, until the platform opens it again."""
    faulted(rig, status)
    rig.platform.close_gateway(GATEWAY)
    pushed = rig.bench.syncer.counters.batches
    for _ in range(5):
        rig.bench.step()
    assert rig.bench.syncer.counters.batches == pushed
    assert rig.bench.syncer.state().condition == "closed"
    assert rig.bench.alarms.up[0] == "sync.closed.observations"
    rig.platform.close_gateway(GATEWAY, False)
    recovered(rig)


def test_a_gap_rewinds_to_what_the_platform_expects(rig: Rig) -> None:
    """A platform that lost its tail while the gateway ran gets it again."""
    rig.store.add(6)
    rig.bench.drain()
    _cut_platform(rig, 3)
    rig.store.add(4, start=6)
    rig.bench.drain()
    rig.bench.step()
    assert rig.arrived() == list(range(10))


def test_a_gap_that_is_not_kept_is_declared(rig: Rig) -> None:
    """Events that retention has deleted are declared lost to the platform, which then goes on."""
    rig.store.add(6)
    rig.bench.drain()
    _cut_platform(rig, 2)
    rig.store.writer.transact(lambda connection: connection.execute("DELETE FROM observations WHERE position <= 5"))
    rig.store.add(4, start=6)
    rig.bench.drain()
    assert rig.arrived() == [0, 1, 5, 6, 7, 8, 9]
    assert rig.bench.syncer.counters.gaps == 1


def _cut_platform(rig: Rig, keep: int) -> None:
    with rig.platform.transaction() as connection:
        connection.execute("DELETE FROM event WHERE seq > ?", (keep,))
        connection.execute("UPDATE lane SET acked = ?", (keep,))


@pytest.mark.parametrize("expected", [b"", b',"expected_seq":"7"', b',"expected_seq":0', b',"expected_seq":99'])
def test_a_gap_that_makes_no_sense_moves_nothing(rig: Rig, expected: bytes) -> None:
    """A gap without a usable number is a network failure."""
    faulted(rig, 409, b'{"type":"urn:storefront:problem:sequence-gap"' + expected + b"}", PROBLEM)
    recovered(rig)


def test_a_conflict_gives_the_undelivered_events_new_numbers_and_alarms(rig: Rig) -> None:
    """Same number, other bytes: from the first that differs on, a new epoch; nothing is applied twice."""
    other = Store(rig.store.path.with_name("clone.db"), rig.store.clock)
    rig.store.add(5)
    rig.bench.drain()
    rig.store.close()
    rig.bench.ledger.close()
    other.path.write_bytes(rig.store.path.read_bytes())
    rig.store.open()
    rig.bench.ledger.open()
    other.open()
    clone = Bench(other, http_uplink(rig.served.url, other.clock))
    rig.store.add(3, start=100)
    rig.bench.drain()
    other.add(4, start=200)
    clone.drain()
    assert rig.arrived() == [0, 1, 2, 3, 4, 100, 101, 102, 200, 201, 202, 203]
    assert clone.alarms.up == ["sync.conflict.observations"]
    assert clone.syncer.counters.epochs == 1
    assert clone.quarantined() == []
    clone.close()
    other.close()


def test_an_unknown_epoch_is_opened_and_the_batch_sent_again(rig: Rig) -> None:
    """412 leads to PUT and the same batch, at once."""
    faulted(rig, 412, b'{"type":"urn:storefront:problem:unknown-epoch"}', PROBLEM)
    recovered(rig)
    assert rig.bench.waited_s < 1.0


def test_413_halves(rig: Rig) -> None:
    """Too much at once is sent as less."""
    faulted(rig, 413, times=2)
    recovered(rig)
    assert rig.bench.syncer.counters.batches >= 5


def test_a_single_event_that_is_too_large_is_quarantined(rig: Rig) -> None:
    """Nothing stands behind an event that the platform can never take."""
    rig.store.add(2)
    rig.store.add(1, start=2, pad=1_100_000)
    rig.store.add(2, start=3)
    rig.bench.drain()
    assert rig.arrived() == [0, 1, 3, 4]
    ((topic, reason),) = rig.bench.quarantined()
    assert topic.endswith("/3")
    assert reason.startswith("client.too-large")


def test_415_falls_back_to_gzip_then_identity(rig: Rig) -> None:
    """A platform that knows no coding gets plain bytes, at once."""
    rig.store.add(10)
    assert rig.uplink.coding == "zstd"
    rig.line.add(Fault(kind="status", status=415, times=2))
    rig.bench.step()
    assert rig.uplink.coding == "identity"
    recovered(rig)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 402, 418, 451, 599])
def test_what_only_time_can_change_is_waited_out(rig: Rig, status: int) -> None:
    """Time-outs, overload, server errors and statuses that nobody has heard of keep every event."""
    faulted(rig, status, b"later", {"content-type": "text/plain"}, times=3)
    recovered(rig)


def test_retry_after_is_kept_once_to_twice(rig: Rig) -> None:
    """Retry-After × U(1, 2)."""
    faulted(rig, 503, headers={"retry-after": "40"})
    assert 40.0 <= rig.bench.syncer.state().next_try_s <= 80.0
    recovered(rig)


@pytest.mark.parametrize("kind", ["lose_request", "lose_answer", "truncate"])
def test_a_lost_request_or_answer_is_sent_again_and_applied_once(rig: Rig, kind: str) -> None:
    """Whatever half of the exchange is lost, the events arrive once."""
    rig.store.add(10)
    rig.line.add(Fault(kind=kind, times=4))  # type: ignore[arg-type]
    rig.bench.step()
    assert rig.bench.cursor == 0
    recovered(rig)


def test_a_lost_verdict_is_repeated(rig: Rig) -> None:
    """The answer to a poison event is lost after commit: its first verdict comes with the duplicate."""
    rig.store.add(10, bad={4})
    rig.line.add(Fault(kind="lose_answer", times=3))
    rig.bench.drain()
    assert rig.arrived() == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    ((_, reason),) = rig.bench.quarantined()
    assert reason.startswith("schema.invalid") and reason.endswith("[v-1]")


def test_an_unreachable_platform_is_waited_for(tmp_path: Path) -> None:
    """No connection at all: everything is kept."""
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    bench = Bench(store, http_uplink("http://127.0.0.1:9", store.clock))
    store.add(3)
    for _ in range(12):
        bench.step()
    assert bench.cursor == 0
    assert bench.syncer.state().next_try_s <= 300.0
    bench.close()
    store.close()
