"""For everybody: no barrier that axe can find, on every page, in both languages, light and dark; keyboard and wall."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from gateway import event_types as types
from gateway.intake.inlet import Item, Poison
from gateway.status.page import PAGES
from gateway.status.snapshot import PluggedDevice
from tests.browser.browser import CHROMIUM
from tests.browser.conftest import Visit
from tests.gateway.status.shop import SCRIPT, FakeGateway, passed, sale
from tests.gateway.status.test_server import Site

pytestmark = [pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"), pytest.mark.timeout(180)]

PATHS = [plan.path for plan in PAGES.values() if plan.parts]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
SCREENS = {"phone": (360, 740), "tablet": (820, 1180), "wall": (3840, 2160)}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A shop in which something of everything is wrong."""
    gateway = FakeGateway(tmp_path_factory.mktemp("everybody"))
    gateway.open()
    gateway.keep(passed(1250, 1190), *[sale("128.50") for _ in range(30)])
    gateway.keep(
        types.HeatmapSampled(
            camera=SCRIPT, interval_start="", interval_s=60.0, rows=2, cols=3, person_seconds=(0, 1, 2, 3, 4, 50)
        ),
        types.SensorRead(sensor="back-door", quantity="battery", value=9, unit="%"),
    )
    gateway.inlet.offer("test", Item((), poison=(Poison("till1", "pos_json", SCRIPT, b"x", "t"),)))
    gateway.sockets.append(
        PluggedDevice(
            kind="adapter", usb_id="1a86:7523", product=SCRIPT, address='/dev/x"y', drivers=("uhf_m100", "rdm6300"),
            since_ms=int(gateway.clock.now().wall_s * 1000),
        )
    )  # fmt: skip
    gateway.board.lost("till1", "there is no such port", "plug the device in")
    gateway.count()
    served = Site(gateway)
    yield served
    served.close()
    gateway.close()


def address(site: Site, path: str) -> str:
    return f"http://127.0.0.1:{site.port}{path}"


@pytest.mark.parametrize(("locale", "scheme"), [("zh-CN", "light"), ("en", "dark")])
def test_axe_finds_no_barrier_on_any_page(site: Site, visit: Visit, locale: str, scheme: str) -> None:
    page = visit(address(site, "/"), locale=locale, color_scheme=scheme, viewport={"width": 1280, "height": 900})
    for path in PATHS:
        page.goto(address(site, path))
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        found: Any = Axe().run(page, options=RULES)
        wrong = [(it["id"], [node["html"] for node in it["nodes"]]) for it in found.response["violations"]]
        assert wrong == [], (path, wrong)
    assert page.said == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_fits_its_screen(site: Site, visit: Visit, screen: str) -> None:
    width, height = SCREENS[screen]
    page = visit(address(site, "/"), locale="zh-CN", viewport={"width": width, "height": height})
    for path in PATHS:
        page.goto(address(site, path))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path


@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080), (3840, 2160), (1080, 1920)])
def test_the_wall_fills_the_screen_and_is_read_from_five_metres(
    site: Site, visit: Visit, size: tuple[int, int]
) -> None:
    width, height = size
    page = visit(address(site, "/wall"), locale="en", viewport={"width": width, "height": height})
    whole = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
    assert whole == [width, height]
    assert page.locator("a, button, nav").count() == 0
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('#wall p, #wall h1, #wall dt, #wall .verdict')]"
        ".map((each) => parseFloat(getComputedStyle(each).fontSize)))"
    )
    # A 55-inch screen is 0.69 m high (1.22 m upright): letters of 2 cm are read from five metres.
    assert smallest >= 0.02 * max(width, height) / 1.22 * 0.95
    below = page.evaluate(
        "Math.max(...[...document.querySelectorAll('#wall *')].map((e) => e.getBoundingClientRect().bottom))"
    )
    assert below <= height + 1
    over = page.evaluate(
        "Math.max(...[...document.querySelectorAll('#wall .verdict')].map((e) => e.getBoundingClientRect().bottom))"
        " - document.querySelector('#wall_hours svg').getBoundingClientRect().top"
    )
    assert over <= 1  # with trouble above, the words below the numbers still do not lie on the chart


def test_everything_is_reached_by_keyboard_and_stays_open_while_the_page_lives(site: Site, visit: Visit) -> None:
    page = visit(address(site, "/devices"), locale="en")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#plugged summary").focus()
    page.keyboard.press("Enter")
    assert 'address = "/dev/x\\"y"' in page.locator("#plugged pre").inner_text()
    site.gateway.sockets.append(
        PluggedDevice(kind="scale", usb_id="0922:8003", product="later", since_ms=1_795_312_800_000)
    )
    page.locator("#plugged li", has_text="later").wait_for()  # seen without loading the page again
    assert page.locator("#plugged details").first.get_attribute("open") is not None
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    site.gateway.sockets.pop()
    assert page.evaluate("document.querySelectorAll('main script').length") == 0


def test_the_hours_can_be_read_as_a_table_without_scripts(site: Site, visit: Visit) -> None:
    page = visit(address(site, "/?lang=en"), java_script_enabled=False)
    page.locator("#hours summary").click()
    assert "1,250" in page.locator("#hours table").inner_text()
    assert page.locator("meta[http-equiv=refresh]").count() == 1
