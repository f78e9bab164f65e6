"""The published OpenAPI against the running platform, driven by schemathesis: no 5xx, nothing undescribed, no way in
without a token, no invalid request taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.event import STREAMS
from sync.feed import FeedToken, token_digest
from sync.platform.app import Guard, platform_app
from tests.sync.sync_parts import Served

API = Path(__file__).parents[2] / "docs" / "openapi-sync.json"
SCHEMATHESIS = Path(sys.executable).parent / "schemathesis"
# Whether a signed cursor, a digest of the body or a signing request is valid is more than a schema can say.
BEYOND_A_SCHEMA = "positive_data_acceptance"
OURS = {"gateway": {"const": "gw01"}, "name": {"const": "warehouse"}}


def narrowed(value: Any) -> Any:
    """The description for a token of one gateway and one consumer, and without the parameter that asks to be kept."""
    if isinstance(value, dict):
        if value.get("in") == "path" and value.get("name") in OURS:
            return {**value, "schema": OURS[value["name"]]}
        return {name: narrowed(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [narrowed(it) for it in value if not (isinstance(it, dict) and it.get("name") == "wait")]
    return value


@pytest.mark.timeout(300)
@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed")
def test_what_schemathesis_makes_of_the_description_the_platform_answers_as_described(tmp_path: Path) -> None:
    """Examples, borders and random requests of every operation keep every check but the one named above."""
    described = json.loads(API.read_text("utf-8"))
    operations = sum(name != "parameters" for path in described["paths"].values() for name in path)
    (tmp_path / "api.json").write_text(json.dumps(narrowed(described)), "utf-8")
    app = platform_app(
        tmp_path / "platform.db", tokens=(FeedToken("warehouse", token_digest("g"), STREAMS),), durable=False,
        guards=(Guard("gw01", token_digest("g")),), admin=token_digest("a"),
    )  # fmt: skip
    with Served(app) as served:
        ran = subprocess.run(
            [SCHEMATHESIS, "run", tmp_path / "api.json", "--url", served.url, "-H", "Authorization: Bearer g",
             "--seed", "1", "--max-examples", "15", "--phases", "examples,coverage,fuzzing", "--no-color",
             "--exclude-checks", BEYOND_A_SCHEMA, "--request-timeout", "20"],
            capture_output=True, text=True, timeout=270, cwd=tmp_path,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:]
    assert f"Tested: {operations}" in ran.stdout
