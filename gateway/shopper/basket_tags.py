"""Which tags went over the till with which sale: tags that came to the till or left it, against the lines by GTIN.

Counts are respected: a sale takes as many tags of an article as it sold, and a tag goes with one sale only. Where more
tags were there than were sold, nobody can say which went: none is taken, and how many there were is told. Knows no
person.

*Source*: GS1 TDS 2.1 (SGTIN names one item of an article); EVENTS.md, "observations".
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

BEFORE_MS = 120_000  # before the till opened the basket
AFTER_MS = 120_000  # after it was paid: a reader says "departed" late
LEAVE_MS = 15 * 60_000  # from the till to the exit
_TAGS_MOST = 10_000
_MOVES_MOST = 12
_KEEP_MS = 90 * 60_000
_SALES_MOST = 2_000


class Move(msgspec.Struct, frozen=True):
    """A tag came into a zone, or left one, at a moment of the book's timeline (ms)."""

    t_ms: int
    zone: str
    left: bool = False


class Basket(msgspec.Struct, frozen=True, kw_only=True):
    """One sale of anybody's, as far as tags go. `wanted`: pieces sold by GTIN; `named`: tags that the till read."""

    transaction_id: str
    zone: str
    from_ms: int
    t_ms: int
    wanted: Mapping[str, int] = {}
    named: tuple[str, ...] = ()


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """The tags that went with a sale. `ambiguous`: pieces of which too many tags were there, and how many those."""

    named: tuple[str, ...] = ()
    counted: tuple[str, ...] = ()  # as many as were sold
    fewer: tuple[str, ...] = ()  # not all that were sold had a tag that was seen
    ambiguous: tuple[int, int] = (0, 0)

    @property
    def tags(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.named, *self.counted, *self.fewer)


class TagBook:
    """Where tags were in the last hour and a half, and what was sold; bounded. One thread uses it."""

    def __init__(self) -> None:
        """Empty."""
        self._moves: OrderedDict[str, tuple[str, deque[Move]]] = OrderedDict()
        self._by_gtin: dict[str, set[str]] = {}
        self._sales: OrderedDict[str, Basket] = OrderedDict()

    def moved(self, epc: str, gtin: str, move: Move) -> None:
        """A tag was somewhere. Older tags than the most recent 10,000 are forgotten."""
        entry = self._moves.get(epc)
        if entry is None:
            entry = self._moves[epc] = (gtin, deque(maxlen=_MOVES_MOST))
            self._by_gtin.setdefault(gtin, set()).add(epc)
        entry[1].append(move)
        self._moves.move_to_end(epc)
        while len(self._moves) > _TAGS_MOST:
            self._forget(*next(iter(self._moves.items())))

    def sold(self, basket: Basket) -> None:
        """Somebody bought something; told twice, the last word counts."""
        self._sales[basket.transaction_id] = basket
        while len(self._sales) > _SALES_MOST:
            self._sales.popitem(last=False)

    def take_back(self, transaction_id: str) -> None:
        """A sale was voided: its tags are free again."""
        self._sales.pop(transaction_id, None)

    def expire(self, t_ms: int) -> None:
        """Forget what is too long ago to matter."""
        while self._moves:
            epc, entry = next(iter(self._moves.items()))
            if entry[1][-1].t_ms >= t_ms - _KEEP_MS:
                break
            self._forget(epc, entry)
        while self._sales and next(iter(self._sales.values())).t_ms < t_ms - _KEEP_MS:
            self._sales.popitem(last=False)

    def match(self, transaction_id: str) -> Match:
        """The tags that went with a sale; none when it is not known (any more)."""
        basket = self._sales.get(transaction_id)
        if basket is None:
            return Match()
        named = tuple(dict.fromkeys(basket.named))
        counted: list[str] = []
        fewer: list[str] = []
        pieces = there = 0
        for gtin in basket.wanted:
            left = self._missing(basket, gtin)
            if left <= 0:
                continue
            found = self._candidates(basket, gtin, named)
            mine = [epc for epc in found if not self._rivals(basket, gtin, epc)]
            if len(found) == left:  # all that were there are needed here …
                (counted if len(mine) == left else fewer).extend(found if self._spared(basket, gtin, found) else mine)
            elif len(mine) == left:
                counted += mine
            elif len(found) < left:
                fewer += mine
            else:
                pieces, there = pieces + left, there + len(found)
        return Match(
            named=named, counted=tuple(sorted(counted)), fewer=tuple(sorted(fewer)), ambiguous=(pieces, there)
        )  # fmt: skip

    def moves(self, epc: str) -> Sequence[Move]:
        """Where a tag was, oldest first; () for one that is not known."""
        entry = self._moves.get(epc)
        return () if entry is None else tuple(entry[1])

    def left_by(self, epcs: Iterable[str], exits: frozenset[str], after_ms: int) -> int | None:
        """When the first of these tags was at an exit, within a quarter of an hour; None if none was."""
        times = [
            move.t_ms
            for epc in epcs
            for move in self.moves(epc)
            if move.zone in exits and after_ms - 1000 <= move.t_ms <= after_ms + LEAVE_MS
        ]
        return min(times, default=None)

    # -- inside

    def _candidates(self, basket: Basket, gtin: str, besides: Sequence[str]) -> list[str]:
        """Tags that could have gone with the sale: a tag that another till has read went there."""
        others = {epc for it in self._sales.values() if it.transaction_id != basket.transaction_id for epc in it.named}
        return [
            epc
            for epc in sorted(self._by_gtin.get(gtin, ()))
            if epc not in besides and epc not in others and self._at_till(basket, epc)
        ]

    def _at_till(self, basket: Basket, epc: str) -> bool:
        """A tag that stood at the till all the time is no goods of a basket: it must have come or gone."""
        low, high = basket.from_ms - BEFORE_MS, basket.t_ms + AFTER_MS
        return any(low <= move.t_ms <= high and move.zone == basket.zone for move in self._moves[epc][1])

    def _rivals(self, basket: Basket, gtin: str, epc: str) -> list[Basket]:
        """Other sales that the tag could have gone with."""
        return [
            other
            for other in self._sales.values()
            if other.transaction_id != basket.transaction_id
            and other.zone == basket.zone
            and self._missing(other, gtin) > 0
            and self._at_till(other, epc)
        ]

    def _missing(self, basket: Basket, gtin: str) -> int:
        """How many of its pieces the till has not read a tag of."""
        sold = basket.wanted.get(gtin, 0)
        return sold - sum(self._gtin_of(epc) == gtin for epc in set(basket.named)) if sold else 0

    def _spared(self, basket: Basket, gtin: str, found: Sequence[str]) -> bool:
        """Whether every other sale has enough tags without these."""
        rivals = {rival.transaction_id: rival for epc in found for rival in self._rivals(basket, gtin, epc)}
        return all(
            len([epc for epc in self._candidates(rival, gtin, rival.named) if epc not in found])
            >= self._missing(rival, gtin)
            for rival in rivals.values()
        )

    def _gtin_of(self, epc: str) -> str:
        entry = self._moves.get(epc)
        return "" if entry is None else entry[0]

    def _forget(self, epc: str, entry: tuple[str, deque[Move]]) -> None:
        del self._moves[epc]
        same = self._by_gtin[entry[0]]
        same.discard(epc)
        if not same:
            del self._by_gtin[entry[0]]
