"""What speaks for a visit, and how much: one table, and the rule that makes one confidence of it.

An act or a sale that the visit lists *proves* something with a certainty of its own; the visit is no surer than the
least certain of them. Everything else only *supports*: it takes away a share of the doubt that is left. Nothing here is
learned or measured from shoppers; the numbers are the project's judgement, stated in docs/visits.md, and a change of
them is a change of `ALGORITHM`. Knows no event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

ALGORITHM: Final = "visits-1"

PROVES: Final[Mapping[str, float]] = {
    "app_qr": 0.98,  # a code that the signed-in app made
    "loyalty_scan": 0.95,  # a card may be lent
    "paid_basket": 0.97,  # the till names the member on the sale
    "sale_named": 0.97,  # a further sale that names the same member
    "points": 0.97,  # points booked for the sale under the member
    "sale_after_scan": 0.70,  # a sale without a member, at the till where the member was scanned meanwhile
}
SUPPORTS: Final[Mapping[str, float]] = {
    "beacon": 0.40,  # the person's own beacon or card was seen in the shop
    "basket": 0.10,  # the till told of the basket before it was paid
    "tags_named": 0.50,  # the till read the very tags that were in the shop
    "tags_counted": 0.30,  # as many tags of the article were at the till as were sold
    "tags_fewer": 0.15,  # some of the sold articles' tags were there
    "exit": 0.20,  # the person, or the goods, went through the exit
}
HIGHEST: Final = 0.99


def confidence(evidence: Iterable[str]) -> float:
    """How certain it is that one person made this visit and what it lists, 0–1; 0.0 when nothing proves it."""
    names = set(evidence)
    proofs = [PROVES[name] for name in names if name in PROVES]
    if not proofs:
        return 0.0
    doubt = 1.0 - min(proofs)
    for name in names:
        doubt *= 1.0 - SUPPORTS.get(name, 0.0)
    return round(min(HIGHEST, 1.0 - doubt), 3)
