"""Chromium, driven through chromedriver's own HTTP interface (W3C WebDriver): no client library needed."""

from __future__ import annotations

import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

DRIVER = shutil.which("chromedriver") or ""
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome") or ""
MISSING = "" if DRIVER and CHROMIUM else "chromium and chromedriver are not installed (tests/install-tools.sh)"

_ARGUMENTS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


class Browser:
    """One session. A context manager."""

    def __init__(self, profile: Path) -> None:
        self._profile = profile

    def __enter__(self) -> Browser:
        self._driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port()}", timeout=60)
        options = {
            "binary": CHROMIUM,
            "args": [*_ARGUMENTS, f"--user-data-dir={self._profile}"],
            "perfLoggingPrefs": {"enableNetwork": True},
        }
        wanted = {
            "browserName": "chrome", "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }  # fmt: skip
        made = self._http.post("/session", json={"capabilities": {"alwaysMatch": wanted}}).json()["value"]
        self._session = f"/session/{made['sessionId']}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "_session"):
            self._http.delete(self._session)
        self._http.close()
        self._driver.terminate()
        self._driver.wait(30)
        assert self._driver.stdout is not None
        self._driver.stdout.close()

    def open(self, url: str) -> None:
        """Go there and wait until it is loaded."""
        self._post("url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        """What a script returns."""
        return self._post("execute/sync", {"script": script, "args": list(arguments)})

    def devtools(self, command: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._post("goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width: int, height: int, *, dark: bool = False) -> None:
        """Look like a device of that many pixels."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", features=[scheme])

    def until(self, script: str, timeout_s: float = 60.0) -> Any:
        """Wait until a script returns something true, and give it."""
        deadline_s = time.monotonic() + timeout_s
        while not (found := self.run(script)):
            assert time.monotonic() < deadline_s, script
            time.sleep(0.05)
        return found

    def said(self, kind: str = "browser") -> list[dict[str, Any]]:
        """New lines of the console (or of the `performance` log)."""
        return list(self._post("se/log", {"type": kind}))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        answer = self._http.post(f"{self._session}/{path}", json=body).json()["value"]
        if isinstance(answer, dict) and answer.get("error"):
            raise AssertionError(answer["message"])
        return answer

    def _port(self) -> int:
        assert self._driver.stdout is not None
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            if select.select([self._driver.stdout], [], [], 0.5)[0]:
                line = self._driver.stdout.readline()
                if found := re.search(r"started successfully on port (\d+)", line):
                    return int(found[1])
                assert line, "chromedriver has ended"
        raise AssertionError("chromedriver did not say its port")
