"""The whole gateway with its page: what happens to a device is on the page in plain words, and the books balance."""

from __future__ import annotations

import re
import threading
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx

from config.settings import BrokerSettings, DeviceSettings, PageSettings, Settings, StorageSettings
from gateway.access.accounts import Accounts
from gateway.app import Gateway
from gateway.intake.inlet import Item
from tests.gateway.status.shop import FakeGateway, sale
from tests.patience import PATIENCE_S
from tests.ports import free_port


def test_a_missing_port_is_on_the_page_with_what_to_do_and_a_sale_is_counted_within_seconds(tmp_path: Path) -> None:
    port = free_port()
    gateway = Gateway(
        Settings(
            storage=StorageSettings(directory=str(tmp_path / "data"), max_mib=64, ballast_mib=0),
            broker=BrokerSettings(mode="none"),
            page=PageSettings(port=port),
            devices=(DeviceSettings(name="till-9", driver="pos_escpos", address="/dev/there-is-none", zone="front"),),
        )
    )
    stop = threading.Event()
    thread = threading.Thread(target=gateway.run, args=(stop,))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers={"accept-language": "en"}) as http:
            deadline_s = time.monotonic() + PATIENCE_S

            def until(path: str, text: str) -> str:
                while time.monotonic() < deadline_s:
                    try:
                        answer = http.get(path)
                    except httpx.ConnectError:
                        time.sleep(0.05)
                        continue
                    if answer.status_code == 200 and text in answer.text:
                        return answer.text
                    time.sleep(0.05)
                raise AssertionError(f"{text} did not appear on {path}")

            until("/healthz", '"ok":true')
            until("/", "Till till-9 (front) is not connected")
            draft = FakeGateway(tmp_path / "words").draft(sale("88.80"), "pos_escpos/till-9", "front")
            gateway.inlet.offer("test", Item([draft]))
            accounts = Accounts(tmp_path / "data", gateway.clock)
            accounts.add("Ann", "manager", "482915")
            signed = http.post(
                "/sign-in", data={"name": "Ann", "pin": "482915"}, headers={"origin": str(http.base_url)}
            )
            assert (signed.status_code, signed.headers["location"]) == (303, "/")
            until("/", "Sale ¥88.80")
            trail = until("/audit", "Signed in")
            at, shown = re.findall(r'<time datetime="([^"]+)">([^<]+)</time>', trail)[0]
            in_the_shop = datetime.fromisoformat(at).astimezone(ZoneInfo("Asia/Shanghai"))
            assert f"{in_the_shop:%H:%M:%S}" in shown and "Asia/Shanghai" in trail
            until("/", '<span class="number"><small>≥</small>¥88.80</span>')  # no till is connected: a lower bound
            total = http.get("/api/status").json()["status"]["delivery"]["total"]
            assert total["accepted"] == sum(
                total[name] for name in ("delivered", "waiting", "quarantined", "expired", "lost")
            )
            assert total["accepted"] >= 1
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
