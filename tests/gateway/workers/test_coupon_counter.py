"""The counter: what tills ask over MQTT and over HTTP reaches one desk, and nobody else is answered."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from config.settings import CouponSettings, Settings, TillSettings
from devices.transports.mqtt import Delivery
from gateway.errors import ConfigError, Rejected, Unavailable
from gateway.shopper.coupon_messages import LARGEST
from gateway.workers.coupon_counter import CouponServer, CouponTopics
from tests.gateway.shopper.counter import HOME, Counter, counter, coupon
from tests.gateway.shopper.stepped_shop import AT_ONCE, NEVER

Said = dict[str, Any]


class FakeSession:
    """A broker session that brings what a test puts in, and remembers in which order things were done."""

    def __init__(self) -> None:
        self.waiting: deque[Delivery] = deque()
        self.done: list[tuple[str, Any]] = []
        self.trouble: Exception | None = None

    def open(self) -> None:
        self.done.append(("open", None))

    def receive(self, timeout_s: float, limit: int = 512) -> list[Delivery]:
        return [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]

    def ack(self, deliveries: Sequence[Delivery]) -> None:
        self.done.append(("ack", len(deliveries)))

    def publish(self, topic: str, payload: bytes) -> None:
        if self.trouble:
            raise self.trouble
        self.done.append((topic, msgspec.json.decode(payload)))

    def close(self) -> None:
        self.done.append(("close", None))


@contextmanager
def running(shop: Counter) -> Iterator[Counter]:
    """The shop with its commit loop on a thread of its own."""
    stop = threading.Event()

    def commit() -> None:
        while not stop.is_set():
            shop.commits.step(stop)

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        yield shop
    finally:
        stop.set()
        shop.inlet.wake(hurry=True)
        thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Counter]:
    with counter(tmp_path) as made, running(made):
        yield made


def delivery(topic: str, payload: bytes, **fields: Any) -> Delivery:
    given: dict[str, Any] = {field.name: fields.get(field.name) for field in msgspec.structs.fields(Delivery)}
    given |= {"topic": topic, "payload": payload, "retained": fields.get("retained", False)}
    given |= {"fault": fields.get("fault", ""), "mid": 1, "qos": 1, "dup": False, "order": 1, "generation": 1}
    return Delivery(**given)


def ask(number: str, token: str = "", operation: str = "reserve", **fields: Any) -> bytes:
    return msgspec.json.encode({"request": number, "operation": operation, "token": token, **fields})


TOPIC = "store/0042/coupon/till-1/request"


def test_a_till_is_answered_on_its_topic_and_then_acknowledged(shop: Counter) -> None:
    """Two questions at once: each has its answer on the lane's response topic before the broker may forget them."""
    session = FakeSession()
    topics = CouponTopics(shop.desk, session)
    topics.open()
    session.waiting += [delivery(TOPIC, ask("a", coupon(HOME))), delivery(TOPIC, ask("b", coupon(HOME)))]
    topics.step(NEVER)
    topics.close()
    (_, _), (topic, first), (_, second), *rest = session.done
    assert topic == "store/0042/coupon/till-1/response" and rest == [("ack", 2), ("close", None)]
    assert (first["request"], first["reason"], second["request"], second["reason"]) == (
        "a", "reserved", "b", "used_up"
    )  # fmt: skip
    assert first["text"].keys() == {"zh", "en"} and first["face"] == "10.00"


def test_a_till_has_its_own_numbers_and_holds(shop: Counter) -> None:
    """The lane of the topic is the till: it may not confirm what another one holds, whatever its message says."""
    session = FakeSession()
    topics = CouponTopics(shop.desk, session)
    session.waiting.append(delivery(TOPIC, ask("a", coupon(HOME))))
    topics.step(NEVER)
    held = session.done[0][1]["reservation"]
    other = msgspec.json.encode({"request": "a", "operation": "confirm", "reservation": held, "lane": "till-1"})
    session.waiting.append(delivery("store/0042/coupon/till-2/request", other))
    topics.step(NEVER)
    assert session.done[2][1]["reason"] == "other_till"


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        (delivery(TOPIC, b"{"), ["bad_request"]),
        (delivery(TOPIC, b"", fault="too long: 300000 bytes"), ["bad_request"]),
        (delivery("store/0042/coupon/läne/request", ask("a", coupon(HOME))), ["bad_request"]),
        (delivery("store/0042/coupon//request", ask("a", coupon(HOME))), ["bad_request"]),
        (delivery(TOPIC, ask("a", coupon(HOME)), retained=True), []),
    ],
)  # fmt: skip
def test_odd_messages(shop: Counter, message: Delivery, answers: list[str]) -> None:
    """What is no request is told so; what the broker has kept from another day is no request; all is acknowledged."""
    session = FakeSession()
    session.waiting.append(message)
    CouponTopics(shop.desk, session).step(NEVER)
    assert [said["reason"] for topic, said in session.done if topic != "ack"] == answers
    assert session.done[-1] == ("ack", 1) and shop.steps() == []


@pytest.mark.parametrize("trouble", [Unavailable("publish", "b", "full"), Rejected("publish", "t", "no topic")])
def test_an_answer_that_cannot_leave(shop: Counter, trouble: Exception) -> None:
    """A broker that takes nothing more does not stop the counter; the till asks again and hears the same."""
    session = FakeSession()
    topics = CouponTopics(shop.desk, session)
    for session.trouble in (trouble, None):
        session.waiting.append(delivery(TOPIC, ask("a", coupon(HOME))))
        topics.step(NEVER)
    assert topics.unanswered == 1 and session.done[1][1]["reason"] == "reserved" and shop.steps() == ["reserved"]


@pytest.fixture
def serve(shop: Counter) -> Iterator[Callable[..., int]]:
    """Starts a server with these settings; gives its port."""
    servers: list[CouponServer] = []

    def start(**settings: Any) -> int:
        gateway: Any = SimpleNamespace(
            clock=shop.clock, settings=Settings(coupons=CouponSettings(enabled=True, port=0, **settings))
        )
        servers.append(CouponServer(gateway, shop.desk))
        servers[-1].open()
        servers[-1].step(AT_ONCE)
        return servers[-1].port

    yield start
    for server in servers:
        server.close()


JSON = {"content-type": "application/json"}


def post(port: int, path: str, body: bytes, headers: dict[str, str] = JSON, method: str = "POST") -> tuple[int, Said]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        said = response.read()
        return response.status, msgspec.json.decode(said) if said[:1] == b"{" else {}
    finally:
        connection.close()


def test_a_till_asks_over_http(shop: Counter, serve: Callable[..., int]) -> None:
    """The whole way of a coupon; a refusal is an answer like any other."""
    port = serve()
    status, held = post(port, "/v1/coupons/reserve", ask("a", coupon(HOME), lane="3"))
    assert (status, held["reason"]) == (200, "reserved")
    assert post(port, "/v1/coupons/check", ask("b", coupon(HOME), "check"))[1]["reason"] == "used_up"
    done = msgspec.json.encode({"request": "c", "reservation": held["reservation"], "lane": "3"})
    assert post(port, "/v1/coupons/confirm", done)[1]["reason"] == "redeemed"
    assert post(port, "/v1/coupons/release", done.replace(b'"c"', b'"d"'))[1]["reason"] == "already_redeemed"


def test_one_number_on_both_ways_is_one_question(shop: Counter, serve: Callable[..., int]) -> None:
    """A till that falls back from MQTT to HTTP and repeats its question hears the answer that it had missed."""
    session = FakeSession()
    session.waiting.append(delivery(TOPIC, ask("a", coupon(HOME))))
    CouponTopics(shop.desk, session).step(NEVER)
    _, again = post(serve(), "/v1/coupons/reserve", ask("a", coupon(HOME), lane="till-1"))
    assert again == session.done[0][1] and shop.steps() == ["reserved"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/coupons/steal", b"{}", JSON, 404),
        ("/v1/coupons/check", b"{", JSON, 400),
        ("/v1/coupons/check", ask("a", "x", "reserve"), JSON, 400),
        ("/v1/coupons/check", b"x" * (LARGEST + 1), JSON, 413),
        ("/v1/coupons/check", ask("a", "x", "check"), {"content-type": "text/plain"}, 415),
        ("/v1/coupons/check", ask("a", "x", "check"), {**JSON, "host": "evil.example"}, 421),
    ],
)  # fmt: skip
def test_what_is_no_question(
    serve: Callable[..., int], path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    """Wrong addresses, bodies and senders have their status; a page from elsewhere cannot speak through a browser."""
    assert post(serve(), path, body, headers)[0] == status


def test_only_posts(serve: Callable[..., int]) -> None:
    """A coupon is not asked for by an address that a log could keep."""
    assert post(serve(), "/v1/coupons/check?token=x", b"", JSON, "GET")[0] == 405


def test_tills_with_tokens(serve: Callable[..., int], shop: Counter, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tills configured, each needs its own token, and is the till that its token says."""
    monkeypatch.setenv("TILL_1", "secret-1")
    monkeypatch.setenv("TILL_2", "secret-2")
    port = serve(tills=(TillSettings(name="t1", token="env:TILL_1"), TillSettings(name="t2", token="env:TILL_2")))

    def as_till(authorization: str, number: str, lane: str = "t1") -> tuple[int, Said]:
        headers = {**JSON, "authorization": authorization, "host": "shop.example"}
        return post(port, "/v1/coupons/reserve", ask(number, coupon(HOME), lane=lane), headers)

    for wrong in ("", "Bearer ", "Bearer secret", "Basic secret-1", "secret-1", "Bearer secret-1x"):
        assert as_till(wrong, "a")[0] == 401
    assert shop.steps() == []
    assert as_till("Bearer secret-1", "a")[1]["reason"] == "reserved"
    assert as_till("Bearer secret-2", "a", lane="t1")[1]["reason"] == "used_up"  # not t1's answer
    assert shop.told()[1][1]["lane"] == "t2"


def test_connections_that_say_nothing_shut_out_no_till(serve: Callable[..., int], shop: Counter) -> None:
    """Heads and bodies that never end: the till that is there is answered, new ones are let in again soon."""
    port = serve()
    till = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def asks(number: str) -> int:
        till.request("POST", "/v1/coupons/reserve", ask(number, coupon(HOME)), JSON)
        return len(till.getresponse().read())

    assert asks("a")
    idle = []
    try:
        for number in range(350):
            line = socket.create_connection(("127.0.0.1", port), timeout=30)
            idle.append(line)
            with contextlib.suppress(OSError):
                line.sendall(b"POST /v1/coupons/check HTTP/1.1\r\nhost: 127.0.0.1\r\n")
                if number % 2:
                    line.sendall(b"content-type: application/json\r\ncontent-length: 9999\r\n\r\n{")
        assert asks("b")
        stopped = idle[1]  # its body never came
        stopped.settimeout(10)
        assert stopped.recv(100).startswith(b"HTTP/1.1 408")
    finally:
        for line in (till, *idle):
            line.close()
    assert post(port, "/v1/coupons/reserve", ask("c", coupon(HOME)))[1]["reason"] == "used_up"


def test_a_token_that_is_not_there(serve: Callable[..., int], shop: Counter) -> None:
    """A till's secret that cannot be read is a mistake of the configuration, told at the start."""
    with pytest.raises(ConfigError):
        serve(tills=(TillSettings(name="t1", token="env:NO_SUCH_TOKEN"),))


def test_a_port_that_is_taken(serve: Callable[..., int], shop: Counter) -> None:
    """Another program on the port: tried again later, with what to do."""
    port = serve()
    gateway: Any = SimpleNamespace(clock=shop.clock, settings=Settings(coupons=CouponSettings(enabled=True, port=port)))
    server = CouponServer(gateway, shop.desk)
    with pytest.raises(Unavailable, match="port"):
        server.open()
    server.close()
