"""The pictures of the documents, taken from the demo: a shop with some weeks behind it, seen in Debian's Chromium.

The demo is the real gateway on a simulated shop; the weeks before it are generated and written into its journal first,
so that baselines and forecasts have something to stand on. Pictures are reduced to 64 colours: text stays sharp.

    python -m bench.screenshots [--to docs/images]
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import cv2
import numpy as np

from gateway import event_types as types
from gateway.clock import SystemClock, rfc3339_s
from gateway.event import Draft, Origin, draft
from gateway.journal.writer import JournalWriter

MOST_BYTES = 150_000
_ZONE = ZoneInfo("Asia/Shanghai")
_OPENS, _CLOSES = 9, 22
_STEP = timedelta(minutes=15)
_LINES = (  # as the demo's own: a camera and a light barrier
    ("main-door", "main", "camera/main-door", 1.0),
    ("side", "side-door", "generic_json/door-counter", 0.3),
)

SHOTS = (  # name, path, language, width, height, dark
    ("today-zh", "/", "zh-CN", 1280, 860, False),
    ("today-en", "/", "en", 1280, 860, False),
    ("today-dark", "/", "en", 1280, 860, True),
    ("phone", "/", "zh-CN", 390, 844, False),
    ("devices", "/devices", "en", 1280, 860, False),
    ("sync", "/sync", "en", 1280, 860, False),
    ("wall", "/wall", "zh-CN", 1920, 1080, True),
)


def fill(directory: Path, weeks: int) -> None:
    """Write the weeks before today, and today so far, into a fresh journal."""
    clock, dice = SystemClock(), random.Random(3)
    origin = Origin("t1", "0001", "gw01")
    directory.mkdir(parents=True, exist_ok=True)
    writer = JournalWriter(directory / "journal.db", "gw01", clock, ballast_bytes=0)
    writer.open()
    now = datetime.now(_ZONE)
    at = (now - timedelta(weeks=weeks)).replace(hour=0, minute=0, second=0, microsecond=0)
    drafts: list[Draft] = []
    while at + _STEP < now:
        if _OPENS <= at.hour < _CLOSES:
            drafts += _quarter(at, dice, origin, clock)
        at += _STEP
    for start in range(0, len(drafts), 256):
        writer.append(drafts[start : start + 256])
    writer.close()


def _quarter(at: datetime, dice: random.Random, origin: Origin, clock: SystemClock) -> list[Draft]:
    """A quarter of an hour of a shop that is busiest in the evening and at the weekend."""
    shape = math.sin(max(0.0, min(1.0, (at.hour - 8) / 14)) * math.pi) + (0.5 if at.hour in (18, 19) else 0.0)
    people = shape * (1.4 if at.weekday() >= 5 else 1.0) * dice.uniform(0.85, 1.15) * 14
    made: list[Draft] = []

    def put(data: types.EventData, path: str, zone: str, when: datetime) -> None:
        entry = types.type_of(data)
        made.append(
            draft(
                entry.stream,
                entry.name,
                data,
                source=origin.source(path),
                at=clock.now(),
                happened_s=when.timestamp(),
                zone=zone,
            )
        )

    for line, entrance, path, share in _LINES:
        count = max(0, round(dice.gauss(people * share, (people * share) ** 0.5)))
        put(
            types.FootfallCounted(
                line=line, entrance=entrance, interval_start=rfc3339_s(at.timestamp()), interval_s=_STEP.seconds,
                in_=count, out=max(0, count - dice.randint(-1, 1)),
                quality=types.CountQuality(coverage=1.0, detector="demo"),
            ), path, entrance, at + _STEP,
        )  # fmt: skip
        for number in range(count // 4):
            net = Decimal(dice.randint(3900, 52_000)) / 100
            put(
                types.Sale(
                    transaction_id=f"0001-1-{at:%Y%m%d}-{at:%H%M}{number}{line}", kind="sale", workstation_id="1",
                    business_date=at.date().isoformat(), currency="CNY",
                    totals=types.Totals(net=net, item_count=Decimal(dice.randint(1, 6))), tap="json", confidence=1.0,
                ), "pos_json/till-1", "checkout", at + timedelta(minutes=number % 15),
            )  # fmt: skip
    return made


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
    """Fill, run the demo, look, end it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, default=Path(__file__).parent.parent / "docs" / "images")
    parser.add_argument("--for", type=float, default=45.0, dest="for_s", help="seconds that the demo plays before")
    args = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        data = Path(name)
        fill(data, 6)
        command = [sys.executable, "-m", "gateway", "demo", "--port", str(port), "--data", str(data), "--speed", "4"]
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
