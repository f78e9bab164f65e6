"""What the documentation says is what the code does: OpenAPI against the running server, the examples as printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.clock import FakeClock
from gateway.event import STREAMS
from sync.answer import OUTCOME_OF_STATUS
from sync.feed import FeedToken, token_digest
from sync.feed_routes import FeedLimits
from sync.http_uplink import content_digest
from sync.platform.app import Guard, platform_app
from tests.sync.sync_parts import Served, Store
from tests.sync.test_enrolment import request_of
from tests.sync.test_feed import Puller

DOCS = Path(__file__).parents[2] / "docs"
API = json.loads((DOCS / "openapi-sync.json").read_text("utf-8"))
TEXT = (DOCS / "sync.md").read_text("utf-8")
EPOCH = "a" * 32
LANE = f"/v1/gateways/gw01/streams/observations/epochs/{EPOCH}"


def holds(value: Any, schema: dict[str, Any], at: str = "$") -> None:
    """The part of JSON Schema that the description uses."""
    if "$ref" in schema:
        schema = API["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
    }
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert any(isinstance(value, kinds[name]) for name in names), f"{at}: {value!r} is no {names}"
    if "enum" in schema:
        assert value in schema["enum"], f"{at}: {value!r}"
    if "pattern" in schema:
        assert re.search(schema["pattern"], value), f"{at}: {value!r}"
    if "minimum" in schema:
        assert value >= schema["minimum"], f"{at}: {value!r}"
    if isinstance(value, dict):
        assert set(schema.get("required", ())) <= set(value), f"{at}: {value!r}"
        for name, inner in schema.get("properties", {}).items():
            if name in value:
                holds(value[name], inner, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, inner in enumerate(value):
            holds(inner, schema["items"], f"{at}[{index}]")


def described(response: requests.Response, template: str) -> None:
    """Status, media type, headers and body of an answer are among those described."""
    operation = API["paths"][template][response.request.method.lower()]
    assert str(response.status_code) in operation["responses"], (
        response.request.method,
        template,
        response.status_code,
    )
    said = operation["responses"][str(response.status_code)]
    for name in said.get("headers", {}):
        assert name in response.headers, name
    if "content" in said:
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in said["content"], kind
        holds(response.json(), said["content"][kind]["schema"])
    else:
        assert response.content == b""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tokens = (FeedToken("warehouse", token_digest("w"), STREAMS),)
    app = platform_app(
        tmp_path_factory.mktemp("docs") / "platform.db", tokens=tokens, durable=False,
        guards=(Guard("gw01", token_digest("g")),), admin=token_digest("a"),
    )  # fmt: skip
    with Served(app) as served:
        yield served


def templates() -> list[tuple[str, str]]:
    return [(path, method) for path, item in API["paths"].items() for method in item if method != "parameters"]


def test_every_route_is_described_and_every_description_has_a_route(served: Served) -> None:
    """No path or method is in one and not in the other."""
    app: Any = served.server.config.app
    routes = {(route.path, method.lower()) for route in app.routes for method in route.methods - {"HEAD"}}
    assert routes == set(templates())


def test_the_answers_of_a_whole_conversation_are_as_described(served: Served) -> None:
    """Success and refusal of every operation."""
    session = requests.Session()
    session.headers["authorization"] = "Bearer g"
    url = served.url
    lane, gateway = "/v1/gateways/{gateway}/streams/{stream}/epochs/{epoch}", "/v1/gateways/{gateway}"
    event = {
        "specversion": "1.0",
        "id": f"gw01.observations.{EPOCH}.{1:016d}",
        "source": "//t",
        "type": "store.x.v1",
        "time": "x",
        "data": {},
    }
    bad = {**event, "id": f"gw01.observations.{EPOCH}.{2:016d}", "type": "store.pos.sale.v1", "data": {"lines": 1}}
    body = json.dumps([event, bad]).encode()
    headers = {
        "content-type": "application/cloudevents-batch+json",
        "content-digest": content_digest(body),
        "sync-range": "1-2",
    }
    enrolments = served.server.config.app.state.enrolments  # type: ignore[union-attr]
    claim = {"gateway": "gw01", "code": enrolments.invite("gw01"), "csr": request_of(Ed25519PrivateKey.generate())}
    elsewhere, odd = {**headers, "sync-range": "8-9"}, {**headers, "content-encoding": "br"}
    events, commands = url + LANE + "/events", url + "/v1/gateways/gw01/commands"
    told = [
        (session.get(url + LANE, timeout=30), lane, 404),
        (session.post(events, body, headers=headers, timeout=30), lane + "/events", 412),
        (session.put(url + LANE, json={"reason": "fresh"}, timeout=30), lane, 201),
        (session.put(url + LANE, json={"reason": "fresh"}, timeout=30), lane, 200),
        (session.put(url + LANE, json={"reason": "bored"}, timeout=30), lane, 400),
        (session.get(url + LANE, timeout=30), lane, 200),
        (session.post(events, body, headers=headers, timeout=30), lane + "/events", 200),
        (session.post(events, body, headers=headers, timeout=30), lane + "/events", 200),
        (session.post(events, body, headers=elsewhere, timeout=30), lane + "/events", 400),
        (session.post(events, body, headers=odd, timeout=30), lane + "/events", 415),
        (session.post(events, b"x" * 1_100_000, headers=headers, timeout=30), lane + "/events", 413),
        (session.post(url + LANE + "/gaps", json={"first": 3, "last": 4}, timeout=30), lane + "/gaps", 200),
        (session.post(url + LANE + "/gaps", json={"first": 9, "last": 9}, timeout=30), lane + "/gaps", 409),
        (session.post(url + LANE + "/gaps", json={"first": 4, "last": 3}, timeout=30), lane + "/gaps", 400),
        (session.get(url + "/v1/gateways/gw01/verdicts", timeout=30), gateway + "/verdicts", 200),
        (session.get(url + "/v1/gateways/gw01/verdicts?after=x", timeout=30), gateway + "/verdicts", 400),
        (session.post(url + "/v1/gateways/gw01/heartbeat", json={}, timeout=30), gateway + "/heartbeat", 200),
        (session.post(commands, json={"id": "c", "type": "x"}, timeout=30), gateway + "/commands", 401),
        (session.get(commands, timeout=30), gateway + "/commands", 200),
        (session.post(url + "/v1/enrolments", json={}, timeout=30), "/v1/enrolments", 400),
        (session.post(url + "/v1/enrolments", json=claim, timeout=30), "/v1/enrolments", 201),
        (session.post(url + "/v1/enrolments", json={**claim, "code": "1"}, timeout=30), "/v1/enrolments", 403),
        (session.get(url + "/v1/gateways/gw02/commands", timeout=30), gateway + "/commands", 401),
        (session.get(url + "/v1/gateways/gw01/commands?after=x", timeout=30), gateway + "/commands", 400),
    ]  # fmt: skip
    session.headers["authorization"] = "Bearer a"
    told.append(
        (
            session.post(commands, json={"id": "c", "type": "x"}, timeout=30),
            gateway + "/commands",
            201,
        )
    )
    session.headers["authorization"] = "Bearer w"
    page = session.get(url + "/v1/feed", timeout=30)
    cursor = {"cursor": page.headers["feed-next"]}
    one, consumer = "/v1/feed/consumers/{name}", url + "/v1/feed/consumers/warehouse"
    told += [
        (page, "/v1/feed", 200),
        (session.get(url + "/v1/feed?after=x", timeout=30), "/v1/feed", 400),
        (session.get(url + "/v1/feed/snapshot", timeout=30), "/v1/feed/snapshot", 200),
        (session.get(consumer, timeout=30), one, 404),
        (session.put(consumer, json=cursor, timeout=30), one, 200),
        (session.put(consumer, json=cursor, headers={"if-match": '"99"'}, timeout=30), one, 412),
        (session.get(consumer, timeout=30), one, 200),
        (session.put(consumer + "x", json=cursor, timeout=30), one, 403),
        (session.delete(consumer, timeout=30), one, 204),
        (requests.get(url + "/v1/feed", timeout=30), "/v1/feed", 401),
    ]  # fmt: skip
    for response, template, status in told:
        assert response.status_code == status, (response.request.method, response.request.url, response.text)
        described(response, template)
    session.close()


def test_hostile_requests_get_described_answers_only(served: Served) -> None:
    """Wrong types, sizes, names and bytes in every place: never a 5xx, never an answer that is not described."""
    dice = Random(7)
    pieces = [
        "",
        "0",
        "-1",
        "x",
        "%00",
        "a" * 70,
        "é",
        "1-2",
        "null",
        "99999999999999999999",
        "a" * 32,
        "observations",
        "gw01",
        "v-1",
    ]
    bodies = [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 500,
        b'{"first":1e400,"last":true}',
        b'{"cursor":{}}',
        b'[{"id":5}]',
        b'{"id":"x","type":5}',
        b'{"reason":null}',
    ]
    session = requests.Session()
    for _ in range(400):
        template, method = dice.choice(templates())
        path = re.sub(
            r"\{\w+\}", lambda _: dice.choice(["gw01", "observations", EPOCH, dice.choice(pieces[1:])]), template
        )
        query = "&".join(
            f"{name}={dice.choice(pieces)}" for name in dice.sample(["after", "limit", "wait", "streams", "format"], 2)
        )
        body = dice.choice(bodies)
        headers = {
            "authorization": dice.choice(["Bearer g", "Bearer w", "Bearer a", "Basic x", "Bearer "]),
            "content-type": dice.choice(["application/cloudevents-batch+json", "application/json", "text/html"]),
            "content-digest": dice.choice([content_digest(body), "x", ""]),
            "content-encoding": dice.choice(["gzip", "zstd", "identity", "x", ""]),
            "sync-range": dice.choice(["1-2", "1-1", "0-5", "5-1", "x", "9" * 30 + "-1"]),
            "if-match": dice.choice(['"1"', "x", "*"]),
        }
        response = session.request(
            method.upper(),
            f"{served.url}{path}?{query}".replace("wait=99999", "wait=0"),
            data=body,
            headers=headers,
            timeout=70,
        )
        if response.status_code == 404 and response.text == "Not Found":
            continue  # the path matched no route at all
        if response.status_code == 405:
            continue
        described(response, template)
    session.close()


def test_the_answer_table_of_the_page_is_the_table_of_the_code() -> None:
    """Every status that the code treats in its own way is in the page's table, in the row of that treatment."""
    rows = [line for line in TEXT.splitlines() if line.startswith("|")]
    marks = {
        "bisect": "bisects", "unauthorised": "refreshes", "closed": "stops pushing", "unknown_epoch": "`PUT` epoch",
        "too_large": "halves", "unsupported": "falls back", "retry": "Retry-After",
    }  # fmt: skip
    for status, outcome in OUTCOME_OF_STATUS.items():
        (row,) = [row for row in rows if re.search(rf"\b{status}\b", row.split("|")[1])]
        assert marks[outcome] in row


def example(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("language", ["python", "sh"])
def test_the_example_consumers_pull_everything_once(tmp_path: Path, language: str) -> None:
    """As printed, against a gateway's feed; a second run finds nothing new."""
    if language == "sh" and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    store = Store(tmp_path / "journal.db", FakeClock()).open()
    store.add(1203)
    puller = Puller(store, FeedLimits())
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", example("python")] if language == "python" else ["sh", "-c", example("sh")]

    def run() -> str:
        done = subprocess.run(
            command, cwd=tmp_path / "run", capture_output=True, text=True, timeout=60, check=True,
            env={**os.environ, "FEED": puller.served.url, "TOKEN": "w-secret"},
        )  # fmt: skip
        return done.stdout

    ids = re.findall(r"gw01\.observations\.[0-9a-f]{32}\.(\d{16})", run())
    assert [int(number) for number in ids] == list(range(1, 1204))
    assert run().strip() == ""
    puller.close()
    store.close()
