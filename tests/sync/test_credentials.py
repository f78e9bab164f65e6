"""Four ways to prove who the gateway is, and what happens when the proof is refused."""

from __future__ import annotations

from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_der_private_key

from gateway.clock import FakeClock, SystemClock
from gateway.errors import Unavailable
from sync.answer import Reply
from sync.credentials import Bearer, ClientCertificate, ClientCredentials, Signature
from sync.http_client import ClientOptions, HttpClient, Outgoing
from sync.platform.app import Guard, platform_app
from sync.signing import sign, signature_base, verify
from tests.sync.sync_parts import Bench, RawServer, Served, Store, http_uplink, says

GET = Outgoing("GET", "https://platform.example/v1", {})
REFUSED = Reply(401, {}, b"")


def test_a_bearer_token_is_read_anew_and_a_rotated_one_is_found() -> None:
    """The secret lives elsewhere; a refresh helps only when it has changed."""
    secret = ["one\n"]
    bearer = Bearer(lambda: secret[0])
    assert bearer.headers(GET) == {"authorization": "Bearer one"}
    assert not bearer.refresh(REFUSED)
    secret[0] = "two"
    assert bearer.refresh(REFUSED)
    assert bearer.headers(GET) == {"authorization": "Bearer two"}


def token(body: bytes, status: bytes = b"200 OK"):  # type: ignore[no-untyped-def]
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    return says(head + body)


def oauth(server: RawServer, clock: FakeClock) -> ClientCredentials:
    client = HttpClient(ClientOptions(url=server.url, read_s=2.0))
    return ClientCredentials(client, "/token", "gw 01", lambda: "p:w\n", clock, scope="events")


def test_an_access_token_is_fetched_once_used_until_it_is_about_to_end_and_renewed() -> None:
    """RFC 6749 §4.4; its age is monotonic, so a wrong wall clock does not matter."""
    clock = FakeClock()
    first = token(b'{"access_token":"t1","token_type":"Bearer","expires_in":3600}')
    with RawServer(first, token(b'{"access_token":"t2","expires_in":3600}')) as server:
        credentials = oauth(server, clock)
        assert credentials.headers(GET) == {"authorization": "Bearer t1"}
        clock.step(400 * 86400.0)
        clock.advance(3500.0)
        assert credentials.headers(GET) == {"authorization": "Bearer t1"}
        clock.advance(90.0)
        assert credentials.headers(GET) == {"authorization": "Bearer t2"}
        request = server.requests[0].decode()
    assert f"authorization: Basic {b64encode(b'gw%2001:p%3Aw').decode()}" in request
    assert request.endswith("grant_type=client_credentials&scope=events")


def test_a_refused_token_is_fetched_anew_but_not_in_a_loop() -> None:
    """A token of this minute that is refused would be refused again."""
    clock = FakeClock()
    with RawServer(token(b'{"access_token":"t1"}'), token(b'{"access_token":"t2"}')) as server:
        credentials = oauth(server, clock)
        credentials.headers(GET)
        assert not credentials.refresh(REFUSED)
        clock.advance(60.0)
        assert credentials.refresh(REFUSED)
        assert credentials.headers(GET) == {"authorization": "Bearer t2"}


@pytest.mark.parametrize(
    ("status", "body"),
    [(b"400 Bad", b'{"error":"invalid_client"}'), (b"200 OK", b"<html>"), (b"200 OK", b"{}"),
     (b"200 OK", b'{"access_token":"x","token_type":"mac"}'), (b"200 OK", b'{"access_token":"a\\r\\nb"}')],
)  # fmt: skip
def test_an_authorisation_server_that_gives_no_token_means_not_now(status: bytes, body: bytes) -> None:
    """Nothing is sent without a proof, and the secret is in no message."""
    with RawServer(token(body, status)) as server:
        with pytest.raises(Unavailable) as caught:
            oauth(server, FakeClock()).headers(GET)
        assert "p:w" not in str(caught.value)


def test_a_renewed_client_certificate_is_noticed(tmp_path: Path) -> None:
    """A refresh helps when the file has changed, and when not it says so."""
    file = tmp_path / "gw01.pem"
    file.write_text("old")
    proof = ClientCertificate(file)
    assert proof.headers(GET) == {}
    assert not proof.refresh(REFUSED)
    file.unlink()
    file.write_text("renewed")
    assert proof.refresh(REFUSED)
    assert not proof.refresh(REFUSED)


def test_a_signature_is_that_of_the_rfc() -> None:
    """RFC 9421, appendix B.2.6: key, request and signature as printed there."""
    key = load_der_private_key(b64decode("MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF"), None)
    assert isinstance(key, Ed25519PrivateKey)
    covered = ("date", "@method", "@path", "@authority", "content-type", "content-length")
    names = " ".join(f'"{name}"' for name in covered)
    parameters = f'({names});created=1618884473;keyid="test-key-ed25519"'
    headers = {
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "content-type": "application/json",
        "content-length": "18",
    }
    base = signature_base(covered, parameters, "POST", "https://example.com/foo?param=Value&Pet=dog", headers)
    assert b64encode(key.sign(base)).decode() == (
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    )


URL = "https://platform.example/v1/gateways/gw01/streams/observations/epochs/e/events"
PUSH = {
    "content-type": "application/cloudevents-batch+json",
    "content-digest": "sha-256=:abc=:",
    "sync-range": "1-5",
}


def test_a_signed_request_is_recognised_and_any_change_is_not() -> None:
    """Method, address, digest and range are covered; age and key are checked."""
    key = Ed25519PrivateKey.generate()
    keys = {"gw01": key.public_key()}
    signed = {**PUSH, **sign(key, "gw01", 1000, "POST", URL, PUSH)}
    assert verify(keys, 1010.0, "POST", URL, signed) == "gw01"
    assert verify(keys, 1010.0, "PUT", URL, signed) is None
    assert verify(keys, 1010.0, "POST", URL + "?x", signed) is None
    assert verify(keys, 1010.0, "POST", URL, {**signed, "content-digest": "sha-256=:abd=:"}) is None
    assert verify(keys, 1010.0, "POST", URL, {**signed, "sync-range": "1-6"}) is None
    assert verify(keys, 2000.0, "POST", URL, signed) is None
    assert verify({"gw02": key.public_key()}, 1010.0, "POST", URL, signed) is None
    assert verify(keys, 1010.0, "POST", URL, PUSH) is None
    weak = {**PUSH, **sign(key, "gw01", 1000, "POST", URL, {})}
    assert verify(keys, 1010.0, "POST", URL, weak) is None  # it does not cover the digest


def test_a_clock_that_is_wrong_by_a_year_is_corrected_by_the_platforms_date() -> None:
    """A refused signature is made again in the platform's time; one refused for another reason is not."""
    clock = FakeClock()
    key = Ed25519PrivateKey.generate()
    now_s = clock.now().wall_s
    clock.step(-365 * 86400.0)
    proof = Signature(key, "gw01", clock)
    assert verify({"gw01": key.public_key()}, now_s, "GET", GET.url, proof.headers(GET)) is None
    date = Reply(401, {"date": "Sun, 22 Nov 2026 02:00:00 GMT"}, b"")
    assert proof.refresh(date)
    assert verify({"gw01": key.public_key()}, now_s, "GET", GET.url, proof.headers(GET)) == "gw01"
    assert not proof.refresh(date)
    assert not proof.refresh(REFUSED)


def test_a_gateway_that_signs_delivers_and_a_stranger_does_not(tmp_path: Path) -> None:
    """Over real HTTP, with a clock that is wrong by a year; the platform knows the public key only."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    clock = FakeClock(wall_s=SystemClock().now().wall_s - 365 * 86400.0)
    store = Store(tmp_path / "journal.db", clock).open()
    store.add(5)
    app = platform_app(tmp_path / "platform.db", guards=(Guard("gw01", public_key=public),), durable=False)
    with Served(app) as served:
        stranger = Bench(
            store, http_uplink(served.url, clock, credentials=Signature(Ed25519PrivateKey.generate(), "gw01", clock))
        )
        for _ in range(3):
            stranger.step()
        assert stranger.syncer.state().condition == "unauthorised"
        stranger.close()
        bench = Bench(store, http_uplink(served.url, clock, credentials=Signature(key, "gw01", clock)))
        bench.drain()
        assert app.state.store.bounds() == (1, 5)
        bench.close()
    store.close()
