"""Each read model folds events into sums that add up, by the store's day, and passes over what is no such event."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event import STREAMS, Stream
from gateway.journal.reader import StoredEvent
from gateway.projections import coupons, devices, feedback, footfall, heat, sales, stock, visits
from gateway.projections.coupons import Coupons
from gateway.projections.devices import DeviceEvents
from gateway.projections.feedback import Feedback
from gateway.projections.footfall import Footfall
from gateway.projections.heat import Heat
from gateway.projections.projection import Fact, Projection, Table, fact_of
from gateway.projections.projector import forget_days, read_models
from gateway.projections.sales import Sales
from gateway.projections.spread import quantile, slot
from gateway.projections.stock import StockByZone
from gateway.projections.store_time import StoreTime
from gateway.projections.visits import Visits

SHANGHAI = StoreTime("Asia/Shanghai")
TYPES = [
    "store.footfall.counted.v1", "store.pos.sale.v1", "store.feedback.given.v1", "store.coupon.redeemed.v1", "x",
    "store.zone.occupied.v1", "store.queue.measured.v1", "store.heatmap.sampled.v1", "store.visit.closed.v1",
    "store.rfid.arrived.v1", "store.stock.counted.v1", "store.gateway.heartbeat.v1", "store.interaction.scanned.v1",
    "store.command.completed.v1",
]  # fmt: skip


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def fact(
    kind: str, data: object, at: str = "2026-11-22T02:15:00Z", *, stream: Stream = "transactions", position: int = 1,
    source: str = "//t1/stores/1/gw/a/b",
) -> Fact:  # fmt: skip
    raw = data if isinstance(data, msgspec.Raw) else msgspec.Raw(json.dumps(data).encode())
    return Fact(stream, position, kind, source, ms(at), ms(at) + 50, "", raw)


def counted(people_in: int, out: int = 0, *, line: str = "door", coverage: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "line": line, "entrance": "front", "interval_start": "2026-11-22T02:14:00.000Z", "interval_s": 60.0,
        "in": people_in, "out": out, "quality": {"coverage": coverage, "detector": "d"}, **more,
    }  # fmt: skip


def sale(net: str, kind: str = "sale", currency: str = "CNY", **totals: Any) -> dict[str, Any]:
    return {"kind": kind, "currency": currency, "totals": {"net": net, **totals}, "lines": [{"amount": net}]}


class Store:
    """The models' tables in memory."""

    def __init__(self, *models: Projection) -> None:
        self.models = models
        self.connection = sqlite3.connect(":memory:")
        self.connection.row_factory = sqlite3.Row
        for model in models:
            for table in model.tables:
                self.connection.execute(f"CREATE TABLE {table.name} ({table.columns}) WITHOUT ROWID")

    def take(self, *facts: Fact) -> None:
        for model in self.models:
            for change in model.fold([it for it in facts if it.stream in model.streams]):
                self.connection.executemany(change.sql, change.rows)

    def query(self, sql: str, parameters: tuple[object, ...] = ()) -> Sequence[Any]:
        return self.connection.execute(sql, parameters).fetchall()

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        names = [table.name for model in self.models for table in model.tables]
        return {name: [tuple(row) for row in self.query(f"SELECT * FROM {name}")] for name in names}


def test_footfall_sums_an_hour_by_line_and_knows_how_much_of_it_was_seen() -> None:
    store = Store(Footfall(SHANGHAI))
    store.take(
        fact(TYPES[0], counted(3, 1), stream="measurements"),
        fact(TYPES[0], counted(2, 0, coverage=0.5), stream="measurements"),
    )
    store.take(fact(TYPES[0], counted(7, line="back"), stream="measurements"))
    back, door = footfall.lines_of(store.query, "2026-11-22")
    assert (back.people_in, door.people_in, door.people_out) == (7, 5, 1)
    assert (door.interval_s, door.covered_s) == (120.0, 90.0)
    assert door.last_ms - door.first_ms == 60_000
    assert [hour.people_in for hour in footfall.hours_of(store.query, "2026-11-22")] == [12]
    assert footfall.counted_ever(store.query)


def test_the_day_begins_at_midnight_in_the_store_and_not_in_greenwich() -> None:
    store = Store(Footfall(SHANGHAI))
    for begin in ("2026-11-21T15:59:00Z", "2026-11-21T16:00:00Z"):
        store.take(fact(TYPES[0], counted(1, interval_start=begin), stream="measurements"))
    assert [len(footfall.lines_of(store.query, day)) for day in ("2026-11-21", "2026-11-22", "2026-11-23")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("zone", "at", "day", "hour"),
    [
        ("Asia/Kolkata", "2026-11-21T18:29:59Z", "2026-11-21", "2026-11-21T17:30:00Z"),
        ("Asia/Kathmandu", "2026-11-21T18:20:00Z", "2026-11-22", "2026-11-21T18:15:00Z"),
        ("Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25", "2026-10-25T00:00:00Z"),
        ("Europe/Berlin", "2026-10-25T01:30:00Z", "2026-10-25", "2026-10-25T01:00:00Z"),
        ("UTC", "1970-01-01T00:00:00Z", "1970-01-01", "1970-01-01T00:00:00Z"),
    ],
)
def test_an_hour_is_a_full_hour_of_the_wall_clock_in_any_zone(zone: str, at: str, day: str, hour: str) -> None:
    assert StoreTime(zone).bucket(ms(at)) == (day, ms(hour))


def test_an_interval_start_that_is_no_time_counts_when_the_event_happened() -> None:
    store = Store(Footfall(SHANGHAI))
    for begin in ("yesterday", "2026-11-22T10:00:00"):  # the second has no zone
        store.take(fact(TYPES[0], counted(1, interval_start=begin), stream="measurements"))
    assert footfall.lines_of(store.query, "2026-11-22")[0].first_ms == ms("2026-11-22T02:15:00Z")


def test_sales_keep_money_exact_and_returns_and_voids_apart() -> None:
    store = Store(Sales(SHANGHAI))
    for _ in range(3):
        store.take(fact(TYPES[1], sale("0.10", item_count="2")))
    store.take(fact(TYPES[1], sale("-0.05", "return")), fact(TYPES[1], sale("99", "void")))
    store.take(fact(TYPES[1], sale("7", currency="EUR")))
    yuan, euro = sales.hours_of(store.query, "2026-11-22")
    assert (yuan.sales, yuan.returns, yuan.voids) == (3, 1, 1)
    assert (yuan.net, yuan.sold, yuan.items) == (Decimal("0.25"), Decimal("0.30"), Decimal(6))
    assert (euro.currency, euro.net, euro.items) == ("EUR", Decimal(7), Decimal(1))


@pytest.mark.parametrize("net", ["NaN", "Infinity", "1e30", "-1e999999"])
def test_an_amount_that_is_no_money_is_passed_over(net: str) -> None:
    store = Store(Sales(SHANGHAI))
    store.take(fact(TYPES[1], sale(net)), fact(TYPES[1], sale("1", item_count="1e40")))
    assert sales.hours_of(store.query, "2026-11-22") == []


def test_goods_by_weight_are_one_piece_and_voided_lines_none() -> None:
    store = Store(Sales(SHANGHAI))
    lines = [
        {"quantity": "3"}, {"quantity": "0.742", "unit": "KGM"}, {"quantity": "5", "voided": True}, {"kind": "fee"},
    ]  # fmt: skip
    store.take(fact(TYPES[1], {**sale("9"), "lines": lines}))
    assert sales.hours_of(store.query, "2026-11-22")[0].items == Decimal(4)


def test_the_last_event_of_a_source_is_the_newest_of_all_streams() -> None:
    store = Store(DeviceEvents())
    store.take(fact("b", {}, "2026-11-22T02:00:00Z", stream="measurements", position=4))
    store.take(fact("a", {}, "2026-11-22T03:00:00Z", position=9), fact("c", {}, source="other"))
    a, other = devices.last_events(store.query)
    assert (a.events, a.last_type, a.last_ms) == (2, "a", ms("2026-11-22T03:00:00Z") + 50)
    assert other.source == "other"


def test_coupons_and_answers_are_counted_by_day() -> None:
    store = Store(Coupons(SHANGHAI), Feedback(SHANGHAI))
    assert coupons.day_of(store.query, "2026-11-22") is None
    for step in ("redeemed", "redeemed", "refused"):
        store.take(fact(f"store.coupon.{step}.v1", {"coupon": "c"}))
    for score in (9, 9, 3, 11, -1):
        store.take(fact(TYPES[2], {"question_id": "nps", "score": score, "device": "k"}))
    assert coupons.day_of(store.query, "2026-11-22") == coupons.CouponDay(redeemed=2, refused=1)
    (answers,) = feedback.day_of(store.query, "2026-11-22")
    assert (answers.scores, answers.answers) == ({3: 1, 9: 2}, 3)


def test_reading_before_the_tables_are_made_finds_nothing() -> None:
    query = Store().query
    assert not footfall.lines_of(query, "d") and not footfall.hours_of(query, "d") and not sales.hours_of(query, "d")
    assert not devices.last_events(query) and not feedback.day_of(query, "d")
    assert coupons.day_of(query, "d") is None and not footfall.counted_ever(query)


def test_a_device_cannot_make_keys_of_any_length() -> None:
    store = Store(Footfall(SHANGHAI))
    store.take(fact(TYPES[0], counted(1, line="x" * 100_000), stream="measurements"))
    assert len(footfall.lines_of(store.query, "2026-11-22")[0].line) == 64


def test_an_envelope_that_cannot_be_read_is_no_fact() -> None:
    assert fact_of(StoredEvent("transactions", 1, "e", 1, b'{"type": 3}')) is None
    assert fact_of(StoredEvent("transactions", 1, "e", 1, b"\xff")) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["line", "entrance", "in", "out", "interval_s", "interval_start", "quality", "coverage", "kind", "totals",
             "net", "item_count", "lines", "quantity", "unit", "question_id", "score", "currency", "voided", "zone",
             "mean", "peak", "visitors", "dwell_s", "p50", "p90", "n", "rows", "cols", "person_seconds", "devices",
             "epc_hex", "gtin", "revision", "result", "issued", "outcome",
             "length_mean", "length_peak", "wait_s_p90", "visit_id", "left_at"]
        ), inner, max_size=8,
    ),
    max_leaves=20,
)  # fmt: skip
nearly = st.one_of(
    json_values,
    st.builds(
        counted, st.integers(-5, 1 << 70), st.integers(0, 9), coverage=st.floats(-2, 2),
        interval_s=st.floats(allow_nan=False), interval_start=st.text(max_size=30),
    ),
    st.builds(
        lambda mean, peak, n, p: {
            "zone": "z", "interval_s": 60, "mean": mean, "peak": peak, "visitors": peak, "length_mean": mean,
            "length_peak": peak, "wait_s_p90": p, "dwell_s": {"p50": p, "p90": p, "mean": p, "n": n}, "camera": "c",
            "rows": n, "cols": peak, "person_seconds": [p] * 3, "revision": n, "visit_id": "v", "left_at": str(p),
            "entered_at": str(mean), "epc_hex": "00", "gtin": "1", "epc_count": n, "devices": {"a": "live"},
        },
        st.floats(allow_nan=False), st.integers(-1, 1 << 70), st.integers(-5, 1 << 70), st.floats(allow_nan=False),
    ),
    st.builds(sale, st.decimals(allow_nan=True).map(str), st.sampled_from(["sale", "return", "void", "odd"])),
)  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(TYPES), nearly, st.integers(-(1 << 50), 1 << 50), st.sampled_from(STREAMS),
        ), max_size=8,
    )
)  # fmt: skip
def test_data_of_any_shape_and_any_time_is_folded_without_an_error(
    events: list[tuple[str, Any, int, Stream]],
) -> None:
    store = Store(*read_models("Asia/Shanghai"))
    facts = [
        Fact(stream, index, kind, "s", at, at, "", msgspec.Raw(json.dumps(data).encode()))
        for index, (kind, data, at, stream) in enumerate(events, 1)
    ]
    store.take(*facts)
    assert sum(row["events"] for row in store.query("SELECT events FROM device_event")) == len(facts)


@given(st.lists(st.integers(0, 200), min_size=2, max_size=12), st.data())
def test_cutting_the_events_into_other_runs_gives_the_same_tables(counts: list[int], data: st.DataObject) -> None:
    facts = [
        fact(TYPES[0], counted(count, line=f"l{count % 3}"), stream="measurements", position=index)
        for index, count in enumerate(counts, 1)
    ]
    whole, cut = Store(*read_models("UTC")), Store(*read_models("UTC"))
    whole.take(*facts)
    at = data.draw(st.integers(0, len(facts)))
    cut.take(*facts[:at])
    cut.take(*facts[at:])
    assert whole.everything() == cut.everything()


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9)), max_size=14),
    st.data(),
)
def test_a_revision_supersedes_what_was_told_of_its_interval_wherever_the_runs_are_cut(
    told: list[tuple[int, int, int, int]], data: st.DataObject
) -> None:
    facts = [
        fact(
            TYPES[0],
            counted(people_in, out, revision=revision, interval_start=f"2026-11-22T02:1{minute}:00.000Z"),
            stream="measurements",
            position=index,
        )
        for index, (minute, revision, people_in, out) in enumerate(told, 1)
    ]
    cut = data.draw(st.integers(0, len(facts)))
    store = Store(Footfall(SHANGHAI))
    store.take(*facts[:cut])
    store.take(*facts[cut:])
    expected = 0
    for minute in range(3):
        mine = [(revision, people) for at, revision, people, _ in told if at == minute]
        top = max((revision for revision, _ in mine), default=0)
        values = [people for revision, people in mine if revision == top]
        expected += sum(values) if top == 0 else values[0]
    assert sum(hour.people_in for hour in footfall.hours_of(store.query, "2026-11-22")) == expected
    assert sum(it.people_in for it in footfall.passed_of(store.query, "2026-11-22", "2026-11-22")) == expected


def tag(step: str, epc: str, gtin: str | None = "0614141123452", zone: str | None = "shelf") -> Fact:
    return fact(
        f"store.rfid.{step}.v1", {"epc_hex": epc, "gtin": gtin, "zone_to": zone, "reads": 2}, stream="observations"
    )


def test_stock_is_where_each_tag_was_last_seen_and_a_restart_counts_none_twice() -> None:
    store = Store(StockByZone(SHANGHAI))
    store.take(tag("arrived", "A"), tag("arrived", "B"), tag("arrived", "C", gtin=None))
    store.take(tag("arrived", "A"), tag("moved", "B", zone="door"))
    assert [(it.zone, it.tags) for it in stock.now_of(store.query)] == [("door", 1), ("shelf", 1)]
    store.take(tag("departed", "B", zone=None))
    store.take(fact("store.stock.counted.v1", {"gtin": "1", "zone": "shelf", "epc_count": 7}, stream="measurements"))
    assert [(it.gtin, it.tags, it.counted) for it in stock.now_of(store.query)] == [
        ("0614141123452", 1, None),
        ("1", 0, 7),
    ]


def test_a_corrected_visit_takes_the_place_of_the_first() -> None:
    store = Store(Visits(SHANGHAI))

    def visit(name: str, stayed_s: int, **more: Any) -> Fact:
        left = f"2026-11-22T02:{stayed_s // 60:02d}:00Z"
        data = {"visit_id": name, "entered_at": "2026-11-22T02:00:00Z", "left_at": left, **more}
        return fact("store.visit.closed.v1", data, stream="measurements")

    store.take(visit("a", 600), visit("b", 120, transaction_ids=["t"]))
    store.take(visit("c", 300, supersedes="a", returning=True), visit("b", 60))
    (hour,) = visits.hours_of(store.query, "2026-11-22", "2026-11-22")
    assert (hour.visits, hour.stayed_s, hour.buying, hour.known, hour.returning) == (2, 360.0, 0, 1, 1)


def test_what_the_platform_says_of_a_visit_counts_for_that_one_and_the_last_word_does() -> None:
    store = Store(Visits(SHANGHAI))

    def told(kind: str, name: str, **data: Any) -> Fact:
        return fact(f"store.visit.{kind}.v1", {"visit_id": name, **data}, stream="measurements")

    ended = {"entered_at": "2026-11-22T02:00:00Z", "left_at": "2026-11-22T02:10:00Z"}
    store.take(told("closed", "a", **ended), told("compared", "a", returning=True), told("closed", "b", **ended))
    store.take(told("compared", "b", returning=True), told("compared", "unknown", returning=True))
    store.take(told("compared", "b", returning=False), told("compared", "a", returning="maybe"))
    (hour,) = visits.hours_of(store.query, "2026-11-22", "2026-11-22")
    assert (hour.visits, hour.known, hour.returning) == (2, 2, 1)


def test_heat_adds_up_by_cell_and_a_redrawn_grid_is_another_map() -> None:
    store = Store(Heat(SHANGHAI))

    def sampled(minute: int, rows: int, cols: int, cells: list[float]) -> Fact:
        start = f"2026-11-22T02:{minute:02d}:00Z"
        data = {"camera": "c", "interval_start": start, "interval_s": 60, "rows": rows, "cols": cols}
        return fact("store.heatmap.sampled.v1", {**data, "person_seconds": cells}, stream="measurements")

    store.take(sampled(1, 2, 2, [1.5, 0, 0, 2]), sampled(2, 2, 2, [1, 0, 3, 0]), sampled(3, 2, 2, [1]))
    (found,) = heat.maps_of(store.query, "2026-11-22", "2026-11-22")
    assert (found.person_s, found.interval_s) == ((2.5, 0.0, 3.0, 2.0), 120.0)
    store.take(sampled(9, 1, 1, [5]), sampled(10, 5000, 5000, []))
    (found,) = heat.maps_of(store.query, "2026-11-22", "2026-11-22")
    assert (found.rows, found.person_s) == (1, (5.0,))


@given(st.lists(st.floats(0, 5000), min_size=1, max_size=40), st.sampled_from([0.5, 0.9]))
def test_a_quantile_read_from_slots_is_right_to_three_percent(values: list[float], share: float) -> None:
    counts: dict[int, int] = {}
    for value in values:
        counts[slot(value)] = counts.get(slot(value), 0) + 1
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = quantile(counts, share)
    assert found is not None and abs(found - exact) <= max(1.0, 0.03 * exact)


def test_a_table_that_strangers_can_fill_loses_its_oldest_days() -> None:
    store = Store()
    table = Table("many", "day TEXT NOT NULL, key INTEGER NOT NULL, PRIMARY KEY (day, key)", day=True, keep_rows=5)
    store.connection.execute(f"CREATE TABLE many ({table.columns}) WITHOUT ROWID")
    rows = [(f"2026-11-{day:02d}", key) for day in range(10, 16) for key in range(2)]
    store.connection.executemany("INSERT INTO many VALUES (?, ?)", rows)
    forget_days(store.connection, table, "2026-11-11")
    assert {row["day"] for row in store.query("SELECT day FROM many")} == {"2026-11-14", "2026-11-15"}
