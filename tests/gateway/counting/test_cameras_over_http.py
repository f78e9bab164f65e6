"""A running gateway with a camera: a manager signs in, looks, draws and tests, and no picture is left behind."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from config.loader import load
from gateway.access.sessions import form_token
from gateway.app import Gateway
from gateway.status.server import StatusServer
from tests.patience import until

TEXT = """[storage]
directory = "{folder}/data"
[page]
port = 0
[broker]
mode = "none"
[[cameras]]
name = "door"
source = "synthetic:top:3:30"
options = {{ warm_up_s = 2, interval_s = 60, lines = [{{ name = "old", start = [0.5, 0.02], end = [0.5, 0.98] }}] }}
"""


@pytest.mark.slow
def test_a_manager_looks_draws_and_tests_and_no_picture_is_left(tmp_path: Path) -> None:
    """Snapshot, a line drawn anew that counts without a restart, an acceptance test; no file holds a JPEG."""
    file = tmp_path / "gateway.toml"
    file.write_text(TEXT.format(folder=tmp_path))
    gateway = Gateway(load(file), file)
    pages: list[StatusServer] = []
    made = gateway._page
    gateway._page = lambda: pages.append(made()) or pages[-1]  # type: ignore[method-assign,func-returns-value,return-value]
    stop = threading.Event()
    running = threading.Thread(target=gateway.run, args=(stop,))
    running.start()

    try:
        until(lambda: pages and pages[-1].port and gateway.supervisor.ready())
        page = pages[-1]
        account = page.door.accounts.add("Ann", "manager", "482915")
        token = page.door.sessions.begin(account)
        base = f"http://127.0.0.1:{page.port}"

        def ask(path: str, form: dict[str, Any] | None = None, signed: bool = True) -> tuple[int, bytes]:
            data = None if form is None else urllib.parse.urlencode(form).encode()
            request = urllib.request.Request(base + path, data)
            if signed:
                request.add_header("cookie", f"storefront_session={token}")
                request.add_header("x-csrf-token", form_token(token))
                request.add_header("origin", base)
            try:
                with urllib.request.urlopen(request, timeout=15) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        desk = gateway.camera_desk
        assert desk is not None
        until(lambda: desk.cameras.names() and desk.view("door").state.last_frame_age_s is not None)
        assert ask("/api/cameras/door/snapshot", signed=False)[0] == 401
        status, picture = ask("/api/cameras/door/snapshot")
        assert (status, picture[:2]) == (200, b"\xff\xd8")

        drawn = json.loads(ask("/api/cameras/door/scene")[1])
        assert drawn["drawing"]["lines"][0]["name"] == "old"
        line = {"name": "new", "start": [0.5, 0.0], "end": [0.5, 1.0]}
        status, said = ask(
            "/api/cameras/door/scene", {"drawing": json.dumps({"lines": [line]}), "digest": drawn["digest"]}
        )
        assert status == 200, said
        until(lambda: desk.cameras.names() and [count.line for count in desk.view("door").counts] == ["new"])
        until(lambda: any(count.in_count + count.out_count for count in desk.view("door").counts))

        status, said = ask("/api/cameras/door/tests", {"line": "new", "minutes": 1})
        assert status == 200, said
        test = json.loads(said)["id"]
        now_ms = time.time() * 1000
        tap = {"direction": "in", "key": "1", "at_ms": now_ms, "sent_ms": now_ms}
        assert json.loads(ask(f"/api/tests/{test}/taps", tap)[1])["tapped_in"] == 1
        assert json.loads(ask(f"/api/tests/{test}/stop", {})[1])["state"] == "settling"
        assert ask(f"/api/tests/{test}/accept", {})[0] == 409
        left = [path for path in tmp_path.rglob("*") if path.is_file() and b"\xff\xd8\xff" in path.read_bytes()]
        assert left == []
    finally:
        stop.set()
        running.join(60)
    assert not running.is_alive()
