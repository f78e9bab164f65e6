"""`storefront alerts test` sends one message to each webhook and says what became of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.commands.alerts import test as send
from gateway.errors import ConfigError
from tests.sync.sync_parts import RawServer, says

HOOK = '[[alerts.webhooks]]\nname = "{name}"\nshape = "{shape}"\nurl = "env:{name}"\n'


def test_each_webhook_gets_one_and_a_refusal_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(HOOK.format(name="good", shape="wecom") + HOOK.format(name="bad", shape="slack"))
    taken = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"errcode":0}'
    gone = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
    with RawServer(says(taken), says(taken)) as good, RawServer(says(gone)) as bad:
        monkeypatch.setenv("good", f"{good.url}/send?key=SECRET")
        monkeypatch.setenv("bad", f"{bad.url}/send?key=SECRET")
        assert send(file, "", as_json=False) == 1
        assert send(file, "good", as_json=True) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["good: taken", "bad: refused (HTTP 410)"]
    assert json.loads(said[2]) == {"name": "good", "outcome": "taken", "reason": ""}
    assert "告警测试".encode() in good.requests[0]


def test_a_webhook_that_is_not_there_is_said(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("")
    with pytest.raises(ConfigError, match="no such webhook"):
        send(file, "nobody", as_json=False)
