"""What a visit tells when it ends: from a case to its event, with the evidence for it and how sure that makes it.

Pure: the same case and the same tags tell the same. Knows no time and no storage.

*Source*: EVENTS.md, `store.visit.closed.v1`; docs/visits.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from gateway.clock import rfc3339_s
from gateway.event_types import VisitClosed, ZoneStay
from gateway.shopper.basket_tags import BEFORE_MS, Match, TagBook
from gateway.shopper.visit_case import BACKFILL_MS, Bought, Case, Rules, Stay
from gateway.shopper.visit_evidence import ALGORITHM, PROVES, confidence


def account(case: Case, tags: TagBook, rules: Rules) -> VisitClosed:
    """The event of a visit that ends, as far as it is known now; `visit_id` is the machine's to give."""
    bought = [it for it in case.bought if not it.void]
    matches = {it.transaction_id: match_of(it, tags) for it in bought}
    certain = [epc for match in matches.values() for epc in match.tags]
    left_ms = max(case.exit_ms, case.last_ms)
    zones = _zones(case.stays, left_ms)
    carried = _carried(certain, bought, {*zones, *rules.exits}, tags)
    evidence = [case.acts[0].how] if case.acts[0].how in PROVES else []
    evidence += [done.how for done in case.acts[1:]] + [it.proof for it in bought]
    evidence += ["points"] * case.points
    evidence += ["beacon"] * bool(case.stays) + ["basket"] * case.basket + ["exit"] * bool(case.exit_ms)
    evidence += _tag_words(matches.values())
    evidence += ["carried_tags"] * bool(carried)
    zones.update(carried)
    evidence += ["fitting_room"] * bool(rules.fitting_rooms & zones.keys())
    evidence = list(dict.fromkeys(evidence))
    counts = [f"tags_ambiguous:{m.ambiguous[0]}/{m.ambiguous[1]}" for m in matches.values() if m.ambiguous[0]]
    opener = case.acts[0].how
    first_ms = min(case.first_ms, left_ms)
    return VisitClosed(
        visit_id="", opened_by="app_qr" if opener == "app_qr" else "paid_basket" if opener == "paid_basket"
        else "loyalty_scan",
        entered_at=rfc3339_s((first_ms + case.skew_ms) / 1000), left_at=rfc3339_s((left_ms + case.skew_ms) / 1000),
        zones=tuple(ZoneStay(zone=zone, dwell_s=round(ms / 1000, 1)) for zone, ms in sorted(zones.items())),
        epcs=tuple(dict.fromkeys(certain)), transaction_ids=tuple(it.transaction_id for it in bought),
        evidence=tuple([*evidence, *counts][:32]), confidence=confidence(evidence), algorithm=ALGORITHM,
        shopper=case.shopper,
    )  # fmt: skip


def match_of(bought: Bought, tags: TagBook) -> Match:
    """The tags that went with a sale; what was known of them stays known when their own book has forgotten."""
    found = tags.match(bought.transaction_id)
    if found.tags or not bought.match.tags:
        bought.match = found
    return bought.match


def visit_id(case: str, revision: int) -> str:
    """The name of a visit, as it was told first or corrected."""
    return f"v-{case}" if revision == 0 else f"v-{case}-r{revision}"


def _carried(epcs: Iterable[str], bought: Iterable[Bought], besides: set[str], tags: TagBook) -> dict[str, int]:
    """Where the goods were carried before they were paid: from a move into a zone to the next move, in ms."""
    paid_ms = max((it.t_ms for it in bought), default=0)
    longest: dict[str, int] = {}
    for epc in epcs:
        moves = [move for move in tags.moves(epc) if paid_ms - BACKFILL_MS <= move.t_ms <= paid_ms + BEFORE_MS]
        for here, after in pairwise(moves[1:]):  # the first is where it lay
            if not here.left and here.zone not in besides:
                longest[here.zone] = max(longest.get(here.zone, 0), after.t_ms - here.t_ms)
    return longest


def _zones(stays: Iterable[Stay], left_ms: int) -> dict[str, int]:
    """Time in each zone, overlapping stays in one zone counted once."""
    spans: dict[str, list[tuple[int, int]]] = {}
    for stay in stays:
        to_ms = left_ms if stay.inside else stay.to_ms
        spans.setdefault(stay.zone, []).append((stay.from_ms, max(stay.from_ms, to_ms)))
    total: dict[str, int] = {}
    for zone, parts in spans.items():
        end_ms, sum_ms = 0, 0
        for low, high in sorted(parts):
            sum_ms += max(0, high - max(low, end_ms))
            end_ms = max(end_ms, high)
        total[zone] = sum_ms
    return total


def _tag_words(matches: Iterable[Match]) -> list[str]:
    found = list(matches)
    return (
        ["tags_named"] * any(match.named for match in found)
        + ["tags_counted"] * any(match.counted for match in found)
        + ["tags_fewer"] * any(match.fewer for match in found)
    )
