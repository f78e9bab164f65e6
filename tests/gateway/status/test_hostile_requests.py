"""Hostile requests, one after the other at one page: each is refused, nothing changes, and the page stays up."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config.loader import data_directory
from gateway.access.accounts import Accounts
from gateway.access.audit import Audit
from gateway.access.sessions import form_token
from gateway.status.connection import Limits
from gateway.status.routes import VIEWERS
from gateway.status.session import WriteRoute
from tests.gateway.status.shop import FakeGateway
from tests.gateway.status.test_server import Site
from tests.patience import PATIENCE_S

PIN = "482915"


class Shop(Site):
    """A page with a manager who is signed in, a member of staff, and a thread that commits."""

    def __init__(self, gateway: FakeGateway) -> None:
        gateway.open()
        self._halt = threading.Event()
        self._committer = threading.Thread(target=self._commit)
        super().__init__(gateway, Limits(head_s=0.5, stalled_s=0.5, each=8))
        self._committer.start()
        self.accounts = Accounts(data_directory(gateway.settings), gateway.clock)
        self.token = self.sign_in("manager")
        self.accounts.add("Bo", "staff", "771938")
        self.http.cookies.clear()
        self.host = f"127.0.0.1:{self.port}"
        self.origin = f"{'https' if self.secure else 'http'}://{self.host}"

    def _commit(self) -> None:
        while not self._halt.is_set():
            self.gateway.commits.step(self._halt)

    def close(self) -> float:
        took_s = super().close()
        self._halt.set()
        self.gateway.inlet.wake()
        self._committer.join(60)
        self.gateway.close()
        return took_s

    def post(
        self, path: str, data: dict[str, str], *, token: str | None = None, origin: str | None = "", **headers: str
    ) -> httpx.Response:
        """A form, by default as our own page would send it."""
        if token is not None:
            headers["cookie"] = f"storefront_session={token}"
        if origin is not None:
            headers["origin"] = origin or self.origin
        return self.http.post(path, data=data, headers=headers)

    def line(self, request: str, wait_s: float = 5.0) -> bytes:
        """The answer to raw bytes; {host} and {cookie} are filled in."""
        cookie = f"Cookie: storefront_session={self.token}"
        text = request.replace("{host}", self.host).replace("{cookie}", cookie).replace("\n", "\r\n")
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as line:
            line.sendall(text.encode("latin-1"))
            answer = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while chunk := line.recv(65536):
                    answer += chunk
            return answer

    def names(self) -> list[str]:
        return [account.name for account in self.accounts.book().accounts]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    served = Shop(FakeGateway(tmp_path_factory.mktemp("hostile")))
    yield served
    served.close()


@pytest.fixture(autouse=True)
def nothing_changes_and_the_page_stays_up(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "shop" in request.fixturenames:
        served: Shop = request.getfixturevalue("shop")
        served.http.cookies.clear()
        assert served.names() == ["Ann", "Bo"]
        assert served.get("/healthz").status_code == 200


ADD = {"do": "add", "name": "Eve", "role": "manager", "pin": "662840"}


@pytest.mark.parametrize(
    "origin",
    [
        None, "null", "http://evil.example", "http://127.0.0.1", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil",
        "http://localhost:{port}", "http://127.0.0.1:{port}/", "http://user@127.0.0.1:{port}",
    ],
)  # fmt: skip
def test_a_write_from_another_origin_is_refused_even_with_cookie_and_token(shop: Shop, origin: str | None) -> None:
    foreign = origin and origin.replace("{port}", str(shop.port))
    answer = shop.post("/accounts", {**ADD, "csrf": form_token(shop.token)}, token=shop.token, origin=foreign)
    assert answer.status_code == 403
    assert shop.post("/sign-in", {"name": "Ann", "pin": PIN}, origin=foreign).status_code == 403


@pytest.mark.parametrize("csrf", [None, "", "0" * 64, "é", "x" * 5000])
def test_a_write_without_the_forms_token_is_refused(shop: Shop, csrf: str | None) -> None:
    form = ADD if csrf is None else {**ADD, "csrf": csrf}
    assert shop.post("/accounts", form, token=shop.token).status_code in (403, 413)


def test_a_write_that_the_browser_calls_cross_site_is_refused(shop: Shop) -> None:
    form = {**ADD, "csrf": form_token(shop.token)}
    assert shop.post("/accounts", form, token=shop.token, **{"sec-fetch-site": "cross-site"}).status_code == 403


@pytest.mark.parametrize("token", ["", "A" * 43, "../../keys", "é" * 30, "A" * 3000, "' OR 1=1 --", "%00"])
def test_a_forged_cookie_is_nobody(shop: Shop, token: str) -> None:
    cookie = f"storefront_session={token}".encode()
    answer = shop.http.get("/accounts", headers=[(b"cookie", cookie)])
    assert answer.status_code == 401
    headers = [(b"cookie", cookie), (b"origin", shop.origin.encode())]
    assert shop.http.post("/accounts", data=ADD, headers=headers).status_code == 401


def test_the_sessions_public_name_and_the_forms_token_open_nothing(shop: Shop) -> None:
    session = shop.server.door.sessions.all()[0]
    for token in (session.key, form_token(shop.token)):
        assert shop.get("/accounts", cookie=f"storefront_session={token}").status_code == 401


def test_a_session_that_was_laid_under_the_visitor_is_not_taken_over(shop: Shop) -> None:
    laid = "A" * 43
    answer = shop.post("/sign-in", {"name": "Bo", "pin": "771938"}, token=laid)
    assert answer.status_code == 303
    given = answer.headers["set-cookie"]
    assert laid not in given and "HttpOnly" in given and "samesite=strict" in given.lower()
    assert shop.get("/account", cookie=f"storefront_session={laid}").status_code == 401


def test_staff_can_do_nothing_that_is_a_managers(shop: Shop) -> None:
    account = shop.accounts.book().account("Bo")
    assert account is not None
    token = shop.server.door.sessions.begin(account)
    for path in ("/accounts", "/audit"):
        assert shop.get(path, cookie=f"storefront_session={token}").status_code == 403
    form = {"do": "role", "name": "Bo", "role": "manager", "csrf": form_token(token)}
    assert shop.post("/accounts", form, token=token).status_code == 403
    form = {"do": "revoke", "session": shop.server.door.sessions.all("Ann")[0].key, "csrf": form_token(token)}
    assert shop.post("/account", form, token=token).status_code == 303  # not one's own: nothing ends
    assert shop.server.door.sessions.all("Ann")


@pytest.mark.parametrize(
    "place", ["//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nSet-Cookie: x", "javascript:1"]
)
def test_signing_in_leads_nowhere_else(shop: Shop, place: str) -> None:
    answer = shop.http.post(
        "/sign-in", params={"next": place}, data={"name": "Bo", "pin": "771938"}, headers={"origin": shop.origin}
    )
    assert answer.status_code == 303 and answer.headers["location"] == "/"


@pytest.mark.parametrize(
    "method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "post", "GETT"]
)
def test_other_methods_are_refused_where_forms_are_taken(shop: Shop, method: str) -> None:
    answer = shop.line(f"{method} /accounts HTTP/1.1\nHost: {{host}}\n{{cookie}}\nConnection: close\n\n")
    assert answer.split(b" ")[1] in (b"405", b"400")


@pytest.mark.parametrize(
    "path", ["/", "/devices", "/live", "/api/status", "/static/live.js", "/audit", "/accounts/", "//accounts"]
)
def test_nothing_else_takes_a_post(shop: Shop, path: str) -> None:
    answer = shop.post(
        path if path != "//accounts" else "/%2Faccounts", {**ADD, "csrf": form_token(shop.token)}, token=shop.token
    )
    assert answer.status_code == 405


HOSTILE_BYTES = {
    "both lengths": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\n",
    "two lengths": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: 4\nContent-Length: 5\n\nabcde",
    "list of lengths": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: 4, 5\n\nabcde",
    "negative length": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: -1\n\n",
    "huge length": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: 99999999999999999999\n\n",
    "unknown coding": "POST /sign-in HTTP/1.1\nHost: {host}\nTransfer-Encoding: xchunked\n\n0\n\n",
    "blank before colon": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length : 4\n\nabcd",
    "folded header": "GET / HTTP/1.1\nHost: {host}\nX: a\n\tTransfer-Encoding: chunked\nHost: evil\n\n",
    "bad chunk": "POST /sign-in HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked\n\nZZ\nabc\n0\n\n",
    "huge chunk": "POST /sign-in HTTP/1.1\nHost: {host}\nTransfer-Encoding: chunked\n\nFFFFFFFFFFFFFFFFFFFFFFFF\nabc",
    "no host": "GET / HTTP/1.1\nConnection: close\n\n",
    "two hosts": "GET / HTTP/1.1\nHost: {host}\nHost: evil.example\nConnection: close\n\n",
    "rebound name": "GET / HTTP/1.1\nHost: evil.example\nConnection: close\n\n",
    "absolute foreign target": "GET http://evil.example/ HTTP/1.1\nHost: evil.example\nConnection: close\n\n",
    "header flood": "GET / HTTP/1.1\nHost: {host}\n" + "X: a\n" * 20_000 + "\n",
    "endless header": "GET / HTTP/1.1\nHost: {host}\nX: " + "a" * 100_000,
    "old HTTP": "GET / HTTP/0.9\n\n",
    "HTTP 2": "PRI * HTTP/2.0\n\nSM\n\n",
    "not HTTP": "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03",
    "null in the path": "GET /\x00 HTTP/1.1\nHost: {host}\n\n",
    "traversal": "GET /static/../../../../etc/passwd HTTP/1.1\nHost: {host}\nConnection: close\n\n",
    "encoded traversal": "GET /static/%2e%2e%2f%2e%2e%2faccounts.json HTTP/1.1\nHost: {host}\nConnection: close\n\n",
    "double-encoded traversal": "GET /static/%252e%252e/server.py HTTP/1.1\nHost: {host}\nConnection: close\n\n",
    "long address": "GET /?" + "q" * 5000 + " HTTP/1.1\nHost: {host}\nConnection: close\n\n",
    "upgrade": "GET /accounts HTTP/1.1\nHost: {host}\nConnection: Upgrade\nUpgrade: websocket\n"
    "Sec-WebSocket-Version: 13\nSec-WebSocket-Key: eA==\n\n",
    "long body": "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Length: 20000\n\n" + "a" * 20_000,
    "long chunks": "POST /sign-in HTTP/1.1\nHost: {host}\nOrigin: http://{host}\nTransfer-Encoding: chunked\n\n"
    + ("1000\n" + "a" * 4096 + "\n") * 8 + "0\n\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(HOSTILE_BYTES))
def test_a_request_that_is_none_or_means_two_things_is_refused(shop: Shop, kind: str) -> None:
    answer = shop.line(HOSTILE_BYTES[kind])
    status = answer.split(b" ")[1] if answer else b""
    assert status in (b"", b"400", b"401", b"404", b"405", b"413", b"414", b"421", b"431"), answer[:120]
    assert b"root:" not in answer and b"argon2" not in answer and answer.count(b"HTTP/1.1 2") == 0


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "application/json", "text/plain", ""])
def test_a_body_that_is_no_form_changes_nothing(shop: Shop, kind: str) -> None:
    body = b'{"do":"add","name":"Eve","role":"manager","pin":"662840"}'
    headers = {"cookie": f"storefront_session={shop.token}", "origin": shop.origin, "content-type": kind}
    assert shop.http.post("/accounts", content=body, headers=headers).status_code == 403
    headers["x-csrf-token"] = form_token(shop.token)
    assert shop.http.post("/accounts", content=body, headers=headers).status_code == 400


def test_a_form_of_a_thousand_fields_is_refused(shop: Shop) -> None:
    form = {f"f{number}": "x" for number in range(1000)}
    assert shop.post("/sign-in", form).status_code == 400


SLOW = {
    "silent": b"",
    "half a head": b"POST /sign-in HTTP/1.1\r\nHost: x",
    "a head without its body": b"POST /sign-in HTTP/1.1\r\nHost: {host}\r\nContent-Length: 90\r\n\r\nname=",
    "a body that nobody wants": b"GET /healthz HTTP/1.1\r\nHost: {host}\r\nContent-Length: 900\r\n\r\nx",
}


@pytest.mark.parametrize("kind", sorted(SLOW))
def test_a_client_that_drips_is_let_go(shop: Shop, kind: str) -> None:
    began_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", shop.port), timeout=0.1) as line:
        line.sendall(SLOW[kind].replace(b"{host}", shop.host.encode()))
        ended = False
        while not ended and time.monotonic() - began_s < PATIENCE_S:
            try:
                if SLOW[kind]:
                    line.sendall(b"a")
                ended = line.recv(4096) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert ended


def test_a_reader_that_does_not_read_is_let_go(shop: Shop) -> None:
    with socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        line.connect(("127.0.0.1", shop.port))
        line.settimeout(0.2)
        request = f"GET /static/style.css HTTP/1.1\r\nHost: {shop.host}\r\n\r\n".encode()
        began_s, ended = time.monotonic(), False
        while not ended and time.monotonic() - began_s < PATIENCE_S:
            try:
                line.sendall(request * 20)
            except TimeoutError:
                continue
            except OSError:
                ended = True
    assert ended


def test_viewers_who_never_read_keep_nobody_else_from_looking(tmp_path: Path) -> None:
    """Forty of them take every place; each is let go, and the next viewer finds one."""
    gateway = FakeGateway(tmp_path)
    site = Site(gateway, Limits(stalled_s=0.5, send_bytes=4096))
    with contextlib.ExitStack() as open_:
        open_.callback(site.close)
        for _ in range(VIEWERS):
            line = open_.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            line.connect(("127.0.0.1", site.port))
            line.sendall(f"GET /live?page=today HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n\r\n".encode())
        deadline_s, status = time.monotonic() + 20, 503
        while status == 503 and time.monotonic() < deadline_s:
            with site.http.stream("GET", "/live?page=today") as answer:
                status = answer.status_code
        assert status == 200


def test_guessing_pins_locks_out_and_the_lock_outlives_the_page(tmp_path: Path) -> None:
    gateway = FakeGateway(tmp_path)
    served = Shop(gateway)
    for number in range(5):
        answer = served.post("/sign-in", {"name": "Ann", "pin": f"00000{number}"})
        assert answer.status_code == (429 if number == 4 else 403)
    refused = served.post("/sign-in", {"name": "Ann", "pin": PIN})
    assert refused.status_code == 429 and 800 < int(refused.headers["retry-after"]) <= 901
    assert "set-cookie" not in refused.headers
    served.close()
    again = FakeGateway(tmp_path)
    again.clock = gateway.clock
    again.open()
    site = Site(again)
    try:
        answer = site.http.post(
            "/sign-in", data={"name": "Ann", "pin": PIN}, headers={"origin": f"http://127.0.0.1:{site.port}"}
        )
        assert answer.status_code == 429
    finally:
        site.close()
        again.close()


def test_on_the_network_nothing_answers_before_set_up_and_only_over_tls(tmp_path: Path) -> None:
    served = Shop(FakeGateway(tmp_path, host="0.0.0.0"))
    try:
        for name in ("Bo", "Ann"):
            served.accounts.remove(name, even_last=True)
        for path in ("/", "/devices", "/api/status", "/metrics", "/live", "/api/events", "/accounts", "/sign-in"):
            assert served.get(path).status_code == 403, path
        assert served.get("/", accept="text/html").headers["location"] == "/setup"
        assert served.get("/healthz").status_code == served.get("/setup").status_code == 200
        code = served.accounts.new_setup_code()
        form = {"code": code, "name": "Ann", "pin": PIN, "again": PIN}
        made = served.post("/setup", form)
        cookie = made.headers["set-cookie"]
        assert made.status_code == 303 and cookie.startswith("__Host-storefront=")
        assert "Secure" in cookie and "Path=/" in cookie and "Domain" not in cookie
        assert served.get("/accounts").status_code == 200  # with the cookie that the client has kept
        assert served.post("/setup", form).headers["location"] == "/sign-in"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{served.port}/healthz")
        with pytest.raises(httpx.ConnectError):  # an authority that nobody trusts yet
            httpx.get(f"https://127.0.0.1:{served.port}/healthz", verify=ssl.create_default_context())
    finally:
        served.close()


def test_nobody_is_let_in_whose_act_cannot_be_recorded(gateway: FakeGateway) -> None:
    gateway.audit = Audit(
        gateway.journal_path.parent, gateway.journal_path, gateway.origin, gateway.inlet, gateway.commits,
        gateway.clock, commit_s=0.2,
    )  # fmt: skip
    site = Site(gateway)  # and nobody commits
    try:
        token = site.sign_in("manager")
        site.http.cookies.clear()
        origin = f"http://127.0.0.1:{site.port}"
        answer = site.http.post("/sign-in", data={"name": "Ann", "pin": PIN}, headers={"origin": origin})
        assert answer.status_code == 503 and "set-cookie" not in answer.headers and "not done" in answer.text
        headers = {"origin": origin, "cookie": f"storefront_session={token}"}
        assert site.http.post("/accounts", data={**ADD, "csrf": form_token(token)}, headers=headers).status_code == 503
        assert Accounts(gateway.journal_path.parent, gateway.clock).book().account("Eve") is None
    finally:
        site.close()


def test_an_address_has_a_share_of_the_connections_and_gets_it_back(tmp_path: Path) -> None:
    gateway = FakeGateway(tmp_path)
    site = Site(gateway, Limits(local=4))
    lines = [socket.create_connection(("127.0.0.1", site.port), timeout=30) for _ in range(4)]
    try:
        with pytest.raises(httpx.HTTPError):
            site.get("/static/style.css")
        lines.pop().close()
        deadline_s, status = time.monotonic() + PATIENCE_S, 0
        while status != 200 and time.monotonic() < deadline_s:
            with contextlib.suppress(httpx.HTTPError):
                status = site.get("/static/style.css").status_code
        assert status == 200
    finally:
        for line in lines:
            line.close()
        site.close()


def test_a_route_that_nobody_guards_cannot_be_made() -> None:
    async def endpoint(request: object) -> object:
        raise NotImplementedError

    with pytest.raises(AssertionError):
        WriteRoute("/x", endpoint)  # type: ignore[arg-type]
