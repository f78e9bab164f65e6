"""Facts of shoppers for the machine of visits, by minutes since the shop opened."""

from __future__ import annotations

from typing import Any

from gateway.event_types import Shopper, VisitClosed
from gateway.shopper.visit_case import Rules
from gateway.shopper.visit_facts import Act, Linked, Person, Sighting, Sold, Tagged, When, Withdrawn
from gateway.shopper.visits import Visits

NOON_MS = 1_795_312_800_000
MINUTE_MS = 60_000
RULES = Rules(exits=frozenset({"exit"}), fitting_rooms=frozenset({"fitting"}))
GTIN = "06901234567892"


def person(name: str = "a", consent: str = "r1", **fields: Any) -> Person:
    key = name.encode().hex().ljust(32, "0")
    return Person(Shopper(day_key=key, **fields), key, consent)


def when(minute: float, *, late: float = 0.0, step_s: float = 0.0) -> When:
    """`late`: minutes until it was received; `step_s`: how far the wall clock is off."""
    t_ms = round(minute * MINUTE_MS)
    return When(t_ms, NOON_MS + t_ms + round(step_s * 1000), t_ms + round(late * MINUTE_MS))


_number = 0


def _event() -> str:
    global _number
    _number += 1
    return f"gw01.transactions.e.{_number}"


def scan(minute: float, who: str = "a", zone: str = "till-1", how: str = "loyalty_scan", **at: Any) -> Act:
    return Act(when(minute, **at), _event(), person(who), how, zone, "scanner")


def seen(minute: float, zone: str, who: str = "a", *, left: bool = False, dwell_s: float = 0.0, **at: Any) -> Sighting:
    return Sighting(when(minute, **at), _event(), person(who), zone, left, round(dwell_s * 1000))


def sale(
    minute: float, who: str | None = "a", name: str = "", *, kind: str = "sale", zone: str = "till-1",
    wanted: dict[str, int] | None = None, named: tuple[str, ...] = (), originals: tuple[str, ...] = (),
    took_s: float = 60.0, **at: Any,
) -> Sold:  # fmt: skip
    event = _event()
    return Sold(
        when(minute, **at), event, None if who is None else person(who), kind, name or event, zone, zone,
        round(took_s * 1000), wanted or {}, named, originals,
    )  # fmt: skip


def tag(minute: float, epc: str, zone: str, *, left: bool = False, gtin: str = GTIN) -> Tagged:
    return Tagged(when(minute), epc, gtin, zone, left)


def linked(minute: float, who: str, other: str, **at: Any) -> Linked:
    return Linked(when(minute, **at), _event(), person(who), person(other).key)


def withdrawn(minute: float, record: str = "r1", purposes: tuple[str, ...] = ("visits",)) -> Withdrawn:
    return Withdrawn(when(minute), record, purposes)


def day(*facts: Any, until: float = 600.0, rules: Rules = RULES, step: float = 0.5) -> list[VisitClosed]:
    """What a day tells: facts in the order given, the machine asked every half minute in between."""
    machine = Visits(rules)
    told: list[VisitClosed] = []
    now = 0.0
    for fact in facts:
        received = fact.when.now_ms / MINUTE_MS
        while now < received:
            told += [it.data for it in machine.tick(round(now * MINUTE_MS))]
            now += step
        machine.take(fact)
    while now < until:
        told += [it.data for it in machine.tick(round(now * MINUTE_MS))]
        now += step
    return told
