"""The pull feed over real HTTP: the gateway's journal and the platform's log, cursors, consumers, tokens, limits."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette

from gateway.clock import FakeClock
from gateway.errors import JournalError
from sync.feed import CursorCode, Feed, FeedRefused, FeedToken, admit, token_digest
from sync.feed_journal import JournalFeed, JournalOffsets
from sync.feed_routes import FeedLimits, FeedRoutes
from sync.platform.app import platform_app
from tests.sync.sync_parts import STREAMS, Bench, Served, Store, http_uplink, ids_of

SECRET = b"s" * 32
TOKENS = (
    FeedToken("warehouse", token_digest("w-secret"), STREAMS, required=True),
    FeedToken("sales", token_digest("s-secret"), ("transactions",)),
)


class Puller:
    """A gateway's feed on a port, and a consumer."""

    def __init__(self, store: Store, limits: FeedLimits | None = None) -> None:
        self.store = store
        self.source = JournalFeed(store.path)
        self.source.open()
        self.feed = Feed(self.source, JournalOffsets(store, store.clock), SECRET, 3)
        self.served = Served(Starlette(routes=FeedRoutes(self.feed, TOKENS, limits).routes()))
        self.served.__enter__()
        self.session = requests.Session()

    def get(self, query: str = "", secret: str = "w-secret", path: str = "/v1/feed") -> requests.Response:
        return self.session.get(
            f"{self.served.url}{path}{query}", headers={"Authorization": f"Bearer {secret}"}, timeout=30
        )

    def put(self, name: str, cursor: str, secret: str = "w-secret", **headers: str) -> requests.Response:
        return self.session.put(
            f"{self.served.url}/v1/feed/consumers/{name}", json={"cursor": cursor},
            headers={"Authorization": f"Bearer {secret}", **headers}, timeout=30,
        )  # fmt: skip

    def close(self) -> None:
        self.session.close()
        self.served.__exit__()
        self.source.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    yield store
    store.close()


@pytest.fixture
def puller(store: Store) -> Iterator[Puller]:
    puller = Puller(store)
    yield puller
    puller.close()


def numbers(response: requests.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [event["data"]["n"] for event in response.json()]


def kind(response: requests.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code and body["detail"] and body["title"]
    return response.status_code, body["type"].rpartition(":")[2]


def test_pages_follow_each_other_without_a_hole_or_a_repeat(store: Store, puller: Puller) -> None:
    """Every event once, in order, with its very bytes; the last page is empty and still has a cursor."""
    store.add(25)
    seen, query = [], "?limit=10"
    for _ in range(4):
        response = puller.get(query)
        assert response.headers["content-type"] == "application/cloudevents-batch+json"
        seen += numbers(response)
        assert response.headers["link"].endswith('>; rel="next"')
        query = response.headers["link"][1:].partition(">")[0].removeprefix("/v1/feed")
    assert seen == list(range(25))
    assert response.text == "[]" and response.headers["feed-lag"] == "0"
    assert puller.get(f"?after={response.headers['feed-low']}&limit=3").headers["feed-lag"] == "22"
    raw = [event.json for event in store_events(store)]
    assert puller.get("?limit=25").content == b"[" + b",".join(raw) + b"]"


def store_events(store: Store):  # type: ignore[no-untyped-def]
    ledger = store.ledger()
    ledger.open()
    try:
        return ledger.read("observations", 0, 1000, 1 << 24)
    finally:
        ledger.close()


def test_streams_are_merged_in_the_order_of_writing_and_each_keeps_its_own(store: Store, puller: Puller) -> None:
    """One total order whatever the page size; reading again gives the same."""
    for n in range(30):
        store.add(1, STREAMS[n % 3], start=n)
        store.clock.advance(1.0)
    whole = numbers(puller.get("?limit=100"))
    assert whole == list(range(30))
    paged, after = [], ""
    for _ in range(10):
        response = puller.get(f"?limit=3{after}")
        paged += numbers(response)
        after = f"&after={response.headers['feed-next']}"
    assert paged == whole


def test_a_stream_filter_may_change_between_pages(store: Store, puller: Puller) -> None:
    """A cursor knows every stream, also those that were not asked for."""
    store.add(3, "transactions", start=0)
    store.add(3, "measurements", start=10)
    first = puller.get("?streams=measurements")
    assert numbers(first) == [10, 11, 12]
    assert numbers(puller.get(f"?after={first.headers['feed-next']}")) == [0, 1, 2]


def test_a_long_poll_returns_when_something_is_committed_and_at_its_end_otherwise(store: Store, puller: Puller) -> None:
    """[] after `wait` means caught up."""
    store.add(1)
    after = puller.get().headers["feed-next"]
    started_s = time.monotonic()
    empty = puller.get(f"?after={after}&wait=1")
    assert empty.text == "[]" and time.monotonic() - started_s >= 0.9
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(puller.get, f"?after={after}&wait=20")
        time.sleep(0.3)
        assert not waiting.done()
        store.add(1, start=7)
        assert numbers(waiting.result(15)) == [7]


def test_nobody_is_let_in_without_a_token_and_nobody_beyond_its_scope(store: Store, puller: Puller) -> None:
    """Denied by default; scoped to streams; a consumer only touches its own offset."""
    store.add(2, "transactions")
    store.add(2, "observations")
    assert kind(puller.get(secret="guess")) == (401, "unauthorised")
    bare = requests.get(f"{puller.served.url}/v1/feed", timeout=30)
    assert kind(bare) == (401, "unauthorised") and bare.headers["www-authenticate"] == "Bearer"
    assert len(numbers(puller.get(secret="s-secret"))) == 2
    assert kind(puller.get("?streams=observations", secret="s-secret")) == (403, "stream-forbidden")
    cursor = puller.get(secret="s-secret").headers["feed-next"]
    assert kind(puller.put("warehouse", cursor, secret="s-secret")) == (403, "consumer-forbidden")
    with pytest.raises(FeedRefused):
        admit((), "Bearer w-secret")


@pytest.mark.parametrize("after", ["x", "AAAA", "%00", "a" * 500, "é"])
def test_a_forged_cursor_is_refused(store: Store, puller: Puller, after: str) -> None:
    """400, never a guess."""
    assert kind(puller.get(f"?after={after}")) == (400, "cursor-invalid")


@given(st.binary(max_size=80))
def test_no_bytes_make_a_cursor_but_those_that_were_issued(raw: bytes) -> None:
    """Whatever is sent, only the feed's own cursors decode."""
    with pytest.raises(FeedRefused):
        CursorCode(SECRET, 3).decode(urlsafe_b64encode(raw).rstrip(b"=").decode())


@given(st.tuples(*[st.integers(0, 2**62)] * 3), st.binary(min_size=8, max_size=8), st.integers(0, 49))
def test_a_cursor_survives_and_no_changed_byte_does(position: tuple[int, int, int], tag: bytes, index: int) -> None:
    """Encoding is exact and authenticated."""
    code = CursorCode(SECRET, 3)
    text = code.encode(position, tag)
    assert code.decode(text) == (position, tag)
    raw = bytearray(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    raw[index] ^= 1
    with pytest.raises(FeedRefused):
        code.decode(urlsafe_b64encode(raw).rstrip(b"=").decode())


def test_a_foreign_cursor_is_refused(store: Store, puller: Puller) -> None:
    """Another gateway's secret makes other cursors."""
    foreign = CursorCode(b"f" * 32, 3).encode((0, 0, 0), b"\0" * 8)
    assert kind(puller.get(f"?after={foreign}")) == (400, "cursor-invalid")


def test_a_cursor_before_what_is_kept_says_so(store: Store, puller: Puller) -> None:
    """410 with the oldest cursor and the snapshot; the stream that lost nothing is still served."""
    store.add(10)
    after = puller.get("?limit=2").headers["feed-next"]
    store.writer.transact(lambda connection: connection.execute("DELETE FROM observations WHERE position <= 5"))
    refused = puller.get(f"?after={after}")
    assert kind(refused) == (410, "cursor-expired")
    assert numbers(puller.get(f"?after={refused.json()['oldest']}")) == [5, 6, 7, 8, 9]
    assert numbers(puller.get(f"?after={after}&streams=transactions")) == []
    snapshot = puller.get(path=refused.json()["snapshot"]).json()
    assert snapshot["oldest"] == refused.json()["oldest"]


def test_a_restored_journal_changes_the_generation(tmp_path: Path) -> None:
    """409: the events behind the cursor are not the ones that were read."""
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    store.add(3)
    store.close()
    backup = store.path.read_bytes()
    store.open()
    store.add(4, start=3)
    puller = Puller(store)
    after = puller.get().headers["feed-next"]
    puller.close()
    store.close()
    store.path.write_bytes(backup)
    store.open("restored")
    puller = Puller(store)
    assert kind(puller.get(f"?after={after}")) == (409, "generation-changed")
    store.add(9, start=50)
    refused = puller.get(f"?after={after}")
    assert kind(refused) == (409, "generation-changed")
    assert numbers(puller.get(f"?after={refused.json()['oldest']}"))[:3] == [0, 1, 2]
    puller.close()
    store.close()


def test_offsets_are_committed_compared_and_forgotten(store: Store, puller: Puller) -> None:
    """ETag and If-Match: of two consumers under one name only one commits; a restart goes on from the offset."""
    store.add(6)
    name = "warehouse"
    assert kind(puller.get(path=f"/v1/feed/consumers/{name}")) == (404, "consumer-unknown")
    first = puller.get("?limit=2").headers["feed-next"]
    made = puller.put(name, first, **{"If-None-Match": "*"})
    assert made.status_code == 200
    assert kind(puller.put(name, first, **{"If-None-Match": "*"})) == (412, "offset-changed")
    second = puller.get(f"?limit=2&after={first}").headers["feed-next"]
    assert kind(puller.put(name, second, **{"If-Match": '"other"'})) == (412, "offset-changed")
    moved = puller.put(name, second, **{"If-Match": made.headers["etag"]})
    assert moved.status_code == 200 and moved.json()["cursor"] == second
    assert kind(puller.put(name, second, **{"If-Match": made.headers["etag"]})) == (412, "offset-changed")
    assert numbers(puller.get()) == [4, 5]
    rows = store.writer.transact(
        lambda c: c.execute("SELECT stream, position, required FROM cursor WHERE name = 'feed:warehouse'").fetchall()
    )
    assert sorted(rows) == [("measurements", 0, 1), ("observations", 4, 1), ("transactions", 0, 1)]
    gone = puller.session.delete(
        f"{puller.served.url}/v1/feed/consumers/{name}", headers={"Authorization": "Bearer w-secret"}, timeout=30
    )
    assert gone.status_code == 204
    assert numbers(puller.get()) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"cursor":5}', b"{}", b"\xff", b'{"cursor":"x"}', b"x" * 70_000])
def test_a_commit_that_makes_no_sense_is_refused(store: Store, puller: Puller, body: bytes) -> None:
    """Nothing is committed by mistake."""
    response = puller.session.put(
        f"{puller.served.url}/v1/feed/consumers/warehouse", data=body,
        headers={"Authorization": "Bearer w-secret"}, timeout=30,
    )  # fmt: skip
    assert kind(response)[0] in (400, 413)


@pytest.mark.parametrize(
    "query", ["?limit=0", "?limit=x", "?wait=-1", "?wait=nan", "?streams=", "?streams=all", "?format=xml", "?limit=1e9"]
)
def test_parameters_that_make_no_sense_are_refused(store: Store, puller: Puller, query: str) -> None:
    """400 with the reason."""
    assert kind(puller.get(query))[0] == 400


def test_a_consumer_that_asks_too_often_is_slowed_down(store: Store) -> None:
    """429 with Retry-After; another consumer is served."""
    puller = Puller(store, FeedLimits(requests_s=1.0, burst=3.0))
    answers = [puller.get().status_code for _ in range(5)]
    assert answers[:3] == [200, 200, 200] and 429 in answers
    refused = puller.get()
    assert kind(refused)[0] == 429 and refused.headers["retry-after"] == "1"
    assert puller.get(secret="s-secret").status_code == 200
    puller.close()


def test_a_journal_that_cannot_be_read_gives_503(store: Store, puller: Puller) -> None:
    """Trouble inside is said, with a time to come back."""
    puller.source.close()
    refused = puller.get()
    assert kind(refused)[0] == 503 and refused.headers["retry-after"] == "5"
    puller.source.open()
    assert puller.get().status_code == 200
    assert issubclass(JournalError, Exception)


def test_the_platform_serves_the_same_feed_of_every_gateway(tmp_path: Path) -> None:
    """What two gateways pushed comes out in one order, each gateway's in its own."""
    app = platform_app(tmp_path / "platform.db", tokens=TOKENS, durable=False)
    with Served(app) as served:
        stores = [Store(tmp_path / f"{name}.db", FakeClock(), name).open() for name in ("gw01", "gw02")]
        for index, store in enumerate(stores):
            store.add(5, start=index * 100)
            bench = Bench(store, http_uplink(served.url, store.clock))
            bench.drain()
            bench.close()
            store.close()
        headers = {"Authorization": "Bearer w-secret"}
        seen, after = [], ""
        for _ in range(5):
            page = requests.get(f"{served.url}/v1/feed?limit=3{after}", headers=headers, timeout=30)
            seen += ids_of([msgspec.json.encode(event) for event in page.json()])
            after = f"&after={page.headers['feed-next']}"
        assert seen == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
        put = requests.put(
            f"{served.url}/v1/feed/consumers/warehouse", json={"cursor": page.headers["feed-next"]},
            headers={**headers, "If-None-Match": "*"}, timeout=30,
        )  # fmt: skip
        assert put.status_code == 200 and put.headers["etag"] == '"1"'
        again = requests.put(
            f"{served.url}/v1/feed/consumers/warehouse", json={"cursor": page.headers["feed-next"]},
            headers={**headers, "If-Match": '"7"'}, timeout=30,
        )  # fmt: skip
        assert again.status_code == 412
        started_s = time.monotonic()
        waited = requests.get(f"{served.url}/v1/feed?wait=1{after}&streams=transactions", headers=headers, timeout=30)
        assert waited.json() == [] and time.monotonic() - started_s >= 0.9
