"""The demo end to end: a shop on real bytes, a real gateway, faults, and books that agree."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from config.loader import parse
from devices.plan import plan
from devices.simulator.ledger import Ledger
from devices.simulator.members import Club
from devices.transports.broker import find_broker
from gateway.clock import FakeClock
from gateway.demo.books import Kept, Line, compared, persons
from gateway.demo.gateway import News, SteppedClock, obey
from gateway.demo.history import DETECTOR, afternoon, past
from gateway.demo.plan import DemoPlan, Outcome
from gateway.demo.platform import Place, delivered
from gateway.demo.process import GatewayPlan
from gateway.demo.show import Demo
from gateway.errors import ConfigError, Unavailable
from gateway.event import STREAMS, Origin, draft
from gateway.event_types import ButtonPressed
from gateway.journal.cursor import acknowledge
from gateway.journal.reader import JournalReader
from gateway.journal.writer import JournalWriter
from gateway.projections.store_time import StoreTime
from sync.platform.store import PlatformStore
from sync.uplink import Lane

E2E = pytest.mark.timeout(170)


def has_broker() -> bool:
    try:
        find_broker()
    except Unavailable:
        return False
    return True


def played(data: Path, **how: object) -> tuple[Outcome, list[str], dict[str, int]]:
    """A demo without a page, its outcome, what it said, and how many events of each type the journal holds."""
    said: list[str] = []
    settings = {"page_port": 0, "speed": 600.0} | how
    outcome = Demo(msgspec.convert({"data": str(data), **settings}, DemoPlan, dec_hook=lambda kind, value: kind(value)),
                   said.append).run(threading.Event())  # fmt: skip
    types: Counter[str] = Counter()
    with JournalReader(data / "journal.db") as reader:
        for state in outcome.states:
            after = 0
            while batch := reader.read(state.stream, after):
                after = batch[-1].position
                types.update(event.decode()["type"] for event in batch)
    return outcome, said, types


def with_events(journal: Path, clock: FakeClock, count: int, acked: int) -> None:
    """A journal with so many observations, the first of which are delivered."""
    writer = JournalWriter(journal, "gw01", clock)
    writer.open()
    data = ButtonPressed(button="b", value="single")
    one = draft("observations", "store.button.pressed.v1", data, source="//t1/b", at=clock.now())
    writer.append([one] * count)
    writer.transact(lambda connection: acknowledge(connection, "observations", acked, {}, now_ms=0))
    writer.close()


def line(outcome: Outcome, what: str) -> tuple[int, int, int, int]:
    """Shop, journal, missing and too many of one line of the books."""
    found = next(each for each in outcome.lines if each.what == what)
    return found.shop, found.journal, found.missing, found.extra


@E2E
@pytest.mark.broker
@pytest.mark.skipif(not has_broker(), reason="no embedded broker for this platform")
def test_a_quiet_day_is_kept_whole_and_a_second_run_adds_to_it(tmp_path: Path) -> None:
    """Without faults every sale, scan, visitor, answer and tag of the shop is in the journal once, run after run.

    Members are named where they agreed and nowhere else, at the platform too, and one of them is forgotten to the byte.
    """
    first, said, types = played(tmp_path, for_s=6.5)
    assert first.in_order, first.lines
    assert all(line(first, what)[:2] == (line(first, what)[0],) * 2 for what in ("sales", "scans", "side door in"))
    assert line(first, "sales")[0] > 3
    assert line(first, "side door in")[0] > 20
    assert line(first, "tags")[0] > 0
    for what in ("members", "consents", "points", "door codes", "profiles"):
        assert line(first, what)[0] > 0, what
    assert line(first, "forgotten") == (1, 1, 0, 0)
    assert first.restarts == 0
    for kind in ("pos.sale", "barcode.scanned", "rfid.arrived", "beacon.arrived", "footfall.counted", "sensor.read"):
        assert types[f"store.{kind}.v1"] > 0, kind
    assert any("shop is open" in text for text in said)
    second, _, more = played(tmp_path, for_s=3.5)
    assert second.in_order, second.lines
    assert more["store.pos.sale.v1"] == line(first, "sales")[1] + line(second, "sales")[1]


@E2E
@pytest.mark.broker
@pytest.mark.skipif(not has_broker(), reason="no embedded broker for this platform")
def test_pulled_plugs_bad_cables_poison_and_a_stepped_clock_lose_nothing_unexplained(tmp_path: Path) -> None:
    """Four faults, each at least once: the books agree, the poison is in quarantine and the outage is an event."""
    faults = ["unplug", "corrupt", "clock", "till-poison"]
    outcome, said, types = played(tmp_path, for_s=12.0, faults=faults, pace=10.0)
    assert outcome.in_order, outcome.lines
    assert set(outcome.seen_faults) == set(faults)
    assert all(any(f"fault begins {name}" in text for text in said) for name in faults)
    assert any("fault ends   unplug" in text for text in said)
    assert line(outcome, "sales")[0] > 5
    assert types["store.device.state.v1"] > 0
    with JournalReader(tmp_path / "journal.db") as reader:
        assert reader.query("SELECT count(*) AS n FROM quarantine")[0]["n"] == 4 * outcome.seen_faults["till-poison"]


@E2E
@pytest.mark.broker
@pytest.mark.skipif(not has_broker(), reason="no embedded broker for this platform")
def test_a_flood_a_stopped_broker_a_full_quota_and_a_killed_gateway_lose_no_sale(tmp_path: Path) -> None:
    """Tills keep what they have to say, the broker keeps it for a gateway that is away: every sale is there once.

    So is every visitor, because the door counter numbers its messages. What has no number may come twice.
    """
    faults = ["flood", "broker", "disk-full", "kill"]
    outcome, said, _ = played(tmp_path, for_s=14.0, faults=faults, pace=8.0)
    assert set(outcome.seen_faults) == set(faults)
    assert outcome.restarts >= 3  # killed once, and started twice with another quota
    assert line(outcome, "sales")[0] > 5
    for what in ("sales", "side door in", "side door out"):
        assert line(outcome, what)[2:] == (0, 0), outcome.lines
    assert any("fault ends   broker" in text for text in said)


@E2E
def test_a_cut_line_to_the_platform_loses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    """While requests and answers are lost events wait and the terminal says so; then the platform has each once.

    A second run without a platform leaves its events pending, and a third delivers those, too.
    """
    how = {"faults": ["uplink"], "pace": 4.0, "broker": "none"}
    outcome, said, types = played(tmp_path, for_s=8.5, **how)
    assert outcome.in_order, outcome.lines
    assert outcome.seen_faults["uplink"] >= 1
    assert any("fault begins uplink" in text for text in said)
    assert any("events wait for the platform" in text and not text.startswith("0 ") for text in said)
    held, acked, missing, extra = line(outcome, "deliveries")
    assert (missing, extra) == (0, 0)
    assert held >= acked == sum(state.acked for state in outcome.states) > 20
    assert sum(state.pending for state in outcome.states) <= 10  # what the gateway's own end has brought
    assert held <= sum(types.values())
    alone, _, _ = played(tmp_path, for_s=2.5, broker="none", platform=False)
    assert sum(state.pending for state in alone.states) > 5
    assert all(each.what != "deliveries" for each in alone.lines)
    again, _, _ = played(tmp_path, for_s=2.5, broker="none")
    assert again.in_order, again.lines
    assert line(again, "deliveries")[1] >= sum(state.pending for state in alone.states)


def test_deliveries_that_are_missing_doubled_or_invented_are_found(tmp_path: Path) -> None:
    """Each is counted against the journal's own bytes; an answer that was lost is told and is no fault."""
    journal, database = tmp_path / "journal.db", tmp_path / "platform.db"
    clock = FakeClock()
    with_events(journal, clock, 5, acked=3)
    with JournalReader(journal) as reader:
        written = reader.read("observations", 0)
    lane = Lane("gw01", "observations", written[0].epoch)

    def books(bodies: list[bytes]) -> Line:
        database.unlink(missing_ok=True)
        store = PlatformStore(database)
        store.open()
        store.open_epoch(lane, "fresh", None)
        if bodies:
            store.consume(lane, 1, len(bodies), b"[" + b",".join(bodies) + b"]")
        store.close()
        return delivered(journal, database, Place(dict.fromkeys(STREAMS, 0), {}, 0))

    whole = books([event.json for event in written[:3]])
    assert (whole.shop, whole.journal, whole.in_order) == (3, 3, True)
    assert "2 still wait" in whole.note
    assert books([event.json for event in written[:2]]).missing == 1
    more = books([event.json for event in written])
    assert more.in_order and "2 more arrived" in more.note
    altered = [*(event.json for event in written[:2]), written[2].json[:-1] + b" }"]
    assert (books(altered).missing, books(altered).extra) == (1, 1)


def test_the_uplink_cannot_be_cut_where_there_is_none(tmp_path: Path) -> None:
    """`--fault uplink --no-platform` is refused with what to do."""
    from gateway.commands.demo import demo

    with pytest.raises(ConfigError, match="no line to cut"):
        demo(tmp_path, 0, 60.0, 1, ["uplink"], 1.0, platform=False)


@E2E
def test_without_a_broker_the_shop_works_on_serial_lines_and_says_so(tmp_path: Path) -> None:
    """Every sale goes over the printing till and is kept."""
    outcome, said, types = played(tmp_path, for_s=5.0, broker="none")
    assert outcome.in_order, outcome.lines
    assert line(outcome, "sales")[0] > 3
    assert line(outcome, "side door in")[:2] == (0, 0)
    assert types["store.rfid.arrived.v1"] > 0
    assert any("serial devices only" in text for text in said)


def test_a_taken_port_is_a_message_not_a_traceback(tmp_path: Path) -> None:
    """`storefront demo` on a port in use ends at once with 78 and says what to do; nothing is left running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "gateway", "demo", "--data", str(tmp_path), "--port", str(port), "--for", "5"],
            capture_output=True, text=True, timeout=60, check=False, env={**os.environ},
        )  # fmt: skip
    assert ended.returncode == 78
    assert f"--port {port + 1}" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_unknown_fault_is_told_with_those_there_are(tmp_path: Path) -> None:
    """The hint names every fault."""
    from gateway.commands.demo import demo

    with pytest.raises(ConfigError) as caught:
        demo(tmp_path, 0, 60.0, 1, ["earthquake"], 1.0)
    assert "unplug" in caught.value.hint


@pytest.mark.parametrize(("broker_port", "devices"), [(2883, 9), (0, 4)])
def test_the_written_configuration_is_one_that_run_takes(tmp_path: Path, broker_port: int, devices: int) -> None:
    """Every starred place is filled, also in a folder with a difficult name, and the rest is untouched."""
    data = tmp_path / 'a "shop" \\ ü'
    made = GatewayPlan(data=data, page_port=0, broker_port=broker_port, quota_mib=8)
    settings = parse(made.toml(), "demo")
    assert Path(settings.storage.directory) == data
    assert settings.storage.max_mib == 8
    assert not settings.page.enabled
    assert (settings.broker.mode, settings.broker.url) == (
        ("external", "mqtt://127.0.0.1:2883") if broker_port else ("none", "")
    )
    assert len(plan(settings, "demo")) == devices
    assert {Path(each.address).parent for each in settings.devices if each.address} == {data / "demo" / "dev"}


def test_the_past_ends_now_follows_the_shops_day_and_week_and_says_that_it_is_made_up() -> None:
    """Both doors in every hour that is open, sales of a week, up to this minute; () for no days."""
    clock, zone = FakeClock(), StoreTime("Asia/Shanghai")
    now = datetime(2026, 11, 18, 15, 20, 30, tzinfo=ZoneInfo("Asia/Shanghai")).timestamp()
    clock.advance(now - clock.now().wall_s)
    at, origin = clock.now(), Origin("t1", "0001", "gw01")
    how = {"visitors": 2000.0, "main_share": 0.4, "seed": 1, "tills": ("till-1",)}
    told = [msgspec.json.decode(it.body) for it in past(origin, at, zone, 28, **how)]  # type: ignore[arg-type]
    assert all("/replayed/" in it["source"] for it in told)
    counts = [it["data"] for it in told if it["type"] == "store.footfall.counted.v1"]
    sales = [it for it in told if it["type"] == "store.pos.sale.v1"]
    assert len(counts) == (28 * 12 + 6) * 2 and {it["quality"]["detector"] for it in counts} == {DETECTOR}
    last = max(counts, key=lambda it: str(it["interval_start"]))
    assert last["interval_s"] == 20 * 60
    inside = [it for it in counts if it["in"] != it["out"]]
    assert {it["interval_start"] for it in inside} == {last["interval_start"]}
    assert 0 < sum(it["in"] - it["out"] for it in inside) < 20  # who is still there
    by_day: Counter[str] = Counter()
    by_hour: Counter[int] = Counter()
    for it in counts:
        start = datetime.fromisoformat(it["interval_start"]).astimezone(zone.zone)
        by_day[start.date().isoformat()] += it["in"]
        by_hour[start.hour] += it["in"]
    assert by_day.pop("2026-11-18") < 1100 and sum(by_day.values()) / 28 == pytest.approx(2000, rel=0.03)
    assert by_day["2026-11-14"] > 1.3 * by_day["2026-11-16"]  # Saturday, Monday
    assert set(by_hour) == set(range(10, 22)) and by_hour[16] > 2 * by_hour[21]
    days = Counter(str(it["data"]["business_date"]) for it in sales)
    assert sorted(days) == [f"2026-11-{day}" for day in range(11, 19)]
    assert days["2026-11-17"] == pytest.approx(0.35 * 2000 * 0.84, rel=0.15)
    assert len({it["data"]["transaction_id"] for it in sales}) == len(sales)
    beats = [it for it in told if it["type"] == "store.gateway.heartbeat.v1"]
    assert len(beats) == (7 * 12 + 5) * 60 + 20 and all(it["data"]["devices"] == {"till-1": "live"} for it in beats)
    assert max(datetime.fromisoformat(it["time"]).timestamp() for it in told) <= now
    assert list(past(origin, at, zone, 0, **how)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("hour", range(24))
def test_the_demos_shop_lies_where_its_day_has_a_past_and_a_future(hour: int) -> None:
    """Shanghai as long as it is afternoon there."""
    at = datetime(2026, 3, 20, hour, 30, tzinfo=UTC)
    zone = afternoon(at)
    assert 12 <= at.astimezone(ZoneInfo(zone)).hour <= 18
    assert (zone == "Asia/Shanghai") == (4 <= hour <= 10)


@E2E
def test_the_replayed_past_reaches_the_page_of_a_new_journal_and_is_no_visitor_of_today(tmp_path: Path) -> None:
    """It is in the journal once, with past times, and in nobody's books; a second run adds none."""
    how = {"for_s": 4.0, "broker": "none", "platform": False, "history_days": 21, "visitors": 400.0}
    outcome, said, types = played(tmp_path, **how)
    assert outcome.in_order, outcome.lines
    assert any("made up" in text for text in said)
    assert types["store.footfall.counted.v1"] >= 21 * 12 * 2
    assert types["store.pos.sale.v1"] > 7 * 100
    again, more, types_again = played(tmp_path, **how)
    assert again.in_order and not any("made up" in text for text in more)
    assert types_again["store.footfall.counted.v1"] < types["store.footfall.counted.v1"] + 50


def test_the_stepped_clock_moves_the_wall_alone_and_says_so() -> None:
    """Monotonic time is untouched; the quality is `stepped` for ten minutes; the end of orders ends the gateway."""
    true = FakeClock()
    clock, stop = SteppedClock(true), threading.Event()
    before = clock.now()
    assert before == true.now()
    obey(["step 3600\n", "nonsense\n"], clock, stop)
    after = clock.now()
    assert (after.wall_s - before.wall_s, after.mono_us - before.mono_us, after.quality) == (3600.0, 0, "stepped")
    assert stop.is_set()
    true.advance(601.0)
    assert clock.now().quality == "ntp"


def test_the_log_of_a_demo_tells_trouble_and_its_end_only() -> None:
    """Warnings pass; of the rest only the first word that what they spoke of is well again."""
    import logging

    news = News()

    def told(level: int, text: str) -> bool:
        return news.filter(logging.LogRecord("x", level, "x", 1, text, (), None))

    assert not told(logging.INFO, "worker=line-gate state=running")
    assert told(logging.WARNING, "worker=line-gate state=waiting")
    assert told(logging.WARNING, "mqtt down broker=x")
    assert not told(logging.INFO, "worker=line-scanner state=running")
    assert told(logging.INFO, "worker=line-gate state=running")
    assert not told(logging.INFO, "worker=line-gate state=running")
    assert told(logging.INFO, "mqtt up broker=x")


def test_the_books_find_what_is_missing_what_is_twice_and_what_is_wrong() -> None:
    """A lost sale, a doubled one, one that nobody made, wrong money, an unseen tag: each is a line out of order."""

    def ledger() -> Ledger:
        books = Ledger()
        books.sold("till-1", "1", Decimal("5.00"))
        books.sold("till-1", "2", Decimal("6.00"))
        for at_s in (0.0, 0.1, 0.2, 0.3):
            books.tag("gate", "AB", at_s)
        return books

    def kept() -> Kept:
        return Kept(
            sales=Counter({("till-1", "1"): 1, ("till-1", "2"): 1}), money=Decimal("11.00"),
            tags=Counter({("gate", "AB"): 1}),
        )  # fmt: skip

    assert all(each.in_order for each in compared(ledger(), kept()))
    lost, doubled, invented, wrong, unseen, strange = (kept() for _ in range(6))
    del lost.sales[("till-1", "2")]
    lost.money = Decimal("5.00")
    doubled.sales[("till-1", "2")] = 2
    invented.sales[("till-1", "3")] = 1
    wrong.money = Decimal("12.00")
    unseen.tags.clear()
    strange.tags[("gate", "CD")] = 1
    for bad, what in ((lost, "sales"), (doubled, "sales"), (invented, "sales"), (wrong, "sales"), (unseen, "tags"),
                      (strange, "tags")):  # fmt: skip
        assert [each.what for each in compared(ledger(), bad) if not each.in_order] == [what]


def test_the_books_find_a_member_who_is_not_named_one_who_must_not_be_and_a_coupon_taken_twice() -> None:
    """Each is a line out of order; what a member said while the gateway was away proves nothing."""
    club = Club(1, 0.0)
    agrees = next(it for it in club.members if it.habit == "agrees")
    refuses = next(it for it in club.members if it.habit == "refuses")
    club.said(agrees, "granted", 100.0)
    club.sold(("till-1", "1"), agrees)
    club.sold(("till-1", "2"), refuses)
    club.redeemed["C1"] = ("till-1", "1")
    club.points = 2

    def kept(named: dict[str, int], redeemed: dict[str, int]) -> Kept:
        sales = Counter({("till-1", number): 1 for number in "123"})
        return Kept(
            sales=sales, named=Counter({("till-1", number): times for number, times in named.items()}),
            redeemed=Counter(redeemed), consents=2, points=2,
        )  # fmt: skip

    def wrong(named: dict[str, int], redeemed: dict[str, int]) -> dict[str, tuple[int, int]]:
        found = persons(club, kept(named, redeemed))
        return {each.what: (each.missing, each.extra) for each in found if not each.in_order}

    assert wrong({"1": 1, "2": 0}, {"C1": 1}) == {}
    assert wrong({"1": 0}, {"C1": 1}) == {"members": (1, 0)}
    assert wrong({"1": 1, "2": 1}, {"C1": 1}) == {"members": (0, 1)}
    assert wrong({"1": 1, "3": 1}, {"C1": 1}) == {"members": (0, 1)}
    assert wrong({"1": 1}, {}) == {"coupons": (1, 0)}
    assert wrong({"1": 1}, {"C1": 2}) == wrong({"1": 1}, {"C1": 1, "C9": 1}) == {"coupons": (0, 1)}
    club.away(130.0)
    assert wrong({"1": 0}, {"C1": 1}) == {"members": (1, 0)}  # long after
    club.away(101.0)
    assert wrong({"1": 0}, {"C1": 1}) == {}
