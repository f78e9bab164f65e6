"""Over real HTTP: the page answers with the journal's own numbers, refuses what is hostile, and ends in time."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from config.loader import data_directory
from gateway import event_types as types
from gateway.access.accounts import Accounts, Role
from gateway.access.server_tls import LOOPBACK
from gateway.errors import Unavailable
from gateway.event import STREAMS
from gateway.journal.cursor import acknowledge
from gateway.runtime.worker import WorkerState
from gateway.shopper.coupons import CouponFigures
from gateway.shopper.hints import Guest
from gateway.status.connection import Limits
from gateway.status.guard import hosts_for
from gateway.status.page import PAGES
from gateway.status.routes import VIEWERS, without_persons
from gateway.status.server import StatusServer
from tests.gateway.status.shop import SCRIPT, FakeGateway, passed, sale
from tests.patience import PATIENCE_S


class Site:
    """The page, served, with a thread for its worker as the supervisor would give it."""

    def __init__(self, gateway: FakeGateway, limits: Limits | None = None) -> None:
        self.gateway = gateway
        self.server = StatusServer(gateway, limits)
        self.stop = threading.Event()
        self.server.open()
        self.port = self.server.port
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.secure = gateway.settings.page.host not in LOOPBACK
        authority = data_directory(gateway.settings) / "tls" / "ca.pem"
        self.http = httpx.Client(
            base_url=f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}", timeout=30,
            verify=ssl.create_default_context(cafile=authority) if self.secure else True,
        )  # fmt: skip

    def _run(self) -> None:
        while not self.stop.is_set():
            self.server.step(self.stop)
        self.server.close()

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=headers)

    def status(self) -> dict[str, Any]:
        return dict(self.get("/api/status").json()["status"])

    def sign_in(self, role: Role = "staff", name: str = "Ann") -> str:
        """Let this site's client be somebody; gives the session's token."""
        accounts = Accounts(data_directory(self.gateway.settings), self.gateway.clock)
        account = accounts.book().account(name) or accounts.add(name, role, "482915")
        token = self.server.door.sessions.begin(account, "test")
        self.http.cookies.set("__Host-storefront" if self.secure else "storefront_session", token)
        return token

    def raw(self, request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
            line.sendall(request)
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while chunk := line.recv(65536):
                    answer += chunk
            return answer

    def close(self) -> float:
        began_s = time.monotonic()
        self.stop.set()
        self.server.wake()
        self.thread.join(60)
        took_s = time.monotonic() - began_s
        self.http.close()
        return took_s


@pytest.fixture
def site(gateway: FakeGateway) -> Iterator[Site]:
    served = Site(gateway)
    yield served
    served.close()


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all who only ask."""
    shown = FakeGateway(tmp_path_factory.mktemp("idle"))
    shown.open()
    served = Site(shown)
    yield served
    served.close()
    shown.close()


def test_conservation_on_the_page_is_the_journals(site: Site) -> None:
    site.gateway.keep(*[sale(str(n)) for n in range(1, 8)], passed(3), types.CardSeen(reader="r", day_key="k"))
    site.gateway.writer.transact(
        lambda connection: acknowledge(connection, "transactions", 5, {2: "no"}, now_ms=1_795_312_800_000)
    )
    streams = {line["stream"]: line for line in site.status()["delivery"]["streams"]}
    assert {name: line["accepted"] for name, line in streams.items()} == dict(zip(STREAMS, (7, 1, 1), strict=True))
    sales = streams["transactions"]
    assert (sales["delivered"], sales["quarantined"], sales["waiting"], sales["lost"]) == (4, 1, 2, 0)
    metrics = site.get("/metrics").text
    assert 'storefront_stream_accepted_total{stream="transactions"} 7.0' in metrics
    assert 'storefront_stream_waiting{stream="transactions"} 2.0' in metrics
    page = site.get("/sync", **{"accept-language": "en"}).text
    assert ">7</td>" in page and ">4</td>" in page


def test_coupon_figures_are_on_the_page_and_in_the_metrics_where_there_are_coupons(site: Site) -> None:
    """Money at risk beside its limit, sales that doubled a coupon, and what tills asked; nothing where it is off."""
    assert "storefront_coupons" not in site.get("/metrics").text and site.status()["coupons"] is None

    class Standing:
        def figures(self) -> CouponFigures:
            return CouponFigures(
                currency="CNY", at_risk=Decimal("12.50"), at_risk_limit=Decimal(100), held=2, redeemed=7, issued=9,
                doubled=1, answered=31, refused=4, worst_ms=8.5,
            )  # fmt: skip

    site.gateway.coupons = Standing()
    until_s = time.monotonic() + PATIENCE_S
    while site.status()["coupons"] is None and time.monotonic() < until_s:  # a snapshot may be half a second old
        time.sleep(0.05)
    metrics = site.get("/metrics").text
    for line in ("at_risk 12.5", "at_risk_limit 100.0", "held 2.0", "doubled_total 1.0", "refused_total 4.0"):
        assert f"storefront_coupons_{line}\n" in metrics, line
    page = site.get("/sync", **{"accept-language": "en"}).text
    assert "¥12.50" in page and "limit: ¥100.00" in page and "slowest: 8.5 ms" in page
    assert "本店自担风险" in site.get("/sync", **{"accept-language": "zh-CN"}).text


def test_the_status_follows_its_own_schema_and_says_null_for_what_nobody_knows(site: Site) -> None:
    status = site.status()
    assert status["today"]["people_in"] == {
        "value": None, "reason": "not_set_up", "at_least": False, "dark_s": None, "usual": None, "by_then": None,
        "weeks": 0, "trend": [],
    }  # fmt: skip
    assert status["delivery"]["buffer"]["hours_left"] is None
    schema = site.get("/api/status/schema").json()
    assert set(schema["$defs"]["Snapshot"]["properties"]) == set(status)


def test_a_new_box_leads_whoever_comes_first_to_its_set_up_and_takes_the_code_from_the_address(tmp_path: Path) -> None:
    gateway = FakeGateway(tmp_path)
    gateway.plans = ()
    gateway.board.forget("till1")
    gateway.open()
    site = Site(gateway)
    try:
        assert (site.get("/").status_code, site.get("/").headers["location"]) == (303, "/setup")
        for path in ("/devices", "/wall", "/healthz"):
            assert site.get(path).status_code == 200
        page = site.get('/setup?code=AB"CD-EFGH-IJKL-MNOP').text
        assert 'value="AB&#34;CD-EFGH-IJKL-"' in page and "<nav" not in page
        site.sign_in("manager")
        page = site.get("/", **{"accept-language": "en"}).text
        assert "Nothing is set up yet" in page and '<a href="/settings">Set up the shop</a>' in page
        assert "All is well" not in page and 'class="tiles' not in page
    finally:
        site.close()
        gateway.close()


def test_a_shop_without_a_manager_offers_its_set_up_instead_of_signing_in(idle: Site, site: Site) -> None:
    assert '<a href="/setup" class="first">' in idle.get("/").text and "/sign-in" not in idle.get("/").text
    site.sign_in("manager")
    site.http.cookies.clear()
    assert '<a href="/sign-in">' in site.get("/").text


def test_pages_work_without_scripts_in_the_visitors_language_and_keep_the_choice(idle: Site) -> None:
    assert "一切正常" in idle.get("/").text  # the shop's own
    assert "All is well" in idle.get("/", **{"accept-language": "en-GB,en;q=0.9"}).text
    switched = idle.get("/sync?lang=en")
    assert (switched.status_code, switched.headers["location"]) == (303, "/sync")
    assert "samesite=lax" in switched.headers["set-cookie"].lower() and "HttpOnly" in switched.headers["set-cookie"]
    assert "Delivery" in idle.get("/sync", **{"accept-language": "zh-CN"}).text
    idle.http.cookies.clear()
    for path in ("/devices", "/sync", "/static/style.css", "/static/live.js", "/static/icon.svg"):
        assert idle.get(path).status_code == 200, path


def test_every_answer_binds_the_browser(idle: Site) -> None:
    for path in ("/", "/api/status", "/healthz", "/metrics", "/static/live.js", "/nothing", "/?lang=en"):
        headers = idle.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and headers["x-frame-options"] == "DENY"
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "192.168.1.5", "[::2]:80", "@localhost"],
)
def test_a_foreign_host_name_is_refused(idle: Site, host: str) -> None:
    answer = idle.raw(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 421", b"HTTP/1.1 400")) and b"<html" not in answer


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
def test_the_machines_own_names_are_known(idle: Site, host: str) -> None:
    answer = idle.raw(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200")


def test_on_a_wildcard_address_numbers_are_taken_and_foreign_names_are_not(tmp_path: Path) -> None:
    assert "evil.example" not in hosts_for("0.0.0.0") and "" not in hosts_for("0.0.0.0")
    assert "shop.lan" in hosts_for("Shop.LAN")
    shown = FakeGateway(tmp_path, host="0.0.0.0")
    shown.open()
    site = Site(shown)
    try:
        assert site.get("/healthz", host="10.1.2.3:8080").status_code == 200
        assert site.get("/healthz", host="evil.example").status_code == 421
        assert site.get("/api/status").status_code == 403  # until a manager has been made
        site.sign_in("manager")
        assert "page_open" in site.get("/api/status").text
    finally:
        site.close()
        shown.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_written(idle: Site, method: str) -> None:
    assert idle.http.request(method, "/").status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/static/..%2f..%2fapp.py",
        "/locale/zh_CN/messages.po", "/templates/page.html",
    ],
)  # fmt: skip
def test_no_file_beyond_the_pages_own_is_given(idle: Site, path: str) -> None:
    answer = idle.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n",
        b"GET /?" + b"q" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ],
)
def test_an_oversized_or_broken_request_is_refused_and_the_page_goes_on(idle: Site, request_bytes: bytes) -> None:
    answer = idle.raw(request_bytes)
    assert answer == b"" or answer.split(b" ")[1] in (b"400", b"414", b"421", b"431"), answer[:80]
    assert idle.get("/healthz").status_code == 200


def test_health_tells_monitoring_why_it_is_not_content(site: Site) -> None:
    assert site.get("/healthz").json() == {"ok": True, "reasons": []}
    site.gateway.supervisor.said = [
        WorkerState(name="page", state="running", stage=0, essential=False, stuck=True, reason="")
    ]
    site.gateway.supervisor.is_ready = False
    deadline_s = time.monotonic() + PATIENCE_S
    while (answer := site.get("/healthz")).status_code == 200 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["not ready: the journal is not open yet", "worker page makes no progress"]


def test_the_page_is_up_before_the_journal_and_says_so(tmp_path: Path) -> None:
    shown = FakeGateway(tmp_path)
    shown.supervisor.is_ready = False
    site = Site(shown)
    try:
        assert "网关正在启动" in site.get("/").text
        assert site.get("/healthz").status_code == 503
        site.sign_in()
        assert site.get("/api/events").json() == []
        assert site.status()["delivery"]["total"] is None
    finally:
        site.close()


def test_events_are_given_newest_first_and_without_persons(site: Site) -> None:
    site.gateway.keep(sale("1"), sale("2", operator="SECRET", loyalty=types.Shopper(day_key="SECRET")))
    site.gateway.keep(types.CardSeen(reader="r", day_key="SECRET"))
    assert site.get("/api/events").status_code == 401
    site.sign_in()
    found = site.get("/api/events?stream=transactions&limit=1").json()
    assert [event["data"]["totals"]["net"] for event in found] == ["2"]
    everything = site.get("/api/events")
    assert len(everything.json()) == 3 and "SECRET" not in everything.text
    for query in ("stream=nonsense", "limit=0", "limit=-1", "limit=501", "limit=x", "limit=" + "9" * 50, "limit=²"):
        assert site.get(f"/api/events?{query}").status_code == 400, query


def test_recognised_members_are_given_to_staff_by_lane_and_to_nobody_else(site: Site) -> None:
    kinds = {"since_ms": 0, "text": "HINT", "tier": "", "language": "", "coupons": ()}
    site.gateway.present = [Guest(visit=lane, lane=lane, **kinds) for lane in ("till-1", "fitting")]  # type: ignore[arg-type]
    assert site.get("/api/recognition").status_code == 401
    assert "HINT" not in site.get("/api/status").text and "HINT" not in site.get("/").text
    site.sign_in()
    assert [it["lane"] for it in site.get("/api/recognition").json()] == ["till-1", "fitting"]
    assert [it["text"] for it in site.get("/api/recognition?lane=fitting").json()] == ["HINT"]
    assert site.get("/").text.count("HINT") == 2
    assert "HINT" not in site.get("/metrics").text


def test_personal_fields_are_taken_out_at_any_depth() -> None:
    assert without_persons({"a": [{"shopper": 1, "b": {"day_key": 2, "c": 3}}]}) == {"a": [{"b": {"c": 3}}]}


def parts_of(lines: Iterator[str]) -> dict[str, str]:
    for line in lines:
        if line.startswith("data: "):
            return dict(msgspec.json.decode(line[6:]))
    raise AssertionError("the stream has ended")


def test_a_change_reaches_a_looking_browser_and_only_the_change(site: Site) -> None:
    site.sign_in()
    with site.http.stream("GET", "/live?page=today", headers={"accept-language": "en"}) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = stream.iter_lines()
        assert set(parts_of(lines)) == set(PAGES["today"].parts)
        site.gateway.keep(types.BeaconArrived(scheme="ibeacon", beacon=SCRIPT, receiver="r"))
        parts = parts_of(lines)
        assert set(parts) == {"events", "delivery"}
        assert "&lt;script&gt;" in parts["events"] and "<script" not in parts["events"]


def test_viewers_are_bounded_and_a_closed_one_makes_room(site: Site) -> None:
    assert site.get("/live?page=nothing").status_code == 404
    with contextlib.ExitStack() as viewers:
        wide = viewers.enter_context(httpx.Client(
            base_url=site.http.base_url, timeout=30, limits=httpx.Limits(max_connections=200)
        ))  # fmt: skip
        streams = [viewers.enter_context(wide.stream("GET", "/live")) for _ in range(VIEWERS)]
        looking = [stream.iter_bytes() for stream in streams]  # kept: an iterator that goes away closes its stream
        assert all(next(chunks) for chunks in looking)
        assert site.get("/live").status_code == 503
        assert site.get("/").status_code == 200
    deadline_s = time.monotonic() + PATIENCE_S
    status = 503
    while status == 503 and time.monotonic() < deadline_s:
        with site.http.stream("GET", "/live") as stream:
            status = stream.status_code
    assert status == 200


def test_it_ends_soon_even_while_somebody_looks(gateway: FakeGateway) -> None:
    before = threading.enumerate()
    site = Site(gateway)
    with site.http.stream("GET", "/live") as stream:
        looking = stream.iter_bytes()
        assert next(looking)
        silent = socket.create_connection(("127.0.0.1", site.port))
        silent.sendall(b"GET / HT")
        took_s = site.close()
        silent.close()
    assert took_s < 15.0  # about one on an idle machine; a quarter of a second of it is the step under way
    assert not [one for one in threading.enumerate() if one.name == "page-http" and one not in before]


def test_a_port_that_is_taken_is_said_with_what_to_do_and_a_fresh_object_gets_it_later(gateway: FakeGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        gateway.settings = msgspec.structs.replace(
            gateway.settings, page=msgspec.structs.replace(gateway.settings.page, port=other.getsockname()[1])
        )
        refused = StatusServer(gateway)
        with pytest.raises(Unavailable, match=r"page\.port"):
            refused.open()
        refused.close()
    site = Site(gateway)
    assert site.get("/healthz").status_code == 200
    site.close()


def test_an_address_of_another_machine_is_said(tmp_path: Path) -> None:
    server = StatusServer(FakeGateway(tmp_path, host="192.0.2.1"))
    with pytest.raises(Unavailable):
        server.open()
    server.close()


def test_a_journal_that_cannot_be_read_gives_an_answer_and_not_the_end_of_the_page(site: Site) -> None:
    site.gateway.keep(sale())
    assert site.get("/").status_code == 200
    site.gateway.journal_path.rename(site.gateway.journal_path.with_suffix(".gone"))
    site.server._desk._observer._reader.close()
    deadline_s = time.monotonic() + PATIENCE_S
    while (answer := site.get("/api/status")).status_code == 200 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert answer.status_code == 503 and "journal" in answer.text
    site.gateway.journal_path.with_suffix(".gone").rename(site.gateway.journal_path)
    assert site.get("/api/status").status_code == 200
