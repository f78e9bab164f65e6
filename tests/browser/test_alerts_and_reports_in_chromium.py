"""In a real browser: taking care of an alert, loading a report with and without JavaScript, in both languages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from gateway.status.observer import Observer
from gateway.status.snapshot import snapshot
from gateway.workers.alert_watch import causes
from tests.browser.conftest import Visit
from tests.gateway.status.shop import FakeGateway, passed, sale
from tests.gateway.status.test_server import Site

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A till that has been away for ten minutes, and another alert that is over."""
    gateway = FakeGateway(tmp_path)
    gateway.open()
    gateway.keep(sale("128.50"), passed(7))
    gateway.count()
    gateway.alerts.open()
    gateway.board.lost("till1", "connection refused", "is the till switched on?")
    observer = Observer(gateway)
    broken = dict(causes(snapshot(observer.observe())))
    full = msgspec.structs.replace(next(iter(broken.values())), id="disk", rule="disk_low", key="disk_low")
    full = msgspec.structs.replace(full, parameters={"free_bytes": 80 << 20})
    for second in range(0, 1600, 10):
        there = [*broken.values(), *([full] if second < 300 else [])]
        gateway.alerts.look(there, (), gateway.clock.advance(10.0))
    observer.close()
    with gateway.committing():
        served = Site(gateway)
        yield served
        served.close()
    gateway.close()


def address(site: Site, path: str = "/") -> str:
    return f"http://127.0.0.1:{site.port}{path}"


def signed_in(site: Site, page: Page) -> None:
    site.sign_in("staff")
    cookie = {"name": "storefront_session", "value": site.http.cookies["storefront_session"], "url": address(site)}
    page.context.add_cookies([cookie])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("locale", "title", "take", "taken", "later"),
    [
        ("en", "Till till1 (front)", "I take care of it", "Somebody takes care of it.", "Remind in 4 h"),
        ("zh-CN", "收银机 till1", "我来处理", "已有人在处理。", "4 小时后提醒"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("script", [True, False])
def test_staff_put_an_alert_off_and_take_care_of_it(
    site: Site, visit: Visit, locale: str, title: str, take: str, taken: str, later: str, script: bool
) -> None:
    page = visit(address(site, "/alerts"), locale=locale, java_script_enabled=script)
    assert title in page.locator("#alerts_now").inner_text() and page.locator(".acts").count() == 0
    assert page.locator("#alerts_past tbody tr").count() == 1
    signed_in(site, page)
    page.goto(address(site, "/alerts"))
    with page.expect_navigation():
        page.get_by_role("button", name=later).first.click()
    assert site.gateway.alerts.view().now[0].snoozed_until_ms > 0
    with page.expect_navigation():
        page.get_by_role("button", name=take).first.click()
    assert site.gateway.alerts.view().now[0].acknowledged
    page.get_by_text(taken).first.wait_for()  # at once: without a script nothing would renew it
    page.goto(address(site, "/"))
    assert taken in page.locator("#trouble").inner_text()  # the same cause on Today
    acts = site.get("/api/events?stream=transactions&limit=20").text
    assert "alert.snooze" in acts and "alert.acknowledge" in acts and "device:till1" in acts


@pytest.mark.parametrize(("locale", "ready"), [("en", "The report is ready."), ("zh-CN", "报表已生成。")])
def test_a_report_is_loaded_with_progress_and_by_a_plain_link(
    site: Site, visit: Visit, locale: str, ready: str
) -> None:
    for script in (True, False):
        page = visit(address(site, "/sign-in"), locale=locale, java_script_enabled=script)
        signed_in(site, page)
        page.goto(address(site, "/reports?day=2026-11-22&span=week"))
        for name, ending in (("PDF", ".pdf"), ("XLSX", ".xlsx"), ("CSV", ".csv")):
            with page.expect_download(timeout=60_000) as download:
                page.get_by_role("link", name=name).click()
            assert download.value.suggested_filename == f"storefront-0042-2026-11-16_2026-11-22{ending}"
            if script:
                assert page.locator("#job [role=status]").inner_text() == ready
        page.get_by_role("link", name="Read and print" if locale == "en" else "查看和打印").click()
        page.wait_for_load_state()
        assert "128.5" in page.locator("main").inner_text(timeout=30_000)
        assert (
            page.evaluate("getComputedStyle(document.querySelector('.tile')).borderRadius") == "6px" if script else True
        )
        assert page.said == []  # type: ignore[attr-defined]


def test_a_report_can_be_stopped(site: Site, visit: Visit) -> None:
    page = visit(address(site, "/sign-in"))
    signed_in(site, page)
    page.goto(address(site, "/reports?day=2026-11-22&span=week"))
    page.get_by_role("link", name="PDF").click()
    page.get_by_role("button", name="Stop").click()
    assert page.locator("#job [role=status]").inner_text() == "Stopped."


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_the_pages_fit_and_have_no_accessibility_violations(
    site: Site, visit: Visit, locale: str, width: int, scheme: str, tmp_path: Path
) -> None:
    axe = Axe()
    page = visit(
        address(site, "/sign-in"), locale=locale, viewport={"width": width, "height": 800}, color_scheme=scheme
    )  # fmt: skip
    signed_in(site, page)
    for path in ("/alerts", "/reports", "/reports?day=2026-01-05&span=week"):
        page.goto(address(site, path))
        page.screenshot(path=str(tmp_path / f"{path[1:7]}-{locale}-{width}.png"), full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        found = axe.run(page).response["violations"]
        assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found] == [], path
