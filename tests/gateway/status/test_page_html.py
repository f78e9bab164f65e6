"""The rendered page says everything in both languages, and never lets a text of a device become markup."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from gateway import event_types as types
from gateway.alerts.alert import Alert, AlertsView, HookState
from gateway.intake.health import DeviceReport
from gateway.runtime.worker import WorkerState
from gateway.shopper.hints import Guest
from gateway.status import words
from gateway.status.language import LANGUAGES
from gateway.status.observer import Observer
from gateway.status.page import PAGES, Page
from gateway.status.session import Visitor
from gateway.status.snapshot import Facts, PlannedDevice, Snapshot, snapshot
from gateway.status.verdict import Trouble
from tests.gateway.status.shop import IMAGE, SCRIPT, FakeGateway, passed, sale

PAGE = Page("Asia/Shanghai")
RENDERED = [name for name, plan in PAGES.items() if plan.parts]  # the others are forms with routes of their own
VOID = {"meta", "input", "link", "rect", "path"}


class Markup(HTMLParser):
    """What a browser would make of it: elements with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def facts(gateway: FakeGateway) -> Iterator[Facts]:
    gateway.keep(passed(9, 4), sale("12.50"), sale("7.50"))
    gateway.count()
    observer = Observer(gateway)
    yield observer.observe()
    observer.close()


STAFF = Visitor(role="staff", account="Ann")


def test_single_sales_and_events_are_not_for_who_is_not_signed_in(facts: Facts) -> None:
    assert "events" in PAGE.parts("today", snapshot(facts), "en", "staff")
    assert "events" not in PAGE.parts("today", snapshot(facts), "en")
    assert "客流 +9 −4" not in Markup(PAGE.page("today", snapshot(facts), "zh_CN")).text


def test_members_who_were_recognised_are_for_staff_only_and_their_hints_are_text(facts: Facts) -> None:
    guest = Guest(visit="c1", lane=IMAGE, since_ms=0, text=SCRIPT, tier=IMAGE, language="zh_CN", coupons=("C-1", "C-2"))
    shown = snapshot(msgspec.structs.replace(facts, guests=(guest,)))
    assert "guests" not in PAGE.parts("today", shown, "en")
    part = PAGE.parts("today", shown, "en", "staff")["guests"]
    markup = Markup(part)
    assert SCRIPT in markup.text and "C-1, C-2" in markup.text
    assert not {"script", "img"} & {element for element, _ in markup.elements}
    assert ("span", {"class": "what", "lang": "zh-CN"}) in markup.elements
    assert PAGE.parts("today", snapshot(facts), "en", "staff")["guests"].strip() == ""


def pages(shown: Snapshot) -> Iterator[Markup]:
    for language in LANGUAGES:
        for name in RENDERED:
            yield Markup(PAGE.page(name, shown, language, STAFF))


def test_every_page_is_well_formed_in_both_languages_and_asks_nobody_outside(facts: Facts) -> None:
    for markup in pages(snapshot(facts)):
        for tag, attributes in markup.elements:
            for name in ("src", "href"):
                target = attributes.get(name)
                assert target is None or (target.startswith(("/", "?", "#")) and not target.startswith("//")), target
            assert "style" not in attributes and not any(name.startswith("on") for name in attributes), tag


def test_today_shows_the_numbers_of_the_read_models(facts: Facts) -> None:
    text = Markup(PAGE.page("today", snapshot(facts), "zh_CN", STAFF)).text
    assert "¥20.00" in text and "¥10.00" in text and "22.2%" in text and "客流 +9 −4" in text


def test_without_a_journal_the_page_shows_dashes_and_no_zero(facts: Facts) -> None:
    bare = msgspec.structs.replace(facts, day=None, streams=None, storage=None, events=(), rate=None)
    for name in RENDERED:
        html = PAGE.page(name, snapshot(bare), "en")
        assert "The numbers come as soon as the journal is open." in html or name in ("devices", "alerts")


def test_a_figure_nobody_knows_is_a_dash_with_its_reason(facts: Facts) -> None:
    assert facts.day is not None
    dark = msgspec.structs.replace(
        facts, day=msgspec.structs.replace(facts.day, lines=(), people_hours=(), tills_live=0)
    )
    text = Markup(PAGE.page("today", snapshot(dark), "en")).text
    assert (
        "The people counter has said nothing today" in text
        and "≥2" in text.replace("\n", "")
        and "No till is connected" in text
    )


@pytest.mark.parametrize("name", sorted(words.TROUBLES))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_trouble_can_be_said(facts: Facts, name: str, language: str) -> None:
    advice = words.TROUBLES[name]
    given = dict.fromkeys(("streams", "stream", "worker", "devices", "device", "zone"), "x")
    trouble = Trouble(severity="warning", key=name, parameters={
        **given, "heard_s": 9.0, "left_s": 9.0, "oldest_s": 9.0, "waiting": 1, "messages": 1, "events": 1,
        "wal_bytes": 1,
    }, since_s=60.0, detail="raw")  # fmt: skip
    values = {**PAGE._values(snapshot(facts), language), "troubles": [trouble]}
    html = PAGE._part("trouble", values)
    assert "%(" not in html and "<h2></h2>" not in html and advice.title
    Markup(html)


def hostile(facts: Facts) -> Facts:
    """Whatever a device or a configuration can name is named as an attack."""
    report: dict[str, Any] = {"driver": SCRIPT, "zone": IMAGE}
    names = [f"{SCRIPT}{number}" for number in range(5)]
    conditions = ["live", "stale", "faulted", "never_seen", "disabled"]
    return msgspec.structs.replace(
        facts,
        planned=tuple(PlannedDevice(name=it, worker="line-x" + it, sales=True, **report) for it in names),
        reports=tuple(
            DeviceReport(name=it, condition=condition, reason=SCRIPT, hint=IMAGE, heard_s=9.0, **report)  # type: ignore[arg-type]
            for it, condition in zip(names, conditions, strict=True)
        ),
        alerts=AlertsView(
            now=(
                Alert(
                    number=1,
                    id="device:x",
                    rule="device_dark",
                    key="never_seen",
                    severity="warning",
                    raised_ms=1,
                    parameters={"device": SCRIPT, "zone": IMAGE},
                ),
            ),
            hooks=(HookState(name=SCRIPT, waiting=1, problem=IMAGE),),
        ),
        workers=(WorkerState(name=IMAGE, state="failed", stage=0, essential=False, reason=SCRIPT, hint=IMAGE),),
    )


def test_no_text_of_a_device_or_a_tag_becomes_markup(gateway: FakeGateway) -> None:
    gateway.keep(
        types.BeaconArrived(scheme="ibeacon", beacon=SCRIPT, receiver=IMAGE),
        types.RfidArrived(
            epc=SCRIPT, epc_hex=IMAGE, gtin=SCRIPT, serial=IMAGE, reader="r", reads=1, first_seen="", last_seen=""
        ),
        types.BarcodeScanned(scanner="s", digital_link=IMAGE),
        types.SensorRead(sensor="s", quantity=SCRIPT, value=1.0, unit=IMAGE),
        types.AlarmRaised(what=SCRIPT),
        sale(),
        zone=IMAGE,
    )
    gateway.count()
    observer = Observer(gateway)
    shown = snapshot(hostile(observer.observe()))
    observer.close()
    seen = 0
    for markup in pages(shown):
        assert [it for tag, it in markup.elements if tag in ("img", "iframe", "object")] == []
        assert [it for tag, it in markup.elements if tag == "script"] == [
            {"src": next(it["src"] for tag, it in markup.elements if tag == "script"), "defer": None}
        ]
        assert not any(name.startswith("on") for _, it in markup.elements for name in it)
        seen += SCRIPT in markup.text or IMAGE in markup.text
    assert seen == len(RENDERED) * len(LANGUAGES)


def test_what_happens_in_one_part_does_not_change_the_others(facts: Facts) -> None:
    before = PAGE.parts("today", snapshot(facts), "en", "staff")
    line = msgspec.structs.replace(
        facts.events[0], parameters={"people_in": 77, "people_out": 0, "net_money": "77 CNY"}
    )
    after = PAGE.parts("today", snapshot(msgspec.structs.replace(facts, events=(line,))), "en", "staff")
    assert [part for part in before if before[part] != after[part]] == ["events"]
