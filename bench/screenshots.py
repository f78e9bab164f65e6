"""The pictures of the documents, taken from the demo: a shop with some weeks behind it, seen in Debian's Chromium.

The demo is the real gateway on a simulated shop, with the past that it makes up. Pictures are reduced to few colours:
text stays sharp.

    python -m bench.screenshots [--to docs/images]
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np

MOST_BYTES = 150_000

SHOTS = (  # name, path, language, width, height, dark
    ("today-zh", "/", "zh-CN", 1280, 860, False),
    ("today-en", "/", "en", 1280, 860, False),
    ("today-dark", "/", "en", 1280, 860, True),
    ("phone", "/", "zh-CN", 390, 844, False),
    ("devices", "/devices", "en", 1280, 860, False),
    ("sync", "/sync", "en", 1280, 860, False),
    ("wall", "/wall", "zh-CN", 1920, 1080, True),
)


def reduced(picture: bytes) -> bytes:
    """The picture with a palette of few colours, as PNG: a third of its size, and text stays sharp."""
    pixels = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    levels = (pixels >> 3 << 3) | (pixels >> 5)
    done, data = cv2.imencode(".png", levels, [cv2.IMWRITE_PNG_COMPRESSION, 9, cv2.IMWRITE_PNG_STRATEGY, 0])
    assert done
    return data.tobytes()


def take(port: int, to: Path) -> None:
    """All pictures.

    Raises:
        SystemExit: there is no Chromium, or a picture has become too big.
    """
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("chromium is not installed")
    to.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--disable-gpu"], chromium_sandbox=False)
        for name, path, language, width, height, dark in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": height}, locale=language, color_scheme="dark" if dark else "light"
            )
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{port}{path}")
            time.sleep(1.0)
            picture = reduced(page.screenshot())
            if len(picture) > MOST_BYTES:
                raise SystemExit(f"{name}: {len(picture)} bytes")
            (to / f"{name}.png").write_bytes(picture)
            print(f"{name}.png {len(picture) / 1000:.0f} KB")
            context.close()
        browser.close()


def main() -> None:
    """Run the demo, look, end it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, default=Path(__file__).parent.parent / "docs" / "images")
    parser.add_argument("--for", type=float, default=90.0, dest="for_s", help="seconds that the demo plays before")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "gateway", "demo", "--port", str(port), "--data", name]
        demo = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            _wait(port)
            time.sleep(args.for_s)
            take(port, args.to)
        finally:
            demo.terminate()
            demo.wait(60)


def _wait(port: int) -> None:
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise SystemExit("the demo's page did not come")


if __name__ == "__main__":
    main()
