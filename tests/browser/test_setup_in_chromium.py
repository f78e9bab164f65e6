"""Setting a shop up in a real browser on a running gateway: store, devices, lines, clicker, enrolment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from config.loader import load
from gateway.clock import SystemClock
from sync.platform.app import platform_app
from tests.browser.conftest import Visit
from tests.browser.real_shop import RealShop
from tests.patience import until
from tests.sync.sync_parts import Served

pytestmark = pytest.mark.timeout(240)

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}
DENSE = ("/settings", "/settings/devices/cards", "/settings/cameras/door/draw", "/clicker")  # wider on a desk
ATTACK = "<img src=x onerror=document.title='owned'>"
ZONE_OF = {"en": "Where it is in the shop", "zh-CN": "在店内的位置"}
SAVE = {"en": "Save", "zh-CN": "保存"}
TOO_MUCH = {"en": "must be 0 to 33", "zh-CN": "必须在 0 到 33 之间"}
IN_THE_FILE = {"en": "In the file now:", "zh-CN": "文件中现在是："}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealShop]:
    """With a camera that draws people, and a card reader that is not there."""
    with RealShop(tmp_path_factory.mktemp("shop"), camera=True) as shop:
        desk = shop.gateway.camera_desk
        assert desk is not None
        until(lambda: desk.cameras.names() and desk.view("door").state.last_frame_age_s is not None)
        yield shop


def manager(visit: Visit, shop: RealShop, path: str, locale: str = "en", **more: object) -> Page:
    """A signed-in manager's page."""
    return visit(shop.base + path, locale=locale, storage_state=shop.signed_in(), **more)


@pytest.mark.parametrize(("locale", "viewport"), [("zh-CN", PHONE), ("en", DESK)], ids=["phone", "desk"])
def test_every_page_fits_is_accessible_and_breaks_no_policy(
    shop: RealShop, visit: Visit, locale: str, viewport: dict[str, int]
) -> None:
    axe, page = Axe(), manager(visit, shop, "/settings", locale, viewport=viewport)
    for path in (
        "/settings", "/settings/store", "/settings/devices", "/settings/add-device", "/settings/add-device/uhf_m100",
        "/settings/devices/cards", "/settings/devices/cards/remove", "/settings/cameras", "/settings/cameras/door",
        "/settings/cameras/door/draw", "/settings/platform", "/clicker", "/privacy",
    ):  # fmt: skip
        page.goto(shop.base + path)
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        if viewport is PHONE or path in DENSE:
            found = axe.run(page).response["violations"]
            assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found] == [], path
    assert page.said == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_a_device_is_added_corrected_at_the_field_and_heard_of_without_a_restart(
    shop: RealShop, visit: Visit, locale: str
) -> None:
    page, name = manager(visit, shop, "/settings/add-device/uhf_m100", locale, viewport=PHONE), f"gate-{locale}"
    page.locator("[name=name]").fill(name)
    page.locator("[name=address]").fill("tcp://127.0.0.1:9")
    page.locator("[name=zone]").fill(ATTACK)
    page.locator("[name='options.power_dbm']").fill("99")
    page.locator("button.main").click()
    field = page.locator(".field", has=page.locator("[name='options.power_dbm']"))
    assert TOO_MUCH[locale] in field.locator(".wrong").inner_text()
    assert page.locator("[name=zone]").input_value() == ATTACK and name not in shop.text()
    page.locator("[name='options.power_dbm']").fill("20")
    page.locator("button.main").click()
    page.wait_for_url(f"**/settings/devices/{name}?saved=1")
    until(lambda: any(it.name == name for it in shop.gateway.plans))
    page.wait_for_selector(".state.faulted")  # nobody listens there, and the page says so by itself
    assert page.title() != "owned" and "# the old one" in shop.text()
    page.goto(shop.base + "/audit")
    assert name in page.locator("table").inner_text()
    page.goto(shop.base + f"/settings/devices/{name}/remove")
    page.locator("main form button").click()
    page.wait_for_url("**/settings/devices")
    assert name not in shop.text()


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_what_was_edited_by_hand_meanwhile_is_shown_beside_mine_and_neither_is_lost(
    shop: RealShop, visit: Visit, locale: str
) -> None:
    page = manager(visit, shop, "/settings/devices/cards", locale)
    page.get_by_label(ZONE_OF[locale]).fill("mine")
    before = shop.text()
    shop.file.write_text(before.replace('name = "cards"\n', f'name = "cards"\nzone = "theirs-{locale}"\n'), "utf-8")
    page.get_by_role("button", name=SAVE[locale], exact=True).click()
    page.wait_for_selector("[role=alert]")
    assert f"{IN_THE_FILE[locale]} theirs-{locale}" in page.locator("form.sheet").inner_text()
    assert page.get_by_label(ZONE_OF[locale]).input_value() == "mine" and f"theirs-{locale}" in shop.text()
    page.get_by_role("button", name=SAVE[locale], exact=True).click()
    page.wait_for_url("**?saved=1")
    assert 'zone = "mine"' in shop.text()
    shop.file.write_text(before, "utf-8")
    page.goto(shop.base + "/settings/devices/cards")
    assert page.get_by_label(ZONE_OF[locale]).input_value() == ""


def test_a_file_that_somebody_broke_is_said_and_the_page_stays_up(shop: RealShop, visit: Visit) -> None:
    before = shop.text()
    shop.file.write_text(before + "\nx = = 1\n", "utf-8")
    try:
        page = manager(visit, shop, "/settings")
        assert "cannot be used" in page.get_by_role("heading").inner_text()
        assert "line" in page.get_by_role("alert").inner_text()
        page.goto(shop.base + "/")
        page.wait_for_selector("#devices")
    finally:
        shop.file.write_text(before, "utf-8")


def test_a_line_is_moved_by_keys_and_finger_a_zone_and_a_person_drawn_and_saved(shop: RealShop, visit: Visit) -> None:
    page = manager(visit, shop, "/settings/cameras/door/draw", viewport=PHONE, has_touch=True)
    until(lambda: page.evaluate("document.getElementById('frame').naturalWidth > 0"))
    start = page.get_by_role("button", name="Start of main")
    start.focus()
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    assert page.locator("[name=line-0-x1]").input_value() == "0.7"
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("Start of main")
    box = page.locator("#picture").bounding_box()
    end = page.get_by_role("button", name="End of main").bounding_box()
    assert box and end
    page.mouse.move(end["x"] + end["width"] / 2, end["y"] + end["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.8, steps=4)
    page.mouse.up()
    assert abs(float(page.locator("[name=line-0-x2]").input_value()) - 0.3) < 0.02
    page.get_by_role("button", name="Add a zone").click()
    page.get_by_role("button", name="Mark a person's size").click()
    for y in (0.8, 0.5):
        page.locator("#picture").click(position={"x": box["width"] / 2, "y": box["height"] * y})
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/draw?saved=1")
    options = load(shop.file).cameras[0].options
    assert options["lines"][0]["start"][0] == 0.7 and options["zones"][0]["name"] == "zone-1"
    foot, height = options["person_size"][0]
    assert abs(foot - 0.8) < 0.02 and abs(height - 0.3) < 0.02
    desk = shop.gateway.camera_desk
    assert desk is not None
    until(lambda: desk.cameras.names() and desk.view("door").scene.zones)
    page.locator("#counts dd").first.wait_for()


def test_a_camera_that_dies_while_drawing_is_said_and_the_drawing_is_saved_all_the_same(
    shop: RealShop, visit: Visit
) -> None:
    page = manager(visit, shop, "/settings/cameras/door/draw")
    until(lambda: page.evaluate("document.getElementById('frame').naturalWidth > 0"))
    page.route("**/api/cameras/**", lambda route: route.fulfill(status=503, body="no picture now"))
    page.get_by_role("button", name="New picture").click()
    page.get_by_text("shows no picture now").wait_for()
    page.get_by_role("button", name="Swap in and out").click()
    before = page.locator("[name=line-0-x1]").input_value()
    page.context.set_offline(True)
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_text("not saved yet").wait_for()
    page.context.set_offline(False)
    page.reload()  # a tab that is loaded again still has it
    page.get_by_text("kept in this tab").wait_for()
    assert page.locator("[name=line-0-x1]").input_value() == before
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/draw?saved=1")
    assert str(load(shop.file).cameras[0].options["lines"][0]["start"][0]) == before


def test_without_javascript_a_line_is_drawn_by_numbers(shop: RealShop, visit: Visit) -> None:
    page = manager(visit, shop, "/settings/cameras/door/draw", java_script_enabled=False)
    page.locator("[name=line-1-name]").fill("second")
    for name, value in (("x1", "0.2"), ("y1", "0.1"), ("x2", "2"), ("y2", "0.9")):
        page.locator(f"[name=line-1-{name}]").evaluate("(it, value) => { it.type = 'text'; it.value = value; }", value)
    page.get_by_role("button", name="Save", exact=True).click()
    assert "A number from 0 to 1" in page.get_by_role("alert").inner_text()
    page.locator("[name=line-1-x2]").fill("0.2")
    page.get_by_role("button", name="Save", exact=True).click()
    assert page.url.endswith("?saved=1")
    assert [line["name"] for line in load(shop.file).cameras[0].options["lines"]] == ["main", "second"]


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_taps_wait_while_the_network_is_away_survive_a_reload_and_count_once(
    shop: RealShop, visit: Visit, locale: str
) -> None:
    desk = shop.gateway.camera_desk
    assert desk is not None
    until(lambda: desk.cameras.names())
    page = visit(shop.base + "/clicker", locale=locale, viewport=PHONE, storage_state=shop.signed_in("staff", "Bo"))
    line = page.locator("#line option").last.get_attribute("value") if locale == "zh-CN" else "door/main"
    page.locator("#line").select_option(line)
    page.locator("main form.sheet button").click()
    page.wait_for_selector("#clicker")
    test = page.url.rsplit("/", 1)[1]
    tap_in, tap_out, undo, end = (page.locator(f"button[value={it}]") for it in ("in", "out", "undo", "stop"))
    tap_in.click()
    until(lambda: desk.test_view(test).tapped_in == 1)
    page.context.set_offline(True)
    for button in (tap_in, tap_in, tap_out, undo):
        button.click()
    page.locator("#waits:not([hidden])").wait_for()
    assert page.locator("#count-in").inner_text() == "3" and desk.test_view(test).tapped_in == 1
    page.context.set_offline(False)
    until(lambda: desk.test_view(test).tapped_in == 3)
    page.reload()
    page.wait_for_timeout(300)
    view = desk.test_view(test)
    assert (view.tapped_in, view.tapped_out) == (3, 0) and page.locator("#count-in").inner_text() == "3"
    if locale == "zh-CN":  # the result takes eight seconds to settle: once is enough
        return
    end.click()
    page.locator("#result [data-state=done]").wait_for()
    assert "95" in page.locator("#result").inner_text() and page.locator("button[value=accept]").count() == 0
    page.goto(shop.base + "/clicker")
    assert page.locator(f"a[href='/clicker/{test}']").count() == 1


def test_the_store_is_named_and_waits_for_a_restart_and_the_notice_says_who_answers(
    shop: RealShop, visit: Visit
) -> None:
    page = manager(visit, shop, "/settings/store")
    page.get_by_label("Time zone").fill("Mars/Olympus")
    page.get_by_role("button", name="Save", exact=True).click()
    assert "unknown time zone" in page.locator(".field.bad").inner_text()
    page.get_by_label("Time zone").fill("Asia/Shanghai")
    page.get_by_label("Where persons ask").fill(ATTACK)
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/settings?saved=1")
    assert "privacy" in page.get_by_role("status").last.inner_text()
    assert load(shop.file).privacy.contact == ATTACK
    stranger = visit(shop.base + "/privacy")
    assert "Cameras that count people" in stranger.locator("main").inner_text()
    assert "not filled in yet" in stranger.locator("main").inner_text()  # the one that runs is shown, not the next
    assert stranger.goto(shop.base + "/settings").url.endswith("/sign-in?next=/settings")  # type: ignore[union-attr]


@pytest.mark.parametrize("locale", ["en", "zh-CN"])
def test_a_claim_code_gets_a_certificate_and_a_wrong_one_says_so(tmp_path: Path, visit: Visit, locale: str) -> None:
    app = platform_app(tmp_path / "platform.db", durable=False, clock=SystemClock(), enrolled_only=True)
    with Served(app) as served, RealShop(tmp_path) as shop:
        page = manager(visit, shop, "/settings/platform", locale)
        for code in ("WRONG-CODE", app.state.enrolments.invite("gw01")):
            page.locator("[name=url]").fill(served.url)
            page.locator("[name=code]").fill(code)
            page.locator("form.sheet button.main").click()
            page.locator("[role=alert], [role=status]").first.wait_for()
            assert page.locator("[role=alert]").count() == (code == "WRONG-CODE")
        assert "gw01" in page.locator("main").inner_text()
        platform = load(shop.file).platform
        assert platform.url == served.url and platform.auth == "signature"
        acts = json.dumps([it.subject for it in shop.acts()])
        assert "WRONG-CODE" not in acts and "127.0.0.1" in acts
