"""Telling a webhook: the four shapes, what each answer means, and that neither address nor secret gets out."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gateway.alerts.alert import Notice
from gateway.clock import FakeClock
from gateway.errors import ConfigError
from sync.webhook import Shape, Told, Webhook, signature, text_of
from tests.sync.sync_parts import RawServer, says
from tests.sync.test_http_client import TlsServer, certificate, drip

NOTICE = Notice(
    id="7.raised.duty.1", kind="raised", cause="device:till1", severity="warning", title="收银机 till1 <@all> 未连接",
    todo="请检查网线。", store="0042", gateway="gw01", at="2026-11-22T02:00:00.000Z", heading="门店 0042：需要处理",
)  # fmt: skip
KEY = "/cgi-bin/webhook/send?key=SECRET-KEY"


def answer(status: int, body: bytes = b"{}", head: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), head) + body


def tell(shape: Shape, reply: bytes, **options: object) -> tuple[Told, bytes]:
    """What a server's answer is taken for, and what it was asked."""
    with RawServer(says(reply)) as server:
        hook = Webhook(shape, server.url + KEY, FakeClock(), total_s=2.0, **options)  # type: ignore[arg-type]
        with contextlib.closing(hook):
            return hook.tell(NOTICE), server.requests[0]


@pytest.mark.parametrize(
    ("shape", "reply", "outcome", "pause_s"),
    [
        ("generic", answer(200), "taken", None),
        ("generic", answer(204, b""), "taken", None),
        ("slack", answer(200, b"ok"), "taken", None),
        ("wecom", answer(200, b'{"errcode":0,"errmsg":"ok"}'), "taken", None),
        ("dingtalk", answer(200, b'{"errcode":0}'), "taken", None),
        ("wecom", answer(200, b'{"errcode":45009}'), "later", 60.0),
        ("dingtalk", answer(200, b'{"errcode":130101}'), "later", 600.0),
        ("wecom", answer(200, b'{"errcode":93000,"errmsg":"invalid webhook url"}'), "refused", None),
        ("dingtalk", answer(200, b'{"errcode":310000,"errmsg":"sign not match"}'), "refused", None),
        ("wecom", answer(200, b"<html>captive portal"), "later", None),
        ("generic", answer(500), "later", None),
        ("slack", answer(503, b"", b"Retry-After: 90\r\n"), "later", 90.0),
        ("generic", answer(429, b"", b"Retry-After: 999999\r\n"), "later", 3600.0),
        ("slack", answer(403, b"invalid_token"), "refused", None),
        ("generic", answer(404), "refused", None),
        ("generic", answer(302, b"", b"Location: http://127.0.0.1:1/\r\n"), "refused", None),
        ("generic", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", "later", None),
        ("generic", b"", "later", None),
        ("generic", answer(200, b"x" * 70_000), "later", None),
    ],
)
def test_each_answer_is_taken_later_or_refused(shape: Shape, reply: bytes, outcome: str, pause_s: float | None) -> None:
    told, _ = tell(shape, reply)
    assert (told.outcome, told.pause_s) == (outcome, pause_s)
    assert "SECRET" not in told.reason


def test_a_signature_that_is_refused_while_the_clock_is_not_set_is_tried_again() -> None:
    """A box without a battery clock wakes up in the past; a wrong secret under a right clock is final."""
    outcomes = []
    for quality in ("unsynced", "ntp"):
        with RawServer(says(answer(200, b'{"errcode":310000,"errmsg":"invalid timestamp"}'))) as server:
            clock = FakeClock(quality=quality)
            with contextlib.closing(Webhook("dingtalk", server.url + KEY, clock, secret="SEC1", total_s=2.0)) as hook:
                outcomes.append(hook.tell(NOTICE).outcome)
    assert outcomes == ["later", "refused"]


def body_of(request: bytes) -> dict[str, object]:
    found: dict[str, object] = json.loads(request.partition(b"\r\n\r\n")[2])
    return found


def test_wecom_gets_plain_text_under_its_key() -> None:
    _, request = tell("wecom", answer(200, b'{"errcode":0}'))
    assert request.startswith(b"POST /cgi-bin/webhook/send?key=SECRET-KEY HTTP/1.1")
    assert body_of(request) == {"msgtype": "text", "text": {"content": text_of(NOTICE)}}
    assert text_of(NOTICE) == "门店 0042：需要处理\n收银机 till1 <@all> 未连接\n请检查网线。"


def test_dingtalk_is_signed_as_its_document_says() -> None:
    _, request = tell("dingtalk", answer(200, b'{"errcode":0}'), secret="SEC123")
    query = parse_qs(urlsplit(request.split(b" ")[1].decode()).query)
    at = query["timestamp"][0]
    assert int(at) == int(FakeClock().wall_s * 1000) and query["key"] == ["SECRET-KEY"]
    right = hmac.new(b"SEC123", f"{at}\nSEC123".encode(), hashlib.sha256).digest()
    assert base64.b64decode(query["sign"][0]) == right
    assert "+" not in signature("x", 1).partition("sign=")[2] and "/" not in signature("x", 1).partition("sign=")[2]


def test_a_name_in_a_slack_message_is_no_mention() -> None:
    _, request = tell("slack", answer(200, b"ok"))
    assert "&lt;@all&gt;" in str(body_of(request)["text"]) and "<" not in str(body_of(request)["text"])


def test_a_generic_body_is_typed_and_signed() -> None:
    _, request = tell("generic", answer(200), secret="s3")
    head, _, body = request.partition(b"\r\n\r\n")
    given = body_of(request)
    assert given["kind"] == "raised" and given["cause"] == "device:till1" and given["version"] == 1
    digest = hmac.new(b"s3", body, hashlib.sha256).hexdigest()
    assert f"x-storefront-signature: sha256={digest}".encode() in head.lower()


def test_a_message_is_never_longer_than_the_shortest_limit() -> None:
    long = text_of(Notice(**{**{f: getattr(NOTICE, f) for f in NOTICE.__struct_fields__}, "todo": "价" * 2000}))
    assert len(long.encode()) <= 2048 and long.endswith("价")


def test_a_slow_side_is_given_up_in_time_and_not_followed_elsewhere() -> None:
    with RawServer(drip(answer(200, b"x" * 200), 0.1)) as server:
        hook = Webhook("generic", server.url + KEY, FakeClock(), total_s=1.0)
        with contextlib.closing(hook):
            started_s = time.monotonic()
            told = hook.tell(NOTICE)
    assert told.outcome == "later" and time.monotonic() - started_s < 15.0  # the whole takes twenty


def test_nobody_there_is_later_and_says_no_key() -> None:
    hook = Webhook("wecom", "http://127.0.0.1:1" + KEY, FakeClock(), total_s=1.0)
    with contextlib.closing(hook):
        told = hook.tell(NOTICE)
    assert told.outcome == "later" and told.reason and "SECRET" not in told.reason


def test_a_certificate_of_nobody_is_no_partner(tmp_path: Path) -> None:
    """Until the time or the certificate is right; with its authority given, it is taken."""
    pem, key = certificate(tmp_path, "hook")
    outcomes = []
    for ca in (None, pem):
        server = TlsServer(pem, key)
        with contextlib.closing(Webhook("generic", f"{server.url}/x", FakeClock(), ca=ca, total_s=5.0)) as hook:
            outcomes.append(hook.tell(NOTICE))
        server.close()
    assert outcomes[0].outcome == "later" and "TLS refused" in outcomes[0].reason
    assert outcomes[1].outcome == "taken", outcomes[1].reason


@pytest.mark.parametrize(
    "url", ["", "qyapi.weixin.qq.com/x", "http://qyapi.weixin.qq.com/x?key=K", "ftp://x/", "https://u:p@x/"]
)
def test_an_address_that_cannot_be_used_is_said_without_quoting_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Webhook("wecom", url, FakeClock())
    assert "key=K" not in str(caught.value) and "u:p" not in str(caught.value)
