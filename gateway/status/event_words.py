"""A stored event in a few words: which message says it, with which parameters, and where it happened.

Only things and numbers are taken out of an event, never what names a person. Texts that a device gave are cut. Total:
an event of any shape yields a line. Knows no language.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from gateway.journal.reader import StoredEvent
from gateway.status.snapshot import EventLine

_TEXT = 40
Parameters = dict[str, str | int | float]
Told = tuple[str, Parameters] | None

QUIET = frozenset(
    {
        "store.gateway.heartbeat.v1",
        "store.kpi.hour.v1",
        "store.heatmap.sampled.v1",
        "store.audit.recorded.v1",
        "store.visit.compared.v1",
    }
)


class _Event(msgspec.Struct):
    type: str
    recordedtime: datetime
    source: str = ""
    zone: str = ""
    subject: str = ""
    data: Any = None


_decode = msgspec.json.Decoder(_Event).decode


def line_of(event: StoredEvent) -> EventLine | None:
    """The event in a few words; None for what a person does not want to read, or cannot."""
    try:
        read = _decode(event.json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if read.type in QUIET:
        return None
    data = read.data if isinstance(read.data, dict) else {}
    rule = _RULES.get(read.type.removeprefix("store.").removesuffix(".v1"))
    told = rule(data) if rule is not None else None
    key, parameters = told or ("other", {"type": _cut(read.type)})
    place = read.zone or _text(data, "zone_to") or _text(data, "entrance") or _cut(read.source.rpartition("/")[2])
    return EventLine(
        at_ms=int(read.recordedtime.timestamp() * 1000), stream=event.stream, type=_cut(read.type), key=key,
        parameters=parameters, place=_cut(place),
    )  # fmt: skip


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"


def _text(data: dict[str, Any], name: str) -> str:
    value = data.get(name)
    return _cut(value) if isinstance(value, str) else ""


def _number(data: dict[str, Any], name: str) -> int | float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if abs(value) < 1e12 else 0


def _sale(data: dict[str, Any]) -> Told:
    kind = data.get("kind")
    totals = data.get("totals")
    net = _text(totals, "net") if isinstance(totals, dict) else ""
    currency = _text(data, "currency")
    if kind == "void":
        return "void", {}
    return "return" if kind == "return" else "sale", {"net_money": f"{net} {currency}".strip()}


def _footfall(data: dict[str, Any]) -> Told:
    entered, left = _number(data, "in"), _number(data, "out")
    key = "footfall" if entered and left else "footfall_in" if entered else "footfall_out" if left else "footfall_none"
    return key, {"people_in": entered, "people_out": left}


def _tag(key: str) -> Callable[[dict[str, Any]], Told]:
    def rule(data: dict[str, Any]) -> Told:
        gtin = _text(data, "gtin")
        return key, {"tag": f"{gtin} · {_text(data, 'serial')}" if gtin else "…" + _text(data, "epc_hex")[-8:]}

    return rule


def _beacon(key: str) -> Callable[[dict[str, Any]], Told]:
    return lambda data: (key, {"tag": _text(data, "beacon")})


def _scan(data: dict[str, Any]) -> Told:
    code = _text(data, "gtin") or _text(data, "digital_link")
    return ("scan", {"code": code}) if code else ("scan_opaque", {})


def _device(data: dict[str, Any]) -> Told:
    return "device", {"device": _text(data, "device"), "condition": _text(data, "state")}


def _sensor(data: dict[str, Any]) -> Told:
    unit = _text(data, "unit")
    return "sensor", {
        "quantity": _text(data, "quantity"), "value": _number(data, "value"), "unit": "°C" if unit == "Cel" else unit,
    }  # fmt: skip


def _contact(data: dict[str, Any]) -> Told:
    return "opened" if data.get("open") is True else "closed", {"contact": _text(data, "contact")}


def _says(key: str, **fields: str) -> Callable[[dict[str, Any]], Told]:
    """A rule that takes each parameter from a field: a number where it is one, else its text."""

    def rule(data: dict[str, Any]) -> Told:
        return key, {name: _text(data, field) or _number(data, field) for name, field in fields.items()}

    return rule


def _coupon(step: str) -> Callable[[dict[str, Any]], Told]:
    return lambda data: ("coupon", {"step": step})


_RULES: dict[str, Callable[[dict[str, Any]], Told]] = {
    "pos.sale": _sale,
    "pos.basket": _says("basket", step="step"),
    "coupon.reserved": _coupon("reserved"),
    "coupon.redeemed": _coupon("redeemed"),
    "coupon.released": _coupon("released"),
    "coupon.refused": _coupon("refused"),
    "points.earned": _says("points"),
    "points.spent": _says("points"),
    "consent.granted": _says("consent"),
    "consent.withdrawn": _says("consent"),
    "member.linked": _says("member"),
    "subject.erased": _says("subject_erased", count="events"),
    "feedback.given": _says("feedback", score="score"),
    "interaction.scanned": _says("interaction"),
    "alarm.raised": _says("alarm_raised", what="what"),
    "alarm.cleared": _says("alarm_cleared", what="what"),
    "command.completed": _says("command", kind="kind", outcome="outcome"),
    "footfall.counted": _footfall,
    "footfall.crossed": lambda data: (
        "footfall_out" if data.get("direction") == "out" else "footfall_in", {"people_in": 1, "people_out": 1},
    ),
    "footfall.accepted": _says("footfall_accepted", line="line"),
    "zone.occupied": _says("zone", visitors="visitors"),
    "queue.measured": _says("queue", peak="length_peak"),
    "stock.counted": _says("stock", count="epc_count"),
    "shelf.changed": _says("shelf", items="items"),
    "visit.closed": _says("visit"),
    "device.state": _device,
    "loss.declared": _says("loss", count="count"),
    "rfid.arrived": _tag("rfid_arrived"),
    "rfid.moved": _tag("rfid_moved"),
    "rfid.departed": _tag("rfid_departed"),
    "beacon.arrived": _beacon("beacon_arrived"),
    "beacon.departed": _beacon("beacon_departed"),
    "barcode.scanned": _scan,
    "scale.weighed": _says("weight", grams="grams"),
    "contact.changed": _contact,
    "button.pressed": _says("button", button="button"),
    "sensor.read": _sensor,
    "lf.card.seen": _says("card"),
    "lf.card.removed": _says("card_gone"),
}  # fmt: skip
