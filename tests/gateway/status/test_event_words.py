"""Every event can be said in a few words, and none of them names a person."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.event_types import EVENT_TYPES
from gateway.journal.reader import StoredEvent
from gateway.status import words
from gateway.status.event_words import QUIET, line_of
from gateway.status.language import Language

ZH = Language("zh_CN", "Asia/Shanghai")


def event(kind: str, data: Any, **head: Any) -> StoredEvent:
    body = {
        "type": kind, "recordedtime": "2026-11-22T02:00:00.000Z", "source": "//t1/stores/1/gw/d/cam", "data": data,
        **head,
    }  # fmt: skip
    return StoredEvent("transactions", 1, "e", 1, json.dumps(body).encode())


def said(kind: str, data: Any, **head: Any) -> tuple[str, str]:
    line = line_of(event(kind, data, **head))
    assert line is not None
    return ZH.say(words.EVENTS[line.key], line.parameters), line.place


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("store.footfall.counted.v1", {"in": 2, "out": 0}, "客流 +2"),
        ("store.footfall.counted.v1", {"in": 2, "out": 1}, "客流 +2 −1"),
        ("store.pos.sale.v1", {"kind": "sale", "currency": "CNY", "totals": {"net": "128.00"}}, "成交 ¥128.00"),
        ("store.pos.sale.v1", {"kind": "return", "currency": "CNY", "totals": {"net": "-5"}}, "退货 -¥5.00"),
        ("store.pos.basket.v1", {"step": "paid"}, "购物篮：已付款"),
        ("store.coupon.redeemed.v1", {"coupon": "c"}, "优惠券核销"),
        ("store.rfid.arrived.v1", {"epc_hex": "3034257BF7194E4000001A85"}, "标签 …00001A85 到达"),
        ("store.device.state.v1", {"device": "door", "state": "stale"}, "door：无消息"),
        ("store.sensor.read.v1", {"quantity": "temperature", "value": 4.25, "unit": "Cel"}, "温度 4.2 °C"),
        ("store.contact.changed.v1", {"contact": "back", "open": True}, "back 打开"),
        ("store.new.thing.v2", {}, "store.new.thing.v2"),
    ],
)
def test_events_in_plain_words(kind: str, data: Any, text: str) -> None:
    assert said(kind, data)[0] == text


def test_the_place_is_the_zone_else_the_device() -> None:
    assert said("store.x.v1", {}, zone="正门")[1] == "正门"
    assert said("store.x.v1", {})[1] == "cam"


def test_every_type_of_the_vocabulary_but_the_quiet_ones_has_words() -> None:
    for kind in EVENT_TYPES:
        line = line_of(event(kind, {}))
        assert (line is None) == (kind in QUIET), kind
        assert line is None or line.key != "other", kind


def test_no_person_is_named() -> None:
    person = {"day_key": "SECRET", "sealed": "SECRET"}
    for kind in EVENT_TYPES:
        line = line_of(event(kind, {
            "shopper": person, "loyalty": person, "operator": "SECRET", "day_key": "SECRET", "text": "SECRET",
        }))  # fmt: skip
        assert line is None or "SECRET" not in repr(line), kind


@given(
    st.sampled_from(sorted(EVENT_TYPES)),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
            st.sampled_from(["in", "out", "kind", "totals", "net", "value", "quantity", "gtin", "state", "unit"]),
            inner,
        ), max_leaves=8,
    ),
)  # fmt: skip
def test_an_event_of_any_shape_is_said_and_short(kind: str, data: Any) -> None:
    line = line_of(event(kind, data))
    if line is not None:
        assert len(ZH.say(words.EVENTS[line.key], line.parameters)) < 200


def test_bytes_that_are_no_event_are_passed_over() -> None:
    assert line_of(StoredEvent("transactions", 1, "e", 1, b"\xff{")) is None
