"""The profile pages over HTTP: both languages, no identifier in an address, and nothing for those who may not."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import msgspec
import pytest
import requests
from starlette.routing import Route

from gateway.clock import rfc3339_s
from gateway.shopper.identifiers import Identifier
from gateway.shopper.sealing import Sealer, key_from_text, key_to_text, new_key
from sync.feed import token_digest
from sync.feed_routes import BATCH_TYPE
from sync.http_uplink import content_digest
from sync.platform import profile_api
from sync.platform.app import platform_app
from sync.platform.history import import_lines
from sync.platform.profile_words import WORDS
from sync.platform.profiles import Profiles
from tests.sync.platform.platform_parts import EPOCH, T0, Log, World, shopper
from tests.sync.platform.test_history import as_written
from tests.sync.sync_parts import Served

CSRF = {"origin": "http://evil.example", "sec-fetch-site": "cross-site"}


class Site:
    """A platform on loopback with one member's life, pushed as a gateway pushes it."""

    def __init__(self, directory: Path, admin: bytes | None = None) -> None:
        self.app = platform_app(directory / "platform.db", durable=False, profiles=True, admin=admin)
        self.served = Served(self.app).__enter__()
        self.url = self.served.url
        self.session = requests.Session()
        self.session.trust_env = False
        self.profiles: Profiles = self.app.state.profiles

    def live(self) -> None:
        """Consents, a registration and an order by CSV; a sale and a visit by push, really sealed."""
        now = rfc3339_s(T0)
        for text in (
            f"record_id,at,step,purposes,member\nc-00000001,{now},granted,matching offers visits,M-1001\n",
            f"at,act,member,scheme,value,verified\n{now},registration,M-1001,email,ann@example.com,yes\n",
            f"coupon,issued_at,campaign,member\nK1,{now},<img src=x>,M-1001\n",
            f"order_id,ordered_at,amount,currency,member\no-1,{rfc3339_s(T0 + 50)},1234.5,CNY,M-1001\n",
        ):
            assert import_lines(self.profiles.book, text.splitlines(True), as_written, "f").refused == 0
        world_log = Log()
        keys = self.profiles.keys
        sealer = Sealer(keys.seal_id, key_from_text(keys.seal_public))
        ann = type(shopper("member", ""))(sealed=sealer.seal(Identifier("member", "M-1001")))
        World.sells(_Only(world_log), "s-1", T0 + 100, who=ann, net="88.00")  # type: ignore[arg-type]
        body = b"[" + world_log.rows[0][1] + b"]"
        lane = f"{self.url}/v1/gateways/gw01/streams/transactions/epochs/{EPOCH}"
        assert self.session.put(lane, json={"reason": "fresh"}).status_code == 201
        head = {"content-type": BATCH_TYPE, "sync-range": "1-1", "content-digest": content_digest(body)}
        assert self.session.post(lane + "/events", body, headers=head).status_code == 200
        beat = {"seal_key": {"id": "g1", "public_key": key_to_text(new_key()[1])}}
        self.session.post(f"{self.url}/v1/gateways/gw01/heartbeat", json=beat)

    def key(self) -> str:
        """The member's opaque key, when the sale has been folded."""
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            said = self.session.post(f"{self.url}/v1/profiles/search", json={"scheme": "member", "value": "m-1001"})
            if said.status_code == 200:
                key = str(said.json()["key"])
                if "s-1" in self.session.get(f"{self.url}/v1/profiles/{key}").text:
                    return key
            time.sleep(0.05)
        raise AssertionError("never matched")

    def close(self) -> None:
        self.session.close()
        self.served.__exit__()


class _Only:
    """Just the log of a world."""

    def __init__(self, log: Log) -> None:
        self.log = log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    it = Site(tmp_path_factory.mktemp("platform"))
    it.live()
    yield it
    it.close()


def test_a_search_leads_to_the_page_without_the_number_in_any_address(site: Site) -> None:
    key = site.key()
    found = site.session.post(
        f"{site.url}/profiles/search", {"scheme": "member", "value": "Ｍ-1001 "}, allow_redirects=False
    )
    assert (found.status_code, found.headers["location"]) == (303, f"/profiles/{key}")
    missed = site.session.post(f"{site.url}/profiles/search", {"value": "M-9999"}, allow_redirects=False)
    assert missed.headers["location"] == "/profiles?missed"
    assert "M-1001" not in key and re.fullmatch(r"[\w-]{16}", key)


BOTH = {
    "zh": ("线上订单", "购买", "匹配档案", "¥1,234.50"),
    "en": ("Online order", "Purchase", "matching", "¥88.00"),
}


@pytest.mark.parametrize("language", BOTH)
def test_the_page_shows_both_worlds_in_both_languages_and_runs_no_text(site: Site, language: str) -> None:
    page = site.session.get(f"{site.url}/profiles/{site.key()}?lang={language}")
    for word in BOTH[language]:
        assert word in page.text, word
    assert "M-1001" not in page.text and "•••01" in page.text and "a•••@example.com" in page.text
    assert "<img" not in page.text and "&lt;img src=x&gt;" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["cache-control"] == "no-store"
    home = site.session.get(f"{site.url}/profiles?lang={language}&missed")
    assert home.status_code == 200 and site.key()[:6] in home.text


def test_every_word_exists_in_both_languages_with_the_same_fields() -> None:
    for key, (zh, en) in WORDS.items():
        assert zh and en, key
        fields = [{it[1] for it in Formatter().parse(text) if it[1]} for text in (zh, en)]
        assert fields[0] == fields[1], key
        assert not re.search(r"[\u4e00-\u9fff]", en), key


def test_acts_from_the_page_go_down_as_commands_and_refusals_are_said(site: Site) -> None:
    url = f"{site.url}/profiles/{site.key()}"
    sent = site.session.post(url, {"do": "hint", "gateway": "gw01", "text": "likes tea"})
    assert sent.status_code == 200 and "profile.hints" in site.session.get(f"{site.url}/v1/gateways/gw01/commands").text
    assert "issue coupon" not in sent.text
    for fields in (
        {"do": "hint", "gateway": "gw77", "text": "x"}, {"do": "coupon", "gateway": "gw01", "face": "free"},
        {"do": "erase"}, {"do": "nothing"}, {"do": "part", "edge": "999"}, {"do": "part", "edge": "x"},
    ):  # fmt: skip
        said = site.session.post(url + "?lang=en", fields)
        assert said.status_code == 200 and "Not done" in said.text, fields
    issued = site.session.post(
        f"{site.url}/v1/profiles/{site.key()}/coupon",
        json={"gateway": "gw01", "store": "0042", "campaign": "spring", "face": "5"},
    )
    assert issued.status_code == 200 and issued.json()["done"]["token"].startswith("SFC1")
    assert "spring" in site.session.get(f"{site.url}/profiles?lang=en").text


def test_a_page_of_somebody_else_and_a_foreign_name_get_nothing(site: Site) -> None:
    url = f"{site.url}/profiles/{site.key()}"
    assert site.session.post(url, {"do": "erase", "sure": "yes"}, headers=CSRF).status_code == 403
    assert site.session.get(f"{site.url}/profiles", headers={"host": "evil.example"}).status_code == 421
    assert site.session.post(f"{site.url}/profiles/search", b"x" * 20_000).status_code == 400
    assert site.session.post(f"{site.url}/v1/profiles/search", b"[1]").status_code == 400
    for key in ("nobody", "A" * 16, "..%00..", "x" * 900):
        assert site.session.get(f"{site.url}/v1/profiles/{key}").status_code == 404


def test_segments_and_campaigns_as_json(site: Site) -> None:
    said = site.session.get(f"{site.url}/v1/segments").json()
    assert said["repeat"]["share"] is None and said["rfm"]["persons"][0]["frequency"] == 2
    assert site.session.get(f"{site.url}/v1/segments?churn").status_code == 503
    assert isinstance(site.session.get(f"{site.url}/v1/campaigns").json(), list)


def test_with_an_admin_token_nobody_reads_without_it(tmp_path: Path) -> None:
    site = Site(tmp_path, admin=token_digest("open sesame"))
    try:
        assert site.session.get(f"{site.url}/profiles").headers["www-authenticate"].startswith("Basic")
        assert site.session.get(f"{site.url}/profiles", headers={"authorization": "Bearer wrong"}).status_code == 401
        basic = base64.b64encode(b"anyone:open sesame").decode()
        for secret in ("Bearer open sesame", f"Basic {basic}"):
            assert site.session.get(f"{site.url}/profiles", headers={"authorization": secret}).status_code == 200
        assert site.session.get(f"{site.url}/profiles", headers={"authorization": "Basic %%%"}).status_code == 401
    finally:
        site.close()


def test_erasing_from_the_page_leaves_nobody(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        site.live()
        key = site.key()
        gone = site.session.post(f"{site.url}/profiles/{key}", {"do": "erase", "sure": "yes"}, allow_redirects=False)
        assert (gone.status_code, gone.headers["location"]) == (303, "/profiles")
        assert site.session.get(f"{site.url}/v1/profiles/{key}").status_code == 404
        commands = json.loads(site.session.get(f"{site.url}/v1/gateways/gw01/commands").text)
        assert {it["type"] for it in commands} == {"store.command.subject.erase.v1"}
    finally:
        site.close()


def test_times_are_of_the_zone_that_the_page_names(site: Site) -> None:
    """The sale of 02:01 UTC was at 10:01 in the shop."""
    page = site.session.get(f"{site.url}/profiles/{site.key()}?lang=en").text
    assert '<time datetime="2026-11-22T02:01:40Z">10:01</time>' in page and "Times of Asia/Shanghai" in page


def test_who_looked_and_at_whom_is_noted_before_it_is_shown(tmp_path: Path) -> None:
    """By the name given with the token; what cannot be noted is not shown, and not done."""
    site = Site(tmp_path)
    site.live()
    key = site.key()
    site.close()
    guarded = Site(tmp_path, admin=token_digest("open sesame"))
    try:
        guarded.session.auth = ("ann\x07", "open sesame")
        guarded.session.post(f"{guarded.url}/profiles/search", {"scheme": "member", "value": "m-1001"})
        guarded.session.post(f"{guarded.url}/v1/profiles/search", json={"value": "M-4"})
        guarded.session.post(f"{guarded.url}/profiles/{key}", {"do": "hint", "gateway": "gw01", "text": "x"})
        guarded.session.auth = None
        assert guarded.session.get(f"{guarded.url}/v1/profiles/{key}").status_code == 401  # and leaves no trace
        guarded.session.headers["authorization"] = "Bearer open sesame"
        guarded.session.get(f"{guarded.url}/v1/profiles/{key}")
        looks = guarded.session.get(f"{guarded.url}/v1/looks").json()
        assert [(it["who"], it["what"], it["person"]) for it in looks[:5]] == [
            ("token", "look", key), ("ann", "hint", key), ("ann", "search", ""), ("ann", "look", key),
            ("ann", "search", key),
        ]  # fmt: skip
        assert "ann sent a hint" in guarded.session.get(f"{guarded.url}/profiles/{key}?lang=en").text
        with guarded.profiles.book.reading() as connection:
            connection.execute("ALTER TABLE look RENAME TO gone")
        assert guarded.session.get(f"{guarded.url}/v1/profiles/{key}").status_code == 503
        said = guarded.session.post(f"{guarded.url}/v1/profiles/{key}/erase", json={"sure": "yes"})
        assert said.status_code in (422, 503) and guarded.profiles.reading.person(key) is not None
    finally:
        guarded.close()


def test_the_interface_is_described_as_it_answers(site: Site) -> None:
    """The file in docs/ is made from the types, holds every route and no other, and real answers are of these types."""
    assert (Path(__file__).parents[3] / "docs" / "openapi-profiles.json").read_text("utf-8") == profile_api.text()
    routes = {
        (route.path, method)
        for route in site.app.routes
        if isinstance(route, Route) and route.path.startswith(("/v1/profiles", "/v1/segments", "/v1/camp", "/v1/looks"))
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {
        (re.sub("/(hint|coupon|consent|part|erase)$", "/{do}", path), method.upper())
        for path, methods in profile_api.document()["paths"].items()
        for method in methods
    }
    assert described == routes
    for path, kind in (
        ("/v1/profiles", list[profile_api.Recent]), (f"/v1/profiles/{site.key()}", profile_api.Profile),
        ("/v1/segments?clusters", profile_api.Segments), ("/v1/campaigns", list[profile_api.Funnel]),
        ("/v1/looks", list[profile_api.Look]), ("/v1/profiles/AAAAAAAAAAAAAAAA", profile_api.Problem),
    ):  # fmt: skip
        msgspec.json.decode(site.session.get(site.url + path).content, type=kind)
