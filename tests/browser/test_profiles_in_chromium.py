"""The reference platform's profile pages for everybody: no barrier that axe can find, nothing too wide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe

from sync.feed import token_digest
from tests.browser.browser import CHROMIUM
from tests.browser.conftest import Visit
from tests.sync.platform.test_profile_pages import Site

pytestmark = [pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"), pytest.mark.timeout(180)]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A member with a life online and in a shop."""
    it = Site(tmp_path_factory.mktemp("profiles"))
    it.live()
    yield it
    it.close()


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_every_page_fits_and_has_no_accessibility_violations(
    site: Site, visit: Visit, language: str, width: int, scheme: str
) -> None:
    axe, key = Axe(), site.key()
    page = visit(f"{site.url}/profiles?lang={language}", viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in ("/profiles?missed", f"/profiles/{key}", "/profiles"):
        page.goto(site.url + path)
        assert page.locator("html").get_attribute("lang") == {"zh": "zh-CN", "en": "en"}[language]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, path
        found = axe.run(page, options=RULES).response["violations"]
        assert [(it["id"], [node["html"] for node in it["nodes"]]) for it in found] == [], path
    assert page.said == []  # type: ignore[attr-defined]


def test_a_shopper_is_found_and_both_worlds_stand_on_one_line_of_time(site: Site, visit: Visit) -> None:
    site.key()
    page = visit(f"{site.url}/profiles?lang=en")
    page.get_by_role("textbox").fill("M-1001")
    page.get_by_role("button", name="Find").click()
    page.wait_for_selector("ul.time li")
    assert "M-1001" not in page.url
    line = page.locator("ul.time li")
    kinds = [(it.get_attribute("class"), it.locator("time").inner_text()) for it in line.all()]
    assert ("shop", "10:01") in kinds and ("web", "10:00") in kinds
    assert [at for _, at in kinds] == sorted((at for _, at in kinds), reverse=True)


def test_with_a_token_the_browser_asks_for_it_and_the_name_stands_in_the_record(
    tmp_path_factory: pytest.TempPathFactory, visit: Visit
) -> None:
    folder = tmp_path_factory.mktemp("guarded")
    first = Site(folder)
    first.live()
    key = first.key()
    first.close()
    site = Site(folder, admin=token_digest("open sesame"))
    try:
        page = visit(
            f"{site.url}/profiles/{key}?lang=en", http_credentials={"username": "Ann", "password": "open sesame"}
        )
        assert "Ann looked" in page.locator("body").inner_text()
        assert visit("about:blank").request.get(f"{site.url}/profiles/{key}").status == 401
    finally:
        site.close()
