"""Key figures say what is known, how much of it was seen, and why there is none; never a zero for a dark source."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway.clock import rfc3339_s
from gateway.errors import ConfigError
from gateway.projections.footfall import Passed
from gateway.projections.kpi import HOUR_MS, NAMES, Kpis, Sources, day_kpis, hour_kpis, inside_on
from gateway.projections.kpi_rows import read_rows
from gateway.projections.kpi_view import read_day
from gateway.projections.occupancy import inside
from gateway.projections.opening import day_span, opening
from gateway.projections.projector import read_models
from gateway.projections.store_time import StoreTime
from tests.gateway.projections.tables import Tables, ms

ZONE = "Asia/Shanghai"
DAY = "2026-11-20"
TEN = ms(f"{DAY}T10:00:00+08:00")
NIGHT = ms("2026-11-21T12:00:00+08:00")
SHOP = Sources(True, ("till",), "CNY", opening("10:00-12:00"))


class Shop(Tables):
    """A shop that is open from ten to twelve."""

    def __init__(self) -> None:
        super().__init__(read_models(ZONE))
        self.time = StoreTime(ZONE)

    def minutes(
        self, count: int = 120, begin: int = TEN, in_: int = 1, out: int = 0, coverage: float = 1.0, line: str = "door"
    ) -> None:
        for number in range(count):
            at = begin + number * 60_000
            self.tell(
                "footfall.counted", at + 60_000, line=line, entrance="front", interval_start=rfc3339_s(at / 1000),
                interval_s=60.0, in_=in_, out=out, quality={"coverage": coverage, "detector": "d"},
            )  # fmt: skip

    def beats(self, count: int = 120, begin: int = TEN, **devices: str) -> None:
        for number in range(count):
            self.tell("gateway.heartbeat", begin + number * 60_000, devices=devices or {"till": "live"})

    def sales(self, count: int, net: str = "10.00", at: int = TEN + 60_000, **more: Any) -> None:
        for _ in range(count):
            self.tell("pos.sale", at, kind="sale", currency="CNY", totals={"net": net, "item_count": "2"}, **more)

    def day(self, sources: Sources = SHOP, day: str = DAY, last: str = "", now: int = NIGHT) -> Kpis:
        return day_kpis(read_rows(self.query, day, last or day, self.time), sources, self.time, now)

    def hour(self, at: int = TEN, sources: Sources = SHOP, now: int = NIGHT) -> Kpis:
        return hour_kpis(read_rows(self.query, DAY, DAY, self.time), sources, self.time, at, now)


@pytest.fixture
def shop() -> Shop:
    return Shop()


def test_a_whole_day_gives_every_figure_its_value_and_coverage(shop: Shop) -> None:
    shop.minutes()
    shop.beats()
    shop.sales(30)
    told = shop.day()
    assert told["footfall"].value == 120 and told["footfall"].coverage == 1.0 and not told["footfall"].at_least
    assert told["transactions"].value == 30 and told["transactions"].coverage == 1.0
    assert told["conversion"].value == Decimal("0.2500")
    assert told["basket_value"].value == Decimal("10.00") and told["units_per_basket"].value == Decimal("2.00")
    assert told["net_sales"].value == Decimal(300)
    assert set(told.figures) == set(NAMES)


def test_a_day_without_anything_has_no_zero_anywhere(shop: Shop) -> None:
    told = shop.day()
    assert told.empty
    assert all(figure.value is None and figure.reason for figure in told.figures.values())


@pytest.mark.parametrize(("sources", "reason"), [(Sources(), "not_set_up"), (Sources(counter=True), "counter_dark")])
def test_nobody_counting_and_a_dead_counter_are_not_the_same(shop: Shop, sources: Sources, reason: str) -> None:
    assert shop.day(sources)["footfall"].reason == reason


def test_a_camera_that_died_at_noon_leaves_a_lower_bound_and_no_conversion(shop: Shop) -> None:
    shop.minutes(60)
    shop.beats()
    shop.sales(30)
    told = shop.day()
    assert told["footfall"].value == 60 and told["footfall"].at_least
    assert told["footfall"].coverage == pytest.approx(0.5)
    assert told["conversion"].value is None and told["conversion"].reason == "counter_dark"
    assert told["occupancy_peak"].value is None
    assert told["basket_value"].value == Decimal("10.00")


def test_without_opening_hours_the_tills_tell_that_the_camera_ought_to_have_seen_the_afternoon(shop: Shop) -> None:
    shop.minutes(60)
    shop.sales(30, at=TEN + 2 * HOUR_MS - 1000)
    told = shop.day(Sources(True, ("till",), "CNY"))
    assert told["footfall"].coverage == pytest.approx(0.5, abs=0.01)
    assert told["conversion"].reason == "counter_dark"


def test_a_line_that_was_silent_all_day_but_spoke_yesterday_is_missed(shop: Shop) -> None:
    shop.minutes()
    shop.minutes(begin=TEN - 86_400_000, line="back")
    assert shop.day()["footfall"].coverage == pytest.approx(0.5)
    assert shop.day()["conversion"].reason in ("counter_dark", "till_dark")


def test_a_till_that_was_unplugged_is_dark_and_not_without_sales(shop: Shop) -> None:
    shop.minutes()
    shop.beats(till="faulted")
    told = shop.day()
    assert told["transactions"].value is None and told["transactions"].reason == "till_dark"
    assert told["conversion"].reason == "till_dark"


def test_a_till_in_order_that_sold_nothing_did_sell_nothing(shop: Shop) -> None:
    shop.minutes()
    shop.beats()
    told = shop.day()
    assert told["transactions"].value == 0
    assert told["conversion"].value == 0
    assert told["basket_value"].reason == "no_sales"


def test_the_newest_minutes_are_not_dark_yet(shop: Shop) -> None:
    shop.minutes(58)
    shop.beats(59)
    assert shop.day(now=TEN + HOUR_MS)["footfall"].coverage == pytest.approx(1.0)


def test_an_hour_has_figures_of_its_own(shop: Shop) -> None:
    shop.minutes()
    shop.beats()
    shop.sales(6)
    assert shop.hour()["conversion"].value == Decimal("0.1000")
    assert shop.hour(TEN + HOUR_MS)["conversion"].value == 0
    assert shop.hour(TEN - HOUR_MS)["footfall"].value is None


def test_coupons_are_counted_against_those_issued_and_those_shown(shop: Shop) -> None:
    for kind, outcome in (("coupons.issue", "done"), ("coupons.issue", "failed"), ("coupons.lease", "done")):
        shop.tell("command.completed", TEN, command="1", kind=kind, outcome=outcome, result={"issued": 40, "keys": 0})
    for step, count in (("reserved", 8), ("redeemed", 6), ("released", 2), ("refused", 2)):
        for _ in range(count):
            shop.tell(f"coupon.{step}", TEN + 1000, coupon="c")
    told = shop.day()
    assert told["redemption_issued"].value == Decimal("0.1500")
    assert told["redemption_presented"].value == Decimal("0.6000")


@pytest.mark.parametrize(
    ("returning", "known", "value", "reason"),
    [
        (5, 20, Decimal("0.2500"), ""), (2, 20, None, "few"), (18, 20, None, "few"), (2, 4, None, "few"),
        (0, 20, Decimal("0.0000"), ""), (0, 0, None, "not_known"),
    ],
)  # fmt: skip
def test_repeat_share_speaks_of_five_persons_or_none(
    shop: Shop, returning: int, known: int, value: Decimal | None, reason: str
) -> None:
    for number in range(known):
        shop.tell(
            "visit.closed", TEN, visit_id=f"v{number}", opened_by="app_qr", confidence=1, algorithm="1",
            entered_at=rfc3339_s(TEN / 1000), left_at=rfc3339_s(TEN / 1000 + 600), returning=number < returning,
        )  # fmt: skip
    told = shop.day()["repeat_share"]
    assert (told.value, told.reason) == (value, reason)


def test_members_share_of_the_sales(shop: Shop) -> None:
    shop.beats()
    shop.sales(6, loyalty={"day_key": "k", "sealed": "s"})
    shop.sales(6)
    assert shop.day()["member_share"].value == Decimal("0.5000")


def test_scores_become_nps_or_smiles_and_few_answers_nothing(shop: Shop) -> None:
    for score, count in ((10, 6), (7, 2), (3, 2)):
        for _ in range(count):
            shop.tell("feedback.given", TEN, question_id="would you", score=score, device="k")
    for score in (4, 4, 3, 1):
        shop.tell("feedback.given", TEN, question_id="smile", score=score, device="k")
    assert shop.day()["nps"].value == 40
    assert shop.day()["smile_share"].reason == "few"
    shop.tell("feedback.given", TEN, question_id="smile", score=2, device="k")
    assert shop.day()["smile_share"].value == Decimal("0.6000")


def test_an_answer_is_taken_by_the_scale_that_its_device_named(shop: Shop) -> None:
    """`nps-stand` gives smileys and says so; `mood` gives 1 to 4 of ten and says so: neither name nor range decides."""
    for score in (4, 4, 4, 1, 1):
        shop.tell("feedback.given", TEN, question_id="nps-stand", score=score, device="k", scale="smiley")
    for score in (2, 2, 3, 1, 4):
        shop.tell("feedback.given", TEN, question_id="mood", score=score, device="k", scale="nps")
    shop.tell("feedback.given", TEN, question_id="nps-stand", score=9, device="k", scale="smiley")
    assert shop.day()["smile_share"].value == Decimal("0.6000")
    assert shop.day()["nps"].value == -100


def test_zones_and_queues_add_up_over_the_minutes(shop: Shop) -> None:
    for number in range(120):
        at = TEN + number * 60_000
        start, quality = rfc3339_s(at / 1000), {"coverage": 1.0, "detector": "d"}
        shop.tell(
            "zone.occupied", at + 60_000, zone="shoes", interval_start=start, interval_s=60.0, mean=2.0, peak=3,
            visitors=2, dwell_s={"p50": 30.0, "p90": 60.0, "mean": 45.0, "n": 2}, quality=quality,
        )  # fmt: skip
        shop.tell(
            "queue.measured", at + 60_000, zone="checkout", interval_start=start, interval_s=60.0, length_mean=1.5,
            length_peak=4, wait_s_p50=20.0, wait_s_p90=100.0 if number < 12 else 50.0, quality=quality,
        )  # fmt: skip
    told = shop.day()
    (zone,) = told.zones
    (queue,) = told.queues
    assert (zone.mean_persons, zone.peak, zone.share, zone.stays) == (2.0, 3, 1.0, 240)
    assert zone.dwell_mean_s == pytest.approx(45) and zone.dwell_p90_s == pytest.approx(60, rel=0.03)
    assert (queue.length_mean, queue.length_peak) == (1.5, 4)
    assert float(told["queue_p90_s"].value or 0) == pytest.approx(50, rel=0.03)
    assert told["queue_peak"].value == 4


def test_a_zone_of_a_few_stays_tells_no_dwell(shop: Shop) -> None:
    shop.tell(
        "zone.occupied", TEN + 60_000, zone="z", interval_start="", interval_s=60.0, mean=1.0, peak=1, visitors=1,
        dwell_s={"p50": 30.0, "p90": 60.0, "mean": 45.0, "n": 4}, quality={"coverage": 1.0, "detector": "d"},
    )  # fmt: skip
    (zone,) = shop.day().zones
    assert zone.stays is None and zone.dwell_mean_s is None and zone.dwell_p90_s is None


def test_inside_is_in_minus_out_since_opening_and_never_below_zero() -> None:
    passed = [Passed(0, 9, 0), Passed(10, 3, 0), Passed(20, 0, 5), Passed(30, 4, 0)]
    found = inside(passed, since_ms=5, hours=(5, 25))
    assert (found.people, found.peak, found.restarts) == (4, 4, 1)
    assert found.peaks == {5: 3, 25: 4}
    assert inside([], 0).at_ms is None


def test_a_shop_open_past_midnight_keeps_who_is_inside(shop: Shop) -> None:
    bar = Sources(True, (), "CNY", opening("18:00-02:00"))
    evening = ms(f"{DAY}T20:00:00+08:00")
    shop.minutes(10, evening)
    rows = read_rows(shop.query, "2026-11-21", "2026-11-21", shop.time)
    one = ms("2026-11-21T01:00:00+08:00")
    assert inside_on(rows, bar, shop.time, "2026-11-21", one).people == 10
    assert inside_on(rows, bar, shop.time, "2026-11-21", ms("2026-11-21T19:00:00+08:00")).people == 0


def test_a_day_is_shown_beside_the_same_weekday_up_to_the_same_hour(shop: Shop) -> None:
    week_ms = 7 * 86_400_000
    shop.minutes()
    shop.minutes(begin=TEN - week_ms, in_=2)
    view = read_day(shop.query, DAY, SHOP, shop.time, TEN + HOUR_MS + 1_800_000)
    assert view.compared_day == "2026-11-13"
    assert (view.so_far["footfall"].value, view.compared["footfall"].value) == (60, 120)
    assert view.kpis["footfall"].value == 120 and view.inside is not None and view.inside.people == 90
    assert view.series("footfall") == (60, 60)
    assert [point.hour for point in view.hours] == [10, 11]


def test_the_day_of_a_clock_change_has_its_real_length() -> None:
    berlin = StoreTime("Europe/Berlin")
    hours = [(end - begin) / HOUR_MS for begin, end in (day_span(day, berlin) for day in ("2026-03-29", "2026-10-25"))]
    assert hours == [23, 25]


@pytest.mark.parametrize("text", ["10", "10:00", "25:00-26:00", "a-b", "10:00-22:00-23:00", "10:00-24:30"])
def test_opening_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="opening hours"):
        opening(text)


def test_opening_hours_may_end_at_midnight_or_after() -> None:
    time = StoreTime(ZONE)
    late = opening("10:00-24:00")
    assert late is not None and late.spans(DAY, time) == [(TEN, ms("2026-11-20T16:00:00Z"))]
    bar = opening("18:00-02:00")
    assert bar is not None and [(end - begin) // HOUR_MS for begin, end in bar.spans(DAY, time)] == [2, 6]
    assert opening("") is None


def test_a_week_of_which_a_day_has_lost_its_intervals_has_no_peak(shop: Shop) -> None:
    shop.minutes()
    shop.minutes(begin=TEN - 86_400_000, in_=2)
    assert shop.day(day="2026-11-19", last=DAY)["occupancy_peak"].value == 240
    shop.connection.execute("DELETE FROM footfall_interval WHERE day = '2026-11-19'")
    assert shop.day(day="2026-11-19", last=DAY)["occupancy_peak"].reason == "not_kept"
    assert shop.day()["occupancy_peak"].value == 120


def test_an_hour_that_the_shop_was_closed_in_is_not_dark(shop: Shop) -> None:
    shop.minutes()
    shop.beats()
    night = shop.hour(TEN - 5 * HOUR_MS)
    assert (night["footfall"].reason, night["transactions"].reason) == ("closed", "closed")
    assert shop.hour(TEN + HOUR_MS, now=TEN)["transactions"].reason == "not_yet"
