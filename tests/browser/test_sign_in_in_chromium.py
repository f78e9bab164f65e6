"""In a real browser: setting up, signing in and out, lock-out, roles, and no text of a device that runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from config.loader import data_directory
from gateway import event_types as types
from gateway.access.accounts import TRIES, Accounts
from tests.browser.conftest import Visit
from tests.gateway.status.shop import FakeGateway, sale
from tests.gateway.status.test_server import Site

pytestmark = pytest.mark.timeout(180)

PIN, ATTACK = "482915", "<img src=x onerror=document.title='owned'>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """With a thread that commits, as a running gateway has, and an attacker's tag and beacon in the journal."""
    gateway = FakeGateway(tmp_path)
    gateway.open()
    gateway.keep(
        sale("128.50"),
        types.BeaconArrived(scheme="ibeacon", beacon=ATTACK, receiver=ATTACK),
        types.RfidArrived(
            epc="x", epc_hex="x", gtin=ATTACK, serial=ATTACK, reader="r", reads=1, first_seen="", last_seen=""
        ),
        zone=ATTACK,
    )
    with gateway.committing():
        served = Site(gateway)
        yield served
        served.close()
    gateway.close()


def accounts_of(site: Site) -> Accounts:
    return Accounts(data_directory(site.gateway.settings), site.gateway.clock)


def address(site: Site, path: str = "/") -> str:
    return f"http://127.0.0.1:{site.port}{path}"


def test_the_first_manager_is_made_with_the_code_adds_staff_and_signs_out(site: Site, visit: Visit) -> None:
    code = accounts_of(site).new_setup_code()
    page = visit(address(site, "/setup"))
    for given, pin, said in ((code, "123456", "too easy"), ("AAAA-AAAA", PIN, "code is wrong"), (code, PIN, "")):
        page.get_by_label("Set-up code").fill(given)
        page.get_by_label("Your name").fill("王芳")
        page.get_by_label("PIN: six").fill(pin)
        page.get_by_label("The PIN again").fill(pin)
        page.get_by_role("button", name="Become").click()
        if said:
            assert said in page.get_by_role("alert").inner_text()
    assert page.url.endswith("/settings")  # the first manager begins where there is something to do
    page.get_by_role("link", name="王芳").click()
    page.get_by_role("link", name="Accounts").click()
    form = page.locator("form", has=page.locator("input[value=add]"))
    form.get_by_label("Name").fill("Bo")
    form.get_by_label("PIN").fill("771938")
    form.get_by_role("button").click()
    assert page.get_by_role("heading", name="Bo", exact=True).count() == 1
    page.get_by_role("link", name="Audit trail").click()
    assert "Account added" in page.locator("table").inner_text() and "Bo" in page.locator("table").inner_text()
    page.get_by_role("button", name="Sign out").click()
    page.goto(address(site, "/accounts"))
    assert "/sign-in" in page.url
    assert not [text for text in page.said if "Security" in text]  # type: ignore[attr-defined]


def test_five_wrong_pins_lock_out_and_say_for_how_long_in_chinese(site: Site, visit: Visit) -> None:
    accounts_of(site).add("Ann", "manager", PIN)
    page = visit(address(site, "/sign-in"), locale="zh-CN")
    for number in range(TRIES + 1):
        page.get_by_label("姓名").fill("Ann")
        page.get_by_label("PIN 码").fill("000001" if number < TRIES else PIN)
        page.get_by_role("button", name="登录").click()
    assert "15 分钟" in page.get_by_role("alert").inner_text()
    assert page.context.cookies() == []


def test_staff_see_events_without_running_them_and_strangers_do_not_see_them(site: Site, visit: Visit) -> None:
    accounts_of(site).add("Ann", "manager", PIN)
    accounts_of(site).add("Bo", "staff", "771938")
    page = visit(address(site))
    assert page.locator("#events").count() == 0 and "128.50" not in page.content()
    page.goto(address(site, "/sign-in"))
    page.get_by_label("Name").fill(ATTACK[:32])  # a name is a text, too
    page.get_by_label("PIN").fill("000001")
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_label("Name").input_value() == ATTACK[:32]
    page.get_by_label("Name").fill("Bo")
    page.get_by_label("PIN").fill("771938")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#events")
    assert ATTACK[:20] in page.locator("#events").inner_text()
    assert page.locator("main img").count() == 0 and page.title() != "owned"
    cookie = page.context.cookies()[0]
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and page.evaluate("document.cookie") == ""
    assert page.goto(address(site, "/accounts")).status == 403  # type: ignore[union-attr]


def test_a_foreign_page_can_neither_write_nor_frame(site: Site, visit: Visit) -> None:
    accounts_of(site).add("Ann", "manager", PIN)
    page = visit(address(site, "/sign-in"))
    page.get_by_label("Name").fill("Ann")
    page.get_by_label("PIN").fill(PIN)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("#events")
    target = address(site, "/accounts").replace("127.0.0.1", "localhost")
    for cause in (target, address(site, "/accounts")):
        page.goto("data:text/html,<p>foreign")
        page.set_content(
            f"<form method=post action='{cause}'><input name=do value=add><input name=name value=Eve>"
            "<input name=role value=manager><input name=pin value=771938></form>"
        )
        with page.expect_navigation():
            page.evaluate("document.forms[0].submit()")
        assert accounts_of(site).book().account("Eve") is None
    page.goto("about:blank")
    page.set_content(f"<iframe src='{address(site)}'></iframe>")
    page.wait_for_timeout(300)
    assert all("Today" not in frame.content() for frame in page.frames)


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_the_access_pages_fit_a_phone_and_have_no_accessibility_violations(
    site: Site, visit: Visit, locale: str
) -> None:
    axe = Axe()
    viewport = {"width": 360, "height": 700}

    def check(path: str) -> None:
        page.goto(address(site, path))
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        found = axe.run(page).response["violations"]
        assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found] == [], path

    page = visit(address(site, "/setup"), locale=locale, viewport=viewport)
    check("/setup")
    page.get_by_role("link", name="English").click()
    assert page.url.endswith("/setup") and page.get_by_role("heading").inner_text() == "Set up this gateway"
    page.get_by_role("link", name="中文").click() if locale == "zh-CN" else None
    site.sign_in("manager")
    check("/sign-in")
    cookie = {"name": "storefront_session", "value": site.http.cookies["storefront_session"], "url": address(site)}
    page.context.add_cookies([cookie])
    for path in ("/account", "/accounts", "/audit"):
        check(path)
