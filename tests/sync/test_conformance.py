"""The suite for integrators: our platform passes; every platform that is wrong in one way fails where it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from gateway.clock import SystemClock
from sync.conformance import Report, check
from sync.http_client import ClientOptions, HttpClient
from sync.platform.app import platform_app
from tests.sync.sync_parts import Served


def judged(app: Any) -> Report:
    with Served(app) as served:
        client = HttpClient(ClientOptions(url=served.url, read_s=5.0))
        try:
            return check(client, served.url, SystemClock(), "probe01")
        finally:
            client.close()


def failed(report: Report) -> set[str]:
    return {item.name for item in report.checks if item.verdict == "fail"}


class Rewriting:
    """A platform whose answers to some requests are changed on their way out."""

    def __init__(self, app: Any, change: Callable[[str, int, bytes], tuple[int, bytes, bytes | None]]) -> None:
        self.app, self.change = app, change

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        await self.app(scope, receive, keep)
        body = b"".join(message.get("body", b"") for message in messages[1:])
        status, body, kind = self.change(scope["path"], messages[0]["status"], body)
        headers = [
            (name, value) for name, value in messages[0]["headers"] if name not in (b"content-length", b"content-type")
        ]
        kept = dict(messages[0]["headers"]).get(b"content-type", b"")
        headers += [(b"content-length", str(len(body)).encode()), (b"content-type", kind or kept)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def test_the_reference_platform_keeps_its_own_contract(tmp_path: Path) -> None:
    """Every check passes, and again with the same gateway name."""
    app = platform_app(tmp_path / "platform.db", durable=False)
    with Served(app) as served:
        client = HttpClient(ClientOptions(url=served.url, read_s=5.0))
        for _ in range(2):
            report = check(client, served.url, SystemClock(), "probe01")
            assert report.passed, report.render()
        client.close()
    text = report.render()
    assert text.startswith(f"Sync contract v1 against {served.url}")
    assert text.endswith(f"{len(report.checks)} passed, 0 failed, 0 left out.")


def test_a_platform_that_says_yes_to_everything_fails() -> None:
    """The commonest wrong server: 200 and the last number, whatever came."""

    async def yes(request: Request) -> Response:
        params = dict(request.path_params)
        last = int((request.headers.get("sync-range") or "0-0").split("-")[1])
        return JSONResponse({**params, "acked_through": last, "results": []})

    lane = "/v1/gateways/{gateway}/streams/{stream}/epochs/{epoch}"
    report = judged(
        Starlette(routes=[Route(lane, yes, methods=["GET", "PUT"]), Route(lane + "/events", yes, methods=["POST"])])
    )
    assert {"unknown-epoch", "push", "heartbeat", "commands"} <= failed(report)
    assert not report.passed
    assert "left out" in report.render()


def forget_verdicts(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    if path.endswith("/events") and status == 200:
        answer = json.loads(body)
        answer["results"] = [item for item in answer["results"] if item["status"] != "duplicate"]
        return status, json.dumps(answer).encode(), None
    return status, body, None


def confirm_lost(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    if path.endswith("/events") and status == 200:
        answer = json.loads(body)
        answer["results"] = [item for item in answer["results"] if item.get("code") != "sequence.declared-lost"]
        return status, json.dumps(answer).encode(), None
    return status, body, None


def plain_errors(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    return status, body, b"text/plain" if status >= 400 else None


def swallow_conflicts(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    if status == 409 and b"conflict" in body:
        return 200, b'{"acked_through":7}', b"application/json"
    return status, body, None


def other_name(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    return status, body.replace(b'"gateway":"probe01"', b'"gateway":"probe"'), None


def no_number(path: str, status: int, body: bytes) -> tuple[int, bytes, bytes | None]:
    return status, body.replace(b'"expected_seq":', b'"expected":'), None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (forget_verdicts, {"verdict"}),
        (confirm_lost, {"declared-lost"}),
        (swallow_conflicts, {"conflict"}),
        (no_number, {"gap"}),
        (other_name, {"open-epoch"}),
        (plain_errors, {"unknown-epoch", "gap", "conflict", "digest", "range", "garbage", "coding"}),
    ],
    ids=["forgets verdicts", "confirms the lost", "swallows conflicts", "no expected_seq", "another name", "as text"],
)
def test_a_platform_that_is_wrong_in_one_way_fails_there(
    tmp_path: Path, change: Callable[[str, int, bytes], tuple[int, bytes, bytes | None]], expected: set[str]
) -> None:
    """The report points at what is wrong, and at nothing else."""
    report = judged(Rewriting(platform_app(tmp_path / "platform.db", durable=False), change))
    assert failed(report) == expected, report.render()


def test_a_server_that_does_not_answer_gives_a_report() -> None:
    """No exception, no hang."""
    client = HttpClient(ClientOptions(url="http://127.0.0.1:9"))
    report = check(client, "http://127.0.0.1:9", SystemClock(), "probe01")
    client.close()
    assert "unknown-epoch" in failed(report)
