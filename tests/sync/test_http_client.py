"""One exchange is bounded: slow, truncated, huge and foreign answers, TLS that must be refused, and what is sent."""

from __future__ import annotations

import contextlib
import datetime
import gzip
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.clock import FakeClock
from gateway.errors import ConfigError, Unavailable
from sync.answer import Reply, read_push, read_refusal, retry_after_s
from sync.http_client import ClientOptions, HttpClient
from sync.http_uplink import content_digest, encode
from sync.uplink import Batch, Lane
from tests.sync.sync_parts import RawServer, http_uplink, read_request, says

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LANE = Lane("gw01", "observations", "0" * 32)


def client(url: str, **options: object) -> HttpClient:
    return HttpClient(ClientOptions(url=url, **{"connect_s": 2.0, "read_s": 1.0, "total_s": 1.5, **options}))  # type: ignore[arg-type]


def drip(data: bytes, pause_s: float):  # type: ignore[no-untyped-def]
    def script(line: socket.socket, _request: bytes) -> None:
        for index in range(len(data)):
            line.sendall(data[index : index + 1])
            time.sleep(pause_s)

    return script


@pytest.mark.parametrize(
    "data",
    [b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 200, b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"b" * 200],
    ids=["header", "body"],
)
def test_an_answer_that_drips_is_cut_off_at_the_deadline(data: bytes) -> None:
    """Each byte comes in time; the whole does not."""
    with RawServer(drip(data, 0.1)) as server, contextlib.closing(client(server.url, read_s=20.0)) as http:
        started_s = time.monotonic()
        with pytest.raises(Unavailable, match=r"no complete answer in 1.5 s"):
            http.call("GET", "/")
        assert time.monotonic() - started_s < 15.0  # the whole takes twenty


def test_an_answer_that_never_comes_is_given_up_at_the_read_timeout() -> None:
    """Silence is not waited for longer than `read_s`."""
    with (
        RawServer(lambda line, _: time.sleep(2)) as server,
        contextlib.closing(client(server.url, read_s=0.3)) as http,
        pytest.raises(Unavailable, match="no answer in time"),
    ):
        http.call("GET", "/")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
    ids=["length", "chunk", "bad chunk", "status line", "not HTTP", "nothing"],
)
def test_a_truncated_or_foreign_answer_is_no_answer(data: bytes) -> None:
    """Half an answer is never taken for a whole one."""
    with RawServer(says(data)) as server, contextlib.closing(client(server.url)) as http, pytest.raises(Unavailable):
        http.call("GET", "/")


def test_a_huge_answer_is_not_read_to_its_end() -> None:
    """A body beyond the limit ends the exchange."""
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 3_000_000
    with (
        RawServer(says(body)) as server,
        contextlib.closing(client(server.url, max_answer_bytes=100_000)) as http,
        pytest.raises(Unavailable, match="larger than 100000 bytes"),
    ):
        http.call("GET", "/")


def test_a_compressed_bomb_is_not_unpacked_to_its_end() -> None:
    """The limit counts unpacked bytes."""
    packed = gzip.compress(b"0" * 50_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with (
        RawServer(says(head + packed)) as server,
        contextlib.closing(client(server.url, max_answer_bytes=1 << 20)) as http,
        pytest.raises(Unavailable, match="larger"),
    ):
        http.call("GET", "/")


def test_after_a_failure_the_next_exchange_connects_anew() -> None:
    """A dead connection is not used again."""
    with (
        RawServer(says(b""), says(OK)) as server,
        contextlib.closing(client(server.url)) as http,
        pytest.raises(Unavailable),
    ):
        http.call("GET", "/")
        assert http.call("GET", "/").status == 200


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """Only one request arrives, at the host that was configured."""
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with RawServer(says(moved), says(OK)) as server, contextlib.closing(client(server.url)) as http:
        assert http.call("POST", "/", b"x").status == 307
        assert len(server.requests) == 1


def test_the_request_is_what_the_contract_says() -> None:
    """Path, digest, range, key, sent-at, coding."""
    with RawServer(says(OK)) as server:
        uplink = http_uplink(server.url, FakeClock())
        batch = Batch(LANE, 1201, (b'{"a":1}', b'{"b":2}'))
        assert uplink.send(batch).outcome == "retry"
        uplink.close()
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert lines[0] == f"POST /v1/gateways/gw01/streams/observations/epochs/{'0' * 32}/events HTTP/1.1"
    assert gzip.decompress(body) == b'[{"a":1},{"b":2}]'
    assert fields["content-type"] == "application/cloudevents-batch+json"
    assert fields["content-encoding"] == "gzip"
    assert fields["content-digest"] == content_digest(body)
    assert fields["idempotency-key"] == f'"{"0" * 32}:observations:1201-1202"'
    assert fields["sync-range"] == "1201-1202"
    assert fields["sync-sent-at"] == "2026-11-22T02:00:00.000Z; q=ntp"


def test_content_digest_is_that_of_the_rfc() -> None:
    """RFC 9530, appendix B.1: the digest of a known body."""
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


@pytest.mark.parametrize("coding", ["gzip", "zstd", "identity"])
def test_a_coding_gives_the_same_bytes_every_time(coding: str) -> None:
    """The digest of a retry is the digest of the first try."""
    assert encode(b"[1,2]" * 50, coding) == encode(b"[1,2]" * 50, coding)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:10:00 GMT", "date": "Sun, 22 Nov 2026 09:00:00 GMT"}, 600.0),
        ({"retry-after": "Sun, 22 Nov 2026 08:00:00 GMT", "date": "Sun, 22 Nov 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:10:00 GMT"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "²"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_platforms_own_clock(
    headers: dict[str, str], expected: float | None
) -> None:
    """This machine's clock, which may be wrong by a year, plays no part."""
    assert retry_after_s(headers) == expected


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b'{"type":5}', b"\xff", b'{"type":"a:sequence-gap"}'])
def test_a_409_that_says_nothing_usable_is_waited_out(body: bytes) -> None:
    """Neither gap nor conflict can be guessed."""
    assert read_refusal(Reply(409, {"content-type": "application/problem+json"}, body)).outcome == "retry"


def test_a_duplicate_that_was_rejected_is_a_rejection() -> None:
    """The first verdict counts, however late it comes."""
    body = (
        b'{"gateway":"gw01","stream":"observations","epoch":"' + b"0" * 32 + b'","acked_through":2,"results":['
        b'{"seq":1,"status":"duplicate","original":"rejected","code":"schema.invalid","verdict_id":"v-7"},'
        b'{"seq":2,"status":"duplicate","original":"accepted"}]}'
    )
    result = read_push(Reply(200, {"content-type": "application/json"}, body), Batch(LANE, 1, (b"{}", b"{}")))
    assert [(item.seq, item.code, item.verdict_id) for item in result.rejected] == [(1, "schema.invalid", "v-7")]
    assert result.duplicates == 2


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "platform.example", "http://platform.example", "https://u:p@platform.example", "https://x?y=1", ""],
)
def test_an_address_that_must_not_be_used_is_refused(url: str) -> None:
    """Plain HTTP only on loopback; no credentials in the address."""
    with pytest.raises(ConfigError):
        ClientOptions(url=url).check()


def test_addresses_that_may_be_used() -> None:
    """HTTPS anywhere, HTTP on loopback."""
    for url in ("https://platform.example/base", "http://127.0.0.1:8080", "http://[::1]:80"):
        ClientOptions(url=url).check()


# -- TLS


def certificate(
    directory: Path, name: str, *, days: tuple[int, int] = (-1, 1), host: str = "localhost"
) -> tuple[Path, Path]:
    """A self-signed certificate valid from and to so many days from now; returns (certificate, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = directory / f"{name}.pem", directory / f"{name}.key"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private


class TlsServer:
    """Answers OK over TLS; `client_ca` asks for a client certificate."""

    def __init__(self, pem: Path, key: Path, client_ca: Path | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(pem, key)
        if client_ca is not None:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca)
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(8)
        self.url = f"https://localhost:{self.listener.getsockname()[1]}"
        self.peers: list[str] = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                bare, _ = self.listener.accept()
            except OSError:
                return
            with bare, contextlib.suppress(OSError, ssl.SSLError):
                bare.settimeout(5)
                with self.context.wrap_socket(bare, server_side=True) as line:
                    read_request(line)
                    peer = line.getpeercert() or {}
                    self.peers.append(str(peer.get("subject", "")))
                    line.sendall(OK)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(60)


@pytest.mark.parametrize(
    ("days", "host", "trusted"),
    [
        ((-10, -1), "localhost", True),
        ((1, 10), "localhost", True),
        ((-1, 1), "other.example", True),
        ((-1, 1), "localhost", False),
    ],
    ids=["expired", "not yet valid", "another host", "unknown issuer"],
)
def test_a_platform_that_cannot_prove_itself_gets_nothing(
    tmp_path: Path, days: tuple[int, int], host: str, trusted: bool
) -> None:
    """TLS is verified always; the hint speaks of certificates and of the clock."""
    pem, key = certificate(tmp_path, "platform", days=days, host=host)
    server = TlsServer(pem, key)
    http = client(server.url, ca=pem) if trusted else client(server.url)
    with pytest.raises(Unavailable, match="TLS refused") as caught:
        http.call("POST", "/", b"secret")
    assert "clock" in caught.value.hint
    assert server.peers == []
    http.close()
    server.close()


def test_a_client_certificate_is_shown_and_a_renewed_one_is_found(tmp_path: Path) -> None:
    """mTLS: the platform sees the gateway's name."""
    pem, key = certificate(tmp_path, "platform")
    mine, private = certificate(tmp_path, "gw01")
    server = TlsServer(pem, key, client_ca=mine)
    bare = client(server.url, ca=pem)
    with pytest.raises(Unavailable):
        bare.call("GET", "/")
    bare.close()
    http = client(server.url, ca=pem, certificate=mine, key=private)
    assert http.call("GET", "/").status == 200
    assert "gw01" in server.peers[-1]
    http.close()
    server.close()


def test_proxies_and_secrets_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody left in the environment neither reroutes nor answers for the gateway."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with RawServer(says(OK)) as server, contextlib.closing(client(server.url)) as http:
        assert http.call("GET", "/").status == 200
