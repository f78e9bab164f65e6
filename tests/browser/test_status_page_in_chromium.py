"""In a real browser: the page lives, fits, speaks both languages, asks nobody outside, and runs no text of a device."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gateway import event_types as types
from tests.browser.browser import MISSING, Browser
from tests.gateway.status.shop import SCRIPT, FakeGateway, passed, sale
from tests.gateway.status.test_server import Site

pytestmark = [pytest.mark.skipif(bool(MISSING), reason=MISSING or "-"), pytest.mark.timeout(180)]

ATTACKS = (SCRIPT, "<img src=x onerror=document.title=1>", "</main><svg onload=document.title=1>")  # short: not cut
CONTRAST = """
const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const luminance = (c) => { const [r, g, b] = c.map(linear);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const behind = (el) => { for (; el; el = el.parentElement) { const c = parse(getComputedStyle(el).backgroundColor);
  if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
const bad = [];
for (const el of document.querySelectorAll("body *")) {
  const own = [...el.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || el.closest("svg, [hidden], noscript, script") || !el.getClientRects().length) continue;
  const a = luminance(parse(getComputedStyle(el).color).slice(0, 3)), b = luminance(behind(el));
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) bad.push([el.className || el.tagName, el.textContent.trim().slice(0, 30), ratio]);
}
return bad;
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    gateway = FakeGateway(tmp_path_factory.mktemp("store"))
    gateway.open()
    gateway.keep(passed(1250, 1190), *[sale("128.50") for _ in range(30)])
    for attack in ATTACKS:
        gateway.keep(
            types.BeaconArrived(scheme="ibeacon", beacon=attack, receiver=attack),
            types.RfidArrived(
                epc="x", epc_hex="x", gtin=attack, serial=attack, reader="r", reads=1, first_seen="", last_seen=""
            ),
            zone=attack,
        )
    gateway.board.register("till1", "pos_json", ATTACKS[1], 300.0)
    gateway.board.lost("till1", ATTACKS[2], SCRIPT)
    gateway.count()
    served = Site(gateway)
    yield served
    served.close()
    gateway.close()


@pytest.fixture(scope="module")
def browser(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        cookie = {"name": "storefront_session", "value": site.sign_in("manager"), "httpOnly": True}
        opened.devtools("Network.setCookie", url=address(site), **cookie)
        yield opened


def address(site: Site, path: str = "/") -> str:
    return f"http://127.0.0.1:{site.port}{path}"


def test_an_attacking_tag_beacon_and_zone_are_text(site: Site, browser: Browser) -> None:
    for path in ("/", "/devices", "/sync"):
        browser.open(address(site, path))
        browser.until("return window.EventSource && document.querySelector('h1')")
        assert browser.run("return document.title") != "1"
        assert browser.run("return document.querySelectorAll('main img, main script, main svg[onload]').length") == 0
    browser.open(address(site))
    assert SCRIPT in browser.run("return document.getElementById('events').textContent")


def test_a_new_event_appears_by_itself_and_is_text_there_too(site: Site, browser: Browser) -> None:
    browser.open(address(site))
    browser.until("return document.readyState === 'complete'")
    site.gateway.keep(types.AlarmRaised(what="late<img src=x onerror=document.title=1>"))
    browser.until("return document.getElementById('events').textContent.includes('late')")
    assert browser.run("return [document.querySelectorAll('#events img').length, document.title === '1']") == [0, False]


def test_the_console_stays_silent_and_every_request_goes_to_the_gateway(site: Site, browser: Browser) -> None:
    browser.said(), browser.said("performance")
    for path in ("/", "/devices", "/sync"):
        browser.open(address(site, path))
        browser.until("return document.readyState === 'complete'")
    assert [line for line in browser.said() if line["level"] in ("SEVERE", "WARNING")] == []
    asked = set()
    for line in browser.said("performance"):
        message = json.loads(line["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            asked.add(urlsplit(message["params"]["request"]["url"]).netloc)
    assert asked == {f"127.0.0.1:{site.port}"}


@pytest.mark.parametrize("language", ["zh_CN", "en"])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(360, 740), (768, 1024), (1280, 800), (1920, 1080), (3840, 2160)])
def test_every_page_fits_from_phone_to_wall_and_can_be_read(
    site: Site, browser: Browser, language: str, dark: bool, width: int, height: int
) -> None:
    browser.screen(width, height, dark=dark)
    for path in ("/", "/devices", "/sync"):
        browser.open(address(site, f"{path}?lang={language}"))
        assert browser.run("return document.documentElement.lang") == language.replace("_", "-")
        assert browser.run("return document.documentElement.scrollWidth - window.innerWidth") <= 0, path
        assert browser.run(CONTRAST) == [], path
        cut = "return [...document.querySelectorAll('.number')].filter((e) => e.scrollWidth > e.clientWidth + 1).length"
        assert browser.run(cut) == 0


def test_the_choice_of_language_stays(site: Site, browser: Browser) -> None:
    browser.screen(1280, 800)
    browser.open(address(site))
    browser.run("document.querySelector('.languages a[lang=en]').click()")
    browser.until("return document.documentElement.lang === 'en'")
    browser.open(address(site, "/devices"))
    assert browser.run("return document.documentElement.lang") == "en"
    browser.run("document.querySelector('.languages a[lang=zh-CN]').click()")
    browser.until("return document.documentElement.lang === 'zh-CN' && location.pathname === '/devices'")


def test_without_scripts_the_page_is_whole_and_comes_again_by_itself(site: Site, browser: Browser) -> None:
    browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address(site, "/?lang=en"))
        html = browser.devtools("Runtime.evaluate", expression="document.documentElement.outerHTML")["result"]["value"]
    finally:
        browser.devtools("Emulation.setScriptExecutionDisabled", value=False)
    assert "1,250" in html and 'http-equiv="refresh"' in html


def test_a_reader_is_told_when_the_gateway_has_gone(tmp_path: Path, browser: Browser) -> None:
    gateway = FakeGateway(tmp_path)
    gateway.open()
    other = Site(gateway)
    try:
        browser.open(address(other))
        browser.until("return document.getElementById('gone').hidden")
    finally:
        other.close()
        gateway.close()
    browser.until("return !document.getElementById('gone').hidden")


def test_the_first_load_is_small(site: Site, browser: Browser) -> None:
    browser.devtools("Network.clearBrowserCache")
    browser.open(address(site))
    sizes = browser.until(
        "const all = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')];"
        "const own = all.filter((e) => !e.name.includes('/live'));"
        "return all.length >= 3 && own.reduce((sum, e) => sum + e.encodedBodySize, 0)"
    )
    assert 5_000 < sizes < 200_000
